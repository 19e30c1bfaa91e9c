//! The messages of one lane that lie in the journal and are not settled, at 24 bytes each.
//!
//! In: entries in order of position. Out: the entry of a position, ranges of positions or of places in the journal. Where a
//! message goes from here is not known here.
//!
//! ```text
//! chunks   [ ..ddLLdL | LLLLLLLL | LLLdLL-- ]     . taken from the front   L live   d settled   - room
//! ```
//!
//! Entries lie in chunks of a fixed size, so that a lane grows and shrinks without copying what it has. Most are
//! settled at the front, which moves the first chunk's start. One that is settled elsewhere is marked, and a chunk closes
//! its holes when it has more of them than entries; one that is nearly empty then joins its neighbour.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::mem;

use super::types::JournalEntry;
use crate::model::Position;
use crate::store::journal::Lsn;

/// Entries in a chunk: 12 KiB.
const CHUNK_ENTRIES: usize = 512;

/// A lane without messages keeps room for so many, lest a queue that is empty after each message allocates for each.
const IDLE_ENTRIES_MAX: usize = 16;

const TRANSIENT: u64 = 1;
const MAY_EXPIRE: u64 = 1 << 1;
const HAS_BLOB: u64 = 1 << 2;
const SETTLED: u64 = 1 << 3;
const FLAG_BITS: u32 = 8;

/// An entry as it is kept: the place in the lane in the upper 56 bits, flags below.
#[derive(Clone, Copy, Debug)]
struct Packed {
    key: u64,
    lsn: u64,
    record_bytes: u32,
    body_bytes: u32,
}

impl Packed {
    fn new(entry: &JournalEntry) -> Self {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        Self {
            key: entry.position.sequence() << FLAG_BITS
                | flag(entry.is_transient, TRANSIENT)
                | flag(entry.may_expire, MAY_EXPIRE)
                | flag(entry.has_blob, HAS_BLOB),
            lsn: entry.lsn.0,
            record_bytes: entry.record_bytes,
            body_bytes: entry.body_bytes,
        }
    }

    fn sequence(&self) -> u64 {
        self.key >> FLAG_BITS
    }

    fn is_live(&self) -> bool {
        self.key & SETTLED == 0
    }

    fn unpack(&self, lane: u8) -> JournalEntry {
        JournalEntry {
            position: Position::new(lane, self.sequence()),
            lsn: Lsn(self.lsn),
            record_bytes: self.record_bytes,
            body_bytes: self.body_bytes,
            is_transient: self.key & TRANSIENT != 0,
            may_expire: self.key & MAY_EXPIRE != 0,
            has_blob: self.key & HAS_BLOB != 0,
        }
    }
}

#[derive(Debug, Default)]
struct Chunk {
    entries: Vec<Packed>,
    /// Entries before it were taken; the one at it is live, if there is one.
    start: usize,
    /// Live entries.
    live: usize,
}

impl Chunk {
    fn kept(&self) -> &[Packed] {
        &self.entries[self.start..]
    }

    /// Makes the first kept entry a live one.
    fn trim_front(&mut self) {
        let settled = self.kept().iter().take_while(|entry| !entry.is_live());
        self.start += settled.count();
    }

    /// Leaves only live entries, with room for about as many again.
    fn close_holes(&mut self) {
        self.entries.retain(Packed::is_live);
        self.entries
            .shrink_to((4 * self.live).max(IDLE_ENTRIES_MAX));
        self.start = 0;
    }

    /// Looks that one more entry can be added; says if not.
    fn make_room(&mut self) -> bool {
        let length = self.entries.len();
        if length == self.entries.capacity() {
            if length > 0 && self.live <= length / 2 {
                self.close_holes();
            } else if length < CHUNK_ENTRIES {
                let wanted = (2 * length).clamp(4, CHUNK_ENTRIES);
                self.entries.reserve_exact(wanted - length);
            }
        }
        self.entries.len() < CHUNK_ENTRIES
    }
}

/// The entries of a lane.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Ascending; only the last one may be without a live entry, and only if it is the only one.
    chunks: VecDeque<Chunk>,
    live: usize,
}

impl Entries {
    /// Live entries.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Adds an entry behind all others; the caller has looked that it belongs there.
    pub(super) fn push(&mut self, entry: &JournalEntry) {
        let is_full = self
            .chunks
            .back_mut()
            .is_none_or(|chunk| !chunk.make_room());
        if is_full {
            let room = if self.chunks.is_empty() {
                0
            } else {
                CHUNK_ENTRIES
            };
            self.chunks.push_back(Chunk {
                entries: Vec::with_capacity(room),
                ..Chunk::default()
            });
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.entries.push(Packed::new(entry));
            chunk.live += 1;
            self.live += 1;
        }
    }

    /// The live entry of a place in the lane.
    pub(super) fn get(&self, lane: u8, sequence: u64) -> Option<JournalEntry> {
        let (chunk, at) = self.find(sequence)?;
        Some(self.chunks[chunk].entries[at].unpack(lane))
    }

