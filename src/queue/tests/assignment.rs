//! Whose turn it is: credit, rotation, priorities, windows, full outlets, single active consumers.

use super::*;

#[test]
fn consumers_of_one_priority_take_strict_turns() {
    let mut bench = Bench::classic(&[]);
    for id in 1..=3 {
        bench.consume(id, 0);
    }
    bench.publish_all(&["a", "b", "c", "d", "e", "f"]);
    assert_eq!(bench.got(1), ["a", "d"]);
    assert_eq!(bench.got(2), ["b", "e"]);
    assert_eq!(bench.got(3), ["c", "f"]);
}

#[test]
fn a_consumer_without_credit_is_skipped_and_comes_back_by_settling() {
    let mut bench = Bench::classic(&[]);
    bench.consume(1, 1);
    bench.consume(2, 2);
    bench.publish_all(&["a", "b", "c", "d"]);
    assert_eq!(bench.got(1), ["a"]);
    assert_eq!(bench.got(2), ["b", "c"]);
    bench.ack(1);
    assert_eq!(bench.got(1), ["d"]);
}

#[test]
fn a_higher_priority_is_served_while_it_has_credit() {
    let mut bench = Bench::classic(&[]);
    bench.consume_with_priority(1, 0, 0);
    bench.consume_with_priority(2, 2, 10);
    bench.consume_with_priority(3, 0, -5);
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.got(2), ["a", "b"]);
    assert_eq!(bench.got(1), ["c"]);
    bench.ack(1);
    bench.publish("d");
    assert_eq!(bench.got(2), ["d"]);
    assert!(bench.got(3).is_empty());
}

#[test]
fn a_full_outlet_stops_its_own_consumer_alone() {
    let mut bench = Bench::classic(&[]);
    let narrow = Sink::with_room(1);
    let asked = bench.asked(1, 0);
    bench.add(asked, Arc::clone(&narrow)).unwrap();
    bench.consume(2, 1);
    bench.publish_all(&["a", "b", "c", "d"]);
    assert_eq!(bench.got(1), ["a"]);
    assert_eq!(bench.got(2), ["b"]);
    narrow.give_room(5);
    bench
        .state
        .consumer_ready(ConsumerId(1), bench.now, &mut bench.fx);
    assert_eq!(bench.got(1), ["c", "d"]);
}

#[test]
fn no_ack_needs_no_credit_and_settles_by_being_handed_out() {
    let mut bench = Bench::classic(&[]);
    let mut asked = bench.asked(1, 1);
    asked.no_ack = true;
    bench.window.set_limit(1);
    bench.add(asked, Sink::endless()).unwrap();
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.got(1), ["a", "b", "c"]);
    assert_eq!(bench.window.outstanding(), 0);
    assert_eq!(bench.state.snapshot().messages_unsettled, 0);
    assert!(bench.state.is_balanced());
}

#[test]
fn a_get_takes_no_credit() {
    let mut bench = Bench::classic(&[]);
    bench.publish_all(&["a", "b"]);
    let got = bench.try_get(7, false);
    let got = got.unwrap().unwrap();
    assert_eq!((got.messages_ready, got.channel), (1, 7));
    bench.consume(1, 1);
    assert_eq!(bench.got(1), ["b"]);
}

#[test]
fn a_cancelled_consumer_keeps_what_it_holds_and_its_window_until_it_settles() {
    let mut bench = Bench::classic(&[]);
    bench.window.set_limit(1);
    bench.consume(1, 0);
    bench.publish_all(&["a", "b"]);
    assert!(bench.cancel(1));
    assert!(!bench.cancel(1));
    assert_eq!(bench.window.outstanding(), 1);
    assert_eq!(bench.state.snapshot().messages_unsettled, 1);
    assert!(bench.ack(1));
    assert_eq!(bench.window.outstanding(), 0);
    assert_eq!(bench.drain(), ["b"]);
}

#[test]
fn a_window_is_shared_by_two_queues_without_overshoot_or_starvation() {
    let mut first = Bench::classic(&[]);
    let mut second = Bench::classic(&[]);
    second.state.id = QueueId(2);
    second.window = Arc::clone(&first.window);
    first.window.set_limit(2);
    first.consume(1, 0);
    second.consume(2, 0);
    for _ in 0..10 {
        first.publish("x");
        second.publish("y");
    }
    let mut held = std::collections::VecDeque::new();
    let mut served = Vec::new();
    for settled in 0..20 {
        for (at, bench) in [(0, &first), (1, &second)] {
            let sink = bench.sinks.values().next().unwrap();
            held.extend(
                sink.deliveries()
                    .iter()
                    .map(|delivery| (at, delivery.position.0)),
            );
        }
        assert_eq!(held.len(), 2.min(20 - settled));
        assert_eq!(first.window.outstanding() as usize, held.len());
        let (at, position) = held.pop_front().unwrap();
        served.push(at);
        let bench = if at == 0 { &mut first } else { &mut second };
        assert!(bench.ack(position));
        let window = Arc::clone(&first.window);
        while window.has_room() {
            let Some((queue, consumer)) = window.take_parked() else {
                break;
            };
            let bench = if queue == QueueId(1) {
                &mut first
            } else {
                &mut second
            };
            let now = bench.now;
            bench.state.consumer_ready(consumer, now, &mut bench.fx);
        }
    }
    // Whoever was refused first is served first, so nobody is served three times in a row.
    let longest = served.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(longest <= Some(2), "{served:?}");
}

