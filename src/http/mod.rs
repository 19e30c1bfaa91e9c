//! HTTP: the health checks that load balancers and containers ask for, with RabbitMQ's paths and bodies.
//!
//! The broker is seen through snapshots alone. The management API is not part of this release.

pub mod metrics;

use std::convert::Infallible;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::broker::Broker;

/// Tags that open the HTTP API to a user (RabbitMQ's document "Management Plugin", permissions).
const MANAGEMENT_TAGS: [&str; 4] = ["administrator", "monitoring", "policymaker", "management"];

/// What the handlers look at.
#[derive(Clone, Debug)]
pub struct State {
    broker: Arc<Broker>,
    ports: Arc<[u16]>,
    node: Arc<str>,
}

impl State {
    /// The state behind the handlers; `ports` are those that anything listens on.
    pub fn new(broker: Arc<Broker>, ports: Vec<u16>, node: String) -> Self {
        Self {
            broker,
            ports: ports.into(),
            node: node.into(),
        }
    }
}

/// Serves HTTP on a listener until the task is dropped.
pub async fn serve(listener: TcpListener, state: State) -> Result<Infallible, std::io::Error> {
    axum::serve(
        listener,
        router(state).into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await?;
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

fn router(state: State) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/api/health/checks/alarms", get(alarms))
        .route("/api/health/checks/local-alarms", get(alarms))
        .route(
            "/api/health/checks/port-listener/{port}",
            get(port_listener),
        )
        .route("/api/health/checks/is-in-service", get(is_in_service))
        .route("/api/health/checks/ready-to-serve-clients", get(is_ready))
        .route(
            "/api/health/checks/below-node-connection-limit",
            get(below_connection_limit),
        )
        .fallback(not_found)
        .with_state(state)
}

async fn front() -> &'static str {
    concat!(
        "HareMQ ",
        env!("CARGO_PKG_VERSION"),
        "\nHealth checks: /api/health/checks/{is-in-service, ready-to-serve-clients, \
         below-node-connection-limit, alarms, local-alarms, port-listener/PORT}\n"
    )
}

async fn not_found() -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({"error": "Object Not Found", "reason": "Not Found"})),
    )
        .into_response()
}

fn healthy() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

fn failed(mut details: Value, reason: &str) -> Response {
    details["status"] = "failed".into();
    details["reason"] = reason.into();
    (StatusCode::SERVICE_UNAVAILABLE, Json(details)).into_response()
}

async fn is_in_service() -> Response {
    healthy()
}

async fn is_ready(Shared(state): Shared<State>) -> Response {
    Json(json!({
        "status": "ok",
        "connections": state.broker.registry().connection_count(),
    }))
    .into_response()
}

async fn below_connection_limit(Shared(state): Shared<State>) -> Response {
    let connections = state.broker.registry().connection_count() as u64;
    match state.broker.connections_max() {
        Some(limit) if connections >= limit => failed(
            json!({"connections": connections, "limit": limit}),
            "node connection limit is reached",
        ),
        _ => healthy(),
    }
}

async fn alarms(
    Shared(state): Shared<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = refusal(&state, peer.ip(), &headers) {
        return refused;
    }
    let mut on = Vec::new();
    if state.broker.alarms().is_memory_low() {
        on.push(json!({"node": &*state.node, "resource": "memory"}));
    }
    if state.broker.alarms().is_disk_low() {
        on.push(json!({"node": &*state.node, "resource": "disk"}));
    }
    if on.is_empty() {
        return healthy();
    }
    failed(
        json!({ "alarms": on }),
        "There are alarms in effect in the cluster",
    )
}

async fn port_listener(
    Shared(state): Shared<State>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Path(port): Path<String>,
) -> Response {
    if let Some(refused) = refusal(&state, peer.ip(), &headers) {
        return refused;
    }
    let Ok(port) = port.parse::<u16>() else {
        return (
            StatusCode::BAD_REQUEST,
            Json(
                json!({"error": "bad_request", "reason": "port must be a number from 0 to 65535"}),
            ),
        )
            .into_response();
    };
    if state.ports.contains(&port) {
        return Json(json!({"status": "ok", "port": port})).into_response();
    }
    failed(
        json!({"missing": port, "ports": &*state.ports}),
        "No active listener",
    )
}

/// What a request without the credentials of a user with a management tag is answered; `None` lets it through.
fn refusal(state: &State, peer: IpAddr, headers: &HeaderMap) -> Option<Response> {
    let Some(credentials) = headers.get(header::AUTHORIZATION) else {
        let challenge = "Basic realm=\"RabbitMQ Management\"";
        return Some(
            (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, challenge)],
            )
                .into_response(),
        );
    };
    let user = credentials
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .and_then(|decoded| String::from_utf8(decoded).ok())
        .and_then(|pair| {
            let (name, password) = pair.split_once(':')?;
            let is_loopback = peer.to_canonical().is_loopback();
            let directory = state.broker.directory();
            directory
                .check_password(name, password.as_bytes(), is_loopback)
                .ok()
        });
    let (error, reason) = match user {
        None => ("not_authorized", "Not_Authorized"),
        Some(user) if !MANAGEMENT_TAGS.iter().any(|tag| user.has_tag(tag)) => {
            ("not_authorised", "Not management user")
        }
        Some(_) => return None,
    };
    let body = Json(json!({"error": error, "reason": reason}));
    Some((StatusCode::UNAUTHORIZED, body).into_response())
}
