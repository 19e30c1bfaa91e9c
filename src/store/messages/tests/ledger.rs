//! A plain account of what was published, settled and confirmed, against which a node is compared after a crash.

use std::collections::BTreeMap;

use super::support::{Node, Read};
use crate::model::{Position, QueueId};

/// Whether something may be missing after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    /// It may be there or not.
    Asked,
    /// It was confirmed.
    Certain,
}

#[derive(Clone, Debug)]
struct Entry {
    body: Vec<u8>,
    published: Certainty,
    settled: Option<Certainty>,
    is_transient: bool,
}

/// What a node should have.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    queues: BTreeMap<(u64, u8), BTreeMap<Position, Entry>>,
}

impl Ledger {
    pub(super) fn published(
        &mut self,
        queue: u64,
        position: Position,
        body: &[u8],
        is_transient: bool,
    ) {
        let entry = Entry {
            body: body.to_vec(),
            published: Certainty::Asked,
            settled: None,
            is_transient,
        };
        let lane = self.queues.entry((queue, position.lane())).or_default();
        lane.insert(position, entry);
    }

    pub(super) fn settled(&mut self, queue: u64, position: Position) {
        let lane = self.queues.get_mut(&(queue, position.lane())).unwrap();
        lane.get_mut(&position).unwrap().settled = Some(Certainty::Asked);
    }

    pub(super) fn purged(&mut self, queue: u64) {
        for entry in self.entries_of(queue) {
            entry.settled.get_or_insert(Certainty::Asked);
        }
    }

    pub(super) fn deleted(&mut self, queue: u64) {
        self.queues.retain(|(other, _), _| *other != queue);
    }

    /// Everything so far is durable.
    pub(super) fn confirmed(&mut self) {
        for entry in self.queues.values_mut().flat_map(BTreeMap::values_mut) {
            entry.published = Certainty::Certain;
            if let Some(settled) = &mut entry.settled {
                *settled = Certainty::Certain;
            }
        }
    }

    fn entries_of(&mut self, queue: u64) -> impl Iterator<Item = &mut Entry> {
        self.queues
            .range_mut((queue, 0)..=(queue, u8::MAX))
            .flat_map(|(_, lane)| lane.values_mut())
    }

    /// What is not settled in a queue, with the sizes of bodies.
    pub(super) fn live(&self, queue: u64) -> Vec<(Position, u32)> {
        self.queues
            .range((queue, 0)..=(queue, u8::MAX))
            .flat_map(|(_, lane)| lane)
            .filter(|(_, entry)| entry.settled.is_none())
            .map(|(position, entry)| (*position, entry.body.len() as u32))
            .collect()
    }

    /// A node that runs has exactly what is not settled; one that dies meanwhile may refuse to tell.
    pub(super) fn check_running(&self, node: &Node, bytes_max: u64, is_dead: impl Fn() -> bool) {
        for ((queue, lane), entries) in &self.queues {
            let read = node.read_all(*queue, *lane, bytes_max);
            if read.failed && is_dead() {
                return;
            }
            let expected = Read {
                messages: entries
                    .iter()
                    .filter(|(_, entry)| entry.settled.is_none())
                    .map(|(position, entry)| (*position, entry.body.clone()))
                    .collect(),
                ..Read::default()
            };
            assert_eq!(read, expected, "queue {queue}, lane {lane}");
        }
    }

    /// After a crash, what was certain is there, what certainly ended is not, and nothing else is. The ledger goes on with what
    /// was found.
    pub(super) fn check_recovered(&mut self, node: &Node) {
        for ((queue, lane), entries) in &mut self.queues {
            let mut read = node.read_all(*queue, *lane, 64 * 1024);
            let is_sound = read.damaged.is_empty() && !read.failed;
            assert!(is_sound, "queue {queue}, lane {lane}: {read:?}");
            let recovered = node.recovered.get(&QueueId(*queue));
            let recovered =
                recovered.and_then(|lanes| lanes.lanes.iter().find(|found| found.lane == *lane));
            let count = recovered.map_or((0, 0), |lane| (lane.messages, lane.body_bytes));
            let bytes: usize = read.messages.values().map(Vec::len).sum();
            assert_eq!(
                count,
                (read.messages.len() as u64, bytes as u64),
                "counts of queue {queue}, lane {lane}"
            );
            entries.retain(|position, entry| {
                let found = read.messages.remove(position);
                if let Some(body) = &found {
                    assert!(*body == entry.body, "body of {position} in queue {queue}");
                    assert!(!entry.is_transient, "transient {position} in queue {queue}");
                    assert!(
                        entry.settled != Some(Certainty::Certain),
                        "{position} in queue {queue} came back"
                    );
                } else {
                    let may_be_missing = entry.is_transient
                        || entry.published == Certainty::Asked
                        || entry.settled.is_some();
                    assert!(may_be_missing, "{position} in queue {queue} is lost");
                }
                entry.settled = None;
                entry.published = Certainty::Certain;
                found.is_some()
            });
            assert!(
                read.messages.is_empty(),
                "strangers in queue {queue}: {read:?}"
            );
        }
    }
}
