//! The messages that were handed out and not yet settled, by position.
//!
//! In: messages with their owner; out: the same, once. It knows no rule about what settling means. Those in memory stand in a table;
//! those that only the log has in chunks of 24 bytes each, so that a million of them cost 24 MB.

use std::collections::VecDeque;

use super::consumers::{Consumers, Owner};
use super::entry::{Item, Marks, Stub};
use crate::model::{NumberMap, Position, SharedMessage, WallMs};

/// Entries that a drained table may keep room for.
const TABLE_ROOM_KEPT: usize = 16;

/// Entries in a chunk. Chunks grow up to this by doubling, and more are added then, so that nothing large is ever copied.
const CHUNK_MESSAGES: usize = 512;

/// The slot of a message that `basic.get` took.
const NO_SLOT: u32 = u32::MAX;

/// A handed-out message.
#[derive(Debug)]
pub struct Held {
    /// The message, with this hand-out counted.
    pub item: Item,
    /// The consumer that has it, or `None` for `basic.get`.
    pub owner: Option<Owner>,
    /// When its consumer must have settled it; [`WallMs::MAX`] for never.
    pub settle_by_ms: WallMs,
}

type Table = NumberMap<Position, Held>;

/// Everything handed out and not settled.
///
/// The table's own order is never visible: what needs an order sorts by position.
#[derive(Debug, Default)]
pub struct UnsettledTable {
    table: Table,
    cold: ColdTable,
    body_bytes: u64,
    hot_bytes: u64,
}

impl UnsettledTable {
    /// How many they are.
    pub fn messages(&self) -> u64 {
        self.table.len() as u64 + self.cold.messages
    }

    /// How many of them stand in the table, which those in memory do.
    pub fn messages_in_memory(&self) -> u64 {
        self.table.len() as u64
    }

    /// Bytes of their bodies.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Bytes of memory that the messages take.
    pub fn hot_bytes(&self) -> u64 {
        self.hot_bytes
    }

    /// Records a hand-out.
    pub fn insert(&mut self, held: Held) {
        self.body_bytes += held.item.body_bytes();
        self.hot_bytes += held.item.hot_bytes();
        match held {
            Held {
                item: Item::Cold(stub),
                owner,
                settle_by_ms: WallMs::MAX,
            } => self.cold.insert(ColdHeld::new(&stub, owner)),
            held => {
                self.table.insert(held.item.position(), held);
            }
        }
    }

    /// Takes what stands at `position`, if it is unsettled.
    pub fn remove(&mut self, position: Position, consumers: &Consumers) -> Option<Held> {
        let held = match self.table.remove(&position) {
            Some(held) => {
                if self.table.is_empty() && self.table.capacity() > TABLE_ROOM_KEPT {
                    self.table = Table::default();
                }
                held
            }
            None => self.cold.remove(position)?.into_held(consumers),
        };
        self.body_bytes -= held.item.body_bytes();
        self.hot_bytes -= held.item.hot_bytes();
        Some(held)
    }

    /// Who holds what stands at `position`, if it is unsettled; the inner `None` is `basic.get`.
    pub fn owner(&self, position: Position, consumers: &Consumers) -> Option<Option<Owner>> {
        match self.table.get(&position) {
            Some(held) => Some(held.owner),
            None => {
                let held = self.cold.get(position)?;
                Some(consumers.owner_at(held.slot))
            }
        }
    }

    /// Adds the positions that the log has, in no order.
    pub fn logged_positions(&self, positions: &mut Vec<(Position, u32)>) {
        let logged = self.table.values().filter(|held| held.item.is_logged());
        positions.extend(logged.map(|held| (held.item.position(), held.item.body_bytes() as u32)));
        positions.extend(
            self.cold
                .iter()
                .map(|held| (held.position, held.body_bytes)),
        );
    }

    /// Leaves to the log what it has. Returns what was in memory.
    #[must_use]
    pub fn shed(&mut self) -> Vec<SharedMessage> {
        let mut shed = Vec::new();
        for held in self.table.values_mut() {
            if let Some(message) = held.item.shed() {
                self.hot_bytes -= message.cost_bytes() as u64;
                shed.push(message);
            }
        }
        if shed.is_empty() {
            return shed;
        }
        let cold = self.table.extract_if(|_, held| {
            matches!(held.item, Item::Cold(_)) && held.settle_by_ms == WallMs::MAX
        });
        let mut cold: Vec<ColdHeld> = cold
            .filter_map(|(_, held)| match held.item {
                Item::Cold(stub) => Some(ColdHeld::new(&stub, held.owner)),
                Item::Hot(_) => None,
            })
            .collect();
        cold.sort_unstable_by_key(|held| held.position);
        for held in cold {
            self.cold.insert(held);
        }
        self.table.shrink_to(TABLE_ROOM_KEPT);
        shed
    }

    /// Takes everything, for a deletion: the caller drops it outside of the lock.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        std::mem::take(self)
    }
}

/// A handed-out message that only the log has, and that has no time limit.
#[derive(Clone, Copy, Debug)]
struct ColdHeld {
    position: Position,
    body_bytes: u32,
    acquired: u32,
    marks: Marks,
    /// The slot of its consumer.
    slot: u32,
}

impl ColdHeld {
    fn new(stub: &Stub, owner: Option<Owner>) -> Self {
        Self {
            position: stub.position,
            body_bytes: stub.body_bytes,
            acquired: stub.acquired,
            marks: stub.marks,
            slot: owner.map_or(NO_SLOT, |owner| owner.slot),
        }
    }

