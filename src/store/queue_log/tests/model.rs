//! The log beside a plain model: a list of everything that was written to the journal, files as lists of positions, rows as
//! a map, and what is live found by going through all of the list.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LANES: u8 = 2;

#[derive(Clone, Debug)]
enum Written {
    Message(JournalEntry),
    Settled(Vec<Run>),
    Purged(Purged),
    Requeued(Vec<(Position, u32, u32)>),
}

/// What a plain replay of everything says.
#[derive(Default)]
struct Truth {
    live: BTreeMap<Position, JournalEntry>,
    counts: BTreeMap<Position, (u32, u32)>,
}

impl Truth {
    fn apply(&mut self, written: &Written) {
        match written {
            Written::Message(entry) => {
                self.live.insert(entry.position, *entry);
            }
            Written::Settled(runs) => {
                for position in positions(runs) {
                    self.settle(position);
                }
            }
            Written::Purged(purged) => {
                let survivors: BTreeSet<_> = positions(&purged.survivors).collect();
                let is_done = |position: &Position| {
                    let last = purged
                        .last
                        .iter()
                        .find(|last| last.lane() == position.lane());
                    last.is_some_and(|last| position <= last) && !survivors.contains(position)
                };
                let done: Vec<_> = self.live.keys().copied().filter(is_done).collect();
                for position in done {
                    self.settle(position);
                }
            }
            Written::Requeued(counts) => {
                for (position, acquired, failed) in counts {
                    if self.live.contains_key(position) {
                        self.counts.insert(*position, (*acquired, *failed));
                    }
                }
            }
        }
    }

    fn settle(&mut self, position: Position) -> Option<JournalEntry> {
        self.counts.remove(&position);
        self.live.remove(&position)
    }
}

fn positions(runs: &[Run]) -> impl Iterator<Item = Position> + '_ {
    let each = |run: &Run| (run.first.0..run.first.0 + u64::from(run.count)).map(Position);
    runs.iter().flat_map(each)
}

struct World {
    log: QueueLog,
    dirty: Arc<DirtyQueues>,
    truth: Truth,
    /// Everything that was ever written and not lost, with its place.
    history: Vec<(Lsn, Written)>,
    end: Lsn,
    checkpoint: Lsn,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The greatest end of the journal that rows on the disk rest on.
    as_of: Lsn,
    /// Up to here the journal survives for sure.
    synced: Lsn,
    /// Position and end of each record.
    files: BTreeMap<SegmentId, Vec<(Position, u64)>>,
    next: [u64; LANES as usize],
    blobs_freed: Vec<u64>,
    has_changed_rows: bool,
}

impl World {
    fn new() -> Self {
        let dirty = Arc::new(DirtyQueues::default());
        Self {
            log: QueueLog::new(QUEUE, Arc::clone(&dirty)),
            dirty,
            truth: Truth::default(),
            history: Vec::new(),
            end: Lsn(4096),
            checkpoint: Lsn(4096),
            rows: BTreeMap::new(),
            as_of: Lsn(0),
            synced: Lsn(0),
            files: BTreeMap::new(),
            next: [1; LANES as usize],
            blobs_freed: Vec::new(),
            has_changed_rows: false,
        }
    }

    fn write(&mut self, written: Written, bytes: u64) {
        self.history.push((self.end, written));
        self.end.0 += bytes;
    }

    fn append(&mut self, lane: u8, seed: u32) {
        let at = usize::from(lane);
        let entry = JournalEntry {
            position: Position::new(lane, self.next[at]),
            lsn: self.end,
            record_bytes: 8192 * (1 + seed % 4),
            body_bytes: seed % 8000,
            is_transient: seed.is_multiple_of(5),
            may_expire: seed.is_multiple_of(7),
            has_blob: seed.is_multiple_of(11),
        };
        self.next[at] += 1;
        self.write(Written::Message(entry), entry.record_bytes.into());
        assert!(self.log.appended(entry));
        assert!(!self.log.appended(entry), "a position twice");
        self.truth.live.insert(entry.position, entry);
    }

    fn nth_live(&self, seed: u32) -> Option<JournalEntry> {
        let live = &self.truth.live;
        // Half of the time near the front, as consumers do.
        let span = match seed % 2 {
            0 => live.len().min(3),
            _ => live.len(),
        };
        let at = (seed / 2) as usize % span.max(1);
        live.values().nth(at).copied()
    }

    fn free(&mut self, entry: JournalEntry) {
        self.blobs_freed
            .extend(entry.has_blob.then_some(entry.lsn.0));
    }

