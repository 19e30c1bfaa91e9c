//! Health checks, which load balancers, containers and monitors ask for; 200 `{"status":"ok"}`, or 503 with the reason.
//!
//! Those about this node alone need no login, as in RabbitMQ 4.3. What the checks look at is the broker's.

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::Caller;

pub(super) fn routes() -> Router<State> {
    let checks = Router::new()
        .route("/alarms", get(alarms))
        .route("/local-alarms", get(alarms))
        .route("/port-listener/{port}", get(port_listener))
        .route("/protocol-listener/{protocols}", get(protocol_listener))
        .route("/node-is-quorum-critical", get(single_node))
        .route("/node-is-mirror-sync-critical", get(single_node))
        .route("/virtual-hosts", get(well))
        .route(
            "/certificate-expiration/{within}/{unit}",
            get(certificate_expiration),
        )
        .route(
            "/quorum-queues-without-elected-leaders/all-vhosts",
            get(well),
        )
        .route(
            "/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
            get(well),
        )
        .route(
            "/quorum-queues-without-elected-leaders/vhost/{vhost}",
            get(leaders_in_vhost),
        )
        .route(
            "/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
            get(leaders_in_vhost_like),
        )
        .route("/metadata-store/initialized", get(well))
        .route("/metadata-store/initialized/with-data", get(has_data))
        .route("/is-in-service", get(is_in_service))
        .route("/ready-to-serve-clients", get(is_ready))
        .route("/below-node-connection-limit", get(below_connection_limit))
        .route("/reached-target-cluster-size", get(cluster_size));
    Router::new()
        .nest("/api/health/checks", checks)
        .route("/api/aliveness-test/{vhost}", get(aliveness))
        .route("/api/healthchecks/node", get(node))
        .route("/api/healthchecks/node/{node}", get(named_node))
}

fn healthy() -> Answer {
    answer::json(&json!({"status": "ok"}))
}

fn failed(mut details: Value, reason: &str) -> Answer {
    details["status"] = "failed".into();
    details["reason"] = reason.into();
    Ok(failure(&details))
}

fn failure(details: &Value) -> Response {
    answer::json_bytes(
        StatusCode::SERVICE_UNAVAILABLE,
        details.to_string().into_bytes(),
    )
}

/// What cannot be otherwise on a node that answers.
async fn well(_: Caller) -> Answer {
    healthy()
}

async fn single_node(_: Caller) -> Answer {
    answer::json(&json!({"status": "ok", "reason": "single node cluster"}))
}

async fn is_in_service() -> Answer {
    healthy()
}

async fn is_ready(Shared(state): Shared<State>) -> Answer {
    answer::json(&json!({
        "status": "ok",
        "connections": state.broker().registry().connection_count(),
    }))
}

async fn cluster_size() -> Answer {
    answer::json(&json!({"status": "ok", "online": 1, "target": 1}))
}

async fn below_connection_limit(Shared(state): Shared<State>) -> Answer {
    let connections = state.broker().registry().connection_count() as u64;
    match state.broker().connections_max() {
        Some(limit) if connections >= limit => failed(
            json!({"connections": connections, "limit": limit}),
            "node connection limit is reached",
        ),
        _ => healthy(),
    }
}

/// The alarms that are on.
fn alarms_on(state: &State) -> Vec<Value> {
    let alarms = state.broker().alarms();
    [
        (alarms.is_memory_low(), "memory"),
        (alarms.is_disk_low(), "disk"),
    ]
    .into_iter()
    .filter(|(is_on, _)| *is_on)
    .map(|(_, resource)| json!({"node": state.settings().node, "resource": resource}))
    .collect()
}

async fn alarms(caller: Caller) -> Answer {
    let on = alarms_on(&caller.state);
    if on.is_empty() {
        return healthy();
    }
    failed(
        json!({ "alarms": on }),
        "There are alarms in effect in the cluster",
    )
}

