//! A queue behind its lock: refusals with their texts, deadlines, the end.

use std::time::Instant;

use super::*;
use crate::model::SharedMessage;
use crate::protocol::{PropertyFacts, ShortString, Value};
use crate::queue::Burst;

fn now() -> Now {
    Now {
        monotonic: Instant::now(),
        wall_ms: 1_000_000,
    }
}

fn queue(fields: &[(&'static str, Value)], fx: &mut Effects) -> QueueHandle {
    let arguments: FieldTable = fields
        .iter()
        .map(|(name, value)| (ShortString::from_static(name), value.clone()))
        .collect();
    let settings = QueueSettings::parse("q", "/", QueueKind::Classic, &arguments).unwrap();
    let declaration = QueueDeclaration {
        id: QueueId(7),
        name: "q".into(),
        vhost: "/".into(),
        durable: true,
        exclusive_owner: None,
        auto_delete: false,
        arguments,
        settings,
    };
    let policy = QueuePolicy::default();
    QueueHandle::new(declaration, &policy, keeping(), now(), fx)
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
    let mut burst = Burst::open(&queue.0.store, [queue]);
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
