//! The files of the journal: which place is in which file, and how files come, are used again and go.
//!
//! In: headers of files to begin, ends of files that are full, places to look up. Out: open files. What is in them is not known here.
//!
//! `journal/wal-<generation>` are the files in use: the current one, into which the writer writes, and sealed ones, which are
//! full and synced. `journal/spare-<number>` are files to be used again: their blocks are written already, so a sync of new
//! content need not change the file system's own tables. A file that is begun gets its name first, made durable, then its header,
//! made durable, then frames; so a name without a header that fits means that no frame was written.
//!
//! The next file is allocated before it is needed: as a spare, unless there is one already. So a lack of space shows while the
//! current file still has room. Beside it lies `journal/reserve`, which holds nothing: it is removed at each start, which needs a
//! little room for the catalogue and for a file to go on in, and when there is no other room left.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::format::FileHeader;
use super::{Lsn, SealedFile};
use crate::model::QueueId;
use crate::store::StoreError;
use crate::store::disk::{Access, Disk, DiskFile, is_out_of_space};

/// Files kept to be used again.
const SPARES_MAX: usize = 2;

const FILE_PREFIX: &str = "wal-";
const SPARE_PREFIX: &str = "spare-";
const RESERVE: &str = "reserve";

/// The generation that a file's name says, if it is a file of the journal.
pub(super) fn generation_of(path: &Path) -> Option<u64> {
    number_of(path, FILE_PREFIX)
}

/// Whether a file is one to be used again.
pub(super) fn is_spare(path: &Path) -> bool {
    number_of(path, SPARE_PREFIX).is_some()
}

fn number_of(path: &Path, prefix: &str) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(prefix)?;
    let is_number = digits.len() >= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// The file of a generation.
pub(super) fn path_of(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{FILE_PREFIX}{generation:010}"))
}

/// A file that was found at start, full or not.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub sealed: SealedFile,
    pub file: Arc<dyn DiskFile>,
}

#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    file_bytes: u64,
    reserve_bytes: u64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the place where they start.
    files: BTreeMap<Lsn, KnownFile>,
    spares: Vec<PathBuf>,
    has_reserve: bool,
}

/// Removes the reserve; whether it was there.
pub(super) fn remove_reserve(disk: &dyn Disk, folder: &Path) -> bool {
    disk.remove(&folder.join(RESERVE)).is_ok()
}

#[derive(Debug)]
struct KnownFile {
    generation: u64,
    file: Arc<dyn DiskFile>,
    sealed: Option<SealedFile>,
}

