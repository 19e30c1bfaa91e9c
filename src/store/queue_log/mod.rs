//! Where each logged, unsettled message of one queue lies: in the journal or in a segment.
//!
//! In: what was appended, settled, purged, moved, compacted; rows of the catalogue and records that are replayed. Out: plans of
//! what to read, what is live in an old journal file, rows, what recovery found. No file is read or written here, nothing
//! waits, and no lock is held but that of [`DirtyQueues`] for a push: a log lives under its queue's lock, beside the state
//! of the queue, which alone knows what is ready and who has what.
//!
//! ```text
//!              settled                 settled
//!                 ^                       ^
//! appended --> journal entry, 24 B --> segment: settled set ----> dead: row says so, file goes, row goes
//!                          checkpoint moves     compaction: a new version
//! ```
//!
//! How it stays right through a crash:
//! - Rows are taken together with the end of the journal at that moment, their `as_of`. Replay of settlements and purges before
//!   it leaves segments alone, because the rows have them; from there on it settles in segments too. So each counts once, and
//!   the sums of bodies are exact, because [`Run`] tells how many bytes it settled. The rows must not be on the disk before
//!   the journal is synced up to their `as_of`.
//! - Messages move in order of position. A record that is replayed is of a message that was moved if its position is at or below
//!   the last that was moved of its lane.
//! - A dead segment keeps a row that says so until its file is gone, lest its messages come back.
//! - Transient messages, logged to save memory, have segments of their own without rows, and nothing about them is journaled
//!   after their record: a restart knows nothing of them.

mod checkpoint;
mod dirty;
mod entries;
mod lane;
mod plan;
mod purge;
mod recovery;
mod rows;
mod segment;
mod settled_set;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

pub use dirty::DirtyQueues;
pub use rows::{KEY_KIND_QUEUE, KEY_KIND_SEGMENT, queue_of_key, segment_of_key};
pub use segment::{SPAN_MAX, fits_one_segment};
pub use types::{
    Compacted, Compaction, FoundSegment, JournalEntry, LogFigures, Moved, Piece, Plan, Purged,
    QueueRows, RecoveredLane, RecoveredLanes, Removal, RowProblem, SegmentId, SegmentInfo, Span,
};

use self::lane::Lane;
use self::segment::{Owner, Segment};
use crate::model::{Position, QueueId};
use crate::store::journal::Lsn;
use crate::store::record::Run;

/// The log of one queue.
#[derive(Debug)]
pub struct QueueLog {
    id: QueueId,
    dirty: Arc<DirtyQueues>,
    /// Ascending; a lane appears when it is first used.
    lanes: Vec<Lane>,
    /// Boxed as most queues never have any.
    fallout: Option<Box<Fallout>>,
    /// Up to here settlements are in the rows.
    as_of: Lsn,
    /// The queue is among the dirty ones.
    is_dirty: bool,
    /// What the queue's row says of lanes is out of date.
    is_row_changed: bool,
    /// The catalogue may have a row of the queue.
    has_row: bool,
}

/// What others have to clean up.
#[derive(Debug, Default)]
struct Fallout {
    dead: Vec<DeadSegment>,
    /// Files of bodies whose messages are gone.
    blobs: Vec<u64>,
}

#[derive(Debug)]
struct DeadSegment {
    id: SegmentId,
    has_row: bool,
    step: DeadStep,
}

/// How far the end of a dead segment has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeadStep {
    /// Nobody knows.
    New,
    /// Rows that say so were taken, its file may be removed.
    Told,
    /// Its file is gone.
    Removed,
    /// The deletion of its row was taken.
    Deleted,
}

impl QueueLog {
    /// The log of a new queue. It puts the queue among the `dirty` ones when there are rows to write or files to remove.
    pub fn new(id: QueueId, dirty: Arc<DirtyQueues>) -> Self {
        Self {
            id,
            dirty,
            lanes: Vec::new(),
            fallout: None,
            as_of: Lsn::default(),
            is_dirty: false,
            is_row_changed: false,
            has_row: false,
        }
    }

    /// Its queue.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// A message's record was appended to the journal. Positions of a lane come in ascending order; one that does not changes
    /// nothing and is answered by false.
    pub fn appended(&mut self, entry: JournalEntry) -> bool {
        let lane = self.lane_or_new(entry.position.lane());
        let sequence = entry.position.sequence();
        if sequence < lane.next {
            return false;
        }
        lane.next = sequence + 1;
        lane.entries.push(&entry);
        true
    }

    /// A message is done. `body_bytes` is the size of its body; what has to be written to the journal is added to `runs`.
    /// False if it was not live: not logged, or settled before.
    pub fn settle(&mut self, position: Position, body_bytes: u32, runs: &mut Vec<Run>) -> bool {
        self.settle_one(position, Some(body_bytes), runs)
    }

    /// As [`QueueLog::settle`], of a message that cannot be read and whose size nobody knows.
    pub fn settle_lost(&mut self, position: Position, runs: &mut Vec<Run>) -> bool {
        self.settle_one(position, None, runs)
    }

    fn settle_one(
        &mut self,
        position: Position,
        body_bytes: Option<u32>,
        runs: &mut Vec<Run>,
    ) -> bool {
        let mut blobs = Vec::new();
        let Some(lane) = self.lane_mut(position.lane()) else {
            return false;
        };
        let Some(gone) = lane.settle(position.sequence(), body_bytes, &mut blobs) else {
            return false;
        };
        if gone.is_transient {
            self.bury(position.lane(), true, gone.dead);
        } else {
            Run::push(runs, position, gone.body_bytes);
            if gone.is_from_segment {
                self.mark_dirty();
            }
            self.bury(position.lane(), false, gone.dead);
        }
        self.free_blobs(blobs);
        true
    }

