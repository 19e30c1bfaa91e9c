//! Shapes that several resources share: measured numbers, times, addresses.
//!
//! In: plain data of the broker. Out: fields of JSON objects, under RabbitMQ's names.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::answer::ApiError;
use super::input::Params;
use crate::broker::stats::{Measure, Range, Ranges};
use crate::model::WallMs;

/// The ranges of a query, such as `lengths_age` and `lengths_incr`; what is no number asks for nothing.
///
/// # Errors
/// 400 for a range that is none, or of more than 500 samples.
pub fn ranges(params: &Params) -> Result<Ranges, ApiError> {
    let range = |prefix: &str| {
        let number = |part: &str| {
            let text = params.get(&format!("{prefix}_{part}"))?;
            text.parse::<i64>().ok()
        };
        let (Some(age), Some(increment)) = (number("age"), number("incr")) else {
            return Ok(None);
        };
        let invalid = || {
            ApiError::bad_request(format!(
                "Invalid range parameters: age {age}, incr {increment}"
            ))
        };
        if age <= 0 || increment <= 0 {
            return Err(invalid());
        }
        Range::new(age as u64, increment as u64)
            .map(Some)
            .map_err(|_| invalid())
    };
    Ok(Ranges {
        lengths: range("lengths")?,
        msg_rates: range("msg_rates")?,
        data_rates: range("data_rates")?,
        node_stats: range("node_stats")?,
    })
}

/// Puts numbers under their names, and their rates and samples under their names with `_details` behind.
pub fn put_measures(fields: &mut Map<String, Value>, measures: &[Measure]) {
    for measure in measures {
        fields.insert(measure.name.to_owned(), measure.value.into());
        fields.insert(format!("{}_details", measure.name), details(measure));
    }
}

/// Numbers as an object of their own.
pub fn measures(measures: &[Measure]) -> Value {
    let mut fields = Map::new();
    put_measures(&mut fields, measures);
    Value::Object(fields)
}

fn details(measure: &Measure) -> Value {
    let mut fields = Map::new();
    fields.insert("rate".to_owned(), measure.rate.into());
    if let Some(history) = &measure.history {
        let samples = history
            .samples
            .iter()
            .map(|it| json!({"sample": it.sample, "timestamp": it.timestamp}));
        fields.insert("samples".to_owned(), samples.collect());
        for (name, value) in [("avg", history.avg), ("avg_rate", history.avg_rate)] {
            if let Some(value) = value {
                fields.insert(name.to_owned(), value.into());
            }
        }
    }
    Value::Object(fields)
}

/// `message_stats` of an object that saw traffic; of others the key is left out.
pub fn put_message_stats(fields: &mut Map<String, Value>, stats: &[Measure]) {
    if !stats.is_empty() {
        fields.insert("message_stats".to_owned(), measures(stats));
    }
}

/// A time as RabbitMQ writes it: `2026-01-31T09:05:00.123+00:00`.
pub fn time(ms: WallMs) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days since 0000-03-01, so that a leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}+00:00",
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1_000 % 60,
        of_day % 1_000
    )
}

/// The address of a peer as text, without its port.
pub fn host(address: SocketAddr) -> String {
    address.ip().to_canonical().to_string()
}

/// What RabbitMQ tells of the memory of an Erlang process, for those who read it.
pub fn garbage_collection() -> Value {
    json!({
        "fullsweep_after": -1,
        "max_heap_size": -1,
        "min_bin_vheap_size": -1,
        "min_heap_size": -1,
        "minor_gcs": -1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rabbitmq_writes_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000+00:00"),
            (951_782_400_000, "2000-02-29T00:00:00.000+00:00"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999+00:00"),
            (1_772_323_200_001, "2026-03-01T00:00:00.001+00:00"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000+00:00"),
        ] {
            assert_eq!(time(ms), text);
        }
    }

    #[test]
    fn ranges_are_read_in_pairs() {
        let ranges = |query: &str| ranges(&Params::parse(query));
        assert_eq!(ranges("lengths_age=60"), Ok(Ranges::default()));
        assert_eq!(
            ranges("lengths_age=x&lengths_incr=5"),
            Ok(Ranges::default())
        );
        let some = ranges("lengths_age=60&lengths_incr=5&node_stats_age=10&node_stats_incr=5");
        assert!(some.is_ok_and(|it| it.lengths.is_some() && it.node_stats.is_some()));
        for query in [
            "msg_rates_age=0&msg_rates_incr=5",
            "msg_rates_age=60&msg_rates_incr=0",
            "msg_rates_age=-60&msg_rates_incr=5",
            "msg_rates_age=501&msg_rates_incr=1",
        ] {
            assert!(ranges(query).is_err(), "{query}");
        }
        assert_eq!(
            ranges("data_rates_age=501&data_rates_incr=1"),
            Err(ApiError::bad_request(
                "Invalid range parameters: age 501, incr 1"
            ))
        );
    }
}
