//! Publisher confirms and mandatory returns.

use haremq::protocol::{Method, basic, confirm, frame};

use crate::support::{Client, Node, short};

fn confirming(node: &Node) -> Client {
    let mut client = node.client();
    client.declare("q", &[]);
    client.confirm();
    client
}

fn burst(client: &mut Client, routing_keys: &[&str], mandatory: bool) {
    let mut octets = Vec::new();
    for routing_key in routing_keys {
        let method = Method::BasicPublish(basic::Publish {
            routing_key: short(routing_key),
            mandatory,
            ..basic::Publish::default()
        });
        frame::write_method(&mut octets, 1, &method);
        frame::write_content(&mut octets, 1, &[0, 0], b"m", 131_072);
    }
    client.send_octets(&octets);
}

#[test]
fn confirms_count_from_1_at_select() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "before");
    client.confirm();
    client.publish("", "q", "a");
    client.expect_ack(1, false);
    client.publish("", "q", "b");
    client.expect_ack(2, false);
}

#[test]
fn selecting_twice_is_fine_and_does_not_count_anew() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.publish("", "q", "a");
    client.expect_ack(1, false);
    client.confirm();
    client.publish("", "q", "b");
    client.expect_ack(2, false);
}

#[test]
fn no_wait_select_is_not_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(confirm::Select { no_wait: true });
    client.expect_nothing();
    client.publish("", "q", "a");
    client.expect_ack(1, false);
}

#[test]
fn each_channel_counts_for_itself() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.open_channel(2);
    client.publish("", "q", "unconfirmed");
    client.expect_nothing();
    client.confirm();
    client.publish("", "q", "a");
    client.expect_ack(1, false);
}

#[test]
fn an_unroutable_publish_is_confirmed() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.publish("", "nowhere", "a");
    client.expect_ack(1, false);
}

#[test]
fn a_burst_is_confirmed_with_multiple() {
    let node = Node::start();
    let mut client = confirming(&node);
    burst(&mut client, &["q"; 500], false);
    client.expect_ack(500, true);
    client.expect_nothing();
}

#[test]
fn a_mandatory_return_comes_before_its_confirm() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.publish_mandatory("", "nowhere", "a");
    client.expect_return("", "nowhere", "a");
    client.expect_ack(1, false);
}

#[test]
fn a_mandatory_publish_that_is_routed_is_not_returned() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_mandatory("", "q", "a");
    client.expect_nothing();
    client.expect_contents("q", &["a"]);
}

#[test]
fn a_return_carries_properties_and_body() {
    let node = Node::start();
    let mut client = node.client();
    let properties = haremq::protocol::Properties {
        message_id: Some("id".into()),
        headers: Some(crate::support::field_table(&[("a", 1.into())])),
        ..Default::default()
    };
    let method = basic::Publish {
        exchange: short("amq.direct"),
        routing_key: short("k"),
        mandatory: true,
        immediate: false,
    };
    client.send_content(method, &properties, b"m");
    let message = client.expect_return("amq.direct", "k", "m");
    assert_eq!(message.properties, properties);
}

#[test]
fn each_unroutable_publish_of_a_burst_is_returned_before_the_confirm_of_all() {
    let node = Node::start();
    let mut client = confirming(&node);
    burst(&mut client, &["x", "q", "y"], true);
    client.expect_return("", "x", "m");
    let mut acknowledged = 0;
    let mut returned = 0;
    while let Some(received) = client.receive() {
        match received.method() {
            Method::BasicReturn(_) => {
                returned += 1;
                assert!(acknowledged < 3);
            }
            Method::BasicAck(ack) => acknowledged = ack.delivery_tag,
            _ => panic!("{}", received.describe()),
        }
    }
    assert_eq!((returned, acknowledged), (1, 3));
}

#[test]
fn a_publish_that_a_queue_rejects_is_nacked() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "q",
        &[
            ("x-max-length", 1.into()),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    client.confirm();
    client.publish("", "q", "a");
    client.expect_ack(1, false);
    client.publish("", "q", "b");
    client.expect_nack(2);
    client.expect_contents("q", &["a"]);
}

#[test]
fn one_rejecting_queue_of_many_is_enough_for_a_nack() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "full",
        &[
            ("x-max-length", 0.into()),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    client.declare("other", &[]);
    client.bind("full", "amq.fanout", "");
    client.bind("other", "amq.fanout", "");
    client.confirm();
    client.publish("amq.fanout", "", "a");
    client.expect_nack(1);
    client.expect_contents("other", &["a"]);
}

#[test]
fn acks_and_nacks_of_a_burst_do_not_cover_each_other() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "full",
        &[
            ("x-max-length", 0.into()),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    client.declare("q", &[]);
    client.confirm();
    burst(&mut client, &["q", "q", "full", "q"], false);
    let mut outcome = [None; 5];
    while let Some(received) = client.receive() {
        let (tag, multiple, accepted) = match received.method() {
            Method::BasicAck(ack) => (ack.delivery_tag, ack.multiple, true),
            Method::BasicNack(nack) => (nack.delivery_tag, nack.multiple, false),
            _ => panic!("{}", received.describe()),
        };
        let tag = usize::try_from(tag).unwrap();
        let first = if multiple { 1 } else { tag };
        for outcome in &mut outcome[first..=tag] {
            outcome.get_or_insert(accepted);
        }
    }
    assert_eq!(
        outcome[1..],
        [Some(true), Some(true), Some(false), Some(true)]
    );
}

#[test]
fn a_rejected_publish_without_confirms_is_silently_gone() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "q",
        &[
            ("x-max-length", 0.into()),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    client.publish_mandatory("", "q", "a");
    client.expect_nothing();
}

#[test]
fn tx_on_a_confirming_channel_is_406() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.send(haremq::protocol::tx::Select);
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    client.expect_channel_close(406, text, (90, 10));
}

#[test]
fn confirms_on_a_transactional_channel_are_406() {
    let node = Node::start();
    let mut client = node.client();
    client.transact();
    client.send(confirm::Select { no_wait: false });
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    client.expect_channel_close(406, text, (85, 10));
}
