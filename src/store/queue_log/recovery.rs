//! A log from the rows of the catalogue and from what the journal replays.
//!
//! In: rows, in any order; then what is known of files; then records in the order of the journal. Out: the log, problems, and for
//! the queue's state what there is. A record may be one that the rows know already, or one of messages that nobody knows.

use std::sync::Arc;

use super::lane::{Segments, share};
use super::purge::{range_of, survivors_of};
use super::rows::{self, Key, SegmentRow};
use super::segment::{SPAN_MAX, Segment};
use super::types::{
    FoundSegment, JournalEntry, RecoveredLane, RecoveredLanes, RowProblem, SegmentId, SegmentInfo,
    Span,
};
use super::{DirtyQueues, QueueLog};
use crate::model::{Position, QueueId};
use crate::store::journal::Lsn;
use crate::store::record::Run;

impl QueueLog {
    /// The log of a queue from its rows: pairs of key and value, their checksums checked. What cannot be used is told.
    pub fn from_rows(
        id: QueueId,
        rows: &[(Vec<u8>, Vec<u8>)],
        dirty: Arc<DirtyQueues>,
    ) -> (Self, Vec<RowProblem>) {
        let mut log = Self::new(id, dirty);
        let mut problems = Vec::new();
        let mut has_lanes = false;
        for (key, value) in rows {
            let parsed = rows::parse_key(key);
            let result = match parsed {
                Some(Key::Segment(segment)) if segment.queue == id => {
                    log.add_segment_row(segment, value)
                }
                Some(Key::Queue(queue)) if queue == id => {
                    log.has_row = true;
                    let result = log.add_queue_row(value);
                    has_lanes |= result.is_ok();
                    result
                }
                _ => Err("a key that is not of this queue"),
            };
            if let Err(reason) = result {
                problems.push(RowProblem {
                    key: key.clone(),
                    reason,
                    segment: match parsed {
                        Some(Key::Segment(segment)) => Some(segment),
                        _ => None,
                    },
                });
            }
        }
        for lane in &mut log.lanes {
            let Some(segments) = lane.segments.as_deref_mut() else {
                continue;
            };
            segments.count_in(has_lanes);
            lane.next = lane.next.max(segments.moved_through + 1);
        }
        (log, problems)
    }

