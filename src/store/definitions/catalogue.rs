//! The sled database under the definitions.
//!
//! In: batches of rows. Out: rows, and commits that have reached the disk. What is in a row is not known
//! here, beyond the store's own counters.
//!
//! The rules for sled 0.34.7, each with its reason:
//! - Only [`Catalogue::commit`] writes, from one thread. Its flush is followed by an `fdatasync` of sled's
//!   `db` file, because `Tree::flush` calls `sync_file_range`, which syncs neither the file's size nor the
//!   device's cache (sled issues 1351 and 1452).
//! - `flush_every_ms` stays on: the thread behind it is also the only one that reclaims space.
//! - One tree: a batch on one tree is atomic, and many trees cost much space (sled issue 1484).
//! - Panics inside sled are caught and become errors.
//! - sled never goes on after it met a full disk. So blocks behind the end of its file are allocated ahead, and nothing is
//!   written that they might not hold ([`Catalogue::keep_room`]).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use super::key::{self, Kind};
use super::row;
use crate::store::StoreError;
use crate::store::disk::{Access, Disk, DiskFile, RealDisk, is_out_of_space};
use crate::store::journal::Lsn;

/// The folder of the database in the data folder.
pub(in crate::store) const FOLDER: &str = "meta";

/// Permissions of that folder. sled makes its files readable for everybody, and they hold password hashes.
const FOLDER_MODE: u32 = 0o700;

/// The file in it that sled keeps its log in.
const DB_FILE: &str = "db";

const TREE: &str = "definitions";

/// Milliseconds between sled's own flushes.
const FLUSH_EVERY_MS: u64 = 500;

/// How long a lock on the database that its last user has not let go of is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What is kept allocated behind the end of sled's file, and of that what its own housekeeping may need at any time: it writes
/// by segments of 512 KiB.
const ROOM_BYTES: u64 = 6 * 1024 * 1024;
const OWN_BYTES: u64 = 2 * 1024 * 1024;

/// It is allocated by so much, so that it lies in few pieces.
const ROOM_STEP_BYTES: u64 = 1024 * 1024;

/// A row that changes takes up to its leaf anew, and a row much longer than that several times its length.
const LEAF_BYTES: u64 = 4 * 1024;
const WRITE_FACTOR: u64 = 3;

/// The counters that the catalogue keeps beside the definitions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter {
    /// Commits since the store was created.
    Sequence,
    /// Queue ids below this may be in use; those from it on are not.
    QueueIdLimit,
    /// Every definitions record of the journal that begins below this Lsn is in the rows.
    DefinitionsLsn,
    /// The Lsn at which replay of the journal begins.
    Checkpoint,
    /// Where the journal ended at a clean stop; there from that stop to the next start.
    CleanEnd,
}

/// All counters, as they stood when the catalogue was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) sequence: u64,
    pub(super) queue_id_limit: u64,
    pub(super) definitions_lsn: Lsn,
    pub(super) checkpoint: Lsn,
    pub(super) clean_end: Option<Lsn>,
}

impl Counter {
    pub(super) fn row(self, number: u64) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        let value = row::seal(&key, number.to_string().as_bytes());
        (key, value)
    }

    pub(super) fn key(self) -> Vec<u8> {
        let name: &[u8] = match self {
            Self::Sequence => b"sequence",
            Self::QueueIdLimit => b"queue_id_limit",
            Self::DefinitionsLsn => b"definitions_lsn",
            Self::Checkpoint => b"checkpoint",
            Self::CleanEnd => b"clean_end",
        };
        key::prefix(Kind::State, &[name])
    }
}

/// An open catalogue.
#[derive(Debug)]
pub(super) struct Catalogue {
    path: PathBuf,
    rows: sled::Tree,
    db_file: File,
    /// The same file, as it is synced.
    synced_by: Box<dyn DiskFile>,
    commits: AtomicU64,
    /// Kept open for as long as its tree is used.
    _db: sled::Db,
}

