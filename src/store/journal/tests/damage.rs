//! What replay makes of cut files, flipped bits and missing files: each labelled case, and that it leaves the rest alone.

use std::path::PathBuf;

use super::*;
use crate::store::disk::{Access, FaultyDisk, faulty::Operation};
use crate::store::journal::format::{BLOCK_BYTES, FileHeader, FrameHeader};

const BLOCK: usize = BLOCK_BYTES as usize;

fn file(generation: u64) -> PathBuf {
    files::path_of(Path::new("/data/journal"), generation)
}

/// Three frames of one, two and two records in one file, and what replay makes of them.
fn three_frames() -> (SimDisk, Vec<Seen>) {
    let disk = sim();
    let journal = open(&disk);
    confirmed(&journal, 1, b"one");
    for position in [2, 4] {
        {
            let mut appender = journal.append();
            for position in [position, position + 1] {
                let body = message(&[b'a' + position as u8; 30]);
                appender.message(&body, BodyCrc::of(&body), &[target(1, position)]);
            }
        }
        journal.flush().unwrap();
    }
    drop(journal);
    let (_, seen) = replay_all(&disk);
    assert_eq!(seen.len(), 5);
    (disk, seen)
}

/// Files that are full with three messages each, and the places of those.
fn full_files(count: usize) -> (SimDisk, Vec<Appended>) {
    let disk = sim();
    let options = JournalOptions {
        entries_max: 3,
        ..options()
    };
    let journal = open_with(&disk, options);
    let appended = (1..=3 * count as u64)
        .map(|position| confirmed(&journal, position, format!("body {position}").as_bytes()))
        .collect();
    (disk, appended)
}

fn sequences(seen: &[Seen]) -> Vec<u64> {
    let position = |seen: &Seen| {
        let (_, rest) = seen.what.split_once(", ")?;
        rest.split_once(')')?.0.parse().ok()
    };
    seen.iter().filter_map(position).collect()
}

/// The journal starts behind what was found, and what it then confirms is there, with what was there before.
fn goes_on(disk: &SimDisk, from: Lsn) {
    let (recovered, before) = replay_from(disk, from, None);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options()).unwrap();
    let appended = confirmed(&journal, 1000, b"later");
    for seen in &before {
        assert!(
            journal.read(seen.lsn, seen.record_bytes).is_ok(),
            "{seen:?}"
        );
    }
    drop(journal);
    let (_, after) = replay_from(&disk.lose_unsynced(), from, None);
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[before.len()].lsn, appended.lsn);
}

fn lines_of_report(disk: &SimDisk) -> usize {
    let report = disk.content(Path::new("/data/quarantine/report.jsonl"));
    let report = String::from_utf8(report.unwrap_or_default()).unwrap();
    report.lines().count()
}

#[test]
fn after_every_cut_frames_are_there_as_a_whole_or_not_at_all() {
    let (disk, all) = three_frames();
    for len in 0..4 * BLOCK {
        // Every byte where there are some, and here and there in the zeros.
        if len % BLOCK > 500 && len % 512 != 0 {
            continue;
        }
        let disk = disk.copy();
        disk.damage(&file(0), |bytes| bytes.truncate(len));
        let (recovered, seen) = replay_all(&disk);
        assert_eq!(seen, all[..seen.len()], "cut at {len}");
        assert!([0, 1, 3, 5].contains(&seen.len()), "cut at {len}: {seen:?}");
        let is_reported = recovered.report.cases.iter().any(ReplayCase::is_loss);
        // Without its header it is not known to have been begun.
        assert!(!is_reported || len < 64, "cut at {len}");
    }
}

