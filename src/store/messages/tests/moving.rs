//! How records get from the journal to segments: in runs or one by one, whatever lies between them, and around damage.

use std::sync::Arc;

use super::support::{Node, Sizes, folder};
use crate::model::Position;
use crate::store::disk::{Access, Disk as _, FaultyDisk, SimDisk};
use crate::store::journal::Lsn;
use crate::store::queue_log::JournalEntry;

const FILLER: u64 = 99;

/// Attempts after which what cannot be read is given up.
const ATTEMPTS: usize = 10;

fn disk() -> SimDisk {
    SimDisk::with_folder(folder())
}

/// What of a queue lies in the journal.
fn entries(node: &Node, queue: u64) -> Vec<JournalEntry> {
    node.log(queue, |log| {
        log.live_between(Lsn(0), Lsn(u64::MAX), usize::MAX)
    })
}

#[test]
fn records_of_one_queue_and_of_several_move_between_each_other() {
    let disk = disk();
    let mut node = Node::start(Arc::new(disk.clone()), &Sizes::default(), &[1, 2, FILLER]);
    let mut settled: Vec<Position> = Vec::new();
    for number in 0..200_u32 {
        let body = vec![number as u8; 1 + number as usize * 7 % 500];
        let position = match number % 7 {
            0 => node.publish_to(&[1, 2], 0, &body, false)[0],
            1 => node.publish(2, &body),
            _ => node.publish(1, &body),
        };
        if number % 11 == 5 && number % 7 > 1 {
            node.settle(1, position, body.len() as u32);
            settled.push(position);
        }
    }
    let before = (node.read_all(1, 0, 9000), node.read_all(2, 0, 9000));
    assert!(settled.len() > 5 && settled.iter().all(|at| !before.0.messages.contains_key(at)));
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    assert_eq!(node.figures(1).journal_messages, 0);
    for bytes_max in [1, 5000, 1 << 30] {
        assert_eq!(node.read_all(1, 0, bytes_max), before.0);
        assert_eq!(node.read_all(2, 0, bytes_max), before.1);
    }
    drop(node);
    let node = Node::start(
        Arc::new(disk.lose_unsynced()),
        &Sizes::default(),
        &[1, 2, FILLER],
    );
    assert_eq!(node.labels(), Vec::<&str>::new());
    assert_eq!(node.read_all(1, 0, 9000), before.0);
    assert_eq!(node.read_all(2, 0, 9000), before.1);
}

#[test]
fn a_damaged_record_among_others_is_never_served_and_costs_no_other() {
    // Its head; its body.
    for offset in [20, 200] {
        let disk = disk();
        let mut node = Node::start(Arc::new(disk.clone()), &Sizes::default(), &[1, FILLER]);
        let positions = node.fill(1, 40);
        let entry = entries(&node, 1)[20];
        node.seal(FILLER);
        let path = wal_of(&disk, &node, entry.lsn);
        let (_, at) = node.journal.file_of(entry.lsn).unwrap();
        let file = disk.open(&path, Access::Write).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + offset).unwrap();
        file.write_all_at(&[!byte[0]], at + offset).unwrap();
        node.store.checkpoint_now().unwrap();
        let read = node.read_all(1, 0, 9000);
        assert_eq!(read.damaged, [positions[20]]);
        assert_eq!(read.messages.len(), 39);
        assert!(!read.messages.contains_key(&positions[20]));
    }
}

#[test]
fn what_the_disk_refuses_to_read_costs_no_neighbour() {
    let disk = disk();
    let faulty = FaultyDisk::new(Arc::new(disk.clone()));
    let mut node = Node::start(Arc::new(faulty.clone()), &Sizes::default(), &[1, FILLER]);
    let positions = node.fill(1, 40);
    let entry = entries(&node, 1)[20];
    node.seal(FILLER);
    let path = wal_of(&disk, &node, entry.lsn);
    let (_, at) = node.journal.file_of(entry.lsn).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    faulty.fail_reads_of(name, at + 100..at + 101);
    for _ in 0..ATTEMPTS {
        assert!(node.store.checkpoint_now().is_err());
    }
    node.store.checkpoint_now().unwrap();
    faulty.heal();
    let read = node.read_all(1, 0, 9000);
    assert_eq!(read.damaged, [positions[20]]);
    assert_eq!(read.messages.len(), 39);
}

/// The path of the journal file in which a place is: the one whose content has the record's own place.
fn wal_of(disk: &SimDisk, node: &Node, lsn: Lsn) -> std::path::PathBuf {
    let (file, at) = node.journal.file_of(lsn).unwrap();
    let mut wanted = vec![0; 64];
    file.read_exact_at(&mut wanted, at).unwrap();
    let mut paths = disk.list(&folder().join("journal")).unwrap();
    paths.retain(|path| {
        let content = disk.content(path).unwrap_or_default();
        content.get(at as usize..at as usize + 64) == Some(&wanted[..])
    });
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths.remove(0)
}
