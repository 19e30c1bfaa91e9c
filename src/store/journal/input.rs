//! What is appended and not yet written: a buffer in which the next frame takes shape.
//!
//! In: records, encoded straight into the buffer, so that the place of each is known at once. Out: whole frames for the writer
//! thread, which swaps the buffer for an empty one. Files and syncs are not known here, but for where the current file ends.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameHeader};
use super::{Lsn, Shared, SyncDemand};
use crate::model::{Message, Position, QueueId};
use crate::store::record::{self, BLOB_BYTES_MIN, BlobRef, Run, Target};

/// As much as this is written even if nobody waits for it.
const GATHERED_BYTES_MAX: usize = 1024 * 1024;

/// A buffer that has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records of one frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// The file that it goes to.
    pub file: FileHeader,
    pub base: u64,
    /// Header and records; zeros up to a whole block when it was taken.
    pub bytes: Vec<u8>,
    /// Bytes up to the end of the last whole record.
    whole_bytes: usize,
    /// The checksums of the records' heads, one behind the other.
    head_crcs: Vec<u8>,
    /// Messages, counted for each queue.
    entries: u32,
    pub number: u64,
    pub records: u32,
    /// The queues of its messages, with some repetition.
    pub queues: Vec<QueueId>,
    pub blobs: Vec<(u64, Bytes)>,
    pub blob_bytes: u64,
    /// Whether the file is full with it.
    pub ends_file: bool,
    /// What the strictest of its records asks for; `None` if none of them does, and nobody knows better than the node.
    pub demand: Option<SyncDemand>,
    /// Whether somebody waits for it to be written and no more.
    pub has_relaxed: bool,
}

impl Batch {
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// What it holds in memory: header, records and large bodies.
    pub(super) fn held_bytes(&self) -> u64 {
        self.whole_bytes as u64 + self.blob_bytes
    }

    /// The records at a place, if they are here.
    pub(super) fn get(&self, lsn: Lsn, bytes: usize) -> Option<&[u8]> {
        let start = usize::try_from(lsn.0.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(bytes)?;
        self.bytes[..self.whole_bytes].get(start..end)
    }

    pub(super) fn blob(&self, blob: u64) -> Option<&Bytes> {
        let mut blobs = self.blobs.iter();
        blobs.find(|(number, _)| *number == blob).map(|(_, b)| b)
    }

    /// Gives its memory back if there is nothing in it.
    pub(super) fn clear_if_empty(&mut self) {
        if self.records == 0 {
            self.clear(true);
        }
    }

    /// Empties it for another frame. Large buffers are given back, and with `is_idle` all.
    pub(super) fn clear(&mut self, is_idle: bool) {
        self.bytes.clear();
        self.head_crcs.clear();
        self.queues.clear();
        self.blobs.clear();
        (self.whole_bytes, self.blob_bytes) = (0, 0);
        (self.entries, self.records) = (0, 0);
        (self.demand, self.has_relaxed) = (None, false);
        let kept_bytes = if is_idle { 0 } else { KEPT_BYTES_MAX };
        self.bytes.shrink_to(kept_bytes);
        self.head_crcs.shrink_to(kept_bytes);
        self.queues.shrink_to(kept_bytes / size_of::<QueueId>());
        self.blobs.shrink_to(16);
    }
}

/// When a file is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    /// Once a frame ends here or later.
    pub bytes: u64,
    /// Once it has this many messages, counted for each queue.
    pub entries: u32,
    /// Once its messages have large bodies of so many bytes.
    pub blob_bytes: u64,
}

/// The frame that takes shape, and what the writer must know of it.
#[derive(Debug)]
pub(super) struct Input {
    pub gathered: Batch,
    /// The frame that is being written.
    pub in_flight: Option<Arc<Batch>>,
    /// The end of the frame before.
    tail: u64,
    file: FileHeader,
    file_entries: u32,
    file_blob_bytes: u64,
    full: Full,
    number: u64,
    /// Somebody waits for what is gathered.
    pub is_wanted: bool,
    /// Since when something is gathered that nobody waits for.
    pub gathering_since: Option<Instant>,
    /// A sync was asked for in any mode, of everything before this.
    pub sync_through: u64,
    pub is_closing: bool,
    /// What is appended now is thrown away.
    pub has_failed: bool,
    pub writer_sleeps: bool,
    /// There may be space where there was none.
    pub has_new_room: bool,
}

