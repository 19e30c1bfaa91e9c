//! A broker in this process with AMQP and HTTP listeners, on a data folder of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use haremq::auth::Directory;
use haremq::broker::Broker;
use haremq::broker::stats::NodeReading;
use haremq::config::Settings;
use haremq::http;
use haremq::server::{self, ConnectionShared, TaskLimits};
use haremq::store::probe::Probe;
use haremq::store::{Options, Store, definitions};
use lapin::{Connection, ConnectionProperties};
use parking_lot::RwLock;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::Client;

/// The node's name in every test.
pub const NAME: &str = "haremq@test";

/// One running node.
pub struct Node {
    pub broker: Arc<Broker>,
    /// Where HTTP is served.
    pub address: SocketAddr,
    /// Where AMQP is served.
    pub amqp: SocketAddr,
    runtime: Runtime,
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Node {
    /// A node with the defaults.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// A node with other settings.
    pub fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::defaults();
        settings.node.name = NAME.to_owned();
        settings.node.cluster_name = NAME.to_owned();
        change(&mut settings);
        Self::open(tempfile::tempdir().unwrap(), settings)
    }

    fn open(folder: tempfile::TempDir, settings: Settings) -> Self {
        let options = Options {
            definitions: definitions::Options {
                probe: Probe::InProcess,
                ..definitions::Options::default()
            },
            ..Options::default()
        };
        let store = Store::open(&folder.path().join("data"), options).unwrap();
        let (broker, _) = Broker::start(
            server::broker_settings(&settings),
            Arc::new(Directory::new(server::auth_settings(&settings))),
            store,
            &server::first_boot(&settings),
            None,
        )
        .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (listener, amqp_listener) = (bind(), bind());
        let address = listener.local_addr().unwrap();
        let amqp = amqp_listener.local_addr().unwrap();
        let shared = ConnectionShared {
            broker: Arc::clone(&broker),
            session: Arc::new(server::session_settings(&settings)),
            limits: TaskLimits {
                burst_bytes_max: settings.limits.burst_bytes_max,
                output_bytes_max: settings.limits.output_bytes_max,
                inbox_bytes_max: settings.limits.inbox_bytes_max,
            },
        };
        runtime.spawn(server::accept(amqp_listener, Arc::new(RwLock::new(shared))));
        let state = http::State::new(
            Arc::clone(&broker),
            server::http_settings(&settings, &[amqp], &[address], &[]),
        )
        .unwrap();
        runtime.spawn(http::serve(listener, state));
        Self {
            broker,
            address,
            amqp,
            runtime,
            folder,
            settings,
        }
    }

    /// Runs what a client of AMQP does.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A connection of a user with the password `pw`, or of guest.
    pub fn connect(&self, user: &str) -> Connection {
        let password = if user == "guest" { user } else { "pw" };
        let uri = format!("amqp://{user}:{password}@{}/%2f", self.amqp);
        let properties = ConnectionProperties::default().with_connection_name("tester".into());
        self.block_on(Connection::connect(&uri, properties))
            .unwrap()
    }

    /// Counts what happened since the last time, as the node does every few seconds.
    pub fn sample(&self) {
        let reading = NodeReading {
            memory_used_bytes: 1 << 20,
            memory_limit_bytes: 1 << 30,
            disk_free_bytes: 1 << 40,
            disk_limit_bytes: 1 << 20,
            files: 10,
            files_max: u64::MAX,
            tasks: 10,
        };
        self.broker.sample(self.broker.clock().now(), reading);
    }

    /// Stops the node and starts it on the same folder.
    pub fn restart(self) -> Self {
        let Self {
            broker,
            runtime,
            folder,
            settings,
            ..
        } = self;
        runtime.shutdown_background();
        broker.close().unwrap();
        drop(broker);
        Self::open(folder, settings)
    }

    /// A user with the password `pw`, and permissions (configure, write, read) in `/` if any.
    pub fn put_user(&self, name: &str, tags: &[&str], permissions: Option<[&str; 3]>) {
        let guest = self.guest();
        guest
            .put(
                &format!("/api/users/{name}"),
                json!({"password": "pw", "tags": tags}),
            )
            .expect(201);
        if let Some([configure, write, read]) = permissions {
            let body = json!({"configure": configure, "write": write, "read": read});
            guest
                .put(&format!("/api/permissions/%2F/{name}"), body)
                .expect(201);
        }
    }

    /// A client who is guest.
    pub fn guest(&self) -> Client {
        self.client("guest:guest")
    }

    /// A client with these credentials.
    pub fn client(&self, login: &str) -> Client {
        Client::new(self.address, Some(login))
    }

    /// A client without credentials.
    pub fn nobody(&self) -> Client {
        Client::new(self.address, None)
    }
}
