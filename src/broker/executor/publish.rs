//! The way of a publish: exchange, permission, properties, routes, and into the queues' batches.
//!
//! The order of the checks is RabbitMQ's (`rabbit_channel`, `basic.publish`): write permission before
//! existence, internal exchanges, reply-to, expiration, CC and BCC, topic permission, user-id.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::Vhost;
use super::super::reply_to::{REPLY_TO, ReplyConsumers};
use super::super::topology::not_found;
use super::ConnectionExecutor;
use crate::auth::{Operation, Resource};
use crate::model::{
    Body, ChannelNumber, Message, Name, Publish, QueueId, Refusal, Routing, SharedMessage,
    StagedPublish, resource,
};
use crate::protocol::{Properties, PropertyFacts, Table, Value};
use crate::queue::QueueHandle;
use crate::queue::arguments::EXPIRY_MS_MAX;
use crate::routing::{ExchangeHandle, ExchangeKind, Topology, extra_routing_keys};

/// The tag that lets a user publish in another's name (RabbitMQ's document "Validated User-ID").
const IMPERSONATOR: &str = "impersonator";

/// A route that was found allowed: valid while the routing epochs hold (the cache's business), the user's
/// permissions stand and its queues exist.
#[derive(Clone, Debug)]
pub(super) struct CachedRoute {
    exchange: Name,
    queues: Arc<[QueueHandle]>,
    access_epoch: u64,
}

impl CachedRoute {
    fn is_current(&self, access_epoch: u64) -> bool {
        self.access_epoch == access_epoch && !self.queues.iter().any(QueueHandle::is_gone)
    }
}

/// Queues and exchanges of all routes that a connection has remembered since it last forgot them: the cache bounds
/// the number of routes, this their length, or a few keys of a wide exchange would fill the memory.
pub(super) const ROUTE_STEPS_MAX: usize = 16 * 1024;

/// Properties to store: as they came, or rewritten.
struct Prepared<'a> {
    properties: Cow<'a, [u8]>,
    facts: PropertyFacts,
}

/// A publish that is allowed, with the queues that it goes to.
struct Routed {
    message: SharedMessage,
    queues: Arc<[QueueHandle]>,
    took_reply: bool,
}

impl ConnectionExecutor {
    pub(super) fn publish_now(
        &mut self,
        channel: ChannelNumber,
        publish: &Publish<'_>,
    ) -> Result<Routing, Refusal> {
        let routed = self.route(channel, publish)?;
        self.count_publish(publish, &routed);
        if routed.queues.is_empty() && !routed.took_reply {
            return Ok(Routing::Unroutable);
        }
        self.has_published = true;
        if publish.confirm.is_none() {
            self.check_journal(&routed)?;
        }
        self.gathered
            .publish(channel, publish.confirm, routed.message, &routed.queues);
        if self.gathered.is_full() {
            self.flush_gathered();
        }
        Ok(Routing::Routed)
    }

    fn count_publish(&mut self, publish: &Publish<'_>, routed: &Routed) {
        if let Some(opened) = &self.opened {
            self.counting.published(
                &opened.vhost,
                routed.message.exchange(),
                publish.body.as_slice().len(),
                routed.queues.len() as u32,
            );
        }
    }

    /// After a failure of the journal a publish that it should keep is refused: by nack in confirm mode, where the queues'
    /// locks decide, and so if the channel has no confirms.
    fn check_journal(&self, routed: &Routed) -> Result<(), Refusal> {
        let journal = self.broker.messages.journal();
        if journal.failure().is_none() {
            return Ok(());
        }
        let is_durable = routed
            .queues
            .iter()
            .any(|queue| queue.declaration().durable);
        if is_durable && routed.message.facts().is_persistent() {
            return Err(not_stored());
        }
        Ok(())
    }

    pub(super) fn stage_for_commit(
        &mut self,
        channel: ChannelNumber,
        publish: &Publish<'_>,
    ) -> Result<StagedPublish, Refusal> {
        self.has_published = true;
        let routed = self.route_without_reply(channel, publish)?;
        self.count_publish(publish, &routed);
        Ok(StagedPublish {
            mandatory: publish.mandatory && !self.is_reply(&routed.message),
            queues: routed.queues.iter().map(QueueHandle::id).collect(),
            message: routed.message,
        })
    }

    fn is_reply(&self, message: &Message) -> bool {
        message.exchange().is_empty() && ReplyConsumers::is_reply_name(message.routing_key())
    }

    /// Routes, and hands the message over at once if its key names a direct reply's consumer.
    fn route(&mut self, channel: ChannelNumber, publish: &Publish<'_>) -> Result<Routed, Refusal> {
        let mut routed = self.route_without_reply(channel, publish)?;
        if self.is_reply(&routed.message) {
            // Never returned, even if the requester is gone (document "Direct Reply-to").
            routed.took_reply = true;
            self.deliver_reply(&routed.message);
        }
        Ok(routed)
    }

