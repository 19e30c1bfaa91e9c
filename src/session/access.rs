//! Class access, a relic of AMQP 0-8 that old clients still use: every request is granted with ticket 1.

use super::channel::{Channel, Context};
use crate::model::{Executor, Refusal};
use crate::protocol::{Method, access};

/// The ticket that RabbitMQ gives to everyone (`rabbit_channel.erl`).
const TICKET: u16 = 1;

impl Channel {
    pub(super) fn access_request(
        &mut self,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let ok = Method::AccessRequestOk(access::RequestOk { ticket: TICKET });
        self.reply(&ok, cx.output);
        Ok(())
    }
}
