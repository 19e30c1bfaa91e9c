//! A connection without a socket: commands of a user in a virtual host, for whoever is no client of AMQP.
//!
//! In: commands, publishes, gets. Out: answers, once they are durable. It uses a [`ConnectionExecutor`], so that permissions,
//! checks and texts are those of clients; it stands in no list of connections. Dropping it gives back what was not settled.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::executor::{ConnectionExecutor, ConnectionOrigin, ReplySink};
use super::registry::ConnectionControl;
use super::{Broker, Vhost};
use crate::auth::User;
use crate::model::{
    Body, ChannelNumber, Command, ConfirmSequence, Execution, Executor as _, Got, InboxEvent,
    Publish, PublishOutcome, Refusal, Reply, Routing, Settlement, SettlementOutcome, Unsettled,
};
use crate::protocol::PropertyFacts;
use crate::queue::Inbox;

/// The one channel.
const CHANNEL: ChannelNumber = 1;

/// Bytes of messages that may be on their way here; one is always let in.
const INBOX_BYTES_MAX: usize = 1024 * 1024;

/// How long a get waits for a message that must be read from the disk.
const GET_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers that come later than their command.
#[derive(Debug, Default)]
struct Mailbox {
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    replies: VecDeque<Result<Reply, Refusal>>,
    waker: Option<Waker>,
}

