//! Exchanges: lists, one, declare, delete.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::Caller;
use super::input::{Input, Params};
use super::list::{self, ListQuery, Listed};
use super::{names, shape};
use crate::broker::stats::{ExchangeStats, Ranges};
use crate::broker::{ExchangeCell, Vhost};
use crate::model::{Command, Name};
use crate::store::definitions::json::arguments_to_json;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/exchanges", get(all))
        .route("/api/exchanges/{vhost}", get(of_vhost))
        .route(
            "/api/exchanges/{vhost}/{exchange}",
            get(one).put(declare).delete(delete),
        )
}

/// The type of an exchange that is declared without one.
const DEFAULT_TYPE: &str = "direct";

/// An exchange of a list: the default one is none of the broker's cells.
struct Row {
    vhost: Arc<Vhost>,
    name: Name,
    cell: Option<Arc<ExchangeCell>>,
}

impl Row {
    /// What it counts.
    fn stats(&self) -> &ExchangeStats {
        match &self.cell {
            Some(cell) => cell.stats(),
            None => &self.vhost.stats.default_exchange,
        }
    }
}

struct Exchanges {
    state: State,
    /// `None` for definitions alone.
    ranges: Option<Ranges>,
}

impl Exchanges {
    fn new(caller: &Caller, params: &Params) -> Result<Self, ApiError> {
        let ranges = shape::ranges(params)?;
        Ok(Self {
            state: caller.state.clone(),
            ranges: (!params.is_true("disable_stats")).then_some(ranges),
        })
    }

    fn shown(&self, row: &Row) -> Value {
        let mut value = match &row.cell {
            Some(cell) => cell.read(|exchange| {
                let definition = exchange.definition();
                json!({
                    "name": &*definition.name,
                    "type": definition.kind.as_str(),
                    "durable": definition.durable,
                    "auto_delete": definition.auto_delete,
                    "internal": definition.internal,
                    "arguments": arguments_to_json(&definition.arguments),
                })
            }),
            None => json!({
                "name": "",
                "type": DEFAULT_TYPE,
                "durable": true,
                "auto_delete": false,
                "internal": false,
                "arguments": {},
            }),
        };
        value["vhost"] = (&*row.vhost.name).into();
        let policy = row.cell.as_ref().and_then(|cell| cell.policy());
        if let Some(policy) = &policy {
            if let Some(name) = &policy.policy {
                value["policy"] = (&**name).into();
            }
            value["effective_policy_definition"] = policy.definition.clone().into();
        }
        if let (Some(ranges), Value::Object(fields)) = (&self.ranges, &mut value) {
            let stats = self.state.broker().exchange_stats(row.stats(), ranges);
            shape::put_message_stats(fields, &stats);
        }
        value
    }
}

impl Listed for Exchanges {
    type Row = Row;

    fn key(&self, row: &Row) -> (Name, Name) {
        (Arc::clone(&row.vhost.name), Arc::clone(&row.name))
    }

    fn field(&self, row: &Row, path: &str) -> Option<Value> {
        let cell = row.cell.as_ref()?;
        cell.read(|exchange| {
            let definition = exchange.definition();
            match path {
                "type" => Some(definition.kind.as_str().into()),
                "durable" => Some(definition.durable.into()),
                "auto_delete" => Some(definition.auto_delete.into()),
                "internal" => Some(definition.internal.into()),
                _ => None,
            }
        })
    }

    fn render(&self, row: &Row) -> Option<Value> {
        Some(self.shown(row))
    }
}

async fn reply(caller: &Caller, params: &Params, vhosts: &[Arc<Vhost>]) -> Answer {
    let query = ListQuery::parse(params)?;
    let listed = Exchanges::new(caller, params)?;
    let mut rows = Vec::new();
    for vhost in vhosts {
        let row = |name: Name, cell| Row {
            vhost: Arc::clone(vhost),
            name,
            cell,
        };
        rows.push(row("".into(), None));
        rows.extend(vhost.exchange_cells().into_iter().map(|cell| {
            let name = cell.read(|exchange| Arc::clone(exchange.name()));
            row(name, Some(cell))
        }));
    }
    list::reply(query, listed, rows).await
}

async fn all(caller: Caller, params: Params) -> Answer {
    reply(&caller, &params, &caller.vhosts(None)?).await
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    reply(&caller, &params, &[caller.vhost_to_see(&vhost)?]).await
}

async fn one(
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let name = names::exchange(exchange);
    let cell = vhost.exchange_cell(&name);
    if cell.is_none() && !name.is_empty() {
        return Err(ApiError::object_not_found());
    }
    let row = Row {
        vhost,
        name: name.into(),
        cell,
    };
    let mut value = Exchanges::new(&caller, &params)?.shown(&row);
    // Filled with rates_mode=detailed alone, which this is not.
    value["incoming"] = json!([]);
    value["outgoing"] = json!([]);
    list::one(&params, Some(value))
}

async fn declare(
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    input: Input,
) -> Answer {
    let vhost = caller.vhost_to_declare_in(&vhost)?;
    let name = names::exchange(exchange);
    let is_new = vhost.exchange_cell(&name).is_none();
    let command = Command::DeclareExchange {
        kind: input.text("type")?.unwrap_or(DEFAULT_TYPE).to_owned(),
        passive: false,
        durable: input.boolean("durable")?.unwrap_or(true),
        auto_delete: input.boolean("auto_delete")?.unwrap_or(false),
        internal: input.boolean("internal")?.unwrap_or(false),
        arguments: input.arguments()?,
        name,
    };
    caller
        .direct(&vhost)?
        .execute(command)
        .await
        .map_err(ApiError::of_command)?;
    answer::put(is_new)
}

async fn delete(
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_change(&vhost)?;
    let name = names::exchange(exchange);
    if !name.is_empty() && vhost.exchange_cell(&name).is_none() {
        return Err(ApiError::object_not_found());
    }
    let command = Command::DeleteExchange {
        name,
        if_unused: params.is_true("if-unused"),
    };
    caller
        .direct(&vhost)?
        .execute(command)
        .await
        .map_err(ApiError::of_command)?;
    answer::no_content()
}
