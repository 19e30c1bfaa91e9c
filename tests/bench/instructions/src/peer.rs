//! A connection without a socket: what `server/connection.rs` does around one, on this thread, until there is nothing to do.
//!
//! In: octets of a client. Out: how many deliveries went to it; the octets of the answers are dropped. What the scenarios
//! mean is not known here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use haremq::auth::Directory;
use haremq::broker::registry::ConnectionControl;
use haremq::broker::{Broker, ConnectionExecutor, ConnectionOrigin, ReplySink};
use haremq::config::Settings;
use haremq::model::{ChannelNumber, Executor as _, InboxEvent, Refusal, Reply};
use haremq::queue::Inbox;
use haremq::server;
use haremq::session::{Session, SessionSettings};
use haremq::store::probe::Probe;
use haremq::store::{Options, Store, definitions};

use crate::octets;

/// Bytes of deliveries that wait for a peer, as the server's default.
const INBOX_BYTES_MAX: usize = 1 << 20;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running broker.
pub struct Node {
    broker: Arc<Broker>,
    session: Arc<SessionSettings>,
}

impl Node {
    /// A broker with the defaults, on an empty folder.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &Settings::defaults())
    }

    /// A broker that keeps no body in memory that it can read again.
    pub fn start_without_cache(folder: &Path) -> Self {
        let mut settings = Settings::defaults();
        settings.store.cache_bytes_max = 1;
        Self::start_with(folder, &settings)
    }

    fn start_with(folder: &Path, settings: &Settings) -> Self {
        let options = Options {
            definitions: definitions::Options {
                probe: Probe::InProcess,
                // Once, at the end: how often it happens before is a matter of time.
                apply_debounce: PATIENCE,
                export_debounce: PATIENCE,
                ..definitions::Options::default()
            },
            ..Options::default()
        };
        let store = Store::open(folder, options).expect("a data folder");
        let directory = Arc::new(Directory::new(server::auth_settings(settings)));
        let first_boot = server::first_boot(settings);
        let broker_settings = server::broker_settings(settings);
        let (broker, _) = Broker::start(broker_settings, directory, store, &first_boot, None)
            .expect("a broker on an empty folder");
        Self {
            broker,
            session: Arc::new(server::session_settings(settings)),
        }
    }

    /// An open connection with an open channel.
    pub fn peer(&self) -> Peer {
        let mut peer = Peer::new(self);
        peer.call(octets::PROTOCOL_HEADER);
        peer.call(&octets::start_ok());
        peer.call(&octets::tune_ok_and_open());
        peer.call(&octets::channel_open());
        assert_eq!(peer.session.channel_count(), 1, "the channel is open");
        peer
    }

    /// Writes what is to be written.
    pub fn stop(self) {
        self.broker.close().expect("the last sync");
    }
}

/// Wakes the thread that waits for the broker's other threads.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Late answers.
struct Link {
    replies: Mutex<Sender<(ChannelNumber, Result<Reply, Refusal>)>>,
    waker: Waker,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl ReplySink for Link {
    fn reply(&self, channel: ChannelNumber, reply: Result<Reply, Refusal>) {
        let replies = self.replies.lock().expect("nothing panics under it");
        // A peer that has gone does not listen any more.
        let _ = replies.send((channel, reply));
        self.waker.wake_by_ref();
    }
}

impl ConnectionControl for Link {
    fn close(&self, refusal: Refusal) {
        panic!("the broker closes the connection: {refusal:?}");
    }

