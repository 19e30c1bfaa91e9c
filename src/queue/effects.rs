//! What a queue asks its caller to do once the queue's lock is released.
//!
//! In: effects of any number of queues in one burst; out: dead letters to route, queues to delete,
//! windows to open, ranges to load, connections to wake. What a queue's log must be told (`settled`, `requeued`,
//! `purged`) is taken out before the queue's lock is released, so that the log's order is the queue's. Deliveries are not here: they enter the outlet under the
//! queue's lock, because two publishers that handed over later could swap them.

use std::any::Any;
use std::sync::Arc;

use super::dead_letters::DeathReason;
use super::death_tally::DeathTally;
use super::loading::Load;
use crate::model::{ChannelWindow, Name, Outlet, Position, QueueId, SharedMessage, WallMs};
use crate::store::queue_log::QueueLog;
use crate::store::record::Run;

/// A message that leaves a queue by another door than settlement, and the exchange it goes to.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The queue that it leaves.
    pub queue: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// That queue's name, as x-death shows it.
    pub queue_name: Name,
    /// The message, not yet marked: see [`super::dead_letters::with_death`]. `None` if it is only in the log of its queue,
    /// at `source` or at `retained`.
    pub message: Option<SharedMessage>,
    /// Why it leaves.
    pub reason: DeathReason,
    /// The dead-letter exchange, which may not exist.
    pub exchange: Name,
    /// The routing key that replaces the message's own.
    pub routing_key: Option<Name>,
    /// Set if the queue keeps the message until it hears how this one fared: the caller says so with
    /// `settle_dead_letter`.
    pub retained: Option<Position>,
    /// Set if the log of the queue has the message: the letter ends it there, in the same record if it can. The caller then says
    /// `letter_left`.
    pub source: Option<Position>,
}

/// A purge, as the log records it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// The logged messages that stay, because they are handed out, delayed or on their way out: runs of first position and
    /// number, in order. All others of the queue go.
    pub survivors: Vec<Run>,
}

/// Why a queue wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionReason {
    /// The last consumer of an auto-delete queue went.
    AutoDelete,
    /// It was not used for `x-expires` milliseconds.
    Expired,
}

/// Collects what is to be done after unlocking. One value serves a whole burst.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to route to dead-letter exchanges, in the order in which they left.
    pub dead_letters: Vec<DeadLetter>,
    /// Queues that want to go. The broker forgets them, then calls `delete_now`.
    pub deletions: Vec<(QueueId, DeletionReason)>,
    /// Windows in which a place became free while consumers are parked on them.
    pub windows: Vec<Arc<ChannelWindow>>,
    /// Queues whose next deadline, in wall milliseconds, is earlier than the last one reported. When it
    /// comes, `handle_timeout` is called once.
    pub deadlines: Vec<(QueueId, WallMs)>,
    /// Logs of deleted queues. The store may forget them once the deletion is in the journal.
    pub forgotten: Vec<(QueueId, QueueLog)>,
    /// Ranges of queues' logs that the queues wait for.
    pub loads: Vec<Load>,
    /// Logged positions of the queue under whose lock the caller is that came to their end, each once.
    pub settled: Vec<(Position, u32)>,
    /// Logged messages of that queue, of quorum type, that came back: position, hand-outs, failed ones among them.
    pub requeued: Vec<(Position, u32, u32)>,
    /// For each lane of that queue from which logged messages were handed out, to be settled later, the highest of them.
    pub delivered: Vec<Position>,
    /// Queues that counted something for the first time in their interval, and whether for the first time at all.
    pub touched: Vec<(QueueId, bool)>,
    /// Messages that left by the back door.
    pub deaths: DeathTally,
    /// That queue was purged.
    pub purged: Option<Purge>,
    /// Connections to wake, neighbours distinct.
    wakes: Vec<Arc<dyn Outlet>>,
    /// Settled messages, freed when no lock is held.
    freed: Vec<SharedMessage>,
    /// Purged structures, freed likewise.
    garbage: Vec<Box<dyn Any + Send + Sync>>,
}

impl Effects {
    /// Wakes each connection that was given something, and frees what is no longer needed.
    ///
    /// Called without any queue's lock. What must be executed by others (`dead_letters`, `deletions`,
    /// `windows`, `deadlines`, `loads`) stays.
    pub fn dispatch(&mut self) {
        for outlet in self.wakes.drain(..) {
            outlet.wake();
        }
        self.freed.clear();
        self.garbage.clear();
    }

    /// Whether something is left for the broker to execute.
    pub fn needs_execution(&self) -> bool {
        !(self.dead_letters.is_empty()
            && self.deletions.is_empty()
            && self.windows.is_empty()
            && self.deadlines.is_empty()
            && self.forgotten.is_empty()
            && self.loads.is_empty())
    }

    /// Forgets what a piece of work that panicked had to say of its queue's log: it must not be taken for another queue's.
    pub(super) fn begin_section(&mut self) {
        self.settled.clear();
        self.requeued.clear();
        self.delivered.clear();
        self.purged = None;
    }

    pub(super) fn note_delivered(&mut self, position: Position) {
        match self.delivered.last_mut() {
            Some(last) if last.lane() == position.lane() => *last = position.max(*last),
            _ => self.delivered.push(position),
        }
    }

    pub(super) fn wake(&mut self, outlet: &Arc<dyn Outlet>) {
        // A burst to one consumer wakes it once; a wake too many only finds an empty waker slot.
        if !self
            .wakes
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, outlet))
        {
            self.wakes.push(Arc::clone(outlet));
        }
    }

    pub(super) fn window_released(&mut self, window: &Arc<ChannelWindow>) {
        if window.has_parked() && !self.windows.iter().any(|known| Arc::ptr_eq(known, window)) {
            self.windows.push(Arc::clone(window));
        }
    }

    pub(super) fn free(&mut self, message: impl Into<Option<SharedMessage>>) {
        self.freed.extend(message.into());
    }

    pub(super) fn discard(&mut self, structure: impl Any + Send + Sync) {
        self.garbage.push(Box::new(structure));
    }
}
