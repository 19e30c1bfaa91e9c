//! A connection's executor: runs its commands against the broker, with its caches and gathered work.
//!
//! One executor serves one connection and is called from that connection's task alone, so nothing here is
//! locked. Publishes and settlements of a burst are gathered by queue, so that a queue's lock is taken once
//! a burst; whatever must see their effects flushes them first.

mod channels;
mod commands;
mod counting;
mod gather;
mod known;
mod publish;
mod unkept;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::courier::Courier;
use super::registry::{ConnectionControl, ConnectionEntry};
use super::stats::ConnectionStats;
use super::topology::Unstored;
use super::{Broker, Vhost};
use crate::auth::{Access, User, UserLimits};
use crate::model::{
    ChannelInfo, ChannelNumber, Command, Completion, ConnectionId, ConnectionInfo,
    ConnectionProgress, ConsumerId, Execution, Executor, Now, Publish, Refusal, Reply, Routing,
    Settlement, StagedPublish, Traffic,
};
use crate::queue::Inbox;
use crate::routing::{RouteCache, Router};
use channels::ChannelContext;
use counting::Counting;
use gather::Gathered;
use known::KnownQueues;
use publish::CachedRoute;
use unkept::Unkept;

/// Where answers go that come later than their command, from the definition store's thread.
pub trait ReplySink: Send + Sync {
    /// Hands the answer to the connection's task and wakes it.
    fn reply(&self, channel: ChannelNumber, reply: Result<Reply, Refusal>);
}

/// Where a connection comes from and how it is reached.
#[derive(Clone)]
pub struct ConnectionOrigin {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address of ours that it has connected to.
    pub local: SocketAddr,
    /// Where late answers go.
    pub replies: Arc<dyn ReplySink>,
    /// How the connection is closed from outside.
    pub control: Arc<dyn ConnectionControl>,
    /// Where its deliveries go.
    pub inbox: Arc<Inbox>,
}

impl fmt::Debug for ConnectionOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionOrigin")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What a connection has once it opened a virtual host.
#[derive(Debug)]
struct Opened {
    vhost: Arc<Vhost>,
    access: Access,
}

/// The broker's side of one connection.
#[derive(Debug)]
pub struct ConnectionExecutor {
    broker: Arc<Broker>,
    id: ConnectionId,
    origin: ConnectionOrigin,
    now: Now,
    user: Option<Arc<User>>,
    opened: Option<Opened>,
    channels: HashMap<ChannelNumber, ChannelContext>,
    /// Queues that this connection consumes or gets from, for its settlements.
    queues: KnownQueues,
    exclusive_queues: KnownQueues,
    routes: RouteCache<CachedRoute>,
    /// What the remembered routes hold at most, see [`publish::ROUTE_STEPS_MAX`].
    route_steps: usize,
    router: Router,
    gathered: Gathered,
    completions: VecDeque<Completion>,
    /// Publishes that every queue has, and that wait for the journal.
    unkept: Unkept,
    /// Whether it published: it is held up when the journal cannot keep pace.
    has_published: bool,
    courier: Courier,
    is_closed: bool,
    stats: Arc<ConnectionStats>,
    counting: Counting,
}

impl ConnectionExecutor {
    /// An executor for a socket that was just accepted, entered in the registry.
    pub fn new(broker: Arc<Broker>, origin: ConnectionOrigin) -> Self {
        let executor = Self::unlisted(broker, origin);
        executor.broker.registry.insert(
            executor.id,
            ConnectionEntry {
                peer: executor.origin.peer,
                local: executor.origin.local,
                user: None,
                vhost: None,
                channels: 0,
                control: Arc::clone(&executor.origin.control),
                stats: Arc::clone(&executor.stats),
            },
        );
        executor
    }

    /// An executor for a user who is logged in, with an open channel; it stands in no list.
    ///
    /// # Errors
    /// 530 if he has no permission in the virtual host.
    pub(in crate::broker) fn direct(
        broker: Arc<Broker>,
        origin: ConnectionOrigin,
        user: Arc<User>,
        vhost: Arc<Vhost>,
        channel: ChannelNumber,
    ) -> Result<Self, Refusal> {
        let access = broker.directory.access(&user.name, &vhost.name)?;
        let mut executor = Self::unlisted(broker, origin);
        executor.opened = Some(Opened { vhost, access });
        // Counted as a channel of the user, because its end is.
        // Without a limit it is never refused.
        let _ = executor
            .broker
            .registry
            .open_channel(executor.id, &user.name, None);
        executor.user = Some(user);
        executor.channels.insert(channel, ChannelContext::default());
        Ok(executor)
    }

    fn unlisted(broker: Arc<Broker>, origin: ConnectionOrigin) -> Self {
        let id = broker.next_connection_id();
        Self {
            now: broker.clock.now(),
            stats: ConnectionStats::new(id, origin.peer, Some(origin.local)),
            id,
            broker,
            origin,
            user: None,
            opened: None,
            channels: HashMap::new(),
            queues: KnownQueues::default(),
            exclusive_queues: KnownQueues::default(),
            routes: RouteCache::default(),
            route_steps: 0,
            router: Router::default(),
            gathered: Gathered::default(),
            completions: VecDeque::new(),
            unkept: Unkept::default(),
            has_published: false,
            courier: Courier::default(),
            is_closed: false,
            counting: Counting::default(),
        }
    }

