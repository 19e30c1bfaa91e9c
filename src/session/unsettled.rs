//! The deliveries of a channel that its client has not settled: delivery tag → queue, position, consumer.
//!
//! Deliveries that follow one another with the positions of one queue and consumer are a run, which costs the same
//! however many they are: a consumer that never settles costs octets, not a list. Runs stand in chunks, sorted by tag: an
//! acknowledgement in order takes from the front, one out of order is found by a binary search and splits its run, which
//! moves the runs of one chunk at most. What a settlement does is not known here.

use std::collections::VecDeque;

use crate::model::{DeliveryTag, Position, Unsettled, UnsettledDeliveries};

/// Runs in a chunk: what a run in the middle moves, and half of it, about, what a search looks at last.
const RUNS_PER_CHUNK_MAX: usize = 256;

/// A chunk with fewer runs than this joins its neighbour, if the two fill no more than half a chunk.
const RUNS_PER_CHUNK_MIN: usize = RUNS_PER_CHUNK_MAX / 4;

/// Capacity that an empty list may keep, in runs.
const KEPT_RUNS_MAX: usize = 64;

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: DeliveryTag,
    pub(super) delivery: Unsettled,
}

/// Deliveries with consecutive tags and consecutive positions, of one queue and consumer.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: Entry,
    /// At least 1.
    count: u64,
}

impl Run {
    fn last_tag(&self) -> u64 {
        self.first.tag.0 + (self.count - 1)
    }

    /// The delivery `offset` places after the first.
    fn entry(&self, offset: u64) -> Entry {
        let Entry { tag, delivery } = self.first;
        Entry {
            tag: DeliveryTag(tag.0 + offset),
            delivery: Unsettled {
                position: Position(delivery.position.0 + offset),
                ..delivery
            },
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.count).map(|offset| self.entry(offset))
    }

    /// What remains after the first `count` deliveries.
    fn without_first(&self, count: u64) -> Option<Self> {
        (count < self.count).then(|| Self {
            first: self.entry(count),
            count: self.count - count,
        })
    }

    /// The first `count` deliveries.
    fn truncated(&self, count: u64) -> Option<Self> {
        let first = self.first;
        (count > 0).then_some(Self { first, count })
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        self.entry(self.count) == next.first
    }
}

/// The list of a channel.
#[derive(Debug, Default)]
pub(super) struct UnsettledList {
    /// Runs sorted by tag. No chunk is empty, unless it is the only one.
    chunks: VecDeque<VecDeque<Run>>,
    len: usize,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    run: usize,
}

impl UnsettledList {
    /// Deliveries in the list.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a delivery whose tag is above all others.
    pub(super) fn push(&mut self, entry: Entry) {
        let first = entry;
        self.push_run(Run { first, count: 1 });
    }

    /// Takes the delivery of that tag, if it is there.
    pub(super) fn take(&mut self, tag: DeliveryTag) -> Option<Entry> {
        let (place, run) = self.find(tag)?;
        let offset = tag.0 - run.first.tag.0;
        let before = run.truncated(offset);
        let after = run.without_first(offset + 1);
        self.len -= 1;
        match (before, after) {
            (Some(before), Some(after)) => {
                *self.run_mut(place) = before;
                self.insert_after(place, after);
            }
            (Some(rest), None) | (None, Some(rest)) => *self.run_mut(place) = rest,
            (None, None) => self.remove(place),
        }
        Some(run.entry(offset))
    }

    /// Takes every delivery up to that tag, oldest first; `false` if the tag itself is not there, when nothing is taken
    /// (`rabbit_channel.erl`, `collect_acks`).
    pub(super) fn take_through(&mut self, tag: DeliveryTag, mut taken: impl FnMut(Entry)) -> bool {
        let Some((place, run)) = self.find(tag) else {
            return false;
        };
        let count = tag.0 - run.first.tag.0 + 1;
        let whole_chunks = self.chunks.drain(..place.chunk).flatten();
        let mut len = self.len;
        let mut take = |run: &Run| {
            len -= usize::try_from(run.count).unwrap_or(len);
            run.entries().for_each(&mut taken);
        };
        whole_chunks.for_each(|run| take(&run));
        if let Some(chunk) = self.chunks.front_mut() {
            chunk.drain(..place.run).for_each(|run| take(&run));
            run.truncated(count).iter().for_each(take);
            match run.without_first(count) {
                Some(rest) => chunk[0] = rest,
                None => drop(chunk.pop_front()),
            }
        }
        self.len = len;
        self.tidy(0);
        true
    }

