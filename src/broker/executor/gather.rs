//! Publishes and settlements of a burst, by queue, until they are flushed.

use std::ops::Range;
use std::task::Waker;

use super::ConnectionExecutor;
use crate::model::{
    ChannelNumber, Completion, ConfirmSequence, ConsumerId, Now, NumberMap, Position,
    PublishOutcome, QueueId, Settlement, SettlementOutcome, SharedMessage,
};
use crate::queue::{Burst, Effects, Placed, QueueHandle};
use crate::store::journal::{BodyCrc, Lsn, SyncDemand};
use crate::store::messages::MessageStore;

/// Places whose allocation is kept for the next burst.
const SPARE_PLACES_MAX: usize = 1024;
/// Messages for queues, counted once a queue, after which a burst is handed over before its end: a burst of small
/// publishes to an exchange with many queues would hold as many as there are publishes times queues.
const PLACEMENTS_MAX: usize = 16 * 1024;

/// Bytes that may wait to be written to the journal before connections that publish are no longer read.
const JOURNAL_BACKLOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Journal files in use, above which connections that publish are no longer read: checkpoints do not keep pace, and what is in the
/// journal costs memory and time at the next start.
const JOURNAL_FILES_MAX: usize = 16;

/// A settlement, as a queue takes it.
type QueueSettlement = (Position, Option<ConsumerId>, SettlementOutcome);

/// A publish that its channel wants confirmed.
#[derive(Debug)]
struct Confirmable {
    channel: ChannelNumber,
    sequence: ConfirmSequence,
    outcome: PublishOutcome,
    /// It is complete once the journal has come so far.
    must_keep: Option<SyncDemand>,
}

/// A publish of this burst.
#[derive(Debug)]
struct Gathering {
    message: SharedMessage,
    /// Of its body, if the journal will want it: taken before any lock.
    body_crc: Option<BodyCrc>,
    /// Its queues in `targets`.
    targets: Range<u32>,
    /// Its place among the confirmable publishes.
    confirmable: Option<u32>,
}

