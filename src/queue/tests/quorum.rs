//! What quorum queues do otherwise.

use super::*;
use crate::model::RedeliveryCounts;

#[test]
fn returns_are_served_before_everything_in_the_order_of_return() {
    let mut bench = Bench::quorum(&[]);
    bench.publish_all(&["a", "b", "c"]);
    bench.publish_message(message("urgent", Some(31), None));
    for _ in 0..3 {
        bench.try_get(1, false).unwrap();
    }
    bench.settle_all(&[2, 1].map(quorum_place), SettlementOutcome::RequeuedByNack);
    bench.publish_message(message("more urgent", Some(40), None));
    assert_eq!(bench.drain(), ["b", "a", "more urgent", "c"]);
}

#[test]
fn priorities_are_32_levels_and_none_is_4() {
    let mut bench = Bench::quorum(&[]);
    for (body, priority) in [
        ("3", Some(3)),
        ("none", None),
        ("4", Some(4)),
        ("5", Some(5)),
        ("200", Some(200)),
        ("31", Some(31)),
    ] {
        bench.publish_message(message(body, priority, None));
    }
    assert_eq!(bench.drain(), ["200", "31", "5", "none", "4", "3"]);
}

#[test]
fn hand_outs_and_failures_are_counted_apart() {
    let mut bench = Bench::quorum(&[]);
    let sink = bench.consume(1, 0);
    bench.publish("a");
    let counts = |sink: &Sink| sink.deliveries().remove(0).counts;
    assert_eq!(counts(&sink), None);
    for (outcome, acquired, delivery) in [
        (SettlementOutcome::RequeuedByNack, 1, 0),
        (SettlementOutcome::RequeuedByReject, 2, 1),
        (SettlementOutcome::ReturnedByLoss, 3, 2),
    ] {
        bench.settle(quorum_place(1), outcome);
        assert_eq!(counts(&sink), Some(RedeliveryCounts { acquired, delivery }));
    }
}

