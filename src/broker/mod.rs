//! The broker: what exists, and who may do what with it.
//!
//! In come commands of connections (through their [`ConnectionExecutor`]s), deadlines and definitions; out go
//! deliveries in the inboxes of consumers and changes for the definition store. It knows neither frames
//! nor sockets nor HTTP.
//!
//! # The order of locks
//! 0. [`admin::Administration`], for whatever changes users, permissions, virtual hosts, policies or parameters
//! 1. [`Vhost::topology`], for whatever declares, deletes, binds or unbinds
//! 2. an exchange's lock (`vhost::ExchangeCell`)
//! 3. queues' locks (inside [`crate::queue::QueueHandle`]): one, or several in ascending order of the queues' ids
//!    ([`crate::queue::Burst`])
//! 4. the journal's input ([`crate::store::journal::Appender`])
//! 5. an inbox's lock (inside [`crate::queue::Inbox`]), a channel's window, the timers' entries, the maps, parameters, a host's
//!    policies and settings
//!
//! The sampler's own state (`stats::sampler`) is locked before all of these, by ticks alone. The list of what counted something, the
//! histories and the listeners of events are locked last, each by itself.
//!
//! A lock is only taken while holding those above it, never two of the same kind but queues'. A guard of a map is
//! dropped before a lock above it is taken. Nothing awaits or reads a file under one, and nothing waits for the
//! store but a declare that finds all reserved queue ids taken (`DefinitionStore::allocate_queue_id`). Changes
//! are handed to the store under the first lock, which only queues them, so that it keeps their order. Lock 0 is a queue of requests: who
//! imports definitions reads the catalogue while it is held, and nothing that serves clients takes it.

pub mod admin;
mod alarms;
mod clock;
mod courier;
mod direct;
pub mod events;
mod executor;
mod listing;
mod loader;
pub mod policies;
pub mod registry;
mod reply_to;
pub mod snapshots;
mod start;
pub mod stats;
#[cfg(test)]
mod tests;
mod timers;
mod topology;
mod vhost;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::RwLock;

pub use alarms::{AlarmReading, Alarms};
pub use clock::Clock;
pub use direct::{DirectConnection, Published};
pub use executor::{ConnectionExecutor, ConnectionOrigin, ReplySink};
pub use listing::BindingRow;
pub use start::{FirstBoot, StartError, StartReport};
pub use vhost::{ExchangeCell, Vhost, VhostLimits};

use crate::auth::Directory;
use crate::model::{ConnectionId, ConsumerId, Name, Now, QueueId, WallMs};
use crate::queue::{Effects, HotBudget, Keeping, QueueHandle};
use crate::store::Store;
use crate::store::definitions::{Change, DefinitionStore};
use crate::store::messages::MessageStore;
use admin::Administration;
use courier::Courier;
use events::Events;
use loader::Loader;
use registry::Registry;
use reply_to::ReplyConsumers;
use stats::Stats;
use timers::Timers;

/// Queues handled by the timer task before it lets others run.
const TIMEOUT_BATCH_QUEUES: usize = 256;

/// How often the timer task looks at the wall clock at least, while there are deadlines.
const CLOCK_CHECK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(60);

/// What the broker needs of the settings.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// Open connections, `None` for no limit.
    pub connections_max: Option<u64>,
    /// Queues on the node, `None` for no limit.
    pub queues_max: Option<u64>,
    /// Exchanges on the node, `None` for no limit.
    pub exchanges_max: Option<u64>,
    /// Whether shared queues may be transient (`deprecated_features.permit.transient_nonexcl_queues`).
    pub permit_transient_queues: bool,
    /// The type of queues where neither client nor virtual host names one.
    pub default_queue_kind: crate::queue::QueueKind,
    /// Bytes of messages that may wait in memory, read at start.
    pub cache_bytes_max: u64,
    /// Deliveries without acknowledgement for consumers of channels that set no `basic.qos`; `None` is no limit.
    pub default_consumer_prefetch: Option<u16>,
    /// Bytes of memory that the histories of statistics may take.
    pub stats_bytes_max: u64,
}

/// One node's broker.
pub struct Broker {
    settings: RwLock<Arc<BrokerSettings>>,
    alarms: Alarms,
    directory: Arc<Directory>,
    /// The data folder, whose parts follow.
    data: Arc<Store>,
    store: Arc<DefinitionStore>,
    messages: Arc<MessageStore>,
    /// What all queues may have in memory.
    budget: Arc<HotBudget>,
    loader: Loader,
    vhosts: DashMap<Name, Arc<Vhost>>,
    queues: DashMap<QueueId, QueueHandle>,
    administration: Administration,
    reply_consumers: ReplyConsumers,
    registry: Registry,
    timers: Timers,
    clock: Clock,
    stats: Arc<Stats>,
    events: Events,
    connection_last: AtomicU64,
    consumer_last: AtomicU64,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("vhosts", &self.vhosts.len())
            .field("queues", &self.queues.len())
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// The node's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The node's alarms.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Puts other settings to use for whatever comes next.
    pub fn reconfigure(&self, settings: BrokerSettings) {
        self.stats.set_bytes_max(settings.stats_bytes_max);
        *self.settings.write() = Arc::new(settings);
    }

