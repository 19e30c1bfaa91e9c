//! What moves, what goes, and that the disk's space comes back.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::support::{Node, Sizes, folder};
use crate::model::Position;

use crate::store::disk::faulty::Operation;
use crate::store::disk::{Disk as _, FaultyDisk, SimDisk};
use crate::store::messages::MessageOptions;

const FILLER: u64 = 99;

fn disk() -> SimDisk {
    SimDisk::with_folder(folder())
}

fn start(disk: &SimDisk, queues: &[u64]) -> Node {
    Node::start(Arc::new(disk.clone()), &Sizes::default(), queues)
}

/// Files of segments and bodies, as far as there is a way to them.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.list(&folder().join("blobs")).unwrap();
    for queue in disk.list(&folder().join("queues")).unwrap() {
        files.extend(disk.list(&queue).unwrap());
    }
    files
}

#[test]
fn what_waits_moves_to_segments_and_is_read_from_there() {
    let disk = disk();
    let mut node = start(&disk, &[1, FILLER]);
    let positions = node.fill(1, 300);
    let before = node.read_all(1, 0, 64 * 1024);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    let figures = node.figures(1);
    assert_eq!(
        (figures.journal_messages, figures.segment_messages),
        (0, 300)
    );
    assert!(figures.segments >= 2, "a segment has a size");
    assert!(node.journal.sealed().is_empty());
    for bytes_max in [1, 5000, 1 << 30] {
        assert_eq!(node.read_all(1, 0, bytes_max), before);
    }
    assert_eq!(before.messages.len(), positions.len());
    assert_eq!(node.store.stats().moved_messages, 300);
    drop(node);
    let node = start(&disk.lose_unsynced(), &[1, FILLER]);
    assert_eq!(node.labels(), Vec::<&str>::new());
    assert_eq!(node.read_all(1, 0, 64 * 1024), before);
    assert_eq!(
        node.recovered[&crate::model::QueueId(1)].lanes[0].messages,
        300
    );
}

#[test]
fn a_file_of_which_all_is_settled_is_recycled_without_a_copy() {
    let disk = disk();
    let mut node = start(&disk, &[1, FILLER]);
    for position in node.fill(1, 300) {
        node.settle(1, position, 1024);
    }
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    assert!(node.journal.sealed().is_empty());
    assert_eq!(node.store.stats().moved_messages, 0);
    assert!(files(&disk).is_empty());
}

#[test]
fn sealed_files_are_left_alone_until_there_are_too_many() {
    let disk = disk();
    let mut sizes = Sizes::default();
    sizes.messages.sealed_files_max = 2;
    let mut node = Node::start(Arc::new(disk), &sizes, &[1]);
    while node.journal.sealed().len() < 2 {
        node.fill(1, 10);
        node.journal.flush().unwrap();
    }
    node.store.checkpoint_now().unwrap();
    assert_eq!(node.figures(1).segments, 0);
    while node.journal.sealed().len() < 3 {
        node.fill(1, 10);
        node.journal.flush().unwrap();
    }
    node.store.checkpoint_now().unwrap();
    assert_eq!(node.journal.sealed().len(), 2);
    assert!(node.figures(1).segment_messages > 0);
}

#[test]
fn space_comes_back_when_everything_is_settled() {
    let disk = disk();
    let mut node = start(&disk, &[1, 2, FILLER]);
    let positions = node.fill(1, 400);
    node.publish_to(&[1, 2], 3, &[5; 70_000], false);
    node.publish_to(&[1, 2], 3, &vec![6; 1_500_000], false);
    node.publish_to(&[1], 0, &[1; 100], true);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    assert!(files(&disk).len() > 5);
    for position in positions {
        node.settle(1, position, 1024);
    }
    node.purge(1);
    node.purge(2);
    for _ in 0..3 {
        node.store.checkpoint_now().unwrap();
    }
    assert_eq!(files(&disk), Vec::<PathBuf>::new());
    let rows = node.rows.held().rows;
    assert!(rows.keys().all(|key| key[0] != 11), "{rows:?}");
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    drop(node);
    let node = start(&disk.lose_unsynced(), &[1, 2, FILLER]);
    assert!(node.log(1, |log| log.is_empty()) && node.log(2, |log| log.is_empty()));
}

