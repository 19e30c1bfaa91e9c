//! What happens when a queue is full. Limits count ready messages and the bytes of their bodies
//! (RabbitMQ's document "Queue Length Limit"); a quorum queue counts those too that wait for a retry, and dead letters that have not
//! arrived (`rabbit_fifo.erl`, `is_over_limit/1`).

use super::effects::Effects;
use super::entry::Item;
use super::settings::Overflow;
use super::state::QueueState;
use crate::model::{DeathReason, SharedMessage};

/// Messages that are dropped while the lock is held once.
pub const OVERFLOW_BATCH_MAX: usize = 1000;

impl QueueState {
    /// Whether one more message is one too many for a queue that refuses. Those that are offered and have not entered count.
    pub(super) fn refuses(&self, message: &SharedMessage) -> bool {
        let messages = self.offered.messages + 1;
        let body_bytes = self.offered.body_bytes + message.body_bytes() as u64;
        self.settings.overflow != Overflow::DropHead && self.is_over(messages, body_bytes)
    }

    /// Drops heads until the queue is within its limits, if it is of the kind that drops, a bounded number of them: a policy may set a limit far
    /// below what waits. The rest is due at once. A head that is only in the log is dropped when it is
    /// loaded, since its size is not known before: until then the queue is over its limit.
    pub(super) fn drop_overflow(&mut self, fx: &mut Effects) {
        self.has_more_overflow = false;
        for _ in 0..OVERFLOW_BATCH_MAX {
            if !self.must_drop() {
                return;
            }
            let Some(entry) = self.ready.pop() else {
                return;
            };
            self.counters.overflowed += 1;
            self.dead_letter(Item::Hot(entry), DeathReason::MaxLen, fx);
        }
        self.has_more_overflow = true;
    }

    /// Whether the head must go, because the queue is over its limits.
    pub(super) fn must_drop(&self) -> bool {
        self.settings.overflow == Overflow::DropHead && self.is_over(0, 0)
    }

    fn is_over(&self, more_messages: u64, more_bytes: u64) -> bool {
        let limits = &self.settings;
        if limits.max_length == u64::MAX && limits.max_length_bytes == u64::MAX {
            return false;
        }
        let (kept, kept_bytes) = self.quorum.as_ref().map_or((0, 0), |quorum| {
            (
                quorum.delayed_messages() + quorum.retained_messages(),
                quorum.delayed_body_bytes() + quorum.retained_body_bytes(),
            )
        });
        self.ready.messages() + kept + more_messages > limits.max_length
            || self.ready.body_bytes() + kept_bytes + more_bytes > limits.max_length_bytes
    }
}
