//! Policies and operator policies: which hold for a queue or an exchange, and what they say together.
//!
//! In: the policies of a virtual host; the kind and the name of a queue, the name of an exchange. Out: a [`QueuePolicy`], shared by
//! all that have the same policies. Of each sort one policy holds: that of the highest priority, and of several with the same
//! priority the one whose name comes first (RabbitMQ leaves that open). Both are merged key by key (`keys.rs`). What merges with the arguments
//! of a queue or an exchange is the business of [`crate::queue::settings`] and [`crate::routing::Exchange`].
//!
//! Source: `rabbit_policy.erl`; behaviour: <https://www.rabbitmq.com/docs/policies>.

mod apply;
pub mod keys;
pub mod terms;
pub mod validation;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value as Json};

pub(super) use apply::{apply_to_exchange, tell_of_sync};
pub use validation::NewPolicy;

use crate::auth::NamePattern;
use crate::model::{AppliedPolicy, Name};
use crate::queue::settings::{DeadLetterStrategy, DelayedRetryKind};
use crate::queue::{Overflow, PolicySettings, QueueKind, QueuePolicy};
use crate::store::definitions::Policy;
use crate::store::journal::SyncDemand;

/// The component under whose name operator policies are stored as parameters, as in RabbitMQ.
pub const OPERATOR_COMPONENT: &str = "operator_policy";

/// The two sorts of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Of users with the tag `policymaker`.
    User,
    /// Of administrators; they set bounds to the others.
    Operator,
}

/// A policy with its pattern compiled.
#[derive(Debug)]
struct Compiled {
    policy: Policy,
    /// `None` for one that this program's engine does not know; the policy then applies to nothing.
    pattern: Option<NamePattern>,
    for_classic: bool,
    for_quorum: bool,
    for_exchanges: bool,
}

impl Compiled {
    fn new(policy: Policy) -> Self {
        let applies = |kind: QueueKind, word: &str| {
            let apply_to = policy.apply_to.as_str();
            (apply_to == "all" || apply_to == "queues" || apply_to == word)
                && policy
                    .definition
                    .keys()
                    .all(|key| keys::is_applicable(key, kind))
        };
        Self {
            // An empty permission gives no right, but an empty pattern of a policy is found in every name.
            pattern: NamePattern::compile(match policy.pattern.as_str() {
                "" => ".*",
                pattern => pattern,
            })
            .ok(),
            for_classic: applies(QueueKind::Classic, "classic_queues"),
            for_quorum: applies(QueueKind::Quorum, "quorum_queues"),
            for_exchanges: matches!(policy.apply_to.as_str(), "all" | "exchanges"),
            policy,
        }
    }

    fn matches(&self, object: Object<'_>) -> bool {
        let (is_for, name) = match object {
            Object::Queue(QueueKind::Classic, name) => (self.for_classic, name),
            Object::Queue(QueueKind::Quorum, name) => (self.for_quorum, name),
            Object::Exchange(name) => (self.for_exchanges, name),
        };
        is_for
            && self
                .pattern
                .as_ref()
                .is_some_and(|pattern| pattern.matches(name.as_bytes()))
    }
}

/// What policies apply to.
#[derive(Clone, Copy, Debug)]
pub enum Object<'a> {
    /// A queue of this kind and name.
    Queue(QueueKind, &'a str),
    /// An exchange of this name.
    Exchange(&'a str),
}

/// A pair of policies, by their places.
type Pair = (Option<usize>, Option<usize>);

/// The policies of a virtual host. It never changes: another takes its place.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// The one that wins first.
    user: Vec<Compiled>,
    operator: Vec<Compiled>,
    /// What pairs say together, once somebody asked for it.
    merged: Mutex<HashMap<Pair, Arc<QueuePolicy>>>,
}

impl PolicySet {
    /// From the policies of a virtual host, in any order.
    pub fn new(
        user: impl IntoIterator<Item = Policy>,
        operator: impl IntoIterator<Item = Policy>,
    ) -> Self {
        Self {
            user: compiled(user),
            operator: compiled(operator),
            merged: Mutex::default(),
        }
    }

