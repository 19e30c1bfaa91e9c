//! Users: lists, one, put, delete; those without permissions, several at once; their limits.

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post, put};
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{Answer, ApiError};
use super::caller::{Administrator, Caller};
use super::input::{Input, Params};
use super::list::{self, ListQuery};
use super::{change, permissions};
use crate::auth::{HashingAlgorithm, PasswordHash, User};
use crate::broker::admin::NewUser;
use crate::model::Name;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/users", get(all))
        .route("/api/users/without-permissions", get(without_permissions))
        .route("/api/users/bulk-delete", post(bulk_delete))
        .route("/api/users/{user}", get(one).put(put_user).delete(delete))
        .route("/api/users/{user}/permissions", get(permissions::of_user))
        .route(
            "/api/users/{user}/topic-permissions",
            get(permissions::topics_of_user),
        )
        .route("/api/user-limits", get(all_limits))
        .route("/api/user-limits/{user}", get(limits))
        .route(
            "/api/user-limits/{user}/{limit}",
            put(put_limit).delete(delete_limit),
        )
}

fn limits_of(user: &User) -> Map<String, Value> {
    let limits = [
        ("max-connections", user.limits.max_connections),
        ("max-channels", user.limits.max_channels),
    ];
    limits
        .into_iter()
        .filter_map(|(name, limit)| Some((name.to_owned(), limit?.into())))
        .collect()
}

fn shown(user: &User) -> Value {
    json!({
        "name": &*user.name,
        "password_hash": user.password.to_base64(),
        "hashing_algorithm": user.password.algorithm().name(),
        "tags": user.tags,
        "limits": limits_of(user),
    })
}

async fn all(Administrator(caller): Administrator, params: Params) -> Answer {
    let query = ListQuery::parse(&params)?;
    let users = caller.broker().directory().users();
    list::of_values(&query, users.iter().map(|user| shown(user)).collect())
}

async fn without_permissions(Administrator(caller): Administrator, params: Params) -> Answer {
    let query = ListQuery::parse(&params)?;
    let directory = caller.broker().directory();
    let permitted: std::collections::HashSet<Name> = directory
        .permissions()
        .into_iter()
        .map(|permission| permission.user)
        .collect();
    let users = directory.users();
    let without = users.iter().filter(|user| !permitted.contains(&user.name));
    list::of_values(&query, without.map(|user| shown(user)).collect())
}

/// A user that a path names.
pub(super) fn find(caller: &Caller, name: &str) -> Result<std::sync::Arc<User>, ApiError> {
    let user = caller.broker().directory().user(name);
    user.ok_or_else(ApiError::object_not_found)
}

async fn one(
    Administrator(caller): Administrator,
    Path(user): Path<String>,
    params: Params,
) -> Answer {
    list::one(&params, Some(shown(&*find(&caller, &user)?)))
}

/// Tags, as a list or as one text with commas.
pub(super) fn tags(input: &Input) -> Result<Option<Vec<String>>, ApiError> {
    let wrong = || ApiError::bad_request("tags must be a list of texts or a text with commas");
    match input.get("tags") {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(
            text.split(',')
                .map(|tag| tag.trim().to_owned())
                .filter(|tag| !tag.is_empty())
                .collect(),
        )),
        Some(Value::Array(list)) => list
            .iter()
            .map(|tag| {
                tag.as_str()
                    .map(|tag| tag.trim().to_owned())
                    .ok_or_else(wrong)
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(wrong()),
    }
}

async fn put_user(
    Administrator(caller): Administrator,
    Path(name): Path<String>,
    input: Input,
) -> Answer {
    let tags = tags(&input)?.ok_or_else(|| ApiError::bad_request("tags_not_present"))?;
    let password = input.text("password")?.map(str::to_owned);
    let hash = input.text("password_hash")?.map(str::to_owned);
    let algorithm = match input.text("hashing_algorithm")? {
        None => HashingAlgorithm::default(),
        Some(name) => HashingAlgorithm::from_name(name).ok_or_else(|| {
            ApiError::bad_request(format!("{{unsupported_hashing_algorithm,{name}}}"))
        })?,
    };
    if password.is_some() && hash.is_some() {
        return Err(ApiError::bad_request(
            "both_password_and_password_hash_are_provided",
        ));
    }
    caller.state.logins().close_sessions_of(&name);
    change::put(&caller, move |broker| {
        let password = match (password, hash) {
            (Some(password), _) if !password.is_empty() => {
                PasswordHash::create(algorithm, password.as_bytes())
            }
            (_, Some(hash)) => PasswordHash::from_base64(algorithm, &hash),
            _ => Ok(PasswordHash::none()),
        };
        let password = password.map_err(|error| crate::broker::admin::AdminError::Invalid {
            reason: format!("password_hash: {error}"),
        })?;
        broker.put_user(NewUser {
            name: name.into(),
            password,
            tags,
            limits: None,
        })
    })
    .await
}

async fn delete(Administrator(caller): Administrator, Path(user): Path<String>) -> Answer {
    caller.state.logins().close_sessions_of(&user);
    change::done(&caller, move |broker| broker.delete_user(&user)).await
}

async fn bulk_delete(Administrator(caller): Administrator, input: Input) -> Answer {
    input.require(&["users"])?;
    let wrong = || ApiError::bad_request("users must be a list of names");
    let users = input
        .get("users")
        .and_then(Value::as_array)
        .ok_or_else(wrong)?;
    let names: Vec<Name> = users
        .iter()
        .map(|user| user.as_str().map(Name::from).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    for name in &names {
        caller.state.logins().close_sessions_of(name);
    }
    change::done(&caller, move |broker| broker.delete_users(&names)).await
}

fn limits_shown(user: &User) -> Value {
    json!({"user": &*user.name, "value": limits_of(user)})
}

async fn all_limits(Administrator(caller): Administrator, params: Params) -> Answer {
    let users = caller.broker().directory().users();
    let limited = users.iter().filter(|user| !limits_of(user).is_empty());
    let values = limited.map(|user| limits_shown(user)).collect();
    list::of_values(&ListQuery::unpaged(&params), values)
}

async fn limits(caller: Caller, Path(name): Path<String>, params: Params) -> Answer {
    if !caller.is_administrator() && *caller.user.name != *name {
        return Err(ApiError::not_authorised("Not administrator user"));
    }
    let user = find(&caller, &name)?;
    let values = if limits_of(&user).is_empty() {
        Vec::new()
    } else {
        vec![limits_shown(&user)]
    };
    list::of_values(&ListQuery::unpaged(&params), values)
}

async fn put_limit(
    Administrator(caller): Administrator,
    Path((user, limit)): Path<(String, String)>,
    input: Input,
) -> Answer {
    find(&caller, &user)?;
    let value = limit_value(&input)?;
    change::put(&caller, move |broker| {
        broker.put_user_limit(&user, &limit, &value)
    })
    .await
}

/// The value of a limit; a number that is written as a text counts.
pub(super) fn limit_value(input: &Input) -> Result<Value, ApiError> {
    input.require(&["value"])?;
    Ok(match input.integer("value") {
        Ok(Some(number)) => number.into(),
        _ => input.get("value").cloned().unwrap_or_default(),
    })
}

async fn delete_limit(
    Administrator(caller): Administrator,
    Path((user, limit)): Path<(String, String)>,
) -> Answer {
    find(&caller, &user)?;
    change::done(&caller, move |broker| {
        broker.delete_user_limit(&user, &limit)
    })
    .await
}
