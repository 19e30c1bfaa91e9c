//! Numbers as the HTTP API shows them: a value, its rate, and what it was at even distances in the past.
//!
//! In: an object's history, its present values, and the range that somebody asks for. Out: plain numbers; which of them go under which
//! key of a JSON document is not known here.

use std::fmt;

use super::history::{History, TICK_S, Tick};
use crate::model::WallMs;

/// Samples of one range at most, as RabbitMQ bounds them.
const SAMPLES_MAX: u64 = 500;

/// Which part of the past is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    age_s: u64,
    increment_s: u64,
}

/// The age is no multiple of the increment's worth, or asks for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid range parameters: age {age_s}, incr {increment_s}")]
pub struct BadRange {
    age_s: u64,
    increment_s: u64,
}

impl Range {
    /// The last `age_s` seconds, every `increment_s` seconds.
    ///
    /// # Errors
    /// The increment is 0, or there would be more than 500 samples.
    pub fn new(age_s: u64, increment_s: u64) -> Result<Self, BadRange> {
        let bad = BadRange { age_s, increment_s };
        match age_s.checked_div(increment_s) {
            Some(samples) if samples <= SAMPLES_MAX => Ok(Self { age_s, increment_s }),
            _ => Err(bad),
        }
    }

    /// The times of the samples in seconds, the oldest first.
    fn times(&self, now_ms: WallMs) -> Vec<u64> {
        let newest = now_ms / 1_000 / self.increment_s * self.increment_s;
        let oldest = newest.saturating_sub(self.age_s / self.increment_s * self.increment_s);
        (oldest..=newest)
            .step_by(usize::try_from(self.increment_s).unwrap_or(usize::MAX))
            .collect()
    }
}

/// The ranges that a request asks for; without one only the rate is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// For numbers of messages, and churn.
    pub lengths: Option<Range>,
    /// For counted messages.
    pub msg_rates: Option<Range>,
    /// For octets.
    pub data_rates: Option<Range>,
    /// For the node's gauges.
    pub node_stats: Option<Range>,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The value.
    pub sample: u64,
    /// When, in milliseconds since the Unix epoch.
    pub timestamp: WallMs,
}

/// What a number was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// The newest first.
    pub samples: Vec<Sample>,
    /// Their mean; with two samples at least.
    pub avg: Option<f64>,
    /// Change a second between the oldest and the newest; with two samples at least.
    pub avg_rate: Option<f64>,
}

impl Samples {
    fn of(newest_first: Vec<Sample>) -> Self {
        let (Some(newest), Some(oldest)) = (newest_first.first(), newest_first.last()) else {
            return Self::default();
        };
        if newest_first.len() < 2 {
            return Self {
                samples: newest_first,
                avg: None,
                avg_rate: None,
            };
        }
        let sum: f64 = newest_first.iter().map(|sample| sample.sample as f64).sum();
        let seconds = (newest.timestamp - oldest.timestamp) as f64 / 1_000.0;
        Self {
            avg: Some(sum / newest_first.len() as f64),
            avg_rate: Some((newest.sample as f64 - oldest.sample as f64) / seconds),
            samples: newest_first,
        }
    }
}

/// A number with its rate, and its past if that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its key; the rest goes under the key with `_details` behind.
    pub name: &'static str,
    /// Now.
    pub value: u64,
    /// Change a second between the last two ticks; 0 if nothing changed since.
    pub rate: f64,
    /// What it was.
    pub history: Option<Samples>,
}

/// A number that is shown: the sum of some columns of the values that are sampled.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Its key.
    pub name: &'static str,
    /// The columns.
    pub parts: &'static [usize],
}

