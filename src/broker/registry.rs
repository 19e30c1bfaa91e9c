//! The open connections: who they are, how many there are of a user or a virtual host, how to close one.

use std::net::SocketAddr;
use std::sync::Arc;

use dashmap::DashMap;

use crate::model::{ConnectionId, Name, Refusal};

/// Room for so many connections is kept when they leave.
const ROOM_KEPT: usize = 1024;

/// What can be asked of a connection's task from outside.
pub trait ConnectionControl: Send + Sync + std::fmt::Debug {
    /// Closes the connection with a reply code and text, as `connection.close` from the server.
    fn close(&self, refusal: Refusal);

    /// Tells the connection to look at the node's alarms.
    fn alarm_changed(&self);
}

/// An open connection as the outside sees it.
#[derive(Clone, Debug)]
pub struct ConnectionEntry {
    /// The client's address.
    pub peer: SocketAddr,
    /// The logged-in user, once there is one.
    pub user: Option<Name>,
    /// The open virtual host, once there is one.
    pub vhost: Option<Name>,
    /// Channels open now.
    pub channels: u32,
    /// Its task.
    pub control: Arc<dyn ConnectionControl>,
}

/// Every connection of the node, with the counts that limits ask for.
#[derive(Debug, Default)]
pub struct Registry {
    connections: DashMap<ConnectionId, ConnectionEntry>,
    connections_of_user: DashMap<Name, u64>,
    connections_of_vhost: DashMap<Name, u64>,
    channels_of_user: DashMap<Name, u64>,
}

fn add(counts: &DashMap<Name, u64>, key: &Name, step: u64) {
    *counts.entry(Arc::clone(key)).or_default() += step;
}

fn subtract(counts: &DashMap<Name, u64>, key: &Name, step: u64) {
    if let Some(mut count) = counts.get_mut(key) {
        *count = count.saturating_sub(step);
    }
    counts.remove_if(key, |_, count| *count == 0);
}

fn count(counts: &DashMap<Name, u64>, key: &str) -> u64 {
    counts.get(key).map_or(0, |count| *count)
}

impl Registry {
    /// A socket was accepted.
    pub fn insert(&self, id: ConnectionId, entry: ConnectionEntry) {
        self.connections.insert(id, entry);
    }

    /// The connection opened a virtual host.
    pub fn opened(&self, id: ConnectionId, user: &Name, vhost: &Name) {
        if let Some(mut entry) = self.connections.get_mut(&id) {
            entry.user = Some(Arc::clone(user));
            entry.vhost = Some(Arc::clone(vhost));
        }
        add(&self.connections_of_user, user, 1);
        add(&self.connections_of_vhost, vhost, 1);
    }

    /// A channel was opened.
    pub fn channel_opened(&self, id: ConnectionId, user: &Name) {
        if let Some(mut entry) = self.connections.get_mut(&id) {
            entry.channels += 1;
        }
        add(&self.channels_of_user, user, 1);
    }

    /// A channel was closed.
    pub fn channel_closed(&self, id: ConnectionId, user: &Name) {
        if let Some(mut entry) = self.connections.get_mut(&id) {
            entry.channels = entry.channels.saturating_sub(1);
        }
        subtract(&self.channels_of_user, user, 1);
    }

    /// The connection is gone.
    pub fn remove(&self, id: ConnectionId) {
        let Some((_, entry)) = self.connections.remove(&id) else {
            return;
        };
        if let (Some(user), Some(vhost)) = (&entry.user, &entry.vhost) {
            subtract(&self.connections_of_user, user, 1);
            subtract(&self.connections_of_vhost, vhost, 1);
            subtract(&self.channels_of_user, user, u64::from(entry.channels));
        }
        self.shrink_if_sparse();
    }

    /// Gives room back after a crowd has left. At a quarter, so that each shrinking is paid for by the removals before it.
    fn shrink_if_sparse(&self) {
        let room = self.connections.capacity();
        if room > ROOM_KEPT && self.connections.len() < room / 4 {
            self.connections.shrink_to_fit();
        }
    }

    /// Connections, handshakes included.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Open connections of a user.
    pub fn connections_of_user(&self, user: &str) -> u64 {
        count(&self.connections_of_user, user)
    }

    /// Open connections to a virtual host.
    pub fn connections_of_vhost(&self, vhost: &str) -> u64 {
        count(&self.connections_of_vhost, vhost)
    }

    /// Open channels of a user.
    pub fn channels_of_user(&self, user: &str) -> u64 {
        count(&self.channels_of_user, user)
    }

    /// Asks every connection to close.
    pub fn close_all(&self, refusal: &Refusal) {
        for control in self.controls() {
            control.close(refusal.clone());
        }
    }

    /// Tells every connection to look at the node's alarms.
    pub fn alarm_changed(&self) {
        for control in self.controls() {
            control.alarm_changed();
        }
    }

    /// Collected first, so that no guard of the map is held while a task is woken.
    fn controls(&self) -> Vec<Arc<dyn ConnectionControl>> {
        self.connections
            .iter()
            .map(|entry| Arc::clone(&entry.control))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl ConnectionControl for Nobody {
        fn close(&self, _: Refusal) {}

        fn alarm_changed(&self) {}
    }

    #[test]
    fn the_room_of_a_crowd_that_left_is_given_back_beside_one_that_stays() {
        let registry = Registry::default();
        let count = 20_000;
        for number in 0..count {
            registry.insert(
                ConnectionId(number),
                ConnectionEntry {
                    peer: ([127, 0, 0, 1], 5672).into(),
                    user: None,
                    vhost: None,
                    channels: 0,
                    control: Arc::new(Nobody),
                },
            );
        }
        assert!(registry.connections.capacity() >= count as usize);
        for number in 1..count {
            registry.remove(ConnectionId(number));
        }
        assert_eq!(registry.connection_count(), 1);
        assert!(registry.connections.capacity() <= ROOM_KEPT);
    }
}