#[test]
fn after_every_flipped_bit_nothing_wrong_is_there_and_a_loss_is_reported() {
    let (disk, all) = three_frames();
    for at in 0..4 * BLOCK {
        if at % BLOCK > 300 && at % 1024 != 0 {
            continue;
        }
        let disk = disk.copy();
        disk.damage(&file(0), |bytes| bytes[at] ^= 1 << (at % 8));
        let (recovered, seen) = replay_all(&disk);
        let missing: Vec<_> = all.iter().filter(|one| !seen.contains(one)).collect();
        assert_eq!(seen.len() + missing.len(), 5, "bit in {at}: {seen:?}");
        let last = seen.iter().filter(|one| one.lsn >= all[3].lsn).count();
        assert!(
            last == 0 || last == 2,
            "bit in {at}: half of the last frame"
        );
        if missing.iter().any(|one| one.lsn < all[3].lsn) {
            assert_eq!(missing.len(), 1, "bit in {at}");
            assert!(recovered.report.cases.iter().any(ReplayCase::is_loss));
            assert!(recovered.report.damaged_count > 0);
        }
    }
}

#[test]
fn case_torn_tail() {
    let (disk, all) = three_frames();
    disk.damage(&file(0), |bytes| bytes[3 * BLOCK + 200] ^= 1);
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(seen, all[..3]);
    let [case] = &recovered.report.cases[..] else {
        panic!("{:?}", recovered.report.cases)
    };
    let at = Lsn(3 * BLOCK_BYTES);
    assert!(matches!(case, ReplayCase::TornTail { generation: 0, at: a, .. } if *a == at));
    assert_eq!(recovered.report.end, at);
    assert_eq!(lines_of_report(&disk), 0);
    goes_on(&disk, Lsn(0));
}

#[test]
fn case_damage_inside_a_body() {
    let (disk, all) = three_frames();
    let body_end = all[2].lsn.0 as usize + all[2].record_bytes as usize;
    disk.damage(&file(0), |bytes| {
        let at = bytes[..body_end].iter().rposition(|byte| *byte != 0);
        bytes[at.unwrap()] ^= 1;
    });
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 2, 4, 5]);
    assert_eq!(
        recovered.report.cases,
        [ReplayCase::DamageInside {
            generation: 0,
            from: Lsn(2 * BLOCK_BYTES),
            to: Lsn(3 * BLOCK_BYTES),
        }]
    );
    let [piece] = &recovered.report.damaged[..] else {
        panic!("{:?}", recovered.report.damaged)
    };
    assert_eq!(
        (piece.queue, piece.position),
        (Some(QueueId(1)), Some(Position(3)))
    );
    assert_eq!(piece.lsn, all[2].lsn);
    let copy = format!(
        "/data/quarantine/journal-wal-0000000000-{:x}-1-3.piece",
        all[2].lsn.0
    );
    assert_eq!(
        disk.content(Path::new(&copy)).unwrap().len(),
        all[2].record_bytes as usize
    );
    // Found again and reported once.
    goes_on(&disk, Lsn(0));
    assert_eq!(lines_of_report(&disk), 1);
}

#[test]
fn case_damage_inside_a_head() {
    let (disk, all) = three_frames();
    // The lengths, so that the next record must be searched.
    disk.damage(&file(0), |bytes| bytes[all[1].lsn.0 as usize + 9] ^= 1);
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 3, 4, 5]);
    let [piece] = &recovered.report.damaged[..] else {
        panic!("{:?}", recovered.report.damaged)
    };
    assert_eq!((piece.queue, piece.lsn), (None, all[1].lsn));
    assert_eq!(piece.bytes, u64::from(all[1].record_bytes));
    goes_on(&disk, Lsn(0));
}

#[test]
fn case_damage_inside_of_a_frame_header() {
    let (disk, all) = three_frames();
    disk.damage(&file(0), |bytes| bytes[2 * BLOCK + 40] ^= 1);
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(seen, all);
    assert!(matches!(
        recovered.report.cases[..],
        [ReplayCase::DamageInside { .. }]
    ));
    goes_on(&disk, Lsn(0));
}

