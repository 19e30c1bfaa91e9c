//! The connection's task over a real socket: what the session alone cannot show.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::connection::{ConnectionShared, TaskLimits, serve};
use super::{auth_settings, broker_settings, first_boot, session_settings};
use crate::auth::Directory;
use crate::broker::Broker;
use crate::config::Settings;
use crate::protocol::{
    FieldTable, FrameKind, Method, ShortStr, basic, channel, connection, frame, queue,
};
use crate::store::journal::JournalOptions;
use crate::store::probe::Probe;
use crate::store::{Options, Store, definitions};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    broker: Arc<Broker>,
    address: SocketAddr,
    _runtime: Runtime,
    _folder: tempfile::TempDir,
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

fn node(change: impl FnOnce(&mut Settings)) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::defaults();
    change(&mut settings);
    let store = Store::open(&folder.path().join("data"), store_options()).unwrap();
    let (broker, _) = Broker::start(
        broker_settings(&settings),
        Arc::new(Directory::new(auth_settings(&settings))),
        store,
        &first_boot(&settings),
        None,
    )
    .unwrap();
    let shared = ConnectionShared {
        broker: Arc::clone(&broker),
        session: Arc::new(session_settings(&settings)),
        limits: TaskLimits {
            burst_bytes_max: settings.limits.burst_bytes_max,
            output_bytes_max: settings.limits.output_bytes_max,
            inbox_bytes_max: settings.limits.inbox_bytes_max,
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(serve(stream, peer, shared.clone()));
        }
    });
    Node {
        broker,
        address,
        _runtime: runtime,
        _folder: folder,
    }
}

fn name(text: &str) -> ShortStr<'_> {
    ShortStr::truncated(text)
}

/// A client that writes what it is told in one piece.
struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Client {
    /// A guest with channels 1 and 2 open.
    fn connect(node: &Node) -> Self {
        let stream = TcpStream::connect(node.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut client = Self {
            stream,
            out: b"AMQP\0\0\x09\x01".to_vec(),
            input: Vec::new(),
        };
        let nothing = FieldTable::new().to_encoded();
        client.send(
            0,
            &Method::ConnectionStartOk(connection::StartOk {
                client_properties: nothing.as_table(),
                mechanism: name("PLAIN"),
                response: b"\0guest\0guest",
                locale: name("en_US"),
            }),
        );
        client.flush();
        client.await_method(|method| matches!(method, Method::ConnectionTune(_)));
        client.send(
            0,
            &Method::ConnectionTuneOk(connection::TuneOk {
                channel_max: 100,
                frame_max: 131_072,
                heartbeat: 0,
            }),
        );
        client.send(
            0,
            &Method::ConnectionOpen(connection::Open {
                virtual_host: name("/"),
            }),
        );
        for number in [1, 2] {
            client.send(number, &Method::ChannelOpen(channel::Open));
        }
        client.flush();
        for _ in [1, 2] {
            client.await_method(|method| matches!(method, Method::ChannelOpenOk(_)));
        }
        client
    }

    fn send(&mut self, channel: u16, method: &Method<'_>) {
        frame::write_method(&mut self.out, channel, method);
    }

    fn declare(&mut self, channel: u16, queue: &str, no_wait: bool) {
        let nothing = FieldTable::new().to_encoded();
        self.send(
            channel,
            &Method::QueueDeclare(queue::Declare {
                queue: name(queue),
                passive: false,
                durable: false,
                exclusive: true,
                auto_delete: false,
                no_wait,
                arguments: nothing.as_table(),
            }),
        );
    }

    fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_wait: bool) {
        let nothing = FieldTable::new().to_encoded();
        self.send(
            channel,
            &Method::BasicConsume(basic::Consume {
                queue: name(queue),
                consumer_tag: name(tag),
                no_local: false,
                no_ack: true,
                exclusive: false,
                no_wait,
                arguments: nothing.as_table(),
            }),
        );
    }

    fn publish(&mut self, channel: u16, queue: &str, body: &[u8]) {
        self.send(
            channel,
            &Method::BasicPublish(basic::Publish {
                exchange: name(""),
                routing_key: name(queue),
                mandatory: false,
                immediate: false,
            }),
        );
        frame::write_content(&mut self.out, channel, &[0, 0], body, 131_072);
    }

    fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).unwrap();
    }

    /// Reads until a method is `wanted`; what comes before it is dropped.
    fn await_method(&mut self, wanted: impl Fn(&Method<'_>) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut at = 0;
            let mut is_found = false;
            while let Ok(Some((found, octets))) = frame::parse(&self.input[at..], u32::MAX) {
                at += octets;
                if found.kind == FrameKind::Method && wanted(&Method::parse(found.payload).unwrap())
                {
                    is_found = true;
                    break;
                }
            }
            self.input.drain(..at);
            if is_found {
                return;
            }
            assert!(Instant::now() < end, "it never came");
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the broker hung up"),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                ),
            }
        }
    }

    fn await_deliveries(&mut self, consumer_tag: &str, count: usize) {
        for _ in 0..count {
            self.await_method(|method| {
                matches!(method, Method::BasicDeliver(deliver)
                    if deliver.consumer_tag.as_bytes() == consumer_tag.as_bytes())
            });
        }
    }
}

/// The cancelled consumer's deliveries filled the inbox and leave it with cancel-ok, so that no event is left to
/// bring the other consumer back.
#[test]
fn a_consumer_that_found_the_inbox_full_goes_on_when_the_other_is_cancelled() {
    let node = node(|settings| settings.limits.inbox_bytes_max = 4096);
    let mut client = Client::connect(&node);
    for queue in ["a", "b"] {
        client.declare(1, queue, false);
        client.flush();
        client.await_method(|method| matches!(method, Method::QueueDeclareOk(_)));
        for _ in 0..20 {
            client.publish(1, queue, &[0; 600]);
        }
    }
    client.consume(1, "a", "a", false);
    client.consume(2, "b", "b", false);
    client.send(
        1,
        &Method::BasicCancel(basic::Cancel {
            consumer_tag: name("a"),
            no_wait: false,
        }),
    );
    client.flush();
    client.await_method(|method| matches!(method, Method::BasicCancelOk(_)));
    client.await_deliveries("b", 20);
    assert_eq!(node.broker.registry().connection_count(), 1);
}

/// A client that reads nothing could let consumers come and go for ever without an answer.
#[test]
fn who_reads_nothing_is_not_read_while_ends_of_its_consumers_pile_up() {
    const MEBIBYTE: usize = 1 << 20;
    let node = node(|settings| settings.limits.output_bytes_max = 64 * 1024);
    let mut client = Client::connect(&node);
    client.declare(1, "backlog", true);
    for _ in 0..300 {
        client.publish(1, "backlog", &[0; 100_000]);
    }
    client.consume(2, "backlog", "", true);
    client.flush();
    for number in 0..1000 {
        let queue = format!("q{number}");
        client.declare(1, &queue, true);
        client.consume(1, &queue, "", true);
        client.send(
            1,
            &Method::QueueDelete(queue::Delete {
                queue: name(&queue),
                if_unused: false,
                if_empty: false,
                no_wait: true,
            }),
        );
    }
    let rounds = std::mem::take(&mut client.out);
    client
        .stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let is_stopped =
        (0..24 * MEBIBYTE / rounds.len()).any(|_| client.stream.write_all(&rounds).is_err());
    assert!(is_stopped, "everything was read");
}
