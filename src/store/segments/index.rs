//! Where about a position lies in a segment. In: records as they are written or met; out: an offset to begin at.

use crate::model::Position;

/// A place is noted each time this many bytes have passed.
const STRIDE_BYTES: u64 = 64 * 1024;

/// Places of some of a file's records, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseIndex {
    places: Vec<(Position, u64)>,
}

impl SparseIndex {
    /// An index of known places, which must grow.
    pub(super) fn of(places: Vec<(Position, u64)>) -> Option<Self> {
        let grows = places
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        grows.then_some(Self { places })
    }

    /// A record begins at `offset`; noted if the last place noted is far enough behind.
    pub fn note(&mut self, position: Position, offset: u64) {
        let is_due = self
            .places
            .last()
            .is_none_or(|(_, last)| offset >= last + STRIDE_BYTES);
        if is_due {
            if self.places.is_empty() {
                self.places.reserve_exact(1);
            }
            self.places.push((position, offset));
        }
    }

    /// The last place noted that is not behind `position`, if there is one.
    pub fn before(&self, position: Position) -> Option<u64> {
        let behind = self.places.partition_point(|(first, _)| *first <= position);
        behind.checked_sub(1).map(|last| self.places[last].1)
    }

    pub(super) fn places(&self) -> &[(Position, u64)] {
        &self.places
    }
}
