//! Class exchange: methods to commands. Names come in as the client wrote them and leave without CR and LF, as RabbitMQ
//! has it (`rabbit_channel.erl`, `strip_cr_lf`). Whether an exchange exists or may be touched is not known here.

use super::channel::{Channel, Context, Expected};
use super::names::{plain, stripped};
use crate::model::{Command, Executor, Refusal};
use crate::protocol::{Method, exchange};

impl Channel {
    pub(super) fn exchange_declare(
        &mut self,
        declare: &exchange::Declare<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let command = Command::DeclareExchange {
            name: stripped(declare.exchange),
            kind: plain(declare.type_),
            passive: declare.passive,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.decode(),
        };
        let ok = Method::ExchangeDeclareOk(exchange::DeclareOk);
        self.run(command, Expected::done(ok, declare.no_wait), cx)
    }

    pub(super) fn exchange_delete(
        &mut self,
        delete: &exchange::Delete<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let command = Command::DeleteExchange {
            name: stripped(delete.exchange),
            if_unused: delete.if_unused,
        };
        let ok = Method::ExchangeDeleteOk(exchange::DeleteOk);
        self.run(command, Expected::done(ok, delete.no_wait), cx)
    }

    pub(super) fn exchange_bind(
        &mut self,
        bind: &exchange::Bind<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let command = Command::BindExchange {
            destination: stripped(bind.destination),
            source: stripped(bind.source),
            routing_key: plain(bind.routing_key),
            arguments: bind.arguments.decode(),
        };
        let ok = Method::ExchangeBindOk(exchange::BindOk);
        self.run(command, Expected::done(ok, bind.no_wait), cx)
    }

    pub(super) fn exchange_unbind(
        &mut self,
        unbind: &exchange::Unbind<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let command = Command::UnbindExchange {
            destination: stripped(unbind.destination),
            source: stripped(unbind.source),
            routing_key: plain(unbind.routing_key),
            arguments: unbind.arguments.decode(),
        };
        let ok = Method::ExchangeUnbindOk(exchange::UnbindOk);
        self.run(command, Expected::done(ok, unbind.no_wait), cx)
    }
}
