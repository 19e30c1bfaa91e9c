//! What the node counts: where, by whom, and what is remembered of it.
//!
//! In: reports of connections, once a turn; effects of queues, once a burst; a tick every five seconds. Out: numbers at any
//! time, each read by itself, with their rates and their past. Nothing here stops whoever counts: counters are plain
//! atomics, written by one writer where there is one.
//!
//! - [`counter`], [`totals`], [`connection`], [`exchange`], [`vhost`], [`node`]: the counters.
//! - [`mark`]: which objects counted something since the last tick.
//! - [`history`], [`histories`]: what is remembered; `measure`: how it is told.
//! - [`sampler`]: the tick.

pub mod connection;
pub mod counter;
pub mod exchange;
pub mod histories;
pub mod history;
pub mod mark;
pub mod measure;
pub mod node;
pub mod sampler;
pub mod totals;
pub mod vhost;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

pub use connection::{ChannelGauges, ChannelStats, ConnectionStats};
pub use exchange::ExchangeStats;
pub use histories::Key;
pub use measure::{BadRange, Measure, Range, Ranges, Sample, Samples};
pub use node::{AuthAttempts, NodeReading, Protocol};
pub use sampler::SampleReport;
pub use totals::{SIZE_BUCKETS, TotalCounts};
pub use vhost::VhostStats;

use histories::Histories;
use history::TICK_S;
use mark::{Object, TouchedList};
use measure::{LastTick, Shown, measure};
use node::{Auth, Churn, Deaths};
use sampler::Standing;
use totals::Totals;

use crate::model::WallMs;

/// Everything that the node counts, queues' own counters apart.
#[derive(Debug)]
pub struct Stats {
    /// Of all connections.
    pub totals: Totals,
    /// What came and went.
    pub churn: Churn,
    /// Logins.
    pub auth: Auth,
    /// Messages that left by the back door.
    pub deaths: Deaths,
    pub(super) touched: TouchedList,
    histories: Histories,
    standing: Mutex<Standing>,
    last: RwLock<LastTick>,
    reading: RwLock<NodeReading>,
    bytes_max: AtomicU64,
    started_ms: WallMs,
}

impl Stats {
    /// Nothing counted yet. `bytes_max` bounds the memory of all histories.
    pub fn new(bytes_max: u64, now_ms: WallMs) -> Self {
        Self {
            totals: Totals::default(),
            churn: Churn::default(),
            auth: Auth::default(),
            deaths: Deaths::default(),
            touched: TouchedList::default(),
            histories: Histories::default(),
            standing: Mutex::default(),
            last: RwLock::default(),
            reading: RwLock::default(),
            bytes_max: AtomicU64::new(bytes_max),
            started_ms: now_ms,
        }
    }

    /// Sets the bound of memory of all histories, in bytes, from the next tick on.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// When the node started, in milliseconds since the Unix epoch.
    pub fn started_ms(&self) -> WallMs {
        self.started_ms
    }

    /// What the shell read at the last tick.
    pub fn reading(&self) -> NodeReading {
        *self.reading.read()
    }

    /// Tells what the shell read, between ticks.
    pub fn set_reading(&self, reading: NodeReading) {
        *self.reading.write() = reading;
    }

    /// Bytes of memory that histories take.
    pub fn history_bytes(&self) -> u64 {
        self.histories.bytes()
    }

    /// Objects that have a history.
    pub fn history_count(&self) -> usize {
        self.histories.len()
    }

    /// Forgets the past; counters stay.
    pub fn forget_histories(&self) {
        self.histories.clear();
    }

    /// An object is gone.
    pub(super) fn forget(&self, key: Key) {
        self.histories.forget(key);
    }

    /// An exchange counted something.
    pub(super) fn touch_exchange(&self, exchange: &Arc<ExchangeStats>) {
        let object = || Object::Exchange(Arc::clone(exchange));
        self.touched.touch(&exchange.mark, object);
    }

    /// A virtual host counted something.
    pub(super) fn touch_vhost(&self, vhost: &Arc<VhostStats>) {
        let object = || Object::Vhost(Arc::clone(vhost));
        self.touched.touch(&vhost.mark, object);
    }

    /// A connection counted something.
    pub(super) fn touch_connection(&self, connection: &Arc<ConnectionStats>) {
        let object = || Object::Connection(Arc::clone(connection));
        self.touched.touch(&connection.mark, object);
    }

    /// A channel counted something.
    pub(super) fn touch_channel(&self, channel: &Arc<ChannelStats>) {
        let object = || Object::Channel(Arc::clone(channel));
        self.touched.touch(&channel.mark, object);
    }

    /// When an object's numbers changed last as far as ticks have seen, in milliseconds since the Unix epoch.
    pub(super) fn last_change_ms(&self, key: Key) -> Option<WallMs> {
        self.histories
            .see(key, |history| Some(history?.last_tick() * TICK_S * 1_000))
    }

    /// The numbers of an object, `live` being its values now.
    pub(super) fn measure(
        &self,
        key: Key,
        shown: &[Shown],
        live: &[u64],
        range: Option<Range>,
        now_ms: WallMs,
    ) -> Vec<Measure> {
        let last = *self.last.read();
        // A tick may be a little ahead of the clock that was asked before it.
        let now_ms = now_ms.max(last.tick * TICK_S * 1_000);
        self.histories.see(key, |history| {
            measure(shown, live, history, range, last, now_ms)
        })
    }

    /// As [`Stats::measure`], but nothing if all of it is 0: the object never counted anything.
    pub(super) fn measure_unless_unused(
        &self,
        key: Key,
        shown: &[Shown],
        live: &[u64],
        range: Option<Range>,
        now_ms: WallMs,
    ) -> Vec<Measure> {
        if shown.iter().all(|shown| shown.of(live) == 0) {
            return Vec::new();
        }
        self.measure(key, shown, live, range, now_ms)
    }
}
