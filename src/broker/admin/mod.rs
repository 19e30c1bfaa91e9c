//! What operators change while the broker runs: users, permissions, virtual hosts, limits, policies, parameters; and which
//! connections they close.
//!
//! In: typed requests, of whoever may make them: that is not asked here. Out: the change in memory at once, and a [`Receipt`] that tells
//! when it is synced; or an [`AdminError`] with RabbitMQ's reason. Requests are carried out one after another, in the order in which the store
//! hears of them, and nothing in them depends on the clock, on chance or on the order of a hash table. HTTP is not known here.
//!
//! The calls block for as long as their work takes (a policy looks at every queue of its host), so they belong on a thread that
//! may block.

mod connections;
mod definitions;
mod parameters;
mod policies;
mod users;
mod vhosts;

use parking_lot::{Mutex, MutexGuard, RwLock};
use thiserror::Error;
use tokio::sync::oneshot;

pub use parameters::Parameters;
pub use users::NewUser;
pub use vhosts::VhostChange;

use super::Broker;
use crate::model::{Name, Refusal};
use crate::store::StoreError;
use crate::store::definitions::Change;

/// What requests need of each other: their turn, and the parameters.
#[derive(Debug, Default)]
pub struct Administration {
    turn: Mutex<()>,
    parameters: RwLock<Parameters>,
}

impl Administration {
    /// With the parameters that the store has.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            turn: Mutex::default(),
            parameters: RwLock::new(parameters),
        }
    }
}

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AdminError {
    /// There is no such virtual host.
    #[error("no virtual host '{vhost}'")]
    NoSuchVhost {
        /// Its name.
        vhost: Name,
    },
    /// There is no such user.
    #[error("no user '{user}'")]
    NoSuchUser {
        /// Its name.
        user: Name,
    },
    /// What the request names is not there.
    #[error("{what}")]
    NotFound {
        /// What is missing, in words.
        what: String,
    },
    /// The request is wrong; the reason is RabbitMQ's, to the letter.
    #[error("{reason}")]
    Invalid {
        /// The reason.
        reason: String,
    },
    /// A virtual host must not be deleted.
    #[error("{reason}")]
    Protected {
        /// RabbitMQ's reason.
        reason: String,
    },
    /// A user must not be changed.
    #[error("Protected users cannot be modified via the HTTP API")]
    ProtectedUser {
        /// Its name.
        user: Name,
    },
    /// What AMQP would refuse, too.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// It cannot be made durable.
    #[error("the definitions cannot be stored: {0}")]
    NotStored(StoreError),
}

impl AdminError {
    fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid {
            reason: reason.into(),
        }
    }

    fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }
}

impl From<Refusal> for AdminError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Whether a put made something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was not there before.
    Created,
    /// It was there, and is as asked for now.
    Updated,
}

impl Put {
    fn of(is_new: bool) -> Self {
        match is_new {
            true => Self::Created,
            false => Self::Updated,
        }
    }
}

/// What a request has done. It holds at once, and survives a power cut once it is synced: nobody should be told before.
#[derive(Debug)]
#[must_use = "the change may be lost until it is synced"]
pub struct Receipt<T> {
    outcome: T,
    done: oneshot::Receiver<Result<(), StoreError>>,
}

impl<T> Receipt<T> {
    /// What was done.
    pub fn outcome(&self) -> &T {
        &self.outcome
    }

    /// Waits until it is synced.
    ///
    /// # Errors
    /// [`AdminError::NotStored`].
    pub async fn synced(self) -> Result<T, AdminError> {
        let stored = self.done.await.unwrap_or(Err(StoreError::Closed));
        stored.map_err(AdminError::NotStored)?;
        Ok(self.outcome)
    }

    /// As [`Receipt::synced`], on a thread that may block; never in a task of the runtime.
    ///
    /// # Errors
    /// As there.
    pub fn wait(self) -> Result<T, AdminError> {
        let stored = self.done.blocking_recv().unwrap_or(Err(StoreError::Closed));
        stored.map_err(AdminError::NotStored)?;
        Ok(self.outcome)
    }
}

impl Broker {
    /// Waits for this request's turn.
    fn begin_request(&self) -> Result<MutexGuard<'_, ()>, AdminError> {
        match self.store.failed() {
            Some(failure) => Err(AdminError::NotStored(failure)),
            None => Ok(self.administration.turn.lock()),
        }
    }

    /// Hands changes to the store. Without any, the receipt waits for those that were made before.
    fn submit<T>(&self, changes: Vec<Change>, outcome: T) -> Receipt<T> {
        let (sender, done) = oneshot::channel();
        self.store.apply_all(changes, move |result| {
            // Whoever asked may have gone.
            let _ = sender.send(result);
        });
        Receipt { outcome, done }
    }

    fn vhost_or_error(&self, name: &str) -> Result<std::sync::Arc<super::Vhost>, AdminError> {
        self.vhost(name).ok_or_else(|| AdminError::NoSuchVhost {
            vhost: Name::from(name),
        })
    }
}

#[cfg(test)]
mod tests;
