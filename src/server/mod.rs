//! The shell around the broker: sockets, signals, alarms, start and stop.
//!
//! In: settings. Out: a broker that serves until it is told to stop. It knows the broker, the session and
//! HTTP, and decides nothing of what messages mean.

mod alarms;
mod connection;
mod link;
mod listener;
mod memory;
mod sampling;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use connection::{ConnectionShared, TaskLimits};
pub use listener::{ListenError, accept};

use crate::auth::{AuthSettings, Directory, Mechanism};
use crate::broker::{Broker, BrokerSettings, FirstBoot, StartError};
use crate::config::{self, AlarmSettings, DefaultQueueType, Settings};
use crate::http::{HttpSettings, Listener, metrics};
use crate::model::Refusal;
use crate::protocol::{FieldTable, ReplyCode, Value};
use crate::queue::QueueKind;
use crate::session::SessionSettings;
use crate::store::StoreError;
use crate::store::journal::{JournalOptions, SyncMode};
use crate::store::{Options, Store};

/// How often the server looks whether all connections have gone while it stops.
const STOP_POLL: Duration = Duration::from_millis(20);
/// Looks between two times that connections are told to close while the server stops.
const STOP_POLLS_PER_REMINDER: u32 = 25;

/// Why the broker does not run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// An address is taken or missing.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data folder refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The definitions refuse.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operating system refuses something else.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        error: std::io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> ServerError {
    move |error| ServerError::System { what, error }
}

/// What SIGHUP asks for: settings read again, or nothing if they are wrong (which was logged).
pub type Reload = Box<dyn FnMut(&mut Settings) -> bool + Send>;

