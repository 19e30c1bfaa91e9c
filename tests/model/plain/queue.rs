//! A queue of the plain model: a sorted list of messages, a list of consumers, and RabbitMQ's rules in the order in which
//! they read.
//!
//! In: messages, settlements, consumers, the time. Out: what is handed out, dead letters, the wish to be deleted. Where
//! the rules leave a choice, which of several equal consumers gets a message, the broker's choice is followed and
//! checked ([`World::choose`]).

use std::collections::{BTreeMap, VecDeque};

use haremq::protocol::Value;

use super::message::Message;

/// What happens when the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    #[default]
    DropHead,
    Reject,
    RejectDeadLetter,
}

/// The arguments of a declare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub quorum: bool,
    pub ttl_ms: Option<u64>,
    pub expires_ms: Option<u64>,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: Overflow,
    pub dead_letter_exchange: Option<String>,
    pub dead_letter_key: Option<String>,
    pub max_priority: Option<u8>,
    pub single_active: bool,
    pub delivery_limit: Option<u32>,
}

impl Arguments {
    /// As they go over the wire.
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields: Vec<(&'static str, Value)> = Vec::new();
        let numbers = [
            ("x-message-ttl", self.ttl_ms),
            ("x-expires", self.expires_ms),
            ("x-max-length", self.max_length),
            ("x-max-length-bytes", self.max_length_bytes),
            ("x-max-priority", self.max_priority.map(u64::from)),
            ("x-delivery-limit", self.delivery_limit.map(u64::from)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                fields.push((name, Value::I32(number as i32)));
            }
        }
        let texts = [
            ("x-queue-type", self.quorum.then_some("quorum")),
            ("x-overflow", self.overflow_text()),
            (
                "x-dead-letter-exchange",
                self.dead_letter_exchange.as_deref(),
            ),
            ("x-dead-letter-routing-key", self.dead_letter_key.as_deref()),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                fields.push((name, text.into()));
            }
        }
        if self.single_active {
            fields.push(("x-single-active-consumer", Value::Bool(true)));
        }
        fields
    }

    fn overflow_text(&self) -> Option<&'static str> {
        match self.overflow {
            Overflow::DropHead => None,
            Overflow::Reject => Some("reject-publish"),
            Overflow::RejectDeadLetter => Some("reject-publish-dlx"),
        }
    }
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Entry {
    pub position: u64,
    pub message: Message,
    pub deadline_ms: Option<u64>,
    /// Times that it was handed out.
    pub acquired: u32,
    /// Times that this failed.
    pub failed: u32,
    /// Its number among the returns of a quorum queue, which go first.
    pub returned: Option<u64>,
}

impl Entry {
    fn is_expired(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline| deadline <= now_ms)
    }
}

/// Who consumes: client, channel, tag.
pub type ConsumerKey = (usize, u16, String);

/// A consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Grows with registration.
    pub id: u64,
    pub key: ConsumerKey,
    pub no_ack: bool,
    pub exclusive: bool,
    pub prefetch: u32,
    pub priority: i64,
    pub unsettled: u32,
}

impl Consumer {
    fn has_credit(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.unsettled < self.prefetch
    }
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acked,
    Rejected,
    RequeuedByReject,
    RequeuedByNack,
    Lost,
}

/// A message that leaves a queue by the back door.
#[derive(Clone, Debug)]
pub struct Letter {
    pub queue: String,
    pub reason: &'static str,
    pub message: Message,
    pub exchange: String,
    pub key: Option<String>,
}

/// A message that someone holds.
#[derive(Clone, Debug)]
pub struct Held {
    pub tag: u64,
    pub queue: u64,
    pub consumer: Option<u64>,
    pub entry: Entry,
}

/// What queues see of the world, and what they ask of it.
#[derive(Debug, Default)]
pub struct World {
    pub now_ms: u64,
    /// Deliveries that the broker made and the model did not yet: tag and description, by consumer.
    pub observed: BTreeMap<ConsumerKey, VecDeque<(u64, String)>>,
    pub letters: Vec<Letter>,
    /// Queues that want to be deleted.
    pub deletions: Vec<u64>,
    /// What was handed out, to be noted by the channels.
    pub handed: Vec<(ConsumerKey, Held)>,
    /// The first thing in which broker and model differ.
    pub mismatch: Option<String>,
}

