//! Copies of folders that may be damaged. In: a folder; out: one beside it with the same content, or the catalogue's part of it among the
//! system's temporary files. What the files mean is not known here.
//!
//! Bytes that the disk refuses to read are zeros in the copy, and are counted. Blocks of zeros are left out, so that a copy takes no more
//! room than what it was made from. Links to folders and files are followed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::store::StoreError;
use crate::store::clock::wall_ms;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// Bytes that are read at once where the disk refuses more, and below which no hole is made.
const BLOCK_BYTES: usize = 4096;

/// Folders in each other that are followed; a data folder has three. Links may lead in circles.
const DEPTH_MAX: usize = 8;

/// Room that is left beside a copy, for the repair to work with.
const RESERVE_BYTES: u64 = 128 * 1024 * 1024;

/// Blocks of the system call `stat`.
const STAT_BLOCK_BYTES: u64 = 512;

/// A copy of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes that the disk refused to read; they are zeros in the copy.
    pub unreadable_bytes: u64,
}

/// Copies a folder as a whole to `<folder>.copy-<ms>` beside it.
///
/// # Errors
/// There is no room, or the copy cannot be written; nothing is left of it then.
pub(super) fn beside(data_dir: &Path) -> Result<Copy, StoreError> {
    let source = fs::canonicalize(data_dir).map_err(StoreError::io("find", data_dir))?;
    let (Some(parent), Some(name)) = (source.parent(), source.file_name()) else {
        let error = io::Error::other("there is no place beside it");
        return Err(StoreError::io("copy", data_dir)(error));
    };
    let needed_bytes = allocated_bytes(&source, 0)
        .map_err(StoreError::io("read", &source))?
        .saturating_add(RESERVE_BYTES);
    let room = statvfs(parent).map_err(|errno| StoreError::io("look at", parent)(errno.into()))?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    if free_bytes < needed_bytes {
        return Err(StoreError::NoRoom {
            path: parent.to_owned(),
            needed_bytes,
            free_bytes,
        });
    }
    let mut name = name.to_owned();
    name.push(format!(".copy-{}", wall_ms()));
    let path = parent.join(&name);
    name.push(".unfinished");
    let unfinished = parent.join(name);
    let copied = tree(&source, &unfinished, 0).and_then(|unreadable_bytes| {
        fs::rename(&unfinished, &path)?;
        File::open(parent)?.sync_all()?;
        Ok(Copy {
            path: path.clone(),
            unreadable_bytes,
        })
    });
    copied.map_err(|error| {
        // The first failure is the one to tell.
        let _ = fs::remove_dir_all(&unfinished);
        StoreError::io("make the copy", &path)(error)
    })
}

/// What a folder takes of the disk.
fn allocated_bytes(folder: &Path, depth: usize) -> io::Result<u64> {
    check_depth(depth)?;
    let mut bytes = 0_u64;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::metadata(&path)?;
        bytes += match metadata.is_dir() {
            true => allocated_bytes(&path, depth + 1)?,
            false => metadata.blocks() * STAT_BLOCK_BYTES,
        };
    }
    Ok(bytes)
}

fn check_depth(depth: usize) -> io::Result<()> {
    match depth > DEPTH_MAX {
        true => Err(io::Error::other("its folders lie too deep in each other")),
        false => Ok(()),
    }
}

/// Copies a folder to one that is not there yet, durably. Gives the bytes that could not be read.
fn tree(from: &Path, to: &Path, depth: usize) -> io::Result<u64> {
    check_depth(depth)?;
    DirBuilder::new().mode(0o700).create(to)?;
    let mut unreadable = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = fs::metadata(&source)?;
        if metadata.is_dir() {
            unreadable += tree(&source, &target, depth + 1)?;
        } else if metadata.is_file() {
            unreadable += file(&source, &target)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    File::open(to)?.sync_all()?;
    Ok(unreadable)
}

/// Copies a file to one that is not there yet, durably. Gives the bytes that could not be read.
fn file(from: &Path, to: &Path) -> io::Result<u64> {
    let source = File::open(from)?;
    let metadata = source.metadata()?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    target.set_len(metadata.len())?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut at, mut unreadable) = (0, 0);
    while at < metadata.len() {
        let bytes = (metadata.len() - at).min(PIECE_BYTES as u64) as usize;
        let piece = &mut piece[..bytes];
        unreadable += read(
            &mut |buffer, at| source.read_exact_at(buffer, at),
            piece,
            at,
        );
        write_but_zeros(&target, piece, at)?;
        at += bytes as u64;
    }
    target.set_permissions(metadata.permissions())?;
    target.sync_all()?;
    Ok(unreadable)
}

