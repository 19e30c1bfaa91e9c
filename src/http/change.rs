//! Changes of what is administrated: made on the blocking pool, answered when they are synced.
//!
//! In: a call of the broker's administration. Out: its outcome, or the error in RabbitMQ's form.

use std::sync::Arc;

use super::answer::{self, Answer, ApiError};
use super::caller::Caller;
use crate::broker::Broker;
use crate::broker::admin::{AdminError, Put, Receipt};

/// Makes a change and waits until it survives a power cut.
///
/// # Errors
/// As the administration refuses it.
pub async fn make<T: Send + 'static>(
    caller: &Caller,
    change: impl FnOnce(&Arc<Broker>) -> Result<Receipt<T>, AdminError> + Send + 'static,
) -> Result<T, ApiError> {
    let broker = Arc::clone(caller.broker());
    let receipt = tokio::task::spawn_blocking(move || change(&broker))
        .await
        .map_err(|error| ApiError::internal(format!("a change was not made: {error}")))??;
    Ok(receipt.synced().await?)
}

/// A put: 201 or 204.
///
/// # Errors
/// As [`make`].
pub async fn put(
    caller: &Caller,
    change: impl FnOnce(&Arc<Broker>) -> Result<Receipt<Put>, AdminError> + Send + 'static,
) -> Answer {
    answer::put(make(caller, change).await? == Put::Created)
}

/// A change that is answered with 204.
///
/// # Errors
/// As [`make`].
pub async fn done<T: Send + 'static>(
    caller: &Caller,
    change: impl FnOnce(&Arc<Broker>) -> Result<Receipt<T>, AdminError> + Send + 'static,
) -> Answer {
    make(caller, change).await?;
    answer::no_content()
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NoSuchVhost { .. }
            | AdminError::NoSuchUser { .. }
            | AdminError::NotFound { .. } => Self::object_not_found(),
            AdminError::Invalid { reason } => Self::bad_request(reason),
            AdminError::Protected { reason } => Self::precondition_failed(reason),
            AdminError::ProtectedUser { .. } => Self::bad_request(error.to_string()),
            AdminError::Refused(refusal) => Self::of_command(refusal),
            AdminError::NotStored(_) => Self::internal(error.to_string()),
        }
    }
}
