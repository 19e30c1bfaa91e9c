//! Which frames are in a journal file, and which records in a damaged stretch of one.
//!
//! In: an open file and what is known of it. Out: frames by their headers, gaps between them where no header can be read, and out of
//! damaged bytes whatever records are sound. What is made of a frame that is not whole is decided elsewhere.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::Lsn;
use super::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameHeader};
use crate::store::disk::DiskFile;
use crate::store::record::{ALIGN, Damage, HEAD_BYTES, Head};

/// Read at once when headers are searched.
const CHUNK_BYTES: u64 = 256 * 1024;

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A frame with a readable header. The rest of it may be damaged or missing.
    Frame { offset: u64, header: FrameHeader },
    /// Where something was written and no header can be read.
    Gap { start: u64, end: u64 },
}

impl Slot {
    pub(super) fn start(&self) -> u64 {
        match self {
            Self::Frame { offset, .. } => *offset,
            Self::Gap { start, .. } => *start,
        }
    }

    /// Its end; of a frame, with the padding.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Frame { offset, header } => offset.saturating_add(header.padded_bytes()),
            Self::Gap { end, .. } => *end,
        }
    }
}

/// A file of the journal, to be read.
#[derive(Debug)]
pub(super) struct Reader {
    pub file: Arc<dyn DiskFile>,
    pub len: u64,
    /// The last error of the disk.
    pub error: RefCell<Option<io::Error>>,
}

impl Reader {
    /// Finds the frames of the file's present life. `end` is where it ends, if the next file tells; `quiet_end` is where
    /// nothing need be searched behind, because the journal was closed there.
    pub(super) fn slots(
        &self,
        file: &FileHeader,
        end: Option<u64>,
        quiet_end: Option<u64>,
    ) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::new();
        let mut number = 0;
        let mut offset = BLOCK_BYTES;
        let stop = end.unwrap_or(self.len);
        while offset < stop {
            let fits = |at: u64, header: &FrameHeader| {
                header.seed == file.seed
                    && header.generation == file.generation
                    && header.base.0 == file.start.0.saturating_add(at)
                    && header.number > number
            };
            let found = match self.header(offset).filter(|header| fits(offset, header)) {
                Some(header) => Some((offset, header)),
                None if quiet_end == Some(offset) => None,
                None => self.search(offset + BLOCK_BYTES..stop.min(self.len), fits),
            };
            let Some((at, header)) = found else { break };
            if at > offset {
                slots.push(Slot::Gap {
                    start: offset,
                    end: at,
                });
            }
            number = header.number;
            let slot = Slot::Frame { offset: at, header };
            offset = slot.end();
            slots.push(slot);
        }
        if let Some(end) = end
            && offset < end
        {
            slots.push(Slot::Gap { start: offset, end });
        }
        slots
    }

    /// The first header of a frame of `generation`, in a file whose own header is not readable. Gives what that must have said.
    pub(super) fn guess_header(&self, generation: u64) -> Option<FileHeader> {
        let is_sound = |at: u64, frame: &FrameHeader| {
            frame.generation == generation
                && frame.base.0 >= at
                && frame.base.0.is_multiple_of(BLOCK_BYTES)
        };
        let (at, frame) = self.search(BLOCK_BYTES..self.len, is_sound)?;
        let start = Lsn(frame.base.0 - at);
        Some(FileHeader {
            generation,
            start,
            previous_end: start,
            seed: frame.seed,
            first_number: frame.number,
        })
    }

    /// The header of a frame, whatever its file, if one is at `offset`.
    pub(super) fn header(&self, offset: u64) -> Option<FrameHeader> {
        let (bytes, _) = self.read(offset, FRAME_HEADER_BYTES as u64);
        FrameHeader::parse(&bytes)
    }

    fn search(
        &self,
        offsets: Range<u64>,
        accept: impl Fn(u64, &FrameHeader) -> bool,
    ) -> Option<(u64, FrameHeader)> {
        let mut start = offsets.start;
        while start < offsets.end {
            let bytes = CHUNK_BYTES.min(offsets.end - start);
            let (chunk, _) = self.read(start, bytes);
            for at in (0..chunk.len()).step_by(BLOCK_BYTES as usize) {
                let offset = start + at as u64;
                if let Some(header) = FrameHeader::parse(&chunk[at..])
                    && accept(offset, &header)
                {
                    return Some((offset, header));
                }
            }
            start += bytes;
        }
        None
    }

    /// Reads what there is of these bytes, and whether the disk gave all that the file has. What it does not give reads as zeros.
    pub(super) fn read(&self, offset: u64, bytes: u64) -> (Vec<u8>, bool) {
        let bytes = bytes.min(self.len.saturating_sub(offset));
        let mut content = vec![0; bytes as usize];
        if self.file.read_exact_at(&mut content, offset).is_ok() {
            return (content, true);
        }
        let mut is_complete = true;
        for (index, block) in content.chunks_mut(BLOCK_BYTES as usize).enumerate() {
            let at = offset + index as u64 * BLOCK_BYTES;
            if let Err(error) = self.file.read_exact_at(block, at) {
                block.fill(0);
                is_complete = false;
                self.error.replace(Some(error));
            }
        }
        (content, is_complete)
    }
}

