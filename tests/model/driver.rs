//! The real side of a run: operations become frames, frames become the texts that the plain model uses.
//!
//! In: operations. Out: what every client was told and which deliveries were made. What is right is not known here, but for
//! the order in which things reach one channel: delivery tags without gaps, deliveries between consume-ok and cancel-ok,
//! returns before confirms.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haremq::protocol::{
    Method, Value, basic, channel, confirm, connection, exchange, frame, queue, tx,
};

use crate::operations::{Act, BindingAsked, Operation, Publication};
use crate::plain::AllTold;
use crate::plain::message::{describe, list};
use crate::plain::queue::ConsumerKey;
use crate::support::{Client, Message, Node, Received, short, table};

/// What the clients negotiate.
const FRAME_MAX: u32 = 131_072;

/// What came in a step.
#[derive(Debug, Default)]
pub struct Seen {
    pub told: AllTold,
    pub deliveries: BTreeMap<ConsumerKey, VecDeque<(u64, String)>>,
    /// Every delivery tag that was used, by client and channel.
    pub tags: Vec<(usize, u16, u64)>,
    /// The first breach of the order on a channel.
    pub breach: Option<String>,
}

/// What is to be remembered of a channel.
#[derive(Debug, Default)]
struct Line {
    last_tag: u64,
    consumers: BTreeSet<String>,
    /// Publishes numbered so far, in confirm mode.
    confirms: Option<u64>,
    unconfirmed: BTreeSet<u64>,
}

/// A node with its clients.
pub struct Driver {
    node: Node,
    clients: Vec<Option<Client>>,
    lines: BTreeMap<(usize, u16), Line>,
    seen: Seen,
}

