//! Time as an argument: taken once a burst by the shell, handed inwards.

use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch.
pub type WallMs = u64;

/// One reading of both clocks.
///
/// Heartbeats and timeouts use `monotonic`; stored deadlines and x-death use `wall_ms`, which the
/// shell stamps as max(last, wall), so that it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// A clock that only goes forward, for intervals.
    pub monotonic: Instant,
    /// Milliseconds since the Unix epoch, for what is stored or shown.
    pub wall_ms: WallMs,
}

impl Now {
    /// The same reading, later by `duration` on both clocks.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self {
            monotonic: self.monotonic + duration,
            wall_ms: self.wall_ms + duration.as_millis() as u64,
        }
    }
}
