//! From a document and what exists to an ordered list of changes.
//!
//! In: a [`Document`], the existing [`Definitions`]. Out: an [`ImportPlan`], or the first reference to
//! something that will not exist. Nothing is changed here.

use std::collections::{HashMap, HashSet};

use super::super::{Binding, Change, Definition, Definitions, DestinationKind, row};
use super::{Document, ImportError, arguments_to_json};
use crate::model::{Name, QueueId};
use crate::store::StoreError;

/// The changes that import a document, in RabbitMQ's order: users, virtual hosts, permissions, exchanges,
/// topic permissions, global parameters, policies, parameters, queues, bindings. Nothing is ever deleted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportPlan {
    /// What to do, in this order. Every one is a [`Change::Put`].
    pub changes: Vec<Change>,
    /// Definitions that exist as they are.
    pub unchanged: usize,
    /// Queues and exchanges that exist with other properties; they stay as they are.
    pub conflicts: Vec<String>,
    /// What was left out or looked odd.
    pub warnings: Vec<String>,
}

impl Document {
    /// Plans its import. Queues that are new get their number from `allocate`.
    ///
    /// # Errors
    /// [`ImportError::Invalid`] when something refers to a virtual host, a user, an exchange or a queue that
    /// neither exists nor is in the document.
    pub fn plan(
        self,
        existing: &Definitions,
        allocate: &mut dyn FnMut() -> QueueId,
    ) -> Result<ImportPlan, ImportError> {
        let Self {
            definitions,
            warnings,
        } = self;
        let mut planner = Planner::new(existing, &definitions, warnings)?;
        planner.check_references(&definitions)?;
        for definition in definitions.into_list() {
            planner.add(definition, allocate)?;
        }
        Ok(planner.plan)
    }
}

type InVhost = (Name, Name);

struct Planner {
    plan: ImportPlan,
    /// Encoded rows of what exists, by key.
    existing: HashMap<Vec<u8>, Vec<u8>>,
    vhosts: HashMap<Name, Option<String>>,
    users: HashSet<Name>,
    exchanges: HashSet<InVhost>,
    queues: HashSet<InVhost>,
}

/// RabbitMQ keeps names that begin so for itself; such exchanges exist or cannot be declared.
fn is_reserved(name: &str) -> bool {
    name.starts_with("amq.")
}

impl Planner {
    fn new(
        existing: &Definitions,
        new: &Definitions,
        warnings: Vec<String>,
    ) -> Result<Self, StoreError> {
        let both = || [existing, new].into_iter();
        Ok(Self {
            plan: ImportPlan {
                warnings,
                ..ImportPlan::default()
            },
            existing: existing
                .clone()
                .into_list()
                .iter()
                .map(row::encode)
                .collect::<Result<_, _>>()?,
            vhosts: both()
                .flat_map(|all| &all.vhosts)
                .map(|vhost| (vhost.name.clone(), vhost.default_queue_type.clone()))
                .collect(),
            users: both()
                .flat_map(|all| &all.users)
                .map(|user| user.name.clone())
                .collect(),
            exchanges: both()
                .flat_map(|all| &all.exchanges)
                .map(|exchange| (exchange.vhost.clone(), exchange.name.clone()))
                .collect(),
            queues: both()
                .flat_map(|all| &all.queues)
                .map(|queue| (queue.vhost.clone(), queue.name.clone()))
                .collect(),
        })
    }

    fn check_references(&self, new: &Definitions) -> Result<(), ImportError> {
        for (at, permission) in new.permissions.iter().enumerate() {
            self.check_user(&format!("permissions[{at}]"), &permission.user)?;
            self.check_vhost(&format!("permissions[{at}]"), &permission.vhost)?;
        }
        for (at, permission) in new.topic_permissions.iter().enumerate() {
            self.check_user(&format!("topic_permissions[{at}]"), &permission.user)?;
            self.check_vhost(&format!("topic_permissions[{at}]"), &permission.vhost)?;
        }
        let in_vhosts = [
            (
                "exchanges",
                new.exchanges.iter().map(|x| &x.vhost).collect::<Vec<_>>(),
            ),
            ("policies", new.policies.iter().map(|x| &x.vhost).collect()),
            (
                "parameters",
                new.parameters.iter().map(|x| &x.vhost).collect(),
            ),
            ("queues", new.queues.iter().map(|x| &x.vhost).collect()),
            ("bindings", new.bindings.iter().map(|x| &x.vhost).collect()),
        ];
        for (section, vhosts) in in_vhosts {
            for (at, vhost) in vhosts.into_iter().enumerate() {
                self.check_vhost(&format!("{section}[{at}]"), vhost)?;
            }
        }
        for (at, binding) in new.bindings.iter().enumerate() {
            self.check_binding(&format!("bindings[{at}]"), binding)?;
        }
        Ok(())
    }

    fn check_user(&self, path: &str, user: &Name) -> Result<(), ImportError> {
        if self.users.contains(user) {
            return Ok(());
        }
        Err(ImportError::Invalid {
            path: format!("{path}.user"),
            reason: format!("there is no user '{user}', neither here nor in the file"),
        })
    }

