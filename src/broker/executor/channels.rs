//! What the broker keeps of a channel: its consumers, its prefetch, its reply consumer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ConnectionExecutor;
use super::known::KnownQueues;
use crate::broker::events::EventKind;
use crate::broker::stats::{ChannelStats, Key};
use crate::model::{
    ChannelNumber, ChannelWindow, ConsumerId, Execution, QueueId, QueueKind, Refusal, Reply,
    Settlement, SettlementOutcome, Unsettled,
};
use crate::queue::QueueHandle;

/// One channel, as the broker sees it.
#[derive(Debug, Default)]
pub(super) struct ChannelContext {
    /// The shared window of `basic.qos` with `global=true`; made when it is first needed.
    pub window: Option<Arc<ChannelWindow>>,
    /// The limit for consumers that start from now on; 0 is none.
    pub prefetch: u32,
    /// Its consumers and their queues.
    pub consumers: HashMap<ConsumerId, QueueHandle>,
    /// Its consumer of direct replies, with the name that `reply-to` is rewritten to.
    pub reply: Option<(ConsumerId, String)>,
    /// The queue of a `basic.get` that waits for its message to be read.
    pub waiting_get: Option<QueueHandle>,
    /// The kind of the queue of the last `basic.get`.
    pub last_get: QueueKind,
    /// What it counts; none before `channel.open`.
    pub stats: Option<Arc<ChannelStats>>,
    /// Whether it has published.
    pub is_publisher: bool,
}

impl ChannelContext {
    /// The channel's window.
    pub fn window(&mut self) -> Arc<ChannelWindow> {
        Arc::clone(self.window.get_or_insert_default())
    }
}

impl ConnectionExecutor {
    pub(super) fn open_channel(&mut self, channel: ChannelNumber) -> Result<Execution, Refusal> {
        if let Some(user) = &self.user {
            let limit = self.user_limits().channels_max();
            if !self
                .broker
                .registry
                .open_channel(self.id, &user.name, limit)
            {
                return Err(Refusal::not_allowed(format!(
                    "number of channels opened for user '{}' has reached the maximum allowed user limit of {}",
                    user.name,
                    limit.unwrap_or_default()
                )));
            }
        }
        let context = ChannelContext {
            prefetch: u32::from(
                self.broker
                    .settings()
                    .default_consumer_prefetch
                    .unwrap_or(0),
            ),
            stats: Some(self.stats.channel_opened(channel, self.now.wall_ms)),
            ..ChannelContext::default()
        };
        self.broker.stats.churn.channels_created.add(1);
        self.channels.insert(channel, context);
        Ok(Execution::done(Reply::Done))
    }

    /// Ends a channel: its consumers first, so that nothing comes back to them; then every delivery that
    /// was not settled returns, sent or not.
    pub(super) fn close_channel(&mut self, channel: ChannelNumber, unsettled: Vec<Unsettled>) {
        let Some(context) = self.channels.remove(&channel) else {
            return;
        };
        if let Some(user) = &self.user {
            self.broker.registry.channel_closed(self.id, &user.name);
        }
        self.count_channel_end(channel, &context);
        if let Some((_, name)) = &context.reply {
            self.broker.reply_consumers.remove(name);
        }
        if let Some(handle) = &context.waiting_get {
            // A queue deleted meanwhile has answered.
            let _ = handle.cancel_gets(self.id, Some(channel), &mut self.courier.effects);
        }
        for (handle, consumers) in by_queue(context.consumers) {
            // A queue deleted meanwhile has no consumers.
            let _ = handle.remove_consumers(&consumers, self.now, &mut self.courier.effects);
        }
        self.return_unsettled(unsettled.into_iter());
        self.return_unsent(channel);
        self.flush_gathered();
        self.carry_out();
        // Another channel of this number must not be told of what this one published.
        self.unkept.forget(channel);
        self.completions.retain(|late| late.channel != channel);
    }

