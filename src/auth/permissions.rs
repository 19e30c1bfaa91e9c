//! What a user may do in a virtual host, as it is set and as it is asked.
//!
//! In: patterns as text. Out: compiled rights, and refusals in RabbitMQ's words. Who asks, and where rights
//! are kept, is [`super::Directory`]'s and [`super::Access`]'s business.
//!
//! Behaviour: <https://www.rabbitmq.com/docs/access-control>, `rabbit_access_control.erl`.

use super::patterns::{NamePattern, PATTERN_BYTES_MAX, PatternError, escape};
use crate::model::{Name, Refusal};

/// The three patterns of a user in a virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The user.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// Names that he may declare and delete.
    pub configure: String,
    /// Names that he may publish to or bind.
    pub write: String,
    /// Names that he may consume from or bind to.
    pub read: String,
}

/// The patterns on routing keys of a user for one topic exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermission {
    /// The user.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// The exchange.
    pub exchange: Name,
    /// Routing keys that he may publish with. May hold `{username}`, `{vhost}` and `{client_id}`.
    pub write: String,
    /// Routing keys that he may bind with; the same variables.
    pub read: String,
}

/// Why a permission could not be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} pattern '{pattern}' of user '{user}' in vhost '{vhost}': {reason}")]
pub struct PermissionError {
    /// `configure`, `write` or `read`.
    pub field: &'static str,
    /// The pattern.
    pub pattern: String,
    /// The user.
    pub user: Name,
    /// The virtual host.
    pub vhost: Name,
    /// What is wrong with it.
    pub reason: PatternError,
}

/// What someone wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Declare or delete.
    Configure,
    /// Publish to, or bind.
    Write,
    /// Consume from, purge, or be bound.
    Read,
}

impl Operation {
    /// The word in permissions and in refusals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// To what he wants to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    /// A queue.
    Queue(&'a str),
    /// An exchange; the empty name is the default exchange, which permissions call `amq.default`.
    Exchange(&'a str),
}

impl<'a> Resource<'a> {
    /// The name that patterns are matched against.
    pub fn matched_name(self) -> &'a str {
        match self {
            Self::Queue(name) => name,
            Self::Exchange("") => "amq.default",
            Self::Exchange(name) => name,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Exchange(_) => "exchange",
        }
    }

    /// 403 `write access to exchange 'x' in vhost '/' refused for user 'u'`.
    pub(super) fn refusal(self, operation: Operation, user: &str, vhost: &str) -> Refusal {
        Refusal::access_refused(format!(
            "{} access to {} '{}' in vhost '{vhost}' refused for user '{user}'",
            operation.name(),
            self.kind(),
            self.matched_name(),
        ))
    }
}

/// 403 `write access to topic 'rk' in exchange 'x' in vhost '/' refused for user 'u'`.
pub(super) fn topic_refusal(
    operation: Operation,
    exchange: &str,
    routing_key: &[u8],
    user: &str,
    vhost: &str,
) -> Refusal {
    Refusal::access_refused(format!(
        "{} access to topic '{}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'",
        operation.name(),
        String::from_utf8_lossy(routing_key),
    ))
}

/// A [`Permission`] with its patterns compiled.
#[derive(Debug)]
pub(super) struct Rights {
    pub(super) set: Permission,
    configure: NamePattern,
    write: NamePattern,
    read: NamePattern,
}

impl Rights {
    pub(super) fn compile(set: Permission) -> Result<Self, PermissionError> {
        let compile = |field, pattern: &str| {
            NamePattern::compile(pattern).map_err(|reason| PermissionError {
                field,
                pattern: pattern.to_owned(),
                user: set.user.clone(),
                vhost: set.vhost.clone(),
                reason,
            })
        };
        Ok(Self {
            configure: compile("configure", &set.configure)?,
            write: compile("write", &set.write)?,
            read: compile("read", &set.read)?,
            set,
        })
    }

