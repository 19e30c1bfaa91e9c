//! Mutated conversations into a session with an executor that answers at random: nothing may panic, and what waits to be
//! sent or handled stays bounded.
//!
//! `HAREMQ_FUZZ_SECONDS` (3) and `HAREMQ_FUZZ_SEED` (1) say how long and from where; a failure prints the seed of its
//! conversation.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haremq::model::*;
use haremq::protocol::{
    FieldTable, Method, Properties, PropertyFacts, ReplyCode, ShortStr, Value, access, basic,
    channel, confirm, connection, exchange, frame, queue, tx,
};
use haremq::session::{Session, SessionSettings};

/// xorshift64*: enough to pick and to flip.
#[derive(Clone, Debug)]
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
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// An executor that refuses, delays and completes at random, and checks what the session promises to it.
#[derive(Debug)]
struct Chaos {
    random: Random,
    consumers: Vec<(u16, ConsumerId)>,
    next_consumer: u64,
    late: VecDeque<(u16, Reply)>,
    completions: VecDeque<Completion>,
    is_closed: bool,
    publishes: usize,
}

impl Chaos {
    fn refusal(&mut self) -> Refusal {
        let code = ReplyCode::ALL[1 + self.random.below(ReplyCode::ALL.len() - 1)];
        Refusal::new(code, "ß".repeat(self.random.below(200)))
    }

    fn message(&mut self) -> SharedMessage {
        let properties = Properties::default().to_encoded();
        let facts = PropertyFacts::of(&properties).unwrap();
        let body = vec![7; self.random.below(20_000)];
        Arc::new(Message::copied("x".into(), b"k", &properties, facts, &body))
    }

    fn delivery(&mut self, channel: u16, consumer: ConsumerId) -> Delivery {
        Delivery {
            channel,
            consumer,
            consumer_tag: "tag".into(),
            queue: Some(QueueId(1)),
            position: Position(self.random.next() % 1000),
            redelivered: self.random.one_in(2),
            no_ack: self.random.one_in(2),
            kind: QueueKind::Classic,
            message: self.message(),
            counts: None,
        }
    }

    fn answer(&mut self, channel: u16, command: &Command) -> Reply {
        match command {
            Command::Authenticate { .. } => Reply::Authenticated { user: "u".into() },
            Command::DeclareQueue { .. } => Reply::QueueDeclared {
                name: "q".into(),
                counts: QueueCounts::default(),
            },
            Command::DeleteQueue { .. } | Command::PurgeQueue { .. } => Reply::MessageCount(1),
            Command::Consume { consumer_tag, .. } => {
                self.next_consumer += 1;
                let consumer = ConsumerId(self.next_consumer);
                self.consumers.push((channel, consumer));
                let consumer_tag = match consumer_tag.as_str() {
                    "" => format!("amq.ctag-{}", self.next_consumer).into(),
                    tag => tag.into(),
                };
                Reply::Consuming {
                    consumer,
                    consumer_tag,
                }
            }
            Command::Cancel { consumer } => Reply::Cancelled {
                deliveries: vec![self.delivery(channel, *consumer)],
            },
            Command::Get { .. } => {
                let got = Got {
                    queue: QueueId(1),
                    position: Position(1),
                    redelivered: false,
                    kind: QueueKind::Quorum,
                    counts: Some(RedeliveryCounts::default()),
                    messages_ready: 0,
                    message: self.message(),
                    channel,
                };
                Reply::Got((!self.random.one_in(3)).then_some(got))
            }
            Command::Commit { publishes, .. } => Reply::Committed {
                returned: (0..publishes.len()).collect(),
                is_partial: self.random.one_in(4),
            },
            _ => Reply::Done,
        }
    }
}

impl Executor for Chaos {
    fn execute(&mut self, channel: ChannelNumber, command: Command) -> Execution {
        assert!(!self.is_closed, "{command:?} after the end");
        self.is_closed = matches!(command, Command::CloseConnection);
        let reply = self.answer(channel, &command);
        if self.random.one_in(5) {
            self.late.push_back((channel, reply));
            return Execution::Later;
        }
        if self.random.one_in(60) {
            return Execution::refused(self.refusal());
        }
        Execution::done(reply)
    }

