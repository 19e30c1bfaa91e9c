//! An exchange: what it was declared as, the bindings that start from it, and the index of its type.
//!
//! In: its definition, bindings, the alternate exchange of a policy; out: where a message goes from here,
//! and an [`Epoch`] that every change moves. Other exchanges, permissions and what is durable on disk are
//! unknown here: who follows bindings from exchange to exchange is [`super::Router`].

use super::direct::DirectIndex;
use super::fanout::FanoutIndex;
use super::headers::{self, HeadersIndex};
use super::topic::{self, TopicIndex};
use super::{Binding, Bindings, Destination, Epoch};
use crate::model::equivalence::{check_arguments, check_field};
use crate::model::{Name, Refusal, resource};
use crate::protocol::{FieldTable, Table, Value};

/// The argument that names the exchange for messages that found nothing.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// Bytes of a binding key at most: those of a short string, in which every client sends it. The bound is
/// held here because definitions come in other ways too.
const BINDING_KEY_BYTES_MAX: usize = 255;

/// The types of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// By the routing key, byte for byte.
    Direct,
    /// To every destination.
    Fanout,
    /// By the words of the routing key.
    Topic,
    /// By the message's headers.
    Headers,
}

impl ExchangeKind {
    /// The type of that name.
    ///
    /// # Errors
    /// 406 `unknown exchange type 'x'` (`rabbit_exchange.erl`, `check_type`).
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        match name {
            "direct" => Ok(Self::Direct),
            "fanout" => Ok(Self::Fanout),
            "topic" => Ok(Self::Topic),
            "headers" => Ok(Self::Headers),
            _ => Err(Refusal::precondition_failed(format!(
                "unknown exchange type '{name}'"
            ))),
        }
    }

    /// The name that clients use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// An exchange that every virtual host has from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predeclared {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: ExchangeKind,
    /// Whether clients may not publish to it.
    pub internal: bool,
}

/// The exchanges of a new virtual host, all durable and without arguments (`rabbit_vhost.erl`). The
/// default exchange, which has no bindings of its own, is not among them.
pub const PREDECLARED_EXCHANGES: [Predeclared; 6] = [
    predeclared("amq.direct", ExchangeKind::Direct, false),
    predeclared("amq.fanout", ExchangeKind::Fanout, false),
    predeclared("amq.headers", ExchangeKind::Headers, false),
    predeclared("amq.match", ExchangeKind::Headers, false),
    predeclared("amq.rabbitmq.trace", ExchangeKind::Topic, true),
    predeclared("amq.topic", ExchangeKind::Topic, false),
];

const fn predeclared(name: &'static str, kind: ExchangeKind, internal: bool) -> Predeclared {
    Predeclared {
        name,
        kind,
        internal,
    }
}

/// What an exchange was declared as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeDefinition {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when the last binding from it goes.
    pub auto_delete: bool,
    /// Refuses publishes by clients.
    pub internal: bool,
    /// `alternate-exchange`, and whatever else the client sent.
    pub arguments: FieldTable,
}

/// The alternate exchange that the arguments of a new exchange name.
///
/// # Errors
/// 406 if it is no long string (`rabbit_channel.erl`, `exchange.declare`). RabbitMQ looks at it only when
/// the exchange does not exist yet.
pub fn alternate_exchange_argument(
    definition: &ExchangeDefinition,
    vhost: &str,
) -> Result<Option<Name>, Refusal> {
    match definition.arguments.get(ALTERNATE_EXCHANGE) {
        None => Ok(None),
        // Exchanges have names of UTF-8, so that other octets name one that does not exist.
        Some(Value::LongStr(name)) => Ok(Some(String::from_utf8_lossy(name).into())),
        Some(other) => Err(Refusal::precondition_failed(format!(
            "invalid type '{}' for arg '{ALTERNATE_EXCHANGE}' in {}",
            other.type_name(),
            resource("exchange", &definition.name, vhost)
        ))),
    }
}

/// Checks that an exchange that exists is the one that a client declares: type, flags, and of the
/// arguments only the alternate exchange (`rabbit_exchange.erl`, `assert_equivalence`).
///
/// # Errors
/// 406 `inequivalent arg …` for the first difference.
pub fn check_equivalence(
    existing: &ExchangeDefinition,
    requested: &ExchangeDefinition,
    vhost: &str,
) -> Result<(), Refusal> {
    let resource = resource("exchange", &existing.name, vhost);
    check_field(
        "type",
        &resource,
        existing.kind.as_str(),
        requested.kind.as_str(),
    )?;
    let flags = [
        ("durable", existing.durable, requested.durable),
        ("auto_delete", existing.auto_delete, requested.auto_delete),
        ("internal", existing.internal, requested.internal),
    ];
    for (flag, current, asked) in flags {
        check_field(flag, &resource, &current, &asked)?;
    }
    check_arguments(
        &resource,
        &existing.arguments,
        &requested.arguments,
        &[ALTERNATE_EXCHANGE],
    )
}

/// What a removal of bindings has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbound {
    /// The bindings that are gone, sorted.
    pub removed: Vec<Binding>,
    /// Whether the exchange is to be deleted now: it is auto-delete and lost its last binding.
    pub auto_delete: bool,
}

/// An exchange with its bindings. Whoever shares it between threads guards it; see
/// [`super::ExchangeHandle`].
#[derive(Debug)]
pub struct Exchange {
    definition: ExchangeDefinition,
    argument_alternate: Option<Name>,
    policy_alternate: Option<Name>,
    bindings: Bindings,
    index: Index,
    epoch: Epoch,
    retired: bool,
}

