//! One client's conversation: octets and time in, commands, octets and deadlines out.
//!
//! A [`Session`] is fed with `handle_*` and asked with `output`, `wants_input`, `poll_timeout` and `ended`; its only way to
//! the broker is the [`Executor`] that it is handed. It owns delivery tags, the list of unsettled deliveries, confirm
//! numbers and the state of connection and channels. It deliberately does not know sockets, clocks, locks, queues,
//! exchanges, permissions, or who the other clients are.
//!
//! In reading order, along the way of a message:
//! - [`settings`]: what is offered and allowed.
//! - `connection` and `handshake`: the states of a connection, closing, alarms.
//! - `channel` and `channels`: the states of a channel, and which method goes where.
//! - `content`: a publish gathered from frames.
//! - `publish`, `publishing`: to the broker, and the confirms back.
//! - `access`, `exchange`, `queue`, `basic`, `tx`: a file for each class of methods; `names`, `consumers` and `unsettled`
//!   are what they share.
//! - `sending`, [`output`]: messages to the client, and the buffer they wait in.
//! - `heartbeat`, [`ended`]: signs of life, and why a connection is over.
//!
//! # A burst
//! Read; [`Session::handle_bytes`] and drop what it took; hand over what came from queues; [`Session::end_burst`]; write
//! what [`Session::output`] has. Every other `handle_*` that is given an executor belongs into a burst, too.

mod access;
mod basic;
mod channel;
mod channels;
mod connection;
mod consumers;
mod content;
pub mod ended;
mod exchange;
mod handshake;
mod heartbeat;
mod names;
pub mod output;
mod publish;
mod publishing;
mod queue;
mod reporting;
mod sending;
pub mod settings;
mod tx;
mod unsettled;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use channel::{Channel, Context, MethodId, State};
use channels::Channels;
use connection::{Peer, Phase, Throttle};
pub use ended::{EndReason, Ended};
use heartbeat::Heartbeat;
pub use output::Output;
pub use settings::{MESSAGE_BYTES_TOP, SessionSettings};

use crate::model::{
    ChannelNumber, ConsumerId, Delivery, Exception, Executor, Name, Now, PublishOutcome, Refusal,
    Reply, Scope, Traffic,
};
use crate::protocol::{
    FRAME_MIN_SIZE, FieldTable, Frame, FrameKind, Method, ReplyCode, ShortStr,
    frame::{self, FRAME_OVERHEAD_BYTES},
};

/// Exceptions kept for the log until they are asked for; more are forgotten.
const EXCEPTIONS_KEPT_MAX: usize = 16;

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    settings: Arc<SessionSettings>,
    phase: Phase,
    /// When the present phase must be over.
    deadline: Option<Instant>,
    heartbeat: Option<Heartbeat>,
    throttle: Throttle,
    peer: Box<Peer>,
    /// Negotiated, in octets; 0 for no limit.
    frame_max: u32,
    /// Negotiated; 0 for no limit.
    channel_max: u16,
    heartbeat_s: u16,
    channels: Channels,
    /// Channels whose confirm tracker has something to say.
    confirming: Vec<ChannelNumber>,
    /// Octets of frames that wait on suspended channels.
    pending_bytes: usize,
    /// Octets taken by `handle_bytes` so far, and with those that were seen and left.
    consumed_total: u64,
    received_total: u64,
    output: Output,
    /// Whether the executor was told that the connection ended.
    is_released: bool,
    /// Whether whoever reads the socket does not, for reasons of its own.
    is_held: bool,
    exceptions: VecDeque<(ChannelNumber, Exception)>,
    /// Channels that may have something to report.
    noted: Vec<ChannelNumber>,
    /// What channels counted that are gone since the last report.
    departed: Traffic,
    is_described: bool,
}

