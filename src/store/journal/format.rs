//! The headers in journal files as bytes.
//!
//! In: fields. Out: bytes with a checksum, and the way back, or nothing if they are not whole. Where files and frames lie is
//! not known here. Little end first.
//!
//! ```text
//! file, block 0            frame
//!  0 u64 magic "HQjourn1"   0 u32 magic "HQf1"      40 u64 bytes: this header and the records
//!  8 u32 version, u32 0     4 u32 records           48 u64 number of the last frame that was synced
//! 16 u64 generation         8 u64 seed              56 u32 CRC-32 of the records' heads' CRCs, in order
//! 24 u64 start Lsn         16 u64 generation        60 u32 CRC-32 of bytes 0..60
//! 32 u64 previous end Lsn  24 u64 frame number
//! 40 u64 seed              32 u64 base Lsn
//! 48 u64 first frame number
//! 56 u32 0
//! 60 u32 CRC-32 of bytes 0..60; zeros to 4096
//! ```
//!
//! A number of records of 0xffffffff means that what lies here was dropped at a start, and is to be skipped.
//!
//! The seed is a random number of the file's present life. Nobody outside knows it, so neither frames of a former life nor a
//! message's body that looks like a frame are taken for one.

use std::ops::Range;

use super::Lsn;
use crate::store::numbers::{u32_at, u64_at};

/// Frames begin at multiples of this, so that no append rewrites what is confirmed.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Bytes of a frame before its first record.
pub(super) const FRAME_HEADER_BYTES: usize = 64;

const FILE_HEADER_BYTES: usize = 64;
const FILE_MAGIC: u64 = u64::from_le_bytes(*b"HQjourn1");
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"HQf1");

/// Stands for the number of records where a frame was dropped.
const VOID: u32 = u32::MAX;

/// The version of this format.
pub(super) const VERSION: u32 = 1;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub generation: u64,
    /// The place of byte 0 of the file.
    pub start: Lsn,
    /// Where the file before ended when this one was begun. What lies in it behind that is void.
    pub previous_end: Lsn,
    pub seed: u64,
    pub first_number: u64,
}

/// Why block 0 is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// Nothing was ever written there.
    Empty,
    /// It is not whole.
    Unreadable,
    /// A later program wrote it.
    Newer(u32),
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        block.extend_from_slice(&FILE_MAGIC.to_le_bytes());
        block.extend_from_slice(&u64::from(VERSION).to_le_bytes());
        for number in [
            self.generation,
            self.start.0,
            self.previous_end.0,
            self.seed,
            self.first_number,
        ] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&crc32fast::hash(&block).to_le_bytes());
        block.resize(BLOCK_BYTES as usize, 0);
        block
    }

    pub(super) fn parse(block: &[u8]) -> Result<Self, HeaderFault> {
        let fields: &[u8; FILE_HEADER_BYTES] = block.first_chunk().ok_or(HeaderFault::Empty)?;
        if *fields == [0; FILE_HEADER_BYTES] {
            return Err(HeaderFault::Empty);
        }
        if u64_at(fields, 0) != FILE_MAGIC || crc32fast::hash(&fields[..60]) != u32_at(fields, 60) {
            return Err(HeaderFault::Unreadable);
        }
        let version = u32_at(fields, 8);
        if version != VERSION {
            return Err(HeaderFault::Newer(version));
        }
        let header = Self {
            generation: u64_at(fields, 16),
            start: Lsn(u64_at(fields, 24)),
            previous_end: Lsn(u64_at(fields, 32)),
            seed: u64_at(fields, 40),
            first_number: u64_at(fields, 48),
        };
        let is_sound = header.start.0.is_multiple_of(BLOCK_BYTES)
            && header.start.0 <= i64::MAX as u64
            && header.start >= header.previous_end;
        if is_sound {
            Ok(header)
        } else {
            Err(HeaderFault::Unreadable)
        }
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub records: u32,
    pub seed: u64,
    pub generation: u64,
    /// One more than the frame's before, over all files.
    pub number: u64,
    /// The place of the frame's first byte.
    pub base: Lsn,
    pub bytes: u64,
    /// All frames up to this number had been synced when this one was written.
    pub synced_number: u64,
    pub heads_crc: u32,
}

