//! Quorum queues on one node.

use haremq::protocol::{Properties, Value, basic, queue};

use crate::support::{Client, Message, Node, short, table};

const QUORUM: (&str, &str) = ("x-queue-type", "quorum");

fn quorum(more: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let mut arguments = vec![(QUORUM.0, Value::from(QUORUM.1))];
    arguments.extend_from_slice(more);
    arguments
}

fn filled(node: &Node, more: &[(&'static str, Value)], bodies: &[&str]) -> Client {
    let mut client = node.client();
    client.declare("q", &quorum(more));
    for body in bodies {
        client.publish("", "q", body);
    }
    client
}

fn refuse_flags(declare: queue::Declare<'_>, property: &str) {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        queue: short("q"),
        arguments: table(&quorum(&[])).as_table(),
        ..declare
    });
    let text =
        format!("PRECONDITION_FAILED - invalid property '{property}' for queue 'q' in vhost '/'");
    client.expect_channel_close(406, &text, (50, 10));
}

fn counters(message: &Message) -> (Option<i64>, Option<i64>) {
    let number = |name| message.header(name).and_then(Value::as_i64);
    (number("x-acquired-count"), number("x-delivery-count"))
}

#[test]
fn a_transient_quorum_queue_is_406() {
    refuse_flags(queue::Declare::default(), "non-durable");
}

#[test]
fn an_exclusive_quorum_queue_is_406() {
    let declare = queue::Declare {
        durable: true,
        exclusive: true,
        ..queue::Declare::default()
    };
    refuse_flags(declare, "exclusive-owner");
}

#[test]
fn an_auto_delete_quorum_queue_is_406() {
    let declare = queue::Declare {
        durable: true,
        auto_delete: true,
        ..queue::Declare::default()
    };
    refuse_flags(declare, "auto-delete");
}

#[test]
fn a_server_named_quorum_queue_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare("", &quorum(&[]));
    let text =
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn classic_arguments_on_a_quorum_queue_are_406() {
    for (argument, value) in [
        ("x-max-priority", Value::from(5)),
        ("x-queue-mode", "lazy".into()),
        ("x-queue-version", 2.into()),
    ] {
        let node = Node::start();
        let mut client = node.client();
        client.try_declare("q", &quorum(&[(argument, value)]));
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{argument}' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"
        );
        client.expect_channel_close(406, &text, (50, 10));
    }
}

#[test]
fn delete_with_flags_is_540() {
    let node = Node::start();
    for (if_unused, if_empty) in [(true, false), (false, true)] {
        let mut client = node.client();
        client.declare("q", &quorum(&[]));
        client.send(queue::Delete {
            queue: short("q"),
            if_unused,
            if_empty,
            no_wait: false,
        });
        let received = client.next();
        let haremq::protocol::Method::ConnectionClose(close) = received.method() else {
            panic!("{}", received.describe());
        };
        assert_eq!(
            (close.reply_code, close.class_id, close.method_id),
            (540, 50, 40)
        );
    }
}

#[test]
fn deleting_without_flags_is_fine() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a", "b"]);
    assert_eq!(client.delete("q"), 2);
}

/// RabbitMQ refuses this with 540 where it permits global prefetch at all, which it does not by default; there
/// the flag is taken as `global=false` and the consume goes through. It goes through here in both cases.
#[test]
fn a_global_prefetch_holds_on_a_quorum_queue() {
    let node = Node::start_with(|settings| settings.deprecated_features.global_qos = true);
    let mut client = filled(&node, &[], &["a", "b"]);
    client.qos(1, true);
    client.consume("q", "c");
    client.expect_deliveries(&["a"]);
    client.ack(1);
    client.expect_deliveries(&["b"]);
}

#[test]
fn the_exclusive_flag_of_a_consumer_is_ignored() {
    let node = Node::start();
    let mut client = filled(&node, &[], &[]);
    for tag in ["a", "b"] {
        client.send(basic::Consume {
            queue: short("q"),
            consumer_tag: short(tag),
            exclusive: true,
            ..basic::Consume::default()
        });
        client.expect(basic::ConsumeOk {
            consumer_tag: short(tag),
        });
    }
}

#[test]
fn the_first_delivery_has_no_counters() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    let message = client.get("q");
    assert_eq!(counters(&message), (None, None));
    assert!(!message.redelivered);
}

#[test]
fn a_reject_with_requeue_counts_as_failed() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.get("q");
    client.reject(1, true);
    let message = client.get("q");
    assert_eq!(counters(&message), (Some(1), Some(1)));
    assert!(message.redelivered);
}

#[test]
fn a_nack_with_requeue_does_not_count_as_failed() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.get("q");
    client.nack(1, true);
    let message = client.get("q");
    let (acquired, failed) = counters(&message);
    assert_eq!(acquired, Some(1));
    assert_eq!(failed.unwrap_or(0), 0);
}

#[test]
fn a_lost_connection_counts_as_failed() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.get("q");
    client.hang_up();
    assert_eq!(counters(&node.client().get("q")), (Some(1), Some(1)));
}

