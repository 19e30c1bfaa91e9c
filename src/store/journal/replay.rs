//! What the journal holds at start, and what is made of damage.
//!
//! In: the folder, and from where on its records are needed. Out: each record, in order, and what the journal needs to go on; a report
//! with one case for each thing that was not as it should be. What a record does to a queue is not known here.
//!
//! A frame that is whole is used. What is made of one that is not depends on whether it had been synced, which later frames tell: each
//! names the last synced frame before it, a later file means that all before is synced, and so does the mark of a clean stop.
//!
//! | case | sign | what is done |
//! |---|---|---|
//! | [`ReplayCase::TornTail`] | a frame is not whole and nothing says that it was synced | dropped as a whole: it was confirmed to nobody |
//! | [`ReplayCase::DamageInside`] | a frame that was synced is not whole | sound records are used, the rest is set aside and reported |
//! | [`ReplayCase::CutFile`] | a file ends before its frames do | the same |
//! | [`ReplayCase::MissingFile`] | a file starts behind the end of the one before, or behind the checkpoint | the gap is reported |
//! | [`ReplayCase::HeaderUnreadable`] | block 0 of a file is damaged | its frames tell what it said; if there are none, the file is set aside |
//! | [`ReplayCase::Unreadable`] | the disk fails to read parts of a file | they are taken for zeros, the rest is used |
//! | [`ReplayCase::UnusedFile`] | the last file has no header of its own yet, and no frame | it is begun again |
//! | [`ReplayCase::StaleBytes`] | behind the last frame is one of the file's former life | that is the end |
//! | [`ReplayCase::EndsEarly`] | the mark of a clean stop is behind the end | the gap is reported |
//!
//! Frames that nobody is known to have synced are written and synced again, so that what is used here cannot be lost by a later
//! power cut: after kill -9, or a failed sync, they may be in the system's memory alone.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{FoundFile, QueueList, generation_of, is_spare};
use super::format::{
    BLOCK_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameHeader, HeaderFault, VERSION,
};
use super::report::{DamagedPiece, ReplayCase, ReplayReport};
use super::scan::{Part, Reader, Slot, is_whole, salvage};
use super::writer::new_seed;
use super::{FOLDER, Lsn, SealedFile};
use crate::store::StoreError;
use crate::store::disk::{Access, Disk};
use crate::store::quarantine::{Piece, Quarantine};
use crate::store::record::{Content, Damage, Head};

/// Damaged pieces that are listed; the others are counted.
const DAMAGED_LISTED_MAX: usize = 10_000;

/// What replay found, from which the journal goes on.
#[derive(Debug)]
pub struct Recovered {
    /// What was found.
    pub report: ReplayReport,
    pub(super) files: Vec<FoundFile>,
    /// Files that hold nothing that is needed.
    pub(super) unused: Vec<PathBuf>,
    pub(super) next: FileHeader,
}

impl Recovered {
    /// Lets the journal go on behind `lsn`, if it does not anyway: somebody knows of records up to there, which are lost. Their
    /// places are not given again. Gives the place at which it goes on, which is the report's end from now on.
    pub fn go_on_behind(&mut self, lsn: Lsn) -> Lsn {
        if lsn > self.next.start
            && let Some(start) = lsn.0.checked_next_multiple_of(BLOCK_BYTES)
        {
            self.next.start = Lsn(start);
            self.report.end = Lsn(start);
        }
        self.next.start
    }
}

/// Is handed each record: its place, its bytes in the journal, what it says, its body.
pub type Visit<'a> = dyn FnMut(Lsn, u32, Content<'_>, &[u8]) + 'a;