impl Mailbox {
    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Reply, Refusal>> {
        let mut slot = self.slot.lock();
        match slot.replies.pop_front() {
            Some(reply) => Poll::Ready(reply),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl ReplySink for Mailbox {
    fn reply(&self, _channel: ChannelNumber, reply: Result<Reply, Refusal>) {
        let waker = {
            let mut slot = self.slot.lock();
            slot.replies.push_back(reply);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Nobody closes a connection that is in no list.
#[derive(Debug)]
struct Unlisted;

impl ConnectionControl for Unlisted {
    fn close(&self, _refusal: Refusal) {}

    fn alarm_changed(&self) {}
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every queue has it, as durably as it was asked to be.
    Routed,
    /// No queue was found.
    Unroutable,
    /// A queue refused it.
    Rejected,
}

/// A user's commands in a virtual host.
#[derive(Debug)]
pub struct DirectConnection {
    executor: ConnectionExecutor,
    mailbox: Arc<Mailbox>,
    inbox: Arc<Inbox>,
    sequence: u64,
    /// What was got and not settled.
    unsettled: Vec<Unsettled>,
}

impl Broker {
    /// A connection of `user` to `vhost` without a socket.
    ///
    /// # Errors
    /// 530 if he has no permission there.
    pub fn direct(
        self: &Arc<Self>,
        user: Arc<User>,
        vhost: Arc<Vhost>,
        peer: SocketAddr,
    ) -> Result<DirectConnection, Refusal> {
        let mailbox = Arc::<Mailbox>::default();
        let inbox = Inbox::new(INBOX_BYTES_MAX);
        let origin = ConnectionOrigin {
            peer,
            // It has no end of its own.
            local: peer,
            replies: Arc::clone(&mailbox) as Arc<dyn ReplySink>,
            control: Arc::new(Unlisted),
            inbox: Arc::clone(&inbox),
        };
        let executor = ConnectionExecutor::direct(Arc::clone(self), origin, user, vhost, CHANNEL)?;
        Ok(DirectConnection {
            executor,
            mailbox,
            inbox,
            sequence: 0,
            unsettled: Vec::new(),
        })
    }
}

impl DirectConnection {
    /// Carries a command out, and waits until what it changed is durable.
    ///
    /// # Errors
    /// What a client would be told.
    pub async fn execute(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.begin();
        match self.executor.execute(CHANNEL, command) {
            Execution::Done(reply) => reply,
            Execution::Later => {
                let mailbox = Arc::clone(&self.mailbox);
                poll_fn(move |cx| mailbox.poll(cx)).await
            }
        }
    }

    /// Publishes a message and waits for its confirm, at most so long; `None` if that did not come.
    ///
    /// # Errors
    /// What a client would be told: a missing exchange, a lacking permission, wrong properties.
    pub async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &str,
        properties: &[u8],
        body: &[u8],
        timeout: Duration,
    ) -> Result<Option<Published>, Refusal> {
        self.begin();
        let facts = PropertyFacts::of(properties).map_err(|fault| {
            Refusal::precondition_failed(format!("wrong properties: {fault:?}"))
        })?;
        self.sequence += 1;
        let routing = self.executor.publish(
            CHANNEL,
            Publish {
                exchange: exchange.as_bytes(),
                routing_key: routing_key.as_bytes(),
                mandatory: true,
                properties,
                facts,
                body: Body::Borrowed(body),
                confirm: Some(ConfirmSequence(self.sequence)),
            },
        )?;
        self.executor.flush();
        if routing == Routing::Unroutable {
            return Ok(Some(Published::Unroutable));
        }
        let executor = &mut self.executor;
        let confirmed = poll_fn(|cx| {
            if let Some(completion) = executor.poll_completion() {
                return Poll::Ready(completion.outcome);
            }
            if !executor.poll_synced(cx.waker()) {
                return Poll::Pending;
            }
            match executor.poll_completion() {
                Some(completion) => Poll::Ready(completion.outcome),
                None => Poll::Pending,
            }
        });
        Ok(tokio::time::timeout(timeout, confirmed)
            .await
            .ok()
            .map(|outcome| match outcome {
                PublishOutcome::Accepted => Published::Routed,
                PublishOutcome::Rejected => Published::Rejected,
            }))
    }

    /// Takes the next message of a queue, which stays unsettled unless `no_ack`.
    ///
    /// # Errors
    /// What a client would be told.
    pub async fn get(&mut self, queue: &str, no_ack: bool) -> Result<Option<Got>, Refusal> {
        self.begin();
        let command = Command::Get {
            queue: queue.to_owned(),
            no_ack,
        };
        let got = match self.executor.execute(CHANNEL, command) {
            Execution::Done(Ok(Reply::Got(got))) => got,
            Execution::Done(Ok(_)) => None,
            Execution::Done(Err(refusal)) => return Err(refusal),
            Execution::Later => tokio::time::timeout(GET_TIMEOUT, self.late_message())
                .await
                .unwrap_or_else(|_| {
                    Err(Refusal::internal_error(
                        "the message could not be read from the disk in time",
                    ))
                })?,
        };
        if let Some(got) = got.as_ref().filter(|_| !no_ack) {
            self.unsettled.push(delivery_of(got));
        }
        Ok(got)
    }

    async fn late_message(&mut self) -> Result<Option<Got>, Refusal> {
        let (inbox, mailbox) = (&self.inbox, &self.mailbox);
        poll_fn(|cx| {
            if let Poll::Ready(reply) = mailbox.poll(cx) {
                return Poll::Ready(reply.map(|reply| match reply {
                    Reply::Got(got) => got,
                    _ => None,
                }));
            }
            while inbox.poll_ready(cx).is_ready() {
                let mut events = Vec::new();
                let bytes = inbox.drain(&mut events);
                inbox.release(bytes);
                for event in events {
                    if let InboxEvent::Got { got, .. } = event {
                        return Poll::Ready(Ok(got));
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Settles a message that [`DirectConnection::get`] gave.
    pub fn settle(&mut self, got: &Got, outcome: SettlementOutcome) {
        let delivery = delivery_of(got);
        self.unsettled.retain(|held| *held != delivery);
        self.executor
            .settle(CHANNEL, Settlement { delivery, outcome });
    }

    /// Hands over what was settled.
    pub fn flush(&mut self) {
        self.begin();
        self.executor.flush();
    }

    fn begin(&mut self) {
        let now = self.executor.broker().clock().now();
        self.executor.begin_burst(now);
    }
}

impl Drop for DirectConnection {
    fn drop(&mut self) {
        self.begin();
        for delivery in std::mem::take(&mut self.unsettled) {
            let outcome = SettlementOutcome::ReturnedByLoss;
            self.executor
                .settle(CHANNEL, Settlement { delivery, outcome });
        }
        self.executor.prepare_end();
        // Closing is always done at once.
        let _ = self.executor.execute(0, Command::CloseConnection);
    }
}

fn delivery_of(got: &Got) -> Unsettled {
    Unsettled {
        queue: got.queue,
        position: got.position,
        consumer: None,
    }
}