impl FrameHeader {
    /// The header of a frame without records, in place of one or several that were not written to their end.
    pub(super) fn void(file: &FileHeader, offsets: Range<u64>, number: u64) -> Self {
        Self {
            records: VOID,
            seed: file.seed,
            generation: file.generation,
            number,
            base: Lsn(file.start.0 + offsets.start),
            bytes: offsets.end - offsets.start,
            synced_number: 0,
            heads_crc: 0,
        }
    }

    /// Whether it has no records, and its bytes mean nothing.
    pub(super) fn is_void(&self) -> bool {
        self.records == VOID
    }

    /// Bytes from this frame to the next.
    pub(super) fn padded_bytes(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK_BYTES)
    }

    pub(super) fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.records.to_le_bytes());
        let numbers = [
            self.seed,
            self.generation,
            self.number,
            self.base.0,
            self.bytes,
            self.synced_number,
        ];
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        bytes[56..60].copy_from_slice(&self.heads_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the begin of `bytes`, if a whole one with lengths that can be is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let fields: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk()?;
        if u32_at(fields, 0) != FRAME_MAGIC || crc32fast::hash(&fields[..60]) != u32_at(fields, 60)
        {
            return None;
        }
        let header = Self {
            records: u32_at(fields, 4),
            seed: u64_at(fields, 8),
            generation: u64_at(fields, 16),
            number: u64_at(fields, 24),
            base: Lsn(u64_at(fields, 32)),
            bytes: u64_at(fields, 40),
            synced_number: u64_at(fields, 48),
            heads_crc: u32_at(fields, 56),
        };
        let is_sound = header.bytes >= FRAME_HEADER_BYTES as u64
            && header.bytes <= i64::MAX as u64
            && header.synced_number < header.number
            && header.base.0.checked_add(header.bytes).is_some();
        is_sound.then_some(header)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_file_header_is_these_bytes() {
        let header = FileHeader {
            generation: 2,
            start: Lsn(0x3000),
            previous_end: Lsn(0x2000),
            seed: 0x0102_0304_0506_0708,
            first_number: 9,
        };
        let block = header.encode();
        assert_eq!(block.len() as u64, BLOCK_BYTES);
        assert_eq!(
            hex(&block[..60]),
            "48516a6f75726e31\
             01000000000000000200000000000000\
             003000000000000000200000000000000807060504030201\
             090000000000000000000000"
        );
        assert_eq!(FileHeader::parse(&block), Ok(header));
        assert_eq!(FileHeader::parse(&[0; 64]), Err(HeaderFault::Empty));
        assert_eq!(FileHeader::parse(&[]), Err(HeaderFault::Empty));
        for bit in 0..64 * 8 {
            let mut block = block.clone();
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::parse(&block), Err(HeaderFault::Unreadable));
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let header = FileHeader {
            generation: 0,
            start: Lsn(0),
            previous_end: Lsn(0),
            seed: 0,
            first_number: 1,
        };
        let mut block = header.encode();
        block[8] = 2;
        let crc = crc32fast::hash(&block[..60]);
        block[60..64].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileHeader::parse(&block), Err(HeaderFault::Newer(2)));
    }

    #[test]
    fn the_frame_header_is_these_bytes() {
        let header = FrameHeader {
            records: 3,
            seed: 0x0102_0304_0506_0708,
            generation: 2,
            number: 9,
            base: Lsn(0x4000),
            bytes: 0x1040,
            synced_number: 8,
            heads_crc: 0xaabb_ccdd,
        };
        let bytes = header.encode();
        assert_eq!(
            hex(&bytes[..60]),
            "485166310300000008070605040302010200000000000000\
             09000000000000000040000000000000\
             40100000000000000800000000000000ddccbbaa"
        );
        assert_eq!(FrameHeader::parse(&bytes), Some(header));
        assert_eq!(header.padded_bytes(), 0x2000);
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::parse(&bytes), None);
        }
        assert_eq!(FrameHeader::parse(&bytes[..63]), None);
    }
}
