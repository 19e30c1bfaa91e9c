//! Machines that die at any moment: what was confirmed is there afterwards, what ended is not, and nobody speaks of damage.
//!
//! `HAREMQ_CRASHES` sets the number of crashes, `HAREMQ_SEED` the first seed.

use std::sync::Arc;

use super::ledger::Ledger;
use super::support::{MortalDisk, Node, Sizes, folder};
use crate::store::disk::SimDisk;

const QUEUES: [u64; 3] = [1, 2, 3];

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Life {
    random: Random,
    ledger: Ledger,
    /// Queues that are not deleted; one that is deleted comes back under another number.
    queues: Vec<u64>,
    next_queue: u64,
    number: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            ledger: Ledger::default(),
            queues: QUEUES.to_vec(),
            next_queue: 10,
            number: 0,
        }
    }

    fn sizes(&mut self) -> Sizes {
        let mut sizes = Sizes {
            journal_bytes: [16, 64][self.random.below(2) as usize] * 1024,
            journal_blob_bytes: [1, u64::MAX][self.random.below(2) as usize],
            ..Sizes::default()
        };
        let options = &mut sizes.messages;
        options.sealed_files_max = self.random.below(2) as usize;
        options.segment_bytes_max = [6, 90][self.random.below(2) as usize] * 1024;
        options.shared_body_bytes_min = 3000;
        sizes
    }

    fn body(&mut self) -> Vec<u8> {
        self.number += 1;
        let bytes = match self.random.below(400) {
            0 => 1_100_000,
            1..50 => 5000,
            _ => 8 + self.random.below(900),
        };
        let mut body = vec![self.number as u8; bytes as usize];
        body[..8].copy_from_slice(&self.number.to_le_bytes());
        body
    }

    fn queue(&mut self) -> u64 {
        self.queues[self.random.below(self.queues.len() as u64) as usize]
    }

    /// Does something; false once the machine is dead.
    fn step(&mut self, node: &mut Node, disk: &MortalDisk) -> bool {
        match self.random.below(16) {
            0..8 => {
                let body = self.body();
                let mut queues: Vec<u64> = self.queues.clone();
                let kept = match self.random.below(3) {
                    0 => queues.len(),
                    _ => 1,
                };
                while queues.len() > kept {
                    let at = self.random.below(queues.len() as u64) as usize;
                    queues.remove(at);
                }
                let lane = [0, 0, 4][self.random.below(3) as usize];
                let is_transient = self.random.below(8) == 0;
                let positions = node.publish_to(&queues, lane, &body, is_transient);
                for (queue, position) in queues.iter().zip(positions) {
                    self.ledger.published(*queue, position, &body, is_transient);
                }
            }
            8..11 => {
                let queue = self.queue();
                let live = self.ledger.live(queue);
                let is_head = self.random.below(3) > 0;
                let count = self.random.below(12).min(live.len() as u64);
                for at in 0..count {
                    let at = match is_head {
                        true => at,
                        false => self.random.below(live.len() as u64),
                    };
                    let (position, bytes) = live[at as usize];
                    if node.log(queue, |log| log.is_live(position)) {
                        node.settle(queue, position, bytes);
                        self.ledger.settled(queue, position);
                    }
                }
            }
            11 if self.random.below(6) == 0 => {
                let queue = self.queue();
                node.purge(queue);
                self.ledger.purged(queue);
            }
            12 if self.random.below(10) == 0 => {
                let queue = self.queue();
                node.delete_queue(queue);
                self.ledger.deleted(queue);
                self.queues.retain(|other| *other != queue);
                self.next_queue += 1;
                let new = self.next_queue;
                node.add_queue(crate::model::QueueId(new));
                self.queues.push(new);
            }
            11..14 if node.journal.flush().is_ok() => self.ledger.confirmed(),
            14 => {
                let _ = node.store.checkpoint_now();
            }
            _ if self.random.below(4) == 0 && !disk.is_dead() => {
                let bytes_max = 1 + self.random.below(20_000);
                if node.journal.failure().is_none() {
                    self.ledger
                        .check_running(node, bytes_max, || disk.is_dead());
                }
            }
            _ => {}
        }
        !disk.is_dead()
    }

    /// One life: a start, some work, death at some moment.
    fn live(&mut self, sim: &SimDisk) -> SimDisk {
        let disk = MortalDisk::new(Arc::new(sim.clone()));
        let sizes = self.sizes();
        let dies_at_start = self.random.below(10) == 0;
        if dies_at_start {
            disk.die_after(self.random.below(20) as i64);
        }
        let started = Node::try_start(Arc::new(disk.clone()), &sizes, &self.queues);
        let Ok(mut node) = started else {
            return self.power_cut(sim);
        };
        self.ledger.check_recovered(&node);
        let findings = node.store.findings();
        assert!(
            findings.iter().all(|finding| !finding.kind.is_damage()),
            "{findings:?}"
        );
        assert_eq!(node.store.stats().quarantined, 0);
        if !dies_at_start {
            disk.die_after(20 + self.random.below(150) as i64);
        }
        for _ in 0..60 {
            if !self.step(&mut node, &disk) {
                break;
            }
        }
        // Some stop in good order.
        let stops = !disk.is_dead() && self.random.below(4) == 0;
        if stops && node.store.close().is_ok() && node.journal.flush().is_ok() {
            self.ledger.confirmed();
        }
        disk.die_after(0);
        drop(node);
        self.power_cut(sim)
    }

    fn power_cut(&mut self, sim: &SimDisk) -> SimDisk {
        match self.random.below(3) {
            // Kill -9: what was written is there.
            0 => sim.copy(),
            1 => sim.lose_unsynced(),
            _ => sim.crash(self.random.next()),
        }
    }
}