    pub(super) fn deliver_reply(&self, message: &SharedMessage) {
        if let Ok(name) = std::str::from_utf8(message.routing_key()) {
            self.broker.reply_consumers.deliver(name, message);
        }
    }

    fn route_without_reply(
        &mut self,
        channel: ChannelNumber,
        publish: &Publish<'_>,
    ) -> Result<Routed, Refusal> {
        let has_extra_keys = publish.facts.has_cc() || publish.facts.has_bcc();
        let access_epoch = self.opened()?.access.epoch();
        let cached = if has_extra_keys {
            None
        } else {
            self.routes
                .get(publish.exchange, publish.routing_key)
                .filter(|route| route.is_current(access_epoch))
                .cloned()
        };
        if let Some(route) = cached {
            let prepared = self.prepare(channel, publish)?;
            self.check_user_id(&prepared, publish)?;
            return Ok(Routed {
                message: build_message(route.exchange, publish, prepared),
                queues: route.queues,
                took_reply: false,
            });
        }
        self.route_uncached(channel, publish, access_epoch)
    }

    fn route_uncached(
        &mut self,
        channel: ChannelNumber,
        publish: &Publish<'_>,
        access_epoch: u64,
    ) -> Result<Routed, Refusal> {
        let vhost = self.vhost()?;
        let name = std::str::from_utf8(publish.exchange).map_err(|_| {
            not_found(
                "exchange",
                &String::from_utf8_lossy(publish.exchange),
                &vhost.name,
            )
        })?;
        self.opened()?
            .access
            .check(Operation::Write, Resource::Exchange(name))?;
        let exchange: Name;
        let mut start = None;
        let mut is_topic = false;
        if name.is_empty() {
            exchange = Name::from("");
        } else {
            let found = vhost
                .exchange(name)
                .ok_or_else(|| not_found("exchange", name, &vhost.name))?;
            let internal;
            (exchange, internal, is_topic) = found.read(|exchange| {
                let definition = exchange.definition();
                (
                    Arc::clone(&definition.name),
                    definition.internal,
                    definition.kind == ExchangeKind::Topic,
                )
            });
            if internal {
                return Err(Refusal::access_refused(format!(
                    "cannot publish to internal {}",
                    resource("exchange", name, &vhost.name)
                )));
            }
            start = Some(found);
        }
        let prepared = self.prepare(channel, publish)?;
        let headers = publish.facts.view(publish.properties).headers();
        let mut keys = vec![publish.routing_key];
        if let Some(headers) = headers
            && (publish.facts.has_cc() || publish.facts.has_bcc())
        {
            extra_routing_keys(headers, &mut keys)?;
        }
        if is_topic {
            let access = &mut self.opened()?.access;
            for key in &keys {
                access.check_topic(Operation::Write, name, key)?;
            }
        }
        self.check_user_id(&prepared, publish)?;
        let queues = self.find_queues(
            &vhost,
            start.as_ref(),
            &exchange,
            &keys,
            headers,
            access_epoch,
        );
        Ok(Routed {
            message: build_message(exchange, publish, prepared),
            queues,
            took_reply: false,
        })
    }

    fn find_queues(
        &mut self,
        vhost: &Vhost,
        start: Option<&<Vhost as Topology>::Handle>,
        exchange: &Name,
        keys: &[&[u8]],
        headers: Option<Table<'_>>,
        access_epoch: u64,
    ) -> Arc<[QueueHandle]> {
        let route = match start {
            Some(start) => self.router.route(vhost, start, keys, headers),
            None => self.router.route_default(vhost, keys),
        };
        let queues: Arc<[QueueHandle]> = route
            .queues
            .iter()
            .filter_map(|id| self.broker.queue(*id))
            .collect();
        if route.cacheable && queues.len() == route.queues.len() {
            self.route_steps += queues.len() + route.visited.len();
            if self.route_steps > ROUTE_STEPS_MAX {
                self.routes.clear();
                self.route_steps = queues.len() + route.visited.len();
            }
            self.routes.insert(
                exchange.as_bytes(),
                keys[0],
                route.visited,
                CachedRoute {
                    exchange: Arc::clone(exchange),
                    queues: Arc::clone(&queues),
                    access_epoch,
                },
            );
        }
        queues
    }

    /// The name under which the channel's replies arrive.
    fn reply_name(&self, channel: ChannelNumber) -> Result<String, Refusal> {
        self.channels
            .get(&channel)
            .and_then(|context| context.reply.as_ref())
            .map(|(_, name)| name.clone())
            .ok_or_else(|| Refusal::precondition_failed("fast reply consumer does not exist"))
    }

