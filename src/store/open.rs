//! Opening and closing the data folder as a whole.
//!
//! In: a folder. Out: the definitions and the messages in it, brought up to where the journal ends. What a record means is
//! not known here; this is the order of the steps.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::definitions::{self, DamagedRow, DefinitionRecovery, DefinitionStore};
use super::disk::{Disk, RealDisk};
use super::journal::{self, Journal, JournalOptions, Lsn, ReplayReport};
use super::messages::{MessageOptions, MessageRecovery, MessageStore};
use super::record::Content;
use super::{DataFolder, RowStore, StoreError};

/// How the data folder is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The definitions.
    pub definitions: definitions::Options,
    /// The journal.
    pub journal: JournalOptions,
    /// The messages.
    pub messages: MessageOptions,
    /// Where journal and messages lie.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            definitions: definitions::Options::default(),
            journal: JournalOptions::default(),
            messages: MessageOptions::default(),
            disk: Arc::new(RealDisk),
        }
    }
}

/// An open data folder. It is closed when it is dropped, and nothing is told of errors then.
#[derive(Debug)]
pub struct Store {
    /// What is defined.
    pub definitions: Arc<DefinitionStore>,
    /// What waits in durable queues.
    pub messages: Arc<MessageStore>,
    journal: Arc<Journal>,
    replay: ReplayReport,
    damaged_rows: Vec<DamagedRow>,
    clean_end: Option<Lsn>,
    is_closed: AtomicBool,
}

impl Store {
    /// Opens a data folder, or creates it: repairs what is damaged, takes from the journal what the catalogue lacks.
    ///
    /// # Errors
    /// The folder is in use, cannot be read or written, has a newer format, or is damaged beyond repair: each its own
    /// [`StoreError`].
    pub fn open(data_dir: &Path, options: Options) -> Result<Arc<Self>, StoreError> {
        Self::open_locked(Arc::new(DataFolder::open(data_dir)?), data_dir, options)
    }

    /// As [`Store::open`], with the catalogue in one folder, and journal, segments and blobs in another.
    pub(super) fn open_locked(
        folder: Arc<DataFolder>,
        data_dir: &Path,
        options: Options,
    ) -> Result<Arc<Self>, StoreError> {
        let disk = options.disk;
        let mut definitions = DefinitionRecovery::open(Arc::clone(&folder), &options.definitions)?;
        let from = definitions.replay_from();
        let (clean_end, rows) = (definitions.clean_end(), definitions.message_rows()?);
        let mut messages = MessageRecovery::new(Arc::clone(&disk), data_dir, rows.rows, from)?;
        let mut recovered = journal::replay(
            &disk,
            data_dir,
            from,
            clean_end,
            &mut |lsn, record_bytes, content, body| {
                if let Content::Definitions = content {
                    definitions.replay(lsn, body);
                } else {
                    messages.replay(lsn, record_bytes, &content, body.len());
                }
            },
        )?;
        let replay = recovered.report.clone();
        let end = recovered.go_on_behind(definitions.known_end());
        let journal = Journal::start(disk, data_dir, recovered, options.journal)?;
        let definitions = Arc::new(definitions.start(replay.end, end, Arc::clone(&journal))?);
        folder.finish_migration()?;
        let catalogue: Arc<dyn RowStore> = Arc::clone(&definitions) as _;
        let messages = messages.finish(Arc::clone(&journal), catalogue, options.messages)?;
        Ok(Arc::new(Self {
            definitions,
            messages,
            damaged_rows: rows.damaged,
            clean_end,
            journal,
            replay,
            is_closed: AtomicBool::new(false),
        }))
    }

    /// What everything durable goes through.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What replay found in the journal when the store was opened; the log has been told.
    pub fn replay(&self) -> &ReplayReport {
        &self.replay
    }

    /// Rows about messages that could not be read when the store was opened; the log has been told.
    pub(super) fn damaged_rows(&self) -> &[DamagedRow] {
        &self.damaged_rows
    }

    /// Where the journal had ended, if the last stop was a clean one.
    pub(super) fn clean_end(&self) -> Option<Lsn> {
        self.clean_end
    }

    /// Writes everything, marks a clean stop, and ends all threads; nothing is taken afterwards. A second call does nothing.
    ///
    /// # Errors
    /// What could not be written. The next start finds what was synced.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.definitions.stop();
        // Rows that could not be written are in the journal.
        let messages = self.messages.close();
        match self.journal.close() {
            Ok(end) => self.definitions.close(Some(end)).and(messages),
            Err(error) => {
                // The first failure is the one to tell.
                let _ = self.definitions.close(None);
                Err(error)
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store could not be closed cleanly");
        }
    }
}

#[cfg(test)]
mod tests;
