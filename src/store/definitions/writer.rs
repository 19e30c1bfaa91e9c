//! The one thread that writes the catalogue.
//!
//! In: changes that lie in the journal, rows about messages, each with the place in the journal that they belong to. Out:
//! commits. What the rows mean is not known here, nor who waits for a change: its answer rests on the journal.
//!
//! Changes gather for a while, so that many share one sync. They are in the catalogue in the order of the journal, never
//! before the journal counts them as safe, and always before a checkpoint that leaves them behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::batch::RowBatch;
use super::catalogue::{Catalogue, Counter, Counters};
use super::changes::{self, Changes};
use super::intake::journal_failure;
use super::message_rows;
use super::rows::RowWrite;
use crate::store::StoreError;
use crate::store::journal::{Journal, Lsn};

/// Changes, and bytes of them, that are gathered at most before they are written, if the journal has synced them.
const GATHERED_CHANGES_MAX: usize = 8192;
const GATHERED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Called with the outcome of what is waited for.
pub(super) type Answer = SyncSender<Result<(), StoreError>>;

/// What the thread is asked to do.
pub(super) enum Work {
    /// To write changes whose record ends at `end`, at its leisure. They come in the order of their records.
    Changes { end: Lsn, changes: Changes },
    /// To write rows about messages and the checkpoint that they stand for.
    Rows {
        writes: Vec<RowWrite>,
        checkpoint: Lsn,
        answer: Answer,
    },
    /// To write all changes that the journal counts as safe.
    CatchUp { answer: Answer },
    /// To write everything, give queue ids back, mark a clean end, and end.
    Finish {
        queue_id_limit: u64,
        clean_end: Option<Lsn>,
        answer: Answer,
    },
}

/// What the writer shares with the store and the exporter.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) catalogue: Catalogue,
    /// The first failure of the catalogue; after it nothing is written any more. A failed sync is not tried again,
    /// because the kernel may have dropped the pages that it could not write.
    pub(super) failure: Mutex<Option<StoreError>>,
    /// The counters as they were synced last.
    pub(super) synced: Mutex<Counters>,
}

impl Shared {
    /// Notes the first failure, and gives it. No checkpoint can be made any more, so that the journal would grow for ever: it
    /// ends as well, and whoever publishes hears of it.
    pub(super) fn fail(&self, failure: StoreError, journal: &Journal) -> StoreError {
        let first = self.failure.lock().get_or_insert(failure).clone();
        tracing::error!(%first, "the catalogue has failed");
        journal.give_up(first.clone());
        first
    }
}

/// What is written beside the changes.
#[derive(Default)]
struct Beside {
    writes: Vec<RowWrite>,
    checkpoint: Option<Lsn>,
    queue_id_limit: Option<u64>,
    clean_end: Option<Lsn>,
}

/// Changes that are not in the catalogue yet, in the order of the journal.
#[derive(Debug, Default)]
struct Gathered {
    changes: VecDeque<(Lsn, Changes)>,
    count: usize,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, end: Lsn, changes: Changes) {
        self.count += changes.count;
        self.bytes += changes.bytes.len();
        self.changes.push_back((end, changes));
    }

    fn is_large(&self) -> bool {
        self.count >= GATHERED_CHANGES_MAX || self.bytes >= GATHERED_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether there are any that end at `up_to` or before.
    fn has_until(&self, up_to: Lsn) -> bool {
        self.changes.front().is_some_and(|(end, _)| *end <= up_to)
    }

    /// The next that ends at `up_to` or before.
    fn pop(&mut self, up_to: Lsn) -> Option<(Lsn, Changes)> {
        self.changes.front().filter(|(end, _)| *end <= up_to)?;
        let (end, changes) = self.changes.pop_front()?;
        self.count -= changes.count;
        self.bytes -= changes.bytes.len();
        Some((end, changes))
    }
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    /// Woken after each commit of definitions; a full channel means that it is awake already.
    exporter: SyncSender<()>,
    debounce: Duration,
    gathered: Gathered,
}

impl Writer {
    /// `debounce` is the time for which changes gather.
    pub(super) fn new(
        shared: Arc<Shared>,
        journal: Arc<Journal>,
        exporter: SyncSender<()>,
        debounce: Duration,
    ) -> Self {
        Self {
            shared,
            journal,
            exporter,
            debounce,
            gathered: Gathered::default(),
        }
    }

