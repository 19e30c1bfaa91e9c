//! What came to a client, in pieces that a test can hold on to: methods, and the content behind them.

use std::collections::VecDeque;

use haremq::protocol::{
    ContentHeader, FieldTable, FrameKind, Method, Properties, Value, basic, frame,
};

/// A method that came, with its content if it has one; or a heartbeat.
#[derive(Clone, Debug)]
pub struct Received {
    /// The channel.
    pub channel: u16,
    /// The method's payload; empty for a heartbeat.
    pub payload: Vec<u8>,
    /// Properties and body of a delivery, a get or a return.
    pub content: Option<(Properties, Vec<u8>)>,
}

impl Received {
    /// The method.
    #[track_caller]
    pub fn method(&self) -> Method<'_> {
        Method::parse(&self.payload).unwrap()
    }

    /// Whether it is a heartbeat.
    pub fn is_heartbeat(&self) -> bool {
        self.payload.is_empty()
    }

    /// In few words, for a failing test.
    pub fn describe(&self) -> String {
        if self.is_heartbeat() {
            return "a heartbeat".to_owned();
        }
        let method = Method::parse(&self.payload);
        let body = match &self.content {
            Some((_, body)) => format!(" {:?}", String::from_utf8_lossy(body)),
            None => String::new(),
        };
        match method {
            Ok(method) => format!("on channel {}: {method:?}{body}", self.channel),
            Err(error) => format!("on channel {}: {error}", self.channel),
        }
    }
}

/// A message that came by basic.deliver, basic.get-ok or basic.return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Of a delivery.
    pub consumer_tag: String,
    /// Of a delivery or a get.
    pub delivery_tag: u64,
    /// Of a delivery or a get.
    pub redelivered: bool,
    /// The exchange that it was published to.
    pub exchange: String,
    /// The key that it was published with.
    pub routing_key: String,
    /// Ready messages that remain, of a get.
    pub message_count: u32,
    /// Code and text of a return.
    pub returned: Option<(u16, String)>,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads what came, if it is a message.
    pub fn of(received: &Received) -> Option<Self> {
        let (properties, body) = received.content.clone()?;
        let message = Self {
            properties,
            body,
            ..Self::default()
        };
        match received.method() {
            Method::BasicDeliver(deliver) => Some(Self {
                consumer_tag: deliver.consumer_tag.to_string(),
                delivery_tag: deliver.delivery_tag,
                redelivered: deliver.redelivered,
                exchange: deliver.exchange.to_string(),
                routing_key: deliver.routing_key.to_string(),
                ..message
            }),
            Method::BasicGetOk(got) => Some(Self {
                delivery_tag: got.delivery_tag,
                redelivered: got.redelivered,
                exchange: got.exchange.to_string(),
                routing_key: got.routing_key.to_string(),
                message_count: got.message_count,
                ..message
            }),
            Method::BasicReturn(returned) => Some(Self {
                exchange: returned.exchange.to_string(),
                routing_key: returned.routing_key.to_string(),
                returned: Some((returned.reply_code, returned.reply_text.to_string())),
                ..message
            }),
            _ => None,
        }
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&Value> {
        self.properties.headers.as_ref()?.get(name)
    }

    /// The entries of x-death.
    pub fn deaths(&self) -> Vec<&FieldTable> {
        let entries = self.header("x-death").and_then(Value::as_array);
        let entries = entries.unwrap_or_default().iter();
        entries.map(|entry| entry.as_table().unwrap()).collect()
    }
}

/// Frames out of octets.
#[derive(Debug, Default)]
pub struct Reassembly {
    octets: Vec<u8>,
    /// The frames that came, heads included, in the order they came.
    pub whole: VecDeque<Received>,
    partial: Vec<(u16, Received, u64)>,
}

impl Reassembly {
    /// Takes octets.
    pub fn take(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
        let mut at = 0;
        while let Some((frame, taken)) = frame::parse(&self.octets[at..], u32::MAX - 16).unwrap() {
            at += taken;
            let channel = frame.channel;
            match frame.kind {
                FrameKind::Heartbeat => self.whole.push_back(Received {
                    channel,
                    payload: Vec::new(),
                    content: None,
                }),
                FrameKind::Method => {
                    let received = Received {
                        channel,
                        payload: frame.payload.to_vec(),
                        content: None,
                    };
                    let has_content = matches!(
                        received.method(),
                        Method::BasicDeliver(_) | Method::BasicGetOk(_) | Method::BasicReturn(_)
                    );
                    if has_content {
                        self.partial.push((channel, received, 0));
                    } else {
                        self.whole.push_back(received);
                    }
                }
                FrameKind::Header => {
                    let header = ContentHeader::parse(frame.payload).unwrap();
                    assert_eq!(header.class_id, basic::CLASS_ID);
                    let content = Some((header.view().decode(), Vec::new()));
                    let body_bytes = header.body_bytes;
                    let partial = self.partial_of(channel);
                    partial.1.content = content;
                    partial.2 = body_bytes;
                }
                FrameKind::Body => {
                    let payload = frame.payload.to_vec();
                    let partial = self.partial_of(channel);
                    let (_, body) = partial.1.content.as_mut().unwrap();
                    body.extend_from_slice(&payload);
                }
            }
            self.finish(channel);
        }
        self.octets.drain(..at);
    }

    fn partial_of(&mut self, channel: u16) -> &mut (u16, Received, u64) {
        let mut partials = self.partial.iter_mut();
        partials.find(|(on, ..)| *on == channel).unwrap()
    }

    fn finish(&mut self, channel: u16) {
        let is_whole = |(on, received, size): &(u16, Received, u64)| {
            let body = received.content.as_ref().map(|(_, body)| body.len() as u64);
            *on == channel && body == Some(*size)
        };
        if let Some(index) = self.partial.iter().position(is_whole) {
            let (_, received, _) = self.partial.remove(index);
            self.whole.push_back(received);
        }
    }
}
