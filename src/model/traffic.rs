//! What a channel counts between two reports, and how it stands at one.
//!
//! In: plain additions, by whoever owns the channel. Out: numbers for those who sum them up. Who reads them, and what was
//! counted before, is not known here. Reports are made once a turn of the connection, so that thirty-two bits are enough.

use std::sync::Arc;

use super::{ChannelNumber, Name, QueueKind};

/// Messages that reached a client, from queues of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// By `basic.deliver`, to be settled.
    pub deliver: u32,
    /// By `basic.deliver`, settled by being sent.
    pub deliver_no_ack: u32,
    /// By `basic.get`, to be settled.
    pub get: u32,
    /// By `basic.get`, settled by being sent.
    pub get_no_ack: u32,
    /// Those among all of these that had been handed out before.
    pub redeliver: u32,
}

/// What happened on a channel since the last report, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Publishes that were accepted from the client, or staged for a commit.
    pub publish: u32,
    /// Those among them that are to be confirmed.
    pub publish_confirm: u32,
    /// Publishes that were confirmed by `basic.ack`.
    pub confirm: u32,
    /// Publishes that found no queue and came back.
    pub return_unroutable: u32,
    /// Publishes that found no queue and were dropped.
    pub drop_unroutable: u32,
    /// `basic.get` that found nothing.
    pub get_empty: u32,
    /// Deliveries that the client acknowledged.
    pub ack: u32,
    /// What reached the client, by kind of queue.
    pub handed: [Handed; QueueKind::ALL.len()],
}

impl Traffic {
    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another channel counted.
    pub fn add(&mut self, other: &Self) {
        self.publish += other.publish;
        self.publish_confirm += other.publish_confirm;
        self.confirm += other.confirm;
        self.return_unroutable += other.return_unroutable;
        self.drop_unroutable += other.drop_unroutable;
        self.get_empty += other.get_empty;
        self.ack += other.ack;
        for (own, other) in self.handed.iter_mut().zip(&other.handed) {
            own.deliver += other.deliver;
            own.deliver_no_ack += other.deliver_no_ack;
            own.get += other.get;
            own.get_no_ack += other.get_no_ack;
            own.redeliver += other.redeliver;
        }
    }

    /// The sums over all kinds of queue.
    pub fn handed_in_all(&self) -> Handed {
        let mut sum = Self::default();
        for handed in self.handed {
            sum.add(&Self {
                handed: [handed, Handed::default()],
                ..Self::default()
            });
        }
        sum.handed[0]
    }
}

/// How a channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its number.
    pub number: ChannelNumber,
    /// Whether it waits for an answer of the broker.
    pub is_waiting: bool,
    /// Consumers on it.
    pub consumer_count: usize,
    /// Limit for each consumer to come, as basic.qos set it; 0 for none.
    pub prefetch_count: u16,
    /// Limit for all consumers together, as basic.qos set it; 0 for none.
    pub global_prefetch_count: u16,
    /// Deliveries not settled.
    pub messages_unacknowledged: usize,
    /// Publishes not yet confirmed.
    pub messages_unconfirmed: usize,
    /// Publishes that wait for tx.commit.
    pub messages_uncommitted: usize,
    /// Acknowledgements that wait for tx.commit.
    pub acks_uncommitted: usize,
    /// Whether it is in confirm mode.
    pub confirm: bool,
    /// Whether it is in transaction mode.
    pub transactional: bool,
}

/// What a connection is, once it has opened its virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The client's properties table, encoded.
    pub client_properties: Option<Arc<[u8]>>,
    /// `connection_name` of these.
    pub connection_name: Option<Name>,
    /// The SASL mechanism that the client chose.
    pub mechanism: Name,
    /// Negotiated; 0 for no limit.
    pub channel_max: u16,
    /// Negotiated, in octets; 0 for no limit.
    pub frame_max: u32,
    /// Negotiated, in seconds; 0 for none.
    pub heartbeat_s: u16,
}

/// How a connection stands at a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionProgress {
    /// What it is doing.
    pub state: ConnectionState,
    /// Octets received since its beginning.
    pub received_octets: u64,
    /// Octets sent since its beginning.
    pub sent_octets: u64,
    /// Octets that wait for the socket.
    pub pending_octets: u64,
    /// What channels counted that ended since the last report.
    pub departed: Traffic,
}

/// What a connection is doing, in the words of RabbitMQ's HTTP API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// The client has not opened a virtual host yet.
    #[default]
    Starting,
    /// Nothing holds it up.
    Running,
    /// An alarm is on, and it will be blocked once it publishes.
    Blocking,
    /// An alarm is on, and it is not read.
    Blocked,
    /// It is not read until the disk has kept pace.
    Flow,
    /// It is about to end.
    Closing,
}

impl ConnectionState {
    const ALL: [Self; 6] = [
        Self::Starting,
        Self::Running,
        Self::Blocking,
        Self::Blocked,
        Self::Flow,
        Self::Closing,
    ];

    /// The state behind a number that was made with `as u8`; numbers that are none give the first state.
    pub fn from_number(number: u8) -> Self {
        let found = Self::ALL.get(usize::from(number));
        found.copied().unwrap_or_default()
    }

    /// The name in the HTTP API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Blocking => "blocking",
            Self::Blocked => "blocked",
            Self::Flow => "flow",
            Self::Closing => "closing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_queue_are_summed_up() {
        let handed = |deliver, redeliver| Handed {
            deliver,
            redeliver,
            ..Handed::default()
        };
        let traffic = Traffic {
            handed: [handed(3, 1), handed(4, 2)],
            ..Traffic::default()
        };
        assert_eq!(traffic.handed_in_all(), handed(7, 3));
        assert!(!traffic.is_empty());
    }

    #[test]
    fn a_state_comes_back_from_its_number() {
        for state in ConnectionState::ALL {
            assert_eq!(ConnectionState::from_number(state as u8), state);
        }
        assert_eq!(ConnectionState::from_number(99), ConnectionState::Starting);
    }
}
