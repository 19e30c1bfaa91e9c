//! Hands on the dead letters of queues, each queue's in the order in which they died.
//!
//! In: a queue, deleted or not, that has letters. Out: the letters in the queues of its dead-letter exchange. Whoever made them die
//! hands them on, unless one must be read first or the journal has too much to write: then a thread of the [`super::loader`] does,
//! one block after the other, so that what waits costs positions and no bodies. No connection waits for that: acknowledgements
//! always go through.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Broker;
use super::courier::Courier;
use super::reply_to::ReplyConsumers;
use super::vhost::Vhost;
use crate::model::{Now, QueueId, SharedMessage};
use crate::protocol::Table;
use crate::queue::dead_letters::{is_cycle, with_death};
use crate::queue::{Burst, DeadLetter, NextLetter, Placed, QueueHandle};
use crate::routing::{Router, Topology, extra_routing_keys};

/// Bytes that may wait to be written to the journal before letters wait for it.
const JOURNAL_BACKLOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Letters beyond those that a burst made die that it may hand on, if others did not.
const STRAGGLERS_MAX: usize = 16;

impl Courier {
    /// Hands on a letter for each of `queues`, in this order.
    pub(super) fn hand_on_letters(&mut self, broker: &Broker, queues: &[QueueId], now: Now) {
        for (at, id) in queues.iter().enumerate() {
            let Some(source) = broker.queue_or_departing(*id) else {
                continue;
            };
            let mut has_more = self.hand_on_letter(broker, &source, now);
            // Letters that somebody else was to hand on, and did not. Those that died meanwhile have their turn later.
            for _ in 0..STRAGGLERS_MAX {
                let is_named = |named: &[QueueId]| named.contains(id);
                if !has_more || is_named(&queues[at + 1..]) || is_named(&self.effects.dead_letters)
                {
                    break;
                }
                has_more = self.hand_on_letter(broker, &source, now);
            }
        }
    }

    /// Hands on the next letter of a queue, or leaves them to the loader. `false` if nothing is left to be done.
    fn hand_on_letter(&mut self, broker: &Broker, source: &QueueHandle, now: Now) -> bool {
        loop {
            match source.next_letter(is_congested(broker), &mut self.effects) {
                NextLetter::Nothing => return false,
                NextLetter::Later => {
                    broker.loader.forward_letters(source.id(), now);
                    return false;
                }
                NextLetter::Now(letter) => {
                    if self.publish_letter(broker, source, &letter, now) {
                        return true;
                    }
                }
            }
        }
    }

    /// Reads letters that are next, if they are only in the log, and hands on what can be handed on now. `false` when none is left.
    pub(super) fn forward_letters(
        &mut self,
        broker: &Broker,
        source: &QueueHandle,
        now: Now,
    ) -> bool {
        loop {
            match source.next_deferred_letter(is_congested(broker), &mut self.effects) {
                NextLetter::Nothing => return false,
                NextLetter::Later => return true,
                NextLetter::Now(letter) => {
                    self.publish_letter(broker, source, &letter, now);
                    self.carry_out(broker, now);
                }
            }
        }
    }

    /// Publishes a letter; `false` if somebody else was faster. A defect costs this letter, not those behind it.
    fn publish_letter(
        &mut self,
        broker: &Broker,
        source: &QueueHandle,
        letter: &DeadLetter,
        now: Now,
    ) -> bool {
        let publish = AssertUnwindSafe(|| self.route_and_move(broker, source, letter, now));
        let has_left = catch_unwind(publish).unwrap_or_else(|_| {
            tracing::error!(
                target: "haremq::queue",
                queue = %source.name(),
                vhost = %source.vhost(),
                "a defect of the broker: a dead letter could not be handed on"
            );
            self.router = Router::default();
            source.drop_letter(letter.number);
            true
        });
        if source.is_gone() {
            broker.forget_log(source, false);
        }
        has_left
    }