    /// The policies of one sort, the one that wins first.
    pub fn policies(&self, kind: PolicyKind) -> impl Iterator<Item = &Policy> {
        let list = match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        };
        list.iter().map(|compiled| &compiled.policy)
    }

    /// What holds for an object.
    pub fn find(&self, object: Object<'_>) -> Arc<QueuePolicy> {
        let first = |list: &[Compiled]| list.iter().position(|policy| policy.matches(object));
        let pair = (first(&self.user), first(&self.operator));
        let mut merged = self.merged.lock();
        Arc::clone(merged.entry(pair).or_insert_with(|| self.merge(pair)))
    }

    fn merge(&self, (user, operator): Pair) -> Arc<QueuePolicy> {
        let user = user.map(|place| &self.user[place].policy);
        let operator = operator.map(|place| &self.operator[place].policy);
        let definition = match (user, operator) {
            (None, None) => return Arc::default(),
            (Some(one), None) | (None, Some(one)) => one.definition.clone(),
            (Some(user), Some(operator)) => keys::merge(&user.definition, &operator.definition),
        };
        let name = |policy: &Policy| Arc::clone(&policy.name);
        Arc::new(QueuePolicy {
            settings: settings_of(&definition),
            applied: Some(Arc::new(AppliedPolicy {
                policy: user.map(name),
                operator_policy: operator.map(name),
                definition,
            })),
        })
    }
}

fn compiled(policies: impl IntoIterator<Item = Policy>) -> Vec<Compiled> {
    let mut list: Vec<Compiled> = policies.into_iter().map(Compiled::new).collect();
    list.sort_by(|a, b| {
        let (a, b) = (&a.policy, &b.policy);
        b.priority
            .cmp(&a.priority)
            .then_with(|| a.name.cmp(&b.name))
    });
    list
}

/// What a definition means for a queue. Values that a key does not take, as other brokers may have stored them, say nothing.
fn settings_of(definition: &Map<String, Json>) -> PolicySettings {
    let value = |key: &str| keys::valid(definition, key);
    let number = |key: &str| value(key).and_then(Json::as_u64);
    let text = |key: &str| value(key).and_then(Json::as_str);
    PolicySettings {
        message_ttl_ms: number("message-ttl"),
        expires_ms: number("expires"),
        max_length: number("max-length"),
        max_length_bytes: number("max-length-bytes"),
        overflow: text("overflow").and_then(Overflow::parse),
        dead_letter_exchange: text("dead-letter-exchange").map(Name::from),
        dead_letter_routing_key: text("dead-letter-routing-key").map(Name::from),
        dead_letter_strategy: text("dead-letter-strategy").and_then(DeadLetterStrategy::parse),
        delivery_limit: value("delivery-limit").and_then(Json::as_i64),
        delayed_retry_kind: text("delayed-retry-type").map(DelayedRetryKind::parse),
        delayed_retry_min_ms: number("delayed-retry-min"),
        delayed_retry_max_ms: number("delayed-retry-max"),
        consumer_timeout_ms: number("consumer-timeout"),
        sync: text(keys::SYNC).and_then(SyncDemand::parse),
    }
}

/// The alternate exchange that a policy names.
pub fn alternate_exchange(policy: &AppliedPolicy) -> Option<Name> {
    keys::valid(&policy.definition, "alternate-exchange")
        .and_then(Json::as_str)
        .map(Name::from)
}

/// An operator policy as the value of its parameter.
pub fn to_value(policy: &Policy) -> Json {
    serde_json::json!({
        "pattern": policy.pattern,
        "apply-to": policy.apply_to,
        "priority": policy.priority,
        "definition": policy.definition,
    })
}

/// An operator policy from the value of its parameter, without a check of its keys; `None` for what is none.
pub fn from_value(vhost: &Name, name: &Name, value: &Json) -> Option<Policy> {
    Some(Policy {
        vhost: Arc::clone(vhost),
        name: Arc::clone(name),
        pattern: value.get("pattern")?.as_str()?.to_owned(),
        apply_to: value
            .get("apply-to")
            .and_then(Json::as_str)
            .unwrap_or("all")
            .to_owned(),
        priority: value.get("priority").and_then(Json::as_i64).unwrap_or(0),
        definition: value.get("definition")?.as_object()?.clone(),
    })
}

#[cfg(test)]
mod tests;
