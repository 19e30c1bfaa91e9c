//! The repair: a start on the folder itself that reads everything and draws the consequences.
//!
//! In: a locked folder, of which a copy was made. Out: the same folder without what is damaged, closed cleanly.
//!
//! The order: what cannot be read is set aside, then settled; the settlements are synced; then all that waits moves out of the journal,
//! so that the catalogue has everything and every old journal file is let go of. A crash in between leaves a folder as after any crash.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::examination::{Patient, admit};
use super::quiet;
use super::scrub::{Lost, Scrub};
use crate::model::Position;
use crate::store::definitions;
use crate::store::disk::Access;
use crate::store::messages::LogOwner;
use crate::store::quarantine::{Piece, Quarantine};
use crate::store::queue_log::QueueLog;
use crate::store::segments::SegmentFiles;
use crate::store::{DataFolder, Options, Store, StoreError};

/// What a repair has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Messages that could not be read and are settled now.
    pub settled_messages: u64,
    /// Rows of the catalogue that could not be read and are gone.
    pub removed_rows: usize,
    /// Files that were set aside as a whole.
    pub moved_files: u64,
}

/// A queue's log, which checkpoints reach through its lock.
#[derive(Debug)]
struct Held(Mutex<QueueLog>);

impl LogOwner for Held {
    fn with_log(&self, act: &mut dyn FnMut(&mut QueueLog)) -> bool {
        act(&mut self.0.lock());
        true
    }
}

/// Repairs the folder.
///
/// # Errors
/// The folder is damaged beyond repair, or cannot be written.
pub(super) fn mend(folder: &Arc<DataFolder>, options: &Options) -> Result<Mended, StoreError> {
    let data_dir = folder.path();
    let quarantine = Quarantine::new(Arc::clone(&options.disk), data_dir);
    let mut mended = Mended::default();
    let store = Store::open_locked(
        Arc::clone(folder),
        data_dir,
        quiet(options, Arc::clone(&options.disk)),
    )?;
    // Not before the catalogue was opened, for which they may be needed.
    for export in definitions::exports(data_dir) {
        if let Some(Err(reason)) = &export.definitions {
            quarantine.move_file(&export.path, reason);
            mended.moved_files += 1;
        }
    }
    let loaded = store.definitions.load()?;
    let has_damaged_rows =
        !store.damaged_rows().is_empty() || loaded.damaged.iter().any(|row| !row.is_restored);
    let files = SegmentFiles::new(Arc::clone(&options.disk), data_dir);
    let mut scrub = Scrub::new(store.journal(), &files);
    let mut queues = Vec::new();
    for Patient { mut log, lanes, .. } in admit(&store, &loaded.definitions) {
        let before = scrub.lost.len();
        mended.settled_messages += scrub.queue(&log, &lanes);
        let lost = scrub.lost.split_off(before);
        if has_damaged_rows {
            log.rows_not_written();
        }
        let queue = Arc::new(Held(Mutex::new(log)));
        let owner: Weak<Held> = Arc::downgrade(&queue);
        let id = queue.0.lock().id();
        store.messages.register(id, owner);
        queues.push((queue, lost));
    }
    let mut blobs = BTreeSet::new();
    for (queue, lost) in &queues {
        for lost in lost {
            set_aside(&quarantine, &files, lost, &mut blobs);
        }
        settle(&store, &mut queue.0.lock(), lost);
    }
    for (path, reason) in &blobs {
        if options.disk.open(path, Access::Read).is_ok() {
            quarantine.move_file(path, reason);
            mended.moved_files += 1;
        }
    }
    store.messages.finish_recovery(false)?;
    store.journal().flush()?;
    store.messages.checkpoint_now()?;
    store.close()?;
    // The catalogue is free once nobody holds the store.
    drop(store);
    if has_damaged_rows {
        mended.removed_rows = definitions::forget_damaged_rows(data_dir)?;
    }
    Ok(mended)
}

/// Keeps what is damaged. Files of bodies are only named, as several messages may need one.
fn set_aside(
    quarantine: &Quarantine,
    files: &SegmentFiles,
    lost: &Lost,
    blobs: &mut BTreeSet<(PathBuf, String)>,
) {
    if lost.is_blob {
        blobs.insert((lost.file.clone(), lost.reason.clone()));
    }
    let content = match (&lost.bytes, files.disk().open(&lost.file, Access::Read)) {
        (Some(bytes), Ok(file)) => files.bytes_of(&*file, bytes.clone()),
        _ => Vec::new(),
    };
    let piece = Piece {
        file: &lost.file,
        offset: lost.bytes.as_ref().map_or(0, |bytes| bytes.start),
        queue: Some(lost.queue),
        position: Some(lost.span.first),
        reason: &lost.reason,
    };
    quarantine.keep(&piece, &content);
}

/// Ends messages that cannot be read.
fn settle(store: &Store, log: &mut QueueLog, lost: &[Lost]) {
    let mut runs = Vec::new();
    for span in lost.iter().map(|lost| lost.span) {
        for place in span.first.0..=span.last.0 {
            log.settle_lost(Position(place), &mut runs);
        }
    }
    if !runs.is_empty() {
        store.journal().append().settled(log.id(), &runs);
    }
}
