//! Who logged in: successes that are remembered for a while, session tokens, failures that slow the next try down.
//!
//! In: names, passwords, tokens, the time. Out: users, waits. Requests and statuses are not known here.
//!
//! A poll of the API sends its password each time. A success is remembered under a keyed digest of it, so that a poll costs a
//! lookup and not a password hash; a change of any user or permission, or a minute, ends that. Passwords are hashed on the
//! blocking pool, two at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::auth::{Directory, User};
use crate::model::Name;

/// How long a success is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Successes that are remembered at once.
const REMEMBERED_MAX: usize = 4096;
/// Sessions of `POST /api/login` at once.
const SESSIONS_MAX: usize = 4096;
/// Password hashes at work at once.
const HASHES_MAX: usize = 2;
/// Addresses and users whose failures are counted.
const CULPRITS_MAX: usize = 4096;
/// After so long without a failure all is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Failures of a user from an address before answers are held back; those of an address with any user.
const FREE_FAILURES_OF_USER: u32 = 3;
const FREE_FAILURES_OF_ADDRESS: u32 = 20;
/// The first wait, which doubles with each failure, and the longest.
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Failed tries of a user from an address that are held back at once; more are refused without a look at the password. From an
/// address there may be more of them, because it may be that of a proxy with many users behind it.
const HELD_BACK_OF_USER_MAX: u32 = 4;
const HELD_BACK_OF_ADDRESS_MAX: u32 = 64;

type Key = [u8; 32];

/// Why nobody is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// No such user, another password, or an ended session.
    Wrong,
    /// A user of loopback addresses, from elsewhere.
    LoopbackOnly,
}

struct Remembered {
    user: Name,
    epoch: u64,
    until: Instant,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    held_back: u32,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Culprit {
    Address(IpAddr),
    User(IpAddr, Arc<str>),
}

impl Culprit {
    fn held_back_max(&self) -> u32 {
        match self {
            Self::Address(_) => HELD_BACK_OF_ADDRESS_MAX,
            Self::User(..) => HELD_BACK_OF_USER_MAX,
        }
    }

    fn free_failures(&self) -> u32 {
        match self {
            Self::Address(_) => FREE_FAILURES_OF_ADDRESS,
            Self::User(..) => FREE_FAILURES_OF_USER,
        }
    }
}

/// Logins of the HTTP API.
pub struct Logins {
    directory: Arc<Directory>,
    key: Key,
    remembered: Mutex<HashMap<Key, Remembered>>,
    sessions: Mutex<HashMap<Key, Remembered>>,
    failures: Mutex<HashMap<Culprit, Failures>>,
    hashing: Semaphore,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

impl Logins {
    /// Nobody has logged in yet.
    ///
    /// # Errors
    /// The system gives no random bytes for the key.
    pub fn new(directory: Arc<Directory>) -> Result<Self, getrandom::Error> {
        let mut key = Key::default();
        getrandom::fill(&mut key)?;
        Ok(Self {
            directory,
            key,
            remembered: Mutex::default(),
            sessions: Mutex::default(),
            failures: Mutex::default(),
            hashing: Semaphore::new(HASHES_MAX),
        })
    }

    /// Logs in with a password.
    ///
    /// # Errors
    /// [`LoginError`], the later the more often the same address failed.
    pub async fn check_password(
        &self,
        name: &str,
        password: &[u8],
        peer: IpAddr,
    ) -> Result<Arc<User>, LoginError> {
        let digest = self.digest(name, password);
        let user = match self.recall(&self.remembered, &digest) {
            Some(user) => user,
            None => self.verify(name, password, peer, digest).await?,
        };
        if self.directory.is_loopback_only(&user.name) && !peer.to_canonical().is_loopback() {
            return Err(LoginError::LoopbackOnly);
        }
        Ok(user)
    }

    async fn verify(
        &self,
        name: &str,
        password: &[u8],
        peer: IpAddr,
        digest: Key,
    ) -> Result<Arc<User>, LoginError> {
        let culprits = [Culprit::Address(peer), Culprit::User(peer, Arc::from(name))];
        if culprits.iter().any(|culprit| self.is_held_back(culprit)) {
            return Err(LoginError::Wrong);
        }
        // Read before the password is looked at: a change meanwhile makes the memory of it void.
        let epoch = self.directory.epoch();
        let user = {
            // The semaphore is never closed.
            let _turn = self.hashing.acquire().await;
            let directory = Arc::clone(&self.directory);
            let (name, password) = (name.to_owned(), password.to_vec());
            tokio::task::spawn_blocking(move || {
                directory.check_password(&name, &password, true).ok()
            })
            .await
            .ok()
            .flatten()
        };
        match user {
            Some(user) => {
                let mut failures = self.failures.lock();
                failures.remove(&culprits[1]);
                drop(failures);
                self.remember(
                    &self.remembered,
                    REMEMBERED_MAX,
                    digest,
                    Remembered {
                        user: Arc::clone(&user.name),
                        epoch,
                        until: Instant::now() + REMEMBERED_FOR,
                    },
                );
                Ok(user)
            }
            None => {
                self.hold_back(&culprits).await;
                Err(LoginError::Wrong)
            }
        }
    }

