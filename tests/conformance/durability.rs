//! Messages that survive: what a confirm, a commit or a settlement said before a stop or a kill still holds after it.

use haremq::protocol::{Properties, ShortString, tx};

use crate::support::{Client, Node};

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

fn with_priority(priority: u8) -> Properties {
    Properties {
        priority: Some(priority),
        ..persistent()
    }
}

fn expiring(ms: &'static str) -> Properties {
    Properties {
        expiration: Some(ShortString::from_static(ms)),
        ..persistent()
    }
}

/// A client in confirm mode, with a durable queue `q`.
fn confirming(node: &Node) -> Client {
    let mut client = node.client();
    client.declare("q", &[]);
    client.confirm();
    client
}

/// Publishes and waits for the ack of each.
fn put(client: &mut Client, queue: &str, bodies: &[&str]) {
    for body in bodies {
        client.publish_with("", queue, &persistent(), body);
        assert!(client.receive().is_some());
    }
}

#[test]
fn confirmed_messages_are_there_after_a_kill_in_order() {
    let node = Node::start();
    let mut client = confirming(&node);
    put(&mut client, "q", &["a", "b", "c"]);
    let killed = node.killed();
    killed.client().expect_contents("q", &["a", "b", "c"]);
}

#[test]
fn a_clean_stop_keeps_persistent_messages_alone() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &persistent(), "persistent");
    client.publish("", "q", "transient");
    assert_eq!(client.counts("q"), (2, 0));
    client.close();
    node.restart();
    let mut client = node.client();
    assert_eq!(client.counts("q"), (1, 0));
    client.expect_contents("q", &["persistent"]);
}

#[test]
fn properties_and_exchange_are_as_they_were() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.bind("q", "amq.topic", "a.#");
    let mut properties = persistent();
    properties.message_id = Some(ShortString::from_static("id"));
    properties.content_type = Some(ShortString::from_static("text/plain"));
    client.publish_with("amq.topic", "a.b", &properties, "body");
    client.expect_ack(1, false);
    let killed = node.killed();
    let got = killed.client().get("q");
    assert_eq!(got.text(), "body");
    assert_eq!(got.properties, properties);
    assert_eq!(got.exchange, "amq.topic");
    assert_eq!(got.routing_key, "a.b");
}

#[test]
fn acknowledged_messages_are_gone_and_others_come_back() {
    let mut node = Node::start();
    let mut client = confirming(&node);
    put(&mut client, "q", &["a", "b", "c", "d"]);
    client.consume("q", "c");
    client.expect_deliveries(&["a", "b", "c", "d"]);
    client.ack(1);
    client.ack(3);
    client.close();
    node.restart();
    let mut client = node.client();
    let first = client.get("q");
    assert_eq!((first.text(), first.redelivered), ("b", true));
    client.expect_contents("q", &["d"]);
}

#[test]
fn a_message_in_several_queues_is_in_all_of_them() {
    let node = Node::start();
    let mut client = node.client();
    for queue in ["a", "b", "c"] {
        client.declare(queue, &[]);
        client.bind(queue, "amq.fanout", "");
    }
    client.confirm();
    client.publish_with("amq.fanout", "", &persistent(), "m");
    client.expect_ack(1, false);
    let killed = node.killed();
    let mut client = killed.client();
    for queue in ["a", "b", "c"] {
        client.expect_contents(queue, &["m"]);
    }
}

#[test]
fn a_commit_holds_publishes_and_acknowledgements() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("in", &[]);
    client.declare("out", &[]);
    let mut asker = node.client();
    asker.confirm();
    asker.publish_with("", "in", &persistent(), "asked");
    asker.expect_ack(1, false);
    client.transact();
    client.get("in");
    client.ack(1);
    client.publish_with("", "out", &persistent(), "answered");
    client.publish_with("", "out", &persistent(), "again");
    let before = node.killed();
    client.send(tx::Commit);
    client.expect(tx::CommitOk);
    let after = node.killed();
    let mut client = before.client();
    client.expect_contents("in", &["asked"]);
    client.expect_get_empty("out");
    let mut client = after.client();
    client.expect_get_empty("in");
    client.expect_contents("out", &["answered", "again"]);
}

#[test]
fn priorities_are_served_as_before() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("p", &[("x-max-priority", 5.into())]);
    client.confirm();
    for (priority, body) in [(1, "low"), (5, "high"), (3, "middle"), (5, "high too")] {
        client.publish_with("", "p", &with_priority(priority), body);
        assert!(client.receive().is_some());
    }
    let killed = node.killed();
    let expected = ["high", "high too", "middle", "low"];
    killed.client().expect_contents("p", &expected);
}

#[test]
fn time_to_live_goes_on_through_a_restart() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.publish_with("", "q", &expiring("1000"), "short");
    client.publish_with("", "q", &expiring("100000"), "long");
    client.expect_ack(1, false);
    client.expect_ack(2, false);
    let killed = node.killed();
    killed.advance(2000);
    let mut client = killed.client();
    client.expect_contents("q", &["long"]);
}

