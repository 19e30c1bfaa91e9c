//! Short words for the tests of this module.

use super::{Binding, Destination, Exchange, ExchangeDefinition, ExchangeKind};
use crate::model::QueueId;
use crate::protocol::FieldTable;

pub(super) fn queue(number: u64) -> Destination {
    Destination::Queue(QueueId(number))
}

pub(super) fn binding(destination: &Destination, routing_key: &str) -> Binding {
    Binding::new(destination.clone(), routing_key, &FieldTable::new())
}

pub(super) fn definition(name: &str, kind: ExchangeKind) -> ExchangeDefinition {
    ExchangeDefinition {
        name: name.into(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::new(),
    }
}

pub(super) fn exchange(name: &str, kind: ExchangeKind) -> Exchange {
    Exchange::new(definition(name, kind))
}