impl Catalogue {
    /// Opens the database in the folder `path`, or creates it there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when sled cannot open what it finds, or panics over it.
    pub(super) fn open(path: &Path, cache_bytes_max: u64) -> Result<Self, StoreError> {
        make_private(path).map_err(StoreError::io("keep others out of", path))?;
        let (db, rows) = open_unlocked(path, cache_bytes_max)?;
        let db_path = path.join(DB_FILE);
        let synced_by = RealDisk
            .open(&db_path, Access::Write)
            .map_err(StoreError::io("open", &db_path))?;
        let db_file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&db_path)
            .map_err(StoreError::io("open", &db_path))?;
        // The files must be found after a power cut, not only be synced.
        for folder in [Some(path), path.parent()].into_iter().flatten() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(StoreError::io("sync", folder))?;
        }
        Ok(Self {
            path: path.to_owned(),
            rows,
            db_file,
            synced_by,
            commits: AtomicU64::new(0),
            _db: db,
        })
    }

    /// Syncs through another disk from now on.
    ///
    /// # Errors
    /// That disk's.
    pub(super) fn sync_through(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let path = self.path.join(DB_FILE);
        let opened = disk.open(&path, Access::Write);
        self.synced_by = opened.map_err(StoreError::io("open", &path))?;
        Ok(())
    }

    /// Sees to it that there is room for so many rows with so many bytes, and for sled's own needs, before they are applied.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], and nothing has changed; the system's.
    pub(super) fn keep_room(&self, rows: usize, bytes: usize) -> Result<(), StoreError> {
        let needed = OWN_BYTES + rows as u64 * LEAF_BYTES + bytes as u64 * WRITE_FACTOR;
        // On a full disk what was allocated before counts.
        let kept =
            self.allocate_behind(ROOM_BYTES + needed).or_else(|error| {
                match is_out_of_space(&error) {
                    true => self.allocate_behind(needed),
                    false => Err(error),
                }
            });
        let path = self.path.join(DB_FILE);
        kept.map_err(|error| match is_out_of_space(&error) {
            true => StoreError::NoSpace { path },
            false => StoreError::io("allocate", &path)(error),
        })
    }

    fn allocate_behind(&self, bytes: u64) -> io::Result<()> {
        let end = (self.db_file.metadata()?.len() + bytes).next_multiple_of(ROOM_STEP_BYTES);
        match fallocate(&self.db_file, FallocateFlags::KEEP_SIZE, 0, end) {
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let stat = fstatvfs(&self.db_file)?;
                match stat.f_bavail.saturating_mul(stat.f_frsize) >= bytes {
                    true => Ok(()),
                    false => Err(io::ErrorKind::StorageFull.into()),
                }
            }
            result => Ok(result?),
        }
    }

    /// Applies a batch, all or nothing, without waiting for the disk. The next [`Catalogue::commit`] covers
    /// it.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        guarded(&self.path, || self.rows.apply_batch(batch))
    }

    /// Applies a batch, all or nothing, and returns once it is synced.
    pub(super) fn commit(&self, batch: sled::Batch) -> Result<(), StoreError> {
        self.apply(batch)?;
        self.durable_flush()
    }

    fn durable_flush(&self) -> Result<(), StoreError> {
        guarded(&self.path, || self.rows.flush())?;
        self.synced_by
            .sync_data()
            .map_err(StoreError::io("sync", &self.path.join(DB_FILE)))?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Times that [`Catalogue::commit`] has synced.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The counters; 0 and none for what was never written.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub(super) fn counters(&self) -> Result<Counters, StoreError> {
        Ok(Counters {
            sequence: self.counter(Counter::Sequence)?.unwrap_or(0),
            queue_id_limit: self.counter(Counter::QueueIdLimit)?.unwrap_or(0),
            definitions_lsn: Lsn(self.counter(Counter::DefinitionsLsn)?.unwrap_or(0)),
            checkpoint: Lsn(self.counter(Counter::Checkpoint)?.unwrap_or(0)),
            clean_end: self.counter(Counter::CleanEnd)?.map(Lsn),
        })
    }

    fn counter(&self, counter: Counter) -> Result<Option<u64>, StoreError> {
        let key = counter.key();
        let Some(value) = self.get(&key)? else {
            return Ok(None);
        };
        let damaged = |reason| StoreError::Damaged {
            path: self.path.clone(),
            reason: format!("counter {counter:?}: {reason}"),
        };
        let payload = row::unseal(&key, &value).map_err(damaged)?;
        std::str::from_utf8(payload)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| damaged("not a number".to_owned()))
    }

    /// The value of a row.
    ///
    /// # Errors
    /// sled's own.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        guarded(&self.path, || self.rows.get(key))
    }

    /// Calls `visit` with key and value of each row whose key begins with `prefix`, in the order of the keys.
    ///
    /// # Errors
    /// sled's own, or the first that `visit` returns.
    pub(super) fn scan<E: From<StoreError>>(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.rows.scan_prefix(prefix);
        while let Some((key, value)) = guarded(&self.path, || rows.next().transpose())? {
            visit(&key, &value)?;
        }
        Ok(())
    }
}

/// Makes the folder, and closes it to everybody but its owner. Not so for a folder of somebody else's, which
/// cannot be changed: whoever made it has decided.
fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o777 & !FOLDER_MODE == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(%error, "others may read {}, which holds password hashes", path.display());
            Ok(())
        }
        result => result,
    }
}

/// Opens the database. Its lock can outlive its last user for a moment, in a thread of sled's or in a child that
/// another thread has just forked, so a lock that is taken is asked for again.
fn open_unlocked(path: &Path, cache_bytes_max: u64) -> Result<(sled::Db, sled::Tree), StoreError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let opened = guarded(path, || {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes_max)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .open()?;
            let rows = db.open_tree(TREE)?;
            Ok((db, rows))
        });
        match opened {
            Err(StoreError::Io { reason, .. })
                if reason.contains("could not acquire lock") && Instant::now() < deadline =>
            {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Runs a sled operation; its errors and its panics become [`StoreError::Damaged`], its input and output
/// errors [`StoreError::Io`].
fn guarded<T>(path: &Path, operation: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(StoreError::Io {
            action: "use",
            path: path.to_owned(),
            reason: error.to_string(),
        }),
        Ok(Err(error)) => Err(StoreError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
        Err(panic) => Err(StoreError::Damaged {
            path: path.to_owned(),
            reason: format!("the database panicked: {}", panic_text(&*panic)),
        }),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a reason")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn room_is_kept_behind_the_end_of_the_file_and_changes_nothing_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FOLDER);
        let catalogue = Catalogue::open(&path, 1 << 20).unwrap();
        let file = path.join(DB_FILE);
        let bytes = fs::metadata(&file).unwrap().len();
        for _ in 0..2 {
            catalogue.keep_room(10, 1000).unwrap();
            let kept = fs::metadata(&file).unwrap();
            assert_eq!(kept.len(), bytes);
            // Where the file system cannot do that it has looked for free space.
            assert!(kept.blocks() * 512 >= ROOM_BYTES + OWN_BYTES || kept.blocks() * 512 <= bytes);
        }
        let mut batch = sled::Batch::default();
        batch.insert(b"k".as_slice(), b"v".as_slice());
        catalogue.commit(batch).unwrap();
        drop(catalogue);
        let catalogue = Catalogue::open(&path, 1 << 20).unwrap();
        assert_eq!(catalogue.get(b"k").unwrap().unwrap(), b"v".as_slice());
    }
}
