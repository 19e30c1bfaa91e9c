//! What the node counts beside its messages: churn, logins, dead letters, and what its shell reads of the system.

use super::counter::Counter;
use super::measure::Shown;
use super::vhost::TOTAL_COLUMNS;
use crate::model::{DeathReason, QueueKind};
use crate::queue::{DeathStrategy, DeathTally};

const fn shown(name: &'static str, parts: &'static [usize]) -> Shown {
    Shown { name, parts }
}

/// Columns of [`Churn::values`].
pub const CHURN_COLUMNS: usize = 7;

/// What came and went.
#[derive(Debug, Default)]
pub struct Churn {
    /// Connections that opened a virtual host.
    pub connections_created: Counter,
    /// Those of them that ended.
    pub connections_closed: Counter,
    /// Channels opened.
    pub channels_created: Counter,
    /// Channels ended.
    pub channels_closed: Counter,
    /// Declares of queues, new or there already.
    pub queues_declared: Counter,
    /// New queues.
    pub queues_created: Counter,
    /// Queues that ended.
    pub queues_deleted: Counter,
}

impl Churn {
    /// The numbers, in the order of [`CHURN`].
    pub fn values(&self) -> [u64; CHURN_COLUMNS] {
        [
            self.connections_created.get(),
            self.connections_closed.get(),
            self.channels_created.get(),
            self.channels_closed.get(),
            self.queues_declared.get(),
            self.queues_created.get(),
            self.queues_deleted.get(),
        ]
    }
}

const C: usize = TOTAL_COLUMNS;

/// `churn_rates` of the overview, in the columns of the node.
pub const CHURN: [Shown; CHURN_COLUMNS] = [
    shown("connection_created", &[C]),
    shown("connection_closed", &[C + 1]),
    shown("channel_created", &[C + 2]),
    shown("channel_closed", &[C + 3]),
    shown("queue_declared", &[C + 4]),
    shown("queue_created", &[C + 5]),
    shown("queue_deleted", &[C + 6]),
];

const G: usize = C + CHURN_COLUMNS;

/// Columns of [`NodeReading`], with the journal's.
pub const GAUGE_COLUMNS: usize = 8;

/// The node's gauges, in the columns of the node.
pub const GAUGES: [Shown; GAUGE_COLUMNS] = [
    shown("mem_used", &[G]),
    shown("disk_free", &[G + 1]),
    shown("fd_used", &[G + 2]),
    shown("sockets_used", &[G + 3]),
    shown("proc_used", &[G + 4]),
    shown("io_write_bytes", &[G + 5]),
    shown("io_write_count", &[G + 6]),
    shown("io_sync_count", &[G + 7]),
];

/// Columns that are sampled of the node.
pub const NODE_COLUMNS: usize = G + GAUGE_COLUMNS;

/// What the shell reads of the system, at each tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReading {
    /// Bytes of memory in use.
    pub memory_used_bytes: u64,
    /// Bytes above which the alarm goes on.
    pub memory_limit_bytes: u64,
    /// Bytes of free disk.
    pub disk_free_bytes: u64,
    /// Bytes of free disk below which the alarm goes on.
    pub disk_limit_bytes: u64,
    /// Open files.
    pub files: u64,
    /// Files that may be open.
    pub files_max: u64,
    /// Tasks.
    pub tasks: u64,
}

/// Protocols that log in, as `/api/auth/attempts` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// AMQP 0-9-1.
    Amqp091,
    /// The HTTP API.
    Http,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Amqp091, Self::Http];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amqp091 => "amqp091",
            Self::Http => "http",
        }
    }
}

#[derive(Debug, Default)]
struct Attempts {
    succeeded: Counter,
    failed: Counter,
}

/// Logins, by protocol.
#[derive(Debug, Default)]
pub struct Auth([Attempts; Protocol::ALL.len()]);

/// Logins of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthAttempts {
    /// The protocol.
    pub protocol: Protocol,
    /// Those that were let in.
    pub succeeded: u64,
    /// Those that were not.
    pub failed: u64,
}

impl Auth {
    /// Somebody was let in.
    pub fn succeeded(&self, protocol: Protocol) {
        self.0[protocol as usize].succeeded.add(1);
    }

    /// Somebody was not.
    pub fn failed(&self, protocol: Protocol) {
        self.0[protocol as usize].failed.add(1);
    }

    /// The numbers.
    pub fn attempts(&self) -> [AuthAttempts; Protocol::ALL.len()] {
        Protocol::ALL.map(|protocol| {
            let attempts = &self.0[protocol as usize];
            AuthAttempts {
                protocol,
                succeeded: attempts.succeeded.get(),
                failed: attempts.failed.get(),
            }
        })
    }

    /// Begins to count anew.
    pub fn reset(&self) {
        for attempts in &self.0 {
            attempts.succeeded.set(0);
            attempts.failed.set(0);
        }
    }
}

/// Messages that left queues by the back door, by kind of queue, strategy and reason, and how many of them have arrived for sure.
#[derive(Debug, Default)]
pub struct Deaths {
    died: [[[Counter; DeathReason::ALL.len()]; DeathStrategy::ALL.len()]; QueueKind::ALL.len()],
    /// Dead letters of quorum queues that every target has confirmed.
    pub confirmed: Counter,
}

impl Deaths {
    /// Adds what queues counted.
    pub fn add(&self, tally: &DeathTally) {
        for (kind, strategy, reason, count) in tally.counts() {
            self.died[kind.index()][strategy.index()][reason.index()].add(count.into());
        }
    }

    /// How many died so.
    pub fn count(&self, kind: QueueKind, strategy: DeathStrategy, reason: DeathReason) -> u64 {
        self.died[kind.index()][strategy.index()][reason.index()].get()
    }
}
