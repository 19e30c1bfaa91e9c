//! Rows against files. In: a queue's rows and the files of its folder; out: a log that claims no more than is there, files that
//! have no more than the log claims, and the files that have no row.

use std::collections::HashSet;
use std::io;

use super::adoption::{Candidate, found};
use super::recovery::{Recovering, Row};
use super::report::FindingKind;
use crate::model::Position;
use crate::store::StoreError;
use crate::store::disk::Access;
use crate::store::queue_log::{RowProblem, SegmentId, SegmentInfo, Span, segment_of_key};
use crate::store::segments::{Compacted, Found, SegmentFiles, compact, scan, spans};

/// Compares a queue's rows with its files.
///
/// # Errors
/// The system's.
pub(super) fn inspect(
    files: &SegmentFiles,
    queue: &mut Recovering,
    rows: &[Row],
    problems: &[RowProblem],
    listed_files: Vec<Found>,
) -> Result<(), StoreError> {
    for problem in problems {
        let detail = match problem.segment {
            Some(id) => format!("{}: {}", files.path(id).display(), problem.reason),
            None => format!("{:02x?}: {}", problem.key, problem.reason),
        };
        queue.find(FindingKind::RowDamaged, detail);
    }
    let unusable: HashSet<SegmentId> = problems
        .iter()
        .filter_map(|problem| problem.segment)
        .collect();
    let named: HashSet<SegmentId> = rows
        .iter()
        .filter_map(|(key, _)| segment_of_key(key))
        .filter(|id| !unusable.contains(id))
        .collect();
    let is_there: HashSet<SegmentId> = listed_files.iter().map(|file| file.id).collect();
    for file in listed_files {
        let is_other_version =
            |other: &&SegmentId| other.lane == file.id.lane && other.number == file.id.number;
        if file.id.is_transient {
            files
                .void(&file)
                .map_err(StoreError::io("rename", &file.path))?;
        } else if named.contains(&file.id) {
            continue;
        } else if named.iter().any(|other| is_other_version(&other)) {
            queue.remove(files, file.id)?;
            queue.find(
                FindingKind::UnfinishedCompaction,
                format!("{} is removed", file.path.display()),
            );
        } else {
            queue.candidates.push(Candidate {
                has_bad_row: unusable.contains(&file.id),
                id: file.id,
            });
        }
    }
    for info in queue.log.segments() {
        if is_there.contains(&info.id) {
            compare(files, queue, &info)?;
        } else {
            let lost = queue.log.segment_lost(info.id);
            missing(files, queue, info.id, &lost);
        }
    }
    Ok(())
}

/// Compares a file's length with its row.
fn compare(
    files: &SegmentFiles,
    queue: &mut Recovering,
    info: &SegmentInfo,
) -> Result<(), StoreError> {
    let path = files.path(info.id);
    let file = files
        .disk()
        .open(&path, Access::Write)
        .map_err(StoreError::io("open", &path))?;
    let bytes = file.len().map_err(StoreError::io("read", &path))?;
    if bytes == info.bytes {
        return Ok(());
    }
    if bytes > info.bytes {
        file.set_len(info.bytes)
            .map_err(StoreError::io("cut", &path))?;
        queue.find(
            FindingKind::LongerThanRow,
            format!(
                "{} is cut from {bytes} to {} bytes",
                path.display(),
                info.bytes
            ),
        );
        return Ok(());
    }
    let scanned = scan(&*file, info.id, bytes).map_err(StoreError::io("read", &path))?;
    let live = queue.log.segment_lost(info.id);
    let is_live = |position: Position| {
        live.iter()
            .any(|span| (span.first..=span.last).contains(&position))
    };
    let records: Vec<_> = scanned
        .records
        .iter()
        .filter(|record| is_live(record.position))
        .copied()
        .collect();
    let present = spans(records.iter().map(|record| record.position));
    if !records.is_empty() {
        let new = SegmentId {
            version: info.id.version + 1,
            ..info.id
        };
        let bytes = copy(files, info.id, scanned.end(), &present, new)
            .map_err(StoreError::io("copy", &path))?;
        queue.log.adopt(found(new, bytes, &records));
    }
    let lost = without(&live, &present);
    queue.find(
        FindingKind::Shorter,
        format!(
            "{} has {bytes} of {} bytes; {} messages are lost: {}",
            path.display(),
            info.bytes,
            count(&lost),
            listed(&lost)
        ),
    );
    Ok(())
}

/// Copies what is left of a segment to a new one, durably. The old one's row says «dead» from the next commit on, and its file
/// goes then.
fn copy(
    files: &SegmentFiles,
    old: SegmentId,
    records_end: u64,
    present: &[Span],
    new: SegmentId,
) -> io::Result<u64> {
    let old = files.open(old, records_end, || Some(false))?;
    let compacted = compact(files, &old, present, new, true, &mut Vec::new(), Vec::new())?;
    let Compacted::Written { written, .. } = compacted else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    written.file.sync_data()?;
    files.disk().sync_folder(&files.queue_folder(new.queue))?;
    Ok(written.bytes)
}

/// Reports a file that is not there.
fn missing(files: &SegmentFiles, queue: &mut Recovering, id: SegmentId, lost: &[Span]) {
    let path = files.path(id);
    queue.find(
        FindingKind::Missing,
        format!(
            "{} is not there; {} messages are lost: {}",
            path.display(),
            count(lost),
            listed(lost)
        ),
    );
}

/// What of `spans` is not in `taken`; both ascend, and what is taken lies in the spans.
fn without(spans: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    for span in spans {
        let mut first = span.first;
        for inner in taken
            .iter()
            .filter(|inner| inner.first >= span.first && inner.last <= span.last)
        {
            if inner.first > first {
                left.push(Span {
                    first,
                    last: Position(inner.first.0 - 1),
                });
            }
            first = inner.last.next();
        }
        if first <= span.last {
            left.push(Span {
                first,
                last: span.last,
            });
        }
    }
    left
}

fn count(spans: &[Span]) -> u64 {
    spans
        .iter()
        .map(|span| span.last.0 - span.first.0 + 1)
        .sum()
}

/// Positions for people: the first few spans.
fn listed(spans: &[Span]) -> String {
    const SHOWN: usize = 8;
    let mut texts: Vec<String> = spans
        .iter()
        .take(SHOWN)
        .map(|span| match span.first == span.last {
            true => span.first.to_string(),
            false => format!("{}..={}", span.first, span.last),
        })
        .collect();
    if spans.len() > SHOWN {
        texts.push(format!("and {} more ranges", spans.len() - SHOWN));
    }
    match texts.is_empty() {
        true => "none".to_owned(),
        false => texts.join(", "),
    }
}