/// Hands out every record from `from` on, in order. `clean_end` is where the
/// journal was last closed, if it was closed in order. Damaged pieces are set aside (see [`Quarantine`]).
///
/// # Errors
/// A folder or file cannot be opened, a file was written by a later program, or what was found cannot be synced. Damage is
/// no error.
pub fn replay(
    disk: &Arc<dyn Disk>,
    data_folder: &Path,
    from: Lsn,
    clean_end: Option<Lsn>,
    visit: &mut Visit<'_>,
) -> Result<Recovered, StoreError> {
    let folder = data_folder.join(FOLDER);
    let paths = disk
        .list(&folder)
        .map_err(StoreError::io("read", &folder))?;
    let mut unused: Vec<_> = paths
        .iter()
        .filter(|path| is_spare(path))
        .cloned()
        .collect();
    let mut files = paths
        .iter()
        .filter_map(|path| generation_of(path).map(|generation| (generation, path)))
        .map(|(generation, path)| Opened::new(disk.as_ref(), generation, path))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(|file| file.generation);

    // What lies in files before the one with `from` is not needed, whatever it is.
    let needed = files
        .iter()
        .rposition(|file| file.header.is_some_and(|header| header.start <= from));
    let passed = files.drain(..needed.unwrap_or(0));
    unused.extend(passed.map(|file| file.path));

    let mut replay = Replay {
        quarantine: Quarantine::new(disk.clone(), data_folder),
        from,
        clean_end,
        visit,
        report: ReplayReport::default(),
        found: Vec::new(),
        unused,
        last: None,
        end: from,
        number: 0,
    };
    let known_end = clean_end.unwrap_or_default();
    if files.is_empty() && from.max(known_end) > Lsn(0) && clean_end != Some(from) {
        replay.note(ReplayCase::MissingFile {
            from,
            to: clean_end,
        });
    }
    replay.files(files)?;
    Ok(replay.finish())
}

/// A file as it was found.
struct Opened {
    generation: u64,
    path: PathBuf,
    reader: Reader,
    header: Option<FileHeader>,
    state: HeaderState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderState {
    Sound,
    /// Empty, or of a former life: the file was about to be begun.
    NotBegun,
    Damaged,
}

impl Opened {
    fn new(disk: &dyn Disk, generation: u64, path: &Path) -> Result<Self, StoreError> {
        let file = disk
            .open(path, Access::Write)
            .map_err(StoreError::io("open", path))?;
        let len = file.len().map_err(StoreError::io("read", path))?;
        let reader = Reader {
            file: file.into(),
            len,
            error: RefCell::default(),
        };
        let (block, is_complete) = reader.read(0, BLOCK_BYTES);
        // In a file that was never begun again after its former life there is nothing of this one, whatever it looks like.
        let guess = || reader.guess_header(generation);
        let (header, state) = match FileHeader::parse(&block) {
            Ok(header) if header.generation == generation => (Some(header), HeaderState::Sound),
            Ok(_) => (None, HeaderState::NotBegun),
            Err(HeaderFault::Empty) if is_complete => match guess() {
                None => (None, HeaderState::NotBegun),
                header => (header, HeaderState::Damaged),
            },
            Err(HeaderFault::Empty | HeaderFault::Unreadable) => (guess(), HeaderState::Damaged),
            Err(HeaderFault::Newer(found)) => {
                return Err(StoreError::NewerFormat {
                    path: path.to_owned(),
                    found: u64::from(found),
                    supported: u64::from(VERSION),
                });
            }
        };
        Ok(Self {
            generation,
            path: path.to_owned(),
            reader,
            header,
            state,
        })
    }
}

struct Replay<'a> {
    quarantine: Quarantine,
    from: Lsn,
    clean_end: Option<Lsn>,
    visit: &'a mut Visit<'a>,
    report: ReplayReport,
    found: Vec<FoundFile>,
    unused: Vec<PathBuf>,
    /// The last file with a header, and whether there is anything in it.
    last: Option<(FileHeader, bool)>,
    /// The end of what was used so far, or where it should begin.
    end: Lsn,
    /// The number of the last frame that was used.
    number: u64,
}

/// What is known of a file besides its content.
struct Bounds {
    /// Where the next file says that it ends, as an offset.
    end: Option<u64>,
    is_last: bool,
}

