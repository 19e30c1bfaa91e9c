//! Policies and operator policies: lists, one, put, delete.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{Answer, ApiError};
use super::caller::{Administrator, Caller};
use super::change;
use super::input::{Input, Params};
use super::list::{self, ListQuery};
use crate::broker::policies::{NewPolicy, PolicyKind};
use crate::store::definitions::Policy;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/policies", get(all))
        .route("/api/policies/{vhost}", get(of_vhost))
        .route(
            "/api/policies/{vhost}/{name}",
            get(one).put(put).delete(delete),
        )
        .route("/api/operator-policies", get(all_of_operator))
        .route("/api/operator-policies/{vhost}", get(of_operator_in_vhost))
        .route(
            "/api/operator-policies/{vhost}/{name}",
            get(one_of_operator)
                .put(put_of_operator)
                .delete(delete_of_operator),
        )
}

fn shown(policy: &Policy) -> Value {
    json!({
        "vhost": &*policy.vhost,
        "name": &*policy.name,
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "definition": policy.definition,
        "priority": policy.priority,
    })
}

fn reply(caller: &Caller, params: &Params, kind: PolicyKind, vhost: Option<&str>) -> Answer {
    let mut policies = Vec::new();
    for vhost in caller.vhosts(vhost)? {
        policies.extend(caller.broker().policies(kind, Some(&vhost.name)));
    }
    list::of_values(
        &ListQuery::unpaged(params),
        policies.iter().map(shown).collect(),
    )
}

fn reply_one(
    caller: &Caller,
    params: &Params,
    kind: PolicyKind,
    (vhost, name): (String, String),
) -> Answer {
    caller.vhost_to_see(&vhost)?;
    let policy = caller.broker().policy(kind, &vhost, &name);
    list::one(params, policy.as_ref().map(shown))
}

async fn set(
    caller: &Caller,
    kind: PolicyKind,
    (vhost, name): (String, String),
    input: &Input,
) -> Answer {
    input.require(&["pattern", "definition"])?;
    let field = |name| input.get(name).cloned();
    let priority = match input.integer("priority") {
        Ok(number) => number.map(Value::from),
        Err(_) => field("priority"),
    };
    let new = NewPolicy {
        vhost: vhost.into(),
        name: name.into(),
        pattern: field("pattern").unwrap_or_default(),
        apply_to: field("apply-to"),
        priority,
        definition: field("definition").unwrap_or_default(),
    };
    change::put(caller, move |broker| broker.put_policy(kind, new)).await
}

async fn remove(caller: &Caller, kind: PolicyKind, (vhost, name): (String, String)) -> Answer {
    change::done(caller, move |broker| {
        broker.delete_policy(kind, &vhost, &name)
    })
    .await
}

async fn all(caller: Caller, params: Params) -> Answer {
    reply(&caller, &params, PolicyKind::User, None)
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    reply(&caller, &params, PolicyKind::User, Some(&vhost))
}

async fn one(caller: Caller, Path(at): Path<(String, String)>, params: Params) -> Answer {
    reply_one(&caller, &params, PolicyKind::User, at)
}

async fn put(caller: Caller, Path(at): Path<(String, String)>, input: Input) -> Answer {
    if caller.broker().vhost(&at.0).is_none() {
        return Err(ApiError::not_found("vhost_not_found"));
    }
    caller.vhost_to_rule(&at.0)?;
    set(&caller, PolicyKind::User, at, &input).await
}

async fn delete(caller: Caller, Path(at): Path<(String, String)>) -> Answer {
    caller.vhost_to_rule(&at.0)?;
    remove(&caller, PolicyKind::User, at).await
}

async fn all_of_operator(caller: Caller, params: Params) -> Answer {
    reply(&caller, &params, PolicyKind::Operator, None)
}

async fn of_operator_in_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    reply(&caller, &params, PolicyKind::Operator, Some(&vhost))
}

async fn one_of_operator(
    caller: Caller,
    Path(at): Path<(String, String)>,
    params: Params,
) -> Answer {
    reply_one(&caller, &params, PolicyKind::Operator, at)
}

async fn put_of_operator(
    Administrator(caller): Administrator,
    Path(at): Path<(String, String)>,
    input: Input,
) -> Answer {
    caller.vhost_to_declare_in(&at.0)?;
    set(&caller, PolicyKind::Operator, at, &input).await
}

async fn delete_of_operator(
    Administrator(caller): Administrator,
    Path(at): Path<(String, String)>,
) -> Answer {
    caller.vhost_to_change(&at.0)?;
    remove(&caller, PolicyKind::Operator, at).await
}
