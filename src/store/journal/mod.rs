//! The journal: what makes a message durable. One sequence of records for the whole node.
//!
//! In: records, from queues and from the definitions' store. Out: their places, when they are synced, and at start all of them again;
//! full files, for the checkpoint to move what is still needed out of them. What a queue is, or when a message may go, is not
//! known here.
//!
//! # On disk
//!
//! `journal/wal-<generation>` in the data folder, one after the other: a header in block 0 (`format`), then frames. A frame is what gathered
//! while the last one was synced: a header and records ([`super::record`]), filled up with zeros to a multiple of 4096. Each is
//! written and synced as a whole, and comes back as a whole or not at all. The place of a record is an [`Lsn`]: the file's start and
//! the offset in it; the next file starts where the one before ended. A file that is no longer needed is used again. Bodies above 1 MiB
//! are files of their own, `blobs/<Lsn of the record>`, synced before the frame with their record.
//!
//! # Who does what
//!
//! | part | role |
//! |---|---|
//! | `input` | takes records, under a short lock, and gives their places |
//! | `writer` | the thread that writes and syncs |
//! | `waiters` | who is told when something is synced |
//! | `files` | which place is in which file; files come, are used again and go |
//! | `blobs` | files for large bodies |
//! | `scan` | which frames are in a file, whole or not |
//! | `replay` | what is there at start, and what is made of damage |
//!
//! A lock of this module is taken last: nobody calls out while holding one, or reads or writes a file.

mod blobs;
mod files;
mod format;
mod input;
mod replay;
mod report;
mod scan;
mod waiters;
mod writer;

pub use blobs::Blobs;
pub use input::{Appended, Appender, BodyCrc};
pub use replay::{Recovered, Visit, replay};
pub use report::{DamagedPiece, ReplayCase, ReplayReport};

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use files::Files;
use input::{Batch, Full, Input};
use waiters::{Due, Until, Waiters};
use writer::Writer;

use super::StoreError;
use super::disk::{Disk, DiskFile};
use super::record::{BlobRef, Damage, Head};
use crate::model::QueueId;

/// The folder of the journal in the data folder.
const FOLDER: &str = "journal";

/// A place in the journal, in bytes. Grows for ever; the next file starts where the one before ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Everything before it was handed to the system; kill -9 does not touch it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WrittenLsn(pub Lsn);

/// Everything before it survives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncedLsn(pub Lsn);

/// When what is written is synced, and so what a confirm means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Each frame, before it is confirmed.
    Always,
    /// At most this long after a frame was written; confirms do not wait for it.
    Interval(Duration),
    /// Only full files; confirms do not wait for it.
    Never,
}

impl SyncMode {
    /// What records ask for that do not say.
    pub fn demand(self) -> SyncDemand {
        match self {
            Self::Always => SyncDemand::Always,
            Self::Interval(_) => SyncDemand::Interval,
            Self::Never => SyncDemand::Never,
        }
    }
}

/// What a record asks for, and so what a confirm waits for. The strictest record of a frame decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncDemand {
    /// To be written; it is synced with others.
    Never,
    /// To be written, and synced within the interval.
    Interval,
    /// To be synced.
    Always,
}

impl SyncDemand {
    /// The one of that name in policies.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "always" => Self::Always,
            "interval" => Self::Interval,
            "never" => Self::Never,
            _ => return None,
        })
    }

    /// Its name in policies and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Never => "never",
        }
    }

    /// Whether a confirm may be given for what a power cut would lose.
    pub const fn is_relaxed(self) -> bool {
        !matches!(self, Self::Always)
    }
}

/// How the journal works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// The usual length of a file.
    pub file_bytes: u64,
    /// A file with this many messages, counted for each queue, is full.
    pub entries_max: u32,
    /// A file whose records name so many bytes of large bodies is full: these stay on the disk as long as it does, settled or not.
    pub blob_bytes_max: u64,
    /// When to sync.
    pub sync: SyncMode,
    /// The time between syncs for records that ask for an interval, if `sync` has none.
    pub sync_interval: Duration,
    /// Records that nobody waits for are written after this time.
    pub settle_delay: Duration,
    /// Time between attempts while there is no space.
    pub full_retry: Duration,
    /// Bytes that are kept free on the disk for a start, and for when everything else is full.
    pub reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            file_bytes: 32 * 1024 * 1024,
            entries_max: 128 * 1024,
            blob_bytes_max: 64 * 1024 * 1024,
            sync: SyncMode::Always,
            sync_interval: Duration::from_millis(200),
            settle_delay: Duration::from_millis(200),
            full_retry: Duration::from_secs(1),
            reserve_bytes: 8 * 1024 * 1024,
        }
    }
}

