//! A start: rows, files and the journal's records become the logs of the queues.
//!
//! In: rows of the catalogue, the files that are there, then every record that the journal replays. Out: the message store, with
//! a log for each queue that left anything. What is found wrong is told queue by queue, as queues are taken: nobody cares for
//! the losses of a queue that is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BlobHolders;
use super::adoption::{Candidate, Held, adopt};
use super::inspection::inspect;
use super::options::MessageOptions;
use super::owners::Owners;
use super::report::{Counters, Finding, FindingKind};
use super::shared::Shared;
use super::store::{MessageStore, RecoveredLog};
use crate::model::{Position, QueueId, WallMs};
use crate::store::disk::Disk;
use crate::store::journal::{Journal, Lsn};
use crate::store::quarantine::Quarantine;
use crate::store::queue_log::{DirtyQueues, JournalEntry, QueueLog, SegmentId, queue_of_key};
use crate::store::record::Content;
use crate::store::segments::SegmentFiles;
use crate::store::{RowStore, RowWrite, StoreError};

/// As many folders are synced one by one; for more, the whole file system is at once.
const SINGLE_SYNCS_MAX: usize = 4;

/// The key and the value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// A start that is under way.
#[derive(Debug)]
pub struct MessageRecovery {
    data_folder: PathBuf,
    files: SegmentFiles,
    quarantine: Quarantine,
    dirty: Arc<DirtyQueues>,
    checkpoint: Lsn,
    queues: HashMap<QueueId, Recovering>,
    /// Queues that have a folder.
    folders: BTreeSet<QueueId>,
}

/// A queue that is being recovered.
#[derive(Debug)]
pub(super) struct Recovering {
    pub(super) id: QueueId,
    pub(super) log: QueueLog,
    pub(super) findings: Vec<Finding>,
    /// Files without a row that can be used.
    pub(super) candidates: Vec<Candidate>,
    /// What the journal has of the queue, kept back until it is known which of the files are needed.
    pub(super) held: Vec<Held>,
    /// The first position of each lane that the journal has, if there are such files.
    pub(super) firsts: BTreeMap<u8, Position>,
    has_removed_files: bool,
}

impl Recovering {
    /// Removes a file without a row. Whoever goes on must sync its folder before the journal forgets what is in it.
    pub(super) fn remove(&mut self, files: &SegmentFiles, id: SegmentId) -> Result<(), StoreError> {
        self.has_removed_files = true;
        let removed = files.remove(id);
        removed.map_err(StoreError::io("remove", &files.path(id)))
    }

    fn saw(&mut self, position: Position) {
        if !self.candidates.is_empty() {
            let first = self.firsts.entry(position.lane()).or_insert(position);
            *first = position.min(*first);
        }
    }

    pub(super) fn find(&mut self, kind: FindingKind, detail: impl Into<String>) {
        self.findings.push(Finding {
            kind,
            queue: self.id,
            detail: detail.into(),
        });
    }
}

