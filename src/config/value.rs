//! The types of used settings that the standard library does not have.
//!
//! In: nothing; out: plain data with the small arithmetic that belongs to it. How they are spelled in
//! a file is `kind.rs`'s business.

use std::fmt;
use std::net::SocketAddr;

/// The addresses of one kind of listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Where to listen. Empty switches the listener off.
    pub addresses: Vec<SocketAddr>,
    /// Nobody asked for these addresses: one that the machine does not have (`::1` where IPv6 is off)
    /// is then worth a log line, and no error.
    pub defaulted: bool,
}

/// A threshold in bytes, or as a share of the memory that the process may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// A share of the memory of the machine or of the container: 0.6 is 60 %.
    RelativeToMemory(f64),
    /// Bytes.
    Bytes(u64),
}

impl Amount {
    /// The threshold in bytes, where the process may use `memory_bytes_total`.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a threshold needs no more than the 52 bits of a double, and the share is not negative"
    )]
    pub fn bytes(self, memory_bytes_total: u64) -> u64 {
        match self {
            Self::RelativeToMemory(share) => (memory_bytes_total as f64 * share) as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// A value that no log, no error and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// Declares an enum whose members have one spelling each in settings.
macro_rules! spelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$member_meta:meta])* $member:ident = $spelling:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$member_meta])* $member),+ }

        impl $name {
            /// Every member, in the order in which messages list them.
            pub const ALL: &[Self] = &[$(Self::$member),+];

            /// The spelling in settings and on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$member => $spelling),+ }
            }
        }

        impl super::kind::Spelled for $name {
            fn all() -> &'static [Self] { Self::ALL }
            fn spelling(self) -> &'static str { self.as_str() }
        }
    };
}

spelled! {
    /// A SASL mechanism that connection.start can offer (RabbitMQ `auth_mechanisms`).
    Mechanism {
        /// RFC 4616: authorization identity, user and password.
        Plain = "PLAIN",
        /// A field table with LOGIN and PASSWORD.
        Amqplain = "AMQPLAIN",
        /// RFC 4505, as the user that `auth.anonymous_login_user` names.
        Anonymous = "ANONYMOUS",
    }
}

spelled! {
    /// The type of a queue that is declared without `x-queue-type`.
    DefaultQueueType {
        /// One copy, on one node.
        Classic = "classic",
        /// A replicated queue; on one node a durable queue with one member and the quorum rules.
        Quorum = "quorum",
    }
}

spelled! {
    /// When the journal is synced.
    Sync {
        /// Before every confirm.
        Always = "always",
        /// At intervals; a confirm does not wait for it.
        Interval = "interval",
        /// When the system likes.
        Never = "never",
    }
}

spelled! {
    /// How log lines are written.
    LogFormat {
        /// One line for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

spelled! {
    /// The least severe event that is still logged.
    LogLevel {
        /// Nothing is logged.
        Off = "off",
        /// A person must look.
        Error = "error",
        /// Something is wrong, and was dealt with.
        Warn = "warn",
        /// What an operator wants to find later.
        Info = "info",
        /// For those who look for a fault.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
