//! Which objects counted something since the last tick: each puts itself on a list once an interval, so that a tick visits
//! those and no others.
//!
//! The interval is a number that the sampler moves on *before* it takes the list: what counts after that is listed anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::connection::{ChannelStats, ConnectionStats};
use super::exchange::ExchangeStats;
use super::vhost::VhostStats;
use crate::model::QueueId;
use crate::queue::Interval;

/// When an object was listed last.
#[derive(Debug, Default)]
pub struct Mark(AtomicU32);

impl Mark {
    /// Marks the object for `interval`. `None` if it is listed already, else whether this is the first time at all.
    fn set(&self, interval: u32) -> Option<bool> {
        if self.0.load(Ordering::Relaxed) == interval {
            return None;
        }
        let before = self.0.swap(interval, Ordering::Relaxed);
        (before != interval).then_some(before == 0)
    }
}

/// An object that counted something.
#[derive(Clone, Debug)]
pub enum Object {
    /// A queue.
    Queue(QueueId),
    /// A connection.
    Connection(Arc<ConnectionStats>),
    /// A channel.
    Channel(Arc<ChannelStats>),
    /// An exchange.
    Exchange(Arc<ExchangeStats>),
    /// A virtual host.
    Vhost(Arc<VhostStats>),
}

/// A listed object.
#[derive(Clone, Debug)]
pub struct Touched {
    /// Which one.
    pub object: Object,
    /// Whether it never counted before.
    pub is_new: bool,
}

/// The list.
#[derive(Debug, Default)]
pub struct TouchedList {
    interval: Arc<Interval>,
    touched: Mutex<Vec<Touched>>,
}

impl TouchedList {
    /// The interval, for queues, which list themselves in their effects.
    pub fn interval(&self) -> &Arc<Interval> {
        &self.interval
    }

    /// Lists an object unless that was done in this interval.
    pub fn touch(&self, mark: &Mark, object: impl FnOnce() -> Object) {
        if let Some(is_new) = mark.set(self.interval.number()) {
            let object = object();
            self.touched.lock().push(Touched { object, is_new });
        }
    }

    /// Lists queues that said that they counted something.
    pub fn touch_queues(&self, queues: impl Iterator<Item = (QueueId, bool)>) {
        self.touched
            .lock()
            .extend(queues.map(|(id, is_new)| Touched {
                object: Object::Queue(id),
                is_new,
            }));
    }

    /// Begins the next interval, and gives the objects of the one that ended.
    pub fn take(&self) -> Vec<Touched> {
        self.interval.advance();
        std::mem::take(&mut self.touched.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_listed_once_an_interval() {
        let list = TouchedList::default();
        let exchange = Arc::new(ExchangeStats::default());
        let touch = || list.touch(&exchange.mark, || Object::Exchange(Arc::clone(&exchange)));
        touch();
        touch();
        let taken: Vec<bool> = list.take().iter().map(|touched| touched.is_new).collect();
        assert_eq!(taken, [true]);
        assert!(list.take().is_empty());
        touch();
        touch();
        let taken: Vec<bool> = list.take().iter().map(|touched| touched.is_new).collect();
        assert_eq!(taken, [false]);
    }
}