#[test]
fn one_old_message_among_many_does_not_keep_their_files() {
    let disk = disk();
    let mut node = start(&disk, &[1, FILLER]);
    let positions = node.fill(1, 1000);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    let full = node.figures(1);
    // Every hundredth stays.
    for position in positions
        .iter()
        .filter(|position| !position.0.is_multiple_of(100))
    {
        node.settle(1, *position, 1024);
    }
    for _ in 0..5 {
        node.store.checkpoint_now().unwrap();
    }
    let figures = node.figures(1);
    assert_eq!(figures.segment_messages, 10);
    assert!(
        figures.file_bytes < full.file_bytes / 5,
        "{} of {} bytes left",
        figures.file_bytes,
        full.file_bytes
    );
    assert!(node.store.stats().compactions > 3);
    let read = node.read_all(1, 0, 4096);
    assert_eq!((read.messages.len(), read.damaged.len()), (10, 0));
    drop(node);
    let node = start(&disk.lose_unsynced(), &[1, FILLER]);
    assert_eq!(node.labels(), Vec::<&str>::new());
    assert_eq!(node.read_all(1, 0, 4096), read);
}

#[test]
fn a_body_that_waits_in_several_queues_is_written_once() {
    let disk = disk();
    let mut node = start(&disk, &[1, 2, 3, FILLER]);
    let body = vec![9; 100_000];
    let positions = node.publish_to(&[1, 2, 3], 0, &body, false);
    node.publish_to(&[1, 2], 0, &[8; 1000], false);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    let blobs = || {
        files(&disk)
            .iter()
            .filter(|path| path.starts_with("/data/blobs"))
            .count()
    };
    assert_eq!(blobs(), 1);
    assert!((1..=3).all(|queue| node.figures(queue).file_bytes < 10_000));
    drop(node);
    let node = start(&disk.lose_unsynced(), &[1, 2, 3, FILLER]);
    node.store.checkpoint_now().unwrap();
    for queue in 1..=3 {
        assert_eq!(node.read_all(queue, 0, 10).messages[&positions[0]], body);
        let left = blobs();
        assert_eq!(left, 1, "queue {queue} still needs it");
        node.settle(queue, positions[0], 100_000);
        node.store.checkpoint_now().unwrap();
    }
    drop(node);
}

#[test]
fn a_body_in_a_file_of_its_own_goes_with_its_last_message() {
    let disk = disk();
    let mut node = start(&disk, &[1, 2, FILLER]);
    let body = vec![3; 1_200_000];
    let first = node.publish_to(&[1, 2], 0, &body, false);
    let second = node.publish(1, &vec![4; 1_100_000]);
    node.settle(1, second, 1_100_000);
    node.seal(FILLER);
    let blobs = || {
        let files = files(&disk);
        files
            .iter()
            .filter(|path| path.starts_with("/data/blobs"))
            .count()
    };
    assert_eq!(blobs(), 2);
    node.store.checkpoint_now().unwrap();
    assert_eq!(blobs(), 1, "one was settled before it moved");
    node.settle(1, first[0], 1_200_000);
    node.store.checkpoint_now().unwrap();
    assert_eq!(blobs(), 1);
    assert_eq!(node.read_all(2, 0, 10).messages[&first[1]], body);
    node.settle(2, first[1], 1_200_000);
    node.store.checkpoint_now().unwrap();
    assert_eq!(blobs(), 0);
}

