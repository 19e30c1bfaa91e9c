//! What an object's numbers were: rows of differences, a few bytes each, at several steps.
//!
//! In: values at ticks, only when they may have changed. Out: the values at any tick that is remembered, and what changed at the
//! last one. Between two rows nothing changed, so that an idle object needs no rows. Ticks are numbers on a grid of
//! [`TICK_S`] seconds of the wall clock; no clock is asked here, and what the numbers mean is not known.

use std::collections::VecDeque;

/// Seconds between two ticks (`collect_statistics_interval`).
pub const TICK_S: u64 = 5;

/// A number of ticks since the Unix epoch.
pub type Tick = u64;

/// How long rows of one step are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Ticks between two rows at least.
    pub step: Tick,
    /// Ticks after which a row goes.
    pub age: Tick,
}

const fn keep(age_s: u64, step_s: u64) -> Retention {
    Retention {
        step: step_s / TICK_S,
        age: age_s / TICK_S,
    }
}

/// For queues, exchanges, connections and channels (`sample_retention_policies`, basic).
pub const OBJECT: [Retention; 2] = [keep(605, 5), keep(3_600, 60)];

/// For the node and its virtual hosts (`sample_retention_policies`, global).
pub const GLOBAL: [Retention; 4] = [
    keep(605, 5),
    keep(3_660, 60),
    keep(29_400, 600),
    keep(86_400, 1_800),
];

/// Rows of one step.
#[derive(Debug)]
struct Track {
    retention: Retention,
    /// Before this nothing is remembered.
    known_from: Tick,
    /// The values then, and the tick of the row that had them.
    base: Box<[u64]>,
    base_tick: Tick,
    /// For each later row: ticks since the one before, which columns differ, and by how much.
    rows: VecDeque<u8>,
    /// The values of the last row, and its tick.
    end: Box<[u64]>,
    end_tick: Tick,
}

/// An object's values over time.
#[derive(Debug)]
pub struct History {
    tracks: Box<[Track]>,
    last: Box<[u64]>,
    last_tick: Tick,
    /// The values before the last ones.
    previous: Box<[u64]>,
}

impl History {
    /// Begins with `values` at `tick`. All values were 0 before if the object `is_new`; else nothing is known of before.
    pub fn new(retentions: &[Retention], tick: Tick, values: &[u64], is_new: bool) -> Self {
        let zeros = vec![0; values.len()].into_boxed_slice();
        let (base, base_tick) = if is_new {
            (zeros, tick.saturating_sub(1))
        } else {
            (Box::from(values), tick)
        };
        let track = |retention: &Retention| Track {
            retention: *retention,
            known_from: base_tick,
            base: base.clone(),
            base_tick,
            rows: VecDeque::new(),
            end: base.clone(),
            end_tick: base_tick,
        };
        let mut history = Self {
            tracks: retentions.iter().map(track).collect(),
            last: base.clone(),
            last_tick: base_tick,
            previous: base.clone(),
        };
        history.push(tick, values);
        history
    }

    /// The values at a later tick.
    pub fn push(&mut self, tick: Tick, values: &[u64]) {
        if tick <= self.last_tick {
            return;
        }
        for track in &mut self.tracks {
            // A coarser row is the last of the finer ones before the next step begins.
            if track.retention.step > 1
                && tick / track.retention.step != self.last_tick / track.retention.step
            {
                track.append(self.last_tick, &self.last);
                track.forget(tick);
            } else if track.retention.step == 1 {
                track.append(tick, values);
                track.forget(tick);
            }
        }
        std::mem::swap(&mut self.previous, &mut self.last);
        self.last.copy_from_slice(values);
        self.last_tick = tick;
    }

    /// The tick of the last values.
    pub fn last_tick(&self) -> Tick {
        self.last_tick
    }

    /// By how much a column changed with the last values.
    pub fn change(&self, column: usize) -> i64 {
        self.last[column].wrapping_sub(self.previous[column]) as i64
    }

    /// The values at each of `ticks`, which ascend; those before the oldest one that is remembered are passed over.
    pub fn at(&self, ticks: &[Tick], mut see: impl FnMut(Tick, &[u64])) {
        let mut rest = ticks;
        for (index, track) in self.tracks.iter().enumerate().rev() {
            // Each step serves the time before the finer one begins.
            let until = match index.checked_sub(1) {
                Some(finer) => self.tracks[finer].known_from,
                None => Tick::MAX,
            };
            let end = rest.partition_point(|tick| *tick < until);
            let (own, later) = rest.split_at(end);
            track.at(own, &mut see);
            rest = later;
        }
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        let columns = self.last.len() * size_of::<u64>();
        let tracks = self.tracks.iter();
        let rows: usize = tracks
            .map(|track| size_of::<Track>() + 2 * columns + track.rows.capacity())
            .sum();
        size_of::<Self>() + 2 * columns + rows
    }
}

impl Track {
    fn append(&mut self, tick: Tick, values: &[u64]) {
        if tick <= self.end_tick {
            return;
        }
        let mut changed: u64 = 0;
        for (column, (new, old)) in values.iter().zip(&self.end).enumerate() {
            changed |= u64::from(new != old) << column;
        }
        if changed == 0 {
            return;
        }
        write(&mut self.rows, tick - self.end_tick);
        write(&mut self.rows, changed);
        for (new, old) in values.iter().zip(&mut self.end) {
            if new != old {
                write(&mut self.rows, zigzag(new.wrapping_sub(*old) as i64));
                *old = *new;
            }
        }
        self.end_tick = tick;
    }

