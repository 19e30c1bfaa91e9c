//! What a read gives when what it looks for is damaged, gone, or moved meanwhile.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::support::{Node, Sizes, folder};
use crate::model::{Position, QueueId};
use crate::store::disk::faulty::Operation;
use crate::store::disk::{Access, Disk as _, FaultyDisk, SimDisk};

const FILLER: u64 = 99;

fn start(disk: &SimDisk) -> Node {
    Node::start(Arc::new(disk.clone()), &Sizes::default(), &[1, 2, FILLER])
}

fn moved(disk: &SimDisk) -> Node {
    let mut node = start(disk);
    node.fill(1, 60);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    node
}

fn segment(disk: &SimDisk) -> PathBuf {
    disk.list(&folder().join("queues/1")).unwrap().remove(0)
}

fn disk() -> SimDisk {
    SimDisk::with_folder(folder())
}

#[test]
fn a_damaged_body_is_set_aside_with_its_position_and_the_rest_is_read() {
    let disk = disk();
    let node = moved(&disk);
    let path = segment(&disk);
    let content = disk.content(&path).unwrap();
    // The body of the tenth message.
    let at =
        (0..content.len()).find(|at| content[*at..].starts_with(&[9, 0, 0, 0, 0, 0, 0, 0, 7, 7]));
    disk.damage(&path, |content| content[at.unwrap() + 500] ^= 1);
    for _ in 0..2 {
        let read = node.read_all(1, 0, 64 * 1024);
        assert_eq!(read.damaged, [Position(10)]);
        assert_eq!(read.messages.len(), 59);
    }
    assert_eq!(node.store.stats().quarantined, 1);
    let kept = disk.list(&folder().join("quarantine")).unwrap();
    assert_eq!(kept.len(), 2, "a piece and the report: {kept:?}");
    let report = disk
        .content(&folder().join("quarantine/report.jsonl"))
        .unwrap();
    let report = String::from_utf8(report).unwrap();
    assert!(
        report.contains("\"queue\":1") && report.contains("\"sequence\":10"),
        "{report}"
    );
}

#[test]
fn a_damaged_head_costs_its_message_alone() {
    let disk = disk();
    let node = moved(&disk);
    let path = segment(&disk);
    let content = disk.content(&path).unwrap();
    let at = (1..content.len() / 8)
        .map(|at| at * 8)
        .filter(|at| content[*at..].starts_with(b"HQr1"));
    let tenth = at.clone().nth(9).unwrap();
    disk.damage(&path, |content| content[tenth + 20] ^= 1);
    let read = node.read_all(1, 0, 64 * 1024);
    assert_eq!(
        (read.damaged, read.messages.len()),
        (vec![Position(10)], 59)
    );
    // Two in a row.
    let eleventh = at.clone().nth(10).unwrap();
    disk.damage(&path, |content| content[eleventh] ^= 1);
    let read = node.read_all(1, 0, 64 * 1024);
    assert_eq!(read.damaged, [Position(10), Position(11)]);
    assert_eq!(read.messages.len(), 58);
}

#[test]
fn a_damaged_journal_record_is_reported_by_its_reader_and_passed_by_the_checkpoint() {
    let disk = disk();
    let mut node = start(&disk);
    node.fill(1, 20);
    node.seal(FILLER);
    let journal = disk.list(&folder().join("journal")).unwrap();
    let is_wal = |path: &&PathBuf| path.to_string_lossy().contains("wal-");
    let wal = journal.iter().find(is_wal).unwrap();
    let content = disk.content(wal).unwrap();
    let find = |number: u8| {
        let body = [number, 0, 0, 0, 0, 0, 0, 0, 7, 7];
        (0..content.len())
            .find(|at| content[*at..].starts_with(&body))
            .unwrap()
    };
    let (body, head) = (find(4) + 100, find(9) - 60);
    disk.damage(wal, |content| {
        content[body] ^= 1;
        content[head] ^= 1;
    });
    let damaged = [Position(5), Position(10)];
    assert_eq!(node.read_all(1, 0, 9000).damaged, damaged);
    node.store.checkpoint_now().unwrap();
    assert!(node.journal.sealed().is_empty());
    let read = node.read_all(1, 0, 9000);
    assert_eq!(
        (read.damaged.as_slice(), read.messages.len()),
        (&damaged[..], 18)
    );
    for position in damaged {
        let mut runs = Vec::new();
        assert!(node.log(1, |log| log.settle_lost(position, &mut runs)));
    }
    assert_eq!(node.read_all(1, 0, 9000).damaged, []);
}

#[test]
fn a_missing_body_file_is_damage_only_while_its_message_lives() {
    let disk = disk();
    let mut node = start(&disk);
    let gone = node.publish(1, &vec![1; 1_100_000]);
    let cut = node.publish(1, &vec![2; 1_100_000]);
    let settled = node.publish(1, &vec![3; 1_100_000]);
    node.publish(1, b"the rest");
    node.journal.flush().unwrap();
    let mut files = disk.list(&folder().join("blobs")).unwrap();
    let plan = node.log(1, |log| log.plan(Position(1), Position(100), 1 << 40));
    disk.remove(&files.remove(0)).unwrap();
    disk.damage(&files.remove(0), |content| content.truncate(10));
    node.settle(1, settled, 1_100_000);
    disk.remove(&files.remove(0)).unwrap();
    let block = node.store.read(QueueId(1), &plan);
    assert_eq!(block.damaged, [gone, cut]);
    assert_eq!(block.messages.len(), 1);
    assert!(!block.failed && !block.retry);
    assert_eq!(node.store.stats().damaged_messages, 2);
}

