//! Definitions imported while the broker runs, and all of them for an export.
//!
//! In: a definitions document. Out: what it says holds, in RabbitMQ's order; what is there already and differs stays if it is a queue or an
//! exchange, and is replaced if it is anything else. Nothing is deleted. As in RabbitMQ, an import that fails half-way has made what
//! came before; but a document that is wrong in itself changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{AdminError, Receipt};
use crate::broker::policies::validation::validation_failed;
use crate::broker::policies::{
    self, OPERATOR_COMPONENT, PolicyKind, PolicySet, keys, tell_of_sync,
};
use crate::broker::topology::exchange_from_stored;
use crate::broker::{Broker, Vhost};
use crate::model::{Name, Now};
use crate::queue::arguments::check_quorum_flags;
use crate::queue::{Effects, QueueDeclaration, QueueKind, QueueSettings};
use crate::routing::{Binding, BindingsByDestination, Destination};
use crate::store::StoreError;
use crate::store::definitions::{
    self as stored, Change, Definition, Definitions, DestinationKind, Document, ImportError,
    ImportPlan, ImportReport, Parameter, Policy, VhostLimits,
};

/// Queues, exchanges and bindings that are declared while the topology of their host is locked once.
const BATCH_MAX: usize = 256;

/// The policies of a host that an import sets.
type Policies = BTreeMap<Name, Vec<(PolicyKind, Policy)>>;

impl From<ImportError> for AdminError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Store(error) => Self::NotStored(error),
            other => Self::invalid(other.to_string()),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::NotStored(error)
    }
}

impl Broker {
    /// All definitions that survive a restart, as they are stored by now. Takes memory for all of them, and reads the catalogue.
    ///
    /// # Errors
    /// [`AdminError::NotStored`], when the catalogue cannot be read.
    pub fn definitions(&self) -> Result<Definitions, AdminError> {
        Ok(self.store.load()?.definitions)
    }

    /// What an import would do, without doing it. With `vhost`, the document is one of a single virtual host and goes there.
    ///
    /// # Errors
    /// [`AdminError::Invalid`], with the place in the document.
    pub fn plan_import(&self, json: &[u8], vhost: Option<&str>) -> Result<ImportPlan, AdminError> {
        let document = Document::parse(json, vhost)?;
        let existing = self.definitions()?;
        let plan = document.plan(&existing, &mut || self.store.allocate_queue_id())?;
        for change in &plan.changes {
            if let Change::Put(definition) = change {
                check(definition)?;
            }
        }
        Ok(plan)
    }

    /// Imports definitions.
    ///
    /// # Errors
    /// As [`Broker::plan_import`].
    pub fn import_definitions(
        &self,
        json: &[u8],
        vhost: Option<&str>,
    ) -> Result<Receipt<ImportReport>, AdminError> {
        let _turn = self.begin_request()?;
        let plan = self.plan_import(json, vhost)?;
        let mut report = ImportReport {
            changed: 0,
            unchanged: plan.unchanged,
            conflicts: plan.conflicts,
            warnings: plan.warnings,
            transient: Vec::new(),
        };
        let now = self.clock.now();
        let mut policies = Policies::new();
        let mut topology = Vec::new();
        for change in plan.changes {
            let Change::Put(definition) = change else {
                continue;
            };
            match definition {
                Definition::Exchange(_) | Definition::Queue(_) | Definition::Binding(_) => {
                    topology.push(definition);
                }
                other => {
                    self.import_one(other, &mut policies, &mut report);
                }
            }
        }
        // Before the queues, which then have their policies from the beginning.
        self.import_policies(policies, now);
        let mut courier = crate::broker::courier::Courier::default();
        for batch in batches(&topology) {
            self.import_batch(batch, now, &mut courier.effects, &mut report);
            courier.carry_out(self, now);
        }
        tracing::info!(target: "haremq::store", "definitions imported: {report}");
        Ok(self.submit(Vec::new(), report))
    }

