//! What and who this is: versions, features, the caller himself, logins and sessions.

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post, put};
use serde_json::{Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::{Administrator, Caller, Monitor, Peer, check_may_manage};
use super::input::{Params, read_body};
use super::list::{self, ListQuery};
use super::logins::LoginError;
use super::overview::check_node;
use crate::auth::{HashingAlgorithm, PasswordHash};

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/", get(front))
        .route("/api", get(home))
        .route("/cli", get(home))
        .route("/mgmt", get(home))
        .route("/api/version", get(version))
        .route("/api/whoami", get(whoami))
        .route("/api/extensions", get(nothing))
        .route("/api/feature-flags", get(feature_flags))
        .route("/api/feature-flags/{name}/enable", put(enable_feature_flag))
        .route("/api/deprecated-features", get(deprecated_features))
        .route("/api/deprecated-features/used", get(nothing))
        .route("/api/login", post(login).delete(logout))
        .route(
            "/api/auth/attempts/{node}",
            get(attempts).delete(reset_attempts),
        )
        .route(
            "/api/auth/attempts/{node}/source",
            get(attempts_by_source).delete(reset_attempts),
        )
        .route("/api/auth/hash_password/{password}", get(hash_password))
        .route("/api/reset", delete(reset))
        .route("/api/reset/{node}", delete(reset_node))
        .route("/api/stream/connections", get(nothing))
        .route("/api/stream/consumers", get(nothing))
        .route("/api/stream/publishers", get(nothing))
        .route("/api/shovels", get(nothing_for_monitors))
        .route("/api/shovels/{vhost}", get(nothing_in_vhost))
        .route("/api/federation-links", get(nothing_for_monitors))
        .route("/api/federation-links/{vhost}", get(nothing_in_vhost))
}

async fn front() -> &'static str {
    concat!(
        "HareMQ ",
        env!("CARGO_PKG_VERSION"),
        "\nThe management API: /api. Health checks: /api/health/checks/{is-in-service, ready-to-serve-clients, \
         below-node-connection-limit, alarms, local-alarms, port-listener/PORT}\n"
    )
}

async fn home() -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "/")]).into_response()
}

async fn version(Shared(state): Shared<State>) -> Answer {
    answer::json(&state.settings().version)
}

async fn whoami(caller: Caller) -> Answer {
    let timeout = caller.state.settings().login_session_timeout;
    answer::json(&json!({
        "name": &*caller.user.name,
        "tags": caller.user.tags,
        "is_internal_user": true,
        "login_session_timeout": timeout.as_secs() / 60,
    }))
}

/// What is not there, and is listed all the same.
async fn nothing(_: Caller) -> Answer {
    answer::json(&json!([]))
}

async fn nothing_for_monitors(_: Monitor) -> Answer {
    answer::json(&json!([]))
}

async fn nothing_in_vhost(Monitor(caller): Monitor, Path(vhost): Path<String>) -> Answer {
    caller.vhost_to_see(&vhost)?;
    answer::json(&json!([]))
}

/// Feature flags of RabbitMQ 4.3, all of which hold here; clients look for them by name.
const FEATURE_FLAGS: [(&str, &str); 21] = [
    (
        "classic_mirrored_queue_version",
        "Support setting version for classic mirrored queues",
    ),
    (
        "classic_queue_type_delivery_support",
        "Bug fix for classic queue deliveries using mixed versions",
    ),
    (
        "detailed_queues_endpoint",
        "Add a detailed queues HTTP API endpoint",
    ),
    (
        "direct_exchange_routing_v2",
        "v2 direct exchange routing implementation",
    ),
    (
        "drop_unroutable_metric",
        "Count unroutable publishes to be dropped in stats",
    ),
    (
        "empty_basic_get_metric",
        "Count AMQP basic.get on empty queues in stats",
    ),
    ("feature_flags_v2", "Feature flags subsystem V2"),
    (
        "implicit_default_bindings",
        "Default bindings are now implicit, instead of being stored in the database",
    ),
    (
        "listener_records_in_ets",
        "Store listener records in ETS instead of Mnesia",
    ),
    ("maintenance_mode_status", "Maintenance mode status"),
    ("message_containers", "Message containers."),
    (
        "message_containers_deaths_v2",
        "Bug fix for dead letter cycle detection",
    ),
    ("quorum_queue", "Support queues of type quorum"),
    (
        "quorum_queue_non_voters",
        "Allows new quorum queue members to be added as non voters initially.",
    ),
    ("quorum_queues_v4", "Unlocks QQ v4 goodies"),
    (
        "restart_streams",
        "Support for restarting streams with optional preferred next leader argument.",
    ),
    ("stream_queue", "Support queues of type stream"),
    (
        "stream_sac_coordinator_unblock_group",
        "Bug fix to unblock a group of consumers in a super stream partition",
    ),
    (
        "tracking_records_in_ets",
        "Store tracking records in ETS instead of Mnesia",
    ),
    (
        "user_limits",
        "Configure connection and channel limits for a user",
    ),
    (
        "virtual_host_metadata",
        "Virtual host metadata (description, tags, etc)",
    ),
];

