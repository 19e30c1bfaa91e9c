//! A disk in memory that can lose power, for tests.
//!
//! In: what a [`Disk`] is asked. Out: at [`SimDisk::crash`], a disk as it may be found after the power came back: of what was not
//! synced, any part may be there and any part may be missing. It knows nothing of what is stored.
//!
//! What survives, beyond what [`Disk`] promises, is decided by a seed:
//! - each sector of 512 bytes is as it was at the last sync, or as any write since left it, each on its own;
//! - a file's length is that of the last sync or any later one;
//! - a name that was made, removed or given by a rename since its folder was synced is there or not. A rename happens as a
//!   whole or not at all, as in file systems with a journal, and nothing that needed an operation outlives it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, Disk, DiskFile};

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// States of one sector that are remembered since the last sync, besides the latest.
const VERSIONS_MAX: usize = 3;

type Sector = Box<[u8; SECTOR_BYTES]>;

/// A disk in memory. Clones are the same disk. For tests.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What programs see.
    names: BTreeMap<PathBuf, Node>,
    /// What is certain to survive.
    durable_names: BTreeMap<PathBuf, Node>,
    /// What made the first of the second, in order.
    pending: Vec<NameChange>,
    files: BTreeMap<u64, File>,
    next_file: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

#[derive(Clone, Debug)]
enum NameChange {
    Make {
        path: PathBuf,
        node: Node,
    },
    Remove {
        path: PathBuf,
        node: Node,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        node: Node,
    },
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// Earlier states of sectors that changed since the last sync, the synced one first.
    undo: BTreeMap<usize, Vec<Sector>>,
    /// Earlier lengths since the last sync, the synced one first.
    lengths: Vec<usize>,
}

