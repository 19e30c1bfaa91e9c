//! A disk that fails on command, for tests.
//!
//! In: a disk, and orders which operation is to fail. Out: that disk's answers, or the ordered errors. It knows nothing of what is
//! stored.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Disk, DiskFile};

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Disk::open`].
    Open,
    /// [`DiskFile::read_exact_at`].
    Read,
    /// [`DiskFile::write_all_at`]; the first half of the bytes is written all the same.
    Write,
    /// [`DiskFile::allocate`] and [`DiskFile::set_len`].
    Resize,
    /// [`DiskFile::sync_data`]; nothing is synced.
    Sync,
    /// [`Disk::sync_folder`] and [`Disk::sync_all`]; nothing is synced.
    SyncNames,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
}

/// A disk that fails on command. Clones share their orders. For tests.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    disk: Arc<dyn Disk>,
    orders: Arc<Mutex<Orders>>,
}

#[derive(Debug, Default)]
struct Orders {
    faults: Vec<Fault>,
    /// Bytes by which files may still grow.
    quota: Option<u64>,
    /// Where reading fails.
    bad_bytes: Vec<(String, Range<u64>)>,
    /// Changes that still succeed before the power is off.
    power: Option<u32>,
    is_off: bool,
}

#[derive(Debug)]
struct Fault {
    operation: Operation,
    /// Part of the path; empty for all.
    path: String,
    /// Operations that still succeed.
    spared: u32,
    kind: io::ErrorKind,
    is_for_ever: bool,
}

impl FaultyDisk {
    /// `disk`, which fails nowhere yet.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            orders: Arc::default(),
        }
    }

    /// Lets one operation fail, after `spared` more that succeed.
    pub fn fail_once(&self, operation: Operation, spared: u32, kind: io::ErrorKind) {
        self.order(operation, "", spared, kind, false);
    }

    /// Lets every operation fail, after `spared` more that succeed.
    pub fn fail_for_ever(&self, operation: Operation, spared: u32, kind: io::ErrorKind) {
        self.order(operation, "", spared, kind, true);
    }

    /// As [`FaultyDisk::fail_for_ever`], only where the path contains `part`.
    pub fn fail_at(&self, operation: Operation, part: &str, kind: io::ErrorKind) {
        self.order(operation, part, 0, kind, true);
    }

    /// Lets every read fail that touches these bytes of files whose path contains `part`.
    pub fn fail_reads_of(&self, part: &str, bytes: Range<u64>) {
        self.orders.lock().bad_bytes.push((part.to_owned(), bytes));
    }

    /// After `spared` more changes (of files or names, or syncs) every one fails and changes nothing, as if the power went off. Of a write
    /// that is cut the first half is there.
    pub fn power_off(&self, spared: u32) {
        self.orders.lock().power = Some(spared);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.orders.lock().is_off
    }

    /// Takes back all orders to fail, but not the quota.
    pub fn heal(&self) {
        let mut orders = self.orders.lock();
        orders.faults.clear();
        orders.bad_bytes.clear();
        (orders.power, orders.is_off) = (None, false);
    }

    /// Bytes by which files may grow from now on, then it is `StorageFull`; `None` for no limit. What is removed or cut gives nothing back.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.orders.lock().quota = bytes;
    }

    fn order(
        &self,
        operation: Operation,
        path: &str,
        spared: u32,
        kind: io::ErrorKind,
        is_for_ever: bool,
    ) {
        self.orders.lock().faults.push(Fault {
            operation,
            path: path.to_owned(),
            spared,
            kind,
            is_for_ever,
        });
    }

    fn check(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let mut orders = self.orders.lock();
        if operation != Operation::Read && operation != Operation::Open {
            match &mut orders.power {
                None => {}
                Some(0) => {
                    orders.is_off = true;
                    return Err(io::Error::other("the power is off"));
                }
                Some(spared) => *spared -= 1,
            }
        }
        let Some(index) = orders.faults.iter().position(|fault| {
            fault.operation == operation && path.to_string_lossy().contains(&fault.path)
        }) else {
            return Ok(());
        };
        let fault = &mut orders.faults[index];
        if fault.spared > 0 {
            fault.spared -= 1;
            return Ok(());
        }
        let kind = fault.kind;
        if !fault.is_for_ever {
            orders.faults.remove(index);
        }
        Err(io::Error::new(kind, "ordered by the test"))
    }

    fn is_bad(&self, path: &Path, bytes: Range<u64>) -> bool {
        let path = path.to_string_lossy();
        let orders = self.orders.lock();
        orders.bad_bytes.iter().any(|(part, bad)| {
            path.contains(part) && bad.start < bytes.end && bytes.start < bad.end
        })
    }

    /// Takes the growth of a file to `bytes` off the quota.
    fn grow(&self, file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
        let mut orders = self.orders.lock();
        if let Some(quota) = &mut orders.quota {
            let growth = bytes.saturating_sub(file.len()?);
            *quota = quota
                .checked_sub(growth)
                .ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        self.check(Operation::Open, path)?;
        let access = match access {
            Access::Create if self.is_off() => Access::Write,
            access => access,
        };
        Ok(Box::new(FaultyFile {
            file: self.disk.open(path, access)?,
            path: path.to_owned(),
            disk: self.clone(),
        }))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if self.is_off() {
            return Err(io::Error::other("the power is off"));
        }
        self.disk.make_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename, from)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove, path)?;
        self.disk.remove(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_folder(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::SyncNames, path)?;
        self.disk.sync_folder(path)
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::SyncNames, path)?;
        self.disk.sync_all(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    disk: FaultyDisk,
}

impl DiskFile for FaultyFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.check(Operation::Read, &self.path)?;
        let end = offset + buffer.len() as u64;
        if self.disk.is_bad(&self.path, offset..end) {
            return Err(io::Error::other("ordered by the test"));
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let was_off = self.disk.is_off();
        if let Err(error) = self.disk.check(Operation::Write, &self.path) {
            if was_off {
                return Err(error);
            }
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        self.disk
            .grow(self.file.as_ref(), offset + bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.disk.check(Operation::Resize, &self.path)?;
        self.disk.grow(self.file.as_ref(), bytes)?;
        self.file.allocate(bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.check(Operation::Resize, &self.path)?;
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check(Operation::Sync, &self.path)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;

    #[test]
    fn operations_fail_when_ordered() {
        let sim = SimDisk::with_folder(Path::new("/data"));
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        let path = Path::new("/data/a");
        let file = disk.open(path, Access::Create).unwrap();
        disk.fail_once(Operation::Write, 1, io::ErrorKind::BrokenPipe);
        file.write_all_at(b"12", 0).unwrap();
        let error = file.write_all_at(b"3456", 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(sim.content(path).unwrap(), b"1234");
        file.write_all_at(b"56", 4).unwrap();
        disk.fail_for_ever(Operation::Sync, 0, io::ErrorKind::Other);
        assert!(file.sync_data().is_err() && file.sync_data().is_err());
        disk.heal();
        file.sync_data().unwrap();
    }

    #[test]
    fn nothing_changes_once_the_power_is_off() {
        let sim = SimDisk::with_folder(Path::new("/data"));
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        let path = Path::new("/data/a");
        let file = disk.open(path, Access::Create).unwrap();
        disk.power_off(1);
        file.write_all_at(b"12", 0).unwrap();
        assert!(!disk.is_off());
        for _ in 0..3 {
            assert!(file.write_all_at(b"3456", 2).is_err());
            assert!(file.sync_data().is_err() && disk.remove(path).is_err());
            assert!(disk.open(Path::new("/data/b"), Access::Create).is_err());
        }
        assert!(disk.is_off());
        assert_eq!(sim.paths(), [path]);
        assert_eq!(sim.content(path).unwrap(), b"1234");
    }

    #[test]
    fn a_quota_counts_growth() {
        let sim = SimDisk::with_folder(Path::new("/data"));
        let disk = FaultyDisk::new(Arc::new(sim));
        let file = disk.open(Path::new("/data/a"), Access::Create).unwrap();
        disk.set_quota(Some(10));
        file.allocate(8).unwrap();
        file.write_all_at(&[1; 8], 0).unwrap();
        let error = file.write_all_at(&[1; 8], 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        disk.set_quota(Some(8));
        file.write_all_at(&[1; 8], 8).unwrap();
    }
}
