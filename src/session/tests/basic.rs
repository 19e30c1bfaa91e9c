//! Consuming, fetching and settling.

use super::support::{Client, delivery, message, message_with, short};
use crate::model::*;
use crate::protocol::{FieldTable, Properties, ReplyCode, Value, basic, channel};
use crate::session::SessionSettings;

#[test]
fn a_consumer_gets_a_tag_and_deliveries() {
    let mut client = Client::with_channel();
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            ..basic::Consume::default()
        },
    );
    client.expect(
        1,
        basic::ConsumeOk {
            consumer_tag: short("amq.ctag-1"),
        },
    );
    let consumer = ConsumerId(1);
    client.deliver(delivery(consumer, 1, b"one")).unwrap();
    let second = Delivery {
        redelivered: true,
        ..delivery(consumer, 2, b"")
    };
    client.deliver(second).unwrap();
    client.expect(
        1,
        basic::Deliver {
            consumer_tag: short("tag"),
            delivery_tag: 1,
            redelivered: false,
            exchange: short("ex"),
            routing_key: short("key"),
        },
    );
    assert_eq!(client.expect_content().1, b"one");
    client.expect(
        1,
        basic::Deliver {
            consumer_tag: short("tag"),
            delivery_tag: 2,
            redelivered: true,
            exchange: short("ex"),
            routing_key: short("key"),
        },
    );
    assert_eq!(client.expect_content().1, b"");
}

#[test]
fn bodies_are_split_by_the_negotiated_frame_max() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(10, 8192, 0);
    client.open();
    client.drain();
    client.open_channel(1);
    let consumer = client.consume(1, "c", true);
    client.deliver(delivery(consumer, 1, &[7; 20_000])).unwrap();
    assert_eq!(
        client.receive_all(),
        [
            "1 basic.deliver",
            "1 header",
            "1 body 8184",
            "1 body 8184",
            "1 body 3632"
        ]
    );
}

#[test]
fn what_settles_itself_is_not_remembered() {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", true);
    let no_ack = Delivery {
        no_ack: true,
        ..delivery(consumer, 1, b"x")
    };
    client.deliver(no_ack).unwrap();
    let direct_reply = Delivery {
        queue: None,
        ..delivery(consumer, 1, b"x")
    };
    client.deliver(direct_reply).unwrap();
    client.deliver(delivery(consumer, 2, b"x")).unwrap();
    let info = client.session.channels().next().unwrap();
    assert_eq!(info.messages_unacknowledged, 1);
    client.send(
        1,
        basic::Ack {
            delivery_tag: 3,
            multiple: false,
        },
    );
    assert_eq!(client.executor.settled.len(), 1);
    client.drain();
    client.send(
        1,
        basic::Ack {
            delivery_tag: 1,
            multiple: false,
        },
    );
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - unknown delivery tag 1",
    );
}

#[test]
fn a_delivery_to_nobody_comes_back() {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    assert!(client.deliver(delivery(ConsumerId(99), 1, b"x")).is_err());
    let elsewhere = Delivery {
        channel: 2,
        ..delivery(consumer, 1, b"x")
    };
    assert_eq!(client.deliver(elsewhere).unwrap_err().channel, 2);
    client.send(
        1,
        basic::Cancel {
            consumer_tag: short("c"),
            no_wait: true,
        },
    );
    assert!(client.deliver(delivery(consumer, 1, b"x")).is_err());
    client.expect_nothing();
}

