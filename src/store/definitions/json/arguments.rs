//! Arguments between field tables and JSON, as RabbitMQ converts them.
//!
//! In and out: a field table, a JSON object. The way to JSON loses types (`rabbit_misc:amqp_table/1`); the
//! way back knows six (`rabbit_misc:to_amqp_table/1`): table, array, long string, long, double, bool.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::ImportError;
use crate::protocol::{FieldTable, Value};

/// Levels of objects and lists that arguments may nest; the wire allows no more.
const DEPTH_MAX: usize = 60;

/// Shows arguments as JSON. Bytes that are no text become base64, a number that JSON does not have becomes
/// null.
pub fn arguments_to_json(arguments: &FieldTable) -> Json {
    let fields = arguments
        .iter()
        .map(|(name, value)| (name.as_str_lossy().into_owned(), value_to_json(value)));
    Json::Object(fields.collect())
}

fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::F32(number) => f64::from(*number).into(),
        Value::F64(number) => (*number).into(),
        // RabbitMQ writes the two numbers of a decimal around the point.
        Value::Decimal { scale, value } => format!("{scale}.{value}")
            .parse::<f64>()
            .map_or(Json::Null, Json::from),
        Value::LongStr(bytes) | Value::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => STANDARD.encode(bytes).into(),
        },
        Value::Array(values) => values.iter().map(value_to_json).collect(),
        Value::Timestamp(seconds) => (*seconds).into(),
        Value::Table(table) => arguments_to_json(table),
        Value::Void => Json::Null,
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_) => value.as_i64().into(),
    }
}

/// Reads arguments from JSON; `path` is their place in the document. An empty list counts as an empty
/// object, because old brokers wrote it so.
///
/// # Errors
/// [`ImportError::Invalid`] names the argument that has no counterpart.
pub fn arguments_from_json(json: &Json, path: &str) -> Result<FieldTable, ImportError> {
    match json {
        Json::Object(object) => table(object, path, 0),
        Json::Array(list) if list.is_empty() => Ok(FieldTable::new()),
        _ => Err(invalid(path, "expected an object")),
    }
}

fn table(object: &Map<String, Json>, path: &str, depth: usize) -> Result<FieldTable, ImportError> {
    const NAME_BYTES_MAX: usize = 255;
    let mut fields = FieldTable::new();
    for (name, json) in object {
        let path = format!("{path}.{name}");
        if name.len() > NAME_BYTES_MAX {
            return Err(invalid(&path, "a name has at most 255 bytes"));
        }
        fields.push(name.as_str(), value_from_json(json, &path, depth)?);
    }
    Ok(fields)
}

fn value_from_json(json: &Json, path: &str, depth: usize) -> Result<Value, ImportError> {
    if depth > DEPTH_MAX {
        return Err(invalid(path, "nested too deeply"));
    }
    Ok(match json {
        Json::Null => return Err(invalid(path, "null is not allowed")),
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::I64(integer),
            (None, Some(double)) if number.is_f64() => Value::F64(double),
            _ => return Err(invalid(path, "the number does not fit into 64 bits")),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => {
            let values = list
                .iter()
                .enumerate()
                .map(|(at, json)| value_from_json(json, &format!("{path}[{at}]"), depth + 1));
            Value::Array(values.collect::<Result<_, _>>()?)
        }
        Json::Object(object) => Value::Table(table(object, path, depth + 1)?),
    })
}

fn invalid(path: &str, reason: &str) -> ImportError {
    ImportError::Invalid {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    #[test]
    fn json_to_arguments_and_back() {
        let json = json!({
            "x-max-length": 10,
            "x-ratio": 0.5,
            "x-flag": true,
            "x-name": "dlx",
            "x-list": [1, "two", [3]],
            "x-table": {"a": {"b": -1}},
        });
        let arguments = arguments_from_json(&json, "arguments").unwrap();
        assert_eq!(arguments.get("x-max-length"), Some(&Value::I64(10)));
        assert_eq!(arguments.get("x-ratio"), Some(&Value::F64(0.5)));
        assert_eq!(arguments_to_json(&arguments), json);
        assert!(arguments_from_json(&json!([]), "a").unwrap().is_empty());
    }

    #[test]
    fn types_that_json_lacks_are_shown_as_rabbitmq_shows_them() {
        for (value, json) in [
            (Value::I8(-1), json!(-1)),
            (Value::U32(u32::MAX), json!(u32::MAX)),
            (Value::Timestamp(u64::MAX), json!(u64::MAX)),
            (
                Value::Decimal {
                    scale: 2,
                    value: 15,
                },
                json!(2.15),
            ),
            (Value::Void, json!(null)),
            (Value::F64(f64::NAN), json!(null)),
            (Value::LongStr(Bytes::from_static(b"\xff")), json!("/w==")),
        ] {
            assert_eq!(value_to_json(&value), json, "{value:?}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_refused_with_its_place() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        for (json, place) in [
            (
                json!({"a": {"b": [1, null]}}),
                "arguments.a.b[1]: null is not allowed",
            ),
            (
                json!({"n": u64::MAX}),
                "arguments.n: the number does not fit into 64 bits",
            ),
            (json!("x"), "arguments: expected an object"),
        ] {
            let error = arguments_from_json(&json, "arguments").unwrap_err();
            assert_eq!(error.to_string(), place);
        }
        let error = arguments_from_json(&json!({"d": deep}), "a").unwrap_err();
        assert!(error.to_string().ends_with("nested too deeply"));
    }
}
