//! The node's clock: the only place that reads the operating system's clocks for the core.
//!
//! The wall clock is stamped as max(last, wall): it never goes back, so that stored deadlines and
//! x-death times keep their order when the machine's clock is set back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::Now;

/// A monotonic view of both clocks.
#[derive(Debug, Default)]
pub struct Clock {
    wall_ms_last: AtomicU64,
}

impl Clock {
    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        Now {
            monotonic: Instant::now(),
            wall_ms: self.stamp(wall_ms),
        }
    }

    /// max(last, wall).
    fn stamp(&self, wall_ms: u64) -> u64 {
        self.wall_ms_last
            .fetch_max(wall_ms, Ordering::Relaxed)
            .max(wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_back_stands_still() {
        let clock = Clock::default();
        assert_eq!(clock.stamp(1_000), 1_000);
        assert_eq!(clock.stamp(400), 1_000);
        assert_eq!(clock.stamp(1_001), 1_001);
    }

    #[test]
    fn a_wall_clock_an_hour_ahead_is_followed() {
        let clock = Clock::default();
        assert_eq!(clock.stamp(1_000), 1_000);
        assert_eq!(clock.stamp(3_601_000), 3_601_000);
    }
}