    /// Imports what is no part of a topology.
    fn import_one(
        &self,
        definition: Definition,
        policies: &mut Policies,
        report: &mut ImportReport,
    ) {
        let mut changes: Vec<Change> = vec![definition.clone().into()];
        let refused = match definition {
            Definition::User(user) => {
                self.directory.put_user(user);
                None
            }
            Definition::Vhost(row) => {
                match self.vhost(&row.name) {
                    Some(vhost) => vhost.set_metadata(Arc::new(row)),
                    None => self.insert_vhost(row),
                }
                None
            }
            Definition::Permission(permission) => self.directory.put_permission(permission).err(),
            Definition::TopicPermission(permission) => {
                self.directory.put_topic_permission(permission).err()
            }
            Definition::GlobalParameter(parameter) => {
                let mut parameters = self.administration.parameters.write();
                parameters.set_global(parameter.name, parameter.value);
                None
            }
            Definition::Parameter(parameter) => {
                self.import_parameter(parameter, policies, &mut changes);
                None
            }
            Definition::Policy(policy) => {
                let host = policies.entry(Arc::clone(&policy.vhost)).or_default();
                host.push((PolicyKind::User, policy));
                None
            }
            // They come later.
            Definition::Exchange(_) | Definition::Queue(_) | Definition::Binding(_) => return,
        };
        match refused {
            Some(error) => report.warnings.push(error.to_string()),
            None => {
                report.changed += 1;
                self.store_in_background(changes);
            }
        }
    }

    fn import_parameter(
        &self,
        parameter: Parameter,
        policies: &mut Policies,
        changes: &mut Vec<Change>,
    ) {
        if *parameter.component == *VhostLimits::COMPONENT {
            if let Some(vhost) = self.vhost(&parameter.vhost) {
                changes.clear();
                changes.push(self.note_limits(&vhost, &parameter.name, parameter.value).0);
            }
            return;
        }
        if *parameter.component == *OPERATOR_COMPONENT
            && let Some(policy) =
                policies::from_value(&parameter.vhost, &parameter.name, &parameter.value)
        {
            let host = policies.entry(Arc::clone(&policy.vhost)).or_default();
            host.push((PolicyKind::Operator, policy));
        }
        self.administration.parameters.write().insert(parameter);
    }