    fn settle(&mut self, seed: u32, count: u32) {
        let mut runs = Vec::new();
        let mut next = self.nth_live(seed);
        for _ in 0..count {
            let Some(entry) = next else { break };
            assert!(self.log.settle(entry.position, entry.body_bytes, &mut runs));
            assert!(!self.log.settle(entry.position, entry.body_bytes, &mut runs));
            self.truth.settle(entry.position);
            self.free(entry);
            next = self.truth.live.get(&entry.position.next()).copied();
        }
        if !runs.is_empty() {
            self.write(Written::Settled(runs), 64);
        }
    }

    fn purge(&mut self, seed: u32) {
        let survives = |entry: &&JournalEntry| {
            seed.is_multiple_of(3) && !(entry.position.0 ^ u64::from(seed)).is_multiple_of(3)
        };
        let mut runs = Vec::<Run>::new();
        let mut before_is_transient = false;
        for entry in self.truth.live.values().filter(survives) {
            let mut own = Vec::new();
            // A run of both kinds is right too, but its bytes are split by numbers.
            if before_is_transient == entry.is_transient {
                own.extend(runs.pop());
            }
            before_is_transient = entry.is_transient;
            Run::push(&mut own, entry.position, entry.body_bytes);
            runs.extend(own);
        }
        let survivors: BTreeSet<_> = positions(&runs).collect();
        let gone: Vec<_> = self
            .truth
            .live
            .keys()
            .filter(|position| !survivors.contains(position))
            .copied()
            .collect();
        let purged = self.log.purge(&runs);
        for position in gone {
            let entry = self.truth.settle(position).unwrap();
            self.free(entry);
        }
        let journaled: BTreeSet<_> = positions(&purged.survivors).collect();
        let persistent = self.truth.live.values().filter(|entry| !entry.is_transient);
        assert!(
            persistent
                .map(|entry| entry.position)
                .all(|position| journaled.contains(&position))
        );
        self.write(Written::Purged(purged), 64);
    }

    fn requeue(&mut self, seed: u32) {
        let Some(entry) = self.nth_live(seed) else {
            return;
        };
        let counts = (seed % 5, seed % 3);
        self.log.requeued(entry.position, counts.0, counts.1);
        self.truth.counts.insert(entry.position, counts);
        if !entry.is_transient {
            self.write(
                Written::Requeued(vec![(entry.position, counts.0, counts.1)]),
                64,
            );
        }
    }

    /// A file of the journal goes from the checkpoint to a random place; its messages move.
    fn checkpoint(&mut self, seed: u32) {
        let messages: Vec<_> = self
            .history
            .iter()
            .map(|(lsn, _)| *lsn)
            .filter(|lsn| *lsn >= self.checkpoint)
            .collect();
        let end = match messages.get(seed as usize % (messages.len() + 1)) {
            Some(lsn) => *lsn,
            None => self.end,
        };
        let entries_max = 1 + seed as usize % 7;
        loop {
            let entries = self.log.live_between(self.checkpoint, end, entries_max);
            if entries.is_empty() {
                break;
            }
            assert!(entries.len() <= entries_max);
            for lane in 0..LANES {
                for is_transient in [false, true] {
                    let is_of = |entry: &&JournalEntry| {
                        entry.position.lane() == lane && entry.is_transient == is_transient
                    };
                    let of_kind: Vec<_> = entries.iter().filter(is_of).copied().collect();
                    let half = of_kind.len() / 2;
                    let (first, second) =
                        of_kind.split_at(if seed.is_multiple_of(4) { half } else { 0 });
                    for (part, entries) in [first, second].into_iter().enumerate() {
                        if !entries.is_empty() {
                            self.move_to_segment(lane, is_transient, entries, seed ^ part as u32);
                        }
                    }
                }
            }
        }
        let commits = !seed.is_multiple_of(6);
        if commits {
            self.commit(seed, Some(end));
        }
    }

    fn move_to_segment(
        &mut self,
        lane: u8,
        is_transient: bool,
        entries: &[JournalEntry],
        seed: u32,
    ) {
        let next = entries[0].position;
        let tail = self.log.tail_segment(lane, is_transient, next);
        let (id, mut bytes) = match tail {
            Some(tail) => (tail.id, tail.bytes),
            None => (self.log.next_segment(lane, is_transient), 64),
        };
        if tail.is_none() {
            assert!(!self.files.contains_key(&id), "a number twice");
        }
        let file = self.files.entry(id).or_default();
        file.retain(|(_, end)| *end <= bytes);
        for entry in entries {
            bytes += u64::from(entry.record_bytes);
            file.push((entry.position, bytes));
        }
        match seed % 5 {
            // Life goes on while the file is written.
            0 => self.settle(seed / 5, 3),
            1 if seed.is_multiple_of(9) => self.purge(seed),
            _ => {}
        }
        assert!(self.log.moved(Moved {
            segment: id,
            bytes,
            is_sealed: seed.is_multiple_of(3),
            entries: entries.to_vec(),
        }));
    }

