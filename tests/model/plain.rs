//! The plain model: a virtual host with its clients, in vectors and sorted maps, scanned from their beginnings.
//!
//! In: operations, one at a time, and the deliveries that the broker made meanwhile. Out: what every client must have been
//! told, and the first difference in deliveries. It knows no frames, and shares no code with the broker but the types of
//! properties.

pub mod message;
pub mod queue;
pub mod routing;
mod settling;
mod topology;

use std::collections::BTreeMap;

use crate::operations::{Act, Operation, Publication};
use message::Message;
use queue::{Consumer, Held, Letter, Outcome, Queue, World};
use routing::{Routes, Target};

/// What a client was told on a channel, deliveries apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Replies, returns and closes, in order; a text that ends in `*` stands for all that begin so.
    pub replies: Vec<String>,
    /// Tags of consumers that the broker cancelled, sorted.
    pub cancelled: Vec<String>,
    /// Confirms: `true` for an ack.
    pub confirmed: BTreeMap<u64, bool>,
}

/// What everybody was told, by client and channel.
pub type AllTold = BTreeMap<(usize, u16), Told>;

/// Why an operation is refused.
#[derive(Clone, Debug)]
pub enum Fault {
    Channel(String),
    Connection(String),
}

/// A message with its number, if it is to be confirmed.
type Numbered = (Message, Option<u64>);

/// A transaction.
#[derive(Clone, Debug, Default)]
struct Transaction {
    /// Each with the queues that it goes to.
    publishes: Vec<(Publication, Vec<u64>)>,
    settlements: Vec<(Held, Outcome)>,
}

/// A channel.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    last_tag: u64,
    /// Sorted by tag.
    pub held: Vec<Held>,
    prefetch: u32,
    /// Publishes numbered so far, in confirm mode.
    pub confirms: Option<u64>,
    transaction: Option<Transaction>,
}

impl Channel {
    pub fn is_transactional(&self) -> bool {
        self.transaction.is_some()
    }
}

/// A client; its channels are there while it is connected.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub is_open: bool,
    /// Its connections so far.
    connection: u64,
    pub channels: BTreeMap<u16, Channel>,
}

/// The virtual host and its clients.
#[derive(Debug)]
pub struct Plain {
    pub world: World,
    pub routes: Routes,
    /// In the order of declaration.
    pub queues: Vec<Queue>,
    pub clients: Vec<Client>,
    pub told: AllTold,
    last_queue: u64,
    last_consumer: u64,
}

impl Plain {
    pub fn new(clients: usize, now_ms: u64) -> Self {
        Self {
            world: World {
                now_ms,
                ..World::default()
            },
            routes: Routes::default(),
            queues: Vec::new(),
            clients: vec![Client::default(); clients],
            told: AllTold::new(),
            last_queue: 0,
            last_consumer: 0,
        }
    }

