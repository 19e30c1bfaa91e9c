//! What a queue was asked to be: the `x-` arguments of declare and consume, checked and typed.
//!
//! In: field tables as clients sent them; out: settings, or RabbitMQ's refusal to the letter. Source:
//! `rabbit_amqqueue.erl` (`check_declare_arguments`, `declare_args`, `check_consume_arguments`) and the
//! `capabilities/0` of the queue types, tag v4.3.5.

use std::fmt::Display;

use crate::model::{ConnectionId, Name, Refusal, WallMs, equivalence, resource};
use crate::protocol::{FieldTable, Value};

/// The longest time to live or to expiry: ten years (`rabbit_misc:check_expiry/1`).
pub const EXPIRY_MS_MAX: i64 = 315_360_000_000;

/// Failed deliveries that a quorum queue allows when nothing else is said (since RabbitMQ 4.0).
pub const DELIVERY_LIMIT_DEFAULT: u32 = 20;

/// What a quorum queue makes of "no prefetch limit" (behaviour 1.4).
pub const QUORUM_PREFETCH_MAX: u32 = 2000;

/// Time to settle a delivery of a quorum queue, by default (behaviour 2.11).
pub const CONSUMER_TIMEOUT_MS_DEFAULT: u64 = 1_800_000;

/// The highest `x-max-priority`.
pub const MAX_PRIORITY_MAX: i64 = 255;

/// The kinds of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// `classic`
    Classic,
    /// `quorum`
    Quorum,
}

impl QueueKind {
    /// The value of `x-queue-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// The name of RabbitMQ's module, which its refusals print.
    pub const fn module_name(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }

    /// The arguments that this kind knows: they are validated, and compared when declared again.
    pub const fn known_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Classic => &[
                "x-expires",
                "x-message-ttl",
                "x-dead-letter-exchange",
                "x-dead-letter-routing-key",
                "x-max-length",
                "x-max-length-bytes",
                "x-max-priority",
                "x-overflow",
                "x-queue-mode",
                "x-queue-version",
                "x-single-active-consumer",
                "x-queue-type",
                "x-queue-master-locator",
                "x-queue-leader-locator",
            ],
            Self::Quorum => &[
                "x-dead-letter-exchange",
                "x-dead-letter-routing-key",
                "x-dead-letter-strategy",
                "x-expires",
                "x-max-length",
                "x-max-length-bytes",
                "x-max-in-memory-length",
                "x-max-in-memory-bytes",
                "x-overflow",
                "x-single-active-consumer",
                "x-queue-type",
                "x-quorum-initial-group-size",
                "x-delivery-limit",
                "x-message-ttl",
                "x-queue-leader-locator",
                "x-consumer-disconnected-timeout",
                "x-consumer-timeout",
                "x-delayed-retry-type",
                "x-delayed-retry-min",
                "x-delayed-retry-max",
            ],
        }
    }

    fn knows(self, argument: &str) -> bool {
        self.known_arguments().contains(&argument)
    }

    /// Whether another kind of queue knows `argument` and this one does not.
    fn is_foreign(self, argument: &str) -> bool {
        !self.knows(argument)
            && (Self::Classic.knows(argument)
                || Self::Quorum.knows(argument)
                || STREAM_ARGUMENTS.contains(&argument))
    }
}

/// Arguments that only streams know.
const STREAM_ARGUMENTS: [&str; 4] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

/// Consume arguments that only streams know.
const STREAM_CONSUME_ARGUMENTS: [&str; 3] = [
    "x-stream-offset",
    "x-stream-filter",
    "x-stream-match-unfiltered",
];

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The head goes, dead-lettered with reason `maxlen`.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused and dead-lettered with reason `maxlen`.
    RejectPublishDeadLetter,
}

impl Overflow {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "drop-head" => Self::DropHead,
            "reject-publish" => Self::RejectPublish,
            "reject-publish-dlx" => Self::RejectPublishDeadLetter,
            _ => return None,
        })
    }
}

/// Which returns of a quorum queue wait before they are served again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayedRetryKind {
    /// Every return.
    All,
    /// Those that count as failed deliveries.
    Failed,
    /// Those that do not.
    Returned,
}