impl Session {
    /// The session of a socket that was just accepted.
    pub fn new(settings: Arc<SessionSettings>, now: Now) -> Self {
        let deadline = now.monotonic + settings.handshake_timeout;
        Self {
            settings,
            phase: Phase::AwaitHeader,
            deadline: Some(deadline),
            heartbeat: None,
            throttle: Throttle::default(),
            peer: Box::default(),
            frame_max: FRAME_MIN_SIZE,
            channel_max: 0,
            heartbeat_s: 0,
            channels: Channels::default(),
            confirming: Vec::new(),
            pending_bytes: 0,
            consumed_total: 0,
            received_total: 0,
            output: Output::default(),
            is_released: false,
            is_held: false,
            exceptions: VecDeque::new(),
            noted: Vec::new(),
            departed: Traffic::default(),
            is_described: false,
        }
    }

    /// Takes what came from the socket: whole frames only, and only as many as [`Session::wants_input`] allows. Gives the
    /// octets taken; what is left must be handed in again, together with what came after it.
    pub fn handle_bytes(&mut self, now: Now, input: &[u8], executor: &mut impl Executor) -> usize {
        let mut at = 0;
        while self.wants_input() {
            if self.phase.is_deaf() {
                at = input.len();
                break;
            }
            if matches!(self.phase, Phase::AwaitHeader) {
                match self.handle_protocol_header(&input[at..]) {
                    Some(taken) => at += taken,
                    None => break,
                }
                continue;
            }
            match frame::parse(&input[at..], self.payload_bytes_max()) {
                Ok(None) => break,
                Ok(Some((frame, octets))) => {
                    let (raw, rest) = input[at..].split_at(octets);
                    at += octets + self.handle_frame(now, &frame, raw, rest, executor);
                }
                Err(error) => self.handle_frame_error(now, error, executor),
            }
        }
        self.consumed_total += at as u64;
        self.received_total = self.consumed_total + (input.len() - at) as u64;
        at
    }

    /// The answer to a command that the executor answered with `Later`; 0 is the connection itself. The frames that waited
    /// for it are handled now. `false` if the channel no longer waits for it: what the answer carries must be given back.
    pub fn handle_reply(
        &mut self,
        now: Now,
        channel: ChannelNumber,
        reply: Result<Reply, Refusal>,
        executor: &mut impl Executor,
    ) -> bool {
        if channel == 0 {
            self.handle_connection_reply(now, reply, executor);
            return true;
        }
        if matches!(self.phase, Phase::Running { .. }) {
            self.note(channel);
            let (found, mut cx) = self.channel_and_context(channel, executor);
            let concluded = found.and_then(|channel| channel.handle_reply(reply, &mut cx));
            let at = cx.at;
            if let Some(concluded) = concluded {
                let result = concluded.result.map(|()| 0);
                self.conclude(now, channel, at, result, executor);
                for consumer in concluded.cancelled {
                    self.handle_consumer_cancelled(channel, consumer);
                }
                self.handle_pending(now, channel, executor);
                return true;
            }
        }
        false
    }

    /// Sends a message to one of the client's consumers.
    ///
    /// # Errors
    /// The consumer or its channel is gone: the delivery comes back, to be returned to its queue.
    pub fn handle_delivery(&mut self, _now: Now, delivery: Delivery) -> Result<(), Delivery> {
        let frame_max = self.frame_max;
        match self.channels.get_mut(delivery.channel) {
            Some(channel) => {
                if !std::mem::replace(&mut channel.is_noted, true) {
                    self.noted.push(channel.number);
                }
                channel.deliver(delivery, frame_max, &mut self.output)
            }
            None => Err(delivery),
        }
    }

    /// A queue ended a consumer: clients that said so hear basic.cancel, which they need not answer.
    pub fn handle_consumer_cancelled(&mut self, channel: ChannelNumber, consumer: ConsumerId) {
        let is_told = self.peer.capabilities.consumer_cancel_notify;
        if let Some(found) = self.channels.get_mut(channel)
            && let Some(tag) = found.consumer_cancelled(consumer)
            && is_told
        {
            let cancel = Method::BasicCancel(crate::protocol::basic::Cancel {
                consumer_tag: ShortStr::truncated(&tag),
                no_wait: true,
            });
            frame::write_method(self.output.buffer(), channel, &cancel);
        }
    }

