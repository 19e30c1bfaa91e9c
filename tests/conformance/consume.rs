//! Consumers: tags, cancelling, exclusive ones, gets.

use haremq::protocol::{Method, basic, queue};

use crate::support::{Node, short, table};

#[test]
fn a_generated_tag_is_amq_ctag_and_22_characters() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(basic::Consume {
        queue: short("q"),
        ..basic::Consume::default()
    });
    let received = client.next();
    let Method::BasicConsumeOk(ok) = received.method() else {
        panic!("{}", received.describe());
    };
    let tag = ok.consumer_tag.to_string();
    assert_eq!(tag.strip_prefix("amq.ctag-").unwrap().len(), 22);
}

#[test]
fn reusing_a_tag_on_its_channel_is_530() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.send(basic::Consume {
        queue: short("q"),
        consumer_tag: short("c"),
        ..basic::Consume::default()
    });
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'";
    client.expect_connection_close(530, text, (60, 20));
}

#[test]
fn a_tag_may_be_used_on_two_channels() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.open_channel(2);
    client.consume("q", "c");
}

#[test]
fn a_cancelled_tag_may_be_used_again() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.cancel("c");
    client.consume("q", "c");
}

#[test]
fn cancelling_an_unknown_tag_is_fine() {
    let node = Node::start();
    node.client().cancel("nobody");
}

#[test]
fn no_wait_consume_is_not_answered_and_delivers() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    client.send(basic::Consume {
        queue: short("q"),
        consumer_tag: short("c"),
        no_wait: true,
        ..basic::Consume::default()
    });
    client.expect_deliveries(&["m"]);
}

#[test]
fn consume_ok_comes_before_the_first_delivery() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    client.consume("q", "c");
    client.expect_deliveries(&["m"]);
}

#[test]
fn unsettled_deliveries_stay_unsettled_after_cancel() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    client.consume("q", "c");
    let tag = client.expect_delivery("m").delivery_tag;
    client.cancel("c");
    assert_eq!(client.counts("q"), (0, 0));
    client.nack(tag, true);
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn no_delivery_comes_after_cancel_ok() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.cancel("c");
    client.publish("", "q", "m");
    client.expect_nothing();
    client.expect_contents("q", &["m"]);
}

#[test]
fn deliveries_on_their_way_come_before_cancel_ok() {
    let node = Node::start();
    let mut client = node.client();
    let mut publisher = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    publisher.publish("", "q", "m");
    client.send(basic::Cancel {
        consumer_tag: short("c"),
        no_wait: false,
    });
    client.expect_delivery("m");
    client.expect(basic::CancelOk {
        consumer_tag: short("c"),
    });
}

#[test]
fn no_ack_deliveries_are_gone_when_sent() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    client.consume_no_ack("q", "c");
    client.expect_delivery("m");
    client.hang_up();
    assert_eq!(node.client().counts("q"), (0, 0));
}

#[test]
fn acknowledging_a_no_ack_delivery_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    client.consume_no_ack("q", "c");
    let tag = client.expect_delivery("m").delivery_tag;
    client.ack(tag);
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    client.expect_channel_close(406, text, (60, 80));
}

#[test]
fn no_local_is_ignored() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(basic::Consume {
        queue: short("q"),
        consumer_tag: short("c"),
        no_local: true,
        ..basic::Consume::default()
    });
    client.expect(basic::ConsumeOk {
        consumer_tag: short("c"),
    });
    client.publish("", "q", "m");
    client.expect_deliveries(&["m"]);
}

#[test]
fn an_exclusive_consumer_excludes_others() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(basic::Consume {
        queue: short("q"),
        consumer_tag: short("c"),
        exclusive: true,
        ..basic::Consume::default()
    });
    client.expect(basic::ConsumeOk {
        consumer_tag: short("c"),
    });
    let mut other = node.client();
    other.send(basic::Consume {
        queue: short("q"),
        ..basic::Consume::default()
    });
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    other.expect_channel_close(403, text, (60, 20));
}

#[test]
fn an_exclusive_consumer_does_not_come_to_others() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.send(basic::Consume {
        queue: short("q"),
        consumer_tag: short("d"),
        exclusive: true,
        ..basic::Consume::default()
    });
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    client.expect_channel_close(403, text, (60, 20));
}

#[test]
fn an_exclusive_consumer_does_not_hinder_gets() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.qos(1, false);
    client.send(basic::Consume {
        queue: short("q"),
        consumer_tag: short("c"),
        exclusive: true,
        ..basic::Consume::default()
    });
    client.expect(basic::ConsumeOk {
        consumer_tag: short("c"),
    });
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    client.expect_delivery("a");
    node.client().expect_contents("q", &["b"]);
}

#[test]
fn consumers_take_turns() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "a");
    client.consume("q", "b");
    for body in ["1", "2", "3", "4"] {
        client.publish("", "q", body);
    }
    let tags: Vec<_> = ["1", "2", "3", "4"]
        .iter()
        .map(|body| client.expect_delivery(body).consumer_tag)
        .collect();
    assert_eq!(tags, ["a", "b", "a", "b"]);
}

