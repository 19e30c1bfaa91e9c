//! The bindings that start from one exchange, and the way back from a destination to its sources.
//!
//! In: bindings that come and go; out: lists of them, sorted. They are for lists, counts and removals: a
//! message never meets them, it meets the index of the exchange's type.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::{Binding, BindingArguments, Destination};
use crate::model::Name;

/// The bindings that start from one exchange.
///
/// A sorted tree: a change costs O(key · log bindings), the bindings to one destination stand together,
/// and lists come out in the same order on every node and after every restart.
#[derive(Debug, Default)]
pub struct Bindings {
    sorted: BTreeSet<Binding>,
}

impl Bindings {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none, which is what `if-unused` asks.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether exactly this one is there.
    pub fn contains(&self, binding: &Binding) -> bool {
        self.sorted.contains(binding)
    }

    /// All of them, by destination, key and arguments.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.sorted.iter()
    }

    /// Those that lead to `destination`, in O(log bindings + their number).
    pub fn of_destination<'a>(
        &'a self,
        destination: &'a Destination,
    ) -> impl Iterator<Item = &'a Binding> {
        let first = Binding {
            destination: destination.clone(),
            routing_key: "".into(),
            arguments: BindingArguments::default(),
        };
        self.sorted
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |binding| binding.destination == *destination)
    }

    /// Puts one in; `false` if it is there already.
    pub(super) fn insert(&mut self, binding: Binding) -> bool {
        self.sorted.insert(binding)
    }

    /// Takes one out; `None` if it is not there.
    pub(super) fn take(&mut self, binding: &Binding) -> Option<Binding> {
        self.sorted.take(binding)
    }

    /// Takes those out that lead to `destination`.
    pub(super) fn take_destination(&mut self, destination: &Destination) -> Vec<Binding> {
        let taken: Vec<Binding> = self.of_destination(destination).cloned().collect();
        for binding in &taken {
            self.sorted.remove(binding);
        }
        taken
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self) -> Vec<Binding> {
        std::mem::take(&mut self.sorted).into_iter().collect()
    }
}

/// For every destination of a virtual host the exchanges that lead there, with the number of bindings: who
/// deletes a queue visits its sources and no other exchange.
#[derive(Debug, Default)]
pub struct BindingsByDestination {
    sources: HashMap<Destination, BTreeMap<Name, usize>>,
}

impl BindingsByDestination {
    /// A binding from `source` to `destination` was made, that is, [`super::Exchange::bind`] said `true`.
    pub fn add(&mut self, destination: &Destination, source: &Name) {
        *self
            .sources
            .entry(destination.clone())
            .or_default()
            .entry(source.clone())
            .or_default() += 1;
    }

    /// So many bindings from `source` to `destination` were removed.
    pub fn remove(&mut self, destination: &Destination, source: &Name, count: usize) {
        let Some(sources) = self.sources.get_mut(destination) else {
            return;
        };
        if let Entry::Occupied(mut bindings) = sources.entry(source.clone()) {
            let left = bindings.get().saturating_sub(count);
            if left == 0 {
                bindings.remove();
            } else {
                bindings.insert(left);
            }
        }
        if sources.is_empty() {
            self.sources.remove(destination);
        }
    }

    /// The exchanges that lead to `destination`, by name, each with its number of bindings.
    pub fn sources(&self, destination: &Destination) -> impl Iterator<Item = (&Name, usize)> {
        self.sources
            .get(destination)
            .into_iter()
            .flatten()
            .map(|(source, count)| (source, *count))
    }

    /// Forgets `destination`, which is being deleted, and gives back the exchanges that lead there.
    pub fn take_destination(&mut self, destination: &Destination) -> Vec<Name> {
        self.sources
            .remove(destination)
            .map(|sources| sources.into_keys().collect())
            .unwrap_or_default()
    }

    /// Whether nothing leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::fixtures::{binding, queue};

    #[test]
    fn bindings_are_listed_by_destination_and_key() {
        let mut bindings = Bindings::default();
        let exchange = Destination::Exchange("x".into());
        for (destination, key) in [
            (&exchange, "a"),
            (&queue(2), "b"),
            (&queue(1), "c"),
            (&queue(2), "a"),
        ] {
            assert!(bindings.insert(binding(destination, key)));
        }
        assert!(!bindings.insert(binding(&queue(2), "b")));
        assert_eq!(bindings.len(), 4);
        let listed: Vec<_> = bindings
            .iter()
            .map(|binding| (binding.destination.clone(), binding.routing_key.to_string()))
            .collect();
        assert_eq!(
            listed,
            [
                (queue(1), "c".to_owned()),
                (queue(2), "a".to_owned()),
                (queue(2), "b".to_owned()),
                (exchange, "a".to_owned()),
            ]
        );
        assert_eq!(bindings.of_destination(&queue(2)).count(), 2);
        assert_eq!(bindings.of_destination(&queue(3)).count(), 0);
    }

    #[test]
    fn taking_a_destination_leaves_the_others() {
        let mut bindings = Bindings::default();
        for number in 1..=3 {
            bindings.insert(binding(&queue(number), "a"));
            bindings.insert(binding(&queue(number), "b"));
        }
        assert_eq!(
            bindings.take_destination(&queue(2)),
            [binding(&queue(2), "a"), binding(&queue(2), "b")]
        );
        assert_eq!(bindings.take_destination(&queue(2)), []);
        assert_eq!(bindings.take_all().len(), 4);
        assert!(bindings.is_empty());
    }

    #[test]
    fn the_way_back_counts_bindings_and_ends_with_the_last() {
        let mut way_back = BindingsByDestination::default();
        let (x, y): (Name, Name) = ("x".into(), "y".into());
        way_back.add(&queue(1), &y);
        way_back.add(&queue(1), &x);
        way_back.add(&queue(1), &x);
        way_back.add(&queue(2), &x);
        let sources: Vec<_> = way_back.sources(&queue(1)).collect();
        assert_eq!(sources, [(&x, 2), (&y, 1)]);

        way_back.remove(&queue(1), &x, 1);
        way_back.remove(&queue(1), &y, 1);
        way_back.remove(&queue(3), &y, 1);
        assert_eq!(
            way_back.take_destination(&queue(1)),
            std::slice::from_ref(&x)
        );
        assert_eq!(way_back.take_destination(&queue(1)), [] as [Name; 0]);
        way_back.remove(&queue(2), &x, 7);
        assert!(way_back.is_empty());
    }
}
