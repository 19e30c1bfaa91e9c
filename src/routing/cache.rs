//! The routes that a channel remembers: exchange and routing key → whatever the broker made of the route.
//!
//! In: routes with the [`Visited`] epochs of the exchanges on their way; out: the value, as long as none
//! of those epochs has moved. It does not know what a route is, nor whether the queues still exist: a
//! queue that is gone says so itself, and its user calls [`RouteCache::forget`].
//!
//! A table of small groups: a key belongs to one group, and when that is full the newcomer takes the
//! place of its eldest. So a hit allocates nothing, and neither does the bound need any bookkeeping. The
//! hash is fast and not secret: who seeks collisions makes his own channel look up its routes, as if
//! there were no cache.

use std::fmt;

use super::Visited;

/// Routes that one cache remembers at most.
pub const ROUTE_CACHE_ENTRIES_MAX: usize = 2048;

/// Routes in a group; the hash values of one group fill a cache line.
const GROUP_ENTRIES: usize = 8;

/// Groups of the smallest table that is not empty.
const GROUPS_MIN: usize = 1;

/// Groups of the largest table.
const GROUPS_MAX: usize = ROUTE_CACHE_ENTRIES_MAX / GROUP_ENTRIES;

/// A bounded cache of routes. An empty one owns no memory.
pub struct RouteCache<V> {
    /// A power of two of them, or none.
    groups: Vec<Group<V>>,
    entries: usize,
}

struct Group<V> {
    hashes: [u64; GROUP_ENTRIES],
    routes: [Option<Box<Remembered<V>>>; GROUP_ENTRIES],
    /// The place that the next newcomer takes when all are taken.
    eldest: u8,
}

struct Remembered<V> {
    /// The exchange's name, then the routing key.
    key: Box<[u8]>,
    exchange_bytes: usize,
    visited: Box<[Visited]>,
    value: V,
}

impl<V> RouteCache<V> {
    /// The value of a route that still holds. A stale one is dropped.
    pub fn get(&mut self, exchange: &[u8], routing_key: &[u8]) -> Option<&V> {
        let (group, place) = self.find(exchange, routing_key)?;
        let route = self.groups[group].routes[place].as_ref()?;
        if !route.visited.iter().all(Visited::holds) {
            self.empty(group, place);
            return None;
        }
        self.groups[group].routes[place]
            .as_ref()
            .map(|route| &route.value)
    }

    /// Remembers a route, perhaps in the place of another.
    pub fn insert(&mut self, exchange: &[u8], routing_key: &[u8], visited: &[Visited], value: V) {
        self.forget(exchange, routing_key);
        if self.entries >= self.groups.len() * GROUP_ENTRIES / 2 && self.groups.len() < GROUPS_MAX {
            self.grow();
        }
        let route = Remembered {
            key: [exchange, routing_key].concat().into_boxed_slice(),
            exchange_bytes: exchange.len(),
            visited: visited.into(),
            value,
        };
        self.place(hash(exchange, routing_key), Box::new(route));
    }

    /// Forgets a route, for instance because one of its queues is gone.
    pub fn forget(&mut self, exchange: &[u8], routing_key: &[u8]) {
        if let Some((group, place)) = self.find(exchange, routing_key) {
            self.empty(group, place);
        }
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Routes that are remembered, stale ones among them.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    fn find(&self, exchange: &[u8], routing_key: &[u8]) -> Option<(usize, usize)> {
        let hash = hash(exchange, routing_key);
        let index = self.group_of(hash)?;
        let group = &self.groups[index];
        let place = (0..GROUP_ENTRIES).find(|place| {
            group.hashes[*place] == hash
                && group.routes[*place]
                    .as_ref()
                    .is_some_and(|route| route.is(exchange, routing_key))
        })?;
        Some((index, place))
    }

    fn group_of(&self, hash: u64) -> Option<usize> {
        let mask = self.groups.len().checked_sub(1)?;
        Some(hash as usize & mask)
    }

    fn place(&mut self, hash: u64, route: Box<Remembered<V>>) {
        let Some(index) = self.group_of(hash) else {
            return;
        };
        let group = &mut self.groups[index];
        let place = match group.routes.iter().position(Option::is_none) {
            Some(free) => {
                self.entries += 1;
                free
            }
            None => {
                let eldest = usize::from(group.eldest);
                group.eldest = (group.eldest + 1) % GROUP_ENTRIES as u8;
                eldest
            }
        };
        group.hashes[place] = hash;
        group.routes[place] = Some(route);
    }

    fn empty(&mut self, group: usize, place: usize) {
        if self.groups[group].routes[place].take().is_some() {
            self.entries -= 1;
        }
    }

    fn grow(&mut self) {
        let groups = (self.groups.len() * 2).max(GROUPS_MIN);
        let old = std::mem::take(&mut self.groups);
        self.groups.resize_with(groups, Group::default);
        self.entries = 0;
        for group in old {
            for (hash, route) in group.hashes.into_iter().zip(group.routes) {
                if let Some(route) = route {
                    self.place(hash, route);
                }
            }
        }
    }
}

impl<V> Default for RouteCache<V> {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            entries: 0,
        }
    }
}

