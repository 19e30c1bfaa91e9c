//! Power cuts at random moments. What had been synced is there, nothing else that was not appended, and the journal goes on.
//!
//! A life of the journal: replay, a random workload on a disk whose power goes off after a random number of operations, a crash that
//! loses a random part of what was not synced. Several lives follow each other on what the one before left.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::store::disk::FaultyDisk;

/// Lives that the usual run takes; more with the environment variable.
const CRASHES: u64 = 2000;
const CRASHES_VARIABLE: &str = "HAREMQ_CRASHES";
const LIVES: u64 = 5;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

/// What was appended and may be there.
struct Record {
    what: String,
    /// Those of one hold are there together or not at all.
    hold: u64,
    /// What must be synced for it to be there.
    end: Lsn,
}

struct World {
    random: Random,
    disk: SimDisk,
    records: BTreeMap<Lsn, Record>,
    /// What is below has been synced.
    synced: Lsn,
    /// Where replay begins, as the catalogue would say.
    from: Lsn,
    clean_end: Option<Lsn>,
    hold: u64,
    position: u64,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            disk: sim(),
            records: BTreeMap::new(),
            synced: Lsn(0),
            from: Lsn(0),
            clean_end: None,
            hold: 0,
            position: 0,
            seed,
        }
    }

    fn live(&mut self) {
        let recovered = self.recover();
        let disk = FaultyDisk::new(Arc::new(self.disk.clone()));
        if self.random.below(4) > 0 {
            disk.power_off(self.random.below(60) as u32);
        }
        let sync = match self.random.below(6) {
            0 => SyncMode::Never,
            1 => SyncMode::Interval(Duration::from_micros(self.random.below(200))),
            _ => SyncMode::Always,
        };
        let options = JournalOptions {
            sync_interval: Duration::from_millis(1),
            file_bytes: 32 * 1024,
            entries_max: 40,
            blob_bytes_max: [1, u64::MAX][self.random.below(2) as usize],
            sync,
            settle_delay: Duration::from_micros(self.random.below(500)),
            full_retry: Duration::from_millis(1),
            reserve_bytes: 0,
        };
        let start = recovered.next.start;
        let confirmed = Arc::new(AtomicU64::new(0));
        if let Ok(journal) = Journal::start(Arc::new(disk.clone()), data(), recovered, options) {
            assert_eq!(journal.synced().0, start);
            self.work(&journal, &confirmed);
            // What was told before the power went off had been synced before.
            if sync == SyncMode::Always {
                let confirmed = Lsn(confirmed.load(Ordering::Acquire));
                self.synced = self.synced.max(confirmed);
            }
            self.synced = self.synced.max(journal.synced().0);
            self.clean_end = match self.random.below(3) {
                0 => journal.close().ok(),
                _ => None,
            };
            if let Some(end) = self.clean_end {
                self.synced = self.synced.max(end);
            }
        }
        disk.power_off(0);
        self.crash();
    }

    fn work(&mut self, journal: &Journal, confirmed: &Arc<AtomicU64>) {
        for _ in 0..self.random.below(60) {
            if journal.failure().is_some() {
                break;
            }
            let end = self.hold(journal);
            match self.random.below(4) {
                0 => {
                    let _ = journal.flush();
                }
                1 | 2 => {
                    let confirmed = confirmed.clone();
                    let done = move |outcome: Result<(), StoreError>| {
                        if outcome.is_ok() {
                            confirmed.fetch_max(end.0, Ordering::Release);
                        }
                    };
                    journal.when_synced(end, Box::new(done));
                }
                _ => {}
            }
            let sealed = journal.sealed();
            if sealed.len() > 2 && self.random.below(2) == 0 {
                self.from = sealed[0].end;
                self.records = self.records.split_off(&self.from);
                let _ = journal.recycle(sealed[0].generation);
            }
        }
    }

    /// Appends one to four records in one hold.
    fn hold(&mut self, journal: &Journal) -> Lsn {
        self.hold += 1;
        let mut appender = journal.append();
        let mut appended = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let lsn = appender.next_lsn();
            self.position += 1;
            let (queue, position) = (self.random.below(3), self.position);
            let what = match self.random.below(5) {
                0 => {
                    let runs = [Run {
                        first: Position(position),
                        count: 1 + self.random.below(9) as u32,
                        body_bytes: 0,
                    }];
                    appender.settled(QueueId(queue), &runs);
                    let queue = QueueId(queue);
                    let runs = runs.to_vec();
                    format!("{:?}", Content::Settled { queue, runs })
                }
                1 => {
                    let changes = format!("change {position}");
                    appender.definitions(changes.as_bytes());
                    format!("definitions {changes}")
                }
                kind => {
                    let largest = if self.random.below(20) == 0 {
                        40_000
                    } else {
                        1500
                    };
                    let bytes = self.random.below(largest) as usize;
                    let body = format!("{position} ").repeat(bytes / 4);
                    let message = message(body.as_bytes());
                    let crc = BodyCrc::of(&message);
                    let targets = [target(queue, position)];
                    let appended = match kind {
                        2 => appender.transient(&message, crc, &targets),
                        3 => {
                            let demands =
                                [SyncDemand::Never, SyncDemand::Interval, SyncDemand::Always];
                            let demand = demands[self.random.below(3) as usize];
                            appender.message_asking(&message, crc, &targets, demand)
                        }
                        _ => appender.message(&message, crc, &targets),
                    };
                    assert_eq!(appended.lsn, lsn);
                    format!("[({queue}, {position})] {body}")
                }
            };
            appended.push((lsn, what));
        }
        let end = appender.end();
        drop(appender);
        let hold = self.hold;
        for (lsn, what) in appended {
            self.records.insert(lsn, Record { what, hold, end });
        }
        end
    }

    fn crash(&mut self) {
        self.disk = match self.random.below(10) {
            0 => self.disk.lose_unsynced(),
            // Kill -9 loses nothing of what was written; it is not synced by that either.
            1 => return,
            _ => self.disk.crash(self.random.next()),
        };
    }

    /// Replays and compares with what should be there. What is there from now on stays there.
    fn recover(&mut self) -> Recovered {
        let seed = self.seed;
        let (recovered, seen) = replay_from(&self.disk, self.from, self.clean_end);
        let report = &recovered.report;
        let is_usual = |case: &&ReplayCase| {
            matches!(
                case,
                ReplayCase::TornTail { .. }
                    | ReplayCase::UnusedFile { .. }
                    | ReplayCase::StaleBytes { .. }
            )
        };
        let unusual = report.cases.iter().find(|case| !is_usual(case));
        assert_eq!(unusual, None, "seed {seed}: {report:?}");
        assert_eq!(report.damaged, [], "seed {seed}");
        assert!(report.end >= self.synced, "seed {seed}");
        assert!(
            seen.windows(2).all(|pair| pair[0].lsn < pair[1].lsn),
            "seed {seed}: not in order"
        );
        let mut holds = BTreeMap::<u64, usize>::new();
        for seen in &seen {
            let record = self.records.get(&seen.lsn);
            let what = record.map(|record| record.what.as_str());
            assert_eq!(
                what,
                Some(seen.what.as_str()),
                "seed {seed}: never appended"
            );
            let hold = record.unwrap().hold;
            *holds.entry(hold).or_default() += 1;
        }
        for (lsn, record) in &self.records {
            if record.end <= self.synced {
                let is_there = seen.binary_search_by_key(lsn, |seen| seen.lsn).is_ok();
                assert!(is_there, "seed {seed}: {lsn} was synced and is lost");
            }
            if let Some(found) = holds.get(&record.hold) {
                let all = self
                    .records
                    .values()
                    .filter(|other| other.hold == record.hold);
                assert_eq!(*found, all.count(), "seed {seed}: a hold came back in part");
            }
        }
        self.records
            .retain(|_, record| holds.contains_key(&record.hold));
        self.synced = self.synced.max(report.end);
        recovered
    }
}

