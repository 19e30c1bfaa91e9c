//! The keys of policy definitions: which values each takes, whose policies may have it, what becomes of it when both have it, and
//! which queues it keeps a policy away from.
//!
//! In: keys and JSON values. Out: answers, and RabbitMQ's reasons. Source: `rabbit_policies.erl`, `rabbit_quorum_queue.erl`,
//! `rabbit_classic_queue.erl` (`validate_policy`, `merge_policy_value`, `capabilities/0`).

use serde_json::{Map, Value as Json};

use super::terms::{pairs, term};
use crate::queue::QueueKind;
use crate::store::journal::SyncDemand;

/// The key that is this program's own.
pub const SYNC: &str = "sync";

/// What becomes of a key that both policies have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merge {
    /// The smaller number.
    Least,
    /// The greater number.
    Greatest,
    /// The smaller number, but a negative one means none and gives way.
    DeliveryLimit,
    /// The operator's value.
    Operator,
}

/// A key.
struct Key {
    name: &'static str,
    is_valid: fn(&Json) -> bool,
    /// What follows `is not a valid` in the reason.
    noun: &'static str,
    /// How it merges, if operators may set it.
    operator: Option<Merge>,
    /// The queues that a policy with it does not apply to.
    unsupported_by: Option<QueueKind>,
}

const fn key(name: &'static str, is_valid: fn(&Json) -> bool, noun: &'static str) -> Key {
    Key {
        name,
        is_valid,
        noun,
        operator: None,
        unsupported_by: None,
    }
}

impl Key {
    const fn merged(mut self, merge: Merge) -> Self {
        self.operator = Some(merge);
        self
    }

    const fn not_for(mut self, kind: QueueKind) -> Self {
        self.unsupported_by = Some(kind);
        self
    }
}

fn is_text(value: &Json) -> bool {
    value.is_string()
}

fn is_natural(value: &Json) -> bool {
    value.as_u64().is_some()
}

fn is_positive(value: &Json) -> bool {
    value.as_u64().is_some_and(|number| number > 0)
}

fn is_integer(value: &Json) -> bool {
    value.is_i64() || value.is_u64()
}

fn is_one_of(value: &Json, allowed: &[&str]) -> bool {
    value.as_str().is_some_and(|text| allowed.contains(&text))
}

