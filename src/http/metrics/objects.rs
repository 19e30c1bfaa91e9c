//! Metrics of queues, exchanges, connections and channels: of each by itself, or summed up.
//!
//! A sum is over the objects that are there, where it is a gauge. Where it counts, it is taken from counters that outlive objects, so that it
//! never falls.

use std::sync::Arc;

use super::families::Family;
use super::text::{Kind, Label, Value, Writer};
use super::{Endpoint, Scrape};
use crate::broker::Vhost;
use crate::broker::snapshots::{ExchangeStatsRow, QueueReport};
use crate::broker::stats::connection::CHANNEL_COLUMNS;
use crate::broker::stats::totals::KindCounts;
use crate::broker::stats::{ChannelGauges, ConnectionStats, Ranges, TotalCounts};
use crate::queue::QueueHandle;

/// A metric of a kind of object.
struct Metric<T> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// `None`: the object has no such value.
    value: fn(&T) -> Option<Value>,
    /// What it is for all objects that there ever were.
    total: Option<fn(&TotalCounts) -> u64>,
}

const fn gauge<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<Value>,
) -> Metric<T> {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
        value,
        total: None,
    }
}

const fn counter<T>(
    name: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<Value>,
    total: fn(&TotalCounts) -> u64,
) -> Metric<T> {
    Metric {
        name,
        kind: Kind::Counter,
        help,
        value,
        total: Some(total),
    }
}

fn whole(value: u64) -> Option<Value> {
    Some(Value::Whole(value))
}

/// A queue.
struct QueueRow {
    handle: QueueHandle,
    report: QueueReport,
}

/// A connection.
struct ConnectionRow {
    name: Arc<str>,
    values: [u64; 4],
    pending: u64,
    channels: u64,
}

/// A channel.
struct ChannelRow {
    name: String,
    gauges: ChannelGauges,
    values: [u64; CHANNEL_COLUMNS],
}

/// What is told of each queue: see [`Family::QueueCoarse`].
const QUEUE_COARSE: [Metric<QueueRow>; 3] = [
    gauge("queue_messages_ready", "Messages ready for delivery", |q| {
        whole(q.report.snapshot.messages_ready)
    }),
    gauge(
        "queue_messages_unacked",
        "Messages delivered and not yet settled",
        |q| whole(q.report.snapshot.messages_unsettled),
    ),
    gauge("queue_messages", "Messages, ready and unsettled", |q| {
        whole(q.report.snapshot.messages_ready + q.report.snapshot.messages_unsettled)
    }),
];

const QUEUE_CONSUMERS: Metric<QueueRow> = gauge("queue_consumers", "Consumers", |q| {
    whole(q.report.consumers)
});

