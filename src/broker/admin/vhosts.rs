//! Virtual hosts, made, changed and deleted.
//!
//! In: requests. Out: hosts; a deleted one goes with its permissions, policies, parameters, exchanges, queues and their messages, and
//! its connections are closed. Source: `rabbit_vhost.erl`, `rabbit_connection_tracking.erl`.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{AdminError, Put, Receipt};
use crate::auth::Permission;
use crate::broker::courier::Courier;
use crate::broker::policies::PolicySet;
use crate::broker::{Broker, Vhost, VhostLimits};
use crate::model::{Name, Refusal};
use crate::protocol::ReplyCode;
use crate::queue::QueueHandle;
use crate::routing::BindingsByDestination;
use crate::store::definitions::{self as stored, Change, DefinitionKey};

/// Bytes of a name: it travels as a short string.
const NAME_BYTES_MAX: usize = 255;

/// The part of a host's metadata that keeps it from being deleted.
const PROTECTED: &str = "protected_from_deletion";

/// A virtual host as it shall be; `None` leaves what it has, or the default.
#[derive(Clone, Debug, Default)]
pub struct VhostChange {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Free labels.
    pub tags: Option<Vec<String>>,
    /// `classic` or `quorum`, for queues that name no type; `undefined` for the node's default.
    pub default_queue_type: Option<String>,
    /// Whether messages are copied to the trace exchange; kept and shown.
    pub tracing: Option<bool>,
    /// Whether it must not be deleted.
    pub protected_from_deletion: Option<bool>,
}

impl VhostChange {
    fn check(&self) -> Result<(), AdminError> {
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return Err(AdminError::invalid(format!(
                "the name of a virtual host has 1 to {NAME_BYTES_MAX} bytes"
            )));
        }
        match self.default_queue_type.as_deref() {
            None | Some("classic" | "quorum" | "undefined") => Ok(()),
            Some("") => Err(AdminError::invalid(
                "default_queue_type must not be an empty string",
            )),
            Some(other) => Err(AdminError::invalid(format!(
                "{other} is not a valid queue type"
            ))),
        }
    }

    /// Makes the change.
    fn apply(self, row: &mut stored::Vhost) {
        if let Some(description) = self.description {
            row.description = description;
        }
        if let Some(tags) = self.tags {
            row.tags = tags;
        }
        if let Some(kind) = self.default_queue_type {
            // RabbitMQ keeps what was set before when it is told `undefined`.
            if kind != "undefined" {
                row.default_queue_type = Some(kind);
            }
        }
        for (key, flag) in [
            ("tracing", self.tracing),
            (PROTECTED, self.protected_from_deletion),
        ] {
            match flag {
                Some(true) => {
                    row.metadata.insert(key.to_owned(), true.into());
                }
                Some(false) => {
                    row.metadata.remove(key);
                }
                None => {}
            }
        }
    }
}

impl Broker {
    /// The virtual hosts, in the order of their names.
    pub fn vhosts(&self) -> Vec<Arc<Vhost>> {
        let mut all: Vec<Arc<Vhost>> = self.vhosts.iter().map(|v| Arc::clone(v.value())).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Makes a virtual host, or changes one. In a new one `acting_user` may do everything.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a name or a type of queue that cannot be.
    pub fn put_vhost(
        &self,
        change: VhostChange,
        acting_user: Option<&Name>,
    ) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        change.check()?;
        if let Some(vhost) = self.vhost(&change.name) {
            return Ok(self.change_vhost(&vhost, Put::Updated, |row| change.apply(row)));
        }
        let mut row = stored::Vhost::new(change.name.as_str());
        change.apply(&mut row);
        let mut changes: Vec<Change> = vec![row.clone().into()];
        let granted = acting_user
            .filter(|user| self.directory.user(user).is_some())
            .map(|user| everything(user, &row.name));
        changes.extend(granted.clone().map(Change::from));
        tracing::info!(target: "haremq::broker", vhost = %row.name, "virtual host created");
        let receipt = self.submit(changes, Put::Created);
        self.insert_vhost(row);
        if let Some(Err(error)) =
            granted.map(|permission| self.directory.put_permission(permission))
        {
            // The pattern is a constant that compiles.
            return Err(AdminError::invalid(error.to_string()));
        }
        Ok(receipt)
    }

