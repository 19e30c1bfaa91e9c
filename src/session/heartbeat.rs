//! Heartbeats, both ways (specification 4.2.7). How many octets came and went, and the time, come in; whether to send a
//! heartbeat, and whether the peer is dead, goes out.
//!
//! As in `rabbit_heartbeat.erl`, nothing is noted when octets move: two tickers look at the totals, one every half
//! interval to send, one every interval to judge. So a dead peer is known after two to three intervals.

use std::time::{Duration, Instant};

/// Intervals without an octet after which the peer is dead.
const MISSED_MAX: u8 = 2;

/// The two tickers of a connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    send_at: Instant,
    sent_seen: u64,
    receive_at: Instant,
    received_seen: u64,
    missed: u8,
}

/// What a tick asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tick {
    /// Send a heartbeat.
    pub(super) send: bool,
    /// Give the peer up.
    pub(super) is_dead: bool,
}

impl Heartbeat {
    /// Tickers for the negotiated interval, or `None` for 0, which disables both ways.
    pub(super) fn new(heartbeat_s: u16, now: Instant, received_total: u64) -> Option<Self> {
        let interval = Duration::from_secs(u64::from(heartbeat_s));
        (heartbeat_s > 0).then(|| Self {
            interval,
            send_at: now + interval / 2,
            // No total is this one, so the first tick sends, as RabbitMQ's does.
            sent_seen: u64::MAX,
            receive_at: now + interval,
            received_seen: received_total,
            missed: 0,
        })
    }

    /// When to tick next.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.send_at.min(self.receive_at)
    }

    /// Looks at the totals. `is_reading` is false while the session does not want input, when silence proves nothing.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        sent_total: u64,
        received_total: u64,
        is_reading: bool,
    ) -> Tick {
        let mut tick = Tick::default();
        if now >= self.send_at {
            self.send_at = now + self.interval / 2;
            tick.send = self.sent_seen == sent_total || self.sent_seen == u64::MAX;
            self.sent_seen = sent_total;
        }
        if now >= self.receive_at {
            self.receive_at = now + self.interval;
            if received_total != self.received_seen || !is_reading {
                self.received_seen = received_total;
                self.missed = 0;
            } else {
                self.missed += 1;
                tick.is_dead = self.missed >= MISSED_MAX;
            }
        }
        tick
    }

    /// Notes what the total will be once a heartbeat of our own is sent, so that it does not count as other traffic.
    pub(super) fn heartbeat_written(&mut self, sent_total: u64) {
        self.sent_seen = sent_total;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn zero_disables() {
        assert!(Heartbeat::new(0, Instant::now(), 0).is_none());
    }

    #[test]
    fn a_silent_peer_is_dead_between_two_and_three_intervals() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(10, start, 5).unwrap();
        let tick = |heartbeat: &mut Heartbeat, s: u64, received| {
            heartbeat.handle_timeout(start + Duration::from_secs(s), 0, received, true)
        };
        assert!(!tick(&mut heartbeat, 10, 6).is_dead);
        assert!(!tick(&mut heartbeat, 20, 6).is_dead);
        assert!(tick(&mut heartbeat, 30, 6).is_dead);
    }

    #[test]
    fn any_octet_is_life_and_so_is_not_reading() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(10, start, 0).unwrap();
        for n in 1..20 {
            let now = start + Duration::from_secs(10 * n);
            assert!(!heartbeat.handle_timeout(now, 0, n / 2, true).is_dead);
        }
        for n in 20..40 {
            let now = start + Duration::from_secs(10 * n);
            assert!(!heartbeat.handle_timeout(now, 0, 10, false).is_dead);
        }
    }

    #[test]
    fn sends_at_half_the_interval_when_nothing_else_was_sent() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(10, start, 0).unwrap();
        let mut tick =
            |s: u64, sent| heartbeat.handle_timeout(start + Duration::from_secs(s), sent, s, true);
        assert!(tick(5, 100).send, "the first tick always sends");
        assert!(tick(10, 100).send);
        assert!(!tick(15, 200).send, "other octets were sent");
        assert!(tick(20, 200).send);
    }
}
