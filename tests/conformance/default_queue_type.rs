//! The type of queues that name none.

use haremq::protocol::{Method, queue};

use crate::support::{Node, short};

const QUORUM: &str = r#"{
    "vhosts": [{"name": "q", "default_queue_type": "quorum"}],
    "permissions": [
        {"user": "guest", "vhost": "q", "configure": ".*", "write": ".*", "read": ".*"}
    ]
}"#;

#[test]
fn a_vhost_has_its_own_default() {
    let node = Node::start_with_definitions(QUORUM);
    let mut client = node.client_as("guest", "guest", "q");
    client.declare("a", &[]);
    client.declare("a", &[("x-queue-type", "quorum".into())]);
    client.try_declare("a", &[("x-queue-type", "classic".into())]);
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'a' in vhost 'q': \
                received 'classic' but current is 'quorum'";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn a_named_type_beats_the_default() {
    let node = Node::start_with_definitions(QUORUM);
    let mut client = node.client_as("guest", "guest", "q");
    client.declare("a", &[("x-queue-type", "classic".into())]);
    client.declare(
        "b",
        &[
            ("x-queue-type", "classic".into()),
            ("x-max-priority", 5.into()),
        ],
    );
}

#[test]
fn an_exclusive_or_server_named_queue_stays_classic() {
    let node = Node::start_with_definitions(QUORUM);
    let mut client = node.client_as("guest", "guest", "q");
    client.send(queue::Declare {
        exclusive: true,
        ..queue::Declare::default()
    });
    assert!(matches!(client.next().method(), Method::QueueDeclareOk(_)));
    client.send(queue::Declare {
        queue: short("auto"),
        durable: true,
        auto_delete: true,
        ..queue::Declare::default()
    });
    client.expect_declared("auto");
}

#[test]
fn the_node_has_a_default() {
    let node = Node::start_with(|settings| {
        settings.queue.default_type = haremq::config::DefaultQueueType::Quorum;
    });
    let mut client = node.client();
    client.declare("a", &[]);
    client.declare("a", &[("x-queue-type", "quorum".into())]);
}