#[test]
fn a_dead_letter_is_in_one_of_both_queues_with_its_history() {
    let mut node = Node::start();
    let mut client = node.client();
    let dead = [
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    client.declare("live", &dead);
    client.declare("dead", &[]);
    client.confirm();
    put(&mut client, "live", &["m"]);
    client.get("live");
    client.reject(1, false);
    assert_eq!(client.counts("dead"), (1, 0));
    client.close();
    node.restart();
    let mut client = node.client();
    client.expect_get_empty("live");
    let letter = client.get("dead");
    assert_eq!(letter.text(), "m");
    assert_eq!(letter.deaths().len(), 1);
    let death = letter.deaths()[0];
    assert_eq!(death.get("count").and_then(|count| count.as_i64()), Some(1));
}

#[test]
fn purged_and_deleted_is_gone() {
    let node = Node::start();
    let mut client = confirming(&node);
    client.declare("gone", &[]);
    put(&mut client, "q", &["a", "b"]);
    put(&mut client, "gone", &["c"]);
    client.get("q");
    client.send(haremq::protocol::queue::Purge {
        queue: crate::support::short("q"),
        ..Default::default()
    });
    client.expect(haremq::protocol::queue::PurgeOk { message_count: 1 });
    assert_eq!(client.delete("gone"), 1);
    put(&mut client, "q", &["d"]);
    let killed = node.killed();
    let mut client = killed.client();
    // What was handed out survives the purge.
    client.expect_contents("q", &["a", "d"]);
    client.expect_no_queue("gone");
}

#[test]
fn a_queue_declared_anew_has_nothing_of_the_old_one() {
    let node = Node::start();
    let mut client = confirming(&node);
    put(&mut client, "q", &["old"]);
    client.delete("q");
    client.declare("q", &[]);
    put(&mut client, "q", &["new"]);
    let killed = node.killed();
    killed.client().expect_contents("q", &["new"]);
}

#[test]
fn a_length_limit_holds_for_what_was_recovered() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("short", &[("x-max-length", 2.into())]);
    client.confirm();
    put(&mut client, "short", &["a", "b", "c"]);
    let killed = node.killed();
    let mut client = killed.client();
    assert_eq!(client.counts("short"), (2, 0));
    client.confirm();
    put(&mut client, "short", &["d"]);
    client.expect_contents("short", &["c", "d"]);
}

#[test]
fn a_quorum_queue_keeps_its_counts_and_every_message() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("quorum", &[("x-queue-type", "quorum".into())]);
    client.confirm();
    // Quorum queues keep what is not persistent, too.
    client.publish("", "quorum", "m");
    client.expect_ack(1, false);
    client.consume("quorum", "c");
    client.expect_delivery("m");
    client.reject(1, true);
    let again = client.expect_delivery("m");
    let counted = again
        .header("x-delivery-count")
        .and_then(|count| count.as_i64());
    assert_eq!(counted, Some(1));
    client.close();
    node.restart();
    let got = node.client().get("quorum");
    assert!(got.redelivered);
    let counted = got
        .header("x-delivery-count")
        .and_then(|count| count.as_i64());
    assert!(counted >= Some(1), "{counted:?}");
}

#[test]
fn restarts_can_follow_each_other() {
    let mut node = Node::start();
    let mut expected = Vec::new();
    for round in 0..5 {
        let mut client = node.client();
        client.declare("q", &[]);
        client.confirm();
        let body = format!("m{round}");
        client.publish_with("", "q", &persistent(), &body);
        client.expect_ack(1, false);
        expected.push(body);
        client.close();
        node.restart();
    }
    let bodies: Vec<&str> = expected.iter().map(String::as_str).collect();
    node.client().expect_contents("q", &bodies);
}

#[test]
fn a_large_message_for_many_queues_is_written_once() {
    let node = Node::start();
    let mut client = node.client();
    for number in 0..100 {
        let queue = format!("q{number}");
        client.declare(&queue, &[]);
        client.bind(&queue, "amq.fanout", "");
    }
    client.confirm();
    let written = || node.broker().messages().journal().stats().written_bytes;
    let before = written();
    let body = "x".repeat(64 * 1024);
    client.publish_with("amq.fanout", "", &persistent(), &body);
    client.expect_ack(1, false);
    let bytes = written() - before;
    assert!(bytes < 2 * 64 * 1024, "{bytes} bytes");
    let killed = node.killed();
    let mut client = killed.client();
    for number in [0, 50, 99] {
        client.expect_contents(&format!("q{number}"), &[&body]);
    }
}

#[test]
fn a_message_of_16_mib_survives() {
    let node = Node::start();
    let mut client = confirming(&node);
    let body = "y".repeat(16 * 1024 * 1024);
    client.publish_with("", "q", &persistent(), &body);
    client.expect_ack(1, false);
    put(&mut client, "q", &["after"]);
    let killed = node.killed();
    killed.client().expect_contents("q", &[&body, "after"]);
}

#[test]
fn a_transaction_of_100_000_publishes_is_there_as_a_whole_or_not_at_all() {
    const PUBLISHES: u32 = 100_000;
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.transact();
    for _ in 0..PUBLISHES {
        client.publish_with("", "q", &persistent(), "m");
    }
    let before = node.killed();
    client.send(tx::Commit);
    client.expect(tx::CommitOk);
    let after = node.killed();
    assert_eq!(before.client().counts("q"), (0, 0));
    assert_eq!(after.client().counts("q"), (PUBLISHES, 0));
}
