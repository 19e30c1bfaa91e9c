//! A purge: everything is done, but for a few.
//!
//! In: the messages that survive, as runs. Out: what of it the journal is told. A purge costs time with the number of
//! segments, of entries in the journal and of surviving runs, not of messages in segments.

use super::QueueLog;
use super::lane::{Lane, share};
use super::segment::{Range, Segment};
use super::types::{JournalEntry, Purged};
use crate::model::Position;
use crate::store::record::Run;

/// The messages of a lane that survive, and how many bytes their bodies have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survivors {
    range: Range,
    body_bytes: u64,
}

/// What a purge of a lane left to others.
#[derive(Debug, Default)]
pub(super) struct Fallen {
    pub(super) persistent: Vec<Segment>,
    pub(super) transient: Vec<Segment>,
    pub(super) blobs: Vec<u64>,
}

impl QueueLog {
    /// Everything is done but for `survivors`; of those, what is not live stays so. Says what to write to the journal.
    ///
    /// Where a lane has persistent and transient messages, the bytes of a run with both are split by their numbers.
    pub fn purge(&mut self, survivors: &[Run]) -> Purged {
        let mut purged = Purged::default();
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            let number = lane.lane;
            let survivors = survivors_of(number, u64::MAX, survivors);
            if lane.next > 1 {
                purged.last.push(Position::new(number, lane.next - 1));
            }
            let fallen = lane.purge(u64::MAX, &survivors, true);
            lane.journaled(&survivors, &mut purged.survivors);
            self.take_note(number, fallen);
        }
        purged
    }

    pub(super) fn take_note(&mut self, lane: u8, fallen: Fallen) {
        self.bury(lane, false, fallen.persistent);
        self.bury(lane, true, fallen.transient);
        self.free_blobs(fallen.blobs);
        if self
            .lane(lane)
            .is_some_and(|lane| lane.series(false).any(|segment| segment.is_changed))
        {
            self.mark_dirty();
        }
    }
}

/// The survivors of a lane up to the place `through`, ascending and apart from each other, whatever the runs are.
pub(super) fn survivors_of(lane: u8, through: u64, runs: &[Run]) -> Vec<Survivors> {
    let of_lane = runs.iter().filter(|run| run.first.lane() == lane);
    let mut survivors: Vec<_> = of_lane
        .map(|run| Survivors {
            range: range_of(run),
            body_bytes: run.body_bytes.into(),
        })
        .collect();
    survivors.sort_by_key(|survivor| survivor.range);
    let mut end = 0;
    survivors.retain_mut(|survivor| {
        survivor.range.0 = survivor.range.0.max(end);
        survivor.range.1 = survivor.range.1.min(through.saturating_add(1));
        end = end.max(survivor.range.1);
        survivor.range.0 < survivor.range.1
    });
    survivors
}

/// The places in the lane that a run has; never beyond the lane.
pub(super) fn range_of(run: &Run) -> Range {
    let first = run.first.sequence();
    let end = first + u64::from(run.count);
    (first, end.min(Position::SEQUENCE_MAX + 1))
}

impl Lane {
    /// Settles everything up to the place `through` but for `survivors`; segments only `with_segments`.
    pub(super) fn purge(
        &mut self,
        through: u64,
        survivors: &[Survivors],
        with_segments: bool,
    ) -> Fallen {
        let mut fallen = Fallen::default();
        let is_survivor = |place: u64| {
            let at = survivors.partition_point(|survivor| survivor.range.1 <= place);
            survivors
                .get(at)
                .is_some_and(|survivor| survivor.range.0 <= place)
        };
        self.entries.retain(
            self.lane,
            |entry| {
                let place = entry.position.sequence();
                place > through || is_survivor(place)
            },
            |gone| fallen.blobs.extend(gone.has_blob.then_some(gone.lsn.0)),
        );
        if with_segments && let Some(segments) = self.segments.as_deref_mut() {
            let mut kept: Vec<_> = survivors.iter().map(|survivor| survivor.range).collect();
            kept.push((through.saturating_add(1), u64::MAX));
            for is_transient in [false, true] {
                let series = segments.series_mut(is_transient);
                for segment in series.iter_mut().filter(|segment| segment.first <= through) {
                    segment.keep_only(&kept);
                    segment.free_blobs(&mut fallen.blobs);
                }
            }
            fallen.persistent = segments.persistent.take_dead();
            fallen.transient = segments.transient.take_dead();
            self.weigh(through, survivors);
        }
        self.forget_counts_of_settled();
        fallen
    }

