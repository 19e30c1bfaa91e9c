//! Bindings: lists by virtual host, source, destination or both, and each by its key.
//!
//! A binding is made and given up with the permissions of a client of AMQP.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde_json::{Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::Caller;
use super::input::{Input, Params};
use super::list::{self, ListQuery, Listed};
use super::names;
use crate::broker::{BindingRow, Broker, Vhost};
use crate::model::{Command, Name};
use crate::protocol::FieldTable;
use crate::routing::Destination;
use crate::store::definitions::DestinationKind;
use crate::store::definitions::json::arguments_to_json;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/bindings", get(all))
        .route("/api/bindings/{vhost}", get(of_vhost))
        .route(
            "/api/bindings/{vhost}/e/{source}/{kind}/{destination}",
            get(between).post(bind),
        )
        .route(
            "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}",
            get(one).delete(unbind),
        )
        .route("/api/queues/{vhost}/{queue}/bindings", get(of_queue))
        .route(
            "/api/exchanges/{vhost}/{exchange}/bindings/source",
            get(from_exchange),
        )
        .route(
            "/api/exchanges/{vhost}/{exchange}/bindings/destination",
            get(to_exchange),
        )
}

/// A binding as lists show it.
pub(super) fn shown(row: &BindingRow) -> Value {
    json!({
        "source": &*row.source,
        "vhost": &*row.vhost,
        "destination": &*row.destination,
        "destination_type": row.destination_kind.name(),
        "routing_key": &*row.routing_key,
        "arguments": arguments_to_json(&row.arguments),
        "properties_key": names::properties_key(&row.routing_key, &row.arguments),
    })
}

struct Bindings;

impl Listed for Bindings {
    type Row = BindingRow;

    fn key(&self, row: &BindingRow) -> (Name, Name) {
        let rest = format!(
            "{}\0{}\0{}\0{}",
            row.source,
            row.destination_kind.name(),
            row.destination,
            row.routing_key
        );
        (Arc::clone(&row.vhost), rest.into())
    }

    fn render(&self, row: &BindingRow) -> Option<Value> {
        Some(shown(row))
    }
}

async fn reply(params: &Params, rows: Vec<BindingRow>) -> Answer {
    list::reply(ListQuery::unpaged(params), Bindings, rows).await
}

/// Every binding of a virtual host, those of the default exchange among them.
fn in_vhost(broker: &Broker, vhost: &Vhost) -> Vec<BindingRow> {
    let mut rows: Vec<BindingRow> = vhost
        .queue_handles()
        .iter()
        .map(Broker::default_binding)
        .collect();
    for cell in vhost.exchange_cells() {
        rows.extend(broker.bindings_from(vhost, &cell));
    }
    rows
}

async fn all(caller: Caller, params: Params) -> Answer {
    let rows = caller
        .vhosts(None)?
        .iter()
        .flat_map(|vhost| in_vhost(caller.broker(), vhost))
        .collect();
    reply(&params, rows).await
}

async fn of_vhost(caller: Caller, Path(vhost): Path<String>, params: Params) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    reply(&params, in_vhost(caller.broker(), &vhost)).await
}

