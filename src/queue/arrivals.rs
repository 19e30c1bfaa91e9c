//! What comes to a queue while a head that must be dropped is only in the log.
//!
//! In: messages that enter or come back. Out: the same, one step after the other, once the drop is done. The size of a head is known
//! when it was read, and so is whether one drop is enough. Until then time stands still for what is ready: nothing that came later
//! takes the head's place, nothing is handed out, nothing expires. So the messages that are dropped are those that a queue in memory
//! would drop.

use std::collections::VecDeque;

use super::effects::Effects;
use super::entry::{Entry, Item};
use super::state::QueueState;
use crate::model::Now;

/// Arrivals that may wait. With more of them, while the disk does not answer, all are let in before the drop.
const ARRIVALS_MAX: usize = 10_000;

/// Something that came.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A new message, at the end of its lane.
    New(Item),
    /// A message that comes back to its place.
    Restored(Item),
    /// A message that comes back behind other returns.
    PutBack(Item),
    /// What came until now came at once.
    Rest,
}

impl Arrival {
    fn item(&self) -> Option<&Item> {
        match self {
            Self::New(item) | Self::Restored(item) | Self::PutBack(item) => Some(item),
            Self::Rest => None,
        }
    }
}

/// What has come and is not let in.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// A head is to be dropped, and is not loaded.
    pub is_drop_owed: bool,
    waiting: VecDeque<Arrival>,
    messages: u64,
    body_bytes: u64,
    cold_messages: u64,
    hot_body_bytes: u64,
    hot_bytes: u64,
    logged: u64,
}

impl Arrivals {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many messages they are.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of their bodies.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Those that only the log has.
    pub fn cold_messages(&self) -> u64 {
        self.cold_messages
    }

    /// Bytes of the bodies that are in memory.
    pub fn hot_body_bytes(&self) -> u64 {
        self.hot_body_bytes
    }

    /// Bytes of memory that the messages take.
    pub fn hot_bytes(&self) -> u64 {
        self.hot_bytes
    }

    /// Whether the log has some of them.
    pub fn has_logged(&self) -> bool {
        self.logged > 0
    }

    fn push(&mut self, arrival: Arrival) {
        if let Some(item) = arrival.item() {
            self.messages += 1;
            self.body_bytes += item.body_bytes();
            self.cold_messages += u64::from(matches!(item, Item::Cold(_)));
            self.hot_body_bytes += hot_body_bytes(item);
            self.hot_bytes += item.hot_bytes();
            self.logged += u64::from(item.is_logged());
        }
        self.waiting.push_back(arrival);
    }

    fn pop(&mut self) -> Option<Arrival> {
        let arrival = self.waiting.pop_front()?;
        if let Some(item) = arrival.item() {
            self.messages -= 1;
            self.body_bytes -= item.body_bytes();
            self.cold_messages -= u64::from(matches!(item, Item::Cold(_)));
            self.hot_body_bytes -= hot_body_bytes(item);
            self.hot_bytes -= item.hot_bytes();
            self.logged -= u64::from(item.is_logged());
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(arrival)
    }

    fn end_step(&mut self) {
        if !matches!(self.waiting.back(), None | Some(Arrival::Rest)) {
            self.waiting.push_back(Arrival::Rest);
        }
    }
}

fn hot_body_bytes(item: &Item) -> u64 {
    match item {
        Item::Hot(entry) => entry.body_bytes(),
        Item::Cold(_) => 0,
    }
}

impl QueueState {
    /// Whether a head must be dropped that is not loaded. Until then what comes waits.
    pub fn is_drop_owed(&self) -> bool {
        self.arrivals.is_drop_owed
    }

    /// Something comes while a drop is owed.
    pub(super) fn arrive(&mut self, arrival: Arrival, now: Now, fx: &mut Effects) {
        if self.arrivals.messages >= ARRIVALS_MAX as u64 {
            while let Some(arrival) = self.arrivals.pop() {
                self.let_in(arrival, now, fx);
            }
        }
        self.arrivals.push(arrival);
    }

    /// A new message comes while a drop is owed.
    pub(super) fn arrive_new(&mut self, entry: Entry, is_cold: bool, now: Now, fx: &mut Effects) {
        let mut item = Item::Hot(entry);
        if is_cold {
            fx.free(item.shed());
        }
        self.arrive(Arrival::New(item), now, fx);
        self.advance(now, fx);
    }

    /// Drops what is too much, and lets in what came meanwhile, one step after the other, each as if it came now.
    pub(super) fn drop_and_let_in(&mut self, now: Now, fx: &mut Effects) {
        self.arrivals.end_step();
        loop {
            self.drop_overflow(fx);
            if self.arrivals.is_drop_owed || self.arrivals.is_empty() {
                return;
            }
            self.expire_heads(now, fx);
            self.assign(now, fx);
            while let Some(arrival) = self.arrivals.pop() {
                if matches!(arrival, Arrival::Rest) {
                    break;
                }
                self.let_in(arrival, now, fx);
            }
        }
    }

    fn let_in(&mut self, arrival: Arrival, now: Now, fx: &mut Effects) {
        match arrival {
            Arrival::New(Item::Hot(entry)) => self.place(entry, false, now, fx),
            Arrival::New(Item::Cold(stub)) => {
                self.ready.end_offer(stub.position.lane());
                self.ready.push_cold(&stub);
            }
            Arrival::Restored(item) => self.ready.restore(item),
            Arrival::PutBack(item) => self.ready.put_back(item),
            Arrival::Rest => {}
        }
    }
}
