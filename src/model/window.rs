//! A channel's shared prefetch window (`basic.qos` with `global=true`).

use std::sync::atomic::{AtomicU32, Ordering};

/// The unacknowledged deliveries that a channel may have over all its consumers; 0 means no limit.
///
/// Queues reserve a place before they assign a message to a consumer of the channel; whoever settles
/// the delivery gives it back and wakes the consumers that were refused.
#[derive(Debug, Default)]
pub struct ChannelWindow {
    limit: AtomicU32,
    outstanding: AtomicU32,
}

impl ChannelWindow {
    /// Sets the limit; what is outstanding stays.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// The limit, 0 for none.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::SeqCst)
    }

    /// Deliveries that hold a place now.
    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::SeqCst)
    }

    /// Takes a place if there is one.
    #[must_use]
    pub fn try_reserve(&self) -> bool {
        let limit = self.limit();
        self.outstanding
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                (limit == 0 || held < limit).then_some(held + 1)
            })
            .is_ok()
    }

    /// Gives a place back.
    pub fn release(&self) {
        let _ = self
            .outstanding
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                Some(held.saturating_sub(1))
            });
    }
}
