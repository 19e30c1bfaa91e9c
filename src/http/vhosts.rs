//! Virtual hosts: lists, one, put, delete, protection, limits.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post, put};
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::{Administrator, Caller};
use super::input::{Input, Params};
use super::list::{self, ListQuery, Listed};
use super::{change, permissions, shape, users};
use crate::broker::Vhost;
use crate::broker::admin::VhostChange;
use crate::broker::stats::Ranges;
use crate::model::Name;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/vhosts", get(all))
        .route(
            "/api/vhosts/{vhost}",
            get(one).put(put_vhost).delete(delete),
        )
        .route(
            "/api/vhosts/{vhost}/deletion/protection",
            post(protect).delete(unprotect),
        )
        .route("/api/vhosts/{vhost}/start/{node}", post(start))
        .route(
            "/api/vhosts/{vhost}/permissions",
            get(permissions::of_vhost),
        )
        .route(
            "/api/vhosts/{vhost}/topic-permissions",
            get(permissions::topics_of_vhost),
        )
        .route("/api/vhost-limits", get(all_limits))
        .route("/api/vhost-limits/{vhost}", get(limits))
        .route(
            "/api/vhost-limits/{vhost}/{limit}",
            put(put_limit).delete(delete_limit),
        )
}

struct Vhosts {
    state: State,
    /// `None` for definitions alone.
    ranges: Option<Ranges>,
}

impl Vhosts {
    fn new(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        let ranges = shape::ranges(params)?;
        Ok(Self {
            state: caller.state.clone(),
            ranges: (!params.is_true("disable_stats")).then_some(ranges),
        })
    }

    fn shown(&self, vhost: &Vhost) -> Value {
        let row = vhost.metadata();
        let default_queue_type = row
            .default_queue_type
            .as_deref()
            .unwrap_or(self.state.settings().default_queue_type);
        let flag = |name: &str| row.metadata.get(name) == Some(&Value::Bool(true));
        let node = &self.state.settings().node;
        let mut value = json!({
            "name": &*vhost.name,
            "description": row.description,
            "tags": row.tags,
            "default_queue_type": default_queue_type,
            "metadata": {
                "description": row.description,
                "tags": row.tags,
                "default_queue_type": default_queue_type,
            },
            "tracing": flag("tracing"),
            "protected_from_deletion": flag("protected_from_deletion"),
            "cluster_state": Map::from_iter([(node.clone(), Value::from("running"))]),
        });
        if let (Some(ranges), Value::Object(fields)) = (&self.ranges, &mut value) {
            let report = self.state.broker().vhost_snapshot(vhost, ranges);
            shape::put_measures(fields, &report.lengths);
            shape::put_measures(fields, &report.traffic);
            shape::put_message_stats(fields, &report.message_stats);
        }
        value
    }
}

impl Listed for Vhosts {
    type Row = Arc<Vhost>;

    fn key(&self, row: &Arc<Vhost>) -> (Name, Name) {
        ("".into(), Arc::clone(&row.name))
    }

    fn render(&self, row: &Arc<Vhost>) -> Option<Value> {
        Some(self.shown(row))
    }
}

async fn all(caller: Caller, params: Params) -> Answer {
    let query = ListQuery::parse(&params)?;
    let mut vhosts = caller.broker().vhosts();
    vhosts.retain(|vhost| caller.can_see(vhost));
    list::reply(query, Vhosts::new(&caller, &params)?, vhosts).await
}

async fn one(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    list::one(&params, Some(Vhosts::new(&caller, &params)?.shown(&vhost)))
}

async fn put_vhost(
    Administrator(caller): Administrator,
    Path(name): Path<String>,
    input: Input,
) -> Answer {
    let text = |key| Ok::<_, ApiError>(input.text(key)?.map(str::to_owned));
    let new = VhostChange {
        name,
        description: text("description")?,
        tags: users::tags(&input)?,
        default_queue_type: match text("default_queue_type")? {
            None => text("defaultqueuetype")?,
            kind => kind,
        },
        tracing: input.boolean("tracing")?,
        protected_from_deletion: input.boolean("protected_from_deletion")?,
    };
    let user = Arc::clone(&caller.user.name);
    change::put(&caller, move |broker| broker.put_vhost(new, Some(&user))).await
}

async fn delete(Administrator(caller): Administrator, Path(vhost): Path<String>) -> Answer {
    change::done(&caller, move |broker| broker.delete_vhost(&vhost)).await
}

async fn protect(Administrator(caller): Administrator, Path(vhost): Path<String>) -> Answer {
    change::done(&caller, move |broker| {
        broker.set_deletion_protection(&vhost, true)
    })
    .await
}

async fn unprotect(Administrator(caller): Administrator, Path(vhost): Path<String>) -> Answer {
    change::done(&caller, move |broker| {
        broker.set_deletion_protection(&vhost, false)
    })
    .await
}

/// A virtual host that is there runs.
async fn start(
    Administrator(caller): Administrator,
    Path((vhost, node)): Path<(String, String)>,
) -> Answer {
    caller.vhost_to_change(&vhost)?;
    if node != caller.state.settings().node {
        return Err(ApiError::bad_request(format!("there is no node '{node}'")));
    }
    answer::no_content()
}

fn reply_limits(caller: &Caller, params: &Params, vhost: Option<&str>) -> Answer {
    let mut values = Vec::new();
    for vhost in caller.vhosts(vhost)? {
        let limits = caller.broker().vhost_limits(Some(&vhost.name));
        values.extend(
            limits
                .iter()
                .map(|(vhost, limits)| json!({"vhost": &**vhost, "value": limits})),
        );
    }
    list::of_values(&ListQuery::unpaged(params), values)
}

async fn all_limits(caller: Caller, params: Params) -> Answer {
    reply_limits(&caller, &params, None)
}

async fn limits(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    reply_limits(&caller, &params, Some(&vhost))
}

async fn put_limit(
    Administrator(caller): Administrator,
    Path((vhost, limit)): Path<(String, String)>,
    input: Input,
) -> Answer {
    caller.vhost_to_change(&vhost)?;
    let value = users::limit_value(&input)?;
    change::put(&caller, move |broker| {
        broker.put_vhost_limit(&vhost, &limit, &value)
    })
    .await
}

async fn delete_limit(
    Administrator(caller): Administrator,
    Path((vhost, limit)): Path<(String, String)>,
) -> Answer {
    caller.vhost_to_change(&vhost)?;
    change::done(&caller, move |broker| {
        broker.delete_vhost_limit(&vhost, &limit)
    })
    .await
}