impl Driver {
    pub fn new(clients: usize) -> Self {
        Self {
            node: Node::start_with(|settings| {
                settings.deprecated_features.transient_nonexcl_queues = true;
            }),
            clients: (0..clients).map(|_| None).collect(),
            lines: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.node.now().wall_ms
    }

    /// Carries an operation out and gives everything that came of it.
    pub fn perform(&mut self, operation: &Operation) -> Seen {
        match operation {
            Operation::Connect { client } => {
                if self.clients[*client].is_none() {
                    self.clients[*client] = Some(self.node.client());
                    self.lines.insert((*client, 1), Line::default());
                }
            }
            Operation::OpenChannel { client, channel } => {
                if !self.lines.contains_key(&(*client, *channel))
                    && let Some(found) = &mut self.clients[*client]
                {
                    self.lines.insert((*client, *channel), Line::default());
                    found.on(*channel).send(channel::Open);
                }
            }
            Operation::Disconnect { client } => {
                if let Some(found) = &mut self.clients[*client] {
                    found.send(connection::Close {
                        reply_code: 200,
                        ..connection::Close::default()
                    });
                }
            }
            Operation::HangUp { client } => {
                if let Some(found) = self.clients[*client].take() {
                    self.forget(*client);
                    found.hang_up();
                }
            }
            Operation::Do {
                client,
                channel,
                act,
            } => {
                let line = self.lines.get_mut(&(*client, *channel));
                if let (Some(line), Some(found)) = (line, &mut self.clients[*client]) {
                    if let Act::Publish(publications) = act
                        && let Some(last) = &mut line.confirms
                    {
                        for _ in publications {
                            *last += 1;
                            line.unconfirmed.insert(*last);
                        }
                    }
                    send(found.on(*channel), *channel, act);
                }
            }
            Operation::Advance { .. } => {}
        }
        self.pump();
        let ms = match operation {
            Operation::Advance { ms } => *ms,
            _ => 0,
        };
        self.node.advance(ms);
        self.pump();
        std::mem::take(&mut self.seen)
    }

    /// Lets every connection do its work until nobody hears anything new.
    fn pump(&mut self) {
        loop {
            let mut is_quiet = true;
            for client in 0..self.clients.len() {
                while let Some(received) = self.clients[client].as_mut().and_then(Client::receive) {
                    is_quiet = false;
                    self.take(client, &received);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn forget(&mut self, client: usize) {
        self.lines.retain(|(other, _), _| *other != client);
    }

    fn breach(&mut self, text: String) {
        self.seen.breach.get_or_insert(text);
    }

    fn take(&mut self, client: usize, received: &Received) {
        let number = received.channel;
        if let Some(message) = Message::of(received) {
            return self.take_message(client, received, &message);
        }
        let method = received.method();
        let line = self.lines.entry((client, number)).or_default();
        let told = self.seen.told.entry((client, number)).or_default();
        let text = match &method {
            Method::BasicAck(ack) => {
                let covered = line.unconfirmed.iter().copied();
                let covered: Vec<u64> = covered
                    .filter(|tag| {
                        *tag == ack.delivery_tag || (ack.multiple && *tag < ack.delivery_tag)
                    })
                    .collect();
                for tag in &covered {
                    line.unconfirmed.remove(tag);
                    told.confirmed.insert(*tag, true);
                }
                if covered.last() != Some(&ack.delivery_tag) {
                    self.breach(format!("{} twice", received.describe()));
                }
                return;
            }
            Method::BasicNack(nack) => {
                told.confirmed.insert(nack.delivery_tag, false);
                if nack.multiple || !line.unconfirmed.remove(&nack.delivery_tag) {
                    self.breach(format!("{} twice, or multiple", received.describe()));
                }
                return;
            }
            Method::BasicCancel(cancel) => {
                let tag = cancel.consumer_tag.to_string();
                line.consumers.remove(&tag);
                told.cancelled.push(tag);
                told.cancelled.sort();
                return;
            }
            Method::BasicConsumeOk(ok) => {
                line.consumers.insert(ok.consumer_tag.to_string());
                format!("basic.consume-ok {}", ok.consumer_tag)
            }
            Method::BasicCancelOk(ok) => {
                line.consumers.remove(&ok.consumer_tag.to_string());
                format!("basic.cancel-ok {}", ok.consumer_tag)
            }
            Method::ConfirmSelectOk(_) => {
                line.confirms.get_or_insert(0);
                "confirm.select-ok".to_owned()
            }
            Method::ChannelClose(close) => {
                let text = format!("channel.close {} {}", close.reply_code, close.reply_text);
                self.lines.remove(&(client, number));
                if let Some(client) = &mut self.clients[client] {
                    client.on(number).send(channel::CloseOk);
                }
                text
            }
            Method::ChannelCloseOk(_) => {
                self.lines.remove(&(client, number));
                "channel.close-ok".to_owned()
            }
            Method::ConnectionClose(close) => {
                let text = format!("connection.close {} {}", close.reply_code, close.reply_text);
                if let Some(mut found) = self.clients[client].take() {
                    found.send(connection::CloseOk);
                }
                self.forget(client);
                text
            }
            Method::ConnectionCloseOk(_) => {
                self.clients[client] = None;
                self.forget(client);
                "connection.close-ok".to_owned()
            }
            reply => show_reply(reply),
        };
        let told = self.seen.told.entry((client, number)).or_default();
        told.replies.push(text);
    }

    fn take_message(&mut self, client: usize, received: &Received, message: &Message) {
        let number = received.channel;
        let line = self.lines.entry((client, number)).or_default();
        let told = self.seen.told.entry((client, number)).or_default();
        let text = describe(
            &message.exchange,
            &message.routing_key,
            message.redelivered,
            &message.properties,
            message.text(),
        );
        if let Some((code, reason)) = &message.returned {
            let is_late = !told.confirmed.is_empty();
            told.replies
                .push(format!("basic.return {code} {reason} {text}"));
            if is_late {
                self.breach(format!("{} came after a confirm", received.describe()));
            }
            return;
        }
        let tag = message.delivery_tag;
        let expected = line.last_tag + 1;
        line.last_tag = tag;
        self.seen.tags.push((client, number, tag));
        if message.consumer_tag.is_empty() {
            let count = message.message_count;
            told.replies
                .push(format!("basic.get-ok {tag} {count} {text}"));
        } else {
            let key = (client, number, message.consumer_tag.clone());
            let deliveries = self.seen.deliveries.entry(key).or_default();
            deliveries.push_back((tag, text));
            if !line.consumers.contains(&message.consumer_tag) {
                self.breach(format!("{} to no consumer", received.describe()));
            }
        }
        if tag != expected {
            self.breach(format!("{} instead of tag {expected}", received.describe()));
        }
    }
}

fn show_reply(method: &Method<'_>) -> String {
    match method {
        Method::ChannelOpenOk(_) => "channel.open-ok".to_owned(),
        Method::ExchangeDeclareOk(_) => "exchange.declare-ok".to_owned(),
        Method::ExchangeDeleteOk(_) => "exchange.delete-ok".to_owned(),
        Method::ExchangeBindOk(_) => "exchange.bind-ok".to_owned(),
        Method::ExchangeUnbindOk(_) => "exchange.unbind-ok".to_owned(),
        Method::QueueBindOk(_) => "queue.bind-ok".to_owned(),
        Method::QueueUnbindOk(_) => "queue.unbind-ok".to_owned(),
        Method::QueueDeclareOk(ok) => format!(
            "queue.declare-ok {} {} {}",
            ok.queue, ok.message_count, ok.consumer_count
        ),
        Method::QueueDeleteOk(ok) => format!("queue.delete-ok {}", ok.message_count),
        Method::QueuePurgeOk(ok) => format!("queue.purge-ok {}", ok.message_count),
        Method::BasicQosOk(_) => "basic.qos-ok".to_owned(),
        Method::BasicGetEmpty(_) => "basic.get-empty".to_owned(),
        Method::BasicRecoverOk(_) => "basic.recover-ok".to_owned(),
        Method::TxSelectOk(_) => "tx.select-ok".to_owned(),
        Method::TxCommitOk(_) => "tx.commit-ok".to_owned(),
        Method::TxRollbackOk(_) => "tx.rollback-ok".to_owned(),
        other => format!("{other:?}"),
    }
}

fn send(client: &mut Client, channel: u16, act: &Act) {
    match act {
        Act::DeclareExchange { name, exchange } => {
            let alternate = exchange.alternate.as_deref();
            let arguments: Vec<(&str, Value)> = alternate
                .map(|alternate| ("alternate-exchange", alternate.into()))
                .into_iter()
                .collect();
            client.send(exchange::Declare {
                exchange: short(name),
                type_: short(exchange.kind),
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                arguments: table(&arguments).as_table(),
                ..exchange::Declare::default()
            });
        }
        Act::FindExchange { name } => client.send(exchange::Declare {
            exchange: short(name),
            passive: true,
            ..exchange::Declare::default()
        }),
        Act::DeleteExchange { name, if_unused } => client.send(exchange::Delete {
            exchange: short(name),
            if_unused: *if_unused,
            ..exchange::Delete::default()
        }),
        Act::Bind(asked) => send_binding(client, asked, true),
        Act::Unbind(asked) => send_binding(client, asked, false),
        Act::DeclareQueue {
            name,
            durable,
            exclusive,
            auto_delete,
            arguments,
        } => client.send(queue::Declare {
            queue: short(name),
            durable: *durable,
            exclusive: *exclusive,
            auto_delete: *auto_delete,
            arguments: table(&arguments.fields()).as_table(),
            ..queue::Declare::default()
        }),
        Act::FindQueue { name } => client.send(queue::Declare {
            queue: short(name),
            passive: true,
            ..queue::Declare::default()
        }),
        Act::DeleteQueue {
            name,
            if_unused,
            if_empty,
        } => client.send(queue::Delete {
            queue: short(name),
            if_unused: *if_unused,
            if_empty: *if_empty,
            ..queue::Delete::default()
        }),
        Act::Purge { name } => client.send(queue::Purge {
            queue: short(name),
            ..queue::Purge::default()
        }),
        Act::Publish(publications) => send_publications(client, channel, publications),
        Act::Consume {
            queue,
            tag,
            no_ack,
            exclusive,
            priority,
        } => {
            let priority = (*priority != 0).then_some(("x-priority", Value::I32(*priority)));
            let arguments: Vec<(&str, Value)> = priority.into_iter().collect();
            client.send(basic::Consume {
                queue: short(queue),
                consumer_tag: short(tag),
                no_ack: *no_ack,
                exclusive: *exclusive,
                arguments: table(&arguments).as_table(),
                ..basic::Consume::default()
            });
        }
        Act::Cancel { tag } => client.send(basic::Cancel {
            consumer_tag: short(tag),
            no_wait: false,
        }),
        Act::Get { queue, no_ack } => client.send(basic::Get {
            queue: short(queue),
            no_ack: *no_ack,
        }),
        plain => send_plain(client, plain),
    }
}

/// Methods of numbers and flags alone.
fn send_plain(client: &mut Client, act: &Act) {
    match act {
        Act::Qos { prefetch } => client.send(basic::Qos {
            prefetch_size: 0,
            prefetch_count: *prefetch,
            global: false,
        }),
        Act::Ack { tag, multiple } => client.send(basic::Ack {
            delivery_tag: *tag,
            multiple: *multiple,
        }),
        Act::Nack {
            tag,
            multiple,
            requeue,
        } => client.send(basic::Nack {
            delivery_tag: *tag,
            multiple: *multiple,
            requeue: *requeue,
        }),
        Act::Reject { tag, requeue } => client.send(basic::Reject {
            delivery_tag: *tag,
            requeue: *requeue,
        }),
        Act::Recover => client.send(basic::Recover { requeue: true }),
        Act::ConfirmSelect => client.send(confirm::Select { no_wait: false }),
        Act::TxSelect => client.send(tx::Select),
        Act::TxCommit => client.send(tx::Commit),
        Act::TxRollback => client.send(tx::Rollback),
        _ => client.send(channel::Close {
            reply_code: 200,
            ..channel::Close::default()
        }),
    }
}

fn send_binding(client: &mut Client, asked: &BindingAsked, binds: bool) {
    let fields: Vec<(&str, Value)> = asked
        .arguments
        .iter()
        .map(|(name, text)| (*name, Value::from(*text)))
        .collect();
    let arguments = table(&fields);
    let (source, target) = (short(&asked.source), short(&asked.target));
    let routing_key = short(&asked.key);
    match (asked.is_queue, binds) {
        (true, true) => client.send(queue::Bind {
            queue: target,
            exchange: source,
            routing_key,
            arguments: arguments.as_table(),
            ..queue::Bind::default()
        }),
        (true, false) => client.send(queue::Unbind {
            queue: target,
            exchange: source,
            routing_key,
            arguments: arguments.as_table(),
        }),
        (false, true) => client.send(exchange::Bind {
            destination: target,
            source,
            routing_key,
            arguments: arguments.as_table(),
            ..exchange::Bind::default()
        }),
        (false, false) => client.send(exchange::Unbind {
            destination: target,
            source,
            routing_key,
            arguments: arguments.as_table(),
            ..exchange::Unbind::default()
        }),
    }
}

/// All publishes in one write.
fn send_publications(client: &mut Client, channel: u16, publications: &[Publication]) {
    let mut octets = Vec::new();
    for publication in publications {
        let message = &publication.message;
        let mut properties = message.properties();
        if !publication.bcc.is_empty() {
            let headers = properties.headers.get_or_insert_default();
            headers.insert("BCC", list(&publication.bcc));
        }
        let method = basic::Publish {
            exchange: short(&message.exchange),
            routing_key: short(&message.key),
            mandatory: publication.mandatory,
            immediate: false,
        };
        frame::write_method(&mut octets, channel, &method.into());
        let properties = properties.to_encoded();
        let body = message.body.as_bytes();
        frame::write_content(&mut octets, channel, &properties, body, FRAME_MAX);
    }
    client.send_octets(&octets);
}