    /// Connections that the node takes, `None` for no limit.
    pub fn connections_max(&self) -> Option<u64> {
        self.settings().connections_max
    }

    fn settings(&self) -> Arc<BrokerSettings> {
        Arc::clone(&self.settings.read())
    }

    /// What the node counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// What happens, for those who listen.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Users and permissions.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The open connections.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A virtual host by its exact name.
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.get(name).map(|entry| Arc::clone(entry.value()))
    }

    /// Queues on the node.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Exchanges on the node as RabbitMQ counts them for its limit: with the predeclared ones, and with the default
    /// exchange, which here is none.
    fn exchange_count(&self) -> u64 {
        self.vhosts
            .iter()
            .map(|entry| entry.value().exchanges.len() as u64 + 1)
            .sum()
    }

    /// Ready messages of all queues.
    pub fn message_count(&self) -> u64 {
        // Collected first, so that no guard of the map is held while a queue is locked.
        let handles: Vec<QueueHandle> = self.queues.iter().map(|q| q.value().clone()).collect();
        handles
            .iter()
            .filter_map(|handle| handle.counts().ok())
            .map(|counts| u64::from(counts.messages_ready))
            .sum()
    }

    /// Writes what is still to be written and closes the data folder; nothing is accepted afterwards.
    ///
    /// # Errors
    /// The last sync failed.
    pub fn close(&self) -> Result<(), crate::store::StoreError> {
        self.data.close()
    }

    /// The store of messages.
    pub fn messages(&self) -> &Arc<MessageStore> {
        &self.messages
    }

    /// Lets bodies go that can be read again, when the memory for them is used up: queues that nobody consumes from
    /// would keep it from those that are busy. Called now and then.
    pub fn relieve_memory(&self, now: Now) {
        if !self.budget.is_full() {
            return;
        }
        let mut courier = Courier::default();
        let handles: Vec<QueueHandle> = self.queues.iter().map(|q| q.value().clone()).collect();
        for handle in handles {
            // A queue deleted meanwhile holds nothing.
            let _ = handle.evict(&mut courier.effects);
            courier.carry_out(self, now);
            if self.budget.bytes() < self.budget.bytes_max() / 2 {
                return;
            }
        }
    }

    /// Waits until everything that was handed to the journal is synced and everything asked of the disk is read: for tests,
    /// which then find a broker at rest.
    ///
    /// # Errors
    /// The journal has failed.
    pub fn settle(&self) -> Result<(), crate::store::StoreError> {
        loop {
            self.messages.journal().flush()?;
            if self.loader.pending() == 0 {
                return Ok(());
            }
            std::thread::yield_now();
        }
    }

    /// Whether something asked of the disk has not been read yet.
    pub fn has_loads(&self) -> bool {
        self.loader.pending() > 0
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            store: Arc::clone(&self.messages),
            budget: Arc::clone(&self.budget),
            interval: Arc::clone(self.stats.touched.interval()),
        }
    }

    fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.connection_last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn next_consumer_id(&self) -> ConsumerId {
        ConsumerId(self.consumer_last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn queue(&self, id: QueueId) -> Option<QueueHandle> {
        self.queues.get(&id).map(|entry| entry.value().clone())
    }

    /// Makes changes durable that nobody waits for; a failure is logged once.
    fn store_in_background(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.store.apply_all(changes, |result| {
            if let Err(error) = result {
                tracing::error!(target: "haremq::store", %error, "a definition could not be stored");
            }
        });
    }

    /// Runs the queues' deadlines until the task is dropped.
    pub async fn run_timers(&self) {
        loop {
            let now = self.clock.now();
            match self.run_due_timers(now) {
                None => self.timers.earlier().await,
                Some(deadline_ms) if deadline_ms <= now.wall_ms => tokio::task::yield_now().await,
                Some(deadline_ms) => {
                    // A wall clock that is set ahead brings deadlines nearer, and wakes nobody.
                    let wait = std::time::Duration::from_millis(deadline_ms - now.wall_ms)
                        .min(CLOCK_CHECK_INTERVAL);
                    tokio::select! {
                        () = self.timers.earlier() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Runs the deadlines that have come by `now`, a bounded number of them. Gives the next one, which has come
    /// too if there were more.
    pub fn run_due_timers(&self, now: Now) -> Option<WallMs> {
        let mut courier = Courier::default();
        for id in self.timers.take_due(now.wall_ms, TIMEOUT_BATCH_QUEUES) {
            if let Some(handle) = self.queue(id) {
                let turn = AssertUnwindSafe(|| {
                    // A queue deleted meanwhile has no deadlines.
                    let _ = handle.handle_timeout(now, &mut courier.effects);
                    courier.carry_out(self, now);
                });
                // A defect stops the timers of one queue, not those of the node.
                if catch_unwind(turn).is_err() {
                    tracing::error!(
                        target: "haremq::queue",
                        queue = %handle.name(),
                        vhost = %handle.vhost(),
                        "a defect of the broker: the deadline of this queue could not be carried out"
                    );
                    courier = Courier::default();
                }
            }
        }
        self.timers.next_deadline_ms()
    }

    /// Ends the exclusive queues of a connection that is going.
    fn end_exclusive_queues(&self, queues: Vec<QueueId>, effects: &mut Effects) {
        for id in queues {
            self.end_queue(id, effects);
        }
    }
}
