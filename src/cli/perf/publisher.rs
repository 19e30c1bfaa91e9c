//! A publisher: one connection that sends messages as fast as it may.
//!
//! In: the job, and the broker's confirms. Out: counters, and in the end what was published, to which stream, and how long
//! confirms took. When the run ends and what becomes of the messages is not known here.

use std::collections::HashSet;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::batch::{Batch, Template};
use super::client::Connection;
use super::confirms::Confirms;
use super::crew::{Context, count};
use super::error::ClientError;
use super::figures::{histogram, record};
use super::pacer::{Alarm, Schedule};
use super::stamp::{SEQUENCE_STAMP_BYTES, Stamp, TIME_STAMP_BYTES};
use super::uri::Uri;
use crate::protocol::frame::FrameKind;
use crate::protocol::{Method, ShortStr, confirm};

/// The channel that a publisher uses.
const CHANNEL: u16 = 1;

/// How long a publisher that has to end waits for what is on its way.
const LAST_CONFIRMS_SECONDS_MAX: u64 = 10;

/// How often a publisher that is too far ahead looks whether consumers have caught up.
const LEAD_PAUSE: Duration = Duration::from_micros(200);

/// Refused messages of a publisher that are remembered by number; those beyond count as lost.
const REFUSED_MAX: usize = 1_000_000;

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Target {
    /// Routing key; those of a publisher are equally long.
    pub routing_key: String,
    /// The stream to which its messages belong.
    pub stream: u32,
}

/// What bodies begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamping {
    /// Nothing of interest.
    None,
    /// Run, stream and sequence.
    Sequence,
    /// These and the intended send time.
    Time,
}

/// How far publishers may be ahead of consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// Messages at most.
    pub messages: u64,
    /// How many times each message is delivered.
    pub copies: u64,
}

/// The job of a publisher.
#[derive(Debug)]
pub struct Publisher {
    /// The broker.
    pub uri: Uri,
    /// Exchange; empty is the default one.
    pub exchange: String,
    /// Messages go to these in turn; never empty.
    pub targets: Vec<Target>,
    /// Body, whose head the stamp overwrites.
    pub body: Vec<u8>,
    /// Encoded properties.
    pub properties: Vec<u8>,
    /// Whether messages that reach no queue come back.
    pub mandatory: bool,
    /// Unconfirmed messages at most; 0 is no confirms at all.
    pub window: usize,
    /// Intended send times, if the rate is limited.
    pub schedule: Option<Schedule>,
    /// The shortest pause between two bursts of a limited rate, so that a high rate does not cost a wake-up a message.
    pub pause_min: Duration,
    /// Messages to publish, if limited.
    pub messages: Option<u64>,
    /// Messages that all publishers together may be ahead of the consumers, if limited.
    pub lead: Option<Lead>,
    /// What bodies begin with.
    pub stamping: Stamping,
    /// The number of the run.
    pub run: u32,
}

/// What a publisher has done.
#[derive(Debug)]
pub struct PublisherDone {
    /// Messages published to each stream.
    pub streams: Vec<(u32, u64)>,
    /// Numbers of messages in each stream that the broker refused.
    pub refused: Vec<HashSet<u64>>,
    /// From intended send time to confirm, in ns.
    pub confirm_ns: Histogram<u64>,
    /// From intended send time to when the client sent, in ns.
    pub lag_ns: Histogram<u64>,
}

impl Publisher {
    /// Connects, waits for the start, publishes until its messages or the phase end, and awaits the confirms.
    ///
    /// # Errors
    /// The broker refuses or goes away.
    pub async fn run(self, mut context: Context) -> Result<Box<PublisherDone>, ClientError> {
        let connection = context.in_turn(self.open()).await?;
        let template = Template {
            exchange: ShortStr::truncated(&self.exchange),
            routing_key: ShortStr::truncated(&self.targets[0].routing_key),
            mandatory: self.mandatory,
            properties: &self.properties,
            body: &self.body,
            channel: CHANNEL,
            frame_max: connection.frame_max(),
        };
        let batch = Batch::new(&template);
        let started = context.ready().await;
        let (start_ns, measured_from_ns) = started.unwrap_or_default();
        let mut work = Work {
            refused: vec![HashSet::new(); self.targets.len()],
            job: self,
            connection,
            context,
            batch,
            confirms: Confirms::default(),
            start_ns,
            measured_from_ns,
            published: 0,
            last_burst_ns: 0,
            confirm_ns: histogram(),
            lag_ns: histogram(),
        };
        if started.is_some() {
            work.publish().await?;
        }
        work.end().await
    }