    /// Opens a session for a user who logged in, and gives its token.
    pub fn open_session(&self, user: &User, lasts: Duration) -> Option<String> {
        let mut secret = Key::default();
        getrandom::fill(&mut secret).ok()?;
        let token = URL_SAFE_NO_PAD.encode(secret);
        self.remember(
            &self.sessions,
            SESSIONS_MAX,
            self.digest("", token.as_bytes()),
            Remembered {
                user: Arc::clone(&user.name),
                epoch: 0,
                until: Instant::now() + lasts,
            },
        );
        Some(token)
    }

    /// The user of a session.
    ///
    /// # Errors
    /// [`LoginError::Wrong`] for a token that is none, or that has ended.
    pub fn check_session(&self, token: &str) -> Result<Arc<User>, LoginError> {
        let digest = self.digest("", token.as_bytes());
        let user = {
            let sessions = self.sessions.lock();
            sessions
                .get(&digest)
                .filter(|session| session.until > Instant::now())
                .map(|session| Arc::clone(&session.user))
        };
        let user = user.and_then(|name| self.directory.user(&name));
        user.ok_or(LoginError::Wrong)
    }

    /// Ends a session.
    pub fn close_session(&self, token: &str) {
        let digest = self.digest("", token.as_bytes());
        self.sessions.lock().remove(&digest);
    }

    /// Ends all sessions of a user, whose password or tags were changed.
    pub fn close_sessions_of(&self, user: &str) {
        self.sessions
            .lock()
            .retain(|_, session| *session.user != *user);
    }

    fn digest(&self, name: &str, password: &[u8]) -> Key {
        Sha256::new()
            .chain_update(self.key)
            .chain_update((name.len() as u64).to_be_bytes())
            .chain_update(name)
            .chain_update(password)
            .finalize()
            .into()
    }

    fn recall(&self, all: &Mutex<HashMap<Key, Remembered>>, digest: &Key) -> Option<Arc<User>> {
        let name = {
            let mut all = all.lock();
            let found = all.get(digest)?;
            if found.epoch != self.directory.epoch() || found.until <= Instant::now() {
                all.remove(digest);
                return None;
            }
            Arc::clone(&found.user)
        };
        self.directory.user(&name)
    }

    fn remember(
        &self,
        all: &Mutex<HashMap<Key, Remembered>>,
        max: usize,
        digest: Key,
        what: Remembered,
    ) {
        let mut all = all.lock();
        if all.len() >= max {
            let now = Instant::now();
            all.retain(|_, remembered| remembered.until > now);
        }
        if all.len() >= max {
            all.clear();
        }
        all.insert(digest, what);
    }

    fn is_held_back(&self, culprit: &Culprit) -> bool {
        self.failures
            .lock()
            .get(culprit)
            .is_some_and(|failures| failures.held_back >= culprit.held_back_max())
    }

