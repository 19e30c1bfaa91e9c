//! What is counted for the node as a whole: by protocol, by kind of queue, by size; who it is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::text::{Kind, Value, Writer};
use super::{Endpoint, Scrape};
use crate::broker::stats::totals::KindCounts;
use crate::broker::stats::{SIZE_BUCKETS, TotalCounts};
use crate::model::{DeathReason, QueueKind};
use crate::queue::DeathStrategy;

/// The protocol that is served.
const PROTOCOL: &str = "amqp091";

/// Ends of the buckets of message sizes, to the letter of RabbitMQ's dashboards.
const BUCKET_LABELS: [&str; SIZE_BUCKETS.len()] = [
    "100.0", "1000.0", "10000.0", "100000.0", "1e+06", "1e+07", "5e+07", "1e+08",
];

/// Kinds of queue by their labels. Panels add series up, so that all of them must be there.
const QUEUE_TYPES: [(&str, Option<QueueKind>); 3] = [
    ("rabbit_classic_queue", Some(QueueKind::Classic)),
    ("rabbit_quorum_queue", Some(QueueKind::Quorum)),
    ("rabbit_stream_queue", None),
];

type Received = (&'static str, &'static str, fn(&TotalCounts) -> u64);

const RECEIVED: [Received; 6] = [
    (
        "global_messages_received_total",
        "Messages received from publishers",
        |counts| counts.publish,
    ),
    (
        "global_messages_received_confirm_total",
        "Messages received from publishers that want confirms",
        |counts| counts.publish_confirm,
    ),
    (
        "global_messages_routed_total",
        "Messages routed to queues, each counted in each queue",
        |counts| counts.routed,
    ),
    (
        "global_messages_confirmed_total",
        "Messages confirmed to publishers",
        |counts| counts.confirm,
    ),
    (
        "global_messages_unroutable_dropped_total",
        "Messages without a queue that were dropped",
        |counts| counts.drop_unroutable,
    ),
    (
        "global_messages_unroutable_returned_total",
        "Messages without a queue that were returned",
        |counts| counts.return_unroutable,
    ),
];

type Delivered = (&'static str, &'static str, fn(&KindCounts) -> u64);

const DELIVERED: [Delivered; 8] = [
    (
        "global_messages_delivered_total",
        "Messages delivered to clients",
        |kind| kind.deliver + kind.deliver_no_ack + kind.get + kind.get_no_ack,
    ),
    (
        "global_messages_delivered_consume_manual_ack_total",
        "Messages delivered to consumers that acknowledge",
        |kind| kind.deliver,
    ),
    (
        "global_messages_delivered_consume_auto_ack_total",
        "Messages delivered to consumers that do not acknowledge",
        |kind| kind.deliver_no_ack,
    ),
    (
        "global_messages_delivered_get_manual_ack_total",
        "Messages fetched with basic.get, to be acknowledged",
        |kind| kind.get,
    ),
    (
        "global_messages_delivered_get_auto_ack_total",
        "Messages fetched with basic.get without acknowledgement",
        |kind| kind.get_no_ack,
    ),
    (
        "global_messages_get_empty_total",
        "Times that basic.get found nothing",
        |kind| kind.get_empty,
    ),
    (
        "global_messages_redelivered_total",
        "Messages delivered again",
        |kind| kind.redeliver,
    ),
    (
        "global_messages_acknowledged_total",
        "Messages acknowledged by clients",
        |kind| kind.ack,
    ),
];

const ONCE: [DeathStrategy; 2] = [DeathStrategy::Disabled, DeathStrategy::AtMostOnce];
const ALL: [DeathStrategy; 3] = DeathStrategy::ALL;

/// Which strategies each kind of queue has for each reason, as RabbitMQ seeds its counters.
fn strategies(kind: QueueKind, reason: DeathReason) -> &'static [DeathStrategy] {
    match (kind, reason) {
        (QueueKind::Classic, DeathReason::DeliveryLimit) => &[],
        // A queue that keeps its dead letters rejects publishes when it is full.
        (QueueKind::Classic, _) | (QueueKind::Quorum, DeathReason::MaxLen) => &ONCE,
        (QueueKind::Quorum, _) => &ALL,
    }
}

