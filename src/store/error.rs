//! What can go wrong with the data folder, in sentences that say what to do.
//!
//! These are errors of the disk or of the operator, never of a client.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the store. Cloneable, because one failed sync answers many waiting changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "data folder {} is in use by another haremq; stop that one or choose another folder with --data-dir",
        path.display()
    )]
    FolderInUse {
        /// The data folder.
        path: PathBuf,
    },
    /// The folder or a file in it cannot be read.
    #[error(
        "data folder {} cannot be read ({reason}); check that it is a folder and that the user who runs haremq owns it",
        path.display()
    )]
    FolderUnreadable {
        /// The data folder.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The folder cannot be created or written.
    #[error(
        "data folder {} cannot be written ({reason}); check its owner and permissions, or choose another with --data-dir",
        path.display()
    )]
    FolderUnwritable {
        /// The data folder.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A later haremq wrote the folder.
    #[error(
        "data folder {} has format {found}, this haremq knows {supported}; start the newer haremq that wrote it",
        path.display()
    )]
    NewerFormat {
        /// The data folder.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format known here.
        supported: u64,
    },
    /// The format file holds no number.
    #[error(
        "data folder {} has a haremq-format file that is no number ('{found}'); if the folder is haremq's, restore that file from a backup",
        path.display()
    )]
    UnknownFormat {
        /// The data folder.
        path: PathBuf,
        /// What the file holds, shortened.
        found: String,
    },
    /// The catalogue cannot be opened and could not be rebuilt.
    #[error(
        "the definitions in {} are damaged ({reason}) and could not be rebuilt; restore the data folder from a backup, or move it away to start empty",
        path.display()
    )]
    Damaged {
        /// The folder of the catalogue.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An operation on a file failed.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// There is no room on the disk for a write that can be made later.
    #[error("no space left on the disk for {}", path.display())]
    NoSpace {
        /// What was to grow.
        path: PathBuf,
    },
    /// A write or a sync failed earlier; what was not synced then may be lost, so nothing more is accepted.
    #[error(
        "definitions can no longer be stored since an earlier failure ({reason}); free or replace the disk, then restart haremq"
    )]
    Stopped {
        /// The first failure.
        reason: String,
    },
    /// Messages could not be moved out of the journal.
    #[error(
        "messages cannot be moved out of the journal: {reason}; nothing is lost, the journal keeps them"
    )]
    Checkpoint {
        /// Why.
        reason: String,
    },
    /// All reserved queue ids are taken, and the journal cannot reserve more now.
    #[error(
        "no number for a new queue can be stored now, because the disk is full or very slow; make room on it and declare the queue again"
    )]
    NoQueueIds,
    /// There is no room for a copy of the folder.
    #[error(
        "there is no room for a copy of the data folder: {needed_bytes} bytes are needed in {} and {free_bytes} are free; make room there, nothing was changed",
        path.display()
    )]
    NoRoom {
        /// Where the copy would be made.
        path: PathBuf,
        /// What it takes.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The store was closed before the change was written.
    #[error("the store is closed")]
    Closed,
    /// A definition that is too large to be stored.
    #[error("{what} is too large to be stored: {bytes} bytes, at most {bytes_max}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl StoreError {
    /// The exit code for what is damaged in a folder, `EX_DATAERR`.
    pub(super) const DAMAGE_EXIT_CODE: u8 = 65;

    /// The exit code for a program that stops for this reason (`sysexits.h`).
    pub fn exit_code(&self) -> u8 {
        const CANTCREAT: u8 = 73;
        const IOERR: u8 = 74;
        const NOINPUT: u8 = 66;
        const UNAVAILABLE: u8 = 69;
        match self {
            Self::FolderInUse { .. } | Self::Closed => UNAVAILABLE,
            Self::FolderUnreadable { .. } => NOINPUT,
            Self::FolderUnwritable { .. } | Self::NoRoom { .. } => CANTCREAT,
            Self::NewerFormat { .. }
            | Self::UnknownFormat { .. }
            | Self::Damaged { .. }
            | Self::TooLarge { .. } => Self::DAMAGE_EXIT_CODE,
            Self::Io { .. }
            | Self::NoSpace { .. }
            | Self::NoQueueIds
            | Self::Stopped { .. }
            | Self::Checkpoint { .. } => IOERR,
        }
    }

    pub(super) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| Self::Io {
            action,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }
}
