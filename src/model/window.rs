//! A channel's shared prefetch window (`basic.qos` with `global=true`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::{ConsumerId, QueueId};

/// The unacknowledged deliveries that a channel may have over all its consumers; 0 means no limit.
///
/// Queues reserve a place before they assign a message to a consumer of the channel, and give it back
/// when the delivery is settled or returns. A consumer that was refused is parked here, in the order of
/// refusal, until someone who saw a place become free wakes it: no consumer starves, and no place is
/// given twice.
#[derive(Debug, Default)]
pub struct ChannelWindow {
    limit: AtomicU32,
    outstanding: AtomicU32,
    /// The length of `parked`, to be read without the lock.
    parked_count: AtomicU32,
    parked: Mutex<VecDeque<(QueueId, ConsumerId)>>,
}

impl ChannelWindow {
    /// Sets the limit; what is outstanding stays. The caller then wakes the parked while there is room.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// The limit, 0 for none.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::SeqCst)
    }

    /// Deliveries that hold a place now.
    pub fn outstanding(&self) -> u32 {
        self.outstanding.load(Ordering::SeqCst)
    }

    /// Whether a reservation would be granted now.
    pub fn has_room(&self) -> bool {
        let limit = self.limit();
        limit == 0 || self.outstanding() < limit
    }

    /// Whether consumers wait for a place.
    pub fn has_parked(&self) -> bool {
        self.parked_count.load(Ordering::SeqCst) > 0
    }

    /// Takes a place if there is one.
    #[must_use]
    pub fn try_reserve(&self) -> bool {
        let limit = self.limit();
        if limit == 0 {
            self.outstanding.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        self.outstanding
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                (held < limit).then_some(held + 1)
            })
            .is_ok()
    }

    /// Takes a place for `consumer`, or parks it until [`ChannelWindow::take_parked`] returns it.
    #[must_use]
    pub fn try_reserve_or_park(&self, queue: QueueId, consumer: ConsumerId) -> bool {
        if self.try_reserve() {
            return true;
        }
        let mut parked = self.parked.lock();
        let is_new = !parked.contains(&(queue, consumer));
        if is_new {
            parked.push_back((queue, consumer));
            self.parked_count.fetch_add(1, Ordering::SeqCst);
        }
        // A place given back between the refusal and the parking would wake nobody: ask once more, now
        // that whoever gives one back sees a parked consumer.
        if self.try_reserve() {
            if is_new {
                parked.pop_back();
                self.parked_count.fetch_sub(1, Ordering::SeqCst);
            }
            return true;
        }
        false
    }

    /// Gives a place back.
    pub fn release(&self) {
        let _ = self
            .outstanding
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| {
                Some(held.saturating_sub(1))
            });
    }

    /// The consumer that was refused first: its queue must be told that it is ready.
    pub fn take_parked(&self) -> Option<(QueueId, ConsumerId)> {
        let mut parked = self.parked.lock();
        let first = parked.pop_front()?;
        self.parked_count.fetch_sub(1, Ordering::SeqCst);
        if parked.is_empty() {
            parked.shrink_to_fit();
        }
        Some(first)
    }

    /// Forgets a consumer that ended.
    pub fn forget(&self, consumer: ConsumerId) {
        if !self.has_parked() {
            return;
        }
        let mut parked = self.parked.lock();
        parked.retain(|(_, other)| *other != consumer);
        self.parked_count
            .store(parked.len() as u32, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_first_is_woken_first_and_stands_once_in_the_line() {
        let window = ChannelWindow::default();
        window.set_limit(1);
        let ids = |number| (QueueId(number), ConsumerId(number));
        assert!(window.try_reserve_or_park(QueueId(1), ConsumerId(1)));
        for number in [2, 3, 2] {
            assert!(!window.try_reserve_or_park(QueueId(number), ConsumerId(number)));
        }
        assert!(!window.has_room() && window.has_parked());
        window.release();
        assert!(window.has_room());
        assert_eq!(window.take_parked(), Some(ids(2)));
        window.forget(ConsumerId(3));
        assert_eq!(window.take_parked(), None);
        assert!(!window.has_parked());
    }

    #[test]
    fn without_a_limit_places_are_counted_all_the_same() {
        let window = ChannelWindow::default();
        assert!(window.try_reserve() && window.try_reserve());
        assert_eq!(window.outstanding(), 2);
        window.set_limit(2);
        assert!(!window.try_reserve());
        window.release();
        window.release();
        window.release();
        assert_eq!(window.outstanding(), 0);
    }
}
