//! What the log keeps of one lane: entries of the journal, then segments, in two series.
//!
//! In: places in the lane. Out: where they lie, segments that have died. Queue, journal and catalogue are not known here.
//!
//! Persistent and transient messages (those written to save memory) have segments of their own, so that a restart drops
//! the latter by the file, and numbers in rows are of the former alone. In each series the segments do not overlap.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use super::entries::Entries;
use super::segment::{Range, Segment};

/// Times handed out and times in vain.
pub(super) type Counts = (u32, u32);

/// One lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) lane: u8,
    /// The least place that may be appended.
    pub(super) next: u64,
    pub(super) delivered_through: u64,
    pub(super) entries: Entries,
    /// Of live messages of which it was told.
    pub(super) counts: BTreeMap<u64, Counts>,
    /// Boxed as most queues never have any.
    pub(super) segments: Option<Box<Segments>>,
}

/// A message that was settled.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) body_bytes: u32,
    pub(super) is_transient: bool,
    pub(super) is_from_segment: bool,
    /// Its segment, if that has nothing live any more.
    pub(super) dead: Option<Segment>,
}

/// The segments of a lane, and what must be remembered once there was one.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) persistent: Series,
    pub(super) transient: Series,
    /// Up to here every persistent message is in a segment or settled.
    pub(super) moved_through: u64,
    /// Bytes of the bodies of live persistent messages in segments, exact.
    pub(super) body_bytes: u64,
    /// The next place as the catalogue has it, until recovery is done.
    pub(super) row_next: u64,
    /// The number that the next segment gets.
    pub(super) next_number: u32,
}

impl Segments {
    pub(super) fn series(&self, is_transient: bool) -> &Series {
        match is_transient {
            true => &self.transient,
            false => &self.persistent,
        }
    }

    pub(super) fn series_mut(&mut self, is_transient: bool) -> &mut Series {
        match is_transient {
            true => &mut self.transient,
            false => &mut self.persistent,
        }
    }

    /// Subtracts what was settled; the sum of nothing is nothing, whatever was estimated before.
    pub(super) fn take_body_bytes(&mut self, bytes: u64) {
        self.body_bytes = self.body_bytes.saturating_sub(bytes);
        if self.persistent.is_empty() {
            self.body_bytes = 0;
        }
    }
}

impl Lane {
    pub(super) fn new(lane: u8) -> Self {
        Self {
            lane,
            next: 1,
            ..Self::default()
        }
    }

    /// Notes that what is at or below a place may have been delivered; says whether that is news. At replay this follows from a
    /// settlement, because a lane is served in order. It also keeps the place from being given again.
    pub(super) fn was_delivered_through(&mut self, place: u64) -> bool {
        let is_news = place > self.delivered_through;
        self.delivered_through = self.delivered_through.max(place);
        is_news
    }

    /// Settles a place wherever it lies. `body_bytes` is believed where the log does not know better; without it the size is
    /// estimated. Files of bodies that are not needed any more are added to `blobs`.
    pub(super) fn settle(
        &mut self,
        place: u64,
        body_bytes: Option<u32>,
        blobs: &mut Vec<u64>,
    ) -> Option<Gone> {
        let gone = if let Some(entry) = self.entries.take(self.lane, place) {
            blobs.extend(entry.has_blob.then_some(entry.lsn.0));
            Gone {
                body_bytes: entry.body_bytes,
                is_transient: entry.is_transient,
                is_from_segment: false,
                dead: None,
            }
        } else {
            let segments = self.segments.as_deref_mut()?;
            let persistent = segments.persistent.settle(place, body_bytes, blobs);
            let is_transient = persistent.is_none();
            let (body_bytes, dead) = match persistent {
                Some(settled) => settled,
                None => segments.transient.settle(place, body_bytes, blobs)?,
            };
            if !is_transient {
                segments.take_body_bytes(body_bytes.into());
            }
            Gone {
                body_bytes,
                is_transient,
                is_from_segment: true,
                dead,
            }
        };
        self.forget_count(place);
        Some(gone)
    }

    fn forget_count(&mut self, place: u64) {
        self.forget_counts((place, place + 1));
    }

    /// Drops the counts of a range of places, which are settled.
    pub(super) fn forget_counts(&mut self, range: Range) {
        while let Some((place, _)) = self.counts.range(range.0..range.1).next() {
            let place = *place;
            self.counts.remove(&place);
        }
    }

