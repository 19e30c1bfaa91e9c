//! Carries out what queues decided while they were locked: deliveries, dead letters, deletions, woken
//! consumers. Runs after the queue's lock is free, and goes on until nothing is left to do.

use super::Broker;
use crate::model::Now;
use crate::queue::Effects;
use crate::routing::Router;

/// One worker's scratch space: effects to carry out and a router to route dead letters with.
#[derive(Debug, Default)]
pub struct Courier {
    /// What the queues decided.
    pub effects: Effects,
    pub(super) router: Router,
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
            let dead_letters = std::mem::take(&mut self.effects.dead_letters);
            self.hand_on_letters(broker, &dead_letters, now);
            if !self.effects.dead_letters.is_empty() {
                continue;
            }
            for (id, reason) in std::mem::take(&mut self.effects.deletions) {
                tracing::debug!(target: "haremq::queue", queue = %id, ?reason, "the queue ends");
                broker.end_queue(id, &mut self.effects);
            }
            // Whoever deleted a queue has put that into the journal by now.
            for queue in self.effects.forgotten.drain(..) {
                broker.forget_log(&queue, true);
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
}
