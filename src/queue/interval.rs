//! The number of the interval between two looks at what queues counted: a queue tells its caller once an interval that it
//! counted something, and an idle one tells nothing. Who looks, and how often, is not known here.

use std::sync::atomic::{AtomicU32, Ordering};

/// The number of the present interval, from 1.
#[derive(Debug)]
pub struct Interval(AtomicU32);

impl Default for Interval {
    fn default() -> Self {
        Self(AtomicU32::new(1))
    }
}

impl Interval {
    /// The number.
    pub fn number(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins the next interval. After 600 years of intervals of five seconds numbers come again.
    pub fn advance(&self) {
        let next = self.number().checked_add(1).unwrap_or(1);
        self.0.store(next, Ordering::Relaxed);
    }
}
