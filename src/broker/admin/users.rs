//! Users, what they may do, and how much of it.
//!
//! In: requests. Out: changes of the directory and of the store, connections of deleted users that are closed. Passwords come
//! hashed.

use serde_json::Value as Json;

use super::{AdminError, Put, Receipt};
use crate::auth::{PasswordHash, Permission, TAGS_MAX, TopicPermission, User, UserLimits};
use crate::broker::Broker;
use crate::broker::policies::terms::{pairs, term};
use crate::model::{Name, Refusal};
use crate::protocol::ReplyCode;
use crate::store::definitions::{Change, DefinitionKey};

/// The tag of users whom the API leaves alone.
const PROTECTED: &str = "protected";

/// A user as it shall be.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Its name.
    pub name: Name,
    /// Its password, hashed; [`PasswordHash::none`] for none, with which nobody can log in by password.
    pub password: PasswordHash,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its limits; `None` keeps those that it has.
    pub limits: Option<UserLimits>,
}

fn check_limit(component: &str, names: [&str; 2], name: &str, value: &Json) -> Result<(), String> {
    if !names.contains(&name) {
        let pair = [(&name.to_owned(), value)];
        return Err(format!("Unrecognised terms {} in {component}", pairs(pair)));
    }
    if !(value.is_i64() || value.is_u64()) {
        return Err(format!(
            "{name} should be a number, actually was {}",
            term(value)
        ));
    }
    Ok(())
}

/// Checks the limits of a virtual host, as [`check_limit`] those of a user.
pub(super) fn check_vhost_limit(name: &str, value: &Json) -> Result<(), String> {
    check_limit("limits", ["max-connections", "max-queues"], name, value)
}