#[test]
fn settled_bodies_in_files_of_their_own_do_not_wait_for_the_journal_file_to_fill_up() {
    let disk = disk();
    let sizes = Sizes {
        journal_bytes: 1024 * 1024,
        journal_blob_bytes: 3_000_000,
        messages: MessageOptions {
            sealed_files_max: 2,
            sealed_blob_bytes_max: 2_000_000,
            ..Sizes::default().messages
        },
    };
    let blobs = |disk: &SimDisk| disk.list(&folder().join("blobs")).unwrap().len();
    let mut node = Node::start(Arc::new(disk.clone()), &sizes, &[1]);
    for _ in 0..20 {
        let position = node.publish(1, &vec![5; 1_100_000]);
        node.journal.flush().unwrap();
        node.settle(1, position, 1_100_000);
        // A file is sealed a moment after what is in it is synced.
        while blobs(&disk) > 3 {
            node.store.checkpoint_now().unwrap();
            std::thread::yield_now();
        }
    }
    assert_eq!(node.store.stats().moved_messages, 0, "nothing waited");
    // A start knows how much it finds.
    for _ in 0..2 {
        node.publish(1, &vec![6; 1_100_000]);
    }
    drop(node);
    let disk = disk.lose_unsynced();
    let node = Node::start(Arc::new(disk.clone()), &sizes, &[1]);
    node.purge(1);
    node.store.checkpoint_now().unwrap();
    // Two are in one file and go, or in two, of which the second may stay.
    assert!(blobs(&disk) <= 1);
}

#[test]
fn a_deleted_queue_leaves_nothing() {
    let disk = disk();
    let mut node = start(&disk, &[1, 2, FILLER]);
    node.fill(1, 200);
    node.publish_to(&[1, 2], 0, &[5; 80_000], false);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    node.delete_queue(1);
    node.store.checkpoint_now().unwrap();
    let left = files(&disk);
    assert!(
        left.iter().all(|path| !path.starts_with("/data/queues/1")),
        "{left:?}"
    );
    assert_eq!(node.read_all(2, 0, 10).messages.len(), 1);
    let key = |key: &&Vec<u8>| key[1..9] == 1_u64.to_be_bytes();
    assert_eq!(node.rows.held().rows.keys().filter(key).count(), 0);
    drop(node);
    // A queue that is gone when the node starts again.
    let disk = disk.lose_unsynced();
    let node = start(&disk, &[FILLER]);
    node.store.checkpoint_now().unwrap();
    assert_eq!(files(&disk), Vec::<PathBuf>::new());
    assert_eq!(node.labels(), Vec::<&str>::new());
    assert_eq!(
        node.rows
            .held()
            .rows
            .keys()
            .filter(|key| key[0] == 11)
            .count(),
        0
    );
}

#[test]
fn transient_messages_page_and_are_gone_after_a_restart() {
    let disk = disk();
    let mut node = start(&disk, &[1, FILLER]);
    let mut kept = Vec::new();
    for number in 0..100_u8 {
        let is_transient = number.is_multiple_of(2);
        let positions = node.publish_to(&[1], 0, &[number; 1000], is_transient);
        if !is_transient {
            kept.push(positions[0]);
        }
    }
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    let all: Vec<Position> = node.read_all(1, 0, 3000).messages.into_keys().collect();
    assert_eq!(all.len(), 100);
    drop(node);
    let disk = disk.lose_unsynced();
    let mut node = start(&disk, &[1, FILLER]);
    let left: Vec<Position> = node.read_all(1, 0, 3000).messages.into_keys().collect();
    assert_eq!(left, kept);
    // New ones may take the names of old ones before those are removed.
    node.publish_to(&[1], 0, &[1; 50], true);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    assert_eq!(node.read_all(1, 0, 3000).messages.len(), 51);
    let temporary = files(&disk)
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(".tmp"));
    assert_eq!(temporary.count(), 1);
}

