//! Queues that a connection remembers by id. Those that were deleted since are swept out whenever their number
//! has doubled, so that a client that makes a queue for each request does not make its connection grow.

use std::collections::BTreeMap;

use crate::model::QueueId;
use crate::queue::QueueHandle;

/// Queues that are remembered without asking whether they still exist.
const UNSWEPT_MAX: usize = 32;

/// Queues by id, deleted ones among them.
#[derive(Debug, Default)]
pub(super) struct KnownQueues {
    by_id: BTreeMap<QueueId, QueueHandle>,
    /// The number at which the next sweep is due, if it is above [`UNSWEPT_MAX`].
    sweep_at: usize,
}

impl KnownQueues {
    /// The queue of that id.
    pub(super) fn get(&self, id: QueueId) -> Option<&QueueHandle> {
        self.by_id.get(&id)
    }

    /// Remembers a queue.
    pub(super) fn insert(&mut self, handle: QueueHandle) {
        if self.by_id.insert(handle.id(), handle).is_none()
            && self.by_id.len() > self.sweep_at.max(UNSWEPT_MAX)
        {
            self.by_id.retain(|_, known| !known.is_gone());
            self.sweep_at = self.by_id.len() * 2;
        }
    }

    /// Forgets a queue.
    pub(super) fn remove(&mut self, id: QueueId) {
        self.by_id.remove(&id);
    }

    /// Forgets them all; gives their ids in ascending order.
    pub(super) fn take_ids(&mut self) -> Vec<QueueId> {
        std::mem::take(self).by_id.into_keys().collect()
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
