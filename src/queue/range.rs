//! What a queue knows of messages that only its log has, and the sums of what waits.
//!
//! In: ranges of positions, blocks that were loaded. Out: entries, and what is left of the ranges. It knows no order of service.

use super::entry::{Attempts, Deadline, Entry, Stub};
use super::loading::{LoadedBlock, LoadedMessage};
use crate::model::Position;

/// Entries that a drained deque may keep room for.
pub const ROOM_KEPT: usize = 16;

/// Ranges that one load may span.
const LOAD_SLOTS_MAX: usize = 256;

/// Positions that one load of several ranges may span.
pub const LOAD_SPAN_MAX: u64 = 1024;

/// What waits, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// In memory.
    pub hot_messages: u64,
    /// Bytes of their bodies.
    pub hot_body_bytes: u64,
    /// Bytes of memory that they take.
    pub hot_bytes: u64,
    /// Those among them that can expire, so that queues without any pay nothing for expiry.
    pub hot_expiring: u64,
    /// Those among them that the log has.
    pub hot_logged: u64,
    /// In the log alone.
    pub cold_messages: u64,
    /// Bytes of their bodies.
    pub cold_body_bytes: u64,
    /// Some of those in the log alone may expire. Stays set until none is left.
    pub cold_may_expire: bool,
}

impl Totals {
    /// An entry comes into memory.
    pub fn count_in(&mut self, entry: &Entry) {
        self.hot_messages += 1;
        self.hot_body_bytes += entry.body_bytes();
        self.hot_bytes += entry.cost_bytes();
        self.hot_expiring += u64::from(entry.deadline != Deadline::NEVER);
        self.hot_logged += u64::from(entry.is_logged());
    }

    /// An entry goes.
    pub fn count_out(&mut self, entry: &Entry) {
        self.hot_messages -= 1;
        self.hot_body_bytes -= entry.body_bytes();
        self.hot_bytes -= entry.cost_bytes();
        self.hot_expiring -= u64::from(entry.deadline != Deadline::NEVER);
        self.hot_logged -= u64::from(entry.is_logged());
    }

    /// Messages come that only the log has.
    pub fn cold_in(&mut self, messages: u64, body_bytes: u64, may_expire: bool) {
        self.cold_messages += messages;
        self.cold_body_bytes += body_bytes;
        self.cold_may_expire |= may_expire;
    }

    /// Messages that only the log had are loaded, or gone.
    pub fn cold_out(&mut self, messages: u64, body_bytes: u64) {
        self.cold_messages = self.cold_messages.saturating_sub(messages);
        self.cold_body_bytes = self.cold_body_bytes.saturating_sub(body_bytes);
        if self.cold_messages == 0 {
            self.cold_body_bytes = 0;
            self.cold_may_expire = false;
        }
    }
}

/// What a block brought, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Were waited for and are not there.
    pub lost: u64,
    /// Are there beyond what was counted.
    pub surplus: u64,
}

/// The next message.
#[derive(Clone, Copy, Debug)]
pub enum Head<'a> {
    /// In memory.
    Hot(&'a Entry),
    /// To be loaded.
    Cold {
        /// It may have a deadline.
        may_expire: bool,
    },
}

/// A message in memory, or consecutive ones that are only in the log.
#[derive(Debug)]
pub enum Slot {
    /// In memory.
    Hot(Entry),
    /// In the log alone; the first position is known where the slot stands.
    Cold(ColdRange),
}

impl Slot {
    /// What is known of the next message when this slot is next.
    pub fn head(&self) -> Head<'_> {
        match self {
            Self::Hot(entry) => Head::Hot(entry),
            Self::Cold(range) => Head::Cold {
                may_expire: range.may_expire,
            },
        }
    }
}

/// Consecutive messages, all of them waiting, that only the log has.
#[derive(Clone, Copy, Debug)]
pub struct ColdRange {
    /// The last one. The first one is the key under which the range is kept.
    pub last: Position,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// What each of them has behind it.
    pub attempts: Attempts,
    /// Some of them may expire.
    pub may_expire: bool,
}

