//! The fields that tools cannot do without, and nothing null where a tool would stumble over it.
//!
//! The lists are those of `rabbitmqadmin` 2.35, found by taking one field away at a time.

use std::time::{Duration, Instant};

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer};
use serde_json::{Value, json};

use crate::support::Node;

/// A resource: what must be there, what may be null. A path ends with `[]` where every item of a list is looked at.
const GOLDEN: [(&str, &[&str], &[&str]); 24] = [
    (
        "overview",
        &[
            "rabbitmq_version",
            "management_version",
            "cluster_name",
            "node",
            "message_stats",
            "churn_rates",
            "queue_totals",
            "object_totals",
            "listeners",
            "contexts",
            "statistics_db_event_queue",
            "rates_mode",
            "exchange_types",
            "product_name",
            "product_version",
            "erlang_version",
            "cluster_tags",
            "node_tags",
        ],
        &[],
    ),
    (
        "nodes",
        &[
            "name",
            "being_drained",
            "uptime",
            "run_queue",
            "processors",
            "os_pid",
            "fd_total",
            "fd_used",
            "proc_total",
            "proc_used",
            "sockets_total",
            "sockets_used",
            "mem_limit",
            "mem_used",
            "mem_alarm",
            "disk_free",
            "disk_free_limit",
            "disk_free_alarm",
            "rates_mode",
            "enabled_plugins",
            "applications",
            "type",
            "running",
            "partitions",
            "rabbitmq_version",
            "mem_used_details",
            "db_dir",
            "exchange_types",
            "auth_mechanisms",
            "cluster_links",
        ],
        &[],
    ),
    (
        "vhosts",
        &[
            "name",
            "tags",
            "description",
            "default_queue_type",
            "protected_from_deletion",
            "metadata",
            "tracing",
            "cluster_state",
            "messages",
            "messages_details",
            "recv_oct",
            "send_oct",
            "message_stats",
        ],
        &[],
    ),
    (
        "users",
        &[
            "name",
            "tags",
            "password_hash",
            "hashing_algorithm",
            "limits",
        ],
        &[],
    ),
    (
        "connections",
        &[
            "name",
            "node",
            "protocol",
            "user",
            "connected_at",
            "client_properties",
            "channels",
            "state",
            "host",
            "port",
            "peer_host",
            "peer_port",
            "channel_max",
            "frame_max",
            "timeout",
            "recv_oct",
            "send_oct",
            "recv_oct_details",
            "recv_cnt",
            "send_cnt",
            "send_pend",
            "vhost",
            "ssl",
            "type",
            "auth_mechanism",
        ],
        &[],
    ),
    (
        "channels",
        &[
            "number",
            "name",
            "vhost",
            "state",
            "consumer_count",
            "confirm",
            "prefetch_count",
            "messages_unacknowledged",
            "messages_unconfirmed",
            "messages_uncommitted",
            "acks_uncommitted",
            "connection_details",
            "transactional",
            "user",
            "node",
            "global_prefetch_count",
            "message_stats",
        ],
        &[],
    ),
    (
        "consumers",
        &[
            "consumer_tag",
            "active",
            "activity_status",
            "ack_required",
            "prefetch_count",
            "exclusive",
            "arguments",
            "consumer_timeout",
            "queue",
            "channel_details",
        ],
        &[],
    ),
    (
        "exchanges",
        &[
            "name",
            "vhost",
            "type",
            "durable",
            "auto_delete",
            "internal",
            "arguments",
        ],
        &[],
    ),
    (
        "queues",
        &[
            "name",
            "vhost",
            "type",
            "durable",
            "auto_delete",
            "exclusive",
            "arguments",
            "node",
            "state",
            "memory",
            "consumers",
            "consumer_utilisation",
            "consumer_capacity",
            "messages",
            "messages_ready",
            "messages_unacknowledged",
            "messages_details",
            "messages_ready_details",
            "messages_persistent",
            "messages_ram",
            "message_bytes",
            "message_bytes_persistent",
            "message_bytes_ram",
            "message_bytes_ready",
            "message_bytes_unacknowledged",
            "effective_policy_definition",
            "message_stats",
        ],
        &["policy", "operator_policy", "exclusive_consumer_tag"],
    ),
    (
        "queues/detailed",
        &["garbage_collection", "name", "messages"],
        &["policy", "operator_policy", "exclusive_consumer_tag"],
    ),
    (
        "bindings",
        &[
            "source",
            "vhost",
            "destination",
            "destination_type",
            "routing_key",
            "arguments",
            "properties_key",
        ],
        &[],
    ),
    (
        "permissions",
        &["user", "vhost", "configure", "write", "read"],
        &[],
    ),
    (
        "topic-permissions",
        &["user", "vhost", "exchange", "write", "read"],
        &[],
    ),
    (
        "policies",
        &[
            "vhost",
            "name",
            "pattern",
            "apply-to",
            "definition",
            "priority",
        ],
        &[],
    ),
    (
        "operator-policies",
        &[
            "vhost",
            "name",
            "pattern",
            "apply-to",
            "definition",
            "priority",
        ],
        &[],
    ),
    ("parameters", &["vhost", "component", "name", "value"], &[]),
    ("global-parameters", &["name", "value"], &[]),
    ("vhost-limits", &["vhost", "value"], &[]),
    ("user-limits", &["user", "value"], &[]),
    (
        "feature-flags",
        &[
            "name",
            "desc",
            "doc_url",
            "state",
            "stability",
            "provided_by",
        ],
        &[],
    ),
    (
        "connections/username/guest",
        &["name", "node", "user", "vhost"],
        &[],
    ),
    (
        "auth/attempts/haremq@test",
        &[
            "protocol",
            "auth_attempts",
            "auth_attempts_failed",
            "auth_attempts_succeeded",
        ],
        &[],
    ),
    ("nodes/haremq@test/memory", &["memory"], &[]),
    (
        "queues/%2F/q",
        &[
            "consumer_details",
            "deliveries",
            "incoming",
            "garbage_collection",
            "messages",
        ],
        &["policy", "operator_policy", "exclusive_consumer_tag"],
    ),
];

