//! The rare methods: each command of a session against the broker, with its permission.
//!
//! What a command needs is RabbitMQ's table (document "Access Control"): permission is
//! checked before existence, so that an unauthorised name gives 403 and not 404.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::super::Vhost;
use super::super::registry::OpenLimits;
use super::super::reply_to::{REPLY_TO, ReplyConsumer, ReplyConsumers};
use super::super::stats::Protocol;
use super::super::topology::{BindingRequest, QueueRequest, not_found};
use super::publish::not_stored;
use super::{ConnectionExecutor, Opened};
use crate::auth::{Operation, Resource};
use crate::model::{
    ChannelNumber, Command, ConsumerId, Delivery, Execution, InboxEvent, Name, Outlet, QueueCounts,
    Refusal, Reply, Settlement, StagedPublish,
};
use crate::protocol::FieldTable;
use crate::queue::{AskedGet, ConsumeArguments, GetOutcome, NewConsumer, QueueError, QueueHandle};
use crate::routing::{ExchangeDefinition, ExchangeKind};
use crate::store::definitions::DestinationKind;

/// `<prefix><22 characters of base64url>`, as `rabbit_guid:binary` makes them of 16 random octets.
fn generated_name(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(Uuid::new_v4()))
}

/// The tag that the client asked for, or one of the broker's.
fn consumer_tag_or_generated(asked: String) -> Name {
    if asked.is_empty() {
        generated_name("amq.ctag-").into()
    } else {
        asked.into()
    }
}

fn check_not_default_exchange(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::access_refused(
            "operation not permitted on the default exchange",
        ));
    }
    Ok(())
}

impl ConnectionExecutor {
    pub(super) fn run(
        &mut self,
        channel: ChannelNumber,
        command: Command,
    ) -> Result<Execution, Refusal> {
        match command {
            Command::Authenticate {
                mechanism,
                response,
                ..
            } => self.authenticate(&mechanism, &response),
            Command::OpenVhost { vhost } => self.open_vhost(&vhost),
            Command::UpdateSecret { reason } => self.update_secret(&reason),
            Command::OpenChannel => self.open_channel(channel),
            Command::CloseChannel { unsettled } => {
                self.close_channel(channel, unsettled);
                Ok(Execution::done(Reply::Done))
            }
            Command::CloseConnection => {
                self.close_connection();
                Ok(Execution::done(Reply::Done))
            }
            Command::DeclareExchange {
                name,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                arguments,
            } => {
                check_not_default_exchange_after_type(&kind, passive, &name)?;
                if passive {
                    return self.find_exchange(&name);
                }
                let definition = ExchangeDefinition {
                    kind: ExchangeKind::parse(&kind)?,
                    name: name.into(),
                    durable,
                    auto_delete,
                    internal,
                    arguments,
                };
                self.declare_exchange(channel, definition)
            }
            Command::DeleteExchange { name, if_unused } => {
                self.delete_exchange(channel, &name, if_unused)
            }
            Command::BindExchange {
                destination,
                source,
                routing_key,
                arguments,
            } => self.change_binding(channel, true, {
                binding(
                    DestinationKind::Exchange,
                    destination,
                    source,
                    routing_key,
                    arguments,
                )
            }),
            Command::UnbindExchange {
                destination,
                source,
                routing_key,
                arguments,
            } => self.change_binding(channel, false, {
                binding(
                    DestinationKind::Exchange,
                    destination,
                    source,
                    routing_key,
                    arguments,
                )
            }),
            Command::BindQueue {
                queue,
                exchange,
                routing_key,
                arguments,
            } => self.change_binding(channel, true, {
                binding(
                    DestinationKind::Queue,
                    queue,
                    exchange,
                    routing_key,
                    arguments,
                )
            }),
            Command::UnbindQueue {
                queue,
                exchange,
                routing_key,
                arguments,
            } => self.change_binding(channel, false, {
                binding(
                    DestinationKind::Queue,
                    queue,
                    exchange,
                    routing_key,
                    arguments,
                )
            }),
            Command::DeclareQueue {
                name,
                passive: true,
                ..
            } => self.find_queue(&name),
            Command::DeclareQueue {
                name,
                durable,
                exclusive,
                auto_delete,
                arguments,
                ..
            } => {
                if ReplyConsumers::is_reply_name(name.as_bytes()) {
                    return self.find_queue(&name);
                }
                let is_server_named = name.is_empty();
                let name = if is_server_named {
                    generated_name("amq.gen-")
                } else {
                    name
                };
                self.declare_queue(
                    channel,
                    QueueRequest {
                        name: name.into(),
                        is_server_named,
                        durable,
                        exclusive,
                        auto_delete,
                        arguments,
                    },
                )
            }
            Command::DeleteQueue {
                name,
                if_unused,
                if_empty,
            } => self.delete_queue(channel, &name, (if_unused, if_empty)),
            Command::PurgeQueue { queue } => self.purge_queue(&queue),
            Command::Qos {
                prefetch_count,
                global,
            } => self.set_prefetch(channel, prefetch_count, global),
            Command::Consume {
                queue,
                consumer_tag,
                no_ack,
                exclusive,
                arguments,
            } => {
                if queue == REPLY_TO {
                    return self.consume_replies(channel, consumer_tag, no_ack);
                }
                self.consume(
                    channel,
                    &queue,
                    consumer_tag,
                    (no_ack, exclusive),
                    arguments,
                )
            }
            Command::Cancel { consumer } => Ok(self.cancel(channel, consumer)),
            Command::Get { queue, no_ack } => self.get(channel, &queue, no_ack),
            // The settlements that requeue were gathered, and flushed before this.
            Command::Recover => Ok(Execution::done(Reply::Done)),
            Command::Commit {
                publishes,
                settlements,
            } => self.commit(channel, &publishes, &settlements),
        }
    }