impl<V> fmt::Debug for RouteCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCache")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl<V> Default for Group<V> {
    fn default() -> Self {
        Self {
            hashes: [0; GROUP_ENTRIES],
            routes: [const { None }; GROUP_ENTRIES],
            eldest: 0,
        }
    }
}

impl<V> Remembered<V> {
    fn is(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        self.exchange_bytes == exchange.len()
            && self.key.len() == exchange.len() + routing_key.len()
            && self.key.starts_with(exchange)
            && self.key.ends_with(routing_key)
    }
}

/// Multiplies eight bytes at a time into a product of twice the width and folds that.
fn hash(exchange: &[u8], routing_key: &[u8]) -> u64 {
    const START: u64 = 0x9E37_79B9_7F4A_7C15;
    let lengths = (exchange.len() as u64) << 32 | routing_key.len() as u64;
    absorb(absorb(START ^ lengths, exchange), routing_key)
}

fn absorb(mut state: u64, bytes: &[u8]) -> u64 {
    // The last word overlaps the one before it, which spares a copy of its rest.
    if let Some(last) = bytes.last_chunk::<8>() {
        for word in bytes[..bytes.len() - 1].as_chunks::<8>().0 {
            state = fold(state, u64::from_le_bytes(*word));
        }
        return fold(state, u64::from_le_bytes(*last));
    }
    let word = match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    fold(state, word)
}

fn fold(state: u64, word: u64) -> u64 {
    const FACTOR: u64 = 0xD6E8_FEB8_6659_FD93;
    let product = u128::from(state ^ word) * u128::from(FACTOR);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routing::Epoch;

    #[test]
    fn exchange_and_key_are_told_apart() {
        let mut cache = RouteCache::default();
        cache.insert(b"ab", b"c", &[], 1);
        cache.insert(b"a", b"bc", &[], 2);
        cache.insert(b"", b"abc", &[], 3);
        cache.insert(b"abc", b"", &[], 4);
        assert_eq!(cache.get(b"ab", b"c"), Some(&1));
        assert_eq!(cache.get(b"a", b"bc"), Some(&2));
        assert_eq!(cache.get(b"", b"abc"), Some(&3));
        assert_eq!(cache.get(b"abc", b""), Some(&4));
        assert_eq!(cache.get(b"a", b"b"), None);
        cache.forget(b"a", b"bc");
        assert_eq!(cache.get(b"a", b"bc"), None);
        assert_eq!(cache.len(), 3);
    }

    #[test]
    fn a_route_holds_until_one_of_its_epochs_moves() {
        let (source, other, unrelated) = (Epoch::default(), Epoch::default(), Epoch::default());
        let mut cache = RouteCache::default();
        cache.insert(b"x", b"k", &[source.visit(), other.visit()], 1);
        cache.insert(b"y", b"k", &[source.visit()], 2);
        unrelated.advance();
        assert_eq!(cache.get(b"x", b"k"), Some(&1));
        other.advance();
        assert_eq!(cache.get(b"x", b"k"), None);
        assert_eq!(cache.get(b"y", b"k"), Some(&2));
        assert_eq!(cache.len(), 1, "a stale route keeps nothing alive");
        cache.insert(b"x", b"k", &[source.visit(), other.visit()], 3);
        assert_eq!(cache.get(b"x", b"k"), Some(&3));
    }

    #[test]
    fn inserting_again_replaces() {
        let mut cache = RouteCache::default();
        cache.insert(b"x", b"k", &[], 1);
        cache.insert(b"x", b"k", &[], 2);
        assert_eq!(cache.get(b"x", b"k"), Some(&2));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn it_never_holds_more_than_its_bound_and_the_newcomer_is_always_there() {
        let mut cache = RouteCache::default();
        assert_eq!(cache.groups.capacity(), 0);
        for number in 0..10 * ROUTE_CACHE_ENTRIES_MAX {
            let key = number.to_string();
            cache.insert(b"amq.topic", key.as_bytes(), &[], number);
            assert_eq!(cache.get(b"amq.topic", key.as_bytes()), Some(&number));
            assert!(cache.len() <= ROUTE_CACHE_ENTRIES_MAX);
        }
        assert!(cache.len() > ROUTE_CACHE_ENTRIES_MAX * 9 / 10);
        cache.clear();
        assert!(cache.is_empty());
        assert_eq!(cache.groups.capacity(), 0);
    }

    #[test]
    fn a_quarter_of_the_bound_fits_with_few_losses() {
        let mut cache = RouteCache::default();
        let keys: Vec<String> = (0..ROUTE_CACHE_ENTRIES_MAX / 4)
            .map(|number| format!("sensor.{number}.temperature"))
            .collect();
        for key in &keys {
            cache.insert(b"amq.topic", key.as_bytes(), &[], ());
        }
        let kept = keys
            .iter()
            .filter(|key| cache.get(b"amq.topic", key.as_bytes()).is_some())
            .count();
        assert!(kept * 20 >= keys.len() * 19, "{kept} of {}", keys.len());
    }

    #[test]
    fn similar_keys_have_different_hashes() {
        let hashes: BTreeSet<u64> = (0..10_000)
            .map(|number| hash(b"orders", format!("key-{number:08}").as_bytes()))
            .collect();
        assert_eq!(hashes.len(), 10_000);
    }
}
