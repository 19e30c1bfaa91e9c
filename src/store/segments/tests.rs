//! Files are written, read by position, scanned, compacted; damage costs the record that it hits, no other.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::model::{Message, Position, QueueId, WallMs};
use crate::protocol::{Properties, PropertyFacts};
use crate::store::disk::{Access, Disk, RealDisk, SimDisk};
use crate::store::queue_log::{SegmentId, SegmentInfo, Span};
use crate::store::record::{self, Target};

const ID: SegmentId = SegmentId {
    queue: QueueId(7),
    lane: 4,
    number: 3,
    version: 0,
    is_transient: false,
};

fn position(sequence: u64) -> Position {
    Position::new(ID.lane, sequence)
}

fn span(first: u64, last: u64) -> Span {
    Span {
        first: position(first),
        last: position(last),
    }
}

fn body(sequence: u64) -> Vec<u8> {
    let byte = sequence as u8;
    vec![byte; 100 + (sequence as usize * 37) % 3000]
}

fn put(writer: &mut SegmentWriter, sequence: u64) {
    let properties = Properties::default().to_encoded();
    let facts = PropertyFacts::of(&properties).unwrap();
    let message = Message::copied("ex".into(), b"key", &properties, facts, &body(sequence));
    let target = Target {
        queue: ID.queue,
        position: position(sequence),
        deadline_ms: if sequence.is_multiple_of(2) {
            WallMs::MAX
        } else {
            99
        },
        is_transient: false,
    };
    writer
        .put(position(sequence), |out, at| {
            record::put_message(out, at, &message, &[target], None);
        })
        .unwrap();
}

/// The record of a message that is to lie at `at`.
fn record_at(sequence: u64, at: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let message = Message::copied(
        "ex".into(),
        b"key",
        &[0, 0],
        PropertyFacts::of(&[0, 0]).unwrap(),
        &body(sequence),
    );
    let target = Target {
        queue: ID.queue,
        position: position(sequence),
        deadline_ms: WallMs::MAX,
        is_transient: false,
    };
    record::put_message(&mut bytes, at, &message, &[target], None);
    bytes
}

/// A file with every third position left out.
fn written(disk: &SimDisk, messages: u64, seal: bool) -> (SegmentFiles, u64) {
    let files = SegmentFiles::new(Arc::new(disk.clone()), Path::new("/data"));
    disk.make_folder(&files.queue_folder(ID.queue)).unwrap();
    let mut writer = SegmentWriter::create(&files, ID, Vec::new()).unwrap();
    for sequence in (1..=messages).filter(|sequence| !sequence.is_multiple_of(3)) {
        put(&mut writer, sequence);
    }
    let written = writer.finish(&files, seal).unwrap();
    (files, written.bytes)
}

fn disk() -> SimDisk {
    SimDisk::with_folder(Path::new("/data"))
}

/// What a read gives: sequences, `-` before what is missing, `!` for damage.
fn read(files: &SegmentFiles, bytes: u64, is_sealed: bool, spans: &[Span]) -> Vec<String> {
    let segment = files.open(ID, bytes, || Some(is_sealed)).unwrap();
    let mut seen = Vec::new();
    let mut buffer = Vec::new();
    read_spans(&segment, spans, u64::MAX, &mut buffer, &mut |item| {
        seen.push(match item {
            Item::Record {
                target, body: read, ..
            } => {
                let sequence = target.position.sequence();
                assert_eq!(read, body(sequence));
                sequence.to_string()
            }
            Item::Damaged { position, .. } => {
                format!("!{}", position.map_or(0, Position::sequence))
            }
            Item::Missing(position) => format!("-{}", position.sequence()),
        });
        true
    })
    .unwrap();
    seen
}