fn label_of(kind: QueueKind) -> &'static str {
    let mut types = QUEUE_TYPES.iter();
    let found = types.find(|(_, known)| *known == Some(kind));
    found.map_or("", |(label, _)| label)
}

impl Scrape<'_> {
    /// Who is scraped: exactly one series each, on which dashboards join.
    pub(super) fn write_identity(&self, writer: &mut Writer) {
        let names = self.names;
        writer.family(
            "build_info",
            Kind::Untyped,
            "The versions that this node announces",
        );
        let runtime = concat!("haremq-", env!("CARGO_PKG_VERSION"));
        writer.sample(
            "build_info",
            &[
                ("rabbitmq_version", &names.version),
                ("prometheus_plugin_version", &names.version),
                ("prometheus_client_version", env!("CARGO_PKG_VERSION")),
                ("erlang_version", runtime),
                ("product_version", &names.version),
                ("product_name", &names.product),
            ],
            1_u64,
        );
        writer.family(
            "identity_info",
            Kind::Untyped,
            "The names of node and cluster",
        );
        let digest = Sha256::digest(names.cluster.as_bytes());
        let permanent_id = format!(
            "rabbitmq-cluster-id-{}",
            URL_SAFE_NO_PAD.encode(&digest[..16])
        );
        writer.sample(
            "identity_info",
            &[
                ("rabbitmq_node", &names.node),
                ("rabbitmq_cluster", &names.cluster),
                ("rabbitmq_cluster_permanent_id", &permanent_id),
                ("rabbitmq_endpoint", self.endpoint.as_str()),
            ],
            1_u64,
        );
    }

    /// Counters by protocol and kind of queue, sizes, dead letters, numbers of objects.
    pub(super) fn write_global(&self, writer: &mut Writer) {
        let stats = self.broker.stats();
        let counts = stats.totals.counts();
        let objects = self.broker.object_totals();
        for (name, help, value) in [
            (
                "connections",
                "Open connections",
                objects.connections as u64,
            ),
            ("channels", "Open channels", objects.channels as u64),
            ("consumers", "Consumers", objects.consumers),
            ("queues", "Queues", objects.queues as u64),
        ] {
            writer.single(name, Kind::Gauge, help, value);
        }
        let protocol = ("protocol", PROTOCOL);
        for (name, help, value) in [
            (
                "global_publishers",
                "Channels that have published and are open",
                stats.totals.publishers.get(),
            ),
            ("global_consumers", "Consumers", objects.consumers),
        ] {
            writer.family(name, Kind::Gauge, help);
            writer.sample(name, &[protocol], value);
        }
        for (name, help, value) in RECEIVED {
            writer.family(name, Kind::Counter, help);
            writer.sample(name, &[protocol], value(&counts));
        }
        for (name, help, value) in DELIVERED {
            writer.family(name, Kind::Counter, help);
            for (label, kind) in QUEUE_TYPES {
                let found = kind.map(|kind| counts.kinds[kind.index()]);
                let value = found.map_or(0, |counts| value(&counts));
                writer.sample(name, &[protocol, ("queue_type", label)], value);
            }
        }
        self.write_deaths(writer);
        self.write_sizes(&counts, writer);
    }

    fn write_deaths(&self, writer: &mut Writer) {
        let deaths = &self.broker.stats().deaths;
        for reason in DeathReason::ALL {
            let name = format!("global_messages_dead_lettered_{reason}_total");
            let help = format!("Messages that left a queue with the reason {reason}");
            writer.family(&name, Kind::Counter, &help);
            for kind in QueueKind::ALL {
                for strategy in strategies(kind, reason) {
                    let labels = [
                        ("queue_type", label_of(kind)),
                        ("dead_letter_strategy", strategy.as_str()),
                    ];
                    writer.sample(&name, &labels, deaths.count(kind, *strategy, reason));
                }
            }
        }
        let name = "global_messages_dead_lettered_confirmed_total";
        writer.family(
            name,
            Kind::Counter,
            "Dead letters that have arrived for sure",
        );
        let labels = [
            ("queue_type", label_of(QueueKind::Quorum)),
            ("dead_letter_strategy", DeathStrategy::AtLeastOnce.as_str()),
        ];
        writer.sample(name, &labels, deaths.confirmed.get());
    }

    fn write_sizes(&self, counts: &TotalCounts, writer: &mut Writer) {
        writer.family(
            "message_size_bytes",
            Kind::Histogram,
            "Bytes of the bodies of messages received from publishers",
        );
        let protocol = ("protocol", PROTOCOL);
        let mut below = 0;
        for (count, label) in counts.sizes.iter().zip(BUCKET_LABELS) {
            below += count;
            let labels = [protocol, ("le", label)];
            writer.sample("message_size_bytes_bucket", &labels, below);
        }
        let all: u64 = counts.sizes.iter().sum();
        let labels = [protocol, ("le", "+Inf")];
        writer.sample("message_size_bytes_bucket", &labels, all);
        writer.sample("message_size_bytes_sum", &[protocol], counts.size_bytes);
        writer.sample("message_size_bytes_count", &[protocol], all);
    }

    /// What came and went.
    pub(super) fn write_churn(&self, writer: &mut Writer) {
        let churn = &self.broker.stats().churn;
        for (name, help, counter) in [
            (
                "connections_opened_total",
                "Connections opened",
                &churn.connections_created,
            ),
            (
                "connections_closed_total",
                "Connections closed or lost",
                &churn.connections_closed,
            ),
            (
                "channels_opened_total",
                "Channels opened",
                &churn.channels_created,
            ),
            (
                "channels_closed_total",
                "Channels closed",
                &churn.channels_closed,
            ),
            (
                "queues_declared_total",
                "Declares of queues",
                &churn.queues_declared,
            ),
            (
                "queues_created_total",
                "Queues created",
                &churn.queues_created,
            ),
            (
                "queues_deleted_total",
                "Queues deleted",
                &churn.queues_deleted,
            ),
        ] {
            writer.single(name, Kind::Counter, help, counter.get());
        }
    }

    /// Logins by protocol.
    pub(super) fn write_auth_attempts(&self, writer: &mut Writer) {
        let attempts = self.broker.auth_attempts();
        type Column = (&'static str, &'static str, fn(u64, u64) -> u64);
        let columns: [Column; 3] = [
            (
                "auth_attempts_total",
                "Logins, whatever came of them",
                |succeeded, failed| succeeded + failed,
            ),
            (
                "auth_attempts_succeeded_total",
                "Logins that were let in",
                |succeeded, _| succeeded,
            ),
            (
                "auth_attempts_failed_total",
                "Logins that were refused",
                |_, failed| failed,
            ),
        ];
        for (name, help, value) in columns {
            writer.family(name, Kind::Counter, help);
            for row in &attempts {
                let labels = [("protocol", row.protocol.as_str())];
                writer.sample(name, &labels, value(row.succeeded, row.failed));
            }
        }
    }

    /// Every virtual host, with 1 for a running one.
    pub(super) fn write_vhosts(&self, writer: &mut Writer) {
        writer.set_prefix("rabbitmq_cluster_");
        writer.family("vhost_status", Kind::Gauge, "Whether a virtual host runs");
        for vhost in self.vhosts() {
            writer.sample("vhost_status", &[("vhost", &vhost.name)], 1_u64);
        }
        self.end_cluster(writer);
    }

    /// Ends metrics of the cluster.
    pub(super) fn end_cluster(&self, writer: &mut Writer) {
        writer.set_prefix(match self.endpoint {
            Endpoint::Detailed => "rabbitmq_detailed_",
            _ => "rabbitmq_",
        });
    }

    /// A value as text is only made where it is shown.
    pub(super) fn gauge(writer: &mut Writer, name: &str, help: &str, value: impl Into<Value>) {
        writer.single(name, Kind::Gauge, help, value);
    }
}
