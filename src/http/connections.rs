//! Connections: lists, one, its channels, and its end; those of a user, those of a virtual host.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::Caller;
use super::input::Params;
use super::list::{self, ListQuery, Listed};
use super::{channels, shape};
use crate::broker::stats::{ConnectionStats, Ranges};
use crate::model::Name;
use crate::store::definitions::json::arguments_to_json;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/connections", get(all))
        .route("/api/connections/{name}", get(one).delete(close))
        .route("/api/connections/{name}/channels", get(channels_of))
        .route("/api/connections/{name}/sessions", get(sessions_of))
        .route(
            "/api/connections/username/{user}",
            get(of_user).delete(close_of_user),
        )
        .route("/api/vhosts/{vhost}/connections", get(of_vhost))
}

struct Connections {
    state: State,
    ranges: Ranges,
}

impl Connections {
    fn new(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        Ok(Self {
            state: caller.state.clone(),
            ranges: shape::ranges(params)?,
        })
    }

    fn shown(&self, connection: &ConnectionStats) -> Option<Value> {
        let broker = self.state.broker();
        let it = broker.connection_snapshot(connection, &self.ranges)?;
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        put("name", (&*it.name).into());
        if let Some(name) = &it.user_provided_name {
            put("user_provided_name", (&**name).into());
        }
        put("node", self.state.settings().node.as_str().into());
        put("protocol", it.protocol.into());
        put("type", "network".into());
        put("user", (&*it.user).into());
        put("user_who_performed_action", (&*it.user).into());
        put("vhost", (&*it.vhost).into());
        put("auth_mechanism", (&*it.auth_mechanism).into());
        put(
            "client_properties",
            arguments_to_json(&it.client_properties),
        );
        put("connected_at", it.connected_at_ms.into());
        put("state", it.state.into());
        put("channels", it.channels.into());
        put("channel_max", it.channel_max.into());
        put("frame_max", it.frame_max.into());
        put("timeout", it.timeout_s.into());
        put("peer_host", shape::host(it.peer).into());
        put("peer_port", it.peer.port().into());
        if let Some(local) = it.local {
            put("host", shape::host(local).into());
            put("port", local.port().into());
        }
        put("ssl", false.into());
        put("send_pend", it.send_pend.into());
        put("reductions", 0.into());
        put("reductions_details", json!({"rate": 0.0}));
        put("garbage_collection", shape::garbage_collection());
        shape::put_measures(&mut fields, &it.traffic);
        Some(Value::Object(fields))
    }
}

impl Listed for Connections {
    type Row = Arc<ConnectionStats>;

    fn key(&self, row: &Arc<ConnectionStats>) -> (Name, Name) {
        let vhost = row.described().map(|it| Arc::clone(&it.vhost));
        (vhost.unwrap_or_else(|| "".into()), Arc::clone(row.name()))
    }

    fn field(&self, row: &Arc<ConnectionStats>, path: &str) -> Option<Value> {
        match path {
            "user" => Some((&*row.described()?.user).into()),
            "channels" => Some(row.channel_count().into()),
            "connected_at" => Some(row.described()?.connected_at_ms.into()),
            "state" => Some(row.state().as_str().into()),
            _ => None,
        }
    }

    fn render(&self, row: &Arc<ConnectionStats>) -> Option<Value> {
        self.shown(row)
    }
}

/// Whether a list shows him something of `user` in `vhost`.
pub(super) fn is_shown(caller: &Caller, user: &str, vhost: &str, of_path: Option<&str>) -> bool {
    let is_his = caller.is_monitor() || *caller.user.name == *user;
    let wanted = of_path.or_else(|| caller.header_vhost());
    is_his && wanted.is_none_or(|wanted| wanted == vhost)
}

fn visible(caller: &Caller, vhost: Option<&str>) -> Vec<Arc<ConnectionStats>> {
    let mut connections = caller.broker().connections();
    connections.retain(|connection| {
        connection
            .described()
            .is_some_and(|it| is_shown(caller, &it.user, &it.vhost, vhost))
    });
    connections
}

async fn all(caller: Caller, params: Params) -> Answer {
    let query = ListQuery::parse(&params)?;
    let listed = Connections::new(&caller, &params)?;
    list::reply(query, listed, visible(&caller, None)).await
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    caller.vhost_to_see(&vhost)?;
    let query = ListQuery::parse(&params)?;
    let listed = Connections::new(&caller, &params)?;
    list::reply(query, listed, visible(&caller, Some(&vhost))).await
}

/// A connection that a path names, and its user.
fn find(caller: &Caller, name: &str) -> Result<(Arc<ConnectionStats>, Name), ApiError> {
    let connection = caller
        .broker()
        .connection_named(name)
        .ok_or_else(ApiError::object_not_found)?;
    let user = connection.described().map(|it| Arc::clone(&it.user));
    let user = user.ok_or_else(ApiError::object_not_found)?;
    Ok((connection, user))
}

async fn one(caller: Caller, Path(name): Path<String>, params: Params) -> Answer {
    let (connection, user) = find(&caller, &name)?;
    caller.check_sees(&user)?;
    let shown = Connections::new(&caller, &params)?.shown(&connection);
    list::one(&params, shown)
}

/// What the operator says, for the client and the log.
fn reason(headers: &HeaderMap) -> Option<String> {
    let reason = headers.get("x-reason")?;
    Some(String::from_utf8_lossy(reason.as_bytes()).into_owned())
}

async fn close(caller: Caller, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let (_, user) = find(&caller, &name)?;
    caller.check_ends(&user)?;
    caller
        .broker()
        .close_connection(&name, reason(&headers).as_deref())?;
    answer::no_content()
}

async fn channels_of(caller: Caller, Path(name): Path<String>, params: Params) -> Answer {
    let (connection, user) = find(&caller, &name)?;
    caller.check_sees(&user)?;
    channels::reply(&caller, &params, connection.channels()).await
}

/// Sessions are AMQP 1.0's, which is not spoken here.
async fn sessions_of(caller: Caller, Path(name): Path<String>) -> Answer {
    let (_, user) = find(&caller, &name)?;
    caller.check_sees(&user)?;
    answer::json(&json!([]))
}

async fn of_user(caller: Caller, Path(user): Path<String>, params: Params) -> Answer {
    caller.check_sees(&user)?;
    let node = &caller.state.settings().node;
    let connections = caller.broker().connections();
    let values = connections.iter().filter_map(|connection| {
        let it = connection.described().filter(|it| *it.user == *user)?;
        Some(json!({
            "name": &**connection.name(),
            "vhost": &*it.vhost,
            "user": &*it.user,
            "node": node,
        }))
    });
    list::of_values(&ListQuery::parse(&params)?, values.collect())
}

async fn close_of_user(caller: Caller, Path(user): Path<String>, headers: HeaderMap) -> Answer {
    caller.check_ends(&user)?;
    caller
        .broker()
        .close_connections_of_user(&user, reason(&headers).as_deref());
    answer::no_content()
}
