//! Identifiers, tags and positions, each a type of its own so that none is taken for another.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A name of a virtual host, exchange, queue, user or consumer tag, shared and immutable.
pub type Name = Arc<str>;

/// A channel's number on its connection; 0 is the connection itself (specification, section 2.3.5).
pub type ChannelNumber = u16;

/// A map by one of the numbers below.
pub type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads consecutive numbers over a table. No peer chooses them, so nothing is kept secret here.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The odd number nearest to 2^64 divided by the golden ratio: neighbours land far apart.
        let product = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The number that follows this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_type!(
    /// A queue on this node; never reused, so that a stale id can only miss.
    QueueId
);
number_type!(
    /// A client connection on this node; never reused.
    ConnectionId
);
number_type!(
    /// A consumer on this node; never reused, so that a late delivery to an ended consumer is noticed.
    ConsumerId
);
number_type!(
    /// A message's place in one queue, kept through redelivery: the lane (its priority level) in the top eight bits,
    /// below them the place in that lane, from 1, which grows by one with each enqueue there.
    Position
);

impl Position {
    /// The highest place in a lane.
    pub const SEQUENCE_MAX: u64 = (1 << 56) - 1;

    /// The place `sequence` of a lane.
    #[must_use]
    pub const fn new(lane: u8, sequence: u64) -> Self {
        Self((lane as u64) << 56 | (sequence & Self::SEQUENCE_MAX))
    }

    /// The lane.
    #[must_use]
    pub const fn lane(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The place in the lane.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & Self::SEQUENCE_MAX
    }
}
number_type!(
    /// The number of a delivery on its channel, from 1 (`delivery-tag` of the specification).
    DeliveryTag
);
number_type!(
    /// The number of a publish on a channel in confirm mode, from 1.
    ConfirmSequence
);
