//! The deliveries of a channel that its client has not settled: delivery tag → queue, position, consumer, size.
//!
//! Tags grow, so the list is sorted by itself: an acknowledgement in order takes from the front, one out of order is found
//! by a guess or a binary search and leaves a hole that is closed later. What a settlement does is not known here.

use std::collections::VecDeque;

use crate::model::{DeliveryTag, Unsettled};

/// Holes are closed when there are more of them than this, and more than entries.
const HOLES_MIN: usize = 64;

/// Capacity that an empty list may keep, in entries.
const KEPT_ENTRIES_MAX: usize = 64;

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: DeliveryTag,
    pub(super) delivery: Unsettled,
    /// What the message costs, in octets.
    pub(super) bytes: u32,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    is_hole: bool,
}

/// The list of a channel.
#[derive(Debug, Default)]
pub(super) struct UnsettledList {
    /// Sorted by tag; neither the first nor the last slot is a hole.
    slots: VecDeque<Slot>,
    holes: usize,
    bytes: u64,
}

impl UnsettledList {
    /// Deliveries in the list.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.holes
    }

    /// What they cost, in octets.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a delivery whose tag is above all others.
    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert!(
            self.slots
                .back()
                .is_none_or(|last| last.entry.tag < entry.tag)
        );
        self.bytes += u64::from(entry.bytes);
        let is_hole = false;
        self.slots.push_back(Slot { entry, is_hole });
    }

    /// Takes the delivery of that tag, if it is there.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Entry> {
        let index = self.find(tag)?;
        let slot = &mut self.slots[index];
        slot.is_hole = true;
        let entry = slot.entry;
        self.holes += 1;
        self.bytes -= u64::from(entry.bytes);
        self.trim();
        Some(entry)
    }

    /// Takes every delivery up to that tag, oldest first; `false` if the tag itself is not there, when nothing is taken
    /// (`rabbit_channel.erl`, `collect_acks`).
    pub(super) fn take_through(&mut self, tag: DeliveryTag, mut taken: impl FnMut(Entry)) -> bool {
        let Some(index) = self.find(tag) else {
            return false;
        };
        for slot in self.slots.drain(..=index) {
            if slot.is_hole {
                self.holes -= 1;
            } else {
                self.bytes -= u64::from(slot.entry.bytes);
                taken(slot.entry);
            }
        }
        self.trim();
        true
    }

    /// Takes all, oldest first.
    pub(super) fn take_all(&mut self, mut taken: impl FnMut(Entry)) {
        let list = std::mem::take(self);
        for slot in list.slots {
            if !slot.is_hole {
                taken(slot.entry);
            }
        }
    }

    /// Puts entries back that were taken before (`tx.rollback`).
    pub(super) fn put_back(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut all = Vec::with_capacity(self.len());
        self.take_all(|entry| all.push(entry));
        all.extend(entries);
        all.sort_unstable_by_key(|entry| entry.tag);
        for entry in all {
            self.push(entry);
        }
    }

    fn find(&self, tag: DeliveryTag) -> Option<usize> {
        let first = self.slots.front()?.entry.tag;
        let guess = usize::try_from(tag.0.checked_sub(first.0)?).unwrap_or(usize::MAX);
        let index = match self.slots.get(guess) {
            Some(slot) if slot.entry.tag == tag => guess,
            _ => self
                .slots
                .binary_search_by_key(&tag, |slot| slot.entry.tag)
                .ok()?,
        };
        (!self.slots[index].is_hole).then_some(index)
    }

    fn trim(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.is_hole) {
            self.slots.pop_front();
            self.holes -= 1;
        }
        while self.slots.back().is_some_and(|slot| slot.is_hole) {
            self.slots.pop_back();
            self.holes -= 1;
        }
        if self.holes > HOLES_MIN && self.holes > self.len() {
            self.slots.retain(|slot| !slot.is_hole);
            self.holes = 0;
        }
        if self.slots.is_empty() && self.slots.capacity() > KEPT_ENTRIES_MAX {
            self.slots = VecDeque::new();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{ConsumerId, Position, QueueId};

    fn entry(tag: u64) -> Entry {
        Entry {
            tag: DeliveryTag(tag),
            delivery: Unsettled {
                queue: QueueId(1),
                position: Position(tag * 10),
                consumer: Some(ConsumerId(3)),
            },
            bytes: tag as u32,
        }
    }

    #[test]
    fn a_tag_is_taken_once() {
        let mut list = UnsettledList::default();
        list.push(entry(1));
        list.push(entry(4));
        assert_eq!(list.take(DeliveryTag(4)), Some(entry(4)));
        assert_eq!(list.take(DeliveryTag(4)), None);
        assert_eq!(list.take(DeliveryTag(2)), None);
        assert_eq!(list.take(DeliveryTag(1)), Some(entry(1)));
        assert_eq!((list.len(), list.bytes()), (0, 0));
    }

    #[test]
    fn multiple_needs_its_own_tag_to_be_there() {
        let mut list = UnsettledList::default();
        (1..=3).for_each(|tag| list.push(entry(tag)));
        list.take(DeliveryTag(2)).unwrap();
        assert!(!list.take_through(DeliveryTag(2), |_| panic!("nothing is taken")));
        let mut taken = Vec::new();
        assert!(list.take_through(DeliveryTag(3), |entry| taken.push(entry.tag.0)));
        assert_eq!(taken, [1, 3]);
    }

    #[test]
    fn what_is_put_back_stands_in_the_order_of_delivery() {
        let mut list = UnsettledList::default();
        (1..=5).for_each(|tag| list.push(entry(tag)));
        let four = list.take(DeliveryTag(4)).unwrap();
        let two = list.take(DeliveryTag(2)).unwrap();
        list.put_back([four, two].into_iter());
        let mut all = Vec::new();
        list.take_all(|entry| all.push(entry.tag.0));
        assert_eq!(all, [1, 2, 3, 4, 5]);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Push(u64),
        Take(u64),
        TakeThrough(u64),
        TakeAll,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            8 => (1..4_u64).prop_map(Operation::Push),
            6 => any::<u64>().prop_map(Operation::Take),
            1 => any::<u64>().prop_map(Operation::TakeThrough),
            1 => Just(Operation::TakeAll),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(operations in prop::collection::vec(operation(), 0..400)) {
            let mut list = UnsettledList::default();
            let mut model = BTreeMap::new();
            let mut last = 0;
            for operation in operations {
                match operation {
                    Operation::Push(step) => {
                        last += step;
                        list.push(entry(last));
                        model.insert(last, entry(last));
                    }
                    Operation::Take(at) => {
                        let tag = at % (last + 2);
                        prop_assert_eq!(list.take(DeliveryTag(tag)), model.remove(&tag));
                    }
                    Operation::TakeThrough(at) => {
                        let tag = at % (last + 2);
                        let mut taken = Vec::new();
                        let is_there = list.take_through(DeliveryTag(tag), |e| taken.push(e));
                        prop_assert_eq!(is_there, model.contains_key(&tag));
                        if is_there {
                            let rest = model.split_off(&(tag + 1));
                            let expected: Vec<_> = model.into_values().collect();
                            prop_assert_eq!(taken, expected);
                            model = rest;
                        }
                    }
                    Operation::TakeAll => {
                        let mut taken = Vec::new();
                        list.take_all(|e| taken.push(e));
                        let expected: Vec<_> = std::mem::take(&mut model).into_values().collect();
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert_eq!(list.len(), model.len());
                let bytes: u64 = model.values().map(|e| u64::from(e.bytes)).sum();
                prop_assert_eq!(list.bytes(), bytes);
            }
        }
    }
}