    fn publish(
        &mut self,
        channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<Routing, Refusal> {
        assert!(!self.is_closed);
        self.publishes += 1;
        if let Some(sequence) = publish.confirm
            && !self.random.one_in(3)
        {
            let outcome = if self.random.one_in(5) {
                PublishOutcome::Rejected
            } else {
                PublishOutcome::Accepted
            };
            self.completions.push_back(Completion {
                channel,
                sequence,
                outcome,
            });
        }
        match self.random.below(60) {
            0 => Err(self.refusal()),
            1..=15 => Ok(Routing::Unroutable),
            _ => Ok(Routing::Routed),
        }
    }

    fn stage(
        &mut self,
        _channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<StagedPublish, Refusal> {
        Ok(StagedPublish {
            message: self.message(),
            queues: Vec::new(),
            mandatory: publish.mandatory,
        })
    }

    fn settle(&mut self, _channel: ChannelNumber, _settlement: Settlement) {
        assert!(!self.is_closed);
    }

    fn flush(&mut self) {}

    fn poll_completion(&mut self) -> Option<Completion> {
        if self.random.one_in(3) {
            None
        } else {
            self.completions.pop_front()
        }
    }
}

fn short(text: &str) -> ShortStr<'_> {
    ShortStr::truncated(text)
}

fn handshake(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(b"AMQP\0\0\x09\x01");
    let capabilities: FieldTable = [
        ("consumer_cancel_notify", Value::Bool(true)),
        ("connection.blocked", Value::Bool(true)),
        ("authentication_failure_close", Value::Bool(true)),
    ]
    .into_iter()
    .collect();
    let mut properties = FieldTable::new();
    properties.insert("capabilities", capabilities);
    let properties = properties.to_encoded();
    let methods = [
        Method::ConnectionStartOk(connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: short("PLAIN"),
            response: b"\0guest\0guest",
            locale: short("en_US"),
        }),
        Method::ConnectionTuneOk(connection::TuneOk {
            channel_max: 2047,
            frame_max: 8192,
            heartbeat: 10,
        }),
        Method::ConnectionOpen(connection::Open {
            virtual_host: short("/"),
        }),
    ];
    for method in methods {
        frame::write_method(bytes, 0, &method);
    }
    for number in 1..5 {
        frame::write_method(bytes, number, &Method::ChannelOpen(channel::Open));
    }
}

fn some_method<'a>(random: &mut Random, tag: &'a str) -> Method<'a> {
    let delivery_tag = random.next() % 12;
    let (multiple, requeue) = (random.one_in(2), !random.one_in(10));
    match random.below(40) {
        0 if random.one_in(20) => channel::Open.into(),
        1 => channel::Close::default().into(),
        2 if random.one_in(3) => channel::CloseOk.into(),
        5 => channel::Flow { active: true }.into(),
        6 => access::Request::default().into(),
        7 => exchange::Declare::default().into(),
        8 => exchange::Delete::default().into(),
        9 => exchange::Bind::default().into(),
        10 => exchange::Unbind::default().into(),
        11 | 12 => queue::Declare::default().into(),
        13 => queue::Bind::default().into(),
        14 => queue::Unbind::default().into(),
        15 => queue::Purge::default().into(),
        16 => queue::Delete::default().into(),
        17 => basic::Qos::default().into(),
        18..=20 => basic::Consume {
            queue: short("q"),
            consumer_tag: short(tag),
            no_ack: multiple,
            ..basic::Consume::default()
        }
        .into(),
        21 | 22 => basic::Cancel {
            consumer_tag: short(tag),
            no_wait: multiple,
        }
        .into(),
        23 => basic::CancelOk {
            consumer_tag: short(tag),
        }
        .into(),
        24..=26 => basic::Get {
            queue: short("q"),
            no_ack: multiple,
        }
        .into(),
        27..=29 => basic::Ack {
            delivery_tag,
            multiple,
        }
        .into(),
        30 => basic::Nack {
            delivery_tag,
            multiple,
            requeue,
        }
        .into(),
        31 => basic::Reject {
            delivery_tag,
            requeue,
        }
        .into(),
        32 => basic::Recover { requeue }.into(),
        33 => basic::RecoverAsync { requeue }.into(),
        34 => confirm::Select { no_wait: multiple }.into(),
        35 => tx::Select.into(),
        36 => tx::Commit.into(),
        37 => tx::Rollback.into(),
        38 if random.one_in(20) => connection::UpdateSecret::default().into(),
        39 if random.one_in(20) => basic::Deliver::default().into(),
        _ => basic::Qos::default().into(),
    }
}

fn conversation(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    handshake(&mut bytes);
    for _ in 0..random.below(60) {
        let number = 1 + random.below(4) as u16;
        match random.below(50) {
            0 => frame::write_method(&mut bytes, 0, &connection::Close::default().into()),
            1 => frame::write_method(&mut bytes, 0, &connection::UpdateSecret::default().into()),
            2 => frame::write_heartbeat(&mut bytes),
            3..=20 => {
                let publish = basic::Publish {
                    exchange: short("ex"),
                    routing_key: short("key"),
                    mandatory: random.one_in(2),
                    immediate: random.one_in(500),
                };
                frame::write_method(&mut bytes, number, &publish.into());
                let body = vec![3; random.below(12_000)];
                let properties = Properties::default().to_encoded();
                frame::write_content(&mut bytes, number, &properties, &body, 8192);
            }
            _ => {
                let tag = ["", "a", "b"][random.below(3)];
                let method = some_method(random, tag);
                frame::write_method(&mut bytes, number, &method);
            }
        }
    }
    mutate(random, &mut bytes);
    bytes
}

