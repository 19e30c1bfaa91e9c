//! What a queue has counted since it was made. Each number grows where the thing happens, and together
//! they balance: see [`Counters::is_balanced`].

/// Counted in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Accepted publishes.
    pub published: u64,
    /// Publishes that a full queue refused.
    pub refused: u64,
    /// Hand-outs to consumers that settle.
    pub delivered: u64,
    /// Hand-outs to consumers that do not.
    pub delivered_no_ack: u64,
    /// `basic.get` with acknowledgement.
    pub got: u64,
    /// `basic.get` without.
    pub got_no_ack: u64,
    /// `basic.get` that found nothing.
    pub get_empty: u64,
    /// Hand-outs of messages that had been handed out before.
    pub redelivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Returned to the queue, by whatever way.
    pub requeued: u64,
    /// Left with reason `rejected`.
    pub rejected: u64,
    /// Left with reason `expired`.
    pub expired: u64,
    /// Dropped from the head of a full queue, reason `maxlen`.
    pub overflowed: u64,
    /// Left with reason `delivery_limit`.
    pub delivery_limited: u64,
    /// Purged, or gone with the queue.
    pub purged: u64,
    /// Taken over from the log after a restart.
    pub recovered: u64,
    /// Could not be read from the log any more.
    pub lost: u64,
    /// Those among the published that went to the log.
    pub log_writes: u64,
    /// Read back from the log.
    pub log_reads: u64,
}

impl Counters {
    /// Accepted messages that are settled or gone.
    pub fn left(&self) -> u64 {
        self.acked
            + self.delivered_no_ack
            + self.got_no_ack
            + self.rejected
            + self.expired
            + self.overflowed
            + self.delivery_limited
            + self.purged
            + self.lost
    }

    /// Whether every accepted message is in exactly one place, given how many are still `inside`.
    pub fn is_balanced(&self, inside: u64) -> bool {
        self.published + self.recovered == self.left() + inside
    }
}
