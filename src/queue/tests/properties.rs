//! What holds after any calls in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Publish {
        priority: Option<u8>,
        ttl_ms: Option<u8>,
    },
    Settle {
        index: usize,
        outcome: u8,
    },
    Add {
        id: u64,
        prefetch: u32,
        no_ack: bool,
        priority: i64,
    },
    Remove {
        id: u64,
    },
    Room {
        id: u64,
        room: usize,
    },
    Get {
        no_ack: bool,
    },
    Pass {
        ms: u64,
    },
    Purge,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (proptest::option::of(0..6u8), proptest::option::of(0..50u8))
            .prop_map(|(priority, ttl_ms)| Operation::Publish { priority, ttl_ms }),
        6 => (any::<usize>(), 0..5u8)
            .prop_map(|(index, outcome)| Operation::Settle { index, outcome }),
        2 => (1..6u64, 0..4u32, any::<bool>(), -1..2i64)
            .prop_map(|(id, prefetch, no_ack, priority)| Operation::Add { id, prefetch, no_ack, priority }),
        1 => (1..6u64).prop_map(|id| Operation::Remove { id }),
        2 => (1..6u64, 0..4usize).prop_map(|(id, room)| Operation::Room { id, room }),
        1 => any::<bool>().prop_map(|no_ack| Operation::Get { no_ack }),
        1 => (0..30u64).prop_map(|ms| Operation::Pass { ms }),
        1 => Just(Operation::Purge),
    ]
}

fn outcome(number: u8) -> SettlementOutcome {
    match number {
        0 => SettlementOutcome::Acked,
        1 => SettlementOutcome::Rejected,
        2 => SettlementOutcome::RequeuedByReject,
        3 => SettlementOutcome::RequeuedByNack,
        _ => SettlementOutcome::ReturnedByLoss,
    }
}

/// Runs operations and checks after each that messages balance and that nobody has more than its
/// prefetch. Returns a trace that is the same for the same operations.
fn run(mut bench: Bench, operations: &[Operation]) -> Vec<String> {
    let mut trace = Vec::new();
    let mut next_id = 0;
    let mut live: BTreeMap<u64, (u64, u32, bool)> = BTreeMap::new();
    let mut held: Vec<(u64, Option<u64>)> = Vec::new();
    for operation in operations {
        match *operation {
            Operation::Publish { priority, ttl_ms } => {
                let ttl = ttl_ms.map(|ttl_ms| ttl_ms.to_string());
                bench.publish_message(message("body", priority, ttl.as_deref()));
            }
            Operation::Settle {
                index,
                outcome: number,
            } if !held.is_empty() => {
                let (position, _) = held.remove(index % held.len());
                assert!(bench.settle(position, outcome(number)));
            }
            Operation::Add {
                id,
                prefetch,
                no_ack,
                priority,
            } if !live.contains_key(&id) => {
                next_id += 1;
                live.insert(id, (next_id, prefetch, no_ack));
                let mut asked = bench.asked(next_id, prefetch);
                asked.no_ack = no_ack;
                asked.settings.priority = priority;
                bench.add(asked, Sink::with_room(2)).unwrap();
            }
            Operation::Remove { id } => {
                if let Some((id, _, _)) = live.remove(&id) {
                    assert!(bench.cancel(id));
                }
            }
            Operation::Room { id, room } => {
                if let Some((id, _, _)) = live.get(&id) {
                    bench.sinks[id].give_room(room);
                    bench
                        .state
                        .consumer_ready(ConsumerId(*id), bench.now, &mut bench.fx);
                }
            }
            Operation::Get { no_ack } => {
                let got = bench.try_get(1, no_ack);
                if let Ok(Some(got)) = got {
                    trace.push(format!("get {}", got.position));
                    if !no_ack {
                        held.push((got.position.0, None));
                    }
                }
            }
            Operation::Pass { ms } => bench.pass_ms(ms),
            Operation::Purge => {
                bench.state.purge(&mut bench.fx);
            }
            Operation::Settle { .. } | Operation::Add { .. } => {}
        }
        for (id, sink) in &bench.sinks {
            for delivery in sink.deliveries() {
                trace.push(format!(
                    "{id} {} {}",
                    delivery.position, delivery.redelivered
                ));
                if !delivery.no_ack {
                    held.push((delivery.position.0, Some(*id)));
                }
            }
        }
        assert!(bench.state.is_balanced());
        assert_eq!(bench.state.snapshot().messages_unsettled, held.len() as u64);
        assert_eq!(
            bench.window.outstanding() as usize,
            held.iter().filter(|(_, id)| id.is_some()).count()
        );
        for (id, prefetch, _) in live.values() {
            let has = held.iter().filter(|(_, owner)| *owner == Some(*id)).count();
            assert!(*prefetch == 0 || has <= *prefetch as usize);
        }
    }
    trace.extend(bench.dead().into_iter().map(|(body, why)| body + &why));
    trace
}

