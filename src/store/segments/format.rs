//! The bytes of a segment's header and footer. In: what they say; out: bytes, and the way back, or nothing if they are damaged.

use super::SparseIndex;
use crate::model::Position;
use crate::store::numbers::{u32_at, u64_at};
use crate::store::queue_log::SegmentId;

const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HQs1");
const FOOTER_MAGIC: u32 = u32::from_le_bytes(*b"HQf1");
const FORMAT: u32 = 1;

/// Bytes of a file before its first record.
pub const HEADER_BYTES: u64 = 64;

const FOOTER_HEAD_BYTES: usize = 32;
const ENTRY_BYTES: usize = 16;

/// Bytes at the very end of a sealed file: the footer's length and checksum.
pub(super) const TRAILER_BYTES: usize = 8;

/// The largest footer that is believed.
pub(super) const FOOTER_BYTES_MAX: usize = 1024 * 1024;

/// The header of a file.
pub(super) fn encode_header(id: SegmentId) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[0..4].copy_from_slice(&HEADER_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    header[8..16].copy_from_slice(&id.queue.0.to_le_bytes());
    header[16..20].copy_from_slice(&id.number.to_le_bytes());
    header[20..24].copy_from_slice(&id.version.to_le_bytes());
    header[24] = id.lane;
    header[25] = u8::from(id.is_transient);
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What stands at the end of a sealed file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// The first position.
    pub first: Position,
    /// The last position.
    pub last: Position,
    /// The number of records.
    pub messages: u32,
    /// Where they lie.
    pub index: SparseIndex,
}

impl Footer {
    /// Appends the footer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let places = self.index.places();
        out.extend_from_slice(&FOOTER_MAGIC.to_le_bytes());
        out.extend_from_slice(&(places.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.first.0.to_le_bytes());
        out.extend_from_slice(&self.last.0.to_le_bytes());
        out.extend_from_slice(&self.messages.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for (position, offset) in places {
            out.extend_from_slice(&position.0.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        let bytes = out.len() - start + TRAILER_BYTES;
        out.extend_from_slice(&(bytes as u32).to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// The length of the footer that ends with `trailer`, if it can be believed.
    pub(super) fn bytes(trailer: &[u8; TRAILER_BYTES]) -> Option<usize> {
        let bytes = u32_at(trailer, 0) as usize;
        let entries = bytes.checked_sub(FOOTER_HEAD_BYTES + TRAILER_BYTES)?;
        (bytes <= FOOTER_BYTES_MAX && entries.is_multiple_of(ENTRY_BYTES)).then_some(bytes)
    }

    /// Reads a whole footer.
    pub(super) fn decode(footer: &[u8]) -> Option<Self> {
        let crc_at = footer.len().checked_sub(4)?;
        let trailer = footer.last_chunk::<TRAILER_BYTES>()?;
        if Self::bytes(trailer)? != footer.len()
            || u32_at(footer, 0) != FOOTER_MAGIC
            || crc32fast::hash(&footer[..crc_at]) != u32_at(footer, crc_at)
        {
            return None;
        }
        let entries = &footer[FOOTER_HEAD_BYTES..footer.len() - TRAILER_BYTES];
        if entries.len() / ENTRY_BYTES != u32_at(footer, 4) as usize {
            return None;
        }
        let places = entries
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| (Position(u64_at(entry, 0)), u64_at(entry, 8)))
            .collect();
        Some(Self {
            first: Position(u64_at(footer, 8)),
            last: Position(u64_at(footer, 16)),
            messages: u32_at(footer, 24),
            index: SparseIndex::of(places)?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::QueueId;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_header_is_these_bytes() {
        let header = encode_header(SegmentId {
            queue: QueueId(0x0102),
            lane: 4,
            number: 9,
            version: 2,
            is_transient: true,
        });
        assert_eq!(
            hex(&header[..60]),
            "48517331010000000201000000000000\
             09000000020000000401000000000000\
             00000000000000000000000000000000\
             000000000000000000000000"
        );
        assert_eq!(u32_at(&header, 60), crc32fast::hash(&header[..60]));
    }

    #[test]
    fn the_footer_is_these_bytes_and_comes_back() {
        let mut index = SparseIndex::default();
        index.note(Position(5), 64);
        index.note(Position(6), 128);
        index.note(Position(9), 0x1_0040);
        let footer = Footer {
            first: Position(5),
            last: Position(12),
            messages: 7,
            index,
        };
        let mut bytes = vec![0xee];
        footer.encode(&mut bytes);
        let bytes = &bytes[1..];
        assert_eq!(
            hex(&bytes[..bytes.len() - 4]),
            "485166310200000005000000000000000c00000000000000\
             0700000000000000\
             05000000000000004000000000000000\
             09000000000000004000010000000000\
             48000000"
        );
        let trailer = bytes.last_chunk().unwrap();
        assert_eq!(Footer::bytes(trailer), Some(bytes.len()));
        assert_eq!(Footer::decode(bytes), Some(footer));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Footer::decode(&flipped), None, "bit {bit}");
        }
    }
}