/// A file that is full and synced to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// Its number.
    pub generation: u64,
    /// Where it starts.
    pub start: Lsn,
    /// Where its last frame ends.
    pub end: Lsn,
    /// The queues to which messages in it went, sorted.
    pub queues: Vec<QueueId>,
    /// Bytes up to its end.
    pub bytes: u64,
    /// Bytes of large bodies that its records name, and that stay as long as it does.
    pub blob_bytes: u64,
}

/// Frees the room that is kept for a start. To be called before anything is opened; the journal keeps it again.
pub fn free_reserve(disk: &dyn Disk, data_folder: &Path) {
    files::remove_reserve(disk, &data_folder.join(FOLDER));
}

/// What the journal has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Bytes written, large bodies and padding included.
    pub written_bytes: u64,
    /// Frames written.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Syncs of frames.
    pub syncs: u64,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Its file was let go of: it is somewhere else now, or settled.
    #[error("the journal file is gone")]
    Recycled,
    /// The journal failed before it was written.
    #[error("it was never written")]
    NotWritten,
    /// It is not what was written.
    #[error("damaged: {0}")]
    Damaged(#[from] Damage),
    /// The system's error.
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged(Damage::Cut),
            _ => Self::Io(error.to_string()),
        }
    }
}

type Listener = Arc<dyn Fn() + Send + Sync>;

/// What appenders, readers and the writer share.
struct Shared {
    options: JournalOptions,
    input: Mutex<Input>,
    /// Wakes the writer.
    work: Condvar,
    written: AtomicU64,
    synced: AtomicU64,
    /// Set last when the journal ends, before those who wait are told.
    failure: Mutex<Option<StoreError>>,
    has_failed: AtomicBool,
    /// The next file could not be allocated.
    is_full: AtomicBool,
    /// When that last was no longer so.
    full_until: Mutex<Option<Instant>>,
    /// Not even what is left could take a frame.
    is_stuck: AtomicBool,
    backlog_bytes: AtomicU64,
    waiters: Waiters,
    files: Files,
    blobs: Blobs,
    on_seal: Mutex<Option<Listener>>,
    on_full: Mutex<Option<Listener>>,
    written_bytes: AtomicU64,
    frames: AtomicU64,
    records: AtomicU64,
    syncs: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .field("written", &self.written)
            .field("synced", &self.synced)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn synced(&self) -> SyncedLsn {
        SyncedLsn(Lsn(self.synced.load(Ordering::Acquire)))
    }

    fn written(&self) -> WrittenLsn {
        WrittenLsn(Lsn(self.written.load(Ordering::Acquire)))
    }

    fn confirmable(&self) -> Lsn {
        match self.options.sync {
            SyncMode::Always => self.synced().0,
            SyncMode::Interval(_) | SyncMode::Never => self.written().0,
        }
    }

    fn failure(&self) -> Option<StoreError> {
        match self.has_failed.load(Ordering::Acquire) {
            true => self.failure.lock().clone(),
            false => None,
        }
    }