    /// Puts a new virtual host in its place.
    pub(super) fn insert_vhost(&self, row: stored::Vhost) {
        let name = Arc::clone(&row.name);
        let vhost = Vhost::new(row, VhostLimits::default(), PolicySet::default());
        self.vhosts.insert(name, Arc::new(vhost));
    }

    pub(super) fn change_vhost<T>(
        &self,
        vhost: &Vhost,
        outcome: T,
        change: impl FnOnce(&mut stored::Vhost),
    ) -> Receipt<T> {
        let mut row = stored::Vhost::clone(&vhost.metadata());
        change(&mut row);
        let receipt = self.submit(vec![row.clone().into()], outcome);
        vhost.set_metadata(Arc::new(row));
        receipt
    }

    /// Protects a virtual host from being deleted, or gives it up for that.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`].
    pub fn set_deletion_protection(
        &self,
        name: &str,
        is_protected: bool,
    ) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(name)?;
        let change = VhostChange {
            protected_from_deletion: Some(is_protected),
            ..VhostChange::default()
        };
        Ok(self.change_vhost(&vhost, (), |row| change.apply(row)))
    }

    /// Deletes a virtual host with everything in it, and closes its connections.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`]; [`AdminError::Protected`].
    pub fn delete_vhost(&self, name: &str) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(name)?;
        if vhost.metadata().metadata.get(PROTECTED) == Some(&Json::Bool(true)) {
            return Err(AdminError::Protected {
                reason: format!(
                    "Refusing to delete virtual host '{name}' because it is protected from deletion"
                ),
            });
        }
        tracing::info!(target: "haremq::broker", vhost = %vhost.name, "virtual host deleted");
        // Nobody may open it from now on.
        self.directory.remove_vhost(&vhost.name);
        self.vhosts.remove(&vhost.name);
        let receipt = {
            // Declares that are under way come first to the store, and none comes later.
            let _topology = vhost.topology.lock();
            vhost.retire();
            let key = DefinitionKey::Vhost {
                name: Arc::clone(&vhost.name),
            };
            self.submit(vec![Change::Delete(key)], ())
        };
        {
            let mut parameters = self.administration.parameters.write();
            parameters.remove_vhost(&vhost.name);
        }
        self.empty_vhost(&vhost);
        let text = format!("vhost '{name}' is deleted");
        let refusal = Refusal::new(ReplyCode::ConnectionForced, text);
        self.registry.close_where(&refusal, |_, entry| {
            entry.vhost.as_ref() == Some(&vhost.name)
        });
        Ok(receipt)
    }

    /// Ends what is in a deleted host. Each queue and exchange is locked by itself; nobody can declare another.
    fn empty_vhost(&self, vhost: &Vhost) {
        let now = self.clock.now();
        let mut courier = Courier::default();
        let mut queues: Vec<QueueHandle> = vhost.queues.iter().map(|q| q.value().clone()).collect();
        queues.sort_by_key(QueueHandle::id);
        vhost.queues.clear();
        for handle in queues {
            // One that has ended by itself meanwhile is gone.
            let _ = handle.delete_now(&mut courier.effects);
            self.queues.remove(&handle.id());
            self.timers.forget(handle.id());
            courier.carry_out(self, now);
        }
        let exchanges: Vec<_> = vhost
            .exchanges
            .iter()
            .map(|x| Arc::clone(x.value()))
            .collect();
        vhost.exchanges.clear();
        for cell in exchanges {
            cell.write(|exchange| exchange.retire());
        }
        *vhost.topology.lock() = BindingsByDestination::default();
    }
}

fn everything(user: &Name, vhost: &Name) -> Permission {
    Permission {
        user: Arc::clone(user),
        vhost: Arc::clone(vhost),
        configure: ".*".to_owned(),
        write: ".*".to_owned(),
        read: ".*".to_owned(),
    }
}
