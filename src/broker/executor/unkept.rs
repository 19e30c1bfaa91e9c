//! Publishes that every queue has, and that wait for the journal.
//!
//! In: completions, each with the place that the journal must reach, synced or only written. Out: those for which it has.
//! Who is told of them is not known here.

use std::collections::VecDeque;

use crate::model::{ChannelNumber, Completion, PublishOutcome};
use crate::store::journal::{Journal, Lsn, SyncDemand};

/// Places whose allocation is kept.
const SPARE_PLACES_MAX: usize = 1024;

/// In the order of their places.
type Line = VecDeque<(Lsn, Completion)>;

/// What waits for the journal.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    unsynced: Line,
    /// To relaxed queues alone.
    unwritten: Line,
}

impl Unkept {
    pub(super) fn is_empty(&self) -> bool {
        self.unsynced.is_empty() && self.unwritten.is_empty()
    }

    /// Notes a publish; places come in ascending order.
    pub(super) fn push(&mut self, demand: SyncDemand, end: Lsn, completion: Completion) {
        let line = match demand.is_relaxed() {
            true => &mut self.unwritten,
            false => &mut self.unsynced,
        };
        line.push_back((end, completion));
    }

    /// Forgets the publishes of a channel.
    pub(super) fn forget(&mut self, channel: ChannelNumber) {
        for line in [&mut self.unsynced, &mut self.unwritten] {
            line.retain(|(_, late)| late.channel != channel);
        }
    }

    /// Moves what the journal has kept to `completions`; once it has failed, the rest as rejected.
    pub(super) fn take_kept(&mut self, journal: &Journal, completions: &mut VecDeque<Completion>) {
        take_through(&mut self.unsynced, journal.synced().0, completions);
        take_through(&mut self.unwritten, journal.written().0, completions);
        if journal.failure().is_some() {
            for line in [&mut self.unsynced, &mut self.unwritten] {
                completions.extend(line.drain(..).map(|(_, completion)| Completion {
                    outcome: PublishOutcome::Rejected,
                    ..completion
                }));
            }
        }
        for line in [&mut self.unsynced, &mut self.unwritten] {
            if line.is_empty() && line.capacity() > SPARE_PLACES_MAX {
                *line = VecDeque::new();
            }
        }
    }
}

fn take_through(line: &mut Line, reached: Lsn, completions: &mut VecDeque<Completion>) {
    while let Some((end, completion)) = line.front()
        && *end <= reached
    {
        completions.push_back(*completion);
        line.pop_front();
    }
}