    fn count_appended(&self, bytes: u64) {
        self.backlog_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn count_written(&self, batch: &Batch) {
        let held_bytes = batch.held_bytes();
        self.backlog_bytes.fetch_sub(held_bytes, Ordering::Relaxed);
        let bytes = batch.bytes.len() as u64 + batch.blob_bytes;
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
        let records = u64::from(batch.records);
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Ends the journal: nothing more is written, those who wait hear why.
    fn fail(&self, failure: StoreError, due: &mut Due) {
        {
            let mut input = self.input.lock();
            input.has_failed = true;
            input.discard();
        }
        self.backlog_bytes.store(0, Ordering::Relaxed);
        self.is_full.store(false, Ordering::Relaxed);
        self.is_stuck.store(false, Ordering::Relaxed);
        *self.failure.lock() = Some(failure.clone());
        self.has_failed.store(true, Ordering::Release);
        self.waiters.failed(failure, due);
    }

    /// The next file cannot be allocated.
    fn set_full(&self) {
        if self.is_full.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            path = %self.files.folder().display(),
            "no space left for the next file of the journal: publishers wait until there is; consumers go on, nothing is lost"
        );
        let on_full = self.on_full.lock().clone();
        if let Some(on_full) = on_full {
            on_full();
        }
    }

    /// The next file is allocated.
    fn set_roomy(&self) {
        if !self.is_full.load(Ordering::Relaxed) {
            return;
        }
        *self.full_until.lock() = Some(Instant::now());
        self.is_full.store(false, Ordering::Relaxed);
        tracing::info!(path = %self.files.folder().display(), "there is space for the journal again");
    }

    /// Has the writer look for space now, if it is short of it.
    fn try_for_room(&self) {
        if !self.is_full.load(Ordering::Relaxed) {
            return;
        }
        let mut input = self.input.lock();
        input.has_new_room = true;
        input.writer_sleeps = false;
        self.work.notify_one();
    }

    /// Lets the writer write, and with `is_strict` also sync, what is appended before `lsn`.
    fn want(&self, lsn: Lsn, is_strict: bool) {
        let mut input = self.input.lock();
        if lsn.0 > input.gathered.base && input.has_records() {
            input.is_wanted = true;
        }
        if is_strict {
            input.sync_through = input.sync_through.max(lsn.0);
        }
        if (input.is_wanted || is_strict) && std::mem::take(&mut input.writer_sleeps) {
            self.work.notify_one();
        }
    }

    fn when(&self, until: Until, lsn: Lsn, done: waiters::Done) {
        let known = self.waiters.add(until, lsn, done, || {
            let reached = match until {
                Until::Written => self.written().0,
                Until::Synced => self.synced().0,
            };
            match reached >= lsn {
                true => Some(Ok(())),
                false => self.failure().map(Err),
            }
        });
        match known {
            Some((done, outcome)) => waiters::call(done, outcome),
            None => self.want(lsn, until == Until::Synced),
        }
    }
}

/// The journal of a node. See the module.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Goes on behind what [`replay()`] found, in a file of its own, and starts the thread `journal`.
    ///
    /// # Errors
    /// A file cannot be made. That there is no space is no error: see [`Journal::is_full`].
    pub fn start(
        disk: Arc<dyn Disk>,
        data_folder: &Path,
        recovered: Recovered,
        options: JournalOptions,
    ) -> Result<Arc<Self>, StoreError> {
        let folder = data_folder.join(FOLDER);
        disk.make_folder(&folder)
            .and_then(|()| disk.sync_folder(data_folder))
            .map_err(StoreError::io("create", &folder))?;
        files::remove_reserve(&*disk, &folder);
        let (file_bytes, reserve_bytes) = (options.file_bytes, options.reserve_bytes);
        let files = Files::new(disk.clone(), folder.clone(), file_bytes, reserve_bytes);
        files
            .adopt(recovered.files, recovered.unused)
            .map_err(StoreError::io("use", &folder))?;
        let header = recovered.next;
        // Usually the last frame of a file still fits into what is reserved.
        let full = Full {
            bytes: options.file_bytes - options.file_bytes / 16,
            entries: options.entries_max,
            blob_bytes: options.blob_bytes_max,
        };
        let shared = Arc::new(Shared {
            options,
            input: Mutex::new(Input::new(header, full)),
            work: Condvar::new(),
            written: AtomicU64::new(header.start.0),
            synced: AtomicU64::new(header.start.0),
            failure: Mutex::default(),
            has_failed: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            full_until: Mutex::default(),
            is_stuck: AtomicBool::new(false),
            backlog_bytes: AtomicU64::new(0),
            waiters: Waiters::default(),
            files,
            blobs: Blobs::open(disk, data_folder)?,
            on_seal: Mutex::default(),
            on_full: Mutex::default(),
            written_bytes: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            records: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        });
        let mut writer = Writer::new(shared.clone(), header.first_number);
        writer.begin_file(header)?;
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(|| writer.run())
            .map_err(StoreError::io("start a thread for", &folder))?;
        Ok(Arc::new(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Holds the input, to append to it. Hold it briefly: while it is held, no other method may be called on this thread.
    pub fn append(&self) -> Appender<'_> {
        Appender::new(&self.shared)
    }

    /// What must be synced so that everything appended so far, by anyone, is durable. Not for the holder of an [`Appender`],
    /// which has the same.
    pub fn end(&self) -> Lsn {
        self.shared.input.lock().end()
    }

    /// What survives a power cut.
    pub fn synced(&self) -> SyncedLsn {
        self.shared.synced()
    }

    /// What was handed to the system.
    pub fn written(&self) -> WrittenLsn {
        self.shared.written()
    }

    /// What confirms wait for: synced, or in the relaxed modes written.
    pub fn confirmable(&self) -> Lsn {
        self.shared.confirmable()
    }

    /// What records ask for that do not say.
    pub fn default_demand(&self) -> SyncDemand {
        self.shared.options.sync.demand()
    }

    /// Calls `done` once [`Journal::confirmable`] has reached `lsn` (see [`Appender::end`]), or with the failure; on the journal's thread, or
    /// at once on this one. Lets the writer write it now.
    pub fn when_synced(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<(), StoreError>) + Send>) {
        self.when_safe(lsn, self.default_demand(), done);
    }

    /// As [`Journal::when_synced`], for what was appended with this demand: a relaxed one is content with what is written.
    pub fn when_safe(
        &self,
        lsn: Lsn,
        demand: SyncDemand,
        done: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
    ) {
        let until = match demand.is_relaxed() {
            true => Until::Written,
            false => Until::Synced,
        };
        self.shared.when(until, lsn, done);
    }

    /// Wakes `waker` once, when [`Journal::written`] or [`Journal::synced`] next advances or the journal fails. Whoever registers looks at
    /// both afterwards: what came before is not told.
    pub fn wake_after_sync(&self, waker: &Waker) {
        self.shared.waiters.add_waker(waker);
    }

    /// Why nothing is stored any more.
    pub fn failure(&self) -> Option<StoreError> {
        self.shared.failure()
    }

    /// Whether there is no space for its next file. What is left of the current one is for settlements and for what is under
    /// way; who publishes is to wait.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// For how long there has been space for the next file: the longest time if there always was, `None` if there is none.
    pub fn roomy_for(&self) -> Option<Duration> {
        if self.is_full() {
            return None;
        }
        let full_until = *self.shared.full_until.lock();
        Some(full_until.map_or(Duration::MAX, |until| until.elapsed()))
    }

    /// Whether not even a frame can be written for want of space, so that nothing is synced until there is some.
    pub fn is_stuck(&self) -> bool {
        self.shared.is_stuck.load(Ordering::Relaxed)
    }

    /// The usual length of a file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.shared.options.file_bytes
    }