    fn authenticate(&mut self, mechanism: &str, response: &[u8]) -> Result<Execution, Refusal> {
        let is_loopback = self.origin.peer.ip().to_canonical().is_loopback();
        match self
            .broker
            .directory
            .authenticate(mechanism, response, is_loopback)
        {
            Ok(user) => {
                let name = Arc::clone(&user.name);
                self.user = Some(user);
                self.broker.stats.auth.succeeded(Protocol::Amqp091);
                Ok(Execution::done(Reply::Authenticated { user: name }))
            }
            Err(failure) => {
                self.broker.stats.auth.failed(Protocol::Amqp091);
                tracing::warn!(
                    target: "haremq::auth",
                    peer = %self.origin.peer,
                    "login refused: {}",
                    failure.log_text()
                );
                Err(failure.refusal())
            }
        }
    }

    /// `connection.open`: the node's, the host's and the user's limits, then the right to enter
    /// (`rabbit_reader`, `connection.open`).
    fn open_vhost(&mut self, name: &str) -> Result<Execution, Refusal> {
        let Some(user) = self.user.clone() else {
            return Err(Refusal::internal_error("nobody is logged in"));
        };
        let registry = &self.broker.registry;
        if let Some(limit) = self.broker.settings().connections_max
            && registry.connection_count() as u64 > limit
        {
            return Err(Refusal::not_allowed(format!(
                "connection refused: node connection limit ({limit}) is reached"
            )));
        }
        let Some(vhost) = self.broker.vhost(name) else {
            return Err(Refusal::not_allowed(format!("vhost {name} not found")));
        };
        // Looked at again when it is counted: RabbitMQ tells of a limit before it tells of a lacking right.
        let limits = OpenLimits {
            of_vhost: vhost.limits().connections_max,
            of_user: self.user_limits().connections_max(),
        };
        registry
            .check_open(&user.name, &vhost.name, limits)
            .map_err(|reached| reached.refusal(&user.name, name))?;
        let access = self.broker.directory.access(&user.name, &vhost.name)?;
        registry
            .open(self.id, &user.name, &vhost.name, limits)
            .map_err(|reached| reached.refusal(&user.name, name))?;
        // A host or a user that is deleted closes the connections that it finds, and this one only now can be found.
        vhost.check_there()?;
        self.broker.directory.access(&user.name, &vhost.name)?;
        self.opened = Some(Opened { vhost, access });
        self.broker.stats.churn.connections_created.add(1);
        Ok(Execution::done(Reply::Done))
    }

