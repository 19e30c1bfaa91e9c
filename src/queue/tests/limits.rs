//! Full queues.

use super::*;

fn limited(overflow: &str) -> Bench {
    Bench::classic(&[
        ("x-max-length", Value::I32(2)),
        ("x-overflow", Value::from(overflow)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ])
}

fn maxlen(body: &str) -> (String, String) {
    (body.to_owned(), "maxlen".to_owned())
}

#[test]
fn the_head_is_dropped_and_dead_lettered() {
    let mut bench = limited("drop-head");
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.dead(), [maxlen("a")]);
    assert_eq!(bench.drain(), ["b", "c"]);
}

#[test]
fn a_publish_is_refused_with_and_without_dead_lettering() {
    for (overflow, dead) in [
        ("reject-publish", vec![]),
        ("reject-publish-dlx", vec![maxlen("c")]),
    ] {
        let mut bench = limited(overflow);
        bench.publish_all(&["a", "b"]);
        assert_eq!(bench.publish("c"), None);
        assert_eq!(bench.dead(), dead);
        assert_eq!(bench.drain(), ["a", "b"]);
        assert!(bench.state.is_balanced());
    }
}

#[test]
fn only_ready_messages_count() {
    let mut bench = limited("reject-publish");
    bench.consume(1, 3);
    bench.publish_all(&["a", "b", "c", "d", "e"]);
    assert_eq!(bench.publish("f"), None);
    assert_eq!(bench.got(1), ["a", "b", "c"]);
}

#[test]
fn a_return_can_exceed_the_limit_and_then_drops_the_head() {
    let mut bench = limited("drop-head");
    bench.consume(1, 1);
    bench.publish_all(&["a", "b", "c"]);
    bench.cancel(1);
    bench.settle(1, SettlementOutcome::RequeuedByNack);
    assert_eq!(bench.dead(), [maxlen("a")]);
    assert_eq!(bench.drain(), ["b", "c"]);
}

#[test]
fn bytes_are_those_of_bodies() {
    let mut bench = Bench::classic(&[("x-max-length-bytes", Value::I32(10))]);
    bench.publish_all(&["12345", "67890"]);
    assert_eq!(bench.state.counts().messages_ready, 2);
    bench.publish("1");
    assert_eq!(bench.drain(), ["67890", "1"]);
}

#[test]
fn a_limit_of_zero_lets_a_waiting_consumer_have_the_message() {
    let mut bench = Bench::classic(&[("x-max-length", Value::I32(0))]);
    bench.publish("dropped");
    bench.consume(1, 0);
    bench.publish("taken");
    assert_eq!(bench.got(1), ["taken"]);
}

#[test]
fn a_policy_bites_at_once_and_the_smaller_limit_counts() {
    let mut bench = Bench::classic(&[("x-max-length", Value::I32(3))]);
    bench.publish_all(&["a", "b", "c"]);
    let policy = PolicySettings {
        max_length: Some(1),
        ..PolicySettings::default()
    };
    let settings = bench.settings.clone();
    bench
        .state
        .reconfigure(&settings, &policy, bench.now, &mut bench.fx);
    assert_eq!(bench.drain(), ["c"]);
}

#[test]
fn a_limit_far_below_what_waits_is_met_in_bounded_steps() {
    let mut bench = Bench::classic(&[]);
    let bodies: Vec<String> = (0..2500).map(|number| number.to_string()).collect();
    bodies.iter().for_each(|body| {
        bench.publish(body);
    });
    let policy = PolicySettings {
        max_length: Some(1),
        ..PolicySettings::default()
    };
    let settings = bench.settings.clone();
    bench
        .state
        .reconfigure(&settings, &policy, bench.now, &mut bench.fx);
    let mut waiting = vec![bench.state.counts().messages_ready];
    while bench.state.poll_timeout() == Some(0) {
        bench.state.handle_timeout(bench.now, &mut bench.fx);
        waiting.push(bench.state.counts().messages_ready);
    }
    assert_eq!(waiting, [1500, 500, 1]);
    assert_eq!(bench.drain(), ["2499"]);
}

#[test]
fn a_rejected_message_is_dead_lettered_once() {
    let mut bench = limited("drop-head");
    bench.consume(1, 1);
    bench.publish("a");
    bench.settle(1, SettlementOutcome::Rejected);
    assert_eq!(bench.dead(), [("a".to_owned(), "rejected".to_owned())]);
    assert!(!bench.settle(1, SettlementOutcome::Rejected));
}

#[test]
fn a_queue_that_ends_with_its_last_consumer_drops_nothing_that_comes_back() {
    let fields = [
        ("x-max-length", Value::I32(0)),
        ("x-dead-letter-exchange", "dlx".into()),
    ];
    let mut bench = Bench::new(QueueKind::Classic, &fields, true);
    bench.consume(1, 0);
    bench.publish("a");
    bench.cancel(1);
    bench.settle(1, SettlementOutcome::ReturnedByLoss);
    assert!(bench.dead().is_empty());
    assert_eq!(bench.deletions(), [DeletionReason::AutoDelete]);
}