    /// Lets rows go that are too old: the last of them becomes the base.
    fn forget(&mut self, now: Tick) {
        let oldest = now.saturating_sub(self.retention.age);
        self.known_from = self.known_from.max(oldest);
        loop {
            let mut rows = self.rows.iter().copied();
            let Some(step) = read(&mut rows) else { return };
            if self.base_tick + step > oldest {
                return;
            }
            apply(&mut rows, &mut self.base);
            let left = rows.len();
            self.base_tick += step;
            self.rows.drain(..self.rows.len() - left);
        }
    }

    /// The values at `ticks`, which ascend.
    fn at(&self, ticks: &[Tick], see: &mut impl FnMut(Tick, &[u64])) {
        let mut values = self.base.clone();
        let mut rows = self.rows.iter().copied();
        let mut next = read(&mut rows).map(|step| self.base_tick + step);
        for tick in ticks {
            if *tick < self.known_from {
                continue;
            }
            while let Some(row) = next
                && row <= *tick
            {
                apply(&mut rows, &mut values);
                next = read(&mut rows).map(|step| row + step);
            }
            see(*tick, &values);
        }
    }
}

/// Takes one row's differences from `rows` and adds them to `values`.
fn apply(rows: &mut impl Iterator<Item = u8>, values: &mut [u64]) {
    let changed = read(rows).unwrap_or(0);
    for (column, value) in values.iter_mut().enumerate() {
        if changed & (1 << column) != 0 {
            let change = unzigzag(read(rows).unwrap_or(0));
            *value = value.wrapping_add(change as u64);
        }
    }
}

/// Writes seven bits an octet, the lowest first.
fn write(rows: &mut VecDeque<u8>, mut number: u64) {
    while number >= 0x80 {
        rows.push_back(number as u8 | 0x80);
        number >>= 7;
    }
    rows.push_back(number as u8);
}

fn read(rows: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let octet = rows.next()?;
        number |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

/// Small numbers of either sign become small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn seen(history: &History, ticks: &[Tick]) -> Vec<(Tick, Vec<u64>)> {
        let mut seen = Vec::new();
        history.at(ticks, |tick, values| seen.push((tick, values.to_vec())));
        seen
    }

    #[test]
    fn a_new_object_had_nothing_before() {
        let history = History::new(&OBJECT, 100, &[5, 7], true);
        assert_eq!(
            seen(&history, &[98, 99, 100, 101]),
            [(99, vec![0, 0]), (100, vec![5, 7]), (101, vec![5, 7])]
        );
        assert_eq!(history.change(1), 7);
    }

    #[test]
    fn of_an_old_object_nothing_is_known_before() {
        let history = History::new(&OBJECT, 100, &[5], false);
        assert_eq!(seen(&history, &[99, 100]), [(100, vec![5])]);
        assert_eq!(history.change(0), 0);
    }

    #[test]
    fn numbers_may_fall() {
        let mut history = History::new(&OBJECT, 100, &[5], false);
        history.push(103, &[2]);
        assert_eq!(history.change(0), -3);
        assert_eq!(
            seen(&history, &[101, 102, 103]),
            [(101, vec![5]), (102, vec![5]), (103, vec![2])]
        );
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_memory_stays_bounded() {
        let mut history = History::new(&OBJECT, 1_000, &[0; 12], true);
        let mut full = 0;
        for tick in 1_001..4_000 {
            history.push(tick, &[tick * 40_000; 12]);
            if tick == 2_000 {
                full = history.bytes();
            }
        }
        assert!(history.bytes() <= full, "{} > {full}", history.bytes());
        assert!(full < 16 * 1024, "{full}");
        let ticks: Vec<Tick> = (3_000..4_000).collect();
        let remembered = seen(&history, &ticks);
        assert_eq!(
            remembered.last().unwrap(),
            &(3_999, vec![3_999 * 40_000; 12])
        );
        // An hour back, at least to the coarse step; then every tick of the last ten minutes.
        assert!(remembered.first().unwrap().0 <= 3_999 - 700);
        let exact = remembered
            .iter()
            .filter(|(tick, values)| values[0] == tick * 40_000);
        assert!(exact.count() >= 120);
    }

    proptest! {
        /// Within the finest step's age, every tick gives what was pushed last before it.
        #[test]
        fn recent_ticks_are_exact(
            rows in prop::collection::vec((1_u64..20, any::<u64>(), 0_u64..3), 1..200)
        ) {
            let mut history = History::new(&GLOBAL, 50, &[1, 2], false);
            let mut model = BTreeMap::from([(50, vec![1, 2])]);
            let mut tick = 50;
            for (step, first, second) in rows {
                tick += step;
                history.push(tick, &[first, second]);
                model.insert(tick, vec![first, second]);
            }
            let ticks: Vec<Tick> = (tick.saturating_sub(GLOBAL[0].age).max(50)..tick + 3).collect();
            let expected: Vec<(Tick, Vec<u64>)> = ticks
                .iter()
                .map(|tick| (*tick, model.range(..=tick).next_back().unwrap().1.clone()))
                .collect();
            prop_assert_eq!(seen(&history, &ticks), expected);
        }
    }
}