    async fn open(&self) -> Result<Connection, ClientError> {
        let mut connection = Connection::open(&self.uri).await?;
        connection.open_channel(CHANNEL).await?;
        if self.window > 0 {
            connection
                .call(CHANNEL, confirm::Select::default(), |method| {
                    matches!(method, Method::ConfirmSelectOk(_)).then_some(())
                })
                .await?;
        }
        Ok(connection)
    }
}

/// A publisher at work.
struct Work {
    job: Publisher,
    connection: Connection,
    context: Context,
    batch: Batch,
    confirms: Confirms,
    start_ns: u64,
    measured_from_ns: u64,
    /// Messages handed to the socket, or about to be.
    published: u64,
    last_burst_ns: u64,
    refused: Vec<HashSet<u64>>,
    confirm_ns: Histogram<u64>,
    lag_ns: Histogram<u64>,
}

impl Work {
    async fn publish(&mut self) -> Result<(), ClientError> {
        let alarm = match self.job.schedule.is_some() || self.job.lead.is_some() {
            true => Some(Alarm::new().map_err(ClientError::Timer)?),
            false => None,
        };
        loop {
            self.read()?;
            let is_ending = self.context.is_ending();
            if self.batch.is_written() {
                let messages = if is_ending { 0 } else { self.allowed() };
                if messages > 0 {
                    self.load(messages);
                } else if is_ending || Some(self.published) == self.job.messages {
                    return self.await_confirms().await;
                }
            }
            let mut is_blocked = false;
            if !self.batch.is_written() {
                match self.connection.try_write(self.batch.rest())? {
                    Some(written) => {
                        let messages = self.batch.advance(written);
                        count(&self.context.counters.sent, messages as u64);
                    }
                    None => is_blocked = true,
                }
            }
            let is_complete = Some(self.published) == self.job.messages;
            if !is_blocked && (!self.batch.is_written() || is_complete || self.allowed() > 0) {
                // The other connections of this thread have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let pause = if is_blocked { None } else { self.pause() };
            tokio::select! {
                ready = self.connection.ready(is_blocked) => ready?,
                rang = ring(alarm.as_ref(), pause) => rang.map_err(ClientError::Timer)?,
                () = self.context.phase_changed() => {}
            }
        }
    }

    /// Messages that may be sent now.
    fn allowed(&self) -> usize {
        let mut messages = self.batch.slots() as u64;
        if self.job.window > 0 {
            let room = self.job.window.saturating_sub(self.confirms.outstanding());
            messages = messages.min(room as u64);
        }
        if let Some(limit) = self.job.messages {
            messages = messages.min(limit.saturating_sub(self.published));
        }
        messages = messages.min(self.room_ahead());
        if messages > 0
            && let Some(schedule) = &self.job.schedule
        {
            let since_start_ns = self.context.clock.now_ns().saturating_sub(self.start_ns);
            let due = schedule.due_until(since_start_ns);
            messages = messages.min(due.saturating_sub(self.published));
        }
        messages as usize
    }

    /// Messages that the consumers' pace allows.
    fn room_ahead(&self) -> u64 {
        self.job.lead.map_or(u64::MAX, |lead| {
            lead.messages
                .saturating_sub(self.context.ahead(lead.copies))
        })
    }

    /// How long until the next message is due, or consumers may have caught up; `None` when neither is waited for.
    fn pause(&self) -> Option<Duration> {
        if self.room_ahead() == 0 {
            return Some(LEAD_PAUSE);
        }
        let schedule = self.job.schedule.as_ref()?;
        if self.job.window > 0 && self.confirms.outstanding() >= self.job.window {
            return None;
        }
        let due_ns = self.start_ns + schedule.due_ns(self.published);
        let earliest_ns = self.last_burst_ns + self.job.pause_min.as_nanos() as u64;
        let now_ns = self.context.clock.now_ns();
        Some(Duration::from_nanos(
            due_ns.max(earliest_ns).saturating_sub(now_ns),
        ))
    }

    /// Puts the next messages into the batch.
    fn load(&mut self, messages: usize) {
        let targets = self.job.targets.len() as u64;
        let now_ns = match self.job.schedule {
            Some(_) => self.context.clock.now_ns(),
            None => 0,
        };
        self.last_burst_ns = now_ns;
        if targets > 1 || self.job.stamping != Stamping::None {
            for slot in 0..messages {
                let number = self.published + slot as u64;
                let target = &self.job.targets[(number % targets) as usize];
                if targets > 1 {
                    self.batch.set_key(slot, target.routing_key.as_bytes());
                }
                let stamp = Stamp {
                    run: self.job.run,
                    stream: target.stream,
                    sequence: number / targets,
                    due_ns: self.due_ns(number),
                }
                .to_octets();
                match self.job.stamping {
                    Stamping::None => {}
                    Stamping::Sequence => {
                        self.batch.set_stamp(slot, &stamp[..SEQUENCE_STAMP_BYTES]);
                    }
                    Stamping::Time => self.batch.set_stamp(slot, &stamp[..TIME_STAMP_BYTES]),
                }
            }
        }
        if self.job.stamping == Stamping::Time {
            for number in self.published..self.published + messages as u64 {
                let due_ns = self.due_ns(number);
                if due_ns >= self.measured_from_ns {
                    record(&mut self.lag_ns, now_ns.saturating_sub(due_ns), 1);
                }
            }
        }
        if self.job.window > 0 {
            self.confirms.publish(messages);
        }
        self.published += messages as u64;
        self.batch.load(messages);
    }

    fn due_ns(&self, number: u64) -> u64 {
        match &self.job.schedule {
            Some(schedule) => self.start_ns + schedule.due_ns(number),
            None => 0,
        }
    }

    /// Takes what the broker has sent: confirms, returned messages, a close.
    fn read(&mut self) -> Result<(), ClientError> {
        while self.connection.try_fill()? {
            let now_ns = self.context.clock.now_ns();
            while let Some((frame, length)) = self.connection.frame()? {
                let mut confirm = None;
                if frame.kind == FrameKind::Method {
                    match self.connection.method(&frame)? {
                        Method::BasicAck(ack) => {
                            confirm = Some((ack.delivery_tag, ack.multiple, true));
                        }
                        Method::BasicNack(nack) => {
                            confirm = Some((nack.delivery_tag, nack.multiple, false));
                        }
                        Method::BasicReturn(_) => count(&self.context.counters.returned, 1),
                        _ => {}
                    }
                }
                self.connection.consume(length);
                if let Some((tag, multiple, is_ack)) = confirm {
                    self.settle(tag, multiple, is_ack, now_ns)?;
                }
            }
        }
        Ok(())
    }

    fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        is_ack: bool,
        now_ns: u64,
    ) -> Result<(), ClientError> {
        let mut settled = 0;
        let targets = self.job.targets.len() as u64;
        let (start_ns, measured_from_ns) = (self.start_ns, self.measured_from_ns);
        let schedule = match self.job.stamping {
            Stamping::Time => self.job.schedule,
            _ => None,
        };
        let (refused, confirm_ns) = (&mut self.refused, &mut self.confirm_ns);
        let outcome = self.confirms.settle(tag, multiple, |number| {
            settled += 1;
            if let Some(schedule) = schedule {
                let due_ns = start_ns + schedule.due_ns(number);
                if due_ns >= measured_from_ns {
                    record(confirm_ns, now_ns.saturating_sub(due_ns), 1);
                }
            }
            let of_target = &mut refused[(number % targets) as usize];
            if !is_ack && of_target.len() < REFUSED_MAX {
                of_target.insert(number / targets);
            }
        });
        let counters = &self.context.counters;
        let counter = if is_ack {
            &counters.confirmed
        } else {
            &counters.refused
        };
        count(counter, settled);
        outcome.map_err(|wrong| {
            let what = format!("a confirm of tag {}, which awaits none", wrong.0);
            self.connection.unexpected(what)
        })
    }

