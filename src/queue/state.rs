//! What a queue is: a passive state machine, driven by whoever publishes, consumes or lets time pass.
//!
//! In: messages, settlements, consumers, `now`. Out: deliveries into the consumers' outlets, and
//! [`Effects`] for the caller. It asks no clock, takes no lock, does no input or output, and shows no
//! order of a hash table: the same calls give the same state.
//!
//! After every call, either no message is ready or no consumer can take one, unless a bounded piece of
//! work ran out, in which case [`QueueState::poll_timeout`] is due at once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::arrivals::Arrivals;
use super::budget::{HotBudget, HotShare};
use super::capacity::Capacity;
use super::consumers::{ConsumerSnapshot, Consumers, NewConsumer};
use super::counters::Counters;
use super::effects::{DeletionReason, Effects};
use super::giving::AskedGet;
use super::kind::QueueKind;
use super::letters::Letters;
use super::placing::{Offered, Sequences};
use super::quorum::Quorum;
use super::range::Head;
use super::ready::Ready;
use super::settings::{EffectiveSettings, PolicySettings, QUORUM_PREFETCH_MAX, QueueSettings};
use super::unsettled::UnsettledTable;
use crate::model::{ConsumerId, InboxEvent, Now, Position, QueueCounts, QueueId, WallMs};

/// Why a consumer is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumeRefusal {
    /// Someone consumes exclusively, or cannot because others consume, or the queue has a single active
    /// consumer.
    ExclusiveUse,
}

/// Why `basic.get` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetRefusal {
    /// A quorum queue with a single active consumer.
    SingleActiveConsumer,
}

/// A queue as it is shown outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Messages ready for delivery.
    pub messages_ready: u64,
    /// Bytes of their bodies.
    pub message_bytes_ready: u64,
    /// Messages handed out and not settled.
    pub messages_unsettled: u64,
    /// Bytes of their bodies.
    pub message_bytes_unsettled: u64,
    /// Returns of a quorum queue that wait before they are ready again.
    pub messages_delayed: u64,
    /// Dead letters of a quorum queue that have not arrived where they go.
    pub messages_retained: u64,
    /// Ready messages that only the log has.
    pub messages_paged: u64,
    /// Ready messages in memory.
    pub messages_in_memory: u64,
    /// Bytes of the bodies of ready messages in memory.
    pub message_bytes_ready_in_memory: u64,
    /// Messages handed out that are in memory.
    pub messages_unsettled_in_memory: u64,
    /// Bytes of the bodies of retained dead letters.
    pub message_bytes_retained: u64,
    /// How much of the time its consumers can take a message.
    pub capacity: Capacity,
    /// `timestamp` of the next message, in seconds since the Unix epoch, if it has one and is in memory.
    pub head_timestamp_s: Option<u64>,
    /// Bytes of memory that messages take here, ready or not.
    pub message_bytes_in_memory: u64,
    /// Consumers.
    pub consumers: u64,
    /// Whether one of them consumes exclusively.
    pub has_exclusive_consumer: bool,
    /// When it was used last, in milliseconds since the Unix epoch.
    pub last_use_ms: WallMs,
    /// What was counted.
    pub counters: Counters,
}

/// A queue's state.
#[derive(Debug)]
pub struct QueueState {
    pub(super) id: QueueId,
    pub(super) settings: EffectiveSettings,
    auto_delete: bool,
    /// Persistent messages must survive a restart.
    pub(super) is_durable: bool,
    pub(super) ready: Ready,
    pub(super) offered: Offered,
    /// What came while a head that must be dropped was not loaded.
    pub(super) arrivals: Arrivals,
    pub(super) unsettled: UnsettledTable,
    pub(super) consumers: Consumers,
    /// Those who wait for the answer to a `basic.get` until the head is loaded.
    pub(super) gets: VecDeque<AskedGet>,
    pub(super) quorum: Option<Box<Quorum>>,
    /// Dead letters that have not left.
    pub(super) letters: Letters,
    pub(super) counters: Counters,
    pub(super) capacity: Capacity,
    pub(super) share: HotShare,
    pub(super) sequences: Sequences,
    pub(super) last_use_ms: WallMs,
    /// The log could not be read: nothing is asked of it before this time.
    pub(super) load_again_ms: Option<WallMs>,
    /// More heads are to be dropped than the lock may be held for.
    pub(super) has_more_overflow: bool,
    /// It asked to be deleted, and asks no second time.
    pub(super) is_ending: bool,
}

