//! The store of definitions as the broker holds it.
//!
//! In: changes with completions, a request for all definitions, requests for queue ids. Out: the same
//! answered. The broker decides what is stored: durable things alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::catalogue::{Catalogue, Counters};
use super::changes::Changes;
use super::ids::Ids;
use super::intake::Intake;
use super::recovery::{self, DamagedRow, RecoveryReport};
use super::replay::{Finding, Opened};
use super::rows::{RowStore, RowWrite};
use super::writer::{Shared, Work, Writer};
use super::{Change, Definitions, exporter, key, row};
use crate::model::QueueId;
use crate::store::disk::{Disk, RealDisk};
use crate::store::journal::{Journal, Lsn};
use crate::store::probe::Probe;
use crate::store::{DataFolder, StoreError};

/// How the store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that sled may cache. The whole catalogue of a hundred thousand queues fits into the default.
    pub cache_bytes_max: u64,
    /// Time for which changes gather, safe in the journal, before they are written to the catalogue.
    pub apply_debounce: Duration,
    /// Time from there to the export of all definitions.
    pub export_debounce: Duration,
    /// Queue ids that are reserved by one write. After a crash those of them that were not used are lost.
    pub queue_id_block: u64,
    /// How the catalogue is tried before it is opened.
    pub probe: Probe,
    /// Through which the catalogue is synced. sled itself knows the system's files only.
    pub disk: Arc<dyn Disk>,
    /// A commit that takes longer has failed: sled's threads may have died over it, and it waits for them for ever.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes_max: 16 * 1024 * 1024,
            apply_debounce: Duration::from_secs(1),
            export_debounce: Duration::from_secs(1),
            queue_id_block: 256 * 1024,
            probe: Probe::this_program(),
            disk: Arc::new(RealDisk),
            patience: Duration::from_secs(120),
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
    journal: Arc<Journal>,
    intake: Intake,
    /// Changes handed in and not completed.
    pending: Arc<AtomicU64>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ids: Arc<Ids>,
    patience: Duration,
    opened: Opened,
    /// Dropped last, so that the lock outlives every write.
    folder: Arc<DataFolder>,
}