/// The index of the exchange's type.
#[derive(Debug)]
enum Index {
    Direct(DirectIndex),
    Fanout(FanoutIndex),
    Topic(TopicIndex),
    Headers(HeadersIndex),
}

impl Exchange {
    /// An exchange without bindings.
    ///
    /// An alternate exchange of a wrong type counts as none; [`alternate_exchange_argument`] is there to
    /// refuse it in time.
    pub fn new(definition: ExchangeDefinition) -> Self {
        let argument_alternate = alternate_exchange_argument(&definition, "").unwrap_or_default();
        let index = match definition.kind {
            ExchangeKind::Direct => Index::Direct(DirectIndex::default()),
            ExchangeKind::Fanout => Index::Fanout(FanoutIndex::default()),
            ExchangeKind::Topic => Index::Topic(TopicIndex::default()),
            ExchangeKind::Headers => Index::Headers(HeadersIndex::default()),
        };
        Self {
            definition,
            argument_alternate,
            policy_alternate: None,
            bindings: Bindings::default(),
            index,
            epoch: Epoch::default(),
            retired: false,
        }
    }

    /// What it was declared as.
    pub fn definition(&self) -> &ExchangeDefinition {
        &self.definition
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.definition.name
    }

    /// The number that moves with every change here.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Whether it was deleted, and lives only in the hands of those who looked it up before.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Where messages go that find nothing here: the argument, or else the policy
    /// (`rabbit_exchange.erl`, `process_alternate`).
    pub fn alternate(&self) -> Option<&Name> {
        self.argument_alternate
            .as_ref()
            .or(self.policy_alternate.as_ref())
    }

    /// Sets the alternate exchange that a policy names.
    pub fn set_policy_alternate(&mut self, alternate: Option<Name>) {
        if self.policy_alternate != alternate {
            self.policy_alternate = alternate;
            self.epoch.advance();
        }
    }

    /// Whether the routing key of a publish means anything here, so that routes are worth remembering by
    /// it: to a headers exchange it does not.
    pub fn routes_by_key(&self) -> bool {
        !matches!(self.index, Index::Headers(_))
    }

    /// The bindings that start here.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Checks what a client wants to bind.
    ///
    /// # Errors
    /// 406 for a topic key with three `#`, for a wrong `x-match`, and for a key of more than 255 bytes.
    pub fn check_binding(&self, routing_key: &str, arguments: &FieldTable) -> Result<(), Refusal> {
        if routing_key.len() > BINDING_KEY_BYTES_MAX {
            return Err(Refusal::precondition_failed(format!(
                "binding key has {} bytes, at most {BINDING_KEY_BYTES_MAX} are allowed",
                routing_key.len()
            )));
        }
        match self.index {
            Index::Topic(_) => topic::check_key(routing_key),
            Index::Headers(_) => headers::check_arguments(arguments),
            Index::Direct(_) | Index::Fanout(_) => Ok(()),
        }
    }

    /// Adds a binding; `false` if the same one is there already.
    ///
    /// # Errors
    /// As [`Exchange::check_binding`]; nothing has changed then.
    pub fn bind(&mut self, binding: Binding) -> Result<bool, Refusal> {
        self.check_binding(&binding.routing_key, &binding.arguments.to_table())?;
        if !self.bindings.insert(binding.clone()) {
            return Ok(false);
        }
        let destination = &binding.destination;
        match &mut self.index {
            Index::Direct(index) => index.insert(&binding.routing_key, destination),
            Index::Fanout(index) => index.insert(destination),
            Index::Topic(index) => index.insert(&binding.routing_key, destination),
            Index::Headers(index) => index.insert(&binding.arguments, destination),
        }
        self.epoch.advance();
        Ok(true)
    }

    /// Removes a binding; one that is not there is no error.
    pub fn unbind(&mut self, binding: &Binding) -> Unbound {
        let removed = self.bindings.take(binding).into_iter().collect();
        self.unindex(removed)
    }

    /// Removes all bindings that lead to `destination`, in the time that these take.
    pub fn remove_destination(&mut self, destination: &Destination) -> Unbound {
        let removed = self.bindings.take_destination(destination);
        self.unindex(removed)
    }

    /// Ends the exchange and gives back its bindings. Remembered routes through it hold no longer.
    pub fn retire(&mut self) -> Vec<Binding> {
        self.retired = true;
        let bindings = self.bindings.take_all();
        self.unindex(bindings).removed
    }

    /// Appends where a message goes from here. A destination may come more than once.
    ///
    /// `keys` are the routing key and those of CC and BCC; `headers` is `None` for a message without.
    pub fn matches(
        &self,
        keys: &[&[u8]],
        headers: Option<Table<'_>>,
        found: &mut Vec<Destination>,
    ) {
        match &self.index {
            Index::Direct(index) => keys.iter().for_each(|key| index.matches(key, found)),
            Index::Fanout(index) => index.matches(found),
            Index::Topic(index) => keys.iter().for_each(|key| index.matches(key, found)),
            Index::Headers(index) => index.matches(headers, found),
        }
    }

    fn unindex(&mut self, removed: Vec<Binding>) -> Unbound {
        for binding in &removed {
            let destination = &binding.destination;
            match &mut self.index {
                Index::Direct(index) => index.remove(&binding.routing_key, destination),
                Index::Fanout(index) => index.remove(destination),
                Index::Topic(index) => index.remove(&binding.routing_key, destination),
                Index::Headers(index) => index.remove(&binding.arguments, destination),
            }
        }
        if self.retired || !removed.is_empty() {
            self.epoch.advance();
        }
        Unbound {
            auto_delete: self.definition.auto_delete
                && !self.retired
                && !removed.is_empty()
                && self.bindings.is_empty(),
            removed,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
