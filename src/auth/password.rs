//! Salted password hashes in RabbitMQ's format, so that definitions can move between the two brokers.
//!
//! In: a password, or the base64 text of a hash. Out: a hash that verifies a password in constant time. It
//! does not know users, nor rules for good passwords.
//!
//! Format (<https://www.rabbitmq.com/docs/passwords>): base64(salt ‖ digest(salt ‖ password)), with a salt
//! of four bytes. An empty hash means that no password opens the account.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// Bytes of salt before the digest.
const SALT_BYTES: usize = 4;

/// The digest under a password hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashingAlgorithm {
    /// SHA-256, the default since RabbitMQ 3.6.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5, in definitions of old brokers.
    Md5,
}

impl HashingAlgorithm {
    /// The name that RabbitMQ's definitions and API use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// The algorithm of that name, if it is one of RabbitMQ's three.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha512, Self::Md5]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
        }
    }

    fn salted(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        fn digest<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
            D::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec()
        }
        match self {
            Self::Sha256 => digest::<Sha256>(salt, password),
            Self::Sha512 => digest::<Sha512>(salt, password),
            Self::Md5 => digest::<Md5>(salt, password),
        }
    }
}

/// Why a hash could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The text is not base64.
    #[error("not valid base64")]
    NotBase64,
    /// The system gave no random bytes for a salt.
    #[error("the system gave no random bytes for a salt: {0}")]
    NoRandomness(String),
}

/// A salted hash, or the mark that no password is right.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    algorithm: HashingAlgorithm,
    salted: Vec<u8>,
}

impl PasswordHash {
    /// The hash of a user who cannot log in with a password.
    pub fn none() -> Self {
        Self {
            algorithm: HashingAlgorithm::default(),
            salted: Vec::new(),
        }
    }

    /// Hashes `password` with a new random salt.
    ///
    /// # Errors
    /// [`PasswordError::NoRandomness`].
    pub fn create(algorithm: HashingAlgorithm, password: &[u8]) -> Result<Self, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)
            .map_err(|error| PasswordError::NoRandomness(error.to_string()))?;
        Ok(Self::with_salt(algorithm, salt, password))
    }

    fn with_salt(algorithm: HashingAlgorithm, salt: [u8; SALT_BYTES], password: &[u8]) -> Self {
        let mut salted = salt.to_vec();
        salted.extend(algorithm.salted(&salt, password));
        Self { algorithm, salted }
    }

    /// Reads `password_hash` of a definitions file. A hash of the wrong length is kept as it is, as RabbitMQ
    /// does, and matches no password; [`PasswordHash::is_well_formed`] tells.
    ///
    /// # Errors
    /// [`PasswordError::NotBase64`].
    pub fn from_base64(algorithm: HashingAlgorithm, text: &str) -> Result<Self, PasswordError> {
        let salted = STANDARD
            .decode(text)
            .map_err(|_| PasswordError::NotBase64)?;
        Ok(Self { algorithm, salted })
    }

    /// The form that definitions and the API show.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.salted)
    }

    /// The digest in use.
    pub fn algorithm(&self) -> HashingAlgorithm {
        self.algorithm
    }

    /// Whether no password is right.
    pub fn is_none(&self) -> bool {
        self.salted.is_empty()
    }

    /// Whether it is empty, or has a salt and a digest of the algorithm's length.
    pub fn is_well_formed(&self) -> bool {
        self.is_none() || self.salted.len() == SALT_BYTES + self.algorithm.digest_bytes()
    }

    /// Whether `password` is the right one. An empty password never is (RabbitMQ's internal backend refuses
    /// blank passwords). The time taken does not depend on where the digests differ.
    pub fn verify(&self, password: &[u8]) -> bool {
        let (salt, digest) = self.salted.split_at(self.salted.len().min(SALT_BYTES));
        let right = bool::from(self.algorithm.salted(salt, password).ct_eq(digest));
        right && !password.is_empty()
    }

    /// Takes as long as [`PasswordHash::verify`]: for users that do not exist, so that a peer cannot learn
    /// names from the time that a refusal takes.
    pub fn spend_time_of_verify(password: &[u8]) {
        let nobody = Self {
            algorithm: HashingAlgorithm::default(),
            salted: vec![0; SALT_BYTES + HashingAlgorithm::default().digest_bytes()],
        };
        std::hint::black_box(nobody.verify(password));
    }
}

impl fmt::Debug for PasswordHash {
    /// Hides the digest: hashes do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash")
            .field("algorithm", &self.algorithm)
            .field("is_none", &self.is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The example worked through at <https://www.rabbitmq.com/docs/passwords>: salt 908DC60A, "test12".
    #[test]
    fn agrees_with_the_worked_example_of_the_documentation() {
        let hash = PasswordHash::with_salt(
            HashingAlgorithm::Sha256,
            [0x90, 0x8d, 0xc6, 0x0a],
            b"test12",
        );
        assert_eq!(
            hash.to_base64(),
            "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        );
        assert!(hash.verify(b"test12"));
    }

    #[test]
    fn every_algorithm_verifies_its_own_hash_and_nothing_else() {
        for algorithm in [
            HashingAlgorithm::Sha256,
            HashingAlgorithm::Sha512,
            HashingAlgorithm::Md5,
        ] {
            let made = PasswordHash::create(algorithm, b"secret").unwrap();
            let read = PasswordHash::from_base64(algorithm, &made.to_base64()).unwrap();
            assert!(read.is_well_formed());
            assert!(read.verify(b"secret"), "{algorithm:?}");
            assert!(!read.verify(b"secreT"), "{algorithm:?}");
            assert!(!read.verify(b""), "{algorithm:?}");
            assert_eq!(
                HashingAlgorithm::from_name(algorithm.name()),
                Some(algorithm)
            );
        }
    }

    #[test]
    fn salts_differ() {
        let one = PasswordHash::create(HashingAlgorithm::Sha256, b"secret").unwrap();
        let two = PasswordHash::create(HashingAlgorithm::Sha256, b"secret").unwrap();
        assert_ne!(one.to_base64(), two.to_base64());
    }

    #[test]
    fn no_password_and_damaged_hashes_match_nothing() {
        let short = PasswordHash::from_base64(HashingAlgorithm::Sha256, "AAA=").unwrap();
        assert!(!short.is_well_formed());
        for hash in [PasswordHash::none(), short] {
            assert!(!hash.verify(b""));
            assert!(!hash.verify(b"guest"));
        }
        assert_eq!(
            PasswordHash::from_base64(HashingAlgorithm::Sha256, "not base64"),
            Err(PasswordError::NotBase64)
        );
    }

    #[test]
    fn a_blank_password_never_opens_an_account() {
        let hash = PasswordHash::create(HashingAlgorithm::Sha256, b"").unwrap();
        assert!(!hash.verify(b""));
    }

    #[test]
    fn debug_output_hides_the_hash() {
        let hash = PasswordHash::create(HashingAlgorithm::Sha256, b"secret").unwrap();
        assert!(!format!("{hash:?}").contains(&hash.to_base64()));
    }
}
