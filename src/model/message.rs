//! A message as the broker keeps it: where it was published, its encoded properties, its body.

use std::sync::Arc;

use bytes::Bytes;

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
    /// Routing key, encoded properties and, unless it is apart, the body, in one allocation.
    content: Box<[u8]>,
    /// A body that was gathered or read elsewhere and taken over.
    body_apart: Option<Bytes>,
    /// Set on dead letters only.
    deaths: Option<Arc<Deaths>>,
    /// Bytes of routing key and properties.
    head_bytes: u32,
    routing_key_bytes: u8,
    facts: PropertyFacts,
}

impl Message {
    /// A message whose parts are copied from borrowed slices into one allocation.
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
        let mut content = Vec::with_capacity(head_bytes + body.len());
        content.extend_from_slice(routing_key);
        content.extend_from_slice(properties);
        content.extend_from_slice(body);
        Self {
            exchange,
            content: content.into_boxed_slice(),
            body_apart: None,
            deaths: None,
            head_bytes: head_bytes as u32,
            routing_key_bytes: routing_key.len() as u8,
            facts,
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
        message.body_apart = Some(body);
        message
    }

    /// The body of this message under another head.
    #[must_use]
    pub fn with_head(
        &self,
        exchange: Name,
        routing_key: &[u8],
        properties: &[u8],
        facts: PropertyFacts,
    ) -> Self {
        match &self.body_apart {
            Some(body) => Self::with_body(exchange, routing_key, properties, facts, body.clone()),
            None => Self::copied(exchange, routing_key, properties, facts, self.body()),
        }
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
        &self.content[..usize::from(self.routing_key_bytes)]
    }

    /// The content header's property flags and values, encoded.
    pub fn properties(&self) -> &[u8] {
        &self.content[usize::from(self.routing_key_bytes)..self.head_bytes as usize]
    }

    /// What the walk over the properties noted.
    pub fn facts(&self) -> &PropertyFacts {
        &self.facts
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        match &self.body_apart {
            Some(body) => body,
            None => &self.content[self.head_bytes as usize..],
        }
    }

    /// The body to be kept beyond the message. A large one is shared, a small one copied.
    pub fn body_to_keep(&self) -> Bytes {
        match &self.body_apart {
            Some(body) => body.clone(),
            None => Bytes::copy_from_slice(self.body()),
        }
    }

    /// Bytes of the body alone, which is what length limits count (`x-max-length-bytes`).
    pub fn body_bytes(&self) -> usize {
        self.body().len()
    }

    /// Bytes that it costs to hold or to send: head, body and a constant for the bookkeeping.
    pub fn cost_bytes(&self) -> usize {
        self.head_bytes as usize + self.body_bytes() + 128
    }
}
