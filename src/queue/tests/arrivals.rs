//! A full queue drops the same messages whether its heads are in memory or on the disk alone.

use std::sync::Arc;

use super::{Bench, body};
use crate::model::{InboxEvent, Message, Position, SettlementOutcome, SharedMessage};
use crate::protocol::{Properties, PropertyFacts, Value};
use crate::queue::QueueKind;

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

fn message(number: u64, priority: u8, bytes: usize) -> SharedMessage {
    let properties = Properties {
        priority: Some(priority),
        delivery_mode: Some(2),
        ..Properties::default()
    }
    .to_encoded();
    let facts = PropertyFacts::of(&properties).unwrap();
    let body = format!("{number:0bytes$}");
    Arc::new(Message::copied(
        "".into(),
        b"key",
        &properties,
        facts,
        body.as_bytes(),
    ))
}

/// Answers the first load, if there is one.
fn load_one(bench: &mut Bench) {
    bench.record();
    if bench.fx.loads.is_empty() {
        return;
    }
    let load = bench.fx.loads.remove(0);
    let block = bench.block(load);
    bench.state.handle_loaded(block, bench.now, &mut bench.fx);
    bench.record();
}

/// What dies, in order, and what is left, when a queue lives through the operations of a seed. `loads` is the chance in percent that
/// something is read after one of them.
fn live(
    seed: u64,
    kind: QueueKind,
    limit: (&'static str, i32),
    budget: u64,
    loads: u64,
) -> (Vec<String>, Vec<String>) {
    let mut fields = vec![
        (limit.0, Value::I32(limit.1)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ];
    if kind == QueueKind::Classic {
        fields.push(("x-max-priority", Value::I32(5)));
    }
    let mut bench = Bench::paged(kind, &fields, budget);
    let mut numbers = Numbers(seed);
    let mut chance = Numbers(seed ^ 0xABCD);
    let mut number = 0;
    let mut publish = |bench: &mut Bench, numbers: &mut Numbers| {
        number += 1;
        let bytes = 4 + numbers.below(60) as usize;
        bench.publish_message(message(number, numbers.below(6) as u8, bytes));
        bench.record();
    };
    let sink = bench.consume(1, 0);
    for _ in 0..20 {
        publish(&mut bench, &mut numbers);
    }
    let mut held: Vec<u64> = Vec::new();
    for event in sink.take() {
        if let InboxEvent::Deliver(delivery) = event {
            held.push(delivery.position.0);
        }
    }
    bench.cancel(1);
    bench.record();
    for _ in 0..60 {
        match numbers.below(4) {
            0 if !held.is_empty() => {
                let mut back = Vec::new();
                for _ in 0..=numbers.below(3) {
                    if !held.is_empty() {
                        let index = numbers.below(held.len() as u64) as usize;
                        back.push(held.swap_remove(index));
                    }
                }
                bench.settle_all(&back, SettlementOutcome::RequeuedByNack);
                bench.record();
            }
            1 if !held.is_empty() => {
                let index = numbers.below(held.len() as u64) as usize;
                bench.ack(held.swap_remove(index));
                bench.record();
            }
            _ => publish(&mut bench, &mut numbers),
        }
        while chance.below(100) < loads && !bench.fx.loads.is_empty() {
            load_one(&mut bench);
        }
        if chance.below(100) < 10 && budget < 1000 {
            bench.state.evict(&mut bench.fx);
        }
    }
    for position in held {
        assert!(bench.ack(position));
    }
    while !bench.fx.loads.is_empty() {
        load_one(&mut bench);
    }
    assert!(!bench.state.is_drop_owed() && bench.state.arrivals.is_empty());
    let dead = bench.dead().into_iter().map(|(body, _)| body).collect();
    let sink = bench.consume(2, 0);
    bench.load();
    let left = sink.deliveries();
    let left = left
        .iter()
        .map(|delivery| body(&delivery.message))
        .collect();
    (dead, left)
}

#[test]
fn the_same_messages_are_dropped_in_the_same_order_wherever_they_are() {
    let mut owed = 0;
    for seed in 0..150 {
        for kind in [QueueKind::Classic, QueueKind::Quorum] {
            for limit in [("x-max-length", 6), ("x-max-length-bytes", 300)] {
                let hot = live(seed, kind, limit, 1 << 20, 100);
                for loads in [0, 30, 90] {
                    let cold = live(seed, kind, limit, 0, loads);
                    assert_eq!(hot, cold, "{seed} {kind:?} {limit:?} {loads}");
                }
                owed += hot.0.len();
            }
        }
    }
    assert!(owed > 1000, "hardly anything was dropped: {owed}");
}

/// A queue of three that holds `a` to `c` on the disk alone, and one too many.
fn owing() -> Bench {
    let fields = [
        ("x-max-length", Value::I32(3)),
        ("x-max-priority", Value::I32(9)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ];
    let mut bench = Bench::paged(QueueKind::Classic, &fields, 0);
    for number in 1..=4 {
        bench.publish_message(message(number, 1, 4));
    }
    assert!(bench.state.is_drop_owed());
    bench
}

#[test]
fn what_comes_while_a_drop_is_owed_counts_and_waits() {
    let mut bench = owing();
    bench.publish_message(message(5, 9, 4));
    assert_eq!(bench.state.counts().messages_ready, 5);
    let snapshot = bench.state.snapshot();
    assert_eq!(snapshot.message_bytes_ready, 20);
    assert_eq!(snapshot.messages_paged + snapshot.messages_in_memory, 5);
    // Nobody gets what will be dropped.
    let sink = bench.consume(1, 1);
    assert!(sink.deliveries().is_empty());
    bench.load();
    let dead: Vec<String> = bench.dead().into_iter().map(|(body, _)| body).collect();
    // As in memory: the first one when the fourth came, the one of the highest priority when it came itself.
    assert_eq!(dead, ["0001", "0005"]);
    assert_eq!(body(&sink.deliveries()[0].message), "0002");
}

#[test]
fn a_purge_takes_what_waits_for_a_drop_with_it() {
    let mut bench = owing();
    bench.publish_message(message(5, 9, 4));
    bench.record();
    assert_eq!(bench.state.purge(&mut bench.fx), 5);
    assert!(!bench.state.is_drop_owed());
    bench.record();
    assert!(bench.log.is_empty());
    assert!(bench.state.is_balanced());
    bench.fx.loads.clear();
    bench.publish_message(message(6, 1, 4));
    assert_eq!(bench.state.counts().messages_ready, 1);
}

#[test]
fn a_disk_that_does_not_answer_lets_only_so_much_wait() {
    let mut bench = owing();
    for number in 5..=25_000 {
        bench.publish_message(message(number, (number % 5) as u8, 5));
    }
    assert!(bench.state.arrivals.messages() <= 10_000);
    assert_eq!(bench.state.counts().messages_ready, 25_000);
    assert!(bench.state.is_balanced());
    let load = bench.fx.loads[0];
    assert_eq!(load.first, Position::new(1, 1));
    bench.load();
    assert_eq!(bench.state.counts().messages_ready, 3);
    assert!(bench.state.is_balanced());
}
