//! What a run has measured, as a list of figures: one list for the table, for JSON and for comparing two brokers.
//!
//! In: numbers. Out: lines and JSON. How they were measured stands in docs/perf.md, and in the modes.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::process::Usage;

/// Significant digits of a histogram: an error of at most 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The longest duration that a histogram tells from longer ones: ten days, because each doubling costs 8 KiB.
const DURATION_NS_MAX: u64 = 10 * 86_400 * 1_000_000_000;

/// A number and what it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Things.
    Count(u64),
    /// A measure, with the digits behind the point that the table shows.
    Real(f64, usize),
    /// Octets; the table shows MiB.
    Octets(u64),
}

impl Amount {
    /// The number alone, in the unit of JSON.
    pub fn number(self) -> f64 {
        match self {
            Self::Count(count) | Self::Octets(count) => count as f64,
            Self::Real(value, _) => value,
        }
    }

    fn words(self, unit: &str) -> String {
        match self {
            Self::Count(count) => format!("{count:>12} {unit}"),
            Self::Real(value, digits) => format!("{value:>12.digits$} {unit}"),
            Self::Octets(octets) => format!("{:>12.1} MiB", octets as f64 / f64::from(1 << 20)),
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name in JSON. The names are a contract: tests hold them.
    pub key: String,
    /// Its name in the table.
    pub label: String,
    /// The number.
    pub amount: Amount,
    /// Unit, for the table.
    pub unit: &'static str,
    /// Whether two brokers are compared by it.
    pub is_compared: bool,
}

/// The figures of a run, in the order of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    /// Adds a figure that describes the run.
    pub fn note(&mut self, key: &str, label: &str, amount: Amount, unit: &'static str) {
        self.push(key, label, amount, unit, false);
    }

    /// Adds a figure by which brokers are compared.
    pub fn measure(&mut self, key: &str, label: &str, amount: Amount, unit: &'static str) {
        self.push(key, label, amount, unit, true);
    }

    fn push(&mut self, key: &str, label: &str, amount: Amount, unit: &'static str, compared: bool) {
        self.0.push(Figure {
            key: key.to_owned(),
            label: label.to_owned(),
            amount,
            unit,
            is_compared: compared,
        });
    }

    /// Adds the percentiles of durations in ns, in ms, if there are any.
    pub fn histogram(&mut self, key: &str, label: &str, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let points = [
            ("min", 0.0, false),
            ("median", 0.5, true),
            ("p75", 0.75, false),
            ("p95", 0.95, true),
            ("p99", 0.99, true),
            ("p999", 0.999, true),
            ("max", 1.0, true),
        ];
        for (name, quantile, compared) in points {
            let ns = histogram.value_at_quantile(quantile);
            let key = format!("{key}_{name}_ms");
            let amount = Amount::Real(ns as f64 / 1e6, 4);
            self.push(&key, &format!("{label} {name}"), amount, "ms", compared);
        }
        let key = format!("{key}_count");
        self.note(
            &key,
            &format!("{label} samples"),
            Amount::Count(histogram.len()),
            "",
        );
    }

    /// Adds what the broker and this client have used for so many things.
    pub fn usage(&mut self, used: &Used, things: u64, thing: &'static str, elapsed_seconds: f64) {
        let each_us = |cpu_ns: u64| cpu_ns as f64 / 1e3 / things.max(1) as f64;
        let unit = if thing == "message" {
            "us a message"
        } else {
            "us each"
        };
        if let Some(broker) = &used.broker {
            self.measure(
                &format!("broker_cpu_us_per_{thing}"),
                "broker CPU",
                Amount::Real(each_us(broker.cpu_ns), 3),
                unit,
            );
            let cores = broker.cpu_ns as f64 / 1e9 / elapsed_seconds;
            self.note("broker_cpu_cores", "", Amount::Real(cores, 2), "cores");
            let end = Amount::Octets(broker.resident_bytes);
            self.note("broker_rss_bytes", "broker memory at the end", end, "");
            let max = Amount::Octets(used.broker_resident_bytes_max);
            self.measure("broker_rss_max_bytes", "broker memory at most", max, "");
        }
        self.note(
            &format!("client_cpu_us_per_{thing}"),
            "client CPU",
            Amount::Real(each_us(used.client.cpu_ns), 3),
            unit,
        );
    }

    /// The number of that name.
    pub fn get(&self, key: &str) -> Option<f64> {
        let figure = self.0.iter().find(|figure| figure.key == key)?;
        Some(figure.amount.number())
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for figure in &self.0 {
            let words = figure.amount.words(figure.unit);
            let _ = writeln!(table, "{:<26}{}", figure.label, words.trim_end());
        }
        table
    }

    /// The object for programs.
    pub fn json(&self) -> Map<String, Value> {
        let figures = self.0.iter();
        figures
            .map(|figure| {
                let value = match figure.amount {
                    Amount::Count(count) | Amount::Octets(count) => json!(count),
                    Amount::Real(value, _) => json!(value),
                };
                (figure.key.clone(), value)
            })
            .collect()
    }
}

/// What the two sides have used during a run.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// The broker's CPU time, and its memory at the end; if its process is known.
    pub broker: Option<Usage>,
    /// The broker's largest memory among one reading a second.
    pub broker_resident_bytes_max: u64,
    /// The CPU time of this program.
    pub client: Usage,
}

