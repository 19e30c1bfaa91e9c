//! What happened in a virtual host since the node started, by protocol's terms and by kind of queue.
//!
//! In: what connections counted, once a turn. Out: sums that never shrink. Each connection writes to one of a few shards, so
//! that connections on different cores do not take a cache line from each other; the reader adds the shards up.

use super::counter::{Apart, Counter, Gauge};
use crate::model::{Handed, QueueKind, Traffic};

/// Kinds of queue.
pub const KINDS: usize = QueueKind::ALL.len();

/// Shards of each host's totals.
const SHARDS: usize = 4;

/// Upper ends of the buckets of message sizes in bytes, the last one open (`rabbit_msg_size_metrics`).
pub const SIZE_BUCKETS: [u64; 8] = [
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
];

/// What the executor of one connection counted since its last report, beside what its session did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Publishes by size, each in the first bucket whose end is not exceeded.
    pub sizes: [u32; SIZE_BUCKETS.len() + 1],
    /// Bytes of their bodies.
    pub size_bytes: u64,
    /// Queues to which publishes went.
    pub routed: u32,
    /// Acknowledged, by kind of queue.
    pub acks: [u32; KINDS],
    /// `basic.get` that found nothing, by kind of queue.
    pub get_empty: [u32; KINDS],
}

impl Tally {
    /// Counts a publish with a body of `bytes`.
    pub fn observe(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        let bucket = SIZE_BUCKETS
            .iter()
            .position(|end| bytes <= *end)
            .unwrap_or(SIZE_BUCKETS.len());
        self.sizes[bucket] += 1;
        self.size_bytes += bytes;
    }
}

#[derive(Debug, Default)]
struct Shard {
    publish: Counter,
    publish_confirm: Counter,
    routed: Counter,
    confirm: Counter,
    return_unroutable: Counter,
    drop_unroutable: Counter,
    get_empty: [Counter; KINDS],
    deliver: [Counter; KINDS],
    deliver_no_ack: [Counter; KINDS],
    get: [Counter; KINDS],
    get_no_ack: [Counter; KINDS],
    redeliver: [Counter; KINDS],
    ack: [Counter; KINDS],
    sizes: [Counter; SIZE_BUCKETS.len() + 1],
    size_bytes: Counter,
    received_octets: Counter,
    sent_octets: Counter,
    receives: Counter,
    sends: Counter,
}

/// One kind of queue in [`TotalCounts`], in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts {
    /// See [`Handed::deliver`].
    pub deliver: u64,
    /// See [`Handed::deliver_no_ack`].
    pub deliver_no_ack: u64,
    /// See [`Handed::get`].
    pub get: u64,
    /// See [`Handed::get_no_ack`].
    pub get_no_ack: u64,
    /// `basic.get` that found nothing.
    pub get_empty: u64,
    /// See [`Handed::redeliver`].
    pub redeliver: u64,
    /// Acknowledged.
    pub ack: u64,
}

/// The totals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalCounts {
    /// Publishes.
    pub publish: u64,
    /// Those to be confirmed.
    pub publish_confirm: u64,
    /// Queues to which they went.
    pub routed: u64,
    /// Publishes confirmed.
    pub confirm: u64,
    /// Publishes returned.
    pub return_unroutable: u64,
    /// Publishes dropped, as no queue took them.
    pub drop_unroutable: u64,
    /// By kind of queue, at [`QueueKind::index`].
    pub kinds: [KindCounts; KINDS],
    /// Publishes by size, not cumulated.
    pub sizes: [u64; SIZE_BUCKETS.len() + 1],
    /// Bytes of their bodies.
    pub size_bytes: u64,
    /// Octets from clients.
    pub received_octets: u64,
    /// Octets to clients.
    pub sent_octets: u64,
    /// Reads of clients' sockets.
    pub receives: u64,
    /// Writes to clients' sockets.
    pub sends: u64,
    /// Messages read back from the disk.
    pub disk_reads: u64,
    /// Messages written to the disk.
    pub disk_writes: u64,
}

impl TotalCounts {
    /// Adds another host's.
    pub fn add(&mut self, other: &Self) {
        self.publish += other.publish;
        self.publish_confirm += other.publish_confirm;
        self.routed += other.routed;
        self.confirm += other.confirm;
        self.return_unroutable += other.return_unroutable;
        self.drop_unroutable += other.drop_unroutable;
        for (own, other) in self.kinds.iter_mut().zip(&other.kinds) {
            own.add(other);
        }
        for (own, other) in self.sizes.iter_mut().zip(&other.sizes) {
            *own += other;
        }
        self.size_bytes += other.size_bytes;
        self.received_octets += other.received_octets;
        self.sent_octets += other.sent_octets;
        self.receives += other.receives;
        self.sends += other.sends;
        self.disk_reads += other.disk_reads;
        self.disk_writes += other.disk_writes;
    }

    /// The sums over all kinds of queue.
    pub fn in_all(&self) -> KindCounts {
        let mut sum = KindCounts::default();
        for kind in &self.kinds {
            sum.add(kind);
        }
        sum
    }
}

impl KindCounts {
    fn add(&mut self, other: &Self) {
        self.deliver += other.deliver;
        self.deliver_no_ack += other.deliver_no_ack;
        self.get += other.get;
        self.get_no_ack += other.get_no_ack;
        self.get_empty += other.get_empty;
        self.redeliver += other.redeliver;
        self.ack += other.ack;
    }
}

