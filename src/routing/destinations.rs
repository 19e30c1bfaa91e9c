//! A set of destinations that counts how often each was put in.
//!
//! In: destinations, one at a time; out: the slice of them. Several bindings may lead to one destination
//! (their arguments or keys differ), so that it leaves with the last of them. The order depends on what
//! was put in and taken out and on nothing else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Destination;

/// Destinations up to this number are searched one by one; more get an index by hash.
const LINEAR_SEARCH_MAX: usize = 16;

/// Destinations, each once, with the number of bindings that lead there.
#[derive(Debug, Default)]
pub(super) struct DestinationSet {
    destinations: Vec<Destination>,
    binding_counts: Vec<u32>,
    /// Places in the two lists, once they are too long for a search.
    places: Option<HashMap<Destination, usize>>,
}

impl DestinationSet {
    /// One more binding to `destination`.
    pub(super) fn insert(&mut self, destination: &Destination) {
        match &mut self.places {
            None => {
                if let Some(place) = self.search(destination) {
                    self.binding_counts[place] += 1;
                    return;
                }
                // Most keys lead to one queue: the first does not take room for four.
                if self.destinations.is_empty() {
                    self.destinations.reserve_exact(1);
                    self.binding_counts.reserve_exact(1);
                }
            }
            Some(places) => match places.entry(destination.clone()) {
                Entry::Occupied(place) => {
                    self.binding_counts[*place.get()] += 1;
                    return;
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(self.destinations.len());
                }
            },
        }
        self.destinations.push(destination.clone());
        self.binding_counts.push(1);
        if self.places.is_none() && self.destinations.len() > LINEAR_SEARCH_MAX {
            self.places = Some(self.destinations.iter().cloned().zip(0..).collect());
        }
    }

    /// One binding to `destination` less; it leaves with the last one.
    pub(super) fn remove(&mut self, destination: &Destination) {
        let place = match &self.places {
            None => self.search(destination),
            Some(places) => places.get(destination).copied(),
        };
        let Some(place) = place else { return };
        self.binding_counts[place] -= 1;
        if self.binding_counts[place] > 0 {
            return;
        }
        self.destinations.swap_remove(place);
        self.binding_counts.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(destination);
            if let Some(moved) = self.destinations.get(place) {
                places.insert(moved.clone(), place);
            }
        }
    }

    pub(super) fn as_slice(&self) -> &[Destination] {
        &self.destinations
    }

    pub(super) fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    fn search(&self, destination: &Destination) -> Option<usize> {
        self.destinations
            .iter()
            .position(|present| present == destination)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::QueueId;

    #[test]
    fn a_destination_leaves_with_its_last_binding() {
        let queue = Destination::Queue(QueueId(1));
        let mut set = DestinationSet::default();
        set.insert(&queue);
        set.insert(&queue);
        assert_eq!(set.as_slice(), std::slice::from_ref(&queue));
        set.remove(&queue);
        assert!(!set.is_empty());
        set.remove(&queue);
        assert!(set.is_empty());
        set.remove(&queue);
        assert!(set.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_multiset_on_both_sides_of_the_linear_limit(
            steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..300)
        ) {
            let mut set = DestinationSet::default();
            let mut model = BTreeMap::<Destination, u32>::new();
            for (insert, number) in steps {
                let queue = Destination::Queue(QueueId(number));
                if insert {
                    set.insert(&queue);
                    *model.entry(queue).or_default() += 1;
                } else {
                    set.remove(&queue);
                    if let Some(count) = model.get_mut(&queue) {
                        *count -= 1;
                        if *count == 0 {
                            model.remove(&queue);
                        }
                    }
                }
                let mut present = set.as_slice().to_vec();
                present.sort_unstable();
                prop_assert!(present.iter().eq(model.keys()));
            }
        }
    }
}