impl Input {
    /// An input whose first frame goes to `file`.
    pub(super) fn new(file: FileHeader, full: Full) -> Self {
        Self {
            gathered: Batch {
                base: file.start.0 + BLOCK_BYTES,
                ..Batch::default()
            },
            in_flight: None,
            tail: file.start.0,
            file,
            file_entries: 0,
            file_blob_bytes: 0,
            full,
            number: file.first_number,
            is_wanted: false,
            gathering_since: None,
            sync_through: 0,
            is_closing: false,
            has_failed: false,
            writer_sleeps: false,
            has_new_room: false,
        }
    }

    /// The generation of the file that the next frame goes to.
    pub(super) fn generation(&self) -> u64 {
        self.file.generation
    }

    pub(super) fn has_records(&self) -> bool {
        self.gathered.records > 0
    }

    /// Whether so much is gathered that it is written though nobody waits for it.
    pub(super) fn has_enough(&self) -> bool {
        self.gathered.bytes.len() >= GATHERED_BYTES_MAX
            || self.gathered.blob_bytes >= GATHERED_BYTES_MAX as u64
    }

    /// What must be synced so that everything appended so far is.
    pub(super) fn end(&self) -> Lsn {
        if self.has_records() {
            Lsn(self.gathered.end())
        } else {
            Lsn(self.tail)
        }
    }

    /// Makes a frame of what is gathered and hands it out in exchange for `batch`, which is empty. Decides whether its
    /// file is full with it, so that the place of the next frame is known. `new_seed` is for the next file.
    pub(super) fn take(
        &mut self,
        batch: &mut Batch,
        synced_number: u64,
        new_seed: impl FnOnce() -> u64,
    ) {
        std::mem::swap(&mut self.gathered, batch);
        batch.number = self.number;
        batch.file = self.file;
        let header = FrameHeader {
            records: batch.records,
            seed: self.file.seed,
            generation: self.file.generation,
            number: batch.number,
            base: Lsn(batch.base),
            bytes: batch.bytes.len() as u64,
            synced_number,
            heads_crc: crc32fast::hash(&batch.head_crcs),
        };
        batch.bytes[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
        let padded_bytes = batch.bytes.len().next_multiple_of(BLOCK_BYTES as usize);
        batch.bytes.resize(padded_bytes, 0);
        self.tail = batch.end();
        self.number += 1;
        self.file_entries = self.file_entries.saturating_add(batch.entries);
        self.file_blob_bytes = self.file_blob_bytes.saturating_add(batch.blob_bytes);
        let offset = self.tail - self.file.start.0;
        batch.ends_file = offset >= self.full.bytes
            || self.file_entries >= self.full.entries
            || self.file_blob_bytes >= self.full.blob_bytes;
        self.gathered.base = self.tail;
        if batch.ends_file {
            self.file = FileHeader {
                generation: self.file.generation + 1,
                start: Lsn(self.tail),
                previous_end: Lsn(self.tail),
                seed: new_seed(),
                first_number: self.number,
            };
            (self.file_entries, self.file_blob_bytes) = (0, 0);
            self.gathered.base += BLOCK_BYTES;
        }
        self.is_wanted = false;
        self.gathering_since = None;
    }

    /// Throws away what is gathered; its places are not given again.
    pub(super) fn discard(&mut self) {
        self.gathered.base += self.gathered.bytes.len() as u64;
        self.tail = self.tail.max(self.gathered.base);
        self.gathered.clear(true);
        (self.is_wanted, self.gathering_since) = (false, None);
    }
}

/// What became of a message that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where its record lies.
    pub lsn: Lsn,
    /// Bytes of the record.
    pub record_bytes: u32,
    /// The number of the file with its body, if that is large.
    pub blob: Option<u64>,
}

/// The CRC-32 of a message's body. It is most of the work of an append, so it is made before any lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyCrc(u32);

impl BodyCrc {
    /// Of this message's body.
    pub fn of(message: &Message) -> Self {
        Self(crc32fast::hash(message.body()))
    }
}

/// The journal's input, held. What one holder appends is in one frame: all of it survives or nothing.
#[derive(Debug)]
pub struct Appender<'a> {
    shared: &'a Shared,
    input: MutexGuard<'a, Input>,
    is_wanted: bool,
    bytes_before: u64,
}

