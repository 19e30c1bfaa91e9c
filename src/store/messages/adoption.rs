//! Files without a row. In: such files, and what the journal has of their queue; out: those that only they have, in the log.
//!
//! A crash in a checkpoint leaves files without rows, and all that is in them is in the journal, which was not recycled. A
//! catalogue that was lost leaves files of which the journal may have a part, or nothing. As positions of a lane grow with
//! places in the journal, what tells the two apart is the first position that the journal has: what lies before it is only in
//! the file, and what lies behind is cut off, because after a power cut only the journal is certain.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::recovery::Recovering;
use super::report::FindingKind;
use crate::model::Position;
use crate::store::StoreError;
use crate::store::disk::Access;
use crate::store::journal::Lsn;
use crate::store::quarantine::{Piece, Quarantine};
use crate::store::queue_log::{FoundSegment, JournalEntry, SegmentId};
use crate::store::record::Run;
use crate::store::segments::{ScannedRecord, SegmentFiles, scan, seal, spans};

/// A file without a row that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: SegmentId,
    /// It has a row, and that is damaged.
    pub(super) has_bad_row: bool,
}

/// A record of the journal, for one queue.
#[derive(Clone, Debug)]
pub(super) enum Held {
    Message(JournalEntry),
    Settled(Lsn, Vec<Run>),
    Purged(Lsn, Vec<Position>, Vec<Run>),
    Requeued(Lsn, Vec<(Position, u32, u32)>),
}

impl Recovering {
    /// Takes a record: at once, or once it is known which files are taken over.
    pub(super) fn replay(&mut self, record: Held) {
        match self.candidates.is_empty() {
            true => self.apply(record),
            false => self.held.push(record),
        }
    }

    fn apply(&mut self, record: Held) {
        match record {
            Held::Message(entry) => {
                self.log.replay_message(entry);
            }
            Held::Settled(lsn, runs) => self.log.replay_settled(lsn, &runs),
            Held::Purged(lsn, last, survivors) => self.log.replay_purged(lsn, &last, &survivors),
            Held::Requeued(lsn, counts) => self.log.replay_requeued(lsn, &counts),
        }
    }
}

/// Decides what becomes of a queue's files without rows, and replays what was held back.
///
/// # Errors
/// The system's.
pub(super) fn adopt(
    files: &SegmentFiles,
    quarantine: &Quarantine,
    queue: &mut Recovering,
    is_rebuilt: bool,
) -> Result<(), StoreError> {
    let mut candidates = std::mem::take(&mut queue.candidates);
    if candidates.is_empty() {
        return Ok(());
    }
    // The latest version first: one that is whole makes the others superfluous.
    candidates.sort_by_key(|Candidate { id, .. }| (id.lane, id.number, Reverse(id.version)));
    let mut adopted: HashSet<(u8, u32)> = HashSet::new();
    for candidate in candidates {
        let id = candidate.id;
        if adopted.contains(&(id.lane, id.number)) {
            queue.remove(files, id)?;
            let detail = format!("{} is removed", files.path(id).display());
            queue.find(FindingKind::UnfinishedCompaction, detail);
            continue;
        }
        let limit = queue.firsts.get(&id.lane).copied();
        // Without a checkpoint, a journal that has the lane from its begin has all of it.
        let is_in_journal = limit.is_some_and(|first| first.sequence() == 1);
        let keeps_unreadable = candidate.has_bad_row || is_rebuilt && !is_in_journal;
        if adopt_file(files, quarantine, queue, id, limit, keeps_unreadable)? {
            adopted.insert((id.lane, id.number));
        }
    }
    for record in std::mem::take(&mut queue.held) {
        queue.apply(record);
    }
    Ok(())
}

fn adopt_file(
    files: &SegmentFiles,
    quarantine: &Quarantine,
    queue: &mut Recovering,
    id: SegmentId,
    limit: Option<Position>,
    keeps_unreadable: bool,
) -> Result<bool, StoreError> {
    let path = files.path(id);
    let file = files
        .disk()
        .open(&path, Access::Write)
        .map_err(StoreError::io("open", &path))?;
    let bytes = file.len().map_err(StoreError::io("read", &path))?;
    let scanned = scan(&*file, id, bytes).map_err(StoreError::io("read", &path))?;
    let is_before = |position: Position| limit.is_none_or(|limit| position < limit);
    let all = scanned.records.len();
    let records: Vec<_> = scanned
        .records
        .iter()
        .filter(|record| is_before(record.position))
        .copied()
        .collect();
    let Some(last) = records.last() else {
        if all == 0 && keeps_unreadable && bytes > 0 {
            let detail = format!("{} has no sound record and is set aside", path.display());
            quarantine.move_file(&path, "a segment without a sound record");
            queue.find(FindingKind::Unreadable, detail);
        } else {
            queue.remove(files, id)?;
            let detail = format!(
                "{} is removed, the journal has its {all} messages",
                path.display()
            );
            queue.find(FindingKind::UnfinishedCheckpoint, detail);
        }
        return Ok(false);
    };
    let is_whole = records.len() == all && scanned.is_sealed;
    let end = last.end;
    for (range, position) in &scanned.damaged {
        if range.start >= end && !is_whole {
            continue;
        }
        let piece = Piece {
            file: &path,
            offset: range.start,
            queue: Some(id.queue),
            position: *position,
            reason: "no sound record",
        };
        quarantine.keep(&piece, &files.bytes_of(&*file, range.clone()));
        let whose = position.map_or("unknown".to_owned(), |position| position.to_string());
        let detail = format!("{} at {}, position {whose}", path.display(), range.start);
        queue.find(FindingKind::Unreadable, detail);
    }
    let messages = records.len();
    let bytes = match is_whole {
        true => file.sync_data().map(|()| bytes),
        false => seal(&*file, &records),
    }
    .and_then(|bytes| {
        let folder = files.queue_folder(id.queue);
        files.disk().sync_folder(&folder).map(|()| bytes)
    })
    .map_err(StoreError::io("sync", &path))?;
    if !queue.log.adopt(found(id, bytes, &records)) {
        let detail = format!(
            "{} has what other files have, and is set aside",
            path.display()
        );
        quarantine.move_file(&path, "a segment without a row that overlaps others");
        queue.find(FindingKind::Unreadable, detail);
        return Ok(false);
    }
    let detail = format!("{}: {messages} of {all} messages", path.display());
    queue.find(FindingKind::Adopted, detail);
    Ok(true)
}

/// What a log is told of a sealed file of which `records` count.
pub(super) fn found(id: SegmentId, bytes: u64, records: &[ScannedRecord]) -> FoundSegment {
    let sizes = records.iter().map(|record| u64::from(record.body_bytes));
    FoundSegment {
        id,
        bytes,
        is_sealed: true,
        may_expire: records.iter().any(|record| record.may_expire),
        body_bytes: sizes.sum(),
        present: spans(records.iter().map(|record| record.position)),
        blobs: records
            .iter()
            .filter_map(|record| Some((record.position, record.blob?)))
            .collect(),
    }
}
