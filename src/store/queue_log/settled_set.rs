//! Which positions of a segment are done.
//!
//! In: offsets from the segment's first position. Out: whether one is done, the stretches that are not, and bytes for the
//! segment's row. What lies at an offset is not known here.
//!
//! Queues are mostly consumed in order, so a prefix says nearly everything and costs one number. What is done beyond it is a
//! sorted list of runs while those are few, and a bit for each offset when the list would be larger than that: a segment
//! that is consumed in any order costs at most a bit a position.

use crate::store::numbers::{Reader, put_u64, put_varint};
use std::mem;

/// Offsets from here to there, the end not included.
type Stretch = (u32, u32);

const WORD_BITS: u32 = u64::BITS;

/// A list of so few runs is never turned into bits.
const RUNS_MIN: usize = 8;

/// Offsets that are done, of a range that begins at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SettledSet {
    /// Offsets in the range.
    span: u32,
    /// How many of them are done.
    settled: u32,
    /// All below are done.
    prefix: u32,
    above: Above,
}

/// What is done from the prefix on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Above {
    /// Disjoint, ascending, not adjacent to each other nor to the prefix.
    Runs(Vec<Stretch>),
    /// A bit for each offset of the range; those below the prefix mean nothing.
    Bits(Vec<u64>),
}

impl Default for Above {
    fn default() -> Self {
        Self::Runs(Vec::new())
    }
}

impl SettledSet {
    /// Offsets in the range.
    pub(super) fn span(&self) -> u32 {
        self.span
    }

    /// How many are not done.
    pub(super) fn live(&self) -> u32 {
        self.span - self.settled
    }

    /// Makes the range longer; what is added is not done.
    pub(super) fn extend_to(&mut self, span: u32) {
        self.span = self.span.max(span);
        if let Above::Bits(words) = &mut self.above {
            words.resize(self.span.div_ceil(WORD_BITS) as usize, 0);
        }
    }

    /// Whether an offset of the range is not done.
    pub(super) fn is_live(&self, offset: u32) -> bool {
        if offset < self.prefix || offset >= self.span {
            return false;
        }
        match &self.above {
            Above::Runs(runs) => {
                let after = runs.partition_point(|run| run.0 <= offset);
                after == 0 || runs[after - 1].1 <= offset
            }
            Above::Bits(words) => !bit(words, offset),
        }
    }

    /// Marks an offset; false if it was done, or is not in the range.
    pub(super) fn settle(&mut self, offset: u32) -> bool {
        if !self.is_live(offset) {
            return false;
        }
        self.settle_live((offset, offset + 1));
        true
    }

    /// Marks all offsets of a stretch, those that are done already too. Says how many were not.
    pub(super) fn settle_stretch(&mut self, stretch: Stretch) -> u32 {
        let before = self.settled;
        let (mut from, end) = (stretch.0, stretch.1.min(self.span));
        while let Some(live) = self.next_live(from).filter(|live| live.0 < end) {
            let part = (live.0, live.1.min(end));
            self.settle_live(part);
            from = part.1;
        }
        self.settled - before
    }

    /// The first stretch at or after `from` in which nothing is done, cut at `from` and as long as can be.
    pub(super) fn next_live(&self, from: u32) -> Option<Stretch> {
        let mut start = from.max(self.prefix);
        let end = match &self.above {
            Above::Runs(runs) => {
                let mut next = runs.partition_point(|run| run.1 <= start);
                if let Some(run) = runs.get(next)
                    && run.0 <= start
                {
                    start = run.1;
                    next += 1;
                }
                runs.get(next).map_or(self.span, |run| run.0)
            }
            Above::Bits(words) => {
                start = scan(words, start, self.span, false);
                scan(words, start, self.span, true)
            }
        };
        (start < end).then_some((start, end))
    }