    /// `connection.update-secret`: a user of the broker's own directory has no login that expires, so that any
    /// secret is accepted and none is compared with the password (`rabbit_access_control:update_state`). The
    /// rights are looked at again (`rabbit_reader`).
    fn update_secret(&mut self, reason: &str) -> Result<Execution, Refusal> {
        let user = self
            .user
            .clone()
            .ok_or_else(|| Refusal::internal_error("nobody is logged in"))?;
        let vhost = self.opened()?.vhost.name.clone();
        self.broker.directory.access(&user.name, &vhost)?;
        tracing::info!(target: "haremq::auth", user = %user.name, reason, "secret updated");
        self.routes.clear();
        self.cancel_unreadable_consumers()?;
        Ok(Execution::done(Reply::Done))
    }

    /// Consumers whose queue the user may no longer read end, as after RabbitMQ's secret update.
    fn cancel_unreadable_consumers(&mut self) -> Result<(), Refusal> {
        let mut unreadable = Vec::new();
        for (channel, context) in &self.channels {
            for (consumer, handle) in &context.consumers {
                unreadable.push((*channel, *consumer, handle.clone()));
            }
        }
        for (channel, consumer, handle) in unreadable {
            let may_read = self
                .opened()?
                .access
                .check(Operation::Read, Resource::Queue(handle.name()))
                .is_ok();
            if !may_read {
                // A queue deleted meanwhile has cancelled it already.
                let _ = handle.remove_consumer(consumer, self.now, &mut self.courier.effects);
                self.origin
                    .inbox
                    .push(InboxEvent::ConsumerCancelled { channel, consumer });
                if let Some(context) = self.channels.get_mut(&channel) {
                    context.consumers.remove(&consumer);
                }
            }
        }
        self.carry_out();
        Ok(())
    }

    fn find_exchange(&mut self, name: &str) -> Result<Execution, Refusal> {
        let opened = self.opened()?;
        opened.access.check_any(Resource::Exchange(name))?;
        match opened.vhost.exchange_cell(name) {
            Some(_) => Ok(Execution::done(Reply::Done)),
            None => Err(not_found("exchange", name, &opened.vhost.name)),
        }
    }

    fn declare_exchange(
        &mut self,
        channel: ChannelNumber,
        definition: ExchangeDefinition,
    ) -> Result<Execution, Refusal> {
        let broker = Arc::clone(&self.broker);
        let opened = self.opened()?;
        let name = Arc::clone(&definition.name);
        let vhost = Arc::clone(&opened.vhost);
        let access = &mut opened.access;
        access.check(Operation::Configure, Resource::Exchange(&name))?;
        let unstored = broker.declare_exchange(&vhost, definition, |alternate| {
            if let Some(alternate) = alternate {
                access.check(Operation::Read, Resource::Exchange(&name))?;
                access.check(Operation::Write, Resource::Exchange(alternate))?;
            }
            Ok(())
        })?;
        Ok(self.answer_when_stored(channel, unstored, Reply::Done))
    }

    fn delete_exchange(
        &mut self,
        channel: ChannelNumber,
        name: &str,
        if_unused: bool,
    ) -> Result<Execution, Refusal> {
        let broker = Arc::clone(&self.broker);
        let opened = self.opened()?;
        check_not_default_exchange(name)?;
        if name.starts_with("amq.") {
            return Err(Refusal::access_refused(format!(
                "deletion of system exchange '{name}' in vhost '{}' not allowed",
                opened.vhost.name
            )));
        }
        opened
            .access
            .check(Operation::Configure, Resource::Exchange(name))?;
        let vhost = Arc::clone(&opened.vhost);
        let unstored = broker.delete_exchange(&vhost, &Name::from(name), if_unused)?;
        Ok(self.answer_when_stored(channel, unstored, Reply::Done))
    }

