//! The way of a backlog between memory and the log: what a queue asks for, what it is given, what it lets go.
//!
//! In: blocks of messages, what recovery found, the wish for memory. Out: [`Load`]s in the effects. Not known here: where the log keeps
//! what, and who reads it.

use std::collections::BTreeMap;

use super::effects::Effects;
use super::entry::{Attempts, Deadline, Entry};
use super::range::{ColdTail, Span};
use super::state::QueueState;
use crate::model::{Now, Position, QueueId, SharedMessage};

/// Bytes that are asked for at once for a queue with consumers, and kept ahead of them.
const BLOCK_BYTES_MAX: u64 = 256 << 10;

/// Bytes that are asked for at once when only time or a limit wants the head.
const IDLE_BLOCK_BYTES_MAX: u64 = 16 << 10;

/// After this time a load that could read nothing is ordered again.
const LOAD_RETRY_MS: u64 = 1000;

/// The part of the node's budget that one block may take.
const BLOCK_PART_OF_BUDGET: u64 = 4;

/// A range of a queue's log that the queue waits for. At most one a lane is under way, and one for a quorum queue's returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The queue.
    pub queue: QueueId,
    /// The first position, by which the answer is known.
    pub first: Position,
    /// The last position.
    pub last: Position,
    /// Bytes of memory after which the block may end; at least one message comes.
    pub bytes_max: u64,
}

/// A message that was loaded.
#[derive(Clone, Debug)]
pub struct LoadedMessage {
    /// Its place.
    pub position: Position,
    /// The message.
    pub message: SharedMessage,
    /// When it expires.
    pub deadline: Deadline,
}

impl LoadedMessage {
    /// The entry that it becomes.
    pub fn into_entry(self, attempts: Attempts) -> Entry {
        Entry::new(self.position, self.message, self.deadline, true).with_attempts(attempts)
    }
}

/// What a load found.
#[derive(Clone, Debug)]
pub struct LoadedBlock {
    /// The load's first position.
    pub first: Position,
    /// The last position that was looked at; lower than `first` if nothing could be read now, in which case the load is
    /// ordered again when it is wanted next.
    pub through: Position,
    /// The messages of the log from `first` to `through` that are not settled, by position. Those that were handed out may be among them.
    pub messages: Vec<LoadedMessage>,
    /// Positions that could not be read: these messages are lost.
    pub damaged: Vec<Position>,
}

/// A lane as recovery found it.
#[derive(Clone, Copy, Debug)]
pub struct RecoveredLane {
    /// The first message; its lane is the lane.
    pub first: Position,
    /// The last message.
    pub last: Position,
    /// How many they are; with 0, the sequence alone counts.
    pub messages: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// Some of them may expire.
    pub may_expire: bool,
    /// The next place in the lane.
    pub next_sequence: u64,
    /// Messages up to here may have been handed out before.
    pub delivered_through: Option<Position>,
}

/// A queue as recovery found it.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Its lanes.
    pub lanes: Vec<RecoveredLane>,
    /// What single messages of a quorum queue have behind them: position, hand-outs, failed ones.
    pub counts: Vec<(Position, u32, u32)>,
}

/// What is known of messages that wait in the log alone, beside their number.
#[derive(Debug, Default)]
pub struct Recollection {
    /// By lane: messages up to here may have been handed out before.
    delivered_through: BTreeMap<u8, Position>,
    /// Messages with another history than that.
    counts: BTreeMap<Position, Attempts>,
}

impl Recollection {
    /// What a message that is loaded has behind it.
    pub fn take(&mut self, position: Position) -> Attempts {
        self.counts
            .remove(&position)
            .unwrap_or_else(|| self.presumed(position))
    }

    /// A message leaves memory.
    pub fn remember(&mut self, position: Position, attempts: Attempts) {
        if attempts != self.presumed(position) {
            self.counts.insert(position, attempts);
        }
    }

    fn presumed(&self, position: Position) -> Attempts {
        let through = self.delivered_through.get(&position.lane());
        Attempts {
            acquired: u32::from(through.is_some_and(|through| position <= *through)),
            failed: 0,
        }
    }
}

impl QueueState {
    /// A block arrives. It is ignored if nobody waits for it any more, as after a purge.
    pub fn handle_loaded(&mut self, block: LoadedBlock, now: Now, fx: &mut Effects) {
        let is_in_vain = block.through < block.first;
        self.counters.log_reads += block.messages.len() as u64;
        let Some(brought) = self.ready.handle_loaded(block) else {
            return;
        };
        self.counters.lost += brought.lost;
        self.counters.recovered += brought.surplus;
        if is_in_vain {
            self.load_again_ms = Some(now.wall_ms.saturating_add(LOAD_RETRY_MS));
            return;
        }
        self.advance(now, fx);
    }