#[test]
fn case_unreadable() {
    let block = |index: u64| index * BLOCK_BYTES..(index + 1) * BLOCK_BYTES;
    for (bad, expected) in [(0, 5), (1, 4), (2, 3), (3, 3)] {
        let (disk, all) = three_frames();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        faulty.fail_reads_of("wal-", block(bad));
        let faulty: Arc<dyn Disk> = Arc::new(faulty);
        let mut lsns = Vec::new();
        let recovered = super::replay(&faulty, data(), Lsn(0), None, &mut |lsn, _, _, _| {
            lsns.push(lsn);
        });
        let report = recovered.unwrap().report;
        let is_unreadable = |case: &ReplayCase| matches!(case, ReplayCase::Unreadable { .. });
        assert!(report.cases.iter().any(is_unreadable), "{report:?}");
        assert!(report.cases.iter().any(ReplayCase::is_loss));
        let all: Vec<_> = all.iter().map(|seen| seen.lsn).collect();
        assert!(lsns.iter().all(|lsn| all.contains(lsn)));
        assert_eq!(lsns.len(), expected, "without block {bad}");
    }
}

#[test]
fn case_cut_file() {
    let (disk, appended) = full_files(2);
    let cut = appended[1].lsn.0 + 50;
    disk.damage(&file(0), |bytes| bytes.truncate(cut as usize));
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 4, 5, 6]);
    let cases = &recovered.report.cases;
    assert!(
        matches!(cases[0], ReplayCase::CutFile { generation: 0, .. }),
        "{cases:?}"
    );
    assert!(cases.iter().all(ReplayCase::is_loss));
    goes_on(&disk, Lsn(0));
}

#[test]
fn case_missing_file() {
    let (disk, appended) = full_files(4);
    disk.remove(&file(1)).unwrap();
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 2, 3, 7, 8, 9, 10, 11, 12]);
    let start = |index: usize| Lsn(appended[index].lsn.0 - 64 - BLOCK_BYTES);
    let missing = |from, to| ReplayCase::MissingFile { from, to };
    assert_eq!(recovered.report.cases, [missing(start(3), Some(start(6)))]);
    // The first one, behind the checkpoint or not.
    disk.remove(&file(0)).unwrap();
    let (recovered, _) = replay_from(&disk, start(6), None);
    assert_eq!(recovered.report.cases, []);
    let (recovered, seen) = replay_from(&disk, start(3), None);
    assert_eq!(recovered.report.cases, [missing(start(3), Some(start(6)))]);
    assert_eq!(seen.len(), 6);
    goes_on(&disk, start(3));
    // All of them.
    for path in disk.paths() {
        disk.remove(&path).unwrap();
    }
    let (recovered, _) = replay_from(&disk, start(3), Some(start(6)));
    assert_eq!(recovered.report.cases, [missing(start(3), Some(start(6)))]);
    assert_eq!(recovered.report.end, start(6));
    let (recovered, _) = replay_from(&disk, start(3), None);
    assert_eq!(recovered.report.cases, [missing(start(3), None)]);
    let (recovered, _) = replay_from(&disk, start(3), Some(start(3)));
    assert_eq!(recovered.report.cases, []);
    goes_on(&disk, start(3));
}

#[test]
fn case_header_unreadable() {
    for generation in [0, 1, 2] {
        for damage in [1, BLOCK] {
            let (disk, _) = full_files(3);
            disk.damage(&file(generation), |bytes| bytes[..damage].fill(0));
            let (recovered, seen) = replay_all(&disk);
            assert_eq!(sequences(&seen), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
            let expected = ReplayCase::HeaderUnreadable {
                generation,
                has_frames: true,
            };
            assert_eq!(recovered.report.cases, [expected]);
            goes_on(&disk, Lsn(0));
        }
    }
}

#[test]
fn case_header_unreadable_and_no_frames() {
    let (disk, appended) = full_files(3);
    disk.damage(&file(1), |bytes| bytes.fill(7));
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 2, 3, 7, 8, 9]);
    assert_eq!(
        recovered.report.cases,
        [
            ReplayCase::HeaderUnreadable {
                generation: 1,
                has_frames: false,
            },
            ReplayCase::MissingFile {
                from: Lsn(appended[3].lsn.0 - 64 - BLOCK_BYTES),
                to: Some(Lsn(appended[6].lsn.0 - 64 - BLOCK_BYTES)),
            }
        ]
    );
    assert!(!disk.paths().contains(&file(1)));
    assert_eq!(lines_of_report(&disk), 1);
    goes_on(&disk, Lsn(0));
}

