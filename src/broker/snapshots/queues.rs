//! Queues.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::stats::measure::Shown;
use crate::broker::stats::sampler::queue_values;
use crate::broker::stats::{Key, Measure, Ranges};
use crate::model::{Name, WallMs};
use crate::queue::{ConsumerActivity, QueueHandle, QueueSnapshot};

const fn shown(name: &'static str, parts: &'static [usize]) -> Shown {
    Shown { name, parts }
}

/// `message_stats` of a queue, in the columns of [`queue_values`].
pub const MESSAGE_STATS: [Shown; 11] = [
    shown("publish", &[0]),
    shown("deliver", &[1]),
    shown("deliver_no_ack", &[2]),
    shown("get", &[3]),
    shown("get_no_ack", &[4]),
    shown("get_empty", &[5]),
    shown("redeliver", &[6]),
    shown("ack", &[7]),
    shown("deliver_get", &[1, 2, 3, 4]),
    shown("disk_reads", &[8]),
    shown("disk_writes", &[9]),
];

/// Messages in a queue, in the columns of [`queue_values`].
pub const LENGTHS: [Shown; 3] = [
    shown("messages", &[10, 11]),
    shown("messages_ready", &[10]),
    shown("messages_unacknowledged", &[11]),
];

/// Bytes that an empty queue takes, about.
const QUEUE_BYTES: u64 = 2_048;

/// How long a queue may count nothing before it is called idle, in milliseconds.
const IDLE_AFTER_MS: u64 = 5_000;

/// A queue, apart from what it was declared as.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// `running`.
    pub state: &'static str,
    /// `messages`, `messages_ready`, `messages_unacknowledged`.
    pub lengths: Vec<Measure>,
    /// Messages in memory.
    pub messages_ram: u64,
    /// Ready ones among them.
    pub messages_ready_ram: u64,
    /// Unsettled ones among them.
    pub messages_unacknowledged_ram: u64,
    /// Messages that the log of a durable queue has.
    pub messages_persistent: u64,
    /// Ready messages that only the log has.
    pub messages_paged_out: u64,
    /// Returns that wait before they are ready again.
    pub messages_delayed: u64,
    /// Dead letters that have not arrived.
    pub messages_dlx: u64,
    /// Bytes of all bodies.
    pub message_bytes: u64,
    /// Of the ready messages.
    pub message_bytes_ready: u64,
    /// Of the unsettled ones.
    pub message_bytes_unacknowledged: u64,
    /// Of those in memory.
    pub message_bytes_ram: u64,
    /// Of those that the log has: their share of all bytes.
    pub message_bytes_persistent: u64,
    /// Of the ready ones that only the log has.
    pub message_bytes_paged_out: u64,
    /// Of the dead letters that have not arrived.
    pub message_bytes_dlx: u64,
    /// Consumers.
    pub consumers: u64,
    /// How much of the time they could take another message, from 0 to 1.
    pub consumer_capacity: f64,
    /// The tag of the consumer that consumes exclusively.
    pub exclusive_consumer_tag: Option<Name>,
    /// The tag of the single active consumer.
    pub single_active_consumer_tag: Option<Name>,
    /// Since when it counts nothing, if it does not.
    pub idle_since_ms: Option<WallMs>,
    /// `timestamp` of the next message, in seconds since the Unix epoch.
    pub head_message_timestamp: Option<u64>,
    /// Bytes of memory, about.
    pub memory: u64,
    /// What it counted; empty if it never saw a message.
    pub message_stats: Vec<Measure>,
    /// Everything else.
    pub snapshot: QueueSnapshot,
}

impl Broker {
    /// Every queue of the node.
    pub fn queue_handles(&self) -> Vec<QueueHandle> {
        self.queues.iter().map(|q| q.value().clone()).collect()
    }