    /// Notes how often a message of a quorum queue was handed out, and how often in vain.
    pub fn requeued(&mut self, position: Position, acquired: u32, failed: u32) {
        let place = position.sequence();
        let Some(lane) = self.lane_mut(position.lane()) else {
            return;
        };
        if !lane.is_live(place) {
            return;
        }
        if lane.counts.insert(place, (acquired, failed)) == Some((acquired, failed)) {
            return;
        }
        let segments = lane.segments.as_deref_mut();
        let segment = segments.and_then(|segments| segments.persistent.at_mut(place));
        if let Some(segment) = segment {
            segment.is_changed = true;
            self.mark_dirty();
        }
    }

    /// A message was handed to a consumer. What this says after a restart is as old as the last rows.
    pub fn delivered(&mut self, position: Position) {
        if let Some(lane) = self.lane_mut(position.lane()) {
            self.is_row_changed |= lane.was_delivered_through(position.sequence());
        }
    }

    /// Whether a message is logged and not settled.
    pub fn is_live(&self, position: Position) -> bool {
        self.lane(position.lane())
            .is_some_and(|lane| lane.is_live(position.sequence()))
    }

    /// Whether no message is logged and not settled.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| {
            lane.entries.len() == 0
                && [false, true]
                    .into_iter()
                    .all(|kind| lane.series(kind).next().is_none())
        })
    }

    /// How much there is. Takes time with the number of segments.
    pub fn figures(&self) -> LogFigures {
        let mut figures = LogFigures::default();
        for lane in &self.lanes {
            figures.journal_messages += lane.entries.len() as u64;
            for segment in lane.series(false).chain(lane.series(true)) {
                figures.segments += 1;
                figures.segment_messages += u64::from(segment.live());
                figures.file_bytes += segment.bytes;
            }
        }
        figures
    }

    /// The numbers of files of bodies that are not needed any more, once for each message that had one. Other queues may
    /// need the same file. It must not be removed before the journal is synced to where it ends at this call.
    pub fn blobs_freed(&mut self) -> Vec<u64> {
        let Some(fallout) = &mut self.fallout else {
            return Vec::new();
        };
        let blobs = std::mem::take(&mut fallout.blobs);
        if fallout.dead.is_empty() {
            self.fallout = None;
        }
        blobs
    }

    /// What is left behind when the queue is deleted.
    pub fn into_removal(mut self) -> Removal {
        let blobs = self.live_blobs().into_iter().chain(self.blobs_freed());
        let mut removal = Removal {
            blobs: blobs.collect(),
            ..Removal::default()
        };
        if self.has_row {
            removal.keys.push(rows::queue_key(self.id));
        }
        for lane in &self.lanes {
            for is_transient in [false, true] {
                let owner = self.owner(lane.lane, is_transient);
                for segment in lane.series(is_transient) {
                    let id = segment.id(owner);
                    removal.files.push(id);
                    if segment.has_row {
                        removal.keys.push(rows::segment_key(id));
                    }
                }
            }
        }
        for dead in self.fallout.iter().flat_map(|fallout| &fallout.dead) {
            if matches!(dead.step, DeadStep::New | DeadStep::Told) {
                removal.files.push(dead.id);
            }
            if dead.has_row {
                removal.keys.push(rows::segment_key(dead.id));
            }
        }
        removal
    }

    /// The numbers of files of bodies that live messages have, once for each message.
    pub fn live_blobs(&self) -> Vec<u64> {
        let mut blobs = Vec::new();
        for lane in &self.lanes {
            let entries = lane.entries.iter(lane.lane);
            blobs.extend(
                entries
                    .filter(|entry| entry.has_blob)
                    .map(|entry| entry.lsn.0),
            );
            let segments = lane.series(false).chain(lane.series(true));
            blobs.extend(segments.flat_map(|segment| segment.blobs.values()));
        }
        blobs
    }

    fn lane(&self, lane: u8) -> Option<&Lane> {
        self.lanes.iter().find(|known| known.lane == lane)
    }

    fn lane_mut(&mut self, lane: u8) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|known| known.lane == lane)
    }

    fn lane_or_new(&mut self, lane: u8) -> &mut Lane {
        let at = self.lanes.partition_point(|known| known.lane < lane);
        if self.lanes.get(at).is_none_or(|known| known.lane != lane) {
            self.lanes.reserve_exact(1);
            self.lanes.insert(at, Lane::new(lane));
        }
        &mut self.lanes[at]
    }

    fn owner(&self, lane: u8, is_transient: bool) -> Owner {
        Owner {
            queue: self.id,
            lane,
            is_transient,
        }
    }

    fn mark_dirty(&mut self) {
        if !self.is_dirty {
            self.is_dirty = true;
            self.dirty.mark(self.id);
        }
    }

    /// Takes note of segments in which nothing is live any more.
    fn bury(&mut self, lane: u8, is_transient: bool, dead: impl IntoIterator<Item = Segment>) {
        let owner = self.owner(lane, is_transient);
        for segment in dead {
            self.add_dead(segment.id(owner), segment.has_row);
        }
    }

    fn add_dead(&mut self, id: SegmentId, has_row: bool) {
        self.fallout.get_or_insert_default().dead.push(DeadSegment {
            id,
            has_row,
            step: DeadStep::New,
        });
        self.mark_dirty();
    }

    fn free_blobs(&mut self, blobs: Vec<u64>) {
        if !blobs.is_empty() {
            self.fallout.get_or_insert_default().blobs.extend(blobs);
            self.mark_dirty();
        }
    }
}
