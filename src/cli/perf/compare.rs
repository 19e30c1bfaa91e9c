//! Two brokers under the same load, in turn, and how their figures relate.
//!
//! In: a scenario for each broker. Out: the ratio of each figure in each round, and the least, the middle and the largest of
//! these. What the figures measure is not known here.

use serde_json::{Map, Value, json};

use super::run::Report;

/// Reports of both brokers, round by round.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Each with the first broker's report and the second's.
    pub rounds: Vec<(Report, Report)>,
}

/// How a figure of the first broker relates to the second's.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// The figure's name in JSON.
    pub key: String,
    /// Medians of the figure itself.
    pub median_a: f64,
    /// Of the second broker.
    pub median_b: f64,
    /// The first broker's figure divided by the second's: least of the rounds.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Comparison {
    /// The ratio of each figure that both brokers have in every round and by which brokers are compared.
    pub fn ratios(&self) -> Vec<Ratio> {
        let Some((first, _)) = self.rounds.first() else {
            return Vec::new();
        };
        let compared = first.figures.0.iter().filter(|figure| figure.is_compared);
        compared
            .filter_map(|figure| self.ratio(&figure.key))
            .collect()
    }

    fn ratio(&self, key: &str) -> Option<Ratio> {
        let pairs: Option<Vec<(f64, f64)>> = self
            .rounds
            .iter()
            .map(|(a, b)| Some((a.figures.get(key)?, b.figures.get(key)?)))
            .collect();
        let pairs = pairs?;
        if pairs.iter().any(|(a, b)| *a <= 0.0 || *b <= 0.0) {
            return None;
        }
        let ratios = sorted(pairs.iter().map(|(a, b)| a / b));
        Some(Ratio {
            key: key.to_owned(),
            median_a: median(&sorted(pairs.iter().map(|(a, _)| *a))),
            median_b: median(&sorted(pairs.iter().map(|(_, b)| *b))),
            min: *ratios.first()?,
            median: median(&ratios),
            max: *ratios.last()?,
        })
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = format!(
            "{:<30}{:>14}{:>14}   {:>8}{:>8}{:>8}\n",
            "median", "A", "B", "A/B min", "median", "max"
        );
        for ratio in self.ratios() {
            table += &format!(
                "{:<30}{:>14}{:>14}   {:>8.3}{:>8.3}{:>8.3}\n",
                ratio.key,
                shown(ratio.median_a),
                shown(ratio.median_b),
                ratio.min,
                ratio.median,
                ratio.max
            );
        }
        table
    }

    /// The object for programs.
    pub fn json(&self) -> Value {
        let ratios: Map<_, _> = self
            .ratios()
            .into_iter()
            .map(|ratio| {
                let object = json!({
                    "median_a": ratio.median_a,
                    "median_b": ratio.median_b,
                    "ratio_min": ratio.min,
                    "ratio_median": ratio.median,
                    "ratio_max": ratio.max,
                });
                (ratio.key, object)
            })
            .collect();
        let rounds = self.rounds.iter();
        let rounds = rounds.map(|(a, b)| json!({"a": a.json(), "b": b.json()}));
        json!({
            "mode": "compare",
            "ratios": ratios,
            "rounds": rounds.collect::<Vec<_>>(),
        })
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values, or between the two middle ones.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// A number with as many digits as it needs.
fn shown(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::figures::{Amount, Figures};
    use super::*;

    fn report(rate: f64, noted: f64) -> Report {
        let mut figures = Figures::default();
        figures.measure("avg_pub_rate", "", Amount::Real(rate, 0), "");
        figures.note("elapsed_seconds", "", Amount::Real(noted, 0), "");
        Report {
            mode: "throughput",
            broker: "h:1".to_owned(),
            figures,
            verdict: None,
        }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let rounds = [(200.0, 100.0), (300.0, 100.0), (100.0, 100.0), (50.0, 20.0)];
        let comparison = Comparison {
            rounds: rounds
                .map(|(a, b)| (report(a, 1.0), report(b, 1.0)))
                .to_vec(),
        };
        let ratios = comparison.ratios();
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].min, ratios[0].max), (1.0, 3.0));
        assert_eq!((ratios[0].median, ratios[0].median_a), (2.25, 150.0));
        let json = comparison.json();
        assert_eq!(json["ratios"]["avg_pub_rate"]["ratio_median"], 2.25);
        assert_eq!(json["rounds"].as_array().unwrap().len(), 4);
        assert!(comparison.table().contains("avg_pub_rate"));
    }

    #[test]
    fn a_figure_of_zero_has_no_ratio() {
        let comparison = Comparison {
            rounds: vec![(report(0.0, 1.0), report(1.0, 1.0))],
        };
        assert!(comparison.ratios().is_empty());
        assert!(Comparison::default().ratios().is_empty());
    }
}
