//! Copies what lives in a journal file to segments. In: a sealed file; out: segments, synced, and logs that know them.
//!
//! Nearly every record is for one queue and differs in its segment by its place alone. Those that lie side by side in the journal are
//! given their new places in the block that was read, and written from there in one piece. Heads are checked, because they get
//! a new checksum. Bodies are not: theirs goes along, so a body that is damaged is found by whoever reads it.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::ops::Range;

use super::source::{Record, Source};
use super::syncing::Unsynced;
use super::{Checkpointer, Failure, READ_ATTEMPTS_MAX};
use crate::model::{Position, QueueId};
use crate::store::disk::Access;
use crate::store::journal::{Lsn, SealedFile};
use crate::store::messages::Shared;
use crate::store::quarantine;
use crate::store::queue_log::{JournalEntry, Moved, SegmentId, SegmentInfo, fits_one_segment};
use crate::store::record::{BlobRef, Damage, Target};
use crate::store::segments::SegmentWriter;

/// Entries that a log is told of in one hold of its queue's lock.
const TOLD_AT_ONCE: usize = 4096;

impl Checkpointer {
    /// Moves what lives in the oldest sealed file, commits, and gives the file back to the journal.
    pub(super) fn checkpoint(&mut self, sealed: &SealedFile) -> Result<(), Failure> {
        let mut unsynced = Unsynced::default();
        let copied = self.copy(sealed, &mut unsynced).and_then(|moved| {
            self.sync(&mut unsynced)?;
            Ok(moved)
        });
        let moved = match copied {
            Ok(moved) => moved,
            Err(failure) => {
                self.has_made_folders |= unsynced.has_made_folders();
                self.leftovers.extend(unsynced.take_back(&self.shared));
                return Err(failure);
            }
        };
        let (mut messages, mut bytes) = (0, 0);
        for batch in moved {
            messages += batch.entries.len() as u64;
            bytes += batch
                .entries
                .iter()
                .map(|entry| u64::from(entry.record_bytes))
                .sum::<u64>();
            tell(&self.shared, batch);
        }
        self.commit(&sealed.queues, sealed.end)?;
        self.shared.journal.recycle(sealed.generation)?;
        self.count(messages, bytes);
        Ok(())
    }

    /// Makes durable what was written, and the folders that were made since the last success.
    pub(super) fn sync(&mut self, unsynced: &mut Unsynced) -> Result<(), Failure> {
        self.has_made_folders |= unsynced.has_made_folders();
        unsynced.sync(&self.shared, self.has_made_folders)?;
        self.has_made_folders = false;
        Ok(())
    }

    fn copy(
        &mut self,
        sealed: &SealedFile,
        unsynced: &mut Unsynced,
    ) -> Result<Vec<Moved>, Failure> {
        let live = |queue: &QueueId| {
            let owners = &self.shared.owners;
            let live = owners.with_log(*queue, |log| {
                log.live_between(sealed.start, sealed.end, usize::MAX)
            });
            (*queue, live.unwrap_or_default())
        };
        let queues: Vec<(QueueId, Vec<JournalEntry>)> = sealed
            .queues
            .iter()
            .map(live)
            .filter(|(_, entries)| !entries.is_empty())
            .collect();
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_short_of_space() {
            // Else the disk would be filled to its last byte each second.
            let entries = queues.iter().flat_map(|(_, entries)| entries);
            let bytes = entries.map(|entry| u64::from(entry.record_bytes)).sum();
            let files = &self.shared.files;
            files
                .find_room(bytes)
                .map_err(Failure::io("find room in", files.folder()))?;
        }
        let Some((file, _)) = self.shared.journal.file_of(sealed.start) else {
            return Err(Failure::Failed("a sealed journal file is gone".to_owned()));
        };
        let mut copying = Copying {
            shared: &self.shared,
            source: Source::new(file, sealed.start, &mut self.read_buffer),
            buffer: mem::take(&mut self.write_buffer),
            bodies: SharedBodies::of(&queues, self.shared.options.shared_body_bytes_min),
            gives_up_unreadable: self.read_attempts >= READ_ATTEMPTS_MAX,
            unsynced,
            moved: Vec::new(),
        };
        for (queue, mut entries) in queues {
            let kind = |entry: &JournalEntry| (entry.position.lane(), entry.is_transient);
            entries.sort_by_key(kind);
            // Most queues use one lane: nothing is copied then.
            while let Some(first) = entries.first().map(kind) {
                let later = entries.partition_point(|entry| kind(entry) == first);
                let later = entries.split_off(later);
                copying.lane(queue, entries)?;
                entries = later;
            }
        }
        let Copying { moved, buffer, .. } = copying;
        self.write_buffer = buffer;
        Ok(moved)
    }
}