    /// Rows go to the disk, or do not.
    fn commit(&mut self, seed: u32, checkpoint: Option<Lsn>) {
        let taken = self.log.take_rows(self.end);
        if seed.is_multiple_of(5) {
            self.log.rows_not_written();
            return;
        }
        if taken.puts.iter().any(|(key, _)| key[0] == KEY_KIND_QUEUE) {
            self.as_of = self.end;
            self.synced = self.end;
        }
        self.rows.extend(taken.puts);
        for key in taken.deletes {
            self.rows.remove(&key);
        }
        if let Some(checkpoint) = checkpoint {
            self.checkpoint = checkpoint;
            // A file is recycled only when the settlements that made it superfluous are synced.
            self.synced = self.end;
        }
        for id in taken.dead {
            // A new segment that was emptied before its file was begun to be written again has none.
            self.files.remove(&id);
            if !seed.is_multiple_of(7) {
                self.log.segment_removed(id);
            }
        }
    }

    fn compact(&mut self, seed: u32) {
        for candidate in self.log.compaction_candidates(2) {
            let (old, mut bytes) = (candidate.segment.id, 64);
            let id = SegmentId {
                version: old.version + 1,
                ..old
            };
            let mut file = Vec::new();
            for span in &candidate.live {
                for position in span.first.0..=span.last.0 {
                    bytes += 8192;
                    file.push((Position(position), bytes));
                }
            }
            let messages = file.len() as u32;
            if seed.is_multiple_of(2) {
                self.settle(seed, 2);
            }
            let is_used = self.log.compacted(Compacted {
                old,
                version: id.version,
                bytes,
                messages,
            });
            if is_used {
                self.files.insert(id, file);
            }
        }
    }

    /// The process ends; what was not synced is lost, but for what rows rest on.
    fn crash(&mut self, seed: u32) {
        let oldest = self.synced;
        let mut lost = self
            .history
            .iter()
            .rev()
            .map(|(lsn, _)| *lsn)
            .take(seed as usize % 4);
        if let Some(end) = lost.next_back().filter(|end| *end >= oldest) {
            self.end = end;
            self.history.retain(|(lsn, _)| *lsn < end);
        }
        self.truth = Truth::default();
        for (_, written) in &self.history {
            self.truth.apply(written);
        }
        self.truth.live.retain(|_, entry| !entry.is_transient);
        let live = &self.truth.live;
        self.truth
            .counts
            .retain(|position, _| live.contains_key(position));

        let rows: Vec<_> = self.rows.clone().into_iter().collect();
        let (log, problems) = QueueLog::from_rows(QUEUE, &rows, Arc::clone(&self.dirty));
        assert_eq!(problems, []);
        assert_eq!(log.as_of(), self.as_of);
        self.log = log;
        for again in 0..1 + seed % 2 {
            for (lsn, written) in &self.history {
                if *lsn < self.checkpoint {
                    continue;
                }
                match written {
                    Written::Message(entry) if entry.is_transient => {}
                    Written::Message(entry) => {
                        self.log.replay_message(*entry);
                    }
                    // What is settled a second time is not live, or replayed wrongly.
                    Written::Settled(runs) => self.log.replay_settled(*lsn, runs),
                    Written::Purged(purged) => {
                        self.log
                            .replay_purged(*lsn, &purged.last, &purged.survivors)
                    }
                    Written::Requeued(counts) => self.log.replay_requeued(*lsn, counts),
                }
            }
            self.check_recovered(again);
        }
        let known: BTreeSet<_> = self
            .log
            .segments()
            .iter()
            .map(|segment| segment.id)
            .collect();
        self.files.retain(|id, _| {
            known.contains(id)
                || !id.is_transient && rows.iter().any(|(key, _)| *key == rows::segment_key(*id))
        });
        self.log.blobs_freed();
        self.blobs_freed.clear();
        let mut blobs = self.log.live_blobs();
        blobs.sort_unstable();
        let mut expected: Vec<_> = self
            .truth
            .live
            .values()
            .filter(|entry| entry.has_blob)
            .map(|entry| entry.lsn.0)
            .collect();
        expected.sort_unstable();
        assert_eq!(blobs, expected);
    }

