//! Which queues need which body that lies in a file of its own. In: messages that moved to a segment, and ended ones; out: the
//! files that nobody needs any more.
//!
//! A file is named by the Lsn of the record that named it first. As long as that record may be replayed, which is until its
//! journal file was checkpointed, the file stays in any case: the queues that need it are known here from the moment on at
//! which they moved it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::model::QueueId;
use crate::store::journal::Lsn;

/// The queues that need each file.
#[derive(Debug, Default)]
pub(in crate::store) struct BlobHolders(Mutex<BTreeMap<u64, Vec<QueueId>>>);

impl BlobHolders {
    /// A live message of the queue has the file.
    pub(in crate::store) fn hold(&self, blob: u64, queue: QueueId) {
        let mut holders = self.0.lock();
        let queues = holders.entry(blob).or_default();
        if !queues.contains(&queue) {
            queues.push(queue);
        }
    }

    /// No live message of the queue has these files any more.
    pub(in crate::store) fn release(&self, freed: &[(QueueId, u64)]) {
        let mut holders = self.0.lock();
        for (queue, blob) in freed {
            if let Some(queues) = holders.get_mut(blob) {
                queues.retain(|other| other != queue);
                if queues.is_empty() {
                    holders.remove(blob);
                }
            }
        }
    }

    /// Those of `blobs` that nobody needs, and that no record from `checkpoint` on names.
    pub(in crate::store) fn unneeded(&self, blobs: &[u64], checkpoint: Lsn) -> Vec<u64> {
        let holders = self.0.lock();
        let is_unneeded = |blob: &&u64| **blob < checkpoint.0 && !holders.contains_key(blob);
        blobs.iter().filter(is_unneeded).copied().collect()
    }

    /// How many files are needed, of those that moved.
    pub(in crate::store) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