    fn into_held(self, consumers: &Consumers) -> Held {
        Held {
            item: Item::Cold(Stub {
                position: self.position,
                body_bytes: self.body_bytes,
                acquired: self.acquired,
                marks: self.marks,
            }),
            owner: consumers.owner_at(self.slot),
            settle_by_ms: WallMs::MAX,
        }
    }
}

/// Held messages in sorted chunks, each chunk before the next one.
#[derive(Debug, Default)]
struct ColdTable {
    chunks: VecDeque<VecDeque<ColdHeld>>,
    messages: u64,
}

impl ColdTable {
    fn get(&self, position: Position) -> Option<&ColdHeld> {
        let chunk = self.chunks.get(self.chunk_of(position)?)?;
        let place = find(chunk, position).ok()?;
        chunk.get(place)
    }

    fn iter(&self) -> impl Iterator<Item = &ColdHeld> {
        self.chunks.iter().flatten()
    }

    fn insert(&mut self, held: ColdHeld) {
        let index = self.chunk_of(held.position).unwrap_or(0);
        if self.chunks.is_empty() {
            self.chunks.push_back(VecDeque::new());
        }
        let chunk = &mut self.chunks[index];
        let place = match find(chunk, held.position) {
            Ok(place) => {
                chunk[place] = held;
                return;
            }
            Err(place) => place,
        };
        self.messages += 1;
        if chunk.len() < CHUNK_MESSAGES {
            chunk.insert(place, held);
        } else if place == CHUNK_MESSAGES {
            // In the order of hand-out, the usual case: full chunks stay full.
            self.chunks.insert(index + 1, VecDeque::from([held]));
        } else {
            let mut upper = chunk.split_off(CHUNK_MESSAGES / 2);
            if place <= chunk.len() {
                chunk.insert(place, held);
            } else {
                upper.insert(place - chunk.len(), held);
            }
            self.chunks.insert(index + 1, upper);
        }
    }

    fn remove(&mut self, position: Position) -> Option<ColdHeld> {
        let index = self.chunk_of(position)?;
        let chunk = &mut self.chunks[index];
        let place = find(chunk, position).ok()?;
        let held = chunk.remove(place)?;
        self.messages -= 1;
        if self.messages == 0 {
            *self = Self::default();
        } else if self.chunks[index].is_empty() {
            self.chunks.remove(index);
        } else {
            self.join(index);
        }
        Some(held)
    }

    /// Joins a chunk that has become small to the next one, if that is small too.
    fn join(&mut self, index: usize) {
        let length = self.chunks[index].len();
        if length > CHUNK_MESSAGES / 4 {
            return;
        }
        let fits = |next: &VecDeque<ColdHeld>| next.len() + length <= CHUNK_MESSAGES / 2;
        if self.chunks.get(index + 1).is_some_and(fits)
            && let Some(mut next) = self.chunks.remove(index + 1)
        {
            self.chunks[index].append(&mut next);
        }
    }

    /// The chunk in which a position stands or would stand.
    fn chunk_of(&self, position: Position) -> Option<usize> {
        let after = self.chunks.partition_point(|chunk| {
            chunk
                .front()
                .is_some_and(|first| first.position <= position)
        });
        if self.chunks.is_empty() {
            return None;
        }
        Some(after.saturating_sub(1))
    }

    /// Bytes that it takes on the heap.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let inner = self.chunks.iter().map(VecDeque::capacity).sum::<usize>();
        inner * size_of::<ColdHeld>() + self.chunks.capacity() * size_of::<VecDeque<ColdHeld>>()
    }
}

fn find(chunk: &VecDeque<ColdHeld>, position: Position) -> Result<usize, usize> {
    chunk.binary_search_by_key(&position, |held| held.position)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn held(position: u64) -> ColdHeld {
        ColdHeld {
            position: Position(position),
            body_bytes: 1,
            acquired: 1,
            marks: Marks::new(true, false),
            slot: position as u32,
        }
    }

    #[test]
    fn each_costs_24_bytes() {
        const COUNT: u64 = 200_000;
        assert_eq!(size_of::<ColdHeld>(), 24);
        let mut table = ColdTable::default();
        for position in 1..=COUNT {
            table.insert(held(position));
        }
        // 26 MB for a million.
        let bytes_max = COUNT as usize * 26;
        assert!(table.heap_bytes() <= bytes_max, "{}", table.heap_bytes());
        for position in (1..=COUNT).step_by(2) {
            assert!(table.remove(Position(position)).is_some());
        }
        assert_eq!(table.messages, COUNT / 2);
        for position in 1..=COUNT - 1000 {
            table.remove(Position(position));
        }
        assert_eq!(table.messages, 500);
        assert!(table.heap_bytes() <= 100_000, "{}", table.heap_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn it_is_a_sorted_map(operations in prop::collection::vec((0..4u8, 1..5000u64), 1..1500)) {
            let mut table = ColdTable::default();
            let mut model = BTreeMap::new();
            let mut next = 0;
            for (kind, position) in operations {
                match kind {
                    0 => {
                        table.insert(held(position));
                        model.insert(position, ());
                    }
                    1 | 2 => {
                        next += 1;
                        for position in next * 7..next * 7 + 5 {
                            table.insert(held(position));
                            model.insert(position, ());
                        }
                    }
                    _ => {
                        let found = table.remove(Position(position)).map(|held| held.position.0);
                        prop_assert_eq!(found, model.remove(&position).map(|()| position));
                    }
                }
                prop_assert_eq!(table.messages, model.len() as u64);
                let is_there = table.get(Position(position)).is_some();
                prop_assert_eq!(is_there, model.contains_key(&position));
            }
            prop_assert!(table.iter().map(|held| held.position.0).eq(model.into_keys()));
        }
    }
}
