//! A disk on which everything can be done and nothing happens: what is written, renamed and removed stays in memory.
//!
//! In: a disk, which is only ever read; what a [`Disk`] is asked. Out: that disk's content with the changes on top. What is stored, and
//! why somebody tries changes that are to be forgotten, is not known here.
//!
//! Memory grows with the blocks that are written, not with the files that are read. A folder need not be made before there are files
//! in it, and nothing is lost in a power cut, because nothing is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Disk, DiskFile};

/// What is kept of a file is kept in blocks of this size.
const BLOCK_BYTES: usize = 4096;

type Block = Box<[u8; BLOCK_BYTES]>;

/// A disk whose changes are in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct OverlayDisk {
    base: Arc<dyn Disk>,
    names: Arc<Mutex<BTreeMap<PathBuf, Node>>>,
}

/// What has become of a name.
#[derive(Clone, Debug)]
enum Node {
    Removed,
    Folder,
    File(Known),
}

/// A file that was opened once.
#[derive(Clone, Debug)]
struct Known {
    changes: Arc<Mutex<Changes>>,
    /// Where its content lies on the disk underneath, if it has any there.
    base: Option<PathBuf>,
}

/// How a file differs from what lies underneath.
#[derive(Debug, Default)]
struct Changes {
    len: u64,
    /// From here on nothing underneath counts.
    base_end: u64,
    /// By their numbers; they count before what lies underneath.
    blocks: BTreeMap<u64, Block>,
}

impl OverlayDisk {
    /// A disk that looks like `base`.
    pub fn new(base: Arc<dyn Disk>) -> Self {
        Self {
            base,
            names: Arc::default(),
        }
    }

