//! How a message gets into a queue: it is offered, recorded by the caller if it must be, and enters.
//!
//! In: messages. Out: where each stands and how it must be kept. Nothing is visible between the offer and the entry, so no settlement can come
//! before the record of its message.

use std::sync::Arc;

use super::effects::Effects;
use super::entry::{Deadline, Entry};
use super::kind::QueueKind;
use super::leaving::Letter;
use super::settings::Overflow;
use super::state::QueueState;
use crate::model::{DeathReason, Now, Position, SharedMessage, WallMs};

/// How a message must be kept besides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Not at all.
    Memory,
    /// In the journal: it survives a restart.
    Journal,
    /// In the log, only because memory has no room: it does not survive a restart.
    Page,
}

/// The place of a message that a queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its place.
    pub position: Position,
    /// When it expires.
    pub deadline: Deadline,
    /// How it must be kept. Unless that is [`Keep::Memory`], its record must be in the log when it enters.
    pub keep: Keep,
    /// It is not to be kept in memory.
    is_cold: bool,
}

/// What becomes of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The queue is full and refuses.
    Refused,
    /// The queue takes it: [`QueueState::enter`] is next, or [`QueueState::withdraw`].
    Taken(Placement),
}

/// Messages between their offer and their entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offered {
    /// How many they are.
    pub messages: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Bytes that those of them take that stay in memory.
    pub hot_bytes: u64,
}

impl Offered {
    fn add(&mut self, message: &SharedMessage, is_cold: bool) {
        self.messages += 1;
        self.body_bytes += message.body_bytes() as u64;
        self.hot_bytes += hot_bytes(message, is_cold);
    }

    fn remove(&mut self, message: &SharedMessage, is_cold: bool) {
        self.messages -= 1;
        self.body_bytes -= message.body_bytes() as u64;
        self.hot_bytes -= hot_bytes(message, is_cold);
    }
}

fn hot_bytes(message: &SharedMessage, is_cold: bool) -> u64 {
    if is_cold {
        0
    } else {
        message.cost_bytes() as u64
    }
}

/// The next place in each lane. Lanes are few: most queues have one.
#[derive(Debug, Default)]
pub struct Sequences(Vec<(u8, u64)>);

impl Sequences {
    /// Gives the next position of a lane.
    pub fn take(&mut self, level: u8) -> Position {
        let next = self.next(level);
        let position = Position::new(level, *next);
        *next += 1;
        position
    }

    /// Sets the next place of a lane.
    pub fn set_next(&mut self, level: u8, next_sequence: u64) {
        *self.next(level) = next_sequence.max(1);
    }

    fn next(&mut self, level: u8) -> &mut u64 {
        let index = self
            .0
            .binary_search_by_key(&level, |(known, _)| *known)
            .unwrap_or_else(|index| {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(index, (level, 1));
                index
            });
        &mut self.0[index].1
    }
}

impl QueueState {
    /// A message arrives: it is refused, or gets its place. `expiration_ms` is what its property says.
    ///
    /// Several offers may stand; they enter, or are withdrawn, in the order in which they were made, and nothing else happens to the queue in between.
    pub fn offer(
        &mut self,
        message: &SharedMessage,
        expiration_ms: Option<WallMs>,
        now: Now,
        fx: &mut Effects,
    ) -> Offer {
        if self.refuses(message) {
            self.refuse(message, fx);
            return Offer::Refused;
        }
        let level = self.settings.level(message.facts().priority());
        let is_cold = self.leaves_to_log(level);
        if is_cold {
            self.ready.offer_cold(level);
        }
        self.offered.add(message, is_cold);
        Offer::Taken(Placement {
            position: self.sequences.take(level),
            deadline: self.deadline(expiration_ms, now),
            keep: self.keep(message, is_cold),
            is_cold,
        })
    }

    /// An offered message becomes visible: it is handed out, waits, or expires.
    pub fn enter(
        &mut self,
        message: SharedMessage,
        placement: Placement,
        now: Now,
        fx: &mut Effects,
    ) {
        self.end_offer(&message, placement);
        self.counters.published += 1;
        let is_logged = placement.keep != Keep::Memory;
        self.counters.log_writes += u64::from(is_logged);
        let entry = Entry::new(placement.position, message, placement.deadline, is_logged);
        if self.ready.is_empty() {
            if self.consumers.any_queued()
                && let Some(owner) = self.consumers.pick(self.id, entry.message.cost_bytes())
            {
                self.hand_out(owner, entry, now, fx);
                return;
            }
            if entry.deadline.has_passed(now.wall_ms) {
                self.expire(entry, fx);
                return;
            }
        }
        if let Some(entry) = self.ready.push(entry, placement.is_cold) {
            fx.free(entry.message);
        }
        self.advance(now, fx);
    }

    /// An offered message does not enter, because its record could not be written. Its place stays empty.
    pub fn withdraw(&mut self, message: &SharedMessage, placement: Placement) {
        self.end_offer(message, placement);
    }

    fn end_offer(&mut self, message: &SharedMessage, placement: Placement) {
        self.offered.remove(message, placement.is_cold);
        if placement.is_cold {
            self.ready.end_offer(placement.position.lane());
        }
    }

    /// Whether a new message is to be left to the log. One that a consumer can probably take at once is not; if the consumer turns out to be unable, it
    /// stays in memory, and the next one knows better.
    fn leaves_to_log(&self, level: u8) -> bool {
        if self.ready.is_cold(level) {
            return true;
        }
        let is_first = self.ready.is_empty() && self.offered.messages == 0;
        !(is_first && self.consumers.any_queued()) && self.is_over_budget()
    }

    /// Quorum queues keep all messages on disk, whatever their delivery mode (RabbitMQ's document "Quorum Queues", feature matrix).
    fn keep(&self, message: &SharedMessage, is_cold: bool) -> Keep {
        let is_kept = message.facts().is_persistent() || self.settings.kind == QueueKind::Quorum;
        if self.is_durable && is_kept {
            Keep::Journal
        } else if is_cold {
            Keep::Page
        } else {
            Keep::Memory
        }
    }

    /// When a message published now expires: the smaller of its own and the queue's time to live.
    fn deadline(&self, expiration_ms: Option<WallMs>, now: Now) -> Deadline {
        let ttl_ms = match (expiration_ms, self.settings.message_ttl_ms) {
            (None, None) => return Deadline::NEVER,
            (own, queue) => own.unwrap_or(WallMs::MAX).min(queue.unwrap_or(WallMs::MAX)),
        };
        Deadline(now.wall_ms.saturating_add(ttl_ms))
    }

    /// Refuses a publish.
    fn refuse(&mut self, message: &SharedMessage, fx: &mut Effects) {
        self.counters.refused += 1;
        if self.settings.overflow == Overflow::RejectPublishDeadLetter {
            fx.deaths.count(
                self.settings.kind,
                self.death_strategy(),
                DeathReason::MaxLen,
            );
            let letter = Letter {
                message: Some(Arc::clone(message)),
                reason: DeathReason::MaxLen,
                retained: None,
                source: None,
            };
            self.send_letter(letter, fx);
        }
    }
}
