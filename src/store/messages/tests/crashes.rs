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
        let mut sizes = Sizes::default();
        sizes.journal_bytes = [16, 64][self.random.below(2) as usize] * 1024;
        let options = &mut sizes.messages;
        options.sealed_files_max = self.random.below(2) as usize;
        options.segment_bytes_max = [6, 90][self.random.below(2) as usize] * 1024;
        options.shared_body_bytes_min = 3000;
        sizes
    }

    fn body(&mut self) -> Vec<u8> {
        self.number += 1;
        let bytes = match self.random.below(40) {
            0 => 1_100_000,
            1..5 => 5000,
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
            11..14 => {
                if node.journal.flush().is_ok() {
                    self.ledger.confirmed();
                }
            }
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
        if !disk.is_dead() && self.random.below(4) == 0 && node.store.close().is_ok() {
            if node.journal.flush().is_ok() {
                self.ledger.confirmed();
            }
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
    let crashes = setting("HAREMQ_CRASHES").unwrap_or(300);
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
