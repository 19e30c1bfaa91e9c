//! What a checkpoint asks and tells.
//!
//! In: which part of the journal is old; what was moved, compacted, removed. Out: what is live there, segments that are worth
//! compacting, rows. How messages are copied, and when rows reach the disk, is not known here. One thread makes checkpoints, so between two of these calls the segments of a queue change only by settlements.

use super::rows;
use super::segment::{Segment, fits_one_segment};
use super::types::{Compacted, Compaction, JournalEntry, Moved, QueueRows, SegmentId, SegmentInfo};
use super::{DeadStep, QueueLog};
use crate::model::Position;
use crate::store::journal::Lsn;

/// A segment is worth compacting when less than this part of it is live, in percent.
const COMPACT_BELOW_PERCENT: u64 = 30;

/// A smaller file is not compacted: the disk would hardly notice.
const COMPACT_BYTES_MIN: u64 = 64 * 1024;

impl QueueLog {
    /// Live messages whose records begin in the journal from `start` to before `end`, lane by lane and ascending, at most
    /// `entries_max`. After they were moved the next call gives the next ones. Gives memory back that is not needed.
    pub fn live_between(&mut self, start: Lsn, end: Lsn, entries_max: usize) -> Vec<JournalEntry> {
        let mut found = Vec::new();
        for lane in &mut self.lanes {
            lane.entries.release();
            let entries = lane.entries.starting_at_lsn(lane.lane, start);
            let entries = entries.take_while(|entry| entry.lsn < end);
            let wanted = entries_max - found.len();
            found.reserve(wanted.min(lane.entries.len()));
            found.extend(entries.take(wanted));
        }
        found
    }

    /// The segment to which the message `next` may be appended: the last of its lane and kind, unless that is sealed or `next`
    /// is too far from its first.
    pub fn tail_segment(
        &self,
        lane: u8,
        is_transient: bool,
        next: Position,
    ) -> Option<SegmentInfo> {
        let tail = self.lane(lane)?.series(is_transient).next_back()?;
        let first = Position::new(lane, tail.first);
        let is_open =
            !tail.is_sealed && next.sequence() >= tail.end() && fits_one_segment(first, next);
        is_open.then(|| tail.info(self.owner(lane, is_transient)))
    }

    /// The name of a new segment, another with each call.
    pub fn next_segment(&mut self, lane: u8, is_transient: bool) -> SegmentId {
        let queue = self.id;
        let segments = self.lane_or_new(lane).segments.get_or_insert_default();
        let number = segments.next_number;
        segments.next_number = number.saturating_add(1);
        SegmentId {
            queue,
            lane,
            number,
            version: 0,
            is_transient,
        }
    }

    /// What is known of a segment; nothing if it is dead.
    pub fn segment(&self, id: SegmentId) -> Option<SegmentInfo> {
        let segments = self.lane(id.lane)?.segments.as_deref()?;
        let segment = segments
            .series(id.is_transient)
            .find(id.number, id.version)?;
        Some(segment.info(self.owner(id.lane, id.is_transient)))
    }

    /// Messages lie in a segment now, and no longer in the journal; those that were settled meanwhile count as settled there.
    /// False if the batch cannot be, and nothing has changed: messages of another lane or kind, not ascending, not behind
    /// what the lane's segments of the kind have, or too far from the segment's first.
    pub fn moved(&mut self, batch: Moved) -> bool {
        let (id, queue) = (batch.segment, self.id);
        let Some(lane) = self.lane_mut(id.lane) else {
            return false;
        };
        let segments = lane.segments.get_or_insert_default();
        let series = segments.series(id.is_transient);
        let known = series.find(id.number, id.version);
        let begin = series.last().map_or(0, Segment::end);
        let first = known.map(|segment| Position::new(id.lane, segment.first));
        let first = first.or(batch.entries.first().map(|entry| entry.position));
        let is_last = known.is_none_or(|segment| segment.end() == begin);
        let mut end = begin;
        let is_possible = id.queue == queue
            && (is_last || batch.entries.is_empty())
            && batch.entries.iter().all(|entry| {
                let place = entry.position.sequence();
                let is_behind = place >= end;
                end = place + 1;
                is_behind
                    && entry.is_transient == id.is_transient
                    && first.is_some_and(|first| fits_one_segment(first, entry.position))
            });
        let (true, Some(first)) = (is_possible, first) else {
            return false;
        };
        if known.is_none() {
            let mut segment = Segment::new(id, first.sequence());
            // Its file may have been known before, if everything in it was settled since it was asked for.
            segment.has_row = self.revive(id);
            let Some(lane) = self.lane_mut(id.lane) else {
                return false;
            };
            let segments = lane.segments.get_or_insert_default();
            segments.series_mut(id.is_transient).push(segment);
        }
        self.append_moved(&batch);
        true
    }

