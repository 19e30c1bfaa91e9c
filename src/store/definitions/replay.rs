//! From an opened catalogue and a replayed journal to a store that goes on where both ended.
//!
//! In: the catalogue of a data folder, rebuilt if need be, and the definitions records of the journal. Out: the open store,
//! and what was found on the way. How a journal is read is not known here.

use std::fmt;
use std::sync::Arc;

use super::batch::RowBatch;
use super::catalogue::{Catalogue, Counter, Counters};
use super::changes;
use super::ids::Ids;
use super::message_rows::{self, MessageRows};
use super::recovery::{self, QUEUE_ID_MARGIN, RecoveryReport};
use super::store::{DefinitionStore, Options};
use crate::store::journal::{Journal, Lsn};
use crate::store::{DataFolder, StoreError};

/// What was found between the catalogue and the journal; the module above has the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The journal had changes that the catalogue lacked; they were made. So it is after every crash.
    CatalogueBehind {
        /// Records of changes.
        records: usize,
    },
    /// There is a journal, and neither a catalogue nor an export: they were lost. What the journal has is there.
    CatalogueLost {
        /// Records of changes that it has.
        records: usize,
    },
    /// The catalogue has changes from beyond the end of the journal: the journal has lost some. They are kept.
    CatalogueAhead {
        /// Up to where the catalogue has the changes.
        catalogue: Lsn,
        /// Where the journal ends.
        journal: Lsn,
    },
    /// A record whose checksum is right makes no sense; its changes are not made.
    RecordDamaged {
        /// Where it lies.
        lsn: Lsn,
        /// What is wrong with it.
        reason: String,
    },
}

impl Finding {
    /// The name of the case.
    pub fn label(&self) -> &'static str {
        match self {
            Self::CatalogueBehind { .. } => "catalogue-behind",
            Self::CatalogueLost { .. } => "catalogue-lost",
            Self::CatalogueAhead { .. } => "catalogue-ahead",
            Self::RecordDamaged { .. } => "record-damaged",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.label())?;
        match self {
            Self::CatalogueBehind { records } => {
                write!(
                    f,
                    "{records} changes of definitions were taken from the journal"
                )
            }
            Self::CatalogueLost { records } => write!(
                f,
                "there is a journal, and neither a catalogue nor an export of the definitions; {records} changes were taken from the journal, others are lost unless a backup has them"
            ),
            Self::CatalogueAhead { catalogue, journal } => write!(
                f,
                "the definitions are those of place {} of the journal, which ends at {}; what it had behind that is lost",
                catalogue.0, journal.0
            ),
            Self::RecordDamaged { lsn, reason } => write!(
                f,
                "the changes of definitions at place {} of the journal cannot be read ({reason}); they are left out",
                lsn.0
            ),
        }
    }
}

/// The definitions while the journal is replayed.
#[derive(Debug)]
pub(in crate::store) struct DefinitionRecovery {
    folder: Arc<DataFolder>,
    options: Options,
    catalogue: Catalogue,
    report: Option<RecoveryReport>,
    /// As they were stored.
    counters: Counters,
    /// The limit of queue ids after what was replayed.
    queue_id_limit: u64,
    findings: Vec<Finding>,
    records: usize,
    /// The first failure of the catalogue, told at the end.
    failure: Option<StoreError>,
}

impl DefinitionRecovery {
    /// Opens the catalogue of a data folder, rebuilt from the export if need be.
    ///
    /// # Errors
    /// It cannot be opened, or is damaged beyond the export.
    pub(in crate::store) fn open(
        folder: Arc<DataFolder>,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let (catalogue, counters, report) =
            recovery::open(folder.path(), options.cache_bytes_max, &options.probe)?;
        Ok(Self {
            folder,
            options: options.clone(),
            catalogue,
            report,
            counters,
            queue_id_limit: counters.queue_id_limit,
            findings: Vec::new(),
            records: 0,
            failure: None,
        })
    }

