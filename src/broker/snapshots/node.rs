//! The node as a whole.

use super::totals::messages_in;
use crate::broker::Broker;
use crate::broker::stats::node::{CHURN, GAUGES};
use crate::broker::stats::vhost::{LENGTHS, MESSAGE_STATS};
use crate::broker::stats::{AuthAttempts, Key, Measure, NodeReading, Ranges};

/// How many objects there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectTotals {
    /// Connections with an open virtual host.
    pub connections: usize,
    /// Their channels.
    pub channels: usize,
    /// Consumers of all queues.
    pub consumers: u64,
    /// Queues.
    pub queues: usize,
    /// Exchanges, the default ones among them.
    pub exchanges: u64,
}

/// What `/api/overview` shows of messages and objects.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// `messages`, `messages_ready`, `messages_unacknowledged`.
    pub queue_totals: Vec<Measure>,
    /// What all connections counted; empty if there never was a message.
    pub message_stats: Vec<Measure>,
    /// What came and went.
    pub churn_rates: Vec<Measure>,
    /// How many objects there are.
    pub object_totals: ObjectTotals,
}

/// What `/api/nodes` shows of the machine and the process.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// Since the start, in milliseconds.
    pub uptime_ms: u64,
    /// The last reading of the system, for the limits.
    pub reading: NodeReading,
    /// Whether the memory alarm is on.
    pub mem_alarm: bool,
    /// Whether the disk alarm is on.
    pub disk_free_alarm: bool,
    /// Cores.
    pub processors: usize,
    /// The process.
    pub os_pid: u32,
    /// `mem_used`, `disk_free`, `fd_used`, `sockets_used`, `proc_used`, `io_*`.
    pub gauges: Vec<Measure>,
    /// What came and went.
    pub churn_rates: Vec<Measure>,
}

impl Broker {
    /// Messages and objects of the node.
    pub fn overview(&self, ranges: &Ranges) -> Overview {
        let values = self.node_values(messages_in(self.queue_handles().into_iter()));
        let now_ms = self.clock.now().wall_ms;
        let measure = |shown, range| self.stats.measure(Key::Node, shown, &values, range, now_ms);
        Overview {
            queue_totals: measure(&LENGTHS, ranges.lengths),
            message_stats: self.stats.measure_unless_unused(
                Key::Node,
                &MESSAGE_STATS,
                &values,
                ranges.msg_rates,
                now_ms,
            ),
            churn_rates: measure(&CHURN, ranges.lengths),
            object_totals: self.object_totals(),
        }
    }

    /// How many objects there are.
    pub fn object_totals(&self) -> ObjectTotals {
        let connections = self.connections();
        let queues = self.queue_handles();
        let consumers = queues.iter().filter_map(|queue| queue.counts().ok());
        ObjectTotals {
            connections: connections.len(),
            channels: connections.iter().map(|c| c.channel_count()).sum(),
            consumers: consumers.map(|counts| u64::from(counts.consumers)).sum(),
            queues: queues.len(),
            exchanges: self.exchange_count(),
        }
    }

    /// The machine and the process.
    pub fn node(&self, ranges: &Ranges) -> NodeReport {
        let values = self.node_values((0, 0));
        let now_ms = self.clock.now().wall_ms;
        let measure = |shown, range| self.stats.measure(Key::Node, shown, &values, range, now_ms);
        NodeReport {
            uptime_ms: now_ms.saturating_sub(self.stats.started_ms()),
            reading: self.stats.reading(),
            mem_alarm: self.alarms.is_memory_low(),
            disk_free_alarm: self.alarms.is_disk_low(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            os_pid: std::process::id(),
            gauges: measure(&GAUGES, ranges.node_stats),
            churn_rates: measure(&CHURN, ranges.node_stats),
        }
    }

    /// Logins since the start, or since they were reset.
    pub fn auth_attempts(&self) -> Vec<AuthAttempts> {
        self.stats.auth.attempts().to_vec()
    }
}