    /// Takes the live entry of a place in the lane out.
    pub(super) fn take(&mut self, lane: u8, sequence: u64) -> Option<JournalEntry> {
        let (at_chunk, at) = self.find(sequence)?;
        let chunk = &mut self.chunks[at_chunk];
        let taken = chunk.entries[at].unpack(lane);
        chunk.entries[at].key |= SETTLED;
        chunk.live -= 1;
        self.live -= 1;
        if chunk.live == 0 {
            self.drop_chunk(at_chunk);
        } else if at == chunk.start {
            chunk.trim_front();
        } else if chunk.kept().len() > 2 * chunk.live {
            chunk.close_holes();
            self.join_next(at_chunk);
        }
        Some(taken)
    }

    /// Leaves only those of which `is_kept` says so; the others are shown to `gone`.
    pub(super) fn retain(
        &mut self,
        lane: u8,
        mut is_kept: impl FnMut(&JournalEntry) -> bool,
        mut gone: impl FnMut(JournalEntry),
    ) {
        for chunk in mem::take(self).chunks {
            for packed in chunk.kept().iter().filter(|packed| packed.is_live()) {
                let entry = packed.unpack(lane);
                if is_kept(&entry) {
                    self.push(&entry);
                } else {
                    gone(entry);
                }
            }
        }
    }

    /// Live entries from a place in the lane on.
    pub(super) fn starting_at(
        &self,
        lane: u8,
        sequence: u64,
    ) -> impl Iterator<Item = JournalEntry> + '_ {
        self.starting_where(lane, move |packed| packed.sequence() < sequence)
    }

    /// Live entries from a place in the journal on.
    pub(super) fn starting_at_lsn(
        &self,
        lane: u8,
        lsn: Lsn,
    ) -> impl Iterator<Item = JournalEntry> + '_ {
        self.starting_where(lane, move |packed| packed.lsn < lsn.0)
    }

    /// All live entries.
    pub(super) fn iter(&self, lane: u8) -> impl Iterator<Item = JournalEntry> + '_ {
        self.starting_at(lane, 0)
    }

    /// Gives back what a lane without messages still holds.
    pub(super) fn release(&mut self) {
        if self.live == 0 {
            *self = Self::default();
        }
    }

    /// Bytes of memory beside the struct itself.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let chunks = self.chunks.iter();
        let entries: usize = chunks.map(|chunk| chunk.entries.capacity()).sum();
        entries * mem::size_of::<Packed>() + self.chunks.capacity() * mem::size_of::<Chunk>()
    }

    /// Live entries from the first on for which `is_before` says no; it says yes to all those before that one.
    fn starting_where(
        &self,
        lane: u8,
        is_before: impl Fn(&Packed) -> bool,
    ) -> impl Iterator<Item = JournalEntry> + '_ {
        let first = self
            .chunks
            .partition_point(|chunk| chunk.entries.last().is_some_and(&is_before));
        let skipped = self.chunks.get(first);
        let skipped = skipped.map_or(0, |chunk| chunk.kept().partition_point(&is_before));
        self.chunks
            .range(first..)
            .flat_map(|chunk| chunk.kept())
            .skip(skipped)
            .filter(|packed| packed.is_live())
            .map(move |packed| packed.unpack(lane))
    }

    /// Chunk and index of a live entry.
    fn find(&self, sequence: u64) -> Option<(usize, usize)> {
        let front = self.chunks.front()?;
        // Nearly all questions are about the first entry, or about what lies in segments, before it.
        match sequence.cmp(&front.kept().first()?.sequence()) {
            Ordering::Less => return None,
            Ordering::Equal => return (front.live > 0).then_some((0, front.start)),
            Ordering::Greater => {}
        }
        let after = |chunk: &Chunk| {
            let last = chunk.entries.last();
            last.is_some_and(|last| last.sequence() < sequence)
        };
        let at_chunk = self.chunks.partition_point(after);
        let chunk = self.chunks.get(at_chunk)?;
        let at = chunk
            .kept()
            .binary_search_by_key(&sequence, Packed::sequence)
            .ok()?;
        let at = chunk.start + at;
        chunk.entries[at].is_live().then_some((at_chunk, at))
    }

    /// Removes a chunk without live entries, or empties it if it is the last one.
    fn drop_chunk(&mut self, at: usize) {
        if self.chunks.len() > 1 {
            self.chunks.remove(at);
            if self.chunks.len() <= self.chunks.capacity() / 4 {
                self.chunks.shrink_to(self.chunks.len() * 2);
            }
            return;
        }
        let chunk = &mut self.chunks[at];
        chunk.entries.clear();
        chunk.entries.shrink_to(IDLE_ENTRIES_MAX);
        chunk.start = 0;
    }

    /// Joins a chunk that has just closed its holes with the next one, if both have room to spare.
    fn join_next(&mut self, at: usize) {
        let fits = |chunk: &Chunk, other: &Chunk| chunk.live + other.live <= CHUNK_ENTRIES / 2;
        let joins = |first: usize| match (self.chunks.get(first), self.chunks.get(first + 1)) {
            (Some(chunk), Some(next)) => fits(chunk, next),
            _ => false,
        };
        let first = if joins(at) {
            at
        } else if at > 0 && joins(at - 1) {
            at - 1
        } else {
            return;
        };
        if let Some(mut next) = self.chunks.remove(first + 1) {
            let chunk = &mut self.chunks[first];
            chunk.close_holes();
            next.close_holes();
            chunk.entries.append(&mut next.entries);
            chunk.live += next.live;
        }
    }
}
