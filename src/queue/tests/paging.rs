//! A backlog costs disk and not memory, and nobody who consumes can tell.

use super::*;

/// What a message of one letter takes in memory, and a limit for three of them.
const MESSAGE_BYTES: u64 = 128 + 3 + 2 + 1;
const THREE: u64 = 3 * MESSAGE_BYTES;

fn persistent(body: &str, priority: Option<u8>) -> SharedMessage {
    let properties = Properties {
        priority,
        delivery_mode: Some(2),
        ..Properties::default()
    }
    .to_encoded();
    let facts = PropertyFacts::of(&properties).unwrap();
    let body = body.as_bytes();
    Arc::new(Message::copied("".into(), b"key", &properties, facts, body))
}

fn keep(bench: &mut Bench, message: &SharedMessage) -> Keep {
    let offer = bench.state.offer(message, None, bench.now, &mut bench.fx);
    let Offer::Taken(placement) = offer else {
        panic!("{offer:?}");
    };
    bench.state.withdraw(message, placement);
    placement.keep
}

fn letters(count: usize) -> Vec<String> {
    (0..count)
        .map(|at| char::from(b'a' + at as u8).to_string())
        .collect()
}

fn backlog(bench: &mut Bench, count: usize) {
    for letter in letters(count) {
        bench.publish_message(persistent(&letter, None));
        bench.record();
    }
}

fn parked(bench: &mut Bench, channel: u16, no_ack: bool) -> Arc<Sink> {
    let sink = Sink::endless();
    let asked = AskedGet {
        connection: ConnectionId(1),
        channel,
        no_ack,
        outlet: Arc::clone(&sink) as Arc<dyn Outlet>,
    };
    let outcome = bench.state.get(asked, bench.now, &mut bench.fx).unwrap();
    assert!(matches!(outcome, GetOutcome::Later));
    sink
}

fn answers(sink: &Sink) -> Vec<Option<String>> {
    let events = sink.take().into_iter().map(|event| match event {
        InboxEvent::Got { got, .. } => got.map(|got| body(&got.message)),
        other => panic!("{other:?}"),
    });
    events.collect()
}

#[test]
fn a_backlog_is_left_to_the_log_and_comes_back_in_order() {
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        let mut bench = Bench::paged(kind, &[], THREE);
        backlog(&mut bench, 20);
        let snapshot = bench.state.snapshot();
        assert!(snapshot.message_bytes_in_memory <= THREE + MESSAGE_BYTES);
        assert_eq!(snapshot.messages_ready, 20);
        assert_eq!(snapshot.message_bytes_ready, 20);
        assert!(snapshot.messages_paged >= 16);
        assert!(bench.fx.loads.is_empty(), "nobody wants them");
        bench.consume(1, 0);
        assert!(bench.load() > 0);
        assert_eq!(bench.got(1), letters(20));
        assert_eq!(bench.messages_paged(), 0);
    }
}

#[test]
fn what_must_be_kept_depends_on_the_message_the_queue_and_the_room() {
    for (kind, durable, is_persistent, with_room, without) in [
        (QueueKind::Classic, true, true, Keep::Journal, Keep::Journal),
        (QueueKind::Classic, true, false, Keep::Memory, Keep::Page),
        (QueueKind::Classic, false, true, Keep::Memory, Keep::Page),
        (QueueKind::Quorum, true, false, Keep::Journal, Keep::Journal),
    ] {
        let mut bench = Bench::paged(kind, &[], THREE);
        bench.state.is_durable = durable;
        let sample = if is_persistent {
            persistent("x", None)
        } else {
            message("x", None, None)
        };
        assert_eq!(keep(&mut bench, &sample), with_room);
        backlog(&mut bench, 5);
        assert_eq!(keep(&mut bench, &sample), without);
    }
}

#[test]
fn what_a_consumer_takes_at_once_needs_no_room() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 0);
    let mut asked = bench.asked(1, 0);
    asked.no_ack = true;
    bench.add(asked, Sink::endless()).unwrap();
    for letter in letters(5) {
        assert_eq!(
            keep(&mut bench, &message(&letter, None, None)),
            Keep::Memory
        );
        bench.publish(&letter);
        bench.publish_message(persistent(&letter, None));
        // Journaled, and settled by being handed out.
        assert_eq!(bench.fx.settled.len(), 1);
        bench.record();
    }
    assert_eq!(bench.got(1).len(), 10);
    assert_eq!(bench.state.snapshot().message_bytes_in_memory, 0);
    assert!(bench.fx.loads.is_empty() && bench.log.is_empty());
}