/// A number and a unit of time, such as `7D`.
fn is_age(value: &Json) -> bool {
    value.as_str().is_some_and(|text| {
        let digits = text.trim_end_matches(['Y', 'M', 'D', 'h', 'm', 's']);
        text.len() == digits.len() + 1
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// In the order in which RabbitMQ looks at them: by name within a module.
const KEYS: [Key; 27] = [
    key("alternate-exchange", is_text, "alternate exchange name"),
    key(
        "consumer-disconnected-timeout",
        is_natural,
        "consumer disconnected timeout",
    ),
    key("consumer-timeout", is_natural, "consumer timeout"),
    key("dead-letter-exchange", is_text, "dead letter exchange name"),
    key(
        "dead-letter-routing-key",
        is_text,
        "dead letter routing key",
    ),
    key(
        "dead-letter-strategy",
        |value| is_one_of(value, &["at-most-once", "at-least-once"]),
        "dead letter strategy",
    )
    .not_for(QueueKind::Classic),
    key("delivery-limit", is_integer, "delivery limit")
        .merged(Merge::DeliveryLimit)
        .not_for(QueueKind::Classic),
    key("expires", is_positive, "queue expiry").merged(Merge::Least),
    key("initial-cluster-size", is_natural, "cluster size"),
    key("max-age", is_age, "max age"),
    key("max-in-memory-bytes", is_natural, "maximum memory in bytes")
        .merged(Merge::Least)
        .not_for(QueueKind::Classic),
    key(
        "max-in-memory-length",
        is_natural,
        "maximum memory in bytes",
    )
    .merged(Merge::Least)
    .not_for(QueueKind::Classic),
    key("max-length", is_natural, "maximum length").merged(Merge::Least),
    key("max-length-bytes", is_natural, "maximum length in bytes").merged(Merge::Least),
    key("message-ttl", is_natural, "message TTL").merged(Merge::Least),
    key(
        "overflow",
        |value| {
            is_one_of(
                value,
                &["drop-head", "reject-publish", "reject-publish-dlx"],
            )
        },
        "overflow value",
    )
    .merged(Merge::Operator),
    key(
        "queue-leader-locator",
        |value| {
            is_one_of(
                value,
                &["client-local", "balanced", "random", "least-leaders"],
            )
        },
        "queue leader locator value",
    ),
    key(
        "queue-mode",
        |value| is_one_of(value, &["default", "lazy"]),
        "queue-mode value",
    )
    .not_for(QueueKind::Quorum),
    key(
        "queue-version",
        |value| matches!(value.as_u64(), Some(1 | 2)),
        "queue-version value",
    )
    .merged(Merge::Operator),
    key(
        "stream-filter-size-bytes",
        |value| matches!(value.as_u64(), Some(16..=255)),
        "filter size. Valid range is 16-255",
    ),
    key(
        "stream-max-segment-size-bytes",
        |value| {
            value
                .as_u64()
                .is_some_and(|bytes| bytes <= STREAM_SEGMENT_BYTES_MAX)
        },
        "segment size",
    ),
    key(
        "delayed-retry-max",
        is_positive,
        "delayed retry maximum delay. Must be a positive integer",
    )
    .merged(Merge::Least),
    key(
        "delayed-retry-min",
        is_positive,
        "delayed retry minimum delay. Must be a positive integer",
    )
    .merged(Merge::Greatest),
    key(
        "delayed-retry-type",
        |value| is_one_of(value, &["all", "failed", "returned", "disabled"]),
        "delayed retry type. Must be one of: all, failed, returned, disabled",
    )
    .merged(Merge::Operator),
    key("target-group-size", is_positive, "qq target count value")
        .merged(Merge::Greatest)
        .not_for(QueueKind::Classic),
    key("queue-master-locator", |_| false, "").merged(Merge::Operator),
    key(
        SYNC,
        |value| {
            value
                .as_str()
                .is_some_and(|text| SyncDemand::parse(text).is_some())
        },
        "sync value. Must be one of: always, interval, never",
    )
    .merged(Merge::Operator),
];

/// The largest segment of a stream (`rabbit_amqqueue.hrl`).
const STREAM_SEGMENT_BYTES_MAX: u64 = 3_000_000_000;

/// Keys that a policy of neither classic nor quorum queues has; with one of them it applies to streams alone.
const STREAM_KEYS: [&str; 3] = [
    "max-age",
    "stream-max-segment-size-bytes",
    "initial-cluster-size",
];

/// Keys of RabbitMQ's former mirrors. They cannot be set any more, and are there in definitions of older brokers; a policy with one
/// applies to classic queues alone, and the key does nothing.
const MIRROR_KEYS: [&str; 5] = [
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
];

fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether a policy with this key may apply to queues of this kind (`rabbit_queue_type:is_policy_applicable/2`).
pub fn is_applicable(name: &str, kind: QueueKind) -> bool {
    let is_foreign = STREAM_KEYS.contains(&name)
        || (kind == QueueKind::Quorum
            && (MIRROR_KEYS.contains(&name) || name == "queue-master-locator"));
    !is_foreign && find(name).is_none_or(|key| key.unsupported_by != Some(kind))
}

/// A value if the key takes such values: what was stored by other brokers is not checked before.
pub fn valid<'a>(definition: &'a Map<String, Json>, name: &str) -> Option<&'a Json> {
    let value = definition.get(name)?;
    find(name)
        .is_some_and(|key| (key.is_valid)(value))
        .then_some(value)
}

/// Checks a definition.
///
/// # Errors
/// RabbitMQ's reason, for the first value that is wrong, or else for all keys that are unknown, or not for operators.
pub fn check(definition: &Map<String, Json>, is_operator: bool) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".to_owned());
    }
    let knows = |name: &str| find(name).is_some_and(|key| !is_operator || key.operator.is_some());
    for key in &KEYS {
        let Some(value) = definition.get(key.name).filter(|_| knows(key.name)) else {
            continue;
        };
        if key.name == "queue-master-locator" {
            return Err(
                "use of deprecated queue-master-locator argument is not permitted".to_owned(),
            );
        }
        if !(key.is_valid)(value) {
            return Err(format!("{} is not a valid {}", term(value), key.noun));
        }
    }
    check_delayed_retry(definition)?;
    let unknown: Vec<_> = definition.iter().filter(|(name, _)| !knows(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} are not recognised policy settings",
        pairs(unknown)
    ))
}

fn check_delayed_retry(definition: &Map<String, Json>) -> Result<(), String> {
    let kind = definition.get("delayed-retry-type").and_then(Json::as_str);
    let min = definition.get("delayed-retry-min").and_then(Json::as_u64);
    let max = definition.get("delayed-retry-max").and_then(Json::as_u64);
    match (kind, min, max) {
        (Some(kind), None, _) if kind != "disabled" => Err(format!(
            "delayed-retry-min is required when delayed-retry-type is {kind}"
        )),
        (_, Some(min), Some(max)) if max < min => Err(format!(
            "delayed-retry-max ({max}) must not be smaller than delayed-retry-min ({min})"
        )),
        _ => Ok(()),
    }
}

