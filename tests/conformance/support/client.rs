//! A client and the server's side of its connection, which does its work when the client does something:
//! what `server/connection.rs` does around a socket, without one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use haremq::broker::registry::ConnectionControl;
use haremq::broker::{Broker, ConnectionExecutor, ConnectionOrigin, ReplySink};
use haremq::model::{
    ChannelNumber, Delivery, Executor as _, InboxEvent, Now, Refusal, Reply, Settlement,
    SettlementOutcome, Unsettled,
};
use haremq::protocol::{Method, Properties, frame};
use haremq::queue::Inbox;
use haremq::session::{Session, SessionSettings};

use super::Received;
use super::received::Reassembly;

/// How long a definition may take to be stored.
const STORE_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of deliveries that wait for the client, as the server's default.
const INBOX_BYTES_MAX: usize = 1 << 20;

/// What reaches a connection from other threads and other connections.
#[derive(Debug)]
enum LinkEvent {
    Reply(ChannelNumber, Result<Reply, Refusal>),
    Close(Refusal),
    AlarmChanged,
}

#[derive(Debug)]
struct Link(parking_lot::Mutex<mpsc::Sender<LinkEvent>>);

impl Link {
    fn push(&self, event: LinkEvent) {
        // The client of a test that is over does not listen any more.
        let _ = self.0.lock().send(event);
    }
}

impl ReplySink for Link {
    fn reply(&self, channel: ChannelNumber, reply: Result<Reply, Refusal>) {
        self.push(LinkEvent::Reply(channel, reply));
    }
}

impl ConnectionControl for Link {
    fn close(&self, refusal: Refusal) {
        self.push(LinkEvent::Close(refusal));
    }

    fn alarm_changed(&self) {
        self.push(LinkEvent::AlarmChanged);
    }
}

/// A client.
pub struct Client {
    broker: Arc<Broker>,
    pub(super) session: Session,
    executor: ConnectionExecutor,
    inbox: Arc<Inbox>,
    events: mpsc::Receiver<LinkEvent>,
    clock: Rc<Cell<Now>>,
    /// Up to when the session's deadlines were met.
    met: Now,
    /// Octets sent that the session did not take yet.
    input: Vec<u8>,
    pub(super) received: Reassembly,
    /// Octets that came, if frames are not to be made of them.
    pub(super) octets: Option<Vec<u8>>,
    /// The channel that shorthands use.
    pub(super) channel: u16,
    pub(super) frame_max: u32,
    is_reading: bool,
}

impl Client {
    pub(super) fn new(
        broker: Arc<Broker>,
        settings: Arc<SessionSettings>,
        clock: Rc<Cell<Now>>,
        peer: SocketAddr,
    ) -> Self {
        let (sender, events) = mpsc::channel();
        let link = Arc::new(Link(parking_lot::Mutex::new(sender)));
        let inbox = Inbox::new(INBOX_BYTES_MAX);
        let executor = ConnectionExecutor::new(
            Arc::clone(&broker),
            ConnectionOrigin {
                peer,
                local: ([127, 0, 0, 1], 5672).into(),
                replies: Arc::clone(&link) as _,
                control: link,
                inbox: Arc::clone(&inbox),
            },
        );
        let now = clock.get();
        let mut session = Session::new(settings, now);
        if let Some(reason) = broker.alarms().reason() {
            session.handle_alarm(now, Some(reason));
        }
        Self {
            broker,
            session,
            executor,
            inbox,
            events,
            clock,
            met: now,
            input: Vec::new(),
            received: Reassembly::default(),
            octets: None,
            channel: 1,
            frame_max: 131_072,
            is_reading: true,
        }
    }

    /// Speaks on another channel from now on.
    pub fn on(&mut self, channel: u16) -> &mut Self {
        self.channel = channel;
        self
    }

