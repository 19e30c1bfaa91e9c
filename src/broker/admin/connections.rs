//! Connections that an operator closes.
//!
//! In: their names. Out: `connection.close` with 320 and a reason.

use super::AdminError;
use crate::broker::Broker;
use crate::model::Refusal;
use crate::protocol::ReplyCode;

/// What a client is told if the operator gives no reason (`rabbit_mgmt_wm_connection`).
const REASON: &str = "Closed via management plugin";

fn forced(reason: Option<&str>) -> Refusal {
    let reason = reason.filter(|reason| !reason.is_empty());
    Refusal::new(ReplyCode::ConnectionForced, reason.unwrap_or(REASON))
}

impl Broker {
    /// Closes the connection of that name (`peer -> local`).
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn close_connection(&self, name: &str, reason: Option<&str>) -> Result<(), AdminError> {
        let closed = self
            .registry
            .close_where(&forced(reason), |_, entry| entry.name() == name);
        match closed {
            0 => Err(AdminError::not_found(format!("no connection '{name}'"))),
            _ => Ok(()),
        }
    }

    /// Closes all connections of a user. Gives their number.
    pub fn close_connections_of_user(&self, user: &str, reason: Option<&str>) -> usize {
        self.registry.close_where(&forced(reason), |_, entry| {
            entry.user.as_deref() == Some(user)
        })
    }
}