impl Replay<'_> {
    fn files(&mut self, files: Vec<Opened>) -> Result<(), StoreError> {
        let count = files.len();
        let last_with_header = files.iter().rposition(|file| file.header.is_some());
        let next_headers: Vec<_> = files.iter().skip(1).map(|file| file.header).collect();
        for (index, file) in files.into_iter().enumerate() {
            let generation = file.generation;
            let Some(header) = file.header else {
                if index + 1 == count && file.state == HeaderState::NotBegun {
                    self.note(ReplayCase::UnusedFile { generation });
                    self.unused.push(file.path);
                } else {
                    self.note(ReplayCase::HeaderUnreadable {
                        generation,
                        has_frames: false,
                    });
                    drop(file.reader);
                    self.quarantine.move_file(&file.path, "no header or frame");
                }
                continue;
            };
            if file.state == HeaderState::Damaged {
                self.note(ReplayCase::HeaderUnreadable {
                    generation,
                    has_frames: true,
                });
                let (block, _) = file.reader.read(0, BLOCK_BYTES);
                self.keep(&file.path, 0, &block, "header of a file");
            }
            if self.end > Lsn(0) && header.previous_end > self.end {
                self.note(ReplayCase::MissingFile {
                    from: self.end,
                    to: Some(header.previous_end),
                });
            }
            let next = next_headers.get(index).copied().flatten();
            let end = next
                .filter(|next| next.generation == generation + 1)
                .and_then(|next| next.previous_end.0.checked_sub(header.start.0))
                .filter(|end| *end >= BLOCK_BYTES);
            let is_last = Some(index) == last_with_header;
            self.file(file, header, &Bounds { end, is_last })?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        file: Opened,
        header: FileHeader,
        bounds: &Bounds,
    ) -> Result<(), StoreError> {
        let offset_of = |lsn: Lsn| lsn.0.checked_sub(header.start.0);
        let clean_end = self.clean_end.and_then(offset_of);
        let slots = file.reader.slots(&header, bounds.end, clean_end);
        // Everything up to this frame was synced.
        let synced_number = match bounds.is_last {
            true => slots.iter().map(synced_number_of).max().unwrap_or(0),
            false => u64::MAX,
        };
        let mut queues = QueueList::default();
        let mut kept_end = 0;
        let mut dropped = Vec::new();
        let mut was_rewritten = false;
        for (index, slot) in slots.iter().enumerate() {
            let next_number = slots.get(index + 1).and_then(number_of);
            let is_synced = match number_of(slot) {
                Some(number) => number <= synced_number,
                // In a gap lie those before the next.
                None => next_number.is_none_or(|next| next - 1 <= synced_number),
            };
            let is_synced = is_synced || clean_end.is_some_and(|end| slot.start() < end);
            let Some(use_of) = self.slot(&file, &header, slot, is_synced, &mut queues) else {
                dropped.push((*slot, next_number));
                continue;
            };
            kept_end = slot.end();
            if let Slot::Frame { header: frame, .. } = slot {
                self.number = self.number.max(frame.number);
            }
            if let (Used::Whole(frame), false) = (use_of, is_synced) {
                let written = file.reader.file.write_all_at(&frame, slot.start());
                written.map_err(StoreError::io("write", &file.path))?;
                was_rewritten = true;
            }
        }
        for (slot, next_number) in dropped {
            // Without syncs, whole frames may follow. Later this must not be taken for damage.
            if slot.start() < kept_end {
                let number = number_of(&slot).or(next_number.map(|next| next - 1));
                let void =
                    FrameHeader::void(&header, slot.start()..slot.end(), number.unwrap_or(1));
                let written = file.reader.file.write_all_at(&void.encode(), slot.start());
                written.map_err(StoreError::io("write", &file.path))?;
                was_rewritten = true;
            }
        }
        if was_rewritten {
            let synced = file.reader.file.sync_data();
            synced.map_err(StoreError::io("sync", &file.path))?;
        }
        if bounds.is_last {
            let at = kept_end.max(BLOCK_BYTES);
            let behind = file.reader.header(at);
            if behind.is_some_and(|frame| frame.seed != header.seed) {
                self.note(ReplayCase::StaleBytes {
                    generation: file.generation,
                    at: Lsn(header.start.0 + at),
                });
            }
        }
        if let Some(error) = file.reader.error.take() {
            self.note(ReplayCase::Unreadable {
                generation: file.generation,
                error: error.to_string(),
            });
        }
        self.number = self.number.max(header.first_number.saturating_sub(1));
        self.last = Some((header, kept_end > 0));
        let end = bounds.end.unwrap_or(kept_end);
        if end == 0 {
            // Nothing in it: it is begun again.
            self.end = self.end.max(header.previous_end);
            return Ok(());
        }
        self.end = self.end.max(Lsn(header.start.0.saturating_add(end)));
        self.found.push(FoundFile {
            sealed: SealedFile {
                generation: file.generation,
                start: header.start,
                end: Lsn(header.start.0.saturating_add(end)),
                queues: queues.take(),
                bytes: end,
                blob_bytes: queues.take_blob_bytes(),
            },
            file: file.reader.file,
        });
        Ok(())
    }

    /// Uses what can be used of a stretch. Nothing is given if it was dropped.
    fn slot(
        &mut self,
        file: &Opened,
        header: &FileHeader,
        slot: &Slot,
        is_synced: bool,
        queues: &mut QueueList,
    ) -> Option<Used> {
        let (start, end) = (slot.start(), slot.end());
        let (base, to) = (
            Lsn(header.start.0.saturating_add(start)),
            Lsn(header.start.0.saturating_add(end)),
        );
        if to <= self.from {
            return Some(Used::Passed);
        }
        let bytes = match slot {
            Slot::Frame { header, .. } => header.bytes,
            Slot::Gap { .. } => end - start,
        };
        let (content, is_complete) = file.reader.read(start, bytes);
        if let Slot::Frame { header: frame, .. } = slot
            && is_whole(&content, frame)
        {
            self.report.frames += 1;
            self.records(file, header, frame, &content, queues);
            return Some(Used::Whole(content));
        }
        if !is_synced && is_complete {
            self.note(ReplayCase::TornTail {
                generation: file.generation,
                at: base,
                bytes,
            });
            return None;
        }
        let (generation, from) = (file.generation, base);
        self.note(match start.saturating_add(bytes) > file.reader.len {
            true => ReplayCase::CutFile {
                generation,
                from,
                to,
            },
            false => ReplayCase::DamageInside {
                generation,
                from,
                to,
            },
        });
        // The header of a frame that has one is not a damaged record.
        let skipped = match slot {
            Slot::Frame { .. } => FRAME_HEADER_BYTES.min(content.len()),
            Slot::Gap { .. } => 0,
        };
        let records_base = Lsn(base.0 + skipped as u64);
        salvage(&content[skipped..], records_base, &mut |part| match part {
            Part::Record { lsn, head, bytes } => {
                self.record(file, header, lsn, &head, bytes, queues);
            }
            Part::Body { lsn, head, bytes } => {
                self.damaged(file, header, lsn, Some(&head), bytes, Damage::Body);
            }
            Part::Unknown { lsn, bytes } => {
                self.damaged(file, header, lsn, None, bytes, Damage::NoRecord);
            }
        });
        Some(Used::InPart)
    }

    /// Hands out the records of a whole frame.
    fn records(
        &mut self,
        file: &Opened,
        header: &FileHeader,
        frame: &FrameHeader,
        content: &[u8],
        queues: &mut QueueList,
    ) {
        let mut at = FRAME_HEADER_BYTES;
        while at < content.len() && !frame.is_void() {
            let lsn = Lsn(frame.base.0 + at as u64);
            let Ok(head) = Head::parse(&content[at..], lsn.0) else {
                return;
            };
            let end = at + head.record_bytes();
            self.record(file, header, lsn, &head, &content[at..end], queues);
            at = end;
        }
    }

    /// Hands out a record whose checksums are right.
    fn record(
        &mut self,
        file: &Opened,
        header: &FileHeader,
        lsn: Lsn,
        head: &Head,
        bytes: &[u8],
        queues: &mut QueueList,
    ) {
        if lsn < self.from {
            return;
        }
        let content = match Content::parse(head, &bytes[head.meta()]) {
            Ok(content) => content,
            Err(damage) => return self.damaged(file, header, lsn, None, bytes, damage),
        };
        if let Content::Message(meta) = &content {
            for target in meta.targets() {
                queues.extend(&[target.queue]);
            }
            queues.add_blob(meta.blob.map_or(0, |blob| u64::from(blob.bytes)));
        }
        self.report.records += 1;
        (self.visit)(lsn, bytes.len() as u32, content, &bytes[head.body()]);
    }

    /// Sets bytes aside, for each queue if a head says to which they belong.
    fn damaged(
        &mut self,
        file: &Opened,
        header: &FileHeader,
        lsn: Lsn,
        head: Option<&Head>,
        bytes: &[u8],
        damage: Damage,
    ) {
        let reason = damage.to_string();
        let mut owners = Vec::new();
        if let Some(head) = head
            && let Some(meta) = bytes.get(head.meta())
            && let Ok(Content::Message(meta)) = Content::parse(head, meta)
        {
            let targets = meta.targets();
            owners.extend(targets.map(|target| (Some(target.queue), Some(target.position))));
        }
        if owners.is_empty() {
            owners.push((None, None));
        }
        for (queue, position) in owners {
            self.report.damaged_count += 1;
            if self.report.damaged.len() < DAMAGED_LISTED_MAX {
                self.report.damaged.push(DamagedPiece {
                    queue,
                    position,
                    lsn,
                    file: file.path.clone(),
                    offset: lsn.0 - header.start.0,
                    bytes: bytes.len() as u64,
                    reason: reason.clone(),
                });
            }
            let piece = Piece {
                file: &file.path,
                offset: lsn.0 - header.start.0,
                queue,
                position,
                reason: &reason,
            };
            self.quarantine.keep(&piece, bytes);
        }
    }

    fn keep(&self, file: &Path, offset: u64, content: &[u8], reason: &str) {
        let piece = Piece {
            file,
            offset,
            queue: None,
            position: None,
            reason,
        };
        self.quarantine.keep(&piece, content);
    }

    fn note(&mut self, case: ReplayCase) {
        if case.is_loss() {
            tracing::error!(
                "the journal has lost something: {case}; what is damaged is kept in the folder quarantine"
            );
        } else {
            tracing::info!("journal: {case}");
        }
        self.report.cases.push(case);
    }

    fn finish(mut self) -> Recovered {
        let clean_end = self.clean_end.unwrap_or_default();
        if clean_end > self.end && self.last.is_some() {
            self.note(ReplayCase::EndsEarly {
                end: self.end,
                clean_end,
            });
        }
        // Places are not given twice, even where records are lost.
        let next = match self.last {
            None => 0,
            Some((header, true)) => header.generation + 1,
            Some((header, false)) => header.generation,
        };
        let started = match self.last {
            Some((header, false)) => header.start,
            _ => Lsn(0),
        };
        let start = self.end.max(self.from).max(clean_end).max(started);
        let start = start.0.checked_next_multiple_of(BLOCK_BYTES);
        let start = Lsn(start.unwrap_or(self.end.0));
        let generations = self.found.iter().map(|file| file.sealed.generation + 1);
        self.report.end = start;
        Recovered {
            report: self.report,
            next: FileHeader {
                generation: generations.max().unwrap_or(0).max(next),
                start,
                previous_end: self.end.min(start),
                seed: new_seed(),
                first_number: self.number + 1,
            },
            files: self.found,
            unused: self.unused,
        }
    }
}

/// What a stretch was good for.
enum Used {
    /// It lies before what is asked for.
    Passed,
    /// A whole frame, and its bytes.
    Whole(Vec<u8>),
    /// A damaged one.
    InPart,
}

fn number_of(slot: &Slot) -> Option<u64> {
    match slot {
        Slot::Frame { header, .. } => Some(header.number),
        Slot::Gap { .. } => None,
    }
}

fn synced_number_of(slot: &Slot) -> u64 {
    match slot {
        Slot::Frame { header, .. } => header.synced_number,
        Slot::Gap { .. } => 0,
    }
}
