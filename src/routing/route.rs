//! The walk from the exchange of a publish to queues, over bindings between exchanges and over alternate
//! exchanges.
//!
//! In: a [`Topology`] to look names up in, an exchange, routing keys and headers; out: a [`Route`]. Each
//! exchange is visited once, so that cycles end, and each queue is found once
//! (`rabbit_exchange.erl`, `route1`). Who guards an exchange and what a queue is are unknown here.

use std::collections::HashSet;

use super::{Destination, Epoch, Exchange, Visited};
use crate::model::{Name, QueueId};
use crate::protocol::Table;

/// Exchanges on the way of a route that is worth remembering: a hit asks each of them for its epoch.
const CACHEABLE_VISITS_MAX: usize = 64;

/// Entries of each list that a [`Router`] keeps room for between two routes.
const SCRATCH_ENTRIES_MAX: usize = 1024;

/// The exchanges and queues of a virtual host, by name.
pub trait Topology {
    /// What an exchange is found as.
    type Handle: ExchangeHandle;

    /// The exchange of that name. Never asked for the default exchange.
    fn exchange(&self, name: &str) -> Option<Self::Handle>;

    /// The queue of that name, for the default exchange.
    fn queue(&self, name: &[u8]) -> Option<QueueId>;

    /// Moves after each declaration of a new exchange, because a route may have met a name without one.
    fn declarations(&self) -> &Epoch;
}

/// A way to look at an exchange, guarded by whoever implements this.
pub trait ExchangeHandle {
    /// Calls `look` while nobody changes the exchange.
    fn read<R>(&self, look: impl FnOnce(&Exchange) -> R) -> R;
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Route<'r> {
    /// The queues, each once, in ascending order: also an order in which to lock them.
    pub queues: &'r [QueueId],
    /// What the route rests on. Nothing for the default exchange: there the queue itself says when it is
    /// gone.
    pub visited: &'r [Visited],
    /// Whether exchange and routing key alone led here, so that the route may be remembered: not with
    /// further keys (CC, BCC), not through a headers exchange, not when the default exchange found
    /// nothing, not over too many exchanges.
    pub cacheable: bool,
}

/// Finds routes; it owns the lists that a walk needs, so that a warm one allocates nothing.
#[derive(Debug, Default)]
pub struct Router {
    queues: Vec<QueueId>,
    visited: Vec<Visited>,
    found: Vec<Destination>,
    pending: Vec<Name>,
    /// Exchanges that were visited or wait to be; empty as long as no exchange leads to another.
    seen: HashSet<Name>,
    cacheable: bool,
}

impl Router {
    /// Routes a message published to `start`.
    ///
    /// `keys` are its routing key and those of CC and BCC; `headers` is `None` for a message without.
    pub fn route<T: Topology>(
        &mut self,
        topology: &T,
        start: &T::Handle,
        keys: &[&[u8]],
        headers: Option<Table<'_>>,
    ) -> Route<'_> {
        self.reset(keys);
        start.read(|exchange| self.visit(exchange, keys, headers));
        while let Some(name) = self.pending.pop() {
            if let Some(next) = topology.exchange(&name) {
                next.read(|exchange| self.visit(exchange, keys, headers));
                continue;
            }
            // It may be declared at any moment: the second look comes after the number was read.
            let declarations = topology.declarations().visit();
            match topology.exchange(&name) {
                Some(next) => next.read(|exchange| self.visit(exchange, keys, headers)),
                None => self.visited.push(declarations),
            }
        }
        self.queues.sort_unstable();
        self.queues.dedup();
        self.cacheable &= self.visited.len() <= CACHEABLE_VISITS_MAX;
        self.answer()
    }

    /// Routes a message published to the default exchange: each key is the name of a queue.
    pub fn route_default<T: Topology>(&mut self, topology: &T, keys: &[&[u8]]) -> Route<'_> {
        self.reset(keys);
        self.queues
            .extend(keys.iter().filter_map(|name| topology.queue(name)));
        self.queues.sort_unstable();
        self.queues.dedup();
        self.cacheable &= !self.queues.is_empty();
        self.answer()
    }

    fn visit(&mut self, exchange: &Exchange, keys: &[&[u8]], headers: Option<Table<'_>>) {
        if exchange.is_retired() {
            // It was deleted after it was looked up, and its epoch will not move again.
            self.cacheable = false;
            return;
        }
        self.visited.push(exchange.epoch().visit());
        self.cacheable &= exchange.routes_by_key();
        exchange.matches(keys, headers, &mut self.found);
        if self.found.is_empty()
            && let Some(alternate) = exchange.alternate()
        {
            self.found.push(Destination::Exchange(alternate.clone()));
        }
        while let Some(destination) = self.found.pop() {
            match destination {
                Destination::Queue(queue) => self.queues.push(queue),
                Destination::Exchange(name) => {
                    if self.seen.is_empty() {
                        self.seen.insert(exchange.name().clone());
                    }
                    // The default exchange has no bindings to look through, so that an alternate
                    // exchange of that name leads nowhere.
                    if !name.is_empty() && self.seen.insert(name.clone()) {
                        self.pending.push(name);
                    }
                }
            }
        }
    }

    fn reset(&mut self, keys: &[&[u8]]) {
        self.queues.clear();
        self.queues.shrink_to(SCRATCH_ENTRIES_MAX);
        self.visited.clear();
        self.visited.shrink_to(SCRATCH_ENTRIES_MAX);
        self.found.shrink_to(SCRATCH_ENTRIES_MAX);
        self.pending.shrink_to(SCRATCH_ENTRIES_MAX);
        if !self.seen.is_empty() {
            self.seen.clear();
            self.seen.shrink_to(SCRATCH_ENTRIES_MAX);
        }
        self.cacheable = keys.len() == 1;
    }

    fn answer(&self) -> Route<'_> {
        Route {
            queues: &self.queues,
            visited: &self.visited,
            cacheable: self.cacheable,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
