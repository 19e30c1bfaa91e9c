//! Runtime parameters of virtual hosts and of the node: named JSON values, each of a component that knows what they mean.
//!
//! In: requests. Out: values that hold. Known are the components `vhost-limits` and `operator_policy`; others can be there, from
//! definitions of a broker that has them, and do nothing. Source: `rabbit_runtime_parameters.erl`, `rabbit_vhost_limit.erl`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::users::check_vhost_limit;
use super::{AdminError, Put, Receipt};
use crate::broker::policies::terms::term;
use crate::broker::policies::validation::validation_failed;
use crate::broker::policies::{NewPolicy, OPERATOR_COMPONENT, PolicyKind};
use crate::broker::{Broker, Vhost, VhostLimits};
use crate::model::Name;
use crate::store::definitions::{
    self as stored, Change, DefinitionKey, GlobalParameter, Parameter,
};

/// The global parameter with the cluster's name.
const CLUSTER_NAME: &str = "cluster_name";

/// All parameters, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// By virtual host, component and name.
    of_vhosts: BTreeMap<(Name, Name, Name), Json>,
    global: BTreeMap<Name, Json>,
}

impl Parameters {
    /// From what the store has.
    pub fn new(
        of_vhosts: impl IntoIterator<Item = Parameter>,
        global: impl IntoIterator<Item = GlobalParameter>,
    ) -> Self {
        let mut parameters = Self::default();
        of_vhosts.into_iter().for_each(|one| {
            parameters.insert(one);
        });
        parameters
            .global
            .extend(global.into_iter().map(|one| (one.name, one.value)));
        parameters
    }

    /// Sets one; gives what was there.
    pub(super) fn insert(&mut self, parameter: Parameter) -> Option<Json> {
        let key = (parameter.vhost, parameter.component, parameter.name);
        self.of_vhosts.insert(key, parameter.value)
    }

    pub(super) fn remove(&mut self, vhost: &str, component: &str, name: &str) -> Option<Json> {
        let key = (vhost.into(), component.into(), name.into());
        self.of_vhosts.remove(&key)
    }

    /// Forgets those of a virtual host that is no more.
    pub(super) fn remove_vhost(&mut self, vhost: &str) {
        self.of_vhosts.retain(|(owner, _, _), _| **owner != *vhost);
    }

    fn get(&self, vhost: &str, component: &str, name: &str) -> Option<&Json> {
        let key = (vhost.into(), component.into(), name.into());
        self.of_vhosts.get(&key)
    }

    pub(super) fn set_global(&mut self, name: Name, value: Json) -> Option<Json> {
        self.global.insert(name, value)
    }
}

/// What belongs to no component.
fn unknown_component(component: &str) -> AdminError {
    AdminError::invalid(validation_failed(&[format!(
        "component {component} not found"
    )]))
}

/// Checks the value of the parameter `limits`.
pub(super) fn check_limits(name: &str, value: &Json) -> Result<(), AdminError> {
    let failed = |reasons: &[String]| AdminError::invalid(validation_failed(reasons));
    match value {
        Json::Object(limits) => {
            let reasons: Vec<String> = limits
                .iter()
                .filter_map(|(limit, value)| check_vhost_limit(limit, value).err())
                .collect();
            match reasons.is_empty() {
                true => Ok(()),
                false => Err(failed(&reasons)),
            }
        }
        Json::Array(items) if items.is_empty() => Ok(()),
        other => Err(failed(&[format!("{name} not a list {}", term(other))])),
    }
}

fn limits_of(value: &Json) -> VhostLimits {
    let limits = stored::VhostLimits::from_value(value);
    VhostLimits {
        connections_max: limits.max_connections,
        queues_max: limits.max_queues,
    }
}