impl DelayedRetryKind {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "all" => Self::All,
            "failed" => Self::Failed,
            "returned" => Self::Returned,
            _ => return None,
        })
    }
}

/// How long returns wait: `min(min_ms × max(1, failed deliveries), max_ms)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// Which returns.
    pub kind: DelayedRetryKind,
    /// The step.
    pub min_ms: u64,
    /// The ceiling.
    pub max_ms: u64,
}

/// What can come from an argument as well as from a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// `message-ttl`.
    pub message_ttl_ms: Option<u64>,
    /// `expires`.
    pub expires_ms: Option<u64>,
    /// `max-length`, in ready messages.
    pub max_length: Option<u64>,
    /// `max-length-bytes`, in bytes of ready bodies.
    pub max_length_bytes: Option<u64>,
    /// `overflow`.
    pub overflow: Option<Overflow>,
    /// `dead-letter-exchange`.
    pub dead_letter_exchange: Option<Name>,
    /// `dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Name>,
    /// `delivery-limit`; negative for none.
    pub delivery_limit: Option<i64>,
    /// `delayed-retry-type`; the inner `None` is `disabled`.
    pub delayed_retry_kind: Option<Option<DelayedRetryKind>>,
    /// `delayed-retry-min`.
    pub delayed_retry_min_ms: Option<u64>,
    /// `delayed-retry-max`.
    pub delayed_retry_max_ms: Option<u64>,
    /// `consumer-timeout`.
    pub consumer_timeout_ms: Option<u64>,
}

/// What the declare arguments of a queue mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// `x-queue-type`.
    pub kind: QueueKind,
    /// `x-max-priority` (classic).
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// What a policy can say too.
    pub shared: PolicySettings,
}

impl QueueSettings {
    /// Checks and types the arguments of a queue that does not exist yet.
    ///
    /// # Errors
    /// 406 as behaviour.md 2.3 lists them, 541 for `x-queue-master-locator`.
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
                delivery_limit: arguments
                    .get("x-delivery-limit")
                    .and_then(Value::as_i64)
                    .filter(|_| quorum),
                delayed_retry_kind: retry_kind.filter(|_| quorum),
                delayed_retry_min_ms: number("x-delayed-retry-min").filter(|_| quorum),
                delayed_retry_max_ms: number("x-delayed-retry-max").filter(|_| quorum),
                consumer_timeout_ms: number("x-consumer-timeout").filter(|_| quorum),
            },
        }
    }
}

/// What holds for a queue now, arguments and policy merged (`rabbit_amqqueue_process:process_args_policy`,
/// `rabbit_quorum_queue:gather_policy_config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSettings {
    /// The kind.
    pub kind: QueueKind,
    /// The highest priority level.
    pub max_priority: u8,
    /// One consumer at a time.
    pub single_active_consumer: bool,
    /// Time to live of every message.
    pub message_ttl_ms: Option<u64>,
    /// Idle time after which the queue goes.
    pub expires_ms: Option<u64>,
    /// Ready messages.
    pub max_length: u64,
    /// Bytes of ready bodies.
    pub max_length_bytes: u64,
    /// What happens beyond these.
    pub overflow: Overflow,
    /// Where dead letters go.
    pub dead_letter_exchange: Option<Name>,
    /// Under which key.
    pub dead_letter_routing_key: Option<Name>,
    /// Failed deliveries that are allowed; `None` for any number.
    pub delivery_limit: Option<u32>,
    /// How long returns wait.
    pub delayed_retry: Option<DelayedRetry>,
    /// Time to settle a delivery, unless the consumer says otherwise; `None` for no limit.
    pub consumer_timeout_ms: Option<u64>,
}

/// Levels of a quorum queue are 0 to 31, always (since RabbitMQ 4.3).
const QUORUM_PRIORITY_MAX: u8 = 31;

