//! The node: machine, process, limits, memory.
//!
//! Monitors divide by every `_total` and `_limit`: none of them is ever missing or 0. Widths are those of the peers' clients.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::Monitor;
use super::input::Params;
use super::list::{self, ListQuery};
use super::overview::check_node;
use super::shape;
use crate::broker::stats::Ranges;

/// What RabbitMQ calls Erlang processes are tasks here, which have no limit of their own.
const TASKS_MAX: u64 = 1_048_576;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/nodes", get(all))
        .route("/api/nodes/{node}", get(one))
        .route("/api/nodes/{node}/memory", get(memory))
        .route("/api/nodes/{node}/memory/relative", get(memory_relative))
}

/// The types of exchange that there are.
pub(super) fn exchange_types() -> Value {
    [
        (
            "direct",
            "AMQP direct exchange, as per the AMQP specification",
        ),
        (
            "fanout",
            "AMQP fanout exchange, as per the AMQP specification",
        ),
        (
            "headers",
            "AMQP headers exchange, as per the AMQP specification",
        ),
        (
            "topic",
            "AMQP topic exchange, as per the AMQP specification",
        ),
    ]
    .into_iter()
    .map(|(name, description)| json!({"name": name, "description": description, "enabled": true}))
    .collect()
}

/// Everything that listens.
pub(super) fn listeners(state: &State) -> Value {
    let settings = state.settings();
    let listener = |it: &super::Listener| {
        json!({
            "node": settings.node,
            "protocol": it.protocol,
            "ip_address": it.address.ip().to_string(),
            "port": it.address.port(),
            "tls": false,
            "socket_opts": {"nodelay": true},
        })
    };
    settings.listeners.iter().map(listener).collect()
}

/// What is served over HTTP.
pub(super) fn contexts(state: &State) -> Value {
    let settings = state.settings();
    let http = settings.listeners.iter().filter(|it| it.protocol == "http");
    http.map(|it| {
        json!({
            "node": settings.node,
            "description": "RabbitMQ Management",
            "path": "/",
            "port": it.address.port().to_string(),
            "cowboy_opts": "[]",
            "ssl_opts": [],
        })
    })
    .collect()
}

fn shown(state: &State, ranges: &Ranges) -> Value {
    let it = state.broker().node(ranges);
    let settings = state.settings();
    let files_max = it.reading.files_max.clamp(1, u64::from(u32::MAX));
    let mechanisms: Value = state
        .broker()
        .directory()
        .mechanism_names()
        .split(' ')
        .map(|name| json!({"name": name, "description": format!("SASL {name} authentication mechanism"), "enabled": true}))
        .collect();
    let value = json!({
        "name": settings.node,
        "type": "disc",
        "running": true,
        "being_drained": false,
        "partitions": [],
        "cluster_links": [],
        "uptime": it.uptime_ms,
        "run_queue": 0,
        "processors": it.processors,
        "os_pid": it.os_pid.to_string(),
        "mem_limit": it.reading.memory_limit_bytes.max(1),
        "mem_alarm": it.mem_alarm,
        "mem_calculation_strategy": "rss",
        "disk_free_limit": it.reading.disk_limit_bytes.max(1),
        "disk_free_alarm": it.disk_free_alarm,
        "fd_total": files_max,
        "sockets_total": files_max,
        "proc_total": TASKS_MAX,
        "rates_mode": "basic",
        "net_ticktime": 60,
        "rabbitmq_version": settings.version,
        "erlang_version": "",
        "db_dir": settings.data_dir,
        "log_files": ["<stderr>"],
        "config_files": [],
        "enabled_plugins": ["rabbitmq_management", "rabbitmq_management_agent", "rabbitmq_prometheus"],
        "applications": [{
            "name": "haremq",
            "description": "HareMQ",
            "version": env!("CARGO_PKG_VERSION"),
        }],
        "exchange_types": exchange_types(),
        "auth_mechanisms": mechanisms,
        "contexts": contexts(state),
        "metrics_gc_queue_length": {},
    });
    let mut fields = match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    shape::put_measures(&mut fields, &it.gauges);
    shape::put_measures(&mut fields, &it.churn_rates);
    Value::Object(fields)
}

async fn all(Monitor(caller): Monitor, params: Params) -> Answer {
    let ranges = shape::ranges(&params)?;
    let nodes = vec![shown(&caller.state, &ranges)];
    list::of_values(&ListQuery::unpaged(&params), nodes)
}

async fn one(Monitor(caller): Monitor, Path(node): Path<String>, params: Params) -> Answer {
    check_node(&caller.state, &node)?;
    let ranges = shape::ranges(&params)?;
    list::one(&params, Some(shown(&caller.state, &ranges)))
}

/// The parts that RabbitMQ tells apart, most of which are Erlang's.
const PARTS: [&str; 25] = [
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "quorum_queue_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "metadata_store_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
];

/// Bytes by part: messages in memory, statistics, and everything else.
fn parts(state: &State) -> (Map<String, Value>, u64) {
    let broker = state.broker();
    let resident = broker.stats().reading().memory_used_bytes;
    let messages: u64 = broker
        .queue_handles()
        .iter()
        .filter_map(|handle| handle.snapshot().ok())
        .map(|it| it.message_bytes_in_memory)
        .sum();
    let statistics = broker.stats().history_bytes();
    let parts = PARTS.into_iter().map(|name| {
        let bytes = match name {
            "binary" => messages,
            "mgmt_db" => statistics,
            "other_system" => resident.saturating_sub(messages + statistics),
            _ => 0,
        };
        (name.to_owned(), bytes.into())
    });
    (parts.collect(), resident)
}

async fn memory(Monitor(caller): Monitor, Path(node): Path<String>) -> Answer {
    check_node(&caller.state, &node)?;
    let (mut parts, resident) = parts(&caller.state);
    parts.insert("strategy".to_owned(), "rss".into());
    parts.insert(
        "total".to_owned(),
        json!({"erlang": resident, "rss": resident, "allocated": resident}),
    );
    answer::json(&json!({ "memory": parts }))
}

async fn memory_relative(
    Monitor(caller): Monitor,
    Path(node): Path<String>,
) -> Result<axum::response::Response, ApiError> {
    check_node(&caller.state, &node)?;
    let (mut parts, resident) = parts(&caller.state);
    for bytes in parts.values_mut() {
        let share = bytes.as_u64().unwrap_or(0) * 100 / resident.max(1);
        *bytes = share.into();
    }
    parts.insert("total".to_owned(), 100.into());
    answer::json(&json!({ "memory": parts }))
}
