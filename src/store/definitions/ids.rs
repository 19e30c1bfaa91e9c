//! Queue ids: handed out from blocks that are reserved by a record first.
//!
//! In: the limit that is stored. Out: numbers, none of them twice, not even after a crash.

use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::changes::Changes;
use super::intake::Intake;

/// The source of queue ids.
#[derive(Debug)]
pub(super) struct Ids {
    state: Mutex<State>,
    raised: Condvar,
    block: u64,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// Ids below this are reserved.
    limit: u64,
    is_reserving: bool,
    /// Nothing is stored any more, so there is nothing left to reserve.
    is_stopped: bool,
}

impl Ids {
    /// The limit that has to be stored before the first id is taken; `limit` is the stored one.
    pub(super) fn first_limit(limit: u64, block: u64) -> u64 {
        first_id(limit).saturating_add(block.max(2))
    }

    /// Ids from the stored `limit` on; up to [`Ids::first_limit`] they are reserved.
    pub(super) fn new(limit: u64, block: u64) -> Self {
        Self {
            state: Mutex::new(State {
                next: first_id(limit),
                limit: Self::first_limit(limit, block),
                is_reserving: false,
                is_stopped: false,
            }),
            raised: Condvar::new(),
            block: block.max(2),
        }
    }

    /// The next id; `None` if half a block was used up in the time of one sync, as happens when the journal waits for space.
    pub(super) fn take(self: &Arc<Self>, intake: &Intake) -> Option<u64> {
        self.next(intake, false)
    }

    /// The next id, waited for if need be.
    pub(super) fn wait(self: &Arc<Self>, intake: &Intake) -> u64 {
        // It only gives none when it may not wait.
        self.next(intake, true).unwrap_or_default()
    }

    fn next(self: &Arc<Self>, intake: &Intake, may_wait: bool) -> Option<u64> {
        let mut state = self.state.lock();
        loop {
            if state.limit - state.next.min(state.limit) <= self.block / 2
                && !state.is_reserving
                && !state.is_stopped
            {
                state.is_reserving = true;
                let raised = state.limit + self.block;
                // The answer may come within the call, and takes the lock.
                MutexGuard::unlocked(&mut state, || self.reserve(raised, intake));
            }
            if state.next < state.limit || state.is_stopped {
                let id = state.next;
                state.next += 1;
                return Some(id);
            }
            if !may_wait {
                return None;
            }
            self.raised.wait(&mut state);
        }
    }

    fn reserve(self: &Arc<Self>, raised: u64, intake: &Intake) {
        let ids: Weak<Self> = Arc::downgrade(self);
        let done = move |result: Result<(), _>| {
            let Some(ids) = ids.upgrade() else { return };
            let mut state = ids.state.lock();
            state.is_reserving = false;
            match result {
                Ok(()) => state.limit = raised,
                Err(_) => state.is_stopped = true,
            }
            ids.raised.notify_all();
        };
        intake.submit(Changes::raise_queue_ids(raised), Box::new(done));
    }

    /// Stops reserving; gives the first id that was never handed out.
    pub(super) fn close(&self) -> u64 {
        let mut state = self.state.lock();
        state.is_stopped = true;
        self.raised.notify_all();
        state.next
    }
}

/// Ids begin at 1, so that 0 can mean none.
fn first_id(limit: u64) -> u64 {
    limit.max(1)
}