    /// Where replay begins. `Lsn(0)`, for all that is there, if the catalogue is new, was rebuilt, or is older than the
    /// journal.
    pub(in crate::store) fn replay_from(&self) -> Lsn {
        self.counters.checkpoint
    }

    /// Where the journal ended at the last stop, if that was a clean one.
    pub(in crate::store) fn clean_end(&self) -> Option<Lsn> {
        self.counters.clean_end
    }

    /// The place in the journal up to which something is known here: no record may come before it.
    pub(in crate::store) fn known_end(&self) -> Lsn {
        self.counters.definitions_lsn.max(self.counters.checkpoint)
    }

    /// The rows about messages.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub(in crate::store) fn message_rows(&self) -> Result<MessageRows, StoreError> {
        message_rows::read(&self.catalogue)
    }

    /// Makes the changes of a record, unless the catalogue has them. Records come in the order of the journal.
    pub(in crate::store) fn replay(&mut self, lsn: Lsn, body: &[u8]) {
        if lsn < self.counters.definitions_lsn || self.failure.is_some() {
            return;
        }
        let changes = match changes::decode(body) {
            Ok(changes) => changes,
            Err(reason) => {
                self.findings.push(Finding::RecordDamaged { lsn, reason });
                return;
            }
        };
        self.records += 1;
        let mut batch = RowBatch::new(&self.catalogue, self.queue_id_limit);
        let make_all = || {
            for change in changes {
                batch.make(change)?;
            }
            batch.hand_over()
        };
        if let Err(error) = make_all() {
            self.failure = Some(error);
        }
        self.queue_id_limit = batch.queue_id_limit();
    }

    /// Makes everything durable, and starts the store on a journal that was found to end at `found_end` and goes on at `end`.
    ///
    /// # Errors
    /// The catalogue cannot be written.
    pub(in crate::store) fn start(
        mut self,
        found_end: Lsn,
        end: Lsn,
        journal: Arc<Journal>,
    ) -> Result<DefinitionStore, StoreError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let records = self.records;
        // Whoever starts on an empty folder writes the counters before there is a journal.
        if self.counters.sequence == 0 && found_end > Lsn(0) {
            self.findings.push(Finding::CatalogueLost { records });
            self.queue_id_limit = self.queue_id_limit.saturating_add(QUEUE_ID_MARGIN);
        } else if records > 0 {
            self.findings.push(Finding::CatalogueBehind { records });
        }
        let catalogue = self.counters.definitions_lsn;
        if catalogue > found_end {
            self.findings.push(Finding::CatalogueAhead {
                catalogue,
                journal: found_end,
            });
        }
        for finding in &self.findings {
            match finding {
                Finding::CatalogueBehind { .. } => tracing::info!("{finding}"),
                _ => tracing::error!("{finding}"),
            }
        }
        let block = self.options.queue_id_block;
        let ids = Ids::new(self.queue_id_limit, block);
        let counters = Counters {
            sequence: self.counters.sequence + 1,
            queue_id_limit: Ids::first_limit(self.queue_id_limit, block),
            definitions_lsn: end,
            checkpoint: self.counters.checkpoint,
            clean_end: None,
        };
        let mut batch = RowBatch::new(&self.catalogue, counters.queue_id_limit);
        batch.set(Counter::Sequence, counters.sequence);
        batch.set(Counter::QueueIdLimit, counters.queue_id_limit);
        batch.set(Counter::DefinitionsLsn, counters.definitions_lsn.0);
        batch.clear(Counter::CleanEnd);
        batch.commit()?;
        // An export that lacks what was replayed or rebuilt is made anew.
        let is_export_due = self.report.is_some() || self.records > 0;
        DefinitionStore::start(
            self.folder,
            &self.options,
            self.catalogue,
            counters,
            ids,
            journal,
            Opened {
                report: self.report,
                findings: self.findings,
                is_export_due,
            },
        )
    }
}

/// What opening has shown.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) report: Option<RecoveryReport>,
    pub(super) findings: Vec<Finding>,
    pub(super) is_export_due: bool,
}
