//! One user's rights in one virtual host, as a connection holds them.
//!
//! In: an operation, a resource. Out: yes, or a [`Refusal`]. It follows every change of the [`Directory`] by
//! its epoch, so that a revoked right bites at the next question. It knows nothing of connections.

use std::sync::Arc;

use super::directory::{Directory, VhostRights};
use super::permissions::topic_refusal;
use super::{Operation, Resource};
use crate::model::{Name, Refusal};

/// The rights of one user in one virtual host; made by [`Directory::access`].
///
/// Its owner may remember decisions under [`Access::epoch`] and must forget them when that number differs.
#[derive(Clone, Debug)]
pub struct Access {
    directory: Arc<Directory>,
    user: Name,
    vhost: Name,
    client_id: Option<String>,
    seen_epoch: u64,
    rights: Option<VhostRights>,
}

impl Access {
    pub(super) fn new(directory: Arc<Directory>, user: Name, vhost: Name) -> Self {
        let seen_epoch = directory.epoch();
        let rights = directory.rights(&user, &vhost);
        Self {
            directory,
            user,
            vhost,
            client_id: None,
            seen_epoch,
            rights,
        }
    }

    /// The user.
    pub fn user(&self) -> &Name {
        &self.user
    }

    /// The virtual host.
    pub fn vhost(&self) -> &Name {
        &self.vhost
    }

    /// Sets what `{client_id}` stands for in topic permissions. AMQP 0-9-1 has none.
    pub fn set_client_id(&mut self, client_id: Option<String>) {
        self.client_id = client_id;
    }

    /// The number under which decisions may be remembered. Read it before the question that it dates.
    pub fn epoch(&self) -> u64 {
        self.directory.epoch()
    }

    /// Whether the user still may use the virtual host at all.
    pub fn is_open(&mut self) -> bool {
        self.refresh();
        self.rights
            .as_ref()
            .is_some_and(|rights| rights.names.is_some())
    }

    /// May he do this?
    ///
    /// # Errors
    /// 403 `write access to exchange 'x' in vhost '/' refused for user 'u'`.
    pub fn check(&mut self, operation: Operation, resource: Resource<'_>) -> Result<(), Refusal> {
        if self.allows(operation, resource) {
            Ok(())
        } else {
            Err(resource.refusal(operation, &self.user, &self.vhost))
        }
    }

    /// Has he any of the three rights? A passive declare needs no more (RabbitMQ 4.3.1).
    ///
    /// # Errors
    /// The 403 of a lacking `configure`.
    pub fn check_any(&mut self, resource: Resource<'_>) -> Result<(), Refusal> {
        let any = [Operation::Configure, Operation::Write, Operation::Read]
            .into_iter()
            .any(|operation| self.allows(operation, resource));
        if any {
            Ok(())
        } else {
            Err(resource.refusal(Operation::Configure, &self.user, &self.vhost))
        }
    }

    /// Whether [`Access::check_topic`] could refuse any key on this exchange; if not, the decision holds for
    /// all keys until the epoch moves.
    pub fn has_topic_rules(&mut self, exchange: &str) -> bool {
        self.refresh();
        self.rights
            .as_ref()
            .is_some_and(|rights| rights.topics.contains_key(exchange))
    }

    /// May he publish (write) or bind (read) with this routing key? Asked for topic exchanges alone, after
    /// [`Access::check`]. Nothing set means yes.
    ///
    /// # Errors
    /// 403 `write access to topic 'rk' in exchange 'x' in vhost '/' refused for user 'u'`.
    pub fn check_topic(
        &mut self,
        operation: Operation,
        exchange: &str,
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        self.refresh();
        let rules = self
            .rights
            .as_ref()
            .and_then(|rights| rights.topics.get(exchange));
        match rules {
            Some(rules) if !rules.allow(operation, routing_key, self.client_id.as_deref()) => Err(
                topic_refusal(operation, exchange, routing_key, &self.user, &self.vhost),
            ),
            _ => Ok(()),
        }
    }

    fn allows(&mut self, operation: Operation, resource: Resource<'_>) -> bool {
        self.refresh();
        self.rights
            .as_ref()
            .and_then(|rights| rights.names.as_ref())
            .is_some_and(|names| names.allow(operation, resource))
    }

    fn refresh(&mut self) {
        let epoch = self.directory.epoch();
        if epoch != self.seen_epoch {
            self.rights = self.directory.rights(&self.user, &self.vhost);
            self.seen_epoch = epoch;
        }
    }
}
