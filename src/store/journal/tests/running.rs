//! Appending, waiting, reading, rotation, and disks that fail while the journal runs.

use std::io;
use std::task::Wake;

use super::*;
use crate::store::disk::faulty::Operation;
use crate::store::disk::{FaultyDisk, RealDisk};
use crate::store::record::{BLOB_BYTES_MIN, MessageMeta};

struct Told(std::sync::mpsc::SyncSender<()>);

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        let _ = self.0.try_send(());
    }
}

fn run() -> Run {
    Run {
        first: Position(1),
        count: 1,
        body_bytes: 4,
    }
}

fn waker() -> (Waker, Receiver<()>) {
    let (sender, receiver) = mpsc::sync_channel(8);
    (Waker::from(Arc::new(Told(sender))), receiver)
}

fn faulty(sim: &SimDisk, options: JournalOptions) -> (FaultyDisk, Arc<Journal>) {
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let (recovered, _) = replay_all(sim);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options).unwrap();
    (disk, journal)
}

#[test]
fn what_was_appended_comes_back_in_order() {
    let disk = sim();
    let journal = open(&disk);
    let first = confirmed(&journal, 1, b"one");
    let end = {
        let mut appender = journal.append();
        let two = message(b"two");
        appender.message(&two, BodyCrc::of(&two), &[target(1, 2), target(2, 1)]);
        appender.settled(QueueId(1), &[run()]);
        appender.purged(QueueId(2), &[Position(1)], &[]);
        appender.requeued(QueueId(1), &[(Position(2), 3, 1)]);
        appender.definitions(b"changes");
        appender.end()
    };
    let outcome = told(&journal, end).recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome, Ok(()));
    assert!(journal.synced().0 >= end);
    let (recovered, seen) = replay_all(&disk.lose_unsynced());
    assert_eq!(seen[0].lsn, first.lsn);
    assert_eq!(seen[0].record_bytes, first.record_bytes);
    let what: Vec<_> = seen.iter().map(|seen| seen.what.as_str()).collect();
    assert_eq!(
        what,
        [
            "[(1, 1)] one",
            "[(1, 2), (2, 1)] two",
            "Settled { queue: QueueId(1), runs: [Run { first: Position(1), count: 1, body_bytes: 4 }] }",
            "Purged { queue: QueueId(2), last: [Position(1)], survivors: [] }",
            "Requeued { queue: QueueId(1), counts: [(Position(2), 3, 1)] }",
            "definitions changes",
        ]
    );
    assert_eq!(recovered.report.cases, []);
    assert_eq!(recovered.report.frames, 2);
    assert_eq!(recovered.files[0].sealed.queues, [QueueId(1), QueueId(2)]);
    let stats = journal.stats();
    assert_eq!((stats.frames, stats.records, stats.syncs), (2, 6, 2));
    assert_eq!(journal.backlog_bytes(), 0);
}

#[test]
fn closing_gives_the_end_and_nothing_is_appended_after() {
    let disk = sim();
    let journal = open(&disk);
    append(&journal, 1, b"one");
    let end = journal.close().unwrap();
    assert_eq!(journal.close(), Err(StoreError::Closed));
    assert_eq!(journal.failure(), Some(StoreError::Closed));
    let late = append(&journal, 2, b"two");
    assert_eq!(
        told(&journal, Lsn(late.lsn.0 + 8)).try_recv().unwrap(),
        Err(StoreError::Closed)
    );
    assert_eq!(journal.flush(), Err(StoreError::Closed));
    let (recovered, seen) = replay_from(&disk, Lsn(0), Some(end));
    assert_eq!((recovered.report.end, seen.len()), (end, 1));
    assert_eq!(recovered.report.cases, []);
}

#[test]
fn wakers_are_woken_by_the_next_advance() {
    let journal = open(&sim());
    let (waker, woken) = waker();
    journal.wake_after_sync(&waker);
    assert!(woken.try_recv().is_err());
    append(&journal, 1, b"one");
    woken.recv_timeout(PATIENCE).unwrap();
    append(&journal, 2, b"two");
    journal.flush().unwrap();
    assert!(woken.try_recv().is_err());
}

#[test]
fn settlements_alone_wait_for_the_next_message() {
    let journal = open(&sim());
    let start = journal.synced();
    let settle = || {
        let mut appender = journal.append();
        appender.settled(QueueId(1), &[run()]);
        appender.end()
    };
    settle();
    let end = settle();
    assert_eq!((journal.synced(), journal.stats().frames), (start, 0));
    assert!(journal.backlog_bytes() > 0);
    append(&journal, 2, b"two");
    // Does not ask for the settlements themselves.
    let outcome = told(&journal, end).recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome, Ok(()));
    let stats = journal.stats();
    assert_eq!((stats.frames, stats.records), (1, 3));
}

