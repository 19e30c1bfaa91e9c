//! Time to live of messages and queues.

use haremq::protocol::{Properties, basic};

use crate::support::{Node, short};

fn expiring(ms: u64) -> Properties {
    Properties {
        expiration: Some(ms.to_string().into()),
        ..Properties::default()
    }
}

#[test]
fn a_message_expires_after_the_queues_ttl() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 100.into())]);
    client.publish("", "q", "a");
    node.advance(60);
    client.publish("", "q", "b");
    node.advance(39);
    assert_eq!(client.counts("q"), (2, 0));
    node.advance(1);
    client.expect_contents("q", &["b"]);
}

#[test]
fn a_message_expires_after_its_own_expiration() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &expiring(100), "a");
    node.advance(99);
    assert_eq!(client.counts("q"), (1, 0));
    node.advance(1);
    client.expect_get_empty("q");
}

#[test]
fn the_smaller_of_both_counts() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 100.into())]);
    client.publish_with("", "q", &expiring(50), "a");
    node.advance(50);
    client.expect_get_empty("q");
    client.publish_with("", "q", &expiring(500), "b");
    node.advance(100);
    client.expect_get_empty("q");
}

#[test]
fn a_ttl_of_0_is_delivered_at_once_or_never() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 0.into())]);
    client.publish("", "q", "nobody");
    client.expect_get_empty("q");
    client.consume("q", "c");
    client.publish("", "q", "somebody");
    client.expect_deliveries(&["somebody"]);
}

#[test]
fn an_expiration_of_0_is_delivered_at_once_or_never() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &expiring(0), "nobody");
    client.expect_get_empty("q");
    client.consume("q", "c");
    client.publish_with("", "q", &expiring(0), "somebody");
    client.expect_deliveries(&["somebody"]);
}

#[test]
fn an_expired_message_behind_one_that_lives_stays_and_counts() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &expiring(10_000), "long");
    client.publish_with("", "q", &expiring(10), "short");
    node.advance(1_000);
    assert_eq!(client.counts("q"), (2, 0));
    client.expect_contents("q", &["long"]);
}

#[test]
fn a_requeued_message_keeps_its_deadline() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 100.into())]);
    client.publish("", "q", "a");
    client.get("q");
    node.advance(60);
    client.nack(1, true);
    node.advance(39);
    assert_eq!(client.counts("q"), (1, 0));
    node.advance(1);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn a_message_requeued_after_its_deadline_is_gone() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 100.into())]);
    client.publish("", "q", "a");
    client.get("q");
    node.advance(200);
    client.nack(1, true);
    client.expect_get_empty("q");
}

#[test]
fn an_unsettled_message_does_not_expire() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-message-ttl", 100.into())]);
    client.publish("", "q", "a");
    client.get("q");
    node.advance(200);
    client.ack(1);
    client.expect_nothing();
}

#[test]
fn the_expiration_property_is_delivered_as_it_was() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &expiring(5000), "a");
    assert_eq!(client.get_properties("q").expiration, Some("5000".into()));
}

#[test]
fn an_unused_queue_expires() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-expires", 1000.into())]);
    client.publish("", "q", "a");
    node.advance(1000);
    client.expect_no_queue("q");
}

#[test]
fn publishing_is_no_use() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-expires", 1000.into())]);
    node.advance(900);
    client.publish("", "q", "a");
    node.advance(100);
    client.expect_no_queue("q");
}

#[test]
fn a_get_is_a_use() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-expires", 1000.into())]);
    node.advance(900);
    client.expect_get_empty("q");
    node.advance(900);
    client.expect_get_empty("q");
    node.advance(1000);
    client.expect_no_queue("q");
}

#[test]
fn a_redeclare_is_a_use() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-expires", 1000.into())]);
    node.advance(900);
    client.declare("q", &[("x-expires", 1000.into())]);
    node.advance(999);
    client.declare("q", &[("x-expires", 1000.into())]);
    node.advance(1000);
    client.expect_no_queue("q");
}

#[test]
fn a_queue_with_a_consumer_does_not_expire_and_starts_anew_without() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-expires", 1000.into())]);
    client.consume("q", "c");
    node.advance(5000);
    client.cancel("c");
    node.advance(999);
    let mut other = node.client();
    other.send(basic::Cancel {
        consumer_tag: short("nobody"),
        no_wait: true,
    });
    assert_eq!(node.broker().queue_count(), 1);
    node.advance(1);
    assert_eq!(node.broker().queue_count(), 0);
}

#[test]
fn messages_of_an_expired_queue_are_not_dead_lettered() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("dead", &[]);
    client.declare(
        "q",
        &[
            ("x-expires", 1000.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "dead".into()),
        ],
    );
    client.publish("", "q", "a");
    node.advance(1000);
    client.expect_no_queue("q");
    client.expect_get_empty("dead");
}
