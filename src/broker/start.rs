//! From stored definitions to a running broker: virtual hosts, users, exchanges, queues, bindings.
//!
//! Rows that cannot be used are reported and passed over; the rest is served.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use dashmap::DashMap;
use parking_lot::RwLock;
use thiserror::Error;

use super::admin::{Administration, Parameters};
use super::courier::Courier;
use super::events::Events;
use super::loader::Loader;
use super::policies::{self, OPERATOR_COMPONENT, PolicyKind, PolicySet, tell_of_sync};
use super::registry::Registry;
use super::reply_to::ReplyConsumers;
use super::stats::Stats;
use super::timers::Timers;
use super::topology::exchange_from_stored;
use super::{Alarms, Broker, BrokerSettings, Clock, Vhost, VhostLimits};
use crate::auth::{Directory, HashingAlgorithm, PasswordHash, Permission, User};
use crate::model::{Name, Now};
use crate::queue::{Effects, HotBudget, QueueDeclaration, QueueKind, QueueSettings};
use crate::routing::{Binding, Destination};
use crate::store::definitions::{
    self as stored, Change, Definition, DefinitionStore, Definitions, DestinationKind, ImportError,
    Policy, json::read_document,
};
use crate::store::{Store, StoreError};

/// The account, virtual host and permissions that an empty data folder begins with.
#[derive(Clone, Debug)]
pub struct FirstBoot {
    /// The user's name.
    pub user: String,
    /// His password.
    pub password: String,
    /// His tags.
    pub tags: Vec<String>,
    /// The virtual host.
    pub vhost: String,
    /// Pattern of resources that he may configure.
    pub configure: String,
    /// Pattern of resources that he may write to.
    pub write: String,
    /// Pattern of resources that he may read from.
    pub read: String,
}

/// Why a broker cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The definition store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The definitions file is wrong.
    #[error("{file}: {error}")]
    Import {
        /// The file.
        file: String,
        /// What is wrong with it, and where.
        error: ImportError,
    },
    /// The system has no thread left.
    #[error("cannot start the threads that read messages: {0}")]
    Thread(std::io::Error),
    /// The default user's password cannot be hashed.
    #[error("the default user's password cannot be hashed: {0}")]
    Password(String),
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct StartReport {
    /// Virtual hosts.
    pub vhosts: usize,
    /// Exchanges.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// Bindings.
    pub bindings: usize,
    /// Rows that were passed over, with the reason.
    pub skipped: Vec<String>,
}