    /// A queue ended a consumer that kept a delivery for too long. A client that cannot hear basic.cancel loses the
    /// channel (`rabbit_channel`, consumer timeout).
    pub fn handle_consumer_timed_out(
        &mut self,
        now: Now,
        channel: ChannelNumber,
        consumer: ConsumerId,
        timeout_ms: u64,
        executor: &mut impl Executor,
    ) {
        if self.peer.capabilities.consumer_cancel_notify {
            self.handle_consumer_cancelled(channel, consumer);
            return;
        }
        let is_here = self
            .channels
            .get_mut(channel)
            .is_some_and(|found| found.consumer_cancelled(consumer).is_some());
        if is_here {
            let refusal = Refusal::precondition_failed(format!(
                "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. \
                 This timeout value can be configured, see consumers doc guide to learn more"
            ));
            self.conclude(now, channel, MethodId::default(), Err(refusal), executor);
        }
    }

    /// Ends a burst: hands over what was gathered, and confirms what is complete.
    pub fn end_burst(&mut self, _now: Now, executor: &mut impl Executor) {
        executor.flush();
        while let Some(completion) = executor.poll_completion() {
            if let Some(channel) = self.channels.get_mut(completion.channel)
                && let Some(confirms) = &mut channel.confirms
            {
                if !confirms.has_news() {
                    self.confirming.push(completion.channel);
                }
                confirms.complete(completion.sequence, completion.outcome);
                channel.traffic.confirm +=
                    u32::from(completion.outcome == PublishOutcome::Accepted);
                if !std::mem::replace(&mut channel.is_noted, true) {
                    self.noted.push(channel.number);
                }
            }
        }
        while let Some(number) = self.confirming.pop() {
            if let Some(channel) = self.channels.get_mut(number)
                && channel.state == State::Open
            {
                channel.tell_confirms(&mut self.output);
            }
        }
    }

    /// The bytes to send.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether the socket is to be read. It is not while the connection is blocked by an alarm, while a command of the
    /// connection itself waits for its answer, and while too much waits to be handled or to be sent.
    pub fn wants_input(&self) -> bool {
        self.phase.wants_input()
            && !self.throttle.is_blocked
            && self.pending_bytes <= self.settings.pending_bytes_max
            && self.output.reply_bytes() <= self.settings.reply_bytes_max
    }

    /// Says whether the socket is not read although the session wants input, because the disk does not keep pace: a client
    /// that is not heard is not dead.
    pub fn hold_input(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = self.heartbeat.as_ref().map(Heartbeat::poll_timeout);
        self.deadline.into_iter().chain(heartbeat).min()
    }

    /// Why the connection is over, once it is: what is still to be sent may be, then the socket is closed.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.phase {
            Phase::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    /// An exception that was raised since the last call, for the log; 0 is the connection.
    pub fn poll_exception(&mut self) -> Option<(ChannelNumber, Exception)> {
        self.exceptions.pop_front()
    }

    /// Gives capacity back that an idle connection does not need.
    pub fn release_buffers(&mut self) {
        self.output.release();
        self.confirming = Vec::new();
        self.noted.shrink_to_fit();
        self.exceptions.shrink_to_fit();
    }

