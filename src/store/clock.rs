//! The time of day for names and reports of what was set aside.
//!
//! In: the system's clock. Out: milliseconds. Deadlines of messages do not come from here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 when the clock stands before that.
pub(in crate::store) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
