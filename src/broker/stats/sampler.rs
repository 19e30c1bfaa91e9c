//! The tick: visits what counted something since the last one, and remembers its values.
//!
//! In: the time, what the shell read of the system. Out: rows in histories, and how much was visited: that depends on what was
//! busy, not on what exists.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::histories::Key;
use super::history::{GLOBAL, OBJECT, TICK_S, Tick};
use super::mark::{Object, Touched};
use super::measure::LastTick;
use super::node::{NODE_COLUMNS, NodeReading};
use super::vhost::{VhostStats, total_values};
use crate::broker::Broker;
use crate::model::{Now, QueueId};
use crate::queue::QueueSnapshot;

/// Columns of a queue.
pub const QUEUE_COLUMNS: usize = 12;

/// What is sampled of a queue.
pub fn queue_values(snapshot: &QueueSnapshot) -> [u64; QUEUE_COLUMNS] {
    let counters = &snapshot.counters;
    [
        counters.published,
        counters.delivered,
        counters.delivered_no_ack,
        counters.got,
        counters.got_no_ack,
        counters.get_empty,
        counters.redelivered,
        counters.acked,
        counters.log_reads,
        counters.log_writes,
        snapshot.messages_ready,
        snapshot.messages_unsettled,
    ]
}

/// What the sampler keeps from tick to tick.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Queues with messages: how many they had, and in whose sum they are.
    queues: HashMap<QueueId, (u64, u64, Arc<VhostStats>)>,
    /// The sums.
    ready: u64,
    unsettled: u64,
    last_at: Option<Instant>,
}

impl Standing {
    /// Puts a queue's messages into the sums, in the place of those it had; gives the host of those.
    fn set(
        &mut self,
        id: QueueId,
        now: Option<(u64, u64, Arc<VhostStats>)>,
    ) -> Option<Arc<VhostStats>> {
        let before = match now {
            Some((ready, unsettled, vhost)) if ready + unsettled > 0 => {
                self.ready += ready;
                self.unsettled += unsettled;
                vhost.ready.add(ready as i64);
                vhost.unsettled.add(unsettled as i64);
                self.queues.insert(id, (ready, unsettled, vhost))
            }
            _ => self.queues.remove(&id),
        };
        before.map(|(ready, unsettled, vhost)| {
            self.ready -= ready;
            self.unsettled -= unsettled;
            vhost.ready.add(-(ready as i64));
            vhost.unsettled.add(-(unsettled as i64));
            vhost
        })
    }
}

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleReport {
    /// Objects that were visited.
    pub visited: usize,
    /// Histories that were looked at because they may have to go.
    pub reviewed: usize,
}

impl Broker {
    /// Samples what counted something since the last call. Called every [`TICK_S`] seconds; a call that is too early does nothing.
    pub fn sample(&self, now: Now, reading: NodeReading) -> SampleReport {
        let stats = &*self.stats;
        stats.set_reading(reading);
        let tick = now.wall_ms / 1_000 / TICK_S;
        let mut standing = stats.standing.lock();
        if tick <= stats.last.read().tick {
            return SampleReport::default();
        }
        let touched = stats.touched.take();
        let mut report = SampleReport {
            visited: touched.len(),
            reviewed: 0,
        };
        let mut vhosts: HashMap<u64, (Arc<VhostStats>, bool)> = HashMap::new();
        for Touched { object, is_new } in touched {
            match object {
                Object::Vhost(vhost) => {
                    vhosts.insert(vhost.id, (vhost, is_new));
                }
                Object::Queue(id) => {
                    if let Some(vhost) = self.visit_queue(id, is_new, tick, &mut standing) {
                        vhosts.entry(vhost.id).or_insert((vhost, false));
                    }
                }
                object => self.visit(&object, is_new, tick),
            }
        }
        // After the queues, whose messages they sum up.
        for (vhost, is_new) in vhosts.into_values() {
            let values = vhost.values((vhost.ready.get(), vhost.unsettled.get()));
            let key = Key::Vhost(vhost.id);
            stats.histories.push(key, &GLOBAL, tick, &values, is_new);
        }
        let values = self.node_values((standing.ready, standing.unsettled));
        stats
            .histories
            .push(Key::Node, &GLOBAL, tick, &values, false);
        *stats.last.write() = LastTick {
            tick,
            seconds: match standing.last_at {
                Some(last_at) => now.monotonic.duration_since(last_at).as_secs_f64(),
                None => TICK_S as f64,
            },
        };
        standing.last_at = Some(now.monotonic);
        let bytes_max = stats.bytes_max.load(std::sync::atomic::Ordering::Relaxed);
        report.reviewed = stats.histories.trim(tick, bytes_max);
        report
    }

    /// Samples a queue; gives its virtual host, whose sums may have changed.
    fn visit_queue(
        &self,
        id: QueueId,
        is_new: bool,
        tick: Tick,
        standing: &mut Standing,
    ) -> Option<Arc<VhostStats>> {
        let key = Key::Queue(id.0);
        let found = self.queue(id).and_then(|handle| {
            let snapshot = handle.snapshot().ok()?;
            let vhost = self.vhost(handle.vhost())?;
            Some((snapshot, Arc::clone(&vhost.stats)))
        });
        let Some((snapshot, vhost)) = found else {
            self.stats.forget(key);
            return standing.set(id, None);
        };
        let values = queue_values(&snapshot);
        self.stats
            .histories
            .push(key, &OBJECT, tick, &values, is_new);
        let messages = (snapshot.messages_ready, snapshot.messages_unsettled);
        standing.set(id, Some((messages.0, messages.1, Arc::clone(&vhost))));
        Some(vhost)
    }

    fn visit(&self, object: &Object, is_new: bool, tick: Tick) {
        let stats = &*self.stats;
        let push = |key, values: &[u64]| {
            stats.histories.push(key, &OBJECT, tick, values, is_new);
        };
        match object {
            Object::Connection(connection) => {
                let key = Key::Connection(connection.id().0);
                if connection.is_gone() {
                    stats.forget(key);
                } else {
                    push(key, &connection.values());
                }
            }
            Object::Channel(channel) => {
                let key = Key::Channel(channel.id());
                if channel.is_gone() {
                    stats.forget(key);
                } else {
                    push(key, &channel.values());
                }
            }
            Object::Exchange(exchange) => push(Key::Exchange(exchange.id), &exchange.values()),
            // Handled by the caller, with their sums.
            Object::Queue(_) | Object::Vhost(_) => {}
        }
    }

    /// What is sampled of the node, with these numbers of ready and unsettled messages.
    pub(in crate::broker) fn node_values(&self, messages: (u64, u64)) -> [u64; NODE_COLUMNS] {
        let totals = total_values(&self.stats.totals.counts(), messages);
        let reading = self.stats.reading();
        let journal = self.messages.journal().stats();
        let gauges = [
            reading.memory_used_bytes,
            reading.disk_free_bytes,
            reading.files,
            self.registry.connection_count() as u64,
            reading.tasks,
            journal.written_bytes,
            journal.frames,
            journal.syncs,
        ];
        let mut values = [0; NODE_COLUMNS];
        let churn = self.stats.churn.values();
        let all = totals.iter().chain(&churn);
        for (value, new) in values.iter_mut().zip(all.chain(&gauges)) {
            *value = *new;
        }
        values
    }
}
