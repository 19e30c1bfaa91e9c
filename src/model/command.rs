//! What a session asks of the broker, a value for each rare method, and the answers.
//!
//! The frequent ones, publish and settle, go through [`super::Executor`] as calls with borrowed data.

use bytes::Bytes;

use super::{
    ChannelNumber, ConsumerId, Delivery, Name, Position, QueueId, QueueKind, RedeliveryCounts,
    SharedMessage,
};
use crate::protocol::FieldTable;

/// A command of a client, decoded: names are UTF-8, "last declared" is resolved, defaults are filled in.
///
/// The `nowait` bit is the session's own business: it drops the positive answer.
#[derive(Clone, Debug)]
pub enum Command {
    /// `connection.start-ok`: who is it? Answered with [`Reply::Authenticated`].
    Authenticate {
        /// The SASL mechanism the client chose.
        mechanism: String,
        /// Its response, as the mechanism defines it.
        response: Bytes,
        /// The client's properties table.
        client_properties: FieldTable,
    },
    /// `connection.open`.
    OpenVhost {
        /// The virtual host's name, exact.
        vhost: String,
    },
    /// `connection.update-secret`.
    UpdateSecret {
        /// The client's reason, for the log.
        reason: String,
    },
    /// `channel.open`.
    OpenChannel,
    /// A channel ended, by whichever side. Its consumers go and its unsettled deliveries return.
    CloseChannel {
        /// What the client never settled, in the order of delivery.
        unsettled: Vec<Unsettled>,
    },
    /// The connection ended. Every channel was closed before; exclusive queues go.
    CloseConnection,
    /// `exchange.declare`.
    DeclareExchange {
        /// Its name.
        name: String,
        /// Its type, as the client wrote it.
        kind: String,
        /// Only ask whether it exists.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Goes when the last binding from it goes.
        auto_delete: bool,
        /// Refuses publishes by clients.
        internal: bool,
        /// `alternate-exchange` and whatever else the client sent.
        arguments: FieldTable,
    },
    /// `exchange.delete`.
    DeleteExchange {
        /// Its name.
        name: String,
        /// Refuse when bindings start from it.
        if_unused: bool,
    },
    /// `exchange.bind`.
    BindExchange {
        /// The exchange that receives.
        destination: String,
        /// The exchange that sends.
        source: String,
        /// The binding key.
        routing_key: String,
        /// The binding's arguments.
        arguments: FieldTable,
    },
    /// `exchange.unbind`.
    UnbindExchange {
        /// The exchange that receives.
        destination: String,
        /// The exchange that sends.
        source: String,
        /// The binding key.
        routing_key: String,
        /// The binding's arguments.
        arguments: FieldTable,
    },
    /// `queue.declare`. An empty name asks for a generated one.
    DeclareQueue {
        /// Its name, or empty.
        name: String,
        /// Only ask whether it exists.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Belongs to this connection alone.
        exclusive: bool,
        /// Goes when its last consumer goes.
        auto_delete: bool,
        /// The `x-` arguments.
        arguments: FieldTable,
    },
    /// `queue.delete`.
    DeleteQueue {
        /// Its name.
        name: String,
        /// Refuse when it has consumers.
        if_unused: bool,
        /// Refuse when it has messages.
        if_empty: bool,
    },
    /// `queue.bind`.
    BindQueue {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
        /// The binding key.
        routing_key: String,
        /// The binding's arguments.
        arguments: FieldTable,
    },
    /// `queue.unbind`.
    UnbindQueue {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
        /// The binding key.
        routing_key: String,
        /// The binding's arguments.
        arguments: FieldTable,
    },
    /// `queue.purge`.
    PurgeQueue {
        /// The queue.
        queue: String,
    },
    /// `basic.qos`; `prefetch_size` was checked to be 0.
    Qos {
        /// Deliveries without acknowledgement; 0 for no limit.
        prefetch_count: u16,
        /// One limit for the channel instead of one a consumer.
        global: bool,
    },
    /// `basic.consume`. An empty tag asks for a generated one.
    Consume {
        /// The queue.
        queue: String,
        /// The consumer's tag, or empty; the session has checked that it is not in use on the channel.
        consumer_tag: String,
        /// Settled by being sent.
        no_ack: bool,
        /// The only consumer of the queue.
        exclusive: bool,
        /// `x-priority` and others.
        arguments: FieldTable,
    },
    /// `basic.cancel` of a consumer that the session knows.
    Cancel {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// `basic.get`.
    Get {
        /// The queue.
        queue: String,
        /// Settled by being sent.
        no_ack: bool,
    },
    /// `basic.recover` with requeue: the settlements were made before; this wakes what they freed.
    Recover,
    /// `tx.commit`: all of it, in this order.
    Commit {
        /// The staged publishes.
        publishes: Vec<StagedPublish>,
        /// The staged settlements.
        settlements: Vec<Settlement>,
    },
}

/// A publish checked and routed, waiting for `tx.commit`.
#[derive(Clone, Debug)]
pub struct StagedPublish {
    /// The message.
    pub message: SharedMessage,
    /// The queues that it will go to; empty when unroutable.
    pub queues: Vec<QueueId>,
    /// Whether to return it when `queues` is empty (and no direct reply took it).
    pub mandatory: bool,
}

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The queue that assigned it.
    pub queue: QueueId,
    /// Its place in the queue.
    pub position: Position,
    /// The consumer, or `None` for `basic.get`.
    pub consumer: Option<ConsumerId>,
}

