//! Random methods and contents, mostly ill-formed, on several connections to one node: nothing may panic, whoever is closed
//! is closed with a code of RabbitMQ's, what the node holds stays bounded, and afterwards it serves a newcomer.
//!
//! `HAREMQ_FUZZ_SECONDS` (3) and `HAREMQ_FUZZ_SEED` (1) say how long and from where; a failure prints the seed of its
//! round.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
#[path = "../conformance/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use haremq::protocol::{
    FieldTable, FrameKind, Method, Properties, ReplyCode, ShortStr, ShortString, Value, access,
    basic, channel, confirm, connection, exchange, frame, queue, tx,
};
use support::{Client, Node};

/// Connections of a round.
const CLIENTS: usize = 4;

/// Bursts of a round.
const BURSTS: usize = 150;

/// Bytes that the process may grow by over all rounds: a message, a queue or a connection kept by each of them would be
/// far more.
const GROWTH_BYTES_MAX: u64 = 300 * 1024 * 1024;

/// What rounds led to, to see that they are worth something: methods that came and codes of closes, with their numbers.
type Tally = BTreeMap<String, usize>;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 16) % limit as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn flag(&mut self) -> bool {
        self.one_in(2)
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// A number near a border more often than not.
    fn number(&mut self) -> u64 {
        let near = [
            0,
            1,
            2,
            3,
            9,
            31,
            255,
            256,
            8192,
            65_535,
            1 << 31,
            1 << 32,
            1 << 63,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.next(),
            1 => self.below(20) as u64,
            _ => near[self.below(near.len())],
        }
    }

    fn octets(&mut self, max: usize) -> Vec<u8> {
        let count = self.below(max + 1);
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A name that means something, mostly.
    fn name(&mut self, known: &[&'static str]) -> ShortString {
        match self.below(40) {
            0 => ShortString::from_static(""),
            1 => ShortString::new("n".repeat(255)).unwrap(),
            2 => ShortString::from_static("\r\nq0\0ß"),
            3 => ShortString::new(self.octets(12)).unwrap(),
            4 => ShortString::from_static("amq.rabbitmq.reply-to"),
            5 => ShortString::from_static("amq.made.up"),
            _ => ShortString::from_static(self.pick(known)),
        }
    }

    fn queue(&mut self) -> ShortString {
        self.name(&["q0", "q1", "q2", "q3"])
    }

    fn exchange(&mut self) -> ShortString {
        self.name(&[
            "",
            "e0",
            "e1",
            "amq.direct",
            "amq.fanout",
            "amq.topic",
            "amq.headers",
        ])
    }

    fn key(&mut self) -> ShortString {
        self.name(&["a", "a.b", "#", "*.b", "q0", "q1", "a.#.#.#", "....", ""])
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth > 3 { 10 } else { 13 }) {
            0 => Value::Bool(self.flag()),
            1 => Value::I8(self.number() as i8),
            2 => Value::I32(self.number() as i32),
            3 => Value::I64(self.number() as i64),
            4 => Value::U32(self.number() as u32),
            5 => Value::F64(f64::from_bits(self.next())),
            6 => Value::Timestamp(self.number()),
            7 => Value::Void,
            8 => Value::from(self.pick(&[
                "classic",
                "quorum",
                "stream",
                "drop-head",
                "q0",
                "e0",
                "",
                "any",
            ])),
            9 => Value::LongStr(self.octets(40).into()),
            10 => {
                let count = self.below(4);
                Value::Array((0..count).map(|_| self.value(depth + 1)).collect())
            }
            _ => Value::Table(self.table(depth + 1)),
        }
    }

    fn table(&mut self, depth: usize) -> FieldTable {
        const NAMES: [&str; 24] = [
            "x-queue-type",
            "x-message-ttl",
            "x-expires",
            "x-max-length",
            "x-max-length-bytes",
            "x-overflow",
            "x-dead-letter-exchange",
            "x-dead-letter-routing-key",
            "x-max-priority",
            "x-single-active-consumer",
            "x-delivery-limit",
            "x-delayed-retry-type",
            "x-delayed-retry-min",
            "x-consumer-timeout",
            "x-priority",
            "x-match",
            "alternate-exchange",
            "CC",
            "BCC",
            "x-death",
            "x-stream-offset",
            "h",
            "x-acquired-count",
            "x-queue-master-locator",
        ];
        let count = if self.one_in(50) { 200 } else { self.below(4) };
        let mut table = FieldTable::new();
        for _ in 0..count {
            let name = self.name(&NAMES);
            let value = match self.below(4) {
                0 => self.value(depth),
                1 => Value::I32(self.below(100) as i32),
                2 => Value::from(self.pick(&[
                    "quorum",
                    "classic",
                    "e0",
                    "q1",
                    "reject-publish",
                    "all",
                ])),
                _ => Value::Array(vec!["a".into(), "q0".into()]),
            };
            table.push(name, value);
        }
        table
    }

    /// Arguments that are none, or sensible, or anything.
    fn arguments(&mut self) -> FieldTable {
        let fields: &[(&str, Value)] = &match self.below(10) {
            0..=3 => vec![],
            4 => vec![
                ("x-queue-type", "quorum".into()),
                ("x-delivery-limit", 1.into()),
            ],
            5 => vec![
                ("x-message-ttl", 20.into()),
                ("x-dead-letter-exchange", "".into()),
            ],
            6 => vec![
                ("x-max-length", 3.into()),
                ("x-overflow", "reject-publish".into()),
            ],
            7 => vec![("x-single-active-consumer", Value::Bool(true))],
            _ => return self.table(0),
        };
        support::field_table(fields)
    }

    fn properties(&mut self) -> Properties {
        let mut properties = Properties::default();
        if self.one_in(3) {
            properties.headers = Some(self.table(0));
        }
        if self.one_in(4) {
            properties.expiration =
                Some(self.name(&["0", "1", "20", "-1", "1e3", " 1", "99999999999"]));
        }
        if self.one_in(6) {
            properties.reply_to = Some(self.name(&["amq.rabbitmq.reply-to", "q0"]));
        }
        if self.one_in(20) {
            properties.user_id = Some(self.name(&["guest", "other"]));
        }
        if self.one_in(4) {
            properties.priority = Some(self.number() as u8);
        }
        if self.one_in(4) {
            properties.delivery_mode = Some(self.below(4) as u8);
        }
        properties
    }
}

/// Appends a method of a client, with fields that are mostly possible.
fn write_method(random: &mut Random, out: &mut Vec<u8>, number: u16) {
    let (queue, exchange, key) = (random.queue(), random.exchange(), random.key());
    let (queue, exchange) = (queue.as_short_str(), exchange.as_short_str());
    let routing_key = key.as_short_str();
    let table = random.arguments().to_encoded();
    let arguments = table.as_table();
    let tag = random.name(&["c0", "c1", "c2", ""]);
    let consumer_tag = tag.as_short_str();
    let delivery_tag = if random.one_in(10) {
        random.number()
    } else {
        random.below(8) as u64
    };
    let (multiple, requeue, no_wait) = (random.one_in(4), !random.one_in(5), random.one_in(4));
    let kind = random.name(&["direct", "fanout", "topic", "headers"]);
    let other = random.exchange();
    let other = other.as_short_str();
    let method: Method<'_> = match random.below(34) {
        0..=3 => queue::Declare {
            queue,
            passive: random.one_in(6),
            durable: random.flag(),
            exclusive: random.one_in(6),
            auto_delete: random.one_in(6),
            no_wait,
            arguments,
        }
        .into(),
        4 | 5 => queue::Bind {
            queue,
            exchange,
            routing_key,
            no_wait,
            arguments,
        }
        .into(),
        6 => queue::Unbind {
            queue,
            exchange,
            routing_key,
            arguments,
        }
        .into(),
        7 => queue::Purge { queue, no_wait }.into(),
        8 => queue::Delete {
            queue,
            if_unused: random.one_in(3),
            if_empty: random.one_in(3),
            no_wait,
        }
        .into(),
        9 | 10 => exchange::Declare {
            exchange,
            type_: kind.as_short_str(),
            passive: random.one_in(6),
            durable: random.flag(),
            auto_delete: random.one_in(4),
            internal: random.one_in(6),
            no_wait,
            arguments,
        }
        .into(),
        11 => exchange::Delete {
            exchange,
            if_unused: random.flag(),
            no_wait,
        }
        .into(),
        12 => exchange::Bind {
            destination: other,
            source: exchange,
            routing_key,
            no_wait,
            arguments,
        }
        .into(),
        13 => exchange::Unbind {
            destination: other,
            source: exchange,
            routing_key,
            no_wait,
            arguments,
        }
        .into(),
        14..=17 => basic::Consume {
            queue,
            consumer_tag,
            no_local: random.one_in(9),
            no_ack: random.one_in(3),
            exclusive: random.one_in(9),
            no_wait,
            arguments,
        }
        .into(),
        18 => basic::Cancel {
            consumer_tag,
            no_wait,
        }
        .into(),
        19 | 20 => basic::Get {
            queue,
            no_ack: random.flag(),
        }
        .into(),
        21 | 22 => basic::Ack {
            delivery_tag,
            multiple,
        }
        .into(),
        23 => basic::Nack {
            delivery_tag,
            multiple,
            requeue,
        }
        .into(),
        24 => basic::Reject {
            delivery_tag,
            requeue,
        }
        .into(),
        25 => basic::Qos {
            prefetch_size: if random.one_in(20) { 1 } else { 0 },
            prefetch_count: random.below(5) as u16,
            global: random.one_in(3),
        }
        .into(),
        26 => basic::Recover { requeue }.into(),
        27 => confirm::Select { no_wait }.into(),
        28 => tx::Select.into(),
        29 => tx::Commit.into(),
        30 => tx::Rollback.into(),
        31 => channel::Open.into(),
        32 => channel::CloseOk.into(),
        _ => return write_odd_method(random, out, number),
    };
    frame::write_method(out, number, &method);
}