/// A node with one of everything.
struct Busy {
    node: Node,
    _connection: Connection,
    _channel: Channel,
    /// One that is dropped is cancelled.
    _consumer: Consumer,
}

/// With a consumer that has received a message.
fn busy() -> Busy {
    let node = Node::start();
    let guest = node.guest();
    let policy = json!({"pattern": "^none", "definition": {"max-length": 1}});
    let topic = json!({"exchange": "x", "write": "", "read": ""});
    for (path, body) in [
        ("topic-permissions/%2F/guest", topic),
        ("policies/%2F/p", policy.clone()),
        ("operator-policies/%2F/o", policy),
        ("vhost-limits/%2F/max-queues", json!({"value": 100})),
        ("user-limits/guest/max-channels", json!({"value": 100})),
    ] {
        guest.put(&format!("/api/{path}"), body).expect(201);
    }
    let connection = node.connect("guest");
    let (channel, consumer) = node.block_on(async {
        let channel = connection.create_channel().await.unwrap();
        let durable = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let nothing = FieldTable::default;
        let declared = channel.queue_declare("q".into(), durable, nothing());
        declared.await.unwrap();
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume("q".into(), "c".into(), options, nothing());
        let consumer = consuming.await.unwrap();
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let published = channel.basic_publish("".into(), "q".into(), options, b"x", properties);
        published.await.unwrap();
        (channel, consumer)
    });
    let began = Instant::now();
    while guest.get("/api/channels").json()[0]["messages_unacknowledged"] != 1 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    node.sample();
    Busy {
        node,
        _connection: connection,
        _channel: channel,
        _consumer: consumer,
    }
}

fn nulls(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(path.to_owned()),
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| nulls(value, &format!("{path}.{name}"), found)),
        Value::Array(values) => values.iter().for_each(|value| nulls(value, path, found)),
        _ => {}
    }
}

