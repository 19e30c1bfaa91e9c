//! The store of definitions as the broker holds it.
//!
//! In: changes with completions, a request for all definitions, requests for queue ids. Out: the same
//! answered. The broker decides what is stored: durable things alone.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::catalogue::{Catalogue, Counter};
use super::recovery::{self, DamagedRow, RecoveryReport};
use super::writer::{self, Done, Job, RowChange, Shared};
use super::{Change, Definitions, exporter, key, row};
use crate::model::QueueId;
use crate::store::probe::Probe;
use crate::store::{DataFolder, StoreError};

/// How the store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that sled may cache. The whole catalogue of a hundred thousand queues fits into the default.
    pub cache_bytes_max: u64,
    /// Time from a change to the export of all definitions.
    pub export_debounce: Duration,
    /// Queue ids that are reserved by one write. After a crash those of them that were not used are lost.
    pub queue_id_block: u64,
    /// How the catalogue is tried before it is opened.
    pub probe: Probe,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes_max: 16 * 1024 * 1024,
            export_debounce: Duration::from_secs(1),
            queue_id_block: 16 * 1024,
            probe: Probe::this_program(),
        }
    }
}

/// All definitions as they were loaded, and what could not be.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What was sound.
    pub definitions: Definitions,
    /// What was not.
    pub damaged: Vec<DamagedRow>,
}

/// The open store. Its threads end when it is closed or dropped.
pub struct DefinitionStore {
    shared: Arc<Shared>,
    /// `None` once it is closed. Arc, so that a reservation of queue ids can send from a completion.
    jobs: Arc<Mutex<Option<Sender<Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ids: Arc<Ids>,
    recovery: Option<RecoveryReport>,
    /// Dropped last, so that the lock outlives every write.
    folder: DataFolder,
}

