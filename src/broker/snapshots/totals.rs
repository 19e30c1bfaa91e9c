//! Exchanges and virtual hosts: sums over what passed through them.

use std::sync::Arc;

use crate::broker::stats::exchange;
use crate::broker::stats::vhost::{LENGTHS, MESSAGE_STATS, TRAFFIC};
use crate::broker::stats::{ExchangeStats, Key, Measure, Ranges};
use crate::broker::vhost::ExchangeCell;
use crate::broker::{Broker, Vhost};
use crate::model::Name;
use crate::queue::QueueHandle;
use crate::routing::ExchangeKind;

/// A virtual host, apart from what it was declared as.
#[derive(Clone, Debug, PartialEq)]
pub struct VhostReport {
    /// `messages`, `messages_ready`, `messages_unacknowledged`.
    pub lengths: Vec<Measure>,
    /// What was counted in it; empty if it never saw a message.
    pub message_stats: Vec<Measure>,
    /// `recv_oct`, `send_oct`.
    pub traffic: Vec<Measure>,
}

/// An exchange with what it counted.
#[derive(Clone, Debug)]
pub struct ExchangeStatsRow {
    /// Its virtual host.
    pub vhost: Name,
    /// Its name; empty for the default exchange.
    pub name: Name,
    /// Its type.
    pub kind: &'static str,
    /// Bindings that start from it.
    pub bindings: usize,
    /// What it counted.
    pub stats: Arc<ExchangeStats>,
}

impl Vhost {
    /// Its exchanges by name, the default exchange among them.
    pub fn exchange_stats_rows(&self) -> Vec<ExchangeStatsRow> {
        // Collected first, so that no guard of the map is held while an exchange is locked.
        let cells: Vec<Arc<ExchangeCell>> =
            self.exchanges.iter().map(|x| x.value().clone()).collect();
        let mut rows = vec![ExchangeStatsRow {
            vhost: Arc::clone(&self.name),
            name: Name::from(""),
            kind: ExchangeKind::Direct.as_str(),
            // One for each queue, by its name.
            bindings: self.queues.len(),
            stats: Arc::clone(&self.stats.default_exchange),
        }];
        rows.extend(cells.iter().map(|cell| {
            cell.read(|exchange| ExchangeStatsRow {
                vhost: Arc::clone(&self.name),
                name: Arc::clone(&exchange.definition().name),
                kind: exchange.definition().kind.as_str(),
                bindings: exchange.bindings().len(),
                stats: Arc::clone(cell.stats()),
            })
        }));
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }
}

/// Ready and unsettled messages in all of these queues.
pub(super) fn messages_in(queues: impl Iterator<Item = QueueHandle>) -> (u64, u64) {
    let counted = queues.filter_map(|queue| queue.snapshot().ok());
    counted.fold((0, 0), |(ready, unsettled), queue| {
        (
            ready + queue.messages_ready,
            unsettled + queue.messages_unsettled,
        )
    })
}

impl Broker {
    /// The virtual hosts, by name.
    pub fn vhost_list(&self) -> Vec<Arc<Vhost>> {
        let mut vhosts: Vec<_> = self.vhosts.iter().map(|v| v.value().clone()).collect();
        vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        vhosts
    }

    /// Bytes of messages in memory, and how many there may be.
    pub fn message_memory(&self) -> (u64, u64) {
        (self.budget.bytes(), self.budget.bytes_max())
    }

    /// `publish_in` and `publish_out` of an exchange; nothing if nobody ever published to it.
    pub fn exchange_stats(&self, exchange: &ExchangeStats, ranges: &Ranges) -> Vec<Measure> {
        self.stats.measure_unless_unused(
            Key::Exchange(exchange.id),
            &exchange::SHOWN,
            &exchange.values(),
            ranges.msg_rates,
            self.clock.now().wall_ms,
        )
    }

    /// A virtual host.
    pub fn vhost_snapshot(&self, vhost: &Vhost, ranges: &Ranges) -> VhostReport {
        // Collected first, so that no guard of the map is held while a queue is locked.
        let queues: Vec<QueueHandle> = vhost.queues.iter().map(|q| q.value().clone()).collect();
        let values = vhost.stats.values(messages_in(queues.into_iter()));
        let now_ms = self.clock.now().wall_ms;
        let key = Key::Vhost(vhost.stats.id);
        VhostReport {
            lengths: self
                .stats
                .measure(key, &LENGTHS, &values, ranges.lengths, now_ms),
            message_stats: self.stats.measure_unless_unused(
                key,
                &MESSAGE_STATS,
                &values,
                ranges.msg_rates,
                now_ms,
            ),
            traffic: self
                .stats
                .measure(key, &TRAFFIC, &values, ranges.data_rates, now_ms),
        }
    }
}
