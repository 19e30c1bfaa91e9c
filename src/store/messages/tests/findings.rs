//! What a start finds, case by case: each has its label, and costs no more than it must.

use std::path::PathBuf;
use std::sync::Arc;

use super::support::{FileRows, Node, Read, Sizes, folder};
use crate::model::Position;
use crate::store::disk::{Disk as _, SimDisk};
use crate::store::journal::Lsn;
use crate::store::queue_log::segment_of_key;

const FILLER: u64 = 99;
const QUEUES: [u64; 2] = [1, FILLER];

/// A disk with 300 messages of 1 KiB in segments of queue 1, and a few in the journal; and what can be read there.
fn filled() -> (SimDisk, Read) {
    let disk = SimDisk::with_folder(folder());
    let mut node = start(&disk);
    node.fill(1, 300);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    node.fill(1, 10);
    node.journal.flush().unwrap();
    let read = node.read_all(1, 0, 64 * 1024);
    assert_eq!(read.messages.len(), 310);
    drop(node);
    (disk, read)
}

fn start(disk: &SimDisk) -> Node {
    Node::start(Arc::new(disk.clone()), &Sizes::default(), &QUEUES)
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.list(&folder().join("queues/1")).unwrap()
}

/// A start again finds nothing new, and the same messages.
fn is_settled(disk: &SimDisk, expected: &Read) {
    let node = start(disk);
    node.store.checkpoint_now().unwrap();
    node.store.checkpoint_now().unwrap();
    assert_eq!(node.read_all(1, 0, 9000), *expected);
    drop(node);
    let node = start(&disk.lose_unsynced());
    assert_eq!(node.labels(), Vec::<&str>::new());
    assert_eq!(node.read_all(1, 0, 9000), *expected);
    let lane = &node.recovered[&crate::model::QueueId(1)].lanes[0];
    assert_eq!(lane.messages, expected.messages.len() as u64);
}

#[test]
fn a_file_longer_than_its_row_is_cut() {
    let (disk, read) = filled();
    let tail = segments(&disk).pop().unwrap();
    let bytes = disk.content(&tail).unwrap();
    disk.damage(&tail, |content| content.extend_from_slice(&[9; 777]));
    let node = start(&disk);
    assert_eq!(node.labels(), ["segment-longer-than-row"]);
    assert_eq!(disk.content(&tail).unwrap(), bytes);
    assert_eq!(node.read_all(1, 0, 9000), read);
    drop(node);
    is_settled(&disk, &read);
}

#[test]
fn a_missing_file_is_reported_with_its_positions_and_the_rest_is_served() {
    let (disk, mut read) = filled();
    let files = segments(&disk);
    assert_eq!(files.len(), 3);
    disk.remove(&files[1]).unwrap();
    let node = start(&disk);
    assert_eq!(node.labels(), ["segment-missing"]);
    let found = node.read_all(1, 0, 9000);
    let lost: Vec<u64> = read
        .messages
        .keys()
        .filter(|position| !found.messages.contains_key(position))
        .map(|position| position.0)
        .collect();
    assert!(lost.len() > 100 && found.damaged.is_empty());
    let detail = &node.store.findings()[0].detail;
    let range = format!("{}..={}", lost[0], lost[lost.len() - 1]);
    assert!(detail.contains(&range), "{detail} has no {range}");
    read.messages
        .retain(|position, _| !lost.contains(&position.0));
    assert_eq!(found, read);
    drop(node);
    is_settled(&disk, &read);
}

#[test]
fn a_shorter_file_is_served_as_far_as_it_goes() {
    for cut in [0, 30, 64, 1000, 50_000] {
        let (disk, mut read) = filled();
        let files = segments(&disk);
        disk.damage(&files[0], |content| content.truncate(cut));
        let node = start(&disk);
        assert_eq!(node.labels(), ["segment-shorter-than-row"]);
        let found = node.read_all(1, 0, 9000);
        assert!(found.damaged.is_empty());
        let lost = read.messages.len() - found.messages.len();
        let detail = &node.store.findings()[0].detail;
        assert!(
            detail.contains(&format!("{lost} messages are lost")),
            "{detail}"
        );
        // What was cut off is lost, and nothing else.
        assert!((1..300).contains(&lost));
        assert_eq!(found.messages.contains_key(&Position(1)), cut > 2000);
        read.messages
            .retain(|position, _| found.messages.contains_key(position));
        assert_eq!(found, read);
        drop(node);
        is_settled(&disk, &read);
    }
}

