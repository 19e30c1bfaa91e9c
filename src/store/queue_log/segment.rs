//! A segment as the log knows it: what is settled in it, and its sizes.
//!
//! In: places in the lane that are settled, or that were moved here. Out: what is live, and information for plans and rows.
//! The file itself is not known here.

use std::collections::BTreeMap;
use std::mem;

use super::settled_set::SettledSet;
use super::types::{JournalEntry, SegmentId, SegmentInfo, Span};
use crate::model::{Position, QueueId};

/// Places of a lane from the first to the one behind the last.
pub(super) type Range = (u64, u64);

/// Positions that a segment may span, from its first to its last: what bounds the memory of its settled set (128 KiB) and
/// the size of its row.
pub const SPAN_MAX: u64 = 1 << 20;

/// Whether a segment that begins with `first` may also have `next`.
#[must_use]
pub fn fits_one_segment(first: Position, next: Position) -> bool {
    next.lane() == first.lane() && next.0 >= first.0 && next.0 - first.0 < SPAN_MAX
}

/// Whose a segment is, which it need not know itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) queue: QueueId,
    pub(super) lane: u8,
    pub(super) is_transient: bool,
}

/// One segment; everything in its span that it does not have counts as settled.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) version: u32,
    /// The first place in the lane.
    pub(super) first: u64,
    pub(super) settled: SettledSet,
    pub(super) messages: u32,
    pub(super) bytes: u64,
    pub(super) live_body_bytes: u64,
    pub(super) is_sealed: bool,
    pub(super) may_expire: bool,
    /// Its row, if it has one, is out of date.
    pub(super) is_changed: bool,
    /// The catalogue may have a row of it.
    pub(super) has_row: bool,
    /// Places in the lane and numbers of the files that have their bodies, live ones only.
    pub(super) blobs: BTreeMap<u64, u64>,
}

impl Segment {
    pub(super) fn new(id: SegmentId, first: u64) -> Self {
        Self {
            number: id.number,
            version: id.version,
            first,
            settled: SettledSet::default(),
            messages: 0,
            bytes: 0,
            live_body_bytes: 0,
            is_sealed: false,
            may_expire: false,
            is_changed: true,
            has_row: false,
            blobs: BTreeMap::new(),
        }
    }

    pub(super) fn id(&self, owner: Owner) -> SegmentId {
        SegmentId {
            queue: owner.queue,
            lane: owner.lane,
            number: self.number,
            version: self.version,
            is_transient: owner.is_transient,
        }
    }

    /// The place behind its last.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.settled.span())
    }

    pub(super) fn live(&self) -> u32 {
        self.settled.live()
    }

    pub(super) fn info(&self, owner: Owner) -> SegmentInfo {
        SegmentInfo {
            id: self.id(owner),
            first: Position::new(owner.lane, self.first),
            last: Position::new(owner.lane, self.end() - 1),
            messages: self.messages,
            live_messages: self.live(),
            live_body_bytes: self.live_body_bytes,
            bytes: self.bytes,
            is_sealed: self.is_sealed,
            may_expire: self.may_expire,
        }
    }

    /// What is live in it.
    pub(super) fn live_spans(&self, lane: u8) -> Vec<Span> {
        let span = |(start, end)| Span {
            first: Position::new(lane, self.first + u64::from(start)),
            last: Position::new(lane, self.first + u64::from(end) - 1),
        };
        self.settled.live_stretches().map(span).collect()
    }

    /// About what a live message takes to be read: its part of the file, or the size of its body if that lies elsewhere.
    pub(super) fn message_bytes(&self) -> u64 {
        let in_file = self.bytes / u64::from(self.messages.max(1));
        let bodies = self.live_body_bytes / u64::from(self.live().max(1));
        in_file.max(bodies).max(1)
    }

    /// The offsets of those of `range` that lie in the segment.
    pub(super) fn stretch_of(&self, range: Range) -> (u32, u32) {
        let offset = |place: u64| place.clamp(self.first, self.end()) - self.first;
        (offset(range.0) as u32, offset(range.1) as u32)
    }

    pub(super) fn is_live(&self, place: u64) -> bool {
        place >= self.first
            && place < self.end()
            && self.settled.is_live((place - self.first) as u32)
    }

    /// How many places of a range are live.
    pub(super) fn live_in(&self, range: Range) -> u64 {
        let (mut from, end) = self.stretch_of(range);
        let mut live = 0;
        while let Some(stretch) = self
            .settled
            .next_live(from)
            .filter(|stretch| stretch.0 < end)
        {
            live += u64::from(stretch.1.min(end) - stretch.0);
            from = stretch.1;
        }
        live
    }

    /// Settles a place; false if it is not live here.
    pub(super) fn settle(&mut self, place: u64, body_bytes: u32, freed: &mut Vec<u64>) -> bool {
        if !self.is_live(place) {
            return false;
        }
        self.settled.settle((place - self.first) as u32);
        self.live_body_bytes = self.live_body_bytes.saturating_sub(body_bytes.into());
        self.is_changed = true;
        freed.extend(self.blobs.remove(&place));
        true
    }

    /// Settles the places of a range that are live, and says how many were.
    pub(super) fn settle_range(&mut self, range: Range) -> u32 {
        let settled = self.settled.settle_stretch(self.stretch_of(range));
        self.is_changed |= settled > 0;
        settled
    }

    /// Leaves only what is in one of `ranges`, ascending.
    pub(super) fn keep_only(&mut self, ranges: &[Range]) {
        let (start, end) = (self.first, self.end());
        let begins = ranges.partition_point(|range| range.1 <= start);
        let kept = ranges[begins..]
            .iter()
            .take_while(|range| range.0 < end)
            .map(|range| {
                let from = range.0.max(start) - start;
                let to = range.1.min(end) - start;
                (from as u32, to as u32)
            });
        self.settled.keep_only(kept);
        self.is_changed = true;
    }

    /// Appends a message that was moved here; `is_live` if it is not settled by now.
    pub(super) fn append(&mut self, entry: &JournalEntry, is_live: bool) {
        let offset = (entry.position.sequence() - self.first) as u32;
        let before = self.settled.span();
        self.settled.extend_to(offset + 1);
        self.settled.settle_stretch((before, offset));
        self.messages += 1;
        self.is_changed = true;
        if !is_live {
            self.settled.settle(offset);
            return;
        }
        self.may_expire |= entry.may_expire;
        self.live_body_bytes += u64::from(entry.body_bytes);
        if entry.has_blob {
            self.blobs.insert(entry.position.sequence(), entry.lsn.0);
        }
    }

    /// Takes the numbers of body files out whose messages are not live any more.
    pub(super) fn free_blobs(&mut self, freed: &mut Vec<u64>) {
        let mut blobs = mem::take(&mut self.blobs);
        blobs.retain(|place, blob| {
            let is_live = self.is_live(*place);
            if !is_live {
                freed.push(*blob);
            }
            is_live
        });
        self.blobs = blobs;
    }
}