    fn count_channel_end(&self, channel: ChannelNumber, context: &ChannelContext) {
        let stats = &self.broker.stats;
        self.stats.channel_closed(channel);
        if let Some(channel) = &context.stats {
            stats.forget(Key::Channel(channel.id()));
        }
        stats.churn.channels_closed.add(1);
        if context.is_publisher
            && let Some(opened) = &self.opened
        {
            opened.vhost.stats.totals.publishers.add(-1);
            stats.totals.publishers.add(-1);
        }
    }

    /// Takes all consumers of the connection out of their queues.
    pub(super) fn remove_all_consumers(&mut self) {
        let contexts = self.channels.values_mut();
        let consumers = contexts.flat_map(|context| std::mem::take(&mut context.consumers));
        for (handle, consumers) in by_queue(consumers.collect()) {
            // A queue deleted meanwhile has no consumers.
            let _ = handle.remove_consumers(&consumers, self.now, &mut self.courier.effects);
        }
        self.carry_out();
    }

    fn return_unsettled(&mut self, unsettled: impl Iterator<Item = Unsettled>) {
        for delivery in unsettled {
            self.gathered.settle(&Settlement {
                delivery,
                outcome: SettlementOutcome::ReturnedByLoss,
            });
            if self.gathered.is_full() {
                self.flush_gathered();
            }
        }
    }

    /// What was handed to the channel and still waited in the inbox.
    fn return_unsent(&mut self, channel: ChannelNumber) {
        let unsent = self.origin.inbox.take_for_channel(channel);
        self.return_unsettled(unsent.into_iter());
    }

    pub(super) fn close_connection(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let channels: Vec<ChannelNumber> = self.channels.keys().copied().collect();
        for channel in channels {
            self.close_channel(channel, Vec::new());
        }
        let exclusive = self.exclusive_queues.take_ids();
        self.broker
            .end_exclusive_queues(exclusive, &mut self.courier.effects);
        self.carry_out();
        drop(self.origin.inbox.close());
        self.broker.registry.remove(self.id);
        self.stats.ended();
        self.broker.stats.forget(Key::Connection(self.id.0));
        if self.opened.is_some() {
            self.broker.stats.churn.connections_closed.add(1);
            let vhost = self.opened.as_ref().map(|opened| &opened.vhost.name);
            self.broker
                .tell(EventKind::ConnectionClosed, vhost, self.stats.name());
        }
        self.queues = KnownQueues::default();
        self.routes.clear();
    }

    /// `basic.qos`: per consumer for those that start later, or one window for the channel.
    pub(super) fn set_prefetch(
        &mut self,
        channel: ChannelNumber,
        count: u16,
        global: bool,
    ) -> Result<Execution, Refusal> {
        let Some(context) = self.channels.get_mut(&channel) else {
            return Ok(Execution::done(Reply::Done));
        };
        let window = context.window();
        if global {
            window.set_limit(u32::from(count));
        } else {
            context.prefetch = u32::from(count);
            // RabbitMQ lifts the channel's limit when one per consumer is set (rabbit_channel, basic.qos).
            window.set_limit(0);
        }
        self.courier.effects.windows.push(window);
        self.carry_out();
        Ok(Execution::done(Reply::Done))
    }
}

/// Consumers by their queue, in the order in which queues were declared and consumers started.
fn by_queue(
    consumers: HashMap<ConsumerId, QueueHandle>,
) -> impl Iterator<Item = (QueueHandle, Vec<ConsumerId>)> {
    let mut by_queue: BTreeMap<QueueId, (QueueHandle, Vec<ConsumerId>)> = BTreeMap::new();
    for (consumer, handle) in consumers {
        let (_, consumers) = by_queue.entry(handle.id()).or_insert((handle, Vec::new()));
        consumers.push(consumer);
    }
    by_queue.into_values().map(|(handle, mut consumers)| {
        consumers.sort_unstable();
        (handle, consumers)
    })
}