impl EffectiveSettings {
    /// Merges: the smaller number counts; for texts the argument has precedence, except a quorum queue's
    /// `overflow` and `delayed-retry-type`, where the policy has.
    pub fn new(settings: &QueueSettings, policy: &PolicySettings) -> Self {
        let own = &settings.shared;
        let quorum = settings.kind == QueueKind::Quorum;
        let overflow = if quorum {
            // A quorum queue falls back to drop-head, with a warning in RabbitMQ's log.
            match policy.overflow.or(own.overflow) {
                Some(Overflow::RejectPublish) => Overflow::RejectPublish,
                _ => Overflow::DropHead,
            }
        } else {
            own.overflow.or(policy.overflow).unwrap_or_default()
        };
        let dead_letter_exchange = own
            .dead_letter_exchange
            .clone()
            .or_else(|| policy.dead_letter_exchange.clone());
        let dead_letter_routing_key = own
            .dead_letter_routing_key
            .clone()
            .or_else(|| policy.dead_letter_routing_key.clone());
        Self {
            kind: settings.kind,
            max_priority: if quorum {
                QUORUM_PRIORITY_MAX
            } else {
                settings.max_priority.unwrap_or(0)
            },
            single_active_consumer: settings.single_active_consumer,
            message_ttl_ms: least(own.message_ttl_ms, policy.message_ttl_ms),
            expires_ms: least(own.expires_ms, policy.expires_ms),
            max_length: least(own.max_length, policy.max_length).unwrap_or(u64::MAX),
            max_length_bytes: least(own.max_length_bytes, policy.max_length_bytes)
                .unwrap_or(u64::MAX),
            overflow,
            dead_letter_exchange,
            dead_letter_routing_key,
            delivery_limit: delivery_limit(own.delivery_limit, policy.delivery_limit)
                .filter(|_| quorum),
            delayed_retry: delayed_retry(own, policy).filter(|_| quorum),
            consumer_timeout_ms: quorum.then(|| {
                least(own.consumer_timeout_ms, policy.consumer_timeout_ms)
                    .unwrap_or(CONSUMER_TIMEOUT_MS_DEFAULT)
            }),
        }
    }