    /// Rewrites `reply-to`, checks `expiration`, takes BCC out of what is stored.
    fn prepare<'p>(
        &self,
        channel: ChannelNumber,
        publish: &Publish<'p>,
    ) -> Result<Prepared<'p>, Refusal> {
        let facts = publish.facts;
        let view = facts.view(publish.properties);
        let asks_reply = view
            .reply_to()
            .is_some_and(|reply_to| reply_to.as_bytes() == REPLY_TO.as_bytes());
        let reply_name = if asks_reply {
            Some(self.reply_name(channel)?)
        } else {
            None
        };
        if let Some(expiration) = view.expiration() {
            check_expiration(expiration.as_bytes())?;
        }
        if reply_name.is_none() && !facts.has_bcc() {
            return Ok(Prepared {
                properties: Cow::Borrowed(publish.properties),
                facts,
            });
        }
        let mut properties: Properties = view.decode();
        if let Some(name) = reply_name {
            properties.reply_to = Some(name.into());
        }
        if let Some(headers) = &mut properties.headers
            && let Some(Value::Array(_)) = headers.get("BCC")
        {
            headers.remove("BCC");
        }
        let mut encoded = Vec::with_capacity(publish.properties.len() + 64);
        properties.encode(&mut encoded);
        let facts = PropertyFacts::of(&encoded).map_err(|fault| {
            Refusal::internal_error(format!("rewritten properties are malformed: {fault:?}"))
        })?;
        Ok(Prepared {
            properties: Cow::Owned(encoded),
            facts,
        })
    }

    /// `user-id` must be the logged-in user, unless that one may impersonate.
    fn check_user_id(&self, prepared: &Prepared<'_>, publish: &Publish<'_>) -> Result<(), Refusal> {
        if !publish.facts.has_user_id() {
            return Ok(());
        }
        let Some(user) = &self.user else {
            return Ok(());
        };
        match prepared.facts.view(&prepared.properties).user_id() {
            Some(claimed)
                if claimed.as_bytes() != user.name.as_bytes() && !user.has_tag(IMPERSONATOR) =>
            {
                Err(Refusal::precondition_failed(format!(
                    "user_id property set to '{claimed}' but authenticated user was '{}'",
                    user.name
                )))
            }
            _ => Ok(()),
        }
    }

    /// Delivers the publishes of a transaction; gives the indices of those to return.
    pub(super) fn commit_publishes(&mut self, publishes: &[StagedPublish]) -> Vec<usize> {
        let mut returned = Vec::new();
        for (index, staged) in publishes.iter().enumerate() {
            if self.is_reply(&staged.message) {
                self.deliver_reply(&staged.message);
                continue;
            }
            if staged.queues.is_empty() {
                if staged.mandatory {
                    returned.push(index);
                }
                continue;
            }
            let queues: Vec<QueueHandle> = staged
                .queues
                .iter()
                .filter_map(|id: &QueueId| self.broker.queue(*id))
                .collect();
            self.gathered
                .publish(0, None, staged.message.clone(), &queues);
        }
        returned
    }
}

/// 541 for what the journal would have to keep, after it has failed.
pub(super) fn not_stored() -> Refusal {
    Refusal::internal_error("persistent messages cannot be stored since a failure of the disk")
}

fn build_message(exchange: Name, publish: &Publish<'_>, prepared: Prepared<'_>) -> SharedMessage {
    Arc::new(match &publish.body {
        Body::Borrowed(body) => Message::copied(
            exchange,
            publish.routing_key,
            &prepared.properties,
            prepared.facts,
            body,
        ),
        Body::Assembled(body) => Message::with_body(
            exchange,
            publish.routing_key,
            &prepared.properties,
            prepared.facts,
            body.clone(),
        ),
    })
}

/// `expiration` is a decimal number of milliseconds (`rabbit_basic:parse_expiration`).
fn check_expiration(text: &[u8]) -> Result<(), Refusal> {
    let refuse = |reason: String| {
        Err(Refusal::precondition_failed(format!(
            "invalid expiration '{}': {reason}",
            String::from_utf8_lossy(text)
        )))
    };
    let (sign, rest) = match text {
        [b'-', rest @ ..] => (-1_i128, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return refuse("no_integer".to_owned());
    }
    if digits < rest.len() {
        let leftover = String::from_utf8_lossy(&rest[digits..]);
        return refuse(format!("{{leftover_string,\"{leftover}\"}}"));
    }
    let value = rest.iter().fold(0_i128, |value, digit| {
        (value.saturating_mul(10)).saturating_add(i128::from(digit - b'0'))
    }) * sign;
    if value < 0 {
        return refuse(format!("{{value_negative,{value}}}"));
    }
    if value > i128::from(EXPIRY_MS_MAX) {
        return refuse(format!("{{value_too_large,{value}}}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiration_is_a_whole_number_of_milliseconds() {
        assert!(check_expiration(b"0").is_ok());
        assert!(check_expiration(b"60000").is_ok());
        for (text, reason) in [
            ("", "no_integer"),
            ("x", "no_integer"),
            ("1x", "{leftover_string,\"x\"}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
        ] {
            let refusal = check_expiration(text.as_bytes()).expect_err(text);
            assert_eq!(
                refusal.text,
                format!("invalid expiration '{text}': {reason}")
            );
        }
    }
}
