//! What a queue's lock guards: its state, and the index of what it has in the log.
//!
//! In: what the state decided during one hold of the lock. Out: the same in the journal, before the lock is free, so
//! that nobody sees a message whose record is not in the journal's input, and no settlement precedes its message there.
//! Why the state decided so, and where the bytes lie, is not known here.

use std::sync::Arc;

use super::effects::Effects;
use super::letters::Letters;
use super::state::QueueState;
use crate::model::{AppliedPolicy, QueueId, WallMs};
use crate::store::journal::Appender;
use crate::store::messages::MessageStore;
use crate::store::queue_log::QueueLog;

/// Bytes that may wait to be written to the journal before delivery counts of quorum queues are no longer written.
const COUNTS_BACKLOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A queue's state and log.
pub(super) struct Guarded {
    /// `None` once the queue is deleted.
    pub(super) state: Option<QueueState>,
    /// What a deleted queue still has to do. `None` before that, and when nothing is left.
    pub(super) departure: Option<Box<Departure>>,
    pub(super) log: QueueLog,
    /// Which policies hold for it.
    pub(super) policy: Option<Arc<AppliedPolicy>>,
    /// The earliest deadline that was reported and has not come, so that a queue whose deadlines come
    /// and go does not fill the node's timers.
    pub(super) armed_ms: WallMs,
    /// The interval in which the queue said last that it counted something; 0 for never.
    pub(super) touched_in: u32,
}

/// What keeps the log of a deleted queue.
#[derive(Default)]
pub(super) struct Departure {
    /// Its dead letters, which are still to leave.
    pub(super) letters: Letters,
    /// Whether the journal has the deletion.
    pub(super) is_recorded: bool,
}

impl Departure {
    /// What is left of a deleted queue.
    pub(super) fn of(state: &mut QueueState) -> Box<Self> {
        let mut letters = std::mem::take(&mut state.letters);
        letters.drop_retained();
        Box::new(Self {
            letters,
            is_recorded: false,
        })
    }
}

/// What the end of a section must know of its queue.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) id: QueueId,
    /// Whether something of the queue outlives a restart, so that its settlements must be known then.
    pub(super) durable: bool,
    /// The number of the present interval, see [`super::interval`].
    pub(super) interval: u32,
    pub(super) store: &'a MessageStore,
}

impl Guarded {
    /// The dead letters of the queue, deleted or not.
    pub(super) fn letters(&mut self) -> Option<&mut Letters> {
        match (&mut self.state, &mut self.departure) {
            (Some(state), _) => Some(&mut state.letters),
            (None, departure) => departure.as_mut().map(|departure| &mut departure.letters),
        }
    }

    /// Ends a hold of the lock: marks and journals what the state let go of, tells the node's budget, reports a
    /// deadline that is earlier than the last one. With an `appender` of the caller's it all lands in its frame.
    pub(super) fn end_section(
        &mut self,
        section: Section<'_>,
        appender: Option<&mut Appender<'_>>,
        fx: &mut Effects,
    ) {
        for position in fx.delivered.drain(..) {
            self.log.delivered(position);
        }
        let has_news = !fx.settled.is_empty() || !fx.requeued.is_empty() || fx.purged.is_some();
        if has_news {
            let journal = section.store.journal();
            // Clients that give back what they got again and again must not fill the memory while nothing can be written: counts that a
            // crash may lose in any case are not worth it.
            let is_congested =
                !fx.requeued.is_empty() && journal.backlog_bytes() >= COUNTS_BACKLOG_BYTES_MAX;
            match appender {
                _ if !section.durable => self.note(section.id, None, is_congested, fx),
                Some(appender) => self.note(section.id, Some(appender), is_congested, fx),
                None => self.note(section.id, Some(&mut journal.append()), is_congested, fx),
            }
        }
        if let Some(state) = &mut self.state {
            state.settle_budget();
        }
        // A queue that has counted nothing yet has no history to begin.
        let has_counted =
            self.touched_in != 0 || self.state.as_ref().is_some_and(QueueState::has_counted);
        if has_counted && self.touched_in != section.interval {
            fx.touched.push((section.id, self.touched_in == 0));
            self.touched_in = section.interval;
        }
        self.arm(section.id, fx);
    }

    fn note(
        &mut self,
        id: QueueId,
        mut appender: Option<&mut Appender<'_>>,
        is_congested: bool,
        fx: &mut Effects,
    ) {
        // A message may come back and be dropped in one hold of the lock.
        if !fx.requeued.is_empty() {
            for (position, acquired, failed) in &fx.requeued {
                self.log.requeued(*position, *acquired, *failed);
            }
            if let Some(appender) = &mut appender
                && !is_congested
            {
                appender.requeued(id, &fx.requeued);
            }
            fx.requeued.clear();
        }
        if !fx.settled.is_empty() {
            // In order they make the fewest runs.
            fx.settled.sort_unstable();
            let mut runs = Vec::with_capacity(1);
            for (position, body_bytes) in fx.settled.drain(..) {
                self.log.settle(position, body_bytes, &mut runs);
            }
            if let Some(appender) = &mut appender
                && !runs.is_empty()
            {
                appender.settled(id, &runs);
            }
        }
        if let Some(purge) = fx.purged.take() {
            let purged = self.log.purge(&purge.survivors);
            if let Some(appender) = &mut appender {
                appender.purged(id, &purged.last, &purged.survivors);
            }
        }
    }

    /// Reports the next deadline if it is earlier than what was reported before.
    pub(super) fn arm(&mut self, id: QueueId, fx: &mut Effects) {
        let next = self.state.as_ref().and_then(QueueState::poll_timeout);
        if let Some(next_ms) = next
            && next_ms < self.armed_ms
        {
            self.armed_ms = next_ms;
            fx.deadlines.push((id, next_ms));
        }
    }
}
