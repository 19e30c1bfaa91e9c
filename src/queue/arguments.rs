//! What a queue was asked to be: the `x-` arguments of declare and consume, checked and typed.
//!
//! In: field tables as clients sent them; out: settings, or RabbitMQ's refusal to the letter. Source:
//! `rabbit_amqqueue.erl` (`check_declare_arguments`, `declare_args`, `check_consume_arguments`) and the
//! `capabilities/0` of the queue types, tag v4.3.5.

use std::fmt::Display;

use super::kind::QueueKind;
use super::settings::{
    DeadLetterStrategy, DelayedRetryKind, Overflow, PolicySettings, QueueSettings,
};
use crate::model::{ConnectionId, Name, Refusal, WallMs, equivalence, resource};
use crate::protocol::{FieldTable, Value};

/// The longest time to live or to expiry: ten years (`rabbit_misc:check_expiry/1`).
pub const EXPIRY_MS_MAX: i64 = 315_360_000_000;

/// The highest `x-max-priority`.
pub const MAX_PRIORITY_MAX: i64 = 255;

/// Consume arguments that only streams know.
const STREAM_CONSUME_ARGUMENTS: [&str; 3] = [
    "x-stream-offset",
    "x-stream-filter",
    "x-stream-match-unfiltered",
];

impl QueueSettings {
    /// Checks and types the arguments of a queue that does not exist yet.
    ///
    /// # Errors
    /// 406 with the texts of `rabbit_amqqueue.erl`, 541 for `x-queue-master-locator`.
    pub fn parse(
        name: &str,
        vhost: &str,
        default_kind: QueueKind,
        arguments: &FieldTable,
    ) -> Result<Self, Refusal> {
        let resource = resource("queue", name, vhost);
        if let Some(value) = arguments.get(DEAD_LETTER_EXCHANGE)
            && !matches!(value, Value::LongStr(_))
        {
            return Err(Refusal::precondition_failed(format!(
                "invalid type '{}' for arg '{DEAD_LETTER_EXCHANGE}' in {resource}",
                value.type_name()
            )));
        }
        let kind = check_kind(arguments, default_kind)
            .map_err(|reason| invalid("x-queue-type", &resource, &reason))?;
        for (argument, check) in DECLARE_CHECKS {
            if let Some(value) = arguments.get(argument)
                && kind.knows(argument)
            {
                check(value, arguments).map_err(|reason| invalid(argument, &resource, &reason))?;
            }
        }
        for (argument, _) in arguments.iter() {
            if let Some(argument) = argument.as_str()
                && kind.is_foreign(argument)
            {
                return Err(foreign(argument, &resource, kind));
            }
        }
        if kind == QueueKind::Classic && arguments.contains("x-queue-master-locator") {
            return Err(Refusal::internal_error(MASTER_LOCATOR_DENIED));
        }
        Ok(Self::read(kind, arguments))
    }

    /// Reads arguments that were checked before.
    fn read(kind: QueueKind, arguments: &FieldTable) -> Self {
        let number = |argument: &str| {
            let number = arguments.get(argument).and_then(Value::as_i64);
            number.and_then(|number| u64::try_from(number).ok())
        };
        let text = |argument: &str| match arguments.get(argument) {
            Some(Value::LongStr(bytes)) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        };
        let name = |argument: &str| text(argument).map(|text| Name::from(&*text));
        let quorum = kind == QueueKind::Quorum;
        let retry_kind = text("x-delayed-retry-type").map(|text| DelayedRetryKind::parse(&text));
        Self {
            kind,
            max_priority: number("x-max-priority").map(|priority| priority.min(255) as u8),
            single_active_consumer: arguments
                .get("x-single-active-consumer")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            shared: PolicySettings {
                message_ttl_ms: number("x-message-ttl"),
                expires_ms: number("x-expires"),
                max_length: number("x-max-length"),
                max_length_bytes: number("x-max-length-bytes"),
                overflow: text("x-overflow").and_then(|text| Overflow::parse(&text)),
                dead_letter_exchange: name(DEAD_LETTER_EXCHANGE),
                dead_letter_routing_key: name("x-dead-letter-routing-key"),
                dead_letter_strategy: text("x-dead-letter-strategy")
                    .and_then(|text| DeadLetterStrategy::parse(&text))
                    .filter(|_| quorum),
                delivery_limit: arguments
                    .get("x-delivery-limit")
                    .and_then(Value::as_i64)
                    .filter(|_| quorum),
                delayed_retry_kind: retry_kind.filter(|_| quorum),
                delayed_retry_min_ms: number("x-delayed-retry-min").filter(|_| quorum),
                delayed_retry_max_ms: number("x-delayed-retry-max").filter(|_| quorum),
                consumer_timeout_ms: number("x-consumer-timeout").filter(|_| quorum),
                sync: None,
            },
        }
    }
}

