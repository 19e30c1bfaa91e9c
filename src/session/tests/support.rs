//! A client that speaks in methods, and an executor that does as it is told and remembers everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::*;
use crate::protocol::{
    FRAME_END, FieldTable, FrameKind, Method, Properties, PropertyFacts, ReplyCode, ShortStr,
    Value, basic, channel, connection, frame,
};
use crate::session::{Session, SessionSettings};

/// A publish as the executor saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) channel: u16,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) body: Vec<u8>,
    pub(super) was_borrowed: bool,
    pub(super) confirm: Option<u64>,
}

/// An executor that remembers what it was asked, and answers as scripted or else with what makes the client happy.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) commands: Vec<(u16, Command)>,
    pub(super) answers: VecDeque<Execution>,
    pub(super) published: Vec<Seen>,
    pub(super) staged: Vec<Seen>,
    pub(super) publish_answers: VecDeque<Result<Routing, Refusal>>,
    pub(super) settled: Vec<(u16, Settlement)>,
    pub(super) completions: VecDeque<Completion>,
    pub(super) flushes: usize,
    pub(super) consumers: u64,
}

impl Script {
    fn usual_answer(&mut self, command: &Command) -> Reply {
        match command {
            Command::Authenticate { .. } => Reply::Authenticated {
                user: "guest".into(),
            },
            Command::DeclareQueue { name, .. } => Reply::QueueDeclared {
                name: if name.is_empty() { "amq.gen-1" } else { name }.into(),
                counts: QueueCounts {
                    messages_ready: 3,
                    consumers: 1,
                },
            },
            Command::DeleteQueue { .. } | Command::PurgeQueue { .. } => Reply::MessageCount(7),
            Command::Consume { consumer_tag, .. } => {
                self.consumers += 1;
                Reply::Consuming {
                    consumer: ConsumerId(self.consumers),
                    consumer_tag: if consumer_tag.is_empty() {
                        "amq.ctag-1"
                    } else {
                        consumer_tag
                    }
                    .into(),
                }
            }
            Command::Cancel { .. } => Reply::Cancelled {
                deliveries: Vec::new(),
            },
            Command::Get { .. } => Reply::Got(None),
            Command::Commit { .. } => Reply::Committed {
                returned: Vec::new(),
                is_partial: false,
            },
            _ => Reply::Done,
        }
    }

    /// The commands since the last call, without their fields.
    pub(super) fn take_names(&mut self) -> Vec<String> {
        let commands = std::mem::take(&mut self.commands);
        let name = |(channel, command): (u16, Command)| {
            let text = format!("{command:?}");
            let end = text.find([' ', '{']).unwrap_or(text.len());
            format!("{channel} {}", &text[..end])
        };
        commands.into_iter().map(name).collect()
    }
}

fn seen(channel: u16, publish: &Publish<'_>) -> Seen {
    Seen {
        channel,
        exchange: String::from_utf8(publish.exchange.to_vec()).unwrap(),
        routing_key: String::from_utf8(publish.routing_key.to_vec()).unwrap(),
        body: publish.body.as_slice().to_vec(),
        was_borrowed: matches!(publish.body, Body::Borrowed(_)),
        confirm: publish.confirm.map(|sequence| sequence.0),
    }
}

impl Executor for Script {
    fn execute(&mut self, channel: ChannelNumber, command: Command) -> Execution {
        let usual = self.usual_answer(&command);
        self.commands.push((channel, command));
        let scripted = self.answers.pop_front();
        scripted.unwrap_or_else(|| Execution::done(usual))
    }

    fn publish(
        &mut self,
        channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<Routing, Refusal> {
        self.published.push(seen(channel, &publish));
        self.publish_answers
            .pop_front()
            .unwrap_or(Ok(Routing::Routed))
    }

    fn stage(
        &mut self,
        channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<StagedPublish, Refusal> {
        self.staged.push(seen(channel, &publish));
        let message = Message::copied(
            String::from_utf8_lossy(publish.exchange).into(),
            publish.routing_key,
            publish.properties,
            publish.facts,
            publish.body.as_slice(),
        );
        Ok(StagedPublish {
            message: Arc::new(message),
            queues: Vec::new(),
            mandatory: publish.mandatory,
        })
    }

    fn settle(&mut self, channel: ChannelNumber, settlement: Settlement) {
        self.settled.push((channel, settlement));
    }

    fn flush(&mut self) {
        self.flushes += 1;
    }

    fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
}

/// One end of a conversation; the other is the session.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: Session,
    pub(super) executor: Script,
    pub(super) now: Now,
    /// What the session has not taken yet.
    input: Vec<u8>,
    /// Where the output was read to.
    received: Vec<u8>,
}

impl Client {
    /// A socket that was just accepted.
    pub(super) fn connect_with(settings: SessionSettings) -> Self {
        let now = Now {
            monotonic: Instant::now(),
            wall_ms: 1_700_000_000_000,
        };
        Self {
            session: Session::new(Arc::new(settings), now),
            executor: Script::default(),
            now,
            input: Vec::new(),
            received: Vec::new(),
        }
    }

