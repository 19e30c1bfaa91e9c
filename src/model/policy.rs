//! Which policies hold for a queue or an exchange, as they are shown.
//!
//! In and out: plain data. How policies are matched and merged, and what their keys do, is not known here.

use serde_json::{Map, Value as Json};

use super::Name;

/// The policies of one queue or exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppliedPolicy {
    /// The user's policy.
    pub policy: Option<Name>,
    /// The operator's policy.
    pub operator_policy: Option<Name>,
    /// Both merged (`effective_policy_definition`).
    pub definition: Map<String, Json>,
}
