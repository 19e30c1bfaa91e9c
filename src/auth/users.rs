//! What a user is.
//!
//! In and out: plain data. Logins and permissions are elsewhere.

use super::PasswordHash;
use crate::model::Name;

/// Tags that a user may have (`MAX_USER_TAGS` of RabbitMQ).
pub const TAGS_MAX: usize = 32;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: Name,
    /// The hash of its password.
    pub password: PasswordHash,
    /// `administrator`, `monitoring`, `policymaker`, `management`, `impersonator`, `protected`, and free
    /// ones. They rule the HTTP API; `impersonator` also lifts the user-id check of a publish.
    pub tags: Vec<String>,
    /// Its own limits.
    pub limits: UserLimits,
}

impl User {
    /// A user without password, tags or limits.
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            password: PasswordHash::none(),
            tags: Vec::new(),
            limits: UserLimits::default(),
        }
    }

    /// Whether it has this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

/// Limits of one user as they were set; a negative number means no limit, as in RabbitMQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// `max-connections`.
    pub max_connections: Option<i64>,
    /// `max-channels`, over all connections of the user.
    pub max_channels: Option<i64>,
}

impl UserLimits {
    /// Connections that the user may have at once, `None` for no limit.
    pub fn connections_max(&self) -> Option<u64> {
        self.max_connections.and_then(|limit| limit.try_into().ok())
    }

    /// Channels that the user may have at once, `None` for no limit.
    pub fn channels_max(&self) -> Option<u64> {
        self.max_channels.and_then(|limit| limit.try_into().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_limit_is_no_limit() {
        let limits = UserLimits {
            max_connections: Some(-1),
            max_channels: Some(0),
        };
        assert_eq!(limits.connections_max(), None);
        assert_eq!(limits.channels_max(), Some(0));
    }
}
