//! Direct reply-to: the consumers of `amq.rabbitmq.reply-to`, by the token in the rewritten `reply-to`.
//!
//! RabbitMQ's document "Direct Reply-to" fixes the rules: one consumer a channel,
//! no acknowledgement, no queue behind it, a reply to a requester that is gone is dropped.

use std::sync::Arc;

use dashmap::DashMap;

use crate::model::{
    ChannelNumber, ConsumerId, Delivery, InboxEvent, Name, Outlet as _, Position, QueueKind,
    SharedMessage,
};
use crate::queue::Inbox;

/// The pseudo-queue's name, and the prefix of every rewritten `reply-to`.
pub const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Who waits for replies under a token.
#[derive(Clone, Debug)]
pub struct ReplyConsumer {
    /// The way to its connection.
    pub outlet: Arc<Inbox>,
    /// The channel that consumes and publishes.
    pub channel: ChannelNumber,
    /// The consumer's id.
    pub consumer: ConsumerId,
    /// Its tag.
    pub consumer_tag: Name,
}

/// All reply consumers of the node.
#[derive(Debug, Default)]
pub struct ReplyConsumers {
    by_name: DashMap<String, ReplyConsumer>,
}

impl ReplyConsumers {
    /// Whether `name` is the pseudo-queue or one of its rewritten names.
    pub fn is_reply_name(name: &[u8]) -> bool {
        name.starts_with(REPLY_TO.as_bytes())
    }

    /// Adds a consumer under its rewritten name, `amq.rabbitmq.reply-to.<token>`.
    pub fn insert(&self, name: String, consumer: ReplyConsumer) {
        self.by_name.insert(name, consumer);
    }

    /// Removes a consumer.
    pub fn remove(&self, name: &str) {
        self.by_name.remove(name);
    }

    /// Whether somebody waits under `name`.
    pub fn exists(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Hands `message` to whoever waits under `name`; `false` when nobody does.
    ///
    /// A requester that does not read its replies loses those that its inbox cannot hold: direct replies
    /// are delivered at most once.
    pub fn deliver(&self, name: &str, message: &SharedMessage) -> bool {
        let Some(target) = self.by_name.get(name).map(|entry| entry.value().clone()) else {
            return false;
        };
        if target.outlet.try_reserve_or_drop(message.cost_bytes()) {
            target.outlet.push(InboxEvent::Deliver(Delivery {
                channel: target.channel,
                consumer: target.consumer,
                consumer_tag: target.consumer_tag,
                queue: None,
                position: Position(0),
                redelivered: false,
                no_ack: true,
                kind: QueueKind::Classic,
                message: Arc::clone(message),
                counts: None,
            }));
            target.outlet.wake();
        }
        true
    }
}