const QUEUE_METRICS: [Metric<QueueRow>; 20] = [
    QUEUE_CONSUMERS,
    gauge(
        "queue_consumer_capacity",
        "Share of time in which consumers could take another message",
        |q| Some(q.report.consumer_capacity.into()),
    ),
    gauge(
        "queue_consumer_utilisation",
        "The same as the capacity",
        |q| Some(q.report.consumer_capacity.into()),
    ),
    gauge(
        "queue_process_memory_bytes",
        "Memory that the queue takes, in bytes",
        |q| whole(q.report.memory),
    ),
    gauge("queue_messages_ram", "Messages in memory", |q| {
        whole(q.report.messages_ram)
    }),
    gauge(
        "queue_messages_ram_bytes",
        "Bytes of the messages in memory",
        |q| whole(q.report.message_bytes_ram),
    ),
    gauge(
        "queue_messages_ready_ram",
        "Ready messages in memory",
        |q| whole(q.report.messages_ready_ram),
    ),
    gauge(
        "queue_messages_unacked_ram",
        "Unsettled messages in memory",
        |q| whole(q.report.messages_unacknowledged_ram),
    ),
    gauge("queue_messages_persistent", "Persistent messages", |q| {
        whole(q.report.messages_persistent)
    }),
    gauge(
        "queue_messages_persistent_bytes",
        "Bytes of the persistent messages",
        |q| whole(q.report.message_bytes_persistent),
    ),
    gauge("queue_messages_bytes", "Bytes of all messages", |q| {
        whole(q.report.message_bytes)
    }),
    gauge(
        "queue_messages_ready_bytes",
        "Bytes of the ready messages",
        |q| whole(q.report.message_bytes_ready),
    ),
    gauge(
        "queue_messages_unacked_bytes",
        "Bytes of the unsettled messages",
        |q| whole(q.report.message_bytes_unacknowledged),
    ),
    gauge(
        "queue_messages_paged_out",
        "Ready messages that are on the disk alone",
        |q| whole(q.report.messages_paged_out),
    ),
    gauge(
        "queue_messages_paged_out_bytes",
        "Bytes of the ready messages that are on the disk alone",
        |q| whole(q.report.message_bytes_paged_out),
    ),
    gauge(
        "queue_messages_dlx",
        "Dead letters that have not arrived yet",
        |q| whole(q.report.messages_dlx),
    ),
    gauge(
        "queue_messages_dlx_bytes",
        "Bytes of the dead letters that have not arrived yet",
        |q| whole(q.report.message_bytes_dlx),
    ),
    gauge(
        "queue_head_message_timestamp",
        "Timestamp of the next message, if it has one",
        |q| q.report.head_message_timestamp.map(Value::Whole),
    ),
    counter(
        "queue_disk_reads_total",
        "Messages read back from the disk",
        |q| whole(q.report.snapshot.counters.log_reads),
        |totals| totals.disk_reads,
    ),
    counter(
        "queue_disk_writes_total",
        "Messages written to the disk",
        |q| whole(q.report.snapshot.counters.log_writes),
        |totals| totals.disk_writes,
    ),
];

fn all(totals: &TotalCounts) -> KindCounts {
    totals.in_all()
}

const QUEUE_DELIVERY: [Metric<QueueRow>; 7] = [
    counter(
        "queue_get_ack_total",
        "Messages fetched with basic.get, to be acknowledged",
        |q| whole(q.report.snapshot.counters.got),
        |totals| all(totals).get,
    ),
    counter(
        "queue_get_total",
        "Messages fetched with basic.get without acknowledgement",
        |q| whole(q.report.snapshot.counters.got_no_ack),
        |totals| all(totals).get_no_ack,
    ),
    counter(
        "queue_messages_delivered_ack_total",
        "Messages delivered to consumers that acknowledge",
        |q| whole(q.report.snapshot.counters.delivered),
        |totals| all(totals).deliver,
    ),
    counter(
        "queue_messages_delivered_total",
        "Messages delivered to consumers that do not acknowledge",
        |q| whole(q.report.snapshot.counters.delivered_no_ack),
        |totals| all(totals).deliver_no_ack,
    ),
    counter(
        "queue_messages_redelivered_total",
        "Messages delivered again",
        |q| whole(q.report.snapshot.counters.redelivered),
        |totals| all(totals).redeliver,
    ),
    counter(
        "queue_messages_acked_total",
        "Messages acknowledged",
        |q| whole(q.report.snapshot.counters.acked),
        |totals| all(totals).ack,
    ),
    counter(
        "queue_get_empty_total",
        "Times that basic.get found nothing",
        |q| whole(q.report.snapshot.counters.get_empty),
        |totals| all(totals).get_empty,
    ),
];

/// Of [`Family::ChannelQueueExchange`], which is not broken down by channel here.
const QUEUE_PUBLISHED: Metric<QueueRow> = counter(
    "queue_messages_published_total",
    "Messages published to queues",
    |q| whole(q.report.snapshot.counters.published),
    |totals| totals.routed,
);

const CONNECTION_COARSE: [Metric<ConnectionRow>; 2] = [
    counter(
        "connection_incoming_bytes_total",
        "Bytes received",
        |c| whole(c.values[0]),
        |totals| totals.received_octets,
    ),
    counter(
        "connection_outgoing_bytes_total",
        "Bytes sent",
        |c| whole(c.values[1]),
        |totals| totals.sent_octets,
    ),
];