    fn change_binding(
        &mut self,
        channel: ChannelNumber,
        binds: bool,
        request: BindingRequest,
    ) -> Result<Execution, Refusal> {
        let broker = Arc::clone(&self.broker);
        let connection = self.id;
        let opened = self.opened()?;
        let is_queue = request.destination_kind == DestinationKind::Queue;
        if is_queue && ReplyConsumers::is_reply_name(request.destination.as_bytes()) {
            return Err(Refusal::access_refused(
                "cannot bind or unbind to a volatile (direct reply-to) queue",
            ));
        }
        let destination = if is_queue {
            Resource::Queue(&request.destination)
        } else {
            Resource::Exchange(&request.destination)
        };
        opened.access.check(Operation::Write, destination)?;
        if !is_queue {
            check_not_default_exchange(&request.destination)?;
        }
        check_not_default_exchange(&request.source)?;
        opened
            .access
            .check(Operation::Read, Resource::Exchange(&request.source))?;
        if is_topic(&opened.vhost, &request.source) {
            opened.access.check_topic(
                Operation::Read,
                &request.source,
                request.routing_key.as_bytes(),
            )?;
        }
        let vhost = Arc::clone(&opened.vhost);
        let unstored = if binds {
            broker.bind(&vhost, connection, &request)?
        } else {
            broker.unbind(&vhost, connection, &request)?
        };
        Ok(self.answer_when_stored(channel, unstored, Reply::Done))
    }

    /// `queue.declare` with `passive`, or of a direct reply's name, which is always passive.
    fn find_queue(&mut self, name: &str) -> Result<Execution, Refusal> {
        if ReplyConsumers::is_reply_name(name.as_bytes()) {
            // The name without a token stands for every requester, and is always there
            // (`rabbit_volatile_queue:declare/2`).
            if name == REPLY_TO || self.broker.reply_consumers.exists(name) {
                return Ok(Execution::done(Reply::QueueDeclared {
                    name: name.into(),
                    counts: QueueCounts {
                        messages_ready: 0,
                        consumers: 1,
                    },
                }));
            }
            return Err(not_found("queue", name, &self.vhost()?.name));
        }
        let (connection, now) = (self.id, self.now);
        let opened = self.opened()?;
        opened.access.check_any(Resource::Queue(name))?;
        let handle = accessible_queue(&opened.vhost, connection, name)?;
        let counts = handle
            .touch(now, &mut self.courier.effects)
            .unwrap_or_default();
        self.carry_out();
        Ok(Execution::done(Reply::QueueDeclared {
            name: Arc::clone(handle.name()),
            counts,
        }))
    }

    fn declare_queue(
        &mut self,
        channel: ChannelNumber,
        request: QueueRequest,
    ) -> Result<Execution, Refusal> {
        let broker = Arc::clone(&self.broker);
        let (connection, now) = (self.id, self.now);
        let opened = self
            .opened
            .as_mut()
            .ok_or_else(|| Refusal::internal_error("no virtual host is open on this connection"))?;
        let name = Arc::clone(&request.name);
        let vhost = Arc::clone(&opened.vhost);
        let access = &mut opened.access;
        access.check(Operation::Configure, Resource::Queue(&name))?;
        let is_exclusive = request.exclusive;
        let declared = broker.declare_queue(
            &vhost,
            connection,
            request,
            now,
            &mut self.courier.effects,
            |settings| {
                if let Some(exchange) = &settings.shared.dead_letter_exchange {
                    access.check(Operation::Read, Resource::Queue(&name))?;
                    access.check(Operation::Write, Resource::Exchange(exchange))?;
                }
                Ok(())
            },
        )?;
        if is_exclusive {
            self.exclusive_queues.insert(declared.handle.clone());
        }
        let reply = Reply::QueueDeclared {
            name: Arc::clone(declared.handle.name()),
            counts: declared.counts,
        };
        let execution = self.answer_when_stored(channel, declared.unstored, reply);
        self.carry_out();
        Ok(execution)
    }

    fn delete_queue(
        &mut self,
        channel: ChannelNumber,
        name: &str,
        conditions: (bool, bool),
    ) -> Result<Execution, Refusal> {
        let broker = Arc::clone(&self.broker);
        let connection = self.id;
        let opened = self.opened()?;
        opened
            .access
            .check(Operation::Configure, Resource::Queue(name))?;
        let vhost = Arc::clone(&opened.vhost);
        let deleted = broker.delete_queue(
            &vhost,
            connection,
            name,
            conditions,
            &mut self.courier.effects,
        );
        let execution = deleted.map(|(count, unstored)| {
            self.answer_when_stored(channel, unstored, Reply::MessageCount(count))
        });
        self.carry_out();
        execution
    }