#[test]
fn a_closed_channel_counts_as_failed() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.get("q");
    client.close_channel();
    client.open_channel(1);
    assert_eq!(counters(&client.get("q")), (Some(1), Some(1)));
}

#[test]
fn a_message_above_the_delivery_limit_is_dropped() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-delivery-limit", 2.into())], &["a"]);
    for _ in 0..3 {
        let tag = client.get("q").delivery_tag;
        client.reject(tag, true);
    }
    client.expect_get_empty("q");
}

#[test]
fn the_delivery_limit_is_20_by_default() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    for _ in 0..20 {
        let tag = client.get("q").delivery_tag;
        client.reject(tag, true);
    }
    let message = client.get("q");
    assert_eq!(counters(&message), (Some(20), Some(20)));
    client.reject(message.delivery_tag, true);
    client.expect_get_empty("q");
}

#[test]
fn a_delivery_limit_of_minus_1_is_none() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-delivery-limit", (-1).into())], &["a"]);
    for _ in 0..50 {
        let tag = client.get("q").delivery_tag;
        client.reject(tag, true);
    }
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn nacks_do_not_exhaust_the_delivery_limit() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-delivery-limit", 1.into())], &["a"]);
    for _ in 0..10 {
        let tag = client.get("q").delivery_tag;
        client.nack(tag, true);
    }
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn a_message_above_the_delivery_limit_is_dead_lettered() {
    let node = Node::start();
    node.client().declare("dead", &[]);
    let arguments = [
        ("x-delivery-limit", 1.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    let mut client = filled(&node, &arguments, &["a"]);
    for _ in 0..2 {
        let tag = client.get("q").delivery_tag;
        client.reject(tag, true);
    }
    let letter = client.expect_get("dead", "a");
    assert_eq!(
        letter.header("x-last-death-reason"),
        Some(&"delivery_limit".into())
    );
}

#[test]
fn returned_messages_come_first_in_the_order_of_their_return() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a", "b", "c", "d"]);
    for _ in 0..3 {
        client.get("q");
    }
    client.nack(3, true);
    client.nack(1, true);
    client.nack(2, true);
    client.expect_contents("q", &["c", "a", "b", "d"]);
}

fn with_priority(priority: u8) -> Properties {
    Properties {
        priority: Some(priority),
        ..Properties::default()
    }
}

#[test]
fn priorities_are_always_on_and_strict() {
    let node = Node::start();
    let mut client = filled(&node, &[], &[]);
    for (priority, body) in [(0, "a"), (31, "b"), (5, "c"), (30, "d")] {
        client.publish_with("", "q", &with_priority(priority), body);
    }
    client.expect_contents("q", &["b", "d", "c", "a"]);
}

#[test]
fn no_priority_is_4() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["none"]);
    client.publish_with("", "q", &with_priority(3), "three");
    client.publish_with("", "q", &with_priority(5), "five");
    client.publish_with("", "q", &with_priority(4), "four");
    client.expect_contents("q", &["five", "none", "four", "three"]);
}

#[test]
fn a_priority_above_31_is_31() {
    let node = Node::start();
    let mut client = filled(&node, &[], &[]);
    client.publish_with("", "q", &with_priority(31), "a");
    client.publish_with("", "q", &with_priority(200), "b");
    client.expect_contents("q", &["a", "b"]);
}

#[test]
fn returns_come_before_every_priority() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.get("q");
    client.publish_with("", "q", &with_priority(31), "urgent");
    client.nack(1, true);
    client.expect_contents("q", &["a", "urgent"]);
}

#[test]
fn get_with_a_single_active_consumer_is_405() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-single-active-consumer", true.into())], &[]);
    client.send(basic::Get {
        queue: short("q"),
        no_ack: true,
    });
    let text = "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations \
                are not supported by quorum queues with single active consumer";
    client.expect_channel_close(405, text, (60, 70));
}

#[test]
fn a_single_active_consumer_of_higher_priority_takes_over_when_all_is_settled() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-single-active-consumer", true.into())], &[]);
    client.qos(10, false);
    client.consume("q", "low");
    client.publish("", "q", "1");
    assert_eq!(client.expect_delivery("1").consumer_tag, "low");
    client.consume_with("q", "high", &[("x-priority", 1.into())]);
    client.publish("", "q", "2");
    client.expect_nothing();
    client.ack(1);
    assert_eq!(client.expect_delivery("2").consumer_tag, "high");
}

