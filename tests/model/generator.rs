//! Which operation comes next: random, but drawn from few names so that things meet, and looking at the model so that most
//! operations do something.
//!
//! In: random numbers, the model's state. Out: operations. What they lead to is not known here.

use crate::operations::{Act, BindingAsked, Operation, Publication, Texts};
use crate::plain::Plain;
use crate::plain::message::Message;
use crate::plain::queue::{Arguments, Overflow, Queue};
use crate::plain::routing::Exchange;
use crate::random::Random;

/// Clients of a run.
pub const CLIENTS: usize = 3;
const CHANNELS: usize = 3;
const QUEUES: [&str; 6] = ["q0", "q1", "q2", "q3", "q4", "q5"];
const EXCHANGES: [&str; 6] = ["e0", "e1", "e2", "e3", "amq.fanout", "amq.topic"];
const KEYS: [&str; 7] = ["a", "b", "a.b", "a.c", "q0", "q1", ""];
const PATTERNS: [&str; 7] = ["a", "b", "a.*", "#", "*.b", "a.#", "q0"];
const TAGS: [&str; 4] = ["c0", "c1", "c2", "c3"];

/// The source of a run's operations.
pub struct Generator {
    pub random: Random,
    bodies: u64,
}

impl Generator {
    pub fn new(random: Random) -> Self {
        Self { random, bodies: 0 }
    }

    /// The next operation.
    pub fn next(&mut self, plain: &Plain) -> Operation {
        loop {
            let operation = self.any(plain);
            if !plain.leaves_choice(&operation) {
                return operation;
            }
        }
    }

    fn any(&mut self, plain: &Plain) -> Operation {
        let client = self.random.below(CLIENTS);
        let state = &plain.clients[client];
        if !state.is_open {
            return Operation::Connect { client };
        }
        match self.random.below(400) {
            0..=1 => return Operation::HangUp { client },
            2..=3 => return Operation::Disconnect { client },
            4..=40 => {
                let ms = *self.random.pick(&[1, 5, 10, 20, 50, 100, 300]);
                return Operation::Advance { ms };
            }
            41..=50 => {
                let channel = 1 + self.random.below(CHANNELS) as u16;
                return Operation::OpenChannel { client, channel };
            }
            _ => {}
        }
        let channels: Vec<u16> = state.channels.keys().copied().collect();
        if channels.is_empty() {
            return Operation::OpenChannel { client, channel: 1 };
        }
        let channel = *self.random.pick(&channels);
        let act = self.act(plain, client, channel);
        Operation::Do {
            client,
            channel,
            act,
        }
    }

    fn act(&mut self, plain: &Plain, client: usize, channel: u16) -> Act {
        match self.random.below(1000) {
            0..=289 => self.publish(plain),
            290..=519 => self.settle(plain, client, channel),
            520..=599 => self.consume(plain, client, channel),
            600..=624 => Act::Cancel {
                tag: self.tag(plain, client, channel),
            },
            625..=664 => Act::Get {
                queue: self.queue(plain),
                no_ack: self.random.one_in(3),
            },
            665..=744 => self.declare_queue(plain),
            745..=774 => self.declare_exchange(plain),
            775..=849 => {
                let asked = self.binding(plain);
                Act::Bind(asked)
            }
            850..=869 => self.unbind(plain),
            870..=889 => Act::FindQueue {
                name: self.queue(plain),
            },
            890..=894 => Act::FindExchange {
                name: self.exchange(plain),
            },
            895..=909 => Act::Purge {
                name: self.queue(plain),
            },
            910..=924 => self.delete_queue(plain),
            925..=929 => Act::DeleteExchange {
                name: self.exchange(plain),
                if_unused: self.random.one_in(2),
            },
            930..=959 => Act::Qos {
                prefetch: *self.random.pick(&[0, 1, 1, 2, 3, 5]),
            },
            960..=969 => Act::Recover,
            970..=977 => Act::ConfirmSelect,
            978..=981 => Act::TxSelect,
            982..=990 => self.transaction(plain, client, channel, true),
            991..=993 => self.transaction(plain, client, channel, false),
            _ => Act::CloseChannel,
        }
    }

    /// A queue that exists, mostly.
    fn queue(&mut self, plain: &Plain) -> String {
        if plain.queues.is_empty() || self.random.one_in(40) {
            return (*self.random.pick(&QUEUES)).to_owned();
        }
        self.random.pick(&plain.queues).name.clone()
    }