const CONNECTION_METRICS: [Metric<ConnectionRow>; 4] = [
    counter(
        "connection_incoming_packets_total",
        "Reads of the socket",
        |c| whole(c.values[2]),
        |totals| totals.receives,
    ),
    counter(
        "connection_outgoing_packets_total",
        "Writes to the socket",
        |c| whole(c.values[3]),
        |totals| totals.sends,
    ),
    gauge(
        "connection_pending_packets",
        "Bytes that wait for the socket",
        |c| whole(c.pending),
    ),
    gauge("connection_channels", "Channels of a connection", |c| {
        whole(c.channels)
    }),
];

const CHANNEL_METRICS: [Metric<ChannelRow>; 7] = [
    gauge("channel_consumers", "Consumers of a channel", |c| {
        whole(c.gauges.consumers.into())
    }),
    gauge(
        "channel_messages_unacked",
        "Messages delivered and not yet settled",
        |c| whole(c.gauges.unsettled),
    ),
    gauge(
        "channel_messages_unconfirmed",
        "Messages published and not yet confirmed",
        |c| whole(c.gauges.unconfirmed),
    ),
    gauge(
        "channel_messages_uncommitted",
        "Messages that wait for tx.commit",
        |c| whole(c.gauges.uncommitted),
    ),
    gauge(
        "channel_acks_uncommitted",
        "Acknowledgements that wait for tx.commit",
        |c| whole(c.gauges.acks_uncommitted),
    ),
    gauge(
        "consumer_prefetch",
        "Limit of unsettled messages for each consumer",
        |c| whole(c.gauges.prefetch.into()),
    ),
    gauge(
        "channel_prefetch",
        "Limit of unsettled messages for all consumers of a channel",
        |c| whole(c.gauges.global_prefetch.into()),
    ),
];

const CHANNEL_EXCHANGE: [Metric<ChannelRow>; 4] = [
    counter(
        "channel_messages_published_total",
        "Messages published on a channel",
        |c| whole(c.values[0]),
        |totals| totals.publish,
    ),
    counter(
        "channel_messages_confirmed_total",
        "Messages confirmed on a channel",
        |c| whole(c.values[1]),
        |totals| totals.confirm,
    ),
    counter(
        "channel_messages_unroutable_returned_total",
        "Messages without a queue that were returned",
        |c| whole(c.values[2]),
        |totals| totals.return_unroutable,
    ),
    counter(
        "channel_messages_unroutable_dropped_total",
        "Messages without a queue that were dropped",
        |c| whole(c.values[3]),
        |totals| totals.drop_unroutable,
    ),
];

const CHANNEL_QUEUE: [Metric<ChannelRow>; 7] = [
    counter(
        "channel_get_ack_total",
        "Messages fetched with basic.get, to be acknowledged",
        |c| whole(c.values[6]),
        |totals| all(totals).get,
    ),
    counter(
        "channel_get_total",
        "Messages fetched with basic.get without acknowledgement",
        |c| whole(c.values[7]),
        |totals| all(totals).get_no_ack,
    ),
    counter(
        "channel_messages_delivered_ack_total",
        "Messages delivered to consumers that acknowledge",
        |c| whole(c.values[4]),
        |totals| all(totals).deliver,
    ),
    counter(
        "channel_messages_delivered_total",
        "Messages delivered to consumers that do not acknowledge",
        |c| whole(c.values[5]),
        |totals| all(totals).deliver_no_ack,
    ),
    counter(
        "channel_messages_redelivered_total",
        "Messages delivered again",
        |c| whole(c.values[9]),
        |totals| all(totals).redeliver,
    ),
    counter(
        "channel_messages_acked_total",
        "Messages acknowledged",
        |c| whole(c.values[10]),
        |totals| all(totals).ack,
    ),
    counter(
        "channel_get_empty_total",
        "Times that basic.get found nothing",
        |c| whole(c.values[8]),
        |totals| all(totals).get_empty,
    ),
];

/// What a scrape has to tell of, read once.
pub(super) struct Objects<'a> {
    scrape: &'a Scrape<'a>,
    totals: TotalCounts,
    queues: Vec<QueueRow>,
    connections: Vec<ConnectionRow>,
    channels: Vec<ChannelRow>,
}

