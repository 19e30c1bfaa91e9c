//! The groups of metrics that `/metrics/detailed` can be asked for, with RabbitMQ's names.

use super::Scrape;
use super::text::Writer;

/// A group of metrics. The order is that of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    ConnectionChurn,
    NodeCoarse,
    NodeMetrics,
    NodePersister,
    Ra,
    AuthAttempts,
    AuthAttemptsDetailed,
    QueueCoarse,
    QueueConsumerCount,
    QueueMetrics,
    QueueDelivery,
    QueueExchange,
    Exchange,
    ConnectionCoarse,
    ConnectionMetrics,
    ChannelMetrics,
    ChannelExchange,
    ChannelQueue,
    ChannelQueueExchange,
    ChannelProcess,
    StreamConsumers,
    QueueInfo,
    VhostStatus,
    ExchangeNames,
    ExchangeBindings,
}

impl Family {
    /// What is there without being asked for.
    pub(super) const AGGREGATED: [Self; 15] = [
        Self::ConnectionChurn,
        Self::NodeCoarse,
        Self::NodeMetrics,
        Self::NodePersister,
        Self::Ra,
        Self::AuthAttempts,
        Self::QueueCoarse,
        Self::QueueMetrics,
        Self::QueueDelivery,
        Self::ConnectionCoarse,
        Self::ConnectionMetrics,
        Self::ChannelMetrics,
        Self::ChannelExchange,
        Self::ChannelQueue,
        Self::ChannelQueueExchange,
    ];

    /// A group by its name; an unknown one is passed over, as RabbitMQ does.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "connection_churn_metrics" => Self::ConnectionChurn,
            "node_coarse_metrics" => Self::NodeCoarse,
            "node_metrics" => Self::NodeMetrics,
            "node_persister_metrics" => Self::NodePersister,
            "ra_metrics" => Self::Ra,
            "auth_attempt_metrics" => Self::AuthAttempts,
            "auth_attempt_detailed_metrics" => Self::AuthAttemptsDetailed,
            "queue_coarse_metrics" => Self::QueueCoarse,
            "queue_consumer_count" => Self::QueueConsumerCount,
            "queue_metrics" => Self::QueueMetrics,
            "queue_delivery_metrics" => Self::QueueDelivery,
            "queue_exchange_metrics" => Self::QueueExchange,
            "exchange_metrics" => Self::Exchange,
            "connection_coarse_metrics" => Self::ConnectionCoarse,
            "connection_metrics" => Self::ConnectionMetrics,
            "channel_metrics" => Self::ChannelMetrics,
            "channel_exchange_metrics" => Self::ChannelExchange,
            "channel_queue_metrics" => Self::ChannelQueue,
            "channel_queue_exchange_metrics" => Self::ChannelQueueExchange,
            "channel_process_metrics" => Self::ChannelProcess,
            "stream_consumer_metrics" => Self::StreamConsumers,
            "queue_info" => Self::QueueInfo,
            "vhost_status" => Self::VhostStatus,
            "exchange_names" => Self::ExchangeNames,
            "exchange_bindings" => Self::ExchangeBindings,
            _ => return None,
        })
    }
}

impl Scrape<'_> {
    /// Writes the groups that are asked for.
    pub(super) fn write_families(&self, writer: &mut Writer) {
        let objects = self.objects();
        for family in &self.families {
            match family {
                Family::ConnectionChurn => self.write_churn(writer),
                Family::NodeCoarse => self.write_node_coarse(writer),
                Family::NodeMetrics => self.write_node_limits(writer),
                Family::NodePersister => self.write_persister(writer),
                Family::AuthAttempts | Family::AuthAttemptsDetailed => {
                    self.write_auth_attempts(writer);
                }
                Family::VhostStatus => self.write_vhosts(writer),
                Family::ExchangeNames => self.write_exchange_names(writer),
                Family::ExchangeBindings => self.write_exchange_bindings(writer),
                Family::Exchange => self.write_exchanges(writer),
                // No queue of this node is replicated, no stream protocol is served, and no process is counted in reductions.
                Family::Ra | Family::StreamConsumers | Family::ChannelProcess => {}
                objects_of => objects.write(*objects_of, writer),
            }
        }
    }
}
