//! What came back to a quorum queue: served before everything else, in the order of return.
//!
//! In: messages that return, blocks that were loaded. Out: the next one, in memory or not yet. It knows no consumer and no clock.

use std::collections::VecDeque;

use super::entry::{Deadline, Entry, Item};
use super::loading::LoadedBlock;
use super::range::{Brought, ColdRange, Head, ROOM_KEPT, Slot, Span, Totals, fill, reach};
use crate::model::Position;

/// The returns of a quorum queue.
#[derive(Debug, Default)]
pub struct Returns {
    slots: VecDeque<(Position, Slot)>,
    loading: Option<Span>,
}

impl Returns {
    /// Whether nothing has come back.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The next message.
    pub fn peek(&self) -> Option<Head<'_>> {
        self.slots.front().map(|(_, slot)| slot.head())
    }

    /// Takes the next message, if it is in memory.
    pub fn pop(&mut self, totals: &mut Totals) -> Option<Entry> {
        if !matches!(self.slots.front(), Some((_, Slot::Hot(_)))) {
            return None;
        }
        let Some((_, Slot::Hot(entry))) = self.slots.pop_front() else {
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
                self.slots.push_back((entry.position, Slot::Hot(entry)));
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
        let mut ranges = self.slots.iter().map_while(|(first, slot)| match slot {
            Slot::Cold(range) => Some((*first, range.last)),
            Slot::Hot(_) => None,
        });
        let (first, last) = ranges.next()?;
        self.loading = Some(reach(first, last, ranges));
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
        let (slots, lost) = fill(span, block, totals, |wanted, through| {
            match self.slots.front() {
                Some((first, Slot::Cold(_))) if (wanted..=through).contains(first) => {}
                _ => return None,
            }
            match self.slots.pop_front() {
                Some((first, Slot::Cold(range))) => Some((first, range)),
                _ => None,
            }
        });
        for slot in slots.into_iter().rev() {
            self.slots.push_front(slot);
        }
        Some(Brought { lost, surplus: 0 })
    }

    /// Leaves what the log has to the log. The front stays if it may expire: it would be loaded again at once.
    pub fn shed(&mut self, totals: &mut Totals, shed: &mut Vec<Entry>) {
        let mut slots = VecDeque::new();
        for slot in std::mem::take(&mut self.slots) {
            match slot {
                (_, Slot::Hot(entry))
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
                (first, Slot::Cold(range)) => push_cold(&mut slots, first, range),
                hot => slots.push_back(hot),
            }
        }
        self.slots = slots;
    }
}

/// Adds a range at the end, joined to the last one if it continues it.
fn push_cold(slots: &mut VecDeque<(Position, Slot)>, first: Position, range: ColdRange) {
    if let Some((_, Slot::Cold(last))) = slots.back_mut()
        && last.try_extend(first, &range)
    {
        return;
    }
    slots.push_back((first, Slot::Cold(range)));
}
