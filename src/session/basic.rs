//! Class basic without publish: consuming, fetching, settling. Delivery tags and consumer tags end here; the broker knows
//! queues, positions and consumer ids.

use super::channel::{Channel, Context, Expected};
use super::names::plain;
use super::sending;
use super::unsettled::Entry;
use crate::model::{
    Command, ConsumerId, Delivery, DeliveryTag, Executor, Got, Name, Refusal, Settlement,
    SettlementOutcome, Unsettled,
};
use crate::protocol::{Method, ShortStr, basic};

impl Channel {
    pub(super) fn basic_qos(
        &mut self,
        qos: basic::Qos,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        if qos.prefetch_size != 0 {
            return Err(Refusal::not_implemented(format!(
                "prefetch_size!=0 ({})",
                qos.prefetch_size
            )));
        }
        let global = qos.global && cx.settings.permit_global_qos;
        let mut prefetch = self.prefetch;
        if global {
            prefetch.channel = qos.prefetch_count;
        } else {
            prefetch.consumer = qos.prefetch_count;
        }
        let command = Command::Qos {
            prefetch_count: qos.prefetch_count,
            global,
        };
        self.run(command, Expected::Prefetch(prefetch), cx)
    }

    pub(super) fn basic_consume(
        &mut self,
        consume: &basic::Consume<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let queue = self.queue_or_last(consume.queue)?;
        let consumer_tag = plain(consume.consumer_tag);
        if self.consumers.by_tag(&consumer_tag).is_some() {
            return Err(Refusal::not_allowed(format!(
                "attempt to reuse consumer tag '{consumer_tag}'"
            )));
        }
        if let Some(max) = cx.settings.consumers_per_channel_max
            && self.consumers.len() >= max as usize
        {
            return Err(Refusal::not_allowed(format!(
                "reached maximum ({max}) of consumers per channel"
            )));
        }
        let command = Command::Consume {
            queue,
            consumer_tag,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            arguments: consume.arguments.decode(),
        };
        let no_wait = consume.no_wait;
        self.run(command, Expected::Consuming { no_wait }, cx)
    }

    pub(super) fn consuming(
        &mut self,
        consumer: ConsumerId,
        consumer_tag: Name,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        if !no_wait {
            let ok = Method::BasicConsumeOk(basic::ConsumeOk {
                consumer_tag: ShortStr::truncated(&consumer_tag),
            });
            self.reply(&ok, cx.output);
        }
        self.consumers.insert(consumer, consumer_tag);
    }

    /// An unknown tag is no error (specification, basic.cancel; `rabbit_channel.erl`).
    pub(super) fn basic_cancel(
        &mut self,
        consumer_tag: ShortStr<'_>,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let tag = plain(consumer_tag);
        let Some(consumer) = self.consumers.by_tag(&tag) else {
            self.cancel_ok(&tag, no_wait, cx);
            return Ok(());
        };
        let expected = Expected::Cancelled {
            consumer,
            consumer_tag: tag.into(),
            no_wait,
        };
        self.run(Command::Cancel { consumer }, expected, cx)
    }

    pub(super) fn cancelled(
        &mut self,
        consumer: ConsumerId,
        consumer_tag: &str,
        deliveries: Vec<Delivery>,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        // The consumer may have been ended by its queue while the broker was asked; what it was given is sent all the
        // same, because the client has not been told yet.
        self.consumers.insert(consumer, consumer_tag.into());
        for delivery in deliveries {
            // The consumer is known, so that nothing comes back.
            let _ = self.deliver(delivery, cx.frame_max, cx.output);
        }
        self.consumers.remove(consumer);
        self.cancel_ok(consumer_tag, no_wait, cx);
    }

    fn cancel_ok(
        &mut self,
        consumer_tag: &str,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        if !no_wait {
            let ok = Method::BasicCancelOk(basic::CancelOk {
                consumer_tag: ShortStr::truncated(consumer_tag),
            });
            self.reply(&ok, cx.output);
        }
    }

    pub(super) fn basic_get(
        &mut self,
        get: &basic::Get<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let queue = self.queue_or_last(get.queue)?;
        let no_ack = get.no_ack;
        self.run(Command::Get { queue, no_ack }, Expected::Got { no_ack }, cx)
    }

    pub(super) fn got(
        &mut self,
        got: Option<Got>,
        no_ack: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        let Some(got) = got else {
            self.traffic.get_empty += 1;
            self.reply(&Method::BasicGetEmpty(basic::GetEmpty), cx.output);
            return;
        };
        let tag = self.next_tag();
        let handed = &mut self.traffic.handed[got.kind.index()];
        handed.get += u32::from(!no_ack);
        handed.get_no_ack += u32::from(no_ack);
        handed.redeliver += u32::from(got.redelivered);
        if !no_ack {
            let unsettled = Unsettled {
                queue: got.queue,
                position: got.position,
                consumer: None,
            };
            self.record(tag, unsettled);
        }
        cx.output
            .reply(|out| sending::write_get_ok(out, self.number, cx.frame_max, tag, &got));
    }

    pub(super) fn basic_ack(
        &mut self,
        ack: basic::Ack,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let outcome = SettlementOutcome::Acked;
        self.settle(DeliveryTag(ack.delivery_tag), ack.multiple, outcome, cx)
    }

    pub(super) fn basic_nack(
        &mut self,
        nack: basic::Nack,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let outcome = if nack.requeue {
            SettlementOutcome::RequeuedByNack
        } else {
            SettlementOutcome::Rejected
        };
        self.settle(DeliveryTag(nack.delivery_tag), nack.multiple, outcome, cx)
    }

    pub(super) fn basic_reject(
        &mut self,
        reject: basic::Reject,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let outcome = if reject.requeue {
            SettlementOutcome::RequeuedByReject
        } else {
            SettlementOutcome::Rejected
        };
        self.settle(DeliveryTag(reject.delivery_tag), false, outcome, cx)
    }

    /// basic.recover and basic.recover-async; only the first is answered.
    pub(super) fn basic_recover(
        &mut self,
        requeue: bool,
        is_answered: bool,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        let number = self.number;
        self.unsettled.take_all(|entry| {
            let delivery = entry.delivery;
            let outcome = SettlementOutcome::RequeuedByNack;
            cx.executor.settle(number, Settlement { delivery, outcome });
        });
        let ok = Method::BasicRecoverOk(basic::RecoverOk);
        self.run(Command::Recover, Expected::done(ok, !is_answered), cx)
    }

    /// Settles one delivery, or all up to it; tag 0 with `multiple` is all there are (specification, basic.ack).
    fn settle(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        outcome: SettlementOutcome,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let number = self.number;
        let transaction = &mut self.transaction;
        let acks = u32::from(outcome == SettlementOutcome::Acked);
        let acked = &mut self.traffic.ack;
        let mut settle = |entry: Entry| match transaction {
            Some(transaction) => transaction.stage_settlement(entry, outcome),
            None => {
                *acked += acks;
                let delivery = entry.delivery;
                cx.executor.settle(number, Settlement { delivery, outcome });
            }
        };
        let is_known = if !multiple {
            self.unsettled.take(tag).map(&mut settle).is_some()
        } else if tag == DeliveryTag(0) {
            self.unsettled.take_all(settle);
            true
        } else {
            self.unsettled.take_through(tag, settle)
        };
        if is_known {
            Ok(())
        } else {
            Err(Refusal::precondition_failed(format!(
                "unknown delivery tag {tag}"
            )))
        }
    }
}
