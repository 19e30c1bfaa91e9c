//! The doctor: what is in a data folder that no broker uses, what is damaged there, what a start would lose, and its repair.
//!
//! In: a data folder. Out: a [`Report`] as data; after a repair a folder that a start finds sound, and the copy of what was. How it
//! is shown to people is not known here.
//!
//! An examination is a start that leaves no trace: the same recovery runs on a copy of the catalogue, which is small, and on an
//! [`OverlayDisk`](super::disk::OverlayDisk), which keeps in memory what the recovery writes, cuts and removes. After it every record of each
//! segment is read, which a start does not do. A repair is the same on the disk itself: what cannot be read is set aside and settled, then
//! everything moves out of the journal, so that its files, damaged or not, are let go of.
//!
//! | part | role |
//! |---|---|
//! | `examination` | recovery without a trace, and what it has shown |
//! | `scrub` | reads what lives in journal, segments and blobs |
//! | `mending` | the same on the disk, with consequences |
//! | `copying` | copies of folders, as far as they can be read |
//! | `inventory` | which files there are |
//! | `report` | all of it as data |

mod copying;
mod examination;
mod inventory;
mod mending;
mod report;
mod scrub;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use copying::Copy;
pub use mending::Mended;
pub use report::{
    DefinitionCounts, ExportReport, Finding, Health, JournalReport, Quantity, QueueReport, Report,
    Severity,
};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use super::messages::MessageOptions;
use super::{DataFolder, Options, StoreError, definitions};

/// A folder under examination, locked.
#[derive(Debug)]
pub struct Doctor {
    folder: Arc<DataFolder>,
    options: Options,
}

impl Doctor {
    /// Locks a data folder. Nothing is written but the lock's own file.
    ///
    /// # Errors
    /// The folder is missing, is none of haremq's, is in use, cannot be read, or has a format that is not known.
    pub fn open(data_dir: &Path, options: Options) -> Result<Self, StoreError> {
        Ok(Self {
            folder: Arc::new(DataFolder::open_existing(data_dir)?),
            options,
        })
    }

    /// Looks at everything and changes nothing.
    ///
    /// # Errors
    /// The folder cannot be read, or there is no room for a copy of its catalogue among the system's temporary files. Damage is no error.
    pub fn examine(&self) -> Result<Report, StoreError> {
        examination::examine(&self.folder, &self.options)
    }

    /// Copies the folder as a whole, with what is damaged, to one beside it.
    ///
    /// # Errors
    /// There is no room, or the copy cannot be written. What was copied is removed then.
    pub fn copy(&self) -> Result<Copy, StoreError> {
        copying::beside(self.folder.path())
    }

    /// Sets aside what is damaged, and settles what cannot be read, so that the next start finds nothing wrong.
    ///
    /// # Errors
    /// The folder is damaged beyond repair, or cannot be written. What was done until then stays.
    pub fn mend(&self) -> Result<Mended, StoreError> {
        mending::mend(&self.folder, &self.options)
    }
}

/// A store that does nothing on its own, on `disk`.
fn quiet(options: &Options, disk: Arc<dyn Disk>) -> Options {
    // Until it is closed, which exports and writes what is left.
    const NEVER: Duration = Duration::from_secs(24 * 3600);
    Options {
        definitions: definitions::Options {
            apply_debounce: NEVER,
            export_debounce: NEVER,
            ..options.definitions.clone()
        },
        journal: options.journal,
        messages: MessageOptions {
            has_thread: false,
            // What moves is moved out of every file.
            sealed_files_max: 0,
            ..options.messages.clone()
        },
        disk,
    }
}