    /// Sends a method on the present channel, or on channel 0 if its class is connection.
    pub fn send<'a>(&mut self, method: impl Into<Method<'a>>) {
        let method = method.into();
        let channel = if method.class_id() == 10 {
            0
        } else {
            self.channel
        };
        let mut octets = Vec::new();
        frame::write_method(&mut octets, channel, &method);
        self.send_octets(&octets);
    }

    /// Sends a method and the content behind it, in one burst.
    pub fn send_content<'a>(
        &mut self,
        method: impl Into<Method<'a>>,
        properties: &Properties,
        body: &[u8],
    ) {
        let mut octets = Vec::new();
        frame::write_method(&mut octets, self.channel, &method.into());
        let properties = properties.to_encoded();
        frame::write_content(&mut octets, self.channel, &properties, body, self.frame_max);
        self.send_octets(&octets);
    }

    /// Sends octets, as a burst of their own.
    pub fn send_octets(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        self.turn();
    }

    /// Cuts what it publishes into frames of this size.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = frame_max;
    }

    /// Keeps what comes from now on as octets.
    pub fn receive_octets(&mut self) {
        self.octets = Some(Vec::new());
    }

    /// The octets that came since then.
    pub fn octets_received(&mut self) -> Vec<u8> {
        self.turn();
        self.octets.take().unwrap_or_default()
    }

    /// Takes nothing from the socket until [`Client::read_again`].
    pub fn stop_reading(&mut self) {
        self.is_reading = false;
    }

    /// Takes what waits in the socket.
    pub fn read_again(&mut self) {
        self.is_reading = true;
        self.turn();
    }

    /// The socket is gone, without a word.
    pub fn hang_up(mut self) {
        self.session.terminate(&mut self.executor);
        self.session.report(&mut self.executor);
    }

    /// The next thing that came, whatever it is.
    pub fn receive(&mut self) -> Option<Received> {
        self.turn();
        self.received.whole.pop_front()
    }

    /// Why the server has nothing more to say, in words for its log; `None` while it has.
    pub fn ended(&mut self) -> Option<String> {
        self.turn();
        self.session.ended().map(ToString::to_string)
    }

    /// The connection's state in the words of the HTTP API.
    pub fn state(&mut self) -> &'static str {
        self.turn();
        self.session.state_name()
    }

    /// Whether the server reads from this client's socket.
    pub fn is_read(&mut self) -> bool {
        self.turn();
        self.session.wants_input()
    }

    /// Everything that the server's side of the connection can do now.
    pub(super) fn turn(&mut self) {
        self.meet_deadlines();
        loop {
            let now = self.clock.get();
            self.executor.begin_burst(now);
            while let Ok(event) = self.events.try_recv() {
                self.handle_event(now, event);
            }
            let taken = self
                .session
                .handle_bytes(now, &self.input, &mut self.executor);
            self.input.drain(..taken);
            self.session.end_burst(now, &mut self.executor);
            self.await_store(now);
            if self.is_reading {
                self.drain_inbox(now);
                self.read();
            }
            self.session.report(&mut self.executor);
            if !self.session.channels().any(|channel| channel.is_waiting) {
                break;
            }
            // The answer to a basic.get that was read from the disk is in the inbox.
            if self
                .inbox
                .poll_ready(&mut Context::from_waker(Waker::noop()))
                .is_pending()
            {
                let event = self.events.recv_timeout(STORE_TIME_MAX).unwrap();
                self.handle_event(now, event);
            }
        }
    }

    /// Waits for what the disk owes this broker: messages to be read, publishes to be synced, or only written if they go to
    /// relaxed queues; nothing is synced for the sake of a test.
    fn await_store(&mut self, now: Now) {
        if self.broker.has_loads() {
            // A journal that failed has told those who wait.
            let _ = self.broker.settle();
        }
        let mut has_news = self.executor.poll_synced(Waker::noop());
        while self.executor.has_unsynced() {
            std::thread::yield_now();
            has_news |= self.executor.poll_synced(Waker::noop());
        }
        if has_news {
            self.session.end_burst(now, &mut self.executor);
        }
    }

    fn handle_event(&mut self, now: Now, event: LinkEvent) {
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
                    .handle_alarm(now, self.broker.alarms().reason());
            }
        }
    }

    /// Calls the session at each of its deadlines that has come, in order and at their times.
    fn meet_deadlines(&mut self) {
        let end = self.clock.get();
        while let Some(at) = self.session.poll_timeout()
            && at <= end.monotonic
        {
            self.met = self
                .met
                .after(at.saturating_duration_since(self.met.monotonic));
            self.executor.begin_burst(self.met);
            self.session.handle_timeout(self.met, &mut self.executor);
            self.session.end_burst(self.met, &mut self.executor);
            if self.is_reading {
                self.read();
            }
        }
        self.met = end;
    }

    fn drain_inbox(&mut self, now: Now) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.inbox.poll_ready(&mut cx).is_ready() {
            let mut events = Vec::new();
            let bytes = self.inbox.drain(&mut events);
            for event in events {
                match event {
                    InboxEvent::Deliver(delivery) => {
                        if let Err(delivery) = self.session.handle_delivery(now, delivery) {
                            self.give_back(&delivery);
                        }
                    }
                    InboxEvent::Got { channel, got, .. } => {
                        let reply = Ok(Reply::Got(got));
                        let is_awaited =
                            self.session
                                .handle_reply(now, channel, reply, &mut self.executor);
                        assert!(is_awaited);
                    }
                    InboxEvent::ConsumerCancelled { channel, consumer } => {
                        self.session.handle_consumer_cancelled(channel, consumer);
                    }
                    InboxEvent::ConsumerTimedOut {
                        channel,
                        consumer,
                        timeout_ms,
                    } => {
                        self.session.handle_consumer_timed_out(
                            now,
                            channel,
                            consumer,
                            timeout_ms,
                            &mut self.executor,
                        );
                    }
                }
            }
            self.inbox.release(bytes);
            self.executor.wake_refused();
            self.executor.flush();
        }
    }

    fn give_back(&mut self, delivery: &Delivery) {
        if let (Some(queue), false) = (delivery.queue, delivery.no_ack) {
            let settlement = Settlement {
                delivery: Unsettled {
                    queue,
                    position: delivery.position,
                    consumer: Some(delivery.consumer),
                },
                outcome: SettlementOutcome::ReturnedByLoss,
            };
            self.executor.settle(delivery.channel, settlement);
        }
    }

    fn read(&mut self) {
        let sent = self.session.output().as_slice().to_vec();
        self.session.output().advance(sent.len());
        match &mut self.octets {
            Some(octets) => octets.extend_from_slice(&sent),
            None => self.received.take(&sent),
        }
    }
}

impl Drop for Client {
    /// A client that goes out of a test's sight hangs up.
    fn drop(&mut self) {
        self.session.terminate(&mut self.executor);
    }
}