impl Scrape<'_> {
    /// The virtual hosts that are asked for, by name.
    pub(super) fn vhosts(&self) -> Vec<Arc<Vhost>> {
        let mut vhosts = self.broker.vhost_list();
        vhosts.retain(|vhost| self.filter.takes_vhost(&vhost.name));
        vhosts
    }

    /// Reads the objects that the groups need.
    pub(super) fn objects(&self) -> Objects<'_> {
        let asks = |families: &[Family]| families.iter().any(|f| self.families.contains(f));
        let mut objects = Objects {
            scrape: self,
            totals: self.broker.stats().totals.counts(),
            queues: Vec::new(),
            connections: Vec::new(),
            channels: Vec::new(),
        };
        if asks(&[
            Family::QueueCoarse,
            Family::QueueConsumerCount,
            Family::QueueMetrics,
            Family::QueueDelivery,
            Family::QueueExchange,
            Family::QueueInfo,
            Family::ChannelQueueExchange,
        ]) {
            let mut handles = self.broker.queue_handles();
            handles.retain(|queue| self.filter.takes_queue(queue.vhost(), queue.name()));
            handles.sort_unstable_by_key(QueueHandle::id);
            let ranges = Ranges::default();
            let rows = handles.into_iter().filter_map(|handle| {
                let report = self.broker.queue_snapshot(&handle, &ranges)?;
                Some(QueueRow { handle, report })
            });
            objects.queues = rows.collect();
        }
        let asks_channels = asks(&[
            Family::ChannelMetrics,
            Family::ChannelExchange,
            Family::ChannelQueue,
        ]);
        if asks_channels || asks(&[Family::ConnectionCoarse, Family::ConnectionMetrics]) {
            let mut connections = self.broker.connections();
            connections.retain(|connection| {
                let described = connection.described();
                described.is_some_and(|described| self.filter.takes_vhost(&described.vhost))
            });
            objects.connections = connections.iter().map(connection_row).collect();
            if asks_channels {
                objects.channels = connections.iter().flat_map(channel_rows).collect();
            }
        }
        objects
    }

    /// What exchanges counted.
    pub(super) fn write_exchanges(&self, writer: &mut Writer) {
        let name = "exchange_messages_published_total";
        writer.family(name, Kind::Counter, "Messages published to an exchange");
        for ExchangeStatsRow {
            vhost,
            name: exchange,
            stats,
            ..
        } in self.exchange_rows()
        {
            let labels = [("vhost", &*vhost), ("exchange", &*exchange)];
            writer.sample(name, &labels, stats.publish_in.get());
        }
        let name = "exchange_messages_routed_total";
        writer.family(
            name,
            Kind::Counter,
            "Queues to which an exchange sent messages",
        );
        for ExchangeStatsRow {
            vhost,
            name: exchange,
            stats,
            ..
        } in self.exchange_rows()
        {
            let labels = [("vhost", &*vhost), ("exchange", &*exchange)];
            writer.sample(name, &labels, stats.publish_out.get());
        }
    }

    /// Every exchange.
    pub(super) fn write_exchange_names(&self, writer: &mut Writer) {
        writer.set_prefix("rabbitmq_cluster_");
        writer.family("exchange_name", Kind::Gauge, "An exchange");
        for row in self.exchange_rows() {
            let labels = [
                ("vhost", &*row.vhost),
                ("exchange", &*row.name),
                ("type", row.kind),
            ];
            writer.sample("exchange_name", &labels, 1_u64);
        }
        self.end_cluster(writer);
    }

    /// How many bindings start from each exchange.
    pub(super) fn write_exchange_bindings(&self, writer: &mut Writer) {
        writer.set_prefix("rabbitmq_cluster_");
        writer.family(
            "exchange_bindings",
            Kind::Gauge,
            "Bindings from an exchange",
        );
        for row in self.exchange_rows() {
            let labels = [
                ("vhost", &*row.vhost),
                ("exchange", &*row.name),
                ("type", row.kind),
            ];
            writer.sample("exchange_bindings", &labels, row.bindings as u64);
        }
        self.end_cluster(writer);
    }

    fn exchange_rows(&self) -> Vec<ExchangeStatsRow> {
        let vhosts = self.vhosts();
        vhosts
            .iter()
            .flat_map(|vhost| vhost.exchange_stats_rows())
            .collect()
    }
}

fn connection_row(connection: &Arc<ConnectionStats>) -> ConnectionRow {
    ConnectionRow {
        name: Arc::clone(connection.name()),
        values: connection.values(),
        pending: connection.pending_octets(),
        channels: connection.channel_count() as u64,
    }
}