    /// The state's name, as RabbitMQ's HTTP API shows it.
    pub fn state_name(&self) -> &'static str {
        if self.throttle.is_blocked && matches!(self.phase, Phase::Running { .. }) {
            "blocked"
        } else {
            self.phase.name()
        }
    }

    /// The user, once known.
    pub fn user(&self) -> Option<&Name> {
        self.peer.user.as_ref()
    }

    /// The virtual host, once open.
    pub fn vhost(&self) -> Option<&str> {
        self.peer.vhost.as_deref()
    }

    /// The mechanism that the client chose.
    pub fn mechanism(&self) -> Option<&str> {
        self.peer.mechanism.as_deref()
    }

    /// What the client says about itself, decoded for the one who asks.
    pub fn client_properties(&self) -> Option<FieldTable> {
        FieldTable::decode(self.peer.client_properties.as_deref()?).ok()
    }

    /// `connection_name` of the client's properties.
    pub fn connection_name(&self) -> Option<&str> {
        self.peer.connection_name.as_deref()
    }

    /// Negotiated; 0 for no limit.
    pub fn channel_max(&self) -> u16 {
        self.channel_max
    }

    /// Negotiated, in octets; 0 for no limit.
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Negotiated, in seconds; 0 for none.
    pub fn heartbeat_s(&self) -> u16 {
        self.heartbeat_s
    }

    /// Channels that are open or closing.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Handles a frame of any channel; gives the octets of the frames in `rest` that were handled with it.
    fn handle_frame(
        &mut self,
        now: Now,
        frame: &Frame<'_>,
        raw: &[u8],
        rest: &[u8],
        executor: &mut impl Executor,
    ) -> usize {
        if frame.channel == 0 {
            self.handle_connection_frame(now, frame, executor);
            return 0;
        }
        match &self.phase {
            Phase::Running { .. } => {}
            Phase::Closing { .. } => return 0,
            _ => {
                self.raise_unexpected(now, frame, executor);
                return 0;
            }
        }
        if frame.kind == FrameKind::Heartbeat {
            self.raise_unexpected(now, frame, executor);
            return 0;
        }
        if let Some(channel) = self.channels.get_mut(frame.channel)
            && channel.is_waiting()
        {
            let pending = channel.pending.get_or_insert_default();
            pending.bytes.extend_from_slice(raw);
            self.pending_bytes += raw.len();
            return 0;
        }
        self.handle_channel_frame(now, frame, rest, executor)
    }

    fn handle_channel_frame(
        &mut self,
        now: Now,
        frame: &Frame<'_>,
        rest: &[u8],
        executor: &mut impl Executor,
    ) -> usize {
        let number = frame.channel;
        let (found, mut cx) = self.channel_and_context(number, executor);
        let Some(channel) = found else {
            self.open_channel(now, frame, executor);
            return 0;
        };
        let result = channel.handle_frame(frame, rest, &mut cx);
        let has_news = channel.confirms.as_ref().is_some_and(|c| c.has_news());
        let at = cx.at;
        let is_publish = at == MethodId::PUBLISH;
        if !std::mem::replace(&mut channel.is_noted, true) {
            self.noted.push(number);
        }
        if has_news && self.confirming.last() != Some(&number) {
            self.confirming.push(number);
        }
        if is_publish && result.is_ok() {
            self.published();
        }
        self.conclude(now, number, at, result, executor)
    }

    /// A frame for a channel that is not there: only channel.open may be (`rabbit_reader.erl`, `process_frame`).
    fn open_channel(&mut self, now: Now, frame: &Frame<'_>, executor: &mut impl Executor) {
        let mut at = MethodId::default();
        let result = self.check_open(frame, &mut at);
        if let Err(refusal) = result {
            self.raise(now, at.exception(refusal), executor);
            return;
        }
        self.channels.insert(Channel::new(frame.channel));
        self.note(frame.channel);
        let (found, mut cx) = self.channel_and_context(frame.channel, executor);
        cx.at = at;
        if let Some(channel) = found {
            let result = channel.open(&mut cx);
            let at = cx.at;
            self.conclude(now, frame.channel, at, result.map(|()| 0), executor);
        }
    }

    fn check_open(&self, frame: &Frame<'_>, at: &mut MethodId) -> Result<(), Refusal> {
        let (count, max) = (self.channels.len(), self.channel_max);
        if max != 0 && count >= usize::from(max) {
            return Err(Refusal::not_allowed(format!(
                "number of channels opened ({count}) has reached the negotiated channel_max ({max})"
            )));
        }
        if frame.kind != FrameKind::Method {
            return Err(content::unexpected(
                "expected method frame, got non method frame instead",
            ));
        }
        match channel::parse_method(frame, at)? {
            Method::ChannelOpen(_) => Ok(()),
            _ => Err(Refusal::new(
                ReplyCode::ChannelError,
                "expected 'channel.open'",
            )),
        }
    }

    /// Does what a channel's work asks of the connection: forget it, close it, or close everything.
    fn conclude(
        &mut self,
        now: Now,
        number: ChannelNumber,
        at: MethodId,
        result: Result<usize, Refusal>,
        executor: &mut impl Executor,
    ) -> usize {
        match result {
            Ok(octets) => {
                if let Some(channel) = self.channels.get_mut(number)
                    && channel.state == State::Gone
                    && channel.pending.is_none()
                {
                    self.departed.add(&channel.traffic);
                    self.channels.remove(number);
                }
                octets
            }
            Err(refusal) => {
                let exception = at.exception(refusal);
                match exception.refusal.scope() {
                    Scope::Connection => self.raise(now, exception, executor),
                    Scope::Channel => {
                        self.note_exception(number, &exception);
                        let (found, mut cx) = self.channel_and_context(number, executor);
                        if let Some(channel) = found {
                            channel.fail(exception, &mut cx);
                        }
                    }
                }
                0
            }
        }
    }

    /// Handles the frames that waited on a channel, until it waits again.
    fn handle_pending(&mut self, now: Now, number: ChannelNumber, executor: &mut impl Executor) {
        let Some(channel) = self.channels.get_mut(number) else {
            return;
        };
        let Some(mut pending) = channel.pending.take() else {
            return;
        };
        if channel.state == State::Gone {
            self.departed.add(&channel.traffic);
            self.channels.remove(number);
        }
        while matches!(self.phase, Phase::Running { .. }) {
            let channel = self.channels.get_mut(number);
            if channel.is_some_and(|channel| channel.is_waiting()) {
                break;
            }
            let input = &pending.bytes[pending.handled..];
            let Ok(Some((frame, octets))) = frame::parse(input, u32::MAX) else {
                break;
            };
            let rest = &input[octets..];
            let taken = octets + self.handle_channel_frame(now, &frame, rest, executor);
            pending.handled += taken;
            self.pending_bytes = self.pending_bytes.saturating_sub(taken);
        }
        if pending.handled < pending.bytes.len()
            && let Some(channel) = self.channels.get_mut(number)
        {
            channel.pending = Some(pending);
        }
    }

    fn channel_and_context<'a, E: Executor>(
        &'a mut self,
        number: ChannelNumber,
        executor: &'a mut E,
    ) -> (Option<&'a mut Channel>, Context<'a, E>) {
        let payload_bytes_max = self.payload_bytes_max();
        let context = Context {
            settings: &self.settings,
            frame_max: self.frame_max,
            payload_bytes_max,
            output: &mut self.output,
            executor,
            at: MethodId::default(),
        };
        (self.channels.get_mut(number), context)
    }

    /// Most octets of payload that a frame from the client may have.
    fn payload_bytes_max(&self) -> u32 {
        match self.frame_max {
            0 => MESSAGE_BYTES_TOP as u32,
            max => max.saturating_sub(FRAME_OVERHEAD_BYTES),
        }
    }

    fn note_exception(&mut self, channel: ChannelNumber, exception: &Exception) {
        if self.exceptions.len() < EXCEPTIONS_KEPT_MAX {
            self.exceptions.push_back((channel, exception.clone()));
        }
    }
}
