//! One channel: what it is doing, which method goes to which file, and what each answer of the broker becomes.
//!
//! Frames of the channel come in from the session, commands go to the executor, replies are appended to the output.
//! A refusal is handed to the session, which knows whether it ends the channel or the connection.
//!
//! ```text
//!                  channel.open                         channel.close
//!   (not there) ────────────────> Open, waiting ──> Open ────────────> Open, waiting ──> Gone
//!                                                   │  ^
//!                                            a method│  │the broker's answer
//!                                                   v  │
//!                                              Open, waiting: frames are kept
//!
//!   Open ── soft error: we send channel.close ──> Closing ── channel.close-ok ──> Gone
//!                                                  all other frames are ignored,
//!                                                  channel.close is answered
//! ```
//! "Waiting" ends at once when the broker answers at once.

use std::collections::VecDeque;

use super::consumers::Consumers;
use super::content::{Partial, Whole, peek_whole, unexpected};
use super::output::Output;
use super::publishing::ConfirmTracker;
use super::sending;
use super::settings::SessionSettings;
use super::tx::Transaction;
use super::unsettled::{Entry, UnsettledList};
use crate::model::{
    ChannelNumber, Command, ConsumerId, Delivery, DeliveryTag, Exception, Execution, Executor,
    Name, Refusal, Reply, Settlement, SettlementOutcome, SharedMessage, Traffic, Unsettled,
};
use crate::protocol::{
    Fault, Frame, FrameError, FrameKind, Method, MethodError, ReplyCode, basic, channel, frame,
};

/// Deliveries held back for a consumer whose basic.consume-ok is still to come; more go back to their queue.
const HELD_MAX: usize = 1024;

/// The numbers of a method, for the close that it may cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MethodId {
    pub(super) class_id: u16,
    pub(super) method_id: u16,
}

impl MethodId {
    pub(super) const PUBLISH: Self = Self {
        class_id: basic::CLASS_ID,
        method_id: basic::Publish::METHOD_ID,
    };

    pub(super) fn of(method: &Method<'_>) -> Self {
        Self {
            class_id: method.class_id(),
            method_id: method.method_id(),
        }
    }

    pub(super) fn exception(self, refusal: Refusal) -> Exception {
        Exception {
            refusal,
            class_id: self.class_id,
            method_id: self.method_id,
        }
    }
}

/// What a channel needs of its connection while it works.
#[derive(Debug)]
pub(super) struct Context<'a, E> {
    pub(super) settings: &'a SessionSettings,
    /// Negotiated, in octets; 0 for no limit.
    pub(super) frame_max: u32,
    /// Most octets of payload that a frame may have by that.
    pub(super) payload_bytes_max: u32,
    pub(super) output: &'a mut Output,
    pub(super) executor: &'a mut E,
    /// The method at work.
    pub(super) at: MethodId,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) number: ChannelNumber,
    pub(super) state: State,
    /// Whether the executor was told that the channel ended, or has refused to open it.
    is_released: bool,
    waiting: Option<Box<Waiting>>,
    /// Frames that came while it waited.
    pub(super) pending: Option<Box<Pending>>,
    content: Option<Box<Partial>>,
    pub(super) last_declared: Option<Name>,
    next_tag: DeliveryTag,
    pub(super) unsettled: UnsettledList,
    pub(super) consumers: Consumers,
    pub(super) confirms: Option<Box<ConfirmTracker>>,
    pub(super) transaction: Option<Box<Transaction>>,
    pub(super) prefetch: Prefetch,
    /// What happened since the last report.
    pub(super) traffic: Traffic,
    /// Whether the session has noted that there is something to report.
    pub(super) is_noted: bool,
}

/// What the channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Methods are welcome, unless it waits.
    Open,
    /// channel.close was sent.
    Closing,
    /// It ended; the session forgets it.
    Gone,
}

/// The limits that basic.qos set, for the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefetch {
    pub(super) consumer: u16,
    pub(super) channel: u16,
}

/// Frames kept in the order they came.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    /// Octets at the front that were handled.
    pub(super) handled: usize,
}

/// A command whose answer comes later.
#[derive(Debug)]
struct Waiting {
    expected: Expected,
    at: MethodId,
    /// Deliveries of a consumer whose basic.consume-ok is still to come.
    held: VecDeque<Delivery>,
    /// Consumers that were ended before the answer; the client hears of them after it.
    cancelled: Vec<ConsumerId>,
}

/// What came of an answer that was waited for.
#[derive(Debug)]
pub(super) struct Concluded {
    pub(super) result: Result<(), Refusal>,
    /// Consumers that were ended meanwhile, and that the client may have to hear of now.
    pub(super) cancelled: Vec<ConsumerId>,
}

