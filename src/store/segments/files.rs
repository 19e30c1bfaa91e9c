//! The files of all segments: their names, their handles, what is known of where positions lie in them.
//!
//! In: names of segments and how long they are. Out: open segments, new files, cut and removed ones.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::SparseIndex;
use super::format::{FOOTER_BYTES_MAX, Footer, HEADER_BYTES, TRAILER_BYTES};
use super::walk::{Step, Walk};
use super::window::Window;
use crate::model::{Position, QueueId};
use crate::store::disk::{Access, Disk, DiskFile};
use crate::store::queue_log::SegmentId;

/// The folder of all queues' folders in the data folder.
const FOLDER: &str = "queues";

/// The folder, among those of the queues, of what is about to be removed.
const VOID: &str = "void";

const PERSISTENT: &str = ".seg";
const TRANSIENT: &str = ".tmp";

/// Files kept open for reading.
const HANDLES_MAX: usize = 64;

/// A segment that can be read.
#[derive(Clone, Debug)]
pub struct OpenSegment {
    /// Its name.
    pub id: SegmentId,
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// Where its last record ends.
    pub records_end: u64,
    /// Where about positions lie.
    pub index: Arc<SparseIndex>,
}

impl OpenSegment {
    /// Where a record begins that is not behind `position`.
    pub fn offset_before(&self, position: Position) -> u64 {
        self.index.before(position).unwrap_or(HEADER_BYTES)
    }
}

/// A file that lies in a queue's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which segment it is by its name.
    pub id: SegmentId,
    /// The file.
    pub path: PathBuf,
}

/// What is known of a file that still grows.
#[derive(Clone, Debug)]
struct Known {
    records_end: u64,
    index: Arc<SparseIndex>,
}

/// All segments' files.
#[derive(Debug)]
pub struct SegmentFiles {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// The most recently used is the last.
    open: Mutex<Vec<(u64, OpenSegment)>>,
    growing: Mutex<HashMap<SegmentId, Known>>,
}

impl SegmentFiles {
    /// The segments of a data folder.
    pub fn new(disk: Arc<dyn Disk>, data_folder: &Path) -> Self {
        Self {
            disk,
            folder: data_folder.join(FOLDER),
            open: Mutex::default(),
            growing: Mutex::default(),
        }
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The folder of all queues' folders.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a queue.
    pub fn queue_folder(&self, queue: QueueId) -> PathBuf {
        self.folder.join(queue.to_string())
    }

    /// The file of a segment.
    pub fn path(&self, id: SegmentId) -> PathBuf {
        let ending = if id.is_transient {
            TRANSIENT
        } else {
            PERSISTENT
        };
        let name = format!("{}-{}.{}{ending}", id.lane, id.number, id.version);
        self.queue_folder(id.queue).join(name)
    }

    /// Every segment's file that is there, and the queues that have a folder. Other files are left alone.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self) -> io::Result<(Vec<Found>, Vec<QueueId>)> {
        let (mut found, mut queues) = (Vec::new(), Vec::new());
        for folder in self.disk.list(&self.folder)? {
            let Some(queue) = file_name(&folder).and_then(|name| name.parse().ok()) else {
                continue;
            };
            queues.push(QueueId(queue));
            for path in self.disk.list(&folder)? {
                if let Some(id) = file_name(&path).and_then(|name| parse(QueueId(queue), name)) {
                    found.push(Found { id, path });
                }
            }
        }
        Ok((found, queues))
    }

    /// Opens a segment to read. `bytes` is how long it is known to be: what lies behind is not looked at, and a file that is
    /// shorter is read as far as it goes. `is_sealed` is asked if
    /// the file is not open with that length already; `None`: the segment is gone.
    ///
    /// # Errors
    /// The system's; `NotFound` if it was removed.
    pub fn open(
        &self,
        id: SegmentId,
        bytes: u64,
        is_sealed: impl FnOnce() -> Option<bool>,
    ) -> io::Result<OpenSegment> {
        let held = self.held(id);
        if let Some((held_bytes, segment)) = &held
            && *held_bytes == bytes
        {
            return Ok(segment.clone());
        }
        let file = match held {
            Some((_, segment)) => segment.file,
            None => Arc::from(self.disk.open(&self.path(id), Access::Read)?),
        };
        let is_sealed = is_sealed().ok_or(io::ErrorKind::NotFound)?;
        let there = file.len()?.min(bytes);
        let footer = match is_sealed && there == bytes {
            true => read_footer(&*file, bytes)?,
            false => None,
        };
        let (records_end, index) = match footer {
            Some((records_end, footer)) => (records_end, Arc::new(footer.index)),
            None => (there, self.index_of(id, &*file, there)?),
        };
        let segment = OpenSegment {
            id,
            file,
            records_end,
            index,
        };
        let mut open = self.open.lock();
        open.retain(|(_, other)| other.id != id);
        if open.len() >= HANDLES_MAX {
            open.remove(0);
        }
        open.push((bytes, segment.clone()));
        Ok(segment)
    }

    fn held(&self, id: SegmentId) -> Option<(u64, OpenSegment)> {
        let mut open = self.open.lock();
        let at = open.iter().position(|(_, segment)| segment.id == id)?;
        let held = open.remove(at);
        open.push(held.clone());
        Some(held)
    }

