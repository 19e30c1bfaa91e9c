//! Who waits for the journal to come further.
//!
//! In: completions for places, wakers of connections, and positions as they advance. Out: each completion called once, each
//! waker woken once. What was written at those places is not known here.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use parking_lot::Mutex;

use super::Lsn;
use crate::store::StoreError;

/// Called once, with the failure if the place will not be reached any more.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A connection registers once a burst; the same one is mostly found among the last few.
const WAKERS_COMPARED_MAX: usize = 32;

/// Which position is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Handed to the system.
    Written,
    /// Synced in every mode.
    Synced,
}

#[derive(Default)]
pub(super) struct Waiters(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    written: Line,
    synced: Line,
    wakers: Vec<Waker>,
}

/// In order of their places.
type Line = VecDeque<(Lsn, Done)>;

/// What an advance calls, kept by the journal's thread so that nothing is allocated each time.
#[derive(Default)]
pub(super) struct Due {
    done: Vec<Done>,
    wakers: Vec<Waker>,
}

impl Waiters {
    /// Adds a completion unless `outcome`, asked under the lock, knows already how it ends; then gives it back with that.
    pub(super) fn add(
        &self,
        until: Until,
        lsn: Lsn,
        done: Done,
        outcome: impl FnOnce() -> Option<Result<(), StoreError>>,
    ) -> Option<(Done, Result<(), StoreError>)> {
        let mut waiting = self.0.lock();
        if let Some(outcome) = outcome() {
            return Some((done, outcome));
        }
        let line = waiting.line(until);
        // Nearly always the last place.
        let index = line
            .iter()
            .rposition(|(earlier, _)| *earlier <= lsn)
            .map_or(0, |index| index + 1);
        line.insert(index, (lsn, done));
        None
    }

    pub(super) fn add_waker(&self, waker: &Waker) {
        let wakers = &mut self.0.lock().wakers;
        let mut last = wakers.iter().rev().take(WAKERS_COMPARED_MAX);
        if !last.any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Calls what waited for these positions or lower ones, and wakes everyone.
    pub(super) fn advanced(&self, written: Lsn, synced: Lsn, due: &mut Due) {
        self.call(written, synced, &Ok(()), due);
    }

    /// Calls everyone with `failure`. The caller has seen to it that [`Waiters::add`] adds nobody any more.
    pub(super) fn failed(&self, failure: StoreError, due: &mut Due) {
        self.call(Lsn(u64::MAX), Lsn(u64::MAX), &Err(failure), due);
    }

    fn call(&self, written: Lsn, synced: Lsn, outcome: &Result<(), StoreError>, due: &mut Due) {
        {
            let mut waiting = self.0.lock();
            take_due(&mut waiting.written, written, &mut due.done);
            take_due(&mut waiting.synced, synced, &mut due.done);
            std::mem::swap(&mut waiting.wakers, &mut due.wakers);
        }
        for done in due.done.drain(..) {
            call(done, outcome.clone());
        }
        due.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Calls a completion. Its panic is its own affair: the others wait, too.
pub(super) fn call(done: Done, outcome: Result<(), StoreError>) {
    if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
        tracing::error!("a completion of the journal panicked; this is a defect");
    }
}

impl Waiting {
    fn line(&mut self, until: Until) -> &mut Line {
        match until {
            Until::Written => &mut self.written,
            Until::Synced => &mut self.synced,
        }
    }
}

fn take_due(line: &mut Line, reached: Lsn, due: &mut Vec<Done>) {
    while line.front().is_some_and(|(lsn, _)| *lsn <= reached) {
        due.extend(line.pop_front().map(|(_, done)| done));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note(log: &Arc<Mutex<Vec<u64>>>, lsn: u64) -> Done {
        let log = log.clone();
        Box::new(move |outcome| log.lock().push(lsn + 1000 * u64::from(outcome.is_err())))
    }

    #[test]
    fn completions_are_called_in_order_of_their_places() {
        let (waiters, log, mut due) = (Waiters::default(), Arc::default(), Due::default());
        for lsn in [8, 24, 16, 40, 16] {
            let known = waiters.add(Until::Written, Lsn(lsn), note(&log, lsn), || None);
            assert!(known.is_none());
        }
        waiters.add(Until::Synced, Lsn(8), note(&log, 9), || None);
        waiters.advanced(Lsn(24), Lsn(0), &mut due);
        assert_eq!(*log.lock(), [8, 16, 16, 24]);
        waiters.advanced(Lsn(24), Lsn(24), &mut due);
        assert_eq!(*log.lock(), [8, 16, 16, 24, 9]);
        waiters.failed(StoreError::Closed, &mut due);
        assert_eq!(*log.lock(), [8, 16, 16, 24, 9, 1040]);
        let known = waiters.add(Until::Synced, Lsn(8), note(&log, 8), || Some(Ok(())));
        assert_eq!(known.unwrap().1, Ok(()));
    }

    #[test]
    fn a_waker_is_woken_once_however_often_it_came() {
        let (waiters, mut due) = (Waiters::default(), Due::default());
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(counter.clone());
        for _ in 0..5 {
            waiters.add_waker(&waker);
            waiters.add_waker(Waker::noop());
        }
        waiters.advanced(Lsn(0), Lsn(0), &mut due);
        waiters.advanced(Lsn(0), Lsn(0), &mut due);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_panic_in_one_completion_leaves_the_others() {
        let (waiters, log, mut due) = (Waiters::default(), Arc::default(), Due::default());
        let panics: Done = Box::new(|_| std::panic::panic_any(0));
        waiters.add(Until::Written, Lsn(8), panics, || None);
        waiters.add(Until::Written, Lsn(8), note(&log, 8), || None);
        waiters.advanced(Lsn(8), Lsn(8), &mut due);
        assert_eq!(*log.lock(), [8]);
    }
}
