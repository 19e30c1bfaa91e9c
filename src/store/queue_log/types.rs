//! The data that go in and out of a queue's log.
//!
//! Plain data without behaviour of their own; what they mean is said in the methods of [`QueueLog`](super::QueueLog).

use crate::model::{Position, QueueId};
use crate::store::journal::Lsn;
use crate::store::record::Run;

/// A message that lies in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its place in the queue.
    pub position: Position,
    /// Where its record begins.
    pub lsn: Lsn,
    /// Bytes of the record, from its begin to the next one's.
    pub record_bytes: u32,
    /// Bytes of the message's body, wherever it lies.
    pub body_bytes: u32,
    /// It was written to save memory, and is void after a restart.
    pub is_transient: bool,
    /// It has a deadline.
    pub may_expire: bool,
    /// Its body is in a file of its own, whose number is `lsn`.
    pub has_blob: bool,
}

/// Names a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The queue whose messages it has.
    pub queue: QueueId,
    /// The lane of all of them.
    pub lane: u8,
    /// Tells segments of a lane apart; the order of messages is that of positions, not of these numbers.
    pub number: u32,
    /// Grows by one with each compaction.
    pub version: u32,
    /// It has what was written to save memory: void after a restart, no row in the catalogue.
    pub is_transient: bool,
}

impl SegmentId {
    /// A number that differs between files, so that a record of one is not taken for a record of another: records lie
    /// at this plus their offset (wrapping).
    #[must_use]
    pub fn stamp(self) -> u64 {
        let names = [
            self.queue.0,
            u64::from(self.lane) << 1 | u64::from(self.is_transient),
            u64::from(self.number) << 32 | u64::from(self.version),
        ];
        // The finalizer of SplitMix64 after each name: every bit of a name changes half of the stamp's.
        names.into_iter().fold(0, |stamp: u64, name| {
            let mut mixed = (stamp ^ name).wrapping_add(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        })
    }
}

/// What is known of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file.
    pub id: SegmentId,
    /// The first position that it ever had.
    pub first: Position,
    /// The last one.
    pub last: Position,
    /// Records in the file.
    pub messages: u32,
    /// Those that are not settled.
    pub live_messages: u32,
    /// About the bytes of their bodies: exact unless settlements that span segments were replayed.
    pub live_body_bytes: u64,
    /// Bytes of the file that count. A longer file has the remains of a write that was not finished.
    pub bytes: u64,
    /// Nothing is appended to it any more.
    pub is_sealed: bool,
    /// Some message in it has a deadline.
    pub may_expire: bool,
}

/// Positions of one lane from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: Position,
    /// The last.
    pub last: Position,
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The position from which on was asked.
    pub first: Position,
    /// Up to here everything that is live is in the pieces.
    pub through: Position,
    /// About how many bytes were asked for. A reader that exceeds them by far stops early, after one message at least.
    pub bytes_max: u64,
    /// In order of their first position. Pieces overlap only where a lane has both persistent and transient messages,
    /// so whoever reads sorts by position.
    pub pieces: Vec<Piece>,
}

/// What is to be read in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// One record of the journal.
    Journal(JournalEntry),
    /// Records of a segment.
    Segment {
        /// The file.
        id: SegmentId,
        /// Bytes of it that count.
        bytes: u64,
        /// The positions, ascending; what lies between them is settled or elsewhere.
        live: Vec<Span>,
    },
}

/// Messages that were copied from the journal to a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where they are now. Not known yet: the segment is new.
    pub segment: SegmentId,
    /// Bytes of its file that count now.
    pub bytes: u64,
    /// Nothing will be appended to it any more.
    pub is_sealed: bool,
    /// The messages, ascending, all of the segment's lane and kind.
    pub entries: Vec<JournalEntry>,
}

/// A segment that is worth writing again without what is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The segment.
    pub segment: SegmentInfo,
    /// What is live in it, ascending.
    pub live: Vec<Span>,
}

/// A segment that was written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The file before.
    pub old: SegmentId,
    /// The version of the file that replaces it.
    pub version: u32,
    /// Bytes of the new file.
    pub bytes: u64,
    /// Records in it.
    pub messages: u32,
}

/// A segment file that was found without a row that can be used. All that is present in it is taken for live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSegment {
    /// The file.
    pub id: SegmentId,
    /// Bytes of it that count.
    pub bytes: u64,
    /// Nothing will be appended to it any more.
    pub is_sealed: bool,
    /// Some message in it has a deadline.
    pub may_expire: bool,
    /// Bytes of all bodies, those in files of their own too.
    pub body_bytes: u64,
    /// The positions that it has, ascending.
    pub present: Vec<Span>,
    /// Positions whose body is in a file of its own, ascending, and that file's number.
    pub blobs: Vec<(Position, u64)>,
}

/// What a purge left, as it is written to the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// The last position of each lane.
    pub last: Vec<Position>,
    /// What of the rest must be there after a restart.
    pub survivors: Vec<Run>,
}

/// Changes of a queue's rows in the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRows {
    /// Keys and values to be written.
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys to be removed.
    pub deletes: Vec<Vec<u8>>,
    /// Segments whose files are to be removed once these rows are on the disk.
    pub dead: Vec<SegmentId>,
}

impl QueueRows {
    /// Nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.dead.is_empty()
    }
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// Its key.
    pub key: Vec<u8>,
    /// What is wrong.
    pub reason: &'static str,
    /// The segment that it spoke of.
    pub segment: Option<SegmentId>,
}

/// A queue's messages as recovery found them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredLanes {
    /// Ascending, one for each lane that was ever used and left a trace.
    pub lanes: Vec<RecoveredLane>,
}

/// One lane of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredLane {
    /// The lane.
    pub lane: u8,
    /// The position to be given next.
    pub next: Position,
    /// The first and the last live one.
    pub live: Option<Span>,
    /// How many are live.
    pub messages: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Some of them may have a deadline.
    pub may_expire: bool,
    /// Up to here they may have been delivered before.
    pub delivered_through: Position,
    /// Times handed out and times in vain, of those of which it is known.
    pub counts: Vec<(Position, u32, u32)>,
}

/// How much a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFigures {
    /// Live messages in the journal.
    pub journal_messages: u64,
    /// Segments with live messages.
    pub segments: u64,
    /// Live messages in them.
    pub segment_messages: u64,
    /// Bytes of their files.
    pub file_bytes: u64,
}

/// What a deleted queue leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Files to be removed.
    pub files: Vec<SegmentId>,
    /// Rows to be removed.
    pub keys: Vec<Vec<u8>>,
    /// Files of bodies that the queue no longer needs, one mention for each message.
    pub blobs: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn stamps_of_neighbours_are_far_from_each_other() {
        const FILE_BYTES: u64 = 1 << 24;
        let mut pages = HashSet::new();
        for queue in 0..10 {
            for number in 0..10 {
                for version in 0..10 {
                    for (lane, is_transient) in [(0, false), (0, true), (1, false)] {
                        let id = SegmentId {
                            queue: QueueId(queue),
                            lane,
                            number,
                            version,
                            is_transient,
                        };
                        assert!(pages.insert(id.stamp() / FILE_BYTES), "{id:?}");
                    }
                }
            }
        }
    }
}
