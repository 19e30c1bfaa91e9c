//! In which order messages leave, also after they came back.

use super::*;

#[test]
fn messages_leave_in_the_order_of_arrival() {
    let mut bench = Bench::classic(&[]);
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.drain(), ["a", "b", "c"]);
}

#[test]
fn a_requeued_message_returns_to_its_place() {
    let mut bench = Bench::classic(&[]);
    bench.publish_all(&["a", "b", "c", "d"]);
    for _ in 0..3 {
        bench.try_get(1, false).unwrap();
    }
    bench.settle_all(&[2], SettlementOutcome::RequeuedByNack);
    bench.settle_all(&[1], SettlementOutcome::RequeuedByReject);
    assert_eq!(bench.drain(), ["a", "b", "d"]);
    bench.settle(3, SettlementOutcome::ReturnedByLoss);
    assert_eq!(bench.drain(), ["c"]);
}

#[test]
fn a_returned_message_is_redelivered_without_counters_on_a_classic_queue() {
    let mut bench = Bench::classic(&[]);
    let sink = bench.consume(1, 1);
    bench.publish("a");
    let first = sink.deliveries().remove(0);
    assert!(!first.redelivered);
    bench.settle(first.position.0, SettlementOutcome::RequeuedByNack);
    let second = sink.deliveries().remove(0);
    assert!(second.redelivered);
    assert_eq!(second.counts, None);
    assert_eq!(second.position, first.position);
}

#[test]
fn priorities_are_served_highest_first_and_clamped() {
    let mut bench = Bench::classic(&[("x-max-priority", Value::I32(5))]);
    for (body, priority) in [
        ("none", None),
        ("zero", Some(0)),
        ("two", Some(2)),
        ("nine", Some(9)),
        ("five", Some(5)),
    ] {
        bench.publish_message(message(body, priority, None));
    }
    assert_eq!(bench.drain(), ["nine", "five", "two", "none", "zero"]);
}

#[test]
fn without_the_argument_priorities_do_not_matter() {
    let mut bench = Bench::classic(&[]);
    bench.publish_message(message("low", Some(0), None));
    bench.publish_message(message("high", Some(9), None));
    assert_eq!(bench.drain(), ["low", "high"]);
}

#[test]
fn a_requeued_message_keeps_its_priority() {
    let mut bench = Bench::classic(&[("x-max-priority", Value::I32(5))]);
    bench.publish_message(message("high", Some(5), None));
    bench.publish_message(message("low", Some(1), None));
    bench.try_get(1, false).unwrap();
    bench.publish_message(message("high again", Some(5), None));
    bench.settle(Position::new(5, 1).0, SettlementOutcome::RequeuedByNack);
    assert_eq!(bench.drain(), ["high", "high again", "low"]);
}

#[test]
fn a_purge_takes_the_ready_and_leaves_the_unsettled() {
    let mut bench = Bench::classic(&[("x-dead-letter-exchange", Value::from("dlx"))]);
    let sink = bench.consume(1, 1);
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.state.purge(&mut bench.fx), 2);
    assert!(bench.dead().is_empty());
    assert!(bench.state.is_balanced());
    assert_eq!(sink.deliveries().len(), 1);
    assert!(bench.ack(1));
    assert!(!bench.ack(2));
}

#[test]
fn a_deletion_tells_consumers_and_opens_their_windows() {
    let mut bench = Bench::classic(&[]);
    bench.window.set_limit(2);
    let sink = bench.consume(1, 0);
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.window.outstanding(), 2);
    assert_eq!(bench.state.delete(&mut bench.fx), 1);
    assert_eq!(bench.window.outstanding(), 0);
    let last = sink.take().pop().unwrap();
    assert!(matches!(
        last,
        InboxEvent::ConsumerCancelled {
            consumer: ConsumerId(1),
            ..
        }
    ));
    assert!(bench.state.is_balanced());
}

#[test]
fn a_queue_entry_is_small() {
    assert!(size_of::<super::super::entry::Entry>() <= 32);
    assert!(size_of::<QueueState>() <= 1024);
}

#[test]
fn each_connection_is_woken_once_a_burst() {
    let mut bench = Bench::classic(&[]);
    let sink = bench.consume(1, 0);
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(sink.wakes(), 0);
    bench.fx.dispatch();
    assert_eq!(sink.wakes(), 1);
}