#[test]
fn counters_of_a_quorum_queue_become_headers() {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    let mut headers = FieldTable::new();
    headers.insert("mine", 1);
    let properties = Properties {
        headers: Some(headers),
        message_id: Some("m".into()),
        ..Properties::default()
    };
    for (acquired, failed) in [(1, 0), (3, 2)] {
        let delivery = Delivery {
            message: message_with(&properties, b"x"),
            counts: Some(RedeliveryCounts {
                acquired,
                delivery: failed,
            }),
            ..delivery(consumer, 1, b"x")
        };
        client.deliver(delivery).unwrap();
        client.receive().unwrap();
        let (properties, _) = client.expect_content();
        assert_eq!(properties.message_id, Some("m".into()));
        let headers = properties.headers.unwrap();
        assert_eq!(headers.get("mine"), Some(&Value::I32(1)));
        assert_eq!(
            headers.get("x-acquired-count"),
            Some(&Value::I64(acquired.into()))
        );
        let failed = (failed > 0).then_some(Value::I64(failed.into()));
        assert_eq!(headers.get("x-delivery-count"), failed.as_ref());
    }
}

#[test]
fn a_consumer_tag_cannot_be_used_twice_on_a_channel() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    client.consume(1, "c", false);
    client.consume(2, "c", false);
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            consumer_tag: short("c"),
            ..basic::Consume::default()
        },
    );
    let at_fault = client.expect_connection_close(
        ReplyCode::NotAllowed,
        "NOT_ALLOWED - attempt to reuse consumer tag 'c'",
    );
    assert_eq!(at_fault, (60, 20));
}

#[test]
fn consumers_of_a_channel_can_be_limited() {
    let mut client = Client::with_channel_and(SessionSettings {
        consumers_per_channel_max: Some(2),
        ..SessionSettings::default()
    });
    client.consume(1, "a", false);
    client.consume(1, "b", false);
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            consumer_tag: short("c"),
            ..basic::Consume::default()
        },
    );
    client.expect_connection_close(
        ReplyCode::NotAllowed,
        "NOT_ALLOWED - reached maximum (2) of consumers per channel",
    );
}

#[test]
fn cancel_sends_what_was_assigned_before_cancel_ok() {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    let deliveries = vec![delivery(consumer, 1, b""), delivery(consumer, 2, b"")];
    let answer = Execution::done(Reply::Cancelled { deliveries });
    client.executor.answers.push_back(answer);
    client.send(
        1,
        basic::Cancel {
            consumer_tag: short("c"),
            no_wait: false,
        },
    );
    assert_eq!(
        client.receive_all(),
        [
            "1 basic.deliver",
            "1 header",
            "1 basic.deliver",
            "1 header",
            "1 basic.cancel-ok"
        ]
    );
    assert_eq!(
        client
            .session
            .channels()
            .next()
            .unwrap()
            .messages_unacknowledged,
        2
    );
    assert_eq!(client.session.channels().next().unwrap().consumer_count, 0);
}

#[test]
fn cancel_of_an_unknown_tag_is_ok() {
    let mut client = Client::with_channel();
    client.send(
        1,
        basic::Cancel {
            consumer_tag: short("nobody"),
            no_wait: false,
        },
    );
    client.expect(
        1,
        basic::CancelOk {
            consumer_tag: short("nobody"),
        },
    );
    assert!(client.executor.commands.is_empty());
}

#[test]
fn clients_that_can_hear_it_are_told_of_a_cancelled_consumer() {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    client.session.handle_consumer_cancelled(1, consumer);
    client.session.handle_consumer_cancelled(1, consumer);
    client.session.handle_consumer_cancelled(2, consumer);
    client.expect(
        1,
        basic::Cancel {
            consumer_tag: short("c"),
            no_wait: true,
        },
    );
    client.expect_nothing();
    client.send(
        1,
        basic::CancelOk {
            consumer_tag: short("c"),
        },
    );
    client.expect_nothing();
    assert!(client.session.ended().is_none());
}

#[test]
fn clients_that_cannot_hear_it_are_not_told() {
    let mut client = Client::connect();
    client.send_bytes(b"AMQP\0\0\x09\x01");
    client.start_ok(&[]);
    client.tune_ok(2047, 131_072, 0);
    client.open();
    client.drain();
    client.open_channel(1);
    let consumer = client.consume(1, "c", false);
    client.session.handle_consumer_cancelled(1, consumer);
    client.expect_nothing();
    assert!(client.deliver(delivery(consumer, 1, b"")).is_err());
}

