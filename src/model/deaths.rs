//! How often a message was dead-lettered, and where: the history behind the header `x-death`.
//!
//! Plain data that travels with the message apart from its headers, because a publisher's own `x-death`
//! counts for nothing (RabbitMQ's `mc.erl`, since 4.0).

use std::fmt;

use bytes::Bytes;

use super::{Name, WallMs};

/// Why a message left a queue for its dead-letter exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// A consumer rejected it without requeue.
    Rejected,
    /// Its time to live was over.
    Expired,
    /// The queue was full.
    MaxLen,
    /// It came back too often (quorum queues).
    DeliveryLimit,
}

impl DeathReason {
    /// All reasons, in the order of [`DeathReason::index`].
    pub const ALL: [Self; 4] = [
        Self::Rejected,
        Self::Expired,
        Self::MaxLen,
        Self::DeliveryLimit,
    ];

    /// The reason's place in a table.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in `x-death`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

impl fmt::Display for DeathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The deaths in one queue for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The queue.
    pub queue: Name,
    /// The reason.
    pub reason: DeathReason,
    /// How many times.
    pub count: u64,
    /// When it happened first, in milliseconds since the Unix epoch.
    pub first_ms: WallMs,
    /// The exchange that the message had been published to, the first time.
    pub exchange: Name,
    /// Its routing key and `CC`, without `BCC`, the first time.
    pub routing_keys: Vec<Bytes>,
    /// Its `expiration`, the first time.
    pub original_expiration: Option<Bytes>,
}

/// A reason, queue and exchange, as `x-first-death-*` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstDeath {
    /// The reason.
    pub reason: DeathReason,
    /// The queue.
    pub queue: Name,
    /// The exchange.
    pub exchange: Name,
}

/// A message's whole history: most recent death first, the very first kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaths {
    /// One entry a queue and reason, most recent first.
    pub recent: Vec<Death>,
    /// The death that opened the history.
    pub first: FirstDeath,
    /// The exchange of the last death.
    pub last_exchange: Name,
}
