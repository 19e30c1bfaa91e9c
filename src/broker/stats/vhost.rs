//! What a virtual host counts, beside its queues and connections: totals that outlive them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counter::Gauge;
use super::exchange::ExchangeStats;
use super::mark::Mark;
use super::measure::Shown;
use super::totals::{TotalCounts, Totals};

const fn shown(name: &'static str, parts: &'static [usize]) -> Shown {
    Shown { name, parts }
}

/// `message_stats` of a virtual host or the node, in the columns of [`total_values`].
pub const MESSAGE_STATS: [Shown; 14] = [
    shown("publish", &[0]),
    shown("confirm", &[1]),
    shown("return_unroutable", &[2]),
    shown("drop_unroutable", &[3]),
    shown("deliver", &[4]),
    shown("deliver_no_ack", &[5]),
    shown("get", &[6]),
    shown("get_no_ack", &[7]),
    shown("get_empty", &[8]),
    shown("redeliver", &[9]),
    shown("ack", &[10]),
    shown("deliver_get", &[4, 5, 6, 7]),
    shown("disk_reads", &[11]),
    shown("disk_writes", &[12]),
];

/// Octets, in the columns of [`total_values`].
pub const TRAFFIC: [Shown; 2] = [shown("recv_oct", &[13]), shown("send_oct", &[14])];

/// Messages in queues, in the columns of [`total_values`].
pub const LENGTHS: [Shown; 3] = [
    shown("messages", &[15, 16]),
    shown("messages_ready", &[15]),
    shown("messages_unacknowledged", &[16]),
];

/// Columns of [`total_values`].
pub const TOTAL_COLUMNS: usize = 17;

/// What is sampled of a virtual host, and of the node.
pub fn total_values(counts: &TotalCounts, (ready, unsettled): (u64, u64)) -> [u64; TOTAL_COLUMNS] {
    let all = counts.in_all();
    [
        counts.publish,
        counts.confirm,
        counts.return_unroutable,
        counts.drop_unroutable,
        all.deliver,
        all.deliver_no_ack,
        all.get,
        all.get_no_ack,
        all.get_empty,
        all.redeliver,
        all.ack,
        counts.disk_reads,
        counts.disk_writes,
        counts.received_octets,
        counts.sent_octets,
        ready,
        unsettled,
    ]
}

static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// The counters of a virtual host.
#[derive(Debug)]
pub struct VhostStats {
    /// Tells it from every other host since the start.
    pub id: u64,
    /// What its connections counted.
    pub totals: Totals,
    /// Of its default exchange.
    pub default_exchange: Arc<ExchangeStats>,
    /// Ready messages at the last tick.
    pub(super) ready: Gauge,
    /// Unsettled messages at the last tick.
    pub(super) unsettled: Gauge,
    pub(super) mark: Mark,
}

impl Default for VhostStats {
    fn default() -> Self {
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
            totals: Totals::default(),
            default_exchange: Arc::default(),
            ready: Gauge::default(),
            unsettled: Gauge::default(),
            mark: Mark::default(),
        }
    }
}

impl VhostStats {
    /// What is sampled, with these numbers of ready and unsettled messages.
    pub fn values(&self, messages: (u64, u64)) -> [u64; TOTAL_COLUMNS] {
        total_values(&self.totals.counts(), messages)
    }
}
