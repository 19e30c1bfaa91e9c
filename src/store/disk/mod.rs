//! The disk as the message store sees it: a handful of operations on files, so that tests can put a disk in its place
//! that loses what was not synced, fails on command, or flips bits.
//!
//! In: paths, offsets, bytes. Out: the same, or the system's error. What the bytes mean is not known here.
//!
//! What an implementation promises, and no more than that: [`DiskFile::sync_data`] returns after everything that was written to
//! the file before, and its length, will be there after a power cut; a file that was created or renamed is there under
//! its name after a power cut once [`Disk::sync_folder`] of its folder, or [`Disk::sync_all`], has returned. Everything else may be
//! lost, in any order, by sectors of 512 bytes.

pub mod faulty;
mod overlay;
mod real;
pub mod sim;

pub use faulty::FaultyDisk;
pub use overlay::OverlayDisk;
pub use real::RealDisk;
pub use sim::SimDisk;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// Whether an operation failed because there is no room: on the disk, or in the quota of the user.
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read; it must be there.
    Read,
    /// To read and write; it must be there.
    Write,
    /// To read and write; made empty if it is missing.
    Create,
}

/// Files and folders.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a folder and its parents; one that is there is fine.
    ///
    /// # Errors
    /// The system's.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, replacing what has that name.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    ///
    /// # Errors
    /// The system's.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// The entries of a folder, sorted by name; a missing folder has none.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes names in the folder durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes everything durable that was written to the file system on which `path` lies (`syncfs`).
    ///
    /// # Errors
    /// The system's.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
}

/// An open file. All methods may be called from several threads at once.
#[allow(
    clippy::len_without_is_empty,
    reason = "a file is no collection, and its length may fail"
)]
pub trait DiskFile: Send + Sync + Debug {
    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    ///
    /// # Errors
    /// The system's.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; the file grows if need be.
    ///
    /// # Errors
    /// The system's.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reserves space for the first `bytes` of the file, and makes it that long if it is shorter (`fallocate`). What was not
    /// written reads as zeros.
    ///
    /// # Errors
    /// The system's; `StorageFull` when there is no space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file, or fills it up with zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// Makes content and length durable (`fdatasync`).
    ///
    /// # Errors
    /// The system's. After an error nothing is known of what was written since the last success.
    fn sync_data(&self) -> io::Result<()>;
}
