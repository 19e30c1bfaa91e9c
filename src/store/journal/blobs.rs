//! Files that hold one large body each.
//!
//! In: bodies and numbers. Out: files, synced, and the bodies again, checked. Which message a body belongs to, and when it is
//! no longer needed, is not known here.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::ReadError;
use super::files::final_error;
use crate::store::StoreError;
use crate::store::disk::{Access, Disk};
use crate::store::record::{BlobRef, Damage};

/// The folder of large bodies, `blobs/` in the data folder.
#[derive(Debug)]
pub struct Blobs {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl Blobs {
    /// The folder of the data folder `data_folder`, made if it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn open(disk: Arc<dyn Disk>, data_folder: &Path) -> Result<Self, StoreError> {
        let folder = data_folder.join("blobs");
        disk.make_folder(&folder)
            .and_then(|()| disk.sync_folder(data_folder))
            .map_err(StoreError::io("create", &folder))?;
        Ok(Self { disk, folder })
    }

    /// Writes bodies and makes them durable, with their names. What an earlier life left under a number is replaced.
    pub(super) fn write(&self, blobs: &[(u64, Bytes)]) -> io::Result<()> {
        for (blob, body) in blobs {
            let file = self.disk.open(&self.path(*blob), Access::Create)?;
            file.set_len(0)?;
            file.write_all_at(body, 0)?;
            file.sync_data().map_err(final_error)?;
        }
        self.disk.sync_folder(&self.folder).map_err(final_error)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a body and checks it.
    pub(super) fn read(&self, blob: BlobRef) -> Result<Bytes, ReadError> {
        let file = self.disk.open(&self.path(blob.blob), Access::Read)?;
        if file.len()? != u64::from(blob.bytes) {
            return Err(ReadError::Damaged(Damage::Cut));
        }
        let mut body = vec![0; blob.bytes as usize];
        file.read_exact_at(&mut body, 0)?;
        if crc32fast::hash(&body) != blob.crc {
            return Err(ReadError::Damaged(Damage::Body));
        }
        Ok(body.into())
    }

    /// The numbers of all files, in no order. After a crash there may be some that no record names.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<u64>, StoreError> {
        let paths = self
            .disk
            .list(&self.folder)
            .map_err(StoreError::io("read", &self.folder))?;
        let numbers = paths.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
        });
        Ok(numbers.collect())
    }

    /// Removes a body. Whoever calls this knows that the settlement which frees it is synced; a missing file is fine.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, blob: u64) -> Result<(), StoreError> {
        let path = self.path(blob);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The file of a body.
    pub fn path(&self, blob: u64) -> PathBuf {
        self.folder.join(format!("{blob:016x}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;

    #[test]
    fn bodies_are_durable_checked_and_replaced() {
        let disk = SimDisk::with_folder(Path::new("/data"));
        let blobs = Blobs::open(Arc::new(disk.clone()), Path::new("/data")).unwrap();
        let body = Bytes::from_static(b"a body");
        let blob = BlobRef {
            blob: 0x2040,
            bytes: 6,
            crc: crc32fast::hash(&body),
        };
        blobs
            .write(&[(blob.blob, Bytes::from_static(b"a longer body of before"))])
            .unwrap();
        blobs.write(&[(blob.blob, body.clone())]).unwrap();
        let disk = disk.lose_unsynced();
        let blobs = Blobs::open(Arc::new(disk.clone()), Path::new("/data")).unwrap();
        assert_eq!(blobs.read(blob).unwrap(), body);
        assert_eq!(blobs.list().unwrap(), [0x2040]);
        disk.damage(&blobs.path(0x2040), |bytes| bytes[0] ^= 1);
        assert_eq!(blobs.read(blob), Err(ReadError::Damaged(Damage::Body)));
        disk.damage(&blobs.path(0x2040), |bytes| bytes.truncate(3));
        assert_eq!(blobs.read(blob), Err(ReadError::Damaged(Damage::Cut)));
        blobs.remove(0x2040).unwrap();
        blobs.remove(0x2040).unwrap();
        assert!(matches!(blobs.read(blob), Err(ReadError::Io(_))));
    }
}
