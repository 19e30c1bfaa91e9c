//! What a connection and its channels count and are, for readers on other threads.
//!
//! In: reports of the connection's task, the only writer. Out: numbers, each read by itself. What a message is, and how a
//! connection works, is not known here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use super::counter::Counter;
use super::mark::Mark;
use super::measure::Shown;
use crate::model::{
    ChannelInfo, ChannelNumber, ConnectionId, ConnectionInfo, ConnectionState, Name, Traffic,
    WallMs,
};

const fn shown(name: &'static str, parts: &'static [usize]) -> Shown {
    Shown { name, parts }
}

/// What is shown of a connection's traffic, in the columns of [`ConnectionStats::values`].
pub const TRAFFIC: [Shown; 4] = [
    shown("recv_oct", &[0]),
    shown("send_oct", &[1]),
    shown("recv_cnt", &[2]),
    shown("send_cnt", &[3]),
];

/// `message_stats` of a channel, in the columns of [`ChannelStats::values`].
pub const CHANNEL_MESSAGE_STATS: [Shown; 12] = [
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
];

/// Columns of a channel.
pub const CHANNEL_COLUMNS: usize = 11;

/// A connection that has opened its virtual host.
#[derive(Debug)]
pub struct Described {
    /// The user.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// What was negotiated, and what the client says of itself.
    pub info: ConnectionInfo,
    /// When the virtual host was opened.
    pub connected_at_ms: WallMs,
}

/// A connection, for readers.
#[derive(Debug)]
pub struct ConnectionStats {
    id: ConnectionId,
    name: Name,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    described: OnceLock<Box<Described>>,
    state: AtomicU8,
    received_octets: Counter,
    sent_octets: Counter,
    receives: Counter,
    sends: Counter,
    pending_octets: AtomicU64,
    channels: Mutex<BTreeMap<ChannelNumber, Arc<ChannelStats>>>,
    is_gone: AtomicBool,
    pub(super) mark: Mark,
}

impl ConnectionStats {
    /// A connection that was just accepted, between these addresses.
    pub fn new(id: ConnectionId, peer: SocketAddr, local: Option<SocketAddr>) -> Arc<Self> {
        let name = match local {
            Some(local) => format!("{peer} -> {local}"),
            None => format!("{peer} -> unknown"),
        };
        Arc::new(Self {
            id,
            name: name.into(),
            peer,
            local,
            described: OnceLock::new(),
            state: AtomicU8::new(ConnectionState::Starting as u8),
            received_octets: Counter::default(),
            sent_octets: Counter::default(),
            receives: Counter::default(),
            sends: Counter::default(),
            pending_octets: AtomicU64::new(0),
            channels: Mutex::default(),
            is_gone: AtomicBool::new(false),
            mark: Mark::default(),
        })
    }

    /// Its id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// `peer -> local`, as RabbitMQ names connections.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address that it connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Who it is; `None` until it has opened a virtual host.
    pub fn described(&self) -> Option<&Described> {
        self.described.get().map(|described| &**described)
    }

    /// What it is doing.
    pub fn state(&self) -> ConnectionState {
        ConnectionState::from_number(self.state.load(Ordering::Relaxed))
    }

    /// Octets that wait for its socket.
    pub fn pending_octets(&self) -> u64 {
        self.pending_octets.load(Ordering::Relaxed)
    }

    /// Its open channels, by number.
    pub fn channels(&self) -> Vec<Arc<ChannelStats>> {
        self.channels.lock().values().cloned().collect()
    }

    /// The number of its open channels.
    pub fn channel_count(&self) -> usize {
        self.channels.lock().len()
    }