/// What the arguments of a consume mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumeArguments {
    /// `x-priority`, 0 if absent.
    pub priority: i64,
    /// `x-consumer-timeout` (quorum), in milliseconds.
    pub timeout_ms: Option<u64>,
}

impl ConsumeArguments {
    /// Checks and types the arguments of `basic.consume`.
    ///
    /// # Errors
    /// 406 as for a declare.
    pub fn parse(
        name: &str,
        vhost: &str,
        kind: QueueKind,
        arguments: &FieldTable,
    ) -> Result<Self, Refusal> {
        let resource = resource("queue", name, vhost);
        let quorum = kind == QueueKind::Quorum;
        let mut parsed = Self::default();
        if let Some(value) = arguments.get("x-priority") {
            parsed.priority =
                integer(value).map_err(|reason| invalid("x-priority", &resource, &reason))?;
        }
        if let Some(value) = arguments.get("x-consumer-timeout")
            && quorum
        {
            let timeout_ms = natural(value)
                .map_err(|reason| invalid("x-consumer-timeout", &resource, &reason))?;
            parsed.timeout_ms = Some(timeout_ms as u64);
        }
        for (argument, _) in arguments.iter() {
            let Some(argument) = argument.as_str() else {
                continue;
            };
            if STREAM_CONSUME_ARGUMENTS.contains(&argument)
                || (argument == "x-consumer-timeout" && !quorum)
            {
                return Err(foreign(argument, &resource, kind));
            }
        }
        Ok(parsed)
    }
}

/// The name under which a table says which kind of queue it wants; absent, empty and `undefined` mean
/// the default (`rabbit_amqqueue:get_queue_type/2`).
fn asked_kind(arguments: &FieldTable) -> Option<&Value> {
    arguments.get("x-queue-type").filter(
        |value| !matches!(value, Value::LongStr(text) if text.is_empty() || text == "undefined"),
    )
}

/// The arguments as they are kept: with the type written down, so that a later declare which leaves it
/// to the default is compared with what the default means (`rabbit_amqqueue:augment_declare_args/5`).
///
/// A default of quorum gives way to classic where the flags allow no quorum queue.
#[must_use]
pub fn with_queue_type(
    mut arguments: FieldTable,
    default_kind: QueueKind,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
) -> FieldTable {
    if !arguments.contains("x-queue-type") {
        let kind = if durable && !exclusive && !auto_delete {
            default_kind
        } else {
            QueueKind::Classic
        };
        arguments.push(
            crate::protocol::ShortString::from_static("x-queue-type"),
            kind.as_str(),
        );
        arguments.shrink_to_fit();
    }
    arguments
}

/// The kind that a declare asks for, as far as it can be told before the arguments are checked.
pub fn declared_kind(arguments: &FieldTable, default_kind: QueueKind) -> QueueKind {
    check_kind(arguments, default_kind).unwrap_or(default_kind)
}

fn check_kind(arguments: &FieldTable, default_kind: QueueKind) -> Result<QueueKind, String> {
    match asked_kind(arguments) {
        None => Ok(default_kind),
        Some(Value::LongStr(text)) => match &text[..] {
            b"classic" => Ok(QueueKind::Classic),
            b"quorum" => Ok(QueueKind::Quorum),
            other => Err(format!(
                "\"unsupported queue type '{}'\"",
                String::from_utf8_lossy(other)
            )),
        },
        Some(other) => Err(unacceptable(other)),
    }
}

