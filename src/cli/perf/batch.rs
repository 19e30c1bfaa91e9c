//! Messages to publish, encoded beforehand: a buffer of equal messages, of which each time the first few are sent.
//!
//! In: what the messages have in common. Out: octets for the socket, and how many messages have gone. Routing key and
//! stamp of a message are overwritten in place, so that publishing encodes nothing. When to send is not known here.

use crate::protocol::basic;
use crate::protocol::frame::{self, FRAME_HEAD_BYTES};
use crate::protocol::{Method, ShortStr};

/// Octets of a batch, unless a single message has more: as much as a socket's buffer takes at once.
const BATCH_BYTES: usize = 64 * 1024;

/// What the messages of a batch have in common.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// Exchange.
    pub exchange: ShortStr<'a>,
    /// The first routing key; others must be as long.
    pub routing_key: ShortStr<'a>,
    /// Whether a message that reaches no queue comes back.
    pub mandatory: bool,
    /// Encoded properties.
    pub properties: &'a [u8],
    /// Body.
    pub body: &'a [u8],
    /// Channel.
    pub channel: u16,
    /// Negotiated, in octets.
    pub frame_max: u32,
}

/// Encoded messages.
#[derive(Debug)]
pub struct Batch {
    octets: Vec<u8>,
    message_bytes: usize,
    slots: usize,
    key: std::ops::Range<usize>,
    body_at: usize,
    /// Octets to send, and of them those that have gone.
    loaded: usize,
    written: usize,
}

impl Batch {
    /// Encodes as many messages as fill a batch.
    pub fn new(template: &Template<'_>) -> Self {
        let publish: Method<'_> = basic::Publish {
            exchange: template.exchange,
            routing_key: template.routing_key,
            mandatory: template.mandatory,
            immediate: false,
        }
        .into();
        let mut message = Vec::new();
        frame::write_method(&mut message, template.channel, &publish);
        // Class, method, a reserved short and the exchange lie in front of the key (specification 1.8.3.7).
        let key_at = FRAME_HEAD_BYTES + 6 + 1 + template.exchange.len() + 1;
        let header_at = message.len();
        frame::write_content(
            &mut message,
            template.channel,
            template.properties,
            template.body,
            template.frame_max,
        );
        // Behind the payload of a content header comes its end octet, and then the first body frame's head.
        let header_bytes = FRAME_HEAD_BYTES + 12 + template.properties.len() + 1;
        let slots = (BATCH_BYTES / message.len()).max(1);
        Self {
            message_bytes: message.len(),
            octets: message.repeat(slots),
            slots,
            key: key_at..key_at + template.routing_key.len(),
            body_at: header_at + header_bytes + FRAME_HEAD_BYTES,
            loaded: 0,
            written: 0,
        }
    }

    /// Most messages in a batch.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Overwrites the routing key of a message; a key of another length is ignored.
    pub fn set_key(&mut self, slot: usize, key: &[u8]) {
        let at = slot * self.message_bytes;
        let range = at + self.key.start..at + self.key.end;
        if let Some(place) = self.octets.get_mut(range)
            && place.len() == key.len()
        {
            place.copy_from_slice(key);
        }
    }

    /// Overwrites the first octets of a message's body, which must have as many in its first frame.
    pub fn set_stamp(&mut self, slot: usize, stamp: &[u8]) {
        let at = slot * self.message_bytes + self.body_at;
        if let Some(place) = self.octets.get_mut(at..at + stamp.len()) {
            place.copy_from_slice(stamp);
        }
    }

    /// Begins to send the first messages. What was to be sent before must have gone.
    pub fn load(&mut self, messages: usize) {
        debug_assert!(self.is_written());
        self.loaded = messages.min(self.slots) * self.message_bytes;
        self.written = 0;
    }

    /// Whether all has gone.
    #[inline]
    pub fn is_written(&self) -> bool {
        self.written == self.loaded
    }

    /// What is to be written.
    pub fn rest(&self) -> &[u8] {
        &self.octets[self.written..self.loaded]
    }

    /// Takes note that octets were written; gives the number of messages that went with them.
    pub fn advance(&mut self, octets: usize) -> usize {
        let before = self.written / self.message_bytes;
        self.written = (self.written + octets).min(self.loaded);
        self.written / self.message_bytes - before
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::frame::FrameKind;

    fn template(body: &[u8]) -> Template<'_> {
        Template {
            exchange: ShortStr::truncated("ex"),
            routing_key: ShortStr::truncated("q-1"),
            mandatory: false,
            properties: &[0x10, 0, 2],
            body,
            channel: 1,
            frame_max: 4096,
        }
    }

    #[test]
    fn keys_and_stamps_go_to_their_places() {
        let body = [b'x'; 5000];
        let mut batch = Batch::new(&template(&body));
        assert_eq!(batch.slots(), BATCH_BYTES / batch.message_bytes);
        batch.set_key(1, b"q-2");
        batch.set_key(1, b"longer");
        batch.set_stamp(1, b"stamp");
        batch.load(2);
        let mut rest = batch.rest();
        let mut seen = Vec::new();
        while let Some((frame, length)) = frame::parse(rest, 4096).unwrap() {
            match frame.kind {
                FrameKind::Method => match Method::parse(frame.payload).unwrap() {
                    Method::BasicPublish(publish) => seen.push(publish.routing_key.to_string()),
                    other => panic!("{other:?}"),
                },
                FrameKind::Body => {
                    seen.push(String::from_utf8_lossy(&frame.payload[..6]).into_owned());
                }
                _ => {}
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        assert_eq!(seen, ["q-1", "xxxxxx", "xxxxxx", "q-2", "stampx", "xxxxxx"]);
    }

    #[test]
    fn messages_count_when_their_last_octet_has_gone() {
        let mut batch = Batch::new(&template(b""));
        let message_bytes = batch.message_bytes;
        assert!(batch.is_written());
        batch.load(3);
        assert_eq!(batch.rest().len(), 3 * message_bytes);
        assert_eq!(batch.advance(message_bytes - 1), 0);
        assert_eq!(batch.advance(1), 1);
        assert_eq!(batch.advance(message_bytes + 1), 1);
        assert_eq!(batch.advance(usize::MAX / 2), 1);
        assert!(batch.is_written());
    }

    #[test]
    fn a_message_larger_than_a_batch_is_a_batch() {
        let body = vec![0; 2 * BATCH_BYTES];
        assert_eq!(Batch::new(&template(&body)).slots(), 1);
    }
}
