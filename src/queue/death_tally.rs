//! How many messages left queues by the back door, for who counts. Where they go, and whether they arrive, is not known here.

use super::kind::QueueKind;
use crate::model::DeathReason;

/// How a queue treats its dead letters, as RabbitMQ's metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathStrategy {
    /// It has no dead-letter exchange: they are gone.
    Disabled,
    /// They are sent once.
    AtMostOnce,
    /// They are kept until they have arrived.
    AtLeastOnce,
}

impl DeathStrategy {
    /// All strategies, in the order of [`DeathStrategy::index`].
    pub const ALL: [Self; 3] = [Self::Disabled, Self::AtMostOnce, Self::AtLeastOnce];

    /// The strategy's place in a table.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::AtMostOnce => "at_most_once",
            Self::AtLeastOnce => "at_least_once",
        }
    }
}

type Row = [u32; DeathReason::ALL.len()];

/// Deaths by kind of queue, strategy and reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeathTally {
    deaths: [[Row; DeathStrategy::ALL.len()]; QueueKind::ALL.len()],
    /// Whether there are any.
    has_some: bool,
    /// Dead letters that were kept, and have arrived.
    pub confirmed: u32,
}

impl DeathTally {
    /// Counts one.
    pub fn count(&mut self, kind: QueueKind, strategy: DeathStrategy, reason: DeathReason) {
        self.has_some = true;
        self.deaths[kind.index()][strategy.index()][reason.index()] += 1;
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        !self.has_some && self.confirmed == 0
    }

    /// What was counted, without zeros.
    pub fn counts(
        &self,
    ) -> impl Iterator<Item = (QueueKind, DeathStrategy, DeathReason, u32)> + '_ {
        let kinds = QueueKind::ALL.into_iter();
        let rows = kinds.flat_map(|kind| DeathStrategy::ALL.map(|strategy| (kind, strategy)));
        rows.flat_map(move |(kind, strategy)| {
            let row = self.deaths[kind.index()][strategy.index()];
            DeathReason::ALL.map(|reason| (kind, strategy, reason, row[reason.index()]))
        })
        .filter(|(.., count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_stands_in_its_place() {
        let mut tally = DeathTally::default();
        assert!(tally.is_empty());
        let death = (
            QueueKind::Quorum,
            DeathStrategy::AtLeastOnce,
            DeathReason::DeliveryLimit,
        );
        tally.count(death.0, death.1, death.2);
        tally.count(death.0, death.1, death.2);
        let counts: Vec<_> = tally.counts().collect();
        assert_eq!(counts, [(death.0, death.1, death.2, 2)]);
        assert!(!tally.is_empty());
    }
}
