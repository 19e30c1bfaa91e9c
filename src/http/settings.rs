//! What the API needs of the settings and of the listeners.

use std::net::SocketAddr;
use std::time::Duration;

/// Something that clients connect to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// RabbitMQ's name of what is spoken there: `amqp`, `http`.
    pub protocol: &'static str,
    /// Where.
    pub address: SocketAddr,
}

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// The node's name.
    pub node: String,
    /// The cluster's name, unless one was set.
    pub cluster_name: String,
    /// The product that is announced.
    pub product: String,
    /// The version that is announced.
    pub version: String,
    /// The folder of the data, as `db_dir` of the node.
    pub data_dir: String,
    /// The type of queues where nothing names one.
    pub default_queue_type: &'static str,
    /// Everything that listens.
    pub listeners: Vec<Listener>,
    /// Bytes of a request's body.
    pub max_body_bytes: u64,
    /// Connections at once.
    pub connections_max: u32,
    /// How long a client may take for the head of a request, and be idle between two.
    pub header_timeout: Duration,
    /// Origins whose pages may use the API; `*` is any.
    pub cors_allow_origins: Vec<String>,
    /// How long browsers remember that, in seconds.
    pub cors_max_age_s: u32,
    /// How long a session of `POST /api/login` lasts.
    pub login_session_timeout: Duration,
}
