//! Why a connection is over, in words for the log. What is logged, at which level and with which names is the shell's.

use std::fmt;

use crate::model::{Exception, Refusal};
use crate::protocol::{FrameError, HeaderRefusal};

/// The socket may be closed once the output is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The first octets are not the protocol header of AMQP 0-9-1.
    ProtocolHeader(HeaderRefusal),
    /// The handshake took too long; nothing was sent.
    HandshakeTimeout {
        /// The state that did not end.
        state: &'static str,
    },
    /// The login was refused.
    LoginRefused(Refusal),
    /// Something was wrong before the login was accepted; nothing was sent, as RabbitMQ does.
    HandshakeFailed(Exception),
    /// Nothing came for more than two heartbeat intervals; nothing was sent.
    HeartbeatTimeout {
        /// The negotiated interval in seconds.
        heartbeat_s: u16,
    },
    /// The client closed the connection with connection.close.
    ClosedByClient,
    /// The session closed the connection with connection.close.
    ClosedByServer(Exception),
    /// Garbage came while the connection was closing.
    LostSync(FrameError),
    /// The shell said that the socket is gone.
    SocketGone,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            EndReason::ProtocolHeader(refusal) => refusal.fmt(f),
            EndReason::HandshakeTimeout { state } => {
                write!(f, "handshake timed out in state {state}")
            }
            EndReason::LoginRefused(refusal) => {
                write!(f, "{} - {}", refusal.code.name(), refusal.text)
            }
            EndReason::HandshakeFailed(exception) => {
                write!(f, "handshake failed: {}", reply_text(&exception.refusal))
            }
            EndReason::HeartbeatTimeout { heartbeat_s } => {
                write!(f, "missed heartbeats from client, timeout: {heartbeat_s}s")
            }
            EndReason::ClosedByClient => f.write_str("closed by the client"),
            EndReason::ClosedByServer(exception) => f.write_str(&reply_text(&exception.refusal)),
            EndReason::LostSync(error) => error.fmt(f),
            EndReason::SocketGone => f.write_str("client unexpectedly closed TCP connection"),
        }
    }
}

/// The reply text of a close: `NAME - explanation`, not yet cut (`rabbit_binary_generator.erl`).
pub(super) fn reply_text(refusal: &Refusal) -> String {
    format!("{} - {}", refusal.code.name(), refusal.text)
}
