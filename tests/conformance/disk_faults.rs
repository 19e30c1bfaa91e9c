//! A disk that fails: nothing is confirmed that it did not take, and what had been confirmed is there later.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haremq::protocol::{Properties, basic, tx};
use haremq::store::disk::{FaultyDisk, RealDisk, faulty::Operation};

use crate::support::{Client, Node};

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

/// A node with a confirmed message in `q`, whose disk syncs nothing any more.
fn failing() -> (Node, Client) {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let node = Node::start_on(Arc::new(disk.clone()));
    let mut client = node.client();
    client.declare("q", &[]);
    client.confirm();
    client.publish_with("", "q", &persistent(), "before");
    client.expect_ack(1, false);
    disk.fail_for_ever(Operation::Sync, 0, ErrorKind::Other);
    (node, client)
}

#[test]
fn a_publish_that_could_not_be_synced_is_nacked_and_so_are_those_after_it() {
    let (_node, mut client) = failing();
    client.publish_with("", "q", &persistent(), "lost");
    client.expect_nack(2);
    client.publish_with("", "q", &persistent(), "refused");
    client.expect_nack(3);
}

#[test]
fn transient_messages_and_consumers_go_on() {
    let (_node, mut client) = failing();
    client.publish_with("", "q", &persistent(), "lost");
    client.expect_nack(2);
    client.publish("", "q", "transient");
    client.expect_ack(3, false);
    client.consume("q", "c");
    client.expect_delivery("before");
    client.ack(1);
}

#[test]
fn without_confirms_a_persistent_publish_is_541() {
    let (node, mut client) = failing();
    client.publish_with("", "q", &persistent(), "lost");
    client.expect_nack(2);
    let mut other = node.client();
    other.publish_with("", "q", &persistent(), "refused");
    let text = "INTERNAL_ERROR - persistent messages cannot be stored since a failure of the disk";
    other.expect_connection_close(541, text, (60, 40));
}

#[test]
fn a_commit_that_cannot_be_synced_is_541() {
    let (node, mut client) = failing();
    client.publish_with("", "q", &persistent(), "lost");
    client.expect_nack(2);
    let mut other = node.client();
    other.transact();
    other.publish_with("", "q", &persistent(), "refused");
    other.send(tx::Commit);
    let text = "INTERNAL_ERROR - persistent messages cannot be stored since a failure of the disk";
    other.expect_connection_close(541, text, (90, 20));
}

#[test]
fn what_had_been_confirmed_is_there_after_a_restart() {
    let (node, mut client) = failing();
    client.publish_with("", "q", &persistent(), "lost");
    client.expect_nack(2);
    let mut client = node.killed().client();
    client.send(basic::Get {
        queue: crate::support::short("q"),
        no_ack: true,
    });
    assert_eq!(client.message().text(), "before");
}

/// A node with a confirmed message in `q`, whose catalogue has failed, and nothing else of its disk.
fn without_catalogue() -> (Node, Client) {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let node = Node::start_on(Arc::new(disk.clone()));
    let mut client = node.client();
    client.declare("q", &[]);
    client.confirm();
    client.publish_with("", "q", &persistent(), "before");
    client.expect_ack(1, false);
    disk.fail_at(Operation::Sync, "/meta/db", ErrorKind::Other);
    // Answered by the journal; the catalogue takes it a moment later.
    client.declare("late", &[]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while node.broker().messages().journal().failure().is_none() {
        assert!(Instant::now() < deadline, "the failure goes unnoticed");
        std::thread::sleep(Duration::from_millis(5));
    }
    (node, client)
}

#[test]
fn after_a_failure_of_the_catalogue_persistent_publishes_are_refused_and_consumers_go_on() {
    let (node, mut client) = without_catalogue();
    client.publish_with("", "q", &persistent(), "refused");
    client.expect_nack(2);
    client.publish("", "q", "transient");
    client.expect_ack(3, false);
    client.consume("q", "c");
    client.expect_delivery("before");
    client.expect_delivery("transient");
    client.ack(1);
    let mut other = node.client();
    other.publish_with("", "q", &persistent(), "refused");
    let text = "INTERNAL_ERROR - persistent messages cannot be stored since a failure of the disk";
    other.expect_connection_close(541, text, (60, 40));
    let failure = node.broker().messages().journal().failure();
    let told = failure.map(|failure| failure.to_string());
    assert!(
        told.as_deref()
            .is_some_and(|told| told.contains("free or replace the disk, then restart haremq")),
        "{told:?}"
    );
}

#[test]
fn a_restart_recovers_from_a_failure_of_the_catalogue() {
    let (node, _client) = without_catalogue();
    let again = node.killed();
    let mut client = again.client();
    client.declare("late", &[]);
    client.confirm();
    client.publish_with("", "q", &persistent(), "after");
    client.expect_ack(1, false);
    client.consume("q", "c");
    client.expect_delivery("before");
    client.expect_delivery("after");
}
