//! Tests of the log as a whole.

#![allow(clippy::unwrap_used)]

mod damage;
mod life;
mod model;
mod sizes;

use std::sync::Arc;

use super::*;

const QUEUE: QueueId = QueueId(7);

fn position(place: u64) -> Position {
    Position::new(0, place)
}

fn run(first: u64, count: u32, body_bytes: u32) -> Run {
    Run {
        first: position(first),
        count,
        body_bytes,
    }
}

fn span(first: u64, last: u64) -> Span {
    Span {
        first: position(first),
        last: position(last),
    }
}

/// A persistent message with a body of 100 bytes, whose record of 1000 bytes lies at its place times 1000.
fn entry(place: u64) -> JournalEntry {
    JournalEntry {
        position: position(place),
        lsn: Lsn(place * 1000),
        record_bytes: 1000,
        body_bytes: 100,
        is_transient: false,
        may_expire: false,
        has_blob: false,
    }
}

fn log() -> (QueueLog, Arc<DirtyQueues>) {
    let dirty = Arc::new(DirtyQueues::default());
    (QueueLog::new(QUEUE, Arc::clone(&dirty)), dirty)
}

/// Moves what is live in the journal at `places` to a new segment of one kind.
fn move_all(log: &mut QueueLog, is_transient: bool, is_sealed: bool) -> SegmentId {
    let mut entries = log.live_between(Lsn(0), Lsn(u64::MAX), usize::MAX);
    entries.retain(|entry| entry.is_transient == is_transient);
    let segment = log.next_segment(0, is_transient);
    let bytes = 64 + entries.len() as u64 * 1000;
    assert!(log.moved(Moved {
        segment,
        bytes,
        is_sealed,
        entries
    }));
    segment
}

/// A log with the messages 1 to `count` in one sealed segment.
fn in_segment(count: u64) -> (QueueLog, Arc<DirtyQueues>, SegmentId) {
    let (mut log, dirty) = log();
    for place in 1..=count {
        assert!(log.appended(entry(place)));
    }
    let id = move_all(&mut log, false, true);
    (log, dirty, id)
}

fn reopened(rows: &QueueRows) -> (QueueLog, Vec<RowProblem>) {
    QueueLog::from_rows(QUEUE, &rows.puts, Arc::default())
}
