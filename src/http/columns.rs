//! `columns=a,b.c`: which parts of an object are shown.
//!
//! In: the parameter, a value. Out: the value with the named paths alone (`rabbit_mgmt_util:extract_column_items/2`).

use std::collections::BTreeMap;

use serde_json::Value;

/// Paths that are shown; at the end of a path everything below it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    below: BTreeMap<String, Columns>,
    is_whole: bool,
}

impl Columns {
    /// Reads the parameter.
    pub fn parse(text: &str) -> Self {
        let mut columns = Self::default();
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut at = &mut columns;
            for part in path.split('.').filter(|part| !part.is_empty()) {
                at = at.below.entry(part.to_owned()).or_default();
            }
            at.is_whole = true;
        }
        columns
    }

    /// The fields of which something is shown.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.below.keys().map(String::as_str)
    }

    /// What is left of a value.
    pub fn of(&self, value: Value) -> Value {
        if self.is_whole {
            return value;
        }
        match value {
            Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .filter_map(|(name, value)| {
                        let value = self.below.get(&name)?.of(value);
                        Some((name, value))
                    })
                    .collect(),
            ),
            Value::Array(values) => values.into_iter().map(|value| self.of(value)).collect(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_followed_through_objects_and_lists() {
        let value = json!({
            "name": "q",
            "stats": {"publish": 1, "details": {"rate": 0.5, "samples": []}},
            "list": [{"a": 1, "b": 2}, {"b": 3}],
        });
        for (columns, expected) in [
            ("name", json!({"name": "q"})),
            (
                "stats.details.rate",
                json!({"stats": {"details": {"rate": 0.5}}}),
            ),
            (
                "stats.publish,stats.details.rate",
                json!({"stats": {"publish": 1, "details": {"rate": 0.5}}}),
            ),
            ("list.b,missing", json!({"list": [{"b": 2}, {"b": 3}]})),
            ("stats.publish.deeper", json!({"stats": {"publish": 1}})),
            ("stats,stats.publish", json!({"stats": value["stats"]})),
            ("", json!({})),
        ] {
            assert_eq!(
                Columns::parse(columns).of(value.clone()),
                expected,
                "{columns}"
            );
        }
    }
}
