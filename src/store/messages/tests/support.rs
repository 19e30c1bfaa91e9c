//! A node that has nothing but messages: a journal, a catalogue of rows that is one file, queues that are a log each.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::super::*;
use crate::model::{Message, Position, QueueId, WallMs};
use crate::protocol::{Properties, PropertyFacts};
use crate::store::disk::{Access, Disk, DiskFile};
use crate::store::journal::{self, BodyCrc, Journal, JournalOptions, Lsn, SyncMode};
use crate::store::queue_log::{JournalEntry, LogFigures, QueueLog, RecoveredLanes};
use crate::store::record::{Run, Target};
use crate::store::{RowStore, RowWrite, StoreError};

pub(super) fn folder() -> &'static Path {
    Path::new("/data")
}

/// Rows in one file that is replaced as a whole.
#[derive(Debug)]
pub(super) struct FileRows {
    disk: Arc<dyn Disk>,
    held: Mutex<Held>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) checkpoint: Lsn,
}

impl FileRows {
    fn path() -> PathBuf {
        folder().join("rows")
    }

    pub(super) fn open(disk: Arc<dyn Disk>) -> Self {
        let mut held = Held::default();
        if let Ok(file) = disk.open(&Self::path(), Access::Read) {
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let mut parts = Vec::new();
            let (checkpoint, mut rest) = bytes.split_first_chunk().unwrap();
            held.checkpoint = Lsn(u64::from_le_bytes(*checkpoint));
            while let Some((length, tail)) = rest.split_first_chunk::<4>() {
                let (part, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
                parts.push(part.to_vec());
                rest = tail;
            }
            for pair in parts.chunks_exact(2) {
                held.rows.insert(pair[0].clone(), pair[1].clone());
            }
        }
        Self {
            disk,
            held: Mutex::new(held),
        }
    }

    pub(super) fn held(&self) -> Held {
        self.held.lock().clone()
    }

    /// Replaces the file: what a commit does, and a test that spoils rows.
    pub(super) fn write(&self, held: &Held) -> io::Result<()> {
        let mut bytes = held.checkpoint.0.to_le_bytes().to_vec();
        for part in held.rows.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        let new = folder().join("rows.new");
        let file = self.disk.open(&new, Access::Create)?;
        file.set_len(0)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        self.disk.rename(&new, &Self::path())?;
        self.disk.sync_folder(folder())
    }
}

impl RowStore for FileRows {
    fn commit(&self, writes: Vec<RowWrite>, checkpoint: Lsn) -> Result<(), StoreError> {
        let mut changed = self.held();
        changed.checkpoint = changed.checkpoint.max(checkpoint);
        for write in writes {
            match write {
                RowWrite::Put { key, value } => changed.rows.insert(key, value),
                RowWrite::Delete { key } => changed.rows.remove(&key),
            };
        }
        self.write(&changed)
            .map_err(StoreError::io("write", &Self::path()))?;
        *self.held.lock() = changed;
        Ok(())
    }
}

/// A queue that is nothing but its log.
pub(super) struct TestQueue(Mutex<Option<QueueLog>>);

impl LogOwner for TestQueue {
    fn with_log(&self, act: &mut dyn FnMut(&mut QueueLog)) -> bool {
        self.0.lock().as_mut().map(act).is_some()
    }
}

/// A disk whose machine dies after so many more changes.
#[derive(Clone, Debug)]
pub(super) struct MortalDisk {
    disk: Arc<dyn Disk>,
    left: Arc<AtomicI64>,
}

impl MortalDisk {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            left: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }

    pub(super) fn die_after(&self, changes: i64) {
        self.left.store(changes, Ordering::Relaxed);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 0
    }

    fn live(&self) -> io::Result<()> {
        match self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => Err(io::Error::other("the machine is dead")),
        }
    }
}

#[derive(Debug)]
struct MortalFile(Box<dyn DiskFile>, MortalDisk);

impl Disk for MortalDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        if access == Access::Create {
            self.live()?;
        }
        let file = self.disk.open(path, access)?;
        Ok(Box::new(MortalFile(file, self.clone())))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.disk.make_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.live()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.disk.remove(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.disk.remove_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.disk.sync_folder(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.live()?;
        self.disk.sync_all(path)
    }
}

impl DiskFile for MortalFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.live()?;
        self.0.write_all_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.1.live()?;
        self.0.allocate(bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.1.live()?;
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.live()?;
        self.0.sync_data()
    }
}

