//! The journal's thread: it alone writes.
//!
//! In: what gathered in the input. Out: frames on disk, positions as they advance, failures. What a record means is not known here.
//!
//! It takes all that has gathered, writes it, syncs it, tells who waited; meanwhile the next frame gathers. There is no other
//! delay. An error is handled in one of two ways: when there is no space, nothing is lost, and the same write is tried again
//! until there is; any other error of a write and every error of a sync ends the journal for good, because nothing is known
//! then of what the disk holds, and a second sync would tell nothing.
//!
//! That there is no space shows ahead: the next file is allocated when the current one is begun. If that fails, the journal counts
//! as full, and whoever publishes is stopped, while what frees space (settlements, and the checkpoints that rest on them) is still
//! written to the current file. It is tried again until the next file is there. If a write finds no space all the same, a large
//! body or a frame beyond the file's end, the files kept for later are given up for it, and then the reserve.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::files::{QueueList, path_of};
use super::format::FileHeader;
use super::input::{Batch, Input};
use super::waiters::Due;
use super::{Lsn, SealedFile, Shared, SyncDemand, SyncMode};
use crate::store::StoreError;
use crate::store::disk::{DiskFile, is_out_of_space};

/// After this time without work the buffers are given back.
const IDLE: Duration = Duration::from_secs(2);

/// What is to be done next.
enum Work {
    /// A frame was taken, and is to be written.
    Frame,
    /// What is written is to be synced.
    Sync,
    /// The next file is to be allocated.
    Prepare,
    /// Nothing came for a while.
    Idle,
    /// Everything is written, and no more will come.
    End,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The frame that is being written; empty otherwise.
    batch: Arc<Batch>,
    current: Option<Current>,
    /// Of the current file.
    queues: QueueList,
    written_number: u64,
    synced_number: u64,
    synced_at: Instant,
    /// When the next file is to be allocated; `None` when it is there.
    prepare_at: Option<Instant>,
    /// That not even a frame could be written was logged, since the journal became full.
    has_told_stuck: bool,
    is_idle: bool,
    /// Something that was written and not synced asks for an interval.
    has_interval_due: bool,
    due: Due,
}

struct Current {
    header: FileHeader,
    file: Arc<dyn DiskFile>,
}

impl Writer {
    /// A writer whose first frame will have `first_number`.
    pub(super) fn new(shared: Arc<Shared>, first_number: u64) -> Self {
        Self {
            shared,
            batch: Arc::default(),
            current: None,
            queues: QueueList::default(),
            written_number: first_number - 1,
            synced_number: first_number - 1,
            synced_at: Instant::now(),
            prepare_at: None,
            has_told_stuck: false,
            is_idle: false,
            has_interval_due: false,
            due: Due::default(),
        }
    }

    /// Begins the first file before there is anything to write, so that an error shows at start, and allocates the next.
    pub(super) fn begin_file(&mut self, header: FileHeader) -> Result<(), StoreError> {
        let file = self.shared.files.begin(&header);
        match file {
            Ok(file) => self.current = Some(Current { header, file }),
            Err(error) if is_out_of_space(&error) => {}
            Err(error) => {
                let path = path_of(self.shared.files.folder(), header.generation);
                return Err(StoreError::io("create", &path)(error));
            }
        }
        self.prepare(header.generation);
        Ok(())
    }

    /// Allocates the file behind that of `generation`.
    fn prepare(&mut self, generation: u64) {
        self.prepare_at = match self.shared.files.prepare(generation) {
            Err(error) if is_out_of_space(&error) => {
                self.shared.set_full();
                Some(Instant::now() + self.shared.options.full_retry)
            }
            Ok(()) => {
                self.shared.files.keep_reserve();
                self.shared.set_roomy();
                self.has_told_stuck = false;
                None
            }
            // It shows when that file is begun, if it is still so.
            Err(_) => None,
        };
    }