#[test]
fn tools_find_what_they_need() {
    let busy = busy();
    let guest = busy.node.guest();
    for (path, required, nullable) in GOLDEN {
        let body = guest.get(&format!("/api/{path}")).expect(200).json();
        let items = match &body {
            Value::Array(items) => items.clone(),
            other => vec![other.clone()],
        };
        assert!(!items.is_empty(), "{path}");
        for item in &items {
            for name in required {
                // An exchange or a virtual host without traffic has no such key.
                assert!(
                    item.get(name).is_some(),
                    "{path}: {name} is missing in {item}"
                );
            }
            let mut found = Vec::new();
            nulls(item, "", &mut found);
            found.retain(|path| !nullable.contains(&path.trim_start_matches('.')));
            assert_eq!(found, [] as [&str; 0], "{path}");
        }
    }
}

#[test]
fn numbers_have_the_types_and_widths_of_the_clients() {
    let busy = busy();
    let guest = busy.node.guest();
    let nodes = guest.get("/api/nodes").json();
    let shown = &nodes[0];
    assert_eq!(shown["being_drained"], false);
    assert_eq!(
        shown["os_pid"].as_str().unwrap().parse::<u32>().unwrap(),
        std::process::id()
    );
    for name in [
        "fd_total",
        "proc_total",
        "run_queue",
        "uptime",
        "processors",
    ] {
        assert!(
            u32::try_from(shown[name].as_u64().unwrap()).is_ok(),
            "{name}"
        );
    }
    for name in [
        "fd_total",
        "mem_limit",
        "proc_total",
        "sockets_total",
        "disk_free_limit",
    ] {
        assert_ne!(shown[name], 0, "monitors divide by {name}");
    }
    let queue = guest.get("/api/queues/%2F/q").json();
    for name in [
        "messages",
        "messages_ready",
        "memory",
        "message_bytes",
        "consumers",
    ] {
        assert!(queue[name].is_u64(), "{name}");
    }
    for path in [
        "/messages_details/rate",
        "/message_stats/publish_details/rate",
        "/consumer_utilisation",
    ] {
        assert!(queue.pointer(path).is_some_and(Value::is_f64), "{path}");
    }
    assert_eq!(queue["message_stats"]["publish"], 1);
    assert_eq!(queue["message_stats"]["deliver_get"], 1);
    let memory = guest.get("/api/nodes/haremq@test/memory").json();
    let memory = memory["memory"].as_object().unwrap();
    assert_eq!(memory.len(), 27);
    assert!(memory["total"]["rss"].is_u64());
    let channel = &guest.get("/api/channels").json()[0];
    assert_eq!(channel["messages_unacknowledged"], 1);
    assert_eq!(channel["message_stats"]["deliver"], 1);
}

#[test]
fn samples_come_when_they_are_asked_for() {
    let busy = busy();
    let guest = busy.node.guest();
    let queue = guest
        .get("/api/queues/%2F/q?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5")
        .json();
    for path in [
        "/messages_details/samples",
        "/message_stats/publish_details/samples",
    ] {
        assert!(
            queue.pointer(path).is_some_and(Value::is_array),
            "{path}: {queue}"
        );
    }
    let plain = guest.get("/api/queues/%2F/q").json();
    assert_eq!(plain.pointer("/messages_details/samples"), None);
    for path in [
        "overview",
        "nodes",
        "queues",
        "queues/%2F/q",
        "exchanges",
        "vhosts",
        "connections",
        "channels",
    ] {
        guest
            .get(&format!("/api/{path}?msg_rates_age=60&msg_rates_incr=0"))
            .expect_error(
                400,
                "bad_request",
                "Invalid range parameters: age 60, incr 0",
            );
    }
}

#[test]
fn a_page_is_compressed_for_whoever_asks() {
    let busy = busy();
    let node = &busy.node;
    let zipped = node
        .guest()
        .with("accept-encoding", "gzip")
        .get("/api/overview")
        .expect(200);
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert_eq!(zipped.body[..2], [0x1f, 0x8b]);
    assert_eq!(
        zipped.header("content-length"),
        zipped.body.len().to_string()
    );
    let plain = node.guest().get("/api/overview").expect(200);
    assert!(zipped.body.len() < plain.body.len() / 2);
}

#[test]
fn metrics_are_served_beside_the_api() {
    let node = Node::start();
    let text = node.nobody().get("/metrics").expect(200).text();
    assert!(text.contains("rabbitmq_identity_info"), "{text}");
}
