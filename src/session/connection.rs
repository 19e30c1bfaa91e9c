//! The connection itself: its states, closing, deadlines and alarms; class connection, without the handshake.
//!
//! Frames of channel 0 and deadlines come in; commands of the connection and closes go out. Rules and texts are those of `rabbit_reader.erl`.
//!
//! ```text
//!   AwaitHeader ── header ──> AwaitStartOk ── start-ok ──> Authenticating ──> AwaitTuneOk ── tune-ok ──> AwaitOpen
//!        │                         │                            │                │                          │ open
//!        │ another header          │ anything wrong             │ refused        │ bad values               v
//!        v                         v                            v                v                       Opening
//!      Ended                     Silent ── close_timeout ──> Ended            Releasing                     │
//!                                                                                ^  ^                       v
//!   Ended <── close-ok, or close_timeout ── Closing <── connection.close sent ───┘  └── hard error ────── Running
//!     ^                                                                          ^
//!     └──────────────────────── connection.close-ok sent ── Releasing <──────────┴── connection.close ───── Running
//! ```
//! `Authenticating`, `Opening` and `Releasing` last as long as the broker takes to answer, often no time at all; nothing is
//! read meanwhile. In `Closing` everything but close and close-ok is ignored.

use std::sync::Arc;
use std::time::Instant;

use super::Session;
use super::channel::{MethodId, parse_method};
use super::ended::{EndReason, Ended, reply_text};
use crate::model::{Command, Exception, Execution, Executor, Name, Now, Refusal, Reply};
use crate::protocol::{
    Frame, FrameError, FrameKind, Method, PayloadHead, ReplyCode, ShortStr, connection, frame,
};

/// What the connection is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing came yet.
    AwaitHeader,
    /// connection.start was sent.
    AwaitStartOk,
    /// The broker looks at the login.
    Authenticating,
    /// connection.tune was sent.
    AwaitTuneOk,
    /// The client may open a virtual host.
    AwaitOpen,
    /// The broker looks at the virtual host.
    Opening,
    /// Channels may be opened.
    Running {
        /// The broker looks at a new secret.
        is_updating_secret: bool,
    },
    /// The broker is told that the connection ends; then this is said to the client.
    Releasing(Farewell),
    /// connection.close was sent.
    Closing {
        reason: EndReason,
        /// The frames cannot be told apart any more, so that nothing is looked at.
        is_deaf: bool,
    },
    /// The client did something wrong before it was known: it is told nothing, and has to wait.
    Silent(EndReason),
    /// The socket may be closed.
    Ended(Ended),
}

/// What is said last.
#[derive(Debug)]
pub(super) enum Farewell {
    /// connection.close-ok.
    CloseOk,
    /// connection.close.
    Close { exception: Exception, is_deaf: bool },
}

/// What is known of the client.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Encoded, because nobody asks often and many connections are idle.
    pub(super) client_properties: Option<Arc<[u8]>>,
    pub(super) connection_name: Option<Box<str>>,
    pub(super) capabilities: Capabilities,
    pub(super) mechanism: Option<Box<str>>,
    pub(super) user: Option<Name>,
    pub(super) vhost: Option<Box<str>>,
}

/// What the client says that it can hear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) consumer_cancel_notify: bool,
    pub(super) connection_blocked: bool,
    pub(super) authentication_failure_close: bool,
}

/// Alarms, as this connection meets them: it is blocked only once it publishes during one.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// The reason of the alarm that is on.
    pub(super) alarm: Option<Box<str>>,
    pub(super) is_blocked: bool,
    is_told: bool,
}

impl Phase {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AwaitHeader => "pre_init",
            Self::AwaitStartOk => "starting",
            Self::Authenticating => "securing",
            Self::AwaitTuneOk => "tuning",
            Self::AwaitOpen | Self::Opening => "opening",
            Self::Running { .. } => "running",
            Self::Releasing(_) => "closing",
            Self::Closing { .. } | Self::Silent(_) | Self::Ended(_) => "closed",
        }
    }

    /// Whether input is of no use any more, and is thrown away.
    pub(super) fn is_deaf(&self) -> bool {
        matches!(
            self,
            Self::Silent(_) | Self::Closing { is_deaf: true, .. } | Self::Ended(_)
        )
    }

    pub(super) fn wants_input(&self) -> bool {
        match self {
            Self::AwaitHeader
            | Self::AwaitStartOk
            | Self::AwaitTuneOk
            | Self::AwaitOpen
            | Self::Closing { .. }
            | Self::Silent(_) => true,
            Self::Running { is_updating_secret } => !is_updating_secret,
            Self::Authenticating | Self::Opening | Self::Releasing(_) | Self::Ended(_) => false,
        }
    }
}

