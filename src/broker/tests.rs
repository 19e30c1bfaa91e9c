//! A broker on a folder of its own and executors without sessions: what only many commands, or another
//! connection's, bring to light.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

use super::registry::ConnectionControl;
use super::*;
use crate::auth::AuthSettings;
use crate::broker::executor::{ConnectionOrigin, ReplySink};
use crate::model::{
    Body, ChannelNumber, Command, Execution, Executor as _, InboxEvent, Outlet as _, Publish,
    Refusal, Reply, Routing,
};
use crate::protocol::{FieldTable, PropertyFacts};
use crate::queue::{Inbox, QueueKind};
use crate::store::journal::JournalOptions;
use crate::store::probe::Probe;
use crate::store::{Options, definitions};

pub(super) struct Node {
    pub(super) broker: Arc<Broker>,
    folder: tempfile::TempDir,
}

fn store_options() -> Options {
    Options {
        definitions: definitions::Options {
            probe: Probe::InProcess,
            ..definitions::Options::default()
        },
        journal: JournalOptions {
            file_bytes: 1024 * 1024,
            ..JournalOptions::default()
        },
        ..Options::default()
    }
}

fn open(folder: &tempfile::TempDir) -> Arc<Broker> {
    let store = Store::open(&folder.path().join("data"), store_options()).unwrap();
    let settings = BrokerSettings {
        connections_max: None,
        queues_max: None,
        exchanges_max: None,
        permit_transient_queues: true,
        default_queue_kind: QueueKind::Classic,
        default_consumer_prefetch: None,
        cache_bytes_max: 32 * 1024 * 1024,
        stats_bytes_max: 64 * 1024 * 1024,
    };
    let first_boot = FirstBoot {
        user: "guest".to_owned(),
        password: "guest".to_owned(),
        tags: Vec::new(),
        vhost: "/".to_owned(),
        configure: ".*".to_owned(),
        write: ".*".to_owned(),
        read: ".*".to_owned(),
    };
    let directory = Arc::new(Directory::new(AuthSettings::default()));
    let (broker, report) = Broker::start(settings, directory, store, &first_boot, None).unwrap();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    broker
}

impl Node {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        Self {
            broker: open(&folder),
            folder,
        }
    }

    /// Stops, and starts on what was stored; nothing that is stored may be of no use.
    pub(super) fn restart(self) -> Self {
        self.broker.close().unwrap();
        drop(self.broker);
        Self {
            broker: open(&self.folder),
            folder: self.folder,
        }
    }

    pub(super) fn connect(&self) -> Client {
        let (sender, replies) = mpsc::channel();
        let link = Arc::new(Link(Mutex::new(sender)));
        let inbox = Inbox::new(1 << 20);
        let executor = ConnectionExecutor::new(
            Arc::clone(&self.broker),
            ConnectionOrigin {
                peer: ([127, 0, 0, 1], 50_000).into(),
                local: ([127, 0, 0, 1], 5672).into(),
                replies: Arc::clone(&link) as _,
                control: link,
                inbox: Arc::clone(&inbox),
            },
        );
        let mut client = Client {
            executor,
            inbox,
            replies,
        };
        client.run(
            0,
            Command::Authenticate {
                mechanism: "PLAIN".to_owned(),
                response: b"\0guest\0guest"[..].into(),
                client_properties: FieldTable::new(),
            },
        );
        client.run(
            0,
            Command::OpenVhost {
                vhost: "/".to_owned(),
            },
        );
        client.run(1, Command::OpenChannel);
        client
    }
}

#[derive(Debug)]
struct Link(Mutex<mpsc::Sender<Result<Reply, Refusal>>>);

impl ReplySink for Link {
    fn reply(&self, _channel: ChannelNumber, reply: Result<Reply, Refusal>) {
        let _ = self.0.lock().send(reply);
    }
}

impl ConnectionControl for Link {
    fn close(&self, _refusal: Refusal) {}

    fn alarm_changed(&self) {}
}

/// A connection with channel 1 open.
pub(super) struct Client {
    pub(super) executor: ConnectionExecutor,
    pub(super) inbox: Arc<Inbox>,
    replies: mpsc::Receiver<Result<Reply, Refusal>>,
}

impl Client {
    pub(super) fn try_run(
        &mut self,
        channel: ChannelNumber,
        command: Command,
    ) -> Result<Reply, Refusal> {
        match self.executor.execute(channel, command) {
            Execution::Done(reply) => reply,
            Execution::Later => self.replies.recv_timeout(Duration::from_secs(20)).unwrap(),
        }
    }

    pub(super) fn run(&mut self, channel: ChannelNumber, command: Command) -> Reply {
        self.try_run(channel, command).unwrap()
    }

    pub(super) fn declare_exchange(&mut self, name: &str, durable: bool, auto_delete: bool) {
        self.run(
            1,
            Command::DeclareExchange {
                name: name.to_owned(),
                kind: "fanout".to_owned(),
                passive: false,
                durable,
                auto_delete,
                internal: false,
                arguments: FieldTable::new(),
            },
        );
    }

