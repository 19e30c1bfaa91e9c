//! The thread `checkpoint`. In: wakes, from the journal when a file is sealed and from deleted queues; out: checkpoints.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Checkpointer;
use crate::store::StoreError;

/// How the thread is woken and ended.
#[derive(Debug, Default)]
pub(in crate::store) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_woken: bool,
    is_closing: bool,
}

impl Alarm {
    /// There is something to do.
    pub(in crate::store) fn wake(&self) {
        self.state.lock().is_woken = true;
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state.lock().is_closing = true;
        self.changed.notify_all();
    }

    /// Waits for a wake, at most for `timeout`; false when the thread is to end.
    fn wait(&self, timeout: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_woken && !state.is_closing && !timeout.is_zero() {
            self.changed.wait_for(&mut state, timeout);
        }
        state.is_woken = false;
        !state.is_closing
    }
}

/// A running thread.
#[derive(Debug)]
pub(in crate::store) struct CheckpointThread {
    alarm: Arc<Alarm>,
    handle: JoinHandle<()>,
}

impl CheckpointThread {
    /// Starts the thread. Between its rounds the checkpointer is free for others.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(in crate::store) fn start(
        checkpointer: Arc<Mutex<Checkpointer>>,
        alarm: Arc<Alarm>,
        interval: Duration,
        retry: Duration,
    ) -> Result<Self, StoreError> {
        let waited = Arc::clone(&alarm);
        let handle = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                let mut pause = interval;
                while waited.wait(pause) {
                    let mut checkpointer = checkpointer.lock();
                    pause = match checkpointer.run() {
                        Ok(()) if checkpointer.has_more() => Duration::ZERO,
                        Ok(()) => interval,
                        Err(_) => retry,
                    };
                }
            })
            .map_err(StoreError::io("start the thread", "checkpoint".as_ref()))?;
        Ok(Self { alarm, handle })
    }

    /// Ends the thread after what it is doing.
    pub(in crate::store) fn stop(self) {
        self.alarm.close();
        if self.handle.join().is_err() {
            tracing::error!("the thread that moves messages out of the journal has panicked");
        }
    }
}
