//! A connection's task: the socket, the inbox, late answers and deadlines on one side, the session and its
//! executor on the other.
//!
//! The task waits for everything at once and never for a write to complete while input waits. A burst reads
//! at most `burst_bytes_max`, executes what it read, hands over deliveries, and offers the output to the
//! socket once. A full output stops deliveries, not reading; what stops reading is the session's to say.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::link::{ConnectionLink, LinkEvent};
use crate::broker::{Broker, ConnectionExecutor, ConnectionOrigin};
use crate::model::{
    ChannelNumber, Command, Delivery, Executor as _, Got, InboxEvent, Now, Reply, Settlement,
    SettlementOutcome, Unsettled,
};
use crate::protocol::frame;
use crate::queue::Inbox;
use crate::session::{EndReason, Session, SessionSettings};

/// How long a connection may do nothing before it gives its buffers back.
const IDLE_BEFORE_RELEASE: Duration = Duration::from_secs(2);
/// How long the last bytes may take to leave, and the peer to hang up, once the session has ended.
const LINGER: Duration = Duration::from_secs(2);
/// Octets a peer may still send while we wait for it to hang up.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// How long a publisher is not read when checkpoints are behind.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(5);

/// Ends of consumers that may wait for a client that takes no output, before it is read no more.
const NOTICES_MAX: usize = 1024;

/// Limits of a connection's task.
#[derive(Clone, Copy, Debug)]
pub struct TaskLimits {
    /// Bytes read before the burst is executed.
    pub burst_bytes_max: usize,
    /// Unsent bytes above which no delivery is taken from the inbox.
    pub output_bytes_max: usize,
    /// Bytes of deliveries that may wait in the inbox.
    pub inbox_bytes_max: usize,
}

/// What all connections of a listener share.
#[derive(Clone, Debug)]
pub struct ConnectionShared {
    /// The broker.
    pub broker: Arc<Broker>,
    /// What sessions negotiate.
    pub session: Arc<SessionSettings>,
    /// Limits of the task.
    pub limits: TaskLimits,
}

thread_local! {
    /// One read buffer a worker thread: connections keep only what is left over of a frame.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Task {
    stream: TcpStream,
    session: Session,
    executor: ConnectionExecutor,
    link: Arc<ConnectionLink>,
    inbox: Arc<Inbox>,
    shared: ConnectionShared,
    /// Bytes read and not consumed: part of a frame, or frames that the session does not want yet.
    leftover: Vec<u8>,
    /// Whether `leftover` may hold whole frames, because the session stopped before the end.
    is_leftover_unread: bool,
    events: Vec<InboxEvent>,
    timer: Pin<Box<Sleep>>,
    timer_deadline: Instant,
    active_last: Instant,
    is_idle: bool,
    /// When to look whether checkpoints have caught up.
    look_again_at: Option<Instant>,
}

/// How a turn of the task ended.
enum Turn {
    /// Something was done; there may be more.
    Progress {
        /// Whether the read buffer was filled, so that others should have their turn first.
        is_full_burst: bool,
    },
    /// The session has ended.
    Ended,
    /// The peer hung up.
    Eof,
}

/// Serves one accepted socket to its end.
pub async fn serve(stream: TcpStream, peer: SocketAddr, shared: ConnectionShared) {
    let mut task = Task::open(stream, peer, shared);
    let outcome = task.run().await;
    let end = AssertUnwindSafe(|| task.session.terminate(&mut task.executor));
    if catch_unwind(end).is_err() {
        // What the session knows is lost with it; what the broker knows of the connection still ends.
        task.executor.execute(0, Command::CloseConnection);
    }
    // What was counted since the last turn counts for host and node.
    task.session.report(&mut task.executor);
    task.log_end(peer, &outcome);
    if matches!(outcome, Ok(Turn::Ended)) {
        // Boxed, because an idle connection would carry its buffer.
        Box::pin(task.hang_up()).await;
    }
}
/// Runs a turn. A panic in it is a defect, which ends this connection in order: its consumers, its unsettled
/// deliveries and its exclusive queues would stay for ever if the task just went.
fn unwound<T>(turn: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(|_| {
        Poll::Ready(Err(io::Error::other(
            "a defect of the broker: the connection's task panicked",
        )))
    })
}

