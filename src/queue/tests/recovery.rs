//! A queue as a restart finds it.

use super::*;
use crate::model::RedeliveryCounts;
use crate::queue::{Recovered, RecoveredLane};

fn lane(first: Position, last: Position, messages: u64) -> RecoveredLane {
    RecoveredLane {
        first,
        last,
        messages,
        body_bytes: messages,
        may_expire: false,
        next_sequence: last.sequence() + 1,
        delivered_through: None,
    }
}

/// A queue whose log has messages at these positions, with the letters of the alphabet as bodies.
fn logged(kind: QueueKind, fields: &[(&'static str, Value)], positions: &[Position]) -> Bench {
    let mut bench = Bench::paged(kind, fields, 10_000);
    for (at, position) in positions.iter().enumerate() {
        let letter = char::from(b'a' + at as u8).to_string();
        let logged = (message(&letter, None, None), Deadline::NEVER);
        bench.log.insert(*position, logged);
    }
    bench
}

#[test]
fn what_the_log_has_is_ready_and_the_sequence_goes_on() {
    let positions = [2, 5, 6].map(Position);
    let mut bench = logged(QueueKind::Classic, &[], &positions);
    let recovered = Recovered {
        lanes: vec![RecoveredLane {
            next_sequence: 20,
            delivered_through: Some(Position(5)),
            ..lane(Position(2), Position(6), 3)
        }],
        counts: Vec::new(),
    };
    bench.state.recover(recovered, bench.now, &mut bench.fx);
    let snapshot = bench.state.snapshot();
    assert_eq!((snapshot.messages_ready, snapshot.messages_paged), (3, 3));
    assert!(bench.state.is_balanced());
    assert!(
        bench.fx.loads.is_empty(),
        "a backlog costs nothing at the start"
    );
    assert_eq!(bench.publish("d"), Some(Position(20)));
    let sink = bench.consume(1, 0);
    bench.load();
    let got: Vec<_> = sink
        .deliveries()
        .iter()
        .map(|delivery| (body(&delivery.message), delivery.redelivered))
        .collect();
    let expected = [("a", true), ("b", true), ("c", false), ("d", false)];
    assert_eq!(got, expected.map(|(body, again)| (body.to_owned(), again)));
}

#[test]
fn lanes_are_served_by_priority_and_an_empty_one_keeps_its_sequence() {
    let fields = [("x-max-priority", Value::I32(9))];
    let positions = [Position::new(0, 7), Position::new(3, 1)];
    let mut bench = logged(QueueKind::Classic, &fields, &positions);
    let mut lanes: Vec<_> = positions.iter().map(|at| lane(*at, *at, 1)).collect();
    lanes.push(RecoveredLane {
        next_sequence: 50,
        ..lane(Position::new(5, 1), Position::new(5, 1), 0)
    });
    let counts = Vec::new();
    let recovered = Recovered { lanes, counts };
    bench.state.recover(recovered, bench.now, &mut bench.fx);
    let urgent = bench.publish_message(message("c", Some(5), None));
    assert_eq!(urgent, Some(Position::new(5, 50)));
    bench.consume(1, 0);
    bench.load();
    assert_eq!(bench.got(1), ["c", "b", "a"]);
}

#[test]
fn a_quorum_queue_remembers_deliveries_even_if_the_messages_leave_memory_again() {
    let positions = [1, 2, 3].map(|sequence| Position::new(4, sequence));
    let fields = [("x-delivery-limit", Value::I32(3))];
    let mut bench = logged(QueueKind::Quorum, &fields, &positions);
    let recovered = Recovered {
        lanes: vec![RecoveredLane {
            delivered_through: Some(positions[1]),
            ..lane(positions[0], positions[2], 3)
        }],
        counts: vec![(positions[0], 4, 3)],
    };
    bench.state.recover(recovered, bench.now, &mut bench.fx);
    // A consumer without room has them loaded; then memory is wanted elsewhere.
    let sink = Sink::with_room(0);
    let asked = bench.asked(1, 0);
    bench.add(asked, Arc::clone(&sink)).unwrap();
    bench.load();
    assert_eq!(bench.state.snapshot().messages_in_memory, 3);
    assert!(bench.state.evict(&mut bench.fx) > 0);
    assert_eq!(bench.messages_paged(), 3);
    sink.give_room(10);
    bench
        .state
        .consumer_ready(ConsumerId(1), bench.now, &mut bench.fx);
    bench.load();
    let counts = |acquired, delivery| Some(RedeliveryCounts { acquired, delivery });
    let got: Vec<_> = sink
        .deliveries()
        .iter()
        .map(|delivery| delivery.counts)
        .collect();
    assert_eq!(got, [counts(4, 3), counts(1, 0), None]);
    bench.settle(positions[0].0, SettlementOutcome::RequeuedByReject);
    assert_eq!(bench.state.counters.delivery_limited, 1);
    bench.settle(positions[1].0, SettlementOutcome::RequeuedByReject);
    assert_eq!(bench.fx.requeued, [(positions[1], 2, 1)]);
}

#[test]
fn messages_that_may_expire_are_looked_at() {
    let mut bench = logged(QueueKind::Classic, &[], &[Position(1)]);
    let deadline = Deadline(bench.now.wall_ms);
    bench
        .log
        .insert(Position(1), (message("a", None, None), deadline));
    let recovered = Recovered {
        lanes: vec![RecoveredLane {
            may_expire: true,
            ..lane(Position(1), Position(1), 1)
        }],
        counts: Vec::new(),
    };
    bench.state.recover(recovered, bench.now, &mut bench.fx);
    assert_eq!(bench.load(), 1);
    assert_eq!(bench.state.counters.expired, 1);
    assert!(bench.log.is_empty());
}

#[test]
fn what_the_log_has_beyond_the_count_or_short_of_it_is_counted() {
    for (counted, recovered, lost) in [(3, 4, 0), (6, 6, 2)] {
        let positions = [1, 2, 3, 4].map(Position);
        let mut bench = logged(QueueKind::Classic, &[], &positions);
        let lanes = vec![lane(Position(1), Position(4), counted)];
        let counts = Vec::new();
        let found = Recovered { lanes, counts };
        bench.state.recover(found, bench.now, &mut bench.fx);
        bench.consume(1, 0);
        bench.load();
        assert_eq!(bench.got(1).len(), 4);
        let counters = bench.state.counters;
        assert_eq!((counters.recovered, counters.lost), (recovered, lost));
        assert!(bench.state.is_balanced());
    }
}