/// What becomes of an unsettled delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which delivery.
    pub delivery: Unsettled,
    /// What becomes of it.
    pub outcome: SettlementOutcome,
}

/// The ways in which a delivery can end (RabbitMQ's documents "Negative Acknowledgements" and "Quorum Queues").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettlementOutcome {
    /// `basic.ack`.
    Acked,
    /// `basic.reject` or `basic.nack` without requeue: dead-lettered with reason `rejected`, or dropped.
    Rejected,
    /// `basic.reject` with requeue: back to its place; a quorum queue counts a failed delivery.
    RequeuedByReject,
    /// `basic.nack` with requeue, or `basic.recover`: back to its place, not counted.
    RequeuedByNack,
    /// The channel or connection ended: back to its place; a quorum queue counts a failed delivery.
    ReturnedByLoss,
}

/// Ready messages and consumers of a queue, as `queue.declare-ok` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages ready for delivery.
    pub messages_ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// Done, nothing to say.
    Done,
    /// The user behind the connection.
    Authenticated {
        /// The user's name.
        user: Name,
    },
    /// `queue.declare-ok`.
    QueueDeclared {
        /// The name, generated if it was empty.
        name: Name,
        /// Its counts.
        counts: QueueCounts,
    },
    /// `queue.delete-ok` and `queue.purge-ok`.
    MessageCount(u32),
    /// `basic.consume-ok`.
    Consuming {
        /// The consumer's id.
        consumer: ConsumerId,
        /// Its tag, generated if it was empty.
        consumer_tag: Name,
    },
    /// `basic.cancel-ok`, after these deliveries, which were assigned before the consumer went.
    Cancelled {
        /// Deliveries still to be sent.
        deliveries: Vec<Delivery>,
    },
    /// `basic.get-ok`, or `basic.get-empty`.
    Got(Option<Got>),
    /// `tx.commit-ok`, after these returns (indices into the staged publishes).
    Committed {
        /// Unroutable mandatory publishes.
        returned: Vec<usize>,
        /// Whether a queue rejected a publish: instead of the answer the channel ends with 406.
        is_partial: bool,
    },
}

/// A message taken by `basic.get`.
#[derive(Clone, Debug)]
pub struct Got {
    /// The queue.
    pub queue: QueueId,
    /// Its place in the queue.
    pub position: Position,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// The kind of the queue, for who counts.
    pub kind: QueueKind,
    /// Quorum counters of a redelivery.
    pub counts: Option<RedeliveryCounts>,
    /// Ready messages that remain.
    pub messages_ready: u32,
    /// The message.
    pub message: SharedMessage,
    /// The channel that asked.
    pub channel: ChannelNumber,
}
