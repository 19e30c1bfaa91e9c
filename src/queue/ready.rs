//! The messages that wait: a lane for each priority in use, and a quorum queue's list of returns.
//!
//! In: entries at the tail, messages that come back, blocks that were loaded. Out: the next entry, expired heads, ranges to load, sums. It
//! knows no consumer, no limit and no clock.

use super::entry::{Deadline, Entry, Item, Stub};
use super::lane::Lane;
use super::loading::{LoadedBlock, Recollection};
use super::range::{Brought, ColdTail, Head, Span, Totals};
use super::returns::Returns;
use crate::model::WallMs;

/// Lanes that a drained queue may keep.
const LANES_KEPT: usize = 4;

/// What waits in a queue, and how much it is.
#[derive(Debug, Default)]
pub struct Ready {
    /// In the order of service: highest priority first. A lane is made when it is first needed.
    lanes: Vec<Lane>,
    /// Served before every lane (quorum queues).
    returns: Returns,
    totals: Totals,
    recollection: Recollection,
}

impl Ready {
    /// Messages that wait.
    pub fn messages(&self) -> u64 {
        self.totals.hot_messages + self.totals.cold_messages
    }

    /// Bytes of their bodies.
    pub fn body_bytes(&self) -> u64 {
        self.totals.hot_body_bytes + self.totals.cold_body_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages() == 0
    }

    /// What waits, in numbers.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whether the log has some of what waits.
    pub fn has_logged(&self) -> bool {
        self.totals.hot_logged + self.totals.cold_messages > 0
    }

    /// Whether a new message of this level must not be kept in memory, because earlier ones are not.
    pub fn is_cold(&self, level: u8) -> bool {
        self.find(level).is_ok_and(|index| {
            let lane = &self.lanes[index];
            lane.has_tail() || lane.offered_cold > 0
        })
    }

    /// A message of this level will be cold when it enters.
    pub fn offer_cold(&mut self, level: u8) {
        self.lane(level).offered_cold += 1;
    }

    /// That message enters, or is withdrawn.
    pub fn end_offer(&mut self, level: u8) {
        let lane = self.lane(level);
        lane.offered_cold = lane.offered_cold.saturating_sub(1);
    }

    /// Adds a new entry at the end of its lane; to a tail that only the log has if there is one and the log has the entry.
    /// What need not be kept in memory is given back.
    pub fn push(&mut self, entry: Entry, is_cold: bool) -> Option<Entry> {
        let index = self.index(entry.position.lane());
        let lane = &mut self.lanes[index];
        if entry.is_logged() && (is_cold || lane.has_tail()) {
            lane.push_cold(&entry.stub(), &mut self.totals);
            return Some(entry);
        }
        lane.push(entry, &mut self.totals);
        None
    }

    /// Adds a new message that only the log has at the end of its lane.
    pub fn push_cold(&mut self, stub: &Stub) {
        let index = self.index(stub.position.lane());
        self.lanes[index].push_cold(stub, &mut self.totals);
    }

    /// Puts a message back into its original place in its lane.
    pub fn restore(&mut self, item: Item) {
        let index = self.index(item.position().lane());
        self.lanes[index].restore(item, &mut self.totals);
    }

    /// Puts a message at the end of the returns, which go before every lane.
    pub fn put_back(&mut self, item: Item) {
        self.returns.put_back(item, &mut self.totals);
    }

    /// A lane as recovery found it.
    pub fn recover(&mut self, tail: ColdTail) {
        let index = self.index(tail.first.lane());
        self.lanes[index].recover(tail, &mut self.totals);
    }

    /// What recovery knows of messages that are not loaded yet.
    pub fn recollection(&mut self) -> &mut Recollection {
        &mut self.recollection
    }

