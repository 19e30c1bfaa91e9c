//! Publisher confirms of one channel: which publishes are complete, and the fewest frames that say so.
//!
//! Completions come in, in any order; at the end of a burst basic.ack and basic.nack go out. `multiple` covers a tag only
//! if every lower tag that is not confirmed yet is complete and none of them is nacked; others leave singly. So the acks
//! of a burst never speak for a publish that failed or is still on its way.

use std::collections::VecDeque;

use crate::model::{ConfirmSequence, PublishOutcome};

/// Capacity that an empty window may keep, in publishes.
const KEPT_WINDOW_MAX: usize = 256;

/// What is known of a publish that some lower or equal tag still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// On its way.
    Pending,
    /// Complete, the client does not know yet.
    Accepted,
    /// Refused by a queue, the client does not know yet.
    Rejected,
    /// The client knows.
    Told,
}

/// A frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirm {
    /// `basic.ack`.
    Ack {
        /// The tag.
        sequence: ConfirmSequence,
        /// It speaks for all lower tags, too.
        multiple: bool,
    },
    /// `basic.nack` of one tag.
    Nack {
        /// The tag.
        sequence: ConfirmSequence,
    },
}

/// The confirms of a channel.
#[derive(Debug)]
pub(super) struct ConfirmTracker {
    /// The tag of the first slot of `window`.
    first: u64,
    window: VecDeque<State>,
    /// Tags completed since the last call of `tell`.
    fresh: Vec<u64>,
    pending: usize,
}

impl ConfirmTracker {
    /// The tracker of a channel that has just been put into confirm mode.
    pub(super) fn new() -> Self {
        Self {
            first: 1,
            window: VecDeque::new(),
            fresh: Vec::new(),
            pending: 0,
        }
    }

    /// Numbers a publish.
    pub(super) fn begin(&mut self) -> ConfirmSequence {
        let sequence = self.first + self.window.len() as u64;
        self.window.push_back(State::Pending);
        self.pending += 1;
        ConfirmSequence(sequence)
    }

