//! What is there after a restart.

use haremq::protocol::{exchange, queue};

use crate::support::{Node, headers, short};

#[test]
fn durable_exchanges_queues_and_bindings_are_there() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "topic", &[]);
    client.declare_exchange("y", "headers", &[]);
    client.bind("q", "x", "a.*");
    client.bind_with("q", "y", "", &[("k", 1.into())]);
    client.bind_exchange("x", "amq.fanout", "");
    client.close();
    node.restart();
    let mut client = node.client();
    client.publish("x", "a.b", "1");
    client.publish_with("y", "", &headers(&[("k", 1.into())]), "2");
    client.publish("amq.fanout", "a.c", "3");
    client.expect_contents("q", &["1", "2", "3"]);
}

#[test]
fn arguments_are_there_and_compared() {
    let mut node = Node::start();
    let arguments = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish".into()),
    ];
    node.client().declare("q", &arguments);
    node.restart();
    let mut client = node.client();
    client.declare("q", &arguments);
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    client.expect_contents("q", &["a"]);
    client.try_declare("q", &[]);
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': \
                received none but current is the value '1' of type 'signedint'";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn transient_exchanges_and_their_bindings_are_gone() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("fanout"),
        ..exchange::Declare::default()
    });
    client.expect(exchange::DeclareOk);
    client.bind("q", "x", "");
    client.close();
    node.restart();
    let mut client = node.client();
    client.expect_no_exchange("x");
    client.declare_exchange("x", "fanout", &[]);
    client.publish("x", "", "m");
    client.expect_get_empty("q");
}

#[test]
fn transient_queues_are_gone() {
    let mut node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        queue: short("q"),
        ..queue::Declare::default()
    });
    client.expect_declared("q");
    client.close();
    node.restart();
    node.client().expect_no_queue("q");
}

#[test]
fn deleted_and_unbound_things_stay_gone() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare("gone", &[]);
    client.declare_exchange("gone", "fanout", &[]);
    client.bind("q", "amq.direct", "k");
    client.unbind("q", "amq.direct", "k");
    client.delete("gone");
    client.send(exchange::Delete {
        exchange: short("gone"),
        ..exchange::Delete::default()
    });
    client.expect(exchange::DeleteOk);
    client.close();
    node.restart();
    let mut client = node.client();
    client.expect_no_queue("gone");
    client.expect_no_exchange("gone");
    client.publish("amq.direct", "k", "m");
    client.expect_get_empty("q");
}

#[test]
fn quorum_queues_are_there_as_such() {
    let mut node = Node::start();
    node.client()
        .declare("q", &[("x-queue-type", "quorum".into())]);
    node.restart();
    let mut client = node.client();
    client.publish("", "q", "a");
    client.get("q");
    client.reject(1, true);
    let message = client.get("q");
    assert_eq!(
        message
            .header("x-delivery-count")
            .and_then(haremq::protocol::Value::as_i64),
        Some(1)
    );
}

#[test]
fn an_auto_delete_exchange_still_goes_with_its_last_binding() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("fanout"),
        durable: true,
        auto_delete: true,
        ..exchange::Declare::default()
    });
    client.expect(exchange::DeclareOk);
    client.bind("q", "x", "");
    client.close();
    node.restart();
    let mut client = node.client();
    client.expect_exchange("x");
    client.unbind("q", "x", "");
    client.expect_no_exchange("x");
}

#[test]
fn an_expiring_queue_starts_anew() {
    let mut node = Node::start();
    node.client().declare("q", &[("x-expires", 60_000.into())]);
    node.restart();
    assert_eq!(node.broker().queue_count(), 1);
    node.advance(120_000);
    assert_eq!(node.broker().queue_count(), 0);
}