    fn route_and_move(
        &mut self,
        broker: &Broker,
        source: &QueueHandle,
        letter: &DeadLetter,
        now: Now,
    ) -> bool {
        let message: SharedMessage = Arc::new(with_death(
            &letter.message,
            source.name(),
            letter.reason,
            now,
            &letter.address.exchange,
            letter.address.routing_key.as_deref(),
        ));
        // Without its virtual host a queue is deleted, and so are those to which its letters could go.
        let targets = match broker.vhost(source.vhost()) {
            Some(vhost) => self.targets(&vhost, broker, &message),
            None => Vec::new(),
        };
        let Some(placed) = self.move_letter(broker, source, letter, &message, &targets, now) else {
            return false;
        };
        deliver_replies(broker, &message);
        // A queue with at-least-once dead-lettering keeps what has not arrived, and tries again.
        if let Some(position) = letter.retained {
            let has_arrived = placed.accepted > 0 && !placed.is_refused;
            // A source deleted meanwhile keeps nothing.
            let _ = source.settle_dead_letter(position, has_arrived, now, &mut self.effects);
        }
        true
    }

    /// Puts the letter into `targets` and takes it from the queue that it leaves, in one frame of the journal: a crash leaves the
    /// message in one of the queues, never in none and never in both. `None` if somebody else was faster.
    fn move_letter(
        &mut self,
        broker: &Broker,
        source: &QueueHandle,
        letter: &DeadLetter,
        message: &SharedMessage,
        targets: &[QueueHandle],
        now: Now,
    ) -> Option<Placed> {
        let mut queues: Vec<&QueueHandle> = targets.iter().chain([source]).collect();
        queues.sort_unstable_by_key(|handle| handle.id());
        queues.dedup_by_key(|handle| handle.id());
        let rank = |id: QueueId| queues.binary_search_by_key(&id, |handle| handle.id()).ok();
        let at = rank(source.id())?;
        let mut burst =
            Burst::open_atomic(&broker.messages, queues.iter().copied(), &mut self.effects);
        if !burst.is_next_letter(at, letter.number) {
            return None;
        }
        let ranks = targets.iter().filter_map(|target| rank(target.id()));
        let placed = burst.publish(message, None, ranks, now, &mut self.effects);
        burst.letter_left(at, letter.number);
        burst.finish(now, &mut self.effects);
        if placed.logged > 0
            && let Some(vhost) = broker.vhost(source.vhost())
        {
            vhost.stats.totals.disk_writes.add(placed.logged.into());
            broker.stats.totals.disk_writes.add(placed.logged.into());
        }
        Some(placed)
    }

    /// The queues that a letter goes to, none that it would come back to for ever.
    fn targets(
        &mut self,
        vhost: &Vhost,
        broker: &Broker,
        message: &SharedMessage,
    ) -> Vec<QueueHandle> {
        let mut targets: Vec<QueueHandle> = Vec::new();
        for id in self.route(vhost, message) {
            let Some(target) = broker.queue(id) else {
                continue;
            };
            if is_cycle(message, target.name()) {
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
        targets
    }

    /// The queues of a dead letter; a missing exchange has none.
    fn route(&mut self, vhost: &Vhost, message: &SharedMessage) -> Vec<QueueId> {
        let keys = keys_of(message);
        let routed = if message.exchange().is_empty() {
            self.router.route_default(vhost, &keys)
        } else if let Some(start) = vhost.exchange(message.exchange()) {
            self.router.route(vhost, &start, &keys, headers_of(message))
        } else {
            return Vec::new();
        };
        routed.queues.to_vec()
    }
}

/// A dead letter may be the reply to a request.
fn deliver_replies(broker: &Broker, message: &SharedMessage) {
    if !message.exchange().is_empty() {
        return;
    }
    for key in keys_of(message) {
        if ReplyConsumers::is_reply_name(key)
            && let Ok(name) = std::str::from_utf8(key)
        {
            broker.reply_consumers.deliver(name, message);
        }
    }
}

/// The routing key, and those that the headers add.
fn keys_of(message: &SharedMessage) -> Vec<&[u8]> {
    let mut keys = vec![message.routing_key()];
    if let Some(headers) = headers_of(message)
        && message.facts().has_cc()
    {
        // The header's type was checked when the message was published.
        let _ = extra_routing_keys(headers, &mut keys);
    }
    keys
}

/// The encoded headers table of a message.
fn headers_of(message: &SharedMessage) -> Option<Table<'_>> {
    message.facts().view(message.properties()).headers()
}

/// Whether letters must wait because the journal has too much to write. After its failure nothing is written any more.
pub(super) fn is_congested(broker: &Broker) -> bool {
    let journal = broker.messages.journal();
    journal.failure().is_none() && journal.backlog_bytes() >= JOURNAL_BACKLOG_BYTES_MAX
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
