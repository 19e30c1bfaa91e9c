//! The direct exchange: a message goes where its routing key is bound, byte for byte.
//!
//! In: binding keys; out: for a routing key its destinations, by one lookup in a hash table. Words,
//! wildcards and arguments mean nothing here (specification, section 3.1.3.1).

use std::collections::HashMap;
use std::sync::Arc;

use super::Destination;
use super::destinations::DestinationSet;

/// Destinations by routing key.
#[derive(Debug, Default)]
pub(super) struct DirectIndex {
    by_key: HashMap<Arc<[u8]>, DestinationSet>,
}

impl DirectIndex {
    pub(super) fn insert(&mut self, routing_key: &Arc<str>, destination: &Destination) {
        // The bytes are shared with the binding itself, not copied.
        self.by_key
            .entry(Arc::from(Arc::clone(routing_key)))
            .or_default()
            .insert(destination);
    }

    pub(super) fn remove(&mut self, routing_key: &str, destination: &Destination) {
        let Some(destinations) = self.by_key.get_mut(routing_key.as_bytes()) else {
            return;
        };
        destinations.remove(destination);
        if destinations.is_empty() {
            self.by_key.remove(routing_key.as_bytes());
        }
    }

    pub(super) fn matches(&self, routing_key: &[u8], found: &mut Vec<Destination>) {
        if let Some(destinations) = self.by_key.get(routing_key) {
            found.extend_from_slice(destinations.as_slice());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueId;

    fn found(index: &DirectIndex, key: &[u8]) -> Vec<Destination> {
        let mut found = Vec::new();
        index.matches(key, &mut found);
        found
    }

    #[test]
    fn a_key_is_compared_byte_for_byte() {
        let mut index = DirectIndex::default();
        let (one, two) = (
            Destination::Queue(QueueId(1)),
            Destination::Queue(QueueId(2)),
        );
        index.insert(&"a.b".into(), &one);
        index.insert(&"a.b".into(), &two);
        index.insert(&"a.*".into(), &one);
        index.insert(&"".into(), &two);
        assert_eq!(found(&index, b"a.b"), [one.clone(), two.clone()]);
        assert_eq!(found(&index, b"a.*"), [one]);
        assert_eq!(found(&index, b""), [two]);
        assert_eq!(found(&index, b"A.b"), []);
        assert_eq!(found(&index, b"\xff"), []);
    }

    #[test]
    fn a_key_without_bindings_leaves_nothing_behind() {
        let mut index = DirectIndex::default();
        let queue = Destination::Queue(QueueId(1));
        index.insert(&"k".into(), &queue);
        index.insert(&"k".into(), &queue);
        index.remove("k", &queue);
        assert_eq!(found(&index, b"k"), std::slice::from_ref(&queue));
        index.remove("k", &queue);
        index.remove("k", &queue);
        assert!(index.by_key.is_empty());
    }
}
