//! A disk without space: what consumers settle makes room again, and nothing is lost meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::support::{Node, Sizes, folder};
use crate::store::disk::{FaultyDisk, SimDisk};

const FILLER: u64 = 99;

/// Enough for rows, too little for a journal file, or for what lives in one.
const LEFT_BYTES: u64 = 24 * 1024;

fn segments(disk: &SimDisk) -> usize {
    let paths = disk.paths().into_iter();
    paths
        .filter(|path| path.to_string_lossy().ends_with(".seg"))
        .count()
}

fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
}

#[test]
fn a_queue_that_is_drained_on_a_full_disk_makes_room() {
    let sim = SimDisk::with_folder(folder());
    let disk = FaultyDisk::new(Arc::new(sim.clone()));
    let mut node = Node::start(Arc::new(disk.clone()), &Sizes::default(), &[1, FILLER]);
    let mut positions = node.fill(1, 200);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    assert!(segments(&sim) > 0);
    // The next file is begun, so that it is sealed before the last is.
    positions.push(node.publish(1, &[7; 6000]));
    node.journal.flush().unwrap();
    disk.set_quota(Some(LEFT_BYTES));
    while !node.journal.is_full() {
        // Large beside a frame's blocks, so that a file is full of them however they come to lie.
        positions.push(node.publish(1, &[7; 6000]));
        node.journal.flush().unwrap();
    }
    assert!(node.store.checkpoint_now().is_err());
    assert!(node.store.stats().is_behind);
    let before = node.read_all(1, 0, 9000);
    assert_eq!(before.messages.len(), positions.len());
    // A crash finds all of it.
    let crashed = Node::start(
        Arc::new(sim.lose_unsynced()),
        &Sizes::default(),
        &[1, FILLER],
    );
    assert_eq!(crashed.read_all(1, 0, 9000), before);

    // The segments go first, though what is in the journal still waits and finds no room.
    let in_segments = positions.iter().take(200);
    for position in in_segments {
        node.settle(1, *position, 1024);
    }
    assert!(node.store.checkpoint_now().is_err());
    assert_eq!(segments(&sim), 0);
    assert!(node.journal.is_full() && !node.journal.is_stuck());
    for position in &positions[200..] {
        node.settle(1, *position, 6000);
    }
    node.store.checkpoint_now().unwrap();
    until(|| !node.journal.is_full());
    assert!(!node.store.stats().is_behind);
    assert!(node.journal.sealed().is_empty());
    let last = node.publish(1, &[7; 1024]);
    node.journal.flush().unwrap();
    drop(node);
    let node = Node::start(
        Arc::new(sim.lose_unsynced()),
        &Sizes::default(),
        &[1, FILLER],
    );
    let left = node.read_all(1, 0, 9000).messages;
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [last]);
}
