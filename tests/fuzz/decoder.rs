//! Feeds damaged conversations to every decoder of the protocol: nothing may panic, and whatever is accepted must keep
//! its promises (it fits the input, and comes back the same after a round trip).
//!
//! It needs no special toolchain: a seeded generator mutates sound conversations for `HAREMQ_FUZZ_SECONDS` (3 by
//! default). The seed is printed; `HAREMQ_FUZZ_SEED` sets it, and gives the same cases again.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use haremq::protocol::{
    ContentHeader, FieldTable, FrameKind, HeaderOutcome, Method, Properties, PropertyFacts,
    ProtocolHeader, ShortStr, Table, Value, basic, channel, confirm, connection, exchange, frame,
    queue,
};

/// Limit given to the frame parser: small, so that damaged lengths meet it often.
const PAYLOAD_BYTES_MAX: u32 = 4096;

/// Cases between two looks at the clock.
const CASES_PER_LOOK: u32 = 256;

#[test]
fn decoders_survive_damaged_conversations() {
    let seconds = from_env("HAREMQ_FUZZ_SECONDS").unwrap_or(3);
    let seed = from_env("HAREMQ_FUZZ_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("HAREMQ_FUZZ_SEED={seed}");
    let mut dice = Dice(seed);
    let corpus = corpus();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tally = Tally::default();
    while Instant::now() < end {
        for _ in 0..CASES_PER_LOOK {
            let mut case = corpus[dice.below(corpus.len())].clone();
            damage(&mut case, &corpus, &mut dice);
            drive(&case, &mut tally);
        }
    }
    println!("{tally:?}");
    for (what, count) in [
        ("frames", tally.frames),
        ("methods", tally.methods),
        ("contents", tally.contents),
        ("tables", tally.tables),
    ] {
        assert!(seconds == 0 || count > 0, "no damaged case gave any {what}");
    }
}

/// How much was accepted, to show that the mutations do not all fail at the door.
#[derive(Debug, Default)]
struct Tally {
    cases: u64,
    frames: u64,
    methods: u64,
    contents: u64,
    tables: u64,
}

fn from_env(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }
}

/// Gives the case to every decoder, as a conversation and as each smaller thing.
fn drive(case: &[u8], tally: &mut Tally) {
    tally.cases += 1;
    let mut rest = case;
    if let HeaderOutcome::Accepted(_) = ProtocolHeader::parse(rest) {
        rest = &rest[8..];
    }
    loop {
        match frame::parse(rest, PAYLOAD_BYTES_MAX) {
            Ok(Some((frame, consumed))) => {
                assert!(consumed <= rest.len());
                tally.frames += 1;
                match frame.kind {
                    FrameKind::Method => method(frame.payload, tally),
                    FrameKind::Header => content(frame.payload, tally),
                    FrameKind::Body | FrameKind::Heartbeat => {}
                }
                rest = &rest[consumed..];
            }
            Ok(None) => break,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
    }
    method(case, tally);
    content(case, tally);
    properties(case, tally);
    table(case, tally);
}

fn method(payload: &[u8], tally: &mut Tally) {
    let Ok(method) = Method::parse(payload) else {
        return;
    };
    tally.methods += 1;
    let mut again = Vec::new();
    method.encode(&mut again);
    assert_eq!(Method::parse(&again), Ok(method));
}

fn content(payload: &[u8], tally: &mut Tally) {
    let Ok(header) = ContentHeader::parse(payload) else {
        return;
    };
    tally.contents += 1;
    if header.class_id == basic::CLASS_ID {
        properties(header.properties, tally);
    }
}

fn properties(octets: &[u8], tally: &mut Tally) {
    let Ok(facts) = PropertyFacts::of(octets) else {
        return;
    };
    let decoded = facts.view(octets).decode();
    assert_eq!(facts.has_expiration(), decoded.expiration.is_some());
    assert_eq!(facts.is_persistent(), decoded.delivery_mode == Some(2));
    if let Some(headers) = facts.view(octets).headers() {
        table(headers.as_bytes(), tally);
    }
    let again = decoded.to_encoded();
    assert_eq!(Properties::decode(&again), Ok(decoded));
}

fn table(octets: &[u8], tally: &mut Tally) {
    let Ok(table) = Table::new(octets) else {
        return;
    };
    tally.tables += 1;
    let decoded = table.decode();
    assert_eq!(decoded.len(), table.iter().count());
    let again = decoded.to_encoded();
    assert_eq!(FieldTable::decode(again.as_table().as_bytes()), Ok(decoded));
}

/// One to four mutations: flipped bits, octets and numbers that sit at limits, cuts, copies, pieces of other cases.
fn damage(case: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(case.len());
        match dice.below(8) {
            0 => {
                if let Some(octet) = case.get_mut(at) {
                    *octet ^= 1 << dice.below(8);
                }
            }
            1 => {
                if let Some(octet) = case.get_mut(at) {
                    *octet = [0, 1, 8, 127, 128, 206, 255, b'F', b'A', b'S'][dice.below(10)];
                }
            }
            2 => {
                let number = [0, 1, 255, 256, 4096, 4097, u32::MAX, u32::MAX / 2][dice.below(8)];
                if let Some(place) = case.get_mut(at..at + 4) {
                    place.copy_from_slice(&number.to_be_bytes());
                }
            }
            3 => case.truncate(at),
            4 => {
                case.drain(..at);
            }
            5 => {
                let end = at + dice.below(case.len() - at);
                let piece = case[at..end].to_vec();
                case.splice(at..at, piece);
            }
            6 => {
                let end = at + dice.below((case.len() - at).min(16));
                case.drain(at..end);
            }
            _ => {
                let other = &corpus[dice.below(corpus.len())];
                let start = dice.below(other.len());
                let end = start + dice.below(other.len() - start);
                case.splice(at..at, other[start..end].iter().copied());
            }
        }
    }
}