    /// Does what `operation` asks, and lets the deadlines that have come do their work.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Connect { client } => {
                let found = &mut self.clients[*client];
                if !found.is_open {
                    found.is_open = true;
                    found.connection += 1;
                    found.channels = BTreeMap::from([(1, Channel::default())]);
                }
            }
            Operation::OpenChannel { client, channel } => {
                let found = &mut self.clients[*client];
                if found.is_open && !found.channels.contains_key(channel) {
                    found.channels.insert(*channel, Channel::default());
                    self.reply(*client, *channel, "channel.open-ok");
                }
            }
            Operation::Disconnect { client } => {
                if self.clients[*client].is_open {
                    self.end_connection(*client);
                    self.reply(*client, 0, "connection.close-ok");
                }
            }
            Operation::HangUp { client } => {
                if self.clients[*client].is_open {
                    self.end_connection(*client);
                }
            }
            Operation::Do {
                client,
                channel,
                act,
            } => {
                if self.clients[*client].channels.contains_key(channel) {
                    self.act(*client, *channel, act);
                }
            }
            Operation::Advance { ms } => self.advance(self.world.now_ms + ms),
        }
        self.tick();
    }

    /// The messages ready and the consumers of a queue, as queue.declare-ok has them.
    pub fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name == name)
    }

    /// The tags of a channel's consumers.
    pub fn consumer_tags(&self, client: usize, channel: u16) -> Vec<String> {
        let consumers = self.queues.iter().flat_map(|queue| &queue.consumers);
        consumers
            .filter(|consumer| (consumer.key.0, consumer.key.1) == (client, channel))
            .map(|consumer| consumer.key.2.clone())
            .collect()
    }

    /// Whether an operation leaves to the broker what nobody sees: a channel ends in the middle of a burst, or it has
    /// consumers and ends by a commit that a queue may reject.
    pub fn leaves_choice(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Do {
                act: Act::Publish(publications),
                ..
            } if publications.len() > 1 => publications
                .iter()
                .any(|publication| self.route(publication).is_err()),
            Operation::Do {
                client,
                channel,
                act: Act::TxCommit,
            } => {
                let state = self.clients[*client].channels.get(channel);
                let staged = state.and_then(|state| state.transaction.as_ref());
                let publishes = staged.map_or(&[][..], |staged| &staged.publishes);
                let may_reject = self.queues.iter().any(|queue| {
                    let is_target = publishes.iter().any(|(_, to)| to.contains(&queue.id));
                    is_target && queue.arguments.overflow != queue::Overflow::DropHead
                });
                may_reject && !self.consumer_tags(*client, *channel).is_empty()
            }
            _ => false,
        }
    }

    fn advance(&mut self, end_ms: u64) {
        while let Some(next_ms) = self.queues.iter().filter_map(Queue::deadline_ms).min()
            && next_ms <= end_ms
        {
            self.world.now_ms = next_ms.max(self.world.now_ms);
            self.tick();
        }
        self.world.now_ms = end_ms;
    }

    /// Lets every queue whose deadline has come do its work, until none is left.
    fn tick(&mut self) {
        while self.world.mismatch.is_none() {
            let now_ms = self.world.now_ms;
            let deadlines = self
                .queues
                .iter()
                .filter_map(|queue| Some((queue.deadline_ms()?, queue.id)));
            let mut due: Vec<(u64, u64)> = deadlines
                .filter(|(deadline_ms, _)| *deadline_ms <= now_ms)
                .collect();
            if due.is_empty() {
                return;
            }
            due.sort_unstable();
            for (_, id) in due {
                self.with_queue(id, |queue, world| queue.tick(world));
                self.carry_out();
            }
        }
    }

    fn act(&mut self, client: usize, channel: u16, act: &Act) {
        match self.try_act(client, channel, act) {
            Ok(()) => {}
            Err(Fault::Channel(text)) => {
                self.end_channel(client, channel);
                self.reply(client, channel, &format!("channel.close {text}"));
            }
            Err(Fault::Connection(text)) => {
                self.end_connection(client);
                self.reply(client, 0, &format!("connection.close {text}"));
            }
        }
    }

    fn try_act(&mut self, client: usize, channel: u16, act: &Act) -> Result<(), Fault> {
        match act {
            Act::DeclareExchange { name, exchange } => self.declare_exchange(name, exchange)?,
            Act::FindExchange { name } => self.find_exchange(name)?,
            Act::DeleteExchange { name, if_unused } => self.delete_exchange(name, *if_unused)?,
            Act::Bind(asked) => self.change_binding(client, asked, true)?,
            Act::Unbind(asked) => self.change_binding(client, asked, false)?,
            Act::DeclareQueue {
                name,
                durable,
                exclusive,
                auto_delete,
                arguments,
            } => {
                let flags = (*durable, *exclusive, *auto_delete);
                let counts = self.declare_queue(client, name, flags, arguments)?;
                return self.answer(client, channel, counts);
            }
            Act::FindQueue { name } => {
                let counts = self.find_queue(client, name)?;
                return self.answer(client, channel, counts);
            }
            Act::DeleteQueue {
                name,
                if_unused,
                if_empty,
            } => {
                let count = self.delete_queue(client, name, *if_unused, *if_empty)?;
                return self.answer(client, channel, format!("queue.delete-ok {count}"));
            }
            Act::Purge { name } => {
                let queue = self.accessible(client, name)?;
                let count = queue.ready.len();
                queue.ready.clear();
                return self.answer(client, channel, format!("queue.purge-ok {count}"));
            }
            Act::Publish(publications) => return self.publish(client, channel, publications),
            Act::Qos { prefetch } => {
                self.channel(client, channel).prefetch = u32::from(*prefetch);
                return self.answer(client, channel, "basic.qos-ok".to_owned());
            }
            Act::Consume { .. } => return self.consume(client, channel, act),
            Act::Cancel { tag } => {
                let key = (client, channel, tag.clone());
                self.remove_consumers(|consumer| consumer.key == key);
                self.carry_out();
                return self.answer(client, channel, format!("basic.cancel-ok {tag}"));
            }
            Act::Get { queue, no_ack } => return self.get(client, channel, queue, *no_ack),
            Act::CloseChannel => {
                self.end_channel(client, channel);
                self.reply(client, channel, "channel.close-ok");
                return Ok(());
            }
            settling => return self.act_on_held(client, channel, settling),
        }
        let done = match act {
            Act::DeclareExchange { .. } | Act::FindExchange { .. } => "exchange.declare-ok",
            Act::DeleteExchange { .. } => "exchange.delete-ok",
            Act::Bind(asked) if asked.is_queue => "queue.bind-ok",
            Act::Bind(_) => "exchange.bind-ok",
            Act::Unbind(asked) if asked.is_queue => "queue.unbind-ok",
            _ => "exchange.unbind-ok",
        };
        self.answer(client, channel, done.to_owned())
    }

    fn consume(&mut self, client: usize, channel: u16, act: &Act) -> Result<(), Fault> {
        let Act::Consume {
            queue: name,
            tag,
            no_ack,
            exclusive,
            priority,
        } = act
        else {
            return Ok(());
        };
        if self.consumer_tags(client, channel).contains(tag) {
            return Err(Fault::Connection(format!(
                "530 NOT_ALLOWED - attempt to reuse consumer tag '{tag}'"
            )));
        }
        let prefetch = self.channel(client, channel).prefetch;
        self.last_consumer += 1;
        let consumer = Consumer {
            id: self.last_consumer,
            key: (client, channel, tag.clone()),
            no_ack: *no_ack,
            exclusive: *exclusive,
            prefetch,
            priority: i64::from(*priority),
            unsettled: 0,
        };
        let queue = self.accessible(client, name)?;
        let is_taken = queue.consumers.iter().any(|other| other.exclusive)
            || (*exclusive && (!queue.consumers.is_empty() || queue.arguments.single_active));
        if !queue.arguments.quorum && is_taken {
            return Err(Fault::Channel(format!(
                "403 ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"
            )));
        }
        let id = queue.id;
        self.with_queue(id, |queue, world| queue.add_consumer(consumer, world));
        self.carry_out();
        self.answer(client, channel, format!("basic.consume-ok {tag}"))
    }

    fn get(&mut self, client: usize, channel: u16, name: &str, no_ack: bool) -> Result<(), Fault> {
        let queue = self.accessible(client, name)?;
        if queue.arguments.quorum && queue.arguments.single_active {
            return Err(Fault::Channel(format!(
                "405 RESOURCE_LOCKED - cannot obtain access to locked queue '{name}' in vhost '/'. basic.get \
                 operations are not supported by quorum queues with single active consumer"
            )));
        }
        let id = queue.id;
        let got = self.with_queue(id, |queue, world| {
            let entry = queue.get(world)?;
            Some((queue.describe(&entry), queue.ready.len(), entry))
        });
        self.carry_out();
        let Some((text, left, mut entry)) = got.flatten() else {
            return self.answer(client, channel, "basic.get-empty".to_owned());
        };
        let channel_state = self.channel(client, channel);
        // Deliveries of the same step come after: nothing else happens in it before the answer.
        let tag = channel_state.last_tag + 1;
        channel_state.last_tag = tag;
        if !no_ack {
            entry.acquired += 1;
            channel_state.held.push(Held {
                tag,
                queue: id,
                consumer: None,
                entry,
            });
        }
        self.answer(client, channel, format!("basic.get-ok {tag} {left} {text}"))
    }

    fn publish(
        &mut self,
        client: usize,
        channel: u16,
        publications: &[Publication],
    ) -> Result<(), Fault> {
        let mut routed: Vec<(Numbered, Vec<u64>)> = Vec::new();
        let mut fault = None;
        for publication in publications {
            let state = self.channel(client, channel);
            let number = state.confirms.as_mut().map(|last| {
                *last += 1;
                *last
            });
            let queues = match self.route(publication) {
                Ok(queues) => queues,
                Err(refused) => {
                    fault = Some(refused);
                    break;
                }
            };
            if let Some(transaction) = &mut self.channel(client, channel).transaction {
                transaction.publishes.push((publication.clone(), queues));
                continue;
            }
            if queues.is_empty() && publication.mandatory {
                self.give_back(client, channel, &publication.message);
            }
            if let Some(number) = number {
                self.told_on(client, channel).confirmed.insert(number, true);
            }
            routed.push(((publication.message.clone(), number), queues));
        }
        for ((message, number), id) in in_order(routed) {
            let accepted = self.with_queue(id, |queue, world| queue.publish(message, world));
            if let (Some(number), Some(false)) = (number, accepted) {
                self.told_on(client, channel)
                    .confirmed
                    .insert(number, false);
            }
        }
        self.carry_out();
        fault.map_or(Ok(()), Err)
    }

    /// The queues that a publish goes to, in the order of declaration.
    fn route(&self, publication: &Publication) -> Result<Vec<u64>, Fault> {
        let message = &publication.message;
        let name = &message.exchange;
        if !name.is_empty() {
            match self.routes.exchanges.get(name) {
                None => return Err(topology::no_exchange(name)),
                Some(exchange) if exchange.internal => {
                    return Err(Fault::Channel(format!(
                        "403 ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"
                    )));
                }
                Some(_) => {}
            }
        }
        let mut keys = message.keys();
        keys.extend(publication.bcc.iter().cloned());
        Ok(self.queues_of(message, &keys))
    }

    fn queues_of(&self, message: &Message, keys: &[String]) -> Vec<u64> {
        let names = if message.exchange.is_empty() {
            keys.iter().cloned().collect()
        } else {
            self.routes.queues(&message.exchange, keys, &message.texts)
        };
        let queues = self.queues.iter();
        queues
            .filter(|queue| names.contains(&queue.name))
            .map(|queue| queue.id)
            .collect()
    }

    fn give_back(&mut self, client: usize, channel: u16, message: &Message) {
        let text = message.describe(false, None);
        self.reply(
            client,
            channel,
            &format!("basic.return 312 NO_ROUTE {text}"),
        );
    }

    /// Does something with a queue that is there, and notes what it handed out.
    fn with_queue<T>(
        &mut self,
        id: u64,
        work: impl FnOnce(&mut Queue, &mut World) -> T,
    ) -> Option<T> {
        let queue = self.queues.iter_mut().find(|queue| queue.id == id)?;
        let result = work(queue, &mut self.world);
        for ((client, channel, _), held) in std::mem::take(&mut self.world.handed) {
            let channel = self.channel(client, channel);
            channel.held.push(held);
            channel.held.sort_by_key(|held| held.tag);
        }
        Some(result)
    }

    /// Does what queues asked for: dead letters first, then deletions, until there is nothing more.
    fn carry_out(&mut self) {
        loop {
            for letter in std::mem::take(&mut self.world.letters) {
                self.deliver_letter(&letter);
            }
            if self.world.letters.is_empty() {
                break;
            }
        }
        for id in std::mem::take(&mut self.world.deletions) {
            self.remove_queue(id);
        }
    }

    fn deliver_letter(&mut self, letter: &Letter) {
        let key = letter.key.as_deref();
        let now_ms = self.world.now_ms;
        let message =
            letter
                .message
                .die(&letter.queue, letter.reason, now_ms, &letter.exchange, key);
        for id in self.queues_of(&message, &message.keys()) {
            let is_cycle = |queue: &Queue| queue.id == id && message.is_cycle(&queue.name);
            if !self.queues.iter().any(is_cycle) {
                let message = message.clone();
                self.with_queue(id, |queue, world| queue.publish(message, world));
            }
        }
    }

    /// Deletes a queue with its messages and bindings; its consumers are told.
    fn remove_queue(&mut self, id: u64) {
        let Some(at) = self.queues.iter().position(|queue| queue.id == id) else {
            return;
        };
        let queue = self.queues.remove(at);
        for consumer in queue.consumers {
            let (client, channel, tag) = consumer.key;
            let cancelled = &mut self.told_on(client, channel).cancelled;
            cancelled.push(tag);
            cancelled.sort();
        }
        self.routes.target_gone(&Target::Queue(queue.name));
    }

    fn remove_consumers(&mut self, is_gone: impl Fn(&Consumer) -> bool) {
        let ids: Vec<u64> = self.queues.iter().map(|queue| queue.id).collect();
        for id in ids {
            self.with_queue(id, |queue, world| queue.remove_consumers(&is_gone, world));
        }
    }

    /// A delivery tag was used on a channel.
    pub fn delivered(&mut self, client: usize, channel: u16, tag: u64) {
        if let Some(channel) = self.clients[client].channels.get_mut(&channel) {
            channel.last_tag = channel.last_tag.max(tag);
        }
    }

    fn channel(&mut self, client: usize, channel: u16) -> &mut Channel {
        self.clients[client].channels.entry(channel).or_default()
    }

    fn told_on(&mut self, client: usize, channel: u16) -> &mut Told {
        self.told.entry((client, channel)).or_default()
    }

    fn reply(&mut self, client: usize, channel: u16, text: &str) {
        self.told_on(client, channel).replies.push(text.to_owned());
    }

    fn answer(&mut self, client: usize, channel: u16, text: String) -> Result<(), Fault> {
        self.reply(client, channel, &text);
        Ok(())
    }
}

/// A burst in the order in which its queues get it: if some message goes to several queues, message by message; else each queue
/// gets all of its own at once.
fn in_order(routed: Vec<(Numbered, Vec<u64>)>) -> Vec<(Numbered, u64)> {
    let is_mixed = routed.iter().any(|(_, queues)| queues.len() > 1);
    let mut pairs: Vec<(Numbered, u64)> = Vec::new();
    for (message, queues) in routed {
        pairs.extend(queues.into_iter().map(|queue| (message.clone(), queue)));
    }
    if !is_mixed {
        let mut order: Vec<u64> = Vec::new();
        for (_, queue) in &pairs {
            if !order.contains(queue) {
                order.push(*queue);
            }
        }
        pairs.sort_by_key(|(_, queue)| order.iter().position(|known| known == queue));
    }
    pairs
}
