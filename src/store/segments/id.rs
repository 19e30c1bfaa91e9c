//! The name of a segment.

use crate::model::{Position, QueueId};

/// A segment file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The queue.
    pub queue: QueueId,
    /// The lane.
    pub lane: u8,
    /// The number in the lane.
    pub number: u32,
    /// Grows with each compaction.
    pub version: u32,
    /// It has messages that are void after a restart.
    pub is_transient: bool,
}

impl SegmentId {
    /// Mixed out of all parts.
    pub fn stamp(self) -> u64 {
        let mut mixed = self.queue.0 ^ 0x9E37_79B9_7F4A_7C15;
        for part in [
            u64::from(self.lane) << 1 | u64::from(self.is_transient),
            u64::from(self.number),
            u64::from(self.version),
        ] {
            mixed = (mixed ^ part).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed ^= mixed >> 31;
        }
        mixed & !0xFFFF_FFFF
    }
}

/// Positions in a row, both ends included, in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: Position,
    /// The last.
    pub last: Position,
}