#[test]
fn settlements_alone_are_written_after_the_delay() {
    let disk = sim();
    let journal = open_with(
        &disk,
        JournalOptions {
            settle_delay: Duration::from_millis(1),
            ..options()
        },
    );
    let (waker, woken) = waker();
    journal.wake_after_sync(&waker);
    let transient = message(b"transient");
    let crc = BodyCrc::of(&transient);
    journal.append().transient(&transient, crc, &[target(1, 1)]);
    journal.append().settled(QueueId(1), &[run()]);
    woken.recv_timeout(PATIENCE).unwrap();
    assert!(!replay_all(&disk.lose_unsynced()).1.is_empty());
}

#[test]
fn much_is_written_though_nobody_waits() {
    let journal = open(&sim());
    let (waker, woken) = waker();
    journal.wake_after_sync(&waker);
    let large = message(&[7; 200_000]);
    for position in 1..=6 {
        let crc = BodyCrc::of(&large);
        journal
            .append()
            .transient(&large, crc, &[target(1, position)]);
    }
    woken.recv_timeout(PATIENCE).unwrap();
    assert!(journal.stats().records >= 6);
}

#[test]
fn somebody_who_waits_has_settlements_written() {
    let journal = open(&sim());
    journal.append().settled(QueueId(1), &[run()]);
    let end = journal.end();
    assert_eq!(told(&journal, end).recv_timeout(PATIENCE), Ok(Ok(())));
}

#[test]
fn places_have_no_gaps_over_files() {
    let disk = sim();
    let journal = open(&disk);
    let (sender, sealed) = channel();
    journal.set_on_seal(Box::new(move || {
        let _ = sender.send(());
    }));
    let appended: Vec<_> = (1..=60)
        .map(|position| confirmed(&journal, position, &[b'x'; 3000]))
        .collect();
    sealed.recv_timeout(PATIENCE).unwrap();
    let files = journal.sealed();
    assert!(files.len() >= 2, "{files:?}");
    assert_eq!(files[0].start, Lsn(0));
    for pair in files.windows(2) {
        assert_eq!(pair[0].end, pair[1].start);
        assert_eq!(pair[0].generation + 1, pair[1].generation);
    }
    assert!(files.iter().all(|file| file.queues == [QueueId(1)]));
    for (index, appended) in appended.iter().enumerate() {
        let record = journal.read(appended.lsn, appended.record_bytes).unwrap();
        let head = Head::parse(&record, appended.lsn.0).unwrap();
        let meta = MessageMeta::parse(&head, &record[head.meta()]).unwrap();
        let positions: Vec<_> = meta.targets().map(|target| target.position.0).collect();
        assert_eq!(positions, [index as u64 + 1]);
    }
    let (recovered, seen) = replay_all(&disk.lose_unsynced());
    let lsns: Vec<_> = seen.iter().map(|seen| seen.lsn).collect();
    let expected: Vec<_> = appended.iter().map(|appended| appended.lsn).collect();
    assert_eq!(lsns, expected);
    assert_eq!(recovered.report.cases, []);
}

#[test]
fn a_file_is_full_of_entries_too() {
    let journal = open_with(
        &sim(),
        JournalOptions {
            entries_max: 4,
            ..options()
        },
    );
    let fanned_out = message(b"to two queues");
    for position in 1..=4 {
        let targets = [target(1, position), target(2, position)];
        let crc = BodyCrc::of(&fanned_out);
        journal.append().message(&fanned_out, crc, &targets);
        journal.flush().unwrap();
    }
    assert_eq!(journal.sealed().len(), 2);
}

#[test]
fn a_frame_may_be_larger_than_a_file() {
    let disk = sim();
    let journal = open(&disk);
    confirmed(&journal, 1, b"one");
    let appended = confirmed(&journal, 2, &[b'x'; 300_000]);
    confirmed(&journal, 3, b"three");
    assert!(journal.read(appended.lsn, appended.record_bytes).is_ok());
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 3);
    // Such a file is not kept.
    journal.recycle(0).unwrap();
    let left = ["spare-0000000002", "wal-0000000001"];
    let left = left.map(|name| Path::new("/data/journal").join(name));
    assert_eq!(disk.paths(), left);
}