#[test]
fn a_settlement_reports_the_window_that_others_wait_for() {
    let mut bench = Bench::classic(&[]);
    bench.window.set_limit(1);
    bench.consume(1, 0);
    bench.publish_all(&["a", "b"]);
    bench.ack(1);
    assert_eq!(bench.fx.windows.len(), 1);
    assert_eq!(
        bench.window.take_parked(),
        Some((QueueId(1), ConsumerId(1)))
    );
}

#[test]
fn exclusive_use_is_refused_in_both_directions() {
    let exclusive = |bench: &Bench, id| NewConsumer {
        exclusive: true,
        ..bench.asked(id, 0)
    };
    let mut bench = Bench::classic(&[]);
    bench.consume(1, 0);
    let asked = exclusive(&bench, 2);
    assert!(bench.add(asked, Sink::endless()).is_err());
    bench.cancel(1);
    let asked = exclusive(&bench, 2);
    assert!(bench.add(asked, Sink::endless()).is_ok());
    let asked = bench.asked(3, 0);
    assert!(bench.add(asked, Sink::endless()).is_err());

    let mut single = Bench::classic(&[("x-single-active-consumer", Value::Bool(true))]);
    let asked = exclusive(&single, 1);
    assert!(single.add(asked, Sink::endless()).is_err());

    let mut quorum = Bench::quorum(&[]);
    quorum.consume(1, 0);
    let asked = exclusive(&quorum, 2);
    assert!(quorum.add(asked, Sink::endless()).is_ok());
}

#[test]
fn the_earliest_consumer_is_the_single_active_one_until_it_goes() {
    let mut bench = Bench::classic(&[("x-single-active-consumer", Value::Bool(true))]);
    bench.consume_with_priority(1, 1, 0);
    bench.consume_with_priority(2, 0, 10);
    bench.publish_all(&["a", "b", "c"]);
    assert_eq!(bench.got(1), ["a"]);
    assert!(bench.got(2).is_empty());
    bench.cancel(1);
    assert_eq!(bench.got(2), ["b", "c"]);
    bench.consume(3, 0);
    bench.publish("d");
    assert_eq!(bench.got(2), ["d"]);
}

#[test]
fn a_higher_priority_takes_over_a_quorum_queue_once_the_active_one_has_settled() {
    let mut bench = Bench::quorum(&[("x-single-active-consumer", Value::Bool(true))]);
    bench.consume_with_priority(1, 0, 0);
    bench.publish("a");
    bench.consume_with_priority(2, 0, 5);
    bench.publish("b");
    assert_eq!(bench.got(1), ["a"]);
    assert!(bench.got(2).is_empty());
    bench.ack(quorum_place(1));
    assert_eq!(bench.got(2), ["b"]);
    bench.consume_with_priority(3, 0, 5);
    bench.publish("c");
    assert_eq!(bench.got(2), ["c"]);
}

#[test]
fn a_quiescing_consumer_goes_on_when_its_successor_leaves() {
    let mut bench = Bench::quorum(&[("x-single-active-consumer", Value::Bool(true))]);
    bench.consume_with_priority(1, 0, 0);
    bench.publish("a");
    bench.consume_with_priority(2, 0, 5);
    bench.publish("b");
    bench.cancel(2);
    assert_eq!(bench.got(1), ["a", "b"]);
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut bench = Bench::new(QueueKind::Classic, &[], true);
    bench.consume(1, 0);
    bench.consume(2, 0);
    bench.cancel(1);
    assert!(bench.deletions().is_empty());
    bench.cancel(2);
    assert_eq!(bench.deletions(), [DeletionReason::AutoDelete]);
}

#[test]
fn consumers_that_end_together_get_nothing_from_each_other() {
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        let single = [("x-single-active-consumer", Value::Bool(true))];
        let mut bench = Bench::new(kind, &single, false);
        bench.consume(1, 1);
        bench.consume(2, 0);
        bench.publish_all(&["a", "b"]);
        let both = [ConsumerId(1), ConsumerId(2)];
        assert!(
            bench
                .state
                .remove_consumers(&both, bench.now, &mut bench.fx)
        );
        assert_eq!((bench.got(1).len(), bench.got(2).len()), (1, 0));
        bench.consume(3, 0);
        assert_eq!(bench.got(3), ["b"]);
    }
}