impl Broker {
    /// Sets a parameter of a virtual host.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`]; [`AdminError::Invalid`] for a component that is not known, or a value that it does not take.
    pub fn put_parameter(
        &self,
        vhost: &str,
        component: &str,
        name: &str,
        value: Json,
    ) -> Result<Receipt<Put>, AdminError> {
        match component {
            "policy" => Err(AdminError::invalid(
                "policies may not be set using this method",
            )),
            OPERATOR_COMPONENT => {
                self.vhost_or_error(vhost)?;
                let new = NewPolicy::from_value(vhost.into(), name.into(), &value)
                    .map_err(AdminError::invalid)?;
                self.put_policy(PolicyKind::Operator, new)
            }
            stored::VhostLimits::COMPONENT => {
                let _turn = self.begin_request()?;
                let vhost = self.vhost_or_error(vhost)?;
                check_limits(name, &value)?;
                Ok(self.set_limits(&vhost, name, value))
            }
            other => Err(unknown_component(other)),
        }
    }

    /// Takes a parameter away.
    ///
    /// # Errors
    /// [`AdminError::NotFound`]; [`AdminError::Invalid`] for policies, which have calls of their own.
    pub fn delete_parameter(
        &self,
        vhost: &str,
        component: &str,
        name: &str,
    ) -> Result<Receipt<()>, AdminError> {
        match component {
            "policy" => {
                return Err(AdminError::invalid(
                    "policies may not be cleared using this method",
                ));
            }
            OPERATOR_COMPONENT => return self.delete_policy(PolicyKind::Operator, vhost, name),
            _ => {}
        }
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(vhost)?;
        let removed = {
            let mut parameters = self.administration.parameters.write();
            parameters.remove(&vhost.name, component, name)
        };
        if removed.is_none() {
            return Err(AdminError::not_found("Parameter does not exist"));
        }
        if (component, name) == (stored::VhostLimits::COMPONENT, stored::VhostLimits::NAME) {
            vhost.set_limits(VhostLimits::default());
        }
        let key = DefinitionKey::Parameter {
            vhost: Arc::clone(&vhost.name),
            component: component.into(),
            name: name.into(),
        };
        Ok(self.submit(vec![Change::Delete(key)], ()))
    }

    /// The parameters of a component, of a virtual host, of both, or all, in the order of host, component and name. Policies are
    /// not among them, but operator policies are.
    pub fn parameters(&self, component: Option<&str>, vhost: Option<&str>) -> Vec<Parameter> {
        let parameters = self.administration.parameters.read();
        let meant = parameters.of_vhosts.iter().filter(|((owner, part, _), _)| {
            component.is_none_or(|component| **part == *component)
                && vhost.is_none_or(|vhost| **owner == *vhost)
        });
        meant
            .map(|((vhost, component, name), value)| Parameter {
                vhost: Arc::clone(vhost),
                component: Arc::clone(component),
                name: Arc::clone(name),
                value: value.clone(),
            })
            .collect()
    }

