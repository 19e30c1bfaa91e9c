//! Answers that come later, and what waits meanwhile; limits of what waits.

use super::support::{Client, delivery, short};
use crate::model::*;
use crate::protocol::{ReplyCode, basic, channel, connection, queue, tx};
use crate::session::SessionSettings;

fn declared(name: &str) -> Result<Reply, Refusal> {
    Ok(Reply::QueueDeclared {
        name: name.into(),
        counts: QueueCounts::default(),
    })
}

#[test]
fn a_channel_waits_in_order_and_the_others_go_on() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    client.answer_later();
    client.send(1, queue::Declare::default());
    client.send(1, queue::Bind::default());
    client.send_publish(1, "q", b"on 1");
    client.send(
        2,
        queue::Purge {
            queue: short("q"),
            no_wait: false,
        },
    );
    client.send_publish(2, "q", b"on 2");
    assert_eq!(client.receive_all(), ["2 queue.purge-ok"]);
    assert_eq!(client.executor.published.len(), 1);
    assert!(client.session.channels().next().unwrap().is_waiting);
    client.reply(1, declared("named"));
    assert_eq!(
        client.receive_all(),
        ["1 queue.declare-ok", "1 queue.bind-ok"]
    );
    assert!(matches!(
        &client.executor.commands.last().unwrap().1,
        Command::BindQueue { queue, .. } if queue == "named"
    ));
    assert_eq!(client.executor.published[1].body, b"on 1");
}

#[test]
fn a_channel_may_wait_again_and_again() {
    let mut client = Client::with_channel();
    for _ in 0..4 {
        client.answer_later();
        client.send(1, queue::Declare::default());
    }
    for _ in 0..4 {
        assert_eq!(client.receive_all().len(), 0);
        client.reply(1, declared("q"));
        assert_eq!(client.receive_all(), ["1 queue.declare-ok"]);
    }
    assert_eq!(client.session.pending_bytes, 0);
    assert!(!client.session.channels().next().unwrap().is_waiting);
}

#[test]
fn a_late_refusal_names_its_own_method() {
    let mut client = Client::with_channel();
    client.answer_later();
    client.send(1, queue::Declare::default());
    client.send(1, queue::Bind::default());
    client.send(1, channel::CloseOk);
    client.reply(1, Err(Refusal::precondition_failed("no")));
    let (_, _, payload) = client.receive().unwrap();
    let close = crate::protocol::Method::parse(&payload).unwrap();
    let crate::protocol::Method::ChannelClose(close) = close else {
        panic!("{close:?}");
    };
    assert_eq!(
        (close.reply_code, close.class_id, close.method_id),
        (406, 50, 10)
    );
    client.expect_nothing();
    assert_eq!(
        client.session.channel_count(),
        0,
        "close-ok was waiting, too"
    );
    assert_eq!(client.session.pending_bytes, 0);
}

#[test]
fn what_waits_is_bounded_and_then_reading_stops() {
    let mut client = Client::with_channel_and(SessionSettings {
        pending_bytes_max: 1000,
        ..SessionSettings::default()
    });
    client.answer_later();
    client.send(1, queue::Declare::default());
    for _ in 0..20 {
        client.send_publish(1, "q", &[0; 100]);
    }
    assert!(!client.session.wants_input());
    assert!(client.left_over() > 1000);
    assert!(client.session.pending_bytes < 1200);
    client.reply(1, declared("q"));
    assert_eq!(client.executor.published.len(), 20);
    assert_eq!(client.left_over(), 0);
    assert!(client.session.wants_input());
}

#[test]
fn a_late_channel_open_keeps_what_follows() {
    let mut client = Client::running();
    client.answer_later();
    client.send(1, channel::Open);
    client.send_publish(1, "q", b"x");
    client.expect_nothing();
    client.reply(1, Ok(Reply::Done));
    client.expect(1, channel::OpenOk);
    assert_eq!(client.executor.published.len(), 1);
}

#[test]
fn a_late_close_lets_the_number_be_used_again() {
    let mut client = Client::with_channel();
    client.answer_later();
    client.send(1, channel::Close::default());
    client.send(1, channel::Open);
    client.send_publish(1, "q", b"x");
    client.expect_nothing();
    client.reply(1, Ok(Reply::Done));
    assert_eq!(
        client.receive_all(),
        ["1 channel.close-ok", "1 channel.open-ok"]
    );
    assert_eq!(client.executor.published.len(), 1);
}

#[test]
fn a_channel_close_waits_for_the_broker() {
    let mut client = Client::with_channel();
    client.refuse_next(Refusal::not_found("x"));
    client.answer_later();
    client.send(
        1,
        queue::Purge {
            queue: short("q"),
            no_wait: false,
        },
    );
    client.expect_nothing();
    client.reply(1, Ok(Reply::Done));
    client.expect_channel_close(1, ReplyCode::NotFound, "NOT_FOUND - x");
}

