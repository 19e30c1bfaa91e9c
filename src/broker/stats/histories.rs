//! The histories of all objects, within a bound of memory.
//!
//! In: values at ticks. Out: each object's history. When they take more than they may, those go first whose objects counted nothing
//! for longest; an object that counts nothing for as long as anything is remembered has no history. Counters are elsewhere and stay.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::history::{History, OBJECT, Retention, Tick};

/// Whose history it is. Ids are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A queue.
    Queue(u64),
    /// A connection.
    Connection(u64),
    /// A channel.
    Channel(u64),
    /// An exchange.
    Exchange(u64),
    /// A virtual host.
    Vhost(u64),
    /// The node.
    Node,
}

/// Ticks after which nothing is remembered of an idle object.
const IDLE_MAX: Tick = OBJECT[OBJECT.len() - 1].age;

/// What the map takes for a history, beside the history itself, in bytes: about.
const ENTRY_BYTES: usize = 96;

/// The histories.
#[derive(Debug, Default)]
pub struct Histories {
    map: DashMap<Key, History>,
    bytes: AtomicU64,
    /// When to look whether an object is idle: each object once.
    reviews: Mutex<BTreeSet<(Tick, Key)>>,
}

impl Histories {
    /// Looks at an object's history.
    pub fn see<R>(&self, key: Key, look: impl FnOnce(Option<&History>) -> R) -> R {
        match self.map.get(&key) {
            Some(entry) => look(Some(entry.value())),
            None => look(None),
        }
    }

    /// Notes values; see [`History::new`] for `is_new`.
    pub fn push(
        &self,
        key: Key,
        retentions: &[Retention],
        tick: Tick,
        values: &[u64],
        is_new: bool,
    ) {
        let mut before = 0;
        let mut entry = self.map.entry(key).or_insert_with(|| {
            self.reviews.lock().insert((tick + IDLE_MAX, key));
            before = 0;
            History::new(retentions, tick, values, is_new)
        });
        if entry.last_tick() < tick {
            before = entry.bytes() + ENTRY_BYTES;
            entry.push(tick, values);
        }
        let after = entry.bytes() + ENTRY_BYTES;
        drop(entry);
        self.bytes.fetch_add(after as u64, Ordering::Relaxed);
        self.bytes.fetch_sub(before as u64, Ordering::Relaxed);
    }

    /// An object is gone, or its past is to be forgotten.
    pub fn forget(&self, key: Key) {
        if let Some((_, history)) = self.map.remove(&key) {
            let bytes = history.bytes() + ENTRY_BYTES;
            self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let keys: Vec<Key> = self.map.iter().map(|entry| *entry.key()).collect();
        for key in keys {
            self.forget(key);
        }
        self.reviews.lock().clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Lets go of objects that were idle for too long, and of the least recently active ones while all of them take more than
    /// `bytes_max`. Gives how many were looked at: an idle object is looked at once in the time that it is remembered.
    pub fn trim(&self, tick: Tick, bytes_max: u64) -> usize {
        let mut looked_at = 0;
        loop {
            let due = {
                let mut reviews = self.reviews.lock();
                match reviews.first() {
                    Some((at, _)) if *at <= tick => reviews.pop_first(),
                    _ => None,
                }
            };
            let Some((_, key)) = due else { break };
            looked_at += 1;
            let Some(last) = self.map.get(&key).map(|entry| entry.last_tick()) else {
                continue;
            };
            if last + IDLE_MAX <= tick {
                self.forget(key);
            } else {
                self.reviews.lock().insert((last + IDLE_MAX, key));
            }
        }
        if self.bytes() > bytes_max {
            looked_at += self.shed(bytes_max);
        }
        looked_at
    }

    fn shed(&self, bytes_max: u64) -> usize {
        let mut by_use: Vec<(Tick, Key)> = self
            .map
            .iter()
            .filter(|entry| *entry.key() != Key::Node)
            .map(|entry| (entry.last_tick(), *entry.key()))
            .collect();
        by_use.sort_unstable();
        // A little more than must be, so that not every tick has to sort.
        let target = bytes_max / 8 * 7;
        for (_, key) in &by_use {
            if self.bytes() <= target {
                break;
            }
            self.forget(*key);
        }
        by_use.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_least_recently_active_go_first() {
        let histories = Histories::default();
        for queue in 0..1_000 {
            histories.push(Key::Queue(queue), &OBJECT, 100 + queue / 10, &[1; 12], true);
        }
        histories.push(Key::Node, &OBJECT, 100, &[1; 12], true);
        let all = histories.bytes();
        histories.trim(200, all / 2);
        assert!(histories.bytes() <= all / 2);
        assert!(histories.len() > 300);
        assert!(histories.see(Key::Queue(0), |history| history.is_none()));
        assert!(histories.see(Key::Queue(999), |history| history.is_some()));
        assert!(histories.see(Key::Node, |history| history.is_some()));
        histories.clear();
        assert_eq!(histories.bytes(), 0);
        assert!(histories.is_empty());
    }

    #[test]
    fn an_idle_object_is_forgotten_after_an_hour_and_looked_at_once() {
        let histories = Histories::default();
        histories.push(Key::Queue(1), &OBJECT, 100, &[1], true);
        histories.push(Key::Queue(2), &OBJECT, 100, &[1], true);
        let mut looked_at = 0;
        for tick in 101..100 + IDLE_MAX {
            if tick == 500 {
                histories.push(Key::Queue(2), &OBJECT, tick, &[2], false);
            }
            looked_at += histories.trim(tick, u64::MAX);
        }
        assert_eq!((looked_at, histories.len()), (0, 2));
        looked_at += histories.trim(100 + IDLE_MAX, u64::MAX);
        assert_eq!((looked_at, histories.len()), (2, 1));
        looked_at += histories.trim(500 + IDLE_MAX, u64::MAX);
        assert_eq!((looked_at, histories.len()), (3, 0));
    }
}