/// Refuses what a quorum queue cannot be (`rabbit_queue_type_util:check_auto_delete/1` and neighbours).
///
/// # Errors
/// 406; the flags in RabbitMQ's order, which asks for auto-delete first.
pub fn check_quorum_flags(
    name: &str,
    vhost: &str,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
) -> Result<(), Refusal> {
    let flag = if auto_delete {
        "auto-delete"
    } else if exclusive {
        "exclusive-owner"
    } else if !durable {
        "non-durable"
    } else {
        return Ok(());
    };
    Err(Refusal::precondition_failed(format!(
        "invalid property '{flag}' for {}",
        resource("queue", name, vhost)
    )))
}

/// Refuses a generated name for a kind of queue that must have one of its own.
///
/// # Errors
/// 406 for every kind but classic.
pub fn check_server_named(kind: QueueKind) -> Result<(), Refusal> {
    match kind {
        QueueKind::Classic => Ok(()),
        other => Err(Refusal::precondition_failed(format!(
            "Cannot declare a server-named queue for type {}",
            other.module_name()
        ))),
    }
}

/// The part of a declaration that is compared when the queue is declared again.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// Survives a restart; an exclusive queue never does.
    pub durable: bool,
    /// The connection that owns it exclusively.
    pub exclusive_owner: Option<ConnectionId>,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// All arguments, the type written down by [`with_queue_type`].
    pub arguments: &'a FieldTable,
}

/// Compares a declare with the queue that exists.
///
/// # Errors
/// 405 if the exclusive owner differs, else 406 for the first difference.
pub fn check_equivalence(
    name: &str,
    vhost: &str,
    kind: QueueKind,
    current: Declared<'_>,
    asked: Declared<'_>,
) -> Result<(), Refusal> {
    if current.exclusive_owner != asked.exclusive_owner {
        return Err(locked(name, vhost));
    }
    let resource = resource("queue", name, vhost);
    equivalence::check_field("durable", &resource, &current.durable, &asked.durable)?;
    equivalence::check_field(
        "auto_delete",
        &resource,
        &current.auto_delete,
        &asked.auto_delete,
    )?;
    equivalence::check_arguments(
        &resource,
        current.arguments,
        asked.arguments,
        kind.known_arguments(),
    )
}

/// Refuses the use of another connection's exclusive queue.
///
/// # Errors
/// 405.
pub fn check_exclusive_access(
    name: &str,
    vhost: &str,
    owner: Option<ConnectionId>,
    connection: ConnectionId,
) -> Result<(), Refusal> {
    match owner {
        Some(owner) if owner != connection => Err(locked(name, vhost)),
        _ => Ok(()),
    }
}

fn locked(name: &str, vhost: &str) -> Refusal {
    Refusal::resource_locked(format!(
        "cannot obtain exclusive access to locked {}. It could be originally declared on another \
         connection or the exclusive property value does not match that of the original declaration.",
        resource("queue", name, vhost)
    ))
}

/// The time to live that the property `expiration` gives, if it is a number; the broker refuses others
/// at the door.
pub fn parse_expiration(text: &[u8]) -> Option<WallMs> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

/// RabbitMQ's text for a deprecated feature that is denied by default; the session cuts it at 255 bytes.
const MASTER_LOCATOR_DENIED: &str = "Feature `queue_master_locator` is deprecated.\n\
     By default, this feature is not permitted anymore.\n\
     The feature will be removed from a future major RabbitMQ version, regardless of the configuration; \
     actual version to be determined.\n\
     To continue using this feature when it is not permitted by default, set the following parameter in \
     your configuration:\n    \"deprecated_features.permit.queue_master_locator = true\"";

type Check = fn(&Value, &FieldTable) -> Result<(), String>;