    fn check_vhost(&self, path: &str, vhost: &Name) -> Result<(), ImportError> {
        if self.vhosts.contains_key(vhost) {
            return Ok(());
        }
        Err(ImportError::Invalid {
            path: format!("{path}.vhost"),
            reason: format!("there is no virtual host '{vhost}', neither here nor in the file"),
        })
    }

    fn check_binding(&self, path: &str, binding: &Binding) -> Result<(), ImportError> {
        let missing = |field: &str, kind: &str, name: &Name| ImportError::Invalid {
            path: format!("{path}.{field}"),
            reason: format!(
                "there is no {kind} '{name}' in vhost '{}', neither here nor in the file",
                binding.vhost
            ),
        };
        if !self.has_exchange(&binding.vhost, &binding.source) {
            return Err(missing("source", "exchange", &binding.source));
        }
        let (vhost, destination) = (&binding.vhost, &binding.destination);
        match binding.destination_kind {
            DestinationKind::Queue
                if !is_reserved(destination)
                    && !self.queues.contains(&(vhost.clone(), destination.clone())) =>
            {
                Err(missing("destination", "queue", destination))
            }
            DestinationKind::Exchange if !self.has_exchange(vhost, destination) => {
                Err(missing("destination", "exchange", destination))
            }
            _ => Ok(()),
        }
    }

    fn has_exchange(&self, vhost: &Name, name: &Name) -> bool {
        name.is_empty()
            || is_reserved(name)
            || self.exchanges.contains(&(vhost.clone(), name.clone()))
    }

    fn add(
        &mut self,
        definition: Definition,
        allocate: &mut dyn FnMut() -> QueueId,
    ) -> Result<(), ImportError> {
        if let Some(reason) = self.left_out(&definition) {
            self.plan.warnings.push(reason);
            return Ok(());
        }
        let definition = self.with_queue_type(definition);
        let (key, value) = row::encode(&definition)?;
        let Some(current) = self.existing.get(&key) else {
            let definition = match definition {
                Definition::Queue(mut queue) => {
                    queue.id = allocate();
                    Definition::Queue(queue)
                }
                other => other,
            };
            // A second one in the same document meets the first.
            self.existing.insert(key, row::encode(&definition)?.1);
            self.plan.changes.push(Change::Put(definition));
            return Ok(());
        };
        match &definition {
            Definition::Queue(_) | Definition::Exchange(_) => {
                if is_equivalent(&definition, row::decode(&key, current)) {
                    self.plan.unchanged += 1;
                } else {
                    self.plan.conflicts.push(format!(
                        "{} exists with other properties",
                        super::super::key::describe(&key)
                    ));
                }
            }
            _ if *current == value => self.plan.unchanged += 1,
            _ => {
                self.existing.insert(key, value);
                self.plan.changes.push(Change::Put(definition));
            }
        }
        Ok(())
    }

    /// What RabbitMQ does not import, with the reason.
    fn left_out(&self, definition: &Definition) -> Option<String> {
        match definition {
            Definition::Exchange(exchange) if exchange.name.is_empty() => {
                Some("the default exchange is never imported".to_owned())
            }
            Definition::Exchange(exchange) if is_reserved(&exchange.name) => Some(format!(
                "exchange '{}' in vhost '{}' has a reserved name and was left out",
                exchange.name, exchange.vhost
            )),
            Definition::Queue(queue) if is_reserved(&queue.name) => Some(format!(
                "queue '{}' in vhost '{}' has a reserved name and was left out",
                queue.name, queue.vhost
            )),
            Definition::Binding(binding)
                if binding.source.is_empty()
                    || (binding.destination_kind == DestinationKind::Exchange
                        && binding.destination.is_empty()) =>
            {
                Some(format!(
                    "a binding of the default exchange in vhost '{}' was left out",
                    binding.vhost
                ))
            }
            Definition::Binding(binding)
                if binding.destination_kind == DestinationKind::Queue
                    && is_reserved(&binding.destination) =>
            {
                Some(format!(
                    "a binding to queue '{}' in vhost '{}' was left out with it",
                    binding.destination, binding.vhost
                ))
            }
            _ => None,
        }
    }

    /// A queue without a type gets its virtual host's default, or `classic`.
    fn with_queue_type(&self, definition: Definition) -> Definition {
        match definition {
            Definition::Queue(mut queue) if queue.kind.is_empty() => {
                let default = self.vhosts.get(&queue.vhost).cloned().flatten();
                queue.kind = default.unwrap_or_else(|| "classic".to_owned());
                Definition::Queue(queue)
            }
            other => other,
        }
    }
}

/// Whether two definitions of one key say the same. Numbers of queues do not count, nor do widths of integers,
/// which JSON does not have.
fn is_equivalent(new: &Definition, current: Result<Definition, String>) -> bool {
    match (new, current) {
        (Definition::Queue(new), Ok(Definition::Queue(current))) => {
            new.kind == current.kind
                && new.durable == current.durable
                && new.auto_delete == current.auto_delete
                && arguments_to_json(&new.arguments) == arguments_to_json(&current.arguments)
        }
        (Definition::Exchange(new), Ok(Definition::Exchange(current))) => {
            new.kind == current.kind
                && new.durable == current.durable
                && new.auto_delete == current.auto_delete
                && new.internal == current.internal
                && arguments_to_json(&new.arguments) == arguments_to_json(&current.arguments)
        }
        _ => false,
    }
}