#[test]
fn a_full_disk_gives_a_checkpoint_up_and_loses_nothing() {
    let disk = disk();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let mut node = Node::start(Arc::new(faulty.clone()), &Sizes::default(), &[1, 2, FILLER]);
    node.fill(1, 50);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    let tail = files(&disk);
    let tail_bytes = disk.content(&tail[0]).unwrap().len();
    node.fill(2, 5);
    node.fill(1, 20);
    node.seal(FILLER);
    let before = (node.read_all(1, 0, 9000), node.read_all(2, 0, 9000));
    faulty.fail_at(Operation::Write, "/queues/2", io::ErrorKind::StorageFull);
    for _ in 0..2 {
        assert!(node.store.checkpoint_now().is_err());
        assert!(node.store.stats().is_behind);
        assert_eq!(files(&disk), tail, "what was written is taken back");
        assert_eq!(disk.content(&tail[0]).unwrap().len(), tail_bytes);
        assert_eq!(
            (node.read_all(1, 0, 9000), node.read_all(2, 0, 9000)),
            before
        );
    }
    faulty.heal();
    node.store.checkpoint_now().unwrap();
    assert!(!node.store.stats().is_behind && node.journal.sealed().is_empty());
    assert_eq!(
        (node.read_all(1, 0, 9000), node.read_all(2, 0, 9000)),
        before
    );
    drop(node);
    let node = start(&disk.lose_unsynced(), &[1, 2, FILLER]);
    assert_eq!(
        (node.read_all(1, 0, 9000), node.read_all(2, 0, 9000)),
        before
    );
}

#[test]
fn a_failed_sync_or_commit_keeps_the_journal_file() {
    for (operation, path) in [
        (Operation::Sync, "/queues/"),
        (Operation::SyncNames, "/queues/1"),
        (Operation::Write, "/rows.new"),
        (Operation::Rename, "/rows"),
    ] {
        let disk = disk();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        let mut node = Node::start(Arc::new(faulty.clone()), &Sizes::default(), &[1, FILLER]);
        node.fill(1, 100);
        node.seal(FILLER);
        let before = node.read_all(1, 0, 9000);
        faulty.fail_at(operation, path, io::ErrorKind::Other);
        assert!(node.store.checkpoint_now().is_err(), "{operation:?} {path}");
        assert!(!node.journal.sealed().is_empty());
        assert_eq!(node.read_all(1, 0, 9000), before);
        // A crash here finds all of it in the journal.
        let crashed = start(&disk.lose_unsynced(), &[1, FILLER]);
        assert_eq!(crashed.read_all(1, 0, 9000), before);
        faulty.heal();
        node.store.checkpoint_now().unwrap();
        assert!(node.journal.sealed().is_empty());
        assert_eq!(node.read_all(1, 0, 9000), before);
        drop(node);
        let node = start(&disk.lose_unsynced(), &[1, FILLER]);
        assert_eq!(node.read_all(1, 0, 9000), before);
    }
}

#[test]
fn many_queues_are_moved_at_once() {
    let disk = disk();
    let queues: Vec<u64> = (1..=60).collect();
    let mut with_filler = queues.clone();
    with_filler.push(FILLER);
    let mut node = start(&disk, &with_filler);
    for round in 0..5_u8 {
        for queue in &queues {
            node.publish(*queue, &[round; 300]);
        }
    }
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    assert_eq!(node.store.stats().moved_messages, 300);
    drop(node);
    let node = start(&disk.lose_unsynced(), &with_filler);
    assert_eq!(node.labels(), Vec::<&str>::new());
    for queue in queues {
        let read = node.read_all(queue, 0, 500);
        let rounds: Vec<u8> = read.messages.values().map(|body| body[0]).collect();
        assert_eq!(rounds, [0, 1, 2, 3, 4]);
    }
}

#[test]
fn the_thread_moves_by_itself_and_ends() {
    let disk = disk();
    let mut sizes = Sizes::default();
    sizes.messages.has_thread = true;
    let mut node = Node::start(Arc::new(disk.clone()), &sizes, &[1, FILLER]);
    node.fill(1, 200);
    // Until the files fill up, one after the other. Not by `seal`, which may not see one that is recycled at once.
    while node.figures(1).journal_messages > 0 {
        let position = node.publish(FILLER, &[0; 8 * 1024]);
        node.settle(FILLER, position, 8 * 1024);
        node.journal.flush().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    node.store.close().unwrap();
    node.store.close().unwrap();
    let before = node.read_all(1, 0, 9000);
    assert_eq!(before.messages.len(), 200);
    drop(node);
    let node = start(&disk.lose_unsynced(), &[1, FILLER]);
    assert_eq!(node.read_all(1, 0, 9000), before);
}
