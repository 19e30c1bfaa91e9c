//! What flows in a throughput or latency run: who publishes where, who consumes what, and what has to be declared.
//!
//! In: checked options. Out: the jobs of all connections, and declarations before and deletions after the run. How the run
//! goes and what it measures is not known here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::client::Connection;
use super::consumer::{Consumer, ConsumerDone};
use super::crew::Job;
use super::error::ClientError;
use super::pacer::Schedule;
use super::publisher::{Lead, Publisher, PublisherDone, Stamping, Target};
use super::uri::Uri;
use super::verify::{Expected, QueueCheck, Verdict};
use crate::protocol::{FieldTable, Method, ShortStr, exchange, queue};

/// The channel that declares and deletes.
const CHANNEL: u16 = 1;

/// The pattern of a body repeats after a prime number of octets, so that a piece that was moved is noticed.
const BODY_PATTERN_PERIOD: usize = 251;

/// Options of a run, checked.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The broker.
    pub uri: Uri,
    /// Publishing connections.
    pub publishers: usize,
    /// Consuming connections.
    pub consumers: usize,
    /// Queues.
    pub queues: usize,
    /// The name of the queue, or what the names of several begin with.
    pub queue: String,
    /// Exchange; empty is the default one, by which each queue has its own messages.
    pub exchange: String,
    /// The type of an exchange that the run declares.
    pub exchange_type: Option<String>,
    /// Routing key; by the default exchange, the queue's name.
    pub routing_key: String,
    /// Messages that publishers may be ahead of consumers, if limited.
    pub lead: Option<u64>,
    /// Octets of a body.
    pub body_bytes: usize,
    /// Messages a second of all publishers, if limited.
    pub rate: Option<f64>,
    /// The shortest pause between two bursts of a publisher.
    pub pause_min: Duration,
    /// Unconfirmed messages of a publisher; 0 is no confirms.
    pub window: usize,
    /// Unacknowledged messages of a consumer; 0 is no limit.
    pub prefetch: u16,
    /// Messages to an acknowledgement; 0 is none.
    pub multi_ack: u32,
    /// Encoded properties.
    pub properties: Vec<u8>,
    /// Whether messages that reach no queue come back.
    pub mandatory: bool,
    /// Arguments of queue.declare.
    pub queue_arguments: FieldTable,
    /// Arguments of basic.consume.
    pub consumer_arguments: FieldTable,
    /// Whether queues, bindings and exchange are there already.
    pub predeclared: bool,
    /// Whether queues stay, with what is in them.
    pub keep: bool,
    /// What bodies begin with.
    pub stamping: Stamping,
    /// Whether loss, duplicates and order are checked.
    pub verifies: bool,
    /// Messages of all publishers, or of all consumers if there is no publisher; if limited.
    pub messages: Option<u64>,
}

/// The jobs of a run and what its verification needs.
#[derive(Debug)]
pub struct Jobs {
    /// One for each connection.
    pub jobs: Vec<Job>,
    checks: Arc<Vec<Mutex<QueueCheck>>>,
}

impl Traffic {
    /// The queues' names, all of one length.
    pub fn queue_names(&self) -> Vec<String> {
        if self.queues == 1 {
            return vec![self.queue.clone()];
        }
        let digits = self.queues.to_string().len();
        let numbers = 1..=self.queues;
        numbers
            .map(|number| format!("{}-{number:0digits$}", self.queue))
            .collect()
    }

    /// How many queues get a message: one by the default exchange, else all.
    pub fn copies(&self) -> u64 {
        if self.exchange.is_empty() {
            1
        } else {
            self.queues as u64
        }
    }

    /// Where a publisher's messages go, in turn. By the default exchange there are as many streams as publishers or
    /// queues, whichever are more, each with one queue; by another, each publisher is a stream to all queues.
    fn targets(&self, publisher: usize, names: &[String]) -> Vec<Target> {
        if !self.exchange.is_empty() {
            return vec![Target {
                routing_key: self.routing_key.clone(),
                stream: publisher as u32,
            }];
        }
        shares(publisher, self.publishers, self.queues)
            .map(|queue| Target {
                routing_key: names[queue].clone(),
                stream: publisher.max(queue) as u32,
            })
            .collect()
    }

    /// The queues to which a stream goes.
    fn queues_of(&self, stream: u32) -> std::ops::Range<u32> {
        if self.exchange.is_empty() {
            let queue = stream % self.queues as u32;
            queue..queue + 1
        } else {
            0..self.queues as u32
        }
    }