#[test]
fn what_moved_since_the_plan_is_planned_again() {
    let disk = disk();
    let mut node = start(&disk);
    node.fill(1, 200);
    let plan = |node: &Node| node.log(1, |log| log.plan(Position(1), Position(1000), 1 << 30));
    let in_journal = plan(&node);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    let block = node.store.read(QueueId(1), &in_journal);
    assert!(block.retry && block.messages.is_empty() && block.damaged.is_empty());
    assert_eq!(block.through, None);

    let before_compaction = plan(&node);
    for sequence in (1..=200).filter(|sequence| sequence % 50 != 0) {
        node.settle(1, Position(sequence), 1024);
    }
    node.store.checkpoint_now().unwrap();
    assert!(node.store.stats().compactions > 0);
    let block = node.store.read(QueueId(1), &before_compaction);
    assert!(block.retry && block.damaged.is_empty());
    let read = node.read_all(1, 0, 1 << 30);
    assert_eq!((read.messages.len(), read.damaged.len()), (4, 0));

    let before_the_end = plan(&node);
    node.purge(1);
    node.store.checkpoint_now().unwrap();
    let block = node.store.read(QueueId(1), &before_the_end);
    assert!(block.damaged.is_empty() && block.messages.is_empty() && !block.failed);
}

#[test]
fn a_read_ends_after_about_the_bytes_asked_for() {
    let disk = disk();
    let node = moved(&disk);
    let mut plan = node.log(1, |log| log.plan(Position(1), Position(60), 1 << 30));
    plan.bytes_max = 4096;
    let block = node.store.read(QueueId(1), &plan);
    assert!(
        (2..12).contains(&block.messages.len()),
        "{}",
        block.messages.len()
    );
    assert_eq!(
        block.through,
        block.messages.last().map(|read| read.position)
    );
    plan.bytes_max = 0;
    let block = node.store.read(QueueId(1), &plan);
    assert_eq!(block.messages.len(), 1, "one always comes");
}

#[test]
fn a_disk_that_refuses_is_no_damage() {
    let sim = disk();
    let faulty = FaultyDisk::new(Arc::new(sim.clone()));
    let mut node = Node::start(Arc::new(faulty.clone()), &Sizes::default(), &[1, 2, FILLER]);
    node.fill(1, 60);
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    faulty.fail_at(Operation::Read, "/queues/1", io::ErrorKind::Other);
    let plan = node.log(1, |log| log.plan(Position(1), Position(60), 1 << 30));
    let block = node.store.read(QueueId(1), &plan);
    assert!(block.failed && block.through.is_none() && block.damaged.is_empty());
    faulty.heal();
    assert_eq!(node.read_all(1, 0, 9000).messages.len(), 60);
}

#[test]
fn a_file_that_vanishes_while_the_node_runs_is_told_by_position() {
    let disk = disk();
    let mut node = moved(&disk);
    node.publish(1, b"still there");
    disk.remove(&segment(&disk)).unwrap();
    let read = node.read_all(1, 0, 1 << 30);
    assert_eq!(read.damaged, (1..=60).map(Position).collect::<Vec<_>>());
    assert_eq!(read.messages.len(), 1);
}

/// The frame of a former life was not written to its end, so that its places are given again; what is left of it lies in the file
/// until they are written.
#[test]
fn what_is_not_written_yet_is_not_taken_from_a_former_life_of_the_file() {
    // The writer takes what has gathered when it comes by, so it may take two frames for two messages: then once more.
    let disk = std::iter::repeat_with(|| {
        let disk = SimDisk::with_folder(folder());
        let mut node = Node::start(Arc::new(disk.clone()), &Sizes::default(), &[1]);
        let before = node.journal.stats().frames;
        for _ in 0..2 {
            node.publish(1, &[1; 500]);
        }
        node.journal.flush().unwrap();
        (node.journal.stats().frames == before + 1).then_some(disk)
    })
    .take(1000)
    .find_map(|disk| disk)
    .unwrap();
    let files = disk.list(&folder().join("journal")).unwrap();
    let is_journal = |path: &&PathBuf| path.to_string_lossy().contains("/wal-");
    let current = files.iter().rfind(is_journal).unwrap();
    // The head of its only frame, behind the block with the file's own.
    let file = disk.open(current, Access::Write).unwrap();
    file.write_all_at(&[0; 64], 4096).unwrap();
    file.sync_data().unwrap();
    let mut node = Node::start(Arc::new(disk.clone()), &Sizes::default(), &[1]);
    assert_eq!(node.read_all(1, 0, 1 << 20).messages.len(), 0);
    for _ in 0..2 {
        node.publish(1, &[2; 600]);
    }
    let read = node.read_all(1, 0, 1 << 20).messages;
    assert_eq!(read.len(), 2);
    assert!(read.values().all(|body| *body == [2; 600]));
}
