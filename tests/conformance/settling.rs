//! Acknowledging, rejecting, requeueing, recovering.

use haremq::protocol::basic;

use crate::support::{Client, Node};

fn filled(node: &Node, bodies: &[&str]) -> Client {
    let mut client = node.client();
    client.declare("q", &[]);
    for body in bodies {
        client.publish("", "q", body);
    }
    client
}

#[test]
fn an_acknowledged_message_is_gone() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.ack(1);
    client.hang_up();
    node.client().expect_get_empty("q");
}

#[test]
fn an_unknown_tag_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.ack(82);
    let text = "PRECONDITION_FAILED - unknown delivery tag 82";
    client.expect_channel_close(406, text, (60, 80));
}

#[test]
fn a_tag_acknowledged_twice_is_406() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.ack(1);
    client.ack(1);
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    client.expect_channel_close(406, text, (60, 80));
}

#[test]
fn an_unknown_tag_in_reject_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.reject(5, true);
    let text = "PRECONDITION_FAILED - unknown delivery tag 5";
    client.expect_channel_close(406, text, (60, 90));
}

#[test]
fn an_unknown_tag_in_nack_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.nack(5, true);
    let text = "PRECONDITION_FAILED - unknown delivery tag 5";
    client.expect_channel_close(406, text, (60, 120));
}

#[test]
fn tag_0_without_multiple_is_406() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.ack(0);
    let text = "PRECONDITION_FAILED - unknown delivery tag 0";
    client.expect_channel_close(406, text, (60, 80));
}

#[test]
fn multiple_acknowledges_all_up_to_the_tag() {
    let node = Node::start();
    let mut client = filled(&node, &["a", "b", "c"]);
    for _ in 0..3 {
        client.get("q");
    }
    client.ack_multiple(2);
    client.hang_up();
    node.client().expect_contents("q", &["c"]);
}

#[test]
fn tag_0_with_multiple_acknowledges_everything() {
    let node = Node::start();
    let mut client = filled(&node, &["a", "b"]);
    client.get("q");
    client.get("q");
    client.ack_multiple(0);
    client.hang_up();
    node.client().expect_get_empty("q");
}

#[test]
fn tag_0_with_multiple_and_nothing_unsettled_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.ack_multiple(0);
    client.expect_nothing();
}

#[test]
fn an_unknown_tag_with_multiple_is_406() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.ack_multiple(9);
    let text = "PRECONDITION_FAILED - unknown delivery tag 9";
    client.expect_channel_close(406, text, (60, 80));
}

#[test]
fn a_tag_is_known_on_its_own_channel_only() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.open_channel(2);
    client.ack(1);
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    client.expect_channel_close(406, text, (60, 80));
}

#[test]
fn reject_without_requeue_drops() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.reject(1, false);
    client.expect_get_empty("q");
}

#[test]
fn requeued_messages_go_back_to_their_place() {
    let node = Node::start();
    let mut client = filled(&node, &["a", "b", "c", "d"]);
    for _ in 0..3 {
        client.get("q");
    }
    client.nack(2, true);
    client.reject(1, true);
    client.nack(3, true);
    client.expect_contents("q", &["a", "b", "c", "d"]);
}

#[test]
fn nack_multiple_requeues_all_up_to_the_tag() {
    let node = Node::start();
    let mut client = filled(&node, &["a", "b", "c"]);
    for _ in 0..3 {
        client.get("q");
    }
    client.send(basic::Nack {
        delivery_tag: 2,
        multiple: true,
        requeue: true,
    });
    client.expect_contents("q", &["a", "b"]);
}

#[test]
fn redelivered_tells_whether_it_was_handed_out_before() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    assert!(!client.get("q").redelivered);
    client.nack(1, true);
    assert!(client.get("q").redelivered);
}

#[test]
fn what_a_lost_connection_had_is_redelivered() {
    let node = Node::start();
    let mut client = filled(&node, &["a", "b"]);
    client.qos(1, false);
    client.consume("q", "c");
    client.expect_delivery("a");
    client.hang_up();
    let mut other = node.client();
    assert!(other.get("q").redelivered);
    assert!(!other.get("q").redelivered);
}

#[test]
fn recover_with_requeue_returns_everything_unsettled() {
    let node = Node::start();
    let mut client = filled(&node, &["a", "b"]);
    client.get("q");
    client.get("q");
    client.send(basic::Recover { requeue: true });
    client.expect(basic::RecoverOk);
    assert!(client.expect_get("q", "a").redelivered);
    assert!(client.expect_get("q", "b").redelivered);
}

#[test]
fn recover_redelivers_to_consumers_of_the_channel() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.consume("q", "c");
    client.expect_delivery("a");
    client.send(basic::Recover { requeue: true });
    client.expect(basic::RecoverOk);
    let message = client.expect_delivery("a");
    assert_eq!((message.delivery_tag, message.redelivered), (2, true));
}

#[test]
fn recover_async_is_not_answered() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.get("q");
    client.send(basic::RecoverAsync { requeue: true });
    client.expect_nothing();
    client.expect_contents("q", &["a"]);
}

#[test]
fn recover_without_requeue_is_540() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Recover { requeue: false });
    let text = "NOT_IMPLEMENTED - requeue=false";
    client.expect_connection_close(540, text, (60, 110));
}

#[test]
fn recover_async_without_requeue_is_540() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::RecoverAsync { requeue: false });
    let text = "NOT_IMPLEMENTED - requeue=false";
    client.expect_connection_close(540, text, (60, 100));
}

#[test]
fn no_ack_deliveries_are_not_recovered() {
    let node = Node::start();
    let mut client = filled(&node, &["a"]);
    client.expect_get("q", "a");
    client.send(basic::Recover { requeue: true });
    client.expect(basic::RecoverOk);
    client.expect_get_empty("q");
}

#[test]
fn a_requeue_by_one_consumer_may_go_to_another() {
    let node = Node::start();
    let mut first = filled(&node, &[]);
    let mut second = node.client();
    first.qos(1, false);
    second.qos(1, false);
    first.consume("q", "a");
    second.consume("q", "b");
    first.publish("", "q", "m");
    first.expect_delivery("m");
    first.cancel("a");
    first.reject(1, true);
    assert!(second.expect_delivery("m").redelivered);
}