    /// The jobs of a run with that number.
    pub fn jobs(&self, run: u32) -> Jobs {
        let names = self.queue_names();
        let body: Vec<u8> = (0..self.body_bytes)
            .map(|at| (at % BODY_PATTERN_PERIOD) as u8)
            .collect();
        let shared_body: Arc<[u8]> = body.as_slice().into();
        let checks: Vec<_> = names.iter().map(|_| Mutex::default()).collect();
        let checks = Arc::new(checks);
        let consumers = (0..self.consumers).map(|consumer| {
            let queues = shares(consumer, self.consumers, self.queues);
            Job::Consumer(Box::new(Consumer {
                uri: self.uri.clone(),
                queues: queues
                    .map(|queue| (queue as u32, names[queue].clone()))
                    .collect(),
                prefetch: self.prefetch,
                multi_ack: self.multi_ack,
                arguments: self.consumer_arguments.clone(),
                stamping: self.stamping,
                body: shared_body.clone(),
                run,
                checks: self.verifies.then(|| checks.clone()),
            }))
        });
        let publishers = (0..self.publishers).map(|publisher| {
            let messages = self.messages.map(|messages| {
                let publishers = self.publishers as u64;
                messages / publishers + u64::from((publisher as u64) < messages % publishers)
            });
            Job::Publisher(Box::new(Publisher {
                uri: self.uri.clone(),
                exchange: self.exchange.clone(),
                targets: self.targets(publisher, &names),
                body: body.clone(),
                properties: self.properties.clone(),
                mandatory: self.mandatory,
                window: self.window,
                schedule: self
                    .rate
                    .map(|rate| Schedule::new(rate, self.publishers, publisher)),
                pause_min: self.pause_min,
                messages,
                lead: self.lead.map(|messages| Lead {
                    messages,
                    copies: self.copies(),
                }),
                stamping: self.stamping,
                run,
            }))
        });
        // Alternating, so that threads get both kinds.
        let mut kinds = (consumers, publishers);
        let mut jobs = Vec::new();
        for _ in 0..self.consumers.max(self.publishers) {
            jobs.extend(kinds.0.next());
            jobs.extend(kinds.1.next());
        }
        Jobs { jobs, checks }
    }

    /// Declares what the run needs, or looks whether it is there.
    ///
    /// # Errors
    /// The broker refuses, or what should be there is not.
    pub async fn declare(&self) -> Result<(), ClientError> {
        let mut connection = Connection::open(&self.uri).await?;
        connection.open_channel(CHANNEL).await?;
        if !self.exchange.is_empty() {
            let declare = exchange::Declare {
                exchange: ShortStr::truncated(&self.exchange),
                type_: ShortStr::truncated(self.exchange_type.as_deref().unwrap_or("direct")),
                passive: self.exchange_type.is_none(),
                durable: true,
                ..exchange::Declare::default()
            };
            connection
                .call(CHANNEL, declare, |method| {
                    matches!(method, Method::ExchangeDeclareOk(_)).then_some(())
                })
                .await?;
        }
        let arguments = self.queue_arguments.to_encoded();
        for name in self.queue_names() {
            let declare = queue::Declare {
                queue: ShortStr::truncated(&name),
                passive: self.predeclared,
                durable: true,
                arguments: arguments.as_table(),
                ..queue::Declare::default()
            };
            connection.declare(CHANNEL, declare).await?;
            if self.exchange.is_empty() || self.predeclared {
                continue;
            }
            let bind = queue::Bind {
                queue: ShortStr::truncated(&name),
                exchange: ShortStr::truncated(&self.exchange),
                routing_key: ShortStr::truncated(&self.routing_key),
                ..queue::Bind::default()
            };
            connection
                .call(CHANNEL, bind, |method| {
                    matches!(method, Method::QueueBindOk(_)).then_some(())
                })
                .await?;
        }
        connection.close().await
    }

