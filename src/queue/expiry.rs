//! What time does to a queue: messages expire at the heads, an unused queue goes, delayed returns come
//! back, slow consumers of a quorum queue lose what they hold.

use super::effects::{DeletionReason, Effects};
use super::entry::{Deadline, Entry, Item};
use super::leaving::Letter;
use super::state::QueueState;
use crate::model::{DeathReason, InboxEvent, Now, WallMs};

/// Messages that may expire while the lock is held once; the rest is due at once.
pub const EXPIRE_BATCH_MAX: usize = 1000;

impl QueueState {
    /// Lets time pass. The caller asks [`QueueState::poll_timeout`] again afterwards.
    pub fn handle_timeout(&mut self, now: Now, fx: &mut Effects) {
        self.load_again_ms
            .take_if(|again_ms| *again_ms <= now.wall_ms);
        self.expire_heads(now, fx);
        self.end_slow_consumers(now, fx);
        self.retry_dead_letters(now, fx);
        if let Some(quorum) = &mut self.quorum {
            while let Some(item) = quorum.pop_due(now.wall_ms) {
                self.ready.put_back(item);
            }
        }
        if self.unused_deadline().has_passed(now.wall_ms) {
            self.is_ending = true;
            fx.deletions.push((self.id, DeletionReason::Expired));
            return;
        }
        self.drop_overflow(fx);
        self.assign(now, fx);
    }

    /// When time must be let pass next, in wall milliseconds.
    pub fn poll_timeout(&self) -> Option<WallMs> {
        let quorum = self
            .quorum
            .as_ref()
            .map_or(Deadline::NEVER, |quorum| quorum.next_deadline());
        let next = self
            .ready
            .next_deadline()
            .min(quorum)
            .min(self.unused_deadline())
            .min(self.load_again_ms.map_or(Deadline::NEVER, Deadline))
            .min(match self.has_more_overflow {
                true => Deadline(0),
                false => Deadline::NEVER,
            });
        (next != Deadline::NEVER).then_some(next.0)
    }

    /// Sends dead letters again that did not arrive, a bounded number of them.
    fn retry_dead_letters(&mut self, now: Now, fx: &mut Effects) {
        for _ in 0..EXPIRE_BATCH_MAX {
            let retry = self
                .quorum
                .as_mut()
                .and_then(|quorum| quorum.pop_retry(now.wall_ms));
            let Some((position, letter)) = retry else {
                return;
            };
            let letter = Letter {
                message: letter.message,
                reason: letter.reason,
                retained: Some(position),
                source: None,
            };
            self.send_letter(letter, fx);
        }
    }

    /// Takes expired messages off the heads, a bounded number of them.
    pub(super) fn expire_heads(&mut self, now: Now, fx: &mut Effects) {
        for _ in 0..EXPIRE_BATCH_MAX {
            let Some(entry) = self.ready.pop_expired(now.wall_ms) else {
                return;
            };
            self.expire(entry, fx);
        }
    }

    /// A message expires.
    pub(super) fn expire(&mut self, entry: Entry, fx: &mut Effects) {
        self.counters.expired += 1;
        self.dead_letter(Item::Hot(entry), DeathReason::Expired, fx);
    }

    /// When the queue goes if nobody uses it until then (`x-expires`).
    fn unused_deadline(&self) -> Deadline {
        match self.settings.expires_ms {
            Some(expires_ms) if self.consumers.live() == 0 && !self.is_ending => {
                Deadline(self.last_use_ms.saturating_add(expires_ms))
            }
            _ => Deadline::NEVER,
        }
    }

    /// Cancels consumers whose deliveries are overdue; these return without counting as failed
    /// (RabbitMQ's document "Consumers", acknowledgement timeout).
    fn end_slow_consumers(&mut self, now: Now, fx: &mut Effects) {
        while let Some(position) = self
            .quorum
            .as_ref()
            .and_then(|quorum| quorum.first_overdue(now.wall_ms))
        {
            let owner = self.unsettled.owner(position, &self.consumers).flatten();
            let timeout_ms = owner.and_then(|owner| self.settle_within_ms(owner));
            if let Some(owner) = owner
                && let Some((channel, outlet)) = self.consumers.remove(owner.consumer)
            {
                outlet.push(InboxEvent::ConsumerTimedOut {
                    channel,
                    consumer: owner.consumer,
                    timeout_ms: timeout_ms.unwrap_or_default(),
                });
                fx.wake(&outlet);
                self.last_use_ms = now.wall_ms;
            }
            match self.release(position, fx) {
                Some(held) => self.requeue(held.item, false, now, fx),
                None => return,
            }
        }
    }
}
