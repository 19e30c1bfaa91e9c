//! A scrape by Prometheus: names, labels and buckets of RabbitMQ's dashboards, filters, cardinalities.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use haremq::http::metrics::{Names, State, serve};
use haremq::protocol::Value;

use crate::support::Node;

/// What the queries of RabbitMQ-Overview, as of RabbitMQ 4.3, read.
const OVERVIEW: [&str; 40] = [
    "identity_info",
    "build_info",
    "erlang_uptime_seconds",
    "queues",
    "channels",
    "connections",
    "queue_messages_ready",
    "queue_messages_unacked",
    "connections_opened_total",
    "connections_closed_total",
    "channels_opened_total",
    "channels_closed_total",
    "queues_declared_total",
    "queues_created_total",
    "queues_deleted_total",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "resident_memory_limit_bytes",
    "disk_space_available_bytes",
    "disk_space_available_limit_bytes",
    "global_publishers",
    "global_consumers",
    "global_messages_received_total",
    "global_messages_received_confirm_total",
    "global_messages_routed_total",
    "global_messages_confirmed_total",
    "global_messages_unroutable_dropped_total",
    "global_messages_unroutable_returned_total",
    "global_messages_delivered_total",
    "global_messages_delivered_consume_auto_ack_total",
    "global_messages_delivered_consume_manual_ack_total",
    "global_messages_delivered_get_auto_ack_total",
    "global_messages_delivered_get_manual_ack_total",
    "global_messages_get_empty_total",
    "global_messages_redelivered_total",
    "global_messages_acknowledged_total",
    "message_size_bytes_bucket",
    "message_size_bytes_sum",
    "message_size_bytes_count",
];

/// The metrics of a node, served on a port of this machine.
struct Scraped {
    at: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Scraped {
    fn of(node: &Node) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let names = Names {
            node: "haremq@here".to_owned(),
            cluster: "a \"cluster\"".to_owned(),
            version: "4.2.5".to_owned(),
            product: "RabbitMQ".to_owned(),
        };
        let state = State::new(Arc::clone(node.broker()), names);
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let at = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, state));
        Self {
            at,
            _runtime: runtime,
        }
    }

    /// Status, and the text without its headers.
    fn get(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.at).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// The lines that are samples.
    fn scrape(&self, path: &str) -> Vec<String> {
        let (status, text) = self.get(path);
        assert_eq!(status, 200);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }
}

fn series<'l>(lines: &'l [String], name: &str) -> Vec<&'l str> {
    let own = |line: &&String| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    lines.iter().filter(own).map(String::as_str).collect()
}

#[test]
fn the_overview_dashboard_finds_every_metric() {
    let node = Node::start();
    let lines = Scraped::of(&node).scrape("/metrics");
    for name in OVERVIEW {
        let found = series(&lines, &format!("rabbitmq_{name}"));
        assert!(!found.is_empty(), "no rabbitmq_{name}");
    }
}

#[test]
fn each_answer_has_one_identity() {
    let node = Node::start();
    let scraped = Scraped::of(&node);
    for endpoint in ["aggregated", "per-object", "detailed", "memory-breakdown"] {
        let path = match endpoint {
            "aggregated" => "/metrics".to_owned(),
            endpoint => format!("/metrics/{endpoint}"),
        };
        let lines = scraped.scrape(&path);
        let identities = series(&lines, "rabbitmq_identity_info");
        assert_eq!(identities.len(), 1);
        let expected = "{rabbitmq_node=\"haremq@here\",rabbitmq_cluster=\"a \\\"cluster\\\"\"";
        assert!(identities[0].contains(expected), "{}", identities[0]);
        assert!(identities[0].contains(&format!("rabbitmq_endpoint=\"{endpoint}\"")));
        assert_eq!(series(&lines, "rabbitmq_build_info").len(), 1);
    }
}

