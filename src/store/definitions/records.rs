//! The definitions of a node as typed records, and the changes that can be made to them.
//!
//! In and out: plain data. Neither the stored form nor RabbitMQ's JSON is known here.

use serde_json::{Map, Value as Json};

use crate::auth::{Permission, TopicPermission, User};
use crate::model::{Name, QueueId};
use crate::protocol::FieldTable;

/// A virtual host.
#[derive(Clone, Debug, PartialEq)]
pub struct Vhost {
    /// Its name.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// The type of queues declared without one, as the operator wrote it.
    pub default_queue_type: Option<String>,
    /// Whatever else its metadata holds, such as `protected_from_deletion`.
    pub metadata: Map<String, Json>,
}

impl Vhost {
    /// A virtual host with nothing but a name.
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            tags: Vec::new(),
            default_queue_type: None,
            metadata: Map::new(),
        }
    }
}

/// An exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Its type: `direct`, `fanout`, …
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when the last binding from it goes.
    pub auto_delete: bool,
    /// Refuses publishes by clients.
    pub internal: bool,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its number, under which its messages are stored.
    pub id: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Its type: `classic`, `quorum`, `stream`.
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationKind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl DestinationKind {
    /// `queue` or `exchange`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        }
    }
}

/// A binding. All of it is its identity; the order of the arguments is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Its virtual host.
    pub vhost: Name,
    /// The exchange that it leads from.
    pub source: Name,
    /// What it leads to.
    pub destination: Name,
    /// Which kind that is.
    pub destination_kind: DestinationKind,
    /// The binding key.
    pub routing_key: Name,
    /// Its arguments.
    pub arguments: FieldTable,
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// The names that it applies to, an unanchored pattern.
    pub pattern: String,
    /// `all`, `queues`, `exchanges`, `classic_queues`, `quorum_queues`, `streams`.
    pub apply_to: String,
    /// The highest wins.
    pub priority: i64,
    /// What it sets.
    pub definition: Map<String, Json>,
}

/// A runtime parameter of a virtual host, such as its limits or an operator policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its virtual host.
    pub vhost: Name,
    /// Which part of the broker it belongs to, such as `vhost-limits`.
    pub component: Name,
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Json,
}

/// A runtime parameter of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalParameter {
    /// Its name.
    pub name: Name,
    /// Its value.
    pub value: Json,
}

/// Limits of a virtual host, `None` for no limit. They are stored as the parameter `limits` of the component
/// [`VhostLimits::COMPONENT`], as in RabbitMQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Connections at once.
    pub max_connections: Option<u64>,
    /// Queues.
    pub max_queues: Option<u64>,
}

impl VhostLimits {
    /// The component of the parameter.
    pub const COMPONENT: &'static str = "vhost-limits";
    /// The name of the parameter.
    pub const NAME: &'static str = "limits";

    /// Reads the parameter's value; a negative or missing number is no limit.
    pub fn from_value(value: &Json) -> Self {
        let limit = |key| value.get(key).and_then(Json::as_u64);
        Self {
            max_connections: limit("max-connections"),
            max_queues: limit("max-queues"),
        }
    }
}

/// One definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Definition {
    /// A virtual host.
    Vhost(Vhost),
    /// A user.
    User(User),
    /// A permission.
    Permission(Permission),
    /// A topic permission.
    TopicPermission(TopicPermission),
    /// An exchange.
    Exchange(Exchange),
    /// A queue.
    Queue(Queue),
    /// A binding.
    Binding(Binding),
    /// A policy.
    Policy(Policy),
    /// A parameter.
    Parameter(Parameter),
    /// A global parameter.
    GlobalParameter(GlobalParameter),
}

macro_rules! definition_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Definition {
            fn from(definition: $kind) -> Self {
                Self::$kind(definition)
            }
        }

        impl From<$kind> for Change {
            fn from(definition: $kind) -> Self {
                Self::Put(Definition::$kind(definition))
            }
        }
    )*};
}

definition_from!(
    Vhost,
    User,
    Permission,
    TopicPermission,
    Exchange,
    Queue,
    Binding,
    Policy,
    Parameter,
    GlobalParameter
);