impl<'a> Appender<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let input = shared.input.lock();
        let bytes_before = input.gathered.held_bytes();
        Self {
            shared,
            input,
            is_wanted: false,
            bytes_before,
        }
    }

    /// Appends a message and asks for it to be written at once. `body_crc` is that of this message.
    pub fn message(
        &mut self,
        message: &Message,
        body_crc: BodyCrc,
        targets: &[Target],
    ) -> Appended {
        let demand = self.shared.options.sync.demand();
        self.message_asking(message, body_crc, targets, demand)
    }

    /// As [`Appender::message`], to be synced as `demand` says.
    pub fn message_asking(
        &mut self,
        message: &Message,
        body_crc: BodyCrc,
        targets: &[Target],
        demand: SyncDemand,
    ) -> Appended {
        self.is_wanted = true;
        let gathered = &mut self.input.gathered;
        gathered.demand = gathered.demand.max(Some(demand));
        gathered.has_relaxed |= demand.is_relaxed();
        self.transient(message, body_crc, targets)
    }

    /// Appends a message for which nobody waits: one that is void after a restart, or that was published without confirms.
    pub fn transient(
        &mut self,
        message: &Message,
        body_crc: BodyCrc,
        targets: &[Target],
    ) -> Appended {
        let body = message.body();
        debug_assert_eq!(body_crc, BodyCrc::of(message), "of another message");
        let is_blob = body.len() >= BLOB_BYTES_MIN;
        let (lsn, record_bytes) = self.put(|out, at| {
            let blob = is_blob.then_some(BlobRef {
                blob: at,
                bytes: body.len() as u32,
                crc: body_crc.0,
            });
            record::put_prepared_message(out, at, message, body_crc.0, targets, blob)
        });
        let gathered = &mut self.input.gathered;
        gathered.entries = gathered.entries.saturating_add(targets.len() as u32);
        for target in targets {
            if gathered.queues.last() != Some(&target.queue) {
                gathered.queues.push(target.queue);
            }
        }
        if is_blob {
            gathered.blobs.push((lsn.0, message.body_to_keep()));
            gathered.blob_bytes += body.len() as u64;
        }
        Appended {
            lsn,
            record_bytes,
            blob: is_blob.then_some(lsn.0),
        }
    }

    /// Appends that positions of a queue are done.
    pub fn settled(&mut self, queue: QueueId, runs: &[Run]) {
        self.put(|out, at| record::put_settled(out, at, queue, runs));
    }

    /// Appends that everything in a queue up to the `last` position of each lane is done, but for `survivors`.
    pub fn purged(&mut self, queue: QueueId, last: &[Position], survivors: &[Run]) {
        self.put(|out, at| record::put_purged(out, at, queue, last, survivors));
    }

    /// Appends how often messages were handed out, and how often in vain.
    pub fn requeued(&mut self, queue: QueueId, counts: &[(Position, u32, u32)]) {
        self.put(|out, at| record::put_requeued(out, at, queue, counts));
    }

    /// Appends changes of definitions, in their store's own form.
    pub fn definitions(&mut self, changes: &[u8]) {
        let demand = self.shared.options.sync.demand();
        let gathered = &mut self.input.gathered;
        gathered.demand = gathered.demand.max(Some(demand));
        self.put(|out, at| record::put_definitions(out, at, changes));
    }

    /// What must be synced so that everything appended so far, by anyone, is durable.
    pub fn end(&self) -> Lsn {
        self.input.end()
    }

    /// Where the next record will lie.
    #[cfg(test)]
    pub(super) fn next_lsn(&self) -> Lsn {
        let gathered = &self.input.gathered;
        Lsn(gathered.base + gathered.bytes.len().max(FRAME_HEADER_BYTES) as u64)
    }

    fn put(&mut self, encode: impl FnOnce(&mut Vec<u8>, u64) -> u32) -> (Lsn, u32) {
        let gathered = &mut self.input.gathered;
        if gathered.bytes.is_empty() {
            gathered.bytes.resize(FRAME_HEADER_BYTES, 0);
        }
        let start = gathered.bytes.len();
        let lsn = Lsn(gathered.base + start as u64);
        let crc = encode(&mut gathered.bytes, lsn.0);
        gathered.whole_bytes = gathered.bytes.len();
        gathered.head_crcs.extend_from_slice(&crc.to_le_bytes());
        gathered.records += 1;
        (lsn, (gathered.bytes.len() - start) as u32)
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        let input = &mut *self.input;
        if !input.has_records() {
            input.gathered.bytes.clear();
            return;
        }
        // Cuts what a panic left half encoded.
        let whole_bytes = input.gathered.whole_bytes;
        input.gathered.bytes.truncate(whole_bytes);
        let bytes = input.gathered.held_bytes();
        if bytes == self.bytes_before {
            return;
        }
        if input.has_failed {
            input.discard();
            return;
        }
        self.shared.count_appended(bytes - self.bytes_before);
        input.is_wanted |= self.is_wanted;
        // The first that nobody waits for begins the time after which it is written all the same.
        let is_first = !input.is_wanted && input.gathering_since.is_none();
        if is_first {
            input.gathering_since = Some(Instant::now());
        }
        let must_wake = input.is_wanted || is_first || input.has_enough();
        if must_wake && std::mem::take(&mut input.writer_sleeps) {
            self.shared.work.notify_one();
        }
    }
}
