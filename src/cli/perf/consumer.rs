//! A consumer: one connection that takes what its queues deliver, and acknowledges it.
//!
//! In: the job, and deliveries, parsed where they lie. Out: counters, latencies, and what verification needs to know. When
//! the run ends and what should have come is not known here.

use std::sync::Arc;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::client::{Connection, body_bytes, delivery};
use super::crew::{Context, count};
use super::error::ClientError;
use super::figures::{histogram, record};
use super::publisher::Stamping;
use super::stamp::{SEQUENCE_STAMP_BYTES, Stamp, TIME_STAMP_BYTES};
use super::uri::Uri;
use super::verify::{ConsumerCheck, QueueCheck};
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::{FieldTable, Method, ShortStr, basic};

/// The channel that a consumer uses.
const CHANNEL: u16 = 1;

/// Acknowledgements that may wait for the socket before reading stops, in octets.
const UNWRITTEN_BYTES_MAX: usize = 1024 * 1024;

/// The job of a consumer.
#[derive(Debug)]
pub struct Consumer {
    /// The broker.
    pub uri: Uri,
    /// Number and name of each queue.
    pub queues: Vec<(u32, String)>,
    /// Unacknowledged messages a queue at most; 0 is no limit.
    pub prefetch: u16,
    /// An acknowledgement for that many messages; 0 is a consumer that need not acknowledge.
    pub multi_ack: u32,
    /// Arguments of basic.consume.
    pub arguments: FieldTable,
    /// What bodies begin with.
    pub stamping: Stamping,
    /// What bodies are, the stamp aside.
    pub body: Arc<[u8]>,
    /// The number of the run.
    pub run: u32,
    /// What came through each queue, by the queue's number, if that is to be verified.
    pub checks: Option<Arc<Vec<Mutex<QueueCheck>>>>,
}

/// What a consumer has seen.
#[derive(Debug)]
pub struct ConsumerDone {
    /// Order and content.
    pub check: ConsumerCheck,
    /// From intended send time to arrival, in ns.
    pub latency_ns: Histogram<u64>,
}

impl Consumer {
    /// Connects, subscribes, and consumes until all ends.
    ///
    /// # Errors
    /// The broker refuses, cancels or goes away.
    pub async fn run(self, mut context: Context) -> Result<Box<ConsumerDone>, ClientError> {
        let connection = context.in_turn(self.open()).await?;
        let mut work = Work {
            job: self,
            connection,
            current: Delivery::default(),
            measured_from_ns: 0,
            unacknowledged: 0,
            last_tag: 0,
            received: 0,
            done: ConsumerDone {
                check: ConsumerCheck::default(),
                latency_ns: histogram(),
            },
        };
        let started = context.ready().await;
        if let Some((_, measured_from_ns)) = started {
            work.measured_from_ns = measured_from_ns;
            work.consume(&mut context).await?;
        }
        work.end().await
    }

    async fn open(&self) -> Result<Connection, ClientError> {
        let mut connection = Connection::open(&self.uri).await?;
        connection.open_channel(CHANNEL).await?;
        if self.prefetch > 0 {
            let qos = basic::Qos {
                prefetch_count: self.prefetch,
                ..basic::Qos::default()
            };
            connection
                .call(CHANNEL, qos, |method| {
                    matches!(method, Method::BasicQosOk(_)).then_some(())
                })
                .await?;
        }
        let arguments = self.arguments.to_encoded();
        for (number, name) in &self.queues {
            let tag = number.to_string();
            let consume = basic::Consume {
                queue: ShortStr::truncated(name),
                consumer_tag: ShortStr::truncated(&tag),
                no_ack: self.multi_ack == 0,
                // Deliveries of the first queue would come between, were the answer waited for.
                no_wait: true,
                arguments: arguments.as_table(),
                ..basic::Consume::default()
            };
            connection.send(CHANNEL, &consume.into());
        }
        connection.try_flush()?;
        Ok(connection)
    }
}

/// The message that is coming in.
#[derive(Clone, Copy, Debug, Default)]
struct Delivery {
    tag: u64,
    queue: u32,
    redelivered: bool,
    body_bytes: u64,
    got_bytes: u64,
    stamp: Option<Stamp>,
    is_damaged: bool,
}

/// A consumer at work.
struct Work {
    job: Consumer,
    connection: Connection,
    current: Delivery,
    measured_from_ns: u64,
    unacknowledged: u32,
    last_tag: u64,
    /// Since the counters were last told.
    received: u64,
    done: ConsumerDone,
}

impl Work {
    async fn consume(&mut self, context: &mut Context) -> Result<(), ClientError> {
        loop {
            self.connection.try_flush()?;
            if self.connection.unwritten() < UNWRITTEN_BYTES_MAX && self.connection.try_fill()? {
                let now_ns = match self.job.stamping {
                    Stamping::Time => context.clock.now_ns(),
                    _ => 0,
                };
                self.take(now_ns)?;
                count(&context.counters.received, self.received);
                self.received = 0;
                self.connection.try_flush()?;
                if !self.connection.is_drained() {
                    // The other connections of this thread have their turn.
                    tokio::task::yield_now().await;
                }
                continue;
            }
            if context.is_finishing() {
                return Ok(());
            }
            tokio::select! {
                ready = self.connection.ready(false) => ready?,
                () = context.phase_changed() => {}
            }
        }
    }