#[test]
fn beyond_the_delivery_limit_a_message_dies() {
    let mut bench = Bench::quorum(&[
        ("x-delivery-limit", Value::I32(1)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ]);
    bench.consume(1, 0);
    bench.publish("a");
    bench.settle(quorum_place(1), SettlementOutcome::RequeuedByReject);
    assert!(bench.dead().is_empty());
    bench.settle(quorum_place(1), SettlementOutcome::RequeuedByNack);
    assert!(bench.dead().is_empty());
    bench.settle(quorum_place(1), SettlementOutcome::RequeuedByReject);
    assert_eq!(
        bench.dead(),
        [("a".to_owned(), "delivery_limit".to_owned())]
    );
    assert_eq!(bench.state.snapshot().messages_unsettled, 0);
}

#[test]
fn the_default_limit_is_20_and_minus_one_is_none() {
    let mut default = Bench::quorum(&[]);
    let mut endless = Bench::quorum(&[("x-delivery-limit", Value::I32(-1))]);
    for bench in [&mut default, &mut endless] {
        bench.consume(1, 0);
        bench.publish("a");
        for _ in 0..20 {
            assert!(bench.settle(quorum_place(1), SettlementOutcome::RequeuedByReject));
        }
        assert!(bench.settle(quorum_place(1), SettlementOutcome::RequeuedByReject));
    }
    assert!(!default.ack(quorum_place(1)));
    assert!(endless.ack(quorum_place(1)));
}

#[test]
fn no_limit_is_a_prefetch_of_2000() {
    let mut bench = Bench::quorum(&[]);
    bench.consume(1, 0);
    for _ in 0..2100 {
        bench.publish("a");
    }
    assert_eq!(bench.got(1).len(), 2000);
}

#[test]
fn a_single_active_consumer_excludes_get() {
    let mut bench = Bench::quorum(&[("x-single-active-consumer", Value::Bool(true))]);
    assert!(bench.try_get(1, true).is_err());
}

#[test]
fn delayed_returns_wait_longer_each_time() {
    let mut bench = Bench::quorum(&[
        ("x-delayed-retry-type", Value::from("failed")),
        ("x-delayed-retry-min", Value::I32(100)),
        ("x-delayed-retry-max", Value::I32(150)),
    ]);
    bench.consume(1, 0);
    bench.publish("a");
    assert_eq!(bench.got(1), ["a"]);
    bench.settle(quorum_place(1), SettlementOutcome::RequeuedByNack);
    assert_eq!(bench.got(1), ["a"]);
    for delay_ms in [100, 150, 150] {
        bench.settle(quorum_place(1), SettlementOutcome::RequeuedByReject);
        assert_eq!(bench.state.snapshot().messages_delayed, 1);
        bench.pass_ms(delay_ms - 1);
        assert!(bench.got(1).is_empty());
        bench.pass_ms(1);
        assert_eq!(bench.got(1), ["a"]);
    }
}

#[test]
fn a_slow_consumer_is_cancelled_and_its_message_returns_uncounted() {
    let mut bench = Bench::quorum(&[("x-consumer-timeout", Value::I32(1000))]);
    let slow = bench.consume(1, 1);
    let mut patient = bench.asked(2, 1);
    patient.settings.timeout_ms = Some(5000);
    let second = Sink::endless();
    bench.add(patient, Arc::clone(&second)).unwrap();
    bench.publish_all(&["a", "b"]);
    assert_eq!(second.deliveries().len(), 1);
    bench.ack(quorum_place(2));
    bench.pass_ms(999);
    assert!(second.deliveries().is_empty());
    bench.pass_ms(1);
    assert!(matches!(
        slow.take().pop(),
        Some(InboxEvent::ConsumerTimedOut {
            timeout_ms: 1000,
            ..
        })
    ));
    let again = second.deliveries().remove(0);
    let counts = RedeliveryCounts {
        acquired: 1,
        delivery: 0,
    };
    assert_eq!(again.counts, Some(counts));
    assert!(bench.state.is_balanced());
}

#[test]
fn a_classic_queue_never_times_a_consumer_out() {
    let mut bench = Bench::classic(&[]);
    bench.consume(1, 1);
    bench.publish("a");
    assert_eq!(bench.state.poll_timeout(), None);
    bench.pass_ms(10_000_000);
    assert!(bench.ack(1));
}

#[test]
fn at_least_once_keeps_a_dead_letter_until_it_has_arrived() {
    let mut bench = Bench::quorum(&[
        ("x-dead-letter-exchange", Value::from("dlx")),
        ("x-dead-letter-strategy", Value::from("at-least-once")),
        ("x-overflow", Value::from("reject-publish")),
        ("x-max-length", Value::I32(1)),
    ]);
    bench.consume(1, 0);
    bench.publish("a");
    bench.settle(quorum_place(1), SettlementOutcome::Rejected);
    let letters = bench.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].retained, Some(Position::new(4, 1)));
    assert_eq!(bench.publish("full"), None);
    let fared = |bench: &mut Bench, has_arrived| {
        let (position, now) = (Position::new(4, 1), bench.now);
        bench
            .state
            .settle_dead_letter(position, has_arrived, now, &mut bench.fx);
    };
    fared(&mut bench, false);
    bench.pass_ms(179_999);
    assert!(bench.dead().is_empty());
    bench.pass_ms(1);
    assert_eq!(bench.dead(), [("a".to_owned(), "rejected".to_owned())]);
    fared(&mut bench, true);
    assert_eq!(bench.state.snapshot().messages_retained, 0);
    assert!(bench.publish("b").is_some());
}

#[test]
fn at_least_once_needs_a_queue_that_refuses() {
    let mut bench = Bench::quorum(&[
        ("x-dead-letter-exchange", Value::from("dlx")),
        ("x-dead-letter-strategy", Value::from("at-least-once")),
    ]);
    bench.consume(1, 0);
    bench.publish("a");
    bench.settle(quorum_place(1), SettlementOutcome::Rejected);
    assert_eq!(bench.letters()[0].retained, None);
    assert_eq!(bench.state.snapshot().messages_retained, 0);
}

#[test]
fn a_purge_forgets_dead_letters_that_have_not_arrived() {
    let mut bench = Bench::quorum(&[
        ("x-dead-letter-exchange", Value::from("dlx")),
        ("x-dead-letter-strategy", Value::from("at-least-once")),
        ("x-overflow", Value::from("reject-publish")),
        ("x-message-ttl", Value::I32(10)),
    ]);
    bench.publish("a");
    bench.pass_ms(10);
    assert_eq!(bench.state.snapshot().messages_retained, 1);
    assert_eq!(bench.state.purge(&mut bench.fx), 0);
    assert_eq!(bench.state.snapshot().messages_retained, 0);
    assert!(bench.state.is_balanced());
}
