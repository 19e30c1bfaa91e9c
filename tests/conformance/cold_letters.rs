//! Dead letters whose bodies are on the disk alone: they arrive like those in memory, in the order in which they died, whatever
//! becomes of the queue that they leave.

use haremq::protocol::{Properties, Value, basic, queue};

use crate::support::{Client, Node, short, table};

const COUNT: u64 = 300;

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

/// A node that keeps nothing in memory that need not be there.
fn cold_node() -> Node {
    Node::start_with(|settings| settings.store.cache_bytes_max = 1)
}

/// A queue `q` with messages `0`, `1` and so on, all handed to a consumer; its dead letters go to the queue `dead`.
fn holding(node: &Node, arguments: &[(&str, Value)]) -> Client {
    let mut client = node.client();
    client.declare("dead", &[]);
    let mut all = vec![
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    all.extend_from_slice(arguments);
    client.declare("q", &all);
    client.consume("q", "c");
    for number in 0..COUNT {
        client.publish_with("", "q", &persistent(), &number.to_string());
    }
    for number in 0..COUNT {
        client.expect_delivery(&number.to_string());
    }
    client.cancel("c");
    client
}

fn reject_through(client: &mut Client, tag: u64) {
    client.send(basic::Nack {
        delivery_tag: tag,
        multiple: true,
        requeue: false,
    });
}

/// What is in a queue, in order.
fn contents(node: &Node, queue: &str) -> Vec<u64> {
    node.broker().settle().unwrap();
    let mut client = node.client();
    let (messages, _) = client.counts(queue);
    client.on(1);
    (0..messages)
        .map(|_| client.get(queue).text().parse().unwrap())
        .collect()
}

#[test]
fn letters_of_a_queue_arrive_in_the_order_in_which_they_died() {
    let node = cold_node();
    let mut client = holding(&node, &[]);
    // In parts, some of them backwards.
    reject_through(&mut client, 100);
    for tag in (101..=200).rev() {
        client.reject(tag, false);
    }
    reject_through(&mut client, COUNT);
    let expected: Vec<u64> = (0..100).chain((100..200).rev()).chain(200..COUNT).collect();
    assert_eq!(contents(&node, "dead"), expected);
    client.close_channel();
    assert!(contents(&node, "q").is_empty());
}

#[test]
fn letters_in_memory_do_not_overtake_those_on_the_disk() {
    let node = cold_node();
    let mut client = holding(&node, &[("x-max-length", 0.into())]);
    let mut other = node.client();
    for round in 0..20 {
        for tag in (round * 10 + 1)..=(round * 10 + 10) {
            client.reject(tag, false);
        }
        // Nobody takes it: it dies in memory.
        let number = (1000 + round).to_string();
        other.publish("", "q", &number);
    }
    let expected = (0..20).flat_map(|round| {
        let dead = round * 10..round * 10 + 10;
        dead.chain([1000 + round])
    });
    assert_eq!(contents(&node, "dead"), expected.collect::<Vec<_>>());
}

#[test]
fn a_queue_that_is_deleted_loses_none_of_its_dead_letters() {
    for kind in ["classic", "quorum"] {
        let node = cold_node();
        let arguments = [("x-queue-type", Value::from(kind))];
        let mut client = holding(&node, &arguments);
        reject_through(&mut client, COUNT);
        client.delete("q");
        assert_eq!(contents(&node, "dead"), (0..COUNT).collect::<Vec<_>>());
        let killed = node.killed();
        killed.client().expect_no_queue("q");
        assert_eq!(contents(&killed, "dead"), (0..COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn a_queue_declared_again_while_letters_leave_begins_empty_and_keeps_its_own() {
    let node = cold_node();
    let mut client = holding(&node, &[]);
    reject_through(&mut client, COUNT);
    client.delete("q");
    client.declare("q", &[]);
    for number in 0..10 {
        client.publish_with("", "q", &persistent(), &number.to_string());
    }
    assert_eq!(contents(&node, "q"), (0..10).collect::<Vec<_>>());
    assert_eq!(contents(&node, "dead"), (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn exclusive_and_auto_delete_queues_hand_on_their_letters_too() {
    for is_exclusive in [false, true] {
        let node = cold_node();
        let mut watcher = node.client();
        watcher.declare("dead", &[]);
        let mut client = node.client();
        let arguments = [
            ("x-dead-letter-exchange", Value::from("")),
            ("x-dead-letter-routing-key", "dead".into()),
        ];
        client.send(queue::Declare {
            queue: short("q"),
            exclusive: is_exclusive,
            auto_delete: !is_exclusive,
            durable: !is_exclusive,
            arguments: table(&arguments).as_table(),
            ..queue::Declare::default()
        });
        client.expect_declared("q");
        for number in 0..COUNT {
            client.publish_with("", "q", &persistent(), &number.to_string());
        }
        client.consume("q", "c");
        for number in 0..COUNT {
            client.expect_delivery(&number.to_string());
        }
        reject_through(&mut client, COUNT);
        client.close();
        watcher.expect_no_queue("q");
        let expected: Vec<_> = (0..COUNT).collect();
        assert_eq!(contents(&node, "dead"), expected, "{is_exclusive}");
    }
}

#[test]
fn a_purge_spares_letters_on_their_way() {
    let node = cold_node();
    let mut client = holding(&node, &[]);
    reject_through(&mut client, 200);
    client.send(queue::Purge {
        queue: short("q"),
        ..queue::Purge::default()
    });
    client.expect(queue::PurgeOk { message_count: 0 });
    assert_eq!(contents(&node, "dead"), (0..200).collect::<Vec<_>>());
    client.close_channel();
    assert_eq!(contents(&node, "q"), (200..COUNT).collect::<Vec<_>>());
}

#[test]
fn expired_and_dropped_messages_of_a_deleted_queue_arrive() {
    let node = cold_node();
    let mut client = node.client();
    client.declare("dead", &[]);
    let arguments = [
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", "dead".into()),
        ("x-message-ttl", 100.into()),
        ("x-max-length", 50.into()),
    ];
    client.declare("q", &arguments);
    for number in 0..COUNT {
        client.publish_with("", "q", &persistent(), &number.to_string());
    }
    node.broker().settle().unwrap();
    node.advance(100);
    node.broker().settle().unwrap();
    client.delete("q");
    assert_eq!(contents(&node, "dead"), (0..COUNT).collect::<Vec<_>>());
}

/// A kill at any time leaves each message in the one queue or in the other, as long as the queue that it leaves is there.
#[test]
fn a_kill_leaves_each_message_once() {
    let node = cold_node();
    let mut client = holding(&node, &[]);
    let mut killed = Vec::new();
    for part in 1..=3 {
        reject_through(&mut client, part * 100);
        killed.push(node.killed());
    }
    node.broker().settle().unwrap();
    killed.push(node.killed());
    for killed in &killed {
        let mut all = contents(killed, "dead");
        let left = contents(killed, "q");
        assert!(all.is_sorted() && left.is_sorted());
        all.extend(left);
        all.sort_unstable();
        assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    }
    assert_eq!(contents(&killed[3], "dead").len() as u64, COUNT);
}

/// A kill right after a deletion: either the deletion is not durable, then each message is in one of the queues, or it is, and then
/// letters that had not left are gone with their queue. No message is there twice.
#[test]
fn a_kill_after_a_deletion_leaves_no_message_twice() {
    let node = cold_node();
    let mut client = holding(&node, &[]);
    reject_through(&mut client, COUNT);
    client.delete("q");
    let killed = node.killed();
    let arrived = contents(&killed, "dead");
    assert_eq!(arrived, (0..arrived.len() as u64).collect::<Vec<_>>());
    let mut again = killed.client();
    again.expect_no_queue("q");
    node.broker().settle().unwrap();
    assert_eq!(contents(&node.killed(), "dead").len() as u64, COUNT);
}

#[test]
fn consumers_that_reject_without_end_are_answered_and_lose_nothing() {
    let node = cold_node();
    let mut client = node.client();
    let to = |key: &'static str| {
        [
            ("x-dead-letter-exchange", Value::from("")),
            ("x-dead-letter-routing-key", key.into()),
        ]
    };
    client.declare("a", &to("b"));
    client.declare("b", &to("a"));
    for number in 0..20 {
        client.publish_with("", "a", &persistent(), &number.to_string());
    }
    client.consume("b", "2");
    client.consume("a", "1");
    for _ in 0..400 {
        let tag = client.message().delivery_tag;
        client.reject(tag, false);
    }
    client.hang_up();
    let mut all = contents(&node, "a");
    all.extend(contents(&node, "b"));
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}
