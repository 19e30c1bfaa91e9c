//! Segment files: where a queue's messages lie once they have waited longer than the journal keeps them.
//!
//! In: records, in order of position; positions to read. Out: files, the records back, and every damage that was met. Which
//! messages are settled, and when a file may go, is not known here (`queue_log` and `checkpoint` know).
//!
//! A file is `queues/<queue>/<lane>-<number>.<version>.seg`: one lane of one queue, positions growing through the file and
//! from number to number; the version grows when a file is replaced by one that has only what still lives. What ends in `.tmp`
//! instead holds messages that are void after a restart.
//!
//! ```text
//! header, 64 bytes                       footer, once the file is sealed
//!  0 u32 magic "HQs1"                     0 u32 magic "HQf1"
//!  4 u32 format, 1                        4 u32 entries
//!  8 u64 queue                            8 u64 first position, u64 last position
//! 16 u32 number, u32 version             24 u32 messages, u32 0
//! 24 u8  lane, u8 transient, zeros       32 entries: u64 position, u64 offset, about one each 64 KiB
//! 60 u32 CRC-32 of bytes 0..60              u32 bytes of the footer, u32 CRC-32 of all of it before
//! 64 records (see `record`), each `at` = the file's stamp + its offset
//! ```
//!
//! A record names one queue only, its own. The stamp is made of the file's name, so that neither a stale block nor a file
//! under a wrong name is taken for this one's.

mod compact;
mod files;
mod format;
mod index;
mod reader;
mod scan;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod walk;
mod window;
mod writer;

pub use compact::{Compacted, compact};
pub use files::{Found, OpenSegment, SegmentFiles};
pub use format::{Footer, HEADER_BYTES};
pub use index::SparseIndex;
pub use reader::{Item, read_spans};
pub use scan::{Scanned, ScannedRecord, scan, seal, spans};
pub use walk::{Step, Walk};
pub use window::Window;
pub use writer::{SegmentWriter, Written};