    /// Sets a parameter of the node; any value will do.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a name of the cluster that is no text.
    pub fn put_global_parameter(
        &self,
        name: &str,
        value: Json,
    ) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        if name == CLUSTER_NAME && value.as_str().is_none_or(str::is_empty) {
            let reason = format!("{} is not a name of a cluster", term(&value));
            return Err(AdminError::invalid(reason));
        }
        let parameter = GlobalParameter {
            name: name.into(),
            value: value.clone(),
        };
        let before = {
            let mut parameters = self.administration.parameters.write();
            parameters.set_global(name.into(), value)
        };
        Ok(self.submit(vec![parameter.into()], Put::of(before.is_none())))
    }

    /// Takes a parameter of the node away.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn delete_global_parameter(&self, name: &str) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let removed = self.administration.parameters.write().global.remove(name);
        if removed.is_none() {
            return Err(AdminError::not_found("Parameter does not exist"));
        }
        let key = DefinitionKey::GlobalParameter { name: name.into() };
        Ok(self.submit(vec![Change::Delete(key)], ()))
    }

    /// The parameters of the node, in the order of their names.
    pub fn global_parameters(&self) -> Vec<GlobalParameter> {
        let parameters = self.administration.parameters.read();
        let all = parameters.global.iter();
        all.map(|(name, value)| GlobalParameter {
            name: Arc::clone(name),
            value: value.clone(),
        })
        .collect()
    }

    /// A parameter of the node.
    pub fn global_parameter(&self, name: &str) -> Option<Json> {
        self.administration
            .parameters
            .read()
            .global
            .get(name)
            .cloned()
    }

    /// The cluster's name, if somebody has given it one; else it is the node's.
    pub fn cluster_name(&self) -> Option<Name> {
        let name = self.global_parameter(CLUSTER_NAME)?;
        name.as_str().map(Name::from)
    }

    /// Gives the cluster a name.
    ///
    /// # Errors
    /// As [`Broker::put_global_parameter`].
    pub fn set_cluster_name(&self, name: &str) -> Result<Receipt<Put>, AdminError> {
        self.put_global_parameter(CLUSTER_NAME, name.into())
    }

    /// The limits that were set for one virtual host or for each that has some, negative ones included.
    pub fn vhost_limits(&self, vhost: Option<&str>) -> Vec<(Name, Map<String, Json>)> {
        let all = self.parameters(Some(stored::VhostLimits::COMPONENT), vhost);
        all.into_iter()
            .filter(|parameter| *parameter.name == *stored::VhostLimits::NAME)
            .filter_map(|parameter| match parameter.value {
                Json::Object(limits) if !limits.is_empty() => Some((parameter.vhost, limits)),
                _ => None,
            })
            .collect()
    }

    /// Sets `max-connections` or `max-queues` of a virtual host; a negative number lifts the limit.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`]; [`AdminError::Invalid`] for another name, or what is no integer.
    pub fn put_vhost_limit(
        &self,
        vhost: &str,
        limit: &str,
        value: &Json,
    ) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(vhost)?;
        check_vhost_limit(limit, value)
            .map_err(|reason| AdminError::invalid(validation_failed(&[reason])))?;
        let mut limits = self.limits_as_set(&vhost);
        let before = limits.insert(limit.to_owned(), value.clone());
        let name = stored::VhostLimits::NAME;
        let mut receipt = self.set_limits(&vhost, name, Json::Object(limits));
        receipt.outcome = Put::of(before.is_none());
        Ok(receipt)
    }

    /// Lifts a limit of a virtual host; one that is not set is fine.
    ///
    /// # Errors
    /// [`AdminError::NoSuchVhost`].
    pub fn delete_vhost_limit(&self, vhost: &str, limit: &str) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let vhost = self.vhost_or_error(vhost)?;
        let mut limits = self.limits_as_set(&vhost);
        if limits.remove(limit).is_none() {
            return Ok(self.submit(Vec::new(), ()));
        }
        let name = stored::VhostLimits::NAME;
        let receipt = self.set_limits(&vhost, name, Json::Object(limits));
        Ok(Receipt {
            outcome: (),
            done: receipt.done,
        })
    }

    fn limits_as_set(&self, vhost: &Vhost) -> Map<String, Json> {
        let parameters = self.administration.parameters.read();
        let value = parameters.get(
            &vhost.name,
            stored::VhostLimits::COMPONENT,
            stored::VhostLimits::NAME,
        );
        value.and_then(Json::as_object).cloned().unwrap_or_default()
    }

    fn set_limits(&self, vhost: &Vhost, name: &str, value: Json) -> Receipt<Put> {
        let (change, put) = self.note_limits(vhost, name, value);
        self.submit(vec![change], put)
    }

    /// Lets limits hold; gives them as a change for the store.
    pub(super) fn note_limits(&self, vhost: &Vhost, name: &str, value: Json) -> (Change, Put) {
        let parameter = Parameter {
            vhost: Arc::clone(&vhost.name),
            component: stored::VhostLimits::COMPONENT.into(),
            name: name.into(),
            value,
        };
        if name == stored::VhostLimits::NAME {
            vhost.set_limits(limits_of(&parameter.value));
        } else {
            tracing::warn!(
                target: "haremq::broker",
                vhost = %vhost.name,
                name,
                "limits of another name than 'limits' have no effect"
            );
        }
        let before = {
            let mut parameters = self.administration.parameters.write();
            parameters.insert(parameter.clone())
        };
        (parameter.into(), Put::of(before.is_none()))
    }
}