    /// What has that name, taken note of if it is a file underneath.
    fn known(&self, names: &mut BTreeMap<PathBuf, Node>, path: &Path) -> io::Result<Known> {
        match names.get(path) {
            Some(Node::File(known)) => return Ok(known.clone()),
            Some(Node::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::Removed) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let len = self.base.open(path, Access::Read)?.len()?;
        let known = Known {
            changes: Arc::new(Mutex::new(Changes {
                len,
                base_end: len,
                blocks: BTreeMap::new(),
            })),
            base: Some(path.to_owned()),
        };
        names.insert(path.to_owned(), Node::File(known.clone()));
        Ok(known)
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let known = {
            let mut names = self.names.lock();
            match self.known(&mut names, path) {
                Err(error)
                    if access == Access::Create && error.kind() == io::ErrorKind::NotFound =>
                {
                    let known = Known {
                        changes: Arc::default(),
                        base: None,
                    };
                    names.insert(path.to_owned(), Node::File(known.clone()));
                    known
                }
                known => known?,
            }
        };
        let base = match known.base {
            Some(base) => Some(self.base.open(&base, Access::Read)?),
            None => None,
        };
        Ok(Box::new(OverlayFile {
            changes: known.changes,
            base,
            is_writable: access != Access::Read,
        }))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        if matches!(names.get(path), Some(Node::File(_))) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(path.to_owned(), Node::Folder);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        let known = self.known(&mut names, from)?;
        names.insert(from.to_owned(), Node::Removed);
        names.insert(to.to_owned(), Node::File(known));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        self.known(&mut names, path)?;
        names.insert(path.to_owned(), Node::Removed);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.names.lock().insert(path.to_owned(), Node::Removed);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut entries: BTreeSet<PathBuf> = self.base.list(path)?.into_iter().collect();
        let names = self.names.lock();
        let below = names.range(path.to_owned()..);
        for (name, node) in below.take_while(|(name, _)| name.starts_with(path)) {
            if name.parent() != Some(path) {
                continue;
            }
            match node {
                Node::Removed => entries.remove(name),
                Node::Folder | Node::File(_) => entries.insert(name.clone()),
            };
        }
        Ok(entries.into_iter().collect())
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct OverlayFile {
    changes: Arc<Mutex<Changes>>,
    base: Option<Box<dyn DiskFile>>,
    is_writable: bool,
}

impl OverlayFile {
    /// Fills `buffer` from `offset`, which lies before the end with all of it.
    fn read(&self, changes: &Changes, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let from_base = changes.base_end.clamp(offset, end) - offset;
        let (below, beyond) = buffer.split_at_mut(from_base as usize);
        if let (Some(base), false) = (&self.base, below.is_empty()) {
            base.read_exact_at(below, offset)?;
        }
        beyond.fill(0);
        let blocks = offset / BLOCK_BYTES as u64..end.div_ceil(BLOCK_BYTES as u64);
        for (number, block) in changes.blocks.range(blocks) {
            let start = number * BLOCK_BYTES as u64;
            let (from, to) = (start.max(offset), (start + BLOCK_BYTES as u64).min(end));
            let part = &block[(from - start) as usize..(to - start) as usize];
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        Ok(())
    }

    /// The block with this number, as it is now.
    fn block(&self, changes: &Changes, number: u64) -> io::Result<Block> {
        let mut block = Box::new([0; BLOCK_BYTES]);
        let start = number * BLOCK_BYTES as u64;
        let bytes = changes.len.saturating_sub(start).min(BLOCK_BYTES as u64);
        self.read(changes, &mut block[..bytes as usize], start)?;
        Ok(block)
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.is_writable {
            true => Ok(()),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

impl DiskFile for OverlayFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let changes = self.changes.lock();
        match offset.checked_add(buffer.len() as u64) {
            Some(end) if end <= changes.len => self.read(&changes, buffer, offset),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let mut changes = self.changes.lock();
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let number = at / BLOCK_BYTES as u64;
            let within = (at % BLOCK_BYTES as u64) as usize;
            let (part, later) = rest.split_at(rest.len().min(BLOCK_BYTES - within));
            let mut block = match changes.blocks.remove(&number) {
                Some(block) => block,
                // What is replaced as a whole need not be readable.
                None if part.len() == BLOCK_BYTES => Box::new([0; BLOCK_BYTES]),
                None => self.block(&changes, number)?,
            };
            block[within..within + part.len()].copy_from_slice(part);
            changes.blocks.insert(number, block);
            at += part.len() as u64;
            rest = later;
        }
        changes.len = changes.len.max(end);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut changes = self.changes.lock();
        changes.len = changes.len.max(bytes);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut changes = self.changes.lock();
        if bytes < changes.len {
            changes.base_end = changes.base_end.min(bytes);
            changes
                .blocks
                .split_off(&bytes.div_ceil(BLOCK_BYTES as u64));
            let within = (bytes % BLOCK_BYTES as u64) as usize;
            if let Some(block) = changes.blocks.get_mut(&(bytes / BLOCK_BYTES as u64)) {
                block[within..].fill(0);
            }
        }
        changes.len = bytes;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.changes.lock().len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::SimDisk;

    fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
        let file = disk.open(path, Access::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u8, u32, Vec<u8>),
        SetLen(u8, u32),
        Allocate(u8, u32),
        Rename(u8, u8),
        Remove(u8),
        Create(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let file = 0..4_u8;
        let at = 0..20_000_u32;
        prop_oneof![
            (
                file.clone(),
                at.clone(),
                prop::collection::vec(1..255_u8, 1..9000)
            )
                .prop_map(|(file, at, bytes)| Step::Write(file, at, bytes)),
            (file.clone(), at.clone()).prop_map(|(file, len)| Step::SetLen(file, len)),
            (file.clone(), at).prop_map(|(file, len)| Step::Allocate(file, len)),
            (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
            file.clone().prop_map(Step::Remove),
            file.prop_map(Step::Create),
        ]
    }

    fn path(file: u8) -> PathBuf {
        PathBuf::from(format!("/data/{file}"))
    }

    fn make(disk: &dyn Disk, step: &Step) -> io::Result<()> {
        match step {
            Step::Write(file, at, bytes) => disk
                .open(&path(*file), Access::Write)?
                .write_all_at(bytes, u64::from(*at)),
            Step::SetLen(file, len) => disk
                .open(&path(*file), Access::Write)?
                .set_len(u64::from(*len)),
            Step::Allocate(file, len) => disk
                .open(&path(*file), Access::Write)?
                .allocate(u64::from(*len)),
            Step::Rename(from, to) if from != to => disk.rename(&path(*from), &path(*to)),
            Step::Rename(..) => Ok(()),
            Step::Remove(file) => disk.remove(&path(*file)),
            Step::Create(file) => disk.open(&path(*file), Access::Create).map(drop),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// An overlay shows what the disk would show if it were changed, and the disk shows nothing.
        #[test]
        fn it_looks_changed_and_is_not(steps in prop::collection::vec(step(), 0..24)) {
            let base = SimDisk::with_folder(Path::new("/data"));
            for file in 0..2 {
                let content = vec![0xee; 5000 * (usize::from(file) + 1)];
                base.open(&path(file), Access::Create).unwrap().write_all_at(&content, 0).unwrap();
            }
            let (before, changed) = (base.copy(), base.copy());
            let overlay = OverlayDisk::new(Arc::new(base.clone()));
            for step in &steps {
                let (here, there) = (make(&overlay, step), make(&changed, step));
                prop_assert_eq!(
                    here.map_err(|error| error.kind()),
                    there.map_err(|error| error.kind()),
                    "{:?}", step
                );
            }
            let folder = Path::new("/data");
            prop_assert_eq!(overlay.list(folder).unwrap(), changed.list(folder).unwrap());
            for path in overlay.list(folder).unwrap() {
                prop_assert!(read(&overlay, &path) == read(&changed, &path), "{:?}", path);
            }
            prop_assert_eq!(base.paths(), before.paths());
            for path in base.paths() {
                prop_assert!(base.content(&path) == before.content(&path), "{:?}", path);
            }
        }
    }

    #[test]
    fn handles_of_one_file_see_the_same() {
        let base = SimDisk::with_folder(Path::new("/data"));
        let file = base.open(&path(0), Access::Create).unwrap();
        file.write_all_at(&[1; 10], 0).unwrap();
        let disk = OverlayDisk::new(Arc::new(base));
        let reader = disk.open(&path(0), Access::Read).unwrap();
        let writer = disk.open(&path(0), Access::Write).unwrap();
        writer.write_all_at(&[2; 4], 8).unwrap();
        disk.rename(&path(0), &path(1)).unwrap();
        let mut bytes = [0; 12];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert!(reader.write_all_at(&[3], 0).is_err());
        assert_eq!(read(&disk, &path(1)), bytes);
    }

    #[test]
    fn folders_that_were_made_or_filled_are_listed() {
        let base = SimDisk::with_folder(Path::new("/data"));
        let disk = OverlayDisk::new(Arc::new(base));
        let folder = Path::new("/data/queues/7");
        disk.make_folder(folder).unwrap();
        let queues = Path::new("/data/queues");
        assert_eq!(disk.list(queues).unwrap(), [folder]);
        let file = folder.join("0-1.0.seg");
        drop(disk.open(&file, Access::Create).unwrap());
        assert_eq!(disk.list(folder).unwrap(), [&*file]);
        assert!(disk.remove_folder(folder).is_err());
        disk.remove(&file).unwrap();
        disk.remove_folder(folder).unwrap();
        assert_eq!(disk.list(queues).unwrap(), [] as [PathBuf; 0]);
    }
}