impl Task {
    /// The task of a socket that was just accepted; a function of its own, so that nothing of it stays in the
    /// future of [`serve`].
    fn open(stream: TcpStream, peer: SocketAddr, shared: ConnectionShared) -> Box<Self> {
        let link = Arc::new(ConnectionLink::default());
        let inbox = Inbox::new(shared.limits.inbox_bytes_max);
        let executor = ConnectionExecutor::new(
            Arc::clone(&shared.broker),
            ConnectionOrigin {
                peer,
                // A socket that is gone already has none.
                local: stream
                    .local_addr()
                    .unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into()),
                replies: Arc::clone(&link) as _,
                control: Arc::clone(&link) as _,
                inbox: Arc::clone(&inbox),
            },
        );
        let now = shared.broker.clock().now();
        let mut session = Session::new(Arc::clone(&shared.session), now);
        if let Some(reason) = shared.broker.alarms().reason() {
            session.handle_alarm(now, Some(reason));
        }
        tracing::debug!(target: "haremq::connection", %peer, id = %executor.id(), "accepted");
        Box::new(Self {
            stream,
            session,
            executor,
            link,
            inbox,
            shared,
            leftover: Vec::new(),
            is_leftover_unread: false,
            events: Vec::new(),
            timer: Box::pin(tokio::time::sleep(IDLE_BEFORE_RELEASE)),
            timer_deadline: now.monotonic + IDLE_BEFORE_RELEASE,
            active_last: now.monotonic,
            is_idle: false,
            look_again_at: None,
        })
    }

    async fn run(&mut self) -> io::Result<Turn> {
        loop {
            match poll_fn(|cx| unwound(|| self.poll_turn(cx))).await? {
                Turn::Progress { is_full_burst } => {
                    if is_full_burst {
                        tokio::task::yield_now().await;
                    }
                }
                end => return Ok(end),
            }
        }
    }

    /// One turn: everything that is ready, then one offer of the output to the socket.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Turn>> {
        let now = self.shared.broker.clock().now();
        self.executor.begin_burst(now);
        let mut is_active = self.take_link_events(cx, now);
        is_active |= self.resume_leftover(now);
        let read = self.poll_read(cx, now)?;
        is_active |= read.is_ready();
        is_active |= self.poll_deadline(cx, now);
        if is_active {
            self.session.end_burst(now, &mut self.executor);
        }
        if self.executor.poll_synced(cx.waker()) {
            self.session.end_burst(now, &mut self.executor);
            is_active = true;
        }
        if self.poll_inbox(cx, now) {
            // An answer from the disk may have let kept publishes go on.
            self.session.end_burst(now, &mut self.executor);
            is_active = true;
        }
        is_active |= self.poll_write(cx)?;
        if is_active {
            self.session.report(&mut self.executor);
        }
        self.log_exceptions();
        if self.session.ended().is_some() {
            return Poll::Ready(Ok(Turn::Ended));
        }
        if let Poll::Ready(Read::Eof) = read {
            return Poll::Ready(Ok(Turn::Eof));
        }
        if is_active {
            self.active_last = now.monotonic;
            self.is_idle = false;
            self.arm_timer(now);
            return Poll::Ready(Ok(Turn::Progress {
                is_full_burst: matches!(read, Poll::Ready(Read::Full)),
            }));
        }
        self.arm_timer(now);
        // The timer may have been set anew: it must be polled to wake this task.
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn take_link_events(&mut self, cx: &Context<'_>, now: Now) -> bool {
        let events = self.link.take(cx);
        let is_active = !events.is_empty();
        for event in events {
            match event {
                LinkEvent::Reply(channel, reply) => {
                    self.session
                        .handle_reply(now, channel, reply, &mut self.executor);
                }
                LinkEvent::Close(refusal) => {
                    self.session
                        .handle_shutdown(now, refusal, &mut self.executor);
                }
                LinkEvent::AlarmChanged => {
                    self.session
                        .handle_alarm(now, self.shared.broker.alarms().reason());
                }
            }
        }
        is_active
    }

    /// Frames that the session left because it wanted no more input go on when it does again.
    fn resume_leftover(&mut self, now: Now) -> bool {
        if !self.is_leftover_unread || !self.session.wants_input() {
            return false;
        }
        let consumed = self
            .session
            .handle_bytes(now, &self.leftover, &mut self.executor);
        self.leftover.drain(..consumed);
        self.is_leftover_unread = !self.session.wants_input();
        true
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, now: Now) -> io::Result<Poll<Read>> {
        let is_outrunning = self.executor.is_outrunning_checkpoints();
        if is_outrunning {
            self.look_again_at = Some(now.monotonic + CHECKPOINT_PAUSE);
        }
        let is_held = is_outrunning || self.executor.is_congested(cx.waker());
        self.session.hold_input(is_held);
        if is_held
            || !self.session.wants_input()
            || self.is_leftover_unread
            || self.is_deaf_to_notices()
        {
            return Ok(Poll::Pending);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let filled = self.leftover.len();
            // What is left of a frame is copied at each read, so a large frame comes whole with the next one.
            // Nothing else that a peer says may take room: before the handshake it may be anything.
            let frame_max = self.shared.session.frame_max as usize;
            let missing = frame::bytes_missing(&self.leftover).min(frame_max);
            let room = self.shared.limits.burst_bytes_max.max(missing);
            if scratch.len() < filled + room {
                scratch.resize(filled + room, 0);
            }
            let mut buffer = ReadBuf::new(&mut scratch[filled..filled + room]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(result) => result?,
            }
            let received = buffer.filled().len();
            if received == 0 {
                return Ok(Poll::Ready(Read::Eof));
            }
            self.executor.note_receive();
            scratch[..filled].copy_from_slice(&self.leftover);
            let input = &scratch[..filled + received];
            let consumed = self.session.handle_bytes(now, input, &mut self.executor);
            self.leftover.clear();
            self.leftover.extend_from_slice(&input[consumed..]);
            if self.leftover.is_empty() {
                self.leftover = Vec::new();
            }
            self.is_leftover_unread = !self.leftover.is_empty() && !self.session.wants_input();
            Ok(Poll::Ready(if received == room {
                Read::Full
            } else {
                Read::Some
            }))
        })
    }

    /// Whether the client takes no output while ends of its consumers pile up, which it can cause without an answer.
    /// The output is full then, so that the task is woken when it drains.
    fn is_deaf_to_notices(&mut self) -> bool {
        self.session.output().len() >= self.shared.limits.output_bytes_max
            && self.inbox.notices() > NOTICES_MAX
    }

    /// Runs the session's deadline if it has come; the timer itself may be early, never late.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer_deadline = now.monotonic + Duration::from_secs(3600);
        self.timer.as_mut().reset(self.timer_deadline.into());
        if self
            .session
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now.monotonic)
        {
            self.session.handle_timeout(now, &mut self.executor);
            return true;
        }
        if !self.is_idle && now.monotonic >= self.active_last + IDLE_BEFORE_RELEASE {
            self.is_idle = true;
            self.session.release_buffers();
            self.executor.release_buffers();
            self.leftover.shrink_to_fit();
            self.events = Vec::new();
        }
        false
    }

    /// Sets the timer forward when an earlier deadline has appeared; a later one is noticed when it fires.
    fn arm_timer(&mut self, now: Now) {
        let idle =
            (!self.is_idle).then(|| self.active_last.max(now.monotonic) + IDLE_BEFORE_RELEASE);
        let next = [self.session.poll_timeout(), idle, self.look_again_at.take()]
            .into_iter()
            .flatten()
            .min();
        if let Some(next) = next
            && next < self.timer_deadline
        {
            self.timer_deadline = next;
            self.timer.as_mut().reset(next.into());
        }
    }

    /// Hands deliveries to the session while its output has room.
    fn poll_inbox(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let mut is_active = false;
        while self.session.output().len() < self.shared.limits.output_bytes_max {
            if self.inbox.poll_ready(cx).is_pending() {
                break;
            }
            // Ready without events is the news that those have room who were refused: they are told below.
            let mut events = std::mem::take(&mut self.events);
            let bytes = self.inbox.drain(&mut events);
            is_active = true;
            for event in events.drain(..) {
                match event {
                    InboxEvent::Deliver(delivery) => {
                        if let Err(delivery) = self.session.handle_delivery(now, delivery) {
                            self.give_back(&delivery);
                        }
                    }
                    InboxEvent::ConsumerCancelled { channel, consumer } => {
                        self.executor.forget_consumer(channel, consumer);
                        self.session.handle_consumer_cancelled(channel, consumer);
                    }
                    InboxEvent::ConsumerTimedOut {
                        channel,
                        consumer,
                        timeout_ms,
                    } => {
                        self.executor.forget_consumer(channel, consumer);
                        self.session.handle_consumer_timed_out(
                            now,
                            channel,
                            consumer,
                            timeout_ms,
                            &mut self.executor,
                        );
                    }
                    InboxEvent::Got {
                        channel,
                        no_ack,
                        got,
                    } => self.answer_get(now, channel, no_ack, got),
                }
            }
            self.events = events;
            self.inbox.release(bytes);
            self.executor.wake_refused();
            self.executor.flush();
        }
        is_active
    }

    /// Answers a `basic.get` that waited until its message was loaded. If the channel is gone by now, the message goes back.
    fn answer_get(&mut self, now: Now, channel: ChannelNumber, no_ack: bool, got: Option<Got>) {
        let held = got.as_ref().filter(|_| !no_ack).map(|got| Unsettled {
            queue: got.queue,
            position: got.position,
            consumer: None,
        });
        let reply = Ok(Reply::Got(got));
        let was_awaited = self
            .session
            .handle_reply(now, channel, reply, &mut self.executor);
        if let Some(delivery) = held.filter(|_| !was_awaited) {
            let outcome = SettlementOutcome::ReturnedByLoss;
            self.executor
                .settle(channel, Settlement { delivery, outcome });
        }
    }

    /// Returns a delivery whose consumer is gone to its queue.
    fn give_back(&mut self, delivery: &Delivery) {
        if let (Some(queue), false) = (delivery.queue, delivery.no_ack) {
            self.executor.settle(
                delivery.channel,
                Settlement {
                    delivery: Unsettled {
                        queue,
                        position: delivery.position,
                        consumer: Some(delivery.consumer),
                    },
                    outcome: SettlementOutcome::ReturnedByLoss,
                },
            );
        }
    }

    /// Offers the output to the socket until it is empty or the socket is full.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut is_active = false;
        while !self.session.output().is_empty() {
            let Self {
                stream,
                session,
                executor,
                ..
            } = self;
            match Pin::new(&mut *stream).poll_write(cx, session.output().as_slice()) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => {
                    session.output().advance(sent);
                    executor.note_send();
                    is_active = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(is_active)
    }

    /// Logs the errors that this turn raised; the client hears of them too.
    fn log_exceptions(&mut self) {
        while let Some((channel, exception)) = self.session.poll_exception() {
            let name = self.session.connection_name().unwrap_or("");
            let user = self.session.user().map_or("", |user| user);
            let vhost = self.session.vhost().unwrap_or("");
            tracing::warn!(
                target: "haremq::session::channel",
                name, user, vhost, channel,
                class = exception.class_id,
                method = exception.method_id,
                "{} - {}", exception.refusal.code.name(), exception.refusal.text
            );
        }
    }

    fn log_end(&self, peer: SocketAddr, outcome: &io::Result<Turn>) {
        let name = self.session.connection_name().unwrap_or("");
        let user = self.session.user().map_or("", |user| user);
        match outcome {
            Ok(Turn::Ended) => match self.session.ended() {
                Some(ended) if matches!(ended.reason, EndReason::ClosedByClient) => {
                    tracing::debug!(target: "haremq::connection", %peer, name, user, "closed: {ended}");
                }
                Some(ended) => {
                    tracing::warn!(target: "haremq::connection", %peer, name, user, "closed: {ended}");
                }
                None => {}
            },
            Ok(_) if user.is_empty() => {
                tracing::debug!(target: "haremq::connection", %peer, "the peer hung up during the handshake");
            }
            Ok(_) => {
                tracing::warn!(
                    target: "haremq::connection",
                    %peer, name, user,
                    "the client hung up without closing the connection"
                );
            }
            // Health checks hang up at once, and often with the greeting unread, which resets the socket.
            Err(error) if user.is_empty() => {
                tracing::debug!(target: "haremq::connection", %peer, %error, "the socket failed during the handshake");
            }
            Err(error) => {
                tracing::warn!(target: "haremq::connection", %peer, name, user, %error, "the socket failed");
            }
        }
    }

    /// Sends what is left, says that no more comes, and waits a little for the peer to hang up, so that the
    /// last bytes are not lost to a reset.
    async fn hang_up(&mut self) {
        let linger = async {
            while !self.session.output().is_empty() {
                let sent = self.stream.write(self.session.output().as_slice()).await?;
                self.session.output().advance(sent);
            }
            self.stream.shutdown().await?;
            let mut sink = [0; 4096];
            let mut received = 0;
            while received < LINGER_BYTES_MAX {
                match self.stream.read(&mut sink).await? {
                    0 => break,
                    count => received += count,
                }
            }
            io::Result::Ok(())
        };
        // A peer that does not take its last bytes loses them.
        let _ = tokio::time::timeout(LINGER, linger).await;
    }
}

/// What came of reading.
enum Read {
    /// Some bytes, and no more for now.
    Some,
    /// As many bytes as a burst may read.
    Full,
    /// The peer will send no more.
    Eof,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_turn_is_an_error_of_the_connection() {
        let outcome =
            unwound(|| -> Poll<io::Result<()>> { panic!("a defect, made for this test") });
        assert!(matches!(outcome, Poll::Ready(Err(_))));
        assert!(unwound(|| Poll::<io::Result<()>>::Pending).is_pending());
    }
}
