//! Carries out what queues decided while they were locked: deliveries, dead letters, deletions, woken
//! consumers. Runs after the queue's lock is free, and goes on until nothing is left to do.

use std::sync::Arc;

use super::Broker;
use super::reply_to::ReplyConsumers;
use super::vhost::{ExchangeRef, Vhost};
use crate::model::{Now, QueueId, SharedMessage};
use crate::protocol::Table;
use crate::queue::dead_letters::{is_cycle, with_death};
use crate::queue::{Burst, DeadLetter, Effects, Placed, QueueHandle};
use crate::routing::{Router, Topology, extra_routing_keys};

/// One worker's scratch space: effects to carry out and a router to route dead letters with.
#[derive(Debug, Default)]
pub struct Courier {
    /// What the queues decided.
    pub effects: Effects,
    router: Router,
}

impl Courier {
    /// Does all of it. A dead letter may cause another; RabbitMQ's cycle rule bounds the chain.
    pub fn carry_out(&mut self, broker: &Broker, now: Now) {
        loop {
            self.effects.dispatch();
            for (queue, deadline_ms) in self.effects.deadlines.drain(..) {
                broker.timers.schedule(queue, deadline_ms);
            }
            if !self.effects.touched.is_empty() {
                let touched = self.effects.touched.drain(..);
                broker.stats.touched.touch_queues(touched);
            }
            if !self.effects.deaths.is_empty() {
                let deaths = std::mem::take(&mut self.effects.deaths);
                broker.stats.deaths.add(&deaths);
            }
            for load in std::mem::take(&mut self.effects.loads) {
                broker.loader.load(load, now);
            }
            self.wake_parked(broker, now);
            for letter in std::mem::take(&mut self.effects.dead_letters) {
                self.publish_dead_letter(broker, letter, now);
            }
            if !self.effects.dead_letters.is_empty() {
                continue;
            }
            // After the last dead letter: each names the queue that it left, to find its virtual host.
            for (id, reason) in std::mem::take(&mut self.effects.deletions) {
                tracing::debug!(target: "haremq::queue", queue = %id, ?reason, "the queue ends");
                broker.end_queue(id, &mut self.effects);
            }
            // Whoever deleted a queue has put that into the journal by now.
            for (id, log) in self.effects.forgotten.drain(..) {
                broker.messages.forget(id, log);
            }
            if !self.effects.needs_execution() {
                self.effects.dispatch();
                break;
            }
        }
    }

    /// Consumers that were refused by a channel's shared window, and may have a place now.
    fn wake_parked(&mut self, broker: &Broker, now: Now) {
        for window in std::mem::take(&mut self.effects.windows) {
            while window.has_room() {
                let Some((queue, consumer)) = window.take_parked() else {
                    break;
                };
                if let Some(handle) = broker.queue(queue) {
                    // A queue deleted meanwhile has no consumer to wake.
                    let _ = handle.consumer_ready(consumer, now, &mut self.effects);
                }
            }
        }
    }

    /// Publishes a dead letter whose message is here. Letter and settlement of its source are one frame in the journal: a
    /// crash leaves the message in one of the queues, never in none.
    pub(super) fn publish_dead_letter(&mut self, broker: &Broker, letter: DeadLetter, now: Now) {
        let Some(original) = &letter.message else {
            broker.loader.load_letter(letter, now);
            return;
        };
        let Some(vhost) = broker.vhost(&letter.vhost) else {
            return;
        };
        let message: SharedMessage = Arc::new(with_death(
            original,
            &letter.queue_name,
            letter.reason,
            now,
            &letter.exchange,
            letter.routing_key.as_deref(),
        ));
        let mut targets: Vec<QueueHandle> = Vec::new();
        for id in self.route(&vhost, broker, &message) {
            let Some(target) = broker.queue(id) else {
                continue;
            };
            if is_cycle(&message, target.name()) {
                tracing::warn!(
                    target: "haremq::queue",
                    queue = %target.name(),
                    vhost = %vhost.name,
                    "message dropped: dead-letter queues cycle detected"
                );
                continue;
            }
            targets.push(target);
        }
        let placed = self.move_letter(broker, &letter, &message, &targets, now);
        // A queue with at-least-once dead-lettering keeps what has not arrived, and tries again.
        if let Some(position) = letter.retained
            && let Some(source) = broker.queue(letter.queue)
        {
            let has_arrived = placed.accepted > 0 && !placed.is_refused;
            // A source deleted meanwhile keeps nothing.
            let _ = source.settle_dead_letter(position, has_arrived, now, &mut self.effects);
        }
    }

