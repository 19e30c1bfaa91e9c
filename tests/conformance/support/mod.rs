//! A broker, clients and time, all in the test's hands.
//!
//! ```ignore
//! let node = Node::start();
//! let mut client = node.client();                 // connected, channel 1 open
//! client.declare("q", &[("x-message-ttl", 1000.into())]);
//! client.publish("", "q", "late");
//! node.advance(1000);
//! client.expect_get_empty("q");
//! ```
//! Nothing happens by itself: a client's connection does its work when the client sends or expects
//! something, and deadlines come when [`Node::advance`] passes them.

mod client;
mod expect;
mod node;
mod received;
mod shorthand;

pub use client::Client;
pub use node::Node;
pub use received::{Message, Received};

use haremq::protocol::{EncodedTable, FieldTable, Properties, ShortStr, Value};

/// A short string.
pub fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// A table to be put into a method.
pub fn table(fields: &[(&str, Value)]) -> EncodedTable {
    field_table(fields).to_encoded()
}

/// A table that owns its values.
pub fn field_table(fields: &[(&str, Value)]) -> FieldTable {
    fields.iter().cloned().collect()
}

/// Properties with these headers.
pub fn headers(fields: &[(&str, Value)]) -> Properties {
    Properties {
        headers: Some(field_table(fields)),
        ..Properties::default()
    }
}

/// A list of texts, as CC has it.
pub fn texts(texts: &[&str]) -> Value {
    Value::Array(texts.iter().map(|text| Value::from(*text)).collect())
}
