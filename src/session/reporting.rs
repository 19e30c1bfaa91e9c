//! What a session tells of itself: what its channels counted, how they stand, what the connection is.
//!
//! Out: reports to the executor, once a turn and of those channels only with which something happened, so that a message costs
//! a few additions and an idle channel nothing. Who sums them up is not known here.

use super::Session;
use super::channel::Channel;
use super::connection::Phase;
use crate::model::{
    ChannelInfo, ChannelNumber, ConnectionInfo, ConnectionProgress, ConnectionState, Executor, Name,
};

impl Session {
    /// Hands over what was counted since the last call. Belongs at the end of a turn, after the output was offered to the
    /// socket.
    pub fn report(&mut self, executor: &mut impl Executor) {
        if !self.is_described && matches!(self.phase, Phase::Running { .. }) {
            self.is_described = true;
            executor.describe(self.describe());
        }
        while let Some(number) = self.noted.pop() {
            if let Some(channel) = self.channels.get_mut(number) {
                channel.is_noted = false;
                let traffic = std::mem::take(&mut channel.traffic);
                executor.report_channel(&channel.info(), &traffic);
            }
        }
        executor.report_connection(&ConnectionProgress {
            state: self.state(),
            received_octets: self.received_total,
            sent_octets: self.output.sent_total(),
            pending_octets: self.output.len() as u64,
            departed: std::mem::take(&mut self.departed),
        });
    }

    /// Snapshots of the channels, by number.
    pub fn channels(&self) -> impl Iterator<Item = ChannelInfo> {
        self.channels.iter().map(Channel::info)
    }

    /// What the connection is doing.
    pub fn state(&self) -> ConnectionState {
        match self.phase {
            Phase::Running { .. } if self.throttle.is_blocked => ConnectionState::Blocked,
            Phase::Running { .. } if self.throttle.alarm.is_some() => ConnectionState::Blocking,
            Phase::Running { .. } if self.is_held => ConnectionState::Flow,
            Phase::Running { .. } => ConnectionState::Running,
            Phase::Releasing(_) | Phase::Closing { .. } | Phase::Silent(_) | Phase::Ended(_) => {
                ConnectionState::Closing
            }
            _ => ConnectionState::Starting,
        }
    }

    /// Notes that a channel may have something to report.
    pub(super) fn note(&mut self, number: ChannelNumber) {
        if let Some(channel) = self.channels.get_mut(number)
            && !std::mem::replace(&mut channel.is_noted, true)
        {
            self.noted.push(number);
        }
    }

    fn describe(&self) -> ConnectionInfo {
        let peer = &self.peer;
        ConnectionInfo {
            client_properties: peer.client_properties.clone(),
            connection_name: peer.connection_name.as_deref().map(Name::from),
            mechanism: peer.mechanism.as_deref().unwrap_or_default().into(),
            channel_max: self.channel_max,
            frame_max: self.frame_max,
            heartbeat_s: self.heartbeat_s,
        }
    }
}

impl Channel {
    fn info(&self) -> ChannelInfo {
        let transaction = self.transaction.as_deref();
        ChannelInfo {
            number: self.number,
            is_waiting: self.is_waiting(),
            consumer_count: self.consumers.len(),
            prefetch_count: self.prefetch.consumer,
            global_prefetch_count: self.prefetch.channel,
            messages_unacknowledged: self.unsettled.len(),
            messages_unconfirmed: self.confirms.as_ref().map_or(0, |c| c.pending()),
            messages_uncommitted: transaction.map_or(0, |tx| tx.publishes()),
            acks_uncommitted: transaction.map_or(0, |tx| tx.acks()),
            confirm: self.confirms.is_some(),
            transactional: self.transaction.is_some(),
        }
    }
}