    /// Puts the letter into `targets` and takes it out of the log of the queue that it leaves.
    fn move_letter(
        &mut self,
        broker: &Broker,
        letter: &DeadLetter,
        message: &SharedMessage,
        targets: &[QueueHandle],
        now: Now,
    ) -> Placed {
        let source = letter.source.and_then(|position| {
            let handle = broker.queue(letter.queue)?;
            Some((handle, position))
        });
        let mut queues: Vec<&QueueHandle> = targets.iter().collect();
        queues.extend(source.iter().map(|(handle, _)| handle));
        queues.sort_unstable_by_key(|handle| handle.id());
        queues.dedup_by_key(|handle| handle.id());
        if queues.is_empty() {
            return Placed::default();
        }
        let rank = |id: QueueId| queues.binary_search_by_key(&id, |handle| handle.id()).ok();
        let mut burst = Burst::open_atomic(&broker.messages, queues.iter().copied());
        let ranks = targets.iter().filter_map(|target| rank(target.id()));
        let placed = burst.publish(message, None, ranks, now, &mut self.effects);
        if let Some((handle, position)) = &source
            && let Some(index) = rank(handle.id())
        {
            burst.letter_left(index, *position);
        }
        burst.finish(now, &mut self.effects);
        if placed.logged > 0
            && let Some(vhost) = broker.vhost(&letter.vhost)
        {
            vhost.stats.totals.disk_writes.add(placed.logged.into());
            broker.stats.totals.disk_writes.add(placed.logged.into());
        }
        placed
    }

    /// A letter whose message cannot be read goes nowhere, and its source holds it no longer.
    pub(super) fn drop_letter(&mut self, broker: &Broker, letter: &DeadLetter, now: Now) {
        let Some(source) = broker.queue(letter.queue) else {
            return;
        };
        if let Some(position) = letter.retained {
            // A source deleted meanwhile keeps nothing.
            let _ = source.settle_dead_letter(position, true, now, &mut self.effects);
        }
        if let Some(position) = letter.source {
            let mut burst = Burst::open(&broker.messages, [&source]);
            burst.letter_left(0, position);
            burst.finish(now, &mut self.effects);
        }
    }

    /// The queues of a dead letter; a missing exchange has none.
    fn route(&mut self, vhost: &Vhost, broker: &Broker, message: &SharedMessage) -> Vec<QueueId> {
        let headers = headers_of(message);
        let mut keys = vec![message.routing_key()];
        if let Some(headers) = headers
            && message.facts().has_cc()
        {
            // The header's type was checked when the message was published.
            let _ = extra_routing_keys(headers, &mut keys);
        }
        if message.exchange().is_empty() {
            for key in &keys {
                if ReplyConsumers::is_reply_name(key)
                    && let Ok(name) = std::str::from_utf8(key)
                {
                    broker.reply_consumers.deliver(name, message);
                }
            }
            return self.router.route_default(vhost, &keys).queues.to_vec();
        }
        match vhost.exchange(message.exchange()) {
            Some(start) => self.route_from(vhost, &start, &keys, headers),
            None => Vec::new(),
        }
    }

    fn route_from(
        &mut self,
        vhost: &Vhost,
        start: &ExchangeRef,
        keys: &[&[u8]],
        headers: Option<Table<'_>>,
    ) -> Vec<QueueId> {
        self.router
            .route(vhost, start, keys, headers)
            .queues
            .to_vec()
    }
}

/// The encoded headers table of a message.
fn headers_of(message: &SharedMessage) -> Option<Table<'_>> {
    message.facts().view(message.properties()).headers()
}