    fn purge_queue(&mut self, name: &str) -> Result<Execution, Refusal> {
        let handle = self.readable_queue(name)?;
        let purged = handle.purge(&mut self.courier.effects);
        self.carry_out();
        match purged {
            Ok(count) => Ok(Execution::done(Reply::MessageCount(count))),
            Err(_) => Err(not_found("queue", name, &self.vhost()?.name)),
        }
    }

    /// A queue that the user may read and the connection may use.
    fn readable_queue(&mut self, name: &str) -> Result<QueueHandle, Refusal> {
        let connection = self.id;
        let opened = self.opened()?;
        opened
            .access
            .check(Operation::Read, Resource::Queue(name))?;
        accessible_queue(&opened.vhost, connection, name)
    }

    fn consume(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
        consumer_tag: String,
        (no_ack, exclusive): (bool, bool),
        arguments: FieldTable,
    ) -> Result<Execution, Refusal> {
        let handle = self.readable_queue(queue)?;
        let consumer_tag: Name = consumer_tag_or_generated(consumer_tag);
        let parsed = ConsumeArguments::parse(queue, handle.vhost(), handle.kind(), &arguments)?;
        let consumer = self.broker.next_consumer_id();
        let context = self.channels.entry(channel).or_default();
        let window = context.window();
        let added = handle.add_consumer(
            NewConsumer {
                id: consumer,
                connection: self.id,
                channel,
                tag: Arc::clone(&consumer_tag),
                no_ack,
                exclusive,
                prefetch: context.prefetch,
                settings: parsed,
                arguments,
                outlet: Arc::clone(&self.origin.inbox) as Arc<dyn crate::model::Outlet>,
                window,
            },
            self.now,
            &mut self.courier.effects,
        );
        match added {
            Ok(()) => {}
            Err(QueueError::Gone) => return Err(not_found("queue", queue, handle.vhost())),
            Err(QueueError::Refused(refusal)) => return Err(refusal),
        }
        context.consumers.insert(consumer, handle.clone());
        self.queues.insert(handle);
        self.carry_out();
        Ok(Execution::done(Reply::Consuming {
            consumer,
            consumer_tag,
        }))
    }

    fn consume_replies(
        &mut self,
        channel: ChannelNumber,
        consumer_tag: String,
        no_ack: bool,
    ) -> Result<Execution, Refusal> {
        if !no_ack {
            return Err(Refusal::precondition_failed(
                "reply consumer cannot acknowledge",
            ));
        }
        let consumer_tag: Name = consumer_tag_or_generated(consumer_tag);
        let consumer = self.broker.next_consumer_id();
        let name = generated_name("amq.rabbitmq.reply-to.");
        let context = self.channels.entry(channel).or_default();
        if context.reply.is_some() {
            return Err(Refusal::precondition_failed("reply consumer already set"));
        }
        context.reply = Some((consumer, name.clone()));
        self.broker.reply_consumers.insert(
            name,
            ReplyConsumer {
                outlet: Arc::clone(&self.origin.inbox),
                channel,
                consumer,
                consumer_tag: Arc::clone(&consumer_tag),
            },
        );
        Ok(Execution::done(Reply::Consuming {
            consumer,
            consumer_tag,
        }))
    }

    /// Ends a consumer; what it was assigned and not sent goes out before `cancel-ok`.
    fn cancel(&mut self, channel: ChannelNumber, consumer: ConsumerId) -> Execution {
        let mut deliveries: Vec<Delivery> = Vec::new();
        if let Some(context) = self.channels.get_mut(&channel) {
            if let Some((_, name)) = context.reply.take_if(|(id, _)| *id == consumer) {
                self.broker.reply_consumers.remove(&name);
            }
            if let Some(handle) = context.consumers.remove(&consumer) {
                // A queue deleted meanwhile has no consumers.
                let _ = handle.remove_consumer(consumer, self.now, &mut self.courier.effects);
            }
            deliveries = self.origin.inbox.take_for_consumer(consumer);
        }
        self.carry_out();
        Execution::done(Reply::Cancelled { deliveries })
    }