#[test]
fn positions_are_found_in_sealed_and_growing_files() {
    for seal in [false, true] {
        let (files, bytes) = written(&disk(), 900, seal);
        for _ in 0..2 {
            let seen = read(
                &files,
                bytes,
                seal,
                &[span(2, 2), span(4, 5), span(898, 899)],
            );
            assert_eq!(seen, ["2", "4", "5", "898", "899"]);
        }
        assert_eq!(read(&files, bytes, seal, &[]), Vec::<String>::new());
        let all = read(&files, bytes, seal, &[span(1, 900)]);
        let expected: Vec<String> = (1..=900_u64)
            .map(|n| {
                if n.is_multiple_of(3) {
                    format!("-{n}")
                } else {
                    n.to_string()
                }
            })
            .collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn a_new_process_finds_positions_without_what_the_old_one_knew() {
    for seal in [false, true] {
        let disk = disk();
        let (_, bytes) = written(&disk, 900, seal);
        let files = SegmentFiles::new(Arc::new(disk), Path::new("/data"));
        assert_eq!(read(&files, bytes, seal, &[span(700, 701)]), ["700", "701"]);
        let segment = files.open(ID, bytes, || None).unwrap();
        let skipped = segment.offset_before(position(700));
        assert!(skipped > 64 * 1024, "begins at {skipped}");
    }
}

#[test]
fn a_growing_file_goes_on_behind_what_counts() {
    let disk = disk();
    let (files, bytes) = written(&disk, 10, false);
    let info = SegmentInfo {
        id: ID,
        first: position(1),
        last: position(10),
        messages: 7,
        live_messages: 7,
        live_body_bytes: 0,
        bytes,
        is_sealed: false,
        may_expire: true,
    };
    // The remains of an attempt that was given up are behind it.
    let path = files.path(ID);
    let file = disk.open(&path, Access::Write).unwrap();
    file.write_all_at(&[9; 5000], bytes).unwrap();
    let mut writer = SegmentWriter::extend(&files, &info, Vec::new()).unwrap();
    put(&mut writer, 11);
    assert_eq!(writer.messages(), 8);
    let grown = writer.finish(&files, true).unwrap();
    assert_eq!(file.len().unwrap(), grown.bytes);
    assert_eq!(
        read(&files, grown.bytes, true, &[span(10, 11)]),
        ["10", "11"]
    );
    let scanned = scan(&*file, ID, grown.bytes).unwrap();
    assert!(scanned.is_sealed && scanned.damaged.is_empty());
    assert_eq!(scanned.records.len(), 8);

    let shorter = SegmentInfo {
        bytes: grown.bytes + 1,
        ..info
    };
    let error = SegmentWriter::extend(&files, &shorter, Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn every_damaged_byte_costs_one_record_at_most() {
    let disk = disk();
    let (files, bytes) = written(&disk, 6, true);
    let path = files.path(ID);
    let all = ["1", "2", "4", "5"];
    let whole = disk.content(&path).unwrap();
    for at in 0..bytes as usize {
        if !at.is_multiple_of(7) && at > 300 {
            continue;
        }
        disk.damage(&path, |content| content[at] ^= 0x40);
        files.forget(ID);
        let seen = read(&files, bytes, true, &[span(1, 2), span(4, 5)]);
        let good: Vec<&str> = all
            .into_iter()
            .filter(|sequence| seen.iter().any(|seen| seen == sequence))
            .collect();
        assert!(good.len() >= 3, "byte {at}: {seen:?}");
        // What is not read is told, by its position.
        let told = |sequence: &str| {
            seen.iter()
                .any(|seen| *seen == format!("!{sequence}") || *seen == format!("-{sequence}"))
        };
        assert!(
            all.into_iter()
                .all(|sequence| good.contains(&sequence) || told(sequence)),
            "byte {at}: {seen:?}"
        );
        disk.damage(&path, |content| content.copy_from_slice(&whole));
    }
}

#[test]
fn a_cut_file_gives_what_is_there() {
    let disk = disk();
    let (files, bytes) = written(&disk, 6, false);
    let path = files.path(ID);
    let file = disk.open(&path, Access::Write).unwrap();
    for cut in (0..bytes).rev().step_by(13) {
        file.set_len(cut).unwrap();
        let scanned = scan(&*file, ID, cut).unwrap();
        assert!(scanned.records.len() < 4 && scanned.end() <= cut.max(HEADER_BYTES));
        files.forget(ID);
        let seen = read(&files, bytes, false, &[span(1, 1), span(5, 5)]);
        assert!(seen.contains(&"-5".to_owned()), "{seen:?}");
    }
}

#[test]
fn the_footer_of_a_message_is_not_taken_for_the_files() {
    let disk = disk();
    let (files, bytes) = written(&disk, 6, true);
    let footer = disk.content(&files.path(ID)).unwrap();
    let footer = &footer[footer.len() - 100..];
    let properties = Properties::default().to_encoded();
    let facts = PropertyFacts::of(&properties).unwrap();
    let message = Message::copied("".into(), b"", &properties, facts, footer);
    let other = SegmentId { number: 9, ..ID };
    let mut writer = SegmentWriter::create(&files, other, Vec::new()).unwrap();
    let target = Target {
        queue: ID.queue,
        position: position(1),
        deadline_ms: WallMs::MAX,
        is_transient: false,
    };
    writer
        .put(position(1), |out, at| {
            record::put_message(out, at, &message, &[target], None);
        })
        .unwrap();
    let written = writer.finish(&files, false).unwrap();
    let scanned = scan(&*written.file, other, written.bytes).unwrap();
    assert_eq!((scanned.records.len(), scanned.is_sealed), (1, false));
    assert!(bytes > 0);
}

#[test]
fn a_file_under_another_name_has_no_records() {
    let disk = disk();
    let (files, bytes) = written(&disk, 6, false);
    let other = SegmentId { number: 4, ..ID };
    disk.rename(&files.path(ID), &files.path(other)).unwrap();
    let file = disk.open(&files.path(other), Access::Read).unwrap();
    assert!(scan(&*file, other, bytes).unwrap().records.is_empty());
}

#[test]
fn a_compacted_file_has_what_lives() {
    let disk = disk();
    let (files, bytes) = written(&disk, 900, true);
    let old = files.open(ID, bytes, || Some(true)).unwrap();
    let new = SegmentId { version: 1, ..ID };
    let live = [span(2, 2), span(500, 500), span(898, 899)];
    let compacted = compact(&files, &old, &live, new, true, &mut Vec::new(), Vec::new()).unwrap();
    let Compacted::Written { written, messages } = compacted else {
        panic!("damaged");
    };
    assert_eq!(messages, 4);
    assert!(written.bytes < 16 * 1024);
    let scanned = scan(&*written.file, new, written.bytes).unwrap();
    assert!(scanned.is_sealed);
    let found: Vec<Position> = scanned
        .records
        .iter()
        .map(|record| record.position)
        .collect();
    assert_eq!(spans(found), live);

    disk.damage(&files.path(ID), |content| content[100] ^= 1);
    let all = [span(1, 2)];
    let compacted = compact(&files, &old, &all, new, true, &mut Vec::new(), Vec::new()).unwrap();
    assert!(matches!(compacted, Compacted::Damaged));
}

#[test]
fn a_cut_file_is_sealed_where_it_ends() {
    let disk = disk();
    let (files, bytes) = written(&disk, 900, false);
    let file = disk.open(&files.path(ID), Access::Write).unwrap();
    let scanned = scan(&*file, ID, bytes / 2).unwrap();
    let sealed = seal(&*file, &scanned.records).unwrap();
    assert_eq!(file.len().unwrap(), sealed);
    let again = scan(&*file, ID, sealed).unwrap();
    assert!(again.is_sealed && again.damaged.is_empty());
    assert_eq!(again.records, scanned.records);
}

#[test]
fn the_disk_of_the_machine_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk);
    let files = SegmentFiles::new(disk.clone(), folder.path());
    let missing = SegmentWriter::create(&files, ID, Vec::new()).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    disk.make_folder(&files.queue_folder(ID.queue)).unwrap();
    let mut writer = SegmentWriter::create(&files, ID, Vec::new()).unwrap();
    for sequence in [1, 2, 4, 5] {
        put(&mut writer, sequence);
    }
    let written = writer.finish(&files, true).unwrap();
    written.file.sync_data().unwrap();
    disk.sync_folder(&files.queue_folder(ID.queue)).unwrap();
    let seen = read(&files, written.bytes, true, &[span(2, 5)]);
    assert_eq!(seen, ["2", "-3", "4", "5"]);
    assert_eq!(files.list().unwrap().0.len(), 1);
    files.cut(ID, 0).unwrap();
    assert!(files.list().unwrap().0.is_empty());
}

#[test]
fn names_come_back_from_the_folder() {
    let disk = disk();
    let (files, _) = written(&disk, 3, true);
    let transient = SegmentId {
        is_transient: true,
        ..ID
    };
    SegmentWriter::create(&files, transient, Vec::new())
        .unwrap()
        .finish(&files, false)
        .unwrap();
    let stranger = files.queue_folder(ID.queue).join("readme.txt");
    disk.open(&stranger, Access::Create).unwrap();
    let (found, queues) = files.list().unwrap();
    let ids: Vec<SegmentId> = found.iter().map(|found| found.id).collect();
    assert_eq!((ids, queues), (vec![ID, transient], vec![ID.queue]));
    let transient = found.last().unwrap();
    files.void(transient).unwrap();
    assert_eq!(files.list().unwrap().0.len(), 1);
    files.remove_void().unwrap();
    files.remove_void().unwrap();
    assert!(disk.list(&files.folder().join("void")).unwrap().is_empty());
}

#[test]
fn a_file_that_was_removed_is_not_read_through_its_old_handle() {
    let (files, bytes) = written(&disk(), 6, true);
    files.open(ID, bytes, || Some(true)).unwrap();
    files.remove(ID).unwrap();
    files.remove(ID).unwrap();
    let error = files.open(ID, bytes, || Some(true)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn records_that_were_claimed_lie_where_they_were_told() {
    let disk = disk();
    let files = SegmentFiles::new(Arc::new(disk.clone()), Path::new("/data"));
    disk.make_folder(&files.queue_folder(ID.queue)).unwrap();
    let mut writer = SegmentWriter::create(&files, ID, Vec::new()).unwrap();
    // Runs that go through the buffer, and runs that are written at once, with other records between them.
    let mut sequence = 0;
    for length in [1, 60, 3, 100, 2] {
        let mut run = Vec::new();
        for _ in 0..length {
            sequence += 1;
            let bytes = record_at(sequence, 0).len() as u32;
            let at = writer.claim(position(sequence), bytes);
            run.extend(record_at(sequence, at));
        }
        writer.append_claimed(&run).unwrap();
        sequence += 1;
        put(&mut writer, sequence);
    }
    assert_eq!(u64::from(writer.messages()), sequence);
    let records_end = writer.records_end();
    let written = writer.finish(&files, true).unwrap();
    let scanned = scan(&*written.file, ID, written.bytes).unwrap();
    assert!(scanned.is_sealed && scanned.damaged.is_empty());
    assert_eq!(scanned.records.len() as u64, sequence);
    assert!(records_end < written.bytes, "the footer comes last");
    let expected: Vec<String> = (1..=sequence)
        .map(|sequence| sequence.to_string())
        .collect();
    assert_eq!(
        read(&files, written.bytes, true, &[span(1, sequence)]),
        expected
    );
}

#[test]
fn other_bytes_than_were_claimed_are_refused() {
    let disk = disk();
    let files = SegmentFiles::new(Arc::new(disk.clone()), Path::new("/data"));
    disk.make_folder(&files.queue_folder(ID.queue)).unwrap();
    let mut writer = SegmentWriter::create(&files, ID, Vec::new()).unwrap();
    writer.claim(position(1), 64);
    let error = writer.append_claimed(&[0; 63]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