impl SimDisk {
    /// An empty disk with one folder, and those above it, that are certain to be there after a crash.
    pub fn with_folder(path: &Path) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.lock();
            for folder in path.ancestors() {
                state.names.insert(folder.to_owned(), Node::Folder);
            }
            state.durable_names = state.names.clone();
        }
        disk
    }

    /// The disk after a power cut. This one is left as it is, but what is done to it no longer shows on the new one.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Random(seed);
        // Some crashes lose everything, some nothing, most something.
        let survive_percent = [0, 10, 50, 90, 100][random.below(5)];
        self.crashed(&mut |choices| {
            if random.below(100) < survive_percent {
                choices - 1
            } else {
                random.below(choices)
            }
        })
    }

    /// The disk after a power cut that lost all that was not synced.
    pub fn lose_unsynced(&self) -> Self {
        self.crashed(&mut |_| 0)
    }

    /// The disk as another program would find it: nothing is lost. A copy.
    pub fn copy(&self) -> Self {
        self.crashed(&mut |choices| choices - 1)
    }

    /// All files, sorted by path.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.0.lock();
        let files = state
            .names
            .iter()
            .filter(|(_, node)| **node != Node::Folder);
        files.map(|(path, _)| path.clone()).collect()
    }

    /// A file's content, if it is there.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        match state.names.get(path)? {
            Node::File(number) => Some(state.files.get(number)?.bytes.clone()),
            Node::Folder => None,
        }
    }

    /// Replaces a file's content behind the back of those who have it open, as damage of the medium does. The change is durable.
    /// Nothing happens if there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let Some(Node::File(number)) = state.names.get(path).copied() else {
            return;
        };
        if let Some(file) = state.files.get_mut(&number) {
            change(&mut file.bytes);
            file.synced();
        }
    }

    /// `pick` is handed a number of choices, of which the first is what was synced and the last what programs saw.
    fn crashed(&self, pick: &mut dyn FnMut(usize) -> usize) -> Self {
        let state = self.0.lock();
        let mut names = state.durable_names.clone();
        for change in &state.pending {
            if pick(2) == 1 && change.is_possible(&names) {
                change.apply(&mut names);
            }
        }
        let mut files = BTreeMap::new();
        for node in names.values() {
            if let Node::File(number) = node
                && let Some(file) = state.files.get(number)
            {
                files.insert(*number, file.crashed(pick));
            }
        }
        Self(Arc::new(Mutex::new(State {
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            files,
            next_file: state.next_file,
        })))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        let number = match state.names.get(path) {
            Some(Node::File(number)) => *number,
            Some(Node::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            None if access == Access::Create => {
                let number = state.next_file;
                state.next_file += 1;
                state.change(NameChange::Make {
                    path: path.to_owned(),
                    node: Node::File(number),
                })?;
                state.files.insert(number, File::default());
                number
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(OpenFile {
            disk: self.clone(),
            number,
            is_writable: access != Access::Read,
        }))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let mut missing: Vec<_> = path.ancestors().collect();
        missing.reverse();
        for folder in missing {
            match state.names.get(folder) {
                Some(Node::Folder) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None if folder.parent().is_none() => {
                    state.names.insert(folder.to_owned(), Node::Folder);
                    state.durable_names.insert(folder.to_owned(), Node::Folder);
                }
                None => state.change(NameChange::Make {
                    path: folder.to_owned(),
                    node: Node::Folder,
                })?,
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let node = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if node == Node::Folder || state.names.get(to) == Some(&Node::Folder) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if from == to {
            return Ok(());
        }
        state.change(NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            node,
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let node = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if node == Node::Folder {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let path = path.to_owned();
        state.change(NameChange::Remove { path, node })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let node = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        if node != Node::Folder {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if children(&state.names, path).next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let path = path.to_owned();
        state.change(NameChange::Remove { path, node })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.0.lock();
        Ok(children(&state.names, path).cloned().collect())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.names.get(path) != Some(&Node::Folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            if change.folder() == Some(path) {
                change.apply(&mut state.durable_names);
                if let NameChange::Rename { from, .. } = &change {
                    // Whatever led to the name that the rename took away has happened, too.
                    state.pending.retain(|earlier| earlier.path() != from);
                }
            } else {
                state.pending.push(change);
            }
        }
        state.forget_lost_files();
        Ok(())
    }

    fn sync_all(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.pending.clear();
        state.durable_names = state.names.clone();
        state.files.values_mut().for_each(File::synced);
        state.forget_lost_files();
        Ok(())
    }
}

impl State {
    fn change(&mut self, change: NameChange) -> io::Result<()> {
        if !change.is_possible(&self.names) {
            return Err(io::ErrorKind::NotFound.into());
        }
        change.apply(&mut self.names);
        self.pending.push(change);
        Ok(())
    }

    /// Lets go of the content of files that no crash can bring back, unless they are many operations away from it. Open
    /// handles of removed files read as empty, which nobody should rely on.
    fn forget_lost_files(&mut self) {
        if !self.pending.is_empty() || self.files.len() < 2 * self.names.len() + 16 {
            return;
        }
        let names = &self.names;
        let kept: std::collections::BTreeSet<u64> = names
            .values()
            .filter_map(|node| match node {
                Node::File(number) => Some(*number),
                Node::Folder => None,
            })
            .collect();
        self.files.retain(|number, _| kept.contains(number));
    }
}

impl NameChange {
    /// The name that it gives or takes.
    fn path(&self) -> &Path {
        match self {
            Self::Make { path, .. } | Self::Remove { path, .. } | Self::Rename { to: path, .. } => {
                path
            }
        }
    }

    /// The folder whose sync makes it durable.
    fn folder(&self) -> Option<&Path> {
        self.path().parent()
    }

    fn is_possible(&self, names: &BTreeMap<PathBuf, Node>) -> bool {
        let has_folder = |path: &Path| {
            path.parent()
                .is_none_or(|folder| names.get(folder) == Some(&Node::Folder))
        };
        match self {
            Self::Make { path, .. } => has_folder(path) && !names.contains_key(path),
            Self::Remove { path, node } => {
                names.get(path) == Some(node) && children(names, path).next().is_none()
            }
            Self::Rename { from, to, node } => names.get(from) == Some(node) && has_folder(to),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Make { path, node } => {
                names.insert(path.clone(), *node);
            }
            Self::Remove { path, .. } => {
                names.remove(path);
            }
            Self::Rename { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

fn children<'a>(
    names: &'a BTreeMap<PathBuf, Node>,
    folder: &'a Path,
) -> impl Iterator<Item = &'a PathBuf> {
    let below = names.range(folder.to_owned()..).map(|(path, _)| path);
    below
        .take_while(move |path| path.starts_with(folder))
        .filter(move |path| path.parent() == Some(folder))
}

impl File {
    fn synced(&mut self) {
        self.undo.clear();
        self.lengths.clear();
    }

    fn sector(&self, index: usize) -> Sector {
        let mut sector = Box::new([0; SECTOR_BYTES]);
        let start = (index * SECTOR_BYTES).min(self.bytes.len());
        let end = (start + SECTOR_BYTES).min(self.bytes.len());
        sector[..end - start].copy_from_slice(&self.bytes[start..end]);
        sector
    }

    /// Remembers what sectors are like before they change.
    fn remember(&mut self, bytes: std::ops::Range<usize>) {
        for index in bytes.start / SECTOR_BYTES..bytes.end.div_ceil(SECTOR_BYTES) {
            let sector = self.sector(index);
            let versions = self.undo.entry(index).or_default();
            if versions.len() > VERSIONS_MAX {
                versions.remove(1);
            }
            versions.push(sector);
        }
    }

    fn set_len(&mut self, len: usize) {
        let before = self.bytes.len();
        if len == before {
            return;
        }
        if len < before {
            self.remember(len..before);
        }
        self.lengths.push(before);
        self.bytes.resize(len, 0);
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.set_len(end);
        }
        self.remember(offset..end);
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    fn crashed(&self, pick: &mut dyn FnMut(usize) -> usize) -> Self {
        let length = pick(self.lengths.len() + 1);
        let length = self
            .lengths
            .get(length)
            .copied()
            .unwrap_or(self.bytes.len());
        let mut bytes = self.bytes.clone();
        bytes.resize(length, 0);
        for (index, versions) in &self.undo {
            let version = pick(versions.len() + 1);
            let start = index * SECTOR_BYTES;
            if let Some(sector) = versions.get(version)
                && start < length
            {
                let end = (start + SECTOR_BYTES).min(length);
                bytes[start..end].copy_from_slice(&sector[..end - start]);
            }
        }
        Self {
            bytes,
            ..Self::default()
        }
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: SimDisk,
    number: u64,
    is_writable: bool,
}

impl OpenFile {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> T) -> T {
        act(self.disk.0.lock().files.entry(self.number).or_default())
    }

    fn change(&self, act: impl FnOnce(&mut File)) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(act);
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|file| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = offset.saturating_add(buffer.len());
            let bytes = file.bytes.get(offset..end);
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(|file| file.write(bytes, offset as usize))
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.change(|file| file.set_len(file.bytes.len().max(bytes as usize)))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(|file| file.set_len(bytes as usize))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.bytes.len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(File::synced);
        Ok(())
    }
}

/// Numbers from a seed: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn disk() -> SimDisk {
        SimDisk::with_folder(Path::new("/data"))
    }

    fn file(disk: &SimDisk, path: &str) -> Box<dyn DiskFile> {
        disk.open(Path::new(path), Access::Create).unwrap()
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        let disk = disk();
        let written = file(&disk, "/data/a");
        written.write_all_at(&[1; 2000], 0).unwrap();
        written.sync_data().unwrap();
        disk.sync_folder(Path::new("/data")).unwrap();
        for seed in 0..50 {
            let after = disk.crash(seed);
            assert_eq!(after.content(Path::new("/data/a")).unwrap(), [1; 2000]);
        }
    }

    #[test]
    fn unsynced_sectors_survive_in_any_combination() {
        let disk = disk();
        let written = file(&disk, "/data/a");
        written.write_all_at(&[1; 2048], 0).unwrap();
        written.sync_data().unwrap();
        disk.sync_folder(Path::new("/data")).unwrap();
        written.write_all_at(&[2; 2048], 0).unwrap();
        written.write_all_at(&[3; 512], 0).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let content = disk.crash(seed).content(Path::new("/data/a")).unwrap();
            assert!(content.chunks(512).all(|sector| sector == [sector[0]; 512]));
            seen.insert(content.chunks(512).map(|s| s[0]).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 3 * 8, "{seen:?}");
        let lost = disk.lose_unsynced().content(Path::new("/data/a")).unwrap();
        assert_eq!(lost, [1; 2048]);
        let kept = disk.copy().content(Path::new("/data/a")).unwrap();
        assert_eq!(kept[..513], [&[3; 512][..], &[2]].concat());
    }

    #[test]
    fn lengths_and_names_need_their_syncs() {
        let disk = disk();
        let (folder, path) = (Path::new("/data"), Path::new("/data/a"));
        let written = file(&disk, "/data/a");
        written.write_all_at(&[1; 100], 0).unwrap();
        written.sync_data().unwrap();
        let has_name = |seed| disk.crash(seed).content(path).is_some();
        assert!((0..50).any(has_name) && !(0..50).all(has_name));
        disk.sync_folder(folder).unwrap();
        assert!((0..50).all(has_name));
        written.allocate(1000).unwrap();
        written.set_len(50).unwrap();
        let lengths: std::collections::BTreeSet<_> = (0..100)
            .map(|seed| disk.crash(seed).content(path).unwrap().len())
            .collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [50, 100, 1000]);
    }

    #[test]
    fn a_rename_happens_as_a_whole_or_not_at_all() {
        let disk = disk();
        let (old, new) = (Path::new("/data/a"), Path::new("/data/b"));
        file(&disk, "/data/a");
        file(&disk, "/data/b");
        disk.sync_all(old).unwrap();
        disk.rename(old, new).unwrap();
        file(&disk, "/data/a");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            seen.insert(disk.crash(seed).paths().len());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);
        disk.sync_folder(Path::new("/data")).unwrap();
        assert_eq!(disk.lose_unsynced().paths(), [old, new]);
    }

    #[test]
    fn a_folder_that_was_not_synced_takes_its_files_along() {
        let disk = disk();
        let path = Path::new("/data/sub/a");
        disk.make_folder(Path::new("/data/sub")).unwrap();
        file(&disk, "/data/sub/a");
        disk.sync_folder(Path::new("/data/sub")).unwrap();
        disk.sync_folder(Path::new("/data")).unwrap();
        assert_eq!(disk.lose_unsynced().paths(), [path]);
        disk.remove(path).unwrap();
        disk.remove_folder(Path::new("/data/sub")).unwrap();
        assert_eq!(disk.lose_unsynced().paths(), [path]);
        assert_eq!(
            disk.list(Path::new("/data")).unwrap(),
            [""; 0].map(PathBuf::from)
        );
    }
}