#[test]
fn a_burst_for_one_free_place_is_left_to_the_log_but_for_the_first() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 0);
    bench.consume(1, 1);
    let offers: Vec<_> = letters(3)
        .iter()
        .map(|letter| {
            let message = message(letter, None, None);
            match bench.state.offer(&message, None, bench.now, &mut bench.fx) {
                Offer::Taken(placement) => (message, placement),
                Offer::Refused => panic!("refused"),
            }
        })
        .collect();
    let kept: Vec<_> = offers.iter().map(|(_, placement)| placement.keep).collect();
    assert_eq!(kept, [Keep::Memory, Keep::Page, Keep::Page]);
    for (message, placement) in offers {
        if placement.keep == Keep::Page {
            let logged = (Arc::clone(&message), placement.deadline);
            bench.log.insert(placement.position, logged);
        }
        bench
            .state
            .enter(message, placement, bench.now, &mut bench.fx);
    }
    assert_eq!(bench.got(1), ["a"]);
    for position in 1..3 {
        bench.ack(position);
        bench.load();
    }
    assert_eq!(bench.got(1), ["b", "c"]);
}

#[test]
fn a_lower_lane_waits_until_the_higher_one_is_loaded() {
    let fields = [("x-max-priority", Value::I32(5))];
    let mut bench = Bench::paged(QueueKind::Classic, &fields, MESSAGE_BYTES);
    bench.publish_message(message("low", Some(1), None));
    for letter in letters(3) {
        bench.publish_message(persistent(&letter, Some(4)));
    }
    assert_eq!(bench.state.snapshot().messages_in_memory, 1);
    bench.consume(1, 0);
    assert!(bench.got(1).is_empty());
    bench.publish_message(persistent("urgent", Some(5)));
    assert_eq!(bench.got(1), ["urgent"]);
    bench.load();
    assert_eq!(bench.got(1), ["a", "b", "c", "low"]);
}

#[test]
fn a_head_that_may_expire_is_loaded_although_nobody_consumes() {
    let fields = [
        ("x-message-ttl", Value::I32(100)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ];
    let mut bench = Bench::paged(QueueKind::Classic, &fields, 0);
    backlog(&mut bench, 3);
    assert_eq!(bench.load(), 1, "the head alone");
    assert_eq!(bench.state.poll_timeout(), Some(bench.now.wall_ms + 100));
    bench.pass_ms(100);
    let mut dead = Vec::new();
    for _ in 0..3 {
        bench.load();
        dead.extend(bench.dead().into_iter().map(|(letter, _)| letter));
    }
    assert_eq!(dead, letters(3));
    assert_eq!(bench.state.poll_timeout(), None);
}

#[test]
fn a_full_queue_drops_its_head_once_it_is_loaded() {
    let fields = [
        ("x-max-length", Value::I32(2)),
        ("x-dead-letter-exchange", Value::from("dlx")),
    ];
    let mut bench = Bench::paged(QueueKind::Classic, &fields, 0);
    backlog(&mut bench, 4);
    assert_eq!(bench.state.counts().messages_ready, 4);
    bench.load();
    assert_eq!(bench.state.counts().messages_ready, 2);
    // The queue has not ended them; the letters do when they leave.
    assert_eq!(bench.log.len(), 4);
    let sources: Vec<_> = bench.letters().iter().map(|letter| letter.source).collect();
    assert_eq!(sources, [Some(Position(1)), Some(Position(2))]);
    assert_eq!(bench.log.len(), 2);
}

#[test]
fn a_purge_names_what_stays_and_ignores_what_was_asked_for() {
    let fields = [("x-dead-letter-exchange", Value::from("dlx"))];
    let mut bench = Bench::paged(QueueKind::Classic, &fields, THREE);
    bench.consume(1, 5);
    backlog(&mut bench, 20);
    bench.load();
    assert_eq!(bench.got(1).len(), 5);
    bench.ack(3);
    bench.settle(4, SettlementOutcome::Rejected);
    bench.cancel(1);
    bench.record();
    // 1, 2, 5, 6, 7 are unsettled, 4 is on its way out.
    assert_eq!(bench.state.purge(&mut bench.fx), 13);
    let survivors = bench.fx.purged.clone().unwrap().survivors;
    let survivors: Vec<(u64, u32)> = survivors
        .iter()
        .map(|run| (run.first.0, run.count))
        .collect();
    assert_eq!(survivors, [(1, 2), (4, 4)]);
    bench.record();
    assert_eq!(bench.letters().len(), 1);
    assert!(!bench.log.contains_key(&Position(4)));
    assert_eq!(bench.state.purge(&mut bench.fx), 0);
    assert_eq!(bench.fx.purged, None, "the log has nothing to forget");

    backlog(&mut bench, 20);
    let sink = parked_on_cold_head(&mut bench);
    let load = *bench.fx.loads.last().unwrap();
    let late = bench.block(load);
    assert!(bench.state.purge(&mut bench.fx) > 0);
    assert_eq!(answers(&sink), [None]);
    bench.record();
    bench.fx.loads.clear();
    bench.state.handle_loaded(late, bench.now, &mut bench.fx);
    assert_eq!(bench.state.counts().messages_ready, 0);
    assert!(bench.state.is_balanced());
}

/// Takes what is in memory by gets, then asks for one more.
fn parked_on_cold_head(bench: &mut Bench) -> Arc<Sink> {
    while !bench.state.ready.is_head_cold() {
        assert!(bench.get().is_some());
    }
    bench.record();
    parked(bench, 9, true)
}

#[test]
fn gets_wait_for_the_head_in_the_order_of_asking_and_go_before_consumers() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 0);
    backlog(&mut bench, 5);
    let sinks: Vec<_> = (1..=4)
        .map(|channel| parked(&mut bench, channel, channel == 1))
        .collect();
    bench.consume(1, 1);
    bench.state.cancel_gets(ConnectionId(2), None);
    bench.state.cancel_gets(ConnectionId(1), Some(2));
    assert_eq!(bench.fx.loads.len(), 1, "one load for all of them");
    bench.load();
    let got: Vec<_> = sinks.iter().map(|sink| answers(sink)).collect();
    let letter = |text: &str| vec![Some(text.to_owned())];
    assert_eq!(got, [letter("a"), vec![], letter("b"), letter("c")]);
    assert_eq!(bench.got(1), ["d"]);
    assert!(bench.ack(2) && bench.ack(3) && bench.ack(4));
    bench.load();
    assert_eq!(bench.got(1), ["e"]);
}