/// Runs operations on a queue with little memory, whose loads are answered at any later time. Whatever the log has comes to its
/// end exactly once; when everything is settled and purged, nothing is left in the log.
fn run_paged(mut bench: Bench, operations: &[(Operation, bool)]) {
    let mut next_id = 0;
    let mut held: Vec<u64> = Vec::new();
    let answers = Sink::endless();
    for (operation, loads) in operations {
        match *operation {
            Operation::Publish { priority, ttl_ms } => {
                let ttl = ttl_ms.map(|ttl_ms| ttl_ms.to_string());
                bench.publish_message(message("body", priority, ttl.as_deref()));
            }
            Operation::Settle {
                index,
                outcome: number,
            } if !held.is_empty() => {
                let position = held.remove(index % held.len());
                assert!(bench.settle(position, outcome(number)));
            }
            Operation::Add {
                prefetch,
                no_ack,
                priority,
                ..
            } => {
                next_id += 1;
                let mut asked = bench.asked(next_id, prefetch);
                asked.no_ack = no_ack;
                asked.settings.priority = priority;
                bench.add(asked, Sink::with_room(3)).unwrap();
            }
            Operation::Remove { id } => {
                bench.cancel(id);
            }
            Operation::Room { id, room } => {
                if let Some(sink) = bench.sinks.get(&id) {
                    sink.give_room(room);
                }
                let (now, id) = (bench.now, ConsumerId(id));
                bench.state.consumer_ready(id, now, &mut bench.fx);
            }
            Operation::Get { no_ack } => {
                let asked = AskedGet {
                    connection: ConnectionId(1),
                    channel: 1,
                    no_ack,
                    outlet: Arc::clone(&answers) as Arc<dyn Outlet>,
                };
                let now = bench.now;
                let outcome = bench.state.get(asked, now, &mut bench.fx).unwrap();
                if let GetOutcome::Got(got) = outcome
                    && !no_ack
                {
                    held.push(got.position.0);
                }
            }
            Operation::Pass { ms } => bench.pass_ms(ms),
            Operation::Purge => {
                bench.state.purge(&mut bench.fx);
            }
            Operation::Settle { .. } => {
                bench.state.evict(&mut bench.fx);
            }
        }
        bench.record();
        if *loads && !bench.fx.loads.is_empty() {
            let load = bench.fx.loads.remove(0);
            let block = bench.block(load);
            bench.state.handle_loaded(block, bench.now, &mut bench.fx);
            bench.record();
        }
        collect(&bench, &answers, &mut held);
        assert!(bench.state.is_balanced());
        assert_eq!(bench.state.snapshot().messages_unsettled, held.len() as u64);
        assert_eq!(bench.state.counters.lost, 0);
    }
    bench.load();
    collect(&bench, &answers, &mut held);
    bench.state.purge(&mut bench.fx);
    bench.settle_all(&held, SettlementOutcome::Acked);
    bench.record();
    assert_eq!(bench.state.snapshot().message_bytes_in_memory, 0);
    assert!(bench.log.is_empty(), "{:?}", bench.log.keys());
}