/// In RabbitMQ's order, which decides what is reported if several are wrong.
const DECLARE_CHECKS: [(&str, Check); 17] = [
    ("x-expires", |value, _| match integer(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        expires_ms => expiry(expires_ms),
    }),
    ("x-message-ttl", |value, _| expiry(integer(value)?)),
    (DEAD_LETTER_EXCHANGE, |value, _| text(value).map(drop)),
    ("x-dead-letter-routing-key", |value, arguments| {
        text(value)?;
        if arguments.contains(DEAD_LETTER_EXCHANGE) {
            Ok(())
        } else {
            Err("routing_key_but_no_dlx_defined".to_owned())
        }
    }),
    ("x-dead-letter-strategy", |value, _| {
        one_of(
            value,
            &["at-most-once", "at-least-once"],
            "invalid_dlx_strategy",
        )
    }),
    ("x-max-length", |value, _| natural(value).map(drop)),
    ("x-max-length-bytes", |value, _| natural(value).map(drop)),
    ("x-max-in-memory-length", |value, _| {
        natural(value).map(drop)
    }),
    ("x-max-in-memory-bytes", |value, _| natural(value).map(drop)),
    ("x-max-priority", |value, _| {
        let priority = natural(value)?;
        if priority > MAX_PRIORITY_MAX {
            return Err(format!("{{max_value_exceeded,{priority}}}"));
        }
        Ok(())
    }),
    ("x-overflow", |value, _| {
        one_of(
            value,
            &["drop-head", "reject-publish", "reject-publish-dlx"],
            "invalid_overflow",
        )
    }),
    ("x-queue-version", |value, _| match natural(value)? {
        2 => Ok(()),
        version => Err(format!("\"unsupported queue version '{version}'\"")),
    }),
    ("x-single-active-consumer", |value, _| match value {
        Value::Bool(_) => Ok(()),
        other => Err(unacceptable(other)),
    }),
    ("x-consumer-timeout", |value, _| natural(value).map(drop)),
    ("x-consumer-disconnected-timeout", |value, _| {
        natural(value).map(drop)
    }),
    ("x-quorum-initial-group-size", |value, _| {
        match natural(value)? {
            0 => Err("{value_zero,0}".to_owned()),
            _ => Ok(()),
        }
    }),
    ("x-queue-leader-locator", |value, _| {
        one_of(
            value,
            &[
                "client-local",
                "balanced",
                "random",
                "least-leaders",
                "min-masters",
            ],
            "invalid_queue_locator_arg",
        )
    }),
];

/// Any integer; the reason is a string in RabbitMQ, so it is printed in quotes.
fn integer(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| {
        let kind = value.type_name();
        format!("\"expected integer, got {kind}\"")
    })
}

fn natural(value: &Value) -> Result<i64, String> {
    match integer(value)? {
        number if number < 0 => Err(format!("{{value_negative,{number}}}")),
        number => Ok(number),
    }
}

fn expiry(ms: i64) -> Result<(), String> {
    if ms < 0 {
        Err(format!("{{value_negative,{ms}}}"))
    } else if ms > EXPIRY_MS_MAX {
        Err(format!("{{value_too_large,{ms}}}"))
    } else {
        Ok(())
    }
}

fn text(value: &Value) -> Result<&[u8], String> {
    match value {
        Value::LongStr(bytes) => Ok(bytes),
        other => Err(unacceptable(other)),
    }
}

fn one_of(value: &Value, allowed: &[&str], reason: &str) -> Result<(), String> {
    let text = text(value)?;
    if allowed.iter().any(|allowed| allowed.as_bytes() == text) {
        Ok(())
    } else {
        Err(reason.to_owned())
    }
}

fn unacceptable(value: &Value) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn invalid(argument: &str, resource: &str, reason: &impl Display) -> Refusal {
    Refusal::precondition_failed(format!("invalid arg '{argument}' for {resource}: {reason}"))
}

fn foreign(argument: &str, resource: &str, kind: QueueKind) -> Refusal {
    Refusal::precondition_failed(format!(
        "invalid arg '{argument}' for {resource} of queue type {}",
        kind.module_name()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