    /// The level at which a message of this priority waits: the maximum at most; a quorum queue takes 4
    /// for none, a classic one 0 (behaviour 2.6).
    pub fn level(&self, priority: Option<u8>) -> u8 {
        let absent = match self.kind {
            QueueKind::Classic => 0,
            QueueKind::Quorum => 4,
        };
        priority.unwrap_or(absent).min(self.max_priority)
    }
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The smaller limit; a negative one means none and loses to a real one.
fn delivery_limit(own: Option<i64>, policy: Option<i64>) -> Option<u32> {
    let limit = match (own, policy) {
        (Some(own), Some(policy)) if own < 0 || policy < 0 => own.max(policy),
        (Some(own), Some(policy)) => own.min(policy),
        (own, policy) => own.or(policy).unwrap_or(i64::from(DELIVERY_LIMIT_DEFAULT)),
    };
    u32::try_from(limit).ok()
}

/// The retry settings; they need a kind and a step above 0.
fn delayed_retry(own: &PolicySettings, policy: &PolicySettings) -> Option<DelayedRetry> {
    let kind = policy.delayed_retry_kind.or(own.delayed_retry_kind)??;
    let min_ms = least(own.delayed_retry_min_ms, policy.delayed_retry_min_ms)
        .filter(|min_ms| *min_ms > 0)?;
    let max_ms = least(own.delayed_retry_max_ms, policy.delayed_retry_max_ms)
        .filter(|max_ms| *max_ms > 0)
        .unwrap_or(min_ms);
    Some(DelayedRetry {
        kind,
        min_ms,
        max_ms,
    })
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
mod tests {
    use super::*;
    use crate::protocol::ReplyCode;
    use crate::protocol::ShortString;

    fn table(fields: &[(&'static str, Value)]) -> FieldTable {
        fields
            .iter()
            .map(|(name, value)| (ShortString::from_static(name), value.clone()))
            .collect()
    }

    fn parse(fields: &[(&'static str, Value)]) -> Result<QueueSettings, Refusal> {
        QueueSettings::parse("q", "/", QueueKind::Classic, &table(fields))
    }

    /// Checks the text of the refusal after `invalid arg '…' for queue 'q' in vhost '/'`.
    fn check(kind: &str, argument: &'static str, value: Value, expected: Option<&str>) {
        let result = parse(&[
            ("x-queue-type", Value::from(kind)),
            (argument, value.clone()),
        ]);
        let expected = expected
            .map(|rest| format!("invalid arg '{argument}' for queue 'q' in vhost '/'{rest}"));
        let text = result.err().map(|refusal| {
            assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
            refusal.text
        });
        assert_eq!(text, expected, "{kind} {argument} {value:?}");
    }

    #[test]
    fn every_argument_is_checked_with_the_term_that_erlang_prints() {
        let text = |text: &str| Value::from(text);
        let int = Value::I32;
        let rows: &[(&str, &'static str, Value, Option<&str>)] = &[
            ("classic", "x-message-ttl", int(0), None),
            (
                "classic",
                "x-message-ttl",
                int(-1),
                Some(": {value_negative,-1}"),
            ),
            (
                "classic",
                "x-message-ttl",
                Value::I64(315_360_000_000),
                None,
            ),
            (
                "classic",
                "x-message-ttl",
                Value::I64(315_360_000_001),
                Some(": {value_too_large,315360000001}"),
            ),
            (
                "classic",
                "x-message-ttl",
                text("1"),
                Some(": \"expected integer, got longstr\""),
            ),
            ("classic", "x-expires", int(1), None),
            ("classic", "x-expires", int(0), Some(": {value_zero,0}")),
            (
                "classic",
                "x-expires",
                int(-5),
                Some(": {value_negative,-5}"),
            ),
            (
                "classic",
                "x-expires",
                Value::F64(1.0),
                Some(": \"expected integer, got double\""),
            ),
            ("classic", "x-max-length", int(0), None),
            (
                "classic",
                "x-max-length",
                int(-5),
                Some(": {value_negative,-5}"),
            ),
            (
                "classic",
                "x-max-length",
                Value::Timestamp(5),
                Some(": \"expected integer, got timestamp\""),
            ),
            (
                "classic",
                "x-max-length-bytes",
                int(-1),
                Some(": {value_negative,-1}"),
            ),
            ("classic", "x-max-priority", int(255), None),
            (
                "classic",
                "x-max-priority",
                int(256),
                Some(": {max_value_exceeded,256}"),
            ),
            (
                "classic",
                "x-max-priority",
                int(-1),
                Some(": {value_negative,-1}"),
            ),
            ("classic", "x-overflow", text("reject-publish-dlx"), None),
            (
                "classic",
                "x-overflow",
                text("explode"),
                Some(": invalid_overflow"),
            ),
            (
                "classic",
                "x-overflow",
                int(1),
                Some(": {unacceptable_type,signedint}"),
            ),
            ("classic", "x-dead-letter-exchange", text(""), None),
            (
                "classic",
                "x-dead-letter-routing-key",
                text("k"),
                Some(": routing_key_but_no_dlx_defined"),
            ),
            (
                "classic",
                "x-dead-letter-routing-key",
                int(1),
                Some(": {unacceptable_type,signedint}"),
            ),
            (
                "classic",
                "x-single-active-consumer",
                Value::Bool(true),
                None,
            ),
            (
                "classic",
                "x-single-active-consumer",
                text("true"),
                Some(": {unacceptable_type,longstr}"),
            ),
            ("classic", "x-queue-version", int(2), None),
            (
                "classic",
                "x-queue-version",
                int(1),
                Some(": \"unsupported queue version '1'\""),
            ),
            ("classic", "x-queue-mode", text("whatever"), None),
            ("classic", "x-queue-leader-locator", text("balanced"), None),
            (
                "classic",
                "x-queue-leader-locator",
                text("moon"),
                Some(": invalid_queue_locator_arg"),
            ),
            ("classic", "x-my-own", int(1), None),
            (
                "classic",
                "x-delivery-limit",
                int(1),
                Some(" of queue type rabbit_classic_queue"),
            ),
            (
                "classic",
                "x-max-age",
                text("1D"),
                Some(" of queue type rabbit_classic_queue"),
            ),
            (
                "classic",
                "x-consumer-timeout",
                int(-1),
                Some(" of queue type rabbit_classic_queue"),
            ),
            (
                "quorum",
                "x-max-priority",
                int(5),
                Some(" of queue type rabbit_quorum_queue"),
            ),
            (
                "quorum",
                "x-queue-mode",
                text("lazy"),
                Some(" of queue type rabbit_quorum_queue"),
            ),
            (
                "quorum",
                "x-queue-version",
                int(2),
                Some(" of queue type rabbit_quorum_queue"),
            ),
            (
                "quorum",
                "x-queue-master-locator",
                text("x"),
                Some(" of queue type rabbit_quorum_queue"),
            ),
            ("quorum", "x-delivery-limit", int(-1), None),
            (
                "quorum",
                "x-consumer-timeout",
                int(-1),
                Some(": {value_negative,-1}"),
            ),
            (
                "quorum",
                "x-consumer-disconnected-timeout",
                int(-1),
                Some(": {value_negative,-1}"),
            ),
            (
                "quorum",
                "x-quorum-initial-group-size",
                int(0),
                Some(": {value_zero,0}"),
            ),
            ("quorum", "x-quorum-initial-group-size", int(3), None),
            (
                "quorum",
                "x-max-in-memory-length",
                int(-1),
                Some(": {value_negative,-1}"),
            ),
            ("quorum", "x-max-in-memory-bytes", int(1), None),
            (
                "quorum",
                "x-dead-letter-strategy",
                text("at-least-once"),
                None,
            ),
            (
                "quorum",
                "x-dead-letter-strategy",
                text("maybe"),
                Some(": invalid_dlx_strategy"),
            ),
            ("quorum", "x-delayed-retry-type", text("all"), None),
        ];
        for (kind, argument, value, expected) in rows {
            check(kind, argument, value.clone(), *expected);
        }
    }

    #[test]
    fn an_unknown_queue_type_is_refused_and_an_empty_one_is_the_default() {
        for (value, expected) in [
            (Value::from("foo"), "\"unsupported queue type 'foo'\""),
            (Value::from("stream"), "\"unsupported queue type 'stream'\""),
            (Value::I32(1), "{unacceptable_type,signedint}"),
        ] {
            assert_eq!(
                parse(&[("x-queue-type", value)]).unwrap_err().text,
                format!("invalid arg 'x-queue-type' for queue 'q' in vhost '/': {expected}")
            );
        }
        for text in ["", "undefined", "classic"] {
            let settings = parse(&[("x-queue-type", Value::from(text))]).unwrap();
            assert_eq!(settings.kind, QueueKind::Classic);
        }
    }

    #[test]
    fn a_dead_letter_exchange_that_is_no_text_is_refused_first() {
        let refusal = parse(&[
            ("x-dead-letter-exchange", Value::I32(1)),
            ("x-expires", Value::I32(0)),
        ]);
        assert_eq!(
            refusal.unwrap_err().text,
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
        );
    }

    #[test]
    fn the_master_locator_ends_the_connection() {
        let refusal = parse(&[("x-queue-master-locator", Value::from("random"))]).unwrap_err();
        assert_eq!(refusal.code, ReplyCode::InternalError);
        assert!(refusal.text.starts_with(
            "Feature `queue_master_locator` is deprecated.\nBy default, this feature is not permitted anymore.\n"
        ));
    }

    #[test]
    fn quorum_flags_are_refused_in_order() {
        let check = |durable, exclusive, auto_delete| {
            check_quorum_flags("q", "/", durable, exclusive, auto_delete)
                .err()
                .map(|refusal| refusal.text)
        };
        let text = |flag| {
            Some(format!(
                "invalid property '{flag}' for queue 'q' in vhost '/'"
            ))
        };
        assert_eq!(check(true, false, false), None);
        assert_eq!(check(false, true, true), text("auto-delete"));
        assert_eq!(check(false, true, false), text("exclusive-owner"));
        assert_eq!(check(false, false, false), text("non-durable"));
        assert_eq!(
            check_server_named(QueueKind::Quorum).unwrap_err().text,
            "Cannot declare a server-named queue for type rabbit_quorum_queue"
        );
    }

    #[test]
    fn declared_again_the_exclusive_owner_is_compared_first() {
        let ten = table(&[("x-max-length", Value::I32(10)), ("x-mine", Value::I32(1))]);
        let other = table(&[("x-max-length", Value::I64(10)), ("x-mine", Value::I32(2))]);
        let current = Declared {
            durable: true,
            exclusive_owner: None,
            auto_delete: false,
            arguments: &ten,
        };
        let check = |asked| check_equivalence("q", "/", QueueKind::Classic, current, asked);
        assert_eq!(
            check(Declared {
                arguments: &other,
                ..current
            }),
            Ok(())
        );
        let refusal = check(Declared {
            durable: false,
            exclusive_owner: Some(ConnectionId(1)),
            ..current
        });
        assert_eq!(
            refusal.unwrap_err(),
            Refusal::resource_locked(
                "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
            )
        );
        let refusal = check(Declared {
            auto_delete: true,
            ..current
        })
        .unwrap_err();
        assert_eq!(
            refusal.text,
            "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"
        );
    }

    #[test]
    fn a_missing_type_is_written_down_as_the_default_or_as_what_the_flags_allow() {
        let kind = |durable, default_kind| {
            let table = with_queue_type(FieldTable::new(), default_kind, durable, false, false);
            table
                .get("x-queue-type")
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(kind(true, QueueKind::Classic), "classic");
        assert_eq!(kind(true, QueueKind::Quorum), "quorum");
        assert_eq!(kind(false, QueueKind::Quorum), "classic");
    }

    #[test]
    fn arguments_and_policies_are_merged_by_rules_of_their_own() {
        let settings = parse(&[
            ("x-message-ttl", Value::I32(100)),
            ("x-max-length", Value::I32(10)),
            ("x-overflow", Value::from("reject-publish")),
        ]);
        let policy = PolicySettings {
            message_ttl_ms: Some(50),
            max_length: Some(20),
            overflow: Some(Overflow::DropHead),
            dead_letter_exchange: Some("dlx".into()),
            delivery_limit: Some(3),
            ..PolicySettings::default()
        };
        let merged = EffectiveSettings::new(&settings.unwrap(), &policy);
        assert_eq!(merged.message_ttl_ms, Some(50));
        assert_eq!(merged.max_length, 10);
        assert_eq!(merged.overflow, Overflow::RejectPublish);
        assert_eq!(merged.dead_letter_exchange.as_deref(), Some("dlx"));
        assert_eq!(merged.delivery_limit, None);

        let quorum = [
            ("x-queue-type", Value::from("quorum")),
            ("x-overflow", Value::from("reject-publish-dlx")),
            ("x-delivery-limit", Value::I32(-1)),
        ];
        let settings = parse(&quorum).unwrap();
        let alone = EffectiveSettings::new(&settings, &PolicySettings::default());
        assert_eq!(alone.overflow, Overflow::DropHead);
        assert_eq!(alone.delivery_limit, None);
        assert_eq!(alone.consumer_timeout_ms, Some(CONSUMER_TIMEOUT_MS_DEFAULT));
        let merged = EffectiveSettings::new(&settings, &policy);
        assert_eq!(merged.delivery_limit, Some(3));
    }

    #[test]
    fn consume_arguments_are_checked() {
        let parse = |kind, fields: &[(&'static str, Value)]| {
            ConsumeArguments::parse("q", "/", kind, &table(fields)).map_err(|refusal| refusal.text)
        };
        let priority = parse(QueueKind::Classic, &[("x-priority", Value::I8(-3))]);
        assert_eq!(priority.unwrap().priority, -3);
        assert_eq!(
            parse(QueueKind::Classic, &[("x-priority", Value::from("high"))]).unwrap_err(),
            "invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""
        );
        let timeout = [("x-consumer-timeout", Value::I32(10))];
        assert_eq!(
            parse(QueueKind::Quorum, &timeout).unwrap().timeout_ms,
            Some(10)
        );
        assert_eq!(
            parse(QueueKind::Classic, &timeout).unwrap_err(),
            "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
        );
        assert!(
            parse(
                QueueKind::Classic,
                &[("x-stream-offset", Value::from("first"))]
            )
            .is_err()
        );
        assert!(parse(QueueKind::Classic, &[("x-other", Value::from("first"))]).is_ok());
    }
}
