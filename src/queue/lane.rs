//! The messages that wait at one priority level, in the order of arrival.
//!
//! In: entries at the tail, entries that come back, blocks that were loaded. Out: the head, in memory or not yet, and
//! the range to load next. Sums are kept in `Totals`. It knows no consumer, no limit and no clock.
//!
//! The order is: `returned` by position, then `head`, then `tail`. Whatever was handed out came from the front of `head`, so every returned
//! position is lower than every one in `head`; while there is a tail, new messages extend it.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Deadline, Entry, Item, Stub};
use super::loading::{LoadedBlock, LoadedMessage, Recollection};
use super::range::{
    Brought, ColdRange, ColdTail, Head, LOAD_SPAN_MAX, ROOM_KEPT, Slot, Span, Totals, fill, reach,
};
use crate::model::Position;

/// The messages of one level.
#[derive(Debug)]
pub struct Lane {
    /// The level.
    pub level: u8,
    returned: BTreeMap<Position, Slot>,
    head: VecDeque<Entry>,
    /// Bytes of memory that `head` takes.
    head_bytes: u64,
    tail: Option<ColdTail>,
    loading: Option<Span>,
    /// Messages that were offered, will be cold, and have not entered yet.
    pub offered_cold: u32,
}

impl Lane {
    /// An empty lane.
    pub fn new(level: u8) -> Self {
        Self {
            level,
            returned: BTreeMap::new(),
            head: VecDeque::new(),
            head_bytes: 0,
            tail: None,
            loading: None,
            offered_cold: 0,
        }
    }

    /// Whether a new message must not be kept in memory, because earlier ones are not.
    pub fn has_tail(&self) -> bool {
        self.tail.is_some()
    }

