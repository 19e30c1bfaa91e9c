//! Exchanges and virtual hosts: sums over what passed through them.

use crate::broker::stats::exchange;
use crate::broker::stats::vhost::{LENGTHS, MESSAGE_STATS, TRAFFIC};
use crate::broker::stats::{ExchangeStats, Key, Measure, Ranges};
use crate::broker::{Broker, Vhost};
use crate::queue::QueueHandle;

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
