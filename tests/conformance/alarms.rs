//! Alarms of memory and disk.

use haremq::protocol::{Method, connection};

use crate::support::{Client, Node, short};

fn expect_blocked(client: &mut Client, reason: &str) {
    client.expect(connection::Blocked {
        reason: short(reason),
    });
}

#[test]
fn blocked_is_sent_once_after_a_publish_during_an_alarm() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    node.alarm(true, false);
    client.expect_nothing();
    client.publish("", "q", "a");
    expect_blocked(&mut client, "low on memory");
    client.expect_nothing();
}

#[test]
fn the_reason_names_memory_disk_or_both() {
    let node = Node::start();
    for (memory, disk, reason) in [
        (true, false, "low on memory"),
        (false, true, "low on disk"),
        (true, true, "low on memory & disk"),
    ] {
        let mut client = node.client();
        node.alarm(memory, disk);
        client.publish("", "q", "a");
        expect_blocked(&mut client, reason);
        node.alarm(false, false);
        client.expect(connection::Unblocked);
    }
}

#[test]
fn a_blocked_connection_is_not_read() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    node.alarm(true, false);
    client.publish("", "q", "a");
    expect_blocked(&mut client, "low on memory");
    assert!(!client.is_read());
    assert_eq!(client.state(), "blocked");
    client.try_find("q");
    client.expect_nothing();
    node.alarm(false, false);
    client.expect(connection::Unblocked);
    client.expect_declared("q");
    assert_eq!(client.state(), "running");
}

#[test]
fn a_blocked_connection_still_gets_deliveries() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    node.alarm(true, false);
    client.publish("", "q", "a");
    expect_blocked(&mut client, "low on memory");
    client.expect_deliveries(&["a"]);
}

#[test]
fn a_connection_that_does_not_publish_is_not_blocked() {
    let node = Node::start();
    let mut client = node.client();
    node.alarm(true, false);
    client.declare("q", &[]);
    client.consume("q", "c");
    client.expect_nothing();
    assert!(client.is_read());
}

#[test]
fn a_client_without_the_capability_is_blocked_in_silence() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.start_ok("PLAIN", b"\0guest\0guest", &[]);
    client.tune();
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
    client.open_channel(1);
    node.alarm(true, false);
    client.publish("", "q", "a");
    client.expect_nothing();
    assert!(!client.is_read());
    node.alarm(false, false);
    client.expect_nothing();
    assert!(client.is_read());
}

#[test]
fn a_connection_made_during_an_alarm_is_blocked_at_its_first_publish() {
    let node = Node::start();
    node.alarm(false, true);
    let mut client = node.client();
    client.publish("", "q", "a");
    expect_blocked(&mut client, "low on disk");
}

#[test]
fn heartbeats_do_not_kill_a_blocked_connection() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.login("guest", "guest");
    client.expect_tune();
    client.tune_ok(2047, 131_072, 1);
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
    client.open_channel(1);
    node.alarm(true, false);
    client.publish("", "q", "a");
    node.advance(60_000);
    while let Some(received) = client.receive() {
        assert!(
            received.is_heartbeat() || matches!(received.method(), Method::ConnectionBlocked(_)),
            "{}",
            received.describe()
        );
    }
    assert!(client.ended().is_none());
}
