//! How much of the time the consumers of a queue could have taken another message (`consumer_capacity` of the HTTP API).
//!
//! In: whether they can, whenever that may have changed, with the time. Out: a share of the recent past.

use crate::model::WallMs;

/// Time after which what was before counts half.
const WINDOW_MS: u64 = 60_000;

/// The share of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    is_able: bool,
    since_ms: WallMs,
    able_ms: u64,
    known_ms: u64,
}

impl Capacity {
    /// Consumers are able to take a message from now on, or are not.
    pub fn note(&mut self, is_able: bool, now_ms: WallMs) {
        if is_able != self.is_able {
            self.turn(is_able, now_ms);
        }
    }

    /// From 0 to 1; what happens now goes on being true until `now_ms`.
    pub fn share(mut self, now_ms: WallMs) -> f64 {
        let is_able = self.is_able;
        self.turn(is_able, now_ms);
        match self.known_ms {
            0 => f64::from(u8::from(is_able)),
            known_ms => self.able_ms as f64 / known_ms as f64,
        }
    }

    fn turn(&mut self, is_able: bool, now_ms: WallMs) {
        if self.since_ms > 0 {
            let span_ms = now_ms.saturating_sub(self.since_ms);
            self.known_ms += span_ms;
            if self.is_able {
                self.able_ms += span_ms;
            }
            while self.known_ms > WINDOW_MS {
                self.known_ms /= 2;
                self.able_ms /= 2;
            }
        }
        self.since_ms = now_ms;
        self.is_able = is_able;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_time_that_consumers_were_able() {
        let mut capacity = Capacity::default();
        assert_eq!(capacity.share(500), 0.0);
        capacity.note(true, 1_000);
        assert_eq!(capacity.share(1_000), 1.0);
        capacity.note(false, 4_000);
        assert_eq!(capacity.share(5_000), 0.75);
        capacity.note(true, 5_000);
        assert_eq!(capacity.share(5_000), 0.75);
    }

    #[test]
    fn the_past_fades() {
        let mut capacity = Capacity::default();
        capacity.note(true, 1_000);
        capacity.note(false, 31_000);
        assert!(capacity.share(3_631_000) < 0.01);
    }
}
