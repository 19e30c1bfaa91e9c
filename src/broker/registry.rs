//! The open connections: who they are, how many there are of a user or a virtual host, how to close one.

use std::net::SocketAddr;
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::Mutex;

use super::stats::ConnectionStats;
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
    /// The address of ours that it has connected to.
    pub local: SocketAddr,
    /// The logged-in user, once there is one.
    pub user: Option<Name>,
    /// The open virtual host, once there is one.
    pub vhost: Option<Name>,
    /// Channels open now.
    pub channels: u32,
    /// What it counts and is.
    pub stats: Arc<ConnectionStats>,
    /// Its task.
    pub control: Arc<dyn ConnectionControl>,
}

impl OpenRefusal {
    /// 530 in RabbitMQ's words (`rabbit_reader`, `connection.open`).
    pub fn refusal(self, user: &str, vhost: &str) -> Refusal {
        Refusal::not_allowed(match self {
            Self::Vhost(limit) => format!(
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
            ),
            Self::User(limit) => format!(
                "connection refused for user '{user}': user connection limit ({limit}) is reached"
            ),
        })
    }
}

impl ConnectionEntry {
    /// Its name as RabbitMQ's API has it: `peer -> local`.
    pub fn name(&self) -> String {
        format!("{} -> {}", self.peer, self.local)
    }
}

/// Every connection of the node, with the counts that limits ask for.
#[derive(Debug, Default)]
pub struct Registry {
    connections: DashMap<ConnectionId, ConnectionEntry>,
    connections_of_user: DashMap<Name, u64>,
    connections_of_vhost: DashMap<Name, u64>,
    channels_of_user: DashMap<Name, u64>,
    /// Held while limits are looked at and a connection is counted.
    opening: Mutex<()>,
}

/// Connections that may be open; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenLimits {
    /// To the virtual host.
    pub of_vhost: Option<u64>,
    /// Of the user.
    pub of_user: Option<u64>,
}

/// Which limit refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRefusal {
    /// The virtual host's.
    Vhost(u64),
    /// The user's.
    User(u64),
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

    /// Whether one of the limits is reached.
    ///
    /// # Errors
    /// Which.
    pub fn check_open(
        &self,
        user: &str,
        vhost: &str,
        limits: OpenLimits,
    ) -> Result<(), OpenRefusal> {
        if let Some(limit) = limits.of_vhost
            && self.connections_of_vhost(vhost) >= limit
        {
            return Err(OpenRefusal::Vhost(limit));
        }
        if let Some(limit) = limits.of_user
            && self.connections_of_user(user) >= limit
        {
            return Err(OpenRefusal::User(limit));
        }
        Ok(())
    }

    /// The connection opens a virtual host, unless one of the limits is reached: they are looked at and counted in one step, so
    /// that of two connections at once only one gets the last place.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn open(
        &self,
        id: ConnectionId,
        user: &Name,
        vhost: &Name,
        limits: OpenLimits,
    ) -> Result<(), OpenRefusal> {
        let _opening = self.opening.lock();
        self.check_open(user, vhost, limits)?;
        if let Some(mut entry) = self.connections.get_mut(&id) {
            entry.user = Some(Arc::clone(user));
            entry.vhost = Some(Arc::clone(vhost));
        }
        add(&self.connections_of_user, user, 1);
        add(&self.connections_of_vhost, vhost, 1);
        Ok(())
    }

    /// A channel is opened, unless the user has as many as he may; looked at and counted in one step. `false` if he has.
    #[must_use]
    pub fn open_channel(&self, id: ConnectionId, user: &Name, limit: Option<u64>) -> bool {
        {
            let mut count = self.channels_of_user.entry(Arc::clone(user)).or_default();
            if limit.is_some_and(|limit| *count >= limit) {
                let is_unused = *count == 0;
                drop(count);
                if is_unused {
                    subtract(&self.channels_of_user, user, 0);
                }
                return false;
            }
            *count += 1;
        }
        if let Some(mut entry) = self.connections.get_mut(&id) {
            entry.channels += 1;
        }
        true
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

    /// Every connection, handshakes included, for readers.
    pub fn stats(&self) -> Vec<Arc<ConnectionStats>> {
        self.connections
            .iter()
            .map(|entry| Arc::clone(&entry.stats))
            .collect()
    }

    /// A connection, for readers.
    pub fn stats_of(&self, id: ConnectionId) -> Option<Arc<ConnectionStats>> {
        self.connections
            .get(&id)
            .map(|entry| Arc::clone(&entry.stats))
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

    /// Asks the connections to close that `is_meant` names. Gives their number.
    pub fn close_where(
        &self,
        refusal: &Refusal,
        is_meant: impl Fn(ConnectionId, &ConnectionEntry) -> bool,
    ) -> usize {
        let meant: Vec<Arc<dyn ConnectionControl>> = self
            .connections
            .iter()
            .filter(|entry| is_meant(*entry.key(), entry.value()))
            .map(|entry| Arc::clone(&entry.control))
            .collect();
        for control in &meant {
            control.close(refusal.clone());
        }
        meant.len()
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
                    peer: ([127, 0, 0, 1], 50_000).into(),
                    local: ([127, 0, 0, 1], 5672).into(),
                    user: None,
                    vhost: None,
                    channels: 0,
                    stats: ConnectionStats::new(
                        ConnectionId(number),
                        ([127, 0, 0, 1], 5672).into(),
                        None,
                    ),
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
