//! How many bytes of messages the node's queues may hold in memory together.
//!
//! In: each queue's own bytes, reported once a call. Out: whether there is room. A message that lies in several queues
//! counts in each of them, so the sum is an upper bound. It knows no message and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that one queue with consumers may hold.
const QUEUE_BYTES_MAX: u64 = 8 << 20;

/// Bytes that one queue without consumers may hold.
const IDLE_QUEUE_BYTES_MAX: u64 = 256 << 10;

/// The limits, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotLimits {
    /// For all queues together.
    pub bytes_max: u64,
    /// For one queue that has consumers.
    pub queue_bytes_max: u64,
    /// For one queue that has none.
    pub idle_queue_bytes_max: u64,
}

/// What the queues of a node hold in memory, and may hold.
#[derive(Debug)]
pub struct HotBudget {
    limits: HotLimits,
    bytes: AtomicU64,
}

impl HotBudget {
    /// A budget of `bytes_max` bytes for all queues together.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Self::with_limits(HotLimits {
            bytes_max,
            queue_bytes_max: QUEUE_BYTES_MAX,
            idle_queue_bytes_max: IDLE_QUEUE_BYTES_MAX,
        })
    }

    /// A budget with limits of one's own.
    pub fn with_limits(limits: HotLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            bytes: AtomicU64::new(0),
        })
    }

    /// A budget that is never used up: for queues that have no log to leave messages in.
    pub fn unlimited() -> Arc<Self> {
        Self::with_limits(HotLimits {
            bytes_max: u64::MAX,
            queue_bytes_max: u64::MAX,
            idle_queue_bytes_max: u64::MAX,
        })
    }

    /// Bytes that all queues hold, as far as they have reported.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The limit for all queues together, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.limits.bytes_max
    }

    /// Whether the limit is reached.
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.limits.bytes_max
    }
}

/// One queue's part in the budget. What it reported is given back when it is dropped.
#[derive(Debug)]
pub struct HotShare {
    budget: Arc<HotBudget>,
    reported: u64,
}

impl HotShare {
    /// The share of a queue that holds nothing.
    pub fn new(budget: Arc<HotBudget>) -> Self {
        Self {
            budget,
            reported: 0,
        }
    }

    /// The limits.
    pub fn limits(&self) -> &HotLimits {
        &self.budget.limits
    }

    /// What all queues hold if this one holds `own` bytes.
    pub fn node_bytes(&self, own: u64) -> u64 {
        self.budget
            .bytes()
            .saturating_sub(self.reported)
            .saturating_add(own)
    }

    /// Bytes that may still come in if this queue holds `own` bytes.
    pub fn room(&self, own: u64) -> u64 {
        self.limits().bytes_max.saturating_sub(self.node_bytes(own))
    }

    /// Whether half of the node's budget is used up if this queue holds `own` bytes.
    pub fn is_half_full(&self, own: u64) -> bool {
        self.node_bytes(own) >= self.limits().bytes_max / 2
    }

    /// Tells the node what this queue holds.
    pub fn report(&mut self, own: u64) {
        if own > self.reported {
            let more = own - self.reported;
            self.budget.bytes.fetch_add(more, Ordering::Relaxed);
        } else if own < self.reported {
            let less = self.reported - own;
            self.budget.bytes.fetch_sub(less, Ordering::Relaxed);
        }
        self.reported = own;
    }
}

impl Drop for HotShare {
    fn drop(&mut self) {
        self.report(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_what_it_has_not_reported_and_gives_back_what_it_has() {
        let budget = HotBudget::new(1000);
        let mut share = HotShare::new(Arc::clone(&budget));
        let mut other = HotShare::new(Arc::clone(&budget));
        other.report(300);
        assert_eq!((share.node_bytes(150), share.room(150)), (450, 550));
        assert!(!share.is_half_full(199) && share.is_half_full(200));
        share.report(800);
        assert!(budget.is_full());
        share.report(100);
        assert_eq!(budget.bytes(), 400);
        assert_eq!(share.node_bytes(50), 350);
        drop(other);
        drop(share);
        assert_eq!(budget.bytes(), 0);
    }
}