    fn check_recovered(&mut self, again: u32) {
        let recovered = self.log.recovered();
        for lane in 0..LANES {
            let live: Vec<_> = self
                .truth
                .live
                .values()
                .filter(|entry| entry.position.lane() == lane)
                .collect();
            let Some(found) = recovered.lanes.iter().find(|found| found.lane == lane) else {
                assert!(live.is_empty());
                self.next[usize::from(lane)] = 1;
                continue;
            };
            assert_eq!(
                found.messages,
                live.len() as u64,
                "lane {lane}, replay {again}"
            );
            let body_bytes: u64 = live.iter().map(|entry| u64::from(entry.body_bytes)).sum();
            assert_eq!(found.body_bytes, body_bytes, "lane {lane}, replay {again}");
            let span = live.first().zip(live.last());
            let span = span.map(|(first, last)| Span {
                first: first.position,
                last: last.position,
            });
            assert_eq!(found.live, span);
            assert!(found.may_expire || live.iter().all(|entry| !entry.may_expire));
            assert!(live.iter().all(|entry| entry.position < found.next));
            let counts = self
                .truth
                .counts
                .iter()
                .filter(|(position, _)| position.lane() == lane);
            let counts: Vec<_> = counts
                .map(|(position, counts)| (*position, counts.0, counts.1))
                .collect();
            assert_eq!(found.counts, counts);
            self.next[usize::from(lane)] = found.next.sequence();
        }
    }

    fn check(&mut self, seed: u32) {
        for lane in 0..LANES {
            for place in 0..self.next[usize::from(lane)] + 2 {
                let position = Position::new(lane, place);
                assert_eq!(
                    self.log.is_live(position),
                    self.truth.live.contains_key(&position),
                    "{position:?}"
                );
            }
        }
        assert_eq!(self.log.is_empty(), self.truth.live.is_empty());
        let figures = self.log.figures();
        let live = self.truth.live.len() as u64;
        assert_eq!(figures.journal_messages + figures.segment_messages, live);
        let mut freed = self.log.blobs_freed();
        freed.sort_unstable();
        self.blobs_freed.sort_unstable();
        assert_eq!(freed, self.blobs_freed);
        self.blobs_freed.clear();
        self.check_plan(seed);
        self.has_changed_rows = !self.dirty.take().is_empty();
    }

    /// Reads a lane by plans, piece by piece, and finds all that is live, in order.
    fn check_plan(&self, seed: u32) {
        let lane = (seed % u32::from(LANES)) as u8;
        let bytes_max = u64::from(seed % 70_000);
        let mut first = Position::new(lane, u64::from(seed % 4));
        let last = Position::new(
            lane,
            self.next[usize::from(lane)] - u64::from(!seed.is_multiple_of(3)),
        );
        let expected: Vec<_> = match first <= last {
            true => self
                .truth
                .live
                .range(first..=last)
                .map(|(position, _)| *position)
                .collect(),
            false => Vec::new(),
        };
        let mut read = Vec::new();
        while first <= last {
            let plan = self.log.plan(first, last, bytes_max);
            assert!(plan.through <= last && plan.through >= first);
            let mut block = Vec::new();
            let mut estimate = 0;
            for piece in &plan.pieces {
                match piece {
                    Piece::Journal(entry) => {
                        assert_eq!(self.truth.live.get(&entry.position), Some(entry));
                        block.push(entry.position);
                        estimate += u64::from(entry.record_bytes);
                    }
                    Piece::Segment { id, bytes, live } => {
                        let file = &self.files[id];
                        for span in live {
                            for position in span.first.0..=span.last.0 {
                                let is_in_file = file
                                    .iter()
                                    .any(|(held, end)| held.0 == position && end <= bytes);
                                assert!(is_in_file, "{position} is not in {id:?}");
                                block.push(Position(position));
                                estimate += 1;
                            }
                        }
                    }
                }
            }
            assert!(block.len() <= 1 || estimate <= bytes_max);
            assert!(!block.is_empty() || plan.through == last);
            block.sort_unstable();
            assert!(
                block
                    .iter()
                    .all(|position| *position >= first && *position <= plan.through)
            );
            read.extend(block);
            first = plan.through.next();
        }
        assert_eq!(read, expected);
    }
}

proptest! {
    // A quarter of the usual number, as each goes through a hundred steps; PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn it_agrees_with_a_plain_model(steps in prop::collection::vec((0_u8..32, any::<u32>()), 1..120)) {
        let mut world = World::new();
        for (step, seed) in steps {
            match step {
                0..=13 => {
                    for more in 0..1 + seed % 6 {
                        world.append((seed % u32::from(LANES)) as u8, seed.rotate_left(more));
                    }
                }
                14..=20 => world.settle(seed, 1 + seed % 9),
                21 => world.purge(seed),
                22 => world.requeue(seed),
                23..=25 => world.checkpoint(seed),
                26 => world.commit(seed, None),
                27 | 28 => world.compact(seed),
                29 => world.log.delivered(Position::new(0, u64::from(seed % 20))),
                30 => {
                    let mut runs = Vec::new();
                    let unknown = Position::new((seed % 3) as u8, world.next[0] + u64::from(seed % 9));
                    let known = world.truth.live.contains_key(&unknown);
                    prop_assert!(known || !world.log.settle(unknown, 5, &mut runs));
                    prop_assert!(runs.is_empty());
                }
                _ => world.crash(seed),
            }
            world.check(seed);
        }
        world.crash(0);
        world.check(0);
    }
}
