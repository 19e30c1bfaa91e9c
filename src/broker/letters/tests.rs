//! Letters of deleted queues, and letters while nothing can be written.

use std::sync::Arc;

use crate::broker::tests::{Client, Node};
use crate::model::{
    Body, Command, Delivery, Executor as _, InboxEvent, Publish, Settlement, SettlementOutcome,
    Unsettled,
};
use crate::protocol::{FieldTable, Properties, PropertyFacts, ShortString, Value};
use crate::store::disk::{FaultyDisk, RealDisk};

const COUNT: usize = 40;

fn arguments(fields: &[(&'static str, Value)]) -> FieldTable {
    let fields = fields.iter();
    fields
        .map(|(name, value)| (ShortString::from_static(name), value.clone()))
        .collect()
}

fn publish_kept(client: &mut Client, queue: &str, body: &[u8]) {
    let properties = Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let encoded = properties.to_encoded();
    let publish = Publish {
        exchange: b"",
        routing_key: queue.as_bytes(),
        mandatory: false,
        properties: &encoded,
        facts: PropertyFacts::of(&encoded).unwrap(),
        body: Body::Borrowed(body),
        confirm: None,
    };
    client.executor.publish(1, publish).unwrap();
    client.executor.flush();
}

fn settle(client: &mut Client, delivery: &Delivery, outcome: SettlementOutcome) {
    let delivery = Unsettled {
        queue: delivery.queue.unwrap(),
        position: delivery.position,
        consumer: Some(delivery.consumer),
    };
    client.executor.settle(1, Settlement { delivery, outcome });
}

fn deliveries(client: &mut Client) -> Vec<Delivery> {
    let events = client.take_events().into_iter();
    events
        .filter_map(|event| match event {
            InboxEvent::Deliver(delivery) => Some(delivery),
            _ => None,
        })
        .collect()
}

/// A durable queue `q` of a kind whose dead letters go to the durable queue `dead`, with messages handed to a consumer.
fn holding(node: &Node, kind: &'static str) -> (Client, Vec<Delivery>) {
    let mut client = node.connect();
    client.declare("dead", |flags| flags.durable = true);
    client.declare("filler", |flags| flags.durable = true);
    client.declare("q", |flags| {
        flags.durable = true;
        flags.arguments = arguments(&[
            ("x-queue-type", kind.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", "dead".into()),
        ]);
    });
    client.consume(1, "q");
    for number in 0..COUNT {
        publish_kept(&mut client, "q", number.to_string().as_bytes());
    }
    let held = deliveries(&mut client);
    assert_eq!(held.len(), COUNT);
    (client, held)
}

fn ready(node: &Node, queue: &str) -> u32 {
    let vhost = node.broker.vhost("/").unwrap();
    let handle = vhost.queue_handle(queue).unwrap();
    handle.counts().unwrap().messages_ready
}

/// Fills the disk, and the journal's memory with `bytes`.
fn congest(node: &Node, client: &mut Client, disk: &FaultyDisk, bytes: u64) {
    disk.set_quota(Some(0));
    let body = vec![0; 256 * 1024];
    for _ in 0..200 {
        if node.broker.messages.journal().backlog_bytes() >= bytes {
            return;
        }
        publish_kept(client, "filler", &body);
    }
    panic!("the journal writes all the same");
}

#[test]
fn while_the_journal_is_full_letters_wait_and_acknowledgements_go_through() {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let node = Node::start_on(Arc::new(disk.clone()));
    let (mut client, held) = holding(&node, "classic");
    congest(&node, &mut client, &disk, super::JOURNAL_BACKLOG_BYTES_MAX);
    let journal = node.broker.messages.journal();
    let before = journal.backlog_bytes();
    for (at, delivery) in held.iter().enumerate() {
        let outcome = match at % 2 {
            0 => SettlementOutcome::Rejected,
            _ => SettlementOutcome::Acked,
        };
        settle(&mut client, delivery, outcome);
        client.executor.flush();
    }
    let vhost = node.broker.vhost("/").unwrap();
    let queue = vhost.queue_handle("q").unwrap();
    assert_eq!(queue.snapshot().unwrap().messages_unsettled, 0);
    assert_eq!(queue.snapshot().unwrap().message_bytes_in_memory, 0);
    assert_eq!(ready(&node, "dead"), 0, "a letter was written");
    // The acknowledgements, and nothing else.
    let grown = journal.backlog_bytes().saturating_sub(before);
    assert!(grown < COUNT as u64 / 2 * 200, "{grown}");
    disk.set_quota(None);
    node.broker.settle().unwrap();
    assert_eq!(ready(&node, "dead") as usize, COUNT / 2);
    let mut found = Vec::new();
    client.consume(1, "dead");
    found.extend(deliveries(&mut client));
    let bodies = found.iter().map(|letter| letter.message.body().to_vec());
    let expected = (0..COUNT).step_by(2).map(|n| n.to_string().into_bytes());
    assert!(bodies.eq(expected), "in the order of their deaths");
}

#[test]
fn while_the_journal_is_full_returns_without_end_cost_nothing() {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let node = Node::start_on(Arc::new(disk.clone()));
    let (mut client, mut held) = holding(&node, "quorum");
    congest(&node, &mut client, &disk, 16 * 1024 * 1024);
    let before = node.broker.messages.journal().backlog_bytes();
    for _ in 0..50 {
        for delivery in &held {
            settle(&mut client, delivery, SettlementOutcome::RequeuedByNack);
        }
        client.executor.flush();
        held = deliveries(&mut client);
        assert_eq!(held.len(), COUNT);
    }
    let counts = held[0].counts.unwrap();
    assert_eq!(counts.acquired, 50, "counted all the same");
    let after = node.broker.messages.journal().backlog_bytes();
    assert!(after <= before, "{before} {after}");
    disk.set_quota(None);
    node.broker.settle().unwrap();
}

#[test]
fn a_deleted_queue_is_forgotten_when_its_last_letter_has_left() {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let node = Node::start_on(Arc::new(disk.clone()));
    let (mut client, held) = holding(&node, "classic");
    congest(&node, &mut client, &disk, super::JOURNAL_BACKLOG_BYTES_MAX);
    for delivery in &held {
        settle(&mut client, delivery, SettlementOutcome::Rejected);
    }
    let delete = Command::DeleteQueue {
        name: "q".to_owned(),
        if_unused: false,
        if_empty: false,
    };
    // The answer waits for the disk.
    let _ = client.executor.execute(1, delete);
    assert_eq!(node.broker.departing.len(), 1);
    assert!(node.broker.vhost("/").unwrap().queue_handle("q").is_none());
    disk.set_quota(None);
    node.broker.settle().unwrap();
    assert_eq!(ready(&node, "dead") as usize, COUNT);
    assert_eq!(node.broker.departing.len(), 0);
    drop(client);
    let node = node.restart();
    assert_eq!(ready(&node, "dead") as usize, COUNT);
    assert!(node.broker.vhost("/").unwrap().queue_handle("q").is_none());
}

#[test]
fn a_queue_without_letters_is_forgotten_at_once() {
    let node = Node::start();
    let (mut client, _) = holding(&node, "classic");
    client.delete("q");
    assert_eq!(node.broker.departing.len(), 0);
}