#[test]
fn a_deletion_answers_those_who_wait_for_a_message() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 0);
    backlog(&mut bench, 2);
    let sink = parked(&mut bench, 1, false);
    assert_eq!(bench.state.delete(&mut bench.fx), 2);
    assert_eq!(answers(&sink), [None]);
    assert_eq!(bench.fx.purged, None);
    assert!(bench.fx.settled.is_empty());
}

#[test]
fn handed_out_messages_leave_memory_when_it_is_half_full() {
    let mut bench = Bench::paged(
        QueueKind::Classic,
        &[("x-dead-letter-exchange", Value::from("dlx"))],
        THREE,
    );
    bench.consume(1, 0);
    backlog(&mut bench, 25);
    for letter in letters(25) {
        bench.publish(&letter);
    }
    let snapshot = bench.state.snapshot();
    assert_eq!(
        (
            snapshot.messages_unsettled,
            snapshot.message_bytes_unsettled
        ),
        (50, 50)
    );
    // The logged ones within half of the budget, then the transient ones.
    let most = 10 * THREE + 26 * MESSAGE_BYTES;
    assert!(snapshot.message_bytes_in_memory <= most);
    bench.got(1);
    bench.cancel(1);
    // One that is in the log alone comes back, one dies, one is acknowledged.
    bench.settle(25, SettlementOutcome::RequeuedByNack);
    bench.settle(24, SettlementOutcome::Rejected);
    bench.ack(23);
    bench.record();
    assert!(bench.log.contains_key(&Position(24)));
    let letter = bench.letters().pop().unwrap();
    assert_eq!(body(&letter.message), "x");
    assert_eq!(letter.source, Some(Position(24)));
    assert!(!bench.log.contains_key(&Position(24)));
    assert!(!bench.log.contains_key(&Position(23)));
    let sink = bench.consume(2, 0);
    bench.load();
    let delivery = sink.deliveries().remove(0);
    assert!(delivery.redelivered);
    assert_eq!(body(&delivery.message), "y");
}

#[test]
fn an_eviction_leaves_everything_logged_to_the_log() {
    for kind in [QueueKind::Classic, QueueKind::Quorum] {
        let mut bench = Bench::paged(kind, &[], 100 * THREE);
        let sink = bench.consume(1, 10);
        backlog(&mut bench, 20);
        let held: Vec<u64> = sink
            .deliveries()
            .iter()
            .map(|delivery| delivery.position.0)
            .collect();
        bench.cancel(1);
        bench.settle_all(&held[..4], SettlementOutcome::RequeuedByNack);
        let before = bench.state.snapshot().message_bytes_in_memory;
        assert_eq!(before, bench.state.evict(&mut bench.fx));
        let snapshot = bench.state.snapshot();
        assert_eq!(snapshot.message_bytes_in_memory, 0);
        assert_eq!(
            (snapshot.messages_paged, snapshot.messages_unsettled),
            (14, 6)
        );
        bench.settle_all(&held[4..], SettlementOutcome::RequeuedByNack);
        bench.consume(2, 0);
        bench.load();
        assert_eq!(bench.got(2), letters(20));
    }
}

