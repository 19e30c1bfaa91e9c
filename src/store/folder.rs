//! The data folder: one process at a time, one format.
//!
//! In: a path. Out: a [`DataFolder`] that holds the lock until it is dropped. What lies in the folder beyond
//! the lock and the format file is not known here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;

/// The format of the data folder that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u64 = 1;

const LOCK_FILE: &str = "haremq.lock";
const FORMAT_FILE: &str = "haremq-format";

/// Permissions of a new data folder and of the files written here: they hold messages and password hashes.
const FOLDER_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o600;

/// How long a lock is asked for before the folder counts as in use. The one before us may be ending, or a child
/// that it has just forked may not have let go of its files yet.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of the format file that are looked at.
const FORMAT_FILE_BYTES_MAX: usize = 32;

/// A data folder, locked.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// The lock ends with the file descriptor.
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if it is missing, locks it, checks its format.
    ///
    /// # Errors
    /// The folder cannot be written or read, is in use, or has another format: each its own
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unwritable = |error: io::Error| StoreError::FolderUnwritable {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
            .map_err(unwritable)?;
        fs::read_dir(path).map_err(|error| StoreError::FolderUnreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(unwritable)?;
        lock_patiently(&lock).map_err(|errno| {
            if errno == Errno::WOULDBLOCK {
                StoreError::FolderInUse {
                    path: path.to_owned(),
                }
            } else {
                unwritable(errno.into())
            }
        })?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        folder.check_format()?;
        Ok(folder)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.path.join(FORMAT_FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => {
                let shown = &bytes[..bytes.len().min(FORMAT_FILE_BYTES_MAX)];
                String::from_utf8_lossy(shown).trim().to_owned()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return write_atomically(&path, |file| writeln!(file, "{FORMAT_VERSION}"));
            }
            Err(error) => {
                return Err(StoreError::FolderUnreadable {
                    path: self.path.clone(),
                    reason: error.to_string(),
                });
            }
        };
        match text.parse() {
            Ok(FORMAT_VERSION) => Ok(()),
            Ok(found) if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
                path: self.path.clone(),
                found,
                supported: FORMAT_VERSION,
            }),
            _ => Err(StoreError::UnknownFormat {
                path: self.path.clone(),
                found: text,
            }),
        }
    }
}

fn lock_patiently(lock: &File) -> Result<(), Errno> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_PAUSE);
            }
            result => return result,
        }
    }
}

/// Writes a file so that after a crash it has either its old or its new content: a temporary file, synced,
/// renamed, and the folder synced.
pub(super) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let temporary = path.with_extension("tmp");
    let attempt = || -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(FILE_MODE)
            .open(&temporary)?;
        let mut file = io::BufWriter::new(file);
        write(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    attempt().map_err(StoreError::io("write", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_free_again_after_the_drop() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataFolder::open(dir.path()).unwrap();
        assert_eq!(
            DataFolder::open(dir.path()).unwrap_err(),
            StoreError::FolderInUse {
                path: dir.path().to_owned()
            }
        );
        drop(first);
        assert!(DataFolder::open(dir.path()).is_ok());
    }

    #[test]
    fn newer_and_unknown_formats_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolder::open(dir.path()).unwrap());
        let format = dir.path().join(FORMAT_FILE);
        assert_eq!(fs::read_to_string(&format).unwrap(), "1\n");

        fs::write(&format, "2\n").unwrap();
        assert!(matches!(
            DataFolder::open(dir.path()),
            Err(StoreError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            })
        ));
        for content in ["", "abc", "0", "-1"] {
            fs::write(&format, content).unwrap();
            assert!(
                matches!(
                    DataFolder::open(dir.path()),
                    Err(StoreError::UnknownFormat { .. })
                ),
                "{content}"
            );
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        fs::write(&file, "").unwrap();
        let error = DataFolder::open(&file).unwrap_err();
        assert!(matches!(error, StoreError::FolderUnwritable { .. }));
        assert_eq!(error.exit_code(), 73);
    }
}