impl DefinitionStore {
    /// Starts on an open catalogue whose `counters` are synced.
    pub(super) fn start(
        folder: Arc<DataFolder>,
        options: &Options,
        mut catalogue: Catalogue,
        counters: Counters,
        ids: Ids,
        journal: Arc<Journal>,
        opened: Opened,
    ) -> Result<Self, StoreError> {
        catalogue.sync_through(&*options.disk)?;
        let shared = Arc::new(Shared {
            catalogue,
            failure: Mutex::new(None),
            synced: Mutex::new(counters),
        });
        let (work, received) = mpsc::channel();
        // One place is enough: a wake-up that finds it taken has nothing to add.
        let (wake, woken) = mpsc::sync_channel(1);
        if opened.is_export_due {
            let _ = wake.try_send(());
        }
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(body)
                .map_err(StoreError::io("start a thread for", folder.path()))
        };
        let writer = Writer::new(
            Arc::clone(&shared),
            Arc::clone(&journal),
            wake,
            options.apply_debounce,
        );
        let writer = spawn("definitions", Box::new(move || writer.run(&received)))?;
        let (exported, data_dir) = (Arc::clone(&shared), folder.path().to_owned());
        let debounce = options.export_debounce;
        let exporter = spawn(
            "export",
            Box::new(move || exporter::run(&exported, &data_dir, debounce, &woken)),
        )?;
        let intake = Intake::new(Arc::clone(&shared), Arc::clone(&journal), work);
        // The catalogue has the first block of ids already. The journal has it before any change that names one of them,
        // for the case that it alone is left.
        intake.append(Changes::raise_queue_ids(counters.queue_id_limit))?;
        Ok(Self {
            intake,
            shared,
            journal,
            pending: Arc::default(),
            threads: Mutex::new(vec![writer, exporter]),
            ids: Arc::new(ids),
            patience: options.patience,
            opened,
            folder,
        })
    }

    /// What had to be rebuilt when the store was opened; the log has been told.
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.opened.report.as_ref()
    }

    /// What was found between catalogue and journal when the store was opened; the log has been told.
    pub fn findings(&self) -> &[Finding] {
        &self.opened.findings
    }

    /// Whether this is a first start: there is no virtual host and no user. Sees every change that was completed.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        self.catch_up()?;
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

    /// Reads all definitions, each list in the order of its names. Sees every change that was completed. A damaged row is taken from the export if
    /// it is there, and left out if not; both are logged and told.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        self.catch_up()?;
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
                key: key.clone(),
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

    /// Writes what was completed to the catalogue, and waits for it. After a failure of the journal, too: it may still be
    /// read what was stored before.
    fn catch_up(&self) -> Result<(), StoreError> {
        self.intake.ask(|answer| Work::CatchUp { answer })
    }

    /// Appends a change to the journal and returns at once; `done` is called exactly once, when the change is synced or has
    /// failed, on the journal's thread or within this call. Changes are made in the order of their calls.
    pub fn apply(
        &self,
        change: Change,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        self.apply_all(vec![change], done);
    }

    /// As [`DefinitionStore::apply`], for changes that are made together or not at all.
    ///
    /// What waits for the journal is bounded by who calls: a channel waits for the answer to its command before it sends
    /// the next.
    pub fn apply_all(
        &self,
        changes: Vec<Change>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let pending = Pending::one_of(&self.pending);
        let done = move |result| {
            done(result);
            drop(pending);
        };
        match Changes::encode(&changes) {
            Ok(changes) => self.intake.submit(changes, Box::new(done)),
            Err(error) => done(Err(error)),
        }
    }

    /// Whether every change handed in so far is synced, or has failed. When it is not, an empty
    /// [`DefinitionStore::apply_all`] completes after the changes before it.
    pub fn is_settled(&self) -> bool {
        self.pending.load(Ordering::Acquire) == 0
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
    /// Returns at once, so that it may be called under a lock.
    ///
    /// # Errors
    /// [`StoreError::NoQueueIds`] when a hundred thousand ids were taken and the journal could not reserve more: it waits for
    /// space.
    pub fn allocate_queue_id(&self) -> Result<QueueId, StoreError> {
        let id = self.ids.take(&self.intake);
        id.map(QueueId).ok_or(StoreError::NoQueueIds)
    }

    /// The next queue id, waited for while more are reserved: for start-up and tools, never for a task of the runtime.
    pub fn wait_for_queue_id(&self) -> QueueId {
        QueueId(self.ids.wait(&self.intake))
    }

    /// Why nothing is stored any more, if so.
    pub fn failed(&self) -> Option<StoreError> {
        self.intake.failure()
    }

    /// Commits of the catalogue that were synced since the store was opened.
    pub fn commits(&self) -> u64 {
        self.shared.catalogue.commits()
    }

    /// Takes no change from now on: later ones fail with [`StoreError::Closed`]. What was taken is stored.
    pub(in crate::store) fn stop(&self) {
        self.intake.close();
    }

    /// Writes what is in the journal, exports, and ends the threads; the first call alone does. `clean_end` is where a journal
    /// has ended that was closed after [`DefinitionStore::stop`], and marks the end of a clean stop. Dropping the store does the
    /// same without a mark, and without telling of errors.
    ///
    /// # Errors
    /// An earlier failure, or one of the export.
    pub(in crate::store) fn close(&self, clean_end: Option<Lsn>) -> Result<(), StoreError> {
        self.intake.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        if threads.is_empty() {
            return Ok(());
        }
        let flushed = match clean_end {
            Some(_) => Ok(()),
            None => self.journal.flush(),
        };
        // Unused ids go back, so that only crashes use them up.
        let queue_id_limit = self.ids.close();
        let finished = self.intake.ask(|answer| Work::Finish {
            queue_id_limit,
            clean_end: clean_end.filter(|_| self.failed().is_none()),
            answer,
        });
        self.intake.end();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the definitions store had panicked");
            }
        }
        if let Some(failure) = self.failed() {
            return Err(failure);
        }
        flushed.and(finished)?;
        exporter::export(&self.shared, self.folder.path())
    }
}

impl RowStore for DefinitionStore {
    fn commit(&self, writes: Vec<RowWrite>, checkpoint: Lsn) -> Result<(), StoreError> {
        let rows = |answer| Work::Rows {
            writes,
            checkpoint,
            answer,
        };
        self.intake.ask_within(self.patience, rows)
    }
}

impl Drop for DefinitionStore {
    fn drop(&mut self) {
        if let Err(error) = self.close(None) {
            tracing::error!(%error, "the definitions store could not be closed cleanly");
        }
    }
}

impl fmt::Debug for DefinitionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefinitionStore")
            .field("folder", &self.folder)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

/// Counts one change for as long as it lives, whatever becomes of its completion.
struct Pending(Arc<AtomicU64>);

impl Pending {
    fn one_of(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
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

#[cfg(test)]
mod slow_disk;
#[cfg(test)]
mod tests;
