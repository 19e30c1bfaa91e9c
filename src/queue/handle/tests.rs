//! A queue behind its lock: refusals with their texts, deadlines, the end.

use std::time::Instant;

use super::*;
use crate::model::SharedMessage;
use crate::protocol::{PropertyFacts, ShortString, Value};
use crate::queue::{Burst, NextLetter};

fn now() -> Now {
    Now {
        monotonic: Instant::now(),
        wall_ms: 1_000_000,
    }
}

fn queue(fields: &[(&'static str, Value)], fx: &mut Effects) -> QueueHandle {
    queue_in(keeping(), 7, fields, fx)
}

fn queue_in(
    keeping: Keeping,
    id: u64,
    fields: &[(&'static str, Value)],
    fx: &mut Effects,
) -> QueueHandle {
    let arguments: FieldTable = fields
        .iter()
        .map(|(name, value)| (ShortString::from_static(name), value.clone()))
        .collect();
    let settings = QueueSettings::parse("q", "/", QueueKind::Classic, &arguments).unwrap();
    let declaration = QueueDeclaration {
        id: QueueId(id),
        name: "q".into(),
        vhost: "/".into(),
        durable: true,
        exclusive_owner: None,
        auto_delete: false,
        arguments,
        settings,
    };
    let policy = QueuePolicy::default();
    QueueHandle::new(declaration, &policy, keeping, now(), fx)
}

fn keeping() -> Keeping {
    Keeping {
        store: crate::store::messages::fixtures::in_memory(),
        budget: HotBudget::new(1 << 20),
        interval: Arc::default(),
    }
}

fn asked() -> AskedGet {
    AskedGet {
        connection: ConnectionId(1),
        channel: 1,
        no_ack: true,
        outlet: crate::queue::Inbox::new(1000),
    }
}

/// Publishes one message; gives how many queues took it.
fn publish(queue: &QueueHandle, fx: &mut Effects) -> u32 {
    let mut burst = Burst::open(&queue.0.store, [queue], fx);
    let placed = burst.publish(&message(), None, [0], now(), fx);
    burst.finish(now(), fx);
    placed.accepted
}

fn message() -> SharedMessage {
    let facts = PropertyFacts::default();
    Arc::new(Message::copied("".into(), b"q", &[0, 0], facts, b"body"))
}

fn refusal<T: fmt::Debug>(result: Result<T, QueueError>) -> String {
    match result {
        Err(QueueError::Refused(refusal)) => refusal.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deleted_queue_is_gone_for_everyone() {
    let mut fx = Effects::default();
    let queue = queue(&[], &mut fx);
    let other = queue.clone();
    assert_eq!(publish(&queue, &mut fx) + publish(&queue, &mut fx), 2);
    assert_eq!(other.delete(false, false, &mut fx), Ok(2));
    assert_eq!(publish(&queue, &mut fx), 0);
    assert_eq!(queue.delete(false, false, &mut fx), Err(QueueError::Gone));
    assert_eq!(queue.counts(), Err(Gone));
}

#[test]
fn a_deletion_can_be_conditional() {
    let mut fx = Effects::default();
    let classic = queue(&[], &mut fx);
    publish(&classic, &mut fx);
    assert_eq!(
        refusal(classic.delete(false, true, &mut fx)),
        "queue 'q' in vhost '/' not empty"
    );
    assert_eq!(classic.delete(true, false, &mut fx), Ok(1));
    let quorum = queue(&[("x-queue-type", Value::from("quorum"))], &mut fx);
    assert_eq!(
        refusal(quorum.delete(true, true, &mut fx)),
        "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-unused flag set are not supported by quorum queues"
    );
}

#[test]
fn a_refused_get_says_why() {
    let mut fx = Effects::default();
    let fields = [
        ("x-queue-type", Value::from("quorum")),
        ("x-single-active-consumer", Value::Bool(true)),
    ];
    let queue = queue(&fields, &mut fx);
    assert_eq!(
        refusal(queue.get(asked(), now(), &mut fx)),
        "cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer"
    );
}

#[test]
fn a_deadline_is_reported_when_it_is_earlier_than_the_last_one() {
    let mut fx = Effects::default();
    let queue = queue(&[("x-message-ttl", Value::I32(100))], &mut fx);
    assert!(fx.deadlines.is_empty());
    publish(&queue, &mut fx);
    publish(&queue, &mut fx);
    queue.purge(&mut fx).unwrap();
    publish(&queue, &mut fx);
    assert_eq!(fx.deadlines, [(QueueId(7), 1_000_100)]);
    queue.handle_timeout(now(), &mut fx).unwrap();
    assert_eq!(fx.deadlines.len(), 2);
}

#[test]
fn another_connections_exclusive_queue_is_locked() {
    let mut fx = Effects::default();
    let mut declaration = queue(&[], &mut fx).declaration().clone();
    declaration.exclusive_owner = Some(ConnectionId(1));
    let policy = QueuePolicy::default();
    let queue = QueueHandle::new(declaration, &policy, keeping(), now(), &mut fx);
    assert!(queue.check_access(ConnectionId(1)).is_ok());
    assert!(queue.check_access(ConnectionId(2)).is_err());
}

/// A persistent message.
fn kept() -> SharedMessage {
    let properties = crate::protocol::Properties {
        delivery_mode: Some(2),
        ..crate::protocol::Properties::default()
    };
    let encoded = properties.to_encoded();
    let facts = PropertyFacts::of(&encoded).unwrap();
    Arc::new(Message::copied("".into(), b"q", &encoded, facts, b"body"))
}

fn keep(queue: &QueueHandle, messages: usize, fx: &mut Effects) {
    let mut burst = Burst::open(&queue.0.store, [queue], fx);
    for _ in 0..messages {
        assert_eq!(burst.publish(&kept(), None, [0], now(), fx).accepted, 1);
    }
    burst.finish(now(), fx);
}

/// An outlet that fails at its second delivery, as a defect would.
#[derive(Debug, Default)]
struct Defective(std::sync::atomic::AtomicUsize);

impl crate::model::Outlet for Defective {
    fn try_reserve(&self, _: ConsumerId, _: QueueId, _: usize) -> bool {
        true
    }

    fn push(&self, _: crate::model::InboxEvent) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 1, "a defect");
    }

    fn wake(&self) {}
}

#[test]
fn what_a_defect_left_of_one_queue_is_not_taken_for_anothers() {
    let mut fx = Effects::default();
    let keeping = keeping();
    let defective = queue_in(keeping.clone(), 1, &[], &mut fx);
    let other = queue_in(keeping, 2, &[], &mut fx);
    keep(&other, 2, &mut fx);
    let consumer = crate::queue::NewConsumer {
        id: ConsumerId(1),
        connection: ConnectionId(1),
        channel: 1,
        tag: "c".into(),
        no_ack: true,
        exclusive: false,
        prefetch: 0,
        settings: crate::queue::ConsumeArguments::default(),
        arguments: FieldTable::new(),
        outlet: Arc::new(Defective::default()),
        window: Arc::default(),
    };
    defective.add_consumer(consumer, now(), &mut fx).unwrap();
    let burst = std::panic::AssertUnwindSafe(|| keep(&defective, 2, &mut fx));
    assert!(std::panic::catch_unwind(burst).is_err());
    assert!(
        !fx.settled.is_empty(),
        "the first one was handed out for good"
    );
    // A burst, and a single call, on the other queue.
    keep(&other, 1, &mut fx);
    other.touch(now(), &mut fx).unwrap();
    let guarded = other.lock();
    for sequence in 1..=3 {
        assert!(guarded.log.is_live(Position(sequence)), "{sequence}");
    }
}

/// A queue with a dead letter of a message that its log has.
fn with_letter(fx: &mut Effects) -> QueueHandle {
    let fields = [
        ("x-dead-letter-exchange", Value::from("dlx")),
        ("x-max-length", Value::I32(0)),
    ];
    let queue = queue(&fields, fx);
    keep(&queue, 1, fx);
    assert_eq!(fx.dead_letters, [QueueId(7)]);
    queue
}

/// Lets the next letter leave.
fn leave(queue: &QueueHandle, fx: &mut Effects) {
    let NextLetter::Now(letter) = queue.next_letter(false, fx) else {
        panic!("no letter");
    };
    assert_eq!(letter.source, Some(Position(1)));
    let mut burst = Burst::open_atomic(&queue.0.store, [queue], fx);
    assert!(burst.is_next_letter(0, letter.number));
    burst.letter_left(0, letter.number);
    burst.finish(now(), fx);
}

#[test]
fn a_deleted_queue_keeps_its_log_until_the_last_letter_has_left() {
    for is_recorded_first in [false, true] {
        let mut fx = Effects::default();
        let queue = with_letter(&mut fx);
        queue.delete_now(&mut fx).unwrap();
        assert_eq!(fx.forgotten.len(), 1);
        assert!(LogOwner::with_log(&*queue.0, &mut |log| {
            assert!(log.is_live(Position(1)));
        }));
        if is_recorded_first {
            assert!(
                queue.take_log_of_deleted(true).is_none(),
                "a letter is there"
            );
        }
        leave(&queue, &mut fx);
        if !is_recorded_first {
            assert!(queue.take_log_of_deleted(false).is_none(), "not recorded");
        }
        let log = queue.take_log_of_deleted(!is_recorded_first).unwrap();
        assert!(!log.is_live(Position(1)), "the letter has ended it");
        assert!(queue.take_log_of_deleted(true).is_none(), "once");
        assert!(!LogOwner::with_log(&*queue.0, &mut |_| panic!(
            "it is gone"
        )));
        assert!(matches!(
            queue.next_letter(false, &mut fx),
            NextLetter::Nothing
        ));
    }
}

#[test]
fn a_deleted_queue_without_letters_gives_its_log_at_once() {
    let mut fx = Effects::default();
    let queue = queue(&[], &mut fx);
    keep(&queue, 1, &mut fx);
    queue.delete_now(&mut fx).unwrap();
    let log = queue.take_log_of_deleted(true).unwrap();
    assert!(log.is_live(Position(1)), "removed with all that it holds");
}

#[test]
fn a_letter_that_a_defect_keeps_from_leaving_is_dropped_and_its_message_kept() {
    let mut fx = Effects::default();
    let queue = with_letter(&mut fx);
    let NextLetter::Now(letter) = queue.next_letter(false, &mut fx) else {
        panic!("no letter");
    };
    queue.drop_letter(letter.number);
    assert!(matches!(
        queue.next_letter(false, &mut fx),
        NextLetter::Nothing
    ));
    assert!(queue.lock().log.is_live(Position(1)));
}
