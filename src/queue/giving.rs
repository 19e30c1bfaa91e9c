//! How messages leave a queue's ready list for those who take them: consumers, and `basic.get`.
//!
//! In: what waits, who wants it. Out: deliveries in the outlets, hand-outs in the table of the unsettled. When the next message
//! is only in the log, everybody waits for it: nothing overtakes.

use std::sync::Arc;

use super::consumers::Owner;
use super::effects::Effects;
use super::entry::{Entry, Item};
use super::kind::QueueKind;
use super::range::Head;
use super::state::{GetRefusal, QueueState, saturate};
use super::unsettled::Held;
use crate::model::{
    ChannelNumber, ConnectionId, DeathReason, Delivery, Got, InboxEvent, Now, Outlet, Position,
    RedeliveryCounts, SettlementOutcome, WallMs,
};

/// A `basic.get`.
#[derive(Clone, Debug)]
pub struct AskedGet {
    /// Whose it is.
    pub connection: ConnectionId,
    /// On which channel.
    pub channel: ChannelNumber,
    /// The message is settled by being sent.
    pub no_ack: bool,
    /// The way to the connection, for an answer that comes later.
    pub outlet: Arc<dyn Outlet>,
}

/// The answer to a `basic.get`.
#[derive(Clone, Debug)]
pub enum GetOutcome {
    /// A message.
    Got(Got),
    /// There is none.
    Empty,
    /// The next message must be loaded: the answer comes through the outlet.
    Later,
}

/// What the head of the ready list means to a `basic.get`.
enum Next {
    Taken(Got),
    Nothing,
    NotLoaded,
    /// It has expired, and goes when time is let pass again.
    Expired,
}

impl QueueState {
    /// `basic.get`: takes the next message, outside of all credit.
    ///
    /// # Errors
    /// A quorum queue with a single active consumer refuses.
    pub fn get(
        &mut self,
        asked: AskedGet,
        now: Now,
        fx: &mut Effects,
    ) -> Result<GetOutcome, GetRefusal> {
        if self.settings.kind == QueueKind::Quorum && self.consumers.is_single_active() {
            return Err(GetRefusal::SingleActiveConsumer);
        }
        self.last_use_ms = now.wall_ms;
        let next = if self.gets.is_empty() {
            self.take_for_get(&asked, now, fx)
        } else {
            Next::NotLoaded
        };
        let outcome = match next {
            Next::Taken(got) => GetOutcome::Got(got),
            Next::Nothing | Next::Expired => {
                self.counters.get_empty += 1;
                GetOutcome::Empty
            }
            Next::NotLoaded => {
                self.gets.push_back(asked);
                GetOutcome::Later
            }
        };
        self.order_loads(now, fx);
        Ok(outcome)
    }

    /// Forgets who waits for the answer to a `basic.get`: a channel that ended, or all of a connection.
    pub fn cancel_gets(&mut self, connection: ConnectionId, channel: Option<ChannelNumber>) {
        self.gets.retain(|asked| {
            asked.connection != connection
                || channel.is_some_and(|channel| asked.channel != channel)
        });
    }

    /// Answers those who wait, in the order in which they asked, before consumers get anything.
    fn serve_gets(&mut self, now: Now, fx: &mut Effects) {
        while let Some(asked) = self.gets.pop_front() {
            let got = match self.take_for_get(&asked, now, fx) {
                Next::Taken(got) => Some(got),
                Next::Nothing => {
                    self.counters.get_empty += 1;
                    None
                }
                Next::NotLoaded | Next::Expired => {
                    self.gets.push_front(asked);
                    return;
                }
            };
            answer(&asked, got, fx);
        }
    }

    /// The queue has nothing for those who wait.
    pub(super) fn answer_gets_empty(&mut self, fx: &mut Effects) {
        for asked in std::mem::take(&mut self.gets) {
            self.counters.get_empty += 1;
            answer(&asked, None, fx);
        }
    }

