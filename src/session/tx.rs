//! Class tx: publishes and settlements wait for tx.commit, which hands them to the broker as one command, in order.
//! What the broker does with them is not known here.

use std::collections::BTreeSet;

use super::channel::{Channel, Context, Expected};
use super::sending::{self, Returned};
use super::unsettled::Entry;
use crate::model::{
    Command, Executor, QueueId, Refusal, Settlement, SettlementOutcome, SharedMessage,
    StagedPublish,
};
use crate::protocol::{Method, tx};

/// What waits for tx.commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<StagedPublish>,
    publish_bytes: usize,
    settlements: Vec<(Entry, SettlementOutcome)>,
    acks: usize,
}

impl Transaction {
    /// Adds a publish.
    ///
    /// # Errors
    /// 406 if all staged publishes together cost more than `bytes_max`: RabbitMQ has no limit here, and a client could
    /// fill its memory.
    pub(super) fn stage_publish(
        &mut self,
        publish: StagedPublish,
        bytes_max: usize,
    ) -> Result<(), Refusal> {
        self.publish_bytes +=
            publish.message.cost_bytes() + size_of_val::<[QueueId]>(&publish.queues);
        if self.publish_bytes > bytes_max {
            return Err(Refusal::precondition_failed(format!(
                "transaction size {} is larger than max size {bytes_max}",
                self.publish_bytes
            )));
        }
        self.publishes.push(publish);
        Ok(())
    }

    pub(super) fn stage_settlement(&mut self, entry: Entry, outcome: SettlementOutcome) {
        self.acks += usize::from(outcome == SettlementOutcome::Acked);
        self.settlements.push((entry, outcome));
    }

    /// Publishes that wait.
    pub(super) fn publishes(&self) -> usize {
        self.publishes.len()
    }

    /// Acknowledgements that wait.
    pub(super) fn acks(&self) -> usize {
        self.acks
    }

    /// The deliveries whose settlement waits.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.settlements.into_iter().map(|(entry, _)| entry)
    }
}

impl Channel {
    pub(super) fn tx_select(&mut self, cx: &mut Context<'_, impl Executor>) -> Result<(), Refusal> {
        if self.confirms.is_some() {
            return Err(Refusal::precondition_failed(
                "cannot switch from confirm to tx mode",
            ));
        }
        self.transaction.get_or_insert_default();
        self.reply(&Method::TxSelectOk(tx::SelectOk), cx.output);
        Ok(())
    }

    pub(super) fn tx_commit(&mut self, cx: &mut Context<'_, impl Executor>) -> Result<(), Refusal> {
        let staged = std::mem::take(self.transaction_or_refuse()?);
        self.traffic.ack += staged.acks() as u32;
        let publishes = staged.publishes;
        let mandatory = publishes
            .iter()
            .enumerate()
            .filter(|(_, publish)| publish.mandatory)
            .map(|(index, publish)| (index, publish.message.clone()))
            .collect();
        let settlements = staged
            .settlements
            .into_iter()
            .map(|(entry, outcome)| Settlement {
                delivery: entry.delivery,
                outcome,
            })
            .collect();
        let command = Command::Commit {
            publishes,
            settlements,
        };
        self.run(command, Expected::Committed { mandatory }, cx)
    }

    /// What could not be routed comes back first, even if some queue rejected another publish (`rabbit_channel.erl`,
    /// `maybe_complete_tx`).
    pub(super) fn tx_committed(
        &mut self,
        mandatory: &[(usize, SharedMessage)],
        returned: &[usize],
        is_partial: bool,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let returned: BTreeSet<usize> = returned.iter().copied().collect();
        for (index, message) in mandatory {
            if returned.contains(index) {
                let returned = Returned::from(&**message);
                cx.output.reply(|out| {
                    sending::write_return(out, self.number, cx.frame_max, returned);
                });
            }
        }
        if is_partial {
            return Err(Refusal::precondition_failed("partial tx completion"));
        }
        self.reply(&Method::TxCommitOk(tx::CommitOk), cx.output);
        Ok(())
    }

    /// Publishes are dropped; deliveries are unsettled again, and not delivered again.
    pub(super) fn tx_rollback(
        &mut self,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let staged = std::mem::take(self.transaction_or_refuse()?);
        self.unsettled.put_back(staged.into_entries());
        self.reply(&Method::TxRollbackOk(tx::RollbackOk), cx.output);
        Ok(())
    }

    fn transaction_or_refuse(&mut self) -> Result<&mut Transaction, Refusal> {
        self.transaction
            .as_deref_mut()
            .ok_or_else(|| Refusal::precondition_failed("channel is not transactional"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Message;
    use crate::protocol::PropertyFacts;

    #[test]
    fn the_queues_of_a_staged_publish_count_too() {
        let facts = PropertyFacts::default();
        let publish = |queues| StagedPublish {
            message: Arc::new(Message::copied("".into(), b"k", &[0, 0], facts, b"body")),
            queues: (0..queues).map(QueueId).collect(),
            mandatory: false,
        };
        let mut transaction = Transaction::default();
        assert!(transaction.stage_publish(publish(1), 1000).is_ok());
        assert!(transaction.stage_publish(publish(100), 1000).is_err());
    }
}