    fn add_segment_row(&mut self, id: SegmentId, value: &[u8]) -> Result<(), &'static str> {
        let row = rows::parse_segment(id, value).ok_or("content that makes no sense")?;
        let lane = self.lane_or_new(id.lane);
        let segments = lane.segments.get_or_insert_default();
        segments.next_number = segments.next_number.max(id.number.saturating_add(1));
        match row {
            SegmentRow::Dead => self.add_dead(id, true),
            SegmentRow::Live(segment, _) if segment.live() == 0 => self.add_dead(id, true),
            SegmentRow::Live(segment, counts) => {
                if segments.persistent.insert(segment).is_err() {
                    return Err("its positions are those of another segment");
                }
                lane.counts.extend(counts);
            }
        }
        Ok(())
    }

    fn add_queue_row(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let (as_of, lanes) = rows::parse_queue(value).ok_or("content that makes no sense")?;
        self.as_of = as_of;
        for row in lanes {
            let lane = self.lane_or_new(row.lane);
            lane.delivered_through = row.delivered_through;
            let segments = lane.segments.get_or_insert_default();
            segments.moved_through = row.moved_through;
            segments.body_bytes = row.body_bytes;
            segments.row_next = row.next;
            segments.next_number = segments.next_number.max(row.next_number);
        }
        Ok(())
    }

    /// The end of the journal when the rows were taken. If the journal ends earlier, a part of it is missing.
    pub fn as_of(&self) -> Lsn {
        self.as_of
    }

    /// The segments with something live, lane by lane, persistent ones first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let mut infos = Vec::new();
        for lane in &self.lanes {
            for is_transient in [false, true] {
                let owner = self.owner(lane.lane, is_transient);
                infos.extend(lane.series(is_transient).map(|segment| segment.info(owner)));
            }
        }
        infos
    }

    /// The file of a segment is missing. Its messages are forgotten; says what was live.
    pub fn segment_lost(&mut self, id: SegmentId) -> Vec<Span> {
        let Some(lane) = self.lane_mut(id.lane) else {
            return Vec::new();
        };
        let Some(segments) = lane.segments.as_deref_mut() else {
            return Vec::new();
        };
        let Some(segment) = segments
            .series_mut(id.is_transient)
            .remove(id.number, id.version)
        else {
            return Vec::new();
        };
        if !id.is_transient {
            segments.take_body_bytes(segment.live_body_bytes);
        }
        lane.forget_counts_of_settled();
        let lost = segment.live_spans(id.lane);
        self.bury(id.lane, id.is_transient, [segment]);
        lost
    }

    /// A segment file was found without a row that can be used: all of it is live. False, and nothing has changed, if it cannot
    /// be one of this queue, or its positions are those of another segment.
    pub fn adopt(&mut self, found: FoundSegment) -> bool {
        let id = found.id;
        let Some(first) = found.present.first().map(|span| span.first.sequence()) else {
            return false;
        };
        let mut segment = Segment::new(id, first);
        let mut end = first;
        for span in &found.present {
            let range = (span.first.sequence(), span.last.sequence() + 1);
            let is_next = range.0 >= end && range.0 < range.1 && range.1 - first <= SPAN_MAX;
            if !is_next || span.first.lane() != id.lane || span.last.lane() != id.lane {
                return false;
            }
            segment.settled.extend_to((range.1 - first) as u32);
            segment
                .settled
                .settle_stretch(((end - first) as u32, (range.0 - first) as u32));
            end = range.1;
        }
        if id.queue != self.id || id.is_transient || first == 0 {
            return false;
        }
        segment.messages = segment.live();
        segment.bytes = found.bytes;
        segment.live_body_bytes = found.body_bytes;
        segment.is_sealed = found.is_sealed;
        segment.may_expire = found.may_expire;
        let blobs = found
            .blobs
            .iter()
            .map(|(position, blob)| (position.sequence(), *blob));
        let is_live = |(place, _): &(u64, u64)| segment.is_live(*place);
        segment.blobs = blobs.filter(is_live).collect();
        let lane = self.lane_or_new(id.lane);
        let segments = lane.segments.get_or_insert_default();
        if segments.persistent.insert(segment).is_err() {
            return false;
        }
        segments.body_bytes += found.body_bytes;
        segments.moved_through = segments.moved_through.max(end - 1);
        segments.next_number = segments.next_number.max(id.number.saturating_add(1));
        lane.next = lane.next.max(end);
        self.mark_dirty();
        true
    }

    /// A persistent message's record is replayed. False if it was replayed before, or its message was moved or settled.
    pub fn replay_message(&mut self, entry: JournalEntry) -> bool {
        self.appended(entry)
    }

    /// A record of settlements is replayed.
    pub fn replay_settled(&mut self, lsn: Lsn, runs: &[Run]) {
        let with_segments = lsn >= self.as_of;
        for run in runs.iter().filter(|run| run.count > 0) {
            let number = run.first.lane();
            let range = range_of(run);
            let lane = self.lane_or_new(number);
            lane.was_delivered_through(range.1 - 1);
            let in_journal: Vec<_> = lane.entries_in(range).collect();
            let (mut blobs, mut body_bytes) = (Vec::new(), u64::from(run.body_bytes));
            for entry in &in_journal {
                body_bytes = body_bytes.saturating_sub(entry.body_bytes.into());
                lane.settle(entry.position.sequence(), None, &mut blobs);
            }
            let mut dead = Vec::new();
            if with_segments && let Some(segments) = lane.segments.as_deref_mut() {
                // Of a run that has messages unknown here, the known ones have their part.
                let live = segments.persistent.live_in(range);
                let elsewhere = (range.1 - range.0).saturating_sub(in_journal.len() as u64);
                let body_bytes = share(body_bytes, live, elsewhere.max(live));
                dead = segments
                    .persistent
                    .settle_range(range, body_bytes, &mut blobs);
                segments.take_body_bytes(body_bytes);
                if live > 0 {
                    lane.forget_counts(range);
                    self.mark_dirty();
                }
            }
            self.bury(number, false, dead);
            self.free_blobs(blobs);
        }
        self.knows_through(lsn);
    }

    /// A record of a purge is replayed.
    pub fn replay_purged(&mut self, lsn: Lsn, last: &[Position], survivors: &[Run]) {
        let with_segments = lsn >= self.as_of;
        for last in last {
            let (number, through) = (last.lane(), last.sequence());
            let survivors = survivors_of(number, through, survivors);
            let lane = self.lane_or_new(number);
            lane.was_delivered_through(through);
            let fallen = lane.purge(through, &survivors, with_segments);
            self.take_note(number, fallen);
        }
        self.knows_through(lsn);
    }

    /// A record that was replayed counts for segments once, should it come again.
    fn knows_through(&mut self, lsn: Lsn) {
        self.as_of = self.as_of.max(Lsn(lsn.0.saturating_add(1)));
    }

    /// A record of how often messages were handed out is replayed.
    pub fn replay_requeued(&mut self, _lsn: Lsn, counts: &[(Position, u32, u32)]) {
        for (position, acquired, failed) in counts {
            self.requeued(*position, *acquired, *failed);
        }
    }

    /// What there is once everything was replayed. From here on positions are given from each lane's `next`.
    pub fn recovered(&mut self) -> RecoveredLanes {
        let lanes = self.lanes.iter_mut().map(|lane| {
            let in_row = lane
                .segments
                .as_deref_mut()
                .map_or(0, |segments| std::mem::take(&mut segments.row_next));
            let after_delivered = (lane.delivered_through + 1).min(Position::SEQUENCE_MAX);
            lane.next = lane.next.max(in_row).max(after_delivered);
            let position = |place| Position::new(lane.lane, place);
            let mut recovered = RecoveredLane {
                lane: lane.lane,
                next: position(lane.next),
                live: None,
                messages: lane.entries.len() as u64,
                body_bytes: lane
                    .segments
                    .as_deref()
                    .map_or(0, |segments| segments.body_bytes),
                may_expire: false,
                delivered_through: position(lane.delivered_through),
                counts: Vec::new(),
            };
            let (mut first, mut last) = (None, None);
            for segment in lane.series(false) {
                recovered.messages += u64::from(segment.live());
                recovered.may_expire |= segment.may_expire;
                let mut stretches = segment.settled.live_stretches();
                if first.is_none() {
                    first = stretches
                        .next()
                        .map(|live| segment.first + u64::from(live.0));
                }
            }
            if let Some(segment) = lane.series(false).next_back() {
                let stretches = segment.settled.live_stretches();
                last = stretches
                    .last()
                    .map(|live| segment.first + u64::from(live.1) - 1);
            }
            for entry in lane.entries.iter(lane.lane) {
                recovered.body_bytes += u64::from(entry.body_bytes);
                recovered.may_expire |= entry.may_expire;
                let place = entry.position.sequence();
                first = Some(first.unwrap_or(place).min(place));
                last = Some(last.unwrap_or(place).max(place));
            }
            if let (Some(first), Some(last)) = (first, last) {
                recovered.live = Some(Span {
                    first: position(first),
                    last: position(last),
                });
            }
            let counts = lane.counts.iter();
            recovered.counts = counts
                .map(|(place, (acquired, failed))| (position(*place), *acquired, *failed))
                .collect();
            recovered
        });
        RecoveredLanes {
            lanes: lanes.collect(),
        }
    }
}

impl Segments {
    /// Completes what the rows did not say: all of it without the queue's own row.
    fn count_in(&mut self, has_lanes: bool) {
        let last = self
            .persistent
            .last()
            .map_or(0, |segment| segment.end() - 1);
        self.moved_through = self.moved_through.max(last);
        if !has_lanes {
            let segments = self.persistent.iter();
            self.body_bytes = segments.map(|segment| segment.live_body_bytes).sum();
        }
    }
}