    fn take_for_get(&mut self, asked: &AskedGet, now: Now, fx: &mut Effects) -> Next {
        self.expire_heads(now, fx);
        match self.ready.peek() {
            None => return Next::Nothing,
            Some(Head::Cold { .. }) => return Next::NotLoaded,
            Some(Head::Hot(entry)) if entry.deadline.has_passed(now.wall_ms) => {
                return Next::Expired;
            }
            Some(Head::Hot(_)) => {}
        }
        let Some(entry) = self.ready.pop() else {
            return Next::Nothing;
        };
        let (redelivered, counts) = self.redelivery(&entry);
        let got = Got {
            queue: self.id,
            position: entry.position,
            redelivered,
            kind: self.settings.kind,
            counts,
            messages_ready: saturate(self.ready.messages()),
            message: Arc::clone(&entry.message),
            channel: asked.channel,
        };
        if asked.no_ack {
            self.counters.got_no_ack += 1;
            self.end_logged(entry.position, entry.body_bytes(), entry.is_logged(), fx);
        } else {
            self.counters.got += 1;
            if entry.is_logged() {
                fx.note_delivered(entry.position);
            }
            self.hold(entry, None, now);
        }
        Next::Taken(got)
    }

    /// Gives ready messages to those who wait until one of both runs out, and asks for what is not loaded.
    pub(super) fn assign(&mut self, now: Now, fx: &mut Effects) {
        self.serve_gets(now, fx);
        self.assign_to_consumers(now, fx);
        self.capacity.note(self.consumers.any_queued(), now.wall_ms);
        self.order_loads(now, fx);
    }

    fn assign_to_consumers(&mut self, now: Now, fx: &mut Effects) {
        while self.consumers.any_queued() {
            self.expire_heads(now, fx);
            let Some(Head::Hot(head)) = self.ready.peek() else {
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
    pub(super) fn hand_out(&mut self, owner: Owner, entry: Entry, now: Now, fx: &mut Effects) {
        let (redelivered, counts) = self.redelivery(&entry);
        let Some(consumer) = self.consumers.get(owner) else {
            self.ready.restore(Item::Hot(entry));
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
            kind: self.settings.kind,
            message: Arc::clone(&entry.message),
            counts,
        }));
        fx.wake(&consumer.asked.outlet);
        self.counters.redelivered += u64::from(redelivered);
        if no_ack {
            self.counters.delivered_no_ack += 1;
            self.end_logged(entry.position, entry.body_bytes(), entry.is_logged(), fx);
            return;
        }
        self.counters.delivered += 1;
        if entry.is_logged() {
            fx.note_delivered(entry.position);
        }
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
        let attempts = entry.attempts();
        let redelivered = attempts.acquired > 0;
        let counts = RedeliveryCounts {
            acquired: attempts.acquired,
            delivery: attempts.failed,
        };
        (
            redelivered,
            (redelivered && self.quorum.is_some()).then_some(counts),
        )
    }

    /// Keeps a handed-out entry until it is settled, without its body when memory is wanted elsewhere. Time to settle is given to consumers alone.
    fn hold(&mut self, entry: Entry, owner: Option<(Owner, Option<u64>)>, now: Now) {
        let position = entry.position;
        let mut settle_by_ms = WallMs::MAX;
        if let (Some(quorum), Some((_, Some(within_ms)))) = (&mut self.quorum, owner) {
            settle_by_ms = now.wall_ms.saturating_add(within_ms);
            quorum.watch(settle_by_ms, position);
        }
        let mut item = Item::Hot(entry);
        item.count_hand_out();
        if item.is_logged() && self.is_half_full() {
            // The delivery on its way has the message too, so nothing is freed here.
            item.shed();
        }
        self.unsettled.insert(Held {
            item,
            owner: owner.map(|(owner, _)| owner),
            settle_by_ms,
        });
    }

    /// Takes a handed-out message from its holder.
    pub(super) fn release(&mut self, position: Position, fx: &mut Effects) -> Option<Held> {
        let held = self.unsettled.remove(position, &self.consumers)?;
        if let Some(quorum) = &mut self.quorum {
            quorum.unwatch(held.settle_by_ms, position);
        }
        if let Some(owner) = held.owner {
            self.consumers.credit(owner, fx);
        }
        Some(held)
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
                self.end_logged(position, held.item.body_bytes(), held.item.is_logged(), fx);
                fx.free(held.item.into_message());
            }
            SettlementOutcome::Rejected => {
                self.counters.rejected += 1;
                self.dead_letter(held.item, DeathReason::Rejected, fx);
            }
            SettlementOutcome::RequeuedByReject | SettlementOutcome::ReturnedByLoss => {
                self.requeue(held.item, true, now, fx);
            }
            SettlementOutcome::RequeuedByNack => self.requeue(held.item, false, now, fx),
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
        self.advance(now, fx);
    }
}

fn answer(asked: &AskedGet, got: Option<Got>, fx: &mut Effects) {
    asked.outlet.push(InboxEvent::Got {
        channel: asked.channel,
        no_ack: asked.no_ack,
        got,
    });
    fx.wake(&asked.outlet);
}
