//! Is what a client declares again the same as what exists? The texts of "inequivalent arg".
//!
//! In: what is and what was asked for; out: nothing, or the refusal 406. Which fields matter is the
//! caller's business. Source: `rabbit_misc:assert_args_equivalence/4`, `assert_field_equivalence/4`.

use std::fmt::{Display, Write as _};

use super::Refusal;
use crate::protocol::{FieldTable, Value};

/// The argument that names a queue's type; absent means classic.
const QUEUE_TYPE: &str = "x-queue-type";

/// Compares a plain field: a flag, or the type of an exchange.
///
/// # Errors
/// 406 if they differ.
pub fn check_field<T: PartialEq + Display + ?Sized>(
    field: &str,
    resource: &str,
    current: &T,
    asked: &T,
) -> Result<(), Refusal> {
    if current == asked {
        return Ok(());
    }
    Err(inequivalent(
        field,
        resource,
        &format!("'{asked}'"),
        &format!("'{current}'"),
    ))
}

/// Compares the arguments named `keys`, in that order.
///
/// # Errors
/// 406 for the first that differs.
pub fn check_arguments(
    resource: &str,
    current: &FieldTable,
    asked: &FieldTable,
    keys: &[&str],
) -> Result<(), Refusal> {
    keys.iter()
        .try_for_each(|key| check_argument(key, resource, current.get(key), asked.get(key)))
}

fn check_argument(
    key: &str,
    resource: &str,
    current: Option<&Value>,
    asked: Option<&Value>,
) -> Result<(), Refusal> {
    let (asked_text, current_text) = match (current, asked) {
        (None, None) => return Ok(()),
        (Some(current), Some(asked)) => {
            if same_value(current, asked) {
                return Ok(());
            }
            (quoted(asked), quoted(current))
        }
        (Some(only), None) | (None, Some(only))
            if key == QUEUE_TYPE && only.as_str() == Some("classic") =>
        {
            return Ok(());
        }
        (current, asked) => (typed(asked), typed(current)),
    };
    Err(inequivalent(key, resource, &asked_text, &current_text))
}

fn inequivalent(key: &str, resource: &str, asked: &str, current: &str) -> Refusal {
    Refusal::precondition_failed(format!(
        "inequivalent arg '{key}' for {resource}: received {asked} but current is {current}"
    ))
}

/// Whether two values are equal once the widths of numbers are forgotten. Values of different types
/// whose terms are equal in Erlang pass too: a timestamp beside an integer, binary beside text.
fn same_value(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => match (a, b) {
            (Value::LongStr(a) | Value::Binary(a), Value::LongStr(b) | Value::Binary(b)) => a == b,
            (Value::F32(a), Value::F64(b)) | (Value::F64(b), Value::F32(a)) => f64::from(*a) == *b,
            _ => a == b,
        },
    }
}

fn number(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp(seconds) => Some(i128::from(*seconds)),
        other => other.as_i64().map(i128::from),
    }
}

fn quoted(value: &Value) -> String {
    format!("'{}'", term(value))
}

fn typed(value: Option<&Value>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!(
            "the value '{}' of type '{}'",
            term(value),
            value.type_name()
        ),
    }
}

/// A value as Erlang prints its term (`~ts` for octets at the top, `~tp` below).
pub fn term(value: &Value) -> String {
    match value {
        Value::LongStr(bytes) | Value::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => nested_term(other),
    }
}

fn nested_term(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::F32(number) => format!("{:?}", f64::from(*number)),
        Value::F64(number) => format!("{number:?}"),
        Value::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        Value::LongStr(bytes) | Value::Binary(bytes) => {
            format!("<<\"{}\">>", String::from_utf8_lossy(bytes))
        }
        Value::Array(values) => list(values.iter().map(typed_term)),
        Value::Table(table) => list(table.iter().map(|(name, value)| {
            format!(
                "{{<<\"{}\">>,{},{}}}",
                name.as_str_lossy(),
                value.type_name(),
                nested_term(value)
            )
        })),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
        integer => integer.as_i64().unwrap_or_default().to_string(),
    }
}

fn typed_term(value: &Value) -> String {
    format!("{{{},{}}}", value.type_name(), nested_term(value))
}

fn list(terms: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, term) in terms.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{term}");
    }
    text.push(']');
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table(fields: &[(&'static str, Value)]) -> FieldTable {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    crate::protocol::ShortString::from_static(name),
                    value.clone(),
                )
            })
            .collect()
    }

    fn refusal(current: &FieldTable, asked: &FieldTable) -> Option<String> {
        let keys = ["x-max-length", "x-queue-type", "x-dead-letter-exchange"];
        check_arguments("queue 'q' in vhost '/'", current, asked, &keys)
            .err()
            .map(|refusal| refusal.text)
    }

    #[test]
    fn a_flag_that_differs_is_named_with_both_values() {
        let refusal = check_field("durable", "queue 'q' in vhost '/'", &true, &false).unwrap_err();
        assert_eq!(
            refusal.text,
            "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
        );
        let refusal =
            check_field("type", "exchange 'foo' in vhost '/'", "direct", "fanout").unwrap_err();
        assert_eq!(
            refusal.text,
            "inequivalent arg 'type' for exchange 'foo' in vhost '/': received 'fanout' but current is 'direct'"
        );
    }

    #[test]
    fn arguments_on_both_sides_are_printed_without_their_type() {
        let ten = table(&[("x-max-length", Value::I32(10))]);
        let twenty = table(&[("x-max-length", Value::I64(20))]);
        assert_eq!(
            refusal(&ten, &twenty).unwrap(),
            "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '20' but current is '10'"
        );
    }

    #[test]
    fn arguments_on_one_side_are_printed_with_their_type() {
        let ten = table(&[("x-max-length", Value::I32(10))]);
        assert_eq!(
            refusal(&ten, &FieldTable::new()).unwrap(),
            "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'"
        );
        let dlx = table(&[("x-dead-letter-exchange", Value::from("dlx"))]);
        assert_eq!(
            refusal(&FieldTable::new(), &dlx).unwrap(),
            "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received the value 'dlx' of type 'longstr' but current is none"
        );
    }

    #[test]
    fn widths_of_integers_do_not_matter_but_floats_do() {
        let int = table(&[("x-max-length", Value::I32(10))]);
        let byte = table(&[("x-max-length", Value::U8(10))]);
        let double = table(&[("x-max-length", Value::F64(10.0))]);
        assert_eq!(refusal(&int, &byte), None);
        assert_eq!(
            refusal(&int, &double).unwrap(),
            "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '10.0' but current is '10'"
        );
    }

    #[test]
    fn no_queue_type_means_classic() {
        let classic = table(&[("x-queue-type", Value::from("classic"))]);
        let quorum = table(&[("x-queue-type", Value::from("quorum"))]);
        assert_eq!(refusal(&classic, &FieldTable::new()), None);
        assert_eq!(refusal(&FieldTable::new(), &classic), None);
        assert!(refusal(&quorum, &FieldTable::new()).is_some());
    }
}
