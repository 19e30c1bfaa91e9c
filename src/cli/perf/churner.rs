//! A client that opens and closes things, one at a time: connections, channels, queues, bindings or consumers.
//!
//! In: the job. Out: how many times it was done and how long each took. What that costs the broker is not known here.

use std::fmt;

use clap::ValueEnum;
use hdrhistogram::Histogram;

use super::client::Connection;
use super::crew::{Context, count};
use super::error::ClientError;
use super::figures::{histogram, record};
use super::uri::Uri;
use crate::protocol::{Method, ShortStr, basic, channel, queue};

/// The channel on which things are opened.
const CHANNEL: u16 = 1;

/// The channel that comes and goes.
const CHURNED_CHANNEL: u16 = 2;

/// What comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Thing {
    /// TCP connection, login, close.
    Connections,
    /// channel.open, channel.close.
    Channels,
    /// queue.declare, queue.delete.
    Queues,
    /// queue.bind to amq.direct, queue.unbind.
    Bindings,
    /// basic.consume, basic.cancel.
    Consumers,
}

impl Thing {
    /// Its name in figures, singular.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Connections => "connection",
            Self::Channels => "channel",
            Self::Queues => "queue",
            Self::Bindings => "binding",
            Self::Consumers => "consumer",
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.singular())
    }
}

/// The job of a client.
#[derive(Debug)]
pub struct Churner {
    /// The broker.
    pub uri: Uri,
    /// What comes and goes.
    pub thing: Thing,
    /// The queue that the client uses; its own.
    pub queue: String,
    /// Whether its queues survive a restart of the broker.
    pub durable: bool,
    /// How many times, if limited.
    pub times: Option<u64>,
}

/// What a client has done.
#[derive(Debug)]
pub struct ChurnDone {
    /// How long each opening and closing took, in ns.
    pub took_ns: Histogram<u64>,
}

impl Churner {
    /// Connects, waits for the start, and opens and closes until the number or the phase ends.
    ///
    /// # Errors
    /// The broker refuses or goes away.
    pub async fn run(self, mut context: Context) -> Result<Box<ChurnDone>, ClientError> {
        let mut connection = context.in_turn(self.open()).await?;
        let mut took_ns = histogram();
        if let Some((_, measured_from_ns)) = context.ready().await {
            let mut times = 0;
            while !context.is_ending() && Some(times) != self.times {
                let began_ns = context.clock.now_ns();
                self.once(&mut connection, times).await?;
                if began_ns >= measured_from_ns {
                    record(&mut took_ns, context.clock.now_ns() - began_ns, 1);
                }
                times += 1;
                count(&context.counters.sent, 1);
            }
        }
        if self.needs_queue() {
            delete(&mut connection, &self.queue).await?;
        }
        connection.close().await?;
        Ok(Box::new(ChurnDone { took_ns }))
    }

    fn needs_queue(&self) -> bool {
        matches!(self.thing, Thing::Bindings | Thing::Consumers)
    }

    async fn open(&self) -> Result<Connection, ClientError> {
        let mut connection = Connection::open(&self.uri).await?;
        connection.open_channel(CHANNEL).await?;
        if self.needs_queue() {
            connection.declare(CHANNEL, self.declaration()).await?;
        }
        Ok(connection)
    }

    /// A queue that is not durable is exclusive: RabbitMQ 4 knows no other transient ones.
    fn declaration(&self) -> queue::Declare<'_> {
        queue::Declare {
            queue: ShortStr::truncated(&self.queue),
            durable: self.durable,
            exclusive: !self.durable,
            ..queue::Declare::default()
        }
    }

    async fn once(&self, connection: &mut Connection, number: u64) -> Result<(), ClientError> {
        match self.thing {
            Thing::Connections => Connection::open(&self.uri).await?.close().await,
            Thing::Channels => {
                connection.open_channel(CHURNED_CHANNEL).await?;
                let close = channel::Close {
                    reply_code: 200,
                    reply_text: ShortStr::truncated("done"),
                    class_id: 0,
                    method_id: 0,
                };
                connection
                    .call(CHURNED_CHANNEL, close, |method| {
                        matches!(method, Method::ChannelCloseOk(_)).then_some(())
                    })
                    .await
            }
            Thing::Queues => {
                connection.declare(CHANNEL, self.declaration()).await?;
                delete(connection, &self.queue).await
            }
            Thing::Bindings => self.bind_and_unbind(connection, number).await,
            Thing::Consumers => self.consume_and_cancel(connection).await,
        }
    }

    async fn bind_and_unbind(
        &self,
        connection: &mut Connection,
        number: u64,
    ) -> Result<(), ClientError> {
        let key = format!("{}.{number}", self.queue);
        let bind = queue::Bind {
            queue: ShortStr::truncated(&self.queue),
            exchange: ShortStr::truncated("amq.direct"),
            routing_key: ShortStr::truncated(&key),
            ..queue::Bind::default()
        };
        let unbind = queue::Unbind {
            queue: bind.queue,
            exchange: bind.exchange,
            routing_key: bind.routing_key,
            ..queue::Unbind::default()
        };
        connection
            .call(CHANNEL, bind, |method| {
                matches!(method, Method::QueueBindOk(_)).then_some(())
            })
            .await?;
        connection
            .call(CHANNEL, unbind, |method| {
                matches!(method, Method::QueueUnbindOk(_)).then_some(())
            })
            .await
    }

    async fn consume_and_cancel(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let tag = ShortStr::truncated("perf");
        let consume = basic::Consume {
            queue: ShortStr::truncated(&self.queue),
            consumer_tag: tag,
            no_ack: true,
            ..basic::Consume::default()
        };
        connection
            .call(CHANNEL, consume, |method| {
                matches!(method, Method::BasicConsumeOk(_)).then_some(())
            })
            .await?;
        let cancel = basic::Cancel {
            consumer_tag: tag,
            no_wait: false,
        };
        connection
            .call(CHANNEL, cancel, |method| {
                matches!(method, Method::BasicCancelOk(_)).then_some(())
            })
            .await
    }
}

async fn delete(connection: &mut Connection, name: &str) -> Result<(), ClientError> {
    let delete = queue::Delete {
        queue: ShortStr::truncated(name),
        ..queue::Delete::default()
    };
    connection
        .call(CHANNEL, delete, |method| {
            matches!(method, Method::QueueDeleteOk(_)).then_some(())
        })
        .await
}
