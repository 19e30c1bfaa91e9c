//! All of a file, for a start that cannot rely on its row. In: a file; out: what is in it, body by body checked.

use std::io;
use std::ops::Range;

use super::SparseIndex;
use super::files::read_footer;
use super::format::{Footer, HEADER_BYTES};
use super::walk::{Step, Walk};
use super::window::Window;
use crate::model::{Position, WallMs};
use crate::store::disk::DiskFile;
use crate::store::queue_log::{SegmentId, Span};

/// A record that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedRecord {
    /// Whose it is.
    pub position: Position,
    /// Where it begins.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
    /// Bytes of the body, wherever it lies.
    pub body_bytes: u32,
    /// It has a deadline.
    pub may_expire: bool,
    /// The file that has its body, if that is not in the record.
    pub blob: Option<u64>,
}

/// What a file has.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    /// The sound records, ascending.
    pub records: Vec<ScannedRecord>,
    /// What is no sound record, with whose it is if that can be told.
    pub damaged: Vec<(Range<u64>, Option<Position>)>,
    /// It has a footer that fits.
    pub is_sealed: bool,
}

impl Scanned {
    /// Where the last sound record ends.
    pub fn end(&self) -> u64 {
        self.records
            .last()
            .map_or(HEADER_BYTES, |record| record.end)
    }
}

/// Scans a file of `bytes`.
///
/// # Errors
/// The system's.
pub fn scan(file: &dyn DiskFile, id: SegmentId, bytes: u64) -> io::Result<Scanned> {
    let footer = read_footer(file, bytes)?;
    let mut scanned = scan_records(file, id, footer.as_ref().map_or(bytes, |(end, _)| *end))?;
    let Some((records_end, footer)) = footer else {
        return Ok(scanned);
    };
    // A message's body may look like a footer, but no record ends where it begins.
    if scanned.end() == records_end && footer.messages as usize >= scanned.records.len() {
        scanned.is_sealed = true;
        return Ok(scanned);
    }
    scan_records(file, id, bytes)
}

fn scan_records(file: &dyn DiskFile, id: SegmentId, end: u64) -> io::Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut buffer = Vec::new();
    let mut walk = Walk::new(Window::new(file, end, &mut buffer), id, HEADER_BYTES);
    loop {
        match walk.step()? {
            Step::Record {
                offset,
                head,
                meta,
                target,
                bytes,
            } => {
                let position = target.position;
                let end = offset + bytes.len() as u64;
                let grows = scanned
                    .records
                    .last()
                    .is_none_or(|last| last.position < position);
                if !grows || head.check_body(bytes).is_err() {
                    scanned.damaged.push((offset..end, Some(position)));
                    continue;
                }
                scanned.records.push(ScannedRecord {
                    position,
                    offset,
                    end,
                    body_bytes: meta
                        .blob
                        .map_or(head.body().len() as u32, |blob| blob.bytes),
                    may_expire: target.deadline_ms != WallMs::MAX,
                    blob: meta.blob.map(|blob| blob.blob),
                });
            }
            Step::Damaged { offset, end, .. } => scanned.damaged.push((offset..end, None)),
            Step::End => return Ok(scanned),
        }
    }
}

/// Gives a file that has `records` a footer behind the last of them, cuts what follows, and makes it durable. Its length.
///
/// # Errors
/// The system's.
pub fn seal(file: &dyn DiskFile, records: &[ScannedRecord]) -> io::Result<u64> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return Ok(HEADER_BYTES);
    };
    let mut index = SparseIndex::default();
    for record in records {
        index.note(record.position, record.offset);
    }
    let footer = Footer {
        first: first.position,
        last: last.position,
        messages: records.len() as u32,
        index,
    };
    let mut bytes = Vec::new();
    footer.encode(&mut bytes);
    file.set_len(last.end)?;
    file.write_all_at(&bytes, last.end)?;
    file.sync_data()?;
    Ok(last.end + bytes.len() as u64)
}

/// Ascending positions as spans.
pub fn spans(positions: impl IntoIterator<Item = Position>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for position in positions {
        match spans.last_mut() {
            Some(span) if span.last.next() == position => span.last = position,
            _ => spans.push(Span {
                first: position,
                last: position,
            }),
        }
    }
    spans
}
