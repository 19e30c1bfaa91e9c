//! What holds for a queue: what its arguments say and what its policy says, merged.
//!
//! In: checked numbers and names; out: the settings that the state machine reads. Source:
//! `rabbit_amqqueue_process:process_args_policy/1`, `rabbit_quorum_queue:gather_policy_config/2`.

use std::sync::Arc;

use super::kind::QueueKind;
use crate::model::{AppliedPolicy, Name};
use crate::store::journal::SyncDemand;

/// Failed deliveries that a quorum queue allows when nothing else is said (since RabbitMQ 4.0).
pub const DELIVERY_LIMIT_DEFAULT: u32 = 20;

/// What a quorum queue makes of "no prefetch limit" (`rabbit_quorum_queue.erl`).
pub const QUORUM_PREFETCH_MAX: u32 = 2000;

/// Time to settle a delivery of a quorum queue, by default (`consumer_timeout` of RabbitMQ's document "Consumers").
pub const CONSUMER_TIMEOUT_MS_DEFAULT: u64 = 1_800_000;

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
    /// The one of that name in arguments and policies.
    pub fn parse(text: &str) -> Option<Self> {
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
    /// The one of that name in arguments and policies.
    pub fn parse(text: &str) -> Option<Self> {
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

/// What a quorum queue promises of its dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    /// They leave, and may get lost.
    AtMostOnce,
    /// They stay until every queue that they go to has them.
    AtLeastOnce,
}

impl DeadLetterStrategy {
    /// The one of that name in arguments and policies.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "at-most-once" => Self::AtMostOnce,
            "at-least-once" => Self::AtLeastOnce,
            _ => return None,
        })
    }
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
    /// `dead-letter-strategy`.
    pub dead_letter_strategy: Option<DeadLetterStrategy>,
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
    /// `sync`, which is this program's own and comes from policies alone: what confirms wait for.
    pub sync: Option<SyncDemand>,
}

/// What policies say of a queue, and which they are. Queues with the same policies share it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueuePolicy {
    /// What they say.
    pub settings: PolicySettings,
    /// Which they are, if there are any.
    pub applied: Option<Arc<AppliedPolicy>>,
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
    /// Whether dead letters stay until they have arrived (quorum).
    pub retains_dead_letters: bool,
    /// Failed deliveries that are allowed; `None` for any number.
    pub delivery_limit: Option<u32>,
    /// How long returns wait.
    pub delayed_retry: Option<DelayedRetry>,
    /// Time to settle a delivery, unless the consumer says otherwise; `None` for no limit.
    pub consumer_timeout_ms: Option<u64>,
    /// What confirms wait for; `None` for what the node does.
    pub sync: Option<SyncDemand>,
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
        // With drop-head, RabbitMQ falls back to at-most-once: heads must be able to leave.
        let retains_dead_letters = quorum
            && dead_letter_exchange.is_some()
            && overflow == Overflow::RejectPublish
            && own.dead_letter_strategy.or(policy.dead_letter_strategy)
                == Some(DeadLetterStrategy::AtLeastOnce);
        Self {
            kind: settings.kind,
            retains_dead_letters,
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
            sync: policy.sync,
        }
    }

    /// The level at which a message of this priority waits: the maximum at most; a quorum queue takes 4
    /// for none, a classic one 0.
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