/// Appends a method that clients rarely send, or never.
fn write_odd_method(random: &mut Random, out: &mut Vec<u8>, number: u16) {
    let (name, table) = (random.queue(), random.table(0).to_encoded());
    let text: ShortStr<'_> = name.as_short_str();
    let secret = random.octets(8);
    let delivery_tag = random.number();
    let method: Method<'_> = match random.below(16) {
        0 => channel::Close::default().into(),
        1 => channel::Flow {
            active: random.flag(),
        }
        .into(),
        2 => channel::FlowOk { active: true }.into(),
        3 => access::Request::default().into(),
        4 => basic::RecoverAsync {
            requeue: random.flag(),
        }
        .into(),
        5 => basic::Deliver {
            consumer_tag: text,
            delivery_tag,
            ..basic::Deliver::default()
        }
        .into(),
        6 => basic::CancelOk { consumer_tag: text }.into(),
        7 => basic::Return::default().into(),
        8 => queue::DeclareOk::default().into(),
        9 => connection::UpdateSecret {
            new_secret: &secret,
            reason: text,
        }
        .into(),
        10 => connection::Open { virtual_host: text }.into(),
        11 => connection::StartOk {
            client_properties: table.as_table(),
            ..connection::StartOk::default()
        }
        .into(),
        12 => connection::TuneOk {
            channel_max: random.number() as u16,
            frame_max: random.number() as u32,
            heartbeat: random.number() as u16,
        }
        .into(),
        13 => connection::Blocked { reason: text }.into(),
        14 => connection::Close::default().into(),
        _ => channel::OpenOk.into(),
    };
    // Most of these belong on channel 0, where some of them go.
    let number = if random.one_in(4) { 0 } else { number };
    frame::write_method(out, number, &method);
}