    /// All stretches in which nothing is done.
    pub(super) fn live_stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        let mut from = 0;
        std::iter::from_fn(move || {
            let live = self.next_live(from)?;
            from = live.1;
            Some(live)
        })
    }

    /// Leaves only those of `survivors` (ascending) that are not done yet.
    pub(super) fn keep_only(&mut self, survivors: impl Iterator<Item = Stretch>) {
        let mut kept = Self {
            span: self.span,
            ..Self::default()
        };
        let mut end = 0;
        for survivor in survivors {
            let mut from = survivor.0.max(end);
            while let Some(live) = self.next_live(from).filter(|live| live.0 < survivor.1) {
                kept.settle_stretch((end, live.0));
                end = live.1.min(survivor.1);
                from = end;
            }
        }
        kept.settle_stretch((end, kept.span));
        *self = kept;
    }

    /// Marks a stretch in which nothing is done, so that the caller need not count.
    fn settle_live(&mut self, (start, end): Stretch) {
        self.settled += end - start;
        match &mut self.above {
            Above::Runs(runs) => {
                let at = runs.partition_point(|run| run.1 < start);
                let joins_before = runs.get(at).is_some_and(|run| run.1 == start);
                let joins_after = runs
                    .get(at + usize::from(joins_before))
                    .is_some_and(|run| run.0 == end);
                if start == self.prefix {
                    self.prefix = end;
                    if joins_after {
                        self.prefix = runs.remove(at).1;
                    }
                } else if joins_before && joins_after {
                    runs[at].1 = runs.remove(at + 1).1;
                } else if joins_before {
                    runs[at].1 = end;
                } else if joins_after {
                    runs[at].0 = start;
                } else {
                    runs.insert(at, (start, end));
                }
                let bits_bytes = self.span.div_ceil(8) as usize;
                if runs.len() > RUNS_MIN && mem::size_of_val(runs.as_slice()) > bits_bytes {
                    self.above = Above::Bits(bits_of(runs, self.span));
                }
            }
            Above::Bits(words) => {
                set_bits(words, start, end);
                if start == self.prefix {
                    self.prefix = scan(words, end, self.span, false);
                }
            }
        }
        if self.settled == self.span {
            self.above = Above::default();
            self.prefix = self.span;
        }
    }

    /// Takes bits for what is above the prefix; none if they speak of other offsets too.
    fn adopt_bits(&mut self, words: Vec<u64>) -> Option<()> {
        let settled: u32 = words.iter().map(|word| word.count_ones()).sum();
        let mut others = vec![0; words.len()];
        set_bits(&mut others, 0, self.prefix);
        set_bits(&mut others, self.span, words.len() as u32 * WORD_BITS);
        if words
            .iter()
            .zip(&others)
            .any(|(word, other)| word & other != 0)
        {
            return None;
        }
        self.settled += settled;
        self.prefix = scan(&words, self.prefix, self.span, false);
        self.above = if self.settled < self.span {
            Above::Bits(words)
        } else {
            Above::default()
        };
        Some(())
    }

    /// Bytes of memory beside the set itself.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.above {
            Above::Runs(runs) => runs.capacity() * mem::size_of::<Stretch>(),
            Above::Bits(words) => words.capacity() * mem::size_of::<u64>(),
        }
    }

    /// Appends span and prefix, then the shorter of: 0 and, from the prefix on, how many are not done, how many are done,
    /// and so in turns up to the span; or 1 and the bits in words, from the one on that has the prefix's.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.span));
        put_varint(out, u64::from(self.prefix));
        let words = self.span.div_ceil(WORD_BITS) - self.prefix / WORD_BITS;
        let bits_bytes = words as usize * mem::size_of::<u64>();
        let start = out.len();
        out.push(FORM_LENGTHS);
        let mut end = self.prefix;
        for live in self.live_stretches() {
            if live.0 > end {
                put_varint(out, u64::from(live.0 - end));
            }
            put_varint(out, u64::from(live.1 - live.0));
            end = live.1;
            if out.len() - start > bits_bytes {
                out.truncate(start);
                return self.encode_bits(out);
            }
        }
        if end < self.span {
            put_varint(out, u64::from(self.span - end));
        }
    }

    fn encode_bits(&self, out: &mut Vec<u8>) {
        out.push(FORM_BITS);
        let mut words = vec![0; self.span.div_ceil(WORD_BITS) as usize];
        let mut end = self.prefix;
        for live in self.live_stretches() {
            set_bits(&mut words, end, live.0);
            end = live.1;
        }
        set_bits(&mut words, end, self.span);
        for word in &words[(self.prefix / WORD_BITS) as usize..] {
            put_u64(out, *word);
        }
    }

    /// Reads what [`SettledSet::encode`] wrote; `None` if it makes no sense or says more than `span_max` offsets.
    pub(super) fn decode(reader: &mut Reader<'_>, span_max: u32) -> Option<Self> {
        let span = reader.varint_u32().filter(|span| *span <= span_max)?;
        let prefix = reader.varint_u32().filter(|prefix| *prefix <= span)?;
        let mut set = Self::default();
        set.extend_to(span);
        set.settle_stretch((0, prefix));
        match reader.u8()? {
            FORM_LENGTHS => {
                let (mut end, mut is_done) = (prefix, false);
                while end < span {
                    let start = end;
                    let length = reader.varint_u32().filter(|length| *length > 0)?;
                    end = start.checked_add(length).filter(|end| *end <= span)?;
                    if is_done {
                        set.settle_stretch((start, end));
                    }
                    is_done = !is_done;
                }
            }
            FORM_BITS => {
                let mut words = vec![0; span.div_ceil(WORD_BITS) as usize];
                for word in &mut words[(prefix / WORD_BITS) as usize..] {
                    *word = reader.u64()?;
                }
                set.adopt_bits(words)?;
            }
            _ => return None,
        }
        Some(set)
    }
}

const FORM_LENGTHS: u8 = 0;
const FORM_BITS: u8 = 1;

fn bit(words: &[u64], offset: u32) -> bool {
    words
        .get((offset / WORD_BITS) as usize)
        .is_some_and(|word| word >> (offset % WORD_BITS) & 1 != 0)
}

