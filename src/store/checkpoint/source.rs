//! Records out of a sealed journal file, read in blocks. In: entries of a queue's log; out: their records, not yet checked, and
//! those that may be written as they lie in the block.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::store::disk::DiskFile;
use crate::store::journal::Lsn;
use crate::store::queue_log::JournalEntry;
use crate::store::record::{Damage, Head, Kind, MessageMeta, Target};

/// Bytes that are read at once.
const BLOCK_BYTES: u64 = 256 * 1024;

/// What lies between two records is read along with them if it is not more than this.
const GAP_BYTES_MAX: u64 = 8 * 1024;

/// A sealed journal file.
#[derive(Debug)]
pub(super) struct Source<'a> {
    file: Arc<dyn DiskFile>,
    /// The place of the file's first byte.
    start: Lsn,
    buffer: &'a mut Vec<u8>,
    /// The place of the buffer's first byte.
    buffer_start: u64,
}

/// A record for one queue.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// Its head.
    pub(super) head: Head,
    /// All of it.
    pub(super) bytes: &'a [u8],
    /// Its meta.
    pub(super) meta: MessageMeta<'a>,
    /// The queue's place for it.
    pub(super) target: Target,
    /// Its body, unless that is in a file of its own.
    pub(super) body: &'a [u8],
}

impl<'a> Source<'a> {
    pub(super) fn new(file: Arc<dyn DiskFile>, start: Lsn, buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        Self {
            file,
            start,
            buffer,
            buffer_start: start.0,
        }
    }

    /// Whether the block that was read last has all of an entry's record.
    pub(super) fn holds(&self, entry: &JournalEntry) -> bool {
        let held_end = self.buffer_start + self.buffer.len() as u64;
        let end = entry.lsn.0 + u64::from(entry.record_bytes);
        entry.lsn.0 >= self.buffer_start && end <= held_end
    }

    /// Looks that the record of the first of `entries` is held. It is read in one piece with as many of the others as lie close
    /// behind it, or alone if the disk refuses these.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn hold(&mut self, entries: &[JournalEntry]) -> io::Result<()> {
        match entries.first() {
            Some(entry) if !self.holds(entry) => match self.fill(entries) {
                Err(_) => self.fill(&entries[..1]),
                Ok(()) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The record of an entry that is held. The body is not checked: it is copied with its checksum, and checked by whoever
    /// reads it.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub(super) fn record(
        &self,
        entry: &JournalEntry,
        target: impl Fn(&Target) -> bool,
    ) -> Result<Record<'_>, Damage> {
        let end = entry.lsn.0 + u64::from(entry.record_bytes);
        parse(self.bytes(&(entry.lsn.0..end)), entry.lsn, target)
    }

    /// Makes the record of an entry that is held one that lies at `at`, in the block alone. It cannot be asked for again.
    ///
    /// # Errors
    /// [`Damage::Cut`].
    pub(super) fn relocate(
        &mut self,
        entry: &JournalEntry,
        head: &Head,
        at: u64,
    ) -> Result<(), Damage> {
        let start = (entry.lsn.0 - self.buffer_start) as usize;
        head.relocate(&mut self.buffer[start..], at)
    }

    /// The bytes of places that are held, as they are now.
    pub(super) fn bytes(&self, places: &Range<u64>) -> &[u8] {
        let start = places.start.saturating_sub(self.buffer_start) as usize;
        let end = places.end.saturating_sub(self.buffer_start) as usize;
        self.buffer.get(start..end).unwrap_or_default()
    }

    fn fill(&mut self, entries: &[JournalEntry]) -> io::Result<()> {
        let start = entries[0].lsn.0;
        let mut end = start;
        for entry in entries {
            let entry_end = entry.lsn.0 + u64::from(entry.record_bytes);
            let is_near = entry.lsn.0 <= end + GAP_BYTES_MAX && entry_end - start <= BLOCK_BYTES;
            if end > start && !is_near {
                break;
            }
            end = entry_end;
        }
        self.buffer_start = start;
        self.buffer.resize((end - start) as usize, 0);
        let offset = start - self.start.0;
        let result = self.file.read_exact_at(self.buffer, offset);
        if result.is_err() {
            self.buffer.clear();
        }
        result
    }

    /// What lies at an entry's place, as far as it can be read: for the quarantine.
    pub(super) fn raw(&self, entry: &JournalEntry) -> Vec<u8> {
        let mut bytes = vec![0; entry.record_bytes as usize];
        match self
            .file
            .read_exact_at(&mut bytes, entry.lsn.0 - self.start.0)
        {
            Ok(()) => bytes,
            Err(_) => Vec::new(),
        }
    }
}

fn parse(
    bytes: &[u8],
    lsn: Lsn,
    is_wanted: impl Fn(&Target) -> bool,
) -> Result<Record<'_>, Damage> {
    let head = Head::parse(bytes, lsn.0)?;
    if head.kind != Kind::Message {
        return Err(Damage::Content);
    }
    let body = bytes.get(head.body()).ok_or(Damage::Cut)?;
    let meta = MessageMeta::parse(&head, &bytes[head.meta()])?;
    let target = meta.targets().find(is_wanted).ok_or(Damage::Content)?;
    Ok(Record {
        head,
        bytes,
        meta,
        target,
        body,
    })
}
