//! Reads everything that waits in a queue, and what lies between. In: logs; out: which messages cannot be read, where and why, and what is
//! damaged where nobody looks any more.
//!
//! What the disk refuses to read counts as zeros, block by block: the records around it are found all the same.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copying;
use crate::model::{Position, QueueId};
use crate::store::disk::{Access, Disk, DiskFile};
use crate::store::journal::Journal;
use crate::store::queue_log::{JournalEntry, Piece, QueueLog, RecoveredLanes, SegmentId, Span};
use crate::store::record::{BlobRef, Damage, Head, MessageMeta};
use crate::store::segments::{HEADER_BYTES, SegmentFiles, Step, Walk, Window};

/// Messages that wait and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Whose they are.
    pub(super) queue: QueueId,
    /// Which. All of them wait.
    pub(super) span: Span,
    /// The file that should have them.
    pub(super) file: PathBuf,
    /// The bytes in it that are damaged; nothing where records are missing without a trace.
    pub(super) bytes: Option<Range<u64>>,
    /// What is wrong.
    pub(super) reason: String,
    /// The damaged file is one that has a body alone.
    pub(super) is_blob: bool,
}

impl Lost {
    /// How many messages.
    pub(super) fn messages(&self) -> u64 {
        self.span.last.0 - self.span.first.0 + 1
    }
}

/// Damaged bytes of a segment that no message needs which waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoiled {
    pub(super) queue: QueueId,
    pub(super) file: PathBuf,
    pub(super) bytes: Range<u64>,
    pub(super) reason: String,
}

/// What was met in all queues so far.
#[derive(Debug)]
pub(super) struct Scrub<'a> {
    journal: &'a Journal,
    files: &'a SegmentFiles,
    /// What is wrong with the files of bodies that were read.
    blobs: HashMap<u64, Option<String>>,
    buffer: Vec<u8>,
    /// Messages that cannot be read.
    pub(super) lost: Vec<Lost>,
    /// Damage without consequences.
    pub(super) spoiled: Vec<Spoiled>,
    /// Records of segments that were read.
    pub(super) records: u64,
}

impl<'a> Scrub<'a> {
    pub(super) fn new(journal: &'a Journal, files: &'a SegmentFiles) -> Self {
        Self {
            journal,
            files,
            blobs: HashMap::new(),
            buffer: Vec::new(),
            lost: Vec::new(),
            spoiled: Vec::new(),
            records: 0,
        }
    }

    /// Reads all that waits in a queue, and all else in its segments. Gives the number of messages that cannot be read.
    pub(super) fn queue(&mut self, log: &QueueLog, lanes: &RecoveredLanes) -> u64 {
        let before = self.lost.len();
        for live in lanes.lanes.iter().filter_map(|lane| lane.live) {
            for piece in log.plan(live.first, live.last, u64::MAX).pieces {
                match piece {
                    Piece::Journal(entry) => self.entry(log.id(), &entry),
                    Piece::Segment { id, bytes, live } => self.segment(log, id, bytes, &live),
                }
            }
        }
        self.lost[before..].iter().map(Lost::messages).sum()
    }

    /// A message in the journal. Its record was checked when it was replayed; a body in a file of its own was not.
    fn entry(&mut self, queue: QueueId, entry: &JournalEntry) {
        if !entry.has_blob {
            return;
        }
        let span = Span {
            first: entry.position,
            last: entry.position,
        };
        let record = match self.journal.read(entry.lsn, entry.record_bytes) {
            Ok(record) => record,
            Err(error) => {
                let place = entry.lsn.0..entry.lsn.0 + u64::from(entry.record_bytes);
                let reason = error.to_string();
                return self.lose(queue, span, Path::new("journal"), Some(place), &reason);
            }
        };
        let head = Head::parse(&record, entry.lsn.0);
        let meta = head.and_then(|head| {
            let meta = record.get(head.meta()).ok_or(Damage::Cut)?;
            MessageMeta::parse(&head, meta)
        });
        if let Ok(meta) = meta
            && let Some(blob) = meta.blob
        {
            self.body_file(queue, entry.position, blob);
        }
    }