    pub(super) fn connect() -> Self {
        Self::connect_with(SessionSettings::default())
    }

    /// A connection in the state "running" with all the capabilities, and nothing to be received.
    pub(super) fn running_with(settings: SessionSettings) -> Self {
        let mut client = Self::connect_with(settings);
        client.send_bytes(b"AMQP\0\0\x09\x01");
        client.start_ok(&["consumer_cancel_notify", "connection.blocked"]);
        let max = client.session.settings.clone();
        client.tune_ok(max.channel_max, max.frame_max, 0);
        client.open();
        client.drain();
        client.executor.commands.clear();
        assert_eq!(client.session.state_name(), "running");
        client
    }

    pub(super) fn running() -> Self {
        Self::running_with(SessionSettings::default())
    }

    /// A running connection with channel 1 open.
    pub(super) fn with_channel() -> Self {
        Self::with_channel_and(SessionSettings::default())
    }

    pub(super) fn with_channel_and(settings: SessionSettings) -> Self {
        let mut client = Self::running_with(settings);
        client.open_channel(1);
        client.executor.commands.clear();
        client
    }

    pub(super) fn start_ok(&mut self, capabilities: &[&str]) {
        let capabilities: FieldTable = capabilities
            .iter()
            .map(|name| (*name, Value::Bool(true)))
            .collect();
        let mut properties = FieldTable::new();
        properties.insert("capabilities", capabilities);
        properties.insert("connection_name", "a test");
        let properties = properties.to_encoded();
        self.send(
            0,
            connection::StartOk {
                client_properties: properties.as_table(),
                mechanism: short("PLAIN"),
                response: b"\0guest\0guest",
                locale: short("en_US"),
            },
        );
    }

    pub(super) fn tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.send(
            0,
            connection::TuneOk {
                channel_max,
                frame_max,
                heartbeat,
            },
        );
    }

    pub(super) fn open(&mut self) {
        let virtual_host = short("/");
        self.send(0, connection::Open { virtual_host });
    }

    pub(super) fn open_channel(&mut self, number: u16) {
        self.send(number, channel::Open);
        self.expect(number, channel::OpenOk);
    }

