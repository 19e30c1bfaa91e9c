//! Channels: lists, one; those of a virtual host, those of a connection.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{Answer, ApiError};
use super::caller::Caller;
use super::input::Params;
use super::list::{self, ListQuery, Listed};
use super::{connections, consumers, shape};
use crate::broker::stats::{ChannelStats, Ranges};
use crate::model::Name;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/channels", get(all))
        .route("/api/channels/{name}", get(one))
        .route("/api/vhosts/{vhost}/channels", get(of_vhost))
}

struct Channels {
    state: State,
    ranges: Ranges,
}

impl Channels {
    fn shown(&self, channel: &ChannelStats) -> Option<Value> {
        let it = self
            .state
            .broker()
            .channel_snapshot(channel, &self.ranges)?;
        let mut value = json!({
            "name": it.name,
            "number": it.number,
            "node": self.state.settings().node,
            "user": &*it.user,
            "user_who_performed_action": &*it.user,
            "vhost": &*it.vhost,
            "state": it.state,
            "consumer_count": it.consumer_count,
            "prefetch_count": it.prefetch_count,
            "global_prefetch_count": it.global_prefetch_count,
            "messages_unacknowledged": it.messages_unacknowledged,
            "messages_unconfirmed": it.messages_unconfirmed,
            "messages_uncommitted": it.messages_uncommitted,
            "acks_uncommitted": it.acks_uncommitted,
            "pending_raft_commands": 0,
            "confirm": it.confirm,
            "transactional": it.transactional,
            "reductions": 0,
            "reductions_details": {"rate": 0.0},
            "garbage_collection": shape::garbage_collection(),
            "connection_details": {
                "name": &**it.connection.name(),
                "peer_host": shape::host(it.connection.peer()),
                "peer_port": it.connection.peer().port(),
            },
        });
        if let Value::Object(fields) = &mut value {
            shape::put_message_stats(fields, &it.message_stats);
            if let Some(ms) = it.idle_since_ms {
                fields.insert("idle_since".to_owned(), shape::time(ms).into());
            }
        }
        Some(value)
    }
}

impl Listed for Channels {
    type Row = Arc<ChannelStats>;

    fn key(&self, row: &Arc<ChannelStats>) -> (Name, Name) {
        let Some(connection) = row.connection() else {
            return ("".into(), "".into());
        };
        let vhost = connection.described().map(|it| Arc::clone(&it.vhost));
        let name = format!("{} ({})", connection.name(), row.number());
        (vhost.unwrap_or_else(|| "".into()), name.into())
    }

    fn render(&self, row: &Arc<ChannelStats>) -> Option<Value> {
        self.shown(row)
    }
}

/// A list of these channels.
///
/// # Errors
/// 400 for a page or a range that is none.
pub(super) async fn reply(
    caller: &Caller,
    params: &Params,
    channels: Vec<Arc<ChannelStats>>,
) -> Answer {
    let query = ListQuery::parse(params)?;
    let listed = Channels {
        state: caller.state.clone(),
        ranges: shape::ranges(params)?,
    };
    list::reply(query, listed, channels).await
}

fn visible(caller: &Caller, vhost: Option<&str>) -> Vec<Arc<ChannelStats>> {
    let mut channels = caller.broker().channels();
    channels.retain(|channel| {
        let Some(connection) = channel.connection() else {
            return false;
        };
        connection
            .described()
            .is_some_and(|it| connections::is_shown(caller, &it.user, &it.vhost, vhost))
    });
    channels
}

async fn all(caller: Caller, params: Params) -> Answer {
    reply(&caller, &params, visible(&caller, None)).await
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    caller.vhost_to_see(&vhost)?;
    reply(&caller, &params, visible(&caller, Some(&vhost))).await
}

async fn one(caller: Caller, Path(name): Path<String>, params: Params) -> Answer {
    let channel = caller
        .broker()
        .channel_named(&name)
        .ok_or_else(ApiError::object_not_found)?;
    let listed = Channels {
        state: caller.state.clone(),
        ranges: shape::ranges(&params)?,
    };
    let mut value = listed
        .shown(&channel)
        .ok_or_else(ApiError::object_not_found)?;
    caller.check_sees(value["user"].as_str().unwrap_or_default())?;
    let reports = caller.broker().consumers_of_channel(&channel);
    value["consumer_details"] = reports
        .iter()
        .map(|report| consumers::shown(&caller.state, report))
        .collect();
    // Filled with rates_mode=detailed alone, which this is not.
    value["publishes"] = json!([]);
    value["deliveries"] = json!([]);
    list::one(&params, Some(value))
}