    /// Works until the journal is closed or has failed.
    pub(super) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work()));
        let failure = match outcome {
            Ok(Ok(())) => StoreError::Closed,
            Ok(Err(failure)) => failure,
            Err(_) => StoreError::Io {
                action: "write",
                path: self.shared.files.folder().to_owned(),
                reason: "a panic of the journal's thread; this is a defect".to_owned(),
            },
        };
        if failure != StoreError::Closed {
            tracing::error!(%failure, "nothing more can be stored; free or replace the disk, then restart haremq");
        }
        self.shared.fail(failure, &mut self.due);
    }

    fn work(&mut self) -> Result<(), StoreError> {
        loop {
            match self.next_work() {
                Work::Frame => {
                    self.write_frame()?;
                    self.finish_frame();
                }
                Work::Sync => {
                    self.sync()?;
                    self.tell();
                }
                Work::Prepare => self.prepare_next(),
                Work::Idle => {
                    self.is_idle = true;
                    self.spare_batch().clear(true);
                    self.shared.input.lock().gathered.clear_if_empty();
                }
                Work::End => return self.sync(),
            }
        }
    }

    /// Waits for something to do. A frame is taken here, under the same lock that found it.
    fn next_work(&mut self) -> Work {
        // Not the field: the lock must not borrow the writer.
        let shared = self.shared.clone();
        let mut input = shared.input.lock();
        loop {
            let now = Instant::now();
            let due = input
                .gathering_since
                .map(|since| since + self.settle_delay());
            let is_due = due.is_some_and(|due| due <= now);
            let must_write = input.is_wanted || input.is_closing || input.has_enough() || is_due;
            if input.has_records() && must_write {
                self.take(&mut input);
                return Work::Frame;
            }
            let sync_due = self.sync_due();
            let is_sync_wanted = input.sync_through > shared.synced.load(Ordering::Relaxed);
            if self.is_unsynced() && (is_sync_wanted || sync_due.is_some_and(|due| due <= now)) {
                return Work::Sync;
            }
            if input.is_closing {
                return Work::End;
            }
            if self.prepare_at.is_some() && std::mem::take(&mut input.has_new_room)
                || self.prepare_at.is_some_and(|due| due <= now)
            {
                return Work::Prepare;
            }
            let idle_due = (!self.is_idle).then(|| now + IDLE);
            input.writer_sleeps = true;
            match [due, sync_due, self.prepare_at, idle_due]
                .into_iter()
                .flatten()
                .min()
            {
                Some(until) => {
                    let timed_out = shared.work.wait_until(&mut input, until).timed_out();
                    if timed_out && idle_due == Some(until) {
                        input.writer_sleeps = false;
                        return Work::Idle;
                    }
                }
                None => shared.work.wait(&mut input),
            }
            input.writer_sleeps = false;
        }
    }

    /// How long records wait that nobody waits for. What is left of the last file is not spent on blocks that are mostly empty.
    fn settle_delay(&self) -> Duration {
        let options = &self.shared.options;
        match self.shared.is_full.load(Ordering::Relaxed) {
            true => options.settle_delay.max(options.full_retry),
            false => options.settle_delay,
        }
    }

    /// Allocates the file behind the current one.
    fn prepare_next(&mut self) {
        let current = self.current.as_ref();
        let generation = match current {
            Some(current) => current.header.generation,
            // The next frame begins one.
            None => self.shared.input.lock().generation().saturating_sub(1),
        };
        self.prepare(generation);
    }

    fn take(&mut self, input: &mut Input) {
        self.is_idle = false;
        let synced_number = self.synced_number;
        input.take(self.spare_batch(), synced_number, new_seed);
        input.in_flight = Some(self.batch.clone());
    }

    /// The batch to be filled, a new one if a reader still has the last.
    fn spare_batch(&mut self) -> &mut Batch {
        if Arc::get_mut(&mut self.batch).is_none() {
            self.batch = Arc::default();
        }
        Arc::make_mut(&mut self.batch)
    }

    fn write_frame(&mut self) -> Result<(), StoreError> {
        let batch = self.batch.clone();
        if !batch.blobs.is_empty() {
            let shared = self.shared.clone();
            let blobs = &shared.blobs;
            self.with_space("write", blobs.folder(), || blobs.write(&batch.blobs))?;
        }
        let header = batch.file;
        let is_begun = self.current.is_none();
        let (file, path) = match &self.current {
            Some(current) => (
                current.file.clone(),
                path_of(self.shared.files.folder(), current.header.generation),
            ),
            None => {
                let path = path_of(self.shared.files.folder(), header.generation);
                let shared = self.shared.clone();
                let begin = || shared.files.begin(&header);
                let file = self.with_space("create", &path, begin)?;
                self.current = Some(Current {
                    header,
                    file: file.clone(),
                });
                (file, path)
            }
        };
        let offset = batch.base - header.start.0;
        let write = || file.write_all_at(&batch.bytes, offset);
        self.with_space("write", &path, write)?;
        self.written_number = batch.number;
        self.queues.extend(&batch.queues);
        self.queues.add_blob(batch.blob_bytes);
        self.shared.written.store(batch.end(), Ordering::Release);
        self.shared.count_written(&batch);

        let demand = batch.demand.unwrap_or(self.shared.options.sync.demand());
        self.has_interval_due |= demand == SyncDemand::Interval;
        let is_sync_due = match demand {
            SyncDemand::Always => true,
            SyncDemand::Interval | SyncDemand::Never => {
                self.sync_due().is_some_and(|due| due <= Instant::now())
            }
        };
        if is_sync_due && batch.has_relaxed {
            // Those who wait for no sync go first.
            self.tell();
        }
        if is_sync_due || batch.ends_file {
            self.sync()?;
        }
        if is_begun || self.prepare_at.is_some_and(|due| due <= Instant::now()) {
            self.prepare(header.generation);
        }
        if batch.ends_file {
            self.seal(batch.end());
        }
        Ok(())
    }

    /// Lets go of the frame's buffer, and tells who waited.
    fn finish_frame(&mut self) {
        self.shared.input.lock().in_flight = None;
        self.tell();
        self.spare_batch().clear(false);
    }

    fn tell(&mut self) {
        let (written, synced) = (self.shared.written(), self.shared.synced());
        self.shared
            .waiters
            .advanced(written.0, synced.0, &mut self.due);
    }

    fn is_unsynced(&self) -> bool {
        self.synced_number < self.written_number
    }

    /// When what is written is to be synced, if some of it asks for an interval.
    fn sync_due(&self) -> Option<Instant> {
        let interval = match self.shared.options.sync {
            SyncMode::Interval(interval) => interval,
            SyncMode::Always | SyncMode::Never => self.shared.options.sync_interval,
        };
        (self.has_interval_due && self.is_unsynced()).then(|| self.synced_at + interval)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if !self.is_unsynced() {
            return Ok(());
        }
        if let Some(current) = &self.current {
            current.file.sync_data().map_err(|error| {
                let path = path_of(self.shared.files.folder(), current.header.generation);
                StoreError::io("sync", &path)(error)
            })?;
        }
        self.synced_number = self.written_number;
        if std::mem::take(&mut self.has_interval_due) {
            self.synced_at = Instant::now();
        }
        let written = self.shared.written.load(Ordering::Relaxed);
        self.shared.synced.store(written, Ordering::Release);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn seal(&mut self, end: u64) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.shared.files.seal(SealedFile {
            generation: current.header.generation,
            start: current.header.start,
            end: Lsn(end),
            queues: self.queues.take(),
            bytes: end - current.header.start.0,
            blob_bytes: self.queues.take_blob_bytes(),
        });
        let on_seal = self.shared.on_seal.lock().clone();
        if let Some(on_seal) = on_seal {
            on_seal();
        }
    }

    /// Does something that may find no space, again and again until there is some or the journal is closed.
    fn with_space<T>(
        &mut self,
        action: &'static str,
        path: &Path,
        attempt: impl Fn() -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        loop {
            let error = match attempt() {
                Ok(done) => {
                    if shared.is_stuck.swap(false, Ordering::Relaxed) {
                        self.prepare_at = Some(Instant::now());
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            if !is_out_of_space(&error) {
                return Err(StoreError::io(action, path)(error));
            }
            self.prepare_at = Some(Instant::now() + shared.options.full_retry);
            shared.set_full();
            if shared.files.give_up_room() {
                continue;
            }
            let mut input = shared.input.lock();
            if input.is_closing {
                return Err(StoreError::io(action, path)(error));
            }
            if !std::mem::replace(&mut self.has_told_stuck, true) {
                tracing::warn!(path = %path.display(), "nor is there space in what was kept: nothing is confirmed until there is");
            }
            shared.is_stuck.store(true, Ordering::Relaxed);
            shared.work.wait_for(&mut input, shared.options.full_retry);
        }
    }
}

/// A number that nobody can guess, or at least one that is not used twice.
pub(super) fn new_seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    })
}
