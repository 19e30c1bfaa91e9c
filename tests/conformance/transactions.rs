//! Transactions.

use haremq::protocol::tx;

use crate::support::{Client, Node};

fn transacting(node: &Node) -> Client {
    let mut client = node.client();
    client.declare("q", &[]);
    client.transact();
    client
}

fn commit(client: &mut Client) {
    client.send(tx::Commit);
    client.expect(tx::CommitOk);
}

fn rollback(client: &mut Client) {
    client.send(tx::Rollback);
    client.expect(tx::RollbackOk);
}

#[test]
fn commit_without_select_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.send(tx::Commit);
    let text = "PRECONDITION_FAILED - channel is not transactional";
    client.expect_channel_close(406, text, (90, 20));
}

#[test]
fn rollback_without_select_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.send(tx::Rollback);
    let text = "PRECONDITION_FAILED - channel is not transactional";
    client.expect_channel_close(406, text, (90, 30));
}

#[test]
fn selecting_twice_is_fine() {
    let node = Node::start();
    let mut client = transacting(&node);
    client.transact();
}

#[test]
fn publishes_arrive_at_commit() {
    let node = Node::start();
    let mut client = transacting(&node);
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    assert_eq!(client.counts("q"), (0, 0));
    commit(&mut client);
    node.client().expect_contents("q", &["a", "b"]);
}

#[test]
fn rolled_back_publishes_never_arrive() {
    let node = Node::start();
    let mut client = transacting(&node);
    client.publish("", "q", "a");
    rollback(&mut client);
    commit(&mut client);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn uncommitted_publishes_are_lost_with_the_channel() {
    let node = Node::start();
    let mut client = transacting(&node);
    client.publish("", "q", "a");
    client.close_channel();
    client.open_channel(1);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn acks_count_at_commit() {
    let node = Node::start();
    let mut client = transacting(&node);
    node.client().publish("", "q", "a");
    client.get("q");
    client.ack(1);
    client.hang_up();
    let mut client = node.client();
    client.transact();
    assert!(client.get("q").redelivered);
    client.ack(1);
    commit(&mut client);
    client.hang_up();
    node.client().expect_get_empty("q");
}

#[test]
fn rolled_back_acks_leave_the_message_unsettled() {
    let node = Node::start();
    let mut client = transacting(&node);
    node.client().publish("", "q", "a");
    client.get("q");
    client.ack(1);
    rollback(&mut client);
    client.expect_get_empty("q");
    client.ack(1);
    commit(&mut client);
    client.hang_up();
    node.client().expect_get_empty("q");
}

#[test]
fn rejects_count_at_commit() {
    let node = Node::start();
    let mut client = transacting(&node);
    node.client().publish("", "q", "a");
    client.get("q");
    client.reject(1, true);
    assert_eq!(client.counts("q"), (0, 0));
    commit(&mut client);
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn returns_come_at_commit_before_commit_ok() {
    let node = Node::start();
    let mut client = transacting(&node);
    client.publish_mandatory("", "nowhere", "a");
    client.expect_nothing();
    client.send(tx::Commit);
    client.expect_return("", "nowhere", "a");
    client.expect(tx::CommitOk);
}

#[test]
fn a_missing_exchange_is_found_out_at_the_publish() {
    let node = Node::start();
    let mut client = transacting(&node);
    client.publish("nowhere", "", "a");
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (60, 40));
}

#[test]
fn a_queue_that_rejects_makes_the_commit_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "full",
        &[
            ("x-max-length", 0.into()),
            ("x-overflow", "reject-publish".into()),
        ],
    );
    client.transact();
    client.publish("", "full", "a");
    client.send(tx::Commit);
    let text = "PRECONDITION_FAILED - partial tx completion";
    client.expect_channel_close(406, text, (90, 20));
}

#[test]
fn an_acknowledged_tag_is_used_up_before_the_commit() {
    let node = Node::start();
    let mut client = transacting(&node);
    node.client().publish("", "q", "a");
    client.get("q");
    client.ack(1);
    client.ack(1);
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    client.expect_channel_close(406, text, (60, 80));
}