fn channel_rows(connection: &Arc<ConnectionStats>) -> Vec<ChannelRow> {
    let channels = connection.channels().into_iter();
    let rows = channels.map(|channel| ChannelRow {
        name: format!("{} ({})", connection.name(), channel.number()),
        gauges: channel.gauges(),
        values: channel.values(),
    });
    rows.collect()
}

impl Objects<'_> {
    /// Writes a group that is about them.
    pub(super) fn write(&self, family: Family, writer: &mut Writer) {
        match family {
            Family::QueueCoarse => self.write_queues(&QUEUE_COARSE, writer),
            Family::QueueConsumerCount => self.write_queues(&[QUEUE_CONSUMERS], writer),
            Family::QueueMetrics => self.write_queues(&QUEUE_METRICS, writer),
            Family::QueueDelivery => self.write_queues(&QUEUE_DELIVERY, writer),
            Family::QueueExchange | Family::ChannelQueueExchange => {
                self.write_queues(&[QUEUE_PUBLISHED], writer);
            }
            Family::QueueInfo => self.write_queue_info(writer),
            Family::ConnectionCoarse => self.write_connections(&CONNECTION_COARSE, writer),
            Family::ConnectionMetrics => self.write_connections(&CONNECTION_METRICS, writer),
            Family::ChannelMetrics => self.write_channels(&CHANNEL_METRICS, writer),
            Family::ChannelExchange => self.write_channels(&CHANNEL_EXCHANGE, writer),
            Family::ChannelQueue => self.write_channels(&CHANNEL_QUEUE, writer),
            _ => {}
        }
    }

    fn write_queues(&self, metrics: &[Metric<QueueRow>], writer: &mut Writer) {
        self.write_rows(metrics, &self.queues, writer, |row, write| {
            write(&[("vhost", row.handle.vhost()), ("queue", row.handle.name())]);
        });
    }

    fn write_connections(&self, metrics: &[Metric<ConnectionRow>], writer: &mut Writer) {
        self.write_rows(metrics, &self.connections, writer, |row, write| {
            write(&[("connection", &row.name)]);
        });
    }

    fn write_channels(&self, metrics: &[Metric<ChannelRow>], writer: &mut Writer) {
        self.write_rows(metrics, &self.channels, writer, |row, write| {
            write(&[("channel", &row.name)]);
        });
    }

    fn write_queue_info(&self, writer: &mut Writer) {
        writer.family("queue_info", Kind::Gauge, "A queue and its type");
        for row in &self.queues {
            let labels = [
                ("vhost", &**row.handle.vhost()),
                ("queue", &**row.handle.name()),
                ("queue_type", row.handle.kind().module_name()),
                ("membership", "leader"),
            ];
            writer.sample("queue_info", &labels, 1_u64);
        }
    }

    fn write_rows<T>(
        &self,
        metrics: &[Metric<T>],
        rows: &[T],
        writer: &mut Writer,
        labels: impl Fn(&T, &mut dyn FnMut(&[Label<'_>])),
    ) {
        for metric in metrics {
            writer.family(metric.name, metric.kind, metric.help);
            if self.scrape.endpoint == Endpoint::Aggregated {
                self.write_sum(metric, rows, writer);
                continue;
            }
            for row in rows {
                if let Some(value) = (metric.value)(row) {
                    labels(row, &mut |labels| {
                        writer.sample(metric.name, labels, value);
                    });
                }
            }
        }
    }

    fn write_sum<T>(&self, metric: &Metric<T>, rows: &[T], writer: &mut Writer) {
        if let Some(total) = metric.total {
            writer.sample(metric.name, &[], total(&self.totals));
            return;
        }
        let mut whole = 0;
        let mut real = 0.0;
        let mut is_real = false;
        for value in rows.iter().filter_map(metric.value) {
            match value {
                Value::Whole(value) => whole += value,
                Value::Real(value) => {
                    is_real = true;
                    real += value;
                }
            }
        }
        let sum = if is_real {
            Value::Real(real)
        } else {
            Value::Whole(whole)
        };
        writer.sample(metric.name, &[], sum);
    }
}