impl DefinitionStore {
    /// Opens the data folder, or creates it; rebuilds a damaged catalogue.
    ///
    /// # Errors
    /// The folder is in use, cannot be read or written, has another format, or is damaged beyond the export:
    /// each its own [`StoreError`].
    pub fn open(data_dir: &Path, options: Options) -> Result<Self, StoreError> {
        let folder = DataFolder::open(data_dir)?;
        let (catalogue, recovery) =
            recovery::open(data_dir, options.cache_bytes_max, &options.probe)?;
        let ids = Arc::new(Ids::reserve_first(&catalogue, options.queue_id_block)?);
        let shared = Arc::new(Shared {
            catalogue,
            failure: Mutex::new(None),
            pending: AtomicU64::new(0),
        });

        let (jobs, received) = mpsc::channel();
        // One place is enough: a wake-up that finds it taken has nothing to add.
        let (wake, woken) = mpsc::sync_channel(1);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(StoreError::io("start a thread for", data_dir))
        };
        if recovery.is_some() {
            let _ = wake.try_send(());
        }
        let writer_shared = Arc::clone(&shared);
        let writer = spawn(
            "definitions",
            Box::new(move || writer::run(&writer_shared, &received, &wake)),
        )?;
        let (exporter_shared, exporter_dir) = (Arc::clone(&shared), data_dir.to_owned());
        let exporter = spawn(
            "export",
            Box::new(move || {
                exporter::run(
                    &exporter_shared,
                    &exporter_dir,
                    options.export_debounce,
                    &woken,
                );
            }),
        )?;
        Ok(Self {
            shared,
            jobs: Arc::new(Mutex::new(Some(jobs))),
            threads: Mutex::new(vec![writer, exporter]),
            ids,
            recovery,
            folder,
        })
    }

    /// The data folder.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// What had to be rebuilt when the store was opened; the log has been told.
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.recovery.as_ref()
    }

    /// Whether this is a first start: there is no virtual host and no user.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let mut is_empty = true;
        for kind in [key::Kind::Vhost, key::Kind::User] {
            self.shared
                .catalogue
                .scan(&key::prefix(kind, &[]), |_, _| {
                    is_empty = false;
                    Ok::<_, StoreError>(())
                })?;
        }
        Ok(is_empty)
    }

    /// Reads all definitions, each list in the order of its names. A damaged row is taken from the export if
    /// it is there, and left out if not; both are logged and told.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let mut damaged = Vec::new();
        for kind in key::Kind::DEFINITIONS {
            self.shared
                .catalogue
                .scan(&key::prefix(kind, &[]), |key, value| {
                    match row::decode(key, value) {
                        Ok(definition) => loaded.definitions.push(definition),
                        Err(reason) => damaged.push((key.to_vec(), reason)),
                    }
                    Ok::<_, StoreError>(())
                })?;
        }
        if !damaged.is_empty() {
            self.restore(damaged, &mut loaded)?;
        }
        sort(&mut loaded.definitions);
        Ok(loaded)
    }

    fn restore(
        &self,
        damaged: Vec<(Vec<u8>, String)>,
        loaded: &mut Loaded,
    ) -> Result<(), StoreError> {
        let exported = recovery::exported_rows(self.folder.path());
        let mut restored = Vec::new();
        for (key, reason) in damaged {
            let definition = exported
                .get(&key)
                .and_then(|value| row::decode(&key, value).ok());
            let report = DamagedRow {
                what: key::describe(&key),
                reason,
                is_restored: definition.is_some(),
            };
            tracing::error!("a damaged definition: {report}");
            loaded.damaged.push(report);
            if let Some(definition) = definition {
                loaded.definitions.push(definition.clone());
                restored.push(Change::Put(definition));
            }
        }
        if restored.is_empty() {
            return Ok(());
        }
        self.apply_and_wait(restored)
    }

    /// Queues a change and returns at once; `done` is called exactly once, on the writer's thread, when the
    /// change is synced or has failed. Changes are made in the order of their calls.
    pub fn apply(
        &self,
        change: Change,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        self.apply_all(vec![change], done);
    }

    /// As [`DefinitionStore::apply`], for changes that are made together or not at all.
    ///
    /// The queue of changes is bounded by who calls: a channel waits for the answer to its command before
    /// it sends the next.
    pub fn apply_all(
        &self,
        changes: Vec<Change>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        shared.pending.fetch_add(1, Ordering::AcqRel);
        let done = move |result| {
            done(result);
            shared.pending.fetch_sub(1, Ordering::AcqRel);
        };
        match changes.iter().map(RowChange::encode).collect() {
            Ok(rows) => send(&self.jobs, rows, Box::new(done)),
            Err(error) => done(Err(error)),
        }
    }

    /// Whether every change handed in so far is synced, or has failed. When it is not, an empty
    /// [`DefinitionStore::apply_all`] completes after the changes before it.
    pub fn is_settled(&self) -> bool {
        self.shared.pending.load(Ordering::Acquire) == 0
    }

    /// Makes changes and waits until they are synced: for start-up and tools, never for a task of the
    /// runtime.
    ///
    /// # Errors
    /// As the completion of [`DefinitionStore::apply`].
    pub fn apply_and_wait(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let (done, outcome) = mpsc::sync_channel(1);
        self.apply_all(changes, move |result| {
            // The receiver waits below.
            let _ = done.send(result);
        });
        outcome.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// The next queue id. It was never given out before and never will be again.
    ///
    /// Returns at once, except when thousands of ids were taken within the time of one sync.
    pub fn allocate_queue_id(&self) -> QueueId {
        QueueId(Ids::take(&self.ids, &self.jobs))
    }

    /// Why nothing is stored any more, if so.
    pub fn failed(&self) -> Option<StoreError> {
        self.shared.failure.lock().clone()
    }

    /// Commits that were synced since the store was opened.
    pub fn commits(&self) -> u64 {
        self.shared.catalogue.commits()
    }

    /// Writes what is queued, exports, and ends the threads. Later changes fail with
    /// [`StoreError::Closed`]. Dropping the store does the same without telling of errors.
    ///
    /// # Errors
    /// An earlier failure, or one of the export.
    pub fn close(&self) -> Result<(), StoreError> {
        let was_open = self.jobs.lock().is_some();
        if !was_open {
            return Ok(());
        }
        if self.failed().is_none() {
            // Unused ids go back, so that only crashes use them up.
            let (key, value) = Counter::QueueIdLimit.row(self.ids.close());
            let (done, outcome) = mpsc::sync_channel(1);
            send(
                &self.jobs,
                vec![RowChange::Put { key, value }],
                Box::new(move |result| {
                    let _ = done.send(result);
                }),
            );
            outcome.recv().unwrap_or(Err(StoreError::Closed))?;
        }
        self.jobs.lock().take();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the definitions store had panicked");
            }
        }
        match self.failed() {
            Some(failure) => Err(failure),
            None => exporter::export(&self.shared.catalogue, self.folder.path()),
        }
    }
}

