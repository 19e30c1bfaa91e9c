//! Runtime parameters, global parameters, the cluster's name.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::{Administrator, Caller, Policymaker};
use super::change;
use super::input::{Input, Params};
use super::list::{self, ListQuery};
use crate::store::definitions::Parameter;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/parameters", get(all))
        .route("/api/parameters/{component}", get(of_component))
        .route("/api/parameters/{component}/{vhost}", get(of_vhost))
        .route(
            "/api/parameters/{component}/{vhost}/{name}",
            get(one).put(put).delete(delete),
        )
        .route("/api/global-parameters", get(all_global))
        .route(
            "/api/global-parameters/{name}",
            get(one_global).put(put_global).delete(delete_global),
        )
        .route("/api/cluster-name", get(cluster_name).put(put_cluster_name))
}

fn shown(parameter: &Parameter) -> Value {
    json!({
        "vhost": &*parameter.vhost,
        "component": &*parameter.component,
        "name": &*parameter.name,
        "value": parameter.value,
    })
}

fn reply(caller: &Caller, params: &Params, component: Option<&str>, vhost: Option<&str>) -> Answer {
    let mut parameters = Vec::new();
    for vhost in caller.vhosts(vhost)? {
        parameters.extend(caller.broker().parameters(component, Some(&vhost.name)));
    }
    list::of_values(
        &ListQuery::unpaged(params),
        parameters.iter().map(shown).collect(),
    )
}

async fn all(Policymaker(caller): Policymaker, params: Params) -> Answer {
    reply(&caller, &params, None, None)
}

async fn of_component(
    Policymaker(caller): Policymaker,
    Path(component): Path<String>,
    params: Params,
) -> Answer {
    reply(&caller, &params, Some(&component), None)
}

async fn of_vhost(
    Policymaker(caller): Policymaker,
    Path((component, vhost)): Path<(String, String)>,
    params: Params,
) -> Answer {
    reply(&caller, &params, Some(&component), Some(&vhost))
}

type ParameterPath = (String, String, String);

async fn one(
    Policymaker(caller): Policymaker,
    Path((component, vhost, name)): Path<ParameterPath>,
    params: Params,
) -> Answer {
    caller.vhost_to_see(&vhost)?;
    let all = caller.broker().parameters(Some(&component), Some(&vhost));
    let found = all.iter().find(|parameter| *parameter.name == *name);
    list::one(&params, found.map(shown))
}

/// The field `value`, which may be anything.
fn value(input: &Input) -> Result<Value, ApiError> {
    input.require(&["value"])?;
    Ok(input.get("value").cloned().unwrap_or_default())
}

async fn put(
    Policymaker(caller): Policymaker,
    Path((component, vhost, name)): Path<ParameterPath>,
    input: Input,
) -> Answer {
    caller.vhost_to_declare_in(&vhost)?;
    check_is_no_operators(&caller, &component)?;
    let value = value(&input)?;
    change::put(&caller, move |broker| {
        broker.put_parameter(&vhost, &component, &name, value)
    })
    .await
}

async fn delete(
    Policymaker(caller): Policymaker,
    Path((component, vhost, name)): Path<ParameterPath>,
) -> Answer {
    caller.vhost_to_change(&vhost)?;
    check_is_no_operators(&caller, &component)?;
    change::done(&caller, move |broker| {
        broker.delete_parameter(&vhost, &component, &name)
    })
    .await
}

/// Operator policies and limits bind policymakers, who must not get round that by another path.
fn check_is_no_operators(caller: &Caller, component: &str) -> Result<(), ApiError> {
    if caller.is_administrator() || !matches!(component, "operator_policy" | "vhost-limits") {
        return Ok(());
    }
    Err(ApiError::not_authorised("Not administrator user"))
}

/// The parameters of the node, the name of its cluster among them whether or not somebody set it.
fn global(caller: &Caller) -> Vec<Value> {
    let mut all: Vec<Value> = caller
        .broker()
        .global_parameters()
        .iter()
        .map(|parameter| json!({"name": &*parameter.name, "value": parameter.value}))
        .collect();
    if !all
        .iter()
        .any(|parameter| parameter["name"] == "cluster_name")
    {
        all.push(json!({"name": "cluster_name", "value": &*caller.state.cluster_name()}));
    }
    all
}

async fn all_global(Policymaker(caller): Policymaker, params: Params) -> Answer {
    list::of_values(&ListQuery::unpaged(&params), global(&caller))
}

async fn one_global(
    Policymaker(caller): Policymaker,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let found = global(&caller)
        .into_iter()
        .find(|parameter| parameter["name"] == *name);
    list::one(&params, found)
}

async fn put_global(
    Policymaker(caller): Policymaker,
    Path(name): Path<String>,
    input: Input,
) -> Answer {
    let value = value(&input)?;
    change::put(&caller, move |broker| {
        broker.put_global_parameter(&name, value)
    })
    .await
}

async fn delete_global(Policymaker(caller): Policymaker, Path(name): Path<String>) -> Answer {
    change::done(&caller, move |broker| broker.delete_global_parameter(&name)).await
}

async fn cluster_name(caller: Caller) -> Answer {
    answer::json(&json!({"name": &*caller.state.cluster_name()}))
}

async fn put_cluster_name(Administrator(caller): Administrator, input: Input) -> Answer {
    input.require(&["name"])?;
    let name = input.text("name")?.unwrap_or_default().to_owned();
    change::done(&caller, move |broker| broker.set_cluster_name(&name)).await
}