/// Small files, so that few messages fill several.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub(super) journal_bytes: u64,
    pub(super) journal_blob_bytes: u64,
    pub(super) messages: MessageOptions,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            journal_bytes: 64 * 1024,
            journal_blob_bytes: u64::MAX,
            messages: MessageOptions {
                sealed_files_max: 0,
                segment_bytes_max: 128 * 1024,
                has_thread: false,
                ..MessageOptions::default()
            },
        }
    }
}

pub(super) struct Node {
    pub(super) journal: Arc<Journal>,
    pub(super) store: Arc<MessageStore>,
    pub(super) rows: Arc<FileRows>,
    pub(super) queues: BTreeMap<QueueId, Arc<TestQueue>>,
    /// As each queue was found.
    pub(super) recovered: BTreeMap<QueueId, RecoveredLanes>,
    next: BTreeMap<(QueueId, u8), u64>,
}

impl Node {
    /// Starts on what the disk has, with these queues.
    pub(super) fn start(disk: Arc<dyn Disk>, sizes: &Sizes, queues: &[u64]) -> Self {
        Self::try_start(disk, sizes, queues).unwrap()
    }

    pub(super) fn try_start(
        disk: Arc<dyn Disk>,
        sizes: &Sizes,
        queues: &[u64],
    ) -> Result<Self, StoreError> {
        let rows = Arc::new(FileRows::open(Arc::clone(&disk)));
        let held = rows.held();
        let pairs = held.rows.into_iter().collect();
        let mut recovery =
            MessageRecovery::new(Arc::clone(&disk), folder(), pairs, held.checkpoint)?;
        let replayed = journal::replay(
            &disk,
            folder(),
            held.checkpoint,
            None,
            &mut |lsn, bytes, content, body| {
                recovery.replay(lsn, bytes, &content, body.len());
            },
        )?;
        let options = JournalOptions {
            file_bytes: sizes.journal_bytes,
            entries_max: 4096,
            blob_bytes_max: sizes.journal_blob_bytes,
            sync: SyncMode::Always,
            reserve_bytes: 0,
            ..JournalOptions::default()
        };
        let journal = Journal::start(Arc::clone(&disk), folder(), replayed, options)?;
        let store = recovery.finish(
            Arc::clone(&journal),
            Arc::clone(&rows) as Arc<dyn RowStore>,
            sizes.messages.clone(),
        )?;
        let mut node = Self {
            journal,
            store,
            rows,
            queues: BTreeMap::new(),
            recovered: BTreeMap::new(),
            next: BTreeMap::new(),
        };
        for queue in queues {
            node.add_queue(QueueId(*queue));
        }
        node.store.finish_recovery(true)?;
        Ok(node)
    }

    pub(super) fn add_queue(&mut self, id: QueueId) {
        let log = match self.store.take_recovered(id) {
            Some(mut log) => {
                let recovered = log.recovered();
                for lane in &recovered.lanes {
                    self.next.insert((id, lane.lane), lane.next.sequence());
                }
                self.recovered.insert(id, recovered);
                log
            }
            None => self.store.new_log(id),
        };
        let queue = Arc::new(TestQueue(Mutex::new(Some(log))));
        let owner: Weak<dyn LogOwner> = Arc::downgrade(&(Arc::clone(&queue) as Arc<dyn LogOwner>));
        self.store.register(id, owner);
        self.queues.insert(id, queue);
    }

    pub(super) fn delete_queue(&mut self, id: u64) {
        if let Some(queue) = self.queues.remove(&QueueId(id)) {
            let log = queue.0.lock().take().unwrap();
            self.store.forget(QueueId(id), log);
        }
    }

    pub(super) fn log<T>(&self, queue: u64, act: impl FnOnce(&mut QueueLog) -> T) -> T {
        let queue = &self.queues[&QueueId(queue)];
        act(queue.0.lock().as_mut().unwrap())
    }