impl World {
    /// Which of `candidates` got the message, according to the broker.
    fn choose(&mut self, queue: &str, candidates: &[&Consumer], text: &str) -> Option<(u64, u64)> {
        for consumer in candidates {
            if let Some(deliveries) = self.observed.get_mut(&consumer.key)
                && deliveries.front().is_some_and(|(_, other)| other == text)
            {
                let (tag, _) = deliveries.pop_front()?;
                return Some((consumer.id, tag));
            }
        }
        let seen: Vec<String> = candidates
            .iter()
            .map(|consumer| {
                let first = self.observed.get(&consumer.key).and_then(VecDeque::front);
                format!("{:?} has {first:?}", consumer.key)
            })
            .collect();
        self.differ(format!(
            "queue {queue} must deliver {text} to one of these now: {}",
            seen.join(", ")
        ));
        None
    }

    pub fn differ(&mut self, text: String) {
        self.mismatch.get_or_insert(text);
    }
}

/// A queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Grows with declaration.
    pub id: u64,
    pub name: String,
    pub durable: bool,
    /// Client and the number of its connection.
    pub owner: Option<(usize, u64)>,
    pub auto_delete: bool,
    pub arguments: Arguments,
    /// In the order of service.
    pub ready: Vec<Entry>,
    /// In the order of registration.
    pub consumers: Vec<Consumer>,
    active: Option<u64>,
    is_quiescing: bool,
    pub last_use_ms: u64,
    is_ending: bool,
    positions: u64,
    returns: u64,
}

impl Queue {
    pub fn new(id: u64, name: &str, arguments: Arguments, now_ms: u64) -> Self {
        Self {
            id,
            name: name.to_owned(),
            durable: false,
            owner: None,
            auto_delete: false,
            arguments,
            ready: Vec::new(),
            consumers: Vec::new(),
            active: None,
            is_quiescing: false,
            last_use_ms: now_ms,
            is_ending: false,
            positions: 0,
            returns: 0,
        }
    }

    /// A message arrives; `false` if it is refused.
    pub fn publish(&mut self, message: Message, world: &mut World) -> bool {
        let overflow = self.overflow();
        if overflow != Overflow::DropHead && self.is_over(1, message.body.len() as u64) {
            if overflow == Overflow::RejectDeadLetter {
                self.bury(message, "maxlen", world);
            }
            return false;
        }
        self.positions += 1;
        let ttl_ms = [message.expiration_ms, self.arguments.ttl_ms];
        let entry = Entry {
            position: self.positions,
            deadline_ms: ttl_ms
                .into_iter()
                .flatten()
                .min()
                .map(|ttl| ttl + world.now_ms),
            message,
            acquired: 0,
            failed: 0,
            returned: None,
        };
        if self.ready.is_empty() && !self.eligible().is_empty() {
            self.hand_out(entry, world);
        } else if self.ready.is_empty() && entry.is_expired(world.now_ms) {
            self.bury(entry.message, "expired", world);
        } else {
            self.put(entry);
            self.drop_overflow(world);
            self.assign(world);
        }
        true
    }

    /// A held message is settled. The caller ends a series of these with [`Queue::after_settlements`].
    pub fn settle(&mut self, held: Held, outcome: Outcome, world: &mut World) {
        let holder = self
            .consumers
            .iter_mut()
            .find(|c| Some(c.id) == held.consumer);
        if let Some(consumer) = holder {
            consumer.unsettled -= 1;
            if self.is_quiescing && self.active == held.consumer && consumer.unsettled == 0 {
                self.activate();
            }
        }
        let mut entry = held.entry;
        match outcome {
            Outcome::Acked => return,
            Outcome::Rejected => return self.bury(entry.message, "rejected", world),
            Outcome::RequeuedByReject | Outcome::Lost => entry.failed += 1,
            Outcome::RequeuedByNack => {}
        }
        if self.arguments.quorum {
            if entry.failed > self.arguments.delivery_limit.unwrap_or(20) {
                return self.bury(entry.message, "delivery_limit", world);
            }
            self.returns += 1;
            entry.returned = Some(self.returns);
        }
        self.put(entry);
    }