    /// Runs until every sender of work is gone, or one asks for the end.
    pub(super) fn run(mut self, work: &Receiver<Work>) {
        let mut deadline: Option<Instant> = None;
        loop {
            let next = match deadline {
                None => work.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    work.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                }
            };
            match next {
                Ok(Work::Changes { end, changes }) => {
                    self.gathered.push(end, changes);
                    deadline.get_or_insert_with(|| Instant::now() + self.debounce);
                    if !self.gathered.is_large() {
                        continue;
                    }
                    // A failure was noted, and is told to whoever asks next.
                    let _ = self.catch_up();
                }
                Ok(Work::Rows {
                    writes,
                    checkpoint,
                    answer,
                }) => {
                    // Here and below: who asked may have gone away.
                    let _ = answer.send(self.write_rows(writes, checkpoint));
                }
                Ok(Work::CatchUp { answer }) => {
                    let _ = answer.send(self.catch_up());
                }
                Ok(Work::Finish {
                    queue_id_limit,
                    clean_end,
                    answer,
                }) => {
                    let _ = answer.send(self.finish(queue_id_limit, clean_end));
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.catch_up();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let is_left = !self.gathered.is_empty();
            deadline = is_left.then(|| Instant::now() + self.debounce);
        }
    }

    /// Writes the changes that the journal counts as safe.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        let result = self.write(self.journal.confirmable(), Beside::default());
        if journal_failure(&self.journal).is_some() {
            // What is left was answered with the failure.
            self.gathered = Gathered::default();
        }
        result
    }

    fn write_rows(&mut self, writes: Vec<RowWrite>, checkpoint: Lsn) -> Result<(), StoreError> {
        message_rows::check(&writes)?;
        let checkpoint = checkpoint.max(self.shared.synced.lock().checkpoint);
        // What lies below a checkpoint is synced, whatever the journal's mode.
        let up_to = self.journal.confirmable().max(checkpoint);
        let beside = Beside {
            writes,
            checkpoint: Some(checkpoint),
            ..Beside::default()
        };
        self.write(up_to, beside)
    }

    fn finish(&mut self, queue_id_limit: u64, clean_end: Option<Lsn>) -> Result<(), StoreError> {
        self.catch_up()?;
        let beside = match self.gathered.is_empty() {
            true => Beside {
                queue_id_limit: Some(queue_id_limit),
                clean_end,
                ..Beside::default()
            },
            false => return Err(StoreError::Closed),
        };
        self.write(Lsn(0), beside)
    }

    /// Writes the gathered changes that end at `up_to` or before, and what comes beside them, with one sync.
    fn write(&mut self, up_to: Lsn, beside: Beside) -> Result<(), StoreError> {
        if let Some(failure) = &*self.shared.failure.lock() {
            return Err(failure.clone());
        }
        self.commit(up_to, beside).map_err(|error| {
            if let StoreError::NoSpace { .. } = error {
                // Nothing was written; it is tried again.
                return error;
            }
            let stopped = StoreError::Stopped {
                reason: error.to_string(),
            };
            self.shared.fail(stopped, &self.journal)
        })
    }

    fn commit(&mut self, up_to: Lsn, beside: Beside) -> Result<(), StoreError> {
        let catalogue = &self.shared.catalogue;
        let has_due = self.gathered.has_until(up_to);
        let is_asked = beside.checkpoint.is_some() || beside.queue_id_limit.is_some();
        if !has_due && !is_asked {
            return Ok(());
        }
        let rows = self.gathered.count + beside.writes.len();
        let bytes = self.gathered.bytes + beside.writes.iter().map(RowWrite::bytes).sum::<usize>();
        catalogue.keep_room(rows, bytes)?;
        let mut counters = *self.shared.synced.lock();
        let mut batch = RowBatch::new(catalogue, counters.queue_id_limit);
        let mut has_changed = false;
        while let Some((end, changes)) = self.gathered.pop(up_to) {
            has_changed = true;
            counters.definitions_lsn = end;
            let decoded = changes::decode(&changes.bytes);
            for change in decoded.map_err(|reason| StoreError::Stopped { reason })? {
                batch.make(change)?;
            }
        }
        counters.queue_id_limit = batch.queue_id_limit();
        message_rows::put(catalogue, beside.writes, batch.rows())?;
        if let Some(checkpoint) = beside.checkpoint {
            counters.checkpoint = checkpoint;
            // Changes from before it would be among the gathered: they are handed over before their file can be sealed.
            counters.definitions_lsn = counters.definitions_lsn.max(checkpoint);
            batch.set(Counter::Checkpoint, checkpoint.0);
        }
        if let Some(limit) = beside.queue_id_limit {
            counters.queue_id_limit = limit;
            batch.set(Counter::QueueIdLimit, limit);
        }
        if let Some(end) = beside.clean_end {
            counters.clean_end = Some(end);
            counters.definitions_lsn = counters.definitions_lsn.max(end);
            batch.set(Counter::CleanEnd, end.0);
        }
        counters.sequence += 1;
        batch.set(Counter::Sequence, counters.sequence);
        batch.set(Counter::DefinitionsLsn, counters.definitions_lsn.0);
        batch.commit()?;
        *self.shared.synced.lock() = counters;
        if has_changed {
            let _ = self.exporter.try_send(());
        }
        Ok(())
    }
}