impl Session {
    /// An alarm of the node went on, changed its reason, or went off (`None`). The connection is blocked once it
    /// publishes, and told so if it can hear it.
    pub fn handle_alarm(&mut self, _now: Now, reason: Option<&str>) {
        self.throttle.alarm = reason.map(Box::from);
        if reason.is_none() && std::mem::take(&mut self.throttle.is_blocked) {
            let was_told = std::mem::take(&mut self.throttle.is_told);
            if was_told && matches!(self.phase, Phase::Running { .. }) {
                self.send(Method::ConnectionUnblocked(connection::Unblocked));
            }
        }
    }

    /// The broker ends the connection, such as with 320. A connection that is not open yet just ends
    /// (`rabbit_reader.erl`, `terminate`).
    pub fn handle_shutdown(&mut self, now: Now, refusal: Refusal, executor: &mut impl Executor) {
        let exception = MethodId::default().exception(refusal);
        match self.phase {
            Phase::Running { .. } => self.raise(now, exception, executor),
            Phase::Releasing(_) | Phase::Closing { .. } | Phase::Ended(_) => {}
            _ => {
                self.release(executor);
                self.end(EndReason::ClosedByServer(exception));
            }
        }
    }

    /// A deadline of [`Session::poll_timeout`] has passed.
    pub fn handle_timeout(&mut self, now: Now, executor: &mut impl Executor) {
        if self.deadline.is_some_and(|at| at <= now.monotonic) {
            self.deadline = None;
            self.handle_deadline(executor);
        }
        self.handle_heartbeat(now.monotonic, executor);
    }

    /// The socket is gone, or the session is about to be dropped: tells the executor what ends. May be called at any
    /// time, and more than once.
    pub fn terminate(&mut self, executor: &mut impl Executor) {
        self.release(executor);
        if self.ended().is_none() {
            self.end(EndReason::SocketGone);
        }
    }

    /// A frame of channel 0.
    pub(super) fn handle_connection_frame(
        &mut self,
        now: Now,
        frame: &Frame<'_>,
        executor: &mut impl Executor,
    ) {
        if let Phase::Closing { .. } = self.phase {
            self.handle_closing_frame(frame);
            return;
        }
        match frame.kind {
            FrameKind::Heartbeat => {}
            FrameKind::Method => {
                let mut at = MethodId::default();
                let result = parse_method(frame, &mut at)
                    .and_then(|method| self.handle_connection_method(now, &method, executor));
                if let Err(refusal) = result {
                    self.raise(now, at.exception(refusal), executor);
                }
            }
            FrameKind::Header | FrameKind::Body => self.raise_unexpected(now, frame, executor),
        }
    }

    /// 505 for a frame of a kind that may not come on its channel.
    pub(super) fn raise_unexpected(
        &mut self,
        now: Now,
        frame: &Frame<'_>,
        executor: &mut impl Executor,
    ) {
        let head = PayloadHead::of(frame.payload);
        let text = format!("type {}, {head}", frame.kind as u8);
        let refusal = Refusal::new(ReplyCode::UnexpectedFrame, text);
        self.raise(now, MethodId::default().exception(refusal), executor);
    }

    /// 501 for octets that are no frame, after which no frame can be found any more.
    pub(super) fn handle_frame_error(
        &mut self,
        now: Now,
        error: FrameError,
        executor: &mut impl Executor,
    ) {
        if let Phase::Closing { .. } = self.phase {
            self.end(EndReason::LostSync(error));
            return;
        }
        let refusal = Refusal::new(ReplyCode::FrameError, error.to_string());
        self.raise_as(now, MethodId::default().exception(refusal), true, executor);
    }

    /// A hard error.
    pub(super) fn raise(&mut self, now: Now, exception: Exception, executor: &mut impl Executor) {
        self.raise_as(now, exception, false, executor);
    }

    /// What a hard error does depends on how far the client came (`rabbit_reader.erl`, `handle_exception`).
    fn raise_as(
        &mut self,
        now: Now,
        exception: Exception,
        is_deaf: bool,
        executor: &mut impl Executor,
    ) {
        let is_told = match self.phase {
            Phase::Running { .. } | Phase::AwaitOpen | Phase::Opening => true,
            Phase::AwaitTuneOk => exception.refusal.code == ReplyCode::NotAllowed,
            Phase::AwaitHeader | Phase::AwaitStartOk | Phase::Authenticating => false,
            _ => return,
        };
        self.note_exception(0, &exception);
        if is_told {
            let farewell = Farewell::Close { exception, is_deaf };
            self.say_farewell_when_released(now, farewell, executor);
        } else {
            self.fall_silent(now, EndReason::HandshakeFailed(exception));
        }
    }

