//! Dead letters.

use haremq::protocol::{Properties, Value, queue};

use crate::support::{Client, Message, Node, headers, short, texts};

/// A queue `q` whose dead letters go to the queue `dead`.
fn with_dead_letters(node: &Node, more: &[(&str, Value)]) -> Client {
    let mut client = node.client();
    client.declare("dead", &[]);
    let mut arguments = vec![
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    arguments.extend_from_slice(more);
    client.declare("q", &arguments);
    client
}

/// A queue `q` whose dead letters go to the exchange `dlx` with their own keys.
fn with_exchange(client: &mut Client) {
    client.declare_exchange("dlx", "fanout", &[]);
    client.declare("dead", &[]);
    client.bind("dead", "dlx", "");
    client.declare("q", &[("x-dead-letter-exchange", "dlx".into())]);
}

fn reject(client: &mut Client, queue: &str) {
    let tag = client.get(queue).delivery_tag;
    client.reject(tag, false);
}

fn death<'a>(message: &'a Message, index: usize, key: &str) -> Option<&'a Value> {
    message.deaths()[index].get(key)
}

#[test]
fn a_rejected_message_is_dead_lettered() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish("", "q", "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    assert_eq!(letter.deaths().len(), 1);
    assert_eq!(death(&letter, 0, "reason"), Some(&"rejected".into()));
    assert_eq!(death(&letter, 0, "count"), Some(&Value::I64(1)));
    assert_eq!(death(&letter, 0, "queue"), Some(&"q".into()));
    assert_eq!(death(&letter, 0, "exchange"), Some(&"".into()));
    assert_eq!(death(&letter, 0, "routing-keys"), Some(&texts(&["q"])));
    let time = Value::Timestamp(node.now().wall_ms / 1000);
    assert_eq!(death(&letter, 0, "time"), Some(&time));
    assert!(!letter.redelivered);
}

#[test]
fn a_nacked_message_is_dead_lettered_as_rejected() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish("", "q", "a");
    client.get("q");
    client.nack(1, false);
    let letter = client.expect_get("dead", "a");
    assert_eq!(death(&letter, 0, "reason"), Some(&"rejected".into()));
}

#[test]
fn an_expired_message_is_dead_lettered() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[("x-message-ttl", 100.into())]);
    client.publish("", "q", "a");
    node.advance(100);
    let letter = client.expect_get("dead", "a");
    assert_eq!(death(&letter, 0, "reason"), Some(&"expired".into()));
    assert_eq!(death(&letter, 0, "original-expiration"), None);
}

#[test]
fn a_message_that_overflows_is_dead_lettered() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[("x-max-length", 1.into())]);
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    let letter = client.expect_get("dead", "a");
    assert_eq!(death(&letter, 0, "reason"), Some(&"maxlen".into()));
}

#[test]
fn purged_and_deleted_messages_are_not_dead_lettered() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish("", "q", "a");
    client.send(queue::Purge {
        queue: short("q"),
        no_wait: false,
    });
    client.expect(queue::PurgeOk { message_count: 1 });
    client.publish("", "q", "b");
    client.delete("q");
    client.expect_get_empty("dead");
}

#[test]
fn a_requeued_message_is_not_dead_lettered() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish("", "q", "a");
    client.get("q");
    client.reject(1, true);
    client.expect_get_empty("dead");
    client.expect_contents("q", &["a"]);
}

#[test]
fn a_missing_dead_letter_exchange_drops() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-dead-letter-exchange", "nowhere".into())]);
    client.publish("", "q", "a");
    reject(&mut client, "q");
    client.expect_get_empty("q");
}

#[test]
fn without_a_key_the_letter_keeps_its_own() {
    let node = Node::start();
    let mut client = node.client();
    with_exchange(&mut client);
    client.publish("", "q", "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    assert_eq!(
        (letter.exchange.as_str(), letter.routing_key.as_str()),
        ("dlx", "q")
    );
}

#[test]
fn with_a_key_the_letter_has_that() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish("", "q", "a");
    reject(&mut client, "q");
    assert_eq!(client.expect_get("dead", "a").routing_key, "dead");
}

#[test]
fn without_a_key_cc_routes_again() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("dlx", "direct", &[]);
    client.declare("dead", &[]);
    client.bind("dead", "dlx", "copy");
    client.declare("q", &[("x-dead-letter-exchange", "dlx".into())]);
    client.publish_with("", "q", &headers(&[("CC", texts(&["copy"]))]), "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    assert_eq!(
        death(&letter, 0, "routing-keys"),
        Some(&texts(&["q", "copy"]))
    );
    assert_eq!(letter.header("CC"), Some(&texts(&["copy"])));
}

#[test]
fn with_a_key_cc_is_removed() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.declare("copy", &[]);
    client.publish_with("", "q", &headers(&[("CC", texts(&["copy"]))]), "a");
    client.expect_get("copy", "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    assert_eq!(letter.header("CC"), None);
    client.expect_get_empty("copy");
}

#[test]
fn bcc_is_not_in_the_routing_keys() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish_with("", "q", &headers(&[("BCC", texts(&["secret"]))]), "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    assert_eq!(death(&letter, 0, "routing-keys"), Some(&texts(&["q"])));
}

#[test]
fn expiration_is_removed_and_remembered() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    let properties = Properties {
        expiration: Some("100".into()),
        ..Properties::default()
    };
    client.publish_with("", "q", &properties, "a");
    node.advance(100);
    let letter = client.expect_get("dead", "a");
    assert_eq!(letter.properties.expiration, None);
    assert_eq!(
        death(&letter, 0, "original-expiration"),
        Some(&"100".into())
    );
}