/// Tells a queue's log what is in a segment now.
fn tell(shared: &Shared, batch: Moved) {
    let Moved {
        segment,
        bytes,
        is_sealed,
        entries,
    } = batch;
    let mut rest = entries.as_slice();
    loop {
        let (part, later) = rest.split_at(rest.len().min(TOLD_AT_ONCE));
        let part = Moved {
            segment,
            bytes,
            is_sealed: is_sealed && later.is_empty(),
            entries: part.to_vec(),
        };
        let blobs: Vec<(Position, Lsn)> = part
            .entries
            .iter()
            .filter(|entry| entry.has_blob)
            .map(|entry| (entry.position, entry.lsn))
            .collect();
        shared.owners.with_log(segment.queue, |log| {
            log.moved(part);
            // Those settled meanwhile are not said to be freed again.
            for (position, blob) in blobs {
                if log.is_live(position) {
                    shared.blobs.hold(blob.0, segment.queue);
                }
            }
        });
        if later.is_empty() {
            return;
        }
        rest = later;
    }
}

/// Bodies that wait in several queues and are written once.
struct SharedBodies {
    queues: HashMap<Lsn, u32>,
    written: HashMap<Lsn, BlobRef>,
    bytes_min: u32,
}

impl SharedBodies {
    fn of(queues: &[(QueueId, Vec<JournalEntry>)], bytes_min: u32) -> Self {
        let mut counts: HashMap<Lsn, u32> = HashMap::new();
        for entry in queues.iter().flat_map(|(_, entries)| entries) {
            if entry.body_bytes >= bytes_min && !entry.has_blob {
                *counts.entry(entry.lsn).or_default() += 1;
            }
        }
        counts.retain(|_, queues| *queues > 1);
        Self {
            queues: counts,
            written: HashMap::new(),
            bytes_min,
        }
    }

    /// The file that has the body of this record, if it is to have one: written when it is asked for first. A damaged body
    /// stays with its record and its checksum, for a reader to find out.
    fn blob(
        &mut self,
        shared: &Shared,
        lsn: Lsn,
        record: &Record<'_>,
        unsynced: &mut Unsynced,
    ) -> Result<Option<BlobRef>, Failure> {
        if record.meta.blob.is_some() || !self.queues.contains_key(&lsn) {
            return Ok(record.meta.blob);
        }
        if let Some(blob) = self.written.get(&lsn) {
            return Ok(Some(*blob));
        }
        let body = record.body;
        if body.len() < self.bytes_min as usize || record.head.check_body(record.bytes).is_err() {
            return Ok(None);
        }
        let path = shared.journal.blobs().path(lsn.0);
        let written = shared
            .files
            .disk()
            .open(&path, Access::Create)
            .and_then(|file| {
                file.set_len(0)?;
                file.write_all_at(body, 0)?;
                Ok(file)
            });
        let file = written.map_err(Failure::io("write", &path))?;
        unsynced.wrote(file, path.parent().map(ToOwned::to_owned));
        let blob = BlobRef {
            blob: lsn.0,
            bytes: body.len() as u32,
            crc: crc32fast::hash(body),
        };
        self.written.insert(lsn, blob);
        Ok(Some(blob))
    }
}

/// The copying of one journal file.
struct Copying<'a> {
    shared: &'a Shared,
    source: Source<'a>,
    /// Goes from one segment's writer to the next.
    buffer: Vec<u8>,
    bodies: SharedBodies,
    gives_up_unreadable: bool,
    unsynced: &'a mut Unsynced,
    moved: Vec<Moved>,
}

