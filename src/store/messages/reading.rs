//! Reads what a plan names. In: a plan; out: messages, what is damaged, and how far was looked.
//!
//! The plan was made under the queue's lock, the reading is done outside of it: what the plan names may have moved meanwhile,
//! or may be settled and gone. The first is answered with `retry`, the second is no damage.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use super::report::Counters;
use super::shared::Shared;
use crate::model::{Message, Position, QueueId, SharedMessage, WallMs};
use crate::store::disk::Access;
use crate::store::journal::ReadError;
use crate::store::quarantine;
use crate::store::queue_log::{JournalEntry, Piece, Plan, SegmentId, Span};
use crate::store::record::{BlobRef, Damage, Head, Kind, MessageMeta};
use crate::store::segments::{Item, OpenSegment, read_spans};

/// Bytes of the journal that are read at once.
const BLOCK_BYTES: u64 = 256 * 1024;

thread_local! {
    /// A block of a file, for each thread that reads.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that a large body has made longer than this is not kept.
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// What lies between two records of the journal is read along with them if it is not more than this.
const GAP_BYTES_MAX: u64 = 8 * 1024;

/// A message that was read.
#[derive(Clone, Debug)]
pub struct ReadMessage {
    /// Its place in the queue.
    pub position: Position,
    /// The message.
    pub message: SharedMessage,
    /// When it expires, in milliseconds since 1970; [`WallMs::MAX`] for never.
    pub deadline_ms: WallMs,
}

/// What a read gave.
#[derive(Clone, Debug, Default)]
pub struct ReadBlock {
    /// Messages in order of position. Some may be settled meanwhile: ask the log.
    pub messages: Vec<ReadMessage>,
    /// What cannot be read, and is set aside, counted and logged. To be settled as lost.
    pub damaged: Vec<Position>,
    /// Everything that the plan named up to here was looked at; `None`: nothing was.
    pub through: Option<Position>,
    /// It ended early because something has moved meanwhile: plan again behind `through`.
    pub retry: bool,
    /// It ended early because the disk refused to read, which is logged: try again later.
    pub failed: bool,
}

/// Reads what `plan` names of a queue.
pub(super) fn read(shared: &Shared, queue: QueueId, plan: &Plan) -> ReadBlock {
    let mut reading = Reading {
        shared,
        queue,
        block: ReadBlock::default(),
        limit: plan.through,
        bytes_left: plan.bytes_max.saturating_mul(2),
        bytes_max: plan.bytes_max,
        next: plan.first,
    };
    let mut buffer = BUFFER.take();
    let mut block: Vec<JournalEntry> = Vec::new();
    for piece in &plan.pieces {
        match piece {
            Piece::Journal(entry) => {
                if !is_near(&block, entry) {
                    reading.journal_block(&block, &mut buffer);
                    block.clear();
                }
                block.push(*entry);
            }
            Piece::Segment { id, bytes, live } => reading.segment(*id, *bytes, live, &mut buffer),
        }
    }
    reading.journal_block(&block, &mut buffer);
    if buffer.len() <= KEPT_BYTES_MAX {
        BUFFER.set(buffer);
    }
    reading.end(plan)
}

/// Whether a record lies so close behind those of a block that it is read along with them.
fn is_near(block: &[JournalEntry], entry: &JournalEntry) -> bool {
    let (Some(first), Some(last)) = (block.first(), block.last()) else {
        return true;
    };
    let last_end = last.lsn.0 + u64::from(last.record_bytes);
    let end = entry.lsn.0 + u64::from(entry.record_bytes);
    (last_end..=last_end + GAP_BYTES_MAX).contains(&entry.lsn.0) && end - first.lsn.0 <= BLOCK_BYTES
}

struct Reading<'a> {
    shared: &'a Shared,
    queue: QueueId,
    block: ReadBlock,
    /// Nothing behind it is looked at.
    limit: Position,
    bytes_left: u64,
    bytes_max: u64,
    /// What the segment that is being read has from here on was not looked at.
    next: Position,
}