impl QueueState {
    /// An empty queue. `durable` says whether its persistent messages must survive a restart; `budget` is the node's.
    pub fn new(
        id: QueueId,
        settings: &QueueSettings,
        policy: &PolicySettings,
        auto_delete: bool,
        durable: bool,
        budget: Arc<HotBudget>,
        now: Now,
    ) -> Self {
        let effective = EffectiveSettings::new(settings, policy);
        Self {
            id,
            auto_delete,
            is_durable: durable,
            ready: Ready::default(),
            offered: Offered::default(),
            arrivals: Arrivals::default(),
            unsettled: UnsettledTable::default(),
            consumers: Consumers::new(effective.kind, effective.single_active_consumer),
            gets: VecDeque::new(),
            quorum: (effective.kind == QueueKind::Quorum).then(Box::default),
            letters: Letters::default(),
            counters: Counters::default(),
            capacity: Capacity::default(),
            share: HotShare::new(budget),
            sequences: Sequences::default(),
            last_use_ms: now.wall_ms,
            load_again_ms: None,
            has_more_overflow: false,
            is_ending: false,
            settings: effective,
        }
    }

    /// Brings the queue to rest: what is too much is dropped, what expired at the heads goes, those who wait are served.
    pub(super) fn advance(&mut self, now: Now, fx: &mut Effects) {
        self.drop_and_let_in(now, fx);
        self.expire_heads(now, fx);
        self.assign(now, fx);
    }

    /// Whether a settlement by `consumer` (`None` for `basic.get`) may touch `position`: the delivery of a
    /// consumer that timed out has returned, and may be another's by now.
    pub fn is_held_by(&self, position: Position, consumer: Option<ConsumerId>) -> bool {
        self.quorum.is_none()
            || self
                .unsettled
                .owner(position, &self.consumers)
                .is_some_and(|owner| owner.map(|owner| owner.consumer) == consumer)
    }

    /// A consumer starts.
    ///
    /// # Errors
    /// Exclusive use, in either direction.
    pub fn add_consumer(
        &mut self,
        mut consumer: NewConsumer,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), ConsumeRefusal> {
        match self.settings.kind {
            QueueKind::Quorum => {
                consumer.exclusive = false;
                if consumer.prefetch == 0 {
                    consumer.prefetch = QUORUM_PREFETCH_MAX;
                }
            }
            QueueKind::Classic => {
                let cannot_be_alone = consumer.exclusive
                    && (self.consumers.live() > 0 || self.consumers.is_single_active());
                if cannot_be_alone || self.consumers.has_exclusive() {
                    return Err(ConsumeRefusal::ExclusiveUse);
                }
            }
        }
        self.last_use_ms = now.wall_ms;
        self.consumers.add(consumer);
        self.assign(now, fx);
        Ok(())
    }

    /// Consumers end; what they hold stays unsettled. `false` if none of them is there.
    ///
    /// Those of a channel that ends go all at once: while one of them is left, it could still be given a message, which
    /// nobody would ever see.
    pub fn remove_consumers(&mut self, ids: &[ConsumerId], now: Now, fx: &mut Effects) -> bool {
        let removed = ids
            .iter()
            .filter(|id| self.consumers.remove(**id).is_some())
            .count();
        if removed == 0 {
            return false;
        }
        self.consumer_gone(now, fx);
        true
    }

    /// A consumer that was refused by its outlet or its channel's window has room again.
    pub fn consumer_ready(&mut self, id: ConsumerId, now: Now, fx: &mut Effects) {
        self.consumers.ready(id);
        self.assign(now, fx);
    }

    /// The policy changed. Deadlines of messages that are here already stay; limits bite at once.
    pub fn reconfigure(
        &mut self,
        settings: &QueueSettings,
        policy: &PolicySettings,
        now: Now,
        fx: &mut Effects,
    ) {
        self.settings = EffectiveSettings::new(settings, policy);
        self.last_use_ms = now.wall_ms;
        if !self.settings.retains_dead_letters {
            self.give_up_retained(fx);
        }
        self.drop_and_let_in(now, fx);
        self.assign(now, fx);
    }