/// Whether these are all bytes of a frame as it was written.
pub(super) fn is_whole(frame: &[u8], header: &FrameHeader) -> bool {
    if frame.len() as u64 != header.bytes || header.is_void() {
        return header.is_void();
    }
    let mut heads = crc32fast::Hasher::new();
    let (mut at, mut records) = (FRAME_HEADER_BYTES, 0);
    while at < frame.len() {
        let Ok(head) = Head::parse(&frame[at..], header.base.0 + at as u64) else {
            return false;
        };
        if head.check_body(&frame[at..]).is_err() {
            return false;
        }
        heads.update(&head.crc.to_le_bytes());
        records += 1;
        at += head.record_bytes();
    }
    at == frame.len() && records == header.records && heads.finalize() == header.heads_crc
}

/// A stretch of damaged bytes.
pub(super) enum Part<'a> {
    /// A sound record.
    Record {
        lsn: Lsn,
        head: Head,
        bytes: &'a [u8],
    },
    /// A record whose head is sound, and whose body is not.
    Body {
        lsn: Lsn,
        head: Head,
        bytes: &'a [u8],
    },
    /// Bytes of which nothing can be told.
    Unknown { lsn: Lsn, bytes: &'a [u8] },
}

/// Finds what is sound in `bytes`, which lie at `base`.
pub(super) fn salvage<'a>(bytes: &'a [u8], base: Lsn, found: &mut dyn FnMut(Part<'a>)) {
    let mut at = 0;
    let mut unknown = 0;
    while at + HEAD_BYTES <= bytes.len() {
        let lsn = Lsn(base.0 + at as u64);
        let Ok(head) = head_at(&bytes[at..], lsn) else {
            at += ALIGN;
            continue;
        };
        report_unknown(&bytes[unknown..at], Lsn(base.0 + unknown as u64), found);
        let end = (at + head.record_bytes()).min(bytes.len());
        let record = &bytes[at..end];
        let is_sound = head.check_body(record).is_ok();
        let bytes = record;
        found(match is_sound {
            true => Part::Record { lsn, head, bytes },
            false => Part::Body { lsn, head, bytes },
        });
        (at, unknown) = (end, end);
    }
    report_unknown(&bytes[unknown..], Lsn(base.0 + unknown as u64), found);
}

/// As [`Head::parse`]. Looks at the place first, so that bytes full of what looks like heads do not cost a checksum each.
fn head_at(bytes: &[u8], lsn: Lsn) -> Result<Head, Damage> {
    if bytes.get(16..24) != Some(&lsn.0.to_le_bytes()[..]) {
        return Err(Damage::Elsewhere);
    }
    Head::parse(bytes, lsn.0)
}

fn report_unknown<'a>(bytes: &'a [u8], lsn: Lsn, found: &mut dyn FnMut(Part<'a>)) {
    // Zeros are padding.
    if bytes.iter().any(|byte| *byte != 0) {
        found(Part::Unknown { lsn, bytes });
    }
}