    /// Publishes a body to a lane of queues; gives the positions there.
    pub(super) fn publish_to(
        &mut self,
        queues: &[u64],
        lane: u8,
        body: &[u8],
        is_transient: bool,
    ) -> Vec<Position> {
        let properties = Properties::default().to_encoded();
        let facts = PropertyFacts::of(&properties).unwrap();
        let message = Message::copied("ex".into(), b"key", &properties, facts, body);
        let targets: Vec<Target> = queues
            .iter()
            .map(|queue| {
                let next = self.next.entry((QueueId(*queue), lane)).or_insert(1);
                let position = Position::new(lane, *next);
                *next += 1;
                Target {
                    queue: QueueId(*queue),
                    position,
                    deadline_ms: WallMs::MAX,
                    is_transient,
                }
            })
            .collect();
        let crc = BodyCrc::of(&message);
        let appended = match is_transient {
            true => self.journal.append().transient(&message, crc, &targets),
            false => self.journal.append().message(&message, crc, &targets),
        };
        for target in &targets {
            let entry = JournalEntry {
                position: target.position,
                lsn: appended.lsn,
                record_bytes: appended.record_bytes,
                body_bytes: body.len() as u32,
                is_transient,
                may_expire: false,
                has_blob: appended.blob.is_some(),
            };
            self.log(target.queue.0, |log| assert!(log.appended(entry)));
        }
        targets.iter().map(|target| target.position).collect()
    }

    /// Publishes to lane 0 of one queue.
    pub(super) fn publish(&mut self, queue: u64, body: &[u8]) -> Position {
        self.publish_to(&[queue], 0, body, false)[0]
    }

    /// `count` messages of 1 KiB, each beginning with its number.
    pub(super) fn fill(&mut self, queue: u64, count: u64) -> Vec<Position> {
        (0..count)
            .map(|number| {
                let mut body = vec![7; 1024];
                body[..8].copy_from_slice(&number.to_le_bytes());
                self.publish(queue, &body)
            })
            .collect()
    }

    pub(super) fn settle(&self, queue: u64, position: Position, body_bytes: u32) {
        let mut runs: Vec<Run> = Vec::new();
        self.log(queue, |log| {
            assert!(log.settle(position, body_bytes, &mut runs));
            if !runs.is_empty() {
                self.journal.append().settled(QueueId(queue), &runs);
            }
        });
    }

    pub(super) fn purge(&self, queue: u64) {
        self.log(queue, |log| {
            let purged = log.purge(&[]);
            self.journal
                .append()
                .purged(QueueId(queue), &purged.last, &purged.survivors);
        });
    }

    /// Publishes to a queue of its own until all files before are sealed.
    pub(super) fn seal(&mut self, filler: u64) {
        self.journal.flush().unwrap();
        let end = self.journal.end();
        while !self.journal.sealed().iter().any(|sealed| sealed.end >= end) {
            let position = self.publish(filler, &[0; 8 * 1024]);
            self.settle(filler, position, 8 * 1024);
            self.journal.flush().unwrap();
        }
    }

    /// What a queue's lane has, as it is read in blocks of about `bytes_max`.
    pub(super) fn read_all(&self, queue: u64, lane: u8, bytes_max: u64) -> Read {
        let mut read = Read::default();
        let mut first = Position::new(lane, 1);
        let last = Position::new(lane, Position::SEQUENCE_MAX);
        let mut retries = 0;
        while first < last {
            let plan = self.log(queue, |log| log.plan(first, last, bytes_max));
            let block = self.store.read(QueueId(queue), &plan);
            if block.failed {
                read.failed = true;
                return read;
            }
            retries = if block.retry { retries + 1 } else { 0 };
            assert!(retries < 3, "{block:?}");
            for message in block.messages {
                assert!(message.position >= first, "order");
                read.messages
                    .insert(message.position, message.message.body().to_vec());
                first = message.position.next();
            }
            read.damaged.extend(block.damaged);
            if let Some(through) = block.through {
                first = through.next();
            }
        }
        read
    }

    pub(super) fn figures(&self, queue: u64) -> LogFigures {
        self.log(queue, |log| log.figures())
    }

    pub(super) fn labels(&self) -> Vec<&'static str> {
        let findings = self.store.findings();
        let mut labels: Vec<_> = findings.iter().map(|found| found.kind.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}

/// What was read.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) messages: BTreeMap<Position, Vec<u8>>,
    pub(super) damaged: Vec<Position>,
    /// The disk refused.
    pub(super) failed: bool,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bodies = self.messages.iter();
        let lengths: Vec<_> = bodies.map(|(at, body)| (at.0, body.len())).collect();
        write!(
            f,
            "{lengths:?}, damaged {:?}, failed: {}",
            self.damaged, self.failed
        )
    }
}
