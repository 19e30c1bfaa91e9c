//! The fanout exchange: a message goes wherever a binding leads.
//!
//! In: destinations; out: all of them. The routing key is not looked at (specification, section 3.1.3.2).

use super::Destination;
use super::destinations::DestinationSet;

/// Every destination.
#[derive(Debug, Default)]
pub(super) struct FanoutIndex {
    destinations: DestinationSet,
}

impl FanoutIndex {
    pub(super) fn insert(&mut self, destination: &Destination) {
        self.destinations.insert(destination);
    }

    pub(super) fn remove(&mut self, destination: &Destination) {
        self.destinations.remove(destination);
    }

    pub(super) fn matches(&self, found: &mut Vec<Destination>) {
        found.extend_from_slice(self.destinations.as_slice());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QueueId;

    #[test]
    fn every_destination_is_found_once_however_often_it_is_bound() {
        let mut index = FanoutIndex::default();
        let (one, two) = (
            Destination::Queue(QueueId(1)),
            Destination::Queue(QueueId(2)),
        );
        index.insert(&one);
        index.insert(&two);
        index.insert(&one);
        let mut found = Vec::new();
        index.matches(&mut found);
        assert_eq!(found, [one.clone(), two.clone()]);

        index.remove(&one);
        index.remove(&two);
        found.clear();
        index.matches(&mut found);
        assert_eq!(found, [one]);
    }
}