    /// The end: consumers are told, messages go, not dead-lettered. Returns how many were ready.
    pub fn delete(&mut self, fx: &mut Effects) -> u64 {
        self.is_ending = true;
        for consumer in self.consumers.take_all(fx) {
            consumer.outlet.push(InboxEvent::ConsumerCancelled {
                channel: consumer.channel,
                consumer: consumer.id,
            });
            fx.wake(&consumer.outlet);
        }
        self.answer_gets_empty(fx);
        let ready = self.take_ready(fx);
        let unsettled = self.unsettled.take_all();
        self.counters.purged += unsettled.messages();
        fx.discard(unsettled);
        if let Some(quorum) = self.quorum.take() {
            self.counters.purged += quorum.delayed_messages();
            fx.discard(quorum);
        }
        ready
    }

    /// The queue was declared again, or passively: a classic queue takes that as use.
    pub fn touch(&mut self, now: Now) {
        if self.settings.kind == QueueKind::Classic {
            self.last_use_ms = now.wall_ms;
        }
    }

    /// What `queue.declare-ok` shows.
    pub fn counts(&self) -> QueueCounts {
        QueueCounts {
            messages_ready: saturate(self.ready_messages()),
            consumers: saturate(self.consumers.live() as u64),
        }
    }

    /// What the API shows.
    pub fn snapshot(&self) -> QueueSnapshot {
        QueueSnapshot {
            messages_ready: self.ready_messages(),
            message_bytes_ready: self.ready.body_bytes() + self.arrivals.body_bytes(),
            messages_unsettled: self.unsettled.messages(),
            message_bytes_unsettled: self.unsettled.body_bytes(),
            messages_delayed: self.delayed_messages(),
            messages_retained: self
                .quorum
                .as_ref()
                .map_or(0, |quorum| quorum.retained_messages()),
            consumers: self.consumers.live() as u64,
            messages_paged: self.ready.totals().cold_messages + self.arrivals.cold_messages(),
            messages_in_memory: self.ready.totals().hot_messages + self.arrivals.messages()
                - self.arrivals.cold_messages(),
            message_bytes_ready_in_memory: self.ready.totals().hot_body_bytes
                + self.arrivals.hot_body_bytes(),
            messages_unsettled_in_memory: self.unsettled.messages_in_memory(),
            message_bytes_retained: self
                .quorum
                .as_ref()
                .map_or(0, |quorum| quorum.retained_body_bytes()),
            capacity: self.capacity,
            head_timestamp_s: self.head_timestamp_s(),
            message_bytes_in_memory: self.hot_bytes(),
            has_exclusive_consumer: self.consumers.has_exclusive(),
            last_use_ms: self.last_use_ms,
            counters: self.counters,
        }
    }

    /// Whether anything has happened to messages here.
    pub(super) fn has_counted(&self) -> bool {
        self.counters != Counters::default()
    }

    /// How long consumers that say nothing of it may keep a delivery, in milliseconds.
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        self.settings.consumer_timeout_ms
    }

    /// The consumers in the order of registration.
    pub fn consumers(&self) -> Vec<ConsumerSnapshot> {
        self.consumers.snapshot()
    }

    /// Whether every accepted message is in exactly one place: ready, delayed, unsettled or gone.
    pub fn is_balanced(&self) -> bool {
        let inside = self.ready_messages() + self.unsettled.messages() + self.delayed_messages();
        self.counters.is_balanced(inside)
    }

    /// Messages that wait, those among them that are not let in yet.
    pub(super) fn ready_messages(&self) -> u64 {
        self.ready.messages() + self.arrivals.messages()
    }

    /// A consumer is no longer there.
    pub(super) fn consumer_gone(&mut self, now: Now, fx: &mut Effects) {
        self.last_use_ms = now.wall_ms;
        if self.auto_delete && self.consumers.live() == 0 && !self.is_ending {
            self.is_ending = true;
            fx.deletions.push((self.id, DeletionReason::AutoDelete));
            return;
        }
        self.shed_when_idle(fx);
        self.assign(now, fx);
    }

    fn head_timestamp_s(&self) -> Option<u64> {
        let Some(Head::Hot(entry)) = self.ready.peek() else {
            return None;
        };
        let message = &entry.message;
        message.facts().view(message.properties()).timestamp()
    }

    pub(super) fn delayed_messages(&self) -> u64 {
        self.quorum
            .as_ref()
            .map_or(0, |quorum| quorum.delayed_messages())
    }
}

/// Counts on the wire are 32 bits wide.
pub(super) fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