    /// An exchange that exists, mostly.
    fn exchange(&mut self, plain: &Plain) -> String {
        let name = *self.random.pick(&EXCHANGES);
        if plain.routes.exchanges.contains_key(name) || self.random.one_in(40) {
            name.to_owned()
        } else {
            "amq.topic".to_owned()
        }
    }

    fn texts(&mut self) -> Texts {
        let mut texts = Vec::new();
        for name in ["h1", "h2"] {
            if let Some(text) = self.random.maybe(3, &["x", "y"]) {
                texts.push((name, text));
            }
        }
        texts
    }

    fn keys(&mut self, n: usize) -> Vec<String> {
        if !self.random.one_in(n) {
            return Vec::new();
        }
        let count = 1 + self.random.below(2);
        (0..count)
            .map(|_| (*self.random.pick(&KEYS)).to_owned())
            .collect()
    }

    fn publish(&mut self, plain: &Plain) -> Act {
        let count = match self.random.below(10) {
            0..=6 => 1,
            7..=8 => 2 + self.random.below(4),
            _ => 5 + self.random.below(20),
        };
        let publications = (0..count).map(|_| self.publication(plain)).collect();
        Act::Publish(publications)
    }

    fn publication(&mut self, plain: &Plain) -> Publication {
        self.bodies += 1;
        let bytes = *self.random.pick(&[8, 8, 10, 20, 40]);
        let body = format!("{:.<bytes$}", format!("m{}", self.bodies));
        let (exchange, key) = if self.random.one_in(2) {
            (String::new(), self.queue(plain))
        } else {
            (self.exchange(plain), (*self.random.pick(&KEYS)).to_owned())
        };
        Publication {
            message: Message {
                body,
                exchange,
                key,
                priority: self.random.maybe(4, &[0, 1, 2, 3, 9, 200]),
                expiration_ms: self.random.maybe(8, &[0, 1, 10, 50, 100]),
                texts: self.texts(),
                cc: self.keys(12),
                ..Message::default()
            },
            bcc: self.keys(20),
            mandatory: self.random.one_in(4),
        }
    }

    fn settle(&mut self, plain: &Plain, client: usize, channel: u16) -> Act {
        let held = &plain.clients[client].channels[&channel].held;
        let multiple = self.random.one_in(6);
        let tag = if held.is_empty() {
            if self.random.one_in(20) {
                1 + self.random.below(40) as u64
            } else {
                return Act::Get {
                    queue: self.queue(plain),
                    no_ack: false,
                };
            }
        } else if multiple && self.random.one_in(4) {
            0
        } else if self.random.one_in(2) {
            held[0].tag
        } else {
            self.random.pick(held).tag
        };
        let requeue = self.random.one_in(2);
        match self.random.below(10) {
            0..=3 => Act::Ack { tag, multiple },
            4..=6 => Act::Reject {
                tag: tag.max(1),
                requeue,
            },
            _ => Act::Nack {
                tag,
                multiple,
                requeue,
            },
        }
    }

    /// A tag that is in use on the channel, mostly.
    fn tag(&mut self, plain: &Plain, client: usize, channel: u16) -> String {
        let tags = plain.consumer_tags(client, channel);
        if tags.is_empty() || self.random.one_in(10) {
            (*self.random.pick(&TAGS)).to_owned()
        } else {
            self.random.pick(&tags).clone()
        }
    }

    fn consume(&mut self, plain: &Plain, client: usize, channel: u16) -> Act {
        let used = plain.consumer_tags(client, channel);
        let mut tag = (*self.random.pick(&TAGS)).to_owned();
        if used.contains(&tag) {
            // Using it again ends the connection.
            if !self.random.one_in(30) {
                return Act::Cancel { tag };
            }
            tag = used[0].clone();
        }
        Act::Consume {
            queue: self.queue(plain),
            tag,
            no_ack: self.random.one_in(5),
            exclusive: self.random.one_in(25),
            priority: self.random.maybe(4, &[-1, 1, 2]).unwrap_or(0),
        }
    }

    fn declare_queue(&mut self, plain: &Plain) -> Act {
        let name = (*self.random.pick(&QUEUES)).to_owned();
        if let Some(queue) = plain.queue(&name)
            && !self.random.one_in(20)
        {
            return same_again(queue);
        }
        if self.random.one_in(4) {
            return Act::DeclareQueue {
                name,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: self.arguments(true),
            };
        }
        Act::DeclareQueue {
            name,
            durable: self.random.one_in(8),
            exclusive: self.random.one_in(8),
            auto_delete: self.random.one_in(6),
            arguments: self.arguments(false),
        }
    }

