//! What only quorum queues have: returns that wait a while, consumers that take too long, and dead
//! letters that stay until they have arrived.
//!
//! In: entries with the time at which they are due, hand-outs with the time by which they must be
//! settled, dead letters. Out: those whose time has come. Classic queues have none of this
//! (RabbitMQ's document "Quorum Queues", `rabbit_fifo.erl`).

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Deadline, Item};
use super::settings::{DelayedRetry, DelayedRetryKind};
use crate::model::{DeathReason, Position, SharedMessage, WallMs};

/// After this time a dead letter that did not arrive is sent again
/// (`dead_letter_worker_publisher_confirm_timeout`).
pub const DEAD_LETTER_RETRY_MS: u64 = 180_000;

/// A dead letter that has not arrived yet.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The message as it was in the queue, unless it is in the log alone.
    pub message: Option<SharedMessage>,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Whether the log has it.
    pub is_logged: bool,
    /// Why it left.
    pub reason: DeathReason,
}

impl Retained {
    fn hot_bytes(&self) -> u64 {
        let message = self.message.as_ref();
        message.map_or(0, |message| message.cost_bytes() as u64)
    }
}

/// The parts of a quorum queue that a classic one does without.
#[derive(Debug, Default)]
pub struct Quorum {
    /// Returns that wait, by the time at which they are served again.
    delayed: BTreeMap<(WallMs, Position), Item>,
    delayed_body_bytes: u64,
    delayed_hot_bytes: u64,
    /// Hand-outs by the time at which they must be settled.
    settle_by: BTreeSet<(WallMs, Position)>,
    /// Dead letters that have not arrived.
    retained: BTreeMap<Position, Retained>,
    retained_body_bytes: u64,
    retained_hot_bytes: u64,
    retained_logged: u64,
    /// Those that are to be sent again, by time.
    retry_at: BTreeSet<(WallMs, Position)>,
}

impl Quorum {
    /// Returns that wait.
    pub fn delayed_messages(&self) -> u64 {
        self.delayed.len() as u64
    }

    /// Bytes of their bodies.
    pub fn delayed_body_bytes(&self) -> u64 {
        self.delayed_body_bytes
    }

    /// Bytes of memory that delayed and retained messages take.
    pub fn hot_bytes(&self) -> u64 {
        self.delayed_hot_bytes + self.retained_hot_bytes
    }

    /// Whether the log has some of the dead letters that have not arrived.
    pub fn has_logged_retained(&self) -> bool {
        self.retained_logged > 0
    }

    /// Adds the logged positions of what waits for its time.
    pub fn logged_delayed(&self, positions: &mut Vec<(Position, u32)>) {
        let logged = self.delayed.values().filter(|item| item.is_logged());
        positions.extend(logged.map(|item| (item.position(), item.body_bytes() as u32)));
    }

    /// Keeps a return back until `ready_at_ms`.
    pub fn delay(&mut self, ready_at_ms: WallMs, item: Item) {
        self.delayed_body_bytes += item.body_bytes();
        self.delayed_hot_bytes += item.hot_bytes();
        self.delayed.insert((ready_at_ms, item.position()), item);
    }

    /// A delayed message that is to be served again.
    pub fn pop_due(&mut self, now_ms: WallMs) -> Option<Item> {
        let first = self.delayed.first_entry()?;
        if first.key().0 > now_ms {
            return None;
        }
        let item = first.remove();
        self.delayed_body_bytes -= item.body_bytes();
        self.delayed_hot_bytes -= item.hot_bytes();
        Some(item)
    }

    /// Leaves to the log what it has. Returns what was in memory.
    #[must_use]
    pub fn shed(&mut self) -> Vec<SharedMessage> {
        let mut shed: Vec<SharedMessage> = Vec::new();
        shed.extend(self.delayed.values_mut().filter_map(Item::shed));
        self.delayed_hot_bytes = self.delayed.values().map(Item::hot_bytes).sum();
        let logged = self.retained.values_mut().filter(|letter| letter.is_logged);
        shed.extend(logged.filter_map(|letter| letter.message.take()));
        self.retained_hot_bytes = self.retained.values().map(Retained::hot_bytes).sum();
        shed
    }