    /// A publish was handled: during an alarm, that blocks the connection.
    pub(super) fn published(&mut self) {
        if self.throttle.is_blocked {
            return;
        }
        let Some(reason) = &self.throttle.alarm else {
            return;
        };
        self.throttle.is_blocked = true;
        if self.peer.capabilities.connection_blocked {
            self.throttle.is_told = true;
            let blocked = Method::ConnectionBlocked(connection::Blocked {
                reason: ShortStr::truncated(reason),
            });
            frame::write_method(self.output.buffer(), 0, &blocked);
        }
    }

    /// The broker's answer to a command of the connection.
    pub(super) fn handle_connection_reply(
        &mut self,
        now: Now,
        reply: Result<Reply, Refusal>,
        executor: &mut impl Executor,
    ) {
        match &self.phase {
            Phase::Authenticating => self.authenticated(now, reply),
            Phase::Opening => {
                let result = self.opened(reply);
                let at = connection::Open::METHOD_ID;
                self.conclude_connection(now, at, result, executor);
            }
            Phase::Running {
                is_updating_secret: true,
            } => {
                let result = self.secret_updated(reply);
                let at = connection::UpdateSecret::METHOD_ID;
                self.conclude_connection(now, at, result, executor);
            }
            Phase::Releasing(_) => self.say_farewell(),
            _ => {}
        }
    }

    fn conclude_connection(
        &mut self,
        now: Now,
        method_id: u16,
        result: Result<(), Refusal>,
        executor: &mut impl Executor,
    ) {
        if let Err(refusal) = result {
            let class_id = connection::CLASS_ID;
            let at = MethodId {
                class_id,
                method_id,
            };
            self.raise(now, at.exception(refusal), executor);
        }
    }

    fn handle_connection_method(
        &mut self,
        now: Now,
        method: &Method<'_>,
        executor: &mut impl Executor,
    ) -> Result<(), Refusal> {
        match (&self.phase, method) {
            (Phase::AwaitStartOk, Method::ConnectionStartOk(start_ok)) => {
                self.start_ok(now, start_ok, executor)
            }
            (Phase::AwaitTuneOk, Method::ConnectionTuneOk(tune_ok)) => {
                self.tune_ok(now, *tune_ok, executor);
                Ok(())
            }
            (Phase::AwaitOpen, Method::ConnectionOpen(open)) => self.open(open, executor),
            (Phase::Running { .. }, Method::ConnectionClose(_)) => {
                self.say_farewell_when_released(now, Farewell::CloseOk, executor);
                Ok(())
            }
            (Phase::Running { .. }, Method::ConnectionUpdateSecret(update)) => {
                self.update_secret(update, executor)
            }
            (phase, _) => Err(Refusal::new(
                ReplyCode::ChannelError,
                format!("unexpected method in connection state {}", phase.name()),
            )),
        }
    }

    fn update_secret(
        &mut self,
        update: &connection::UpdateSecret<'_>,
        executor: &mut impl Executor,
    ) -> Result<(), Refusal> {
        self.phase = Phase::Running {
            is_updating_secret: true,
        };
        let command = Command::UpdateSecret {
            reason: super::names::plain(update.reason),
        };
        match executor.execute(0, command) {
            Execution::Done(reply) => self.secret_updated(reply),
            Execution::Later => Ok(()),
        }
    }

    fn secret_updated(&mut self, reply: Result<Reply, Refusal>) -> Result<(), Refusal> {
        self.phase = Phase::Running {
            is_updating_secret: false,
        };
        expect_done(reply)?;
        self.send(Method::ConnectionUpdateSecretOk(connection::UpdateSecretOk));
        Ok(())
    }

    /// A frame of channel 0 while connection-close-ok is awaited.
    fn handle_closing_frame(&mut self, frame: &Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::parse(frame.payload) {
            Ok(Method::ConnectionClose(_)) => {
                self.send(Method::ConnectionCloseOk(connection::CloseOk));
            }
            Ok(Method::ConnectionCloseOk(_)) => self.end_closing(),
            _ => {}
        }
    }

