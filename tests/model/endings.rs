//! The end of a connection with many channels: what each of them held goes back once, whatever the others could still take.

use haremq::protocol::Value;

use crate::support::{Message, Node};

/// Channels of the connection, each with a consumer; more than a quorum queue's deliveries may fail by default.
const CHANNELS: u16 = 30;

#[test]
fn a_lost_connection_counts_as_one_failed_delivery() {
    let node = Node::start();
    let mut publisher = node.client();
    publisher.declare("q", &[("x-queue-type", "quorum".into())]);
    let mut client = node.connect();
    for number in 1..=CHANNELS {
        client.open_channel(number);
        client.consume("q", "c");
    }
    for body in ["a", "b"] {
        publisher.publish("", "q", body);
        assert!(client.receive().is_some());
    }
    client.hang_up();
    assert_eq!(publisher.counts("q"), (2, 0));
    publisher.consume("q", "c");
    let mut bodies = Vec::new();
    while let Some(received) = publisher.receive() {
        let message = Message::of(&received).unwrap();
        assert!(message.redelivered);
        assert_eq!(message.header("x-delivery-count"), Some(&Value::I64(1)));
        bodies.push(message.text().to_owned());
    }
    assert_eq!(bodies, ["a", "b"]);
}

#[test]
fn a_connection_that_closes_takes_nothing_along_that_was_not_sent() {
    let node = Node::start();
    let mut publisher = node.client();
    publisher.declare("q", &[("x-single-active-consumer", Value::Bool(true))]);
    let mut client = node.client();
    client.qos(1, false);
    client.consume("q", "first");
    client.open_channel(2);
    client.consume_no_ack("q", "second");
    for body in ["a", "b"] {
        publisher.publish("", "q", body);
    }
    client.hang_up();
    assert_eq!(publisher.counts("q"), (2, 0));
}