/// Writes `piece` at `at` and leaves blocks of zeros out.
fn write_but_zeros(target: &File, piece: &[u8], at: u64) -> io::Result<()> {
    let is_zeros = |block: &&[u8]| block.iter().all(|byte| *byte == 0);
    let blocks: Vec<&[u8]> = piece.chunks(BLOCK_BYTES).collect();
    let mut start = 0;
    for run in blocks.chunk_by(|a, b| is_zeros(a) == is_zeros(b)) {
        let end = start + run.iter().map(|block| block.len()).sum::<usize>();
        if !run.first().is_some_and(is_zeros) {
            target.write_all_at(&piece[start..end], at + start as u64)?;
        }
        start = end;
    }
    Ok(())
}

/// Fills `buffer` from `offset` with what can be read there. Blocks that cannot are zeros; gives their bytes.
pub(super) fn read(
    read_exact_at: &mut dyn FnMut(&mut [u8], u64) -> io::Result<()>,
    buffer: &mut [u8],
    offset: u64,
) -> u64 {
    if read_exact_at(buffer, offset).is_ok() {
        return 0;
    }
    let mut unreadable = 0;
    let (mut rest, mut at) = (buffer, offset);
    while !rest.is_empty() {
        // What the disk refuses begins and ends with its own blocks.
        let bytes = BLOCK_BYTES - (at % BLOCK_BYTES as u64) as usize;
        let bytes = bytes.min(rest.len());
        let (block, later) = std::mem::take(&mut rest).split_at_mut(bytes);
        if read_exact_at(block, at).is_err() {
            block.fill(0);
            unreadable += bytes as u64;
        }
        at += bytes as u64;
        rest = later;
    }
    unreadable
}

/// A folder among the system's temporary files, closed to others, that goes when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Copies those of `names` that are there in `data_dir`, files and folders.
    ///
    /// # Errors
    /// The copy cannot be made.
    pub(super) fn of(data_dir: &Path, names: &[&str]) -> Result<Self, StoreError> {
        let name = format!("haremq-doctor-{}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(StoreError::io("create", &path))?;
        let scratch = Self(path);
        for name in names {
            let (from, to) = (data_dir.join(name), scratch.0.join(name));
            let copied = match fs::metadata(&from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                Err(error) => Err(error),
                Ok(metadata) if metadata.is_dir() => tree(&from, &to, 1),
                Ok(_) => file(&from, &to),
            };
            copied.map_err(StoreError::io("copy to a temporary file", &from))?;
        }
        Ok(scratch)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "cannot remove {}", self.0.display());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_another_file_with_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("a/b")).unwrap();
        let mut content = vec![0; 3 * PIECE_BYTES + 5];
        content[PIECE_BYTES + 7] = 1;
        content[3 * PIECE_BYTES + 4] = 2;
        fs::write(data.join("a/b/file"), &content).unwrap();
        fs::write(data.join("empty"), "").unwrap();
        let copy = beside(&data).unwrap();
        assert_eq!(copy.unreadable_bytes, 0);
        let name = copy.path.file_name().unwrap().to_string_lossy();
        assert!(name.starts_with("data.copy-"), "{name}");
        assert!(!name.ends_with("unfinished"));
        let there = copy.path.join("a/b/file");
        assert!(fs::read(&there).unwrap() == content);
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_ne!(inode(&there), inode(&data.join("a/b/file")));
        assert_eq!(fs::read(copy.path.join("empty")).unwrap(), b"");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_zeros_block_by_block() {
        let bad = 4096..8192;
        let mut disk = |buffer: &mut [u8], at: u64| {
            let end = at + buffer.len() as u64;
            if at < bad.end && bad.start < end {
                return Err(io::Error::other("bad sector"));
            }
            buffer.fill(1);
            Ok(())
        };
        let mut buffer = [9; 10_000];
        assert_eq!(read(&mut disk, &mut buffer, 100), 4096);
        let bad = 4096 - 100..8192 - 100;
        for (at, byte) in buffer.iter().enumerate() {
            assert_eq!(*byte, u8::from(!bad.contains(&at)), "{at}");
        }
    }

    #[test]
    fn circles_of_links_end() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, data.join("again")).unwrap();
        assert!(beside(&data).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_scratch_folder_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        let scratch = Scratch::of(dir.path(), &["a", "b"]).unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"1");
        assert!(!path.join("b").exists());
        drop(scratch);
        assert!(!path.exists());
    }
}
