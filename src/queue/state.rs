//! What a queue is: a passive state machine, driven by whoever publishes, consumes or lets time pass.
//!
//! In: messages, settlements, consumers, `now`. Out: deliveries into the consumers' outlets, and
//! [`Effects`] for the caller. It asks no clock, takes no lock, does no input or output, and shows no
//! order of a hash table: the same calls give the same state.
//!
//! After every call, either no message is ready or no consumer can take one, unless a bounded piece of
//! work ran out, in which case [`QueueState::poll_timeout`] is due at once.

use std::sync::Arc;

use super::consumers::{ConsumerSnapshot, Consumers, NewConsumer, Owner};
use super::counters::Counters;
use super::effects::{DeadLetter, DeletionReason, Effects};
use super::kind::QueueKind;
use super::quorum::{DEAD_LETTER_RETRY_MS, Quorum, Retained, delayed_until};
use super::ready::{Deadline, Entry, Ready};
use super::settings::{EffectiveSettings, PolicySettings, QUORUM_PREFETCH_MAX, QueueSettings};
use super::unsettled::{Held, UnsettledTable};
use crate::model::{
    ChannelNumber, ConsumerId, DeathReason, Delivery, Got, InboxEvent, Name, Now, Position,
    QueueCounts, QueueId, RedeliveryCounts, SettlementOutcome, SharedMessage, WallMs,
};

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The queue has it, at this place.
    Accepted(Position),
    /// The queue is full and refuses.
    Rejected,
}

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
    pub(super) name: Name,
    pub(super) vhost: Name,
    pub(super) settings: EffectiveSettings,
    auto_delete: bool,
    pub(super) ready: Ready,
    pub(super) unsettled: UnsettledTable,
    pub(super) consumers: Consumers,
    pub(super) quorum: Option<Box<Quorum>>,
    pub(super) counters: Counters,
    next_position: Position,
    pub(super) last_use_ms: WallMs,
    /// It asked to be deleted, and asks no second time.
    pub(super) is_ending: bool,
}

impl QueueState {
    /// An empty queue.
    pub fn new(
        id: QueueId,
        name: Name,
        vhost: Name,
        settings: &QueueSettings,
        policy: &PolicySettings,
        auto_delete: bool,
        now: Now,
    ) -> Self {
        let effective = EffectiveSettings::new(settings, policy);
        Self {
            id,
            name,
            vhost,
            auto_delete,
            ready: Ready::default(),
            unsettled: UnsettledTable::default(),
            consumers: Consumers::new(effective.kind, effective.single_active_consumer),
            quorum: (effective.kind == QueueKind::Quorum).then(Box::default),
            counters: Counters::default(),
            next_position: Position(1),
            last_use_ms: now.wall_ms,
            is_ending: false,
            settings: effective,
        }
    }

    /// A message arrives. `expiration_ms` is what its property says.
    pub fn publish(
        &mut self,
        message: SharedMessage,
        expiration_ms: Option<WallMs>,
        now: Now,
        fx: &mut Effects,
    ) -> Published {
        if self.refuses(&message) {
            self.refuse(message, fx);
            return Published::Rejected;
        }
        let position = self.next_position;
        self.next_position = position.next();
        self.counters.published += 1;
        let entry = Entry {
            position,
            deadline: self.deadline(expiration_ms, now),
            acquired: 0,
            failed: 0,
            message,
        };
        if self.ready.is_empty() && self.consumers.any_queued() {
            let cost_bytes = entry.message.cost_bytes();
            if let Some(owner) = self.consumers.pick(self.id, cost_bytes) {
                self.hand_out(owner, entry, now, fx);
                return Published::Accepted(position);
            }
        }
        if entry.deadline.has_passed(now.wall_ms) && self.ready.is_empty() {
            self.expire(entry, fx);
            return Published::Accepted(position);
        }
        let level = self.settings.level(entry.message.facts().priority());
        self.ready.push(entry, level);
        self.drop_overflow(fx);
        self.expire_heads(now, fx);
        self.assign(now, fx);
        Published::Accepted(position)
    }

    /// Whether a settlement by `consumer` (`None` for `basic.get`) may touch `position`: the delivery of a
    /// consumer that timed out has returned, and may be another's by now.
    pub fn is_held_by(&self, position: Position, consumer: Option<ConsumerId>) -> bool {
        self.quorum.is_none()
            || self
                .unsettled
                .get(position)
                .is_some_and(|held| held.owner.map(|owner| owner.consumer) == consumer)
    }