/// An empty histogram of durations in ns, which grows with the largest.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are among the supported ones")
}

/// Takes note of a duration that occurred so many times.
pub fn record(histogram: &mut Histogram<u64>, ns: u64, times: u64) {
    // A histogram that grows takes every duration up to the longest.
    let _ = histogram.record_n(ns.min(DURATION_NS_MAX), times);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_a_thousandth() {
        let mut durations = histogram();
        for ns in 1..=100_000 {
            record(&mut durations, ns * 1000, 1);
        }
        let mut figures = Figures::default();
        figures.histogram("latency", "latency", &durations);
        let near = |key: &str, expected: f64| {
            let got = figures.get(key).unwrap();
            assert!((got / expected - 1.0).abs() < 0.002, "{key}: {got}");
        };
        near("latency_median_ms", 50.0);
        near("latency_p95_ms", 95.0);
        near("latency_p99_ms", 99.0);
        near("latency_p999_ms", 99.9);
        near("latency_max_ms", 100.0);
        assert_eq!(figures.get("latency_count"), Some(100_000.0));
    }

    #[test]
    fn a_histogram_takes_any_duration() {
        let mut durations = histogram();
        record(&mut durations, 0, 1);
        record(&mut durations, 3_600_000_000_000, 2);
        record(&mut durations, u64::MAX / 2, 1);
        assert_eq!(durations.len(), 4);
        let mut figures = Figures::default();
        figures.histogram("x", "x", &histogram());
        assert!(figures.0.is_empty());
    }

    #[test]
    fn cpu_is_divided_by_messages() {
        let used = Used {
            broker: Some(Usage {
                cpu_ns: 2_000_000,
                resident_bytes: 3 << 20,
            }),
            broker_resident_bytes_max: 4 << 20,
            client: Usage {
                cpu_ns: 1_000_000,
                resident_bytes: 0,
            },
        };
        let mut figures = Figures::default();
        figures.usage(&used, 1000, "message", 0.004);
        assert_eq!(figures.get("broker_cpu_us_per_message"), Some(2.0));
        assert_eq!(figures.get("broker_cpu_cores"), Some(0.5));
        assert_eq!(figures.get("client_cpu_us_per_message"), Some(1.0));
        assert_eq!(figures.json()["broker_rss_bytes"], 3 << 20);
        assert!(figures.table().contains("3.0 MiB"));
        assert!(figures.table().contains("2.000 us a message"));
    }
}
