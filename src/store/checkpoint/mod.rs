//! The thread that keeps the journal short: what still waits in the oldest sealed journal file moves to segments, the file is
//! recycled; segments of which all is settled go, and those of which most is settled are written anew.
//!
//! In: sealed journal files, the logs of queues, under their locks. Out: segments, rows, free space. What a message says, and
//! who gets it, is not known here.
//!
//! The order of a checkpoint, on which everything rests:
//! 1. records are copied to segments; 2. these are synced, and the folders of new files; 3. the logs are told; 4. under its
//!    lock each queue gives its rows, and the journal is synced up to what these rows know; 5. rows and the checkpoint's place
//!    are committed in one piece; 6. the journal file is recycled.
//!
//! A crash before 5 leaves files without rows and files longer than their rows, and all of it is in the journal still. A crash
//! after 5 leaves a journal file that replay passes over. A failure before 3 takes back what was written.
//!
//! Without space on the disk nothing is copied, but rows are committed: the journal and the catalogue keep some room for that. So
//! what consumers settle frees segments and journal files, which makes room for the rest.
//!
//! A segment that dies before it ever had a row is removed, durably, before the commit that lets the journal forget its messages.
//! Any other dead segment's row says so first; then its file goes, durably; then the row goes with the next commit. So no file without
//! a row has settled messages in it, and no row that does not say «dead» lacks its file.

mod compaction;
mod moving;
mod removal;
mod rows;
mod source;
mod syncing;
mod thread;
pub(in crate::store) use thread::{Alarm, CheckpointThread};

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::QueueId;
use crate::store::StoreError;
use crate::store::disk::is_out_of_space;
use crate::store::journal::{Lsn, SealedFile};
use crate::store::messages::{Counters, Shared};
use crate::store::queue_log::SegmentId;

/// Attempts to read a journal file that the disk refuses, after which what cannot be read is given up.
const READ_ATTEMPTS_MAX: u32 = 10;

/// Why a checkpoint was given up. It is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Failure {
    /// There is no space.
    Full(String),
    /// A sealed journal file cannot be read.
    Unreadable(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(reason) => write!(f, "the disk is full ({reason})"),
            Self::Unreadable(reason) => write!(f, "the journal cannot be read ({reason})"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace { .. } => Self::Full(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl Failure {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| {
            let reason = format!("cannot {action} {}: {error}", path.display());
            match is_out_of_space(&error) {
                true => Self::Full(reason),
                false => Self::Failed(reason),
            }
        }
    }
}

/// Makes checkpoints, one at a time.
#[derive(Debug)]
pub(in crate::store) struct Checkpointer {
    shared: Arc<Shared>,
    /// The place that was committed last.
    checkpoint: Lsn,
    /// Kept from file to file.
    read_buffer: Vec<u8>,
    write_buffer: Vec<u8>,
    /// Attempts in a row that failed because the journal cannot be read.
    read_attempts: u32,
    /// The failure that was logged.
    logged: Option<Failure>,
    /// Bodies that no record names may be there: once after a start.
    has_orphans: bool,
    /// Segments whose rows say that they are dead, and whose files are there still.
    dead: Vec<SegmentId>,
    /// Files without rows, of what was given up, that may be there after a power cut.
    leftovers: Vec<SegmentId>,
    /// Folders were made that may not be durable.
    has_made_folders: bool,
    /// Bodies that a queue needs no more, until the commit that makes this durable.
    freed_blobs: Vec<(QueueId, u64)>,
    /// Queues whose segments may be worth writing anew.
    to_compact: BTreeSet<QueueId>,
    /// Segments that are damaged where they live, and stay as they are.
    uncompactable: HashSet<SegmentId>,
}

impl Checkpointer {
    pub(in crate::store) fn new(shared: Arc<Shared>, checkpoint: Lsn) -> Self {
        Self {
            shared,
            checkpoint,
            read_buffer: Vec::new(),
            write_buffer: Vec::new(),
            read_attempts: 0,
            logged: None,
            has_orphans: true,
            dead: Vec::new(),
            leftovers: Vec::new(),
            has_made_folders: false,
            freed_blobs: Vec::new(),
            to_compact: BTreeSet::new(),
            uncompactable: HashSet::new(),
        }
    }

    /// Everything that is due. Tried again after a failure.
    pub(in crate::store) fn run(&mut self) -> Result<(), Failure> {
        let result = self.run_once();
        self.shared.journal.room_was_made();
        self.note(result.as_ref().err());
        // The buffers are for the next files; an idle node has no use for them.
        self.read_buffer = Vec::new();
        self.write_buffer = Vec::new();
        result
    }

    fn run_once(&mut self) -> Result<(), Failure> {
        self.remove_deleted()?;
        if self.is_short_of_space() {
            // First of all what is dead goes.
            self.commit(&[], self.checkpoint)?;
        }
        while let Some(sealed) = self.due() {
            self.checkpoint(&sealed)?;
            self.has_orphans = true;
        }
        self.remove_orphans()?;
        self.tidy()
    }

    /// The last commit: every row as it is now.
    pub(in crate::store) fn finish(&mut self) -> Result<(), Failure> {
        self.remove_deleted()?;
        // What was handed out makes no row on its own account.
        let all = self.shared.owners.ids();
        self.commit(&all, self.checkpoint)?;
        Ok(())
    }

    fn is_short_of_space(&self) -> bool {
        self.shared.journal.is_full() || matches!(self.logged, Some(Failure::Full(_)))
    }

    /// The oldest sealed journal file, if there are more than are left alone; none is while the journal needs one, or when large
    /// bodies would stay with it.
    fn due(&self) -> Option<SealedFile> {
        let sealed = self.shared.journal.sealed();
        let options = &self.shared.options;
        let blob_bytes: u64 = sealed.iter().map(|file| file.blob_bytes).sum();
        let is_wanted = self.shared.journal.is_full() || blob_bytes > options.sealed_blob_bytes_max;
        let left_alone = match is_wanted {
            true => 0,
            false => options.sealed_files_max,
        };
        (sealed.len() > left_alone)
            .then(|| sealed.into_iter().next())
            .flatten()
    }

    /// Logs a failure once, and its end once.
    fn note(&mut self, failure: Option<&Failure>) {
        let is_behind = &self.shared.counters.is_behind;
        is_behind.store(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(Failure::Unreadable(_)) => self.read_attempts += 1,
            _ => self.read_attempts = 0,
        }
        let is_same = match (&self.logged, failure) {
            (None, None) => true,
            (Some(logged), Some(failure)) => {
                std::mem::discriminant(logged) == std::mem::discriminant(failure)
            }
            _ => false,
        };
        if is_same {
            return;
        }
        match failure {
            Some(failure) => tracing::error!(
                "messages cannot be moved out of the journal: {failure}; nothing is lost, the journal keeps them, and it is tried again each second"
            ),
            None => tracing::info!("messages are moved out of the journal again"),
        }
        self.logged = failure.cloned();
    }

    fn count(&self, moved_messages: u64, moved_bytes: u64) {
        let counters = &self.shared.counters;
        Counters::add(&counters.checkpoints, 1);
        Counters::add(&counters.moved_messages, moved_messages);
        Counters::add(&counters.moved_bytes, moved_bytes);
    }
}