#[test]
fn first_and_last_death_are_told_apart() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.declare(
        "first",
        &[
            ("x-message-ttl", 100.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "q".into()),
        ],
    );
    client.bind("first", "amq.fanout", "");
    client.publish("amq.fanout", "", "a");
    node.advance(100);
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    for (header, value) in [
        ("x-first-death-reason", "expired"),
        ("x-first-death-queue", "first"),
        ("x-first-death-exchange", "amq.fanout"),
        ("x-last-death-reason", "rejected"),
        ("x-last-death-queue", "q"),
        ("x-last-death-exchange", ""),
    ] {
        assert_eq!(letter.header(header), Some(&value.into()), "{header}");
    }
    assert_eq!(letter.deaths().len(), 2);
    assert_eq!(death(&letter, 0, "queue"), Some(&"q".into()));
    assert_eq!(death(&letter, 1, "queue"), Some(&"first".into()));
}

#[test]
fn the_same_queue_and_reason_is_counted_in_one_entry() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "q",
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "q".into()),
        ],
    );
    client.publish("", "q", "a");
    let began_s = node.now().wall_ms / 1000;
    for _ in 0..3 {
        reject(&mut client, "q");
        node.advance(10_000);
    }
    let letter = client.expect_get("q", "a");
    assert_eq!(letter.deaths().len(), 1);
    assert_eq!(death(&letter, 0, "count"), Some(&Value::I64(3)));
    assert_eq!(death(&letter, 0, "time"), Some(&Value::Timestamp(began_s)));
}

#[test]
fn a_loop_without_a_rejection_drops_the_message() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "q",
        &[
            ("x-message-ttl", 100.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "q".into()),
        ],
    );
    client.publish("", "q", "a");
    node.advance(100);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn a_loop_with_a_rejection_goes_on() {
    let node = Node::start();
    let mut client = node.client();
    client.declare(
        "wait",
        &[
            ("x-message-ttl", 100.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "work".into()),
        ],
    );
    client.declare(
        "work",
        &[
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "wait".into()),
        ],
    );
    client.publish("", "work", "a");
    for _ in 0..5 {
        reject(&mut client, "work");
        node.advance(100);
    }
    let letter = client.expect_get("work", "a");
    assert_eq!(death(&letter, 0, "reason"), Some(&"expired".into()));
    assert_eq!(death(&letter, 0, "count"), Some(&Value::I64(5)));
    assert_eq!(death(&letter, 1, "reason"), Some(&"rejected".into()));
    assert_eq!(death(&letter, 1, "count"), Some(&Value::I64(5)));
}

#[test]
fn a_publishers_own_x_death_is_replaced() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    for own in [
        Value::from("nonsense"),
        Value::Array(vec![1.into(), 2.into()]),
    ] {
        client.publish_with("", "q", &headers(&[("x-death", own)]), "a");
        reject(&mut client, "q");
        let letter = client.expect_get("dead", "a");
        assert_eq!(letter.deaths().len(), 1);
        assert_eq!(death(&letter, 0, "count"), Some(&Value::I64(1)));
    }
}

#[test]
fn a_republished_letter_starts_a_new_history() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.publish("", "q", "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    client.publish_with("", "q", &letter.properties, "b");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "b");
    assert_eq!(letter.deaths().len(), 1);
    assert_eq!(death(&letter, 0, "count"), Some(&Value::I64(1)));
}

#[test]
fn a_letter_keeps_its_properties() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    let properties = Properties {
        message_id: Some("id".into()),
        priority: Some(3),
        delivery_mode: Some(2),
        headers: Some(crate::support::field_table(&[("mine", 1.into())])),
        ..Properties::default()
    };
    client.publish_with("", "q", &properties, "a");
    reject(&mut client, "q");
    let letter = client.expect_get("dead", "a");
    assert_eq!(letter.properties.message_id, Some("id".into()));
    assert_eq!(letter.properties.priority, Some(3));
    assert_eq!(letter.properties.delivery_mode, Some(2));
    assert_eq!(letter.header("mine"), Some(&1.into()));
}

#[test]
fn letters_reach_waiting_consumers() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[("x-message-ttl", 100.into())]);
    let mut other = node.client();
    other.consume("dead", "c");
    client.publish("", "q", "a");
    other.expect_nothing();
    node.advance(100);
    other.expect_deliveries(&["a"]);
}

#[test]
fn a_letter_that_overflows_its_own_queue_goes_on() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("last", &[]);
    client.declare(
        "middle",
        &[
            ("x-max-length", 1.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "last".into()),
        ],
    );
    client.declare(
        "first",
        &[
            ("x-max-length", 1.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "middle".into()),
        ],
    );
    for body in ["1", "2", "3"] {
        client.publish("", "first", body);
    }
    client.expect_contents("first", &["3"]);
    client.expect_contents("middle", &["2"]);
    let letter = client.expect_get("last", "1");
    assert_eq!(letter.deaths().len(), 2);
    assert_eq!(death(&letter, 0, "queue"), Some(&"middle".into()));
    assert_eq!(letter.header("x-first-death-queue"), Some(&"first".into()));
}

#[test]
fn letters_of_one_settlement_keep_their_order() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    for body in ["1", "2", "3"] {
        client.publish("", "q", body);
        client.get("q");
    }
    client.send(haremq::protocol::basic::Nack {
        delivery_tag: 0,
        multiple: true,
        requeue: false,
    });
    client.expect_contents("dead", &["1", "2", "3"]);
}

#[test]
fn letters_are_confirmed_to_nobody() {
    let node = Node::start();
    let mut client = with_dead_letters(&node, &[]);
    client.confirm();
    client.publish("", "q", "a");
    client.expect_ack(1, false);
    reject(&mut client, "q");
    client.expect_nothing();
    client.expect_contents("dead", &["a"]);
}