    fn append_moved(&mut self, batch: &Moved) {
        let id = batch.segment;
        let Some(lane) = self.lane_mut(id.lane) else {
            return;
        };
        let Some(segments) = lane.segments.as_deref_mut() else {
            return;
        };
        let series = segments.series_mut(id.is_transient);
        let Some(segment) = series.find_mut(id.number, id.version) else {
            return;
        };
        let mut body_bytes = 0;
        for entry in &batch.entries {
            let taken = lane.entries.take(id.lane, entry.position.sequence());
            body_bytes += taken.map_or(0, |entry| u64::from(entry.body_bytes));
            segment.append(entry, taken.is_some());
        }
        segment.bytes = batch.bytes;
        segment.is_sealed = batch.is_sealed;
        segment.is_changed = true;
        let is_dead = segment.live() == 0;
        let dead = match is_dead {
            true => series.remove(id.number, id.version),
            false => None,
        };
        segments.next_number = segments.next_number.max(id.number.saturating_add(1));
        if !id.is_transient {
            segments.body_bytes += body_bytes;
            segments.take_body_bytes(0);
            if let Some(last) = batch.entries.last() {
                segments.moved_through = segments.moved_through.max(last.position.sequence());
            }
            self.mark_dirty();
        }
        self.bury(id.lane, id.is_transient, dead);
    }

    /// Segments of which little is live, at most `segments_max`, the most wasteful first. One that may grow still is among them, and
    /// goes on growing afterwards: else a queue with little traffic and one old message would keep all of it.
    pub fn compaction_candidates(&self, segments_max: usize) -> Vec<Compaction> {
        let mut candidates = Vec::new();
        for lane in &self.lanes {
            for is_transient in [false, true] {
                for segment in lane.series(is_transient) {
                    let messages = u64::from(segment.messages.max(segment.live()));
                    let settled = messages - u64::from(segment.live());
                    let is_worth_it = segment.bytes >= COMPACT_BYTES_MIN
                        && settled * 100 > messages * (100 - COMPACT_BELOW_PERCENT);
                    if is_worth_it {
                        let wasted = segment.bytes / messages * settled;
                        candidates.push((wasted, lane.lane, is_transient, segment));
                    }
                }
            }
        }
        candidates.sort_by_key(|(wasted, ..)| std::cmp::Reverse(*wasted));
        candidates.truncate(segments_max);
        let compaction = |(_, lane, is_transient, segment): (u64, u8, bool, &Segment)| Compaction {
            segment: segment.info(self.owner(lane, is_transient)),
            live: segment.live_spans(lane),
        };
        candidates.into_iter().map(compaction).collect()
    }

    /// A segment was written again. False if it is dead by now: then the new file is to be removed. Else the old file comes out
    /// of [`QueueLog::take_rows`] as dead.
    pub fn compacted(&mut self, done: Compacted) -> bool {
        let old = done.old;
        let segments = self
            .lane_mut(old.lane)
            .and_then(|lane| lane.segments.as_deref_mut());
        let Some(segments) = segments else {
            return false;
        };
        let series = segments.series_mut(old.is_transient);
        let Some(segment) = series.find_mut(old.number, old.version) else {
            return false;
        };
        segment.version = done.version;
        segment.bytes = done.bytes;
        segment.messages = done.messages;
        segment.is_changed = true;
        let had_row = std::mem::take(&mut segment.has_row);
        self.add_dead(old, had_row);
        true
    }