impl Broker {
    /// Loads the definitions and messages of `data` and builds the broker from them.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        settings: BrokerSettings,
        directory: Arc<Directory>,
        data: Arc<Store>,
        first_boot: &FirstBoot,
        definitions_file: Option<&Path>,
    ) -> Result<(Arc<Self>, StartReport), StartError> {
        let store = Arc::clone(&data.definitions);
        // RabbitMQ creates no default user beside definitions that bring their own.
        let transient = match definitions_file {
            Some(file) => import_file(&store, file)?,
            None => Vec::new(),
        };
        if store.is_empty()? {
            store.apply_and_wait(first_definitions(first_boot)?)?;
        }
        let mut loaded = store.load()?;
        add_transient(&mut loaded.definitions, transient);
        let mut report = StartReport::default();
        report
            .skipped
            .extend(loaded.damaged.iter().map(ToString::to_string));
        let parameters = Parameters::new(
            loaded.definitions.parameters.iter().cloned(),
            std::mem::take(&mut loaded.definitions.global_parameters),
        );
        let clock = Clock::default();
        let broker = Arc::new(Self {
            budget: HotBudget::new(settings.cache_bytes_max),
            stats: Arc::new(Stats::new(settings.stats_bytes_max, clock.now().wall_ms)),
            events: Events::default(),
            settings: RwLock::new(Arc::new(settings)),
            alarms: Alarms::default(),
            directory,
            messages: Arc::clone(&data.messages),
            data,
            store,
            loader: Loader::default(),
            vhosts: DashMap::new(),
            queues: DashMap::new(),
            administration: Administration::new(parameters),
            reply_consumers: ReplyConsumers::default(),
            registry: Registry::default(),
            timers: Timers::default(),
            clock,
            connection_last: AtomicU64::new(0),
            consumer_last: AtomicU64::new(0),
        });
        Loader::start(&broker).map_err(StartError::Thread)?;
        broker.restore(loaded.definitions, &mut report);
        // The messages of a queue that could not be restored wait for a start that can.
        let may_remove = report.skipped.is_empty() && broker.store.recovery().is_none();
        broker.messages.finish_recovery(may_remove)?;
        Ok((broker, report))
    }

    fn restore(&self, definitions: Definitions, report: &mut StartReport) {
        let now = self.clock.now();
        for row in &definitions.vhosts {
            self.restore_vhost(row, &definitions);
        }
        report.vhosts = self.vhosts.len();
        let refused = self.directory.load(
            definitions.users,
            definitions.permissions,
            definitions.topic_permissions,
        );
        report
            .skipped
            .extend(refused.iter().map(ToString::to_string));
        for row in &definitions.exchanges {
            match (self.vhost(&row.vhost), exchange_from_stored(row)) {
                (Some(vhost), Ok(definition)) => {
                    vhost.add_exchange(definition);
                    report.exchanges += 1;
                }
                (None, _) => report
                    .skipped
                    .push(format!("exchange '{}': no vhost '{}'", row.name, row.vhost)),
                (_, Err(refusal)) => report
                    .skipped
                    .push(format!("exchange '{}': {}", row.name, refusal.text)),
            }
        }
        let mut courier = Courier::default();
        for row in definitions.queues {
            match self.restore_queue(row, now, &mut courier.effects) {
                Ok(()) => report.queues += 1,
                Err(reason) => report.skipped.push(reason),
            }
        }
        for row in &definitions.bindings {
            match self.restore_binding(row) {
                Ok(()) => report.bindings += 1,
                Err(reason) => report.skipped.push(reason),
            }
        }
        // Only now: what expires at once goes to dead-letter exchanges, which need their bindings.
        courier.carry_out(self, now);
    }

    fn restore_vhost(&self, row: &stored::Vhost, definitions: &Definitions) {
        let limits = definitions.vhost_limits(&row.name);
        let policies = definitions.policies.iter();
        let users: Vec<Policy> = policies
            .filter(|policy| policy.vhost == row.name)
            .cloned()
            .collect();
        let parameters = definitions.parameters.iter();
        let operators: Vec<Policy> = parameters
            .filter(|parameter| parameter.vhost == row.name)
            .filter(|parameter| *parameter.component == *OPERATOR_COMPONENT)
            .filter_map(|one| policies::from_value(&one.vhost, &one.name, &one.value))
            .collect();
        for policy in &users {
            tell_of_sync(PolicyKind::User, policy);
        }
        for policy in &operators {
            tell_of_sync(PolicyKind::Operator, policy);
        }
        let vhost = Vhost::new(
            row.clone(),
            VhostLimits {
                connections_max: limits.max_connections,
                queues_max: limits.max_queues,
            },
            PolicySet::new(users, operators),
        );
        self.vhosts.insert(Arc::clone(&row.name), Arc::new(vhost));
    }

    fn restore_queue(
        &self,
        row: stored::Queue,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), String> {
        let vhost = self
            .vhost(&row.vhost)
            .ok_or_else(|| format!("queue '{}': no vhost '{}'", row.name, row.vhost))?;
        let kind = if row.kind == QueueKind::Quorum.as_str() {
            QueueKind::Quorum
        } else {
            QueueKind::Classic
        };
        let settings = QueueSettings::parse(&row.name, &row.vhost, kind, &row.arguments)
            .map_err(|refusal| format!("queue '{}': {}", row.name, refusal.text))?;
        self.add_queue(
            &vhost,
            QueueDeclaration {
                id: row.id,
                name: row.name,
                vhost: row.vhost,
                durable: row.durable,
                exclusive_owner: None,
                auto_delete: row.auto_delete,
                arguments: row.arguments,
                settings,
            },
            now,
            effects,
        );
        Ok(())
    }

    fn restore_binding(&self, row: &stored::Binding) -> Result<(), String> {
        let missing = |what: &str| {
            format!(
                "binding from '{}' to '{}' in vhost '{}': {what}",
                row.source, row.destination, row.vhost
            )
        };
        let vhost = self
            .vhost(&row.vhost)
            .ok_or_else(|| missing("no such vhost"))?;
        let source = vhost
            .exchange_cell(&row.source)
            .ok_or_else(|| missing("no such source"))?;
        let destination = match row.destination_kind {
            DestinationKind::Queue => vhost
                .queue_handle(&row.destination)
                .map(|handle| Destination::Queue(handle.id())),
            DestinationKind::Exchange => vhost
                .exchange_cell(&row.destination)
                .map(|_| Destination::Exchange(Arc::clone(&row.destination))),
        }
        .ok_or_else(|| missing("no such destination"))?;
        let binding = Binding::new(
            destination.clone(),
            Arc::clone(&row.routing_key),
            &row.arguments,
        );
        let is_new = source
            .write(|exchange| exchange.bind(binding))
            .map_err(|refusal| missing(&refusal.text))?;
        if is_new {
            vhost.topology.lock().add(&destination, &row.source);
        }
        Ok(())
    }
}

fn first_definitions(first_boot: &FirstBoot) -> Result<Vec<Change>, StartError> {
    let vhost: Name = Name::from(first_boot.vhost.as_str());
    let mut user = User::new(first_boot.user.as_str());
    user.password = PasswordHash::create(HashingAlgorithm::Sha256, first_boot.password.as_bytes())
        .map_err(|error| StartError::Password(error.to_string()))?;
    user.tags.clone_from(&first_boot.tags);
    let permission = Permission {
        user: Arc::clone(&user.name),
        vhost: Arc::clone(&vhost),
        configure: first_boot.configure.clone(),
        write: first_boot.write.clone(),
        read: first_boot.read.clone(),
    };
    Ok(vec![
        Change::Put(
            stored::Vhost {
                description: "Default virtual host".to_owned(),
                ..stored::Vhost::new(vhost)
            }
            .into(),
        ),
        Change::Put(user.into()),
        Change::Put(permission.into()),
    ])
}

/// Imports a definitions file; gives what it holds that does not survive a restart, and is not stored.
fn import_file(store: &DefinitionStore, file: &Path) -> Result<Vec<Definition>, StartError> {
    let refused = |error| StartError::Import {
        file: file.display().to_string(),
        error,
    };
    let json = read_document(file).map_err(refused)?;
    let report = stored::import(store, &json, None).map_err(refused)?;
    tracing::info!(target: "haremq::store", file = %file.display(), "definitions imported: {report}");
    Ok(report.transient)
}

/// Puts transient objects beside the stored ones, so that they are declared with them.
fn add_transient(definitions: &mut Definitions, transient: Vec<Definition>) {
    for definition in transient {
        match definition {
            Definition::Exchange(exchange) => definitions.exchanges.push(exchange),
            Definition::Queue(queue) => definitions.queues.push(queue),
            Definition::Binding(binding) => definitions.bindings.push(binding),
            // Everything else is stored.
            _ => {}
        }
    }
}
