//! basic.publish and class confirm: a whole publish goes to the broker, or into the transaction; what finds no queue comes
//! back; in confirm mode it gets its number here.

use super::channel::{Channel, Context};
use super::content::Whole;
use super::output::Output;
use super::publishing::{Confirm, ConfirmTracker};
use super::sending::{self, Returned};
use crate::model::{Body, Executor, Publish, PublishOutcome, Refusal, Routing};
use crate::protocol::{Method, basic, confirm, frame};

impl Channel {
    /// Publishes a message whose parts are all there.
    pub(super) fn publish(
        &mut self,
        whole: Whole<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let mandatory = whole.mandatory;
        if let Some(transaction) = &mut self.transaction {
            let publish = publish_of(whole, None);
            let staged = cx.executor.stage(self.number, publish)?;
            self.traffic.publish += 1;
            return transaction.stage_publish(staged, cx.settings.transaction_bytes_max);
        }
        let sequence = self.confirms.as_mut().map(|confirms| confirms.begin());
        // The executor takes the body over; a handle on it is kept for as long as the message may have to come back.
        let returned = mandatory.then(|| (whole.body.clone(), whole.routing_key));
        let (exchange, properties, facts) = (whole.exchange, whole.properties, whole.facts);
        let routing = cx
            .executor
            .publish(self.number, publish_of(whole, sequence))?;
        self.traffic.publish += 1;
        self.traffic.publish_confirm += u32::from(sequence.is_some());
        if routing == Routing::Routed {
            return Ok(());
        }
        self.traffic.return_unroutable += u32::from(mandatory);
        self.traffic.drop_unroutable += u32::from(!mandatory);
        if let Some((body, routing_key)) = returned {
            let returned = Returned {
                exchange,
                routing_key,
                properties,
                facts,
                body: body.as_slice(),
            };
            let frame_max = cx.frame_max;
            cx.output
                .reply(|out| sending::write_return(out, self.number, frame_max, returned));
        }
        if let (Some(confirms), Some(sequence)) = (&mut self.confirms, sequence) {
            confirms.complete(sequence, PublishOutcome::Accepted);
            self.traffic.confirm += 1;
        }
        Ok(())
    }

    pub(super) fn confirm_select(
        &mut self,
        select: confirm::Select,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            return Err(Refusal::precondition_failed(
                "cannot switch from tx to confirm mode",
            ));
        }
        self.confirms
            .get_or_insert_with(|| Box::new(ConfirmTracker::new()));
        if !select.no_wait {
            self.reply(&Method::ConfirmSelectOk(confirm::SelectOk), cx.output);
        }
        Ok(())
    }

    /// Appends what the confirm tracker has to say.
    pub(super) fn tell_confirms(&mut self, output: &mut Output) {
        let number = self.number;
        let Some(confirms) = &mut self.confirms else {
            return;
        };
        confirms.tell(|confirm| {
            let method = match confirm {
                Confirm::Ack { sequence, multiple } => Method::BasicAck(basic::Ack {
                    delivery_tag: sequence.0,
                    multiple,
                }),
                Confirm::Nack { sequence } => Method::BasicNack(basic::Nack {
                    delivery_tag: sequence.0,
                    multiple: false,
                    requeue: false,
                }),
            };
            output.reply(|out| frame::write_method(out, number, &method));
        });
    }
}

fn publish_of(whole: Whole<'_>, confirm: Option<crate::model::ConfirmSequence>) -> Publish<'_> {
    let body: Body<'_> = whole.body;
    Publish {
        exchange: whole.exchange,
        routing_key: whole.routing_key,
        mandatory: whole.mandatory,
        properties: whole.properties,
        facts: whole.facts,
        body,
        confirm,
    }
}
