//! The message store as the rest of the program sees it. In: queues as they come and go, plans to read; out: logs, messages.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::owners::LogOwner;
use super::reading::{self, ReadBlock};
use super::report::{Finding, MessageStats};
use super::shared::Shared;
use crate::model::QueueId;
use crate::store::StoreError;
use crate::store::checkpoint::{Alarm, CheckpointThread, Checkpointer};
use crate::store::journal::{Journal, Lsn};
use crate::store::queue_log::{LogFigures, Plan, QueueLog, Removal};

/// The messages of durable queues, and those that were written to save memory.
pub struct MessageStore {
    shared: Arc<Shared>,
    checkpointer: Arc<Mutex<Checkpointer>>,
    alarm: Arc<Alarm>,
    thread: Mutex<Option<CheckpointThread>>,
    recovered: Mutex<Recovered>,
    findings: Mutex<Vec<Finding>>,
    /// Logs of queues whose definitions were not restored.
    orphans: Mutex<Vec<Arc<Orphan>>>,
}

/// A log without a queue: checkpoints go on moving its messages, so that they are there when the queue is.
struct Orphan(Mutex<QueueLog>);

impl LogOwner for Orphan {
    fn with_log(&self, act: &mut dyn FnMut(&mut QueueLog)) -> bool {
        act(&mut self.0.lock());
        true
    }
}

/// What a start found, until queues take it.
#[derive(Default)]
struct Recovered {
    logs: HashMap<QueueId, RecoveredLog>,
    /// Queues that have a folder.
    folders: BTreeSet<QueueId>,
    is_finished: bool,
}

/// A log as a start found it.
#[derive(Debug)]
pub(super) struct RecoveredLog {
    pub(super) log: QueueLog,
    pub(super) findings: Vec<Finding>,
}

impl fmt::Debug for MessageStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl MessageStore {
    pub(super) fn new(
        shared: Arc<Shared>,
        checkpoint: Lsn,
        logs: HashMap<QueueId, RecoveredLog>,
        folders: BTreeSet<QueueId>,
    ) -> Self {
        let checkpointer = Checkpointer::new(Arc::clone(&shared), checkpoint);
        Self {
            shared,
            checkpointer: Arc::new(Mutex::new(checkpointer)),
            alarm: Arc::default(),
            thread: Mutex::default(),
            recovered: Mutex::new(Recovered {
                logs,
                folders,
                is_finished: false,
            }),
            findings: Mutex::default(),
            orphans: Mutex::default(),
        }
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.shared.journal
    }

    /// The log of a new queue.
    pub fn new_log(&self, id: QueueId) -> QueueLog {
        QueueLog::new(id, Arc::clone(&self.shared.dirty))
    }

    /// Says who has a queue's log from now on; before anything is appended for the queue.
    pub fn register(&self, id: QueueId, owner: Weak<dyn LogOwner>) {
        self.recovered.lock().folders.remove(&id);
        self.shared.owners.insert(id, owner);
    }

    /// The log that the start found for a queue, once; `None`: nothing is stored of it. What was wrong with it is logged now.
    pub fn take_recovered(&self, id: QueueId) -> Option<QueueLog> {
        let taken = {
            let mut recovered = self.recovered.lock();
            recovered.folders.remove(&id);
            recovered.logs.remove(&id)
        }?;
        for finding in &taken.findings {
            finding.log();
        }
        self.findings.lock().extend(taken.findings);
        Some(taken.log)
    }

    /// The queues whose logs nobody has taken, with how much they hold.
    pub(in crate::store) fn unclaimed(&self) -> Vec<(QueueId, LogFigures)> {
        let recovered = self.recovered.lock();
        let logs = recovered.logs.iter();
        let mut unclaimed: Vec<_> = logs.map(|(id, log)| (*id, log.log.figures())).collect();
        unclaimed.sort_unstable_by_key(|(id, _)| *id);
        unclaimed
    }

    /// Every durable queue has taken its log: what is left belongs to queues that are gone, and is removed in the background,
    /// or kept for a later start if definitions could not all be restored and it may be that of a queue that is only missing
    /// now. From here on messages move.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn finish_recovery(&self, may_remove: bool) -> Result<(), StoreError> {
        let (logs, folders) = {
            let mut recovered = self.recovered.lock();
            if recovered.is_finished {
                return Ok(());
            }
            recovered.is_finished = true;
            let logs = std::mem::take(&mut recovered.logs);
            (logs, std::mem::take(&mut recovered.folders))
        };
        if may_remove {
            let mut removals = self.shared.removals.lock();
            for id in folders {
                if !logs.contains_key(&id) {
                    removals.push((id, Removal::default()));
                }
            }
            for (id, recovered) in logs {
                removals.push((id, recovered.log.into_removal()));
            }
        } else {
            for (id, recovered) in logs {
                tracing::error!(
                    queue = id.0,
                    "the messages of a queue whose definition was not restored are kept: restore the definition, and start again"
                );
                let orphan = Arc::new(Orphan(Mutex::new(recovered.log)));
                let owner: Weak<Orphan> = Arc::downgrade(&orphan);
                self.register(id, owner);
                self.orphans.lock().push(orphan);
            }
        }
        if !self.shared.options.has_thread {
            return Ok(());
        }
        let alarm = Arc::clone(&self.alarm);
        self.shared
            .journal
            .set_on_seal(Box::new(move || alarm.wake()));
        let thread = CheckpointThread::start(
            Arc::clone(&self.checkpointer),
            Arc::clone(&self.alarm),
            self.shared.options.interval,
            self.shared.options.retry,
        )?;
        *self.thread.lock() = Some(thread);
        self.alarm.wake();
        Ok(())
    }

    /// A queue was deleted: its files and rows are removed in the background. To be called without the queue's lock, when its
    /// owner says that it is gone.
    pub fn forget(&self, id: QueueId, log: QueueLog) {
        self.shared.owners.remove(id);
        self.shared.removals.lock().push((id, log.into_removal()));
        self.alarm.wake();
    }

    /// Reads what a plan names; blocking, without any lock held.
    pub fn read(&self, id: QueueId, plan: &Plan) -> ReadBlock {
        reading::read(&self.shared, id, plan)
    }

    /// Does what the thread would do now.
    ///
    /// # Errors
    /// What the thread would log and try again.
    pub fn checkpoint_now(&self) -> Result<(), StoreError> {
        let result = self.checkpointer.lock().run();
        result.map_err(|failure| StoreError::Checkpoint {
            reason: failure.to_string(),
        })
    }

    /// Ends the thread and commits every row; journal and catalogue stay open for whoever closes them.
    ///
    /// # Errors
    /// Rows cannot be committed. Nothing is lost: the journal has all that they would say.
    pub fn close(&self) -> Result<(), StoreError> {
        if let Some(thread) = self.thread.lock().take() {
            thread.stop();
        }
        let result = self.checkpointer.lock().finish();
        result.map_err(|failure| StoreError::Checkpoint {
            reason: failure.to_string(),
        })
    }

    /// What the start found wrong, of the queues that took their logs.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.lock().clone()
    }

    /// What was done and met since the start.
    pub fn stats(&self) -> MessageStats {
        MessageStats {
            quarantined: self.shared.quarantine.pieces(),
            blobs: self.shared.blobs.len() as u64,
            sealed_files: self.shared.journal.sealed().len() as u64,
            ..self.shared.counters.stats()
        }
    }
}

impl Drop for MessageStore {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.lock().take() {
            thread.stop();
        }
    }
}
