//! Deliveries that nobody has settled, on their way from a channel to the broker.
//!
//! In: deliveries in the order in which they were made. Out: the same. Those that follow one another with the positions of one queue
//! and consumer are one run, so that the end of a channel costs what the channel cost, not what it had in its hands. What becomes of
//! them is not known here.

use super::{Position, Unsettled};

/// Deliveries with consecutive positions, of one queue and consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Unsettled,
    /// At least 1.
    count: u64,
}

impl Run {
    fn at(&self, offset: u64) -> Unsettled {
        Unsettled {
            position: Position(self.first.position.0 + offset),
            ..self.first
        }
    }
}

/// Deliveries in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnsettledDeliveries {
    runs: Vec<Run>,
}

impl UnsettledDeliveries {
    /// Adds `count` deliveries: `first`, and those of the positions behind it.
    pub fn push(&mut self, first: Unsettled, count: u64) {
        if count == 0 {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.at(last.count) == first => last.count += count,
            _ => self.runs.push(Run { first, count }),
        }
    }

    /// How many they are.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Unsettled> + '_ {
        let each = |run: &Run| {
            let run = *run;
            (0..run.count).map(move |offset| run.at(offset))
        };
        self.runs.iter().flat_map(each)
    }

    /// Bytes that they take on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConsumerId, QueueId};

    fn delivery(queue: u64, position: u64, consumer: Option<u64>) -> Unsettled {
        Unsettled {
            queue: QueueId(queue),
            position: Position(position),
            consumer: consumer.map(ConsumerId),
        }
    }

    #[test]
    fn only_what_follows_joins_and_all_come_out_as_they_went_in() {
        let expected = [
            delivery(1, 1, Some(1)),
            delivery(1, 2, Some(1)),
            delivery(1, 3, Some(2)),
            delivery(2, 4, Some(2)),
            delivery(2, 5, None),
            delivery(2, 7, None),
            delivery(2, 6, None),
        ];
        let mut deliveries = UnsettledDeliveries::default();
        assert!(deliveries.is_empty());
        for one in expected {
            deliveries.push(one, 1);
        }
        deliveries.push(delivery(2, 7, None), 0);
        assert!(deliveries.iter().eq(expected));
        assert_eq!((deliveries.len(), deliveries.runs.len()), (7, 6));
    }

    #[test]
    fn a_million_in_a_row_take_no_more_room_than_one() {
        let mut one = UnsettledDeliveries::default();
        one.push(delivery(1, 1, Some(1)), 1);
        let mut million = UnsettledDeliveries::default();
        for position in 1..=500_000 {
            million.push(delivery(1, position, Some(1)), 1);
        }
        million.push(delivery(1, 500_001, Some(1)), 500_000);
        assert_eq!(million.len(), 1_000_000);
        assert_eq!(million.heap_bytes(), one.heap_bytes());
        assert_eq!(
            million.iter().map(|one| one.position.0).max(),
            Some(1_000_000)
        );
    }
}