async fn feature_flags(_: Caller, params: Params) -> Answer {
    let flags = FEATURE_FLAGS
        .iter()
        .map(|(name, desc)| {
            json!({
                "name": name,
                "desc": desc,
                "doc_url": "",
                "state": "enabled",
                "stability": "required",
                "provided_by": "rabbit",
            })
        })
        .collect();
    list::of_values(&ListQuery::unpaged(&params), flags)
}

async fn enable_feature_flag(_: Administrator, Path(name): Path<String>) -> Answer {
    if name == "all" || FEATURE_FLAGS.iter().any(|(known, _)| *known == name) {
        return answer::no_content();
    }
    Err(ApiError::bad_request("unsupported"))
}

async fn deprecated_features(_: Caller, params: Params) -> Answer {
    let values: Vec<Value> = Vec::new();
    list::of_values(&ListQuery::unpaged(&params), values)
}

/// Opens a session: credentials come as a form, a token goes.
async fn login(Shared(state): Shared<State>, request: axum::extract::Request) -> Answer {
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.ok_or_else(|| ApiError::internal("a request without a peer"))?;
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if !is_form {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send application/x-www-form-urlencoded with username and password",
        ));
    }
    let body = read_body(request, &state).await?;
    let form = Params::parse(&String::from_utf8_lossy(&body));
    let (Some(name), Some(password)) = (form.get("username"), form.get("password")) else {
        return Err(ApiError::bad_request(
            "[{key_missing,username},{key_missing,password}]",
        ));
    };
    let user = state
        .logins()
        .check_password(name, password.as_bytes(), peer.0.ip())
        .await;
    state.count_login(user.is_ok());
    let user = user.map_err(|error| match error {
        LoginError::Wrong => ApiError::wrong_credentials(),
        LoginError::LoopbackOnly => ApiError::not_authorised("User can only log in via localhost"),
    })?;
    check_may_manage(&user)?;
    let lasts = state.settings().login_session_timeout;
    let token = state
        .logins()
        .open_session(&user, lasts)
        .ok_or_else(|| ApiError::internal("the system gives no random bytes"))?;
    answer::json(&json!({
        "token": {"type": "Bearer", "value": token},
        "user": {
            "name": &*user.name,
            "tags": user.tags,
            "is_internal_user": true,
            "login_session_timeout": lasts.as_secs() / 60,
        },
    }))
}

async fn logout(Shared(state): Shared<State>, headers: HeaderMap) -> Answer {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if let Some((_, token)) = token {
        state.logins().close_session(token.trim());
    }
    answer::no_content()
}

async fn attempts(Monitor(caller): Monitor, Path(node): Path<String>) -> Answer {
    check_node(&caller.state, &node)?;
    let attempts = caller.broker().auth_attempts();
    let shown = attempts.iter().map(|it| {
        json!({
            "protocol": it.protocol.as_str(),
            "auth_attempts": it.succeeded + it.failed,
            "auth_attempts_failed": it.failed,
            "auth_attempts_succeeded": it.succeeded,
        })
    });
    answer::json(&shown.collect::<Value>())
}

/// RabbitMQ counts by source only when it is told to (`track_auth_attempt_source`).
async fn attempts_by_source(Monitor(caller): Monitor, Path(node): Path<String>) -> Answer {
    check_node(&caller.state, &node)?;
    answer::json(&json!([]))
}

async fn reset_attempts(Administrator(caller): Administrator, Path(node): Path<String>) -> Answer {
    check_node(&caller.state, &node)?;
    caller.broker().stats().auth.reset();
    answer::no_content()
}

async fn hash_password(_: Administrator, Path(password): Path<String>) -> Answer {
    let hash = tokio::task::spawn_blocking(move || {
        PasswordHash::create(HashingAlgorithm::Sha256, password.as_bytes())
    })
    .await
    .map_err(|error| ApiError::internal(error.to_string()))?
    .map_err(|error| ApiError::internal(error.to_string()))?;
    answer::json(&json!({"ok": hash.to_base64()}))
}

/// Forgets the histories; counters go on.
async fn reset(Administrator(caller): Administrator) -> Answer {
    caller.broker().stats().forget_histories();
    answer::no_content()
}

async fn reset_node(Administrator(caller): Administrator, Path(node): Path<String>) -> Answer {
    check_node(&caller.state, &node)?;
    reset(Administrator(caller)).await
}