    /// Publishes on their way.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether `tell` has something to say.
    pub(super) fn has_news(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Notes that a publish is complete; one that is not on its way is ignored.
    pub(super) fn complete(&mut self, sequence: ConfirmSequence, outcome: PublishOutcome) {
        let index = sequence.0.checked_sub(self.first);
        let slot = index.and_then(|index| self.window.get_mut(usize::try_from(index).ok()?));
        if let Some(state @ State::Pending) = slot {
            *state = match outcome {
                PublishOutcome::Accepted => State::Accepted,
                PublishOutcome::Rejected => State::Rejected,
            };
            self.fresh.push(sequence.0);
            self.pending -= 1;
        }
    }

    /// Says everything that is new, in as few frames as the rule allows, in the order of the tags.
    pub(super) fn tell(&mut self, mut send: impl FnMut(Confirm)) {
        if self.fresh.is_empty() {
            return;
        }
        let covered = self.take_accepted_prefix();
        if let Some((sequence, count)) = covered {
            send(Confirm::Ack {
                sequence: ConfirmSequence(sequence),
                multiple: count > 1,
            });
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable();
        for &tag in &fresh {
            let Some(index) = tag.checked_sub(self.first) else {
                continue;
            };
            let sequence = ConfirmSequence(tag);
            match self.window.get_mut(index as usize) {
                Some(state @ State::Accepted) => {
                    *state = State::Told;
                    send(Confirm::Ack {
                        sequence,
                        multiple: false,
                    });
                }
                Some(state @ State::Rejected) => {
                    *state = State::Told;
                    send(Confirm::Nack { sequence });
                }
                _ => {}
            }
        }
        while self.window.front() == Some(&State::Told) {
            self.window.pop_front();
            self.first += 1;
        }
        if fresh.capacity() <= KEPT_WINDOW_MAX {
            fresh.clear();
            self.fresh = fresh;
        }
        if self.window.is_empty() && self.window.capacity() > KEPT_WINDOW_MAX {
            self.window = VecDeque::new();
        }
    }

    /// Takes the accepted tags that nothing pending or rejected stands before; gives the highest and their number.
    fn take_accepted_prefix(&mut self) -> Option<(u64, usize)> {
        let mut covered = None;
        let mut count = 0;
        while let Some(state @ (State::Accepted | State::Told)) = self.window.front() {
            if *state == State::Accepted {
                count += 1;
                covered = Some(self.first);
            }
            self.window.pop_front();
            self.first += 1;
        }
        covered.map(|tag| (tag, count))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use PublishOutcome::{Accepted, Rejected};
    use proptest::prelude::*;

    use super::*;

    fn ack(tag: u64, multiple: bool) -> Confirm {
        Confirm::Ack {
            sequence: ConfirmSequence(tag),
            multiple,
        }
    }

    fn nack(tag: u64) -> Confirm {
        Confirm::Nack {
            sequence: ConfirmSequence(tag),
        }
    }

    #[track_caller]
    fn check(published: u64, completed: &[(u64, PublishOutcome)], expected: &[Confirm]) {
        let mut tracker = ConfirmTracker::new();
        for _ in 0..published {
            tracker.begin();
        }
        for &(tag, outcome) in completed {
            tracker.complete(ConfirmSequence(tag), outcome);
        }
        let mut sent = Vec::new();
        tracker.tell(|confirm| sent.push(confirm));
        assert_eq!(sent, expected);
        tracker.tell(|confirm| panic!("{confirm:?} was said before"));
    }

    #[test]
    fn one_is_acked_singly() {
        check(1, &[(1, Accepted)], &[ack(1, false)]);
    }

    #[test]
    fn a_complete_prefix_leaves_as_one() {
        check(
            5,
            &[(3, Accepted), (1, Accepted), (2, Accepted)],
            &[ack(3, true)],
        );
    }

    #[test]
    fn what_stands_above_a_gap_leaves_singly() {
        check(
            5,
            &[(1, Accepted), (2, Accepted), (4, Accepted), (5, Accepted)],
            &[ack(2, true), ack(4, false), ack(5, false)],
        );
    }

    #[test]
    fn multiple_does_not_cover_a_nack() {
        check(
            4,
            &[(1, Accepted), (2, Rejected), (3, Accepted), (4, Accepted)],
            &[ack(1, false), nack(2), ack(3, false), ack(4, false)],
        );
    }

    #[test]
    fn strangers_and_duplicates_are_ignored() {
        check(
            1,
            &[(0, Accepted), (2, Accepted), (1, Accepted), (1, Rejected)],
            &[ack(1, false)],
        );
    }

    /// What a client makes of the frames: every tag resolved exactly once.
    #[derive(Default)]
    struct Client {
        outstanding: BTreeMap<u64, PublishOutcome>,
        complete: BTreeMap<u64, PublishOutcome>,
    }

    impl Client {
        fn receive(&mut self, confirm: Confirm) {
            match confirm {
                Confirm::Nack { sequence } => self.resolve(sequence.0, Rejected),
                Confirm::Ack { sequence, multiple } => {
                    if multiple {
                        let lower: Vec<u64> = self
                            .outstanding
                            .range(..sequence.0)
                            .map(|(tag, _)| *tag)
                            .collect();
                        lower
                            .into_iter()
                            .for_each(|tag| self.resolve(tag, Accepted));
                    }
                    self.resolve(sequence.0, Accepted);
                }
            }
        }

        fn resolve(&mut self, tag: u64, outcome: PublishOutcome) {
            assert!(
                self.outstanding.remove(&tag).is_some(),
                "{tag} is resolved once"
            );
            assert_eq!(self.complete.remove(&tag), Some(outcome), "{tag} ended so");
        }
    }

    proptest! {
        /// Transient publishes complete in their own burst, persistent ones some bursts later and out of order, unroutable
        /// ones at once, some are rejected: every tag is confirmed exactly once, with its own outcome.
        #[test]
        fn every_tag_is_confirmed_exactly_once(
            bursts in prop::collection::vec(
                prop::collection::vec((0..4_usize, any::<bool>(), any::<u16>()), 0..40), 1..30)
        ) {
            let mut tracker = ConfirmTracker::new();
            let mut client = Client::default();
            let mut late: Vec<Vec<(ConfirmSequence, PublishOutcome)>> = vec![Vec::new(); bursts.len() + 4];
            let total = bursts.len() + 4;
            let mut bursts = bursts.into_iter();
            for burst in 0..total {
                for (delay, rejected, spice) in bursts.next().unwrap_or_default() {
                    let sequence = tracker.begin();
                    client.outstanding.insert(sequence.0, Accepted);
                    let outcome = if rejected && spice % 5 == 0 { Rejected } else { Accepted };
                    let at = late.get_mut(burst + delay).unwrap();
                    at.insert(usize::from(spice) % (at.len() + 1), (sequence, outcome));
                }
                for (sequence, outcome) in std::mem::take(&mut late[burst]) {
                    client.complete.insert(sequence.0, outcome);
                    tracker.complete(sequence, outcome);
                }
                tracker.tell(|confirm| client.receive(confirm));
                prop_assert!(client.complete.is_empty(), "what is complete is told at once");
                prop_assert_eq!(tracker.pending(), client.outstanding.len());
            }
            prop_assert!(client.outstanding.is_empty());
            prop_assert!(tracker.window.is_empty());
        }
    }
}