#[test]
fn get_takes_a_message_or_says_empty() {
    let mut client = Client::with_channel();
    let get = basic::Get {
        queue: short("q"),
        no_ack: false,
    };
    client.send(1, get);
    client.expect(1, basic::GetEmpty);
    let got = Got {
        queue: QueueId(4),
        position: Position(8),
        redelivered: true,
        kind: crate::model::QueueKind::Classic,
        counts: None,
        messages_ready: 5,
        message: message(b"body"),
        channel: 1,
    };
    for no_ack in [true, false] {
        let answer = Execution::done(Reply::Got(Some(got.clone())));
        client.executor.answers.push_back(answer);
        client.send(1, basic::Get { no_ack, ..get });
        client.expect(
            1,
            basic::GetOk {
                delivery_tag: if no_ack { 1 } else { 2 },
                redelivered: true,
                exchange: short("ex"),
                routing_key: short("key"),
                message_count: 5,
            },
        );
        assert_eq!(client.expect_content().1, b"body");
    }
    client.send(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: false,
        },
    );
    let unsettled = Unsettled {
        queue: QueueId(4),
        position: Position(8),
        consumer: None,
    };
    assert_eq!(client.executor.settled[0].1.delivery, unsettled);
}

#[track_caller]
fn check_qos(settings: SessionSettings, global: bool, expected_global: bool) {
    let mut client = Client::with_channel_and(settings);
    client.send(
        1,
        basic::Qos {
            prefetch_size: 0,
            prefetch_count: 9,
            global,
        },
    );
    client.expect(1, basic::QosOk);
    let (_, command) = client.executor.commands.pop().unwrap();
    assert!(matches!(
        command,
        Command::Qos { prefetch_count: 9, global } if global == expected_global
    ));
    let info = client.session.channels().next().unwrap();
    let limits = (info.prefetch_count, info.global_prefetch_count);
    assert_eq!(limits, if expected_global { (0, 9) } else { (9, 0) });
}

#[test]
fn qos_is_global_only_where_that_is_permitted() {
    let denied = SessionSettings {
        permit_global_qos: false,
        ..SessionSettings::default()
    };
    check_qos(SessionSettings::default(), false, false);
    check_qos(SessionSettings::default(), true, true);
    check_qos(denied, true, false);
}

#[test]
fn prefetch_size_is_not_implemented() {
    let mut client = Client::with_channel();
    client.send(
        1,
        basic::Qos {
            prefetch_size: 10,
            ..basic::Qos::default()
        },
    );
    client.expect_connection_close(
        ReplyCode::NotImplemented,
        "NOT_IMPLEMENTED - prefetch_size!=0 (10)",
    );
}

/// A channel with deliveries 1 to 5 outstanding at positions 10 to 50.
fn with_deliveries() -> Client {
    let mut client = Client::with_channel();
    let consumer = client.consume(1, "c", false);
    for n in 1..=5 {
        client.deliver(delivery(consumer, n * 10, b"x")).unwrap();
    }
    client.drain();
    client
}

#[track_caller]
fn check_settled(client: &mut Client, expected: &[u64], outcome: SettlementOutcome) {
    let settled = std::mem::take(&mut client.executor.settled);
    let positions: Vec<u64> = settled.iter().map(|(_, s)| s.delivery.position.0).collect();
    assert_eq!(positions, expected);
    assert!(
        settled
            .iter()
            .all(|(channel, s)| *channel == 1 && s.outcome == outcome)
    );
    client.expect_nothing();
}

#[test]
fn acks_settle_one_or_all_up_to_it_or_all_there_are() {
    let client = &mut with_deliveries();
    client.send(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: false,
        },
    );
    check_settled(client, &[20], SettlementOutcome::Acked);
    client.send(
        1,
        basic::Ack {
            delivery_tag: 3,
            multiple: true,
        },
    );
    check_settled(client, &[10, 30], SettlementOutcome::Acked);
    client.send(
        1,
        basic::Ack {
            delivery_tag: 0,
            multiple: true,
        },
    );
    check_settled(client, &[40, 50], SettlementOutcome::Acked);
    client.send(
        1,
        basic::Ack {
            delivery_tag: 0,
            multiple: true,
        },
    );
    check_settled(client, &[], SettlementOutcome::Acked);
}

