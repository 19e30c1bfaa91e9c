//! SASL mechanisms: from a client's response to a name and a password.
//!
//! In: the mechanism's name and the response of `connection.start-ok`. Out: [`Credentials`], or a
//! [`LoginFailure`] in RabbitMQ's words. Whether the password is right is not known here.
//!
//! Behaviour: `rabbit_auth_mechanism_plain.erl`, `_amqplain.erl`, `_anonymous.erl`, and `auth_phase` of
//! `rabbit_reader.erl`.

use crate::model::Refusal;
use crate::protocol::{FieldTable, ReplyCode, Value};

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// `\0user\0password` (RFC 4616 without an authorization identity).
    Plain,
    /// A field table with LOGIN and PASSWORD.
    Amqplain,
    /// Nothing: a configured user.
    Anonymous,
}

impl Mechanism {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Amqplain, Self::Anonymous];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Amqplain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
        }
    }

    /// The mechanism of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }
}

/// A name and a password as a client sent them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name. Names are UTF-8, so a name that is not cannot be anyone's.
    pub user: String,
    /// The password, any bytes.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    /// Hides the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why a login did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFailure {
    /// The mechanism is not offered. RabbitMQ logs a 503 and closes the socket.
    UnknownMechanism {
        /// What the client asked for.
        mechanism: String,
    },
    /// The response does not follow the mechanism. RabbitMQ logs a 502 and closes the socket.
    BadResponse {
        /// Whose response it is.
        mechanism: Mechanism,
        /// What is wrong, without the response, which may hold a password.
        reason: &'static str,
    },
    /// Wrong name, wrong password, or from the wrong place: 403 to a client that can hear it (capability
    /// `authentication_failure_close`), else the socket closes.
    Refused {
        /// The mechanism's name, or what else was used to log in.
        mechanism: String,
        /// Who wanted in.
        user: String,
        /// The reason, for the log alone.
        reason: String,
    },
}

impl LoginFailure {
    /// What the wire would say. Only a [`LoginFailure::Refused`] is ever sent.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::UnknownMechanism { mechanism } => Refusal::new(
                ReplyCode::CommandInvalid,
                format!("unknown authentication mechanism '{mechanism}'"),
            ),
            Self::BadResponse { mechanism, reason } => Refusal::new(
                ReplyCode::SyntaxError,
                format!("{} {reason}", mechanism.name()),
            ),
            Self::Refused { mechanism, .. } => Refusal::access_refused(format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            )),
        }
    }

    /// What the log says, in one line.
    pub fn log_text(&self) -> String {
        match self {
            Self::Refused {
                mechanism, reason, ..
            } => format!("{mechanism} login refused: {reason}"),
            other => other.refusal().text,
        }
    }

    /// Who wanted in, if that is known.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Refused { user, .. } => Some(user),
            _ => None,
        }
    }
}

/// Reads a PLAIN response: a zero byte, the name, a zero byte, the password, and nothing else. RabbitMQ
/// takes no authorization identity before the first zero byte.
pub(super) fn plain(response: &[u8]) -> Result<Credentials, LoginFailure> {
    let invalid = LoginFailure::BadResponse {
        mechanism: Mechanism::Plain,
        reason: "response invalid",
    };
    let mut parts = response.split(|byte| *byte == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some([]), Some(user), Some(password), None) => Ok(Credentials {
            user: String::from_utf8_lossy(user).into_owned(),
            password: password.to_vec(),
        }),
        _ => Err(invalid),
    }
}

/// Reads an AMQPLAIN response: the fields of a table, without the length before them.
pub(super) fn amqplain(response: &[u8]) -> Result<Credentials, LoginFailure> {
    let bad = |reason| LoginFailure::BadResponse {
        mechanism: Mechanism::Amqplain,
        reason,
    };
    let table = FieldTable::decode(response).map_err(|_| bad("response is not a field table"))?;
    match (table.get("LOGIN"), table.get("PASSWORD")) {
        (Some(user), Some(password)) => match (string_bytes(user), string_bytes(password)) {
            (Some(user), Some(password)) => Ok(Credentials {
                user: String::from_utf8_lossy(user).into_owned(),
                password: password.to_vec(),
            }),
            _ => Err(bad(
                "auth info uses unsupported type for LOGIN or PASSWORD field",
            )),
        },
        _ => Err(bad("auth info is missing LOGIN or PASSWORD field")),
    }
}

/// The bytes of one of the string types that RabbitMQ accepts here.
fn string_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::LongStr(bytes) | Value::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.to_owned(),
            password: password.as_bytes().to_vec(),
        }
    }

    fn table(fields: &[(&str, Value)]) -> Vec<u8> {
        let table: FieldTable = fields.iter().cloned().collect();
        let mut out = Vec::new();
        table.encode_fields(&mut out);
        out
    }

    #[test]
    fn plain_responses() {
        assert_eq!(plain(b"\0guest\0pw"), Ok(credentials("guest", "pw")));
        assert_eq!(plain(b"\0\0"), Ok(credentials("", "")));
        for bad in [
            &b""[..],
            b"guest",
            b"\0guest",
            b"guest\0pw",
            b"authzid\0guest\0pw",
            b"\0guest\0pw\0more",
        ] {
            assert_eq!(
                plain(bad),
                Err(LoginFailure::BadResponse {
                    mechanism: Mechanism::Plain,
                    reason: "response invalid"
                }),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn amqplain_responses() {
        let good = table(&[("LOGIN", "guest".into()), ("PASSWORD", "pw".into())]);
        assert_eq!(amqplain(&good), Ok(credentials("guest", "pw")));

        let reason = |response: &[u8]| match amqplain(response) {
            Err(LoginFailure::BadResponse { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            reason(&table(&[("LOGIN", "guest".into())])),
            "auth info is missing LOGIN or PASSWORD field"
        );
        assert_eq!(
            reason(&table(&[("LOGIN", 5.into()), ("PASSWORD", "pw".into())])),
            "auth info uses unsupported type for LOGIN or PASSWORD field"
        );
        assert_eq!(
            reason(&good[..good.len() - 1]),
            "response is not a field table"
        );
    }

    #[test]
    fn texts_for_the_client_and_the_log() {
        let refused = LoginFailure::Refused {
            mechanism: "PLAIN".to_owned(),
            user: "u".to_owned(),
            reason: "user 'u' - invalid credentials".to_owned(),
        };
        assert_eq!(
            refused.refusal(),
            Refusal::access_refused(
                "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
            )
        );
        assert_eq!(
            refused.log_text(),
            "PLAIN login refused: user 'u' - invalid credentials"
        );
        let unknown = LoginFailure::UnknownMechanism {
            mechanism: "GSSAPI".to_owned(),
        };
        assert_eq!(unknown.refusal().code, ReplyCode::CommandInvalid);
        assert_eq!(
            unknown.log_text(),
            "unknown authentication mechanism 'GSSAPI'"
        );
    }

    #[test]
    fn debug_output_hides_the_password() {
        assert!(!format!("{:?}", credentials("u", "hunter2")).contains("hunter2"));
    }
}