fn collect(bench: &Bench, answers: &Sink, held: &mut Vec<u64>) {
    for sink in bench.sinks.values() {
        let deliveries = sink.deliveries();
        let kept = deliveries.iter().filter(|delivery| !delivery.no_ack);
        held.extend(kept.map(|delivery| delivery.position.0));
    }
    for event in answers.take() {
        if let InboxEvent::Got {
            no_ack: false,
            got: Some(got),
            ..
        } = event
        {
            held.push(got.position.0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn messages_balance_and_prefetch_holds(operations in prop::collection::vec(operation(), 1..120)) {
        let fields = [("x-max-priority", Value::I32(3)), ("x-max-length", Value::I32(20)), ("x-dead-letter-exchange", Value::from("dlx"))];
        run(Bench::classic(&fields), &operations);
        run(Bench::quorum(&fields[1..]), &operations);
    }

    #[test]
    fn what_the_log_has_ends_exactly_once(operations in prop::collection::vec((operation(), any::<bool>()), 1..120), bytes in 0..1000u64) {
        let fields = [("x-max-priority", Value::I32(3)), ("x-max-length", Value::I32(20))];
        run_paged(Bench::paged(QueueKind::Classic, &fields[..1], bytes), &operations);
        run_paged(Bench::paged(QueueKind::Classic, &fields, bytes), &operations);
        run_paged(Bench::paged(QueueKind::Quorum, &fields[1..], bytes), &operations);
    }

    #[test]
    fn the_same_calls_give_the_same_effects(operations in prop::collection::vec(operation(), 1..80)) {
        prop_assert_eq!(run(Bench::classic(&[]), &operations), run(Bench::classic(&[]), &operations));
        prop_assert_eq!(run(Bench::quorum(&[]), &operations), run(Bench::quorum(&[]), &operations));
    }

    /// One consumer that requeues some and acknowledges the others sees, among messages that it never
    /// saw, the order of publishing; and what is left at the end is in that order too.
    #[test]
    fn one_consumer_sees_the_order_of_publishing(choices in prop::collection::vec((any::<bool>(), 0..4usize), 1..100)) {
        let mut bench = Bench::classic(&[]);
        let sink = bench.consume(1, 3);
        let mut newest = 0;
        let mut held: Vec<u64> = Vec::new();
        for (requeue, index) in choices {
            bench.publish("x");
            if !held.is_empty() {
                let position = held.remove(index % held.len());
                let outcome = if requeue { SettlementOutcome::RequeuedByNack } else { SettlementOutcome::Acked };
                bench.settle(position, outcome);
            }
            for delivery in sink.deliveries() {
                let position = delivery.position.0;
                prop_assert_eq!(delivery.redelivered, position <= newest);
                prop_assert!(delivery.redelivered || position == newest + 1);
                newest = newest.max(position);
                held.push(position);
            }
        }
        bench.cancel(1);
        bench.settle_all(&held, SettlementOutcome::ReturnedByLoss);
        let mut last = 0;
        while let Ok(Some(got)) = bench.try_get(1, true) {
            prop_assert!(got.position.0 > last);
            last = got.position.0;
        }
    }

    #[test]
    fn rotation_is_fair(consumers in 1..8u64, messages in 0..200u64) {
        let mut bench = Bench::classic(&[]);
        for id in 1..=consumers {
            bench.consume(id, 0);
        }
        for _ in 0..messages {
            bench.publish("x");
        }
        for id in 1..=consumers {
            let share = bench.got(id).len() as u64;
            prop_assert!(share == messages / consumers || share == messages / consumers + 1);
        }
    }
}