/// What was gathered since the last flush.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    publishes: Vec<Gathering>,
    /// For each publish its queues, as places in `queues`.
    targets: Vec<u32>,
    queues: Vec<QueueHandle>,
    place_of_queue: NumberMap<QueueId, u32>,
    /// For each queue the publishes that have no other, until one publish has several.
    by_queue: Vec<Vec<u32>>,
    /// Whether some publish has several queues: then all queues are locked together.
    is_mixed: bool,
    confirmables: Vec<Confirmable>,
    settlements: Vec<(QueueId, Vec<QueueSettlement>)>,
    settlements_of_queue: NumberMap<QueueId, usize>,
    /// Settlements in all queues.
    settlement_count: usize,
    /// Messages that queues wrote to their logs since [`Gathered::take_logged`].
    logged: u64,
    /// Whether a queue rejected a publish since [`Gathered::take_rejection`].
    has_rejection: bool,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.settlements.is_empty() && self.confirmables.is_empty()
    }

    /// Notes a publish to `queues`.
    pub(super) fn publish(
        &mut self,
        channel: ChannelNumber,
        confirm: Option<ConfirmSequence>,
        message: SharedMessage,
        queues: &[QueueHandle],
    ) {
        let confirmable = confirm.map(|sequence| {
            self.confirmables.push(Confirmable {
                channel,
                sequence,
                outcome: PublishOutcome::Accepted,
                must_keep: None,
            });
            (self.confirmables.len() - 1) as u32
        });
        let first = self.targets.len() as u32;
        let index = self.publishes.len() as u32;
        self.is_mixed |= queues.len() > 1;
        for queue in queues {
            let place = self.place(queue);
            self.targets.push(place);
            if !self.is_mixed {
                self.by_queue[place as usize].push(index);
            }
        }
        let is_durable = message.facts().is_persistent()
            && queues.iter().any(|queue| queue.declaration().durable);
        self.publishes.push(Gathering {
            body_crc: is_durable.then(|| BodyCrc::of(&message)),
            message,
            targets: first..self.targets.len() as u32,
            confirmable,
        });
    }

    fn place(&mut self, queue: &QueueHandle) -> u32 {
        let id = queue.id();
        if self.queues.last().is_some_and(|last| last.id() == id) {
            return self.queues.len() as u32 - 1;
        }
        if let Some(place) = self.place_of_queue.get(&id) {
            return *place;
        }
        let place = self.queues.len() as u32;
        self.place_of_queue.insert(id, place);
        self.queues.push(queue.clone());
        if self.by_queue.len() < self.queues.len() {
            self.by_queue.push(Vec::new());
        }
        place
    }

    /// Whether a queue rejected a publish since the last call; for transactions, which ask for all at once.
    pub(super) fn take_rejection(&mut self) -> bool {
        std::mem::take(&mut self.has_rejection)
    }

    /// Messages that queues wrote to their logs since the last call.
    pub(super) fn take_logged(&mut self) -> u64 {
        std::mem::take(&mut self.logged)
    }

    /// Notes a settlement.
    pub(super) fn settle(&mut self, settlement: &Settlement) {
        let queue = settlement.delivery.queue;
        let entry = (
            settlement.delivery.position,
            settlement.delivery.consumer,
            settlement.outcome,
        );
        self.settlement_count += 1;
        if let Some((last, entries)) = self.settlements.last_mut()
            && *last == queue
        {
            entries.push(entry);
        } else if let Some(index) = self.settlements_of_queue.get(&queue) {
            self.settlements[*index].1.push(entry);
        } else {
            self.settlements_of_queue
                .insert(queue, self.settlements.len());
            self.settlements.push((queue, vec![entry]));
        }
    }

    /// Whether so much was gathered that it must be handed over now.
    pub(super) fn is_full(&self) -> bool {
        self.targets.len() >= PLACEMENTS_MAX || self.settlement_count >= PLACEMENTS_MAX
    }

    /// Hands the publishes to their queues; gives the place in the journal that their confirms wait for.
    fn flush_publishes(&mut self, store: &MessageStore, now: Now, fx: &mut Effects) -> Lsn {
        let end = if self.is_mixed {
            self.flush_together(store, now, fx)
        } else {
            self.flush_one_by_one(store, now, fx)
        };
        self.clear_publishes();
        end
    }

    /// Each queue's publishes under its own lock.
    fn flush_one_by_one(&mut self, store: &MessageStore, now: Now, fx: &mut Effects) -> Lsn {
        let mut end = Lsn::default();
        for (queue, publishes) in self.queues.iter().zip(&self.by_queue) {
            let mut burst = Burst::open(store, [queue]);
            for index in publishes {
                let publish = &self.publishes[*index as usize];
                let placed = burst.publish(&publish.message, publish.body_crc, [0], now, fx);
                self.has_rejection |= placed.is_refused;
                self.logged += u64::from(placed.logged);
                conclude(&mut self.confirmables, publish.confirmable, placed);
            }
            end = end.max(burst.finish(now, fx));
        }
        end
    }

    /// All publishes in the order in which they came, under the locks of all their queues, so that a message in several
    /// queues is one record.
    fn flush_together(&mut self, store: &MessageStore, now: Now, fx: &mut Effects) -> Lsn {
        let mut by_id: Vec<u32> = (0..self.queues.len() as u32).collect();
        by_id.sort_unstable_by_key(|place| self.queues[*place as usize].id());
        let mut rank = vec![0; by_id.len()];
        for (index, place) in by_id.iter().enumerate() {
            rank[*place as usize] = index;
        }
        let queues = by_id.iter().map(|place| &self.queues[*place as usize]);
        let mut burst = Burst::open(store, queues);
        for publish in &self.publishes {
            let targets =
                &self.targets[publish.targets.start as usize..publish.targets.end as usize];
            let ranks = targets.iter().map(|place| rank[*place as usize]);
            let placed = burst.publish(&publish.message, publish.body_crc, ranks, now, fx);
            self.has_rejection |= placed.is_refused;
            self.logged += u64::from(placed.logged);
            conclude(&mut self.confirmables, publish.confirmable, placed);
        }
        burst.finish(now, fx)
    }

    fn take_settlements(&mut self) -> Vec<(QueueId, Vec<QueueSettlement>)> {
        self.settlements_of_queue.clear();
        self.settlement_count = 0;
        std::mem::take(&mut self.settlements)
    }

    fn clear_publishes(&mut self) {
        self.publishes.clear();
        self.targets.clear();
        self.queues.clear();
        self.place_of_queue.clear();
        for publishes in &mut self.by_queue {
            publishes.clear();
        }
        self.is_mixed = false;
        if self.publishes.capacity() > SPARE_PLACES_MAX {
            self.publishes = Vec::new();
            self.targets = Vec::new();
            self.by_queue = Vec::new();
        }
    }

    /// Gives idle capacity back.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// Notes how a publish fared.
fn conclude(confirmables: &mut [Confirmable], confirmable: Option<u32>, placed: Placed) {
    if let Some(index) = confirmable {
        let confirmable = &mut confirmables[index as usize];
        confirmable.must_keep = confirmable.must_keep.max(placed.must_keep);
        if placed.is_refused {
            confirmable.outcome = PublishOutcome::Rejected;
        }
    }
}