#[test]
fn a_file_without_a_row_whose_messages_are_in_the_journal_goes() {
    let disk = SimDisk::with_folder(folder());
    let mut node = start(&disk);
    node.fill(1, 20);
    let read = node.read_all(1, 0, 9000);
    node.seal(FILLER);
    let before = disk.copy();
    node.store.checkpoint_now().unwrap();
    drop(node);
    // The rows and the journal of before, the segments of after.
    let crashed = before;
    for path in segments(&disk) {
        crashed.make_folder(path.parent().unwrap()).unwrap();
        crashed
            .open(&path, crate::store::disk::Access::Create)
            .unwrap();
        let content = disk.content(&path).unwrap();
        crashed.damage(&path, |bytes| *bytes = content.clone());
    }
    let node = start(&crashed);
    assert_eq!(node.labels(), ["unfinished-checkpoint"]);
    assert!(segments(&crashed).is_empty());
    assert_eq!(node.read_all(1, 0, 9000), read);
    drop(node);
    is_settled(&crashed, &read);
}

#[test]
fn a_compaction_without_a_row_goes() {
    let (disk, read) = filled();
    let old = segments(&disk).remove(0);
    let new = old.with_file_name("0-0.1.seg");
    disk.open(&new, crate::store::disk::Access::Create).unwrap();
    disk.damage(&new, |content| content.extend_from_slice(&[7; 100]));
    let node = start(&disk);
    assert_eq!(node.labels(), ["unfinished-compaction"]);
    assert!(!segments(&disk).contains(&new));
    assert_eq!(node.read_all(1, 0, 9000), read);
    drop(node);
    is_settled(&disk, &read);
}

#[test]
fn when_the_catalogue_is_lost_the_files_are_adopted() {
    let (disk, mut read) = filled();
    // What the journal knows to be settled stays so.
    let node = start(&disk);
    for sequence in [3, 150, 305] {
        node.settle(1, Position(sequence), 1024);
        read.messages.remove(&Position(sequence));
    }
    node.journal.flush().unwrap();
    drop(node);
    disk.remove(&folder().join("rows")).unwrap();
    let node = start(&disk);
    assert_eq!(node.labels(), ["segment-adopted"]);
    assert_eq!(node.read_all(1, 0, 9000), read);
    drop(node);
    is_settled(&disk, &read);
}

#[test]
fn a_damaged_row_costs_no_message() {
    let (disk, read) = filled();
    let rows = FileRows::open(Arc::new(disk.clone()));
    let mut held = rows.held();
    let keys: Vec<_> = held.rows.keys().cloned().collect();
    let key = keys
        .iter()
        .find(|key| segment_of_key(key).is_some())
        .unwrap();
    held.rows.insert(key.clone(), vec![0xff; 3]);
    rows.write(&held).unwrap();
    let node = start(&disk);
    assert_eq!(node.labels(), ["row-damaged", "segment-adopted"]);
    assert_eq!(node.read_all(1, 0, 9000), read);
    drop(node);
    is_settled(&disk, &read);
}

#[test]
fn a_damaged_file_without_a_row_is_adopted_as_far_as_it_is_sound() {
    let (disk, mut read) = filled();
    disk.remove(&folder().join("rows")).unwrap();
    let files = segments(&disk);
    disk.damage(&files[0], |content| content[5000] ^= 1);
    disk.damage(&files[1], |content| content.fill(0));
    let node = start(&disk);
    assert_eq!(node.labels(), ["segment-adopted", "segment-unreadable"]);
    let found = node.read_all(1, 0, 9000);
    let lost = read.messages.len() - found.messages.len();
    assert!((100..200).contains(&lost), "{lost}");
    assert!(node.store.stats().quarantined >= 2);
    assert!(!segments(&disk).contains(&files[1]), "it is set aside");
    read.messages
        .retain(|position, _| found.messages.contains_key(position));
    assert_eq!(found, read);
    drop(node);
    is_settled(&disk, &read);
}

#[test]
fn rows_of_later_than_the_journal_are_reported_and_written_again() {
    let (disk, read) = filled();
    for path in disk.list(&folder().join("journal")).unwrap() {
        disk.remove(&path).unwrap();
    }
    let rows = FileRows::open(Arc::new(disk.clone()));
    let mut held = rows.held();
    held.checkpoint = Lsn(0);
    rows.write(&held).unwrap();
    let node = start(&disk);
    assert_eq!(node.labels(), ["journal-behind-rows"]);
    let found = node.read_all(1, 0, 9000);
    assert_eq!(found.messages.len(), 300);
    // Settlements from here on count.
    node.settle(1, Position(7), 1024);
    node.journal.flush().unwrap();
    drop(node);
    let node = start(&disk);
    assert_eq!(node.labels(), Vec::<&str>::new());
    let mut expected = read;
    expected
        .messages
        .retain(|position, _| position.0 <= 300 && position.0 != 7);
    assert_eq!(node.read_all(1, 0, 9000), expected);
}

#[test]
fn nobody_hears_of_losses_of_a_queue_that_is_gone() {
    let (disk, _) = filled();
    disk.remove(&segments(&disk)[0]).unwrap();
    let node = Node::start(Arc::new(disk.clone()), &Sizes::default(), &[FILLER]);
    assert_eq!(node.labels(), Vec::<&str>::new());
    node.store.checkpoint_now().unwrap();
    assert!(segments(&disk).is_empty());
}
