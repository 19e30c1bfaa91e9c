//! What a queue assigns to a consumer, and the way it takes to that consumer's connection.

use std::fmt;

use super::{ChannelNumber, ConsumerId, Got, Name, Position, QueueId, QueueKind, SharedMessage};
use crate::protocol::{FieldTable, Value};

/// A message assigned to a consumer, on its way to the connection that sends it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The channel of the consumer.
    pub channel: ChannelNumber,
    /// The consumer; a session that no longer knows it gives the delivery back.
    pub consumer: ConsumerId,
    /// The consumer's tag, as it goes on the wire.
    pub consumer_tag: Name,
    /// The queue that assigned it; `None` for a direct reply, which nobody can settle.
    pub queue: Option<QueueId>,
    /// Its place in that queue.
    pub position: Position,
    /// Whether it was handed to a consumer before.
    pub redelivered: bool,
    /// Whether it is settled by being sent (`no-ack`).
    pub no_ack: bool,
    /// The kind of that queue, for who counts.
    pub kind: QueueKind,
    /// The message.
    pub message: SharedMessage,
    /// Counters that a quorum queue shows in the headers of a redelivery; `None` on classic queues and
    /// on first deliveries.
    pub counts: Option<RedeliveryCounts>,
}

/// A quorum queue's counters (`rabbit_fifo_client.erl`): `x-acquired-count` and `x-delivery-count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedeliveryCounts {
    /// Hand-outs before this one.
    pub acquired: u32,
    /// Failed ones among them.
    pub delivery: u32,
}

impl RedeliveryCounts {
    /// Writes them into the headers of a redelivery (`rabbit_fifo_client.erl`, `add_delivery_count_header`): the count of
    /// failed deliveries is there only when there was one.
    pub fn mark(self, headers: &mut FieldTable) {
        headers.insert("x-acquired-count", Value::I64(i64::from(self.acquired)));
        if self.delivery > 0 {
            headers.insert("x-delivery-count", Value::I64(i64::from(self.delivery)));
        }
    }
}

/// What reaches a connection from queues and from other connections.
#[derive(Clone, Debug)]
pub enum InboxEvent {
    /// A message for one of its consumers.
    Deliver(Delivery),
    /// The queue ended this consumer: `basic.cancel` goes to clients that can hear it.
    ConsumerCancelled {
        /// The channel of the consumer.
        channel: ChannelNumber,
        /// The consumer that is gone.
        consumer: ConsumerId,
    },
    /// The consumer kept a delivery for too long: the queue ended it and took its deliveries back. Clients
    /// that cannot hear `basic.cancel` lose the channel (`rabbit_channel.erl`).
    ConsumerTimedOut {
        /// The channel of the consumer.
        channel: ChannelNumber,
        /// The consumer that is gone.
        consumer: ConsumerId,
        /// The time that it had, in milliseconds.
        timeout_ms: u64,
    },
    /// The answer to a `basic.get` that had to wait until the message was loaded.
    Got {
        /// The channel that asked.
        channel: ChannelNumber,
        /// Whether the message is settled by being sent.
        no_ack: bool,
        /// The message, or none.
        got: Option<Got>,
    },
}

/// The way to a consumer's connection: bounded in bytes, never waiting.
///
/// A queue asks [`Outlet::try_reserve`] under its own lock before it assigns, and hands the event over
/// with [`Outlet::push`] after that; whoever drains the inbox releases the bytes and, when some consumer
/// was refused, tells its queue through `consumer_ready`.
pub trait Outlet: Send + Sync + fmt::Debug {
    /// Reserves room for a delivery that costs `bytes`; `false` when the inbox is full or closed, in
    /// which case the refusal is remembered and the consumer is woken when there is room.
    fn try_reserve(&self, consumer: ConsumerId, queue: QueueId, bytes: usize) -> bool;

    /// Hands over an event; room for a delivery was reserved before.
    fn push(&self, event: InboxEvent);

    /// Wakes the connection's task, once for the events of a burst.
    fn wake(&self);
}
