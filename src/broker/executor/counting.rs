//! What a connection counts, and when it tells: plain numbers while it works, atomics once a turn.
//!
//! In: publishes and settlements as they pass, the session's reports. Out: the counters of the connection, its channels, its
//! virtual host, the exchanges that it used and the node. Queues count for themselves.

use std::sync::Arc;

use super::super::events::EventKind;
use super::super::stats::connection::Described;
use super::super::stats::totals::Tally;
use super::super::stats::{ConnectionStats, ExchangeStats};
use super::super::vhost::Vhost;
use super::ConnectionExecutor;
use crate::model::{
    ChannelInfo, ConnectionInfo, ConnectionProgress, Name, QueueKind, SettlementOutcome, Traffic,
};

/// Exchanges that a connection remembers with what they counted.
const EXCHANGES_MAX: usize = 16;

/// What one exchange counted since the last report.
#[derive(Debug)]
struct ExchangeCount {
    name: Name,
    stats: Arc<ExchangeStats>,
    publishes: u32,
    routed: u32,
}

/// What a connection counted since its last report.
#[derive(Debug, Default)]
pub(super) struct Counting {
    tally: Tally,
    traffic: Traffic,
    receives: u32,
    sends: u32,
    /// Messages that queues wrote to their logs.
    logged: u64,
    /// The default exchange has no name that could be compared by its address.
    default_exchange: (u32, u32),
    /// The one used last is the last.
    exchanges: Vec<ExchangeCount>,
}

impl Counting {
    /// A publish to `exchange` was routed to so many queues.
    pub(super) fn published(&mut self, vhost: &Vhost, exchange: &Name, bytes: usize, routed: u32) {
        self.tally.observe(bytes);
        self.tally.routed += routed;
        if exchange.is_empty() {
            self.default_exchange.0 += 1;
            self.default_exchange.1 += routed;
            return;
        }
        let is_last = |last: &ExchangeCount| Arc::ptr_eq(&last.name, exchange);
        if !self.exchanges.last().is_some_and(is_last) {
            self.bring_up(vhost, exchange);
        }
        if let Some(last) = self.exchanges.last_mut()
            && Arc::ptr_eq(&last.name, exchange)
        {
            last.publishes += 1;
            last.routed += routed;
        }
    }

    /// Settlements of a queue of this kind are handed over.
    pub(super) fn settled<'a>(
        &mut self,
        kind: QueueKind,
        outcomes: impl Iterator<Item = &'a SettlementOutcome>,
    ) {
        let acks = outcomes.filter(|outcome| **outcome == SettlementOutcome::Acked);
        self.tally.acks[kind.index()] += acks.count() as u32;
    }

    /// Queues wrote so many messages to their logs.
    pub(super) fn logged(&mut self, messages: u64) {
        self.logged += messages;
    }

    /// Forgets the exchanges; what they counted was reported.
    pub(super) fn release(&mut self) {
        if self.exchanges.iter().all(|count| count.publishes == 0) {
            self.exchanges = Vec::new();
        }
    }

    /// Puts an exchange at the end of the list.
    fn bring_up(&mut self, vhost: &Vhost, exchange: &Name) {
        let known = self
            .exchanges
            .iter()
            .position(|count| Arc::ptr_eq(&count.name, exchange));
        if let Some(index) = known {
            let end = self.exchanges.len() - 1;
            self.exchanges.swap(index, end);
            return;
        }
        let Some(cell) = vhost.exchange_cell(exchange) else {
            return;
        };
        if self.exchanges.len() >= EXCHANGES_MAX {
            let oldest = self.exchanges.swap_remove(0);
            oldest.stats.publish_in.add(oldest.publishes.into());
            oldest.stats.publish_out.add(oldest.routed.into());
        }
        self.exchanges.push(ExchangeCount {
            name: Arc::clone(exchange),
            stats: Arc::clone(cell.stats()),
            publishes: 0,
            routed: 0,
        });
    }
}

impl ConnectionExecutor {
    /// The connection, for readers.
    pub fn stats(&self) -> &Arc<ConnectionStats> {
        &self.stats
    }

    /// Octets came from the socket.
    pub fn note_receive(&mut self) {
        self.counting.receives += 1;
    }

    /// Octets went to the socket.
    pub fn note_send(&mut self) {
        self.counting.sends += 1;
    }

    pub(super) fn describe_now(&mut self, info: ConnectionInfo) {
        let (Some(user), Some(opened)) = (&self.user, &self.opened) else {
            return;
        };
        self.stats.describe(Described {
            user: Arc::clone(&user.name),
            vhost: Arc::clone(&opened.vhost.name),
            info,
            connected_at_ms: self.now.wall_ms,
        });
        self.broker.tell(
            EventKind::ConnectionCreated,
            Some(&opened.vhost.name),
            self.stats.name(),
        );
    }

    pub(super) fn report_channel_now(&mut self, info: &ChannelInfo, traffic: &Traffic) {
        self.counting.traffic.add(traffic);
        let Some(context) = self.channels.get_mut(&info.number) else {
            return;
        };
        self.counting.tally.get_empty[context.last_get.index()] += traffic.get_empty;
        if let Some(stats) = &context.stats {
            stats.report(info, traffic, self.now.wall_ms);
            self.broker.stats.touch_channel(stats);
        }
        if traffic.publish > 0
            && !std::mem::replace(&mut context.is_publisher, true)
            && let Some(opened) = &self.opened
        {
            opened.vhost.stats.totals.publishers.add(1);
            self.broker.stats.totals.publishers.add(1);
        }
    }

    pub(super) fn report_connection_now(&mut self, progress: &ConnectionProgress) {
        let counting = &mut self.counting;
        let receives = std::mem::take(&mut counting.receives);
        let sends = std::mem::take(&mut counting.sends);
        let (received, sent) = self.stats.report(
            progress.state,
            (progress.received_octets, progress.sent_octets),
            (receives, sends),
            progress.pending_octets,
        );
        let Some(opened) = &self.opened else {
            return;
        };
        let mut traffic = std::mem::take(&mut counting.traffic);
        traffic.add(&progress.departed);
        counting.tally.get_empty[0] += progress.departed.get_empty;
        let tally = std::mem::take(&mut counting.tally);
        let logged = std::mem::take(&mut counting.logged);
        let vhost = &opened.vhost.stats;
        for totals in [&vhost.totals, &self.broker.stats.totals] {
            totals.add_traffic(self.id.0, &traffic);
            totals.add_tally(self.id.0, &tally);
            totals.add_octets(self.id.0, (received, sent), (receives, sends));
            totals.disk_writes.add(logged);
        }
        if received + sent > 0 {
            self.broker.stats.touch_connection(&self.stats);
            self.broker.stats.touch_vhost(vhost);
        }
        let (publishes, routed) = std::mem::take(&mut counting.default_exchange);
        if publishes > 0 {
            vhost.default_exchange.publish_in.add(publishes.into());
            vhost.default_exchange.publish_out.add(routed.into());
            self.broker.stats.touch_exchange(&vhost.default_exchange);
        }
        for count in &mut counting.exchanges {
            if count.publishes > 0 {
                let publishes = std::mem::take(&mut count.publishes);
                count.stats.publish_in.add(publishes.into());
                let routed = std::mem::take(&mut count.routed);
                count.stats.publish_out.add(routed.into());
                self.broker.stats.touch_exchange(&count.stats);
            }
        }
    }
}