    /// The next message.
    pub fn peek(&self) -> Option<Head<'_>> {
        if let Some((_, slot)) = self.returned.first_key_value() {
            return Some(slot.head());
        }
        if let Some(entry) = self.head.front() {
            return Some(Head::Hot(entry));
        }
        self.tail.as_ref().map(|tail| Head::Cold {
            may_expire: tail.may_expire,
        })
    }

    /// Takes the next message, if it is in memory.
    pub fn pop(&mut self, totals: &mut Totals) -> Option<Entry> {
        if let Some(first) = self.returned.first_entry() {
            if matches!(first.get(), Slot::Cold(_)) {
                return None;
            }
            let Slot::Hot(entry) = first.remove() else {
                return None;
            };
            totals.count_out(&entry);
            return Some(entry);
        }
        let entry = self.head.pop_front()?;
        let room = self.head.capacity();
        if room > ROOM_KEPT && self.head.len() < room / 8 {
            self.head.shrink_to(room / 4);
        }
        self.head_bytes -= entry.cost_bytes();
        totals.count_out(&entry);
        Some(entry)
    }

    /// A new message, in memory.
    pub fn push(&mut self, entry: Entry, totals: &mut Totals) {
        totals.count_in(&entry);
        self.head_bytes += entry.cost_bytes();
        self.head.push_back(entry);
    }

    /// A new message that only the log keeps.
    pub fn push_cold(&mut self, stub: &Stub, totals: &mut Totals) {
        let body_bytes = u64::from(stub.body_bytes);
        let may_expire = stub.marks.may_expire();
        totals.cold_in(1, body_bytes, may_expire);
        let tail = self.tail.get_or_insert(ColdTail {
            first: stub.position,
            last: stub.position,
            messages: 0,
            body_bytes: 0,
            may_expire: false,
        });
        tail.last = stub.position;
        tail.messages += 1;
        tail.body_bytes += body_bytes;
        tail.may_expire |= may_expire;
    }

    /// The tail that recovery found in an empty lane.
    pub fn recover(&mut self, tail: ColdTail, totals: &mut Totals) {
        totals.cold_in(tail.messages, tail.body_bytes, tail.may_expire);
        self.tail = Some(tail);
    }

    /// A message comes back to its place.
    pub fn restore(&mut self, item: Item, totals: &mut Totals) {
        match item {
            Item::Hot(entry) => {
                totals.count_in(&entry);
                self.returned.insert(entry.position, Slot::Hot(entry));
            }
            Item::Cold(stub) => {
                let may_expire = stub.marks.may_expire();
                totals.cold_in(1, u64::from(stub.body_bytes), may_expire);
                self.insert_cold(&stub);
            }
        }
    }

    /// Puts a returned message that only the log has beside its neighbours, so that many returns cost few ranges.
    fn insert_cold(&mut self, stub: &Stub) {
        let position = stub.position;
        let mut first = position;
        let mut range = ColdRange::of(stub);
        let before = self.returned.range_mut(..position).next_back();
        if let Some((key, Slot::Cold(before))) = before
            && before.try_extend(position, &range)
        {
            first = *key;
            range = *before;
        }
        let next = range.last.next();
        // A range that is being loaded keeps its first position: the block is known by that.
        if self.loading.is_none_or(|span| span.first != next)
            && let Some(Slot::Cold(after)) = self.returned.get(&next)
            && range.try_extend(next, after)
        {
            self.returned.remove(&next);
        }
        self.returned.insert(first, Slot::Cold(range));
    }

    /// Asks for the next message, if it is not in memory and not asked for yet.
    pub fn load_head(&mut self) -> Option<Span> {
        if self.loading.is_some() || !matches!(self.peek(), Some(Head::Cold { .. })) {
            return None;
        }
        let span = match self.returned.first_key_value() {
            Some((first, Slot::Cold(range))) => self.reach(*first, range.last),
            _ => self.tail_span()?,
        };
        self.loading = Some(span);
        self.loading
    }

    /// Asks for messages that will be needed soon: the tail, when less than `bytes` of memory lie before it.
    pub fn load_ahead(&mut self, bytes: u64) -> Option<Span> {
        if self.loading.is_some() || !self.returned.is_empty() || self.head_bytes >= bytes {
            return None;
        }
        self.loading = self.tail_span();
        self.loading
    }

    fn tail_span(&self) -> Option<Span> {
        let tail = self.tail.as_ref()?;
        Some(Span {
            first: tail.first,
            last: tail.last,
        })
    }

    /// Returned ranges that lie near each other are loaded together, whatever is in memory between them.
    fn reach(&self, first: Position, last: Position) -> Span {
        let most = Position(first.0 + LOAD_SPAN_MAX).max(last.next());
        let behind = self.returned.range(last.next()..=most);
        let cold = behind.filter_map(|(key, slot)| match slot {
            Slot::Cold(range) => Some((*key, range.last)),
            Slot::Hot(_) => None,
        });
        reach(first, last, cold)
    }

    /// A block arrives. `None` if this lane did not ask for it.
    pub fn handle_loaded(
        &mut self,
        block: &mut LoadedBlock,
        recollection: &mut Recollection,
        totals: &mut Totals,
    ) -> Option<Brought> {
        let span = self
            .loading
            .take_if(|loading| loading.first == block.first)?;
        let through = block.through.min(span.last);
        if through < span.first {
            return Some(Brought::default());
        }
        if self
            .tail
            .as_ref()
            .is_some_and(|tail| tail.first == span.first)
        {
            let messages = std::mem::take(&mut block.messages);
            let damaged = block.damaged.len() as u64;
            return Some(self.extend_head(messages, through, damaged, recollection, totals));
        }
        let keys: Vec<Position> = self
            .returned
            .range(span.first..=through)
            .filter(|(_, slot)| matches!(slot, Slot::Cold(_)))
            .map(|(key, _)| *key)
            .collect();
        let mut keys = keys.into_iter();
        let (slots, lost) = fill(span, block, totals, |_, _| {
            let key = keys.next()?;
            match self.returned.remove(&key) {
                Some(Slot::Cold(range)) => Some((key, range)),
                _ => None,
            }
        });
        self.returned.extend(slots);
        Some(Brought { lost, surplus: 0 })
    }

    /// The front of the tail moves to the end of the head.
    fn extend_head(
        &mut self,
        messages: Vec<LoadedMessage>,
        through: Position,
        damaged: u64,
        recollection: &mut Recollection,
        totals: &mut Totals,
    ) -> Brought {
        let Some(mut tail) = self.tail.take() else {
            return Brought::default();
        };
        let mut wanted = tail.first;
        let mut found = 0;
        let mut found_bytes = 0;
        for loaded in messages {
            if loaded.position < wanted || loaded.position > through {
                continue;
            }
            wanted = loaded.position.next();
            let attempts = recollection.take(loaded.position);
            let entry = loaded.into_entry(attempts);
            found += 1;
            found_bytes += entry.body_bytes();
            self.push(entry, totals);
        }
        let surplus = u64::saturating_sub(found, tail.messages);
        let left = tail.messages.saturating_sub(found);
        let is_drained = through >= tail.last;
        let lost = if is_drained { left } else { damaged.min(left) };
        if is_drained || left == lost {
            totals.cold_out(tail.messages, tail.body_bytes);
        } else {
            let gone_bytes = found_bytes.min(tail.body_bytes);
            totals.cold_out(tail.messages - (left - lost), gone_bytes);
            tail.first = through.next();
            tail.messages = left - lost;
            tail.body_bytes -= gone_bytes;
            self.tail = Some(tail);
        }
        Brought { lost, surplus }
    }

    /// Leaves messages to the log, from the end of the head to the front and then returned ones, until no more than
    /// `keep_bytes` of memory are taken by all that waits. They go to `shed`.
    pub fn shed(
        &mut self,
        keep_bytes: u64,
        recollection: &mut Recollection,
        totals: &mut Totals,
        shed: &mut Vec<Entry>,
    ) {
        let tail_is_loading = self.tail_span().is_some_and(|tail| {
            self.loading
                .is_some_and(|loading| loading.first == tail.first)
        });
        while !tail_is_loading && totals.hot_bytes > keep_bytes {
            let is_last = self.head.len() == 1 && self.returned.is_empty();
            let may_go = |entry: &Entry| {
                // A head that may expire would be loaded again at once.
                entry.is_logged() && !(is_last && entry.deadline != Deadline::NEVER)
            };
            if !self.head.back().is_some_and(may_go) {
                break;
            }
            let Some(entry) = self.head.pop_back() else {
                break;
            };
            self.head_bytes -= entry.cost_bytes();
            totals.count_out(&entry);
            recollection.remember(entry.position, entry.attempts());
            self.push_cold_front(&entry.stub(), totals);
            shed.push(entry);
        }
        self.head
            .shrink_to(self.head.len().next_power_of_two().max(ROOM_KEPT));
        if totals.hot_bytes <= keep_bytes {
            return;
        }
        let logged: Vec<Position> = self
            .returned
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Hot(entry) if entry.is_logged()))
            .map(|(position, _)| *position)
            .collect();
        for position in logged.into_iter().rev() {
            if totals.hot_bytes <= keep_bytes {
                return;
            }
            if let Some(Slot::Hot(entry)) = self.returned.remove(&position) {
                totals.count_out(&entry);
                self.restore(Item::Cold(entry.stub()), totals);
                shed.push(entry);
            }
        }
    }

    fn push_cold_front(&mut self, stub: &Stub, totals: &mut Totals) {
        match self.tail {
            None => self.push_cold(stub, totals),
            Some(tail) => {
                self.push_cold(stub, totals);
                if let Some(extended) = &mut self.tail {
                    extended.first = stub.position;
                    extended.last = tail.last;
                }
            }
        }
    }

    /// Returned ranges that only the log has.
    #[cfg(test)]
    pub fn cold_ranges(&self) -> usize {
        self.returned
            .values()
            .filter(|slot| matches!(slot, Slot::Cold(_)))
            .count()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::queue::entry::Marks;

    fn stub(sequence: u64) -> Stub {
        Stub {
            position: Position(sequence),
            body_bytes: 1,
            acquired: 1,
            marks: Marks::new(true, false),
        }
    }

    fn returned(order: impl Iterator<Item = u64>) -> (Lane, Totals) {
        let mut lane = Lane::new(0);
        let mut totals = Totals::default();
        for sequence in order {
            lane.restore(Item::Cold(stub(sequence)), &mut totals);
        }
        (lane, totals)
    }

    #[test]
    fn many_returns_in_any_order_become_one_range() {
        const COUNT: u64 = 60_000;
        let ascending = returned(1..=COUNT);
        let descending = returned((1..=COUNT).rev());
        let scattered = returned((1..=COUNT).map(|at| at * 7919 % (COUNT + 1)));
        for (mut lane, totals) in [ascending, descending, scattered] {
            assert_eq!(lane.cold_ranges(), 1);
            assert_eq!(
                (totals.cold_messages, totals.cold_body_bytes),
                (COUNT, COUNT)
            );
            let span = lane.load_head().unwrap();
            assert_eq!((span.first.0, span.last.0), (1, COUNT));
        }
    }

    #[test]
    fn ranges_with_another_history_stay_apart() {
        let mut lane = Lane::new(0);
        let mut totals = Totals::default();
        for sequence in [1, 3] {
            lane.restore(Item::Cold(stub(sequence)), &mut totals);
        }
        let again = Stub {
            acquired: 2,
            ..stub(2)
        };
        lane.restore(Item::Cold(again), &mut totals);
        assert_eq!(lane.cold_ranges(), 3);
        let span = lane.load_head().unwrap();
        assert_eq!(
            (span.first.0, span.last.0),
            (1, 3),
            "loaded together all the same"
        );
        assert_eq!(lane.load_head(), None, "once");
    }

    #[test]
    fn a_range_that_is_being_loaded_keeps_its_first_position() {
        let (mut lane, mut totals) = returned(10..=20);
        lane.load_head().unwrap();
        for sequence in [9, 21] {
            lane.restore(Item::Cold(stub(sequence)), &mut totals);
        }
        assert_eq!(lane.cold_ranges(), 2);
        let mut block = LoadedBlock {
            first: Position(10),
            through: Position(20),
            messages: Vec::new(),
            damaged: Vec::new(),
        };
        let brought = lane.handle_loaded(&mut block, &mut Recollection::default(), &mut totals);
        assert_eq!(brought.unwrap().lost, 11);
        assert_eq!(totals.cold_messages, 2);
        let late = lane.handle_loaded(&mut block, &mut Recollection::default(), &mut totals);
        assert_eq!(late, None);
    }
}
