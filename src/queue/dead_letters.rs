//! What dead-lettering does to a message, and when it must stop.
//!
//! In: a message, the queue it leaves, the reason. Out: the message to route, with `x-death` and its
//! neighbours in the headers (RabbitMQ's document "Dead Letter Exchanges"; `mc.erl`, `mc_amqpl.erl`). Routing is not known here.

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
    message
        .with_head(Arc::clone(exchange), routing_key, &encoded, facts)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn now(wall_ms: u64) -> Now {
        Now {
            monotonic: Instant::now(),
            wall_ms: 0,
        }
        .after(Duration::from_millis(wall_ms))
    }

    fn message(properties: &Properties) -> Message {
        let encoded = properties.to_encoded();
        let facts = PropertyFacts::of(&encoded).unwrap();
        Message::copied("ex".into(), b"key", &encoded, facts, b"body")
    }

    fn die(message: &Message, queue: &str, reason: DeathReason, wall_ms: u64) -> Message {
        with_death(
            message,
            &queue.into(),
            reason,
            now(wall_ms),
            &"dlx".into(),
            None,
        )
    }

    fn headers(message: &Message) -> FieldTable {
        Properties::decode(message.properties())
            .unwrap()
            .headers
            .unwrap()
    }

    fn counts(message: &Message) -> Vec<(String, i64)> {
        let headers = headers(message);
        let deaths = headers.get("x-death").unwrap().as_array().unwrap();
        deaths
            .iter()
            .map(|death| {
                let death = death.as_table().unwrap();
                let queue = death.get("queue").unwrap().as_str().unwrap();
                (
                    queue.to_owned(),
                    death.get("count").unwrap().as_i64().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_first_death_writes_every_header_with_its_type() {
        let copies = Value::Array(vec![Value::from("copy")]);
        let before = message(&Properties {
            expiration: Some(ShortString::from_static("60")),
            headers: Some(
                [("CC", copies.clone())]
                    .into_iter()
                    .map(|(name, value)| (ShortString::from_static(name), value))
                    .collect(),
            ),
            delivery_mode: Some(2),
            ..Properties::default()
        });
        let after = die(&before, "q", DeathReason::Expired, 12_345);
        assert_eq!(after.exchange().as_ref(), "dlx");
        assert_eq!(after.routing_key(), b"key");
        assert_eq!(after.body(), before.body());
        assert!(after.facts().is_persistent());
        assert!(!after.facts().has_expiration());
        let headers = headers(&after);
        let text = |name: &str| headers.get(name).unwrap().as_str().unwrap().to_owned();
        for which in ["first", "last"] {
            assert_eq!(text(&format!("x-{which}-death-reason")), "expired");
            assert_eq!(text(&format!("x-{which}-death-queue")), "q");
            assert_eq!(text(&format!("x-{which}-death-exchange")), "ex");
        }
        assert_eq!(headers.get("CC"), Some(&copies));
        let names: Vec<_> = headers
            .iter()
            .map(|(name, _)| name.as_str().unwrap().to_owned())
            .collect();
        assert!(names.is_sorted());
        let death = headers.get("x-death").unwrap().as_array().unwrap()[0].clone();
        let expected: FieldTable = [
            ("original-expiration", Value::from("60")),
            ("count", Value::I64(1)),
            ("reason", Value::from("expired")),
            ("queue", Value::from("q")),
            ("time", Value::Timestamp(12)),
            ("exchange", Value::from("ex")),
            (
                "routing-keys",
                Value::Array(vec![Value::from("key"), Value::from("copy")]),
            ),
        ]
        .into_iter()
        .map(|(name, value)| (ShortString::from_static(name), value))
        .collect();
        assert_eq!(death, Value::Table(expected));
    }

    #[test]
    fn a_routing_key_of_the_queue_replaces_key_and_copies() {
        let copies = Value::Array(vec![Value::from("copy")]);
        let mut table = FieldTable::new();
        table.push(ShortString::from_static("CC"), copies);
        let before = message(&Properties {
            headers: Some(table),
            ..Properties::default()
        });
        let after = with_death(
            &before,
            &"q".into(),
            DeathReason::Rejected,
            now(0),
            &"dlx".into(),
            Some("other"),
        );
        assert_eq!(after.routing_key(), b"other");
        assert!(!after.facts().has_cc());
        assert!(!headers(&after).contains("CC"));
    }

    #[test]
    fn deaths_are_merged_by_queue_and_reason_and_the_latest_comes_first() {
        let mut letter = message(&Properties::default());
        for round in 0..3 {
            letter = die(&letter, "a", DeathReason::Rejected, round * 1000);
            letter = die(&letter, "b", DeathReason::Expired, round * 1000);
        }
        assert_eq!(counts(&letter), [("b".to_owned(), 3), ("a".to_owned(), 3)]);
        letter = die(&letter, "a", DeathReason::Rejected, 9000);
        assert_eq!(counts(&letter), [("a".to_owned(), 4), ("b".to_owned(), 3)]);
        let headers = headers(&letter);
        let first = headers.get("x-death").unwrap().as_array().unwrap()[0]
            .as_table()
            .unwrap();
        assert_eq!(first.get("time"), Some(&Value::Timestamp(0)));
        assert_eq!(
            headers.get("x-first-death-exchange"),
            Some(&Value::from("ex"))
        );
        assert_eq!(
            headers.get("x-last-death-exchange"),
            Some(&Value::from("dlx"))
        );
        assert_eq!(headers.get("x-last-death-queue"), Some(&Value::from("a")));
    }

    #[test]
    fn a_publishers_own_x_death_counts_for_nothing() {
        for own in [
            Value::from("text"),
            Value::Array(vec![Value::Void, Value::Void]),
            Value::Void,
        ] {
            let mut table = FieldTable::new();
            table.push(ShortString::from_static("x-death"), own);
            let before = message(&Properties {
                headers: Some(table),
                ..Properties::default()
            });
            assert!(!is_cycle(&before, "q"));
            let after = die(&before, "q", DeathReason::Expired, 0);
            assert_eq!(counts(&after), [("q".to_owned(), 1)]);
        }
    }

    #[test]
    fn a_loop_without_rejection_is_a_cycle() {
        let fresh = message(&Properties::default());
        let expired = die(&fresh, "a", DeathReason::Expired, 0);
        assert!(is_cycle(&expired, "a"));
        assert!(!is_cycle(&expired, "b"));
        let twice = die(&expired, "b", DeathReason::MaxLen, 0);
        assert!(is_cycle(&twice, "a"));
        let rejected = die(&expired, "b", DeathReason::Rejected, 0);
        assert!(!is_cycle(&rejected, "a"));
        let later = die(&rejected, "c", DeathReason::Expired, 0);
        assert!(!is_cycle(&later, "a"));
        assert!(is_cycle(&later, "c"));
    }
}
