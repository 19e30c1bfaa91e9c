//! A virtual host: its exchanges, queues and the index of bindings by destination.
//!
//! Lookups take no lock of the host; whatever changes the topology holds [`Vhost::topology`].

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};

use super::stats::{ExchangeStats, VhostStats};
use crate::model::{Name, QueueId};
use crate::queue::{QueueHandle, QueueKind};
use crate::routing::{
    BindingsByDestination, Epoch, Exchange, ExchangeDefinition, ExchangeHandle, Topology,
};

/// An exchange behind its short lock. The lock's order stands in `broker/mod.rs`.
pub struct ExchangeCell {
    stats: Arc<ExchangeStats>,
    exchange: RwLock<Exchange>,
}

impl ExchangeCell {
    /// Wraps an exchange.
    pub fn new(definition: ExchangeDefinition) -> Arc<Self> {
        Arc::new(Self {
            stats: Arc::default(),
            exchange: RwLock::new(Exchange::new(definition)),
        })
    }

    /// What it counts.
    pub fn stats(&self) -> &Arc<ExchangeStats> {
        &self.stats
    }

    /// Looks at it.
    pub fn read<R>(&self, look: impl FnOnce(&Exchange) -> R) -> R {
        look(&self.exchange.read())
    }

    /// Changes it.
    pub fn write<R>(&self, change: impl FnOnce(&mut Exchange) -> R) -> R {
        change(&mut self.exchange.write())
    }
}

impl fmt::Debug for ExchangeCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExchangeCell")
            .field(self.exchange.read().name())
            .finish()
    }
}

/// What routing needs to look into an exchange.
#[derive(Clone, Debug)]
pub struct ExchangeRef(pub Arc<ExchangeCell>);

impl ExchangeHandle for ExchangeRef {
    fn read<R>(&self, look: impl FnOnce(&Exchange) -> R) -> R {
        self.0.read(look)
    }
}

/// Limits of a virtual host (`vhost-limits` parameters); `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Connections that may be open.
    pub connections_max: Option<u64>,
    /// Queues that may exist.
    pub queues_max: Option<u64>,
}

/// A virtual host.
#[derive(Debug)]
pub struct Vhost {
    /// Its name, exact.
    pub name: Name,
    /// Exchanges by name; the default exchange is not among them.
    pub exchanges: DashMap<Name, Arc<ExchangeCell>>,
    /// Queues by name.
    pub queues: DashMap<Name, QueueHandle>,
    /// Moves when an exchange is declared, so that cached routes through a missing one are looked up again.
    pub declarations: Epoch,
    /// Held by whatever declares, deletes, binds or unbinds; which exchanges bind to a destination.
    pub topology: Mutex<BindingsByDestination>,
    /// The type of queues that name none.
    pub default_queue_kind: QueueKind,
    /// Its limits.
    pub limits: VhostLimits,
    /// What it counts.
    pub stats: Arc<VhostStats>,
}

impl Vhost {
    /// An empty host without exchanges.
    pub fn new(name: Name, default_queue_kind: QueueKind, limits: VhostLimits) -> Self {
        Self {
            name,
            exchanges: DashMap::new(),
            queues: DashMap::new(),
            declarations: Epoch::default(),
            topology: Mutex::default(),
            default_queue_kind,
            limits,
            stats: Arc::default(),
        }
    }

    /// The exchange of that name.
    pub fn exchange_cell(&self, name: &str) -> Option<Arc<ExchangeCell>> {
        self.exchanges
            .get(name)
            .map(|entry| Arc::clone(entry.value()))
    }

    /// The queue of that name.
    pub fn queue_handle(&self, name: &str) -> Option<QueueHandle> {
        self.queues.get(name).map(|entry| entry.value().clone())
    }
}

impl Topology for Vhost {
    type Handle = ExchangeRef;

    fn exchange(&self, name: &str) -> Option<ExchangeRef> {
        self.exchange_cell(name).map(ExchangeRef)
    }

    fn queue(&self, name: &[u8]) -> Option<QueueId> {
        let name = std::str::from_utf8(name).ok()?;
        self.queues.get(name).map(|entry| entry.value().id())
    }

    fn declarations(&self) -> &Epoch {
        &self.declarations
    }
}