    /// Counts a failure and waits.
    async fn hold_back(&self, culprits: &[Culprit; 2]) {
        let now = Instant::now();
        let mut wait = Duration::ZERO;
        {
            let mut all = self.failures.lock();
            if all.len() + culprits.len() > CULPRITS_MAX {
                all.retain(|_, failures| {
                    failures.held_back > 0 || now - failures.last < FORGIVEN_AFTER
                });
            }
            for culprit in culprits {
                if all.len() >= CULPRITS_MAX && !all.contains_key(culprit) {
                    // Whoever floods the table waits as those in it do.
                    wait = WAIT_MAX;
                    continue;
                }
                let failures = all.entry(culprit.clone()).or_insert(Failures {
                    count: 0,
                    last: now,
                    held_back: 0,
                });
                if now - failures.last >= FORGIVEN_AFTER {
                    failures.count = 0;
                }
                failures.count += 1;
                failures.last = now;
                wait = wait.max(wait_after(failures.count, culprit.free_failures()));
            }
            if !wait.is_zero() {
                for culprit in culprits {
                    if let Some(failures) = all.get_mut(culprit) {
                        failures.held_back += 1;
                    }
                }
            }
        }
        if wait.is_zero() {
            return;
        }
        let _release = Release {
            logins: self,
            culprits,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Ends the holding back also when the client goes away meanwhile.
struct Release<'a> {
    logins: &'a Logins,
    culprits: &'a [Culprit; 2],
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let mut all = self.logins.failures.lock();
        for culprit in self.culprits {
            if let Some(failures) = all.get_mut(culprit) {
                failures.held_back = failures.held_back.saturating_sub(1);
            }
        }
    }
}

fn wait_after(failures: u32, free: u32) -> Duration {
    match failures.checked_sub(free) {
        None | Some(0) => Duration::ZERO,
        Some(over) => WAIT.saturating_mul(1 << (over - 1).min(16)).min(WAIT_MAX),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::{AuthSettings, HashingAlgorithm, PasswordHash};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn logins() -> Logins {
        let directory = Directory::new(AuthSettings::default());
        for name in ["guest", "u"] {
            directory.put_user(user(name, "pw"));
        }
        Logins::new(Arc::new(directory)).unwrap()
    }

    fn user(name: &str, password: &str) -> User {
        User {
            password: PasswordHash::create(HashingAlgorithm::Sha256, password.as_bytes()).unwrap(),
            ..User::new(name)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_is_remembered_until_something_changes() {
        let logins = logins();
        let digest = logins.digest("u", b"pw");
        assert!(logins.check_password("u", b"pw", THERE).await.is_ok());
        assert!(logins.recall(&logins.remembered, &digest).is_some());
        assert!(logins.check_password("u", b"pw", THERE).await.is_ok());

        logins.directory.put_user(user("u", "other"));
        assert_eq!(
            logins.check_password("u", b"pw", THERE).await,
            Err(LoginError::Wrong)
        );
        assert!(logins.check_password("u", b"other", THERE).await.is_ok());
    }

    #[tokio::test]
    async fn a_loopback_user_is_told_so_only_with_the_right_password() {
        let logins = logins();
        for (password, peer, expected) in [
            (&b"pw"[..], HERE, Ok(())),
            (b"pw", THERE, Err(LoginError::LoopbackOnly)),
            (b"pw", THERE, Err(LoginError::LoopbackOnly)),
            (b"no", THERE, Err(LoginError::Wrong)),
        ] {
            let result = logins.check_password("guest", password, peer).await;
            assert_eq!(result.map(drop), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_and_longer_and_others_do_not() {
        let logins = logins();
        for _ in 0..FREE_FAILURES_OF_USER {
            let began = tokio::time::Instant::now();
            assert!(logins.check_password("u", b"no", THERE).await.is_err());
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
        for wait in [WAIT, WAIT * 2, WAIT * 4] {
            let began = tokio::time::Instant::now();
            assert!(logins.check_password("u", b"no", THERE).await.is_err());
            assert!(began.elapsed() >= wait, "{:?}", began.elapsed());
        }
        let began = tokio::time::Instant::now();
        assert!(logins.check_password("u", b"pw", THERE).await.is_ok());
        assert!(logins.check_password("u", b"pw", HERE).await.is_ok());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_beside_those_held_back_are_refused_at_once() {
        let logins = Arc::new(logins());
        for _ in 0..FREE_FAILURES_OF_USER {
            assert!(logins.check_password("u", b"no", THERE).await.is_err());
        }
        let mut held_back = Vec::new();
        for _ in 0..HELD_BACK_OF_USER_MAX {
            let logins = Arc::clone(&logins);
            held_back.push(tokio::spawn(async move {
                logins.check_password("u", b"no", THERE).await
            }));
        }
        let culprit = Culprit::User(THERE, "u".into());
        while !logins.is_held_back(&culprit) {
            tokio::task::yield_now().await;
        }
        // The right password, too: it is not looked at.
        let result = logins.check_password("u", b"pw", THERE).await;
        assert_eq!(result, Err(LoginError::Wrong));
        for task in held_back {
            assert!(task.await.unwrap().is_err());
        }
        assert!(logins.check_password("u", b"pw", THERE).await.is_ok());
    }

    #[test]
    fn sessions_end() {
        let logins = logins();
        let user = logins.directory.user("u").unwrap();
        let token = logins.open_session(&user, Duration::from_secs(60)).unwrap();
        assert_eq!(&*logins.check_session(&token).unwrap().name, "u");
        assert!(logins.check_session("other").is_err());
        logins.close_session(&token);
        assert!(logins.check_session(&token).is_err());

        let token = logins.open_session(&user, Duration::ZERO).unwrap();
        assert!(logins.check_session(&token).is_err());
        let token = logins.open_session(&user, Duration::from_secs(60)).unwrap();
        logins.close_sessions_of("u");
        assert!(logins.check_session(&token).is_err());
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        for (failures, wait) in [
            (1, Duration::ZERO),
            (3, Duration::ZERO),
            (4, WAIT),
            (5, WAIT * 2),
            (9, WAIT * 32),
            (10, WAIT_MAX),
            (u32::MAX, WAIT_MAX),
        ] {
            assert_eq!(wait_after(failures, 3), wait, "{failures}");
        }
    }
}