    async fn await_confirms(&mut self) -> Result<(), ClientError> {
        let limit = Duration::from_secs(LAST_CONFIRMS_SECONDS_MAX);
        let waiting = async {
            while self.confirms.outstanding() > 0 {
                self.connection.ready(false).await?;
                self.read()?;
            }
            Ok(())
        };
        // What is unconfirmed by then is told by the difference of the counters.
        tokio::time::timeout(limit, waiting).await.unwrap_or(Ok(()))
    }

    /// Closes, and gives the account.
    async fn end(self) -> Result<Box<PublisherDone>, ClientError> {
        let targets = self.job.targets.len() as u64;
        let streams = self.job.targets.iter().zip(0..);
        let streams = streams.map(|(target, index)| {
            let more = u64::from(index < self.published % targets);
            (target.stream, self.published / targets + more)
        });
        let done = PublisherDone {
            streams: streams.collect(),
            refused: self.refused,
            confirm_ns: self.confirm_ns,
            lag_ns: self.lag_ns,
        };
        self.connection.close().await?;
        Ok(Box::new(done))
    }
}

/// Waits for the alarm, or for ever.
async fn ring(alarm: Option<&Alarm>, pause: Option<Duration>) -> std::io::Result<()> {
    match (alarm, pause) {
        (Some(alarm), Some(pause)) => alarm.wait(pause).await,
        _ => std::future::pending().await,
    }
}
