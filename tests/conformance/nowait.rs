//! Methods with no-wait: done without an answer, errors told all the same.

use haremq::protocol::{basic, exchange, queue};

use crate::support::{Node, short};

#[test]
fn bind_and_exchange_bind() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.send(queue::Bind {
        queue: short("q"),
        exchange: short("x"),
        no_wait: true,
        ..queue::Bind::default()
    });
    client.send(exchange::Bind {
        destination: short("x"),
        source: short("amq.fanout"),
        no_wait: true,
        ..exchange::Bind::default()
    });
    client.expect_nothing();
    client.publish("amq.fanout", "", "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn exchange_unbind() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.bind("q", "x", "");
    client.bind_exchange("x", "amq.fanout", "");
    client.send(exchange::Unbind {
        destination: short("x"),
        source: short("amq.fanout"),
        no_wait: true,
        ..exchange::Unbind::default()
    });
    client.expect_nothing();
    client.publish("amq.fanout", "", "m");
    client.expect_get_empty("q");
}

#[test]
fn purge() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    client.send(queue::Purge {
        queue: short("q"),
        no_wait: true,
    });
    client.expect_nothing();
    client.expect_get_empty("q");
}

#[test]
fn queue_delete_and_exchange_delete() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.send(queue::Delete {
        queue: short("q"),
        no_wait: true,
        ..queue::Delete::default()
    });
    client.send(exchange::Delete {
        exchange: short("x"),
        no_wait: true,
        ..exchange::Delete::default()
    });
    client.expect_nothing();
    client.expect_no_queue("q");
    client.expect_no_exchange("x");
}

#[test]
fn cancel() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.send(basic::Cancel {
        consumer_tag: short("c"),
        no_wait: true,
    });
    client.expect_nothing();
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn errors_are_told() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Purge {
        queue: short("nowhere"),
        no_wait: true,
    });
    let text = "NOT_FOUND - no queue 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (50, 30));
}