#[test]
fn recycled_files_are_used_again_and_never_replayed() {
    let disk = sim();
    let journal = open(&disk);
    let mut position = 0;
    for _ in 0..12 {
        while journal.sealed().len() < 4 {
            position += 1;
            confirmed(&journal, position, &[b'x'; 6000]);
        }
        let old = journal.sealed().remove(0);
        journal.recycle(old.generation).unwrap();
        journal.recycle(old.generation).unwrap();
    }
    let from = journal.sealed()[0].start;
    let files = disk.paths().len();
    assert!(files <= 4 + 2 + 1, "{:?}", disk.paths());
    confirmed(&journal, position + 1, b"last");
    for seed in 0..20 {
        let (recovered, seen) = replay_from(&disk.crash(seed), from, None);
        let unexpected = |case: &&ReplayCase| !matches!(case, ReplayCase::StaleBytes { .. });
        assert_eq!(recovered.report.cases.iter().find(unexpected), None);
        assert!(seen[0].lsn >= from);
        assert_eq!(
            seen.last().unwrap().what,
            format!("[(1, {})] last", position + 1)
        );
    }
    let gone = journal.read(Lsn(4096 + 64), 64);
    assert_eq!(gone, Err(ReadError::Recycled));
}

#[test]
fn records_are_read_before_they_are_written() {
    let journal = open(&sim());
    let transient = message(b"nobody waits for this");
    let crc = BodyCrc::of(&transient);
    let appended = journal.append().transient(&transient, crc, &[target(1, 1)]);
    assert_eq!(journal.stats().frames, 0);
    let record = journal.read(appended.lsn, appended.record_bytes).unwrap();
    journal.flush().unwrap();
    assert_eq!(
        journal.read(appended.lsn, appended.record_bytes),
        Ok(record)
    );
    let beyond = journal.read(Lsn(appended.lsn.0 + 4096), 64);
    assert_eq!(beyond, Err(ReadError::NotWritten));
    assert!(matches!(
        journal.read(Lsn(appended.lsn.0 + 8), appended.record_bytes),
        Err(ReadError::Damaged(_))
    ));
}

#[test]
fn damage_is_found_when_a_record_is_read() {
    let disk = sim();
    let journal = open(&disk);
    let appended = confirmed(&journal, 1, b"one");
    let file = Path::new("/data/journal/wal-0000000000");
    let last = (appended.lsn.0 as usize) + appended.record_bytes as usize;
    disk.damage(file, |bytes| {
        let at = bytes[..last].iter().rposition(|byte| *byte == b'o');
        bytes[at.unwrap()] ^= 1;
    });
    assert_eq!(
        journal.read(appended.lsn, appended.record_bytes),
        Err(ReadError::Damaged(Damage::Body))
    );
}

#[test]
fn large_bodies_lie_in_files_of_their_own() {
    let disk = sim();
    let journal = open(&disk);
    let body = vec![3; BLOB_BYTES_MIN];
    let appended = confirmed(&journal, 1, &body);
    assert_eq!(appended.blob, Some(appended.lsn.0));
    assert!(appended.record_bytes < 1000);
    let record = journal.read(appended.lsn, appended.record_bytes).unwrap();
    let head = Head::parse(&record, appended.lsn.0).unwrap();
    let meta = MessageMeta::parse(&head, &record[head.meta()]).unwrap();
    let disk = disk.lose_unsynced();
    let journal = open(&disk);
    let blob = meta.blob.unwrap();
    assert_eq!(journal.read_blob(blob).unwrap(), body);
    assert_eq!(journal.blobs().list().unwrap(), [appended.lsn.0]);
    disk.damage(&journal.blobs().path(blob.blob), |bytes| bytes[9] ^= 4);
    assert_eq!(
        journal.read_blob(blob),
        Err(ReadError::Damaged(Damage::Body))
    );
}

#[test]
fn without_space_nothing_is_lost_and_it_goes_on() {
    let sim = sim();
    let (disk, journal) = faulty(&sim, options());
    disk.fail_for_ever(Operation::Write, 0, io::ErrorKind::StorageFull);
    let end = {
        let one = message(&[b'1'; 4000]);
        let mut appender = journal.append();
        appender.message(&one, BodyCrc::of(&one), &[target(1, 1)]);
        appender.end()
    };
    let outcome = told(&journal, end);
    while !journal.is_full() {
        std::thread::yield_now();
    }
    let late = append(&journal, 2, b"two");
    // Both are there for those who ask, in flight and gathered.
    assert!(journal.read(late.lsn, late.record_bytes).is_ok());
    assert!(journal.backlog_bytes() > 128);
    assert!(outcome.try_recv().is_err());
    assert_eq!(replay_all(&sim.copy()).1, []);
    disk.heal();
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Ok(())));
    journal.flush().unwrap();
    assert!(!journal.is_full());
    assert_eq!(journal.failure(), None);
    assert_eq!(replay_all(&sim.lose_unsynced()).1.len(), 2);
}