impl Reading<'_> {
    /// Records that lie close to each other, read at once. One that is not as it should be is asked of the journal by itself,
    /// which knows whether it is not written yet, moved, or damaged. What is not written yet is not looked for in the file: a frame of
    /// its former life that was cut off by a crash may lie there, with the same places and the same positions.
    fn journal_block(&mut self, entries: &[JournalEntry], buffer: &mut Vec<u8>) {
        let mut held = 0;
        let written = self.shared.journal.written().0;
        if let [first, .., last] = entries
            && last.lsn.0 + u64::from(last.record_bytes) <= written.0
            && let Some((file, offset)) = self.shared.journal.file_of(first.lsn)
        {
            let bytes = (last.lsn.0 + u64::from(last.record_bytes) - first.lsn.0) as usize;
            if buffer.len() < bytes {
                buffer.resize(bytes, 0);
            }
            if file.read_exact_at(&mut buffer[..bytes], offset).is_ok() {
                held = bytes;
            }
        }
        for entry in entries {
            if entry.position > self.limit {
                return;
            }
            let at = (entry.lsn.0 - entries[0].lsn.0) as usize;
            let record = buffer[..held].get(at..at + entry.record_bytes as usize);
            match record.map(|record| self.journal_message(entry, record)) {
                Some(Ok(Some(read))) => self.push(read, u64::from(entry.record_bytes)),
                Some(Ok(None)) => {}
                Some(Err(_)) | None => self.journal_record(entry),
            }
        }
    }

    fn journal_record(&mut self, entry: &JournalEntry) {
        let record = match self.shared.journal.read(entry.lsn, entry.record_bytes) {
            Ok(record) => record,
            Err(ReadError::Recycled) => return self.moved(entry.position),
            Err(ReadError::Damaged(damage)) => {
                return self.damaged_in_journal(entry, &damage.to_string(), &[]);
            }
            Err(error @ (ReadError::NotWritten | ReadError::Io(_))) => {
                return self.failed(entry.position, &error.to_string());
            }
        };
        match self.journal_message(entry, &record) {
            Ok(Some(read)) => self.push(read, u64::from(entry.record_bytes)),
            Ok(None) => {}
            Err(damage) => self.damaged_in_journal(entry, &damage.to_string(), &record),
        }
    }

    fn journal_message(
        &mut self,
        entry: &JournalEntry,
        record: &[u8],
    ) -> Result<Option<ReadMessage>, Damage> {
        let head = Head::parse(record, entry.lsn.0)?;
        if head.kind != Kind::Message {
            return Err(Damage::Content);
        }
        head.check_body(record)?;
        let meta = MessageMeta::parse(&head, &record[head.meta()])?;
        let target = meta
            .targets()
            .find(|target| target.queue == self.queue && target.position == entry.position)
            .ok_or(Damage::Content)?;
        let message = match meta.blob {
            None => meta.copied_message(&record[head.body()])?,
            Some(blob) => match self.blob_message(&meta, blob, entry.position)? {
                Some(message) => message,
                None => return Ok(None),
            },
        };
        Ok(Some(ReadMessage {
            position: entry.position,
            message: Arc::new(message),
            deadline_ms: target.deadline_ms,
        }))
    }

    /// The message whose body is in a file of its own; `None` if that is gone because the message is settled meanwhile, or
    /// cannot be read now.
    fn blob_message(
        &mut self,
        meta: &MessageMeta<'_>,
        blob: BlobRef,
        position: Position,
    ) -> Result<Option<Message>, Damage> {
        match self.shared.journal.read_blob(blob) {
            Ok(body) => meta.message(body).map(Some),
            Err(_) if !self.is_live(position) => Ok(None),
            Err(ReadError::Recycled | ReadError::NotWritten) => Err(Damage::Cut),
            Err(ReadError::Damaged(damage)) => Err(damage),
            Err(ReadError::Io(reason)) => {
                let path = self.shared.journal.blobs().path(blob.blob);
                match self.shared.files.disk().open(&path, Access::Read) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Damage::Cut),
                    _ => {
                        self.failed(position, &reason);
                        Ok(None)
                    }
                }
            }
        }
    }

    fn segment(&mut self, id: SegmentId, bytes: u64, live: &[Span], buffer: &mut Vec<u8>) {
        let live = within(live, self.limit);
        let Some(first) = live.first().map(|span| span.first) else {
            return;
        };
        let info = || {
            let info = self.shared.owners.with_log(id.queue, |log| log.segment(id));
            info.flatten().map(|info| info.is_sealed)
        };
        let segment = match self.shared.files.open(id, bytes, info) {
            Ok(segment) => segment,
            Err(error) => return self.not_opened(id, &live, &error),
        };
        let hint = self.bytes_left.min(self.bytes_max.saturating_mul(2));
        self.next = first;
        let result = read_spans(&segment, &live, hint, buffer, &mut |item| {
            self.segment_item(&segment, item)
        });
        if let Err(error) = result {
            self.failed(self.next, &error.to_string());
        }
    }

    /// Takes one item; false when the plan's bytes are used up.
    fn segment_item(&mut self, segment: &OpenSegment, item: Item<'_>) -> bool {
        match item {
            Item::Record {
                meta, target, body, ..
            } => {
                let position = target.position;
                self.next = position.next();
                let message = match meta.blob {
                    None => meta.copied_message(body).map(Some),
                    Some(blob) => self.blob_message(&meta, blob, position),
                };
                match message {
                    Ok(Some(message)) => {
                        let bytes =
                            (body.len() + meta.blob.map_or(0, |blob| blob.bytes as usize)) as u64;
                        let read = ReadMessage {
                            position,
                            message: Arc::new(message),
                            deadline_ms: target.deadline_ms,
                        };
                        self.push(read, bytes);
                    }
                    Ok(None) => {}
                    Err(damage) => {
                        self.quarantine_segment(segment, 0..0, Some(position), &damage.to_string());
                        self.damaged(position);
                    }
                }
            }
            Item::Damaged {
                range,
                position,
                damage,
            } => {
                self.quarantine_segment(segment, range, position, &damage.to_string());
                if let Some(position) = position {
                    self.next = position.next();
                    self.damaged(position);
                }
            }
            Item::Missing(position) => {
                self.next = position.next();
                if position <= self.limit && self.is_live(position) {
                    self.missing(segment.id, position);
                }
            }
        }
        self.bytes_left > 0
    }

    /// A live message has no record in its segment: a head was damaged there or in the journal, or the file is cut or gone.
    fn missing(&mut self, id: SegmentId, position: Position) {
        let piece = quarantine::Piece {
            file: &self.shared.files.path(id),
            offset: 0,
            queue: Some(id.queue),
            position: Some(position),
            reason: "there is no record of it",
        };
        self.shared.quarantine.keep(&piece, &[]);
        self.damaged(position);
    }

    fn not_opened(&mut self, id: SegmentId, live: &[Span], error: &io::Error) {
        let Some(first) = live.first().map(|span| span.first) else {
            return;
        };
        let is_known = self
            .shared
            .owners
            .with_log(id.queue, |log| log.segment(id).is_some());
        match is_known {
            Some(true) if error.kind() == io::ErrorKind::NotFound => {
                for span in live {
                    let mut position = span.first;
                    while position <= span.last {
                        self.missing(id, position);
                        position = position.next();
                    }
                }
            }
            Some(true) => self.failed(first, &error.to_string()),
            // Something else of it may live than what the plan begins with.
            Some(false) => self.plan_again(first),
            None => self.stop_before(first),
        }
    }

    fn push(&mut self, read: ReadMessage, bytes: u64) {
        let position = read.position;
        self.block.messages.push(read);
        self.bytes_left = self.bytes_left.saturating_sub(bytes.max(1));
        if self.bytes_left == 0 {
            self.limit = self.limit.min(position);
        }
    }

    /// Nothing from `position` on was looked at.
    fn stop_before(&mut self, position: Position) {
        self.limit = self.limit.min(Position(position.0.saturating_sub(1)));
    }

    fn moved(&mut self, position: Position) {
        if self.is_live(position) {
            self.plan_again(position);
        }
    }

    fn plan_again(&mut self, position: Position) {
        self.block.retry = true;
        self.stop_before(position);
    }

    fn failed(&mut self, position: Position, reason: &str) {
        tracing::error!(
            queue = self.queue.0,
            position = position.0,
            "messages cannot be read: {reason}"
        );
        self.block.failed = true;
        self.stop_before(position);
    }

    fn damaged(&mut self, position: Position) {
        tracing::error!(
            queue = self.queue.0,
            lane = position.lane(),
            sequence = position.sequence(),
            "a message is damaged and lost: what is left of it is in the folder quarantine, the queue goes on behind it"
        );
        self.block.damaged.push(position);
    }

    fn damaged_in_journal(&mut self, entry: &JournalEntry, reason: &str, content: &[u8]) {
        if !self.is_live(entry.position) {
            return;
        }
        let piece = quarantine::Piece {
            file: "journal".as_ref(),
            offset: entry.lsn.0,
            queue: Some(self.queue),
            position: Some(entry.position),
            reason,
        };
        self.shared.quarantine.keep(&piece, content);
        self.damaged(entry.position);
    }

    fn quarantine_segment(
        &self,
        segment: &OpenSegment,
        range: std::ops::Range<u64>,
        position: Option<Position>,
        reason: &str,
    ) {
        self.shared
            .quarantine_segment(segment, range, position, reason);
    }

    fn is_live(&self, position: Position) -> bool {
        let is_live = self
            .shared
            .owners
            .with_log(self.queue, |log| log.is_live(position));
        is_live.unwrap_or(false)
    }

    fn end(mut self, plan: &Plan) -> ReadBlock {
        let limit = self.limit;
        let block = &mut self.block;
        block.messages.retain(|read| read.position <= limit);
        block.damaged.retain(|position| *position <= limit);
        block.messages.sort_unstable_by_key(|read| read.position);
        block.damaged.sort_unstable();
        block.damaged.dedup();
        block.through = (limit >= plan.first).then_some(limit);
        Counters::add(
            &self.shared.counters.damaged_messages,
            block.damaged.len() as u64,
        );
        self.block
    }
}

/// The part of `spans` up to `limit`.
fn within(spans: &[Span], limit: Position) -> Vec<Span> {
    let spans = spans.iter().take_while(|span| span.first <= limit);
    spans
        .map(|span| Span {
            first: span.first,
            last: span.last.min(limit),
        })
        .collect()
}