/// A segment that can take records.
struct Begun {
    writer: SegmentWriter,
    first: Position,
    is_new: bool,
}

impl Copying<'_> {
    /// Copies entries of one lane, in order: to the lane's last segment as long as it has room, then to new ones.
    fn lane(&mut self, queue: QueueId, mut rest: Vec<JournalEntry>) -> Result<(), Failure> {
        let mut is_first = true;
        while let Some(next) = rest.first().copied() {
            // A queue that is deleted meanwhile needs nothing.
            let Some(begun) = self.begin(queue, &next, is_first)? else {
                return Ok(());
            };
            is_first = false;
            let Begun {
                mut writer,
                first,
                is_new,
            } = begun;
            let id = writer.id();
            let taken = self.fill(&mut writer, first, &mut rest)?;
            let later = rest.split_off(taken);
            let is_sealed = !later.is_empty();
            let written = writer
                .finish(&self.shared.files, is_sealed)
                .map_err(Failure::io("write", &self.shared.files.path(id)))?;
            self.buffer = written.buffer;
            let folder = is_new.then(|| self.shared.files.queue_folder(queue));
            self.unsynced.wrote(written.file, folder);
            self.moved.push(Moved {
                segment: id,
                bytes: written.bytes,
                is_sealed,
                entries: rest,
            });
            rest = later;
        }
        Ok(())
    }

    /// The lane's last segment if it may grow, or a new one; `None` if the queue is gone.
    fn begin(
        &mut self,
        queue: QueueId,
        next: &JournalEntry,
        may_grow: bool,
    ) -> Result<Option<Begun>, Failure> {
        let (lane, is_transient) = (next.position.lane(), next.is_transient);
        let tail = self.shared.owners.with_log(queue, |log| {
            let tail = log.tail_segment(lane, is_transient, next.position);
            tail.filter(|_| may_grow)
        });
        let Some(tail) = tail else {
            return Ok(None);
        };
        if let Some(info) = tail
            && let Some(writer) = self.extend(&info)?
        {
            return Ok(Some(Begun {
                writer,
                first: info.first,
                is_new: false,
            }));
        }
        let id = self
            .shared
            .owners
            .with_log(queue, |log| log.next_segment(lane, is_transient));
        let Some(id) = id else {
            return Ok(None);
        };
        self.unsynced.begin(id, 0);
        let writer = self.create(id)?;
        Ok(Some(Begun {
            writer,
            first: next.position,
            is_new: true,
        }))
    }

    /// The writer of a segment that grows; `None` if its file is not what it should be, which its readers report.
    fn extend(&mut self, info: &SegmentInfo) -> Result<Option<SegmentWriter>, Failure> {
        let files = &self.shared.files;
        let buffer = mem::take(&mut self.buffer);
        match SegmentWriter::extend(files, info, buffer) {
            Ok(writer) => {
                self.unsynced.begin(info.id, info.bytes);
                Ok(Some(writer))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::io("write", &files.path(info.id))(error)),
        }
    }

    fn create(&mut self, id: SegmentId) -> Result<SegmentWriter, Failure> {
        let files = &self.shared.files;
        let path = files.path(id);
        let result = match SegmentWriter::create(files, id, mem::take(&mut self.buffer)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.unsynced.make_folder(self.shared, id.queue)?;
                SegmentWriter::create(files, id, Vec::new())
            }
            result => result,
        };
        result.map_err(Failure::io("create", &path))
    }

    /// Appends entries as long as there is room, and says how many.
    fn fill(
        &mut self,
        writer: &mut SegmentWriter,
        first: Position,
        entries: &mut [JournalEntry],
    ) -> Result<usize, Failure> {
        let options = &self.shared.options;
        let mut run = 0..0;
        for at in 0..entries.len() {
            let entry = entries[at];
            let end = writer.records_end() + u64::from(entry.record_bytes);
            let is_full = writer.messages() > 0
                && (end > options.segment_bytes_max
                    || writer.messages() >= options.segment_messages_max);
            if is_full || !fits_one_segment(first, entry.position) {
                self.write_run(writer, &mut run)?;
                return Ok(at);
            }
            entries[at].has_blob |= self.put(writer, &entries[at..], &mut run)?;
        }
        self.write_run(writer, &mut run)?;
        Ok(entries.len())
    }

    /// Copies the first of `entries`, or makes it part of the `run` of records that are written from where they lie; whether its
    /// body is in a file of its own. One that is damaged leaves a gap: its queue may have the message in memory still, and
    /// whoever looks for it in the segment finds it missing.
    fn put(
        &mut self,
        writer: &mut SegmentWriter,
        entries: &[JournalEntry],
        run: &mut Range<u64>,
    ) -> Result<bool, Failure> {
        let entry = &entries[0];
        if entry.lsn.0 != run.end || !self.source.holds(entry) {
            self.write_run(writer, run)?;
        }
        let reason = match self.source.hold(entries) {
            Ok(()) => match self.copy(writer, entry, run)? {
                Ok(has_blob) => return Ok(has_blob),
                Err(damage) => damage.to_string(),
            },
            Err(error) if self.gives_up_unreadable => error.to_string(),
            Err(error) => return Err(Failure::Unreadable(error.to_string())),
        };
        let piece = quarantine::Piece {
            file: "journal".as_ref(),
            offset: entry.lsn.0,
            queue: Some(writer.id().queue),
            position: Some(entry.position),
            reason: &reason,
        };
        let content = self.source.raw(entry);
        self.shared.quarantine.keep(&piece, &content);
        Ok(entry.has_blob)
    }

    /// As [`Copying::put`], of an entry that the source holds.
    fn copy(
        &mut self,
        writer: &mut SegmentWriter,
        entry: &JournalEntry,
        run: &mut Range<u64>,
    ) -> Result<Result<bool, Damage>, Failure> {
        let queue = writer.id().queue;
        let is_wanted =
            |target: &Target| target.queue == queue && target.position == entry.position;
        let record = match self.source.record(entry, is_wanted) {
            Ok(record) => record,
            Err(damage) => return Ok(Err(damage)),
        };
        let blob = self
            .bodies
            .blob(self.shared, entry.lsn, &record, self.unsynced)?;
        let (head, meta) = (record.head, record.meta);
        let stays_as_it_is = meta.targets().len() == 1
            && blob == meta.blob
            && head.record_bytes() == entry.record_bytes as usize;
        if stays_as_it_is {
            let at = writer.claim(entry.position, entry.record_bytes);
            if run.is_empty() {
                *run = entry.lsn.0..entry.lsn.0;
            }
            run.end = entry.lsn.0 + u64::from(entry.record_bytes);
            let relocated = self.source.relocate(entry, &head, at);
            return Ok(relocated.map(|()| blob.is_some()));
        }
        let body = if blob.is_some() { &[] } else { record.body };
        let target = record.target;
        write_run(writer, &self.source, run)
            .and_then(|()| {
                writer.put(entry.position, |out, at| {
                    meta.rewrite(out, at, target, blob, body);
                })
            })
            .map_err(|error| cannot_write(self.shared, writer, error))?;
        Ok(Ok(blob.is_some()))
    }

    fn write_run(&self, writer: &mut SegmentWriter, run: &mut Range<u64>) -> Result<(), Failure> {
        write_run(writer, &self.source, run)
            .map_err(|error| cannot_write(self.shared, writer, error))
    }
}

/// Writes the records of `run`, which were given their places in the segment; none is left.
fn write_run(
    writer: &mut SegmentWriter,
    source: &Source<'_>,
    run: &mut Range<u64>,
) -> io::Result<()> {
    if run.is_empty() {
        return Ok(());
    }
    let records = source.bytes(run);
    *run = 0..0;
    writer.append_claimed(records)
}

fn cannot_write(shared: &Shared, writer: &SegmentWriter, error: io::Error) -> Failure {
    Failure::io("write", &shared.files.path(writer.id()))(error)
}