    /// A consumer, or whoever got the message, says what becomes of it. `false` if nothing is unsettled
    /// at that position.
    ///
    /// The caller ends a burst of these with [`QueueState::after_settlements`]. At the end of a channel
    /// its consumers are removed first, or they would get back what they return.
    pub fn settle(
        &mut self,
        position: Position,
        outcome: SettlementOutcome,
        now: Now,
        fx: &mut Effects,
    ) -> bool {
        let Some(held) = self.release(position, fx) else {
            return false;
        };
        match outcome {
            SettlementOutcome::Acked => {
                self.counters.acked += 1;
                fx.free(held.entry.message);
            }
            SettlementOutcome::Rejected => {
                self.counters.rejected += 1;
                self.dead_letter(
                    held.entry.message,
                    DeathReason::Rejected,
                    Some(position),
                    fx,
                );
            }
            SettlementOutcome::RequeuedByReject | SettlementOutcome::ReturnedByLoss => {
                self.requeue(held.entry, true, now, fx);
            }
            SettlementOutcome::RequeuedByNack => self.requeue(held.entry, false, now, fx),
        }
        true
    }

    /// Drops what returns made too much and what expired while it was held, and hands out what settlements made possible
    /// (`rabbit_amqqueue_process:requeue_and_run/3`). An auto-delete queue whose last consumer went does none of this:
    /// RabbitMQ stops it before it takes anything back (`rabbit_amqqueue_process:handle_ch_down/2`).
    pub fn after_settlements(&mut self, now: Now, fx: &mut Effects) {
        if self.is_ending {
            return;
        }
        self.drop_overflow(fx);
        self.expire_heads(now, fx);
        self.assign(now, fx);
    }

    /// `basic.get`: takes the next message, outside of all credit.
    ///
    /// # Errors
    /// A quorum queue with a single active consumer refuses.
    pub fn get(
        &mut self,
        channel: ChannelNumber,
        no_ack: bool,
        now: Now,
        fx: &mut Effects,
    ) -> Result<Option<Got>, GetRefusal> {
        if self.settings.kind == QueueKind::Quorum && self.consumers.is_single_active() {
            return Err(GetRefusal::SingleActiveConsumer);
        }
        self.last_use_ms = now.wall_ms;
        self.expire_heads(now, fx);
        let next = match self.ready.peek() {
            Some(head) if !head.deadline.has_passed(now.wall_ms) => self.ready.pop(),
            _ => None,
        };
        let Some(mut entry) = next else {
            self.counters.get_empty += 1;
            return Ok(None);
        };
        let (redelivered, counts) = self.redelivery(&entry);
        let got = Got {
            queue: self.id,
            position: entry.position,
            redelivered,
            counts,
            messages_ready: saturate(self.ready.messages()),
            message: Arc::clone(&entry.message),
            channel,
        };
        if no_ack {
            self.counters.got_no_ack += 1;
        } else {
            self.counters.got += 1;
            entry.acquired = entry.acquired.saturating_add(1);
            self.hold(entry, None, now);
        }
        Ok(Some(got))
    }

    /// A retained dead letter fared so: it has arrived in every queue that it was routed to, at least
    /// one, or it must be sent again.
    pub fn settle_dead_letter(
        &mut self,
        position: Position,
        has_arrived: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        if has_arrived {
            if let Some(letter) = quorum.arrived(position) {
                fx.free(letter.message);
            }
        } else {
            quorum.retry(now.wall_ms.saturating_add(DEAD_LETTER_RETRY_MS), position);
        }
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
        if let Some(quorum) = &mut self.quorum
            && !self.settings.retains_dead_letters
        {
            fx.discard(quorum.take_retained());
        }
        self.drop_overflow(fx);
        self.assign(now, fx);
    }

