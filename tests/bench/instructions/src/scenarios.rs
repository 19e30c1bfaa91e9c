//! The scenarios: what is done so many times.
//!
//! In: a folder and a number. Out: work of the broker, and a panic if a message is missing. Who counts what that costs is
//! not known here.

use std::path::Path;

use haremq::protocol::{basic, confirm};

use crate::octets::{self, Acks, method};
use crate::peer::{Node, Peer};

/// A scenario, on an empty folder, so many times.
type Scenario = fn(&Path, u64);

/// Name, what is counted, and the work. A scenario whose name has a `+` is another one with more work behind it: what
/// is of interest is the difference.
pub const ALL: [(&str, &str, Scenario); 12] = [
    ("auto-ack-16", "message", |folder, times| {
        one_queue(folder, times, &Load::auto_ack(16));
    }),
    ("auto-ack-1024", "message", |folder, times| {
        one_queue(folder, times, &Load::auto_ack(1024));
    }),
    ("auto-ack-16-alone", "message", |folder, times| {
        let load = Load {
            burst: 1,
            ..Load::auto_ack(16)
        };
        one_queue(folder, times, &load);
    }),
    ("acked-1024", "message", |folder, times| {
        let load = Load {
            is_acked: true,
            ..Load::auto_ack(1024)
        };
        one_queue(folder, times, &load);
    }),
    ("confirmed-1024", "message", |folder, times| {
        let load = Load {
            is_acked: true,
            is_persistent: true,
            ..Load::auto_ack(1024)
        };
        one_queue(folder, times, &load);
    }),
    ("fan-out-10-1024", "delivery", fan_out),
    ("topic-cached", "message", |folder, times| {
        topic(folder, times, TOPIC_KEYS_CACHED);
    }),
    ("topic-uncached", "message", |folder, times| {
        topic(folder, times, TOPIC_KEYS_UNCACHED);
    }),
    ("fill-1024", "message", |folder, times| {
        let (node, publisher) = fill(folder, times);
        drop(publisher);
        node.stop();
    }),
    ("fill-1024+cold-read", "message", cold_read),
    ("declare-and-bind", "queue", declare_and_bind),
    ("open-and-close", "connection", open_and_close),
];

/// Messages that come in one burst, as they do when publishers are busy.
const BURST: u64 = 100;

/// Unacknowledged messages.
const PREFETCH: u16 = 200;

/// The queues of a fan-out.
const FAN_OUT: u64 = 10;

/// Bindings of the topic exchange, one of which matches.
const TOPIC_BINDINGS: usize = 1000;

/// Routing keys that a connection remembers, and that it does not.
const TOPIC_KEYS_CACHED: usize = 10;
const TOPIC_KEYS_UNCACHED: usize = 20_000;

/// One queue's messages.
struct Load {
    body_bytes: usize,
    burst: u64,
    is_acked: bool,
    is_persistent: bool,
}

impl Load {
    fn auto_ack(body_bytes: usize) -> Self {
        Self {
            body_bytes,
            burst: BURST,
            is_acked: false,
            is_persistent: false,
        }
    }
}

fn one_queue(folder: &Path, times: u64, load: &Load) {
    let node = Node::start(folder);
    let (mut publisher, mut consumer) = (node.peer(), node.peer());
    consumer.call(&octets::declare("q"));
    if load.is_acked {
        consumer.call(&method(basic::Qos {
            prefetch_count: PREFETCH,
            ..basic::Qos::default()
        }));
    }
    consumer.call(&octets::consume("q", !load.is_acked));
    if load.is_persistent {
        publisher.call(&method(confirm::Select::default()));
    }
    let burst =
        octets::publish("", "q", load.body_bytes, load.is_persistent).repeat(load.burst as usize);
    let mut acks = Acks::new(load.burst as usize);
    for round in 1..=times / load.burst {
        publisher.feed(&burst);
        consumer.await_deliveries(round * load.burst);
        if load.is_acked {
            consumer.feed(acks.next(load.burst as usize));
        }
        publisher.await_confirms();
    }
    drop((publisher, consumer));
    node.stop();
}

