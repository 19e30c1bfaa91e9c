//! The one thread that writes the catalogue.
//!
//! In: jobs, each a list of row changes with a completion. Out: commits, each of all the jobs that had
//! gathered while the one before was synced; then every job's completion. What the rows mean is not known
//! here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender};

use parking_lot::Mutex;

use super::catalogue::{Catalogue, Counter};
use super::key::{self, Kind};
use super::row;
use super::{Change, DefinitionKey};
use crate::store::StoreError;

/// Changes after which a commit takes in no further job. A job itself is never divided.
const BATCH_ROWS_MAX: usize = 8192;

/// Called once with the outcome of a job, on the writer's thread.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Changes that are committed together or not at all.
pub(super) struct Job {
    pub(super) rows: Vec<RowChange>,
    pub(super) done: Done,
}

/// A change, encoded.
#[derive(Debug)]
pub(super) enum RowChange {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        key: Vec<u8>,
    },
    /// Everything in a virtual host, and the host itself.
    DeleteVhost {
        key: Vec<u8>,
        name: Vec<u8>,
    },
    /// A user and its permissions.
    DeleteUser {
        key: Vec<u8>,
        name: Vec<u8>,
    },
}

impl RowChange {
    pub(super) fn encode(change: &Change) -> Result<Self, StoreError> {
        match change {
            Change::Put(definition) => {
                row::encode(definition).map(|(key, value)| Self::Put { key, value })
            }
            Change::Delete(name) => {
                let key = key::encode(name)?;
                Ok(match name {
                    DefinitionKey::Vhost { name } => Self::DeleteVhost {
                        key,
                        name: name.as_bytes().to_vec(),
                    },
                    DefinitionKey::User { name } => Self::DeleteUser {
                        key,
                        name: name.as_bytes().to_vec(),
                    },
                    _ => Self::Delete { key },
                })
            }
        }
    }
}

/// What the writer shares with the store.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalogue: Catalogue,
    /// The first failure; after it nothing is written any more. A failed sync is not tried again, because
    /// the kernel may have dropped the pages that it could not write.
    pub(super) failure: Mutex<Option<StoreError>>,
    /// Changes handed in and not completed.
    pub(super) pending: AtomicU64,
}

/// Runs until every sender of jobs is gone. `exporter` is woken after each commit.
pub(super) fn run(shared: &Arc<Shared>, jobs: &Receiver<Job>, exporter: &SyncSender<()>) {
    let mut sequence = match shared.catalogue.counter(Counter::Sequence) {
        Ok(sequence) => sequence,
        Err(error) => {
            stop(shared, &error);
            0
        }
    };
    while let Ok(first) = jobs.recv() {
        let mut rows_gathered = first.rows.len();
        let mut gathered = vec![first];
        while rows_gathered < BATCH_ROWS_MAX {
            let Ok(next) = jobs.try_recv() else { break };
            rows_gathered += next.rows.len();
            gathered.push(next);
        }
        let failure = shared.failure.lock().clone();
        let result = match failure {
            Some(failure) => Err(failure),
            None => commit(&shared.catalogue, sequence + 1, &mut gathered)
                .map_err(|error| stop(shared, &error)),
        };
        if result.is_ok() {
            sequence += 1;
            // A full channel means that the exporter is awake already.
            let _ = exporter.try_send(());
        }
        for job in gathered {
            let outcome = result.clone();
            if catch_unwind(AssertUnwindSafe(|| (job.done)(outcome))).is_err() {
                tracing::error!("a completion of a definition change panicked");
            }
        }
    }
}

/// Notes the first failure and gives back what waiting jobs are told.
fn stop(shared: &Shared, error: &StoreError) -> StoreError {
    tracing::error!(%error, "definitions can no longer be stored");
    let stopped = StoreError::Stopped {
        reason: error.to_string(),
    };
    shared.failure.lock().get_or_insert(stopped).clone()
}

fn commit(catalogue: &Catalogue, sequence: u64, jobs: &mut [Job]) -> Result<(), StoreError> {
    let mut batch = sled::Batch::default();
    for change in jobs.iter_mut().flat_map(|job| job.rows.drain(..)) {
        match change {
            RowChange::Put { key, value } => batch.insert(key, value),
            RowChange::Delete { key } => batch.remove(key),
            RowChange::DeleteVhost { key, name } => {
                // What was gathered before must be visible to the scan.
                catalogue.apply(std::mem::take(&mut batch))?;
                for kind in Kind::IN_VHOST {
                    catalogue.scan(&key::prefix(kind, &[&name]), |key, _| {
                        batch.remove(key);
                        Ok::<_, StoreError>(())
                    })?;
                }
                batch.remove(key);
            }
            RowChange::DeleteUser { key, name } => {
                catalogue.apply(std::mem::take(&mut batch))?;
                for kind in [Kind::Permission, Kind::TopicPermission] {
                    catalogue.scan(&key::prefix(kind, &[]), |key, _| {
                        let parts = key::decode(key).map(|(_, parts)| parts);
                        if parts.is_some_and(|parts| parts.get(1) == Some(&name.as_slice())) {
                            batch.remove(key);
                        }
                        Ok::<_, StoreError>(())
                    })?;
                }
                batch.remove(key);
            }
        }
    }
    let (key, value) = Counter::Sequence.row(sequence);
    batch.insert(key, value);
    catalogue.commit(batch)
}
