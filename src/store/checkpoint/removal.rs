//! Removes what deleted queues left behind. In: the files, rows and bodies of their logs; out: free space.
//!
//! Files go before rows: a start that finds rows without files of a queue that is gone has nothing to read and nothing to
//! report.

use std::collections::BTreeSet;
use std::io;

use super::rows::{sync_folders, sync_journal};
use super::{Checkpointer, Failure};
use crate::model::QueueId;
use crate::store::RowWrite;
use crate::store::messages::{Counters, Shared};
use crate::store::queue_log::Removal;

impl Checkpointer {
    /// Removes everything of the queues that were deleted.
    pub(super) fn remove_deleted(&mut self) -> Result<(), Failure> {
        let removals = std::mem::take(&mut *self.shared.removals.lock());
        if removals.is_empty() {
            return Ok(());
        }
        let removed = self.remove_all(&removals);
        if removed.is_err() {
            self.shared.removals.lock().extend(removals);
        }
        removed
    }

    fn remove_all(&mut self, removals: &[(QueueId, Removal)]) -> Result<(), Failure> {
        let shared = &self.shared;
        // Else a crash could bring the queue back without its messages.
        let end = shared.journal.end();
        sync_journal(&shared.journal, end)?;
        for (queue, removal) in removals {
            remove_files(shared, *queue, removal)?;
        }
        let above = shared.files.folder();
        sync_folders(
            &**shared.files.disk(),
            &shared.data_folder,
            &BTreeSet::from([above.to_owned()]),
        )?;
        let keys = removals.iter().flat_map(|(_, removal)| &removal.keys);
        let writes: Vec<RowWrite> = keys
            .map(|key| RowWrite::Delete { key: key.clone() })
            .collect();
        if !writes.is_empty() {
            shared.rows.commit(writes, self.checkpoint)?;
        }
        let freed = removals
            .iter()
            .flat_map(|(queue, removal)| removal.blobs.iter().map(|blob| (*queue, *blob)));
        self.freed_blobs.extend(freed);
        Ok(())
    }
}

/// Removes a queue's folder with all that is in it.
fn remove_files(shared: &Shared, queue: QueueId, removal: &Removal) -> Result<(), Failure> {
    for id in &removal.files {
        shared.files.forget(*id);
    }
    let folder = shared.files.queue_folder(queue);
    let disk = shared.files.disk();
    let paths = disk.list(&folder).map_err(Failure::io("read", &folder))?;
    for path in &paths {
        disk.remove(path).map_err(Failure::io("remove", path))?;
    }
    Counters::add(&shared.counters.removed_files, paths.len() as u64);
    match disk.remove_folder(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io("remove", &folder)(error))
        }
        _ => Ok(()),
    }
}