/// Runs the broker until SIGTERM or SIGINT.
///
/// `reload` is called at SIGHUP with the settings in use, changes those that can be changed, and says
/// whether it did.
///
/// # Errors
/// The data folder, the definitions or an address refuse; nothing was accepted then.
pub fn run(settings: Settings, reload: Reload) -> Result<(), ServerError> {
    let began = Instant::now();
    raise_open_files_limit();
    let store = Store::open(&settings.data_dir, store_options(&settings))?;
    if let Some(report) = store.definitions.recovery() {
        tracing::error!(target: "haremq::store", "the definitions were damaged and rebuilt: {report}");
    }
    tell_of_sync(&settings);
    let directory = Arc::new(Directory::new(auth_settings(&settings)));
    let (broker, report) = Broker::start(
        broker_settings(&settings),
        directory,
        store,
        &first_boot(&settings),
        settings.load_definitions.as_deref(),
    )?;
    for reason in &report.skipped {
        tracing::error!(target: "haremq::store", "a stored definition was passed over: {reason}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.worker_threads)
        .enable_all()
        .build()
        .map_err(system("cannot start worker threads"))?;
    tracing::info!(
        target: "haremq::server",
        vhosts = report.vhosts,
        exchanges = report.exchanges,
        queues = report.queues,
        bindings = report.bindings,
        "definitions loaded"
    );
    let server = Server::new(settings, broker);
    server.serve(&runtime, reload, began)
}

struct Server {
    settings: Settings,
    broker: Arc<Broker>,
    alarm_settings: Arc<RwLock<AlarmSettings>>,
    shared: Arc<RwLock<ConnectionShared>>,
}

impl Server {
    fn new(settings: Settings, broker: Arc<Broker>) -> Self {
        // Before the first connection, so that nobody publishes into an alarm that is on already.
        alarms::look(&broker, &settings.alarms, &settings.data_dir);
        let shared = ConnectionShared {
            broker: Arc::clone(&broker),
            session: Arc::new(session_settings(&settings)),
            limits: TaskLimits {
                burst_bytes_max: settings.limits.burst_bytes_max,
                output_bytes_max: settings.limits.output_bytes_max,
                inbox_bytes_max: settings.limits.inbox_bytes_max,
            },
        };
        Self {
            alarm_settings: Arc::new(RwLock::new(settings.alarms.clone())),
            settings,
            broker,
            shared: Arc::new(RwLock::new(shared)),
        }
    }

    fn serve(
        mut self,
        runtime: &Runtime,
        reload: Reload,
        began: Instant,
    ) -> Result<(), ServerError> {
        let listen = &self.settings.listen;
        let amqp = listener::bind_all("AMQP", &listen.amqp, listen.backlog)?;
        let http = listener::bind_all("HTTP", &listen.http, listen.backlog)?;
        let metrics = bind_metrics(listen)?;
        let metrics_at = addresses(&metrics);
        let (amqp_at, http_at) = (addresses(&amqp), addresses(&http));
        let guard = runtime.enter();
        let mut signals = Signals::new()?;
        let mut accepting = Vec::new();
        for listener in amqp {
            accepting.push(runtime.spawn(listener::accept(
                register(listener)?,
                Arc::clone(&self.shared),
            )));
        }
        let http_state = crate::http::State::new(
            Arc::clone(&self.broker),
            http_settings(&self.settings, &amqp_at, &http_at, &metrics_at),
        )
        .map_err(|error| system("cannot serve HTTP")(std::io::Error::other(error)))?;
        for listener in http {
            runtime.spawn(crate::http::serve(register(listener)?, http_state.clone()));
        }
        let broker = Arc::clone(&self.broker);
        runtime.spawn(async move { broker.run_timers().await });
        runtime.spawn(alarms::watch(
            Arc::clone(&self.broker),
            Arc::clone(&self.alarm_settings),
            self.settings.data_dir.clone(),
        ));
        runtime.spawn(sampling::watch(
            Arc::clone(&self.broker),
            Arc::clone(&self.alarm_settings),
            self.settings.data_dir.clone(),
        ));
        tracing::info!(target: "haremq::server", "metrics on {}", list(&metrics_at));
        let scraped = metrics::State::new(Arc::clone(&self.broker), self.names());
        for listener in metrics {
            runtime.spawn(metrics::serve(register(listener)?, scraped.clone()));
        }
        drop(guard);
        tracing::info!(
            target: "haremq::server",
            "ready in {} ms: AMQP on {}, HTTP on {}, data in {}",
            began.elapsed().as_millis(),
            list(&amqp_at),
            list(&http_at),
            self.settings.data_dir.display()
        );
        runtime.block_on(self.until_stopped(&mut signals, reload));
        // Clients reconnect as soon as they are told to go, and would keep the broker from stopping.
        for task in accepting {
            task.abort();
        }
        runtime.block_on(self.stop());
        self.broker.close()?;
        tracing::info!(target: "haremq::server", "stopped");
        Ok(())
    }

    /// What metrics call the node.
    fn names(&self) -> metrics::Names {
        let (node, announce) = (&self.settings.node, &self.settings.announce);
        metrics::Names {
            node: node.name.clone(),
            cluster: node.cluster_name.clone(),
            version: announce.version.clone(),
            product: announce.product.clone(),
        }
    }

    async fn until_stopped(&mut self, signals: &mut Signals, mut reload: Reload) {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hangup.recv() => {
                    if reload(&mut self.settings) {
                        self.apply_settings();
                    }
                }
            }
        }
    }

    /// Puts changed settings to use: for connections from now on, for the broker and the alarms at once.
    fn apply_settings(&self) {
        self.broker.reconfigure(broker_settings(&self.settings));
        *self.alarm_settings.write() = self.settings.alarms.clone();
        self.shared.write().session = Arc::new(session_settings(&self.settings));
    }

    /// Tells every client and waits for them to go, for a bounded time.
    async fn stop(&self) {
        tracing::info!(
            target: "haremq::server",
            connections = self.broker.registry().connection_count(),
            "stopping"
        );
        let refusal = Refusal::new(
            ReplyCode::ConnectionForced,
            "broker forced connection closure with reason 'shutdown'",
        );
        self.broker.registry().close_all(&refusal);
        let deadline = Instant::now() + Duration::from_millis(self.settings.timeouts.shutdown_ms);
        for poll in 1.. {
            if self.broker.registry().connection_count() == 0 || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(STOP_POLL).await;
            // One that was accepted last may have come after the others were told. Not at each look, because this
            // wakes those who only wait for their clients.
            if poll % STOP_POLLS_PER_REMINDER == 1 {
                self.broker.registry().close_all(&refusal);
            }
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServerError> {
        let listen = |kind| signal(kind).map_err(system("cannot listen for signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// The listeners for metrics. A default address that is taken, as by a second node on this machine, is passed over: the HTTP API
/// serves the metrics too.
fn bind_metrics(listen: &config::ListenSettings) -> Result<Vec<StdListener>, ListenError> {
    match listener::bind_all("metrics", &listen.metrics, listen.backlog) {
        Err(error) if listen.metrics.defaulted => {
            tracing::info!(target: "haremq::server", "not listening: {error}");
            Ok(Vec::new())
        }
        bound => bound,
    }
}

fn register(listener: StdListener) -> Result<TcpListener, ServerError> {
    TcpListener::from_std(listener).map_err(system("cannot register a listener"))
}

fn addresses(listeners: &[StdListener]) -> Vec<SocketAddr> {
    listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .collect()
}

fn list(addresses: &[SocketAddr]) -> String {
    if addresses.is_empty() {
        return "no address".to_owned();
    }
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A connection is a file: the soft limit is raised to the hard one.
fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(target: "haremq::server", %error, "the limit of open files stays as it is");
        }
    }
}

/// How logins are judged, by these settings.
pub fn auth_settings(settings: &Settings) -> AuthSettings {
    AuthSettings {
        loopback_users: settings.auth.loopback_users.clone(),
        anonymous_user: settings.auth.anonymous_login_user.clone(),
        mechanisms: settings
            .auth
            .mechanisms
            .iter()
            .map(|mechanism| match mechanism {
                config::Mechanism::Plain => Mechanism::Plain,
                config::Mechanism::Amqplain => Mechanism::Amqplain,
                config::Mechanism::Anonymous => Mechanism::Anonymous,
            })
            .collect(),
        ..AuthSettings::default()
    }
}

/// What the broker gets of these settings.
pub fn broker_settings(settings: &Settings) -> BrokerSettings {
    BrokerSettings {
        connections_max: settings.limits.connections_max.map(u64::from),
        queues_max: settings.limits.queues_max.map(u64::from),
        exchanges_max: settings.limits.exchanges_max.map(u64::from),
        permit_transient_queues: settings.deprecated_features.transient_nonexcl_queues,
        default_queue_kind: match settings.queue.default_type {
            DefaultQueueType::Classic => QueueKind::Classic,
            DefaultQueueType::Quorum => QueueKind::Quorum,
        },
        default_consumer_prefetch: settings.queue.default_consumer_prefetch,
        cache_bytes_max: settings.store.cache_bytes_max,
        stats_bytes_max: settings.stats.bytes_max,
    }
}

/// What the HTTP API gets of these settings, with the addresses that are listened on.
pub fn http_settings(
    settings: &Settings,
    amqp: &[SocketAddr],
    http: &[SocketAddr],
    metrics: &[SocketAddr],
) -> HttpSettings {
    let listeners = |protocol, addresses: &[SocketAddr]| {
        let listener = move |address: &SocketAddr| Listener {
            protocol,
            address: *address,
        };
        addresses.iter().map(listener).collect::<Vec<_>>()
    };
    HttpSettings {
        node: settings.node.name.clone(),
        cluster_name: settings.node.cluster_name.clone(),
        product: settings.announce.product.clone(),
        version: settings.announce.version.clone(),
        data_dir: settings.data_dir.display().to_string(),
        default_queue_type: settings.queue.default_type.as_str(),
        listeners: [
            listeners("amqp", amqp),
            listeners("http", http),
            listeners("http/prometheus", metrics),
        ]
        .concat(),
        max_body_bytes: settings.http.max_body_bytes,
        connections_max: settings.http.connections_max,
        header_timeout: Duration::from_millis(settings.http.header_timeout_ms),
        cors_allow_origins: settings.http.cors_allow_origins.clone(),
        cors_max_age_s: settings.http.cors_max_age_s,
        login_session_timeout: Duration::from_secs(
            u64::from(settings.http.login_session_timeout_min) * 60,
        ),
    }
}

/// How the data folder is opened, by these settings.
pub fn store_options(settings: &Settings) -> Options {
    let interval = Duration::from_millis(settings.store.sync_interval_ms);
    Options {
        journal: JournalOptions {
            sync: match settings.store.sync {
                config::Sync::Always => SyncMode::Always,
                config::Sync::Interval => SyncMode::Interval(interval),
                config::Sync::Never => SyncMode::Never,
            },
            sync_interval: interval,
            ..JournalOptions::default()
        },
        ..Options::default()
    }
}

/// Whoever relaxes the promise of a confirm is reminded of it.
fn tell_of_sync(settings: &Settings) {
    if settings.store.sync != config::Sync::Always {
        tracing::warn!(
            target: "haremq::store",
            sync = settings.store.sync.as_str(),
            "confirms do not wait for the disk: a power cut may lose messages that were confirmed"
        );
    }
}

/// What an empty data folder begins with, by these settings.
pub fn first_boot(settings: &Settings) -> FirstBoot {
    let first = &settings.first_boot;
    FirstBoot {
        user: first.default_user.clone(),
        password: first.default_pass.expose().to_owned(),
        tags: first.default_user_tags.clone(),
        vhost: first.default_vhost.clone(),
        configure: first.default_permission_configure.clone(),
        write: first.default_permission_write.clone(),
        read: first.default_permission_read.clone(),
    }
}

/// What a session negotiates by these settings.
pub fn session_settings(settings: &Settings) -> SessionSettings {
    // Nobody to be anonymous as: then it is not offered (`rabbit_auth_mechanism_anonymous`, `should_offer`).
    let is_offered = |mechanism: &config::Mechanism| {
        *mechanism != config::Mechanism::Anonymous || settings.auth.anonymous_login_user.is_some()
    };
    let mechanisms = settings
        .auth
        .mechanisms
        .iter()
        .filter(|mechanism| is_offered(mechanism))
        .map(|mechanism| mechanism.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    SessionSettings {
        server_properties: server_properties(settings),
        mechanisms,
        channel_max: settings.limits.channel_max,
        frame_max: settings.limits.frame_bytes_max,
        heartbeat_s: settings.limits.heartbeat_s,
        handshake_timeout: Duration::from_millis(settings.timeouts.handshake_ms),
        close_timeout: Duration::from_millis(settings.timeouts.close_ms),
        message_bytes_max: settings.limits.message_bytes_max,
        consumers_per_channel_max: settings.limits.consumers_per_channel_max,
        reply_bytes_max: settings.limits.reply_bytes_max,
        pending_bytes_max: settings.limits.pending_bytes_max,
        permit_global_qos: settings.deprecated_features.global_qos,
        ..SessionSettings::default()
    }
}

/// What `connection.start` tells of the server: RabbitMQ's keys in its order (`rabbit_reader:server_properties/1`), because
/// clients branch on product, version and capabilities; `information` names HareMQ.
fn server_properties(settings: &Settings) -> FieldTable {
    let capabilities: FieldTable = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ]
    .into_iter()
    .map(|name| (name, Value::Bool(true)))
    .collect();
    [
        ("capabilities", Value::Table(capabilities)),
        ("cluster_name", settings.node.cluster_name.clone().into()),
        (
            "copyright",
            "Copyright the HareMQ authors, Apache License 2.0".into(),
        ),
        (
            "information",
            concat!(
                "HareMQ ",
                env!("CARGO_PKG_VERSION"),
                ", an AMQP 0-9-1 broker"
            )
            .into(),
        ),
        ("platform", "Rust".into()),
        ("product", settings.announce.product.clone().into()),
        ("version", settings.announce.version.clone().into()),
    ]
    .into_iter()
    .collect()
}
