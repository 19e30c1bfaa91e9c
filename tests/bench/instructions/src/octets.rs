//! What clients send, encoded once.
//!
//! In: names, sizes, numbers. Out: octets for a connection. Nothing is known of who takes them.

use haremq::protocol::{
    EncodedTable, Method, Properties, ShortStr, basic, channel, connection, frame, queue,
};

/// The channel of every peer.
pub const CHANNEL: u16 = 1;

/// The largest frame that peers agree on.
pub const FRAME_BYTES_MAX: u32 = 131_072;

/// The protocol header.
pub const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Octets of an acknowledgement: a head, class and method, the tag, the flag, an end.
const ACK_BYTES: usize = 7 + 4 + 8 + 1 + 1;

/// Where the tag stands in it.
const ACK_TAG_AT: usize = 7 + 4;

/// A short string.
pub fn short(text: &str) -> ShortStr<'_> {
    ShortStr::truncated(text)
}

/// A method, on the channel where its class belongs.
pub fn method<'a>(method: impl Into<Method<'a>>) -> Vec<u8> {
    let method = method.into();
    let channel = if method.class_id() == 10 { 0 } else { CHANNEL };
    let mut octets = Vec::new();
    frame::write_method(&mut octets, channel, &method);
    octets
}

/// connection.start-ok with PLAIN, and no properties of the client.
pub fn start_ok() -> Vec<u8> {
    let nothing = EncodedTable::default();
    method(connection::StartOk {
        client_properties: nothing.as_table(),
        mechanism: short("PLAIN"),
        response: b"\0guest\0guest",
        locale: short("en_US"),
    })
}

/// connection.tune-ok and connection.open, as clients send them: together.
pub fn tune_ok_and_open() -> Vec<u8> {
    let mut octets = method(connection::TuneOk {
        channel_max: 2047,
        frame_max: FRAME_BYTES_MAX,
        heartbeat: 0,
    });
    octets.extend(method(connection::Open {
        virtual_host: short("/"),
    }));
    octets
}

/// channel.open.
pub fn channel_open() -> Vec<u8> {
    method(channel::Open)
}

/// connection.close.
pub fn connection_close() -> Vec<u8> {
    method(connection::Close {
        reply_code: 200,
        ..connection::Close::default()
    })
}

/// A durable queue.
pub fn declare(name: &str) -> Vec<u8> {
    method(queue::Declare {
        queue: short(name),
        durable: true,
        ..queue::Declare::default()
    })
}

/// A binding without arguments.
pub fn bind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    method(queue::Bind {
        queue: short(queue),
        exchange: short(exchange),
        routing_key: short(key),
        ..queue::Bind::default()
    })
}

/// A consumer.
pub fn consume(queue: &str, no_ack: bool) -> Vec<u8> {
    method(basic::Consume {
        queue: short(queue),
        consumer_tag: short("consumer"),
        no_ack,
        ..basic::Consume::default()
    })
}

/// A message; persistent or not.
pub fn publish(exchange: &str, key: &str, body_bytes: usize, persistent: bool) -> Vec<u8> {
    let mut octets = method(basic::Publish {
        exchange: short(exchange),
        routing_key: short(key),
        ..basic::Publish::default()
    });
    let properties = Properties {
        delivery_mode: persistent.then_some(2),
        ..Properties::default()
    };
    // No two neighbours alike, so that nothing on the way can take it for zeros.
    let body: Vec<u8> = (0..body_bytes).map(|at| (at * 31 % 251) as u8).collect();
    let properties = properties.to_encoded();
    frame::write_content(&mut octets, CHANNEL, &properties, &body, FRAME_BYTES_MAX);
    octets
}

/// A burst of acknowledgements, one for each delivery, whose tags go on from burst to burst.
#[derive(Debug)]
pub struct Acks {
    octets: Vec<u8>,
    tag: u64,
}

impl Acks {
    /// Bursts of at most so many.
    pub fn new(most: usize) -> Self {
        let ack = method(basic::Ack {
            delivery_tag: 0,
            multiple: false,
        });
        assert_eq!(ack.len(), ACK_BYTES);
        Self {
            octets: ack.repeat(most),
            tag: 0,
        }
    }

    /// The acknowledgements of the next deliveries.
    pub fn next(&mut self, count: usize) -> &[u8] {
        for ack in self.octets.chunks_exact_mut(ACK_BYTES).take(count) {
            self.tag += 1;
            ack[ACK_TAG_AT..ACK_TAG_AT + 8].copy_from_slice(&self.tag.to_be_bytes());
        }
        &self.octets[..count * ACK_BYTES]
    }
}