    /// A body in a file of its own, which may be that of several messages.
    fn body_file(&mut self, queue: QueueId, position: Position, blob: BlobRef) {
        let (disk, path) = (self.files.disk(), self.journal.blobs().path(blob.blob));
        let read = || blob_damage(&**disk, &path, blob);
        let Some(reason) = self.blobs.entry(blob.blob).or_insert_with(read).clone() else {
            return;
        };
        self.lost.push(Lost {
            queue,
            span: Span {
                first: position,
                last: position,
            },
            file: path,
            bytes: None,
            reason,
            is_blob: true,
        });
    }

    /// All of a segment, of which `live` waits.
    fn segment(&mut self, log: &QueueLog, id: SegmentId, bytes: u64, live: &[Span]) {
        let path = self.files.path(id);
        let file = match self.files.disk().open(&path, Access::Read) {
            Ok(file) => Forgiving(file.into()),
            Err(error) => {
                let reason = error.to_string();
                for span in live {
                    self.lose(id.queue, *span, &path, None, &reason);
                }
                return;
            }
        };
        let is_sealed = log.segment(id).is_some_and(|info| info.is_sealed);
        let opened = self.files.open(id, bytes, || Some(is_sealed));
        // Without its footer the end is known as well, only that the footer itself is then no record.
        let records_end = opened.map_or(bytes, |segment| segment.records_end);
        let mut buffer = mem::take(&mut self.buffer);
        let window = Window::new(&file, records_end, &mut buffer);
        let mut walk = Walk::new(window, id, HEADER_BYTES);
        let mut waiting = Waiting::new(live);
        // What is damaged behind the last record, of which it is not known whose it is.
        let mut gap: Option<(Range<u64>, Damage)> = None;
        loop {
            let (position, found) = match walk.step() {
                Ok(Step::Record {
                    offset,
                    head,
                    meta,
                    target,
                    bytes,
                }) => {
                    let body = bytes.get(head.body()).unwrap_or_default();
                    let content = || match meta.blob {
                        None => meta.copied_message(body).map(|_| ()),
                        Some(_) => Ok(()),
                    };
                    let damage = head.check_body(bytes).and_then(|()| content());
                    let range = offset..offset + bytes.len() as u64;
                    (target.position, (range, damage.err(), meta.blob))
                }
                Ok(Step::Damaged {
                    offset,
                    end,
                    damage,
                }) => {
                    let start = gap.take().map_or(offset, |(range, _)| range.start);
                    gap = Some((start..end, damage));
                    continue;
                }
                Ok(Step::End) => break,
                Err(error) => {
                    let reason = error.to_string();
                    for span in waiting.rest() {
                        self.lose(id.queue, span, &path, None, &reason);
                    }
                    break;
                }
            };
            self.records += 1;
            self.missing(id, &path, waiting.before(position), gap.take());
            let (range, damage, blob) = found;
            let is_waiting = waiting.take(position);
            let span = Span {
                first: position,
                last: position,
            };
            match (damage, blob) {
                (Some(damage), _) if is_waiting => {
                    self.lose(id.queue, span, &path, Some(range), &damage.to_string());
                }
                (Some(damage), _) => self.spoil(id, &path, range, damage),
                (None, Some(blob)) if is_waiting => self.body_file(id.queue, position, blob),
                (None, _) => {}
            }
        }
        let is_footer = |(range, _): &(Range<u64>, Damage)| is_sealed && range.end == bytes;
        let rest = waiting.rest();
        // A damaged footer is found out by walking, and harms nobody.
        let gap = gap.filter(|gap| !(rest.is_empty() && is_footer(gap) && records_end == bytes));
        self.missing(id, &path, rest, gap);
        self.buffer = buffer;
    }

    /// Messages that were looked for and not found, with the damage at which they should be.
    fn missing(
        &mut self,
        id: SegmentId,
        path: &Path,
        spans: Vec<Span>,
        gap: Option<(Range<u64>, Damage)>,
    ) {
        match gap {
            Some((range, damage)) if spans.is_empty() => self.spoil(id, path, range, damage),
            Some((range, damage)) => {
                for span in spans {
                    let reason = damage.to_string();
                    self.lose(id.queue, span, path, Some(range.clone()), &reason);
                }
            }
            None => {
                for span in spans {
                    self.lose(id.queue, span, path, None, "its record is missing");
                }
            }
        }
    }

