//! The harness itself: that a message goes through it, that time passes, that a node comes back.

use crate::support::Node;

#[test]
fn a_message_goes_from_one_client_to_another() {
    let node = Node::start();
    let mut publisher = node.client();
    let mut consumer = node.client();
    publisher.declare("q", &[]);
    consumer.consume("q", "c");
    publisher.publish("", "q", "hello");
    let message = consumer.expect_delivery("hello");
    assert_eq!(
        (message.exchange.as_str(), message.routing_key.as_str()),
        ("", "q")
    );
    assert_eq!(
        (message.consumer_tag.as_str(), message.delivery_tag),
        ("c", 1)
    );
    consumer.expect_nothing();
}

#[test]
fn time_passes_when_told_to() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 1000.into())]);
    client.publish("", "q", "late");
    node.advance(999);
    assert_eq!(client.counts("q"), (1, 0));
    node.advance(1);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn a_node_comes_back_on_its_folder() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.close();
    node.restart();
    assert_eq!(node.client().counts("q"), (0, 0));
}
