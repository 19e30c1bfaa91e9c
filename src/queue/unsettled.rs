//! The messages that were handed out and not yet settled, by position.
//!
//! In: entries with their owner; out: the same, once. It knows no rule about what settling means.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::consumers::Owner;
use super::ready::Entry;
use crate::model::{Position, WallMs};

/// Entries that a drained table may keep room for.
const TABLE_ROOM_KEPT: usize = 16;

/// A handed-out entry.
#[derive(Debug)]
pub struct Held {
    /// The entry, with this hand-out counted.
    pub entry: Entry,
    /// The consumer that has it, or `None` for `basic.get`.
    pub owner: Option<Owner>,
    /// When its consumer must have settled it; [`WallMs::MAX`] for never.
    pub settle_by_ms: WallMs,
}

/// Spreads positions, which are consecutive numbers that no peer chooses, over the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct PositionHasher(u64);

impl Hasher for PositionHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The odd number nearest to 2^64 divided by the golden ratio: neighbours land far apart.
        let product = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}

type Table = HashMap<Position, Held, BuildHasherDefault<PositionHasher>>;

/// Everything handed out and not settled.
///
/// The table's own order is never visible: what needs an order sorts by position.
#[derive(Debug, Default)]
pub struct UnsettledTable {
    table: Table,
    body_bytes: u64,
}

impl UnsettledTable {
    /// How many they are.
    pub fn messages(&self) -> u64 {
        self.table.len() as u64
    }

    /// Bytes of their bodies.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Records a hand-out.
    pub fn insert(&mut self, held: Held) {
        self.body_bytes += held.entry.message.body_bytes() as u64;
        self.table.insert(held.entry.position, held);
    }

    /// Takes what stands at `position`, if it is unsettled.
    pub fn remove(&mut self, position: Position) -> Option<Held> {
        let held = self.table.remove(&position)?;
        self.body_bytes -= held.entry.message.body_bytes() as u64;
        if self.table.is_empty() && self.table.capacity() > TABLE_ROOM_KEPT {
            self.table = Table::default();
        }
        Some(held)
    }

    /// What stands at `position`, if it is unsettled.
    pub fn get(&self, position: Position) -> Option<&Held> {
        self.table.get(&position)
    }

    /// Takes everything, for a deletion: the caller drops it outside of the lock.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        std::mem::take(self)
    }
}