async fn of_queue(
    caller: Caller,
    Path((vhost, queue)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let rows = to_queue(caller.broker(), &vhost, &queue).ok_or_else(ApiError::object_not_found)?;
    reply(&params, rows).await
}

fn to_queue(broker: &Broker, vhost: &Vhost, queue: &str) -> Option<Vec<BindingRow>> {
    let handle = vhost.queue_handle(queue)?;
    let mut rows = broker.bindings_to(vhost, &Destination::Queue(handle.id()));
    rows.push(Broker::default_binding(&handle));
    Some(rows)
}

async fn from_exchange(
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let rows = from(caller.broker(), &vhost, &names::exchange(exchange));
    reply(&params, rows.ok_or_else(ApiError::object_not_found)?).await
}

fn from(broker: &Broker, vhost: &Vhost, exchange: &str) -> Option<Vec<BindingRow>> {
    if exchange.is_empty() {
        let handles = vhost.queue_handles();
        return Some(handles.iter().map(Broker::default_binding).collect());
    }
    let cell = vhost.exchange_cell(exchange)?;
    Some(broker.bindings_from(vhost, &cell))
}

async fn to_exchange(
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let exchange = names::exchange(exchange);
    let rows = if exchange.is_empty() {
        // Nothing can be bound to the default exchange.
        Vec::new()
    } else {
        to(caller.broker(), &vhost, &exchange).ok_or_else(ApiError::object_not_found)?
    };
    reply(&params, rows).await
}

fn to(broker: &Broker, vhost: &Vhost, exchange: &str) -> Option<Vec<BindingRow>> {
    vhost.exchange_cell(exchange)?;
    Some(broker.bindings_to(vhost, &Destination::Exchange(exchange.into())))
}

/// Both ends of a binding, as the path names them.
struct Ends {
    source: String,
    destination: String,
    kind: DestinationKind,
}

impl Ends {
    fn parse(source: String, kind: &str, destination: String) -> Result<Self, ApiError> {
        let kind = match kind {
            "q" => DestinationKind::Queue,
            "e" => DestinationKind::Exchange,
            _ => return Err(ApiError::object_not_found()),
        };
        Ok(Self {
            source: names::exchange(source),
            destination: match kind {
                DestinationKind::Queue => destination,
                DestinationKind::Exchange => names::exchange(destination),
            },
            kind,
        })
    }

    /// The bindings between them; `None` when one of them is not there.
    fn bindings(&self, broker: &Broker, vhost: &Vhost) -> Option<Vec<BindingRow>> {
        if !self.source.is_empty() {
            vhost.exchange_cell(&self.source)?;
        }
        let mut rows = match self.kind {
            DestinationKind::Queue => to_queue(broker, vhost, &self.destination)?,
            DestinationKind::Exchange if self.destination.is_empty() => Vec::new(),
            DestinationKind::Exchange => to(broker, vhost, &self.destination)?,
        };
        rows.retain(|row| *row.source == *self.source);
        Some(rows)
    }

    fn command(self, binds: bool, routing_key: String, arguments: FieldTable) -> Command {
        let Self {
            source,
            destination,
            kind,
        } = self;
        match (kind, binds) {
            (DestinationKind::Queue, true) => Command::BindQueue {
                queue: destination,
                exchange: source,
                routing_key,
                arguments,
            },
            (DestinationKind::Queue, false) => Command::UnbindQueue {
                queue: destination,
                exchange: source,
                routing_key,
                arguments,
            },
            (DestinationKind::Exchange, true) => Command::BindExchange {
                destination,
                source,
                routing_key,
                arguments,
            },
            (DestinationKind::Exchange, false) => Command::UnbindExchange {
                destination,
                source,
                routing_key,
                arguments,
            },
        }
    }
}

async fn between(
    caller: Caller,
    Path((vhost, source, kind, destination)): Path<(String, String, String, String)>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let ends = Ends::parse(source, &kind, destination)?;
    let rows = ends.bindings(caller.broker(), &vhost);
    reply(&params, rows.ok_or_else(ApiError::object_not_found)?).await
}

async fn bind(
    caller: Caller,
    Path((vhost, source, kind, destination)): Path<(String, String, String, String)>,
    input: Input,
) -> Answer {
    let ends = Ends::parse(source, &kind, destination)?;
    let vhost = caller.vhost_to_declare_in(&vhost)?;
    let routing_key = input.text("routing_key")?.unwrap_or_default().to_owned();
    let arguments = input.arguments()?;
    let key = names::properties_key(&routing_key, &arguments);
    let location = names::binding_location(&ends.destination, &key);
    caller
        .direct(&vhost)?
        .execute(ends.command(true, routing_key, arguments))
        .await
        .map_err(ApiError::of_command)?;
    let location = HeaderValue::from_str(&location)
        .map_err(|error| ApiError::internal(format!("the place of a binding: {error}")))?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

type BindingPath = (String, String, String, String, String);

/// The binding that a path names.
fn find(caller: &Caller, vhost: &Vhost, ends: &Ends, key: &str) -> Result<BindingRow, ApiError> {
    ends.bindings(caller.broker(), vhost)
        .into_iter()
        .flatten()
        .find(|row| names::properties_key(&row.routing_key, &row.arguments) == key)
        .ok_or_else(ApiError::object_not_found)
}

async fn one(
    caller: Caller,
    Path((vhost, source, kind, destination, key)): Path<BindingPath>,
    params: Params,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    let ends = Ends::parse(source, &kind, destination)?;
    let row = find(&caller, &vhost, &ends, &key)?;
    list::one(&params, Some(shown(&row)))
}

async fn unbind(
    caller: Caller,
    Path((vhost, source, kind, destination, key)): Path<BindingPath>,
) -> Answer {
    let vhost = caller.vhost_to_change(&vhost)?;
    let ends = Ends::parse(source, &kind, destination)?;
    let row = find(&caller, &vhost, &ends, &key)?;
    let command = ends.command(false, row.routing_key.to_string(), row.arguments);
    caller
        .direct(&vhost)?
        .execute(command)
        .await
        .map_err(ApiError::of_command)?;
    answer::no_content()
}