    /// Takes all, oldest first, without a place for each.
    pub(super) fn take_runs(&mut self) -> UnsettledDeliveries {
        let mut taken = UnsettledDeliveries::default();
        for run in std::mem::take(self).chunks.into_iter().flatten() {
            taken.push(run.first.delivery, run.count);
        }
        taken
    }

    /// Takes all, oldest first.
    pub(super) fn take_all(&mut self, mut taken: impl FnMut(Entry)) {
        for run in std::mem::take(self).chunks.into_iter().flatten() {
            run.entries().for_each(&mut taken);
        }
    }

    /// Puts entries back that were taken before (`tx.rollback`).
    pub(super) fn put_back(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_unstable_by_key(|entry| entry.tag);
        let mut entries = entries.into_iter().peekable();
        for run in std::mem::take(self).chunks.into_iter().flatten() {
            while let Some(entry) = entries.next_if(|entry| entry.tag < run.first.tag) {
                self.push(entry);
            }
            self.push_run(run);
        }
        entries.for_each(|entry| self.push(entry));
    }

    /// Adds a run whose tags are above all others.
    fn push_run(&mut self, run: Run) {
        self.len += usize::try_from(run.count).unwrap_or(usize::MAX);
        if let Some(last) = self.chunks.back_mut().and_then(VecDeque::back_mut) {
            debug_assert!(last.last_tag() < run.first.tag.0);
            if last.is_followed_by(&run) {
                last.count += run.count;
                return;
            }
        }
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < RUNS_PER_CHUNK_MAX => chunk.push_back(run),
            _ => self.chunks.push_back(VecDeque::from([run])),
        }
    }

    /// The run that holds a tag. The front is looked at first: most clients settle in order.
    fn find(&self, tag: DeliveryTag) -> Option<(Place, Run)> {
        let is_below = |run: &Run| run.last_tag() < tag.0;
        let is_chunk_below = |chunk: &VecDeque<Run>| chunk.back().is_none_or(is_below);
        let chunk = if is_chunk_below(self.chunks.front()?) {
            self.chunks.partition_point(is_chunk_below)
        } else {
            0
        };
        let runs = self.chunks.get(chunk)?;
        let run = if is_below(runs.front()?) {
            runs.partition_point(is_below)
        } else {
            0
        };
        let found = *runs.get(run)?;
        (found.first.tag <= tag).then_some((Place { chunk, run }, found))
    }

    fn run_mut(&mut self, place: Place) -> &mut Run {
        &mut self.chunks[place.chunk][place.run]
    }

    fn insert_after(&mut self, place: Place, run: Run) {
        let at = place.run + 1;
        let chunk = &mut self.chunks[place.chunk];
        if chunk.len() < RUNS_PER_CHUNK_MAX {
            chunk.insert(at, run);
            return;
        }
        let mut after = chunk.split_off(RUNS_PER_CHUNK_MAX / 2);
        match at.checked_sub(chunk.len()) {
            Some(at) => after.insert(at, run),
            None => chunk.insert(at, run),
        }
        self.chunks.insert(place.chunk + 1, after);
    }

    fn remove(&mut self, place: Place) {
        self.chunks[place.chunk].remove(place.run);
        self.tidy(place.chunk);
    }

    /// Puts right what the chunk at `index` lost: an empty one goes, a small one joins a small neighbour.
    fn tidy(&mut self, index: usize) {
        let runs = self.chunks[index].len();
        if runs == 0 && self.chunks.len() > 1 {
            self.chunks.remove(index);
        } else if runs == 0 {
            if self.chunks[index].capacity() > KEPT_RUNS_MAX {
                self.chunks = VecDeque::new();
            }
        } else if runs < RUNS_PER_CHUNK_MIN && self.chunks.len() > 1 {
            let left = index.min(self.chunks.len() - 2);
            if self.chunks[left].len() + self.chunks[left + 1].len() <= RUNS_PER_CHUNK_MAX / 2
                && let Some(mut right) = self.chunks.remove(left + 1)
            {
                self.chunks[left].append(&mut right);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{ConsumerId, QueueId};

    fn entry_of(queue: u64, tag: u64, position: u64) -> Entry {
        Entry {
            tag: DeliveryTag(tag),
            delivery: Unsettled {
                queue: QueueId(queue),
                position: Position(position),
                consumer: Some(ConsumerId(3)),
            },
        }
    }

    fn entry(tag: u64) -> Entry {
        entry_of(1, tag, tag * 10)
    }

    /// What the list costs, in runs for which there is room.
    fn capacity(list: &UnsettledList) -> usize {
        list.chunks.iter().map(VecDeque::capacity).sum()
    }

    fn runs(list: &UnsettledList) -> usize {
        list.chunks.iter().map(VecDeque::len).sum()
    }

    fn tags(list: &mut UnsettledList) -> Vec<u64> {
        let mut all = Vec::new();
        list.take_all(|entry| all.push(entry.tag.0));
        all
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
        assert_eq!((list.len(), runs(&list)), (0, 0));
    }

    #[test]
    fn multiple_needs_its_own_tag_to_be_there() {
        for step in [1, 10] {
            let mut list = UnsettledList::default();
            (1..=3).for_each(|tag| list.push(entry_of(1, tag, tag * step)));
            list.take(DeliveryTag(2)).unwrap();
            assert!(!list.take_through(DeliveryTag(2), |_| panic!("nothing is taken")));
            let mut taken = Vec::new();
            assert!(list.take_through(DeliveryTag(3), |entry| taken.push(entry.tag.0)));
            assert_eq!(taken, [1, 3]);
        }
    }

    #[test]
    fn what_is_put_back_stands_in_the_order_of_delivery() {
        let mut list = UnsettledList::default();
        (1..=5).for_each(|tag| list.push(entry(tag)));
        let four = list.take(DeliveryTag(4)).unwrap();
        let two = list.take(DeliveryTag(2)).unwrap();
        list.put_back([four, two].into_iter());
        assert_eq!(tags(&mut list), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_put_back_joins_its_run_again() {
        let mut list = UnsettledList::default();
        (1..=1000).for_each(|tag| list.push(entry_of(1, tag, tag)));
        let taken: Vec<Entry> = (1..=1000)
            .filter(|tag| tag % 3 != 0)
            .map(|tag| list.take(DeliveryTag(tag)).unwrap())
            .collect();
        assert_eq!(runs(&list), 333);
        list.put_back(taken.into_iter().rev());
        assert_eq!((list.len(), runs(&list)), (1000, 1));
        assert_eq!(tags(&mut list), (1..=1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_million_deliveries_in_order_are_one_run() {
        let mut list = UnsettledList::default();
        (1..=1_000_000).for_each(|tag| list.push(entry_of(1, tag, 7 + tag)));
        assert_eq!((list.len(), runs(&list)), (1_000_000, 1));
        assert!(capacity(&list) <= KEPT_RUNS_MAX);
        let mut closed = UnsettledList::default();
        (1..=1_000_000).for_each(|tag| closed.push(entry_of(1, tag, 7 + tag)));
        let handed_over = closed.take_runs();
        assert_eq!((handed_over.len(), closed.len()), (1_000_000, 0));
        assert!(
            handed_over.heap_bytes() <= 256,
            "{}",
            handed_over.heap_bytes()
        );
        assert_eq!(
            list.take(DeliveryTag(500_000)),
            Some(entry_of(1, 500_000, 500_007))
        );
        assert_eq!((list.len(), runs(&list)), (999_999, 2));
        let mut taken = 0;
        assert!(list.take_through(DeliveryTag(1_000_000), |_| taken += 1));
        assert_eq!((taken, list.len(), runs(&list)), (999_999, 0, 0));
    }

    #[test]
    fn only_what_follows_extends_a_run() {
        let first = entry_of(1, 5, 5);
        let other_consumer = |consumer| {
            let mut other = entry_of(1, 6, 6);
            other.delivery.consumer = consumer;
            other
        };
        for (next, expected) in [
            (entry_of(1, 6, 6), 1),
            (entry_of(1, 7, 6), 2),
            (entry_of(1, 6, 7), 2),
            (entry_of(1, 6, 5), 2),
            (entry_of(2, 6, 6), 2),
            (other_consumer(Some(ConsumerId(4))), 2),
            (other_consumer(None), 2),
        ] {
            let mut list = UnsettledList::default();
            list.push(first);
            list.push(next);
            assert_eq!(runs(&list), expected, "{next:?}");
            let mut all = Vec::new();
            list.take_all(|entry| all.push(entry));
            assert_eq!(all, [first, next]);
        }
    }

    /// Every second delivery settled in a scattered order is the worst that a client can do with one run.
    #[test]
    fn holes_all_over_a_run_cost_little_and_their_room_is_given_back() {
        const COUNT: u64 = 100_000;
        let mut list = UnsettledList::default();
        (0..COUNT).for_each(|tag| list.push(entry_of(1, tag, tag)));
        let scattered = |parity: u64| {
            (0..COUNT / 2).map(move |i| DeliveryTag((i * 7919 % (COUNT / 2)) * 2 + parity))
        };
        for tag in scattered(1) {
            assert_eq!(list.take(tag).unwrap().tag, tag);
        }
        assert_eq!(runs(&list), list.len());
        assert!(capacity(&list) <= 3 * list.len());
        for tag in scattered(0).take(COUNT as usize / 2 - 1000) {
            list.take(tag).unwrap();
        }
        assert_eq!((list.len(), runs(&list)), (1000, 1000));
        assert!(capacity(&list) <= 10 * list.len());
        for tag in scattered(0).skip(COUNT as usize / 2 - 1000) {
            list.take(tag).unwrap();
        }
        assert_eq!(list.len(), 0);
        assert!(capacity(&list) <= RUNS_PER_CHUNK_MAX);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        /// Tags that are left out before the entry, positions that are left out, queue.
        Push(u64, u64, u64),
        Take(u64),
        TakeThrough(u64),
        TakeAll,
        /// Takes a delivery out of every so many and puts them back.
        PutBack(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let mostly_none = || prop_oneof![6 => Just(0_u64), 1 => 1..4_u64];
        prop_oneof![
            12 => (mostly_none(), mostly_none(), mostly_none())
                .prop_map(|(tags, positions, queue)| Operation::Push(tags, positions, queue)),
            6 => any::<u64>().prop_map(Operation::Take),
            1 => any::<u64>().prop_map(Operation::TakeThrough),
            1 => (1..5_u64).prop_map(Operation::PutBack),
            1 => Just(Operation::TakeAll),
        ]
    }

    fn check_against_a_map(operations: Vec<Operation>) -> Result<(), TestCaseError> {
        let mut list = UnsettledList::default();
        let mut model = BTreeMap::new();
        let mut last = 0;
        let mut positions = [0_u64; 4];
        for operation in operations {
            match operation {
                Operation::Push(tags, skipped, queue) => {
                    last += tags + 1;
                    let position = &mut positions[queue as usize];
                    *position += skipped + 1;
                    let entry = entry_of(queue, last, *position);
                    list.push(entry);
                    model.insert(last, entry);
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
                Operation::PutBack(every) => {
                    let tags = model.keys().step_by(every as usize);
                    let taken: Vec<_> = tags.filter_map(|t| list.take(DeliveryTag(*t))).collect();
                    prop_assert_eq!(taken.len(), model.len().div_ceil(every as usize));
                    list.put_back(taken.into_iter().rev());
                }
            }
            prop_assert_eq!(list.len(), model.len());
            let is_only = list.chunks.len() == 1;
            prop_assert!(list.chunks.iter().all(|chunk| is_only || !chunk.is_empty()));
        }
        let mut rest = Vec::new();
        list.take_all(|e| rest.push(e));
        prop_assert_eq!(rest, model.into_values().collect::<Vec<_>>());
        Ok(())
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(operations in prop::collection::vec(operation(), 0..400)) {
            check_against_a_map(operations)?;
        }

        /// Enough runs first that the list has several chunks.
        #[test]
        fn behaves_as_a_map_in_several_chunks(
            first in prop::collection::vec((0..2_u64, 0..2_u64, 0..4_u64), 900..1100),
            settled in prop::collection::vec(any::<u64>(), 0..900),
            operations in prop::collection::vec(operation(), 0..50),
        ) {
            let pushes = first.into_iter().map(|(t, p, q)| Operation::Push(t, p, q));
            let takes = settled.into_iter().map(Operation::Take);
            check_against_a_map(pushes.chain(takes).chain(operations).collect())?;
        }
    }
}