    /// Leaves only the counts of live messages.
    pub(super) fn forget_counts_of_settled(&mut self) {
        let mut counts = mem::take(&mut self.counts);
        counts.retain(|place, _| self.is_live(*place));
        self.counts = counts;
    }

    pub(super) fn is_live(&self, place: u64) -> bool {
        let in_segment = |segments: &Segments| {
            segments.persistent.is_live(place) || segments.transient.is_live(place)
        };
        self.entries.get(self.lane, place).is_some()
            || self.segments.as_deref().is_some_and(in_segment)
    }

    /// The segments of a kind, empty if there never was one.
    pub(super) fn series(&self, is_transient: bool) -> impl DoubleEndedIterator<Item = &Segment> {
        let segments = self.segments.iter();
        segments.flat_map(move |segments| segments.series(is_transient).iter())
    }
}

/// Segments in order of position, each with something live.
#[derive(Debug, Default)]
pub(super) struct Series(VecDeque<Segment>);

impl Series {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        self.0.iter_mut()
    }

    pub(super) fn last(&self) -> Option<&Segment> {
        self.0.back()
    }

    pub(super) fn find(&self, number: u32, version: u32) -> Option<&Segment> {
        let at = self.index_of(number, version)?;
        self.0.get(at)
    }

    pub(super) fn find_mut(&mut self, number: u32, version: u32) -> Option<&mut Segment> {
        let at = self.index_of(number, version)?;
        self.0.get_mut(at)
    }

    /// Adds a segment behind all others; the caller has looked that it belongs there.
    pub(super) fn push(&mut self, segment: Segment) {
        self.make_room();
        self.0.push_back(segment);
    }

    /// Most queues have one segment, and of many thousand queues each pays for the room of more.
    fn make_room(&mut self) {
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
    }

    /// Puts a segment where it belongs; gives it back if its span meets another's.
    pub(super) fn insert(&mut self, segment: Segment) -> Result<(), Segment> {
        let at = self.0.partition_point(|other| other.end() <= segment.first);
        if let Some(next) = self.0.get(at)
            && next.first < segment.end()
        {
            return Err(segment);
        }
        self.make_room();
        self.0.insert(at, segment);
        Ok(())
    }

    pub(super) fn remove(&mut self, number: u32, version: u32) -> Option<Segment> {
        let at = self.index_of(number, version)?;
        self.0.remove(at)
    }

    pub(super) fn is_live(&self, place: u64) -> bool {
        let at = self.first_behind(place);
        self.0.get(at).is_some_and(|segment| segment.is_live(place))
    }

    /// The segment in which a place is live.
    pub(super) fn at_mut(&mut self, place: u64) -> Option<&mut Segment> {
        let at = self.first_behind(place);
        self.0.get_mut(at).filter(|segment| segment.is_live(place))
    }

    /// The first live places at or after `from` that lie together, and their segment.
    pub(super) fn next_live(&self, from: u64) -> Option<(&Segment, Range)> {
        self.0.range(self.first_behind(from)..).find_map(|segment| {
            let offset = segment.stretch_of((from, from)).0;
            let (start, end) = segment.settled.next_live(offset)?;
            let place = |offset: u32| segment.first + u64::from(offset);
            Some((segment, (place(start), place(end))))
        })
    }

    /// How many places of a range are live.
    pub(super) fn live_in(&self, range: Range) -> u64 {
        let segments = self.0.range(self.first_behind(range.0)..);
        let reached = segments.take_while(|segment| segment.first < range.1);
        reached.map(|segment| segment.live_in(range)).sum()
    }

    /// Settles one place. `body_bytes` is asked once its segment is found, and told to the caller if the place was live; so
    /// is the segment, if it is dead now.
    pub(super) fn settle(
        &mut self,
        place: u64,
        body_bytes: Option<u32>,
        freed: &mut Vec<u64>,
    ) -> Option<(u32, Option<Segment>)> {
        let at = self.first_behind(place);
        let segment = self.0.get_mut(at)?;
        let average = segment.live_body_bytes / u64::from(segment.live().max(1));
        let body_bytes = body_bytes.unwrap_or(average.min(u32::MAX.into()) as u32);
        if !segment.settle(place, body_bytes, freed) {
            return None;
        }
        let is_dead = segment.live() == 0;
        let dead = if is_dead { self.take(at) } else { None };
        Some((body_bytes, dead))
    }

    /// Settles all live places of a range, whose bodies have `body_bytes` together, and takes out the segments that are dead
    /// then.
    pub(super) fn settle_range(
        &mut self,
        range: Range,
        body_bytes: u64,
        freed: &mut Vec<u64>,
    ) -> Vec<Segment> {
        let begin = self.first_behind(range.0);
        let (mut bytes_left, mut partly, mut has_dead) = (body_bytes, Vec::new(), false);
        for (index, segment) in self.0.range_mut(begin..).enumerate() {
            if segment.first >= range.1 {
                break;
            }
            let settled = u64::from(segment.settle_range(range));
            if settled == 0 {
                continue;
            }
            segment.free_blobs(freed);
            if segment.live() == 0 {
                bytes_left = bytes_left.saturating_sub(segment.live_body_bytes);
                has_dead = true;
            } else {
                partly.push((begin + index, settled));
            }
        }
        let mut settled_left: u64 = partly.iter().map(|(_, settled)| settled).sum();
        for (at, settled) in partly {
            let share = share(bytes_left, settled, settled_left);
            let segment = &mut self.0[at];
            segment.live_body_bytes = segment.live_body_bytes.saturating_sub(share);
            (bytes_left, settled_left) = (bytes_left - share, settled_left - settled);
        }
        match has_dead {
            true => self.take_dead(),
            false => Vec::new(),
        }
    }

    /// Adds to the sums of segments what the live messages of a range have together.
    pub(super) fn add_body_bytes(&mut self, range: Range, body_bytes: u64) {
        let (mut bytes_left, mut live_left) = (body_bytes, self.live_in(range));
        let begin = self.first_behind(range.0);
        for segment in self.0.range_mut(begin..) {
            if live_left == 0 {
                break;
            }
            let live = segment.live_in(range);
            let share = share(bytes_left, live, live_left);
            segment.live_body_bytes += share;
            (bytes_left, live_left) = (bytes_left - share, live_left - live);
        }
    }

    /// The live places of a range.
    pub(super) fn live_places(&self, range: Range) -> impl Iterator<Item = u64> + '_ {
        let mut from = range.0;
        let ranges = std::iter::from_fn(move || {
            let (_, live) = self.next_live(from)?;
            from = live.1;
            (live.0 < range.1).then_some(live)
        });
        ranges.flat_map(move |live| live.0..live.1.min(range.1))
    }

    /// Takes out the segments in which nothing is live.
    pub(super) fn take_dead(&mut self) -> Vec<Segment> {
        let mut dead = Vec::new();
        if self.0.iter().all(|segment| segment.live() > 0) {
            return dead;
        }
        for segment in mem::take(&mut self.0) {
            if segment.live() > 0 {
                self.0.push_back(segment);
            } else {
                dead.push(segment);
            }
        }
        dead
    }

    /// Bytes of memory beside the struct itself, but for files of bodies.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let sets = self.0.iter().map(|segment| segment.settled.heap_bytes());
        sets.sum::<usize>() + self.0.capacity() * mem::size_of::<Segment>()
    }

    /// The index of the first segment that ends behind a place.
    fn first_behind(&self, place: u64) -> usize {
        match self.0.front() {
            Some(front) if front.end() > place => 0,
            _ => self.0.partition_point(|segment| segment.end() <= place),
        }
    }

    fn index_of(&self, number: u32, version: u32) -> Option<usize> {
        let is_it = |segment: &Segment| segment.number == number && segment.version == version;
        if self.0.back().is_some_and(is_it) {
            return Some(self.0.len() - 1);
        }
        self.0.iter().position(is_it)
    }

    fn take(&mut self, at: usize) -> Option<Segment> {
        let segment = self.0.remove(at);
        if self.0.len() <= self.0.capacity() / 4 {
            self.0.shrink_to(2 * self.0.len());
        }
        segment
    }
}

/// The part of `bytes` that `count` messages of `of` have, if all are alike. `count` is at most `of`.
pub(super) fn share(bytes: u64, count: u64, of: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(count) / u128::from(of.max(1));
    share.min(bytes.into()) as u64
}
