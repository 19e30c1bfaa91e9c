//! What exists, for whoever shows it: names and handles, in order, without a lock held when they are given.

use std::sync::Arc;

use super::vhost::ExchangeCell;
use super::{Broker, Vhost};
use crate::model::Name;
use crate::protocol::FieldTable;
use crate::queue::QueueHandle;
use crate::routing::{Binding, Destination};
use crate::store::definitions::DestinationKind;

/// A binding with the names of both its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct BindingRow {
    /// The virtual host.
    pub vhost: Name,
    /// The exchange that it leads from; empty for the default exchange.
    pub source: Name,
    /// What it leads to.
    pub destination: Name,
    /// Which kind that is.
    pub destination_kind: DestinationKind,
    /// The binding key.
    pub routing_key: Name,
    /// Its arguments.
    pub arguments: FieldTable,
}

impl Broker {
    /// The bindings that start from an exchange.
    pub fn bindings_from(&self, vhost: &Vhost, cell: &ExchangeCell) -> Vec<BindingRow> {
        let (source, bindings) = cell.read(|exchange| {
            let bindings: Vec<Binding> = exchange.bindings().iter().cloned().collect();
            (Arc::clone(exchange.name()), bindings)
        });
        bindings
            .iter()
            .filter_map(|binding| self.binding_row(vhost, &source, binding))
            .collect()
    }

    /// The bindings that lead to a destination, those of the default exchange left out.
    pub fn bindings_to(&self, vhost: &Vhost, destination: &Destination) -> Vec<BindingRow> {
        let sources: Vec<Name> = {
            let topology = vhost.topology.lock();
            let sources = topology.sources(destination);
            sources.map(|(source, _)| Arc::clone(source)).collect()
        };
        let mut rows = Vec::new();
        for source in sources {
            let Some(cell) = vhost.exchange_cell(&source) else {
                continue;
            };
            let bindings: Vec<Binding> = cell.read(|exchange| {
                let bindings = exchange.bindings().of_destination(destination);
                bindings.cloned().collect()
            });
            let found = bindings.iter();
            rows.extend(found.filter_map(|binding| self.binding_row(vhost, &source, binding)));
        }
        rows
    }

    /// The binding of the default exchange that every queue has.
    pub fn default_binding(handle: &QueueHandle) -> BindingRow {
        BindingRow {
            vhost: Arc::clone(handle.vhost()),
            source: "".into(),
            destination: Arc::clone(handle.name()),
            destination_kind: DestinationKind::Queue,
            routing_key: Arc::clone(handle.name()),
            arguments: FieldTable::new(),
        }
    }

    fn binding_row(&self, vhost: &Vhost, source: &Name, binding: &Binding) -> Option<BindingRow> {
        let (destination, destination_kind) = match &binding.destination {
            Destination::Queue(id) => (Arc::clone(self.queue(*id)?.name()), DestinationKind::Queue),
            Destination::Exchange(name) => (Arc::clone(name), DestinationKind::Exchange),
        };
        Some(BindingRow {
            vhost: Arc::clone(&vhost.name),
            source: Arc::clone(source),
            destination,
            destination_kind,
            routing_key: Arc::clone(&binding.routing_key),
            arguments: binding.arguments.to_table(),
        })
    }
}

impl Vhost {
    /// All its queues, in no order.
    pub fn queue_handles(&self) -> Vec<QueueHandle> {
        self.queues
            .iter()
            .map(|entry| entry.value().clone())
            .collect()
    }

    /// All its exchanges but the default one, in no order.
    pub fn exchange_cells(&self) -> Vec<Arc<ExchangeCell>> {
        self.exchanges
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }
}
