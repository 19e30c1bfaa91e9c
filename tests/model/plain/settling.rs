//! Settlements, transactions, and the ends of channels and connections in the plain model.
//!
//! In: acknowledgements and ends. Out: what goes back to queues. How a queue takes that is not known here.

use super::queue::{Held, Outcome};
use super::{Fault, Plain, Transaction};
use crate::operations::Act;

impl Plain {
    /// Acknowledgements and modes.
    pub(super) fn act_on_held(
        &mut self,
        client: usize,
        channel: u16,
        act: &Act,
    ) -> Result<(), Fault> {
        let state = self.channel(client, channel);
        let done = match act {
            Act::Ack { tag, multiple } => {
                return self.settle(client, channel, *tag, *multiple, Outcome::Acked);
            }
            Act::Nack {
                tag,
                multiple,
                requeue,
            } => {
                let outcome = if *requeue {
                    Outcome::RequeuedByNack
                } else {
                    Outcome::Rejected
                };
                return self.settle(client, channel, *tag, *multiple, outcome);
            }
            Act::Reject { tag, requeue } => {
                let outcome = if *requeue {
                    Outcome::RequeuedByReject
                } else {
                    Outcome::Rejected
                };
                return self.settle(client, channel, *tag, false, outcome);
            }
            Act::Recover => {
                let held = std::mem::take(&mut state.held);
                let all = held.into_iter().map(|held| (held, Outcome::RequeuedByNack));
                self.hand_back(all.collect());
                "basic.recover-ok"
            }
            Act::ConfirmSelect => {
                if state.transaction.is_some() {
                    return Err(precondition("cannot switch from tx to confirm mode"));
                }
                state.confirms.get_or_insert(0);
                "confirm.select-ok"
            }
            Act::TxSelect => {
                if state.confirms.is_some() {
                    return Err(precondition("cannot switch from confirm to tx mode"));
                }
                state.transaction.get_or_insert_default();
                "tx.select-ok"
            }
            Act::TxCommit => {
                let transaction = self.take_transaction(client, channel)?;
                if !self.commit(client, channel, transaction) {
                    return Err(precondition("partial tx completion"));
                }
                "tx.commit-ok"
            }
            _ => {
                let transaction = self.take_transaction(client, channel)?;
                let state = self.channel(client, channel);
                let held = transaction.settlements.into_iter().map(|(held, _)| held);
                state.held.extend(held);
                state.held.sort_by_key(|held| held.tag);
                "tx.rollback-ok"
            }
        };
        self.reply(client, channel, done);
        Ok(())
    }

    fn settle(
        &mut self,
        client: usize,
        channel: u16,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let state = self.channel(client, channel);
        let is_all = multiple && tag == 0;
        if !is_all && !state.held.iter().any(|held| held.tag == tag) {
            return Err(precondition(&format!("unknown delivery tag {tag}")));
        }
        let (settled, kept): (Vec<Held>, Vec<Held>) = std::mem::take(&mut state.held)
            .into_iter()
            .partition(|held| is_all || held.tag == tag || (multiple && held.tag < tag));
        state.held = kept;
        let settled = settled.into_iter().map(|held| (held, outcome));
        match &mut state.transaction {
            Some(transaction) => transaction.settlements.extend(settled),
            None => {
                let settled = settled.collect();
                self.hand_back(settled);
            }
        }
        Ok(())
    }

    /// Hands settlements to their queues, each queue all of its own at once.
    fn hand_back(&mut self, settlements: Vec<(Held, Outcome)>) {
        let mut by_queue: Vec<(u64, Vec<(Held, Outcome)>)> = Vec::new();
        for (held, outcome) in settlements {
            let queue = held.queue;
            match by_queue.iter_mut().find(|(id, _)| *id == queue) {
                Some((_, settlements)) => settlements.push((held, outcome)),
                None => by_queue.push((queue, vec![(held, outcome)])),
            }
        }
        for (id, settlements) in by_queue {
            self.with_queue(id, |queue, world| {
                for (held, outcome) in settlements {
                    queue.settle(held, outcome, world);
                }
                queue.after_settlements(world);
            });
        }
        self.carry_out();
    }

    fn take_transaction(&mut self, client: usize, channel: u16) -> Result<Transaction, Fault> {
        match &mut self.channel(client, channel).transaction {
            Some(transaction) => Ok(std::mem::take(transaction)),
            None => Err(precondition("channel is not transactional")),
        }
    }

    /// Publishes first, one after the other, then settlements (`rabbit_channel`, `tx.commit`). `false` if a
    /// queue rejected a publish.
    fn commit(&mut self, client: usize, channel: u16, transaction: Transaction) -> bool {
        let mut is_whole = true;
        for (publication, queues) in transaction.publishes {
            if queues.is_empty() && publication.mandatory {
                self.give_back(client, channel, &publication.message);
            }
            for queue in queues {
                let message = publication.message.clone();
                let accepted = self.with_queue(queue, |queue, world| queue.publish(message, world));
                is_whole &= accepted != Some(false);
            }
        }
        // All of it is one step: dead letters of the publishes leave after the settlements.
        self.hand_back(transaction.settlements);
        is_whole
    }

    /// A channel ends: its consumers go, and what it held goes back, staged settlements included.
    pub(super) fn end_channel(&mut self, client: usize, channel: u16) {
        let Some(mut state) = self.clients[client].channels.remove(&channel) else {
            return;
        };
        if let Some(transaction) = state.transaction {
            let staged = transaction.settlements.into_iter().map(|(held, _)| held);
            state.held.extend(staged);
            state.held.sort_by_key(|held| held.tag);
        }
        self.remove_consumers(|consumer| (consumer.key.0, consumer.key.1) == (client, channel));
        let lost = state.held.into_iter().map(|held| (held, Outcome::Lost));
        self.hand_back(lost.collect());
    }

    /// A connection ends: its consumers, then its channels, then its exclusive queues.
    pub(super) fn end_connection(&mut self, client: usize) {
        self.remove_consumers(|consumer| consumer.key.0 == client);
        self.carry_out();
        let channels: Vec<u16> = self.clients[client].channels.keys().copied().collect();
        for channel in channels {
            self.end_channel(client, channel);
        }
        let owner = Some((client, self.clients[client].connection));
        let owned = self.queues.iter().filter(|queue| queue.owner == owner);
        let owned: Vec<u64> = owned.map(|queue| queue.id).collect();
        for id in owned {
            self.remove_queue(id);
        }
        self.clients[client].is_open = false;
    }
}

fn precondition(text: &str) -> Fault {
    Fault::Channel(format!("406 PRECONDITION_FAILED - {text}"))
}