impl Waiting {
    fn is_for_consumer(&self) -> bool {
        matches!(self.expected, Expected::Consuming { .. })
    }
}

/// What to do with the answer to a command.
#[derive(Debug)]
pub(super) enum Expected {
    /// To channel.open.
    Opened,
    /// To the end of the channel by the client.
    Closed,
    /// To the end of the channel by an error: channel.close goes out.
    Failed(Exception),
    /// To a command that has nothing to say: this method, unless the client did not want it.
    Done(Option<Method<'static>>),
    /// To queue.declare.
    Declared { no_wait: bool },
    /// To queue.delete.
    Deleted { no_wait: bool },
    /// To queue.purge.
    Purged { no_wait: bool },
    /// To basic.qos.
    Prefetch(Prefetch),
    /// To basic.consume.
    Consuming { no_wait: bool },
    /// To basic.cancel.
    Cancelled {
        consumer: ConsumerId,
        consumer_tag: Name,
        no_wait: bool,
    },
    /// To basic.get.
    Got { no_ack: bool },
    /// To tx.commit: the mandatory publishes by their index.
    Committed {
        mandatory: Vec<(usize, SharedMessage)>,
    },
}

impl Expected {
    /// [`Reply::Done`], after which `answer` goes out unless the client does not want it.
    pub(super) fn done(answer: Method<'static>, no_wait: bool) -> Self {
        Self::Done((!no_wait).then_some(answer))
    }
}

impl Channel {
    /// A channel that channel.open asks for.
    pub(super) fn new(number: ChannelNumber) -> Self {
        Self {
            number,
            state: State::Open,
            is_released: false,
            waiting: None,
            pending: None,
            content: None,
            last_declared: None,
            next_tag: DeliveryTag(1),
            unsettled: UnsettledList::default(),
            consumers: Consumers::default(),
            confirms: None,
            transaction: None,
            prefetch: Prefetch::default(),
            traffic: Traffic::default(),
            is_noted: false,
        }
    }

    /// Whether frames must be kept until the broker has answered.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// channel.open: asks the broker.
    pub(super) fn open(&mut self, cx: &mut Context<'_, impl Executor>) -> Result<(), Refusal> {
        self.run(Command::OpenChannel, Expected::Opened, cx)
    }

