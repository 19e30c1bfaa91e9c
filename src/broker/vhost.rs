//! A virtual host: its exchanges, queues, the index of bindings by destination, its policies, limits and metadata.
//!
//! Lookups take no lock of the host; whatever changes the topology holds [`Vhost::topology`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};

use super::policies::{PolicySet, apply_to_exchange};
use super::stats::{ExchangeStats, VhostStats};
use crate::model::{AppliedPolicy, Name, QueueId, Refusal};
use crate::protocol::FieldTable;
use crate::queue::{QueueHandle, QueueKind};
use crate::routing::{
    BindingsByDestination, Epoch, Exchange, ExchangeDefinition, ExchangeHandle,
    PREDECLARED_EXCHANGES, Topology,
};
use crate::store::definitions as stored;

/// An exchange behind its short lock. The lock's order stands in `broker/mod.rs`.
pub struct ExchangeCell {
    stats: Arc<ExchangeStats>,
    exchange: RwLock<Exchange>,
    /// Which policies hold for it.
    policy: RwLock<Option<Arc<AppliedPolicy>>>,
}

impl ExchangeCell {
    /// Wraps an exchange.
    pub fn new(definition: ExchangeDefinition) -> Arc<Self> {
        Arc::new(Self {
            stats: Arc::default(),
            exchange: RwLock::new(Exchange::new(definition)),
            policy: RwLock::default(),
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

    /// The policies that hold for it.
    pub fn policy(&self) -> Option<Arc<AppliedPolicy>> {
        self.policy.read().clone()
    }

    /// Lets other policies hold; `alternate` is the exchange that they name. Remembered routes are forgotten if that differs.
    pub fn set_policy(&self, policy: Option<Arc<AppliedPolicy>>, alternate: Option<Name>) {
        *self.policy.write() = policy;
        self.write(|exchange| exchange.set_policy_alternate(alternate));
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
    /// What it counts.
    pub stats: Arc<VhostStats>,
    settings: RwLock<VhostSettings>,
    policies: RwLock<Arc<PolicySet>>,
    is_gone: AtomicBool,
}

/// What an operator may change of a virtual host.
#[derive(Clone, Debug)]
struct VhostSettings {
    row: Arc<stored::Vhost>,
    limits: VhostLimits,
}

impl Vhost {
    /// A host with the exchanges that every host has.
    pub fn new(row: stored::Vhost, limits: VhostLimits, policies: PolicySet) -> Self {
        let vhost = Self {
            name: Arc::clone(&row.name),
            exchanges: DashMap::new(),
            queues: DashMap::new(),
            declarations: Epoch::default(),
            topology: Mutex::default(),
            stats: Arc::default(),
            settings: RwLock::new(VhostSettings {
                row: Arc::new(row),
                limits,
            }),
            policies: RwLock::new(Arc::new(policies)),
            is_gone: AtomicBool::new(false),
        };
        for predeclared in PREDECLARED_EXCHANGES {
            vhost.add_exchange(ExchangeDefinition {
                name: Name::from(predeclared.name),
                kind: predeclared.kind,
                durable: true,
                auto_delete: false,
                internal: predeclared.internal,
                arguments: FieldTable::new(),
            });
        }
        vhost
    }

    /// Puts an exchange in its place; used by declares and at start.
    pub(super) fn add_exchange(&self, definition: ExchangeDefinition) {
        let name = Arc::clone(&definition.name);
        let cell = ExchangeCell::new(definition);
        apply_to_exchange(&cell, &self.policies());
        self.exchanges.insert(name, cell);
        self.declarations.advance();
    }

    /// Its row in the definitions: description, tags, default queue type and whatever else its metadata holds.
    pub fn metadata(&self) -> Arc<stored::Vhost> {
        Arc::clone(&self.settings.read().row)
    }

    /// Its limits.
    pub fn limits(&self) -> VhostLimits {
        self.settings.read().limits
    }

    /// The type of queues that name none, if the host says so.
    pub fn default_queue_kind(&self) -> Option<QueueKind> {
        match self.settings.read().row.default_queue_type.as_deref() {
            Some("quorum") => Some(QueueKind::Quorum),
            Some("classic") => Some(QueueKind::Classic),
            _ => None,
        }
    }

    /// Its policies.
    pub fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.policies.read())
    }

    pub(super) fn set_metadata(&self, row: Arc<stored::Vhost>) {
        self.settings.write().row = row;
    }

    pub(super) fn set_limits(&self, limits: VhostLimits) {
        self.settings.write().limits = limits;
    }

    pub(super) fn set_policies(&self, policies: Arc<PolicySet>) {
        *self.policies.write() = policies;
    }

    /// Marks it as deleted; under the topology's lock, so that no declare is under way.
    pub(super) fn retire(&self) {
        self.is_gone.store(true, Ordering::Release);
    }

    /// Whether it was deleted, and lives only in the hands of those who opened it before.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Refuses what would declare something in a deleted host.
    ///
    /// # Errors
    /// 530, as when such a host is opened.
    pub fn check_there(&self) -> Result<(), Refusal> {
        match self.is_gone() {
            true => Err(Refusal::not_allowed(format!(
                "vhost {} not found",
                self.name
            ))),
            false => Ok(()),
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