fn bits_of(runs: &[Stretch], span: u32) -> Vec<u64> {
    let mut words = vec![0; span.div_ceil(WORD_BITS) as usize];
    for run in runs {
        set_bits(&mut words, run.0, run.1);
    }
    words
}

fn set_bits(words: &mut [u64], start: u32, end: u32) {
    let mut at = start;
    while at < end {
        let low = at % WORD_BITS;
        let count = (WORD_BITS - low).min(end - at);
        words[(at / WORD_BITS) as usize] |= (u64::MAX >> (WORD_BITS - count)) << low;
        at += count;
    }
}

/// The first offset from `from` on, and below `end`, whose bit is `wanted`; `end` if there is none.
fn scan(words: &[u64], from: u32, end: u32, wanted: bool) -> u32 {
    let mut at = from;
    while at < end {
        let word = words[(at / WORD_BITS) as usize];
        let rest = if wanted { word } else { !word } >> (at % WORD_BITS);
        if rest != 0 {
            return end.min(at + rest.trailing_zeros());
        }
        at = (at / WORD_BITS + 1) * WORD_BITS;
    }
    end
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Compares every answer of the set with a plain one, and takes the set to bytes and back.
    fn check(set: &SettledSet, done: &BTreeSet<u32>) {
        assert_eq!(set.live(), set.span() - done.len() as u32);
        let mut live = Vec::new();
        for stretch in set.live_stretches() {
            live.extend(stretch.0..stretch.1);
        }
        let expected: Vec<_> = (0..set.span()).filter(|o| !done.contains(o)).collect();
        assert_eq!(live, expected);
        for offset in 0..set.span() + 2 {
            assert_eq!(
                set.is_live(offset),
                offset < set.span() && !done.contains(&offset)
            );
        }
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        let again = SettledSet::decode(&mut Reader::new(&bytes), set.span()).unwrap();
        assert_eq!(
            again.live_stretches().collect::<Vec<_>>(),
            set.live_stretches().collect::<Vec<_>>()
        );
        assert_eq!(again.live(), set.live());
        assert_eq!(again.prefix, set.prefix);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(
            span in 1_u32..700,
            later in 0_u32..200,
            settled in prop::collection::vec((any::<prop::sample::Index>(), 1_u32..40), 0..200),
            survivors in prop::collection::btree_set(0_u32..900, 0..40),
        ) {
            let (mut set, mut done) = (SettledSet::default(), BTreeSet::new());
            set.extend_to(span);
            for (step, (index, length)) in settled.iter().enumerate() {
                if step == settled.len() / 2 {
                    set.extend_to(span + later);
                }
                let offset = index.index(set.span() as usize) as u32;
                if length % 3 == 0 {
                    let stretch = (offset, offset + length);
                    let new = (stretch.0..stretch.1.min(set.span())).filter(|o| done.insert(*o)).count();
                    prop_assert_eq!(set.settle_stretch(stretch), new as u32);
                } else {
                    prop_assert_eq!(set.settle(offset), done.insert(offset));
                }
            }
            check(&set, &done);
            set.keep_only(survivors.iter().map(|offset| (*offset, offset + 1)));
            done.extend((0..set.span()).filter(|offset| !survivors.contains(offset)));
            check(&set, &done);
        }
    }

    #[test]
    fn in_order_it_is_one_number_and_in_any_order_a_bit_each() {
        const SPAN: u32 = 65_536;
        let mut set = SettledSet::default();
        set.extend_to(SPAN);
        for offset in 0..SPAN / 2 {
            assert!(set.settle(offset));
        }
        assert_eq!(set.heap_bytes(), 0);
        for offset in (SPAN / 2 + 1..SPAN).step_by(2) {
            assert!(set.settle(offset));
        }
        assert!(set.heap_bytes() <= SPAN as usize / 8);
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        assert!(bytes.len() <= SPAN as usize / 16 + 8, "{}", bytes.len());
        for offset in (SPAN / 2..SPAN).step_by(2) {
            assert!(set.settle(offset));
        }
        assert_eq!((set.live(), set.heap_bytes()), (0, 0));
    }

    #[test]
    fn bytes_that_make_no_sense_are_no_set() {
        let mut set = SettledSet::default();
        set.extend_to(300);
        for offset in [0, 1, 7, 9, 200] {
            set.settle(offset);
        }
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(
                SettledSet::decode(&mut Reader::new(&bytes[..cut]), 300),
                None
            );
        }
        assert_eq!(SettledSet::decode(&mut Reader::new(&bytes), 299), None);
        let zero_length = [10, 0, FORM_LENGTHS, 0, 10];
        assert_eq!(
            SettledSet::decode(&mut Reader::new(&zero_length), 300),
            None
        );
        let beyond = [10, 0, FORM_BITS, 0, 4, 0, 0, 0, 0, 0, 0];
        assert_eq!(SettledSet::decode(&mut Reader::new(&beyond), 300), None);
        let too_long = [10, 0, FORM_LENGTHS, 11];
        assert_eq!(SettledSet::decode(&mut Reader::new(&too_long), 300), None);
    }
}
