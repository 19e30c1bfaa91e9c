//! Appends records to a segment. In: records in order of position; out: a file that has them, not yet synced.
//!
//! What is written is gathered in a buffer that goes from file to file, but for runs of records that lie in the caller's own
//! buffer already, which are written from there. Nothing here makes anything durable: the caller knows how many files it wrote.

use std::io;
use std::mem;
use std::sync::Arc;

use super::SparseIndex;
use super::files::SegmentFiles;
use super::format::{self, Footer, HEADER_BYTES};
use crate::model::Position;
use crate::store::disk::{Access, DiskFile};
use crate::store::queue_log::{SegmentId, SegmentInfo};

/// What has gathered is written when it is this much.
const WRITE_BYTES: usize = 256 * 1024;

/// A shorter run of records is copied to the buffer, to be written along with others.
const RUN_BYTES_MIN: usize = 32 * 1024;

/// A segment that is being written.
#[derive(Debug)]
pub struct SegmentWriter {
    id: SegmentId,
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    /// The file has everything before it.
    written: u64,
    /// Bytes of records that were claimed and have not come yet.
    claimed: u64,
    stamp: u64,
    index: SparseIndex,
    first: Position,
    last: Position,
    messages: u32,
}

/// A segment that was written.
#[derive(Debug)]
pub struct Written {
    /// The file, to be synced.
    pub file: Box<dyn DiskFile>,
    /// Its length.
    pub bytes: u64,
    /// For the next writer; empty.
    pub buffer: Vec<u8>,
}

impl SegmentWriter {
    /// Makes the file; one that is there, of an attempt that was given up, is emptied. The queue's folder must be there.
    ///
    /// # Errors
    /// The system's.
    pub fn create(files: &SegmentFiles, id: SegmentId, mut buffer: Vec<u8>) -> io::Result<Self> {
        files.forget(id);
        let file = files.disk().open(&files.path(id), Access::Create)?;
        if file.len()? > 0 {
            file.set_len(0)?;
        }
        buffer.clear();
        buffer.extend_from_slice(&format::encode_header(id));
        Ok(Self {
            id,
            file,
            buffer,
            written: 0,
            claimed: 0,
            stamp: id.stamp(),
            index: SparseIndex::default(),
            first: Position::default(),
            last: Position::default(),
            messages: 0,
        })
    }

    /// Goes on with the file of a segment that may grow. What lies behind the bytes that count is cut off.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if the file is shorter.
    pub fn extend(
        files: &SegmentFiles,
        info: &SegmentInfo,
        mut buffer: Vec<u8>,
    ) -> io::Result<Self> {
        let (id, bytes) = (info.id, info.bytes);
        let file = files.disk().open(&files.path(id), Access::Write)?;
        let found = file.len()?;
        if found < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if found > bytes {
            file.set_len(bytes)?;
        }
        let index = files.index_of(id, &*file, bytes)?;
        buffer.clear();
        Ok(Self {
            id,
            file,
            buffer,
            written: bytes,
            claimed: 0,
            stamp: id.stamp(),
            index: Arc::unwrap_or_clone(index),
            first: info.first,
            last: info.last,
            messages: info.messages,
        })
    }

    /// Its name.
    pub const fn id(&self) -> SegmentId {
        self.id
    }

    /// Records in it.
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// Where the next record will begin: what the file is long without a footer.
    pub fn records_end(&self) -> u64 {
        self.written + self.buffer.len() as u64 + self.claimed
    }

    /// Appends the record of `position`, which `write` appends to the buffer, to lie at the place that it is given.
    ///
    /// # Errors
    /// The system's.
    pub fn put(
        &mut self,
        position: Position,
        write: impl FnOnce(&mut Vec<u8>, u64),
    ) -> io::Result<()> {
        debug_assert_eq!(self.claimed, 0, "claimed records come first");
        let offset = self.records_end();
        write(&mut self.buffer, self.stamp.wrapping_add(offset));
        self.note(position, offset);
        self.flush_if_due()
    }

    /// Appends a record of so many bytes that the caller hands over later, with all that were claimed since the last
    /// [`SegmentWriter::append_claimed`], in one piece. Gives the place that it must name.
    pub fn claim(&mut self, position: Position, bytes: u32) -> u64 {
        let offset = self.records_end();
        self.claimed += u64::from(bytes);
        self.note(position, offset);
        self.stamp.wrapping_add(offset)
    }

    /// Writes the records that were claimed, one behind the other. Before this nothing else may be appended.
    ///
    /// # Errors
    /// The system's; `InvalidInput` if it is not as many bytes as were claimed.
    pub fn append_claimed(&mut self, records: &[u8]) -> io::Result<()> {
        if records.len() as u64 != self.claimed {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.claimed = 0;
        if records.len() < RUN_BYTES_MIN {
            self.buffer.extend_from_slice(records);
            return self.flush_if_due();
        }
        self.flush()?;
        self.write(records)
    }

    fn note(&mut self, position: Position, offset: u64) {
        self.index.note(position, offset);
        if self.messages == 0 {
            self.first = position;
        }
        self.last = position;
        self.messages += 1;
    }

    /// Writes what is left and closes the file for writing, with a footer if it is not to grow any more.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self, files: &SegmentFiles, seal: bool) -> io::Result<Written> {
        let records_end = self.records_end();
        if seal {
            let footer = Footer {
                first: self.first,
                last: self.last,
                messages: self.messages,
                index: mem::take(&mut self.index),
            };
            footer.encode(&mut self.buffer);
        }
        self.flush()?;
        match seal {
            true => files.forget(self.id),
            false => files.grown(self.id, records_end, Arc::new(self.index)),
        }
        Ok(Written {
            file: self.file,
            bytes: self.written,
            buffer: self.buffer,
        })
    }

    fn flush_if_due(&mut self) -> io::Result<()> {
        match self.buffer.len() >= WRITE_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(8));