    /// Sends a method, as a burst of its own.
    pub(super) fn send<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let mut bytes = Vec::new();
        frame::write_method(&mut bytes, channel, &method.into());
        self.send_bytes(&bytes);
    }

    pub(super) fn send_publish(&mut self, channel: u16, routing_key: &str, body: &[u8]) {
        self.send_bytes(&publish(channel, "", routing_key, false, body));
    }

    /// Sends octets, as a burst of its own.
    pub(super) fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.burst();
    }

    /// Handles what is left over, and ends the burst.
    pub(super) fn burst(&mut self) {
        let taken = self
            .session
            .handle_bytes(self.now, &self.input, &mut self.executor);
        self.input.drain(..taken);
        self.session.end_burst(self.now, &mut self.executor);
    }

    /// Octets that the session did not take.
    pub(super) fn left_over(&self) -> usize {
        self.input.len()
    }

    pub(super) fn reply(&mut self, channel: u16, reply: Result<Reply, Refusal>) {
        self.session
            .handle_reply(self.now, channel, reply, &mut self.executor);
        self.burst();
    }

    pub(super) fn answer_later(&mut self) {
        self.executor.answers.push_back(Execution::Later);
    }

    pub(super) fn refuse_next(&mut self, refusal: Refusal) {
        let answer = Execution::refused(refusal);
        self.executor.answers.push_back(answer);
    }

    /// Lets time pass, with every deadline on the way.
    pub(super) fn wait(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some(at) = self.session.poll_timeout()
            && at <= end.monotonic
        {
            self.now = self
                .now
                .after(at.saturating_duration_since(self.now.monotonic));
            self.session.handle_timeout(self.now, &mut self.executor);
            self.session.end_burst(self.now, &mut self.executor);
        }
        self.now = end;
    }

    /// The next frame, or `None`.
    pub(super) fn receive(&mut self) -> Option<(FrameKind, u16, Vec<u8>)> {
        let sent = self.session.output().as_slice().to_vec();
        self.session.output().advance(sent.len());
        self.received.extend_from_slice(&sent);
        let (frame, octets) = frame::parse(&self.received, u32::MAX - 16).unwrap()?;
        let owned = (frame.kind, frame.channel, frame.payload.to_vec());
        self.received.drain(..octets);
        Some(owned)
    }

    /// Whatever was sent, in few words.
    pub(super) fn receive_all(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((kind, channel, payload)) = self.receive() {
            all.push(match kind {
                FrameKind::Method => format!("{channel} {}", describe(&payload)),
                FrameKind::Header => format!("{channel} header"),
                FrameKind::Body => format!("{channel} body {}", payload.len()),
                FrameKind::Heartbeat => "heartbeat".to_owned(),
            });
        }
        all
    }

    /// Throws away what was sent.
    pub(super) fn drain(&mut self) {
        while self.receive().is_some() {}
    }

    #[track_caller]
    pub(super) fn expect<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) {
        let method = method.into();
        let mut payload = Vec::new();
        method.encode(&mut payload);
        let Some((kind, on, came)) = self.receive() else {
            panic!("nothing came instead of {method:?}");
        };
        assert_eq!(kind, FrameKind::Method, "instead of {method:?}");
        assert_eq!(
            (on, Method::parse(&came).unwrap()),
            (channel, method),
            "channel and method"
        );
        assert_eq!(came, payload);
    }

    /// The content behind a method: its properties and body.
    #[track_caller]
    pub(super) fn expect_content(&mut self) -> (Properties, Vec<u8>) {
        let (kind, _, payload) = self.receive().unwrap();
        assert_eq!(kind, FrameKind::Header);
        let size = u64::from_be_bytes(payload[4..12].try_into().unwrap());
        let properties = Properties::decode(&payload[12..]).unwrap();
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let (kind, _, payload) = self.receive().unwrap();
            assert_eq!(kind, FrameKind::Body);
            body.extend_from_slice(&payload);
        }
        (properties, body)
    }

    #[track_caller]
    pub(super) fn expect_channel_close(&mut self, channel: u16, code: ReplyCode, text: &str) {
        let (_, on, payload) = self.receive().expect("channel.close");
        let Ok(Method::ChannelClose(close)) = Method::parse(&payload) else {
            panic!("{} instead of channel.close", describe(&payload));
        };
        assert_eq!(on, channel);
        assert_eq!(close.reply_code, code.code());
        assert_eq!(close.reply_text.to_str().unwrap(), text);
    }

    /// connection.close; gives class and method at fault.
    #[track_caller]
    pub(super) fn expect_connection_close(&mut self, code: ReplyCode, text: &str) -> (u16, u16) {
        let (_, on, payload) = self.receive().expect("connection.close");
        let Ok(Method::ConnectionClose(close)) = Method::parse(&payload) else {
            panic!("{} instead of connection.close", describe(&payload));
        };
        assert_eq!(on, 0);
        assert_eq!(close.reply_code, code.code());
        assert_eq!(close.reply_text.to_str().unwrap(), text);
        (close.class_id, close.method_id)
    }

    #[track_caller]
    pub(super) fn expect_nothing(&mut self) {
        let came = self.receive_all();
        assert!(came.is_empty(), "{came:?}");
    }

    pub(super) fn consume(&mut self, channel: u16, tag: &str, no_ack: bool) -> ConsumerId {
        self.send(
            channel,
            basic::Consume {
                queue: short("q"),
                consumer_tag: short(tag),
                no_ack,
                ..basic::Consume::default()
            },
        );
        self.drain();
        ConsumerId(self.executor.consumers)
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) -> Result<(), Delivery> {
        self.session.handle_delivery(self.now, delivery)
    }
}

/// What a method says, in few words.
fn describe(payload: &[u8]) -> String {
    match Method::parse(payload) {
        Ok(Method::ConnectionClose(close)) => format!("connection.close {}", close.reply_code),
        Ok(Method::ChannelClose(close)) => format!("channel.close {}", close.reply_code),
        Ok(method) => method.name().to_owned(),
        Err(error) => error.to_string(),
    }
}

pub(super) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// The frames of a publish, its body in one frame.
pub(super) fn publish(
    channel: u16,
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = publish_method(channel, exchange, routing_key, mandatory);
    let properties = Properties::default().to_encoded();
    frame::write_content(&mut bytes, channel, &properties, body, 0);
    bytes
}

pub(super) fn publish_method(
    channel: u16,
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let method = Method::BasicPublish(basic::Publish {
        exchange: short(exchange),
        routing_key: short(routing_key),
        mandatory,
        immediate: false,
    });
    frame::write_method(&mut bytes, channel, &method);
    bytes
}

/// A frame with any octets in it.
pub(super) fn raw_frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(FRAME_END);
    bytes
}

pub(super) fn message(body: &[u8]) -> SharedMessage {
    message_with(&Properties::default(), body)
}

pub(super) fn message_with(properties: &Properties, body: &[u8]) -> SharedMessage {
    let properties = properties.to_encoded();
    let facts = PropertyFacts::of(&properties).unwrap();
    let exchange = Name::from("ex");
    Arc::new(Message::copied(exchange, b"key", &properties, facts, body))
}

/// A delivery to a consumer on channel 1.
pub(super) fn delivery(consumer: ConsumerId, position: u64, body: &[u8]) -> Delivery {
    Delivery {
        channel: 1,
        consumer,
        consumer_tag: "tag".into(),
        queue: Some(QueueId(9)),
        position: Position(position),
        redelivered: false,
        no_ack: false,
        kind: crate::model::QueueKind::Classic,
        message: message(body),
        counts: None,
    }
}