    /// A channel by its number.
    pub fn channel(&self, number: ChannelNumber) -> Option<Arc<ChannelStats>> {
        self.channels.lock().get(&number).cloned()
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// What is sampled.
    pub fn values(&self) -> [u64; 4] {
        [
            self.received_octets.get(),
            self.sent_octets.get(),
            self.receives.get(),
            self.sends.get(),
        ]
    }

    /// It has opened its virtual host.
    pub fn describe(&self, described: Described) {
        // Said once; a second word changes nothing.
        let _ = self.described.set(Box::new(described));
    }

    /// A channel opened.
    pub fn channel_opened(
        self: &Arc<Self>,
        number: ChannelNumber,
        now_ms: WallMs,
    ) -> Arc<ChannelStats> {
        let channel = Arc::new(ChannelStats::new(Arc::downgrade(self), number, now_ms));
        self.channels.lock().insert(number, Arc::clone(&channel));
        channel
    }

    /// A channel ended.
    pub fn channel_closed(&self, number: ChannelNumber) {
        let closed = self.channels.lock().remove(&number);
        if let Some(channel) = closed {
            channel.is_gone.store(true, Ordering::Relaxed);
        }
    }

    /// The connection ended.
    pub fn ended(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// How it stands; gives the octets received and sent since the last call.
    pub fn report(
        &self,
        state: ConnectionState,
        (received_octets, sent_octets): (u64, u64),
        (receives, sends): (u32, u32),
        pending_octets: u64,
    ) -> (u64, u64) {
        let news = (
            received_octets - self.received_octets.get(),
            sent_octets - self.sent_octets.get(),
        );
        self.state.store(state as u8, Ordering::Relaxed);
        self.received_octets.set(received_octets);
        self.sent_octets.set(sent_octets);
        self.receives.add_alone(receives.into());
        self.sends.add_alone(sends.into());
        self.pending_octets.store(pending_octets, Ordering::Relaxed);
        news
    }
}

const CONFIRM: u8 = 1;
const TRANSACTIONAL: u8 = 2;

static LAST_ID: AtomicU64 = AtomicU64::new(0);

/// A channel, for readers.
#[derive(Debug)]
pub struct ChannelStats {
    /// Tells it from every other channel since the start.
    id: u64,
    number: ChannelNumber,
    connection: Weak<ConnectionStats>,
    counts: [Counter; CHANNEL_COLUMNS],
    consumers: AtomicU32,
    prefetch: AtomicU32,
    global_prefetch: AtomicU32,
    unsettled: AtomicU64,
    unconfirmed: AtomicU64,
    uncommitted: AtomicU64,
    acks_uncommitted: AtomicU64,
    modes: AtomicU8,
    last_use_ms: AtomicU64,
    is_gone: AtomicBool,
    pub(super) mark: Mark,
}

/// The gauges of a channel at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelGauges {
    /// Consumers on it.
    pub consumers: u32,
    /// Limit for each consumer to come; 0 for none.
    pub prefetch: u32,
    /// Limit for all consumers together; 0 for none.
    pub global_prefetch: u32,
    /// Deliveries not settled.
    pub unsettled: u64,
    /// Publishes not yet confirmed.
    pub unconfirmed: u64,
    /// Publishes that wait for tx.commit.
    pub uncommitted: u64,
    /// Acknowledgements that wait for tx.commit.
    pub acks_uncommitted: u64,
    /// In confirm mode.
    pub confirm: bool,
    /// In transaction mode.
    pub transactional: bool,
    /// When something happened on it last.
    pub last_use_ms: WallMs,
}

impl ChannelStats {
    fn new(connection: Weak<ConnectionStats>, number: ChannelNumber, now_ms: WallMs) -> Self {
        Self {
            id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
            number,
            connection,
            counts: Default::default(),
            consumers: AtomicU32::default(),
            prefetch: AtomicU32::default(),
            global_prefetch: AtomicU32::default(),
            unsettled: AtomicU64::default(),
            unconfirmed: AtomicU64::default(),
            uncommitted: AtomicU64::default(),
            acks_uncommitted: AtomicU64::default(),
            modes: AtomicU8::default(),
            last_use_ms: AtomicU64::new(now_ms),
            is_gone: AtomicBool::default(),
            mark: Mark::default(),
        }
    }

    /// Tells it from every other channel since the start.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its number on its connection.
    pub fn number(&self) -> ChannelNumber {
        self.number
    }

    /// Its connection; `None` once that is gone.
    pub fn connection(&self) -> Option<Arc<ConnectionStats>> {
        self.connection.upgrade()
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// What is sampled.
    pub fn values(&self) -> [u64; CHANNEL_COLUMNS] {
        std::array::from_fn(|column| self.counts[column].get())
    }

    /// How it stands.
    pub fn gauges(&self) -> ChannelGauges {
        let modes = self.modes.load(Ordering::Relaxed);
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        ChannelGauges {
            consumers: self.consumers.load(Ordering::Relaxed),
            prefetch: self.prefetch.load(Ordering::Relaxed),
            global_prefetch: self.global_prefetch.load(Ordering::Relaxed),
            unsettled: read(&self.unsettled),
            unconfirmed: read(&self.unconfirmed),
            uncommitted: read(&self.uncommitted),
            acks_uncommitted: read(&self.acks_uncommitted),
            confirm: modes & CONFIRM != 0,
            transactional: modes & TRANSACTIONAL != 0,
            last_use_ms: read(&self.last_use_ms),
        }
    }

    /// What its session counted since the last call, and how it stands.
    pub fn report(&self, info: &ChannelInfo, traffic: &Traffic, now_ms: WallMs) {
        let handed = traffic.handed_in_all();
        let steps: [u32; CHANNEL_COLUMNS] = [
            traffic.publish,
            traffic.confirm,
            traffic.return_unroutable,
            traffic.drop_unroutable,
            handed.deliver,
            handed.deliver_no_ack,
            handed.get,
            handed.get_no_ack,
            traffic.get_empty,
            handed.redeliver,
            traffic.ack,
        ];
        for (counter, step) in self.counts.iter().zip(steps) {
            counter.add_alone(step.into());
        }
        let write = |number: &AtomicU64, value: usize| {
            number.store(value as u64, Ordering::Relaxed);
        };
        self.consumers
            .store(info.consumer_count as u32, Ordering::Relaxed);
        self.prefetch
            .store(info.prefetch_count.into(), Ordering::Relaxed);
        self.global_prefetch
            .store(info.global_prefetch_count.into(), Ordering::Relaxed);
        write(&self.unsettled, info.messages_unacknowledged);
        write(&self.unconfirmed, info.messages_unconfirmed);
        write(&self.uncommitted, info.messages_uncommitted);
        write(&self.acks_uncommitted, info.acks_uncommitted);
        let confirm = if info.confirm { CONFIRM } else { 0 };
        let transactional = if info.transactional { TRANSACTIONAL } else { 0 };
        self.modes.store(confirm | transactional, Ordering::Relaxed);
        self.last_use_ms.store(now_ms, Ordering::Relaxed);
    }
}
