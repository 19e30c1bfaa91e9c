//! Several queues under their locks at once: how a burst, a transaction or a dead letter's move enters them.
//!
//! In: messages with the queues that they go to, settlements. Out: positions, records in the journal's input, messages
//! in the queues, in this order and under all the locks, so that a message in several queues is one record, and every queue
//! has its messages in the order of their positions. Locks are taken in ascending order of the queues' ids, which is what
//! keeps two bursts from waiting for each other. Who published, and what becomes of the effects, is not known here.

use std::fmt;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::effects::{DeadLetter, Effects};
use super::entry::Deadline;
use super::guarded::Guarded;
use super::handle::{QueueHandle, expiration_ms};
use super::placing::{Keep, Offer, Placement};
use crate::model::{ConsumerId, Now, Position, SettlementOutcome, SharedMessage};
use crate::store::journal::{Appender, BodyCrc, Lsn, SyncDemand};
use crate::store::messages::MessageStore;
use crate::store::queue_log::JournalEntry;
use crate::store::record::Target;

/// Messages that one hold of the journal's input may append, so that other publishers get their turn.
const HOLD_MESSAGES_MAX: u32 = 32;

/// Bytes of bodies after which the journal's input is let go.
const HOLD_BODY_BYTES_MAX: usize = 64 * 1024;

/// What became of a publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Queues that have it.
    pub accepted: u32,
    /// Whether a queue refused.
    pub is_refused: bool,
    /// Queues that have it in their logs.
    pub logged: u32,
    /// If the journal keeps it: how far it must have come, up to the burst's end, before the publish is complete. The strictest
    /// of the queues decides.
    pub must_keep: Option<SyncDemand>,
}

/// A queue under its lock.
struct Open<'q> {
    handle: &'q QueueHandle,
    guard: MutexGuard<'q, Guarded>,
    has_settlements: bool,
    /// What its state let go of, kept apart from what the other queues did.
    settled: Vec<(Position, u32)>,
    requeued: Vec<(Position, u32, u32)>,
    delivered: Vec<Position>,
}

/// Queues under their locks, until [`Burst::finish`].
pub struct Burst<'q> {
    store: &'q MessageStore,
    /// Of queues whose policies say nothing.
    default_demand: SyncDemand,
    queues: SmallVec<[Open<'q>; 1]>,
    /// The journal's input. Held from the beginning to the end when all that the burst writes must land in one frame, else
    /// for a few messages at a time.
    appender: Option<Appender<'q>>,
    is_atomic: bool,
    held_messages: u32,
    held_body_bytes: usize,
    /// The end of the last record that somebody may wait for.
    end: Lsn,
    places: SmallVec<[(usize, Placement); 2]>,
    /// Dead letters of queues that refused the message, each with the number of places before it.
    refused: Vec<(usize, DeadLetter)>,
    targets: SmallVec<[Target; 2]>,
}