#[test]
fn nothing_confirmed_is_lost_and_nothing_ended_comes_back() {
    let crashes = setting("HAREMQ_CRASHES").unwrap_or(250);
    let first_seed = setting("HAREMQ_SEED").unwrap_or(1);
    const LIVES: u64 = 12;
    for seed in first_seed..first_seed + crashes.div_ceil(LIVES) {
        eprintln!("seed {seed}");
        let mut life = Life::new(seed);
        let mut disk = SimDisk::with_folder(folder());
        for _ in 0..LIVES {
            disk = life.live(&disk);
        }
    }
}

fn publish(node: &mut Node, ledger: &mut Ledger, queues: &[u64], body: &[u8]) {
    let positions = node.publish_to(queues, 0, body, false);
    for (queue, position) in queues.iter().zip(positions) {
        ledger.published(*queue, position, body, false);
    }
}

fn settle(node: &Node, ledger: &mut Ledger, queue: u64, is_settled: impl Fn(u64) -> bool) {
    for (position, bytes) in ledger.live(queue) {
        if is_settled(position.sequence()) {
            node.settle(queue, position, bytes);
            ledger.settled(queue, position);
        }
    }
}

fn fill(node: &mut Node, ledger: &mut Ledger, queue: u64, count: u64) {
    for number in 0..count {
        publish(node, ledger, &[queue], &[number as u8; 900]);
    }
}

fn moved(node: &mut Node, ledger: &mut Ledger) {
    node.seal(FILLER);
    node.store.checkpoint_now().unwrap();
    ledger.confirmed();
}

const FILLER: u64 = 99;

