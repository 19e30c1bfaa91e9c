//! Connections and their channels.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::stats::connection::{CHANNEL_MESSAGE_STATS, Described, TRAFFIC};
use crate::broker::stats::{ChannelStats, ConnectionStats, Key, Measure, Ranges};
use crate::model::{ChannelNumber, ConnectionId, Name, WallMs};
use crate::protocol::FieldTable;

/// How long nothing may happen on a channel before it is called idle, in milliseconds.
const IDLE_AFTER_MS: u64 = 5_000;

/// A connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSnapshot {
    /// Its id.
    pub id: ConnectionId,
    /// `peer -> local`.
    pub name: Name,
    /// What the client calls it.
    pub user_provided_name: Option<Name>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: Option<SocketAddr>,
    /// `AMQP 0-9-1`.
    pub protocol: &'static str,
    /// The SASL mechanism.
    pub auth_mechanism: Name,
    /// The user.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// What the client says of itself.
    pub client_properties: FieldTable,
    /// Negotiated; 0 for no limit.
    pub channel_max: u16,
    /// Negotiated, in octets; 0 for no limit.
    pub frame_max: u32,
    /// The heartbeat, in seconds; 0 for none.
    pub timeout_s: u16,
    /// When it opened its virtual host, in milliseconds since the Unix epoch.
    pub connected_at_ms: WallMs,
    /// What it is doing.
    pub state: &'static str,
    /// Open channels.
    pub channels: usize,
    /// Octets that wait for the socket.
    pub send_pend: u64,
    /// `recv_oct`, `send_oct`, `recv_cnt`, `send_cnt`: octets, and reads and writes of the socket.
    pub traffic: Vec<Measure>,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct ChannelSnapshot {
    /// Its connection.
    pub connection: Arc<ConnectionStats>,
    /// `peer -> local (number)`.
    pub name: String,
    /// Its number.
    pub number: ChannelNumber,
    /// The user.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// `running`, or `flow` while its connection is.
    pub state: &'static str,
    /// Consumers on it.
    pub consumer_count: u32,
    /// Limit for each consumer to come; 0 for none.
    pub prefetch_count: u32,
    /// Limit for all consumers together; 0 for none.
    pub global_prefetch_count: u32,
    /// Deliveries not settled.
    pub messages_unacknowledged: u64,
    /// Publishes not yet confirmed.
    pub messages_unconfirmed: u64,
    /// Publishes that wait for tx.commit.
    pub messages_uncommitted: u64,
    /// Acknowledgements that wait for tx.commit.
    pub acks_uncommitted: u64,
    /// In confirm mode.
    pub confirm: bool,
    /// In transaction mode.
    pub transactional: bool,
    /// Since when nothing happens on it, if nothing does.
    pub idle_since_ms: Option<WallMs>,
    /// What it counted; empty if it never saw a message.
    pub message_stats: Vec<Measure>,
}

impl Broker {
    /// The connections that have opened a virtual host, in the order in which they came.
    pub fn connections(&self) -> Vec<Arc<ConnectionStats>> {
        let mut connections = self.registry.stats();
        connections.retain(|connection| connection.described().is_some());
        connections.sort_unstable_by_key(|connection| connection.id());
        connections
    }

    /// The connection of that name.
    pub fn connection_named(&self, name: &str) -> Option<Arc<ConnectionStats>> {
        let mut connections = self.registry.stats().into_iter();
        connections
            .find(|connection| &**connection.name() == name && connection.described().is_some())
    }

    /// The channels of all connections.
    pub fn channels(&self) -> Vec<Arc<ChannelStats>> {
        let connections = self.connections();
        connections
            .iter()
            .flat_map(|connection| connection.channels())
            .collect()
    }

    /// The channel of that name: its connection's, and its number in parentheses.
    pub fn channel_named(&self, name: &str) -> Option<Arc<ChannelStats>> {
        let (connection, number) = name.strip_suffix(')')?.rsplit_once(" (")?;
        let number = number.parse().ok()?;
        self.connection_named(connection)?.channel(number)
    }

    /// A connection; `None` if it has not opened a virtual host.
    pub fn connection_snapshot(
        &self,
        connection: &ConnectionStats,
        ranges: &Ranges,
    ) -> Option<ConnectionSnapshot> {
        let described = connection.described()?;
        let Described {
            user, vhost, info, ..
        } = described;
        let properties = info.client_properties.as_deref();
        let now_ms = self.clock.now().wall_ms;
        Some(ConnectionSnapshot {
            id: connection.id(),
            name: Arc::clone(connection.name()),
            user_provided_name: info.connection_name.clone(),
            peer: connection.peer(),
            local: connection.local(),
            protocol: "AMQP 0-9-1",
            auth_mechanism: Arc::clone(&info.mechanism),
            user: Arc::clone(user),
            vhost: Arc::clone(vhost),
            client_properties: properties
                .and_then(|encoded| FieldTable::decode(encoded).ok())
                .unwrap_or_default(),
            channel_max: info.channel_max,
            frame_max: info.frame_max,
            timeout_s: info.heartbeat_s,
            connected_at_ms: described.connected_at_ms,
            state: connection.state().as_str(),
            channels: connection.channel_count(),
            send_pend: connection.pending_octets(),
            traffic: self.stats.measure(
                Key::Connection(connection.id().0),
                &TRAFFIC,
                &connection.values(),
                ranges.data_rates,
                now_ms,
            ),
        })
    }

    /// A channel; `None` if its connection is gone.
    pub fn channel_snapshot(
        &self,
        channel: &ChannelStats,
        ranges: &Ranges,
    ) -> Option<ChannelSnapshot> {
        let connection = channel.connection()?;
        let described = connection.described()?;
        let gauges = channel.gauges();
        let now_ms = self.clock.now().wall_ms;
        let is_idle = now_ms.saturating_sub(gauges.last_use_ms) >= IDLE_AFTER_MS;
        let state = match connection.state().as_str() {
            state @ ("flow" | "closing") => state,
            _ => "running",
        };
        Some(ChannelSnapshot {
            name: format!("{} ({})", connection.name(), channel.number()),
            number: channel.number(),
            user: Arc::clone(&described.user),
            vhost: Arc::clone(&described.vhost),
            state,
            consumer_count: gauges.consumers,
            prefetch_count: gauges.prefetch,
            global_prefetch_count: gauges.global_prefetch,
            messages_unacknowledged: gauges.unsettled,
            messages_unconfirmed: gauges.unconfirmed,
            messages_uncommitted: gauges.uncommitted,
            acks_uncommitted: gauges.acks_uncommitted,
            confirm: gauges.confirm,
            transactional: gauges.transactional,
            idle_since_ms: is_idle.then_some(gauges.last_use_ms),
            message_stats: self.stats.measure_unless_unused(
                Key::Channel(channel.id()),
                &CHANNEL_MESSAGE_STATS,
                &channel.values(),
                ranges.msg_rates,
                now_ms,
            ),
            connection: Arc::clone(&connection),
        })
    }
}
