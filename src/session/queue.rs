//! Class queue: methods to commands, and the shortcut of the queue "last declared" on the channel. Whether a queue exists,
//! whose it is and what is in it is not known here.

use super::channel::{Channel, Context, Expected};
use super::names::{plain, stripped};
use crate::model::{Command, Executor, Name, QueueCounts, Refusal};
use crate::protocol::{Method, ShortStr, queue};

impl Channel {
    pub(super) fn queue_declare(
        &mut self,
        declare: &queue::Declare<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let command = Command::DeclareQueue {
            name: stripped(declare.queue),
            passive: declare.passive,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.decode(),
        };
        let no_wait = declare.no_wait;
        self.run(command, Expected::Declared { no_wait }, cx)
    }

    pub(super) fn queue_declared(
        &mut self,
        name: Name,
        counts: QueueCounts,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        if !no_wait {
            let ok = Method::QueueDeclareOk(queue::DeclareOk {
                queue: ShortStr::truncated(&name),
                message_count: counts.messages_ready,
                consumer_count: counts.consumers,
            });
            self.reply(&ok, cx.output);
        }
        self.last_declared = Some(name);
    }

    pub(super) fn queue_bind(
        &mut self,
        bind: &queue::Bind<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let (queue, routing_key) = self.queue_and_key(bind.queue, bind.routing_key)?;
        let command = Command::BindQueue {
            queue,
            exchange: stripped(bind.exchange),
            routing_key,
            arguments: bind.arguments.decode(),
        };
        let ok = Method::QueueBindOk(queue::BindOk);
        self.run(command, Expected::done(ok, bind.no_wait), cx)
    }

    pub(super) fn queue_unbind(
        &mut self,
        unbind: &queue::Unbind<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let (queue, routing_key) = self.queue_and_key(unbind.queue, unbind.routing_key)?;
        let command = Command::UnbindQueue {
            queue,
            exchange: stripped(unbind.exchange),
            routing_key,
            arguments: unbind.arguments.decode(),
        };
        let ok = Method::QueueUnbindOk(queue::UnbindOk);
        self.run(command, Expected::done(ok, false), cx)
    }

    pub(super) fn queue_purge(
        &mut self,
        purge: &queue::Purge<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let queue = self.queue_or_last(purge.queue)?;
        let no_wait = purge.no_wait;
        self.run(
            Command::PurgeQueue { queue },
            Expected::Purged { no_wait },
            cx,
        )
    }

    pub(super) fn queue_purged(
        &mut self,
        message_count: u32,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        if !no_wait {
            let ok = Method::QueuePurgeOk(queue::PurgeOk { message_count });
            self.reply(&ok, cx.output);
        }
    }

    pub(super) fn queue_delete(
        &mut self,
        delete: &queue::Delete<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        let name = if delete.queue.is_empty() {
            self.queue_or_last(delete.queue)?
        } else {
            stripped(delete.queue)
        };
        let command = Command::DeleteQueue {
            name,
            if_unused: delete.if_unused,
            if_empty: delete.if_empty,
        };
        let no_wait = delete.no_wait;
        self.run(command, Expected::Deleted { no_wait }, cx)
    }

    pub(super) fn queue_deleted(
        &mut self,
        message_count: u32,
        no_wait: bool,
        cx: &mut Context<'_, impl Executor>,
    ) {
        if !no_wait {
            let ok = Method::QueueDeleteOk(queue::DeleteOk { message_count });
            self.reply(&ok, cx.output);
        }
    }

    /// The name, or that of the queue last declared on this channel if it is empty (`expand_queue_name_shortcut`).
    ///
    /// # Errors
    /// 404 if it is empty and none was declared.
    pub(super) fn queue_or_last(&self, name: ShortStr<'_>) -> Result<String, Refusal> {
        if !name.is_empty() {
            return Ok(plain(name));
        }
        match &self.last_declared {
            Some(last) => Ok(last.to_string()),
            None => Err(Refusal::not_found("no previously declared queue")),
        }
    }

    /// Queue and key of a binding: an empty key beside an empty name is the queue's name, too
    /// (`expand_routing_key_shortcut`).
    fn queue_and_key(
        &self,
        queue: ShortStr<'_>,
        routing_key: ShortStr<'_>,
    ) -> Result<(String, String), Refusal> {
        if !queue.is_empty() {
            return Ok((stripped(queue), plain(routing_key)));
        }
        let name = self.queue_or_last(queue)?;
        let key = if routing_key.is_empty() {
            name.clone()
        } else {
            plain(routing_key)
        };
        Ok((name, key))
    }
}