#[test]
fn a_quota_stops_large_bodies_and_new_files_until_it_is_raised() {
    let sim = sim();
    let (disk, journal) = faulty(&sim, options());
    // What is reserved already can still be written, then files grow as they can.
    disk.set_quota(Some(16 * 1024));
    for position in 1..=30 {
        append(&journal, position, &[b'x'; 5000]);
    }
    let body = vec![3; BLOB_BYTES_MIN];
    let blob = append(&journal, 31, &body);
    let outcome = told(&journal, journal.end());
    while !journal.is_full() {
        std::thread::yield_now();
    }
    assert!(outcome.try_recv().is_err());
    disk.set_quota(None);
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Ok(())));
    let sim = sim.lose_unsynced();
    assert_eq!(replay_all(&sim).1.len(), 31);
    let written = sim.content(&journal.blobs().path(blob.lsn.0));
    assert_eq!(written.unwrap(), body);
}

#[test]
fn closing_does_not_wait_for_space() {
    let sim = sim();
    let (disk, journal) = faulty(&sim, options());
    disk.fail_for_ever(Operation::Write, 0, io::ErrorKind::StorageFull);
    append(&journal, 1, b"one");
    assert!(matches!(journal.close(), Err(StoreError::Io { .. })));
}

#[test]
fn a_failed_sync_ends_the_journal() {
    let sim = sim();
    let (disk, journal) = faulty(&sim, options());
    confirmed(&journal, 1, b"one");
    let synced = journal.synced();
    // Even an error that is no more than a lack of space when it comes from a write.
    disk.fail_once(Operation::Sync, 0, io::ErrorKind::StorageFull);
    let (waker, woken) = waker();
    journal.wake_after_sync(&waker);
    let (two, end) = (append(&journal, 2, b"two"), journal.end());
    let outcomes = [told(&journal, end), told(&journal, Lsn(end.0 + 9000))];
    for outcome in outcomes {
        let outcome = outcome.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(
            outcome,
            Err(StoreError::Io { action: "sync", .. })
        ));
    }
    woken.recv_timeout(PATIENCE).unwrap();
    let late = append(&journal, 3, b"three");
    assert!(late.lsn > two.lsn);
    assert!(
        told(&journal, journal.end())
            .recv_timeout(PATIENCE)
            .unwrap()
            .is_err()
    );
    assert_eq!(told(&journal, synced.0).recv_timeout(PATIENCE), Ok(Ok(())));
    assert_eq!(journal.synced(), synced);
    assert_eq!(journal.backlog_bytes(), 0);
    assert_eq!(
        journal.read(late.lsn, late.record_bytes),
        Err(ReadError::NotWritten)
    );
    assert_eq!(journal.failure(), journal.close().err());
    assert_eq!(replay_all(&sim.lose_unsynced()).1.len(), 1);
}

#[test]
fn a_failed_write_ends_the_journal() {
    let sim = sim();
    let (disk, journal) = faulty(&sim, options());
    disk.fail_once(Operation::Write, 0, io::ErrorKind::Other);
    append(&journal, 1, &[b'1'; 4000]);
    assert!(journal.flush().is_err());
    let (recovered, seen) = replay_all(&sim.copy());
    assert_eq!(seen, []);
    assert!(!recovered.report.cases.iter().any(ReplayCase::is_loss));
}

#[test]
fn a_file_that_cannot_be_begun_ends_the_journal() {
    let sim = sim();
    let (disk, journal) = faulty(&sim, options());
    confirmed(&journal, 1, &[b'x'; 64 * 1024]);
    for operation in [Operation::Open, Operation::SyncNames] {
        disk.fail_for_ever(operation, 0, io::ErrorKind::PermissionDenied);
    }
    append(&journal, 2, b"two");
    assert!(journal.flush().is_err());
    assert!(append(&journal, 3, b"three").lsn > Lsn(64 * 1024));
}

