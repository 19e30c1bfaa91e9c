//! One binding: where it leads, its key, its arguments. Together with its source these are its identity.
//!
//! What a key or an argument means is the business of the exchange's type.

use super::BindingArguments;
use crate::model::{Name, QueueId};
use crate::protocol::FieldTable;

/// Where a binding leads.
///
/// The order is that of lists and has no meaning beside being the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueId),
    /// Another exchange of the same virtual host, by name.
    Exchange(Name),
}

/// A binding of an exchange that everybody knows from the context.
///
/// Two bindings that differ in their arguments alone are two (`rabbit_db_binding.erl` keys them by source,
/// key, destination and arguments).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// Where it leads. Comes first, so that what leads to one destination stands together in a sorted set.
    pub destination: Destination,
    /// Its key, at most 255 bytes.
    pub routing_key: Name,
    /// Its arguments, sorted.
    pub arguments: BindingArguments,
}

impl Binding {
    /// A binding whose arguments are brought into the order that makes equal ones equal.
    pub fn new(
        destination: Destination,
        routing_key: impl Into<Name>,
        arguments: &FieldTable,
    ) -> Self {
        Self {
            destination,
            routing_key: routing_key.into(),
            arguments: BindingArguments::from(arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::protocol::Value;

    #[test]
    fn the_order_of_arguments_is_no_part_of_the_identity_but_their_types_are() {
        let bound = |arguments: &[(&str, Value)]| {
            let arguments: FieldTable = arguments.iter().cloned().collect();
            Binding::new(Destination::Queue(QueueId(1)), "key", &arguments)
        };
        let (a, b) = (("a", Value::I32(1)), ("b", Value::Bool(true)));
        assert_eq!(
            bound(&[a.clone(), b.clone()]),
            bound(&[b.clone(), a.clone()])
        );
        assert_ne!(bound(slice::from_ref(&a)), bound(&[a.clone(), b]));
        assert_ne!(bound(&[a]), bound(&[("a", Value::I64(1))]));
    }
}