impl Shown {
    /// The sum in `values`.
    pub fn of(&self, values: &[u64]) -> u64 {
        self.parts.iter().map(|column| values[*column]).sum()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// When the last tick was, and the time from the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LastTick {
    /// Its number.
    pub tick: Tick,
    /// Seconds between the last two ticks.
    pub seconds: f64,
}

/// The numbers of an object: `live` are its values now, `history` is what is remembered.
pub fn measure(
    shown: &[Shown],
    live: &[u64],
    history: Option<&History>,
    range: Option<Range>,
    last: LastTick,
    now_ms: WallMs,
) -> Vec<Measure> {
    let mut pasts: Vec<Vec<Sample>> = vec![Vec::new(); shown.len()];
    if let Some(range) = range {
        let times = range.times(now_ms);
        let ticks: Vec<Tick> = times.iter().map(|time| time / TICK_S).collect();
        match history {
            Some(history) => {
                let mut at = times.len() - count_known(history, &ticks);
                history.at(&ticks, |_, values| {
                    let timestamp = times[at] * 1_000;
                    at += 1;
                    for (past, shown) in pasts.iter_mut().zip(shown) {
                        let sample = shown.of(values);
                        past.push(Sample { sample, timestamp });
                    }
                });
            }
            // Nothing has changed for longer than anything is remembered.
            None => {
                for (past, shown) in pasts.iter_mut().zip(shown) {
                    let sample = shown.of(live);
                    past.extend(times.iter().map(|time| Sample {
                        sample,
                        timestamp: time * 1_000,
                    }));
                }
            }
        }
    }
    let recent = history.filter(|history| history.last_tick() == last.tick && last.seconds > 0.0);
    shown
        .iter()
        .zip(pasts)
        .map(|(shown, mut past)| {
            let change: i64 = recent.map_or(0, |history| {
                let parts = shown.parts.iter();
                parts.map(|column| history.change(*column)).sum()
            });
            past.reverse();
            Measure {
                name: shown.name,
                value: shown.of(live),
                rate: if change == 0 {
                    0.0
                } else {
                    change as f64 / last.seconds
                },
                history: range.map(|_| Samples::of(past)),
            }
        })
        .collect()
}

fn count_known(history: &History, ticks: &[Tick]) -> usize {
    let mut known = 0;
    history.at(ticks, |_, _| known += 1);
    known
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::history::OBJECT;
    use super::*;

    const SHOWN: [Shown; 2] = [
        Shown {
            name: "publish",
            parts: &[0],
        },
        Shown {
            name: "both",
            parts: &[0, 1],
        },
    ];

    /// Ticks 200 (1000 s), 201, 202 with 10, 20 and 50 publishes.
    fn history() -> History {
        let mut history = History::new(&OBJECT, 200, &[10, 1], false);
        history.push(201, &[20, 2]);
        history.push(202, &[50, 3]);
        history
    }

    fn last(tick: Tick) -> LastTick {
        LastTick { tick, seconds: 5.0 }
    }

    #[test]
    fn a_rate_is_the_last_change_a_second() {
        let measured = measure(
            &SHOWN,
            &[55, 3],
            Some(&history()),
            None,
            last(202),
            1_011_000,
        );
        assert_eq!(measured[0].value, 55);
        assert_eq!(measured[0].rate, 6.0);
        assert_eq!(measured[1].value, 58);
        assert_eq!(measured[1].rate, 6.2);
        assert_eq!(measured[0].history, None);
    }

    #[test]
    fn a_rate_is_nothing_when_nothing_changed_at_the_last_tick() {
        let measured = measure(
            &SHOWN,
            &[55, 3],
            Some(&history()),
            None,
            last(203),
            1_016_000,
        );
        assert_eq!(measured[0].rate, 0.0);
        let measured = measure(&SHOWN, &[55, 3], None, None, last(203), 1_016_000);
        assert_eq!(measured[0].rate, 0.0);
    }

    #[test]
    fn samples_stand_at_multiples_of_the_increment_newest_first() {
        let range = Range::new(10, 5).unwrap();
        let measured = measure(
            &SHOWN,
            &[50, 3],
            Some(&history()),
            Some(range),
            last(202),
            1_013_000,
        );
        let past = measured[0].history.clone().unwrap();
        let samples: Vec<(u64, u64)> = past
            .samples
            .iter()
            .map(|s| (s.sample, s.timestamp))
            .collect();
        assert_eq!(samples, [(50, 1_010_000), (20, 1_005_000), (10, 1_000_000)]);
        assert_eq!(past.avg_rate, Some(4.0));
        assert_eq!(past.avg, Some(80.0 / 3.0));
    }

    #[test]
    fn two_samples_are_enough_for_an_average() {
        let range = Range::new(10, 10).unwrap();
        let measured = measure(
            &SHOWN,
            &[50, 3],
            Some(&history()),
            Some(range),
            last(202),
            1_013_000,
        );
        let past = measured[1].history.clone().unwrap();
        assert_eq!(past.samples.len(), 2);
        assert_eq!(past.avg_rate, Some(4.2));
    }

    #[test]
    fn what_is_not_remembered_has_no_sample() {
        let range = Range::new(60, 5).unwrap();
        let measured = measure(
            &SHOWN,
            &[50, 3],
            Some(&history()),
            Some(range),
            last(202),
            1_013_000,
        );
        let past = measured[0].history.clone().unwrap();
        assert_eq!(past.samples.len(), 3);
        assert_eq!(past.samples[2].timestamp, 1_000_000);
    }

    #[test]
    fn an_object_that_is_forgotten_has_not_changed() {
        let range = Range::new(10, 5).unwrap();
        let measured = measure(&SHOWN, &[9, 1], None, Some(range), last(202), 1_013_000);
        let past = measured[0].history.clone().unwrap();
        assert!(past.samples.iter().all(|sample| sample.sample == 9));
        assert_eq!(past.avg_rate, Some(0.0));
    }

    #[test]
    fn a_range_is_bounded() {
        assert!(Range::new(500, 1).is_ok());
        let error = Range::new(501, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Invalid range parameters: age 501, incr 1"
        );
        assert!(Range::new(60, 0).is_err());
    }
}
