//! Publishes and settlements of a burst, by queue, until they are flushed.

use std::collections::HashMap;
use std::sync::Arc;

use super::ConnectionExecutor;
use crate::model::{
    ChannelNumber, Completion, ConfirmSequence, ConsumerId, Position, PublishOutcome, QueueId,
    Settlement, SettlementOutcome, SharedMessage,
};
use crate::queue::{Published, QueueHandle};

/// Batches whose vectors are kept for the next burst.
const SPARE_BATCHES_MAX: usize = 16;
/// Places whose allocation a kept vector may hold.
const SPARE_PLACES_MAX: usize = 1024;
/// Messages for queues, counted once a queue, after which a burst is handed over before its end: a burst of small
/// publishes to an exchange with many queues would hold as many as there are publishes times queues.
const PLACEMENTS_MAX: usize = 16 * 1024;

/// A settlement, as a queue takes it.
type QueueSettlement = (Position, Option<ConsumerId>, SettlementOutcome);

/// A publish of this burst that its channel wants confirmed.
#[derive(Debug)]
struct Confirmable {
    channel: ChannelNumber,
    sequence: ConfirmSequence,
    outcome: PublishOutcome,
}

/// The publishes of a burst to one queue.
#[derive(Debug)]
struct PublishBatch {
    queue: QueueHandle,
    messages: Vec<SharedMessage>,
    /// For each message, its place among the confirmable publishes.
    confirmables: Vec<Option<u32>>,
}

/// What was gathered since the last flush.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    batches: Vec<PublishBatch>,
    batch_of_queue: HashMap<QueueId, usize>,
    confirmables: Vec<Confirmable>,
    /// Messages in all batches.
    placements: usize,
    settlements: Vec<(QueueId, Vec<QueueSettlement>)>,
    settlements_of_queue: HashMap<QueueId, usize>,
    results: Vec<Published>,
    /// Whether a queue rejected a publish since [`Gathered::take_rejection`].
    has_rejection: bool,
    spare: Vec<(Vec<SharedMessage>, Vec<Option<u32>>)>,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.settlements.is_empty() && self.confirmables.is_empty()
    }

    /// Notes a publish to `queues`.
    pub(super) fn publish(
        &mut self,
        channel: ChannelNumber,
        confirm: Option<ConfirmSequence>,
        message: &SharedMessage,
        queues: &[QueueHandle],
    ) {
        let confirmable = confirm.map(|sequence| {
            self.confirmables.push(Confirmable {
                channel,
                sequence,
                outcome: PublishOutcome::Accepted,
            });
            (self.confirmables.len() - 1) as u32
        });
        self.placements += queues.len();
        for queue in queues {
            let batch = self.batch(queue);
            batch.messages.push(Arc::clone(message));
            batch.confirmables.push(confirmable);
        }
    }

    fn batch(&mut self, queue: &QueueHandle) -> &mut PublishBatch {
        let id = queue.id();
        let is_last = self
            .batches
            .last()
            .is_some_and(|batch| batch.queue.id() == id);
        let index = if is_last {
            self.batches.len() - 1
        } else if let Some(index) = self.batch_of_queue.get(&id) {
            *index
        } else {
            let (messages, confirmables) = self.spare.pop().unwrap_or_default();
            self.batches.push(PublishBatch {
                queue: queue.clone(),
                messages,
                confirmables,
            });
            self.batch_of_queue.insert(id, self.batches.len() - 1);
            self.batches.len() - 1
        };
        &mut self.batches[index]
    }

    /// Whether a queue rejected a publish since the last call; for transactions, which ask for all at once.
    pub(super) fn take_rejection(&mut self) -> bool {
        std::mem::take(&mut self.has_rejection)
    }

    /// Notes a settlement.
    pub(super) fn settle(&mut self, settlement: &Settlement) {
        let queue = settlement.delivery.queue;
        let entry = (
            settlement.delivery.position,
            settlement.delivery.consumer,
            settlement.outcome,
        );
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
        self.placements >= PLACEMENTS_MAX
    }

    fn keep(&mut self, mut batch: PublishBatch) {
        batch.messages.clear();
        batch.confirmables.clear();
        if self.spare.len() < SPARE_BATCHES_MAX && batch.messages.capacity() <= SPARE_PLACES_MAX {
            self.spare.push((batch.messages, batch.confirmables));
        }
    }

    /// Gives idle capacity back.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

impl ConnectionExecutor {
    /// Hands everything gathered to the queues: settlements first, as they make room for deliveries.
    pub(super) fn flush_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.gathered.settlements_of_queue.clear();
        for (queue, entries) in std::mem::take(&mut self.gathered.settlements) {
            self.flush_settlements(queue, entries);
        }
        self.gathered.placements = 0;
        let mut batches = std::mem::take(&mut self.gathered.batches);
        self.gathered.batch_of_queue.clear();
        for mut batch in batches.drain(..) {
            self.flush_batch(&mut batch);
            self.gathered.keep(batch);
        }
        self.gathered.batches = batches;
        for confirmable in self.gathered.confirmables.drain(..) {
            self.completions.push_back(Completion {
                channel: confirmable.channel,
                sequence: confirmable.sequence,
                outcome: confirmable.outcome,
            });
        }
        self.carry_out();
    }

    fn flush_settlements(&mut self, id: QueueId, entries: Vec<QueueSettlement>) {
        let Some(handle) = self.queues.get(id).cloned() else {
            return;
        };
        let settled = handle.settle_batch(entries, self.now, &mut self.courier.effects);
        if settled.is_err() {
            self.queues.remove(id);
        }
    }

    fn flush_batch(&mut self, batch: &mut PublishBatch) {
        self.gathered.results.clear();
        let published = batch.queue.publish_batch(
            batch.messages.drain(..),
            self.now,
            &mut self.courier.effects,
            &mut self.gathered.results,
        );
        // A queue deleted meanwhile counts as done (document "Publisher Confirms").
        if published.is_ok() {
            for (result, confirmable) in self.gathered.results.iter().zip(&batch.confirmables) {
                if !matches!(result, Published::Rejected) {
                    continue;
                }
                self.gathered.has_rejection = true;
                if let Some(index) = confirmable {
                    self.gathered.confirmables[*index as usize].outcome = PublishOutcome::Rejected;
                }
            }
        }
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