impl<'q> Burst<'q> {
    /// Locks `handles`, which are in ascending order of their ids, each there once.
    pub fn open(
        store: &'q MessageStore,
        handles: impl IntoIterator<Item = &'q QueueHandle>,
    ) -> Self {
        let queues: SmallVec<[Open<'q>; 1]> = handles
            .into_iter()
            .map(|handle| Open {
                handle,
                guard: handle.lock(),
                has_settlements: false,
                settled: Vec::new(),
                requeued: Vec::new(),
                delivered: Vec::new(),
            })
            .collect();
        debug_assert!(queues.is_sorted_by(|a, b| a.handle.id() < b.handle.id()));
        Self {
            store,
            default_demand: store.journal().default_demand(),
            queues,
            appender: None,
            is_atomic: false,
            held_messages: 0,
            held_body_bytes: 0,
            end: Lsn::default(),
            places: SmallVec::new(),
            refused: Vec::new(),
            targets: SmallVec::new(),
        }
    }

    /// As [`Burst::open`], for what must survive a crash as a whole or not at all. Other publishers wait for it to end.
    pub fn open_atomic(
        store: &'q MessageStore,
        handles: impl IntoIterator<Item = &'q QueueHandle>,
    ) -> Self {
        let mut burst = Self::open(store, handles);
        burst.appender = Some(store.journal().append());
        burst.is_atomic = true;
        burst
    }

    /// Publishes a message to the queues at these places in the list of queues. A queue that was deleted counts as done
    /// (RabbitMQ's document "Publisher Confirms"). `body_crc` is the body's checksum, if it was taken before.
    pub fn publish(
        &mut self,
        message: &SharedMessage,
        body_crc: Option<BodyCrc>,
        queues: impl IntoIterator<Item = usize>,
        now: Now,
        fx: &mut Effects,
    ) -> Placed {
        let expiration_ms = expiration_ms(message);
        let mut placed = Placed::default();
        let has_failed = self.store.journal().failure().is_some();
        self.places.clear();
        self.targets.clear();
        for index in queues {
            let letters = fx.dead_letters.len();
            let open = &mut self.queues[index];
            let Some(state) = &mut open.guard.state else {
                continue;
            };
            match state.offer(message, expiration_ms, now, fx) {
                Offer::Refused => {
                    placed.is_refused = true;
                    let letters = fx.dead_letters.drain(letters..);
                    self.refused
                        .extend(letters.map(|letter| (self.places.len(), letter)));
                }
                Offer::Taken(placement) => {
                    if placement.keep == Keep::Memory {
                        self.places.push((index, placement));
                        continue;
                    }
                    if has_failed {
                        state.withdraw(message, placement);
                        placed.is_refused = true;
                        continue;
                    }
                    self.places.push((index, placement));
                    self.targets.push(Target {
                        queue: open.handle.id(),
                        position: placement.position,
                        deadline_ms: placement.deadline.0,
                        is_transient: placement.keep == Keep::Page,
                    });
                    if placement.keep == Keep::Journal {
                        let demand = state.settings.sync.unwrap_or(self.default_demand);
                        placed.must_keep = placed.must_keep.max(Some(demand));
                    }
                }
            }
        }
        if !self.targets.is_empty() {
            let body_crc = body_crc.unwrap_or_else(|| BodyCrc::of(message));
            self.record(message, body_crc, placed.must_keep);
        }
        placed.accepted = self.places.len() as u32;
        placed.logged = self.targets.len() as u32;
        let is_alone = self.queues.len() == 1;
        // Dead letters leave in the order of the queues, whether these refused the message or dropped another for it.
        let mut refused = self.refused.drain(..).peekable();
        for (number, (index, placement)) in self.places.drain(..).enumerate() {
            while let Some((_, letter)) = refused.next_if(|(before, _)| *before == number) {
                fx.dead_letters.push(letter);
            }
            let open = &mut self.queues[index];
            if let Some(state) = &mut open.guard.state {
                state.enter(SharedMessage::clone(message), placement, now, fx);
            }
            if !is_alone {
                open.keep_apart(fx);
            }
        }
        fx.dead_letters.extend(refused.map(|(_, letter)| letter));
        placed
    }

    /// Writes the record of a message and notes where it lies.
    fn record(
        &mut self,
        message: &SharedMessage,
        body_crc: BodyCrc,
        must_keep: Option<SyncDemand>,
    ) {
        let store = self.store;
        let appender = self
            .appender
            .get_or_insert_with(|| store.journal().append());
        let appended = match must_keep {
            Some(demand) => appender.message_asking(message, body_crc, &self.targets, demand),
            None => appender.transient(message, body_crc, &self.targets),
        };
        if must_keep.is_some() {
            self.end = appender.end();
        }
        self.held_messages += 1;
        self.held_body_bytes += message.body_bytes();
        let is_long =
            self.held_messages >= HOLD_MESSAGES_MAX || self.held_body_bytes >= HOLD_BODY_BYTES_MAX;
        if is_long && !self.is_atomic {
            self.appender = None;
            (self.held_messages, self.held_body_bytes) = (0, 0);
        }
        let logged = self.places.iter().filter(|(_, p)| p.keep != Keep::Memory);
        for (index, placement) in logged {
            self.queues[*index].guard.log.appended(JournalEntry {
                position: placement.position,
                lsn: appended.lsn,
                record_bytes: appended.record_bytes,
                body_bytes: message.body_bytes() as u32,
                is_transient: placement.keep == Keep::Page,
                may_expire: placement.deadline != Deadline::NEVER,
                has_blob: appended.blob.is_some(),
            });
        }
    }

    /// Settles a delivery of the queue at `index`. `false` if it is not unsettled, or not this consumer's.
    pub fn settle(
        &mut self,
        index: usize,
        (position, consumer, outcome): (Position, Option<ConsumerId>, SettlementOutcome),
        now: Now,
        fx: &mut Effects,
    ) -> bool {
        let open = &mut self.queues[index];
        let Some(state) = &mut open.guard.state else {
            return false;
        };
        open.has_settlements = true;
        let is_settled =
            state.is_held_by(position, consumer) && state.settle(position, outcome, now, fx);
        open.keep_apart(fx);
        is_settled
    }

    /// The dead letter of the queue at `index` that lies at `position` in its log is written elsewhere in this burst, or
    /// nobody takes it.
    pub fn letter_left(&mut self, index: usize, position: Position) {
        let open = &mut self.queues[index];
        if let Some(state) = &mut open.guard.state
            && let Some(body_bytes) = state.letter_left(position)
        {
            open.settled.push((position, body_bytes));
        }
    }

    /// What the confirms of the queue at `index` wait for, if a policy says so.
    pub fn sync(&self, index: usize) -> Option<SyncDemand> {
        let state = self.queues[index].guard.state.as_ref()?;
        state.settings.sync
    }

    /// Ends the burst: what settlements made possible, settlements into the journal, then the locks. Gives the place up to
    /// which the journal must be synced before anybody is told that it is durable.
    pub fn finish(mut self, now: Now, fx: &mut Effects) -> Lsn {
        for open in &mut self.queues {
            if open.has_settlements
                && let Some(state) = &mut open.guard.state
            {
                state.after_settlements(now, fx);
            }
            fx.settled.append(&mut open.settled);
            fx.requeued.append(&mut open.requeued);
            fx.delivered.append(&mut open.delivered);
            let section = open.handle.section(self.store);
            open.guard.end_section(section, self.appender.as_mut(), fx);
        }
        match &self.appender {
            Some(appender) if self.is_atomic => appender.end(),
            _ => self.end,
        }
    }
}

impl fmt::Debug for Burst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Burst")
            .field("queues", &self.queues.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Open<'_> {
    /// Takes what the state let go of out of the effects that all queues share.
    fn keep_apart(&mut self, fx: &mut Effects) {
        self.settled.append(&mut fx.settled);
        self.requeued.append(&mut fx.requeued);
        self.delivered.append(&mut fx.delivered);
    }
}
