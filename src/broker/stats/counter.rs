//! Numbers that one writer or several let grow while others read them. All of it is `Relaxed`: a reader may see one number a
//! little earlier than another, never a number that was not there.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds, for the only writer that there is: no locked instruction is needed.
    pub fn add_alone(&self, step: u64) {
        if step > 0 {
            self.0
                .store(self.get().wrapping_add(step), Ordering::Relaxed);
        }
    }

    /// Adds, beside other writers.
    pub fn add(&self, step: u64) {
        if step > 0 {
            self.0.fetch_add(step, Ordering::Relaxed);
        }
    }

    /// Puts another value in its place, for the only writer that there is.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Its value, never below 0.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed).max(0) as u64
    }

    /// Adds, or takes away.
    pub fn add(&self, step: i64) {
        self.0.fetch_add(step, Ordering::Relaxed);
    }
}

/// `parts` beside each other in memory, each far enough from the next that two cores do not wait for one another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(pub T);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_never_negative() {
        let gauge = Gauge::default();
        gauge.add(-2);
        assert_eq!(gauge.get(), 0);
        gauge.add(5);
        assert_eq!(gauge.get(), 3);
    }

    #[test]
    fn counters_grow_and_are_set() {
        let counter = Counter::default();
        counter.add_alone(2);
        counter.add(3);
        assert_eq!(counter.get(), 5);
        counter.set(1);
        assert_eq!(counter.get(), 1);
    }
}