    /// A hand-out must be settled in time.
    pub fn watch(&mut self, settle_by_ms: WallMs, position: Position) {
        self.settle_by.insert((settle_by_ms, position));
    }

    /// A hand-out is settled.
    pub fn unwatch(&mut self, settle_by_ms: WallMs, position: Position) {
        self.settle_by.remove(&(settle_by_ms, position));
    }

    /// A hand-out whose time is over.
    pub fn first_overdue(&self, now_ms: WallMs) -> Option<Position> {
        let (settle_by_ms, position) = self.settle_by.first()?;
        (*settle_by_ms <= now_ms).then_some(*position)
    }

    /// Dead letters that have not arrived.
    pub fn retained_messages(&self) -> u64 {
        self.retained.len() as u64
    }

    /// Bytes of their bodies.
    pub fn retained_body_bytes(&self) -> u64 {
        self.retained_body_bytes
    }

    /// Keeps a dead letter until it has arrived.
    pub fn retain(&mut self, position: Position, letter: Retained) {
        self.retained_body_bytes += letter.body_bytes;
        self.retained_logged += u64::from(letter.is_logged);
        self.retained_hot_bytes += letter.hot_bytes();
        self.retained.insert(position, letter);
    }

    /// A dead letter has arrived.
    pub fn arrived(&mut self, position: Position) -> Option<Retained> {
        let letter = self.retained.remove(&position)?;
        self.retained_body_bytes -= letter.body_bytes;
        self.retained_logged -= u64::from(letter.is_logged);
        self.retained_hot_bytes -= letter.hot_bytes();
        Some(letter)
    }

    /// A dead letter has not arrived, and is sent again later.
    pub fn retry(&mut self, at_ms: WallMs, position: Position) {
        if self.retained.contains_key(&position) {
            self.retry_at.insert((at_ms, position));
        }
    }

    /// A dead letter that is to be sent again now.
    pub fn pop_retry(&mut self, now_ms: WallMs) -> Option<(Position, Retained)> {
        while let Some((at_ms, position)) = self.retry_at.first().copied() {
            if at_ms > now_ms {
                return None;
            }
            self.retry_at.pop_first();
            if let Some(letter) = self.retained.get(&position) {
                return Some((position, letter.clone()));
            }
        }
        None
    }

    /// Forgets all dead letters that have not arrived (a purge does, since RabbitMQ 4.3.0).
    #[must_use]
    pub fn take_retained(&mut self) -> BTreeMap<Position, Retained> {
        self.retry_at.clear();
        self.retained_body_bytes = 0;
        self.retained_logged = 0;
        self.retained_hot_bytes = 0;
        std::mem::take(&mut self.retained)
    }

    /// When something here is due next.
    pub fn next_deadline(&self) -> Deadline {
        let delayed = self.delayed.first_key_value().map(|(key, _)| key.0);
        let overdue = self
            .settle_by
            .first()
            .map(|(settle_by_ms, _)| *settle_by_ms);
        let retry = self.retry_at.first().map(|(at_ms, _)| *at_ms);
        delayed
            .into_iter()
            .chain(overdue)
            .chain(retry)
            .min()
            .map_or(Deadline::NEVER, Deadline)
    }
}

/// When a return is served again, or `None` for at once (`rabbit_fifo.erl:should_delay/5`).
pub fn delayed_until(
    retry: Option<DelayedRetry>,
    counts_as_failed: bool,
    failed: u32,
    now_ms: WallMs,
) -> Option<WallMs> {
    let retry = retry?;
    let applies = match retry.kind {
        DelayedRetryKind::All => true,
        DelayedRetryKind::Failed => counts_as_failed,
        DelayedRetryKind::Returned => !counts_as_failed,
    };
    let delay_ms = retry
        .min_ms
        .saturating_mul(u64::from(failed.max(1)))
        .min(retry.max_ms);
    applies.then(|| now_ms.saturating_add(delay_ms))
}