    fn lose(
        &mut self,
        queue: QueueId,
        span: Span,
        file: &Path,
        bytes: Option<Range<u64>>,
        reason: &str,
    ) {
        self.lost.push(Lost {
            queue,
            span,
            file: file.to_owned(),
            bytes,
            reason: reason.to_owned(),
            is_blob: false,
        });
    }

    fn spoil(&mut self, id: SegmentId, path: &Path, bytes: Range<u64>, damage: Damage) {
        self.spoiled.push(Spoiled {
            queue: id.queue,
            file: path.to_owned(),
            bytes,
            reason: damage.to_string(),
        });
    }
}

/// What is wrong with a body's file.
fn blob_damage(disk: &dyn Disk, path: &Path, blob: BlobRef) -> Option<String> {
    let read = || -> io::Result<Option<Damage>> {
        let file = disk.open(path, Access::Read)?;
        if file.len()? != u64::from(blob.bytes) {
            return Ok(Some(Damage::Cut));
        }
        let mut body = vec![0; blob.bytes as usize];
        file.read_exact_at(&mut body, 0)?;
        Ok((crc32fast::hash(&body) != blob.crc).then_some(Damage::Body))
    };
    match read() {
        Ok(damage) => damage.map(|damage| damage.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("the file with its body is missing".to_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

/// A file of which what cannot be read is zeros.
#[derive(Debug)]
struct Forgiving(Arc<dyn DiskFile>);

impl DiskFile for Forgiving {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        copying::read(
            &mut |part, at| self.0.read_exact_at(part, at),
            buffer,
            offset,
        );
        Ok(())
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The positions that wait in a segment and were not met yet.
#[derive(Debug)]
struct Waiting<'s> {
    spans: &'s [Span],
    /// Everything before it was met.
    next: Position,
}

impl<'s> Waiting<'s> {
    fn new(spans: &'s [Span]) -> Self {
        let next = spans.first().map_or(Position::default(), |span| span.first);
        Self { spans, next }
    }

    /// Those before `position`, which are not met any more.
    fn before(&mut self, position: Position) -> Vec<Span> {
        let mut missed = Vec::new();
        while let Some(span) = self.spans.first() {
            let first = self.next.max(span.first);
            if first >= position {
                break;
            }
            if span.last < position {
                missed.extend((first <= span.last).then_some(Span {
                    first,
                    last: span.last,
                }));
                self.spans = &self.spans[1..];
                continue;
            }
            missed.push(Span {
                first,
                last: Position(position.0 - 1),
            });
            self.next = position;
            break;
        }
        missed
    }

    /// Whether `position`, before which nothing is missing, waits; it is met now.
    fn take(&mut self, position: Position) -> bool {
        let is_waiting = position >= self.next
            && self
                .spans
                .first()
                .is_some_and(|span| (span.first..=span.last).contains(&position));
        if is_waiting {
            self.next = position.next();
        }
        is_waiting
    }

    /// All that is left.
    fn rest(&mut self) -> Vec<Span> {
        self.before(Position(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span {
            first: Position(first),
            last: Position(last),
        }
    }

    #[test]
    fn what_waits_is_met_or_missed_once() {
        let spans = [span(1, 3), span(5, 5), span(8, 10)];
        let mut waiting = Waiting::new(&spans);
        assert_eq!(waiting.before(Position(2)), [span(1, 1)]);
        assert!(waiting.take(Position(2)));
        // A second record of a position, and one that comes too late, count for nothing.
        assert!(!waiting.take(Position(2)));
        assert_eq!(waiting.before(Position(1)), []);
        assert!(!waiting.take(Position(1)));
        assert_eq!(waiting.before(Position(4)), [span(3, 3)]);
        assert!(!waiting.take(Position(4)));
        assert_eq!(waiting.before(Position(9)), [span(5, 5), span(8, 8)]);
        assert!(waiting.take(Position(9)));
        assert_eq!(waiting.rest(), [span(10, 10)]);
        assert_eq!(waiting.rest(), []);
        assert_eq!(Waiting::new(&[]).rest(), []);
    }
}
