//! The queues whose rows in the catalogue are out of date.
//!
//! In: marks, made under the locks of queues. Out: the queues that the next checkpoint asks for rows.

use std::mem;

use parking_lot::Mutex;

use crate::model::QueueId;

/// Shared by all logs of a node. Its lock is held for a push or a swap only, and inside it no other is taken.
#[derive(Debug, Default)]
pub struct DirtyQueues(Mutex<Vec<QueueId>>);

impl DirtyQueues {
    /// The queues that were marked since the last call; a queue may be among them that is gone by now.
    pub fn take(&self) -> Vec<QueueId> {
        mem::take(&mut *self.0.lock())
    }

    pub(super) fn mark(&self, queue: QueueId) {
        self.0.lock().push(queue);
    }
}