#[test]
fn a_delivery_does_not_overtake_the_consume_ok_of_its_consumer() {
    let mut client = Client::with_channel();
    let first = client.consume(1, "first", false);
    client.answer_later();
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            ..basic::Consume::default()
        },
    );
    let second = ConsumerId(50);
    client.deliver(delivery(second, 1, b"")).unwrap();
    client.deliver(delivery(first, 2, b"")).unwrap();
    client.deliver(delivery(ConsumerId(51), 3, b"")).unwrap();
    assert_eq!(client.receive_all(), ["1 basic.deliver", "1 header"]);
    let consumer_tag = "second".into();
    client.reply(
        1,
        Ok(Reply::Consuming {
            consumer: second,
            consumer_tag,
        }),
    );
    assert_eq!(
        client.receive_all(),
        ["1 basic.consume-ok", "1 basic.deliver", "1 header"]
    );
    let (channel, settlement) = client.executor.settled[0];
    assert_eq!((channel, settlement.delivery.position), (1, Position(3)));
    assert_eq!(settlement.outcome, SettlementOutcome::ReturnedByLoss);
}

#[test]
fn what_is_held_for_a_consumer_is_returned_when_the_connection_ends() {
    let mut client = Client::with_channel();
    client.answer_later();
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            ..basic::Consume::default()
        },
    );
    client.deliver(delivery(ConsumerId(50), 1, b"")).unwrap();
    client.executor.commands.clear();
    client.session.terminate(&mut client.executor);
    assert!(matches!(
        &client.executor.commands[0].1,
        Command::CloseChannel { unsettled } if unsettled.len() == 1
    ));
}

#[test]
fn late_answers_after_the_end_are_ignored() {
    let mut client = Client::with_channel();
    client.answer_later();
    client.send(1, tx::Select);
    client.send(1, queue::Declare::default());
    client.send(0, connection::Close::default());
    client.drain();
    client.reply(1, declared("q"));
    client.reply(3, declared("q"));
    client.reply(0, Ok(Reply::Done));
    client.expect_nothing();
}

#[test]
fn an_answer_nobody_waits_for_is_ignored() {
    let mut client = Client::with_channel();
    client.reply(1, declared("q"));
    client.reply(0, Ok(Reply::Done));
    client.expect_nothing();
}

#[test]
fn a_client_that_asks_and_never_reads_is_not_read_any_more() {
    let mut client = Client::with_channel_and(SessionSettings {
        reply_bytes_max: 10_000,
        ..SessionSettings::default()
    });
    for _ in 0..2000 {
        client.send(1, queue::Declare::default());
    }
    assert!(!client.session.wants_input());
    assert!(client.session.output().len() < 10_200);
    let waiting = client.left_over();
    assert!(waiting > 0);
    let sent = client.session.output().len();
    client.session.output().advance(sent);
    assert!(client.session.wants_input());
    client.burst();
    assert!(client.left_over() < waiting);
}

#[test]
fn deliveries_that_are_not_read_do_not_stop_the_reading_of_acks() {
    let mut client = Client::with_channel_and(SessionSettings {
        reply_bytes_max: 1000,
        ..SessionSettings::default()
    });
    let consumer = client.consume(1, "c", false);
    for n in 1..100 {
        client.deliver(delivery(consumer, n, &[0; 1000])).unwrap();
    }
    assert!(client.session.wants_input());
    client.send(
        1,
        basic::Ack {
            delivery_tag: 99,
            multiple: true,
        },
    );
    assert_eq!(client.executor.settled.len(), 99);
}

#[test]
fn a_consumer_that_ended_before_its_consume_ok_is_cancelled_after_it() {
    let mut client = Client::with_channel();
    client.answer_later();
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            ..basic::Consume::default()
        },
    );
    let consumer = ConsumerId(50);
    client.session.handle_consumer_cancelled(1, consumer);
    client.expect_nothing();
    let consumer_tag = "c".into();
    client.reply(
        1,
        Ok(Reply::Consuming {
            consumer,
            consumer_tag,
        }),
    );
    assert_eq!(
        client.receive_all(),
        ["1 basic.consume-ok", "1 basic.cancel"]
    );
    assert!(client.deliver(delivery(consumer, 1, b"")).is_err());
}

#[test]
fn what_is_held_for_a_consumer_is_bounded() {
    let mut client = Client::with_channel();
    client.answer_later();
    client.send(
        1,
        basic::Consume {
            queue: short("q"),
            ..basic::Consume::default()
        },
    );
    let kept = (0..2000)
        .filter(|n| client.deliver(delivery(ConsumerId(50), *n, b"")).is_ok())
        .count();
    assert_eq!(kept, 1024);
}
