//! A file seen through a buffer of one block. In: ranges of the file; out: their bytes, read a block at a time.

use std::io;

use crate::store::disk::DiskFile;

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Reads a file forwards, a block at a time, into a buffer that the caller keeps.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a dyn DiskFile,
    /// As long as the largest block so far: it is not filled with zeros before each block.
    buffer: &'a mut Vec<u8>,
    /// Bytes of the buffer that are of the file.
    held: usize,
    /// Where the buffer's first byte lies in the file.
    start: u64,
    /// Nothing is read from here on.
    end: u64,
    block_bytes: usize,
}

impl<'a> Window<'a> {
    /// Looks at the bytes of `file` up to `end`. What `buffer` holds is thrown away.
    pub fn new(file: &'a dyn DiskFile, end: u64, buffer: &'a mut Vec<u8>) -> Self {
        Self {
            file,
            buffer,
            held: 0,
            start: 0,
            end,
            block_bytes: BLOCK_BYTES,
        }
    }

    /// Reads no more than about `bytes` at once: for a few records out of many.
    #[must_use]
    pub fn with_block(mut self, bytes: u64) -> Self {
        self.block_bytes = usize::try_from(bytes)
            .unwrap_or(BLOCK_BYTES)
            .clamp(1, BLOCK_BYTES)
            .next_multiple_of(4096);
        self
    }

    /// Where reading ends.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The `bytes` at `offset`; `None` if the end comes before.
    ///
    /// # Errors
    /// The system's.
    pub fn get(&mut self, offset: u64, bytes: usize) -> io::Result<Option<&[u8]>> {
        let Some(wanted_end) = offset.checked_add(bytes as u64) else {
            return Ok(None);
        };
        if wanted_end > self.end {
            return Ok(None);
        }
        let held_end = self.start + self.held as u64;
        if offset < self.start || wanted_end > held_end {
            self.fill(offset, bytes)?;
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.buffer[at..at + bytes]))
    }

    fn fill(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let bytes = bytes.max(self.block_bytes).min(left);
        let held_end = self.start + self.held as u64;
        // What is held already of the new block is kept: blocks end in the middle of a record nearly always.
        let kept = match (self.start..held_end).contains(&offset) {
            true => {
                let at = (offset - self.start) as usize;
                self.buffer.copy_within(at..self.held, 0);
                (self.held - at).min(bytes)
            }
            false => 0,
        };
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        self.start = offset;
        self.held = 0;
        self.file
            .read_exact_at(&mut self.buffer[kept..bytes], offset + kept as u64)?;
        self.held = bytes;
        Ok(())
    }
}