    /// `queue.purge`: the ready messages go, not dead-lettered. Returns how many they were.
    pub fn purge(&mut self, fx: &mut Effects) -> u64 {
        let purged = self.ready.take_all();
        let messages = purged.messages();
        self.counters.purged += messages;
        if let Some(quorum) = &mut self.quorum {
            fx.discard(quorum.take_retained());
        }
        if messages > 0 {
            fx.discard(purged);
        }
        messages
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
        let ready = self.purge(fx);
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
            messages_ready: saturate(self.ready.messages()),
            consumers: saturate(self.consumers.live() as u64),
        }
    }

    /// What the API shows.
    pub fn snapshot(&self) -> QueueSnapshot {
        QueueSnapshot {
            messages_ready: self.ready.messages(),
            message_bytes_ready: self.ready.body_bytes(),
            messages_unsettled: self.unsettled.messages(),
            message_bytes_unsettled: self.unsettled.body_bytes(),
            messages_delayed: self.delayed_messages(),
            messages_retained: self
                .quorum
                .as_ref()
                .map_or(0, |quorum| quorum.retained_messages()),
            consumers: self.consumers.live() as u64,
            has_exclusive_consumer: self.consumers.has_exclusive(),
            last_use_ms: self.last_use_ms,
            counters: self.counters,
        }
    }

    /// The consumers in the order of registration.
    pub fn consumers(&self) -> Vec<ConsumerSnapshot> {
        self.consumers.snapshot()
    }

    /// Whether every accepted message is in exactly one place: ready, delayed, unsettled or gone.
    pub fn is_balanced(&self) -> bool {
        let inside = self.ready.messages() + self.unsettled.messages() + self.delayed_messages();
        self.counters.is_balanced(inside)
    }

    /// Gives ready messages to consumers until one of both runs out.
    pub(super) fn assign(&mut self, now: Now, fx: &mut Effects) {
        while self.consumers.any_queued() {
            self.expire_heads(now, fx);
            let Some(head) = self.ready.peek() else {
                return;
            };
            if head.deadline.has_passed(now.wall_ms) {
                return;
            }
            let cost_bytes = head.message.cost_bytes();
            let Some(owner) = self.consumers.pick(self.id, cost_bytes) else {
                return;
            };
            if let Some(entry) = self.ready.pop() {
                self.hand_out(owner, entry, now, fx);
            }
        }
    }

    /// Hands `entry` to a consumer that was picked for it.
    fn hand_out(&mut self, owner: Owner, mut entry: Entry, now: Now, fx: &mut Effects) {
        let (redelivered, counts) = self.redelivery(&entry);
        let Some(consumer) = self.consumers.get(owner) else {
            let level = self.settings.level(entry.message.facts().priority());
            self.ready.restore(entry, level);
            return;
        };
        let no_ack = consumer.asked.no_ack;
        let settle_within_ms = self.settle_within_ms(owner);
        consumer.asked.outlet.push(InboxEvent::Deliver(Delivery {
            channel: consumer.asked.channel,
            consumer: owner.consumer,
            consumer_tag: Arc::clone(&consumer.asked.tag),
            queue: Some(self.id),
            position: entry.position,
            redelivered,
            no_ack,
            message: Arc::clone(&entry.message),
            counts,
        }));
        fx.wake(&consumer.asked.outlet);
        self.counters.redelivered += u64::from(redelivered);
        if no_ack {
            self.counters.delivered_no_ack += 1;
            return;
        }
        self.counters.delivered += 1;
        entry.acquired = entry.acquired.saturating_add(1);
        self.hold(entry, Some((owner, settle_within_ms)), now);
    }

    /// How long a consumer of a quorum queue may keep a delivery, in milliseconds.
    pub(super) fn settle_within_ms(&self, owner: Owner) -> Option<u64> {
        self.consumers
            .get(owner)
            .and_then(|consumer| consumer.asked.settings.timeout_ms)
            .or(self.settings.consumer_timeout_ms)
    }

    /// Whether `entry` was handed out before, and what a quorum queue shows of that.
    fn redelivery(&self, entry: &Entry) -> (bool, Option<RedeliveryCounts>) {
        let redelivered = entry.acquired > 0;
        let counts = RedeliveryCounts {
            acquired: entry.acquired,
            delivery: entry.failed,
        };
        (
            redelivered,
            (redelivered && self.quorum.is_some()).then_some(counts),
        )
    }

    /// Keeps a handed-out entry until it is settled. Time to settle is given to consumers alone.
    fn hold(&mut self, entry: Entry, owner: Option<(Owner, Option<u64>)>, now: Now) {
        let mut settle_by_ms = WallMs::MAX;
        if let (Some(quorum), Some((_, Some(within_ms)))) = (&mut self.quorum, owner) {
            settle_by_ms = now.wall_ms.saturating_add(within_ms);
            quorum.watch(settle_by_ms, entry.position);
        }
        self.unsettled.insert(Held {
            entry,
            owner: owner.map(|(owner, _)| owner),
            settle_by_ms,
        });
    }

    /// Takes a handed-out entry from its holder.
    pub(super) fn release(&mut self, position: Position, fx: &mut Effects) -> Option<Held> {
        let held = self.unsettled.remove(position)?;
        if let Some(quorum) = &mut self.quorum {
            quorum.unwatch(held.settle_by_ms, position);
        }
        if let Some(owner) = held.owner {
            self.consumers.credit(owner, fx);
        }
        Some(held)
    }

    /// Puts a handed-out entry back: a classic queue to its place, a quorum queue behind other returns.
    pub(super) fn requeue(
        &mut self,
        mut entry: Entry,
        counts_as_failed: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(quorum) = &mut self.quorum else {
            self.counters.requeued += 1;
            let level = self.settings.level(entry.message.facts().priority());
            self.ready.restore(entry, level);
            return;
        };
        entry.failed += u32::from(counts_as_failed);
        if self
            .settings
            .delivery_limit
            .is_some_and(|limit| entry.failed > limit)
        {
            self.counters.delivery_limited += 1;
            self.dead_letter(
                entry.message,
                DeathReason::DeliveryLimit,
                Some(entry.position),
                fx,
            );
            return;
        }
        self.counters.requeued += 1;
        let retry = self.settings.delayed_retry;
        match delayed_until(retry, counts_as_failed, entry.failed, now.wall_ms) {
            Some(ready_at_ms) => quorum.delay(ready_at_ms, entry),
            None => self.ready.put_back(entry),
        }
    }

    /// A message leaves by the back door; without a dead-letter exchange that is its end.
    pub(super) fn dead_letter(
        &mut self,
        message: SharedMessage,
        reason: DeathReason,
        position: Option<Position>,
        fx: &mut Effects,
    ) {
        let mut retained = None;
        if self.settings.retains_dead_letters
            && let (Some(quorum), Some(position)) = (&mut self.quorum, position)
        {
            let message = Arc::clone(&message);
            quorum.retain(position, Retained { message, reason });
            retained = Some(position);
        }
        self.emit_dead_letter(message, reason, retained, fx);
    }

    pub(super) fn emit_dead_letter(
        &mut self,
        message: SharedMessage,
        reason: DeathReason,
        retained: Option<Position>,
        fx: &mut Effects,
    ) {
        let Some(exchange) = &self.settings.dead_letter_exchange else {
            fx.free(message);
            return;
        };
        fx.dead_letters.push(DeadLetter {
            queue: self.id,
            vhost: Arc::clone(&self.vhost),
            queue_name: Arc::clone(&self.name),
            message,
            reason,
            exchange: Arc::clone(exchange),
            routing_key: self.settings.dead_letter_routing_key.clone(),
            retained,
        });
    }

    /// A consumer is no longer there.
    pub(super) fn consumer_gone(&mut self, now: Now, fx: &mut Effects) {
        self.last_use_ms = now.wall_ms;
        if self.auto_delete && self.consumers.live() == 0 && !self.is_ending {
            self.is_ending = true;
            fx.deletions.push((self.id, DeletionReason::AutoDelete));
            return;
        }
        self.assign(now, fx);
    }

    pub(super) fn delayed_messages(&self) -> u64 {
        self.quorum
            .as_ref()
            .map_or(0, |quorum| quorum.delayed_messages())
    }

    /// When a message published now expires: the smaller of its own and the queue's time to live.
    fn deadline(&self, expiration_ms: Option<WallMs>, now: Now) -> Deadline {
        let ttl_ms = match (expiration_ms, self.settings.message_ttl_ms) {
            (None, None) => return Deadline::NEVER,
            (own, queue) => own.unwrap_or(WallMs::MAX).min(queue.unwrap_or(WallMs::MAX)),
        };
        Deadline(now.wall_ms.saturating_add(ttl_ms))
    }
}

/// Counts on the wire are 32 bits wide.
fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