/// Merges a user's and an operator's definition (`rabbit_policy:merge_operator_definitions/2`).
pub fn merge(user: &Map<String, Json>, operator: &Map<String, Json>) -> Map<String, Json> {
    let mut merged = user.clone();
    for (name, operators) in operator {
        let value = match merged.get(name) {
            Some(users) => merge_value(name, users, operators),
            None => operators.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

fn merge_value(name: &str, user: &Json, operator: &Json) -> Json {
    let merge = find(name).and_then(|key| key.operator);
    let (Some(users), Some(operators)) = (user.as_i64(), operator.as_i64()) else {
        return operator.clone();
    };
    let takes_user = match merge {
        Some(Merge::Least) => users < operators,
        Some(Merge::Greatest) => users > operators,
        Some(Merge::DeliveryLimit) if users < 0 || operators < 0 => users > operators,
        Some(Merge::DeliveryLimit) => users < operators,
        Some(Merge::Operator) | None => false,
    };
    if takes_user { user } else { operator }.clone()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Json) -> Map<String, Json> {
        match value {
            Json::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    fn reason(definition: Json, is_operator: bool) -> String {
        check(&object(definition), is_operator)
            .err()
            .unwrap_or_default()
    }

    #[test]
    fn reasons_are_those_of_rabbitmq() {
        for (definition, expected) in [
            (json!({}), "no policy provided"),
            (
                json!({"max-length": -5}),
                "-5 is not a valid maximum length",
            ),
            (
                json!({"max-length": "5"}),
                "<<\"5\">> is not a valid maximum length",
            ),
            (
                json!({"max-length": 1.0}),
                "1.0 is not a valid maximum length",
            ),
            (json!({"expires": 0}), "0 is not a valid queue expiry"),
            (json!({"message-ttl": -1}), "-1 is not a valid message TTL"),
            (
                json!({"overflow": "x"}),
                "<<\"x\">> is not a valid overflow value",
            ),
            (
                json!({"queue-mode": "x"}),
                "<<\"x\">> is not a valid queue-mode value",
            ),
            (json!({"max-age": "7"}), "<<\"7\">> is not a valid max age"),
            (
                json!({"dead-letter-exchange": 1}),
                "1 is not a valid dead letter exchange name",
            ),
            (
                json!({"alternate-exchange": []}),
                "[] is not a valid alternate exchange name",
            ),
            (
                json!({"stream-filter-size-bytes": 8}),
                "8 is not a valid filter size. Valid range is 16-255",
            ),
            (
                json!({"foo": "bar", "max-length": 1}),
                "[{<<\"foo\">>,<<\"bar\">>}] are not recognised policy settings",
            ),
            (
                json!({"ha-mode": "all"}),
                "[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings",
            ),
            (
                json!({"foo": 1, "expires": 0}),
                "0 is not a valid queue expiry",
            ),
            (
                json!({"queue-master-locator": "random"}),
                "use of deprecated queue-master-locator argument is not permitted",
            ),
            (
                json!({"delayed-retry-type": "all"}),
                "delayed-retry-min is required when delayed-retry-type is all",
            ),
            (
                json!({"delayed-retry-min": 5, "delayed-retry-max": 4}),
                "delayed-retry-max (4) must not be smaller than delayed-retry-min (5)",
            ),
            (
                json!({"sync": "sometimes"}),
                "<<\"sometimes\">> is not a valid sync value. Must be one of: always, interval, never",
            ),
        ] {
            assert_eq!(reason(definition.clone(), false), expected, "{definition}");
        }
        for definition in [
            json!({"max-length": 0, "overflow": "reject-publish-dlx", "sync": "never"}),
            json!({"delivery-limit": -1, "max-age": "12h", "queue-version": 1}),
        ] {
            assert_eq!(reason(definition, false), "");
        }
    }

    #[test]
    fn operators_have_fewer_keys() {
        assert_eq!(reason(json!({"max-length": 5, "sync": "always"}), true), "");
        assert_eq!(
            reason(json!({"dead-letter-exchange": "x"}), true),
            "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings"
        );
    }

    #[test]
    fn the_operators_limits_are_ceilings() {
        for (key, user, operator, merged) in [
            ("max-length", json!(10), json!(5), json!(5)),
            ("max-length", json!(5), json!(10), json!(5)),
            ("target-group-size", json!(3), json!(5), json!(5)),
            ("delayed-retry-min", json!(3), json!(5), json!(5)),
            ("delayed-retry-max", json!(3), json!(5), json!(3)),
            ("delivery-limit", json!(3), json!(5), json!(3)),
            ("delivery-limit", json!(-1), json!(5), json!(5)),
            ("delivery-limit", json!(7), json!(-1), json!(7)),
            (
                "overflow",
                json!("drop-head"),
                json!("reject-publish"),
                json!("reject-publish"),
            ),
            ("sync", json!("never"), json!("always"), json!("always")),
            ("unknown", json!(false), json!(true), json!(true)),
        ] {
            let both = merge(&object(json!({key: user})), &object(json!({key: operator})));
            assert_eq!(both.get(key), Some(&merged), "{key} {user} {operator}");
        }
        let both = merge(&object(json!({"a": 1})), &object(json!({"b": 2})));
        assert_eq!(both, object(json!({"a": 1, "b": 2})));
    }

    #[test]
    fn some_keys_keep_a_policy_from_a_kind_of_queue() {
        for (key, classic, quorum) in [
            ("max-length", true, true),
            ("delivery-limit", false, true),
            ("dead-letter-strategy", false, true),
            ("queue-mode", true, false),
            ("ha-mode", true, false),
            ("max-age", false, false),
            ("unknown", true, true),
        ] {
            assert_eq!(is_applicable(key, QueueKind::Classic), classic, "{key}");
            assert_eq!(is_applicable(key, QueueKind::Quorum), quorum, "{key}");
        }
    }
}