fn fan_out(folder: &Path, times: u64) {
    let node = Node::start(folder);
    let mut publisher = node.peer();
    let mut consumers: Vec<Peer> = (0..FAN_OUT)
        .map(|number| {
            let mut consumer = node.peer();
            let queue = format!("q{number}");
            consumer.call(&octets::declare(&queue));
            consumer.call(&octets::bind(&queue, "amq.fanout", ""));
            consumer.call(&octets::consume(&queue, true));
            consumer
        })
        .collect();
    let burst = octets::publish("amq.fanout", "", 1024, false).repeat(BURST as usize);
    for round in 1..=times / BURST / FAN_OUT {
        publisher.feed(&burst);
        for consumer in &mut consumers {
            consumer.await_deliveries(round * BURST);
        }
    }
    drop((publisher, consumers));
    node.stop();
}

/// Keys of four words, which one of the bindings matches by two of them.
fn topic(folder: &Path, times: u64, keys: usize) {
    let node = Node::start(folder);
    let (mut publisher, mut consumer) = (node.peer(), node.peer());
    consumer.call(&octets::declare("q"));
    consumer.call(&octets::declare("other"));
    let mut bindings = Vec::new();
    for number in 0..TOPIC_BINDINGS {
        bindings.push(octets::bind(
            "other",
            "amq.topic",
            &format!("stock.*.s{number}.#"),
        ));
    }
    bindings.push(octets::bind("q", "amq.topic", "order.*.#.paid"));
    for binding in bindings {
        consumer.call(&binding);
    }
    consumer.call(&octets::consume("q", true));
    let bursts: Vec<Vec<u8>> = (0..keys.max(BURST as usize) / BURST as usize)
        .map(|burst| {
            let keys = (0..BURST as usize).map(|at| (burst * BURST as usize + at) % keys);
            let messages = keys.map(|key| {
                octets::publish("amq.topic", &format!("order.eu.{key:05}.paid"), 16, false)
            });
            messages.collect::<Vec<_>>().concat()
        })
        .collect();
    for (round, burst) in (1..=times / BURST).zip(bursts.iter().cycle()) {
        publisher.feed(burst);
        consumer.await_deliveries(round * BURST);
    }
    drop((publisher, consumer));
    node.stop();
}

/// Persistent messages that nobody takes, on a broker that keeps none in memory.
fn fill(folder: &Path, times: u64) -> (Node, Peer) {
    let node = Node::start_without_cache(folder);
    let mut publisher = node.peer();
    publisher.call(&octets::declare("q"));
    publisher.call(&method(confirm::Select::default()));
    let burst = octets::publish("", "q", 1024, true).repeat(BURST as usize);
    for _ in 0..times / BURST {
        publisher.feed(&burst);
        publisher.await_confirms();
    }
    (node, publisher)
}

fn cold_read(folder: &Path, times: u64) {
    let (node, publisher) = fill(folder, times);
    let mut consumer = node.peer();
    consumer.call(&method(basic::Qos {
        prefetch_count: PREFETCH,
        ..basic::Qos::default()
    }));
    consumer.call(&octets::consume("q", false));
    let mut acks = Acks::new(PREFETCH.into());
    let mut acked = 0;
    while acked < times {
        let count = (times - acked).min(PREFETCH.into());
        consumer.await_deliveries(acked + count);
        consumer.feed(acks.next(count as usize));
        acked += count;
    }
    drop((publisher, consumer));
    node.stop();
}

fn declare_and_bind(folder: &Path, times: u64) {
    let node = Node::start(folder);
    let mut peer = node.peer();
    for number in 0..times {
        let queue = format!("queue.{number:06}");
        peer.call(&octets::declare(&queue));
        peer.call(&octets::bind(&queue, "amq.direct", &queue));
    }
    drop(peer);
    node.stop();
}

fn open_and_close(folder: &Path, times: u64) {
    let node = Node::start(folder);
    for _ in 0..times {
        let mut peer = node.peer();
        peer.call(&octets::connection_close());
        assert!(peer.is_ended(), "the connection is closed");
    }
    node.stop();
}
