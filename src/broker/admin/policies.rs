//! Policies and operator policies, set, deleted and listed.
//!
//! In: requests. Out: policies that hold for what is there, before the receipt is given. How they are matched and what they mean is
//! the business of [`crate::broker::policies`].

use std::sync::Arc;

use super::{AdminError, Put, Receipt};
use crate::broker::policies::{
    NewPolicy, OPERATOR_COMPONENT, PolicyKind, PolicySet, tell_of_sync, to_value,
};
use crate::broker::{Broker, Vhost};
use crate::model::Name;
use crate::store::definitions::{Change, DefinitionKey, Parameter, Policy};

impl Broker {
    /// Sets a policy, and lets it hold.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`]; [`AdminError::Invalid`] with the reasons of RabbitMQ's validation.
    pub fn put_policy(&self, kind: PolicyKind, new: NewPolicy) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(&new.vhost)?;
        let policy = new
            .validated(kind == PolicyKind::Operator)
            .map_err(AdminError::invalid)?;
        let change = self.note_policy(kind, &policy);
        let is_new = vhost
            .policies()
            .policies(kind)
            .all(|existing| existing.name != policy.name);
        let receipt = self.submit(vec![change], Put::of(is_new));
        tell_of_sync(kind, &policy);
        let name = Name::clone(&policy.name);
        self.replace_policy(&vhost, kind, &name, Some(policy));
        Ok(receipt)
    }

    /// Deletes a policy; others may hold in its place.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`], [`AdminError::NotFound`].
    pub fn delete_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        name: &str,
    ) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(vhost)?;
        if self.policy(kind, &vhost.name, name).is_none() {
            return Err(AdminError::not_found("Parameter does not exist"));
        }
        let name = Name::from(name);
        let key = match kind {
            PolicyKind::User => DefinitionKey::Policy {
                vhost: Arc::clone(&vhost.name),
                name: Arc::clone(&name),
            },
            PolicyKind::Operator => {
                let mut parameters = self.administration.parameters.write();
                parameters.remove(&vhost.name, OPERATOR_COMPONENT, &name);
                DefinitionKey::Parameter {
                    vhost: Arc::clone(&vhost.name),
                    component: OPERATOR_COMPONENT.into(),
                    name: Arc::clone(&name),
                }
            }
        };
        let receipt = self.submit(vec![Change::Delete(key)], ());
        self.replace_policy(&vhost, kind, &name, None);
        Ok(receipt)
    }

    /// The policies of one virtual host or of all, in the order of the hosts' names, and in each the lowest priority first, as RabbitMQ lists them.
    pub fn policies(&self, kind: PolicyKind, vhost: Option<&str>) -> Vec<Policy> {
        let vhosts = match vhost {
            Some(name) => self.vhost(name).into_iter().collect(),
            None => self.vhosts(),
        };
        let mut all = Vec::new();
        for vhost in vhosts {
            let set = vhost.policies();
            let mut list: Vec<Policy> = set.policies(kind).cloned().collect();
            list.reverse();
            all.append(&mut list);
        }
        all
    }

    /// A policy by name.
    pub fn policy(&self, kind: PolicyKind, vhost: &str, name: &str) -> Option<Policy> {
        let set = self.vhost(vhost)?.policies();
        set.policies(kind)
            .find(|policy| *policy.name == *name)
            .cloned()
    }

    /// A policy as a change for the store; an operator's is a parameter, too.
    pub(super) fn note_policy(&self, kind: PolicyKind, policy: &Policy) -> Change {
        match kind {
            PolicyKind::User => policy.clone().into(),
            PolicyKind::Operator => {
                let parameter = Parameter {
                    vhost: Arc::clone(&policy.vhost),
                    component: OPERATOR_COMPONENT.into(),
                    name: Arc::clone(&policy.name),
                    value: to_value(policy),
                };
                let mut parameters = self.administration.parameters.write();
                parameters.insert(parameter.clone());
                parameter.into()
            }
        }
    }

    /// Puts `policy` in the place of the one of that name, or takes that away, and lets what is left hold.
    fn replace_policy(&self, vhost: &Vhost, kind: PolicyKind, name: &Name, policy: Option<Policy>) {
        let current = vhost.policies();
        let of = |listed: PolicyKind| {
            let kept = current
                .policies(listed)
                .filter(move |existing| listed != kind || existing.name != *name);
            let new = policy.iter().filter(move |_| listed == kind);
            kept.chain(new).cloned().collect::<Vec<_>>()
        };
        let set = PolicySet::new(of(PolicyKind::User), of(PolicyKind::Operator));
        self.replace_policies(vhost, set, self.clock.now());
    }
}