impl Drop for DefinitionStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the definitions store could not be closed cleanly");
        }
    }
}

impl fmt::Debug for DefinitionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefinitionStore")
            .field("folder", &self.folder)
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

fn send(jobs: &Mutex<Option<Sender<Job>>>, rows: Vec<RowChange>, done: Done) {
    let job = Job { rows, done };
    let unsent = match &*jobs.lock() {
        Some(sender) => sender.send(job).err().map(|error| error.0),
        None => Some(job),
    };
    if let Some(job) = unsent {
        (job.done)(Err(StoreError::Closed));
    }
}

fn sort(definitions: &mut Definitions) {
    definitions.vhosts.sort_by(|a, b| a.name.cmp(&b.name));
    definitions.users.sort_by(|a, b| a.name.cmp(&b.name));
    definitions
        .permissions
        .sort_by(|a, b| (&a.vhost, &a.user).cmp(&(&b.vhost, &b.user)));
    definitions
        .topic_permissions
        .sort_by(|a, b| (&a.vhost, &a.user, &a.exchange).cmp(&(&b.vhost, &b.user, &b.exchange)));
    definitions
        .exchanges
        .sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    definitions
        .queues
        .sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    definitions.bindings.sort_by(|a, b| {
        (&a.vhost, &a.source, &a.destination, &a.routing_key).cmp(&(
            &b.vhost,
            &b.source,
            &b.destination,
            &b.routing_key,
        ))
    });
    definitions
        .policies
        .sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    definitions
        .parameters
        .sort_by(|a, b| (&a.vhost, &a.component, &a.name).cmp(&(&b.vhost, &b.component, &b.name)));
    definitions
        .global_parameters
        .sort_by(|a, b| a.name.cmp(&b.name));
}

/// Queue ids: handed out from blocks that are reserved on disk first.
struct Ids {
    state: Mutex<IdState>,
    raised: Condvar,
    block: u64,
}

struct IdState {
    next: u64,
    /// Ids below this are reserved.
    limit: u64,
    is_reserving: bool,
    /// Nothing is stored any more, so there is nothing left to reserve.
    is_stopped: bool,
}

impl Ids {
    fn reserve_first(catalogue: &Catalogue, block: u64) -> Result<Self, StoreError> {
        // Ids begin at 1, so that 0 can mean none.
        let next = catalogue.counter(Counter::QueueIdLimit)?.max(1);
        let limit = next + block.max(2);
        let mut batch = sled::Batch::default();
        let (key, value) = Counter::QueueIdLimit.row(limit);
        batch.insert(key, value);
        catalogue.commit(batch)?;
        Ok(Self {
            state: Mutex::new(IdState {
                next,
                limit,
                is_reserving: false,
                is_stopped: false,
            }),
            raised: Condvar::new(),
            block: block.max(2),
        })
    }

    fn take(self: &Arc<Self>, jobs: &Arc<Mutex<Option<Sender<Job>>>>) -> u64 {
        let mut state = self.state.lock();
        loop {
            if state.limit - state.next.min(state.limit) <= self.block / 2
                && !state.is_reserving
                && !state.is_stopped
            {
                state.is_reserving = true;
                let raised = state.limit + self.block;
                // A store that is closed answers within the call, and the answer takes the lock.
                parking_lot::MutexGuard::unlocked(&mut state, || self.reserve(raised, jobs));
            }
            if state.next < state.limit || state.is_stopped {
                let id = state.next;
                state.next += 1;
                return id;
            }
            self.raised.wait(&mut state);
        }
    }

    fn reserve(self: &Arc<Self>, raised: u64, jobs: &Mutex<Option<Sender<Job>>>) {
        let (key, value) = Counter::QueueIdLimit.row(raised);
        let ids: Weak<Self> = Arc::downgrade(self);
        let done: Done = Box::new(move |result| {
            let Some(ids) = ids.upgrade() else { return };
            let mut state = ids.state.lock();
            state.is_reserving = false;
            match result {
                Ok(()) => state.limit = raised,
                Err(_) => state.is_stopped = true,
            }
            ids.raised.notify_all();
        });
        send(jobs, vec![RowChange::Put { key, value }], done);
    }

    /// Stops reserving; gives the first id that was never handed out.
    fn close(&self) -> u64 {
        let mut state = self.state.lock();
        state.is_stopped = true;
        state.next
    }
}

#[cfg(test)]
mod tests;
