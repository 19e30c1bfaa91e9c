//! A segment written anew with only what still lives. In: the old file and the positions that live; out: the new one, or word
//! that the old one is damaged.

use std::io;

use super::files::{OpenSegment, SegmentFiles};
use super::reader::{Item, read_spans};
use super::writer::{SegmentWriter, Written};
use crate::store::queue_log::{SegmentId, Span};

/// What became of a compaction.
#[derive(Debug)]
pub enum Compacted {
    /// The new file, not yet synced.
    Written {
        /// The file and its length.
        written: Written,
        /// Records in it.
        messages: u32,
    },
    /// Something that lives cannot be read: the old file stays, for a reader to meet it and report it.
    Damaged,
}

/// Copies what lives of `old` to the file `new`, which is sealed or may grow as the old one. `read_buffer` is kept by the caller
/// from file to file, `write_buffer` comes back with the new file.
///
/// # Errors
/// The system's; the new file is to be removed then.
pub fn compact(
    files: &SegmentFiles,
    old: &OpenSegment,
    live: &[Span],
    new: SegmentId,
    is_sealed: bool,
    read_buffer: &mut Vec<u8>,
    write_buffer: Vec<u8>,
) -> io::Result<Compacted> {
    let mut writer = SegmentWriter::create(files, new, write_buffer)?;
    let mut messages = 0;
    let mut failure = None;
    let mut is_damaged = false;
    read_spans(old, live, u64::MAX, read_buffer, &mut |item| {
        let Item::Record {
            meta, target, body, ..
        } = item
        else {
            is_damaged = true;
            return false;
        };
        messages += 1;
        let result = writer.put(target.position, |out, at| {
            meta.rewrite(out, at, target, meta.blob, body);
        });
        failure = result.err();
        failure.is_none()
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    if is_damaged {
        return Ok(Compacted::Damaged);
    }
    let written = writer.finish(files, is_sealed)?;
    Ok(Compacted::Written { written, messages })
}