    /// Gives the reserve up, for rows that must be committed on a full disk. It is made again when there is room.
    pub fn give_up_reserve(&self) {
        self.shared.files.give_up_reserve();
    }

    /// Something was removed from the disk: space is looked for at once, if there was none.
    pub fn room_was_made(&self) {
        self.shared.try_for_room();
    }

    /// Bytes that are appended and not written, large bodies included.
    pub fn backlog_bytes(&self) -> u64 {
        self.shared.backlog_bytes.load(Ordering::Relaxed)
    }

    /// A record as it was appended, checked in all its parts. Never waits for the writer: what is not written yet comes from memory.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&self, lsn: Lsn, bytes: u32) -> Result<Vec<u8>, ReadError> {
        let bytes = bytes as usize;
        if let Some(record) = self.in_memory(|batch| batch.get(lsn, bytes).map(<[u8]>::to_vec)) {
            return Ok(checked(record, lsn)?);
        }
        let result = self.read_file(lsn, bytes);
        // What a file holds that was used again meanwhile is no damage.
        match result {
            Err(ReadError::Damaged(_) | ReadError::Io(_))
                if self.shared.files.find(lsn).is_none() =>
            {
                Err(ReadError::Recycled)
            }
            result => result,
        }
    }

    fn read_file(&self, lsn: Lsn, bytes: usize) -> Result<Vec<u8>, ReadError> {
        if lsn.0.saturating_add(bytes as u64) > self.written().0.0 {
            return Err(ReadError::NotWritten);
        }
        let found = self.shared.files.find(lsn);
        let (file, offset) = found.ok_or(ReadError::Recycled)?;
        let mut record = vec![0; bytes];
        file.read_exact_at(&mut record, offset)?;
        Ok(checked(record, lsn)?)
    }

    /// The file that has a place, and where the place is in it: to read many records at once, unchecked. It must not be recycled
    /// meanwhile, which only the caller does.
    pub fn file_of(&self, lsn: Lsn) -> Option<(Arc<dyn DiskFile>, u64)> {
        self.shared.files.find(lsn)
    }

    /// The body of a message whose record names a file for it, checked.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_blob(&self, blob: BlobRef) -> Result<Bytes, ReadError> {
        match self.in_memory(|batch| batch.blob(blob.blob).cloned()) {
            Some(body) => Ok(body),
            None => self.shared.blobs.read(blob),
        }
    }

    /// The files of large bodies.
    pub fn blobs(&self) -> &Blobs {
        &self.shared.blobs
    }

    /// Files that are in use: the current one, and those that no checkpoint has emptied yet.
    pub fn files(&self) -> usize {
        self.shared.files.count()
    }

    /// Files that are full and synced, the oldest first.
    pub fn sealed(&self) -> Vec<SealedFile> {
        self.shared.files.sealed()
    }

    /// Lets go of a full file: nothing in it is needed any more, and the catalogue says durably that replay begins behind it.
    ///
    /// # Errors
    /// The system's.
    pub fn recycle(&self, generation: u64) -> Result<(), StoreError> {
        self.shared.files.recycle(generation)?;
        self.room_was_made();
        Ok(())
    }

    /// Has `on_seal` called on the journal's thread whenever a file is full. It must be brief.
    pub fn set_on_seal(&self, on_seal: Box<dyn Fn() + Send + Sync>) {
        *self.shared.on_seal.lock() = Some(on_seal.into());
    }

    /// Has `on_full` called on the journal's thread whenever [`Journal::is_full`] becomes true. It must be brief.
    pub fn set_on_full(&self, on_full: Box<dyn Fn() + Send + Sync>) {
        *self.shared.on_full.lock() = Some(on_full.into());
    }

    /// Waits until everything that was appended is synced, whatever the mode. Not for the journal's own thread.
    ///
    /// # Errors
    /// The journal has failed.
    pub fn flush(&self) -> Result<(), StoreError> {
        let end = self.end();
        let (sender, receiver) = mpsc::sync_channel(1);
        let done = move |outcome| {
            let _ = sender.send(outcome);
        };
        self.shared.when(Until::Synced, end, Box::new(done));
        receiver.recv().map_err(|_| StoreError::Closed)?
    }

    /// Writes and syncs what was appended and ends the thread. Gives the end, for the mark of a clean stop. What waits for
    /// space fails.
    ///
    /// # Errors
    /// The journal has failed; [`StoreError::Closed`] if it was closed before.
    pub fn close(&self) -> Result<Lsn, StoreError> {
        let thread = self.thread.lock().take().ok_or(StoreError::Closed)?;
        {
            let mut input = self.shared.input.lock();
            input.is_closing = true;
            input.writer_sleeps = false;
        }
        self.shared.work.notify_one();
        if thread.thread().id() != std::thread::current().id() {
            // Its panics end as a failure.
            let _ = thread.join();
        }
        match self.shared.failure() {
            None | Some(StoreError::Closed) => Ok(self.synced().0),
            Some(failure) => Err(failure),
        }
    }

    /// What it has done since it was started.
    pub fn stats(&self) -> JournalStats {
        JournalStats {
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
            frames: self.shared.frames.load(Ordering::Relaxed),
            records: self.shared.records.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
        }
    }

    /// Looks into what is not written yet.
    fn in_memory<T>(&self, look: impl Fn(&Batch) -> Option<T>) -> Option<T> {
        let in_flight = {
            let input = self.shared.input.lock();
            if let Some(found) = look(&input.gathered) {
                return Some(found);
            }
            input.in_flight.clone()?
        };
        look(&in_flight)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

fn checked(record: Vec<u8>, lsn: Lsn) -> Result<Vec<u8>, Damage> {
    let head = Head::parse(&record, lsn.0)?;
    if head.record_bytes() != record.len() {
        return Err(Damage::Cut);
    }
    head.check_body(&record)?;
    Ok(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
