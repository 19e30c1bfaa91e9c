//! What came back to a quorum queue: served before everything else, in the order of return.
//!
//! In: messages that return, blocks that were loaded. Out: the next one, in memory or not yet. It knows no consumer and no clock.

use std::collections::VecDeque;

use super::entry::{Deadline, Entry, Item};
use super::loading::LoadedBlock;
use super::range::{
    Brought, ColdRange, Head, LOAD_SLOTS_MAX, LOAD_SPAN_MAX, ROOM_KEPT, Span, Totals,
};
use crate::model::Position;

/// A message in memory, or consecutive ones that came back one after the other and are only in the log.
#[derive(Debug)]
enum Slot {
    Hot(Entry),
    Cold(Position, ColdRange),
}

/// The returns of a quorum queue.
#[derive(Debug, Default)]
pub struct Returns {
    slots: VecDeque<Slot>,
    loading: Option<Span>,
}

impl Returns {
    /// Whether nothing has come back.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The next message.
    pub fn peek(&self) -> Option<Head<'_>> {
        self.slots.front().map(|slot| match slot {
            Slot::Hot(entry) => Head::Hot(entry),
            Slot::Cold(_, range) => Head::Cold {
                may_expire: range.may_expire,
            },
        })
    }

    /// Takes the next message, if it is in memory.
    pub fn pop(&mut self, totals: &mut Totals) -> Option<Entry> {
        if !matches!(self.slots.front(), Some(Slot::Hot(_))) {
            return None;
        }
        let Some(Slot::Hot(entry)) = self.slots.pop_front() else {
            return None;
        };
        if self.slots.is_empty() && self.slots.capacity() > ROOM_KEPT {
            self.slots = VecDeque::new();
        }
        totals.count_out(&entry);
        Some(entry)
    }

    /// A message comes back.
    pub fn put_back(&mut self, item: Item, totals: &mut Totals) {
        match item {
            Item::Hot(entry) => {
                totals.count_in(&entry);
                self.slots.push_back(Slot::Hot(entry));
            }
            Item::Cold(stub) => {
                let range = ColdRange::of(&stub);
                totals.cold_in(1, range.body_bytes, range.may_expire);
                push_cold(&mut self.slots, stub.position, range);
            }
        }
    }

    /// Asks for the next message, if it is not in memory and not asked for yet. Ranges behind it are asked for too while their
    /// positions ascend and lie near.
    pub fn load_head(&mut self) -> Option<Span> {
        if self.loading.is_some() {
            return None;
        }
        let Some(Slot::Cold(first, range)) = self.slots.front() else {
            return None;
        };
        let mut span = Span {
            first: *first,
            last: range.last,
        };
        for slot in self.slots.iter().take(LOAD_SLOTS_MAX).skip(1) {
            match slot {
                Slot::Cold(next, range)
                    if next.lane() == span.last.lane()
                        && *next > span.last
                        && range.last.0 - span.first.0 < LOAD_SPAN_MAX =>
                {
                    span.last = range.last;
                }
                _ => break,
            }
        }
        self.loading = Some(span);
        self.loading
    }

    /// A block arrives. `None` if it was asked for by someone else.
    pub fn handle_loaded(
        &mut self,
        block: &mut LoadedBlock,
        totals: &mut Totals,
    ) -> Option<Brought> {
        let span = self
            .loading
            .take_if(|loading| loading.first == block.first)?;
        let through = block.through.min(span.last);
        if through < span.first {
            return Some(Brought::default());
        }
        let mut messages = std::mem::take(&mut block.messages).into_iter().peekable();
        let mut front = Vec::new();
        let mut lost = 0;
        let mut wanted = span.first;
        while let Some(Slot::Cold(first, range)) = self.slots.front() {
            let (first, range) = (*first, *range);
            if first < wanted || first > through {
                break;
            }
            self.slots.pop_front();
            let (rest, gone) = range.load(first, through, &mut messages, totals, |entry| {
                front.push(Slot::Hot(entry));
            });
            lost += gone;
            if let Some((first, rest)) = rest {
                front.push(Slot::Cold(first, rest));
                break;
            }
            wanted = range.last.next();
        }
        for slot in front.into_iter().rev() {
            self.slots.push_front(slot);
        }
        Some(Brought { lost, surplus: 0 })
    }

    /// Leaves what the log has to the log. The front stays if it may expire: it would be loaded again at once.
    pub fn shed(&mut self, totals: &mut Totals, shed: &mut Vec<Entry>) {
        let mut slots = VecDeque::new();
        for slot in std::mem::take(&mut self.slots) {
            match slot {
                Slot::Hot(entry)
                    if entry.is_logged()
                        && !(slots.is_empty() && entry.deadline != Deadline::NEVER) =>
                {
                    totals.count_out(&entry);
                    let stub = entry.stub();
                    let range = ColdRange::of(&stub);
                    totals.cold_in(1, range.body_bytes, range.may_expire);
                    // The slot that is being loaded is the front, and nothing goes before it.
                    push_cold(&mut slots, stub.position, range);
                    shed.push(entry);
                }
                Slot::Cold(first, range) => push_cold(&mut slots, first, range),
                Slot::Hot(entry) => slots.push_back(Slot::Hot(entry)),
            }
        }
        self.slots = slots;
    }
}

/// Adds a range at the end, joined to the last one if it continues it.
fn push_cold(slots: &mut VecDeque<Slot>, first: Position, range: ColdRange) {
    if let Some(Slot::Cold(_, last)) = slots.back_mut()
        && last.try_extend(first, &range)
    {
        return;
    }
    slots.push_back(Slot::Cold(first, range));
}