#[test]
fn what_was_synced_survives_any_power_cut() {
    let crashes = std::env::var(CRASHES_VARIABLE)
        .ok()
        .map_or(CRASHES, |crashes| crashes.parse().unwrap());
    for seed in 0..crashes / LIVES {
        let mut world = World::new(seed);
        for _ in 0..LIVES {
            world.live();
        }
        world.recover();
    }
}

#[test]
fn large_bodies_survive_power_cuts_with_their_records() {
    for seed in 0..8 {
        let sim = sim();
        let disk = FaultyDisk::new(Arc::new(sim.clone()));
        disk.power_off(6 + seed as u32);
        let (recovered, _) = replay_all(&sim);
        let journal = Journal::start(Arc::new(disk), data(), recovered, options());
        let appended = journal.as_ref().ok().map(|journal| {
            let body = vec![seed as u8; record_limit()];
            (append(journal, 1, &body), journal.flush().is_ok())
        });
        let after = sim.crash(seed);
        let (_, seen) = replay_all(&after);
        let Some((appended, was_synced)) = appended else {
            continue;
        };
        assert!(!was_synced || seen.len() == 1, "seed {seed}");
        if !seen.is_empty() {
            let path = format!("/data/blobs/{:016x}", appended.lsn.0);
            let body = after.content(Path::new(&path)).unwrap();
            assert_eq!(body, vec![seed as u8; record_limit()], "seed {seed}");
        }
    }
}

const fn record_limit() -> usize {
    crate::store::record::BLOB_BYTES_MIN
}
