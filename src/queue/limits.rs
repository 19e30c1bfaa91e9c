//! What happens when a queue is full. Limits count ready messages and the bytes of their bodies
//! (RabbitMQ's document "Queue Length Limit"); a quorum queue counts those too that wait for a retry, and dead letters that have not
//! arrived (`rabbit_fifo.erl`, `is_over_limit/1`).

use super::effects::Effects;
use super::settings::Overflow;
use super::state::QueueState;
use crate::model::{DeathReason, SharedMessage};

impl QueueState {
    /// Whether one more message is one too many for a queue that refuses.
    pub(super) fn refuses(&self, message: &SharedMessage) -> bool {
        self.settings.overflow != Overflow::DropHead && self.is_over(1, message.body_bytes() as u64)
    }

    /// Refuses a publish.
    pub(super) fn refuse(&mut self, message: SharedMessage, fx: &mut Effects) {
        self.counters.refused += 1;
        if self.settings.overflow == Overflow::RejectPublishDeadLetter {
            self.dead_letter(message, DeathReason::MaxLen, None, fx);
        } else {
            fx.free(message);
        }
    }

    /// Drops heads until the queue is within its limits, if it is of the kind that drops.
    pub(super) fn drop_overflow(&mut self, fx: &mut Effects) {
        if self.settings.overflow != Overflow::DropHead {
            return;
        }
        while self.is_over(0, 0) {
            let Some(entry) = self.ready.pop() else {
                return;
            };
            self.counters.overflowed += 1;
            self.dead_letter(entry.message, DeathReason::MaxLen, Some(entry.position), fx);
        }
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
