//! What can be set of the message store.

use std::time::Duration;

/// How the message store works; the defaults are the program's.
#[derive(Clone, Debug)]
pub struct MessageOptions {
    /// Sealed journal files that are left alone. Most messages are consumed before theirs is older than that, and never move.
    pub sealed_files_max: usize,
    /// Bytes of large bodies that sealed journal files may name to be left alone: the bodies stay as long as they are.
    pub sealed_blob_bytes_max: u64,
    /// Bytes at which a segment is sealed.
    pub segment_bytes_max: u64,
    /// Records at which a segment is sealed.
    pub segment_messages_max: u32,
    /// Bodies from this many bytes on that wait in two queues or more are written once, to a file of their own.
    pub shared_body_bytes_min: u32,
    /// How often settled segments are looked for while no journal file fills up.
    pub interval: Duration,
    /// How long after a failure the next attempt is made.
    pub retry: Duration,
    /// Checkpoints run on a thread of their own. Tests run them by hand.
    pub has_thread: bool,
}

impl Default for MessageOptions {
    fn default() -> Self {
        Self {
            sealed_files_max: 2,
            sealed_blob_bytes_max: 32 * 1024 * 1024,
            segment_bytes_max: 16 * 1024 * 1024,
            segment_messages_max: 65_536,
            shared_body_bytes_min: 64 * 1024,
            interval: Duration::from_secs(2),
            retry: Duration::from_secs(1),
            has_thread: true,
        }
    }
}
