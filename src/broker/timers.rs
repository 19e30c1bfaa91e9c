//! The node's deadlines: one heap for all queues, no task a queue or message.
//!
//! A queue's deadline is noted here whenever it moves; the timer task asks for what is due and lets the
//! queue itself decide, so that a stale entry costs one look and nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{QueueId, WallMs};

/// Deadlines by wall clock, earliest first.
#[derive(Debug, Default)]
pub struct Timers {
    heap: Mutex<BinaryHeap<Reverse<(WallMs, QueueId)>>>,
    earlier: Notify,
}

impl Timers {
    /// Notes that `queue` wants to be called at `deadline_ms`.
    pub fn schedule(&self, queue: QueueId, deadline_ms: WallMs) {
        let mut heap = self.heap.lock();
        let is_first = heap
            .peek()
            .is_none_or(|Reverse((first, _))| deadline_ms < *first);
        heap.push(Reverse((deadline_ms, queue)));
        drop(heap);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// Takes at most `count_max` queues whose deadline has come.
    pub fn take_due(&self, now_ms: WallMs, count_max: usize) -> Vec<QueueId> {
        let mut heap = self.heap.lock();
        let mut due = Vec::new();
        while due.len() < count_max {
            match heap.peek() {
                Some(Reverse((deadline_ms, queue))) if *deadline_ms <= now_ms => {
                    due.push(*queue);
                    heap.pop();
                }
                _ => break,
            }
        }
        if heap.is_empty() {
            heap.shrink_to(64);
        }
        due
    }

    /// The earliest deadline.
    pub fn next_deadline_ms(&self) -> Option<WallMs> {
        self.heap
            .lock()
            .peek()
            .map(|Reverse((deadline_ms, _))| *deadline_ms)
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
}
