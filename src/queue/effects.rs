//! What a queue asks its caller to do once the queue's lock is released.
//!
//! In: effects of any number of queues in one burst; out: dead letters to route, queues to delete,
//! windows to open, connections to wake. Deliveries are not here: they enter the outlet under the
//! queue's lock, because two publishers that handed over later could swap them.

use std::any::Any;
use std::sync::Arc;

use super::dead_letters::DeathReason;
use crate::model::{ChannelWindow, Name, Outlet, Position, QueueId, SharedMessage, WallMs};

/// A message that leaves a queue by another door than settlement, and the exchange it goes to.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The queue that it leaves.
    pub queue: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// That queue's name, as x-death shows it.
    pub queue_name: Name,
    /// The message, not yet marked: see [`super::dead_letters::with_death`].
    pub message: SharedMessage,
    /// Why it leaves.
    pub reason: DeathReason,
    /// The dead-letter exchange, which may not exist.
    pub exchange: Name,
    /// The routing key that replaces the message's own.
    pub routing_key: Option<Name>,
    /// Set if the queue keeps the message until it hears how this one fared: the caller says so with
    /// `settle_dead_letter`.
    pub retained: Option<Position>,
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
    /// `windows`, `deadlines`) stays.
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
            && self.deadlines.is_empty())
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

    pub(super) fn free(&mut self, message: SharedMessage) {
        self.freed.push(message);
    }

    pub(super) fn discard(&mut self, structure: impl Any + Send + Sync) {
        self.garbage.push(Box::new(structure));
    }
}