    /// The next message in the order of service.
    pub fn peek(&self) -> Option<Head<'_>> {
        self.returns
            .peek()
            .or_else(|| self.lanes.iter().find_map(Lane::peek))
    }

    /// Whether the next message must be loaded before anything else is served.
    pub fn is_head_cold(&self) -> bool {
        self.totals.cold_messages > 0 && matches!(self.peek(), Some(Head::Cold { .. }))
    }

    /// Takes the next message in the order of service, if it is in memory.
    pub fn pop(&mut self) -> Option<Entry> {
        let entry = if self.returns.is_empty() {
            let lane = self.lanes.iter_mut().find(|lane| lane.peek().is_some())?;
            lane.pop(&mut self.totals)
        } else {
            self.returns.pop(&mut self.totals)
        };
        self.shrink_if_drained();
        entry
    }

    /// Takes an entry that has expired and stands at the head of its lane; expiry is seen only there
    /// (RabbitMQ's document "Time-To-Live and Expiration").
    pub fn pop_expired(&mut self, now_ms: WallMs) -> Option<Entry> {
        if self.totals.hot_expiring == 0 {
            return None;
        }
        let expired =
            |head: Head<'_>| matches!(head, Head::Hot(entry) if entry.deadline.has_passed(now_ms));
        let entry = if self.returns.peek().is_some_and(expired) {
            self.returns.pop(&mut self.totals)
        } else {
            let lane = self
                .lanes
                .iter_mut()
                .find(|lane| lane.peek().is_some_and(expired))?;
            lane.pop(&mut self.totals)
        };
        self.shrink_if_drained();
        entry
    }

    /// The earliest deadline among the heads that are in memory.
    pub fn next_deadline(&self) -> Deadline {
        if self.totals.hot_expiring == 0 {
            return Deadline::NEVER;
        }
        self.lanes
            .iter()
            .filter_map(Lane::peek)
            .chain(self.returns.peek())
            .map(|head| match head {
                Head::Hot(entry) => entry.deadline,
                Head::Cold { .. } => Deadline::NEVER,
            })
            .min()
            .unwrap_or(Deadline::NEVER)
    }

    /// Asks for the next message in the order of service, if it is not in memory and not asked for yet.
    pub fn load_head(&mut self) -> Option<Span> {
        if !self.returns.is_empty() {
            return self.returns.load_head();
        }
        let lane = self.lanes.iter_mut().find(|lane| lane.peek().is_some())?;
        lane.load_head()
    }

    /// Asks for what follows the messages that are served now, if less than `bytes` of them are in memory.
    pub fn load_ahead(&mut self, bytes: u64) -> Option<Span> {
        let lane = self.lanes.iter_mut().find(|lane| lane.peek().is_some())?;
        lane.load_ahead(bytes)
    }

    /// Asks for a head that may have expired unseen. To be called until there is none.
    pub fn load_expiring(&mut self) -> Option<Span> {
        if !self.totals.cold_may_expire {
            return None;
        }
        let may_expire =
            |head: Option<Head<'_>>| matches!(head, Some(Head::Cold { may_expire: true }));
        if may_expire(self.returns.peek())
            && let Some(span) = self.returns.load_head()
        {
            return Some(span);
        }
        self.lanes
            .iter_mut()
            .filter(|lane| may_expire(lane.peek()))
            .find_map(Lane::load_head)
    }

    /// A block arrives. `None` if nobody waits for it any more.
    pub fn handle_loaded(&mut self, mut block: LoadedBlock) -> Option<Brought> {
        let brought = match self.returns.handle_loaded(&mut block, &mut self.totals) {
            None => {
                let index = self.find(block.first.lane()).ok()?;
                self.lanes[index].handle_loaded(
                    &mut block,
                    &mut self.recollection,
                    &mut self.totals,
                )
            }
            brought => brought,
        };
        self.shrink_if_drained();
        brought
    }

    /// Leaves messages that the log has to the log, the last in the order of service first, until no more than `keep_bytes` of memory are taken.
    /// Returns what was in memory.
    #[must_use]
    pub fn shed(&mut self, keep_bytes: u64) -> Vec<Entry> {
        let mut shed = Vec::new();
        for lane in self.lanes.iter_mut().rev() {
            if self.totals.hot_bytes <= keep_bytes {
                return shed;
            }
            lane.shed(
                keep_bytes,
                &mut self.recollection,
                &mut self.totals,
                &mut shed,
            );
        }
        if self.totals.hot_bytes > keep_bytes {
            self.returns.shed(&mut self.totals, &mut shed);
        }
        shed
    }

    /// Takes everything, for a purge or a deletion: the caller drops it outside of the lock. Blocks that were asked for
    /// find nobody that waits for them.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        std::mem::take(self)
    }

    fn find(&self, level: u8) -> Result<usize, usize> {
        self.lanes.binary_search_by(|lane| level.cmp(&lane.level))
    }

    fn index(&mut self, level: u8) -> usize {
        self.find(level).unwrap_or_else(|index| {
            if self.lanes.is_empty() {
                self.lanes.reserve_exact(1);
            }
            self.lanes.insert(index, Lane::new(level));
            index
        })
    }

    fn lane(&mut self, level: u8) -> &mut Lane {
        let index = self.index(level);
        &mut self.lanes[index]
    }

    fn shrink_if_drained(&mut self) {
        if self.is_empty()
            && self.lanes.len() > LANES_KEPT
            && self.lanes.iter().all(|lane| lane.offered_cold == 0)
        {
            self.lanes = Vec::new();
        }
    }
}
