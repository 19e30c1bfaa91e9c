//! Who may come in, and what he may do: users, passwords, SASL responses, permissions.
//!
//! In: a SASL mechanism with its response, or a name with a password; an operation on a queue or an
//! exchange. Out: a [`User`], an [`Access`] to one virtual host, or a refusal in RabbitMQ's words. It does
//! not know which virtual hosts, queues or exchanges exist, nor where users are stored: whoever changes a
//! user tells both the [`Directory`] and the store.
//!
//! Behaviour: RabbitMQ's `rabbit_access_control.erl`, `rabbit_auth_backend_internal.erl` and
//! `rabbit_auth_mechanism_*.erl`; <https://www.rabbitmq.com/docs/access-control>.

mod access;
mod directory;
pub mod mechanisms;
mod password;
mod patterns;
mod permissions;
mod users;

pub use access::Access;
pub use directory::{AuthSettings, Directory};
pub use mechanisms::{LoginFailure, Mechanism};
pub use password::{HashingAlgorithm, PasswordError, PasswordHash};
pub use patterns::{NamePattern, PATTERN_BYTES_MAX, PATTERN_PROGRAM_BYTES_MAX, PatternError};
pub use permissions::{Operation, Permission, PermissionError, Resource, TopicPermission};
pub use users::{TAGS_MAX, User, UserLimits};
