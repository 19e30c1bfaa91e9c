//! The journal on a disk that becomes full: noticed ahead, room for what frees space, and its end.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::store::disk::FaultyDisk;
use crate::store::record::BLOB_BYTES_MIN;

/// A journal that takes its last spare file, and finds no space for another. Gives the position of the last message, which is
/// confirmed.
fn filled(sim: &SimDisk, options: JournalOptions) -> (FaultyDisk, Arc<Journal>, u64) {
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let (recovered, _) = replay_all(sim);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options).unwrap();
    disk.set_quota(Some(0));
    let mut position = 0;
    while !journal.is_full() {
        position += 1;
        assert!(position < 100);
        confirmed(&journal, position, &[b'x'; 6000]);
    }
    (disk, journal, position)
}

fn settle(journal: &Journal, position: u64) {
    let run = Run {
        first: Position(position),
        count: 1,
        body_bytes: 6000,
    };
    journal.append().settled(QueueId(1), &[run]);
    journal.flush().unwrap();
}

fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_is_noticed_ahead_and_settlements_go_on() {
    let sim = sim();
    let (disk, journal, last) = filled(&sim, options());
    // The current file has been begun, and there is no other.
    let current = Path::new("/data/journal/wal-0000000001");
    assert_eq!(
        sim.paths(),
        [Path::new("/data/journal/wal-0000000000"), current]
    );
    assert_eq!(journal.roomy_for(), None);
    for position in 1..=last {
        settle(&journal, position);
    }
    assert!(journal.is_full() && !journal.is_stuck());
    // What is under way is confirmed, too.
    confirmed(&journal, last + 1, b"late");
    assert_eq!(journal.failure(), None);
    disk.set_quota(None);
    until(|| !journal.is_full());
    assert!(journal.roomy_for().unwrap() < Duration::MAX);
    let seen = replay_all(&sim.lose_unsynced()).1;
    assert_eq!(seen.len() as u64, 2 * last + 1);
}

#[test]
fn a_recycled_file_ends_it_at_once() {
    let sim = sim();
    let options = JournalOptions {
        full_retry: Duration::from_secs(3600),
        ..options()
    };
    let (_disk, journal, last) = filled(&sim, options);
    assert!(journal.is_full());
    journal.recycle(0).unwrap();
    until(|| !journal.is_full());
    for position in last + 1..last + 12 {
        confirmed(&journal, position, &[b'x'; 6000]);
    }
    assert!(journal.is_full(), "it was used up again");
    assert!(!journal.is_stuck());
}

#[test]
fn room_that_others_make_ends_it_at_once() {
    let sim = sim();
    let options = JournalOptions {
        full_retry: Duration::from_secs(3600),
        ..options()
    };
    let (disk, journal, _) = filled(&sim, options);
    disk.set_quota(None);
    assert!(journal.is_full());
    journal.room_was_made();
    until(|| !journal.is_full());
}

#[test]
fn it_is_told_once_however_often_it_is_tried() {
    let sim = sim();
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let (recovered, _) = replay_all(&sim);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options()).unwrap();
    let told = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&told);
    journal.set_on_full(Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    for round in 1..=2 {
        disk.set_quota(Some(0));
        let mut position = round * 1000;
        while !journal.is_full() {
            position += 1;
            confirmed(&journal, position, &[b'x'; 6000]);
        }
        for _ in 0..5 {
            // Each of these tries again.
            journal.room_was_made();
            settle(&journal, position);
        }
        assert_eq!(u64::from(told.load(Ordering::Relaxed)), round);
        disk.set_quota(None);
        until(|| !journal.is_full());
    }
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told_and_waited_for() {
    let sim = sim();
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    disk.set_quota(Some(0));
    let (recovered, _) = replay_all(&sim);
    let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options()).unwrap();
    assert!(journal.is_full());
    append(&journal, 1, b"one");
    let outcome = told(&journal, journal.end());
    until(|| journal.is_stuck());
    disk.set_quota(None);
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Ok(())));
    until(|| !journal.is_full() && !journal.is_stuck());
    assert_eq!(replay_all(&sim.lose_unsynced()).1.len(), 1);
}

#[test]
fn what_is_kept_is_given_up_for_a_large_body() {
    let sim = sim();
    let (disk, journal) = {
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        let (recovered, _) = replay_all(&sim);
        let journal = Journal::start(Arc::new(disk.clone()), data(), recovered, options());
        (disk, journal.unwrap())
    };
    disk.set_quota(Some(0));
    let spare = Path::new("/data/journal/spare-0000000001");
    assert!(sim.content(spare).is_some());
    append(&journal, 1, &vec![3; BLOB_BYTES_MIN]);
    let outcome = told(&journal, journal.end());
    until(|| journal.is_stuck());
    assert!(journal.is_full());
    assert!(sim.content(spare).is_none());
    disk.set_quota(None);
    assert_eq!(outcome.recv_timeout(PATIENCE), Ok(Ok(())));
    until(|| !journal.is_full() && !journal.is_stuck());
    assert_eq!(replay_all(&sim.lose_unsynced()).1.len(), 1);
}
