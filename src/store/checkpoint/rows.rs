//! Commits what the queues' logs know to the catalogue, and removes what that makes superfluous. In: queues; out: rows, and dead
//! files gone.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::{Checkpointer, Failure};
use crate::model::QueueId;
use crate::store::disk::Disk;
use crate::store::journal::{Journal, Lsn};
use crate::store::messages::{Counters, Shared};
use crate::store::queue_log::{QueueRows, SegmentId, segment_of_key};
use crate::store::{RowWrite, StoreError};

/// As many folders are synced one by one; for more, the whole file system is at once.
const SINGLE_SYNCS_MAX: usize = 4;

/// How often is looked whether the journal waits for space.
const LOOK_FOR_SPACE: Duration = Duration::from_millis(50);

impl Checkpointer {
    /// Commits the rows of `queues`, and of all that have changed, with the place `checkpoint`; then removes dead segments and
    /// bodies that nobody needs.
    ///
    /// The journal is synced up to what the rows know first: else a row could have the end of a message of which what came of
    /// it, a dead letter or the rest of a transaction, is lost with its frame.
    pub(super) fn commit(&mut self, queues: &[QueueId], checkpoint: Lsn) -> Result<(), Failure> {
        let shared = &self.shared;
        if shared.journal.is_stuck() {
            return Err(Failure::Full("the journal waits for space".to_owned()));
        }
        let changed: BTreeSet<QueueId> = shared
            .dirty
            .take()
            .into_iter()
            .chain(queues.iter().copied())
            .collect();
        let mut writes = Vec::new();
        let (mut dead, mut unnamed) = (Vec::new(), self.leftovers.clone());
        let mut known = Lsn::default();
        for queue in &changed {
            let taken = shared.owners.with_log(*queue, |log| {
                let as_of = shared.journal.end();
                (as_of, log.take_rows(as_of), log.blobs_freed())
            });
            let Some((as_of, rows, freed)) = taken else {
                continue;
            };
            known = as_of;
            let freed = freed.into_iter().map(|blob| (*queue, blob));
            self.freed_blobs.extend(freed);
            unnamed.extend(without_row(&rows));
            put(rows, &mut writes, &mut dead);
        }
        let has_rows = !writes.is_empty() || checkpoint != self.checkpoint;
        if has_rows || !dead.is_empty() || !self.freed_blobs.is_empty() {
            let committed = sync_journal(&shared.journal, known).and_then(|()| match has_rows {
                true => {
                    remove_files(shared, &unnamed)?;
                    Ok(shared.rows.commit(writes, checkpoint)?)
                }
                false => Ok(()),
            });
            if let Err(failure) = committed {
                for queue in &changed {
                    shared.owners.with_log(*queue, |log| log.rows_not_written());
                }
                return Err(failure);
            }
            self.checkpoint = checkpoint;
            if has_rows {
                self.leftovers.clear();
            }
        }
        self.to_compact.extend(changed);
        self.dead.extend(dead);
        self.remove_dead()?;
        self.remove_freed_blobs()
    }

    /// Removes the files of dead segments.
    fn remove_dead(&mut self) -> Result<(), Failure> {
        if self.dead.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        remove_files(shared, &self.dead)?;
        Counters::add(&shared.counters.removed_files, self.dead.len() as u64);
        for id in self.dead.drain(..) {
            shared
                .owners
                .with_log(id.queue, |log| log.segment_removed(id));
        }
        Ok(())
    }

    /// Removes bodies whose last message has ended. The ends are in the journal, synced, or in rows.
    fn remove_freed_blobs(&mut self) -> Result<(), Failure> {
        if self.freed_blobs.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        shared.blobs.release(&self.freed_blobs);
        let blobs: Vec<u64> = self.freed_blobs.drain(..).map(|(_, blob)| blob).collect();
        for blob in shared.blobs.unneeded(&blobs, self.checkpoint) {
            shared.journal.blobs().remove(blob)?;
        }
        Ok(())
    }

    /// Removes bodies of checkpointed records that no message needs, as far as no queue says so: of those that ended while
    /// they were in the journal, and after a crash.
    pub(super) fn remove_orphans(&mut self) -> Result<(), Failure> {
        if !self.has_orphans {
            return Ok(());
        }
        let shared = &self.shared;
        let blobs = shared.journal.blobs();
        for blob in shared.blobs.unneeded(&blobs.list()?, self.checkpoint) {
            blobs.remove(blob)?;
        }
        let files = &shared.files;
        files
            .remove_void()
            .map_err(Failure::io("remove files in", files.folder()))?;
        self.has_orphans = false;
        Ok(())
    }
}

/// Those dead segments of which no row says so, as they died before their first row was taken. Their files must be gone before
/// a commit lets the journal forget their messages: a file without a row is taken for one that the catalogue lost.
fn without_row(rows: &QueueRows) -> Vec<SegmentId> {
    let named = |id: &SegmentId| {
        let mut keys = rows.puts.iter().map(|(key, _)| key);
        keys.any(|key| segment_of_key(key) == Some(*id))
    };
    let dead = rows.dead.iter();
    dead.filter(|id| !id.is_transient && !named(id))
        .copied()
        .collect()
}

/// Removes segments' files, durably.
fn remove_files(shared: &Shared, segments: &[SegmentId]) -> Result<(), Failure> {
    let mut folders = BTreeSet::new();
    for id in segments {
        let path = shared.files.path(*id);
        shared
            .files
            .remove(*id)
            .map_err(Failure::io("remove", &path))?;
        folders.insert(shared.files.queue_folder(id.queue));
    }
    sync_folders(&**shared.files.disk(), shared.files.folder(), &folders)
}

/// Waits until the journal is synced up to `lsn`; not for space.
pub(super) fn sync_journal(journal: &Journal, lsn: Lsn) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let done = move |outcome| {
        let _ = sender.send(outcome);
    };
    journal.when_synced(lsn, Box::new(done));
    loop {
        match receiver.recv_timeout(LOOK_FOR_SPACE) {
            Ok(outcome) => break outcome?,
            Err(RecvTimeoutError::Timeout) if journal.is_stuck() => {
                return Err(Failure::Full("the journal waits for space".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(StoreError::Closed.into()),
        }
    }
    // In the modes in which confirms do not wait for it.
    if journal.synced().0 < lsn {
        journal.flush()?;
    }
    Ok(())
}

/// Takes what one queue gives. A segment that was taken over from a file is deleted and put in one commit.
fn put(rows: QueueRows, writes: &mut Vec<RowWrite>, dead: &mut Vec<SegmentId>) {
    writes.extend(rows.deletes.into_iter().map(|key| RowWrite::Delete { key }));
    let puts = rows.puts.into_iter();
    writes.extend(puts.map(|(key, value)| RowWrite::Put { key, value }));
    dead.extend(rows.dead);
}

/// Makes removals in `folders` durable; `above` lies on the same file system.
pub(super) fn sync_folders(
    disk: &dyn Disk,
    above: &Path,
    folders: &BTreeSet<PathBuf>,
) -> Result<(), Failure> {
    if folders.len() > SINGLE_SYNCS_MAX {
        return disk.sync_all(above).map_err(Failure::io("sync", above));
    }
    for folder in folders {
        match disk.sync_folder(folder) {
            // The queue was deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(Failure::io("sync", folder))?,
        }
    }
    Ok(())
}