impl ColdRange {
    /// A range of one.
    pub fn of(stub: &Stub) -> Self {
        Self {
            last: stub.position,
            body_bytes: u64::from(stub.body_bytes),
            attempts: stub.attempts(),
            may_expire: stub.marks.may_expire(),
        }
    }

    /// Takes in `next` if it follows directly and has the same history.
    pub fn try_extend(&mut self, first: Position, next: &Self) -> bool {
        let fits = self.last.next() == first && self.attempts == next.attempts;
        if fits {
            self.last = next.last;
            self.body_bytes += next.body_bytes;
            self.may_expire |= next.may_expire;
        }
        fits
    }

    /// Takes what a block brought for the part from `first` to `through`, as entries in `found`. Returns what is left above, with its
    /// first position, and the number lost.
    fn load(
        self,
        first: Position,
        through: Position,
        messages: &mut std::iter::Peekable<std::vec::IntoIter<LoadedMessage>>,
        totals: &mut Totals,
        mut found: impl FnMut(Entry),
    ) -> (Option<(Position, Self)>, u64) {
        let covered = self.last.min(through);
        let width = covered.0.saturating_sub(first.0) + 1;
        let mut wanted = first;
        let mut found_bytes = 0;
        let mut found_messages = 0;
        while let Some(loaded) = messages.next_if(|next| next.position <= covered) {
            if loaded.position < wanted {
                // Handed out, or not in order.
                continue;
            }
            wanted = loaded.position.next();
            let entry = loaded.into_entry(self.attempts);
            found_bytes += entry.body_bytes();
            found_messages += 1;
            totals.count_in(&entry);
            found(entry);
        }
        let lost = width - found_messages;
        if covered == self.last {
            totals.cold_out(width, self.body_bytes);
            return (None, lost);
        }
        let gone_bytes = found_bytes.min(self.body_bytes);
        totals.cold_out(width, gone_bytes);
        let rest = Self {
            body_bytes: self.body_bytes - gone_bytes,
            ..self
        };
        (Some((covered.next(), rest)), lost)
    }
}

/// The messages at the end of a lane that only the log has. Positions between the first and the last that do not wait here are not in the log.
#[derive(Clone, Copy, Debug)]
pub struct ColdTail {
    /// The first one.
    pub first: Position,
    /// The last one.
    pub last: Position,
    /// How many they are.
    pub messages: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Some of them may expire.
    pub may_expire: bool,
}

/// Positions that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one, by which the answer is known.
    pub first: Position,
    /// The last one.
    pub last: Position,
}

/// What is read at once when messages from `first` to `last` are wanted: ranges behind them, given in their order, come along while
/// their positions ascend in the same lane and lie near.
pub fn reach(
    first: Position,
    last: Position,
    behind: impl Iterator<Item = (Position, Position)>,
) -> Span {
    let mut span = Span { first, last };
    for (next, next_last) in behind.take(LOAD_SLOTS_MAX) {
        let is_near = next.lane() == first.lane()
            && next > span.last
            && next_last.0 - first.0 < LOAD_SPAN_MAX;
        if !is_near {
            break;
        }
        span.last = next_last;
    }
    span
}

/// Turns ranges into what a block brought. `take` gives the next range, none that begins before its first argument or behind its second
/// one. Gives what stands in their place, in order, and how many messages are lost.
pub fn fill(
    span: Span,
    block: &mut LoadedBlock,
    totals: &mut Totals,
    mut take: impl FnMut(Position, Position) -> Option<(Position, ColdRange)>,
) -> (Vec<(Position, Slot)>, u64) {
    let through = block.through.min(span.last);
    let mut messages = std::mem::take(&mut block.messages).into_iter().peekable();
    let (mut slots, mut lost) = (Vec::new(), 0);
    let mut wanted = span.first;
    while wanted <= through
        && let Some((first, range)) = take(wanted, through)
    {
        let (rest, gone) = range.load(first, through, &mut messages, totals, |entry| {
            slots.push((entry.position, Slot::Hot(entry)));
        });
        lost += gone;
        if let Some((first, rest)) = rest {
            slots.push((first, Slot::Cold(rest)));
            break;
        }
        wanted = range.last.next();
    }
    (slots, lost)
}