    pub(super) fn declare(&mut self, name: &str, change: impl FnOnce(&mut QueueFlags)) {
        let mut flags = QueueFlags::default();
        change(&mut flags);
        self.run(
            1,
            Command::DeclareQueue {
                name: name.to_owned(),
                passive: false,
                durable: flags.durable,
                exclusive: flags.exclusive,
                auto_delete: flags.auto_delete,
                arguments: flags.arguments,
            },
        );
    }

    pub(super) fn delete(&mut self, queue: &str) {
        self.run(
            1,
            Command::DeleteQueue {
                name: queue.to_owned(),
                if_unused: false,
                if_empty: false,
            },
        );
    }

    pub(super) fn delete_exchange(&mut self, name: &str) {
        self.run(
            1,
            Command::DeleteExchange {
                name: name.to_owned(),
                if_unused: false,
            },
        );
    }

    pub(super) fn bind(&mut self, queue: &str, exchange: &str) {
        self.run(1, bind_command(queue, exchange));
    }

    pub(super) fn bind_exchange(&mut self, destination: &str, source: &str) {
        self.run(
            1,
            Command::BindExchange {
                destination: destination.to_owned(),
                source: source.to_owned(),
                routing_key: String::new(),
                arguments: FieldTable::new(),
            },
        );
    }

    pub(super) fn consume(&mut self, channel: ChannelNumber, queue: &str) -> ConsumerId {
        let command = Command::Consume {
            queue: queue.to_owned(),
            consumer_tag: String::new(),
            no_ack: false,
            exclusive: false,
            arguments: FieldTable::new(),
        };
        match self.run(channel, command) {
            Reply::Consuming { consumer, .. } => consumer,
            other => panic!("{other:?}"),
        }
    }

    /// What waits in the inbox, as the connection's task takes it.
    pub(super) fn take_events(&mut self) -> Vec<InboxEvent> {
        let mut events = Vec::new();
        let bytes = self.inbox.drain(&mut events);
        for event in &events {
            if let InboxEvent::ConsumerCancelled { channel, consumer } = event {
                self.executor.forget_consumer(*channel, *consumer);
            }
        }
        self.inbox.release(bytes);
        self.executor.wake_refused();
        events
    }

    pub(super) fn publish(&mut self, exchange: &str, routing_key: &str) -> Routing {
        let publish = Publish {
            exchange: exchange.as_bytes(),
            routing_key: routing_key.as_bytes(),
            mandatory: false,
            properties: &[0, 0],
            facts: PropertyFacts::default(),
            body: Body::Borrowed(b"body"),
            confirm: None,
        };
        self.executor.publish(1, publish).unwrap()
    }
}

fn get_command(queue: &str) -> Command {
    Command::Get {
        queue: queue.to_owned(),
        no_ack: false,
    }
}

fn bind_command(queue: &str, exchange: &str) -> Command {
    Command::BindQueue {
        queue: queue.to_owned(),
        exchange: exchange.to_owned(),
        routing_key: String::new(),
        arguments: FieldTable::new(),
    }
}

#[derive(Default)]
pub(super) struct QueueFlags {
    pub(super) durable: bool,
    pub(super) exclusive: bool,
    pub(super) auto_delete: bool,
    pub(super) arguments: FieldTable,
}

#[test]
fn a_long_chain_of_auto_delete_exchanges_goes_without_a_deep_stack() {
    const LENGTH: usize = 20_000;
    let node = Node::start();
    let mut client = node.connect();
    client.declare("q", |_| {});
    for number in 0..LENGTH {
        client.declare_exchange(&format!("x{number}"), false, true);
        match number {
            0 => client.bind("q", "x0"),
            _ => client.bind_exchange(&format!("x{}", number - 1), &format!("x{number}")),
        }
    }
    let before = node.broker.exchange_count();
    client.delete("q");
    assert_eq!(node.broker.exchange_count(), before - LENGTH as u64);
}

#[test]
fn an_exchange_bound_to_itself_leaves_no_binding_behind() {
    let node = Node::start();
    let mut client = node.connect();
    client.declare_exchange("x", true, false);
    client.bind_exchange("x", "x");
    client.delete_exchange("x");
    drop(client);
    // Had the binding stayed in the store, the start would report it.
    let node = node.restart();
    assert!(node.broker.vhost("/").unwrap().exchange_cell("x").is_none());
}

/// What one connection declares, another deletes as soon as it sees it: nothing comes back after a restart.
#[test]
fn the_store_hears_of_changes_in_the_order_in_which_they_were_made() {
    const QUEUES: usize = 500;
    let node = Node::start();
    let vhost = node.broker.vhost("/").unwrap();
    let (mut one, mut other) = (node.connect(), node.connect());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..QUEUES {
                while vhost.queue_handle(&format!("q{number}")).is_none() {
                    std::hint::spin_loop();
                }
                other.delete(&format!("q{number}"));
            }
        });
        for number in 0..QUEUES {
            let name = format!("q{number}");
            one.declare(&name, |flags| flags.durable = true);
            // The queue may be gone by now.
            let _ = one.try_run(1, bind_command(&name, "amq.fanout"));
        }
    });
    assert_eq!(node.broker.queue_count(), 0);
    drop((one, other, vhost));
    let node = node.restart();
    assert_eq!(node.broker.queue_count(), 0);
}