#[test]
fn what_only_memory_has_is_never_evicted() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 100 * THREE);
    bench.publish_message(persistent("a", None));
    bench.publish("b");
    bench.publish_message(persistent("c", None));
    assert_eq!(bench.state.evict(&mut bench.fx), MESSAGE_BYTES + 1);
    bench.publish("d");
    assert_eq!(
        bench.messages_paged(),
        2,
        "behind a tail in the log, all go there"
    );
    bench.consume(1, 0);
    bench.load();
    assert_eq!(bench.got(1), ["a", "b", "c", "d"]);
}

#[test]
fn when_the_last_consumer_goes_little_stays_in_memory() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], THREE);
    bench.consume(1, 1);
    backlog(&mut bench, 20);
    assert!(bench.state.snapshot().messages_in_memory > 3);
    bench.cancel(1);
    assert!(bench.state.snapshot().messages_in_memory <= 3);
    assert!(bench.fx.loads.is_empty());
}

#[test]
fn the_next_messages_are_asked_for_before_they_are_wanted() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], THREE);
    backlog(&mut bench, 26);
    assert!(bench.fx.loads.is_empty());
    bench.consume(1, 1);
    assert_eq!(bench.got(1), ["a"]);
    assert_eq!(bench.fx.loads.len(), 1, "while some are still in memory");
    assert!(!bench.state.ready.is_head_cold());
    for position in 1..=25 {
        bench.load();
        bench.ack(position);
    }
    assert_eq!(bench.got(1), letters(26)[1..]);
}

#[test]
fn a_message_that_cannot_be_read_is_counted_and_the_rest_is_served() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 0);
    backlog(&mut bench, 4);
    bench.consume(1, 0);
    let load = bench.fx.loads.remove(0);
    let mut block = bench.block(Load {
        bytes_max: u64::MAX,
        ..load
    });
    block.damaged.push(block.messages.remove(1).position);
    bench.state.handle_loaded(block, bench.now, &mut bench.fx);
    assert_eq!(bench.got(1), ["a", "c", "d"]);
    assert_eq!(bench.state.counters.lost, 1);
    assert!(bench.state.is_balanced());
    let snapshot = bench.state.snapshot();
    assert_eq!(
        (snapshot.messages_ready, snapshot.message_bytes_ready),
        (0, 0)
    );
}

#[test]
fn a_load_that_could_read_nothing_is_ordered_again_after_a_second() {
    let mut bench = Bench::paged(QueueKind::Classic, &[], 0);
    backlog(&mut bench, 2);
    bench.consume(1, 0);
    let load = bench.fx.loads.remove(0);
    let block = LoadedBlock {
        through: Position(load.first.0 - 1),
        ..bench.block(load)
    };
    bench.state.handle_loaded(block, bench.now, &mut bench.fx);
    bench.publish_message(persistent("c", None));
    assert!(bench.fx.loads.is_empty(), "not in a circle");
    assert_eq!(bench.state.poll_timeout(), Some(bench.now.wall_ms + 1000));
    bench.pass_ms(1000);
    assert_eq!(bench.load(), 3);
    assert_eq!(bench.got(1), letters(3));
    assert_eq!(bench.state.poll_timeout(), None);
}

#[test]
fn a_retained_dead_letter_can_be_in_the_log_alone_and_ends_there_when_it_has_arrived() {
    let fields = [
        ("x-dead-letter-exchange", Value::from("dlx")),
        ("x-dead-letter-strategy", Value::from("at-least-once")),
        ("x-overflow", Value::from("reject-publish")),
    ];
    let mut bench = Bench::paged(QueueKind::Quorum, &fields, 0);
    bench.consume(1, 0);
    backlog(&mut bench, 2);
    for sequence in 1..=2 {
        bench.settle(quorum_place(sequence), SettlementOutcome::Rejected);
    }
    assert!(bench.state.letters_to_load().is_some());
    let letters = bench.letters();
    assert!(letters.iter().all(|letter| letter.source.is_none()));
    assert_eq!(letters.len(), 2);
    bench.record();
    assert_eq!(bench.log.len(), 2);
    let position = Position::new(4, 1);
    bench
        .state
        .settle_dead_letter(position, true, bench.now, &mut bench.fx);
    let settled: Vec<Position> = bench
        .fx
        .settled
        .iter()
        .map(|(position, _)| *position)
        .collect();
    assert_eq!(settled, [position]);
    bench.record();
    bench.state.purge(&mut bench.fx);
    assert_eq!(bench.fx.purged.as_ref().unwrap().survivors, []);
}
