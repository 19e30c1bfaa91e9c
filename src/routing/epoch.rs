//! How a remembered route learns that it no longer holds.
//!
//! In: changes of an exchange; out: a number that moved. It does not tell what changed, and whoever holds
//! an old number has only to ask again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that moves with each change that could send a message elsewhere; clones share it.
///
/// It is written by whoever may change the exchange and read by any thread.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// Makes every route that was seen under the present number stale.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The present number.
    pub fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The present number with the counter, to ask later whether it still holds.
    ///
    /// To be taken before or while what it guards is read, never after.
    pub fn visit(&self) -> Visited {
        Visited {
            epoch: self.clone(),
            seen: self.current(),
        }
    }
}

/// An [`Epoch`] and the number that it had when a route was found.
#[derive(Clone, Debug)]
pub struct Visited {
    epoch: Epoch,
    seen: u64,
}

impl Visited {
    /// Whether nothing has changed since.
    pub fn holds(&self) -> bool {
        self.epoch.current() == self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_holds_until_the_epoch_moves() {
        let epoch = Epoch::default();
        let before = epoch.visit();
        assert!(before.holds());
        epoch.clone().advance();
        assert!(!before.holds());
        assert!(epoch.visit().holds());
    }
}