    fn import_policies(&self, policies: Policies, now: Now) {
        for (name, new) in policies {
            let Some(vhost) = self.vhost(&name) else {
                continue;
            };
            let current = vhost.policies();
            let of = |kind: PolicyKind| {
                let is_replaced = |existing: &&Policy| {
                    let mut names = new.iter().filter(|(sort, _)| *sort == kind);
                    names.any(|(_, policy)| policy.name == existing.name)
                };
                let kept = current.policies(kind).filter(|policy| !is_replaced(policy));
                let added = new.iter().filter(|(sort, _)| *sort == kind);
                kept.chain(added.map(|(_, policy)| policy))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let set = PolicySet::new(of(PolicyKind::User), of(PolicyKind::Operator));
            for (kind, policy) in &new {
                tell_of_sync(*kind, policy);
            }
            self.replace_policies(&vhost, set, now);
        }
    }

    /// Declares what is not there, all of it in one host, and hands what is durable to the store before anybody else can change it.
    fn import_batch(
        &self,
        batch: &[Definition],
        now: Now,
        effects: &mut Effects,
        report: &mut ImportReport,
    ) {
        let Some(vhost) = batch.first().and_then(|first| self.vhost(vhost_of(first)?)) else {
            return;
        };
        let mut topology = vhost.topology.lock();
        let mut changes = Vec::new();
        for definition in batch {
            let imported = match definition {
                Definition::Exchange(row) => import_exchange(&vhost, row),
                Definition::Queue(row) => self.import_queue(&vhost, row, now, effects),
                Definition::Binding(row) => import_binding(&vhost, &mut topology, row),
                _ => Ok(Imported::Nothing),
            };
            match imported {
                Ok(Imported::Durable) => changes.push(definition.clone().into()),
                Ok(Imported::Transient) => {}
                Ok(Imported::Nothing) => {
                    report.unchanged += 1;
                    continue;
                }
                Err(reason) => {
                    report.warnings.push(reason);
                    continue;
                }
            }
            report.changed += 1;
        }
        self.store_in_background(changes);
    }

    fn import_queue(
        &self,
        vhost: &Vhost,
        row: &stored::Queue,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Imported, String> {
        if vhost.queue_handle(&row.name).is_some() {
            return Ok(Imported::Nothing);
        }
        let refused =
            |text: String| format!("queue '{}' in vhost '{}': {text}", row.name, row.vhost);
        let kind = match row.kind.as_str() {
            "quorum" => QueueKind::Quorum,
            "classic" => QueueKind::Classic,
            other => {
                return Err(refused(format!(
                    "queues of type '{other}' are not there yet"
                )));
            }
        };
        if kind == QueueKind::Quorum {
            check_quorum_flags(&row.name, &row.vhost, row.durable, false, row.auto_delete)
                .map_err(|refusal| refused(refusal.text.to_string()))?;
        }
        let settings = QueueSettings::parse(&row.name, &row.vhost, kind, &row.arguments)
            .map_err(|refusal| refused(refusal.text.to_string()))?;
        let declaration = QueueDeclaration {
            id: row.id,
            name: Arc::clone(&row.name),
            vhost: Arc::clone(&row.vhost),
            durable: row.durable,
            exclusive_owner: None,
            auto_delete: row.auto_delete,
            arguments: row.arguments.clone(),
            settings,
        };
        self.add_queue(vhost, declaration, now, effects);
        Ok(Imported::of(row.durable))
    }
}

/// What became of a part of a topology.
enum Imported {
    /// It is there now, and is to be stored.
    Durable,
    /// It is there now.
    Transient,
    /// It was there before.
    Nothing,
}

impl Imported {
    fn of(is_durable: bool) -> Self {
        match is_durable {
            true => Self::Durable,
            false => Self::Transient,
        }
    }
}

fn import_exchange(vhost: &Vhost, row: &stored::Exchange) -> Result<Imported, String> {
    if vhost.exchange_cell(&row.name).is_some() {
        return Ok(Imported::Nothing);
    }
    let definition = exchange_from_stored(row).map_err(|refusal| {
        format!(
            "exchange '{}' in vhost '{}': {}",
            row.name, row.vhost, refusal.text
        )
    })?;
    vhost.add_exchange(definition);
    Ok(Imported::of(row.durable))
}

fn import_binding(
    vhost: &Vhost,
    topology: &mut BindingsByDestination,
    row: &stored::Binding,
) -> Result<Imported, String> {
    let refused = |what: &str| {
        format!(
            "binding from '{}' to '{}' in vhost '{}': {what}",
            row.source, row.destination, row.vhost
        )
    };
    let source = vhost
        .exchange_cell(&row.source)
        .ok_or_else(|| refused("no such source"))?;
    let (destination, is_durable) = match row.destination_kind {
        DestinationKind::Queue => vhost.queue_handle(&row.destination).map(|handle| {
            (
                Destination::Queue(handle.id()),
                handle.declaration().durable,
            )
        }),
        DestinationKind::Exchange => vhost.exchange_cell(&row.destination).map(|cell| {
            let name = Arc::clone(&row.destination);
            let is_durable = cell.read(|exchange| exchange.definition().durable);
            (Destination::Exchange(name), is_durable)
        }),
    }
    .ok_or_else(|| refused("no such destination"))?;
    let key = Arc::clone(&row.routing_key);
    let binding = Binding::new(destination.clone(), key, &row.arguments);
    let (is_new, is_source_durable) = source
        .write(|exchange| {
            let is_durable = exchange.definition().durable;
            exchange.bind(binding).map(|is_new| (is_new, is_durable))
        })
        .map_err(|refusal| refused(&refusal.text))?;
    if !is_new {
        return Ok(Imported::Nothing);
    }
    topology.add(&destination, &row.source);
    Ok(Imported::of(is_durable && is_source_durable))
}

/// Parts of a topology that stand together and belong to the same host.
fn batches(topology: &[Definition]) -> impl Iterator<Item = &[Definition]> {
    topology
        .chunk_by(|a, b| vhost_of(a) == vhost_of(b))
        .flat_map(|host| host.chunks(BATCH_MAX))
}

fn vhost_of(definition: &Definition) -> Option<&Name> {
    match definition {
        Definition::Exchange(exchange) => Some(&exchange.vhost),
        Definition::Queue(queue) => Some(&queue.vhost),
        Definition::Binding(binding) => Some(&binding.vhost),
        _ => None,
    }
}

/// Refuses policies and limits that could not be set by themselves.
fn check(definition: &Definition) -> Result<(), AdminError> {
    let failed = |reason: String| AdminError::invalid(validation_failed(&[reason]));
    match definition {
        Definition::Policy(policy) => keys::check(&policy.definition, false).map_err(failed),
        Definition::Parameter(parameter) if *parameter.component == *OPERATOR_COMPONENT => {
            let Parameter {
                vhost, name, value, ..
            } = parameter;
            match policies::from_value(vhost, name, value) {
                Some(policy) => keys::check(&policy.definition, true).map_err(failed),
                None => Err(failed(format!("operator policy '{name}' is no policy"))),
            }
        }
        Definition::Parameter(parameter) if *parameter.component == *VhostLimits::COMPONENT => {
            super::parameters::check_limits(&parameter.name, &parameter.value)
        }
        _ => Ok(()),
    }
}