#[test]
fn a_message_expires_and_is_dead_lettered() {
    let node = Node::start();
    node.client().declare("dead", &[]);
    let arguments = [
        ("x-message-ttl", 100.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    let mut client = filled(&node, &arguments, &["a"]);
    node.advance(100);
    client.expect_contents("dead", &["a"]);
}

#[test]
fn a_consumer_that_takes_too_long_is_cancelled_and_its_messages_return() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-consumer-timeout", 1000.into())], &["a"]);
    client.consume("q", "c");
    client.expect_delivery("a");
    node.advance(1000);
    client.expect_cancel("c");
    client.expect_nothing();
    let message = client.get("q");
    let (acquired, failed) = counters(&message);
    assert_eq!((acquired, failed.unwrap_or(0)), (Some(1), 0));
}

#[test]
fn the_consumers_own_timeout_beats_the_queues() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-consumer-timeout", 1000.into())], &["a"]);
    client.consume_with("q", "c", &[("x-consumer-timeout", 5000.into())]);
    client.expect_delivery("a");
    node.advance(4_999);
    client.expect_nothing();
    node.advance(1);
    client.expect_cancel("c");
}

#[test]
fn the_consumer_timeout_is_30_minutes_by_default() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.consume("q", "c");
    client.expect_delivery("a");
    node.advance(1_799_999);
    client.expect_nothing();
    node.advance(1);
    client.expect_cancel("c");
}

#[test]
fn classic_queues_have_no_consumer_timeout() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "a");
    client.consume("q", "c");
    client.expect_delivery("a");
    node.advance(86_400_000);
    client.expect_nothing();
    client.ack(1);
    client.expect_nothing();
}

#[test]
fn a_delayed_retry_waits_longer_each_time() {
    let node = Node::start();
    let arguments = [
        ("x-delayed-retry-type", "all".into()),
        ("x-delayed-retry-min", 100.into()),
        ("x-delayed-retry-max", 250.into()),
    ];
    let mut client = filled(&node, &arguments, &["a"]);
    for delay_ms in [100, 200, 250] {
        let tag = client.get("q").delivery_tag;
        client.reject(tag, true);
        node.advance(delay_ms - 1);
        client.expect_get_empty("q");
        node.advance(1);
        assert_eq!(client.counts("q"), (1, 0));
    }
}

#[test]
fn reject_publish_dlx_falls_back_to_drop_head() {
    let node = Node::start();
    let arguments = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish-dlx".into()),
    ];
    let mut client = filled(&node, &arguments, &["a", "b"]);
    client.expect_contents("q", &["b"]);
}

#[test]
fn no_prefetch_is_a_prefetch_of_2000() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["m"; 2100]);
    client.consume("q", "c");
    for _ in 0..2000 {
        client.expect_delivery("m");
    }
    client.expect_nothing();
    client.ack(1);
    client.expect_deliveries(&["m"]);
}

#[test]
fn a_redeclare_is_no_use_for_expires() {
    let node = Node::start();
    let mut client = filled(&node, &[("x-expires", 1000.into())], &[]);
    node.advance(900);
    client.declare("q", &quorum(&[("x-expires", 1000.into())]));
    node.advance(100);
    client.expect_no_queue("q");
}

#[test]
fn messages_are_confirmed_and_purged() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.confirm();
    client.publish("", "q", "b");
    client.expect_ack(1, false);
    client.send(queue::Purge {
        queue: short("q"),
        no_wait: false,
    });
    client.expect(queue::PurgeOk { message_count: 2 });
}

#[test]
fn reject_publish_nacks() {
    let node = Node::start();
    let arguments = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish".into()),
    ];
    let mut client = filled(&node, &arguments, &["a"]);
    client.confirm();
    client.publish("", "q", "b");
    client.expect_nack(1);
}

#[test]
fn a_nack_without_requeue_is_dead_lettered() {
    let node = Node::start();
    node.client().declare("dead", &[]);
    let arguments = [
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "dead".into()),
    ];
    let mut client = filled(&node, &arguments, &["a"]);
    client.get("q");
    client.nack(1, false);
    let letter = client.expect_get("dead", "a");
    assert_eq!(counters(&letter), (None, None));
}

#[test]
fn recover_returns_without_counting_a_failure() {
    let node = Node::start();
    let mut client = filled(&node, &[], &["a"]);
    client.get("q");
    client.send(basic::Recover { requeue: true });
    client.expect(basic::RecoverOk);
    let message = client.get("q");
    assert!(message.redelivered);
    assert_eq!(counters(&message).1.unwrap_or(0), 0);
}

#[test]
fn a_consumer_that_takes_too_long_and_cannot_hear_it_loses_its_channel() {
    let node = Node::start();
    let mut client = node.socket();
    client.begin();
    client.start_ok("PLAIN", b"\0guest\0guest", &[]);
    client.tune();
    client.send(haremq::protocol::connection::Open {
        virtual_host: short("/"),
    });
    client.expect(haremq::protocol::connection::OpenOk);
    client.open_channel(1);
    client.declare("q", &quorum(&[("x-consumer-timeout", 1000.into())]));
    client.publish("", "q", "a");
    client.consume("q", "c");
    client.expect_delivery("a");
    node.advance(1000);
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. \
                Timeout value used: 1000 ms. This timeout value can be configured, \
                see consumers doc guide to learn more";
    client.expect_channel_close(406, text, (0, 0));
    assert_eq!(node.client().counts("q"), (1, 0));
}
