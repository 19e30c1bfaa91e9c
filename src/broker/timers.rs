//! The node's deadlines: one heap for all queues, no task a queue or message.
//!
//! A queue's deadline is noted here whenever it becomes earlier; the timer task asks for what is due and lets the
//! queue itself decide and name the next. A queue has one entry at most, and none once it is deleted, so that what
//! is kept is bounded by the queues there are.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{QueueId, WallMs};

/// Deadlines by wall clock, earliest first.
#[derive(Debug, Default)]
pub struct Timers {
    entries: Mutex<Entries>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    by_deadline: BTreeSet<(WallMs, QueueId)>,
    by_queue: HashMap<QueueId, WallMs>,
}

impl Timers {
    /// Notes that `queue` wants to be called at `deadline_ms`, unless it wants to be called earlier anyhow: notes
    /// of two threads may come in another order than they were made.
    pub fn schedule(&self, queue: QueueId, deadline_ms: WallMs) {
        let mut entries = self.entries.lock();
        match entries.by_queue.insert(queue, deadline_ms) {
            Some(known_ms) if known_ms <= deadline_ms => {
                entries.by_queue.insert(queue, known_ms);
                return;
            }
            Some(known_ms) => {
                entries.by_deadline.remove(&(known_ms, queue));
            }
            None => {}
        }
        entries.by_deadline.insert((deadline_ms, queue));
        let is_first = entries.by_deadline.first() == Some(&(deadline_ms, queue));
        drop(entries);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Forgets a queue that was deleted.
    pub fn forget(&self, queue: QueueId) {
        let mut entries = self.entries.lock();
        if let Some(deadline_ms) = entries.by_queue.remove(&queue) {
            entries.by_deadline.remove(&(deadline_ms, queue));
        }
    }

    /// Takes at most `count_max` queues whose deadline has come.
    pub fn take_due(&self, now_ms: WallMs, count_max: usize) -> Vec<QueueId> {
        let mut entries = self.entries.lock();
        let mut due = Vec::new();
        while due.len() < count_max
            && let Some((deadline_ms, queue)) = entries.by_deadline.first().copied()
            && deadline_ms <= now_ms
        {
            entries.by_deadline.pop_first();
            entries.by_queue.remove(&queue);
            due.push(queue);
        }
        if entries.by_queue.is_empty() {
            entries.by_queue.shrink_to(64);
        }
        due
    }

    /// The earliest deadline.
    pub fn next_deadline_ms(&self) -> Option<WallMs> {
        let entries = self.entries.lock();
        entries
            .by_deadline
            .first()
            .map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Returns when a deadline earlier than all others was scheduled.
    pub async fn earlier(&self) {
        self.earlier.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_queues_come_in_order_and_in_bounded_numbers() {
        let timers = Timers::default();
        for (queue, deadline) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
            timers.schedule(QueueId(queue), deadline);
        }
        assert_eq!(timers.next_deadline_ms(), Some(10));
        assert_eq!(timers.take_due(30, 2), vec![QueueId(2), QueueId(3)]);
        assert_eq!(timers.take_due(30, 2), vec![QueueId(1)]);
        assert!(timers.take_due(39, 2).is_empty());
        assert_eq!(timers.next_deadline_ms(), Some(40));
    }

    #[test]
    fn a_queue_has_one_entry_and_it_is_the_earliest() {
        let timers = Timers::default();
        for deadline in (1..1000).rev() {
            timers.schedule(QueueId(1), deadline);
        }
        timers.schedule(QueueId(1), 500);
        assert_eq!(timers.next_deadline_ms(), Some(1));
        assert_eq!(timers.take_due(1000, 10), vec![QueueId(1)]);
        assert_eq!(timers.next_deadline_ms(), None);
    }

    #[test]
    fn a_deleted_queue_leaves_nothing() {
        let timers = Timers::default();
        timers.schedule(QueueId(1), 10);
        timers.schedule(QueueId(2), 20);
        timers.forget(QueueId(1));
        timers.forget(QueueId(3));
        assert_eq!(timers.take_due(100, 10), vec![QueueId(2)]);
    }
}
