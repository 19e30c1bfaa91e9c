//! Who has which queue's log. In: queues as they come and go; out: a log, under its queue's lock.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::model::QueueId;
use crate::store::queue_log::QueueLog;

/// Who has a queue's log, under the lock that guards the queue's state.
pub trait LogOwner: Send + Sync {
    /// Calls `act` once, under the queue's lock; false, without a call, if the queue is gone. `act` may lock the journal's
    /// input, nothing else.
    fn with_log(&self, act: &mut dyn FnMut(&mut QueueLog)) -> bool;
}

/// The owners by queue.
#[derive(Default)]
pub struct Owners(RwLock<HashMap<QueueId, Weak<dyn LogOwner>>>);

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owners").field(&self.0.read().len()).finish()
    }
}

impl Owners {
    pub(super) fn insert(&self, id: QueueId, owner: Weak<dyn LogOwner>) {
        self.0.write().insert(id, owner);
    }

    pub(super) fn remove(&self, id: QueueId) {
        self.0.write().remove(&id);
    }

    /// All queues that have an owner.
    pub fn ids(&self) -> Vec<QueueId> {
        self.0.read().keys().copied().collect()
    }

    /// What `act` makes of a queue's log; `None` if the queue is gone.
    pub fn with_log<T>(&self, id: QueueId, act: impl FnOnce(&mut QueueLog) -> T) -> Option<T> {
        let owner: Arc<dyn LogOwner> = self.0.read().get(&id)?.upgrade()?;
        let mut act = Some(act);
        let mut made = None;
        owner.with_log(&mut |log| {
            if let Some(act) = act.take() {
                made = Some(act(log));
            }
        });
        made
    }
}