    /// Sets the sums of the segments that were purged to what survives.
    fn weigh(&mut self, through: u64, survivors: &[Survivors]) {
        let parts: Vec<_> = survivors
            .iter()
            .map(|survivor| self.part_in_segments(survivor))
            .collect();
        let Some(segments) = self.segments.as_deref_mut() else {
            return;
        };
        for is_transient in [false, true] {
            let purged = segments.series_mut(is_transient).iter_mut();
            for segment in purged.take_while(|segment| segment.first <= through) {
                segment.live_body_bytes = 0;
            }
        }
        let untouched = segments.persistent.iter();
        segments.body_bytes = untouched.map(|segment| segment.live_body_bytes).sum();
        for (survivor, (persistent, transient)) in survivors.iter().zip(parts) {
            segments
                .persistent
                .add_body_bytes(survivor.range, persistent);
            segments.transient.add_body_bytes(survivor.range, transient);
            segments.body_bytes += persistent;
        }
    }

    /// How many of a run's bytes are of messages in persistent segments, and in transient ones. Exact if the run has no
    /// message that is not live, and none in one of both kinds of segments.
    fn part_in_segments(&self, survivor: &Survivors) -> (u64, u64) {
        let Some(segments) = self.segments.as_deref() else {
            return (0, 0);
        };
        let range = survivor.range;
        let persistent = segments.persistent.live_in(range);
        let in_segments = persistent + segments.transient.live_in(range);
        let (mut in_journal, mut body_bytes) = (0, survivor.body_bytes);
        for entry in self.entries_in(range) {
            in_journal += 1;
            body_bytes = body_bytes.saturating_sub(entry.body_bytes.into());
        }
        let elsewhere = (range.1 - range.0).saturating_sub(in_journal);
        let body_bytes = share(body_bytes, in_segments, elsewhere.max(in_segments));
        let persistent_bytes = share(body_bytes, persistent, in_segments);
        (persistent_bytes, body_bytes - persistent_bytes)
    }

    /// Adds those of `survivors` to `runs` that must be there after a restart.
    fn journaled(&self, survivors: &[Survivors], runs: &mut Vec<Run>) {
        let has_transient = self.series(true).next().is_some()
            || self.entries.iter(self.lane).any(|entry| entry.is_transient);
        if !has_transient {
            runs.extend(survivors.iter().map(|survivor| Run {
                first: Position::new(self.lane, survivor.range.0),
                count: (survivor.range.1 - survivor.range.0) as u32,
                body_bytes: survivor.body_bytes as u32,
            }));
            return;
        }
        for survivor in survivors {
            let mut messages: Vec<_> = self
                .entries_in(survivor.range)
                .filter(|entry| !entry.is_transient)
                .map(|entry| (entry.position, entry.body_bytes))
                .collect();
            if let Some(segments) = self.segments.as_deref() {
                let mut bytes_left = self.part_in_segments(survivor).0;
                let mut messages_left = segments.persistent.live_in(survivor.range);
                for place in segments.persistent.live_places(survivor.range) {
                    let bytes = share(bytes_left, 1, messages_left);
                    (bytes_left, messages_left) =
                        (bytes_left - bytes, messages_left.saturating_sub(1));
                    messages.push((Position::new(self.lane, place), bytes as u32));
                }
            }
            messages.sort_unstable();
            for (position, body_bytes) in messages {
                Run::push(runs, position, body_bytes);
            }
        }
    }

    /// Live messages of a range of places that lie in the journal.
    pub(super) fn entries_in(&self, range: Range) -> impl Iterator<Item = JournalEntry> + '_ {
        self.entries
            .starting_at(self.lane, range.0)
            .take_while(move |entry| entry.position.sequence() < range.1)
    }
}