    fn get(
        &mut self,
        channel: ChannelNumber,
        queue: &str,
        no_ack: bool,
    ) -> Result<Execution, Refusal> {
        let handle = self.readable_queue(queue)?;
        if let Some(context) = self.channels.get_mut(&channel) {
            context.last_get = handle.kind();
        }
        let asked = AskedGet {
            connection: self.id,
            channel,
            no_ack,
            outlet: Arc::clone(&self.origin.inbox) as Arc<dyn Outlet>,
        };
        let outcome = handle.get(asked, self.now, &mut self.courier.effects);
        self.carry_out();
        match outcome {
            Ok(outcome) => {
                if !no_ack && !matches!(outcome, GetOutcome::Empty) {
                    self.queues.insert(handle.clone());
                }
                Ok(match outcome {
                    GetOutcome::Got(got) => Execution::done(Reply::Got(Some(got))),
                    GetOutcome::Empty => Execution::done(Reply::Got(None)),
                    GetOutcome::Later => {
                        if let Some(context) = self.channels.get_mut(&channel) {
                            context.waiting_get = Some(handle);
                        }
                        Execution::Later
                    }
                })
            }
            Err(QueueError::Gone) => Err(not_found("queue", queue, handle.vhost())),
            Err(QueueError::Refused(refusal)) => Err(refusal),
        }
    }

    /// `tx.commit`: the publishes, then the settlements, whatever became of the publishes; one that a queue
    /// rejected makes the whole an error (`rabbit_channel`, `tx.commit` and `complete_tx`).
    fn commit(
        &mut self,
        channel: ChannelNumber,
        publishes: &[StagedPublish],
        settlements: &[Settlement],
    ) -> Result<Execution, Refusal> {
        let journal = Arc::clone(self.broker.messages.journal());
        if journal.failure().is_some()
            && publishes.iter().any(|p| p.message.facts().is_persistent())
        {
            return Err(not_stored());
        }
        self.gathered.take_rejection();
        let returned = self.commit_publishes(publishes);
        for settlement in settlements {
            self.gathered.settle(settlement);
        }
        let end = self.flush_transaction();
        let reply = Reply::Committed {
            returned,
            is_partial: self.gathered.take_rejection(),
        };
        let Some((end, demand)) = end else {
            return Ok(Execution::done(reply));
        };
        let replies = Arc::clone(&self.origin.replies);
        journal.when_safe(
            end,
            demand,
            Box::new(move |result| {
                replies.reply(
                    channel,
                    result.map(|()| reply).map_err(|error| {
                        Refusal::internal_error(format!(
                            "the transaction could not be stored: {error}"
                        ))
                    }),
                );
            }),
        );
        Ok(Execution::Later)
    }
}

/// RabbitMQ looks at the type first, then at the name (`rabbit_channel`, `exchange.declare`).
fn check_not_default_exchange_after_type(
    kind: &str,
    passive: bool,
    name: &str,
) -> Result<(), Refusal> {
    if !passive {
        ExchangeKind::parse(kind)?;
    }
    check_not_default_exchange(name)
}

fn binding(
    destination_kind: DestinationKind,
    destination: String,
    source: String,
    routing_key: String,
    arguments: FieldTable,
) -> BindingRequest {
    BindingRequest {
        source: source.into(),
        destination: destination.into(),
        destination_kind,
        routing_key,
        arguments,
    }
}

fn is_topic(vhost: &Vhost, exchange: &str) -> bool {
    vhost
        .exchange_cell(exchange)
        .is_some_and(|cell| cell.read(|found| found.definition().kind == ExchangeKind::Topic))
}

/// A queue by name, unless it is missing (404) or another connection's (405).
fn accessible_queue(
    vhost: &Vhost,
    connection: crate::model::ConnectionId,
    name: &str,
) -> Result<QueueHandle, Refusal> {
    let handle = vhost
        .queue_handle(name)
        .ok_or_else(|| not_found("queue", name, &vhost.name))?;
    handle.check_access(connection)?;
    Ok(handle)
}