    /// Ends the connection towards the broker, so that its exclusive queues are gone, and then tells the client.
    fn say_farewell_when_released(
        &mut self,
        now: Now,
        farewell: Farewell,
        executor: &mut impl Executor,
    ) {
        self.deadline = Some(now.monotonic + self.settings.close_timeout);
        self.phase = Phase::Releasing(farewell);
        if self.release(executor) {
            self.say_farewell();
        }
    }

    fn say_farewell(&mut self) {
        let reason = EndReason::ClosedByClient;
        let ended = Phase::Ended(Ended { reason });
        match std::mem::replace(&mut self.phase, ended) {
            Phase::Releasing(Farewell::Close { exception, is_deaf }) => {
                self.send_close(&exception);
                let reason = EndReason::ClosedByServer(exception);
                self.phase = Phase::Closing { reason, is_deaf };
            }
            _ => {
                self.send(Method::ConnectionCloseOk(connection::CloseOk));
                self.end(EndReason::ClosedByClient);
            }
        }
    }

    /// Tells the executor that channels and connection end, once; `false` if its answer comes later.
    fn release(&mut self, executor: &mut impl Executor) -> bool {
        if std::mem::replace(&mut self.is_released, true) {
            return true;
        }
        executor.prepare_end();
        for mut channel in self.channels.take_all() {
            self.departed.add(&channel.traffic);
            if let Some(unsettled) = channel.release() {
                executor.execute(channel.number, Command::CloseChannel { unsettled });
            }
        }
        self.pending_bytes = 0;
        self.throttle = Throttle::default();
        let execution = executor.execute(0, Command::CloseConnection);
        matches!(execution, Execution::Done(_))
    }

    fn handle_deadline(&mut self, executor: &mut impl Executor) {
        let state = self.phase.name();
        match &mut self.phase {
            Phase::Closing { .. } => self.end_closing(),
            Phase::Silent(reason) => {
                let reason = reason.clone();
                self.release(executor);
                self.end(reason);
            }
            // The broker takes too long: the client is told what it is to be told, and has no more time.
            Phase::Releasing(_) => {
                self.say_farewell();
                self.end_closing();
            }
            Phase::Running { .. } | Phase::Ended(_) => {}
            _ => {
                self.release(executor);
                self.end(EndReason::HandshakeTimeout { state });
            }
        }
    }

    fn handle_heartbeat(&mut self, now: Instant, executor: &mut impl Executor) {
        let is_reading = self.wants_input() && !self.is_held;
        let Some(heartbeat) = &mut self.heartbeat else {
            return;
        };
        let (sent, received) = (self.output.sent_total(), self.received_total);
        let tick = heartbeat.handle_timeout(now, sent, received, is_reading);
        if tick.is_dead && !matches!(self.phase, Phase::Closing { .. }) {
            let heartbeat_s = self.heartbeat_s;
            self.release(executor);
            self.end(EndReason::HeartbeatTimeout { heartbeat_s });
        } else if tick.send && self.output.is_empty() {
            // What waits already is life enough, once the socket takes it.
            frame::write_heartbeat(self.output.buffer());
            heartbeat.heartbeat_written(sent + self.output.len() as u64);
        }
    }

    pub(super) fn fall_silent(&mut self, now: Now, reason: EndReason) {
        self.deadline = Some(now.monotonic + self.settings.close_timeout);
        self.phase = Phase::Silent(reason);
    }

    fn end_closing(&mut self) {
        if let Phase::Closing { reason, .. } = &self.phase {
            let reason = reason.clone();
            self.end(reason);
        }
    }

    pub(super) fn end(&mut self, reason: EndReason) {
        self.deadline = None;
        self.heartbeat = None;
        self.phase = Phase::Ended(Ended { reason });
    }

    pub(super) fn send_close(&mut self, exception: &Exception) {
        let text = reply_text(&exception.refusal);
        self.send(Method::ConnectionClose(connection::Close {
            reply_code: exception.refusal.code.code(),
            reply_text: ShortStr::truncated(&text),
            class_id: exception.class_id,
            method_id: exception.method_id,
        }));
    }

    pub(super) fn send(&mut self, method: Method<'_>) {
        self.output
            .reply(|out| frame::write_method(out, 0, &method));
    }
}

pub(super) fn expect_done(reply: Result<Reply, Refusal>) -> Result<(), Refusal> {
    match reply? {
        Reply::Done => Ok(()),
        other => Err(unexpected_reply(&other)),
    }
}

pub(super) fn unexpected_reply(reply: &Reply) -> Refusal {
    Refusal::internal_error(format!("unexpected reply {reply:?}"))
}
