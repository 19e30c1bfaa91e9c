//! The way of a change of definitions into the journal.
//!
//! In: encoded changes with a completion. Out: a record, its changes for the writer in the same order, and the completion
//! once the journal counts the record as safe. What a change means is not known here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use parking_lot::Mutex;

use super::changes::Changes;
use super::writer::{Answer, Shared, Work};
use crate::store::StoreError;
use crate::store::journal::{Journal, Lsn};

/// Called once with the outcome of a change: on the journal's thread, or within the call that hands it in.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Where changes go in.
#[derive(Debug)]
pub(super) struct Intake {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The writer's; `None` once it has ended.
    work: Option<Sender<Work>>,
    /// Whether changes are taken.
    is_open: bool,
    /// The end of the last change's record.
    last: Lsn,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>, journal: Arc<Journal>, work: Sender<Work>) -> Self {
        Self {
            shared,
            journal,
            state: Mutex::new(State {
                work: Some(work),
                is_open: true,
                last: Lsn(0),
            }),
        }
    }

    /// Why nothing is stored any more, if so.
    pub(super) fn failure(&self) -> Option<StoreError> {
        let failure = self.shared.failure.lock().clone();
        failure.or_else(|| journal_failure(&self.journal).map(stopped))
    }

    /// Appends changes to the journal. Without changes, `done` is called after those of the changes before.
    pub(super) fn submit(&self, changes: Changes, done: Done) {
        let done = move |result| {
            if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
                tracing::error!("a completion of a definition change panicked");
            }
        };
        if let Some(failure) = self.failure() {
            return done(Err(failure));
        }
        match self.append(changes) {
            Ok(end) => self
                .journal
                .when_synced(end, Box::new(move |result| done(result.map_err(stopped)))),
            Err(error) => done(Err(error)),
        }
    }

    /// As [`Intake::submit`] for changes that nobody waits for; gives the end of their record.
    pub(super) fn append(&self, changes: Changes) -> Result<Lsn, StoreError> {
        let mut state = self.state.lock();
        let Some(work) = state.work.as_ref().filter(|_| state.is_open) else {
            return Err(StoreError::Closed);
        };
        if changes.count == 0 {
            return Ok(state.last);
        }
        let mut appender = self.journal.append();
        appender.definitions(&changes.bytes);
        let end = appender.end();
        // While the journal's input is held: a checkpoint that leaves this record behind can only be asked of the writer
        // later. A writer that has ended without being told to is noticed by whoever asks it for an answer.
        let _ = work.send(Work::Changes { end, changes });
        drop(appender);
        state.last = end;
        Ok(end)
    }

    /// Takes no change from now on. Whether it did before.
    pub(super) fn close(&self) -> bool {
        std::mem::replace(&mut self.state.lock().is_open, false)
    }

    /// Asks the writer for something and waits for the answer.
    pub(super) fn ask(&self, work: impl FnOnce(Answer) -> Work) -> Result<(), StoreError> {
        let outcome = self.send(work)?;
        outcome.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Intake::ask`], but a writer that does not answer in time has failed, and everything with it.
    pub(super) fn ask_within(
        &self,
        patience: Duration,
        work: impl FnOnce(Answer) -> Work,
    ) -> Result<(), StoreError> {
        let outcome = self.send(work)?;
        match outcome.recv_timeout(patience) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                let stopped = StoreError::Stopped {
                    reason: format!(
                        "the catalogue has not taken rows for {} s",
                        patience.as_secs()
                    ),
                };
                Err(self.shared.fail(stopped, &self.journal))
            }
        }
    }

    /// Hands work to the writer; gives where its answer comes.
    fn send(
        &self,
        work: impl FnOnce(Answer) -> Work,
    ) -> Result<Receiver<Result<(), StoreError>>, StoreError> {
        let (answer, outcome) = mpsc::sync_channel(1);
        match &self.state.lock().work {
            Some(sender) => sender.send(work(answer)).map_err(|_| StoreError::Closed)?,
            None => return Err(StoreError::Closed),
        }
        Ok(outcome)
    }

    /// Lets go of the writer, so that it ends.
    pub(super) fn end(&self) {
        self.state.lock().work.take();
    }
}

/// Why a journal takes nothing any more. That it was closed is no failure.
pub(super) fn journal_failure(journal: &Journal) -> Option<StoreError> {
    let failure = journal.failure()?;
    (failure != StoreError::Closed).then_some(failure)
}

/// An error of the journal as whoever declares something hears it.
fn stopped(error: StoreError) -> StoreError {
    match error {
        StoreError::Stopped { .. } | StoreError::Closed => error,
        other => StoreError::Stopped {
            reason: other.to_string(),
        },
    }
}
