//! A disk that takes its time: what the store does meanwhile.

#![allow(clippy::unwrap_used)]

use std::fmt;
use std::io;
use std::path::PathBuf;

use parking_lot::MutexGuard;

use super::tests::options;
use super::*;
use crate::store::disk::{Access, DiskFile};
use crate::store::journal::JournalOptions;
use crate::store::{self, Store};

/// The system's disk, whose syncs wait for as long as the gate is held.
#[derive(Clone, Debug, Default)]
struct GatedDisk(Arc<Mutex<()>>);

impl GatedDisk {
    fn hold(&self) -> MutexGuard<'_, ()> {
        self.0.lock()
    }
}

struct GatedFile(Box<dyn DiskFile>, Arc<Mutex<()>>);

impl fmt::Debug for GatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Disk for GatedDisk {
    fn open(&self, path: &std::path::Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path, access)?;
        Ok(Box::new(GatedFile(file, Arc::clone(&self.0))))
    }

    fn make_folder(&self, path: &std::path::Path) -> io::Result<()> {
        RealDisk.make_folder(path)
    }

    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &std::path::Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn remove_folder(&self, path: &std::path::Path) -> io::Result<()> {
        RealDisk.remove_folder(path)
    }

    fn list(&self, path: &std::path::Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(path)
    }

    fn sync_folder(&self, path: &std::path::Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }

    fn sync_all(&self, path: &std::path::Path) -> io::Result<()> {
        RealDisk.sync_all(path)
    }
}

impl DiskFile for GatedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        let _passed = self.1.lock();
        self.0.sync_data()
    }
}

/// A store with this disk under its journal.
fn open(dir: &tempfile::TempDir, definitions: Options, journal: Arc<dyn Disk>) -> Arc<Store> {
    let options = store::Options {
        definitions,
        journal: JournalOptions {
            file_bytes: 64 * 1024,
            ..JournalOptions::default()
        },
        disk: journal,
        ..store::Options::default()
    };
    Store::open(dir.path(), options).unwrap()
}

#[test]
fn without_reserved_ids_none_is_given_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let disk = GatedDisk::default();
    let small = Options {
        queue_id_block: 100,
        ..options()
    };
    let store = open(&dir, small, Arc::new(disk.clone()));
    let gate = disk.hold();
    let mut taken = Vec::new();
    let refused = loop {
        match store.definitions.allocate_queue_id() {
            Ok(id) => taken.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::NoQueueIds);
    assert!((50..=200).contains(&taken.len()), "{}", taken.len());
    drop(gate);
    let next = store.definitions.wait_for_queue_id();
    assert!(taken.iter().all(|id| *id < next));
    assert!(store.definitions.allocate_queue_id().is_ok());
}

#[test]
fn a_catalogue_that_takes_no_rows_for_long_has_failed_and_the_journal_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = GatedDisk::default();
    let impatient = Options {
        disk: Arc::new(disk.clone()),
        patience: Duration::from_millis(50),
        ..options()
    };
    let store = open(&dir, impatient, Arc::new(RealDisk));
    let gate = disk.hold();
    let catalogue: &dyn RowStore = &*store.definitions;
    let refused = catalogue.commit(Vec::new(), Lsn(0)).unwrap_err();
    let stopped = |error: &StoreError| matches!(error, StoreError::Stopped { .. });
    assert!(stopped(&refused), "{refused}");
    assert!(refused.to_string().contains("then restart haremq"));
    // The journal's thread does the rest; a flush ends with it.
    assert!(stopped(&store.journal().flush().unwrap_err()));
    drop(gate);
    assert!(store.close().is_err());
}