#[test]
fn a_deleted_queue_cancels_its_consumers() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    node.client().delete("q");
    client.expect_cancel("c");
    client.expect_nothing();
    client.declare("q", &[]);
    client.consume("q", "c");
}

#[test]
fn an_expired_queue_cancels_nobody_because_it_has_no_consumers() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-expires", 1000.into())]);
    client.consume("q", "c");
    node.advance(60_000);
    client.expect_nothing();
    assert_eq!(client.counts("q"), (0, 1));
}

#[test]
fn the_client_may_answer_a_cancel_notification() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    node.client().delete("q");
    client.expect_cancel("c");
    client.send(basic::CancelOk {
        consumer_tag: short("c"),
    });
    client.expect_nothing();
    client.declare("q", &[]);
}

#[test]
fn get_from_an_empty_queue_is_get_empty() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.expect_get_empty("q");
}

#[test]
fn get_ok_counts_what_remains() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    let got = client.get("q");
    assert_eq!((got.text(), got.message_count), ("a", 2));
    assert_eq!(client.get("q").message_count, 1);
}

#[test]
fn a_priority_that_is_no_integer_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(basic::Consume {
        queue: short("q"),
        arguments: table(&[("x-priority", "high".into())]).as_table(),
        ..basic::Consume::default()
    });
    let text = "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
                \"expected integer, got longstr\"";
    client.expect_channel_close(406, text, (60, 20));
}

#[test]
fn the_highest_priority_gets_everything_while_it_has_credit() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.qos(2, false);
    client.consume_with("q", "low", &[("x-priority", (-1).into())]);
    client.consume("q", "middle");
    client.consume_with("q", "high", &[("x-priority", 10.into())]);
    let bodies = ["1", "2", "3", "4", "5", "6", "7"];
    for body in bodies {
        client.publish("", "q", body);
    }
    let tags: Vec<_> = bodies[..6]
        .iter()
        .map(|body| client.expect_delivery(body).consumer_tag)
        .collect();
    assert_eq!(tags, ["high", "high", "middle", "middle", "low", "low"]);
    client.expect_nothing();
    client.ack(1);
    assert_eq!(client.expect_delivery("7").consumer_tag, "high");
}

#[test]
fn consumers_above_the_channels_limit_are_530() {
    let node = Node::start_with(|settings| {
        settings.limits.consumers_per_channel_max = Some(1);
    });
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "a");
    client.send(basic::Consume {
        queue: short("q"),
        ..basic::Consume::default()
    });
    let text = "NOT_ALLOWED - reached maximum (1) of consumers per channel";
    client.expect_connection_close(530, text, (60, 20));
}

#[test]
fn an_empty_queue_name_consumes_from_the_last_one_declared() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        exclusive: true,
        ..queue::Declare::default()
    });
    assert!(matches!(client.next().method(), Method::QueueDeclareOk(_)));
    client.consume("", "c");
}

#[test]
fn single_active_consumer_delivers_to_the_first_alone() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-single-active-consumer", true.into())]);
    client.consume("q", "a");
    client.consume("q", "b");
    for body in ["1", "2", "3"] {
        client.publish("", "q", body);
    }
    for message in client.expect_deliveries(&["1", "2", "3"]) {
        assert_eq!(message.consumer_tag, "a");
    }
}

#[test]
fn single_active_consumer_promotes_the_next_at_cancel() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-single-active-consumer", true.into())]);
    client.consume("q", "a");
    client.consume("q", "b");
    client.consume("q", "c");
    client.cancel("a");
    client.publish("", "q", "1");
    assert_eq!(client.expect_delivery("1").consumer_tag, "b");
    client.cancel("b");
    client.publish("", "q", "2");
    assert_eq!(client.expect_delivery("2").consumer_tag, "c");
}

#[test]
fn single_active_consumer_promotes_the_next_when_a_connection_is_lost() {
    let node = Node::start();
    let mut first = node.client();
    let mut second = node.client();
    first.declare("q", &[("x-single-active-consumer", true.into())]);
    first.consume("q", "a");
    second.consume("q", "b");
    first.publish("", "q", "1");
    first.expect_delivery("1");
    second.expect_nothing();
    first.hang_up();
    assert!(second.expect_delivery("1").redelivered);
}

#[test]
fn single_active_consumer_on_a_classic_queue_ignores_priority() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-single-active-consumer", true.into())]);
    client.consume("q", "a");
    client.consume_with("q", "b", &[("x-priority", 10.into())]);
    client.publish("", "q", "1");
    assert_eq!(client.expect_delivery("1").consumer_tag, "a");
}

#[test]
fn an_exclusive_consumer_of_a_single_active_queue_is_403() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-single-active-consumer", true.into())]);
    client.send(basic::Consume {
        queue: short("q"),
        exclusive: true,
        ..basic::Consume::default()
    });
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    client.expect_channel_close(403, text, (60, 20));
}