#[test]
fn case_unused_file() {
    for content in [0, 1] {
        let (disk, appended) = full_files(2);
        // The next file has its name, and no header or one of a former life.
        let former = disk.content(&file(0)).unwrap();
        disk.open(&file(2), Access::Create).unwrap();
        disk.damage(&file(2), |bytes| {
            if content == 1 {
                bytes.extend_from_slice(&former);
            }
        });
        let (recovered, seen) = replay_all(&disk);
        assert_eq!(seen.len(), appended.len());
        let unused = ReplayCase::UnusedFile { generation: 2 };
        assert_eq!(recovered.report.cases, [unused]);
        goes_on(&disk, Lsn(0));
        assert!(disk.paths().contains(&file(2)));
    }
}

#[test]
fn case_stale_bytes() {
    let (disk, _) = full_files(2);
    let stale = disk.content(&file(0)).unwrap();
    let journal = open(&disk);
    let last = confirmed(&journal, 7, b"last");
    drop(journal);
    disk.damage(&file(2), |bytes| {
        bytes[2 * BLOCK..4 * BLOCK].copy_from_slice(&stale[2 * BLOCK..4 * BLOCK]);
    });
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 2, 3, 4, 5, 6, 7]);
    let at = Lsn(last.lsn.0 - 64 + BLOCK_BYTES);
    let stale = ReplayCase::StaleBytes { generation: 2, at };
    assert_eq!(recovered.report.cases, [stale]);
    goes_on(&disk, Lsn(0));
}

#[test]
fn case_ends_early() {
    let (disk, all) = three_frames();
    let end = Lsn(4 * BLOCK_BYTES);
    // The mark says that the last frame had been synced, so its sound half is used.
    let damaged = disk.copy();
    let last = all[4].lsn.0 as usize + 20;
    damaged.damage(&file(0), |bytes| bytes[last] ^= 1);
    let (recovered, seen) = replay_from(&damaged, Lsn(0), Some(end));
    assert_eq!(seen, all[..4]);
    assert!(matches!(
        recovered.report.cases[..],
        [ReplayCase::DamageInside { .. }]
    ));
    // Nothing is left of it.
    disk.damage(&file(0), |bytes| bytes.truncate(3 * BLOCK));
    let (recovered, seen) = replay_from(&disk, Lsn(0), Some(end));
    assert_eq!(seen, all[..3]);
    let expected = ReplayCase::EndsEarly {
        end: Lsn(3 * BLOCK_BYTES),
        clean_end: end,
    };
    assert_eq!(recovered.report.cases, [expected]);
    // The lost places are not given again, and the loss is not reported again.
    assert_eq!(recovered.report.end, end);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options()).unwrap();
    confirmed(&journal, 6, b"later");
    let (recovered, seen) = replay_all(&disk);
    assert_eq!(sequences(&seen), [1, 2, 3, 6]);
    assert_eq!(recovered.report.cases, []);
}

#[test]
fn a_later_version_is_refused() {
    let (disk, _) = three_frames();
    disk.damage(&file(0), |bytes| {
        bytes[8] = 9;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let refused = super::replay(&disk, data(), Lsn(0), None, &mut |_, _, _, _| {});
    assert!(matches!(
        refused,
        Err(StoreError::NewerFormat { found: 9, .. })
    ));
}

#[test]
fn a_frame_that_was_never_synced_is_dropped_once_even_when_others_follow() {
    let disk = sim();
    let relaxed = JournalOptions {
        sync: SyncMode::Never,
        ..options()
    };
    let journal = open_with(&disk, relaxed);
    for position in 1..=3 {
        append(&journal, position, b"body");
        let told = told(&journal, journal.end());
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
    }
    // Power cuts that lost the second frame's header or its records.
    for lost in [2 * BLOCK, 2 * BLOCK + 100] {
        let disk = disk.copy();
        disk.damage(&file(0), |bytes| bytes[lost..3 * BLOCK].fill(0));
        for start in 0..3 {
            let (recovered, seen) = replay_all(&disk);
            assert_eq!(sequences(&seen)[..2], [1, 3]);
            let is_torn = |case: &ReplayCase| matches!(case, ReplayCase::TornTail { .. });
            let cases = &recovered.report.cases;
            assert_eq!(cases.len(), usize::from(start == 0), "{cases:?}");
            assert!(cases.iter().all(is_torn));
            let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options());
            confirmed(&journal.unwrap(), 10 + start, b"later");
        }
    }
}

#[test]
fn what_replay_uses_is_durable_afterwards() {
    let sim = sim();
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let (recovered, _) = replay_all(&sim);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options()).unwrap();
    // Written, and in the system's memory alone.
    disk.fail_for_ever(Operation::Sync, 0, std::io::ErrorKind::Other);
    append(&journal, 1, b"one");
    assert!(journal.flush().is_err());
    assert_eq!(replay_all(&sim.lose_unsynced()).1, []);
    assert_eq!(replay_all(&sim).1.len(), 1);
    assert_eq!(replay_all(&sim.lose_unsynced()).1.len(), 1);
}