/// Sound conversations, and the payloads and tables of which they are made.
fn corpus() -> Vec<Vec<u8>> {
    let arguments = FieldTable::from_iter([
        ("x-max-length", Value::I32(10)),
        ("x-queue-type", "classic".into()),
        ("nested", FieldTable::from_iter([("a", Value::Void)]).into()),
        (
            "list",
            Value::Array(vec![
                true.into(),
                1_i64.into(),
                Value::F64(0.5),
                Value::Array(vec![]),
            ]),
        ),
        ("small", Value::I16(-1)),
        ("decimal", Value::Decimal { scale: 2, value: 5 }),
        ("when", Value::Timestamp(1)),
    ]);
    let encoded_arguments = arguments.to_encoded();
    let arguments_table = encoded_arguments.as_table();
    let properties = Properties {
        content_type: Some("text/plain".into()),
        headers: Some(arguments.clone()),
        delivery_mode: Some(2),
        priority: Some(3),
        correlation_id: Some("c".into()),
        reply_to: Some("amq.rabbitmq.reply-to".into()),
        expiration: Some("1000".into()),
        timestamp: Some(5),
        user_id: Some("guest".into()),
        ..Properties::default()
    };
    let short = |text: &'static str| ShortStr::new(text).unwrap();
    let opening: Vec<Method<'_>> = vec![
        connection::StartOk {
            client_properties: arguments_table,
            mechanism: short("PLAIN"),
            response: b"\0guest\0guest",
            locale: short("en_US"),
        }
        .into(),
        connection::TuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        }
        .into(),
        connection::Open {
            virtual_host: short("/"),
        }
        .into(),
    ];
    let declaring: Vec<Method<'_>> = vec![
        channel::Open.into(),
        exchange::Declare {
            exchange: short("x"),
            type_: short("topic"),
            arguments: arguments_table,
            ..Default::default()
        }
        .into(),
        queue::Declare {
            queue: short("q"),
            durable: true,
            arguments: arguments_table,
            ..Default::default()
        }
        .into(),
        queue::Bind {
            queue: short("q"),
            exchange: short("x"),
            routing_key: short("a.#"),
            ..Default::default()
        }
        .into(),
        confirm::Select { no_wait: false }.into(),
        basic::Qos {
            prefetch_count: 10,
            ..Default::default()
        }
        .into(),
        basic::Consume {
            queue: short("q"),
            consumer_tag: short("ct"),
            arguments: arguments_table,
            ..Default::default()
        }
        .into(),
    ];
    let publish = Method::from(basic::Publish {
        exchange: short("x"),
        routing_key: short("a.b"),
        mandatory: true,
        immediate: false,
    });

    let mut cases = Vec::new();
    let mut conversation = b"AMQP\0\0\x09\x01".to_vec();
    for method in &opening {
        frame::write_method(&mut conversation, 0, method);
    }
    for method in &declaring {
        frame::write_method(&mut conversation, 1, method);
    }
    let mut publishing = Vec::new();
    for body in [&b""[..], b"hello", &[7; 600]] {
        frame::write_method(&mut publishing, 1, &publish);
        frame::write_content(&mut publishing, 1, &properties.to_encoded(), body, 264);
        frame::write_heartbeat(&mut publishing);
    }
    conversation.extend_from_slice(&publishing);
    cases.push(conversation);
    cases.push(publishing);
    for method in opening.iter().chain(&declaring).chain([&publish]) {
        let mut payload = Vec::new();
        method.encode(&mut payload);
        cases.push(payload);
    }
    let mut header = b"\0\x3c\0\0\0\0\0\0\0\0\0\x05".to_vec();
    properties.encode(&mut header);
    cases.push(header);
    cases.push(properties.to_encoded());
    cases.push(arguments_table.as_bytes().to_vec());
    cases
}