#[test]
fn relaxed_modes_confirm_what_is_written() {
    let disk = sim();
    let journal = open_with(
        &disk,
        JournalOptions {
            sync: SyncMode::Never,
            ..options()
        },
    );
    let start = journal.synced();
    append(&journal, 1, b"one");
    let end = journal.end();
    assert_eq!(told(&journal, end).recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(journal.confirmable() >= end);
    assert_eq!((journal.synced(), journal.stats().syncs), (start, 0));
    assert_eq!(replay_all(&disk.lose_unsynced()).1, []);
    assert_eq!(replay_all(&disk.copy()).1.len(), 1);
    journal.flush().unwrap();
    assert!(journal.synced().0 >= end);
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 1);
    // A full file is synced in every mode.
    append(&journal, 2, &[b'x'; 64 * 1024]);
    let end = journal.end();
    assert_eq!(told(&journal, end).recv_timeout(PATIENCE), Ok(Ok(())));
    assert!(journal.synced().0 >= end);
    assert_eq!(journal.sealed().len(), 1);
}

#[test]
fn an_interval_syncs_though_nothing_more_comes() {
    let disk = sim();
    let journal = open_with(
        &disk,
        JournalOptions {
            sync: SyncMode::Interval(Duration::from_millis(2)),
            ..options()
        },
    );
    append(&journal, 1, b"one");
    let end = journal.end();
    while journal.synced().0 < end {
        std::thread::yield_now();
    }
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 1);
}

#[test]
fn many_threads_append_and_all_of_it_is_there() {
    let disk = sim();
    let journal = open(&disk);
    std::thread::scope(|scope| {
        for queue in 1..=4 {
            let journal = &journal;
            scope.spawn(move || {
                for position in 1..=100 {
                    let body = message(b"body");
                    let crc = BodyCrc::of(&body);
                    let end = {
                        let mut appender = journal.append();
                        appender.message(&body, crc, &[target(queue, position)]);
                        appender.message(&body, crc, &[target(queue + 10, position)]);
                        appender.end()
                    };
                    if position % 10 == 0 {
                        assert_eq!(told(journal, end).recv_timeout(PATIENCE), Ok(Ok(())));
                    }
                }
            });
        }
    });
    let (_, seen) = replay_all(&disk.lose_unsynced());
    assert_eq!(seen.len(), 800);
    for queue in 1..=4 {
        let of = |queue: u64| {
            let start = format!("[({queue}, ");
            let records = seen
                .iter()
                .filter(move |seen| seen.what.starts_with(&start));
            records.map(|seen| seen.what.len()).collect::<Vec<_>>()
        };
        assert_eq!((of(queue).len(), of(queue + 10).len()), (100, 100));
    }
}

#[test]
fn a_panic_while_appending_leaves_whole_records() {
    let disk = sim();
    let journal = open(&disk);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let one = message(b"one");
        let mut appender = journal.append();
        appender.message(&one, BodyCrc::of(&one), &[target(1, 1)]);
        std::panic::panic_any("in the middle");
    }));
    assert!(outcome.is_err());
    confirmed(&journal, 2, b"two");
    assert_eq!(replay_all(&disk.lose_unsynced()).1.len(), 2);
}

#[test]
fn the_last_handle_may_be_dropped_on_the_journals_thread() {
    let journal = open(&sim());
    append(&journal, 1, b"one");
    let (sender, receiver) = channel();
    let (end, kept) = (journal.end(), journal.clone());
    let (told, may_drop) = channel::<()>();
    let done = move |_| {
        let _ = may_drop.recv();
        drop(kept);
        let _ = sender.send(());
    };
    journal.when_synced(Lsn(end.0 + 1), Box::new(done));
    append(&journal, 2, b"two");
    drop(journal);
    drop(told);
    receiver.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn it_works_on_the_machines_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (mut from, mut position) = (Lsn(0), 0);
    for life in 0..3 {
        let mut seen = 0;
        let mut count = |_, _, _: Content<'_>, _: &[u8]| seen += 1;
        let recovered = super::replay(&disk, folder.path(), from, None, &mut count).unwrap();
        assert_eq!(recovered.report.cases, []);
        assert!(life == 0 || seen > 0);
        let journal = Journal::start(disk.clone(), folder.path(), recovered, options()).unwrap();
        while journal.sealed().len() < 4 {
            position += 1;
            let appended = confirmed(&journal, position, &[b'x'; 20_000]);
            assert!(journal.read(appended.lsn, appended.record_bytes).is_ok());
        }
        let sealed = journal.sealed().remove(0);
        from = sealed.end;
        journal.recycle(sealed.generation).unwrap();
    }
}
