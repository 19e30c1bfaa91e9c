//! What an exchange counts: the messages that were published to it, and the queues to which they went.

use std::sync::atomic::{AtomicU64, Ordering};

use super::counter::Counter;
use super::mark::Mark;
use super::measure::Shown;

/// What is sampled of an exchange, in the order of [`ExchangeStats::values`].
pub const SHOWN: [Shown; 2] = [
    Shown {
        name: "publish_in",
        parts: &[0],
    },
    Shown {
        name: "publish_out",
        parts: &[1],
    },
];

static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// The counters of an exchange. Several connections write.
#[derive(Debug)]
pub struct ExchangeStats {
    /// Tells it from every other exchange since the start.
    pub id: u64,
    /// Messages published to it by clients.
    pub publish_in: Counter,
    /// Queues to which these went, each counted.
    pub publish_out: Counter,
    pub(super) mark: Mark,
}

impl Default for ExchangeStats {
    fn default() -> Self {
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
            publish_in: Counter::default(),
            publish_out: Counter::default(),
            mark: Mark::default(),
        }
    }
}

impl ExchangeStats {
    /// What is sampled.
    pub fn values(&self) -> [u64; 2] {
        [self.publish_in.get(), self.publish_out.get()]
    }
}