impl MessageRecovery {
    /// Begins with the `rows` of segments and queues, without their seals, and looks which files are there. `checkpoint` is where
    /// replay begins.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn new(
        disk: Arc<dyn Disk>,
        data_folder: &Path,
        rows: Vec<Row>,
        checkpoint: Lsn,
    ) -> Result<Self, StoreError> {
        let mut recovery = Self {
            data_folder: data_folder.to_owned(),
            files: SegmentFiles::new(Arc::clone(&disk), data_folder),
            quarantine: Quarantine::new(disk, data_folder),
            dirty: Arc::default(),
            checkpoint,
            queues: HashMap::new(),
            folders: BTreeSet::new(),
        };
        let mut by_queue: HashMap<QueueId, Vec<Row>> = HashMap::new();
        for (key, value) in rows {
            match queue_of_key(&key) {
                Some(queue) => by_queue.entry(queue).or_default().push((key, value)),
                None => tracing::error!("a row of the catalogue has a key of no queue: {key:02x?}"),
            }
        }
        let (found, folders) = recovery
            .files
            .list()
            .map_err(StoreError::io("read", recovery.files.folder()))?;
        // Folders that a process made which was killed before it synced.
        if !folders.is_empty() {
            for folder in [recovery.files.folder(), data_folder] {
                let synced = recovery.files.disk().sync_folder(folder);
                synced.map_err(StoreError::io("sync", folder))?;
            }
        }
        recovery.folders.extend(folders);
        let mut files_of: HashMap<QueueId, Vec<_>> = HashMap::new();
        for file in found {
            files_of.entry(file.id.queue).or_default().push(file);
        }
        let queues: BTreeSet<QueueId> = by_queue.keys().chain(files_of.keys()).copied().collect();
        for id in queues {
            let rows = by_queue.remove(&id).unwrap_or_default();
            let found = files_of.remove(&id).unwrap_or_default();
            let (log, problems) = QueueLog::from_rows(id, &rows, Arc::clone(&recovery.dirty));
            let mut queue = Recovering {
                id,
                log,
                findings: Vec::new(),
                candidates: Vec::new(),
                held: Vec::new(),
                firsts: BTreeMap::new(),
                has_removed_files: false,
            };
            inspect(&recovery.files, &mut queue, &rows, &problems, found)?;
            recovery.queues.insert(id, queue);
        }
        Ok(recovery)
    }

    /// Takes a record of the journal; in order. Definitions are passed over. `record_bytes` reach to the next record,
    /// `body_bytes` are those in the record.
    pub fn replay(
        &mut self,
        lsn: Lsn,
        record_bytes: u32,
        content: &Content<'_>,
        body_bytes: usize,
    ) {
        match content {
            Content::Message(meta) => {
                let body_bytes = meta.blob.map_or(body_bytes as u32, |blob| blob.bytes);
                for target in meta.targets() {
                    let queue = self.queue(target.queue);
                    queue.saw(target.position);
                    if target.is_transient {
                        continue;
                    }
                    let entry = JournalEntry {
                        position: target.position,
                        lsn,
                        record_bytes,
                        body_bytes,
                        is_transient: false,
                        may_expire: target.deadline_ms != WallMs::MAX,
                        has_blob: meta.blob.is_some(),
                    };
                    queue.replay(Held::Message(entry));
                }
            }
            Content::Settled { queue, runs } => {
                self.queue(*queue).replay(Held::Settled(lsn, runs.clone()));
            }
            Content::Purged {
                queue,
                last,
                survivors,
            } => {
                let held = Held::Purged(lsn, last.clone(), survivors.clone());
                self.queue(*queue).replay(held);
            }
            Content::Requeued { queue, counts } => {
                self.queue(*queue)
                    .replay(Held::Requeued(lsn, counts.clone()));
            }
            Content::Definitions => {}
        }
    }

    fn queue(&mut self, id: QueueId) -> &mut Recovering {
        self.queues.entry(id).or_insert_with(|| Recovering {
            id,
            log: QueueLog::new(id, Arc::clone(&self.dirty)),
            findings: Vec::new(),
            candidates: Vec::new(),
            held: Vec::new(),
            firsts: BTreeMap::new(),
            has_removed_files: false,
        })
    }

    /// Else a power cut after the next checkpoint could bring back a file without a row of which the journal knows nothing any more.
    fn sync_removals(&self) -> Result<(), StoreError> {
        let changed = self.queues.values().filter(|queue| queue.has_removed_files);
        let folders: Vec<PathBuf> = changed
            .map(|queue| self.files.queue_folder(queue.id))
            .collect();
        let disk = self.files.disk();
        if folders.len() > SINGLE_SYNCS_MAX {
            let folder = &self.data_folder;
            return disk
                .sync_all(folder)
                .map_err(StoreError::io("sync", folder));
        }
        for folder in folders {
            disk.sync_folder(&folder)
                .map_err(StoreError::io("sync", &folder))?;
        }
        Ok(())
    }

    /// The store, once all is replayed and the journal is started.
    ///
    /// # Errors
    /// A file that is needed cannot be read, or rows cannot be committed.
    pub fn finish(
        mut self,
        journal: Arc<Journal>,
        rows: Arc<dyn RowStore>,
        options: MessageOptions,
    ) -> Result<Arc<MessageStore>, StoreError> {
        let is_rebuilt = self.checkpoint == Lsn::default();
        let end = journal.end();
        let mut writes = Vec::new();
        for queue in self.queues.values_mut() {
            adopt(&self.files, &self.quarantine, queue, is_rebuilt)?;
            // Settlements from here on would else be taken for known.
            let as_of = queue.log.as_of();
            if as_of > end {
                queue.find(
                    FindingKind::JournalBehindRows,
                    format!("rows are as of {as_of}, the journal ends at {end}"),
                );
                queue.log.rows_not_written();
                let rows = queue.log.take_rows(end);
                writes.extend(
                    rows.puts
                        .into_iter()
                        .map(|(key, value)| RowWrite::Put { key, value }),
                );
            }
        }
        self.sync_removals()?;
        if !writes.is_empty() {
            rows.commit(writes, self.checkpoint)?;
        }
        let blobs = BlobHolders::default();
        let mut recovered = HashMap::new();
        for (id, queue) in self.queues {
            for blob in queue.log.live_blobs() {
                blobs.hold(blob, id);
            }
            let log = RecoveredLog {
                log: queue.log,
                findings: queue.findings,
            };
            recovered.insert(id, log);
        }
        let shared = Shared {
            data_folder: self.data_folder,
            journal,
            rows,
            files: self.files,
            owners: Owners::default(),
            dirty: self.dirty,
            blobs,
            quarantine: self.quarantine,
            counters: Counters::default(),
            options,
            removals: parking_lot::Mutex::default(),
        };
        Ok(Arc::new(MessageStore::new(
            Arc::new(shared),
            self.checkpoint,
            recovered,
            self.folders,
        )))
    }
}