#[test]
fn a_body_that_looks_like_a_frame_is_none() {
    let disk = sim();
    let journal = open(&disk);
    // Where the body's copy of a header lies, if the record is the frame's first: a later frame, of this file, at its place.
    let forged = |seed: u64| FrameHeader {
        records: 0,
        seed,
        generation: 0,
        number: 9,
        base: Lsn(2 * BLOCK_BYTES),
        bytes: 64,
        synced_number: 8,
        heads_crc: 0,
    };
    let block = disk.content(&file(0)).unwrap();
    let header = FileHeader::parse(&block[..BLOCK]).unwrap();
    let body = vec![0; 2 * BLOCK];
    let appended = confirmed(&journal, 1, &body);
    drop(journal);
    let body_start = appended.lsn.0 as usize + appended.record_bytes as usize - body.len();
    assert!(body_start < 2 * BLOCK);
    for (seed, is_taken) in [(header.seed, true), (0, false)] {
        let disk = disk.copy();
        disk.damage(&file(0), |bytes| {
            bytes[2 * BLOCK..2 * BLOCK + 64].copy_from_slice(&forged(seed).encode());
            // The true header is lost, so that others are searched.
            bytes[BLOCK] ^= 1;
        });
        let (recovered, seen) = replay_all(&disk);
        assert_eq!(seen, []);
        // With the seed, which nobody knows, it would be evidence of a later frame.
        let is_loss = recovered.report.cases.iter().any(ReplayCase::is_loss);
        assert_eq!(is_loss, is_taken);
    }
}

#[test]
fn restarts_without_traffic_use_one_file() {
    let disk = sim();
    for _ in 0..5 {
        let journal = open(&disk);
        assert_eq!(journal.sealed(), []);
        journal.close().unwrap();
    }
    let spare = PathBuf::from("/data/journal/spare-0000000001");
    assert_eq!(disk.paths(), [spare, file(0)]);
    let journal = open(&disk);
    confirmed(&journal, 1, b"one");
    drop(journal);
    for _ in 0..5 {
        assert_eq!(open(&disk).sealed().len(), 1);
    }
    let spare = PathBuf::from("/data/journal/spare-0000000002");
    assert_eq!(disk.paths(), [spare, file(0), file(1)]);
}

proptest::proptest! {
    /// Whatever is in the files: an answer, and no panic.
    #[test]
    fn noise_is_survived(
        noise in proptest::collection::vec((0..5 * BLOCK, 0..700usize, 0..=255u8), 1..12),
        from in 0..8 * BLOCK_BYTES,
        clean_end in proptest::option::of(0..8 * BLOCK_BYTES),
    ) {
        let (disk, _) = full_files(2);
        for (index, (at, bytes, value)) in noise.iter().enumerate() {
            disk.damage(&file(index as u64 % 2), |content| {
                let end = (at + bytes).min(content.len());
                content[*at..end].fill(*value);
            });
        }
        let (recovered, _) = replay_from(&disk, Lsn(from), clean_end.map(Lsn));
        let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options());
        confirmed(&journal.unwrap(), 100, b"later");
        let (_, seen) = replay_from(&disk.lose_unsynced(), Lsn(from), None);
        proptest::prop_assert_eq!(sequences(&seen).last().copied(), Some(100));
    }
}
