//! Makes durable what a checkpoint wrote, and takes it back if the checkpoint is given up. In: the files as they are written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Failure;
use crate::model::QueueId;
use crate::store::disk::DiskFile;
use crate::store::messages::Shared;
use crate::store::queue_log::SegmentId;

/// As many files are synced one by one; for more, the whole file system is at once.
const SINGLE_SYNCS_MAX: usize = 4;

/// A file that was written.
#[derive(Debug)]
struct Touched {
    id: SegmentId,
    /// What of it counted before; 0 for a new one.
    bytes_before: u64,
}

/// What was written since the last sync.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    segments: Vec<Touched>,
    /// The first few, to be synced one by one; dropped when there are more.
    files: Vec<Box<dyn DiskFile>>,
    written: usize,
    folders: BTreeSet<PathBuf>,
    has_made_folders: bool,
}

impl Unsynced {
    /// A segment is about to be written; `bytes_before` of it count so far.
    pub(super) fn begin(&mut self, id: SegmentId, bytes_before: u64) {
        self.segments.push(Touched { id, bytes_before });
    }

    /// A file was written; `folder` if it is new there.
    pub(super) fn wrote(&mut self, file: Box<dyn DiskFile>, folder: Option<PathBuf>) {
        self.written += 1;
        self.folders.extend(folder);
        match self.written > SINGLE_SYNCS_MAX {
            true => self.files.clear(),
            false => self.files.push(file),
        }
    }

    /// Makes a queue's folder. It is durable with the next success of [`Unsynced::sync`], which may be that of a later attempt.
    pub(super) fn make_folder(&mut self, shared: &Shared, queue: QueueId) -> Result<(), Failure> {
        let folder = shared.files.queue_folder(queue);
        let disk = shared.files.disk();
        disk.make_folder(&folder)
            .map_err(Failure::io("create", &folder))?;
        self.has_made_folders = true;
        Ok(())
    }

    /// Whether folders were made that may not be durable.
    pub(super) fn has_made_folders(&self) -> bool {
        self.has_made_folders
    }

    /// Everything written is durable, when this returns, under its name. `has_made_folders`: an attempt before made some.
    pub(super) fn sync(&mut self, shared: &Shared, has_made_folders: bool) -> Result<(), Failure> {
        if has_made_folders || self.has_made_folders {
            self.folders.insert(shared.files.folder().to_owned());
            self.folders.insert(shared.data_folder.clone());
        }
        if self.written == 0 {
            return Ok(());
        }
        let disk = shared.files.disk();
        if self.written > SINGLE_SYNCS_MAX || self.folders.len() > SINGLE_SYNCS_MAX {
            let folder = &shared.data_folder;
            return disk.sync_all(folder).map_err(Failure::io("sync", folder));
        }
        for file in &self.files {
            file.sync_data()
                .map_err(Failure::io("sync", shared.files.folder()))?;
        }
        for folder in &self.folders {
            disk.sync_folder(folder)
                .map_err(Failure::io("sync", folder))?;
        }
        Ok(())
    }

    /// Takes everything back. Gives the new files: they have no row, and must be gone for good before a commit lets the journal
    /// forget what is in them. A file that cannot be cut is cut by whoever appends to it next, or at the next start.
    pub(super) fn take_back(self, shared: &Shared) -> impl Iterator<Item = SegmentId> {
        for touched in self.segments.iter().rev() {
            // What fails here is done again before the next commit.
            let _ = shared.files.cut(touched.id, touched.bytes_before);
        }
        let segments = self.segments.into_iter();
        segments
            .filter(|touched| touched.bytes_before == 0)
            .map(|touched| touched.id)
    }
}