/// Totals of one virtual host.
#[derive(Debug, Default)]
pub struct Totals {
    shards: [Apart<Shard>; SHARDS],
    /// Channels that have published and are open.
    pub publishers: Gauge,
    /// Messages read back from the disk.
    pub disk_reads: Counter,
    /// Messages written to the disk, each counted in each queue.
    pub disk_writes: Counter,
}

impl Totals {
    /// Adds what a channel's session counted. `shard` is any number that stays the same for a connection.
    pub fn add_traffic(&self, shard: u64, traffic: &Traffic) {
        let shard = &self.shards[shard as usize % SHARDS].0;
        shard.publish.add(traffic.publish.into());
        shard.publish_confirm.add(traffic.publish_confirm.into());
        shard.confirm.add(traffic.confirm.into());
        shard
            .return_unroutable
            .add(traffic.return_unroutable.into());
        shard.drop_unroutable.add(traffic.drop_unroutable.into());
        for (kind, handed) in traffic.handed.iter().enumerate() {
            if *handed == Handed::default() {
                continue;
            }
            shard.deliver[kind].add(handed.deliver.into());
            shard.deliver_no_ack[kind].add(handed.deliver_no_ack.into());
            shard.get[kind].add(handed.get.into());
            shard.get_no_ack[kind].add(handed.get_no_ack.into());
            shard.redeliver[kind].add(handed.redeliver.into());
        }
    }

    /// Adds what a connection's executor counted.
    pub fn add_tally(&self, shard: u64, tally: &Tally) {
        let shard = &self.shards[shard as usize % SHARDS].0;
        shard.routed.add(tally.routed.into());
        if tally.size_bytes > 0 || tally.sizes[0] > 0 {
            for (own, step) in shard.sizes.iter().zip(&tally.sizes) {
                own.add((*step).into());
            }
            shard.size_bytes.add(tally.size_bytes);
        }
        for kind in 0..KINDS {
            shard.ack[kind].add(tally.acks[kind].into());
            shard.get_empty[kind].add(tally.get_empty[kind].into());
        }
    }

    /// Adds octets from and to a client, and the reads and writes of its socket that they took.
    pub fn add_octets(
        &self,
        shard: u64,
        (received, sent): (u64, u64),
        (reads, writes): (u32, u32),
    ) {
        let shard = &self.shards[shard as usize % SHARDS].0;
        shard.received_octets.add(received);
        shard.sent_octets.add(sent);
        shard.receives.add(reads.into());
        shard.sends.add(writes.into());
    }

    /// The totals now.
    pub fn counts(&self) -> TotalCounts {
        let mut sum = TotalCounts {
            disk_reads: self.disk_reads.get(),
            disk_writes: self.disk_writes.get(),
            ..TotalCounts::default()
        };
        for Apart(shard) in &self.shards {
            sum.publish += shard.publish.get();
            sum.publish_confirm += shard.publish_confirm.get();
            sum.routed += shard.routed.get();
            sum.confirm += shard.confirm.get();
            sum.return_unroutable += shard.return_unroutable.get();
            sum.drop_unroutable += shard.drop_unroutable.get();
            for (kind, counts) in sum.kinds.iter_mut().enumerate() {
                counts.deliver += shard.deliver[kind].get();
                counts.deliver_no_ack += shard.deliver_no_ack[kind].get();
                counts.get += shard.get[kind].get();
                counts.get_no_ack += shard.get_no_ack[kind].get();
                counts.get_empty += shard.get_empty[kind].get();
                counts.redeliver += shard.redeliver[kind].get();
                counts.ack += shard.ack[kind].get();
            }
            for (own, counter) in sum.sizes.iter_mut().zip(&shard.sizes) {
                *own += counter.get();
            }
            sum.size_bytes += shard.size_bytes.get();
            sum.received_octets += shard.received_octets.get();
            sum.sent_octets += shard.sent_octets.get();
            sum.receives += shard.receives.get();
            sum.sends += shard.sends.get();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up() {
        let totals = Totals::default();
        let mut traffic = Traffic {
            publish: 2,
            ..Traffic::default()
        };
        traffic.handed[QueueKind::Quorum.index()].deliver = 5;
        let mut tally = Tally::default();
        tally.observe(0);
        tally.observe(100);
        tally.observe(101);
        tally.observe(200_000_000);
        for connection in 0..10 {
            totals.add_traffic(connection, &traffic);
            totals.add_tally(connection, &tally);
            totals.add_octets(connection, (7, 8), (2, 3));
        }
        let counts = totals.counts();
        assert_eq!(counts.publish, 20);
        assert_eq!(counts.kinds[QueueKind::Quorum.index()].deliver, 50);
        assert_eq!(counts.in_all().deliver, 50);
        assert_eq!(counts.sizes, [20, 10, 0, 0, 0, 0, 0, 0, 10]);
        assert_eq!(counts.size_bytes, 2_000_002_010);
        assert_eq!((counts.received_octets, counts.sent_octets), (70, 80));
        assert_eq!((counts.receives, counts.sends), (20, 30));
        let mut both = counts;
        both.add(&counts);
        assert_eq!(both.in_all().deliver, 100);
    }
}
