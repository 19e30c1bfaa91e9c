//! What can go wrong between the load generator and a broker, and the exit code of each.
//!
//! In: errors of sockets and the broker's own closes. Out: one line in words. What the load was is not known here.

use std::io;

use thiserror::Error;

use crate::cli::{Exit, Failure};
use crate::protocol::ReplyCode;

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection to the address.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The broker does not let the user in.
    #[error("{address} refuses the login of user '{user}': {text}")]
    Login {
        /// Host and port.
        address: String,
        /// The name that was given.
        user: String,
        /// The broker's words.
        text: String,
    },
    /// The broker closed the channel or the connection.
    #[error("the broker closed the {scope}: {code} {text}")]
    Closed {
        /// `channel` or `connection`.
        scope: &'static str,
        /// Reply code (specification 1.2).
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// The connection broke.
    #[error("the connection to {address} is lost: {error}")]
    Lost {
        /// Host and port.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The broker cancelled a consumer, as it does when the queue is deleted.
    #[error("the broker cancelled the consumer of queue {queue}: was the queue deleted?")]
    Cancelled {
        /// The queue's number within the run.
        queue: String,
    },
    /// The system has no timer or no thread to give.
    #[error("the system has no timer to give: {0}")]
    Timer(io::Error),
    /// The answer did not come in time.
    #[error("{address} does not answer within {seconds} s{what}")]
    Timeout {
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
        /// What was asked, with a leading colon.
        what: &'static str,
    },
    /// What came is not AMQP 0-9-1 or not what may come.
    #[error("{address} does not speak AMQP 0-9-1 as expected: {what}")]
    Protocol {
        /// Host and port.
        address: String,
        /// What came.
        what: String,
    },
}

impl ClientError {
    /// The exit code, after `sysexits.h`.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Timeout { .. } => Exit::Unavailable,
            Self::Login { .. } => Exit::NoPermission,
            Self::Cancelled { .. } => Exit::Data,
            Self::Protocol { .. } => Exit::Unavailable,
            Self::Timer(_) => Exit::Software,
            Self::Closed { code, .. } => match ReplyCode::from_code(*code) {
                Some(ReplyCode::AccessRefused) => Exit::NoPermission,
                Some(
                    ReplyCode::NotFound
                    | ReplyCode::PreconditionFailed
                    | ReplyCode::ResourceLocked
                    | ReplyCode::InvalidPath
                    | ReplyCode::NotAllowed
                    | ReplyCode::NotImplemented,
                ) => Exit::Data,
                Some(
                    ReplyCode::ConnectionForced
                    | ReplyCode::ResourceError
                    | ReplyCode::InternalError,
                ) => Exit::Unavailable,
                _ => Exit::Software,
            },
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.exit(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reply_code_has_its_exit_code() {
        let exit = |code| {
            let text = String::new();
            let scope = "channel";
            ClientError::Closed { scope, code, text }.exit() as u8
        };
        assert_eq!(exit(403), 77);
        assert_eq!(exit(404), 65);
        assert_eq!(exit(406), 65);
        assert_eq!(exit(530), 65);
        assert_eq!(exit(320), 69);
        assert_eq!(exit(505), 70);
        assert_eq!(exit(999), 70);
    }
}
