//! Limits of length, overflow, and priorities.

use haremq::protocol::{Properties, Value};

use crate::support::{Client, Node};

fn limited(node: &Node, limit: &[(&str, Value)], bodies: &[&str]) -> Client {
    let mut client = node.client();
    client.declare("q", limit);
    for body in bodies {
        client.publish("", "q", body);
    }
    client
}

fn with_priority(priority: u8) -> Properties {
    Properties {
        priority: Some(priority),
        ..Properties::default()
    }
}

#[test]
fn drop_head_is_the_default_and_drops_the_oldest() {
    let node = Node::start();
    let mut client = limited(&node, &[("x-max-length", 2.into())], &["a", "b", "c"]);
    client.expect_contents("q", &["b", "c"]);
}

#[test]
fn a_length_of_0_keeps_nothing_but_delivers() {
    let node = Node::start();
    let mut client = limited(&node, &[("x-max-length", 0.into())], &["a"]);
    client.expect_get_empty("q");
    client.consume("q", "c");
    client.publish("", "q", "b");
    client.expect_deliveries(&["b"]);
}

#[test]
fn bytes_are_those_of_bodies() {
    let node = Node::start();
    let mut client = limited(
        &node,
        &[("x-max-length-bytes", 10.into())],
        &["aaaa", "bbbb", "cc"],
    );
    assert_eq!(client.counts("q"), (3, 0));
    client.publish("", "q", "d");
    client.expect_contents("q", &["bbbb", "cc", "d"]);
}

#[test]
fn a_body_above_the_bytes_is_dropped_itself() {
    let node = Node::start();
    let mut client = limited(&node, &[("x-max-length-bytes", 3.into())], &["aaaa"]);
    client.expect_get_empty("q");
}

#[test]
fn whichever_limit_is_reached_first_counts() {
    let node = Node::start();
    let limits = [("x-max-length", 3.into()), ("x-max-length-bytes", 4.into())];
    let mut client = limited(&node, &limits, &["aa", "b", "b", "b"]);
    client.expect_contents("q", &["b", "b", "b"]);
    for body in ["1", "2", "3", "4"] {
        client.publish("", "q", body);
    }
    client.expect_contents("q", &["2", "3", "4"]);
}

#[test]
fn unsettled_messages_do_not_count() {
    let node = Node::start();
    let mut client = limited(&node, &[("x-max-length", 1.into())], &["a"]);
    client.get("q");
    client.publish("", "q", "b");
    assert_eq!(client.counts("q"), (1, 0));
    client.expect_contents("q", &["b"]);
}

#[test]
fn a_requeue_above_the_limit_drops_the_head() {
    let node = Node::start();
    let mut client = limited(&node, &[("x-max-length", 1.into())], &["a"]);
    client.get("q");
    client.publish("", "q", "b");
    client.nack(1, true);
    client.expect_contents("q", &["b"]);
}

#[test]
fn reject_publish_keeps_the_oldest() {
    let node = Node::start();
    let arguments = [
        ("x-max-length", 2.into()),
        ("x-overflow", "reject-publish".into()),
    ];
    let mut client = limited(&node, &arguments, &["a", "b", "c"]);
    client.expect_contents("q", &["a", "b"]);
    client.publish("", "q", "d");
    client.expect_contents("q", &["d"]);
}

#[test]
fn reject_publish_dlx_dead_letters_the_newest() {
    let node = Node::start();
    node.client().declare("dead", &[]);
    let arguments = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    let mut client = limited(&node, &arguments, &["a", "b"]);
    client.expect_contents("q", &["a"]);
    let letter = client.expect_get("dead", "b");
    assert_eq!(letter.header("x-last-death-reason"), Some(&"maxlen".into()));
}

#[test]
fn the_highest_priority_comes_first() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-max-priority", 5.into())]);
    for (priority, body) in [(1, "a"), (5, "b"), (0, "c"), (5, "d"), (3, "e")] {
        client.publish_with("", "q", &with_priority(priority), body);
    }
    client.expect_contents("q", &["b", "d", "e", "a", "c"]);
}

#[test]
fn a_priority_above_the_maximum_is_the_maximum() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-max-priority", 5.into())]);
    client.publish_with("", "q", &with_priority(5), "a");
    client.publish_with("", "q", &with_priority(200), "b");
    let message = client.expect_get("q", "a");
    assert_eq!(message.properties.priority, Some(5));
    assert_eq!(client.expect_get("q", "b").properties.priority, Some(200));
}

#[test]
fn no_priority_is_0() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-max-priority", 5.into())]);
    client.publish("", "q", "none");
    client.publish_with("", "q", &with_priority(0), "zero");
    client.publish_with("", "q", &with_priority(1), "one");
    client.expect_contents("q", &["one", "none", "zero"]);
}

#[test]
fn a_queue_without_priorities_ignores_them() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &with_priority(1), "a");
    client.publish_with("", "q", &with_priority(9), "b");
    client.expect_contents("q", &["a", "b"]);
}

#[test]
fn a_requeue_keeps_its_priority_and_place() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-max-priority", 5.into())]);
    client.publish_with("", "q", &with_priority(2), "a");
    client.publish_with("", "q", &with_priority(2), "b");
    client.get("q");
    client.publish_with("", "q", &with_priority(4), "c");
    client.nack(1, true);
    client.expect_contents("q", &["c", "a", "b"]);
}