    pub(in crate::broker) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The connection's id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Sets the time of the burst that begins.
    pub fn begin_burst(&mut self, now: Now) {
        self.now = now;
    }

    /// Consumers that found the inbox full, and may go on now that it was drained.
    pub fn wake_refused(&mut self) {
        let mut refused = Vec::new();
        self.origin.inbox.take_refused(&mut refused);
        if refused.is_empty() {
            return;
        }
        // A consumer that took a place of its channel's window and found the inbox full has given the place back
        // without a word to those who were parked on the window meanwhile.
        let windows = self.channels.values().filter_map(|c| c.window.as_ref());
        let parked = windows.filter(|window| window.has_parked());
        self.courier.effects.windows.extend(parked.cloned());
        for (consumer, queue) in refused {
            if let Some(handle) = self.broker.queue(queue) {
                // A queue deleted meanwhile has no consumer to wake.
                let _ = handle.consumer_ready(consumer, self.now, &mut self.courier.effects);
            }
        }
        self.carry_out();
    }

    /// A queue ended this consumer.
    pub fn forget_consumer(&mut self, channel: ChannelNumber, consumer: ConsumerId) {
        if let Some(context) = self.channels.get_mut(&channel) {
            context.consumers.remove(&consumer);
        }
    }

    /// Routes that are remembered.
    #[cfg(test)]
    pub(super) fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// The window of a channel.
    #[cfg(test)]
    pub(super) fn window_of(&mut self, channel: ChannelNumber) -> Arc<crate::model::ChannelWindow> {
        self.channels.entry(channel).or_default().window()
    }

    /// Queues and consumers that this connection remembers, deleted ones among them.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let consumers: usize = self.channels.values().map(|c| c.consumers.len()).sum();
        self.queues.len() + self.exclusive_queues.len() + consumers
    }

    /// Gives idle capacity back. Routes are looked up again after that; they may hold queues that are gone.
    pub fn release_buffers(&mut self) {
        self.routes.clear();
        self.route_steps = 0;
        self.router = Router::default();
        if !self.courier.effects.needs_execution() {
            self.courier = Courier::default();
        }
        self.gathered.release();
        self.counting.release();
        self.completions.shrink_to_fit();
        self.channels.shrink_to_fit();
    }

    /// Does what the queues decided.
    fn carry_out(&mut self) {
        self.courier.carry_out(&self.broker, self.now);
    }

    fn opened(&mut self) -> Result<&mut Opened, Refusal> {
        self.opened
            .as_mut()
            .ok_or_else(|| Refusal::internal_error("no virtual host is open on this connection"))
    }

    /// The user's limits as they are now, which may have changed since he logged in.
    fn user_limits(&self) -> UserLimits {
        let user = self.user.as_ref();
        user.and_then(|user| self.broker.directory.user(&user.name))
            .map(|user| user.limits)
            .unwrap_or_default()
    }

    fn vhost(&self) -> Result<Arc<Vhost>, Refusal> {
        self.opened
            .as_ref()
            .map(|opened| Arc::clone(&opened.vhost))
            .ok_or_else(|| Refusal::internal_error("no virtual host is open on this connection"))
    }

    /// Answers `reply` once a change is durable: at once when nothing durable has changed.
    fn answer_when_stored(
        &self,
        channel: ChannelNumber,
        mut unstored: Unstored<'_>,
        reply: Reply,
    ) -> Execution {
        let waits_for_others = unstored.rests_on_earlier && !self.broker.store.is_settled();
        if unstored.changes.is_empty() && !waits_for_others {
            return Execution::done(reply);
        }
        // What is left of it is the lock, until the store has the changes.
        let changes = std::mem::take(&mut unstored.changes);
        let replies = Arc::clone(&self.origin.replies);
        self.broker.store.apply_all(changes, move |result| {
            replies.reply(
                channel,
                result.map(|()| reply).map_err(|error| {
                    tracing::error!(target: "haremq::store", %error, "a definition could not be stored");
                    Refusal::internal_error(format!("the definition could not be stored: {error}"))
                }),
            );
        });
        Execution::Later
    }
}

impl Executor for ConnectionExecutor {
    fn execute(&mut self, channel: ChannelNumber, command: Command) -> Execution {
        self.flush();
        match self.run(channel, command) {
            Ok(execution) => execution,
            Err(refusal) => Execution::refused(refusal),
        }
    }

    fn publish(
        &mut self,
        channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<Routing, Refusal> {
        self.publish_now(channel, &publish)
    }

    fn stage(
        &mut self,
        channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<StagedPublish, Refusal> {
        self.stage_for_commit(channel, &publish)
    }

    fn settle(&mut self, _channel: ChannelNumber, settlement: Settlement) {
        self.gathered.settle(&settlement);
        if self.gathered.is_full() {
            self.flush_gathered();
        }
    }

    fn flush(&mut self) {
        self.flush_gathered();
    }

    fn prepare_end(&mut self) {
        self.origin.inbox.refuse();
        self.flush_gathered();
        self.remove_all_consumers();
    }

    fn describe(&mut self, info: ConnectionInfo) {
        self.describe_now(info);
    }

    fn report_channel(&mut self, info: &ChannelInfo, traffic: &Traffic) {
        self.report_channel_now(info, traffic);
    }

    fn report_connection(&mut self, progress: &ConnectionProgress) {
        self.report_connection_now(progress);
    }

    fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
}
