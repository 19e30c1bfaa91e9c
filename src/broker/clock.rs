//! The node's clock: the only place that reads the operating system's clocks for the core.
//!
//! The wall clock never goes back, so that stored deadlines and x-death times keep their order when the
//! machine's clock is set back; nor does it stand still then, or every time to live would wait until the machine's
//! clock has caught up: it goes on at the pace of the monotonic clock, as Erlang's does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::Now;

/// A monotonic view of both clocks.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    /// The largest difference that was seen between the wall clock and the time since `began`, in milliseconds.
    ahead_ms: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            ahead_ms: AtomicU64::new(0),
        }
    }
}

impl Clock {
    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let monotonic = Instant::now();
        let elapsed_ms = monotonic.duration_since(self.began).as_millis() as u64;
        Now {
            monotonic,
            wall_ms: self.stamp(elapsed_ms, wall_ms),
        }
    }

    /// The wall clock, or what it would show had it not been set back.
    fn stamp(&self, elapsed_ms: u64, wall_ms: u64) -> u64 {
        let ahead_ms = wall_ms.saturating_sub(elapsed_ms);
        let before_ms = self.ahead_ms.fetch_max(ahead_ms, Ordering::Relaxed);
        elapsed_ms + before_ms.max(ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_back_goes_on() {
        let clock = Clock::default();
        assert_eq!(clock.stamp(0, 10_000), 10_000);
        assert_eq!(clock.stamp(10, 400), 10_010);
        assert_eq!(clock.stamp(20, 410), 10_020);
    }

    #[test]
    fn a_wall_clock_an_hour_ahead_is_followed_and_its_return_stops_nothing() {
        let clock = Clock::default();
        assert_eq!(clock.stamp(0, 1_000), 1_000);
        assert_eq!(clock.stamp(5, 3_601_005), 3_601_005);
        assert_eq!(clock.stamp(1_005, 2_005), 3_602_005);
    }
}
