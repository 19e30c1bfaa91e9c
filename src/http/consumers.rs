//! Consumers, by virtual host; and how one is shown.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::Answer;
use super::caller::Caller;
use super::input::Params;
use super::list::{self, ListQuery, Listed};
use super::shape;
use crate::broker::Vhost;
use crate::broker::snapshots::ConsumerReport;
use crate::broker::stats::ChannelStats;
use crate::model::Name;
use crate::store::definitions::json::arguments_to_json;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/consumers", get(all))
        .route("/api/consumers/{vhost}", get(of_vhost))
}

pub(super) fn shown(state: &State, report: &ConsumerReport) -> Value {
    json!({
        "consumer_tag": &*report.consumer_tag,
        "active": report.active,
        "activity_status": report.activity_status,
        "ack_required": report.ack_required,
        "exclusive": report.exclusive,
        "prefetch_count": report.prefetch_count,
        "priority": report.priority,
        "consumer_timeout": report.consumer_timeout_ms,
        "arguments": arguments_to_json(&report.arguments),
        "queue": {"name": &*report.queue, "vhost": &*report.vhost},
        "channel_details": report
            .channel
            .as_deref()
            .and_then(|channel| channel_details(state, channel))
            .unwrap_or_else(|| json!({})),
    })
}

/// `None` when its connection has just gone.
fn channel_details(state: &State, channel: &ChannelStats) -> Option<Value> {
    let connection = channel.connection()?;
    let described = connection.described()?;
    Some(json!({
        "name": format!("{} ({})", connection.name(), channel.number()),
        "number": channel.number(),
        "connection_name": &**connection.name(),
        "node": state.settings().node,
        "peer_host": shape::host(connection.peer()),
        "peer_port": connection.peer().port(),
        "user": &*described.user,
    }))
}

struct Consumers(State);

impl Listed for Consumers {
    type Row = ConsumerReport;

    fn key(&self, row: &ConsumerReport) -> (Name, Name) {
        let name = format!("{}\0{}", row.queue, row.consumer_tag);
        (Arc::clone(&row.vhost), name.into())
    }

    fn render(&self, row: &ConsumerReport) -> Option<Value> {
        Some(shown(&self.0, row))
    }
}

async fn reply(caller: &Caller, params: &Params, vhosts: &[Arc<Vhost>]) -> Answer {
    let mut rows = Vec::new();
    for vhost in vhosts {
        for handle in vhost.queue_handles() {
            rows.extend(caller.broker().consumers_of(&handle));
        }
    }
    let listed = Consumers(caller.state.clone());
    list::reply(ListQuery::unpaged(params), listed, rows).await
}

async fn all(caller: Caller, params: Params) -> Answer {
    reply(&caller, &params, &caller.vhosts(None)?).await
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    reply(&caller, &params, &[caller.vhost_to_see(&vhost)?]).await
}