    /// Takes a frame, and perhaps the frames of the content behind it in `rest`: gives the octets of those.
    pub(super) fn handle_frame(
        &mut self,
        frame: &Frame<'_>,
        rest: &[u8],
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<usize, Refusal> {
        cx.at = MethodId::default();
        if self.state != State::Open {
            self.handle_closing(frame, cx);
            return Ok(0);
        }
        if let Some(mut partial) = self.content.take() {
            cx.at = MethodId::PUBLISH;
            match partial.handle_frame(frame, cx.settings)? {
                Some(whole) => self.publish(whole, cx)?,
                None => self.content = Some(partial),
            }
            return Ok(0);
        }
        if frame.kind != FrameKind::Method {
            return Err(unexpected(
                "expected method frame, got non method frame instead",
            ));
        }
        let method = parse_method(frame, &mut cx.at)?;
        if let Method::BasicPublish(publish) = &method {
            return self.handle_publish(publish, rest, cx);
        }
        self.handle_method(&method, cx).map(|()| 0)
    }

    /// The broker's answer to the command that the channel waits for; `None` if it waits for none.
    pub(super) fn handle_reply(
        &mut self,
        reply: Result<Reply, Refusal>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Option<Concluded> {
        let waiting = self.waiting.take()?;
        cx.at = waiting.at;
        let result = self.conclude(waiting.expected, reply, cx);
        for delivery in waiting.held {
            if let Err(delivery) = self.deliver(delivery, cx.frame_max, cx.output) {
                return_delivery(self.number, &delivery, cx.executor);
            }
        }
        Some(Concluded {
            result,
            cancelled: waiting.cancelled,
        })
    }

    /// Sends a message to a consumer, or gives it back if that consumer is not here.
    pub(super) fn deliver(
        &mut self,
        delivery: Delivery,
        frame_max: u32,
        output: &mut Output,
    ) -> Result<(), Delivery> {
        if self.state != State::Open || self.is_released {
            return Err(delivery);
        }
        if !self.consumers.contains(delivery.consumer) {
            return self.hold(delivery);
        }
        let unsettled = delivery.queue.map(|queue| Unsettled {
            queue,
            position: delivery.position,
            consumer: Some(delivery.consumer),
        });
        let tag = self.next_tag();
        let handed = &mut self.traffic.handed[delivery.kind.index()];
        handed.deliver += u32::from(!delivery.no_ack);
        handed.deliver_no_ack += u32::from(delivery.no_ack);
        handed.redeliver += u32::from(delivery.redelivered);
        if let Some(unsettled) = unsettled
            && !delivery.no_ack
        {
            self.record(tag, unsettled);
        }
        sending::write_deliver(output.buffer(), frame_max, tag, &delivery);
        Ok(())
    }

    /// Forgets a consumer that its queue ended; gives its tag.
    pub(super) fn consumer_cancelled(&mut self, consumer: ConsumerId) -> Option<Name> {
        if self.state != State::Open {
            return None;
        }
        // A client that deletes its own consumer's queue hears delete-ok first, as RabbitMQ does.
        if let Some(waiting) = &mut self.waiting {
            waiting.cancelled.push(consumer);
            return None;
        }
        self.consumers.remove(consumer)
    }

    /// Ends the channel towards the broker, unless that was done; gives what the client never settled.
    pub(super) fn release(&mut self) -> Option<Vec<Unsettled>> {
        if std::mem::replace(&mut self.is_released, true) {
            return None;
        }
        if let Some(transaction) = self.transaction.take() {
            self.unsettled.put_back(transaction.into_entries());
        }
        let mut unsettled = Vec::with_capacity(self.unsettled.len());
        self.unsettled
            .take_all(|entry| unsettled.push(entry.delivery));
        let held = self.waiting.take().map(|waiting| waiting.held);
        let held = held.into_iter().flatten().filter_map(|delivery| {
            Some(Unsettled {
                queue: delivery.queue?,
                position: delivery.position,
                consumer: Some(delivery.consumer),
            })
        });
        self.content = None;
        self.confirms = None;
        self.consumers = Consumers::default();
        unsettled.extend(held);
        Some(unsettled)
    }

    /// A soft error: ends the channel towards the broker, then sends channel.close.
    pub(super) fn fail(&mut self, exception: Exception, cx: &mut Context<'_, impl Executor>) {
        let expected = Expected::Failed(exception);
        match self.release() {
            Some(unsettled) => {
                // The end of a channel cannot be refused, and its answer is channel.close in any case.
                let _ = self.run(Command::CloseChannel { unsettled }, expected, cx);
            }
            None => {
                let _ = self.conclude(expected, Ok(Reply::Done), cx);
            }
        }
    }

    /// Runs a command, and concludes it now or when the answer comes.
    pub(super) fn run(
        &mut self,
        command: Command,
        expected: Expected,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        match cx.executor.execute(self.number, command) {
            Execution::Done(reply) => self.conclude(expected, reply, cx),
            Execution::Later => {
                self.waiting = Some(Box::new(Waiting {
                    expected,
                    at: cx.at,
                    held: VecDeque::new(),
                    cancelled: Vec::new(),
                }));
                Ok(())
            }
        }
    }

    /// Appends a reply.
    pub(super) fn reply(&self, method: &Method<'_>, output: &mut Output) {
        output.reply(|out| frame::write_method(out, self.number, method));
    }

    /// The tag of the next delivery.
    pub(super) fn next_tag(&mut self) -> DeliveryTag {
        let tag = self.next_tag;
        self.next_tag = tag.next();
        tag
    }

    /// Notes a delivery that the client has to settle.
    pub(super) fn record(&mut self, tag: DeliveryTag, delivery: Unsettled) {
        self.unsettled.push(Entry { tag, delivery });
    }

    fn handle_publish(
        &mut self,
        publish: &basic::Publish<'_>,
        rest: &[u8],
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<usize, Refusal> {
        if publish.immediate {
            return Err(Refusal::not_implemented("immediate=true"));
        }
        let whole = peek_whole(rest, self.number, cx.payload_bytes_max, cx.settings);
        let Some((header, body, octets)) = whole else {
            self.content = Some(Box::new(Partial::new(publish)));
            return Ok(0);
        };
        let whole = Whole {
            exchange: publish.exchange.as_bytes(),
            routing_key: publish.routing_key.as_bytes(),
            mandatory: publish.mandatory,
            properties: header.properties,
            facts: header.facts,
            body: crate::model::Body::Borrowed(body),
        };
        self.publish(whole, cx)?;
        Ok(octets)
    }

    fn handle_method(
        &mut self,
        method: &Method<'_>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        match method {
            Method::ChannelOpen(_) => Err(Refusal::new(
                ReplyCode::ChannelError,
                "second 'channel.open' seen",
            )),
            Method::ChannelClose(_) => self.close(cx),
            Method::ChannelFlow(flow) => self.flow(*flow, cx),
            Method::AccessRequest(_) => self.access_request(cx),
            Method::ExchangeDeclare(declare) => self.exchange_declare(declare, cx),
            Method::ExchangeDelete(delete) => self.exchange_delete(delete, cx),
            Method::ExchangeBind(bind) => self.exchange_bind(bind, cx),
            Method::ExchangeUnbind(unbind) => self.exchange_unbind(unbind, cx),
            Method::QueueDeclare(declare) => self.queue_declare(declare, cx),
            Method::QueueBind(bind) => self.queue_bind(bind, cx),
            Method::QueueUnbind(unbind) => self.queue_unbind(unbind, cx),
            Method::QueuePurge(purge) => self.queue_purge(purge, cx),
            Method::QueueDelete(delete) => self.queue_delete(delete, cx),
            Method::BasicQos(qos) => self.basic_qos(*qos, cx),
            Method::BasicConsume(consume) => self.basic_consume(consume, cx),
            Method::BasicCancel(cancel) => {
                self.basic_cancel(cancel.consumer_tag, cancel.no_wait, cx)
            }
            // Clients need not answer the broker's cancel, but some do (`rabbit_channel.erl`).
            Method::BasicCancelOk(cancel) => self.basic_cancel(cancel.consumer_tag, true, cx),
            Method::BasicGet(get) => self.basic_get(get, cx),
            Method::BasicAck(ack) => self.basic_ack(*ack, cx),
            Method::BasicNack(nack) => self.basic_nack(*nack, cx),
            Method::BasicReject(reject) => self.basic_reject(*reject, cx),
            Method::BasicRecover(recover) => self.basic_recover(recover.requeue, true, cx),
            Method::BasicRecoverAsync(recover) => self.basic_recover(recover.requeue, false, cx),
            Method::ConfirmSelect(select) => self.confirm_select(*select, cx),
            Method::TxSelect(_) => self.tx_select(cx),
            Method::TxCommit(_) => self.tx_commit(cx),
            Method::TxRollback(_) => self.tx_rollback(cx),
            _ => Err(Refusal::new(
                ReplyCode::CommandInvalid,
                "unimplemented method",
            )),
        }
    }

    fn handle_closing(&mut self, frame: &Frame<'_>, cx: &mut Context<'_, impl Executor>) {
        if frame.kind != FrameKind::Method || self.state != State::Closing {
            return;
        }
        match Method::parse(frame.payload) {
            Ok(Method::ChannelCloseOk(_)) => self.state = State::Gone,
            Ok(Method::ChannelClose(_)) => {
                self.reply(&Method::ChannelCloseOk(channel::CloseOk), cx.output);
            }
            _ => {}
        }
    }

    fn close(&mut self, cx: &mut Context<'_, impl Executor>) -> Result<(), Refusal> {
        let unsettled = self.release().unwrap_or_default();
        self.run(Command::CloseChannel { unsettled }, Expected::Closed, cx)
    }

    fn flow(
        &mut self,
        flow: channel::Flow,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        if !flow.active {
            return Err(Refusal::not_implemented("active=false"));
        }
        let ok = Method::ChannelFlowOk(channel::FlowOk { active: true });
        self.reply(&ok, cx.output);
        Ok(())
    }

    /// Keeps a delivery whose consumer may be the one that the broker is about to name.
    fn hold(&mut self, delivery: Delivery) -> Result<(), Delivery> {
        match &mut self.waiting {
            Some(waiting) if waiting.is_for_consumer() && waiting.held.len() < HELD_MAX => {
                waiting.held.push_back(delivery);
                Ok(())
            }
            _ => Err(delivery),
        }
    }

    /// Does what a command's answer asks for.
    fn conclude(
        &mut self,
        expected: Expected,
        reply: Result<Reply, Refusal>,
        cx: &mut Context<'_, impl Executor>,
    ) -> Result<(), Refusal> {
        match (expected, reply) {
            (Expected::Closed, _) => {
                self.reply(&Method::ChannelCloseOk(channel::CloseOk), cx.output);
                self.state = State::Gone;
            }
            (Expected::Failed(exception), _) => {
                let text = super::ended::reply_text(&exception.refusal);
                let close = Method::ChannelClose(channel::Close {
                    reply_code: exception.refusal.code.code(),
                    reply_text: crate::protocol::ShortStr::truncated(&text),
                    class_id: exception.class_id,
                    method_id: exception.method_id,
                });
                self.reply(&close, cx.output);
                self.state = State::Closing;
            }
            (Expected::Opened, Err(refusal)) => {
                self.is_released = true;
                // RabbitMQ's reader refuses it, and names no method (`rabbit_reader.erl`, `create_channel`).
                cx.at = MethodId::default();
                return Err(refusal);
            }
            (_, Err(refusal)) => return Err(refusal),
            (Expected::Opened, Ok(Reply::Done)) => {
                self.reply(&Method::ChannelOpenOk(channel::OpenOk), cx.output);
            }
            (Expected::Done(answer), Ok(Reply::Done)) => {
                if let Some(answer) = answer {
                    self.reply(&answer, cx.output);
                }
            }
            (Expected::Declared { no_wait }, Ok(Reply::QueueDeclared { name, counts })) => {
                self.queue_declared(name, counts, no_wait, cx);
            }
            (Expected::Deleted { no_wait }, Ok(Reply::MessageCount(count))) => {
                self.queue_deleted(count, no_wait, cx);
            }
            (Expected::Purged { no_wait }, Ok(Reply::MessageCount(count))) => {
                self.queue_purged(count, no_wait, cx);
            }
            (Expected::Prefetch(prefetch), Ok(Reply::Done)) => {
                self.prefetch = prefetch;
                self.reply(&Method::BasicQosOk(basic::QosOk), cx.output);
            }
            (
                Expected::Consuming { no_wait },
                Ok(Reply::Consuming {
                    consumer,
                    consumer_tag,
                }),
            ) => self.consuming(consumer, consumer_tag, no_wait, cx),
            (
                Expected::Cancelled {
                    consumer,
                    consumer_tag,
                    no_wait,
                },
                Ok(Reply::Cancelled { deliveries }),
            ) => self.cancelled(consumer, &consumer_tag, deliveries, no_wait, cx),
            (Expected::Got { no_ack }, Ok(Reply::Got(got))) => self.got(got, no_ack, cx),
            (
                Expected::Committed { mandatory },
                Ok(Reply::Committed {
                    returned,
                    is_partial,
                }),
            ) => return self.tx_committed(&mandatory, &returned, is_partial, cx),
            (expected, Ok(reply)) => {
                return Err(Refusal::internal_error(format!(
                    "unexpected reply {reply:?} to {expected:?}"
                )));
            }
        }
        Ok(())
    }
}

/// Parses the method of a frame, and notes its numbers as soon as they are known.
///
/// # Errors
/// 501 for what cannot be read, with RabbitMQ's texts (`rabbit_misc:frame_error`, `assert_utf8`), 503 for what is unknown.
pub(super) fn parse_method<'a>(
    frame: &Frame<'a>,
    at: &mut MethodId,
) -> Result<Method<'a>, Refusal> {
    let Some((_, fields)) = frame.payload.split_at_checked(4) else {
        return Err(Refusal::new(
            ReplyCode::FrameError,
            FrameError::unknown(frame).to_string(),
        ));
    };
    match Method::parse(frame.payload) {
        Ok(method) => {
            *at = MethodId::of(&method);
            Ok(method)
        }
        Err(MethodError::UnknownMethod {
            class_id,
            method_id,
        }) => {
            *at = MethodId {
                class_id,
                method_id,
            };
            Err(Refusal::new(
                ReplyCode::CommandInvalid,
                "unimplemented method",
            ))
        }
        Err(MethodError::Malformed {
            class_id,
            method_id,
            fault,
        }) => {
            *at = MethodId {
                class_id,
                method_id,
            };
            let text = match fault {
                Fault::Layout => cannot_decode(fields),
                fault => fault.to_string(),
            };
            Err(Refusal::new(ReplyCode::FrameError, text))
        }
    }
}

/// Most octets shown of a method that cannot be read; the reply text is cut at 255 anyhow.
const SHOWN_BYTES_MAX: usize = 64;

fn cannot_decode(fields: &[u8]) -> String {
    let shown = &fields[..fields.len().min(SHOWN_BYTES_MAX)];
    let octets: Vec<String> = shown.iter().map(u8::to_string).collect();
    format!("cannot decode <<{}>>", octets.join(","))
}

/// Gives a delivery that was taken, and cannot be sent, back to its queue.
fn return_delivery(channel: ChannelNumber, delivery: &Delivery, executor: &mut impl Executor) {
    if let Some(queue) = delivery.queue {
        let delivery = Unsettled {
            queue,
            position: delivery.position,
            consumer: Some(delivery.consumer),
        };
        let outcome = SettlementOutcome::ReturnedByLoss;
        executor.settle(channel, Settlement { delivery, outcome });
    }
}
