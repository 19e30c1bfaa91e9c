//! The consumers of a channel, found by id for each delivery and by tag for what the client asks.

use std::collections::BTreeMap;

use crate::model::{ConsumerId, Name};

/// The consumers of a channel.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    /// Sorted by id; ids grow, so a new one nearly always goes to the end.
    ids: Vec<(ConsumerId, Name)>,
    tags: BTreeMap<Name, ConsumerId>,
}

impl Consumers {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn contains(&self, consumer: ConsumerId) -> bool {
        self.find(consumer).is_ok()
    }

    /// The consumer of that tag.
    pub(super) fn by_tag(&self, tag: &str) -> Option<ConsumerId> {
        self.tags.get(tag).copied()
    }

    pub(super) fn insert(&mut self, consumer: ConsumerId, tag: Name) {
        if let Err(index) = self.find(consumer) {
            self.ids.insert(index, (consumer, tag.clone()));
            self.tags.insert(tag, consumer);
        }
    }

    /// Removes a consumer; gives its tag.
    pub(super) fn remove(&mut self, consumer: ConsumerId) -> Option<Name> {
        let index = self.find(consumer).ok()?;
        let (_, tag) = self.ids.remove(index);
        self.tags.remove(&tag);
        Some(tag)
    }

    fn find(&self, consumer: ConsumerId) -> Result<usize, usize> {
        self.ids.binary_search_by_key(&consumer, |(id, _)| *id)
    }
}