/// Appends a publish with its content, now and then without all of it.
fn write_publish(random: &mut Random, out: &mut Vec<u8>, number: u16) {
    let (exchange, key) = (random.exchange(), random.key());
    let publish = basic::Publish {
        exchange: exchange.as_short_str(),
        routing_key: key.as_short_str(),
        mandatory: random.one_in(3),
        immediate: random.one_in(60),
    };
    frame::write_method(out, number, &publish.into());
    let body_bytes = if random.one_in(20) {
        40_000
    } else {
        random.below(300)
    };
    let body = vec![b'b'; body_bytes];
    let properties = random.properties().to_encoded();
    match random.below(60) {
        0 => {}
        1 => frame::write_content_header(out, number, random.number(), &properties),
        2 => {
            frame::write_content_header(out, number, body.len() as u64, &properties);
            frame::write_body(out, number, &body[..body.len() / 2], 8192);
        }
        3 => frame::write_content_header(out, number, 0, &random.octets(30)),
        4 => frame::write_body(out, number, &body, 8192),
        _ => frame::write_content(out, number, &properties, &body, 131_072),
    }
}

/// What a client writes at once.
fn burst(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + random.below(8) {
        let number = match random.below(400) {
            0 => 0,
            1 => 2047,
            2 => 65_535,
            _ => 1 + random.below(3) as u16,
        };
        match random.below(100) {
            0 => frame::write_heartbeat(&mut out),
            1 => {
                let payload = random.octets(40);
                let kind = [FrameKind::Method, FrameKind::Header, FrameKind::Body][random.below(3)];
                frame::write_head(&mut out, kind, number, payload.len() as u32);
                out.extend_from_slice(&payload);
                out.push(haremq::protocol::FRAME_END);
            }
            2..=44 => write_publish(random, &mut out, number),
            _ => write_method(random, &mut out, number),
        }
    }
    if random.one_in(60) {
        let at = random.below(out.len());
        out[at] ^= 1 << random.below(8);
    }
    if random.one_in(60) {
        out.truncate(random.below(out.len()) + 1);
    }
    out
}