/// Dies before each change of the disk that two rounds of checkpoints make after what was done `before`, then again in the
/// round after the start.
fn die_at_each_step(before: impl Fn(&mut Node, &mut Ledger)) {
    let is_thorough = setting("HAREMQ_CRASHES").is_some();
    let mut step = 0;
    loop {
        let sim = SimDisk::with_folder(folder());
        let disk = MortalDisk::new(Arc::new(sim.clone()));
        let sizes = Sizes::default();
        let mut ledger = Ledger::default();
        let mut node = Node::start(Arc::new(disk.clone()), &sizes, &[1, 2, FILLER]);
        before(&mut node, &mut ledger);
        node.journal.flush().unwrap();
        ledger.confirmed();
        let queues: Vec<u64> = node.queues.keys().map(|id| id.0).collect();
        disk.die_after(step);
        let is_done = node.store.checkpoint_now().is_ok() && node.store.checkpoint_now().is_ok();
        disk.die_after(0);
        drop(node);
        let found = [sim.copy(), sim.lose_unsynced(), sim.crash(step as u64)];
        for (way, sim) in found.into_iter().enumerate() {
            if !is_thorough && way != (step % 3) as usize {
                continue;
            }
            let context = format!("step {step}, way {way}");
            let mut ledger = ledger.clone();
            let disk = MortalDisk::new(Arc::new(sim.clone()));
            let node = Node::start(Arc::new(disk.clone()), &sizes, &queues);
            assert!(
                node.store
                    .findings()
                    .iter()
                    .all(|found| !found.kind.is_damage()),
                "{context}: {:?}",
                node.store.findings()
            );
            eprintln!("{context}");
            ledger.check_recovered(&node);
            disk.die_after(step % 7);
            let _ = node.store.checkpoint_now();
            disk.die_after(0);
            drop(node);
            let node = Node::start(Arc::new(sim.crash(step as u64)), &sizes, &queues);
            ledger.check_recovered(&node);
            node.store.checkpoint_now().unwrap();
            ledger.check_running(&node, 5000, || false);
        }
        if is_done {
            break;
        }
        step += 1;
    }
    assert!(step > 3, "{step} steps");
}

#[test]
fn a_crash_while_messages_move_to_new_segments_loses_nothing() {
    die_at_each_step(|node, ledger| {
        fill(node, ledger, 1, 30);
        fill(node, ledger, 2, 10);
        settle(node, ledger, 1, |sequence| sequence < 10);
        node.seal(FILLER);
    });
}

#[test]
fn a_crash_while_messages_move_to_a_segment_that_is_there_loses_nothing() {
    die_at_each_step(|node, ledger| {
        fill(node, ledger, 1, 20);
        moved(node, ledger);
        fill(node, ledger, 1, 20);
        settle(node, ledger, 1, |sequence| sequence % 7 == 0);
        node.seal(FILLER);
    });
}

#[test]
fn a_crash_while_segments_die_loses_nothing() {
    die_at_each_step(|node, ledger| {
        fill(node, ledger, 1, 200);
        fill(node, ledger, 2, 20);
        moved(node, ledger);
        settle(node, ledger, 1, |sequence| sequence < 190);
        settle(node, ledger, 2, |_| true);
        fill(node, ledger, 2, 20);
        node.seal(FILLER);
    });
}

#[test]
fn a_crash_while_segments_are_written_anew_loses_nothing() {
    die_at_each_step(|node, ledger| {
        fill(node, ledger, 1, 300);
        moved(node, ledger);
        settle(node, ledger, 1, |sequence| sequence % 10 != 0);
    });
}

#[test]
fn a_crash_while_bodies_have_files_of_their_own_loses_nothing() {
    die_at_each_step(|node, ledger| {
        publish(node, ledger, &[1, 2], &vec![1; 1_100_000]);
        publish(node, ledger, &[1, 2], &[2; 70_000]);
        publish(node, ledger, &[1], &vec![3; 1_100_000]);
        moved(node, ledger);
        settle(node, ledger, 1, |_| true);
        publish(node, ledger, &[1, 2], &[4; 70_000]);
        settle(node, ledger, 2, |sequence| sequence == 1);
        node.seal(FILLER);
    });
}

#[test]
fn a_crash_while_a_queue_is_deleted_loses_nothing() {
    die_at_each_step(|node, ledger| {
        fill(node, ledger, 1, 30);
        publish(node, ledger, &[1, 2], &[2; 70_000]);
        moved(node, ledger);
        node.delete_queue(1);
        ledger.deleted(1);
    });
}