#[test]
fn nack_and_reject_requeue_or_not() {
    let client = &mut with_deliveries();
    client.send(
        1,
        basic::Nack {
            delivery_tag: 2,
            multiple: true,
            requeue: true,
        },
    );
    check_settled(client, &[10, 20], SettlementOutcome::RequeuedByNack);
    client.send(
        1,
        basic::Nack {
            delivery_tag: 3,
            multiple: false,
            requeue: false,
        },
    );
    check_settled(client, &[30], SettlementOutcome::Rejected);
    client.send(
        1,
        basic::Reject {
            delivery_tag: 4,
            requeue: true,
        },
    );
    check_settled(client, &[40], SettlementOutcome::RequeuedByReject);
    client.send(
        1,
        basic::Reject {
            delivery_tag: 5,
            requeue: false,
        },
    );
    check_settled(client, &[50], SettlementOutcome::Rejected);
}

#[test]
fn an_unknown_tag_closes_the_channel_and_returns_the_rest() {
    for (tag, multiple) in [(6, false), (6, true), (0, false)] {
        let client = &mut with_deliveries();
        client.send(
            1,
            basic::Ack {
                delivery_tag: tag,
                multiple,
            },
        );
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        client.expect_channel_close(1, ReplyCode::PreconditionFailed, &text);
        let (_, Command::CloseChannel { unsettled }) = client.executor.commands.pop().unwrap()
        else {
            panic!("the channel is closed");
        };
        let positions: Vec<u64> = unsettled.iter().map(|u| u.position.0).collect();
        assert_eq!(positions, [10, 20, 30, 40, 50]);
        assert!(client.executor.settled.is_empty());
    }
}

#[test]
fn a_tag_is_settled_once() {
    let client = &mut with_deliveries();
    client.send(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: false,
        },
    );
    client.send(
        1,
        basic::Ack {
            delivery_tag: 2,
            multiple: true,
        },
    );
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - unknown delivery tag 2",
    );
    assert_eq!(client.executor.settled.len(), 1);
}

#[test]
fn recover_requeues_all_and_only_the_synchronous_one_is_answered() {
    let client = &mut with_deliveries();
    client.send(1, basic::Recover { requeue: true });
    client.expect(1, basic::RecoverOk);
    check_settled(
        client,
        &[10, 20, 30, 40, 50],
        SettlementOutcome::RequeuedByNack,
    );
    client.send(1, basic::RecoverAsync { requeue: true });
    client.expect_nothing();
    client.send(1, basic::RecoverAsync { requeue: false });
    client.expect_connection_close(ReplyCode::NotImplemented, "NOT_IMPLEMENTED - requeue=false");
}

#[test]
fn recover_without_requeue_is_not_implemented() {
    let client = &mut with_deliveries();
    client.send(1, basic::Recover { requeue: false });
    client.expect_connection_close(ReplyCode::NotImplemented, "NOT_IMPLEMENTED - requeue=false");
}

#[test]
fn a_closed_channel_returns_what_was_not_settled_in_order() {
    let client = &mut with_deliveries();
    client.send(
        1,
        basic::Ack {
            delivery_tag: 3,
            multiple: false,
        },
    );
    client.executor.commands.clear();
    client.send(1, channel::Close::default());
    client.expect(1, channel::CloseOk);
    let [(1, Command::CloseChannel { unsettled })] = &client.executor.commands[..] else {
        panic!("{:?}", client.executor.commands);
    };
    let positions: Vec<u64> = unsettled.iter().map(|u| u.position.0).collect();
    assert_eq!(positions, [10, 20, 40, 50]);
}
