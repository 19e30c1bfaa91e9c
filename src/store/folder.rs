//! The data folder: one process at a time, one format.
//!
//! In: a path. Out: a [`DataFolder`] that holds the lock until it is dropped. What lies in the folder beyond
//! the lock and the format file is not known here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::StoreError;

/// The format of the data folder that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u64 = 2;

/// The format of definitions alone, without a journal. Nothing in such a folder has to be converted, but once there is a
/// journal a program that does not know it must not go on without what lies in there.
const FORMAT_BEFORE_JOURNAL: u64 = 1;

const LOCK_FILE: &str = "haremq.lock";
pub(super) const FORMAT_FILE: &str = "haremq-format";

/// One of these is in every data folder.
const DATA: [&str; 4] = [FORMAT_FILE, "meta", "meta.json", "journal"];

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
    /// The format found, or made; 0 if there is none yet.
    format: AtomicU64,
    /// The lock ends with the file descriptor.
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if it is missing, locks it, checks its format. One of an older format stays so until
    /// `finish_migration`.
    ///
    /// # Errors
    /// The folder cannot be written or read, is in use, or has another format: each its own
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
            .map_err(unwritable(path))?;
        fs::read_dir(path).map_err(unreadable(path))?;
        let lock = lock(path)?;
        let format = match read_format(path)? {
            Some(format) => format,
            None => {
                write_format(path)?;
                FORMAT_VERSION
            }
        };
        Ok(Self {
            path: path.to_owned(),
            format: AtomicU64::new(format),
            _lock: lock,
        })
    }

    /// Locks a folder that is there, and checks its format. Nothing is written but the lock's own file.
    ///
    /// # Errors
    /// As [`DataFolder::open`]; also if the folder is missing, or nothing in it is a data folder's.
    pub(super) fn open_existing(path: &Path) -> Result<Self, StoreError> {
        fs::read_dir(path).map_err(unreadable(path))?;
        if !DATA.iter().any(|name| path.join(name).exists()) {
            return Err(unreadable(path)(io::Error::other(
                "it holds nothing of haremq's",
            )));
        }
        let lock = lock(path)?;
        Ok(Self {
            path: path.to_owned(),
            format: AtomicU64::new(read_format(path)?.unwrap_or(0)),
            _lock: lock,
        })
    }

    /// The number of the format; `None` if the folder does not say it.
    pub(super) fn format(&self) -> Option<u64> {
        Some(self.format.load(Ordering::Relaxed)).filter(|format| *format > 0)
    }

    /// Gives a folder of an older format this program's number, once everything is there that belongs to it.
    ///
    /// # Errors
    /// The number cannot be written.
    pub(super) fn finish_migration(&self) -> Result<(), StoreError> {
        let found = self.format.load(Ordering::Relaxed);
        if found == FORMAT_VERSION {
            return Ok(());
        }
        write_format(&self.path)?;
        self.format.store(FORMAT_VERSION, Ordering::Relaxed);
        tracing::info!(
            "format-{found}: the data folder has format {FORMAT_VERSION} from now on; earlier programs refuse it"
        );
        Ok(())
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens the lock's file and locks it.
fn lock(path: &Path) -> Result<File, StoreError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(path.join(LOCK_FILE))
        .map_err(unwritable(path))?;
    lock_patiently(&lock).map_err(|errno| {
        if errno == Errno::WOULDBLOCK {
            StoreError::FolderInUse {
                path: path.to_owned(),
            }
        } else {
            unwritable(path)(errno.into())
        }
    })?;
    Ok(lock)
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> StoreError + use<'_> {
    |error| StoreError::FolderUnwritable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> StoreError + use<'_> {
    |error| StoreError::FolderUnreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// The format that a folder says, one that this program can use; `None` if it says none.
fn read_format(folder: &Path) -> Result<Option<u64>, StoreError> {
    let text = match fs::read(folder.join(FORMAT_FILE)) {
        Ok(bytes) => {
            let shown = &bytes[..bytes.len().min(FORMAT_FILE_BYTES_MAX)];
            String::from_utf8_lossy(shown).trim().to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(folder)(error)),
    };
    match text.parse() {
        Ok(found @ (FORMAT_BEFORE_JOURNAL | FORMAT_VERSION)) => Ok(Some(found)),
        Ok(found) if found > FORMAT_VERSION => Err(StoreError::NewerFormat {
            path: folder.to_owned(),
            found,
            supported: FORMAT_VERSION,
        }),
        _ => Err(StoreError::UnknownFormat {
            path: folder.to_owned(),
            found: text,
        }),
    }
}

fn write_format(folder: &Path) -> Result<(), StoreError> {
    write_atomically(&folder.join(FORMAT_FILE), |file| {
        writeln!(file, "{FORMAT_VERSION}")
    })
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
    use std::os::unix::fs::PermissionsExt as _;

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
        assert_eq!(fs::read_to_string(&format).unwrap(), "2\n");

        fs::write(&format, "3\n").unwrap();
        let error = DataFolder::open(dir.path()).unwrap_err();
        assert!(matches!(
            error,
            StoreError::NewerFormat {
                found: 3,
                supported: 2,
                ..
            }
        ));
        assert!(
            error.to_string().ends_with(
                "has format 3, this haremq knows 2; start the newer haremq that wrote it"
            )
        );
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
    fn a_folder_of_format_1_is_so_until_its_migration_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let format = dir.path().join(FORMAT_FILE);
        fs::write(&format, "1\n").unwrap();
        let folder = DataFolder::open(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&format).unwrap(), "1\n");
        folder.finish_migration().unwrap();
        assert_eq!(fs::read_to_string(&format).unwrap(), "2\n");
        // Nothing is written a second time, as the removed file shows.
        fs::remove_file(&format).unwrap();
        folder.finish_migration().unwrap();
        assert!(!format.exists());
    }

    #[test]
    fn nobody_else_may_read_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let _folder = DataFolder::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path) & !FOLDER_MODE, 0);
        assert_eq!(mode(&path.join(LOCK_FILE)) & !FILE_MODE, 0);
        assert_eq!(mode(&path.join(FORMAT_FILE)) & !FILE_MODE, 0);
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