/// Half of the conversations stay sound; the others get a few bad octets, holes or repetitions.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if random.one_in(2) {
        return;
    }
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => {
                let end = (at + 1 + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let end = (at + 1 + random.below(300)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.extend_from_slice(&again);
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

const REPLY_BYTES_MAX: usize = 50_000;
const PENDING_BYTES_MAX: usize = 20_000;

/// What one step can add at most: a message of [`Chaos`], or a frame of ours, with some room.
const STEP_BYTES_MAX: usize = 64 * 1024;

/// One conversation; gives the publishes that came through, to see that it is worth something.
fn run(seed: u64) -> usize {
    let mut random = Random::new(seed);
    let mut now = Now {
        monotonic: Instant::now(),
        wall_ms: 0,
    };
    let settings = SessionSettings {
        reply_bytes_max: REPLY_BYTES_MAX,
        pending_bytes_max: PENDING_BYTES_MAX,
        message_bytes_max: 10_000,
        consumers_per_channel_max: Some(5),
        ..SessionSettings::default()
    };
    let mut session = Session::new(Arc::new(settings), now);
    let mut chaos = Chaos {
        random: Random::new(seed ^ 77),
        consumers: Vec::new(),
        next_consumer: 0,
        late: VecDeque::new(),
        completions: VecDeque::new(),
        is_closed: false,
        publishes: 0,
    };
    let bytes = conversation(&mut random);
    let (mut fed, mut taken) = (0, 0);
    let mut delivered_bytes = 0;
    for _ in 0..400 {
        match random.below(12) {
            0..=4 => {
                fed = (fed + 1 + random.below(4000)).min(bytes.len());
                let wanted = session.wants_input();
                let n = session.handle_bytes(now, &bytes[taken..fed], &mut chaos);
                assert!(wanted || n == 0, "nothing is taken that is not wanted");
                taken += n;
                assert!(taken <= fed);
            }
            5 | 6 => {
                if let Some((channel, reply)) = chaos.late.pop_front() {
                    let refused = random.one_in(40).then(|| chaos.refusal());
                    let reply = refused.map_or(Ok(reply), Err);
                    session.handle_reply(now, channel, reply, &mut chaos);
                }
            }
            7 => {
                if let Some((channel, consumer)) = chaos.consumers.last().copied() {
                    let delivery = chaos.delivery(channel, consumer);
                    delivered_bytes += delivery.message.cost_bytes() + 500;
                    let _ = session.handle_delivery(now, delivery);
                    if random.one_in(10) {
                        session.handle_consumer_cancelled(channel, consumer);
                    }
                }
            }
            8 => session.handle_alarm(now, random.one_in(3).then_some("low on memory")),
            9 => {
                now = now.after(Duration::from_millis(random.next() % 2000));
                session.handle_timeout(now, &mut chaos);
            }
            10 => {
                let waiting = session.output().len();
                session.output().advance(random.below(waiting + 1));
            }
            _ => {
                session.release_buffers();
                if random.one_in(200) {
                    let refusal = chaos.refusal();
                    session.handle_shutdown(now, refusal, &mut chaos);
                }
            }
        }
        session.end_burst(now, &mut chaos);
        let bound = REPLY_BYTES_MAX + delivered_bytes + 8 * STEP_BYTES_MAX;
        assert!(session.output().len() < bound, "{}", session.output().len());
    }
    let info: Vec<_> = session.channels().collect();
    assert!(info.len() <= 2047);
    session.terminate(&mut chaos);
    session.terminate(&mut chaos);
    assert!(chaos.is_closed, "the executor was told of the end");
    assert!(session.ended().is_some());
    chaos.publishes
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn mutated_conversations_neither_panic_nor_pile_up() {
    let seconds = setting("HAREMQ_FUZZ_SECONDS", 3);
    let first = setting("HAREMQ_FUZZ_SEED", 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = first;
    let mut publishes = 0;
    while Instant::now() < end || seed == first {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "conversation of seed {seed} failed");
        publishes += result.unwrap_or_default();
        seed += 1;
    }
    println!(
        "{} conversations with {publishes} publishes from seed {first}",
        seed - first
    );
}
