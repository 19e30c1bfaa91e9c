//! Changes of definitions on their way into the catalogue's rows.
//!
//! In: decoded changes, counters. Out: batches of rows. When they are made durable is not known here.

use super::catalogue::{Catalogue, Counter};
use super::changes::RowChange;
use super::key::{self, Kind};
use crate::store::StoreError;

/// Rows after which a batch is handed to the catalogue, so that a large change needs no memory of its size again. What was
/// not all handed over when the power went comes from the journal once more.
const ROWS_MAX: usize = 8192;

/// Rows to be written together, or at least before the counter that tells of them.
#[derive(Debug)]
pub(super) struct RowBatch<'a> {
    catalogue: &'a Catalogue,
    batch: sled::Batch,
    rows: usize,
    queue_id_limit: u64,
}

impl<'a> RowBatch<'a> {
    /// An empty batch. `queue_id_limit` is the limit as it is.
    pub(super) fn new(catalogue: &'a Catalogue, queue_id_limit: u64) -> Self {
        Self {
            catalogue,
            batch: sled::Batch::default(),
            rows: 0,
            queue_id_limit,
        }
    }

    /// The limit of queue ids after the changes.
    pub(super) fn queue_id_limit(&self) -> u64 {
        self.queue_id_limit
    }

    /// The rows themselves, for what is not a definition.
    pub(super) fn rows(&mut self) -> &mut sled::Batch {
        &mut self.batch
    }

    pub(super) fn set(&mut self, counter: Counter, number: u64) {
        let (key, value) = counter.row(number);
        self.batch.insert(key, value);
    }

    pub(super) fn clear(&mut self, counter: Counter) {
        self.batch.remove(counter.key());
    }

    /// Adds a change. A change may be made twice, as long as those behind it are, too.
    pub(super) fn make(&mut self, change: RowChange<'_>) -> Result<(), StoreError> {
        self.rows += 1;
        match change {
            RowChange::Put { key, value } => self.batch.insert(key, value),
            RowChange::Delete { key } => self.batch.remove(key),
            RowChange::DeleteVhost { name } => {
                // What was gathered before must be visible to the scan.
                self.hand_over()?;
                let batch = &mut self.batch;
                for kind in Kind::IN_VHOST {
                    self.catalogue.scan(&key::prefix(kind, &[name]), |key, _| {
                        batch.remove(key);
                        Ok::<_, StoreError>(())
                    })?;
                }
                batch.remove(key::prefix(Kind::Vhost, &[name]));
            }
            RowChange::DeleteUser { name } => {
                self.hand_over()?;
                let batch = &mut self.batch;
                for kind in [Kind::Permission, Kind::TopicPermission] {
                    self.catalogue.scan(&key::prefix(kind, &[]), |key, _| {
                        let parts = key::decode(key).map(|(_, parts)| parts);
                        if parts.is_some_and(|parts| parts.get(1) == Some(&name)) {
                            batch.remove(key);
                        }
                        Ok::<_, StoreError>(())
                    })?;
                }
                batch.remove(key::prefix(Kind::User, &[name]));
            }
            RowChange::RaiseQueueIds { limit } => {
                // A record of before the catalogue was rebuilt may have a lower one.
                self.queue_id_limit = self.queue_id_limit.max(limit);
                self.set(Counter::QueueIdLimit, self.queue_id_limit);
            }
        }
        if self.rows >= ROWS_MAX {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Gives what has gathered to the catalogue, without waiting for the disk. The next commit covers it.
    pub(super) fn hand_over(&mut self) -> Result<(), StoreError> {
        self.rows = 0;
        self.catalogue.apply(std::mem::take(&mut self.batch))
    }

    /// Writes what is left, and returns once everything is synced.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        self.catalogue.commit(self.batch)
    }
}