    /// Takes over what the log holds after a restart. Called once, before anything else.
    pub fn recover(&mut self, recovered: Recovered, now: Now, fx: &mut Effects) {
        let recollection = self.ready.recollection();
        for (position, acquired, failed) in recovered.counts {
            let attempts = Attempts { acquired, failed };
            recollection.counts.insert(position, attempts);
        }
        for lane in recovered.lanes {
            let level = lane.first.lane();
            self.sequences.set_next(level, lane.next_sequence);
            if let Some(through) = lane.delivered_through {
                let recollection = self.ready.recollection();
                recollection.delivered_through.insert(level, through);
            }
            if lane.messages > 0 {
                self.counters.recovered += lane.messages;
                self.ready.recover(ColdTail {
                    first: lane.first,
                    last: lane.last,
                    messages: lane.messages,
                    body_bytes: lane.body_bytes,
                    may_expire: lane.may_expire,
                });
            }
        }
        self.advance(now, fx);
    }

    /// Leaves to the log whatever it has: the bodies of messages that wait, are handed out, delayed or retained. Returns the bytes of memory
    /// that become free.
    pub fn evict(&mut self, fx: &mut Effects) -> u64 {
        if self.offered.messages > 0 {
            return 0;
        }
        let before = self.hot_bytes();
        fx.discard(self.ready.shed(0));
        fx.discard(self.unsettled.shed());
        if let Some(quorum) = &mut self.quorum {
            fx.discard(quorum.shed());
        }
        before - self.hot_bytes()
    }

    /// Reports the bytes in memory to the node's budget: once at the end of each piece of work under the queue's lock.
    pub fn settle_budget(&mut self) {
        let own = self.hot_bytes();
        self.share.report(own);
    }

    /// Bytes of memory that messages take here.
    pub(super) fn hot_bytes(&self) -> u64 {
        let kept = self.quorum.as_ref().map_or(0, |quorum| quorum.hot_bytes());
        self.ready.totals().hot_bytes + self.unsettled.hot_bytes() + kept + self.offered.hot_bytes
    }

    /// Whether the log alone should keep what it has of messages that are not needed soon.
    pub(super) fn is_half_full(&self) -> bool {
        self.share.is_half_full(self.hot_bytes())
    }

    /// Whether new messages, and those that come back, must be left to the log if it has them.
    pub(super) fn is_over_budget(&self) -> bool {
        let own = self.hot_bytes();
        let limits = self.share.limits();
        if self.consumers.live() > 0 {
            own >= limits.queue_bytes_max || self.share.room(own) == 0
        } else {
            own >= limits.idle_queue_bytes_max || self.share.is_half_full(own)
        }
    }

    /// Without consumers, a queue keeps little of what the log has.
    pub(super) fn shed_when_idle(&mut self, fx: &mut Effects) {
        if self.consumers.live() > 0 || self.offered.messages > 0 {
            return;
        }
        let own = self.hot_bytes();
        let keep_bytes = if self.share.is_half_full(own) {
            0
        } else {
            self.share.limits().idle_queue_bytes_max
        };
        if self.ready.totals().hot_bytes > keep_bytes {
            fx.discard(self.ready.shed(keep_bytes));
        }
    }

    /// Asks for messages that somebody wants and that are not in memory.
    pub(super) fn order_loads(&mut self, now: Now, fx: &mut Effects) {
        if self.ready.totals().cold_messages == 0 || self.is_ending {
            return;
        }
        if self
            .load_again_ms
            .is_some_and(|again_ms| now.wall_ms < again_ms)
        {
            return;
        }
        self.load_again_ms = None;
        let is_wanted = self.consumers.any_queued() || !self.gets.is_empty() || self.must_drop();
        if is_wanted && self.ready.is_head_cold() {
            if let Some(span) = self.ready.load_head() {
                self.order(span, fx);
            }
        } else if self.consumers.live() > 0 {
            let block = self.block_bytes();
            if self.share.room(self.hot_bytes()) >= block / 2
                && let Some(span) = self.ready.load_ahead(block / 2)
            {
                self.order(span, fx);
            }
        }
        while let Some(span) = self.ready.load_expiring() {
            self.order(span, fx);
        }
    }

    fn order(&self, span: Span, fx: &mut Effects) {
        let room = self.share.room(self.hot_bytes());
        fx.loads.push(Load {
            queue: self.id,
            first: span.first,
            last: span.last,
            bytes_max: self.block_bytes().min(room).max(1),
        });
    }

    fn block_bytes(&self) -> u64 {
        let most = if self.consumers.live() > 0 {
            BLOCK_BYTES_MAX
        } else {
            IDLE_BLOCK_BYTES_MAX
        };
        most.min(self.share.limits().bytes_max / BLOCK_PART_OF_BUDGET)
    }
}