/// A connection of the round; on most of them, channels are open.
fn connect(random: &mut Random, node: &Node) -> Client {
    if random.one_in(20) {
        let mut client = node.socket();
        let mut octets = match random.below(3) {
            0 => b"AMQP\0\0\x09\x01".to_vec(),
            1 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            _ => random.octets(20),
        };
        octets.extend(burst(random));
        client.send_octets(&octets);
        return client;
    }
    let mut client = node.connect();
    for number in 1..4 {
        if !random.one_in(10) {
            client.open_channel(number);
        }
    }
    client
}

/// Most rounds begin with something to work with.
fn furnish(random: &mut Random, node: &Node) {
    let mut client = node.client();
    for exchange in ["e0", "e1"] {
        let kind = random.pick(&["direct", "fanout", "topic", "headers"]);
        client.declare_exchange(exchange, kind, &[]);
    }
    for queue in ["q0", "q1", "q2", "q3"] {
        let arguments = match random.below(3) {
            0 => vec![("x-queue-type", Value::from("quorum"))],
            1 => vec![
                ("x-max-priority", 5.into()),
                ("x-dead-letter-exchange", "e0".into()),
            ],
            _ => vec![],
        };
        client.declare(queue, &arguments);
        for exchange in ["e0", "e1", "amq.topic", "amq.fanout"] {
            client.bind(queue, exchange, random.pick(&["a", "#", "*.b"]));
        }
    }
    client.close();
}