    /// Where positions lie in a file without a footer: what is known of it, and the rest found by walking.
    pub(super) fn index_of(
        &self,
        id: SegmentId,
        file: &dyn DiskFile,
        bytes: u64,
    ) -> io::Result<Arc<SparseIndex>> {
        let known = self.growing.lock().get(&id).cloned();
        let (from, mut index) = match known {
            Some(known) if known.records_end == bytes => return Ok(known.index),
            Some(known) if known.records_end < bytes => (known.records_end, known.index),
            _ => (HEADER_BYTES, Arc::default()),
        };
        let mut buffer = Vec::new();
        let mut walk = Walk::new(Window::new(file, bytes, &mut buffer), id, from);
        let places = Arc::make_mut(&mut index);
        loop {
            match walk.step()? {
                Step::Record { offset, target, .. } => places.note(target.position, offset),
                Step::Damaged { .. } => {}
                Step::End => break,
            }
        }
        self.grown(id, bytes, Arc::clone(&index));
        Ok(index)
    }

    /// A file without a footer has its records up to `records_end`.
    pub fn grown(&self, id: SegmentId, records_end: u64, index: Arc<SparseIndex>) {
        let known = Known { records_end, index };
        self.growing.lock().insert(id, known);
    }

    /// Nothing of the segment is kept in memory.
    pub fn forget(&self, id: SegmentId) {
        self.growing.lock().remove(&id);
        self.open.lock().retain(|(_, segment)| segment.id != id);
    }

    /// Takes back what was appended to a segment: cuts its file to `bytes`, or removes it if there was none.
    ///
    /// # Errors
    /// The system's.
    pub fn cut(&self, id: SegmentId, bytes: u64) -> io::Result<()> {
        self.forget(id);
        if bytes == 0 {
            return self.remove(id);
        }
        self.disk
            .open(&self.path(id), Access::Write)?
            .set_len(bytes)
    }

    /// Removes a segment's file; one that is not there is fine.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self, id: SegmentId) -> io::Result<()> {
        self.forget(id);
        match self.disk.remove(&self.path(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Puts a file aside whose messages are void: it goes in the background, and must not be in the way of a new one.
    ///
    /// # Errors
    /// The system's.
    pub fn void(&self, found: &Found) -> io::Result<()> {
        let folder = self.folder.join(VOID);
        self.disk.make_folder(&folder)?;
        let name = file_name(&found.path).unwrap_or_default();
        let name = format!("{}-{name}", found.id.queue);
        self.disk.rename(&found.path, &folder.join(name))
    }

    /// Removes what was put aside.
    ///
    /// # Errors
    /// The system's.
    pub fn remove_void(&self) -> io::Result<()> {
        let folder = self.folder.join(VOID);
        for path in self.disk.list(&folder)? {
            self.disk.remove(&path)?;
        }
        match self.disk.remove_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Finds out whether `bytes` can be written now.
    ///
    /// # Errors
    /// The system's; `StorageFull` when they cannot.
    pub fn find_room(&self, bytes: u64) -> io::Result<()> {
        let folder = self.folder.join(VOID);
        self.disk.make_folder(&folder)?;
        let path = folder.join("room");
        let found = self
            .disk
            .open(&path, Access::Create)
            .and_then(|file| file.allocate(bytes));
        self.disk.remove(&path)?;
        found
    }

    /// A damaged part of a file, as far as it can be read, at most 16 MiB of it.
    pub fn bytes_of(&self, file: &dyn DiskFile, range: Range<u64>) -> Vec<u8> {
        const BYTES_MAX: u64 = 16 * 1024 * 1024;
        let mut bytes = vec![0; (range.end.saturating_sub(range.start)).min(BYTES_MAX) as usize];
        match file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

/// The footer of a file of `bytes`, and where its records end; `None` if there is none or it is damaged.
pub(super) fn read_footer(file: &dyn DiskFile, bytes: u64) -> io::Result<Option<(u64, Footer)>> {
    let Some(trailer_at) = bytes.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let footer_bytes = Footer::bytes(&trailer).filter(|bytes| *bytes <= FOOTER_BYTES_MAX);
    let Some(records_end) = footer_bytes
        .and_then(|footer_bytes| bytes.checked_sub(footer_bytes as u64))
        .filter(|end| *end >= HEADER_BYTES)
    else {
        return Ok(None);
    };
    let mut footer = vec![0; (bytes - records_end) as usize];
    file.read_exact_at(&mut footer, records_end)?;
    Ok(Footer::decode(&footer).map(|footer| (records_end, footer)))
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

fn parse(queue: QueueId, name: &str) -> Option<SegmentId> {
    let (name, is_transient) = match name.strip_suffix(PERSISTENT) {
        Some(name) => (name, false),
        None => (name.strip_suffix(TRANSIENT)?, true),
    };
    let (lane, rest) = name.split_once('-')?;
    let (number, version) = rest.split_once('.')?;
    Some(SegmentId {
        queue,
        lane: lane.parse().ok()?,
        number: number.parse().ok()?,
        version: version.parse().ok()?,
        is_transient,
    })
}
