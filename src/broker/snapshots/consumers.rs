//! Consumers: a queue knows them, and a channel by way of its connection's id.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::stats::ChannelStats;
use crate::model::Name;
use crate::protocol::FieldTable;
use crate::queue::{ConsumerActivity, ConsumerSnapshot, QueueHandle};

/// How long a consumer may keep a delivery where nothing else is said, in milliseconds (`consumer_timeout`).
const TIMEOUT_MS_DEFAULT: u64 = 1_800_000;

/// A consumer.
#[derive(Clone, Debug)]
pub struct ConsumerReport {
    /// Its tag.
    pub consumer_tag: Name,
    /// Its queue.
    pub queue: Name,
    /// The queue's virtual host.
    pub vhost: Name,
    /// Its channel; `None` if that has just gone.
    pub channel: Option<Arc<ChannelStats>>,
    /// Whether it gets messages.
    pub active: bool,
    /// `up`, `single_active` or `waiting`.
    pub activity_status: &'static str,
    /// Whether its deliveries are to be settled.
    pub ack_required: bool,
    /// The only one of its queue.
    pub exclusive: bool,
    /// Deliveries that it may have unsettled; 0 for no limit.
    pub prefetch_count: u32,
    /// Deliveries that it has unsettled.
    pub unsettled: u32,
    /// Its priority.
    pub priority: i64,
    /// How long it may keep a delivery, in milliseconds.
    pub consumer_timeout_ms: u64,
    /// Its arguments.
    pub arguments: FieldTable,
}

impl Broker {
    /// The consumers of a queue, in the order in which they came; none if it is gone.
    pub fn consumers_of(&self, queue: &QueueHandle) -> Vec<ConsumerReport> {
        let timeout_ms = queue.consumer_timeout_ms();
        let consumers = queue.consumers().unwrap_or_default();
        consumers
            .into_iter()
            .map(|consumer| self.consumer_report(queue, consumer, timeout_ms))
            .collect()
    }

    /// The consumers of a channel, whose virtual host is searched for them.
    pub fn consumers_of_channel(&self, channel: &ChannelStats) -> Vec<ConsumerReport> {
        let Some(connection) = channel.connection() else {
            return Vec::new();
        };
        if channel.gauges().consumers == 0 {
            return Vec::new();
        }
        let vhost = connection
            .described()
            .and_then(|described| self.vhost(&described.vhost));
        let Some(vhost) = vhost else {
            return Vec::new();
        };
        let queues: Vec<QueueHandle> = vhost.queues.iter().map(|q| q.value().clone()).collect();
        let mut reports = Vec::new();
        for queue in queues {
            let consumers = queue.consumers().unwrap_or_default();
            let own = consumers.into_iter().filter(|consumer| {
                consumer.connection == connection.id() && consumer.channel == channel.number()
            });
            let timeout_ms = queue.consumer_timeout_ms();
            reports.extend(own.map(|consumer| self.consumer_report(&queue, consumer, timeout_ms)));
        }
        reports
    }

    fn consumer_report(
        &self,
        queue: &QueueHandle,
        consumer: ConsumerSnapshot,
        queue_timeout_ms: Option<u64>,
    ) -> ConsumerReport {
        let connection = self.registry.stats_of(consumer.connection);
        let channel = connection.and_then(|connection| connection.channel(consumer.channel));
        ConsumerReport {
            consumer_tag: consumer.tag,
            queue: Arc::clone(queue.name()),
            vhost: Arc::clone(queue.vhost()),
            channel,
            active: consumer.activity != ConsumerActivity::Waiting,
            activity_status: match consumer.activity {
                ConsumerActivity::Up => "up",
                ConsumerActivity::SingleActive => "single_active",
                ConsumerActivity::Waiting => "waiting",
            },
            ack_required: !consumer.no_ack,
            exclusive: consumer.exclusive,
            prefetch_count: consumer.prefetch,
            unsettled: consumer.unsettled,
            priority: consumer.priority,
            consumer_timeout_ms: consumer
                .timeout_ms
                .or(queue_timeout_ms)
                .unwrap_or(TIMEOUT_MS_DEFAULT),
            arguments: consumer.arguments,
        }
    }
}