    /// Deletes what the run has declared, unless it is to stay.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn delete(&self) -> Result<(), ClientError> {
        if self.keep || self.predeclared {
            return Ok(());
        }
        let mut connection = Connection::open(&self.uri).await?;
        connection.open_channel(CHANNEL).await?;
        for name in self.queue_names() {
            let delete = queue::Delete {
                queue: ShortStr::truncated(&name),
                ..queue::Delete::default()
            };
            connection
                .call(CHANNEL, delete, |method| {
                    matches!(method, Method::QueueDeleteOk(_)).then_some(())
                })
                .await?;
        }
        if self.exchange_type.is_some() {
            let delete = exchange::Delete {
                exchange: ShortStr::truncated(&self.exchange),
                ..exchange::Delete::default()
            };
            connection
                .call(CHANNEL, delete, |method| {
                    matches!(method, Method::ExchangeDeleteOk(_)).then_some(())
                })
                .await?;
        }
        connection.close().await
    }

    /// Compares what was published with what was consumed.
    pub fn verdict(
        &self,
        jobs: &Jobs,
        publishers: &[PublisherDone],
        consumers: Vec<ConsumerDone>,
    ) -> Verdict {
        let nothing = HashSet::new();
        let streams = publishers
            .iter()
            .flat_map(|done| done.streams.iter().enumerate().map(move |one| (done, one)));
        let expected: Vec<_> = streams
            .flat_map(|(done, (target, (stream, published)))| {
                let excused = done.refused.get(target).unwrap_or(&nothing);
                self.queues_of(*stream).map(move |queue| Expected {
                    queue,
                    stream: *stream,
                    published: *published,
                    excused,
                })
            })
            .collect();
        let mut queues: Vec<_> = jobs
            .checks
            .iter()
            .map(|check| std::mem::take(&mut *check.lock()))
            .collect();
        let consumers: Vec<_> = consumers.into_iter().map(|done| done.check).collect();
        Verdict::of(&expected, &mut queues, &consumers)
    }
}

/// The queues of a client among several: each has its share of the queues, or, if clients are more, one of them.
fn shares(client: usize, clients: usize, queues: usize) -> impl Iterator<Item = usize> {
    let most = if clients >= queues { 1 } else { queues };
    (client % queues..queues).step_by(clients.max(1)).take(most)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn traffic(publishers: usize, consumers: usize, queues: usize) -> Traffic {
        Traffic {
            uri: "amqp://h".parse().unwrap(),
            publishers,
            consumers,
            queues,
            queue: "q".to_owned(),
            exchange: String::new(),
            exchange_type: None,
            routing_key: String::new(),
            lead: None,
            body_bytes: 16,
            rate: None,
            pause_min: Duration::ZERO,
            window: 0,
            prefetch: 0,
            multi_ack: 1,
            properties: vec![0, 0],
            mandatory: false,
            queue_arguments: FieldTable::new(),
            consumer_arguments: FieldTable::new(),
            predeclared: false,
            keep: false,
            stamping: Stamping::Sequence,
            verifies: true,
            messages: Some(7),
        }
    }

    #[test]
    fn names_have_one_length() {
        assert_eq!(traffic(1, 1, 1).queue_names(), ["q"]);
        let names = traffic(1, 1, 12).queue_names();
        assert_eq!((&*names[0], &*names[11]), ("q-01", "q-12"));
    }

    #[test]
    fn queues_are_shared_out_without_a_gap() {
        for clients in 1..7 {
            for queues in 1..7 {
                let mut served = HashSet::new();
                for client in 0..clients {
                    let share: Vec<_> = shares(client, clients, queues).collect();
                    assert!(!share.is_empty(), "{client} of {clients}, {queues} queues");
                    served.extend(share);
                }
                assert_eq!(served.len(), queues, "{clients} clients");
            }
        }
        assert_eq!(shares(1, 2, 5).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(shares(4, 5, 2).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn each_stream_has_one_publisher_and_the_queue_of_its_key() {
        for (publishers, queues) in [(1, 1), (1, 4), (3, 7), (7, 3), (4, 4)] {
            let traffic = traffic(publishers, 1, queues);
            let names = traffic.queue_names();
            let mut streams = HashSet::new();
            for publisher in 0..publishers {
                for target in traffic.targets(publisher, &names) {
                    assert!(streams.insert(target.stream), "{publishers} {queues}");
                    let queues = traffic.queues_of(target.stream);
                    assert_eq!(queues.len(), 1);
                    assert_eq!(names[queues.start as usize], target.routing_key);
                }
            }
            assert_eq!(streams.len(), publishers.max(queues));
        }
    }

    #[test]
    fn by_an_exchange_every_queue_gets_every_stream() {
        let mut traffic = traffic(2, 1, 3);
        traffic.exchange = "x".to_owned();
        assert_eq!(traffic.copies(), 3);
        assert_eq!(traffic.queues_of(1), 0..3);
        assert_eq!(traffic.targets(1, &traffic.queue_names())[0].stream, 1);
    }

    #[test]
    fn publishers_share_the_messages_to_the_last() {
        let jobs = traffic(3, 2, 1).jobs(1).jobs;
        assert_eq!(jobs.len(), 5);
        let messages = jobs.iter().filter_map(|job| match job {
            Job::Publisher(publisher) => publisher.messages,
            _ => None,
        });
        assert_eq!(messages.collect::<Vec<_>>(), [3, 2, 2]);
    }
}
