//! What dead-lettering does to a message, and when it must stop.
//!
//! In: a message, the queue it leaves, the reason. Out: the message to route, with `x-death` and its
//! neighbours in the headers (behaviour 2.8; `mc.erl`, `mc_amqpl.erl`). Routing is not known here.

use std::sync::Arc;

use bytes::Bytes;

pub use crate::model::DeathReason;
use crate::model::{Death, Deaths, FirstDeath, Message, Name, Now};
use crate::protocol::{FieldTable, Properties, PropertyFacts, ShortString, Value};

/// The dead letter that `message` becomes when it leaves `queue` for `exchange`.
///
/// `expiration` goes, so that it does not expire again at once; with a routing key of the queue's own,
/// that key replaces the message's and `CC` goes too.
pub fn with_death(
    message: &Message,
    queue: &Name,
    reason: DeathReason,
    now: Now,
    exchange: &Name,
    dead_letter_routing_key: Option<&str>,
) -> Message {
    // Properties were walked when they came in, so they decode.
    let mut properties = message.facts().view(message.properties()).decode();
    let deaths = record_death(message, &properties, queue, reason, now);
    properties.expiration = None;
    let mut headers = properties.headers.take().unwrap_or_default();
    if dead_letter_routing_key.is_some() {
        headers.remove("CC");
    }
    properties.headers = Some(with_death_headers(headers, &deaths));
    let routing_key = match dead_letter_routing_key {
        Some(key) => key.as_bytes(),
        None => message.routing_key(),
    };
    let encoded = properties.to_encoded();
    let facts = PropertyFacts::of(&encoded).unwrap_or_default();
    Message::with_body(
        Arc::clone(exchange),
        routing_key,
        &encoded,
        facts,
        message.body().clone(),
    )
    .with_deaths(Arc::new(deaths))
}

/// Whether a dead letter that is about to enter `target` has been there and came back without any
/// rejection since: such a loop turns by itself, and the message is dropped (`mc.erl:is_cycle_v2`).
pub fn is_cycle(message: &Message, target: &str) -> bool {
    let Some(deaths) = message.deaths() else {
        return false;
    };
    let Some(last_visit) = deaths
        .recent
        .iter()
        .position(|death| *death.queue == *target)
    else {
        return false;
    };
    deaths.recent[..=last_visit]
        .iter()
        .all(|death| death.reason != DeathReason::Rejected)
}

fn record_death(
    message: &Message,
    properties: &Properties,
    queue: &Name,
    reason: DeathReason,
    now: Now,
) -> Deaths {
    let exchange = Arc::clone(message.exchange());
    let mut deaths = match message.deaths() {
        Some(deaths) => Deaths::clone(deaths),
        None => Deaths {
            recent: Vec::with_capacity(1),
            first: FirstDeath {
                reason,
                queue: Arc::clone(queue),
                exchange: Arc::clone(&exchange),
            },
            last_exchange: Arc::clone(&exchange),
        },
    };
    let known = deaths
        .recent
        .iter()
        .position(|death| death.queue == *queue && death.reason == reason);
    let death = match known {
        Some(index) => {
            let mut death = deaths.recent.remove(index);
            death.count += 1;
            death
        }
        None => Death {
            queue: Arc::clone(queue),
            reason,
            count: 1,
            first_ms: now.wall_ms,
            exchange: Arc::clone(&exchange),
            routing_keys: routing_keys(message, properties.headers.as_ref()),
            original_expiration: properties
                .expiration
                .as_ref()
                .map(|text| Bytes::copy_from_slice(text.as_bytes())),
        },
    };
    deaths.recent.insert(0, death);
    deaths.last_exchange = exchange;
    deaths
}

/// The routing key and `CC`; `BCC` was stripped when the message came in.
fn routing_keys(message: &Message, headers: Option<&FieldTable>) -> Vec<Bytes> {
    let mut keys = vec![Bytes::copy_from_slice(message.routing_key())];
    let copies = headers
        .and_then(|headers| headers.get("CC"))
        .and_then(Value::as_array)
        .unwrap_or_default();
    keys.extend(copies.iter().filter_map(|copy| match copy {
        Value::LongStr(key) => Some(Bytes::copy_from_slice(key)),
        _ => None,
    }));
    keys
}

/// Sets the headers of a history; RabbitMQ sorts all headers by name as it does so.
fn with_death_headers(headers: FieldTable, deaths: &Deaths) -> FieldTable {
    let mut headers: Vec<(ShortString, Value)> = headers.into_iter().collect();
    let mut set = |name: &'static str, value: Value| {
        let name = ShortString::from_static(name);
        headers.retain(|(other, _)| *other != name);
        headers.push((name, value));
    };
    let records = deaths.recent.iter().map(death_table).map(Value::Table);
    set("x-death", Value::Array(records.collect()));
    let first = &deaths.first;
    set("x-first-death-reason", Value::from(first.reason.as_str()));
    set("x-first-death-queue", Value::from(&*first.queue));
    set("x-first-death-exchange", Value::from(&*first.exchange));
    if let Some(last) = deaths.recent.first() {
        set("x-last-death-reason", Value::from(last.reason.as_str()));
        set("x-last-death-queue", Value::from(&*last.queue));
        set("x-last-death-exchange", Value::from(&*deaths.last_exchange));
    }
    headers.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    headers.into_iter().collect()
}

fn death_table(death: &Death) -> FieldTable {
    let mut table = FieldTable::new();
    let mut push = |name, value| table.push(ShortString::from_static(name), value);
    if let Some(expiration) = &death.original_expiration {
        push("original-expiration", Value::LongStr(expiration.clone()));
    }
    push(
        "count",
        Value::I64(i64::try_from(death.count).unwrap_or(i64::MAX)),
    );
    push("reason", Value::from(death.reason.as_str()));
    push("queue", Value::from(&*death.queue));
    push("time", Value::Timestamp(death.first_ms / 1000));
    push("exchange", Value::from(&*death.exchange));
    let keys = death.routing_keys.iter().cloned().map(Value::LongStr);
    push("routing-keys", Value::Array(keys.collect()));
    table
}