impl Files {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        file_bytes: u64,
        reserve_bytes: u64,
    ) -> Self {
        Self {
            disk,
            folder,
            file_bytes,
            reserve_bytes,
            known: Mutex::default(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes over what was found at start: files with content, and paths of files without.
    pub(super) fn adopt(&self, found: Vec<FoundFile>, unused: Vec<PathBuf>) -> io::Result<()> {
        for file in found {
            self.known.lock().files.insert(
                file.sealed.start,
                KnownFile {
                    generation: file.sealed.generation,
                    file: file.file,
                    sealed: Some(file.sealed),
                },
            );
        }
        for path in unused {
            self.make_spare(&path)?;
        }
        Ok(())
    }

    /// The file in which a place is, and its offset there.
    pub(super) fn find(&self, lsn: Lsn) -> Option<(Arc<dyn DiskFile>, u64)> {
        let known = self.known.lock();
        let (start, file) = known.files.range(..=lsn).next_back()?;
        let is_inside = file.sealed.as_ref().is_none_or(|sealed| lsn < sealed.end);
        is_inside.then(|| (file.file.clone(), lsn.0 - start.0))
    }

    /// Begins a file. May be called again after there was no space.
    pub(super) fn begin(&self, header: &FileHeader) -> io::Result<Arc<dyn DiskFile>> {
        let path = path_of(&self.folder, header.generation);
        let file = match self.disk.open(&path, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.open_new(&path)?,
            opened => opened?,
        };
        match file.allocate(self.file_bytes) {
            // The file then grows as it is written, as long as that goes well: what frees space is written here, too.
            Err(error) if is_out_of_space(&error) => {}
            allocated => allocated?,
        }
        self.disk.sync_folder(&self.folder).map_err(final_error)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data().map_err(final_error)?;
        let file: Arc<dyn DiskFile> = file.into();
        self.known.lock().files.insert(
            header.start,
            KnownFile {
                generation: header.generation,
                file: file.clone(),
                sealed: None,
            },
        );
        Ok(file)
    }

    fn open_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let spare = self.known.lock().spares.pop();
        if let Some(spare) = spare
            && let Err(error) = self.disk.rename(&spare, path)
        {
            self.known.lock().spares.push(spare);
            return Err(error);
        }
        self.disk.open(path, Access::Create)
    }

    /// Whether the next file needs no space any more.
    pub(super) fn has_spare(&self) -> bool {
        !self.known.lock().spares.is_empty()
    }

    /// Allocates the file behind that of `generation`, unless there is one to be used again. Only for the thread that begins files.
    pub(super) fn prepare(&self, generation: u64) -> io::Result<()> {
        if self.has_spare() {
            return Ok(());
        }
        let next = generation.saturating_add(1);
        let path = self.folder.join(format!("{SPARE_PREFIX}{next:010}"));
        self.allocate(&path, self.file_bytes)?;
        self.known.lock().spares.push(path);
        Ok(())
    }

    /// Makes the reserve, if it is not there and there is room for it.
    pub(super) fn keep_reserve(&self) {
        if self.reserve_bytes == 0 || self.known.lock().has_reserve {
            return;
        }
        let path = self.folder.join(RESERVE);
        let is_made = self.allocate(&path, self.reserve_bytes).is_ok();
        self.known.lock().has_reserve = is_made;
    }

    /// Makes a file of so many bytes, of which nothing is left if that fails: some file systems keep what they could allocate.
    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = self.disk.open(path, Access::Create)?;
        file.allocate(bytes).inspect_err(|_| {
            // One that stays is found at the next start.
            let _ = self.disk.remove(path);
        })
    }

    /// Removes the files that are to be used again, or else the reserve, for what must be written now; whether there was any.
    pub(super) fn give_up_room(&self) -> bool {
        let spares = std::mem::take(&mut self.known.lock().spares);
        let removed = spares.iter().map(|path| self.disk.remove(path).is_ok());
        removed.fold(false, |any, removed| any | removed) || self.give_up_reserve()
    }

    /// Removes the reserve; whether it was there.
    pub(super) fn give_up_reserve(&self) -> bool {
        std::mem::take(&mut self.known.lock().has_reserve)
            && remove_reserve(&*self.disk, &self.folder)
    }

    /// The file is full and synced to its end.
    pub(super) fn seal(&self, sealed: SealedFile) {
        if let Some(file) = self.known.lock().files.get_mut(&sealed.start) {
            file.sealed = Some(sealed);
        }
    }

    /// Files in use.
    pub(super) fn count(&self) -> usize {
        self.known.lock().files.len()
    }

    /// The sealed files, the oldest first.
    pub(super) fn sealed(&self) -> Vec<SealedFile> {
        let known = self.known.lock();
        let files = known.files.values();
        files.filter_map(|file| file.sealed.clone()).collect()
    }

    /// Lets go of a sealed file. An unknown one is fine.
    pub(super) fn recycle(&self, generation: u64) -> Result<(), StoreError> {
        {
            let mut known = self.known.lock();
            let start = known.files.iter().find_map(|(start, file)| {
                (file.generation == generation && file.sealed.is_some()).then_some(*start)
            });
            let Some(start) = start else { return Ok(()) };
            known.files.remove(&start);
        }
        let path = path_of(&self.folder, generation);
        self.make_spare(&path)
            .map_err(StoreError::io("recycle", &path))
    }

    /// Keeps a file to be used again, if it is of a usual size and there are not enough.
    fn make_spare(&self, path: &Path) -> io::Result<()> {
        let bytes = self.disk.open(path, Access::Read)?.len()?;
        let is_usual = bytes >= self.file_bytes && bytes <= self.file_bytes * 2;
        let number = number_of(path, FILE_PREFIX).or_else(|| number_of(path, SPARE_PREFIX));
        let is_wanted = |spare: &PathBuf| {
            let spares = &self.known.lock().spares;
            is_usual && spares.len() < SPARES_MAX && !spares.contains(spare)
        };
        let spare = number.map(|number| self.folder.join(format!("{SPARE_PREFIX}{number:010}")));
        let Some(spare) = spare.filter(is_wanted) else {
            return self.disk.remove(path);
        };
        self.disk.rename(path, &spare)?;
        self.known.lock().spares.push(spare);
        Ok(())
    }
}

/// An error of a sync, made one that is not tried again, whatever its kind.
pub(super) fn final_error(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// The queues of messages in a file, as they come: sorted and each once now and then, so that it stays small. Beside them how
/// much the file's messages have outside of it.
#[derive(Debug, Default)]
pub(super) struct QueueList {
    queues: Vec<QueueId>,
    /// How many of them are sorted and without repetition.
    sorted: usize,
    /// Bytes of the large bodies of these messages.
    blob_bytes: u64,
}

impl QueueList {
    pub(super) fn extend(&mut self, queues: &[QueueId]) {
        self.queues.extend_from_slice(queues);
        if self.queues.len() > 2 * self.sorted + 1024 {
            self.sort();
        }
    }

    /// A message has a large body of so many bytes.
    pub(super) fn add_blob(&mut self, bytes: u64) {
        self.blob_bytes = self.blob_bytes.saturating_add(bytes);
    }

    /// Bytes of large bodies since the last call.
    pub(super) fn take_blob_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.blob_bytes)
    }

    /// All of them, sorted, each once; none is left.
    pub(super) fn take(&mut self) -> Vec<QueueId> {
        self.sort();
        self.sorted = 0;
        std::mem::take(&mut self.queues)
    }

    fn sort(&mut self) {
        self.queues.sort_unstable();
        self.queues.dedup();
        self.sorted = self.queues.len();
    }
}