    pub fn after_settlements(&mut self, world: &mut World) {
        if !self.is_ending {
            self.drop_overflow(world);
            self.assign(world);
        }
    }

    /// basic.get.
    pub fn get(&mut self, world: &mut World) -> Option<Entry> {
        self.last_use_ms = world.now_ms;
        self.expire(world);
        (!self.ready.is_empty()).then(|| self.ready.remove(0))
    }

    pub fn add_consumer(&mut self, mut consumer: Consumer, world: &mut World) {
        if self.arguments.quorum && consumer.prefetch == 0 {
            consumer.prefetch = 2000;
        }
        self.last_use_ms = world.now_ms;
        self.consumers.push(consumer);
        self.activate();
        self.assign(world);
    }

    /// Removes the consumers that `is_gone` names, all at once.
    pub fn remove_consumers(&mut self, is_gone: impl Fn(&Consumer) -> bool, world: &mut World) {
        let before = self.consumers.len();
        self.consumers.retain(|consumer| !is_gone(consumer));
        if self.consumers.len() == before {
            return;
        }
        self.last_use_ms = world.now_ms;
        self.activate();
        if self.auto_delete && self.consumers.is_empty() && !self.is_ending {
            self.is_ending = true;
            world.deletions.push(self.id);
            return;
        }
        self.assign(world);
    }

    /// Time has passed.
    pub fn tick(&mut self, world: &mut World) {
        self.expire(world);
        if self
            .unused_deadline_ms()
            .is_some_and(|deadline| deadline <= world.now_ms)
        {
            self.is_ending = true;
            world.deletions.push(self.id);
            return;
        }
        self.assign(world);
    }

    /// When [`Queue::tick`] has something to do.
    pub fn deadline_ms(&self) -> Option<u64> {
        let heads = self
            .heads()
            .into_iter()
            .filter_map(|at| self.ready[at].deadline_ms);
        heads.chain(self.unused_deadline_ms()).min()
    }

    fn unused_deadline_ms(&self) -> Option<u64> {
        let expires_ms = self.arguments.expires_ms?;
        (self.consumers.is_empty() && !self.is_ending).then(|| self.last_use_ms + expires_ms)
    }

    /// The entries at which expiry is seen: the first return, and the first of each priority.
    fn heads(&self) -> Vec<usize> {
        let mut heads = Vec::new();
        let mut seen = Vec::new();
        for (at, entry) in self.ready.iter().enumerate() {
            let lane = match entry.returned {
                Some(_) => None,
                None => Some(self.level(&entry.message)),
            };
            if !seen.contains(&lane) {
                seen.push(lane);
                heads.push(at);
            }
        }
        heads
    }

    fn expire(&mut self, world: &mut World) {
        while let Some(at) = self
            .heads()
            .into_iter()
            .find(|at| self.ready[*at].is_expired(world.now_ms))
        {
            let entry = self.ready.remove(at);
            self.bury(entry.message, "expired", world);
        }
    }

    fn assign(&mut self, world: &mut World) {
        loop {
            self.expire(world);
            if self.ready.is_empty() || self.eligible().is_empty() || world.mismatch.is_some() {
                return;
            }
            let entry = self.ready.remove(0);
            self.hand_out(entry, world);
        }
    }

    fn hand_out(&mut self, mut entry: Entry, world: &mut World) {
        let text = self.describe(&entry);
        let Some((id, tag)) = world.choose(&self.name, &self.eligible(), &text) else {
            return;
        };
        let queue = self.id;
        if let Some(consumer) = self.consumers.iter_mut().find(|c| c.id == id)
            && !consumer.no_ack
        {
            consumer.unsettled += 1;
            entry.acquired += 1;
            let held = Held {
                tag,
                queue,
                consumer: Some(id),
                entry,
            };
            world.handed.push((consumer.key.clone(), held));
        }
    }