/// What names one definition.
#[derive(Clone, Debug, PartialEq)]
pub enum DefinitionKey {
    /// A virtual host; deleting it deletes everything in it.
    Vhost {
        /// Its name.
        name: Name,
    },
    /// A user; deleting it deletes its permissions.
    User {
        /// Its name.
        name: Name,
    },
    /// A permission.
    Permission {
        /// The virtual host.
        vhost: Name,
        /// The user.
        user: Name,
    },
    /// A topic permission.
    TopicPermission {
        /// The virtual host.
        vhost: Name,
        /// The user.
        user: Name,
        /// The exchange.
        exchange: Name,
    },
    /// An exchange, without its bindings.
    Exchange {
        /// The virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// A queue, without its bindings.
    Queue {
        /// The virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// A binding; all of it is its name.
    Binding(Binding),
    /// A policy.
    Policy {
        /// The virtual host.
        vhost: Name,
        /// Its name.
        name: Name,
    },
    /// A parameter.
    Parameter {
        /// The virtual host.
        vhost: Name,
        /// The component.
        component: Name,
        /// Its name.
        name: Name,
    },
    /// A global parameter.
    GlobalParameter {
        /// Its name.
        name: Name,
    },
}

impl Definition {
    /// What names it.
    pub fn key(&self) -> DefinitionKey {
        match self {
            Self::Vhost(vhost) => DefinitionKey::Vhost {
                name: vhost.name.clone(),
            },
            Self::User(user) => DefinitionKey::User {
                name: user.name.clone(),
            },
            Self::Permission(permission) => DefinitionKey::Permission {
                vhost: permission.vhost.clone(),
                user: permission.user.clone(),
            },
            Self::TopicPermission(permission) => DefinitionKey::TopicPermission {
                vhost: permission.vhost.clone(),
                user: permission.user.clone(),
                exchange: permission.exchange.clone(),
            },
            Self::Exchange(exchange) => DefinitionKey::Exchange {
                vhost: exchange.vhost.clone(),
                name: exchange.name.clone(),
            },
            Self::Queue(queue) => DefinitionKey::Queue {
                vhost: queue.vhost.clone(),
                name: queue.name.clone(),
            },
            Self::Binding(binding) => DefinitionKey::Binding(binding.clone()),
            Self::Policy(policy) => DefinitionKey::Policy {
                vhost: policy.vhost.clone(),
                name: policy.name.clone(),
            },
            Self::Parameter(parameter) => DefinitionKey::Parameter {
                vhost: parameter.vhost.clone(),
                component: parameter.component.clone(),
                name: parameter.name.clone(),
            },
            Self::GlobalParameter(parameter) => DefinitionKey::GlobalParameter {
                name: parameter.name.clone(),
            },
        }
    }
}

/// A change of the definitions.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Add one, or replace the one of the same key.
    Put(Definition),
    /// Remove one, if it is there.
    Delete(DefinitionKey),
}

/// All definitions of a node, each list in the order of its keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// Virtual hosts.
    pub vhosts: Vec<Vhost>,
    /// Users.
    pub users: Vec<User>,
    /// Permissions.
    pub permissions: Vec<Permission>,
    /// Topic permissions.
    pub topic_permissions: Vec<TopicPermission>,
    /// Exchanges.
    pub exchanges: Vec<Exchange>,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Bindings.
    pub bindings: Vec<Binding>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// Global parameters.
    pub global_parameters: Vec<GlobalParameter>,
}

impl Definitions {
    /// Appends a definition to its list.
    pub fn push(&mut self, definition: Definition) {
        match definition {
            Definition::Vhost(vhost) => self.vhosts.push(vhost),
            Definition::User(user) => self.users.push(user),
            Definition::Permission(permission) => self.permissions.push(permission),
            Definition::TopicPermission(permission) => self.topic_permissions.push(permission),
            Definition::Exchange(exchange) => self.exchanges.push(exchange),
            Definition::Queue(queue) => self.queues.push(queue),
            Definition::Binding(binding) => self.bindings.push(binding),
            Definition::Policy(policy) => self.policies.push(policy),
            Definition::Parameter(parameter) => self.parameters.push(parameter),
            Definition::GlobalParameter(parameter) => self.global_parameters.push(parameter),
        }
    }

    /// All of them, one after another, in RabbitMQ's order of import.
    pub fn into_list(self) -> Vec<Definition> {
        fn all<T: Into<Definition>>(list: Vec<T>) -> impl Iterator<Item = Definition> {
            list.into_iter().map(Into::into)
        }
        all(self.users)
            .chain(all(self.vhosts))
            .chain(all(self.permissions))
            .chain(all(self.exchanges))
            .chain(all(self.topic_permissions))
            .chain(all(self.global_parameters))
            .chain(all(self.policies))
            .chain(all(self.parameters))
            .chain(all(self.queues))
            .chain(all(self.bindings))
            .collect()
    }

    /// The limits of a virtual host.
    pub fn vhost_limits(&self, vhost: &str) -> VhostLimits {
        self.parameters
            .iter()
            .find(|parameter| {
                *parameter.vhost == *vhost
                    && *parameter.component == *VhostLimits::COMPONENT
                    && *parameter.name == *VhostLimits::NAME
            })
            .map(|parameter| VhostLimits::from_value(&parameter.value))
            .unwrap_or_default()
    }
}