    /// A queue; `None` if it is gone.
    pub fn queue_snapshot(&self, queue: &QueueHandle, ranges: &Ranges) -> Option<QueueReport> {
        let (snapshot, logged) = queue.report().ok()?;
        let now = self.clock.now();
        let values = queue_values(&snapshot);
        let key = Key::Queue(queue.id().0);
        let measure =
            |shown: &[Shown], range| self.stats.measure(key, shown, &values, range, now.wall_ms);
        let ready_ram = snapshot.messages_in_memory;
        let unsettled_ram = snapshot.messages_unsettled_in_memory;
        let inside = snapshot.messages_ready + snapshot.messages_unsettled;
        let bytes = snapshot.message_bytes_ready + snapshot.message_bytes_unsettled;
        let persistent = if queue.declaration().durable {
            logged.min(inside + snapshot.messages_delayed)
        } else {
            0
        };
        let share = |part: u64, of: u64, bytes: u64| match of {
            0 => 0,
            of => (u128::from(bytes) * u128::from(part.min(of)) / u128::from(of)) as u64,
        };
        let unsettled_bytes_ram = share(
            unsettled_ram,
            snapshot.messages_unsettled,
            snapshot.message_bytes_unsettled,
        );
        let (exclusive, single_active) = single_consumers(queue, &snapshot);
        let last_use_ms = self.last_use_ms(key, &snapshot);
        let is_idle = now.wall_ms.saturating_sub(last_use_ms) >= IDLE_AFTER_MS;
        Some(QueueReport {
            state: "running",
            lengths: measure(&LENGTHS, ranges.lengths),
            messages_ram: ready_ram + unsettled_ram,
            messages_ready_ram: ready_ram,
            messages_unacknowledged_ram: unsettled_ram,
            messages_persistent: persistent,
            messages_paged_out: snapshot.messages_paged,
            messages_delayed: snapshot.messages_delayed,
            messages_dlx: snapshot.messages_retained,
            message_bytes: bytes,
            message_bytes_ready: snapshot.message_bytes_ready,
            message_bytes_unacknowledged: snapshot.message_bytes_unsettled,
            message_bytes_ram: snapshot.message_bytes_ready_in_memory + unsettled_bytes_ram,
            message_bytes_persistent: share(persistent, inside, bytes),
            message_bytes_paged_out: snapshot
                .message_bytes_ready
                .saturating_sub(snapshot.message_bytes_ready_in_memory),
            message_bytes_dlx: snapshot.message_bytes_retained,
            consumers: snapshot.consumers,
            consumer_capacity: if snapshot.consumers == 0 {
                0.0
            } else {
                snapshot.capacity.share(now.wall_ms)
            },
            exclusive_consumer_tag: exclusive,
            single_active_consumer_tag: single_active,
            idle_since_ms: is_idle.then_some(last_use_ms),
            head_message_timestamp: snapshot.head_timestamp_s,
            memory: QUEUE_BYTES + snapshot.message_bytes_in_memory,
            message_stats: self.stats.measure_unless_unused(
                key,
                &MESSAGE_STATS,
                &values,
                ranges.msg_rates,
                now.wall_ms,
            ),
            snapshot,
        })
    }

    /// When the queue was used last, or counted something that was seen at a tick.
    fn last_use_ms(&self, key: Key, snapshot: &QueueSnapshot) -> WallMs {
        let sampled_ms = self.stats.last_change_ms(key).unwrap_or(0);
        snapshot.last_use_ms.max(sampled_ms)
    }
}

/// The tags of the consumer that consumes exclusively, and of the single active one.
fn single_consumers(queue: &QueueHandle, snapshot: &QueueSnapshot) -> (Option<Name>, Option<Name>) {
    let is_single_active = queue.declaration().settings.single_active_consumer;
    if !snapshot.has_exclusive_consumer && !is_single_active {
        return (None, None);
    }
    let consumers = queue.consumers().unwrap_or_default();
    let exclusive = consumers.iter().find(|consumer| consumer.exclusive);
    let active = consumers
        .iter()
        .find(|consumer| consumer.activity == ConsumerActivity::SingleActive);
    (
        exclusive.map(|consumer| Arc::clone(&consumer.tag)),
        active.map(|consumer| Arc::clone(&consumer.tag)),
    )
}