#[test]
fn messages_are_counted_by_protocol_queue_type_and_size() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-queue-type", Value::from("quorum"))]);
    client.confirm();
    client.publish("", "q", &"x".repeat(100));
    client.expect_ack(1, false);
    client.publish("", "q", &"x".repeat(101));
    client.expect_ack(2, false);
    client.consume("q", "t");
    client.message();
    client.message();
    client.ack(1);
    client.expect_nothing();
    let lines = Scraped::of(&node).scrape("/metrics");
    let has = |line: &str| assert!(lines.iter().any(|l| l == line), "no {line}");
    let protocol = "{protocol=\"amqp091\"}";
    has(&format!(
        "rabbitmq_global_messages_received_total{protocol} 2"
    ));
    has(&format!(
        "rabbitmq_global_messages_received_confirm_total{protocol} 2"
    ));
    has(&format!(
        "rabbitmq_global_messages_routed_total{protocol} 2"
    ));
    has(&format!(
        "rabbitmq_global_messages_confirmed_total{protocol} 2"
    ));
    has(&format!("rabbitmq_global_publishers{protocol} 1"));
    has(&format!("rabbitmq_global_consumers{protocol} 1"));
    for (queue_type, acked, delivered) in [
        ("rabbit_classic_queue", 0, 0),
        ("rabbit_quorum_queue", 1, 2),
        ("rabbit_stream_queue", 0, 0),
    ] {
        let labels = format!("{{protocol=\"amqp091\",queue_type=\"{queue_type}\"}}");
        let name = "rabbitmq_global_messages_acknowledged_total";
        has(&format!("{name}{labels} {acked}"));
        let name = "rabbitmq_global_messages_delivered_consume_manual_ack_total";
        has(&format!("{name}{labels} {delivered}"));
        has(&format!(
            "rabbitmq_global_messages_delivered_total{labels} {delivered}"
        ));
    }
    let buckets = [
        ("100.0", 1),
        ("1000.0", 2),
        ("10000.0", 2),
        ("100000.0", 2),
        ("1e+06", 2),
        ("1e+07", 2),
        ("5e+07", 2),
        ("1e+08", 2),
        ("+Inf", 2),
    ];
    let found = series(&lines, "rabbitmq_message_size_bytes_bucket");
    let expected: Vec<String> = buckets
        .iter()
        .map(|(le, count)| {
            format!(
                "rabbitmq_message_size_bytes_bucket{{protocol=\"amqp091\",le=\"{le}\"}} {count}"
            )
        })
        .collect();
    assert_eq!(found, expected);
    has(&format!("rabbitmq_message_size_bytes_sum{protocol} 201"));
    has("rabbitmq_queue_messages_unacked 1");
    has("rabbitmq_channel_messages_published_total 2");
}

#[test]
fn dead_letters_have_the_label_sets_of_rabbitmq() {
    let node = Node::start();
    let lines = Scraped::of(&node).scrape("/metrics");
    for (reason, sets) in [
        ("maxlen", 4),
        ("expired", 5),
        ("rejected", 5),
        ("delivery_limit", 3),
        ("confirmed", 1),
    ] {
        let name = format!("rabbitmq_global_messages_dead_lettered_{reason}_total");
        assert_eq!(series(&lines, &name).len(), sets, "{name}");
    }
}

#[test]
fn sums_do_not_grow_with_objects_and_the_others_do() {
    let node = Node::start();
    let scraped = Scraped::of(&node);
    let mut client = node.client();
    let before = scraped.scrape("/metrics").len();
    for number in 0..30 {
        client.declare(&format!("q.{number}"), &[]);
    }
    assert_eq!(scraped.scrape("/metrics").len(), before);
    let each = scraped.scrape("/metrics/per-object");
    assert_eq!(series(&each, "rabbitmq_queue_messages").len(), 30);
    assert_eq!(series(&each, "rabbitmq_channel_consumers").len(), 1);
    let mut names: Vec<&str> = each
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a series is there twice");
}

#[test]
fn detailed_tells_of_what_is_asked_for() {
    let node = Node::start();
    let scraped = Scraped::of(&node);
    let mut client = node.client();
    client.declare("orders.1", &[]);
    client.declare("orders.2", &[]);
    client.declare("other", &[]);
    client.publish("", "orders.2", "m");
    let of = |query: &str| scraped.scrape(&format!("/metrics/detailed?{query}"));
    let nothing = of("");
    assert!(series(&nothing, "rabbitmq_detailed_queue_messages").is_empty());
    let coarse = of("family=queue_coarse_metrics&queue=%5Eorders");
    assert_eq!(
        series(&coarse, "rabbitmq_detailed_queue_messages_ready"),
        [
            "rabbitmq_detailed_queue_messages_ready{vhost=\"/\",queue=\"orders.1\"} 0",
            "rabbitmq_detailed_queue_messages_ready{vhost=\"/\",queue=\"orders.2\"} 1",
        ]
    );
    assert!(series(&coarse, "rabbitmq_detailed_queue_consumers").is_empty());
    let elsewhere = of("family=queue_coarse_metrics&vhost=elsewhere");
    assert!(series(&elsewhere, "rabbitmq_detailed_queue_messages").is_empty());
    let both = of("family=queue_consumer_count&family=queue_metrics&vhost=%2F");
    assert_eq!(series(&both, "rabbitmq_detailed_queue_consumers").len(), 3);
    let hosts = of("family=vhost_status&family=exchange_names&family=exchange_bindings");
    assert_eq!(
        series(&hosts, "rabbitmq_cluster_vhost_status"),
        ["rabbitmq_cluster_vhost_status{vhost=\"/\"} 1"]
    );
    assert_eq!(series(&hosts, "rabbitmq_cluster_exchange_name").len(), 7);
    let default = "rabbitmq_cluster_exchange_bindings{vhost=\"/\",exchange=\"\",type=\"direct\"} 3";
    assert!(series(&hosts, "rabbitmq_cluster_exchange_bindings").contains(&default));
}

#[test]
fn wrong_requests_are_refused() {
    let node = Node::start();
    let scraped = Scraped::of(&node);
    assert_eq!(scraped.get("/metrics/nothing").0, 404);
    assert_eq!(scraped.get("/metrics/detailed?queue=a&queue=b").0, 400);
    assert_eq!(scraped.get("/metrics/detailed?queue=(").0, 400);
}
