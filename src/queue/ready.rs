//! The messages that wait: a lane for each priority in use, and a quorum queue's list of returns.
//!
//! In: entries at the tail, entries that come back. Out: the next entry, expired heads, sums. It knows
//! no consumer, no limit and no clock.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Position, SharedMessage, WallMs};

/// Entries that a drained lane may keep room for.
const LANE_ROOM_KEPT: usize = 16;

/// Lanes that a drained queue may keep.
const LANES_KEPT: usize = 4;

/// When an entry expires, in wall milliseconds; [`Deadline::NEVER`] if it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub WallMs);

impl Deadline {
    /// No expiry. It is the greatest, so that the minimum of several deadlines is right by itself.
    pub const NEVER: Self = Self(WallMs::MAX);

    /// Whether the time has come.
    pub const fn has_passed(self, now_ms: WallMs) -> bool {
        self.0 <= now_ms
    }
}

/// A message in one queue. It is 32 bytes, whatever the message weighs.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The message.
    pub message: SharedMessage,
    /// When it expires; kept through redelivery.
    pub deadline: Deadline,
    /// Times that it was handed out: it is redelivered if this is not 0.
    pub acquired: u32,
    /// Failed deliveries among them (quorum queues only).
    pub failed: u32,
}

impl Entry {
    fn body_bytes(&self) -> u64 {
        self.message.body_bytes() as u64
    }
}

/// The entries of one priority.
///
/// Whatever was handed out came from the front of `fresh`, so every returned position is lower than
/// every fresh one, and the original order is: returned by position, then fresh.
#[derive(Debug, Default)]
struct Lane {
    priority: u8,
    returned: BTreeMap<Position, Entry>,
    fresh: VecDeque<Entry>,
}

impl Lane {
    fn head(&self) -> Option<&Entry> {
        match self.returned.first_key_value() {
            Some((_, entry)) => Some(entry),
            None => self.fresh.front(),
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        if let Some((_, entry)) = self.returned.pop_first() {
            return Some(entry);
        }
        let entry = self.fresh.pop_front();
        let room = self.fresh.capacity();
        if room > LANE_ROOM_KEPT && self.fresh.len() < room / 8 {
            self.fresh.shrink_to(room / 4);
        }
        entry
    }
}

/// What waits in a queue, and how much it is.
#[derive(Debug, Default)]
pub struct Ready {
    /// In the order of service: highest priority first. A lane is made when it is first needed.
    lanes: Vec<Lane>,
    /// Served before every lane, in the order of return (quorum queues).
    returns: VecDeque<Entry>,
    messages: u64,
    body_bytes: u64,
    /// Entries that can expire, so that queues without any pay nothing for expiry.
    expiring: u64,
}

impl Ready {
    /// Messages that wait.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of their bodies.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Adds a new entry at the tail of its priority.
    pub fn push(&mut self, entry: Entry, priority: u8) {
        self.count_in(&entry);
        self.lane(priority).fresh.push_back(entry);
    }

    /// Puts an entry back into its original place in its priority.
    pub fn restore(&mut self, entry: Entry, priority: u8) {
        self.count_in(&entry);
        self.lane(priority).returned.insert(entry.position, entry);
    }

    /// Puts an entry at the end of the returns, which go before every lane.
    pub fn put_back(&mut self, entry: Entry) {
        self.count_in(&entry);
        self.returns.push_back(entry);
    }

    /// The next entry in the order of service.
    pub fn peek(&self) -> Option<&Entry> {
        self.returns
            .front()
            .or_else(|| self.lanes.iter().find_map(Lane::head))
    }

    /// Takes the next entry in the order of service.
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = if self.returns.is_empty() {
            self.lanes.iter_mut().find_map(Lane::pop)
        } else {
            let entry = self.returns.pop_front();
            if self.returns.is_empty() && self.returns.capacity() > LANE_ROOM_KEPT {
                self.returns = VecDeque::new();
            }
            entry
        };
        let entry = entry.inspect(|entry| self.count_out(entry));
        self.shrink_if_drained();
        entry
    }

    /// Takes an entry that has expired and stands at the head of its lane; expiry is seen only there
    /// (RabbitMQ's document "Time-To-Live and Expiration").
    pub fn pop_expired(&mut self, now_ms: WallMs) -> Option<Entry> {
        if self.expiring == 0 {
            return None;
        }
        let expired = |entry: &Entry| entry.deadline.has_passed(now_ms);
        let entry = if self.returns.front().is_some_and(expired) {
            self.returns.pop_front()
        } else {
            let lane = self
                .lanes
                .iter_mut()
                .find(|lane| lane.head().is_some_and(expired))?;
            lane.pop()
        };
        let entry = entry.inspect(|entry| self.count_out(entry));
        self.shrink_if_drained();
        entry
    }

    /// The earliest deadline among the heads.
    pub fn next_deadline(&self) -> Deadline {
        if self.expiring == 0 {
            return Deadline::NEVER;
        }
        self.lanes
            .iter()
            .filter_map(Lane::head)
            .chain(self.returns.front())
            .map(|entry| entry.deadline)
            .min()
            .unwrap_or(Deadline::NEVER)
    }

    /// Takes everything, for a purge or a deletion: the caller drops it outside of the lock.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        std::mem::take(self)
    }

    fn lane(&mut self, priority: u8) -> &mut Lane {
        let found = self
            .lanes
            .binary_search_by(|lane| priority.cmp(&lane.priority));
        let index = found.unwrap_or_else(|index| {
            let lane = Lane {
                priority,
                ..Lane::default()
            };
            if self.lanes.is_empty() {
                self.lanes.reserve_exact(1);
            }
            self.lanes.insert(index, lane);
            index
        });
        &mut self.lanes[index]
    }

    fn shrink_if_drained(&mut self) {
        if self.messages == 0 && self.lanes.len() > LANES_KEPT {
            self.lanes = Vec::new();
        }
    }

    fn count_in(&mut self, entry: &Entry) {
        self.messages += 1;
        self.body_bytes += entry.body_bytes();
        self.expiring += u64::from(entry.deadline != Deadline::NEVER);
    }

    fn count_out(&mut self, entry: &Entry) {
        self.messages -= 1;
        self.body_bytes -= entry.body_bytes();
        self.expiring -= u64::from(entry.deadline != Deadline::NEVER);
    }
}
