//! Clients that do not read, and queues that are emptied from several sides.

use crate::support::Node;

#[test]
fn a_client_that_does_not_read_holds_a_bounded_share_of_a_queue() {
    let node = Node::start();
    let mut client = node.client();
    let mut slow = node.client();
    client.declare("q", &[]);
    slow.consume_no_ack("q", "slow");
    slow.stop_reading();
    let body = "x".repeat(100_000);
    for _ in 0..40 {
        client.publish("", "q", &body);
    }
    let (ready, consumers) = client.counts("q");
    assert_eq!(consumers, 1);
    assert!(ready >= 29, "{ready} are left");
    slow.read_again();
    for _ in 0..40 {
        assert_eq!(slow.message().body.len(), 100_000);
    }
    slow.expect_nothing();
}

#[test]
fn what_a_client_did_not_read_goes_to_others_when_it_is_gone() {
    let node = Node::start();
    let mut client = node.client();
    let mut slow = node.client();
    client.declare("q", &[]);
    slow.consume("q", "slow");
    slow.stop_reading();
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.expect_get_empty("q");
    slow.hang_up();
    client.expect_contents("q", &["a", "b", "c"]);
}

#[test]
fn a_large_message_reaches_a_client_whatever_its_inbox_holds() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume_no_ack("q", "c");
    let body = "x".repeat(5_000_000);
    client.publish("", "q", &body);
    assert_eq!(client.message().body.len(), 5_000_000);
}

#[test]
fn messages_that_arrive_while_nobody_consumes_wait_in_order() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let bodies: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    for body in &bodies {
        client.publish("", "q", body);
    }
    client.consume_no_ack("q", "c");
    for body in &bodies {
        client.expect_delivery(body);
    }
    client.expect_nothing();
}
