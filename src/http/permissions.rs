//! Permissions and topic permissions: lists, one, put, delete; of a user, of a virtual host.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{Answer, ApiError};
use super::caller::{Administrator, Caller};
use super::input::{Input, Params};
use super::list::{self, ListQuery};
use super::{change, names, users};
use crate::auth::{Permission, TopicPermission};

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/permissions", get(all))
        .route(
            "/api/permissions/{vhost}/{user}",
            get(one).put(put).delete(delete),
        )
        .route("/api/topic-permissions", get(all_topics))
        .route(
            "/api/topic-permissions/{vhost}/{user}",
            get(topics).put(put_topic).delete(delete_topics),
        )
        .route(
            "/api/topic-permissions/{vhost}/{user}/{exchange}",
            get(topic).put(put_named_topic).delete(delete_topic),
        )
}

fn shown(permission: &Permission) -> Value {
    json!({
        "user": &*permission.user,
        "vhost": &*permission.vhost,
        "configure": permission.configure,
        "write": permission.write,
        "read": permission.read,
    })
}

fn topic_shown(permission: &TopicPermission) -> Value {
    json!({
        "user": &*permission.user,
        "vhost": &*permission.vhost,
        "exchange": &*permission.exchange,
        "write": permission.write,
        "read": permission.read,
    })
}

fn reply(caller: &Caller, params: &Params, is_meant: impl Fn(&Permission) -> bool) -> Answer {
    let all = caller.broker().directory().permissions();
    let meant = all.iter().filter(|permission| is_meant(permission));
    list::of_values(&ListQuery::unpaged(params), meant.map(shown).collect())
}

fn reply_topics(
    caller: &Caller,
    params: &Params,
    is_meant: impl Fn(&TopicPermission) -> bool,
) -> Answer {
    let all = caller.broker().directory().topic_permissions();
    let meant = all.iter().filter(|permission| is_meant(permission));
    list::of_values(
        &ListQuery::unpaged(params),
        meant.map(topic_shown).collect(),
    )
}

async fn all(Administrator(caller): Administrator, params: Params) -> Answer {
    reply(&caller, &params, |_| true)
}

async fn all_topics(Administrator(caller): Administrator, params: Params) -> Answer {
    reply_topics(&caller, &params, |_| true)
}

pub(super) async fn of_user(
    Administrator(caller): Administrator,
    Path(user): Path<String>,
    params: Params,
) -> Answer {
    users::find(&caller, &user)?;
    reply(&caller, &params, |it| *it.user == *user)
}

pub(super) async fn topics_of_user(
    Administrator(caller): Administrator,
    Path(user): Path<String>,
    params: Params,
) -> Answer {
    users::find(&caller, &user)?;
    reply_topics(&caller, &params, |it| *it.user == *user)
}

pub(super) async fn of_vhost(
    Administrator(caller): Administrator,
    Path(vhost): Path<String>,
    params: Params,
) -> Answer {
    caller.vhost_to_see(&vhost)?;
    reply(&caller, &params, |it| *it.vhost == *vhost)
}

pub(super) async fn topics_of_vhost(
    Administrator(caller): Administrator,
    Path(vhost): Path<String>,
    params: Params,
) -> Answer {
    caller.vhost_to_see(&vhost)?;
    reply_topics(&caller, &params, |it| *it.vhost == *vhost)
}

async fn one(
    Administrator(caller): Administrator,
    Path((vhost, user)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let all = caller.broker().directory().permissions();
    let found = all
        .iter()
        .find(|it| *it.vhost == *vhost && *it.user == *user);
    list::one(&params, found.map(shown))
}

/// 400 when the virtual host or the user is not there (`rabbit_mgmt_util:catch_no_such_user_or_vhost/2`).
fn check_both(caller: &Caller, vhost: &str, user: &str) -> Result<(), ApiError> {
    let is_there =
        caller.broker().vhost(vhost).is_some() && caller.broker().directory().user(user).is_some();
    if is_there {
        return Ok(());
    }
    Err(ApiError::bad_request("vhost_or_user_not_found"))
}

fn pattern(input: &Input, name: &str) -> Result<String, ApiError> {
    Ok(input.text(name)?.unwrap_or_default().to_owned())
}

async fn put(
    Administrator(caller): Administrator,
    Path((vhost, user)): Path<(String, String)>,
    input: Input,
) -> Answer {
    check_both(&caller, &vhost, &user)?;
    input.require(&["configure", "write", "read"])?;
    let permission = Permission {
        user: user.into(),
        vhost: vhost.into(),
        configure: pattern(&input, "configure")?,
        write: pattern(&input, "write")?,
        read: pattern(&input, "read")?,
    };
    change::put(&caller, move |broker| broker.put_permission(permission)).await
}

async fn delete(
    Administrator(caller): Administrator,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    change::done(&caller, move |broker| {
        broker.delete_permission(&vhost, &user)
    })
    .await
}

async fn topics(
    Administrator(caller): Administrator,
    Path((vhost, user)): Path<(String, String)>,
    params: Params,
) -> Answer {
    reply_some_topics(&caller, &params, &vhost, &user, None)
}

async fn topic(
    Administrator(caller): Administrator,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
    params: Params,
) -> Answer {
    reply_some_topics(
        &caller,
        &params,
        &vhost,
        &user,
        Some(&names::exchange(exchange)),
    )
}

/// None at all is 404.
fn reply_some_topics(
    caller: &Caller,
    params: &Params,
    vhost: &str,
    user: &str,
    exchange: Option<&str>,
) -> Answer {
    let is_meant = |it: &TopicPermission| {
        *it.vhost == *vhost
            && *it.user == *user
            && exchange.is_none_or(|exchange| *it.exchange == *exchange)
    };
    let all = caller.broker().directory().topic_permissions();
    if !all.iter().any(is_meant) {
        return Err(ApiError::object_not_found());
    }
    reply_topics(caller, params, is_meant)
}

async fn put_topic(
    Administrator(caller): Administrator,
    Path((vhost, user)): Path<(String, String)>,
    input: Input,
) -> Answer {
    check_both(&caller, &vhost, &user)?;
    input.require(&["exchange", "write", "read"])?;
    let exchange = pattern(&input, "exchange")?;
    set_topic(&caller, vhost, user, exchange, &input).await
}

async fn put_named_topic(
    Administrator(caller): Administrator,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
    input: Input,
) -> Answer {
    check_both(&caller, &vhost, &user)?;
    input.require(&["write", "read"])?;
    set_topic(&caller, vhost, user, exchange, &input).await
}

async fn set_topic(
    caller: &Caller,
    vhost: String,
    user: String,
    exchange: String,
    input: &Input,
) -> Answer {
    let permission = TopicPermission {
        user: user.into(),
        vhost: vhost.into(),
        exchange: Arc::from(names::exchange(exchange)),
        write: pattern(input, "write")?,
        read: pattern(input, "read")?,
    };
    change::put(caller, move |broker| {
        broker.put_topic_permission(permission)
    })
    .await
}

async fn delete_topics(
    Administrator(caller): Administrator,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    change::done(&caller, move |broker| {
        broker.delete_topic_permission(&vhost, &user, None)
    })
    .await
}

async fn delete_topic(
    Administrator(caller): Administrator,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Answer {
    change::done(&caller, move |broker| {
        broker.delete_topic_permission(&vhost, &user, Some(&names::exchange(exchange)))
    })
    .await
}