    /// What has to be written to the catalogue since the last call. `as_of` is where the journal ends at this moment, under the
    /// queue's lock; the journal must be synced up to there before the rows are on the disk.
    pub fn take_rows(&mut self, as_of: Lsn) -> QueueRows {
        self.is_dirty = false;
        let mut taken = QueueRows::default();
        let queue = self.id;
        for lane in &mut self.lanes {
            let (number, counts) = (lane.lane, &lane.counts);
            let Some(segments) = lane.segments.as_deref_mut() else {
                continue;
            };
            for segment in segments
                .persistent
                .iter_mut()
                .filter(|segment| segment.is_changed)
            {
                let id = SegmentId {
                    queue,
                    lane: number,
                    number: segment.number,
                    version: segment.version,
                    is_transient: false,
                };
                let value = rows::segment_value(segment, counts);
                taken.puts.push((rows::segment_key(id), value));
                segment.is_changed = false;
                segment.has_row = true;
            }
        }
        self.take_rows_of_dead(&mut taken);
        let has_changes = !taken.puts.is_empty() || !taken.deletes.is_empty();
        if has_changes || self.is_row_changed && (self.has_row || !self.is_empty()) {
            self.as_of = as_of;
            self.has_row = true;
            self.is_row_changed = false;
            let value = rows::queue_value(as_of, &self.lanes);
            taken.puts.push((rows::queue_key(self.id), value));
        }
        taken
    }

    fn take_rows_of_dead(&mut self, taken: &mut QueueRows) {
        let Some(fallout) = &mut self.fallout else {
            return;
        };
        fallout.dead.retain_mut(|dead| match dead.step {
            DeadStep::New => {
                if dead.has_row {
                    taken
                        .puts
                        .push((rows::segment_key(dead.id), rows::dead_value()));
                }
                taken.dead.push(dead.id);
                dead.step = DeadStep::Told;
                true
            }
            DeadStep::Told => true,
            DeadStep::Removed => {
                taken.deletes.push(rows::segment_key(dead.id));
                dead.step = DeadStep::Deleted;
                true
            }
            DeadStep::Deleted => false,
        });
        if fallout.dead.is_empty() && fallout.blobs.is_empty() {
            self.fallout = None;
        }
    }

    /// The rows that were taken last did not reach the disk: the next call of [`QueueLog::take_rows`] gives them again.
    pub fn rows_not_written(&mut self) {
        for lane in &mut self.lanes {
            if let Some(segments) = lane.segments.as_deref_mut() {
                for segment in segments.persistent.iter_mut() {
                    segment.is_changed = true;
                }
            }
        }
        for dead in self
            .fallout
            .iter_mut()
            .flat_map(|fallout| &mut fallout.dead)
        {
            dead.step = match dead.step {
                DeadStep::New | DeadStep::Told => DeadStep::New,
                DeadStep::Removed | DeadStep::Deleted => DeadStep::Removed,
            };
        }
        self.is_row_changed = true;
        self.mark_dirty();
    }

    /// The file of a dead segment is gone, for good. Its row is deleted by the next rows.
    pub fn segment_removed(&mut self, id: SegmentId) {
        let Some(fallout) = &mut self.fallout else {
            return;
        };
        let mut has_row = false;
        fallout.dead.retain_mut(|dead| {
            if dead.id != id || dead.step != DeadStep::Told {
                return true;
            }
            dead.step = DeadStep::Removed;
            has_row |= dead.has_row;
            dead.has_row
        });
        if fallout.dead.is_empty() && fallout.blobs.is_empty() {
            self.fallout = None;
        }
        if has_row {
            self.mark_dirty();
        }
    }

    /// Forgets that a segment is dead; says whether it has a row.
    fn revive(&mut self, id: SegmentId) -> bool {
        let Some(fallout) = &mut self.fallout else {
            return false;
        };
        let mut has_row = false;
        fallout.dead.retain(|dead| {
            let is_it = dead.id == id;
            has_row |= is_it && dead.has_row;
            !is_it
        });
        has_row
    }
}