    /// Takes all whole frames that are there.
    fn take(&mut self, now_ns: u64) -> Result<(), ClientError> {
        loop {
            let Some((frame, length)) = self.connection.frame()? else {
                return Ok(());
            };
            let is_whole = match frame.kind {
                FrameKind::Method => {
                    let Some((tag, redelivered, consumer_tag)) = delivery(&frame) else {
                        self.other_method(&frame)?;
                        self.connection.consume(length);
                        continue;
                    };
                    self.current = Delivery {
                        tag,
                        redelivered,
                        queue: number(consumer_tag),
                        ..Delivery::default()
                    };
                    false
                }
                FrameKind::Header => {
                    self.current.body_bytes = body_bytes(&frame).unwrap_or_default();
                    self.current.body_bytes == 0
                }
                FrameKind::Body => {
                    if self.job.stamping != Stamping::None {
                        look_at_body(&self.job, &mut self.current, frame.payload);
                    }
                    self.current.got_bytes += frame.payload.len() as u64;
                    self.current.got_bytes >= self.current.body_bytes
                }
                FrameKind::Heartbeat => false,
            };
            self.connection.consume(length);
            if is_whole {
                self.delivered(now_ns);
            }
        }
    }

    fn other_method(&self, frame: &Frame<'_>) -> Result<(), ClientError> {
        match self.connection.method(frame)? {
            Method::BasicCancel(cancel) => Err(ClientError::Cancelled {
                queue: cancel.consumer_tag.to_str_lossy().into_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// A message has come as a whole.
    #[inline]
    fn delivered(&mut self, now_ns: u64) {
        self.last_tag = self.current.tag;
        if self.job.stamping == Stamping::None {
            self.received += 1;
        } else {
            self.stamped(now_ns);
        }
        if self.job.multi_ack > 0 {
            self.unacknowledged += 1;
            if self.unacknowledged >= self.job.multi_ack {
                self.acknowledge();
            }
        }
    }

    fn stamped(&mut self, now_ns: u64) {
        let current = self.current;
        let stamp = match current.stamp {
            Some(stamp) if stamp.run == self.job.run => stamp,
            _ => {
                self.done.check.foreign();
                return;
            }
        };
        self.received += 1;
        if self.job.stamping == Stamping::Time && stamp.due_ns >= self.measured_from_ns {
            let latency_ns = now_ns.saturating_sub(stamp.due_ns);
            record(&mut self.done.latency_ns, latency_ns, 1);
        }
        if let Some(checks) = &self.job.checks {
            if current.is_damaged || current.got_bytes != self.job.body.len() as u64 {
                self.done.check.damaged();
            }
            if let Some(check) = checks.get(current.queue as usize) {
                check.lock().record(&stamp);
            }
            let check = &mut self.done.check;
            check.record(current.queue, &stamp, current.redelivered);
        }
    }

    fn acknowledge(&mut self) {
        let ack = basic::Ack {
            delivery_tag: self.last_tag,
            multiple: self.unacknowledged > 1,
        };
        self.unacknowledged = 0;
        self.connection.send(CHANNEL, &ack.into());
    }

    async fn end(mut self) -> Result<Box<ConsumerDone>, ClientError> {
        if self.unacknowledged > 0 {
            self.acknowledge();
        }
        self.connection.close().await?;
        Ok(Box::new(self.done))
    }
}

/// Reads the stamp at the body's head, and compares the rest with what was published.
fn look_at_body(job: &Consumer, current: &mut Delivery, piece: &[u8]) {
    let at = current.got_bytes as usize;
    let mut skipped = 0;
    if at == 0 {
        current.stamp = Stamp::read(piece);
        skipped = match job.stamping {
            Stamping::Time => TIME_STAMP_BYTES,
            _ => SEQUENCE_STAMP_BYTES,
        };
    }
    if job.checks.is_some() {
        let expected = job.body.get(at + skipped..at + piece.len());
        current.is_damaged |= expected != piece.get(skipped..);
    }
}

/// The queue's number, which is the consumer's tag.
fn number(consumer_tag: &[u8]) -> u32 {
    consumer_tag.iter().fold(0, |number: u32, digit| {
        number
            .wrapping_mul(10)
            .wrapping_add(u32::from(digit.wrapping_sub(b'0')))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn job(stamping: Stamping, body: &[u8], verifies: bool) -> Consumer {
        Consumer {
            uri: "amqp://h".parse().unwrap(),
            queues: Vec::new(),
            prefetch: 0,
            multi_ack: 1,
            arguments: FieldTable::new(),
            stamping,
            body: body.into(),
            run: 1,
            checks: verifies.then(|| Arc::new(Vec::new())),
        }
    }

    #[test]
    fn a_changed_body_is_noticed_and_a_changed_stamp_is_none() {
        let body: Vec<u8> = (0..40).collect();
        let job = job(Stamping::Sequence, &body, true);
        let check = |first: &[u8], second: &[u8]| {
            let mut current = Delivery::default();
            look_at_body(&job, &mut current, first);
            current.got_bytes += first.len() as u64;
            look_at_body(&job, &mut current, second);
            current.is_damaged
        };
        assert!(!check(&body[..30], &body[30..]));
        let mut stamped = body.clone();
        stamped[..16].copy_from_slice(&[9; 16]);
        assert!(!check(&stamped[..30], &stamped[30..]));
        stamped[16] ^= 1;
        assert!(check(&stamped[..30], &body[30..]));
        let mut end = body.clone();
        end[39] ^= 1;
        assert!(check(&body[..30], &end[30..]));
        assert!(check(&body[..30], &[0; 20]));
    }

    #[test]
    fn the_tag_is_the_number() {
        assert_eq!(number(b"0"), 0);
        assert_eq!(number(b"1024"), 1024);
        number(b"a tag that is not ours");
    }
}
