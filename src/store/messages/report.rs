//! What a start found wrong with the segments, and what the store counts. In: findings and events; out: lines for the log and
//! plain numbers.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::model::QueueId;

/// What a start may find. Each has a label, by which logs and tests name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A file has more than its row says: the remains of a checkpoint that was not finished. It is cut; the rest is in the journal.
    LongerThanRow,
    /// A file has no row, and the journal has all of it: a checkpoint that was not finished. It is removed.
    UnfinishedCheckpoint,
    /// A file has no row, and another version of it has: a compaction that was not finished. It is removed.
    UnfinishedCompaction,
    /// A file has no row, and the journal does not have all of it: the catalogue was lost or damaged. What the journal does
    /// not have is taken over, settled messages too.
    Adopted,
    /// A row has no file: its messages are lost.
    Missing,
    /// A file has less than its row says: the messages that were behind its end are lost.
    Shorter,
    /// A file that is taken over has bytes that are no record.
    Unreadable,
    /// A row cannot be read.
    RowDamaged,
    /// The journal ends before the place up to which rows were written: files of it are missing.
    JournalBehindRows,
}

impl FindingKind {
    /// Its name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::LongerThanRow => "segment-longer-than-row",
            Self::UnfinishedCheckpoint => "unfinished-checkpoint",
            Self::UnfinishedCompaction => "unfinished-compaction",
            Self::Adopted => "segment-adopted",
            Self::Missing => "segment-missing",
            Self::Shorter => "segment-shorter-than-row",
            Self::Unreadable => "segment-unreadable",
            Self::RowDamaged => "row-damaged",
            Self::JournalBehindRows => "journal-behind-rows",
        }
    }

    /// Whether messages may be lost or come back; the others are what a crash leaves.
    pub const fn is_damage(self) -> bool {
        !matches!(
            self,
            Self::LongerThanRow | Self::UnfinishedCheckpoint | Self::UnfinishedCompaction
        )
    }
}

/// One thing that a start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Whose it is.
    pub queue: QueueId,
    /// Which file, which positions.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            queue,
            detail,
        } = self;
        write!(f, "{}: queue {queue}: {detail}", kind.label())
    }
}

impl Finding {
    pub(super) fn log(&self) {
        match self.kind.is_damage() {
            true => tracing::error!(queue = self.queue.0, "{self}"),
            false => tracing::info!(queue = self.queue.0, "{self}"),
        }
    }
}

/// What the message store has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageStats {
    /// Journal files of which everything that lives was moved.
    pub checkpoints: u64,
    /// Messages that moved from the journal to segments.
    pub moved_messages: u64,
    /// Bytes of their records.
    pub moved_bytes: u64,
    /// Segments that were written anew.
    pub compactions: u64,
    /// Segments' files that were removed.
    pub removed_files: u64,
    /// Messages that could not be read.
    pub damaged_messages: u64,
    /// Pieces in quarantine since the start.
    pub quarantined: u64,
    /// Files of single bodies that messages in segments need.
    pub blobs: u64,
    /// Sealed journal files that wait to be moved or recycled.
    pub sealed_files: u64,
    /// The last attempt of a checkpoint failed; it is made again.
    pub is_behind: bool,
}

/// The numbers as they grow.
#[derive(Debug, Default)]
pub(in crate::store) struct Counters {
    pub(in crate::store) checkpoints: AtomicU64,
    pub(in crate::store) moved_messages: AtomicU64,
    pub(in crate::store) moved_bytes: AtomicU64,
    pub(in crate::store) compactions: AtomicU64,
    pub(in crate::store) removed_files: AtomicU64,
    pub(in crate::store) damaged_messages: AtomicU64,
    pub(in crate::store) is_behind: AtomicBool,
}

impl Counters {
    pub(in crate::store) fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> MessageStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MessageStats {
            checkpoints: read(&self.checkpoints),
            moved_messages: read(&self.moved_messages),
            moved_bytes: read(&self.moved_bytes),
            compactions: read(&self.compactions),
            removed_files: read(&self.removed_files),
            damaged_messages: read(&self.damaged_messages),
            is_behind: self.is_behind.load(Ordering::Relaxed),
            ..MessageStats::default()
        }
    }
}
