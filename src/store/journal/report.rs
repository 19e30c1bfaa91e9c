//! What was not as it should be when the journal was replayed.
//!
//! In: findings. Out: sentences for the log, and whether something was lost. What is done about a finding is decided in
//! `replay`.

use std::fmt;
use std::path::PathBuf;

use super::Lsn;
use crate::model::{Position, QueueId};

/// Something that was not as after an orderly stop. See `replay` for what is done about each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayCase {
    /// A frame that was not written to its end.
    TornTail {
        /// The file.
        generation: u64,
        /// Where it begins.
        at: Lsn,
        /// Its bytes.
        bytes: u64,
    },
    /// Damage in what was synced.
    DamageInside {
        /// The file.
        generation: u64,
        /// Where the damaged frame begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// A file ends too early.
    CutFile {
        /// The file.
        generation: u64,
        /// The first frame that is not whole.
        from: Lsn,
        /// Where that frame, or the file, ended.
        to: Lsn,
    },
    /// A file is missing, or several.
    MissingFile {
        /// The first place that is missing.
        from: Lsn,
        /// The next that is there, if anything is.
        to: Option<Lsn>,
    },
    /// The header of a file is damaged.
    HeaderUnreadable {
        /// The file.
        generation: u64,
        /// Whether frames in it were found all the same.
        has_frames: bool,
    },
    /// The disk fails to read parts of a file.
    Unreadable {
        /// The file.
        generation: u64,
        /// Its error.
        error: String,
    },
    /// A file was about to be begun.
    UnusedFile {
        /// The file.
        generation: u64,
    },
    /// Frames of a former life follow the last one.
    StaleBytes {
        /// The file.
        generation: u64,
        /// Where they begin.
        at: Lsn,
    },
    /// The journal had been closed later than it ends.
    EndsEarly {
        /// Where it ends.
        end: Lsn,
        /// Where it was closed.
        clean_end: Lsn,
    },
}

impl ReplayCase {
    /// Whether something that was confirmed may be lost.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::TornTail { .. } | Self::UnusedFile { .. } | Self::StaleBytes { .. } => false,
            Self::HeaderUnreadable { has_frames, .. } => !has_frames,
            Self::DamageInside { .. }
            | Self::CutFile { .. }
            | Self::MissingFile { .. }
            | Self::Unreadable { .. }
            | Self::EndsEarly { .. } => true,
        }
    }
}

impl fmt::Display for ReplayCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail {
                generation,
                at,
                bytes,
            } => write!(
                f,
                "{bytes} bytes at {at} in file {generation} were not written to their end; nobody had been told that they were"
            ),
            Self::DamageInside {
                generation,
                from,
                to,
            } => write!(f, "file {generation} is damaged between {from} and {to}"),
            Self::CutFile {
                generation,
                from,
                to,
            } => write!(
                f,
                "file {generation} is too short: what was between {from} and {to} is missing or damaged"
            ),
            Self::MissingFile { from, to: Some(to) } => {
                write!(
                    f,
                    "files are missing: nothing is left between {from} and {to}"
                )
            }
            Self::MissingFile { from, to: None } => {
                write!(f, "files are missing: nothing is left from {from} on")
            }
            Self::HeaderUnreadable {
                generation,
                has_frames: true,
            } => write!(
                f,
                "the header of file {generation} is damaged; its frames are used"
            ),
            Self::HeaderUnreadable {
                generation,
                has_frames: false,
            } => write!(f, "file {generation} has no readable header or frame"),
            Self::Unreadable { generation, error } => {
                write!(f, "parts of file {generation} cannot be read: {error}")
            }
            Self::UnusedFile { generation } => write!(f, "file {generation} had not been begun"),
            Self::StaleBytes { generation, at } => {
                write!(
                    f,
                    "file {generation} ends at {at}, before frames of a former life"
                )
            }
            Self::EndsEarly { end, clean_end } => write!(
                f,
                "the journal was closed at {clean_end} and ends at {end}: what was between is missing"
            ),
        }
    }
}

/// A stretch that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPiece {
    /// The queue that it belongs to, if that can be read.
    pub queue: Option<QueueId>,
    /// The place in the queue, if that can be read.
    pub position: Option<Position>,
    /// Where it is.
    pub lsn: Lsn,
    /// The file in which that is.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
}

/// What replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// What was not as after an orderly stop.
    pub cases: Vec<ReplayCase>,
    /// What could not be used, the first ten thousand of them. A message for several queues is there for each.
    pub damaged: Vec<DamagedPiece>,
    /// How many there are in all.
    pub damaged_count: u64,
    /// Whole frames.
    pub frames: u64,
    /// Records that were used.
    pub records: u64,
    /// Where the journal goes on.
    pub end: Lsn,
}