impl ConnectionExecutor {
    /// Hands everything gathered to the queues: settlements first, as they make room for deliveries.
    pub(super) fn flush_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        for (queue, entries) in gathered.take_settlements() {
            self.flush_settlements(queue, entries);
        }
        let store = &self.broker.messages;
        let end = gathered.flush_publishes(store, self.now, &mut self.courier.effects);
        for confirmable in gathered.confirmables.drain(..) {
            let completion = Completion {
                channel: confirmable.channel,
                sequence: confirmable.sequence,
                outcome: confirmable.outcome,
            };
            match confirmable.must_keep {
                Some(demand) if confirmable.outcome == PublishOutcome::Accepted => {
                    self.unkept.push(demand, end, completion);
                }
                _ => self.completions.push_back(completion),
            }
        }
        self.counting.logged(gathered.take_logged());
        self.gathered = gathered;
        self.carry_out();
    }

    fn flush_settlements(&mut self, id: QueueId, entries: Vec<QueueSettlement>) {
        // What comes late may be for a queue that the connection has forgotten.
        let known = self.queues.get(id).cloned();
        let Some(handle) = known.or_else(|| self.broker.queue(id)) else {
            return;
        };
        let outcomes = entries.iter().map(|(_, _, outcome)| outcome);
        self.counting.settled(handle.kind(), outcomes);
        let settled = handle.settle_batch(entries, self.now, &mut self.courier.effects);
        if settled.is_err() {
            self.queues.remove(id);
        }
    }

    /// The publishes and settlements of a transaction, which a crash leaves whole or not there at all. Gives the place in
    /// the journal up to which it must be kept, and how, if anything of it is durable.
    pub(super) fn flush_transaction(&mut self) -> Option<(Lsn, SyncDemand)> {
        let mut gathered = std::mem::take(&mut self.gathered);
        let settlements = gathered.take_settlements();
        for (id, entries) in &settlements {
            if let Some(handle) = self.queues.get(*id) {
                let outcomes = entries.iter().map(|(_, _, outcome)| outcome);
                self.counting.settled(handle.kind(), outcomes);
                gathered.place(&handle.clone());
            }
        }
        let mut by_id: Vec<QueueHandle> = gathered.queues.clone();
        by_id.sort_unstable_by_key(QueueHandle::id);
        let rank = |id: QueueId| by_id.binary_search_by_key(&id, QueueHandle::id).ok();
        let store = &self.broker.messages;
        let fx = &mut self.courier.effects;
        let mut burst = Burst::open_atomic(store, &by_id);
        for publish in &gathered.publishes {
            let targets =
                &gathered.targets[publish.targets.start as usize..publish.targets.end as usize];
            let ranks = targets
                .iter()
                .filter_map(|place| rank(gathered.queues[*place as usize].id()));
            let placed = burst.publish(&publish.message, publish.body_crc, ranks, self.now, fx);
            gathered.has_rejection |= placed.is_refused;
            gathered.logged += u64::from(placed.logged);
        }
        for (id, entries) in settlements {
            let Some(index) = rank(id) else { continue };
            for entry in entries {
                burst.settle(index, entry, self.now, fx);
            }
        }
        let default_demand = store.journal().default_demand();
        let durable = by_id
            .iter()
            .enumerate()
            .filter(|(_, queue)| queue.declaration().durable);
        let demand = durable
            .map(|(index, _)| burst.sync(index).unwrap_or(default_demand))
            .max();
        let end = burst.finish(self.now, fx);
        gathered.clear_publishes();
        self.counting.logged(gathered.take_logged());
        self.gathered = gathered;
        self.carry_out();
        demand.map(|demand| (end, demand))
    }

    /// Publishes whose records were kept since the last call are complete; after a failure of the journal the others
    /// are refused. `true` if there are any. `waker` is woken when there may be more.
    pub fn poll_synced(&mut self, waker: &Waker) -> bool {
        if self.unkept.is_empty() {
            return false;
        }
        let before = self.completions.len();
        let journal = self.broker.messages.journal();
        self.unkept.take_kept(journal, &mut self.completions);
        if !self.unkept.is_empty() {
            journal.wake_after_sync(waker);
            // It may have been kept before the waker was there.
            self.unkept.take_kept(journal, &mut self.completions);
        }
        self.completions.len() > before
    }

    /// Whether publishes wait for the journal.
    pub fn has_unsynced(&self) -> bool {
        !self.unkept.is_empty()
    }

    /// Whether checkpoints are so far behind that no more publishes should be read. Nobody is woken when that ends: look again.
    pub fn is_outrunning_checkpoints(&self) -> bool {
        self.has_published && self.broker.messages.journal().files() > JOURNAL_FILES_MAX
    }

    /// Whether the journal has more to write than may wait in memory, so that no more publishes should be read.
    /// `waker` is woken when it has written some of it.
    pub fn is_congested(&self, waker: &Waker) -> bool {
        let journal = self.broker.messages.journal();
        if !self.has_published || journal.backlog_bytes() < JOURNAL_BACKLOG_BYTES_MAX {
            return false;
        }
        journal.wake_after_sync(waker);
        journal.backlog_bytes() >= JOURNAL_BACKLOG_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unsettled;

    #[test]
    fn settlements_stand_together_by_queue_in_the_order_in_which_they_came() {
        let mut gathered = Gathered::default();
        for (queue, position) in [(1, 10), (2, 20), (1, 11), (1, 12), (2, 21), (3, 30)] {
            gathered.settle(&Settlement {
                delivery: Unsettled {
                    queue: QueueId(queue),
                    position: Position(position),
                    consumer: None,
                },
                outcome: SettlementOutcome::Acked,
            });
        }
        let found: Vec<(u64, Vec<u64>)> = gathered
            .settlements
            .iter()
            .map(|(queue, entries)| (queue.0, entries.iter().map(|entry| entry.0.0).collect()))
            .collect();
        assert_eq!(
            found,
            [(1, vec![10, 11, 12]), (2, vec![20, 21]), (3, vec![30])]
        );
    }
}