/// Hears what a client is told: only valid frames come, and whoever is closed is closed by RabbitMQ's rules. Gives
/// whether the connection may go on.
fn listen(random: &mut Random, client: &mut Client, tally: &mut Tally) -> bool {
    while let Some(received) = client.receive() {
        if received.is_heartbeat() {
            continue;
        }
        let (code, text, is_hard) = match received.method() {
            Method::ChannelClose(close) => (close.reply_code, close.reply_text.to_string(), false),
            Method::ConnectionClose(close) => {
                (close.reply_code, close.reply_text.to_string(), true)
            }
            other => {
                let name = format!("{}.{}", other.class_id(), other.method_id());
                *tally.entry(name).or_default() += 1;
                continue;
            }
        };
        *tally.entry(code.to_string()).or_default() += 1;
        let known = ReplyCode::from_code(code);
        assert!(known.is_some(), "{}", received.describe());
        let known = known.unwrap();
        assert_eq!(known.is_hard(), is_hard, "{}", received.describe());
        let start = format!("{} - ", known.name());
        assert!(text.starts_with(&start), "{}", received.describe());
        // An internal error is our own fault, but for the two features that are denied so.
        let is_denied = text.contains("is deprecated");
        assert!(code != 541 || is_denied, "{}", received.describe());
        if is_hard {
            if random.flag() {
                client.send(connection::CloseOk);
            }
            return false;
        }
        if !random.one_in(10) {
            client.on(received.channel).send(channel::CloseOk);
            if !random.one_in(20) {
                client.on(received.channel).send(channel::Open);
            }
        }
    }
    client.ended().is_none()
}

/// A newcomer finds a node that works.
fn serve_a_newcomer(node: &Node) {
    node.alarm(false, false);
    let mut client = node.client();
    client.declare("newcomer", &[]);
    client.confirm();
    for number in 0..10 {
        client.publish("", "newcomer", &number.to_string());
        client.expect(basic::Ack {
            delivery_tag: number + 1,
            multiple: false,
        });
    }
    client.consume("newcomer", "c");
    for number in 0..10 {
        let message = client.expect_delivery(&number.to_string());
        client.ack(message.delivery_tag);
    }
    client.expect_nothing();
    client.close();
}

/// One round.
fn round(seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let node = Node::start();
    if !random.one_in(4) {
        furnish(&mut random, &node);
    }
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| connect(&mut random, &node)).collect();
    let mut tally = Tally::new();
    for _ in 0..BURSTS {
        let at = random.below(CLIENTS);
        let octets = burst(&mut random);
        match random.below(40) {
            0 => clients[at].stop_reading(),
            1 => clients[at].read_again(),
            2 => node.alarm(random.one_in(4), random.one_in(4)),
            3..=8 => node.advance(random.below(200) as u64),
            _ => {}
        }
        clients[at].send_octets(&octets);
        for client in &mut clients {
            if !listen(&mut random, client, &mut tally) || random.one_in(400) {
                let old = std::mem::replace(client, connect(&mut random, &node));
                old.hang_up();
            }
        }
        // A message that fans out counts for each of its queues; there are some ten.
        let messages = node.broker().message_count();
        assert!(messages < 20 * 8 * BURSTS as u64, "{messages} messages");
        assert!(node.broker().queue_count() < 100 + 8 * BURSTS);
    }
    drop(clients);
    serve_a_newcomer(&node);
    tally
}

/// Memory that the process occupies.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn a_node_survives_whatever_clients_send() {
    let seconds = setting("HAREMQ_FUZZ_SECONDS", 3);
    let first = setting("HAREMQ_FUZZ_SEED", 1);
    println!("HAREMQ_FUZZ_SEED={first} and the following");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = first;
    let mut sum = Tally::new();
    let mut settled_bytes = None;
    while Instant::now() < end || seed == first {
        let result = std::panic::catch_unwind(|| round(seed));
        assert!(
            result.is_ok(),
            "the round of HAREMQ_FUZZ_SEED={seed} failed"
        );
        for (name, count) in result.unwrap_or_default() {
            *sum.entry(name).or_default() += count;
        }
        let resident = resident_bytes();
        let start = *settled_bytes.get_or_insert(resident);
        assert!(
            resident < start + GROWTH_BYTES_MAX,
            "{resident} bytes are occupied after HAREMQ_FUZZ_SEED={seed}, {start} after the first round"
        );
        seed += 1;
    }
    println!("{} rounds led to {sum:?}", seed - first);
}
