//! Queues: lists, one, declare, delete, purge.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::{delete, get, post};
use serde_json::Value;

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::{Administrator, Caller};
use super::input::{Input, Params};
use super::list::{self, ListQuery, Listed};
use super::queue_view::View;
use crate::broker::Vhost;
use crate::model::{Command, Name};
use crate::queue::QueueHandle;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/queues", get(all))
        .route("/api/queues/detailed", get(all_detailed))
        .route("/api/queues/{vhost}", get(of_vhost))
        .route(
            "/api/queues/{vhost}/{queue}",
            get(one).put(declare).delete(remove),
        )
        .route("/api/queues/{vhost}/{queue}/contents", delete(purge))
        .route("/api/queues/{vhost}/{queue}/actions", post(act))
        .route("/api/queues/quorum/{vhost}/{queue}/status", get(status))
        .route("/api/rebalance/queues", post(rebalance))
}

struct Queues(View);

impl Listed for Queues {
    type Row = QueueHandle;

    fn key(&self, row: &QueueHandle) -> (Name, Name) {
        (Arc::clone(row.vhost()), Arc::clone(row.name()))
    }

    fn field(&self, row: &QueueHandle, path: &str) -> Option<Value> {
        self.0.field(row, path)
    }

    fn render(&self, row: &QueueHandle) -> Option<Value> {
        self.0.row(row)
    }
}

async fn reply(view: View, params: &Params, vhosts: &[Arc<Vhost>]) -> Answer {
    let query = ListQuery::parse(params)?;
    let mut rows = Vec::new();
    for vhost in vhosts {
        rows.extend(vhost.queue_handles());
    }
    list::reply(query, Queues(view), rows).await
}

async fn all(caller: Caller, params: Params) -> Answer {
    let vhosts = caller.vhosts(None)?;
    reply(View::of_list(&caller, &params)?, &params, &vhosts).await
}

async fn all_detailed(caller: Caller, params: Params) -> Answer {
    let vhosts = caller.vhosts(None)?;
    reply(View::of_one(&caller, &params)?, &params, &vhosts).await
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    reply(View::of_list(&caller, &params)?, &params, &[vhost]).await
}

/// A queue that a path names.
fn find(vhost: &Vhost, queue: &str) -> Result<QueueHandle, ApiError> {
    vhost
        .queue_handle(queue)
        .ok_or_else(ApiError::object_not_found)
}

async fn one(
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let handle = find(&vhost, &queue)?;
    list::one(&params, View::of_one(&caller, &params)?.whole(&handle))
}

async fn declare(
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    input: Input,
) -> Answer {
    let vhost = caller.vhost_to_declare_in(&vhost)?;
    if queue.is_empty() {
        return Err(ApiError::bad_request("the queue has no name"));
    }
    let is_new = vhost.queue_handle(&queue).is_none();
    let command = Command::DeclareQueue {
        name: queue,
        passive: false,
        durable: input.boolean("durable")?.unwrap_or(true),
        // There is no connection that could own it.
        exclusive: false,
        auto_delete: input.boolean("auto_delete")?.unwrap_or(false),
        arguments: input.arguments()?,
    };
    caller
        .direct(&vhost)?
        .execute(command)
        .await
        .map_err(ApiError::of_command)?;
    answer::put(is_new)
}

async fn remove(
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_change(&vhost)?;
    find(&vhost, &queue)?;
    let command = Command::DeleteQueue {
        name: queue,
        if_unused: params.is_true("if-unused"),
        if_empty: params.is_true("if-empty"),
    };
    caller
        .direct(&vhost)?
        .execute(command)
        .await
        .map_err(ApiError::of_command)?;
    answer::no_content()
}

async fn purge(caller: Caller, Path((vhost, queue)): Path<(String, String)>) -> Answer {
    let vhost = caller.vhost_to_change(&vhost)?;
    find(&vhost, &queue)?;
    caller
        .direct(&vhost)?
        .execute(Command::PurgeQueue { queue })
        .await
        .map_err(ApiError::of_command)?;
    answer::no_content()
}

/// RabbitMQ 4.3 has no action left that means anything to a queue.
async fn act(
    Administrator(caller): Administrator,
    Path((vhost, queue)): Path<(String, String)>,
    input: Input,
) -> Answer {
    find(&*caller.vhost_to_change(&vhost)?, &queue)?;
    input.require(&["action"])?;
    let action = input.text("action")?.unwrap_or_default();
    Err(ApiError::bad_request(format!("unknown action '{action}'")))
}

/// The members of a quorum queue: this node.
async fn status(caller: Caller, Path((vhost, queue)): Path<(String, String)>) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let handle = find(&vhost, &queue)?;
    if handle.kind() != crate::queue::QueueKind::Quorum {
        return Err(ApiError::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable",
            "classic_queue_not_supported",
        ));
    }
    answer::json(&serde_json::json!([{
        "Node Name": caller.state.settings().node,
        "Raft State": "leader",
        "Membership": "voter",
        "Last Log Index": 0,
        "Last Written": 0,
        "Last Applied": 0,
        "Commit Index": 0,
        "Snapshot Index": 0,
        "Term": 1,
        "Machine Version": 0,
    }]))
}

/// One node has nothing to balance.
async fn rebalance(_: Administrator) -> Answer {
    answer::no_content()
}