impl Broker {
    /// Adds a user, or replaces password, tags and limits of one; permissions stay.
    ///
    /// # Errors
    /// [`AdminError::ProtectedUser`]; [`AdminError::Invalid`] for too many tags or no name.
    pub fn put_user(&self, new: NewUser) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        if new.name.is_empty() {
            return Err(AdminError::invalid("user name cannot be empty"));
        }
        if new.tags.len() > TAGS_MAX {
            return Err(AdminError::invalid(format!("{{too_many_tags,{TAGS_MAX}}}")));
        }
        let existing = self.directory.user(&new.name);
        if existing
            .as_ref()
            .is_some_and(|user| user.has_tag(PROTECTED))
        {
            return Err(AdminError::ProtectedUser { user: new.name });
        }
        let kept = existing.as_ref().map(|user| user.limits);
        let user = User {
            limits: new.limits.or(kept).unwrap_or_default(),
            name: new.name,
            password: new.password,
            tags: new.tags,
        };
        tracing::info!(target: "haremq::auth", user = %user.name, is_new = existing.is_none(), "user set");
        let receipt = self.submit(vec![user.clone().into()], Put::of(existing.is_none()));
        self.directory.put_user(user);
        Ok(receipt)
    }

    /// Removes a user with its permissions, and closes its connections.
    ///
    /// # Errors
    /// [`AdminError::NoSuchUser`], [`AdminError::ProtectedUser`].
    pub fn delete_user(&self, name: &str) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let user = self.existing_user(name)?;
        if user.has_tag(PROTECTED) {
            return Err(AdminError::ProtectedUser {
                user: Name::clone(&user.name),
            });
        }
        Ok(self.end_users(&[Name::clone(&user.name)], ()))
    }

    /// Removes several users at once; those that are not there, or protected, are passed over. Gives how many have gone.
    ///
    /// # Errors
    /// [`AdminError::NotStored`].
    pub fn delete_users(&self, names: &[Name]) -> Result<Receipt<usize>, AdminError> {
        let _turn = self.begin_request()?;
        let ended: Vec<Name> = names
            .iter()
            .filter(|name| {
                let user = self.directory.user(name);
                user.is_some_and(|user| !user.has_tag(PROTECTED))
            })
            .cloned()
            .collect();
        let count = ended.len();
        Ok(self.end_users(&ended, count))
    }

    fn end_users<T>(&self, names: &[Name], outcome: T) -> Receipt<T> {
        let delete = |name: &Name| Change::Delete(DefinitionKey::User { name: name.clone() });
        let receipt = self.submit(names.iter().map(delete).collect(), outcome);
        for name in names {
            self.directory.remove_user(name);
            tracing::info!(target: "haremq::auth", user = %name, "user deleted");
            let text = format!("user '{name}' is deleted");
            let refusal = Refusal::new(ReplyCode::ConnectionForced, text);
            self.registry
                .close_where(&refusal, |_, entry| entry.user.as_ref() == Some(name));
        }
        receipt
    }

    fn existing_user(&self, name: &str) -> Result<std::sync::Arc<User>, AdminError> {
        self.directory
            .user(name)
            .ok_or_else(|| AdminError::NoSuchUser {
                user: Name::from(name),
            })
    }

    /// Sets what a user may do in a virtual host.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a pattern that is none, then [`AdminError::NoSuchVhost`], [`AdminError::NoSuchUser`].
    pub fn put_permission(&self, permission: Permission) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        self.vhost_or_error(&permission.vhost)?;
        self.existing_user(&permission.user)?;
        let is_new = self
            .directory
            .permission(&permission.user, &permission.vhost)
            .is_none();
        self.directory
            .put_permission(permission.clone())
            .map_err(|error| AdminError::invalid(error.to_string()))?;
        Ok(self.submit(vec![permission.into()], Put::of(is_new)))
    }

    /// Takes a user's permission in a virtual host away.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn delete_permission(&self, vhost: &str, user: &str) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        if !self.directory.remove_permission(user, vhost) {
            let what = format!("no permission of user '{user}' in vhost '{vhost}'");
            return Err(AdminError::not_found(what));
        }
        let key = DefinitionKey::Permission {
            vhost: vhost.into(),
            user: user.into(),
        };
        Ok(self.submit(vec![Change::Delete(key)], ()))
    }

    /// Sets with which keys a user may use a topic exchange.
    ///
    /// # Errors
    /// As [`Broker::put_permission`].
    pub fn put_topic_permission(
        &self,
        permission: TopicPermission,
    ) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        self.existing_user(&permission.user)?;
        self.vhost_or_error(&permission.vhost)?;
        let existing = self.directory.topic_permissions();
        let is_new = !existing.iter().any(|existing| {
            (&existing.user, &existing.vhost, &existing.exchange)
                == (&permission.user, &permission.vhost, &permission.exchange)
        });
        self.directory
            .put_topic_permission(permission.clone())
            .map_err(|error| AdminError::invalid(error.to_string()))?;
        Ok(self.submit(vec![permission.into()], Put::of(is_new)))
    }

    /// Takes a user's topic permission away, or without an exchange all of the virtual host.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn delete_topic_permission(
        &self,
        vhost: &str,
        user: &str,
        exchange: Option<&str>,
    ) -> Result<Receipt<()>, AdminError> {
        let _turn = self.begin_request()?;
        let all = self.directory.topic_permissions();
        let changes: Vec<Change> = all
            .into_iter()
            .filter(|own| *own.user == *user && *own.vhost == *vhost)
            .filter(|own| exchange.is_none_or(|exchange| *own.exchange == *exchange))
            .map(|own| {
                Change::Delete(DefinitionKey::TopicPermission {
                    vhost: own.vhost,
                    user: own.user,
                    exchange: own.exchange,
                })
            })
            .collect();
        if changes.is_empty() {
            let what = format!("no topic permission of user '{user}' in vhost '{vhost}'");
            return Err(AdminError::not_found(what));
        }
        self.directory
            .remove_topic_permission(user, vhost, exchange);
        Ok(self.submit(changes, ()))
    }

    /// Sets `max-connections` or `max-channels` of a user; a negative number lifts the limit.
    ///
    /// # Errors
    /// [`AdminError::NoSuchUser`]; [`AdminError::Invalid`] for another name, or what is no integer.
    pub fn put_user_limit(
        &self,
        user: &str,
        limit: &str,
        value: &Json,
    ) -> Result<Receipt<Put>, AdminError> {
        let names = ["max-connections", "max-channels"];
        self.change_limit(user, |limits| {
            check_limit("user-limits", names, limit, value).map_err(AdminError::invalid)?;
            let number = value.as_i64().unwrap_or(i64::MAX);
            Ok(match limit {
                "max-connections" => limits.max_connections.replace(number),
                _ => limits.max_channels.replace(number),
            })
        })
    }

    /// Lifts a limit of a user; one that is not set is fine.
    ///
    /// # Errors
    /// [`AdminError::NoSuchUser`].
    pub fn delete_user_limit(&self, user: &str, limit: &str) -> Result<Receipt<()>, AdminError> {
        let receipt = self.change_limit(user, |limits| {
            Ok(match limit {
                "max-connections" => limits.max_connections.take(),
                "max-channels" => limits.max_channels.take(),
                _ => None,
            })
        })?;
        Ok(Receipt {
            outcome: (),
            done: receipt.done,
        })
    }

    fn change_limit(
        &self,
        user: &str,
        change: impl FnOnce(&mut UserLimits) -> Result<Option<i64>, AdminError>,
    ) -> Result<Receipt<Put>, AdminError> {
        let _turn = self.begin_request()?;
        let mut user = User::clone(&*self.existing_user(user)?);
        let before = change(&mut user.limits)?;
        let receipt = self.submit(vec![user.clone().into()], Put::of(before.is_none()));
        self.directory.put_user(user);
        Ok(receipt)
    }
}
