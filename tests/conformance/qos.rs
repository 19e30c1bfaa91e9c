//! Prefetch.

use haremq::protocol::basic;

use crate::support::{Client, Node};

fn fill(client: &mut Client, bodies: &[&str]) {
    client.declare("q", &[]);
    publish(client, bodies);
}

fn publish(client: &mut Client, bodies: &[&str]) {
    for body in bodies {
        client.publish("", "q", body);
    }
}

#[test]
fn prefetch_limits_what_is_unsettled() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &["1", "2", "3", "4"]);
    client.qos(2, false);
    client.consume("q", "c");
    client.expect_deliveries(&["1", "2"]);
    client.ack(1);
    client.expect_deliveries(&["3"]);
    client.ack_multiple(3);
    client.expect_deliveries(&["4"]);
}

#[test]
fn a_prefetch_of_0_is_no_limit() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &["1", "2", "3"]);
    client.qos(0, false);
    client.consume("q", "c");
    client.expect_deliveries(&["1", "2", "3"]);
}

#[test]
fn prefetch_is_for_each_consumer() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &[]);
    client.qos(1, false);
    client.consume("q", "a");
    client.consume("q", "b");
    publish(&mut client, &["1", "2", "3", "4"]);
    let messages = client.expect_deliveries(&["1", "2"]);
    assert_eq!(messages[0].consumer_tag, "a");
    assert_eq!(messages[1].consumer_tag, "b");
}

#[test]
fn prefetch_is_for_later_consumers_only() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &[]);
    client.qos(1, false);
    client.consume("q", "a");
    client.qos(5, false);
    for body in ["1", "2", "3"] {
        client.publish("", "q", body);
    }
    client.expect_deliveries(&["1"]);
}

#[test]
fn no_ack_consumers_have_no_prefetch() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &["1", "2", "3"]);
    client.qos(1, false);
    client.consume_no_ack("q", "c");
    client.expect_deliveries(&["1", "2", "3"]);
}

#[test]
fn gets_do_not_count_against_prefetch() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &["1", "2"]);
    client.qos(1, false);
    client.get("q");
    client.consume("q", "c");
    client.expect_deliveries(&["2"]);
}

#[test]
fn a_prefetch_size_is_540() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Qos {
        prefetch_size: 1024,
        prefetch_count: 0,
        global: false,
    });
    let text = "NOT_IMPLEMENTED - prefetch_size!=0 (1024)";
    client.expect_connection_close(540, text, (60, 10));
}

#[test]
fn a_global_prefetch_is_shared_by_the_channel_where_it_is_permitted() {
    let node = Node::start_with(|settings| settings.deprecated_features.global_qos = true);
    let mut client = node.client();
    fill(&mut client, &[]);
    client.qos(3, true);
    client.consume("q", "a");
    client.consume("q", "b");
    publish(&mut client, &["1", "2", "3", "4"]);
    client.expect_deliveries(&["1", "2", "3"]);
    client.ack(2);
    client.expect_deliveries(&["4"]);
}

#[test]
fn a_global_prefetch_is_one_for_each_consumer_where_it_is_denied() {
    let node = Node::start_with(|settings| settings.deprecated_features.global_qos = false);
    let mut client = node.client();
    fill(&mut client, &[]);
    client.qos(1, true);
    client.consume("q", "a");
    client.consume("q", "b");
    publish(&mut client, &["1", "2", "3", "4"]);
    client.expect_deliveries(&["1", "2"]);
}

#[test]
fn rejecting_gives_credit_back() {
    let node = Node::start();
    let mut client = node.client();
    fill(&mut client, &["1", "2", "3"]);
    client.qos(1, false);
    client.consume("q", "c");
    client.expect_deliveries(&["1"]);
    client.reject(1, false);
    client.expect_deliveries(&["2"]);
    client.nack(2, false);
    client.expect_deliveries(&["3"]);
}

#[test]
fn a_default_prefetch_is_used_by_channels_that_set_none() {
    let node = Node::start_with(|settings| settings.queue.default_consumer_prefetch = Some(1));
    let mut client = node.client();
    fill(&mut client, &["1", "2"]);
    client.consume("q", "c");
    client.expect_deliveries(&["1"]);
}