    fn alarm_changed(&self) {}
}

/// One connection.
pub struct Peer {
    broker: Arc<Broker>,
    session: Session,
    executor: ConnectionExecutor,
    inbox: Arc<Inbox>,
    replies: Receiver<(ChannelNumber, Result<Reply, Refusal>)>,
    waker: Waker,
    events: Vec<InboxEvent>,
    deliveries: u64,
}

impl Peer {
    /// A connection of which nothing has come yet.
    pub fn new(node: &Node) -> Self {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let (sender, replies) = mpsc::channel();
        let link = Arc::new(Link {
            replies: Mutex::new(sender),
            waker: waker.clone(),
        });
        let inbox = Inbox::new(INBOX_BYTES_MAX);
        let origin = ConnectionOrigin {
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)),
            replies: Arc::clone(&link) as _,
            control: link,
            inbox: Arc::clone(&inbox),
        };
        let executor = ConnectionExecutor::new(Arc::clone(&node.broker), origin);
        let now = node.broker.clock().now();
        Self {
            broker: Arc::clone(&node.broker),
            session: Session::new(Arc::clone(&node.session), now),
            executor,
            inbox,
            replies,
            waker,
            events: Vec::new(),
            deliveries: 0,
        }
    }

    /// Hands in a burst of whole frames.
    pub fn feed(&mut self, octets: &[u8]) {
        let now = self.broker.clock().now();
        self.executor.begin_burst(now);
        let taken = self.session.handle_bytes(now, octets, &mut self.executor);
        assert_eq!(taken, octets.len(), "the session takes what it is given");
        self.session.end_burst(now, &mut self.executor);
        self.turn();
    }

    /// Hands in methods, and waits until they are answered.
    pub fn call(&mut self, octets: &[u8]) {
        self.feed(octets);
        self.wait_until(|peer| !peer.session.channels().any(|channel| channel.is_waiting));
        if let Some((_, exception)) = self.session.poll_exception() {
            panic!("the broker refuses: {:?}", exception.refusal);
        }
    }

    /// Whether the session has ended.
    pub fn is_ended(&self) -> bool {
        self.session.ended().is_some()
    }

    /// Waits until nothing that was published waits for a sync.
    pub fn await_confirms(&mut self) {
        self.wait_until(|peer| !peer.executor.has_unsynced());
    }

    /// Waits until so many deliveries have come, all in all.
    pub fn await_deliveries(&mut self, count: u64) {
        self.wait_until(|peer| peer.deliveries >= count);
        assert_eq!(self.deliveries, count, "no delivery too many");
    }

    /// Waits for another thread of the broker until something holds.
    fn wait_until(&mut self, holds: impl Fn(&Self) -> bool) {
        let mut began = None;
        loop {
            self.turn();
            if holds(self) {
                return;
            }
            let began = *began.get_or_insert_with(Instant::now);
            assert!(began.elapsed() < PATIENCE, "the broker does not answer");
            // Woken by the journal, the loader or a reply; the time is for what wakes nobody.
            thread::park_timeout(Duration::from_secs(1));
        }
    }

    /// Everything that can be done now.
    fn turn(&mut self) {
        let now = self.broker.clock().now();
        while let Ok((channel, reply)) = self.replies.try_recv() {
            self.session
                .handle_reply(now, channel, reply, &mut self.executor);
            self.session.end_burst(now, &mut self.executor);
        }
        if self.executor.poll_synced(&self.waker) {
            self.session.end_burst(now, &mut self.executor);
        }
        let waker = self.waker.clone();
        let mut context = Context::from_waker(&waker);
        while self.inbox.poll_ready(&mut context).is_ready() {
            let mut events = std::mem::take(&mut self.events);
            let bytes = self.inbox.drain(&mut events);
            for event in events.drain(..) {
                let InboxEvent::Deliver(delivery) = event else {
                    panic!("nothing but deliveries is expected");
                };
                let is_taken = self.session.handle_delivery(now, delivery).is_ok();
                assert!(is_taken, "the consumer is there");
                self.deliveries += 1;
            }
            self.events = events;
            self.inbox.release(bytes);
            self.executor.wake_refused();
            self.executor.flush();
            self.write();
        }
        self.write();
    }

    /// As if the socket had taken it.
    fn write(&mut self) {
        let sent = self.session.output().len();
        self.session.output().advance(sent);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.session.terminate(&mut self.executor);
    }
}