    fn arguments(&mut self, quorum: bool) -> Arguments {
        let random = &mut self.random;
        let dead_letter_exchange = random.one_in(2).then(|| {
            let name = random.pick(&["", "e0", "e1", "amq.fanout", "amq.topic"]);
            (*name).to_owned()
        });
        let overflow = match random.below(5) {
            0 => Overflow::Reject,
            1 => Overflow::RejectDeadLetter,
            _ => Overflow::DropHead,
        };
        Arguments {
            quorum,
            ttl_ms: random.maybe(5, &[0, 1, 20, 60, 200]),
            expires_ms: random.maybe(12, &[30, 100, 400]),
            max_length: random.maybe(4, &[0, 1, 2, 3, 5]),
            max_length_bytes: random.maybe(8, &[8, 30, 60]),
            overflow,
            dead_letter_key: dead_letter_exchange.as_ref().and_then(|_| {
                let key = random.maybe(2, &["q0", "q1", "q2", "q3", "a.b"]);
                key.map(str::to_owned)
            }),
            dead_letter_exchange,
            max_priority: if quorum {
                None
            } else {
                random.maybe(4, &[1, 3, 10])
            },
            single_active: random.one_in(6),
            delivery_limit: if quorum {
                random.maybe(2, &[0, 1, 2])
            } else {
                None
            },
        }
    }

    fn declare_exchange(&mut self, plain: &Plain) -> Act {
        let name = (*self.random.pick(&EXCHANGES[..4])).to_owned();
        let exchange = match plain.routes.exchanges.get(&name) {
            Some(exchange) if !self.random.one_in(20) => exchange.clone(),
            _ => Exchange {
                kind: self
                    .random
                    .pick::<&'static str>(&["direct", "fanout", "topic", "headers"]),
                durable: self.random.one_in(8),
                auto_delete: self.random.one_in(4),
                internal: self.random.one_in(12),
                alternate: self.random.one_in(3).then(|| {
                    let name = self.random.pick(&EXCHANGES);
                    (*name).to_owned()
                }),
            },
        };
        Act::DeclareExchange { name, exchange }
    }

    fn binding(&mut self, plain: &Plain) -> BindingAsked {
        let is_queue = !self.random.one_in(4);
        let mut source = self.exchange(plain);
        if self.random.one_in(100) {
            source = String::new();
        }
        let target = if is_queue {
            self.queue(plain)
        } else {
            self.exchange(plain)
        };
        let mut arguments = Vec::new();
        if self.random.one_in(2) {
            arguments = self.texts();
            if let Some(mode) = self.random.maybe(2, &["all", "any"]) {
                arguments.push(("x-match", mode));
            }
        }
        BindingAsked {
            is_queue,
            source,
            target,
            key: (*self.random.pick(&PATTERNS)).to_owned(),
            arguments,
        }
    }

    fn unbind(&mut self, plain: &Plain) -> Act {
        use crate::plain::routing::Target;
        if plain.routes.bindings.is_empty() || self.random.one_in(4) {
            let asked = self.binding(plain);
            return Act::Unbind(asked);
        }
        let binding = self.random.pick(&plain.routes.bindings).clone();
        let (is_queue, target) = match binding.target {
            Target::Queue(name) => (true, name),
            Target::Exchange(name) => (false, name),
        };
        Act::Unbind(BindingAsked {
            is_queue,
            source: binding.source,
            target,
            key: binding.key,
            arguments: binding.arguments,
        })
    }

    fn delete_queue(&mut self, plain: &Plain) -> Act {
        let name = self.queue(plain);
        // On a quorum queue the flags end the connection.
        let is_quorum = plain
            .queue(&name)
            .is_some_and(|queue| queue.arguments.quorum);
        let n = if is_quorum { 20 } else { 2 };
        Act::DeleteQueue {
            name,
            if_unused: self.random.one_in(n),
            if_empty: self.random.one_in(n),
        }
    }

    fn transaction(&mut self, plain: &Plain, client: usize, channel: u16, commits: bool) -> Act {
        let state = &plain.clients[client].channels[&channel];
        if !state.is_transactional() && !self.random.one_in(20) {
            return if state.confirms.is_some() {
                Act::ConfirmSelect
            } else {
                Act::TxSelect
            };
        }
        if commits {
            Act::TxCommit
        } else {
            Act::TxRollback
        }
    }
}

fn same_again(queue: &Queue) -> Act {
    Act::DeclareQueue {
        name: queue.name.clone(),
        durable: queue.durable,
        exclusive: queue.owner.is_some(),
        auto_delete: queue.auto_delete,
        arguments: queue.arguments.clone(),
    }
}
