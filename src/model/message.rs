//! A message as the broker keeps it: where it was published, its encoded properties, its body.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Deaths, Name};
use crate::protocol::PropertyFacts;

/// A message shared by all the queues it went to.
pub type SharedMessage = Arc<Message>;

/// A published message. Immutable: whatever rewrites one (BCC, reply-to, dead-lettering) makes another.
///
/// Properties stay as the encoded bytes that came in; they are decoded only if someone asks.
#[derive(Clone, Debug)]
pub struct Message {
    exchange: Name,
    /// Routing key, then encoded properties, in one allocation.
    head: Bytes,
    body: Bytes,
    routing_key_bytes: u8,
    facts: PropertyFacts,
    /// Set on dead letters only.
    deaths: Option<Arc<Deaths>>,
}

impl Message {
    /// A message whose parts are copied from borrowed slices, head and body in one allocation.
    ///
    /// `routing_key` has at most 255 bytes (the protocol's shortstr); longer ones are cut.
    pub fn copied(
        exchange: Name,
        routing_key: &[u8],
        properties: &[u8],
        facts: PropertyFacts,
        body: &[u8],
    ) -> Self {
        let routing_key = &routing_key[..routing_key.len().min(255)];
        let head_bytes = routing_key.len() + properties.len();
        let mut buffer = BytesMut::with_capacity(head_bytes + body.len());
        buffer.extend_from_slice(routing_key);
        buffer.extend_from_slice(properties);
        buffer.extend_from_slice(body);
        let mut head = buffer.freeze();
        let body = head.split_off(head_bytes);
        Self {
            exchange,
            head,
            body,
            routing_key_bytes: routing_key.len() as u8,
            facts,
            deaths: None,
        }
    }

    /// A message that takes over an assembled body without copying it.
    pub fn with_body(
        exchange: Name,
        routing_key: &[u8],
        properties: &[u8],
        facts: PropertyFacts,
        body: Bytes,
    ) -> Self {
        let mut message = Self::copied(exchange, routing_key, properties, facts, &[]);
        message.body = body;
        message
    }

    /// The same message with a history of deaths.
    #[must_use]
    pub fn with_deaths(mut self, deaths: Arc<Deaths>) -> Self {
        self.deaths = Some(deaths);
        self
    }

    /// How it was dead-lettered so far, if it was.
    pub fn deaths(&self) -> Option<&Arc<Deaths>> {
        self.deaths.as_ref()
    }

    /// The exchange that it was published to; empty for the default exchange.
    pub fn exchange(&self) -> &Name {
        &self.exchange
    }

    /// The routing key of the publish.
    pub fn routing_key(&self) -> &[u8] {
        &self.head[..usize::from(self.routing_key_bytes)]
    }

    /// The content header's property flags and values, encoded.
    pub fn properties(&self) -> &[u8] {
        &self.head[usize::from(self.routing_key_bytes)..]
    }

    /// What the walk over the properties noted.
    pub fn facts(&self) -> &PropertyFacts {
        &self.facts
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of the body alone, which is what length limits count (`x-max-length-bytes`).
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Bytes that it costs to hold or to send: head, body and a constant for the bookkeeping.
    pub fn cost_bytes(&self) -> usize {
        self.head.len() + self.body.len() + 128
    }
}
