//! What a reload (SIGHUP) changes in a running broker.
//!
//! In: the settings in use and those just read. Out: the settings in use with all that can change
//! live taken over, and a list that says for each difference whether it holds now. Who asked for the
//! reload, and which parts must be told, is not known here.

use std::fmt;

use super::define::Effect;
use super::table::Settings;

/// What became of a setting that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new value holds now.
    Applied,
    /// The old value holds until the next start.
    NeedsRestart,
    /// The setting is read with a new data folder only.
    FirstBootOnly,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applied => "in use from now on",
            Self::NeedsRestart => "in use from the next start on",
            Self::FirstBootOnly => "without effect: it is read with a new data folder only",
        })
    }
}

/// One setting that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, like `limits.heartbeat_s`.
    pub name: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

impl Change {
    pub(super) fn new(name: &'static str, effect: Effect) -> Self {
        let outcome = match effect {
            Effect::Live => Outcome::Applied,
            Effect::Restart => Outcome::NeedsRestart,
            Effect::FirstBoot => Outcome::FirstBootOnly,
        };
        Self { name, outcome }
    }
}

impl Settings {
    /// Takes over from `new` what can change while the broker runs, and lists every difference.
    pub fn reload_from(&mut self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.take_live(new, &mut changes);
        changes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{LogLevel, Secret};

    #[test]
    fn a_reload_applies_what_can_change_and_names_what_cannot() {
        let mut used = Settings::defaults();
        let mut new = used.clone();
        new.log.level = LogLevel::Debug;
        new.limits.message_bytes_max = 1024;
        new.worker_threads = used.worker_threads + 1;
        new.first_boot.default_pass = Secret::new("other");

        let changes = used.reload_from(&new);

        let change = |name, outcome| Change { name, outcome };
        assert_eq!(
            changes,
            [
                change("worker_threads", Outcome::NeedsRestart),
                change("limits.message_bytes_max", Outcome::Applied),
                change("first_boot.default_pass", Outcome::FirstBootOnly),
                change("log.level", Outcome::Applied),
            ]
        );
        assert_eq!(used.log.level, LogLevel::Debug);
        assert_eq!(used.limits.message_bytes_max, 1024);
        assert_ne!(used.worker_threads, new.worker_threads);
        assert_eq!(used.first_boot.default_pass.expose(), "guest");
    }

    #[test]
    fn the_same_settings_change_nothing() {
        let mut used = Settings::defaults();
        assert_eq!(used.reload_from(&Settings::defaults()), []);
    }
}