    /// How a delivery of `entry` looks now.
    pub fn describe(&self, entry: &Entry) -> String {
        let redelivered = entry.acquired > 0;
        let counts =
            (redelivered && self.arguments.quorum).then_some((entry.acquired, entry.failed));
        entry.message.describe(redelivered, counts)
    }

    /// The consumers one of which gets the next message: of the highest priority among those with credit.
    fn eligible(&self) -> Vec<&Consumer> {
        let with_credit = || {
            self.consumers.iter().filter(|consumer| {
                let may = !self.arguments.single_active
                    || (self.active == Some(consumer.id) && !self.is_quiescing);
                may && consumer.has_credit()
            })
        };
        let highest = with_credit().map(|consumer| consumer.priority).max();
        with_credit()
            .filter(|consumer| Some(consumer.priority) == highest)
            .collect()
    }

    /// Chooses the single active consumer: the earliest stays until it goes; on a quorum queue one of higher priority
    /// takes over once the active one holds nothing.
    fn activate(&mut self) {
        if !self.arguments.single_active {
            return;
        }
        if !self
            .consumers
            .iter()
            .any(|consumer| Some(consumer.id) == self.active)
        {
            self.active = None;
            self.is_quiescing = false;
        }
        let candidate = if self.arguments.quorum {
            let highest = self.consumers.iter().map(|c| c.priority).max();
            self.consumers.iter().find(|c| Some(c.priority) == highest)
        } else {
            self.consumers.first()
        };
        let candidate = candidate.map(|consumer| consumer.id);
        let active = self.consumers.iter().find(|c| Some(c.id) == self.active);
        match active {
            Some(active) if !self.arguments.quorum || candidate == Some(active.id) => {
                self.is_quiescing = false;
            }
            Some(active) if active.unsettled > 0 => self.is_quiescing = true,
            _ => {
                self.active = candidate;
                self.is_quiescing = false;
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        self.ready.push(entry);
        let keys: BTreeMap<u64, (bool, u64, u64)> = self
            .ready
            .iter()
            .map(|entry| {
                let level = u64::from(255 - self.level(&entry.message));
                let key = match entry.returned {
                    Some(number) => (false, 0, number),
                    None => (true, level, entry.position),
                };
                (entry.position, key)
            })
            .collect();
        self.ready.sort_by_key(|entry| keys[&entry.position]);
    }

    fn level(&self, message: &Message) -> u8 {
        if self.arguments.quorum {
            message.priority.unwrap_or(4).min(31)
        } else {
            message
                .priority
                .unwrap_or(0)
                .min(self.arguments.max_priority.unwrap_or(0))
        }
    }

    fn overflow(&self) -> Overflow {
        match self.arguments.overflow {
            Overflow::RejectDeadLetter if self.arguments.quorum => Overflow::DropHead,
            overflow => overflow,
        }
    }

    fn drop_overflow(&mut self, world: &mut World) {
        while self.overflow() == Overflow::DropHead && self.is_over(0, 0) && !self.ready.is_empty()
        {
            let entry = self.ready.remove(0);
            self.bury(entry.message, "maxlen", world);
        }
    }

    fn is_over(&self, more: u64, more_bytes: u64) -> bool {
        let bytes: u64 = self
            .ready
            .iter()
            .map(|entry| entry.message.body.len() as u64)
            .sum();
        let limits = &self.arguments;
        limits
            .max_length
            .is_some_and(|max| self.ready.len() as u64 + more > max)
            || limits
                .max_length_bytes
                .is_some_and(|max| bytes + more_bytes > max)
    }

    fn bury(&self, message: Message, reason: &'static str, world: &mut World) {
        if let Some(exchange) = &self.arguments.dead_letter_exchange {
            world.letters.push(Letter {
                queue: self.name.clone(),
                reason,
                message,
                exchange: exchange.clone(),
                key: self.arguments.dead_letter_key.clone(),
            });
        }
    }
}