/// What is there already may not be on the disk yet: whoever is told that it exists is told after that.
#[test]
fn a_second_declare_is_answered_after_the_first_is_stored() {
    let node = Node::start();
    let (mut one, mut other) = (node.connect(), node.connect());
    for number in 0..50 {
        let declare = || Command::DeclareQueue {
            name: format!("q{number}"),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
        };
        assert!(matches!(
            one.executor.execute(1, declare()),
            Execution::Later
        ));
        other.run(1, declare());
        assert!(one.replies.try_recv().is_ok());
    }
}

/// Nothing ends the burst here: what a wide exchange multiplies is handed over on the way.
#[test]
fn a_burst_to_many_queues_is_handed_over_before_it_is_large() {
    let node = Node::start();
    let mut client = node.connect();
    client.declare_exchange("x", false, false);
    for number in 0..100 {
        let name = format!("q{number}");
        client.declare(&name, |_| {});
        client.bind(&name, "x");
    }
    for _ in 0..1000 {
        assert_eq!(client.publish("x", "k"), Routing::Routed);
    }
    assert!(node.broker.message_count() >= 100 * 1000 - 16 * 1024);
    client.executor.flush();
    assert_eq!(node.broker.message_count(), 100 * 1000);
}

/// As a client that makes a queue for the answer to each of its requests.
#[test]
fn a_connection_does_not_remember_the_queues_that_it_deleted() {
    let node = Node::start();
    let mut client = node.connect();
    for number in 0..1000 {
        let name = format!("q{number}");
        client.declare(&name, |flags| flags.exclusive = true);
        client.consume(1, &name);
        client.delete(&name);
        client.take_events();
    }
    assert!(client.executor.remembered() < 100);
    assert_eq!(node.broker.queue_count(), 0);
    // Those that are there at the end go with the connection.
    client.declare("last", |flags| flags.exclusive = true);
    client.run(0, Command::CloseConnection);
    assert_eq!(node.broker.queue_count(), 0);
}

/// A connection that dies fails a delivery once, however many of its channels consume from the queue.
#[test]
fn what_a_dying_connection_gives_back_does_not_pass_through_its_other_channels() {
    let node = Node::start();
    let mut client = node.connect();
    let arguments = [("x-queue-type", crate::protocol::Value::from("quorum"))]
        .into_iter()
        .collect();
    client.declare("q", |flags| {
        flags.durable = true;
        flags.arguments = arguments;
    });
    for channel in 2..=50 {
        client.run(channel, Command::OpenChannel);
        client.consume(channel, "q");
    }
    client.publish("", "q");
    client.executor.flush();
    client.executor.prepare_end();
    for channel in 1..=50 {
        let unsettled = Vec::new();
        client.run(channel, Command::CloseChannel { unsettled });
    }
    client.run(0, Command::CloseConnection);
    let mut other = node.connect();
    let got = match other.run(1, get_command("q")) {
        Reply::Got(Some(got)) => got,
        reply => panic!("{reply:?}"),
    };
    assert_eq!(got.counts.unwrap().delivery, 1);
}

/// A place that was given back while nobody was told leaves no consumer parked for ever.
#[test]
fn a_consumer_parked_on_a_window_goes_on_with_those_who_found_the_inbox_full() {
    let node = Node::start();
    let mut client = node.connect();
    for queue in ["a", "b"] {
        client.declare(queue, |_| {});
    }
    client.run(
        1,
        Command::Qos {
            prefetch_count: 1,
            global: true,
        },
    );
    let consumer = client.consume(1, "a");
    client.consume(1, "b");
    // Another thread holds the only place and finds the inbox full.
    let window = client.executor.window_of(1);
    assert!(window.try_reserve());
    client.publish("", "b");
    client.executor.flush();
    assert!(window.has_parked());
    let inbox = Arc::clone(&client.inbox);
    assert!(inbox.try_reserve_or_drop(1 << 20));
    let queue = node.broker.vhost("/").unwrap().queue_handle("a").unwrap();
    assert!(!inbox.try_reserve(consumer, queue.id(), 1));
    window.release();
    inbox.release(1 << 20);
    client.executor.wake_refused();
    assert_eq!(client.take_events().len(), 1);
}

#[test]
fn routes_to_many_queues_are_not_remembered_for_every_key() {
    const QUEUES: usize = 200;
    let node = Node::start();
    let mut client = node.connect();
    client.declare_exchange("x", false, false);
    for number in 0..QUEUES {
        let name = format!("q{number}");
        client.declare(&name, |_| {});
        client.bind(&name, "x");
    }
    for number in 0..500 {
        client.publish("x", &number.to_string());
        assert!(client.executor.route_count() * QUEUES <= 16 * 1024);
    }
    client.executor.flush();
    assert_eq!(node.broker.message_count(), 500 * QUEUES as u64);
    assert!(client.executor.route_count() > 0);
    client.executor.release_buffers();
    assert_eq!(client.executor.route_count(), 0);
}
