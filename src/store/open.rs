//! Opening and closing the data folder as a whole.
//!
//! In: a folder. Out: the definitions and the messages in it, brought up to where the journal ends. What a record means is
//! not known here; this is the order of the steps.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::definitions::{self, DefinitionRecovery, DefinitionStore};
use super::disk::{Disk, RealDisk};
use super::journal::{self, Journal, JournalOptions, ReplayReport};
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
    /// Where journal, segments and blobs lie.
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
    is_closed: AtomicBool,
}

impl Store {
    /// Opens a data folder, or creates it: repairs what is damaged, takes from the journal what the catalogue lacks.
    ///
    /// # Errors
    /// The folder is in use, cannot be read or written, has a newer format, or is damaged beyond repair: each its own
    /// [`StoreError`].
    pub fn open(data_dir: &Path, options: Options) -> Result<Arc<Self>, StoreError> {
        let disk = options.disk;
        let folder = Arc::new(DataFolder::open(data_dir)?);
        journal::free_reserve(&*disk, data_dir);
        let mut definitions = DefinitionRecovery::open(Arc::clone(&folder), &options.definitions)?;
        let from = definitions.replay_from();
        let rows = definitions.message_rows()?;
        let mut messages = MessageRecovery::new(Arc::clone(&disk), data_dir, rows.rows, from)?;
        let mut recovered = journal::replay(
            &disk,
            data_dir,
            from,
            definitions.clean_end(),
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
        let messages = messages.finish(
            Arc::clone(&journal),
            Arc::clone(&definitions) as Arc<dyn RowStore>,
            options.messages,
        )?;
        Ok(Arc::new(Self {
            definitions,
            messages,
            replay,
            journal,
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

    /// Writes everything, marks a clean stop, and ends all threads; nothing is taken afterwards. A second call does nothing.
    ///
    /// # Errors
    /// What could not be written. The next start finds what was synced.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Nothing is lost when rows cannot be committed: the journal has what they would say.
        if let Err(error) = self.messages.close() {
            tracing::error!(%error, "the last checkpoint failed");
        }
        self.definitions.stop();
        match self.journal.close() {
            Ok(end) => self.definitions.close(Some(end)),
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