async fn port_listener(caller: Caller, Path(port): Path<String>) -> Answer {
    let Ok(port) = port.parse::<u16>() else {
        return Err(ApiError::bad_request(
            "port must be a number from 0 to 65535",
        ));
    };
    let listeners = &caller.state.settings().listeners;
    let ports: Vec<u16> = listeners.iter().map(|it| it.address.port()).collect();
    if ports.contains(&port) {
        return answer::json(&json!({"status": "ok", "port": port}));
    }
    failed(
        json!({"missing": port, "ports": ports}),
        "No active listener",
    )
}

/// RabbitMQ's name of a protocol, from one of those that people use (`rabbit_networking`, `normalize_protocol`).
fn protocol_name(asked: &str) -> String {
    let lower = asked.trim().to_ascii_lowercase();
    let known = match lower.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1-0"
        | "amqp1_0" | "amqp" => "amqp",
        "amqps" | "amqp/ssl" | "amqp/tls" => "amqp/ssl",
        "http" | "https" | "http_api" | "management" | "admin" | "ui" | "http-api" => "http",
        "cli" | "distribution" | "clustering" => "clustering",
        other => return other.to_owned(),
    };
    known.to_owned()
}

async fn protocol_listener(caller: Caller, Path(protocols): Path<String>) -> Answer {
    let listeners = &caller.state.settings().listeners;
    let mut active: Vec<&str> = listeners.iter().map(|it| it.protocol).collect();
    active.sort_unstable();
    active.dedup();
    let missing: Vec<String> = protocols
        .split(',')
        .filter(|asked| !active.contains(&protocol_name(asked).as_str()))
        .map(str::to_owned)
        .collect();
    if missing.is_empty() {
        return healthy();
    }
    failed(
        json!({"missing": missing, "protocols": active}),
        "No active listener",
    )
}

/// Without a listener of TLS no certificate expires.
async fn certificate_expiration(_: Caller, Path((within, unit)): Path<(String, String)>) -> Answer {
    if within.parse::<u32>().is_err() {
        return Err(ApiError::bad_request("Invalid expiration value"));
    }
    let units = [
        "day", "days", "week", "weeks", "month", "months", "year", "years",
    ];
    if !units.contains(&unit.as_str()) {
        return Err(ApiError::bad_request(
            "Time unit not recognised. Use: days, weeks, months, years.",
        ));
    }
    healthy()
}

async fn leaders_in_vhost(caller: Caller, Path(vhost): Path<String>) -> Answer {
    caller.vhost_to_see(&vhost)?;
    healthy()
}

async fn leaders_in_vhost_like(caller: Caller, Path((vhost, _)): Path<(String, String)>) -> Answer {
    caller.vhost_to_see(&vhost)?;
    healthy()
}

async fn has_data(caller: Caller) -> Answer {
    if caller.broker().directory().users().is_empty() {
        return failed(json!({}), "Metadata store has no data");
    }
    healthy()
}

/// Nothing is declared or published since RabbitMQ 4.0: that the virtual host is there is enough.
async fn aliveness(caller: Caller, Path(vhost): Path<String>) -> Answer {
    caller.vhost_to_see(&vhost)?;
    healthy()
}

async fn node(caller: Caller) -> Answer {
    let on = alarms_on(&caller.state);
    if on.is_empty() {
        return healthy();
    }
    failed(json!({}), "resource alarm(s) in effect")
}

async fn named_node(caller: Caller, Path(name): Path<String>) -> Answer {
    if name != caller.state.settings().node {
        return Err(ApiError::object_not_found());
    }
    node(caller).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_have_several_names() {
        for (asked, name) in [
            ("amqp091", "amqp"),
            ("amqp0-9-1", "amqp"),
            ("AMQP1.0", "amqp"),
            ("amqps", "amqp/ssl"),
            ("management", "http"),
            ("mqtt", "mqtt"),
        ] {
            assert_eq!(protocol_name(asked), name);
        }
    }
}