    pub(super) fn allow(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let pattern = match operation {
            Operation::Configure => &self.configure,
            Operation::Write => &self.write,
            Operation::Read => &self.read,
        };
        pattern.matches(resource.matched_name().as_bytes())
    }
}

/// A [`TopicPermission`] with its patterns compiled, as far as its variables are known.
#[derive(Debug)]
pub(super) struct TopicRights {
    pub(super) set: TopicPermission,
    write: TopicPattern,
    read: TopicPattern,
}

#[derive(Debug)]
struct TopicPattern {
    /// The match when there is no client id: RabbitMQ then leaves `{client_id}` as it stands.
    without_client: NamePattern,
    /// The text in which the client id is still to be filled in.
    open_text: Option<String>,
}

const CLIENT_ID: &str = "{client_id}";

impl TopicPattern {
    fn compile(text: &str, user: &str, vhost: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let expanded = text
            .replace("{username}", &escape(user))
            .replace("{vhost}", &escape(vhost));
        Ok(Self {
            without_client: NamePattern::compile_expanded(
                &expanded.replace(CLIENT_ID, &escape(CLIENT_ID)),
            )?,
            open_text: expanded.contains(CLIENT_ID).then_some(expanded),
        })
    }

    fn matches(&self, routing_key: &[u8], client_id: Option<&str>) -> bool {
        match (&self.open_text, client_id) {
            (Some(open_text), Some(client_id)) => {
                NamePattern::compile_expanded(&open_text.replace(CLIENT_ID, &escape(client_id)))
                    .is_ok_and(|pattern| pattern.matches(routing_key))
            }
            _ => self.without_client.matches(routing_key),
        }
    }
}

impl TopicRights {
    pub(super) fn compile(set: TopicPermission) -> Result<Self, PermissionError> {
        let compile = |field, pattern: &str| {
            TopicPattern::compile(pattern, &set.user, &set.vhost).map_err(|reason| {
                PermissionError {
                    field,
                    pattern: pattern.to_owned(),
                    user: set.user.clone(),
                    vhost: set.vhost.clone(),
                    reason,
                }
            })
        };
        Ok(Self {
            write: compile("write", &set.write)?,
            read: compile("read", &set.read)?,
            set,
        })
    }

    /// Whether the routing key is allowed. There is no topic permission to configure, so that is allowed.
    pub(super) fn allow(
        &self,
        operation: Operation,
        routing_key: &[u8],
        client_id: Option<&str>,
    ) -> bool {
        match operation {
            Operation::Configure => true,
            Operation::Write => self.write.matches(routing_key, client_id),
            Operation::Read => self.read.matches(routing_key, client_id),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn topic(write: &str) -> Result<TopicRights, PermissionError> {
        TopicRights::compile(TopicPermission {
            user: "a.b".into(),
            vhost: "/".into(),
            exchange: "amq.topic".into(),
            write: write.to_owned(),
            read: String::new(),
        })
    }

    #[test]
    fn variables_stand_for_themselves_and_not_for_patterns() {
        let rights = topic("^{username}\\.").unwrap();
        assert!(rights.allow(Operation::Write, b"a.b.c", None));
        assert!(!rights.allow(Operation::Write, b"axb.c", None));
        assert!(!rights.allow(Operation::Read, b"a.b.c", None));
    }

    #[test]
    fn a_client_id_is_filled_in_when_there_is_one() {
        let rights = topic("^{client_id}$").unwrap();
        assert!(rights.allow(Operation::Write, b"c1", Some("c1")));
        assert!(!rights.allow(Operation::Write, b"c2", Some("c1")));
        assert!(!rights.allow(Operation::Write, b"c1", None));
        assert!(rights.allow(Operation::Write, b"{client_id}", None));
    }

    #[test]
    fn a_bad_pattern_is_refused_with_its_place() {
        let error = topic("(?!x)").unwrap_err();
        assert_eq!(
            error.to_string(),
            "write pattern '(?!x)' of user 'a.b' in vhost '/': negative look-ahead is not supported in patterns; write the pattern without it"
        );
    }
}
