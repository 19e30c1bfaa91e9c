//! The arguments of bindings and exchanges: in which order they count as equal, and how RabbitMQ compares
//! and prints their values.
//!
//! In: field tables; out: a canonical form, comparisons that look past the wire type, texts. Which
//! arguments mean something is the business of the exchange types.

use std::fmt::Write;
use std::sync::Arc;

use crate::protocol::{FieldTable, Table, Value, ValueRef};

/// The arguments of a binding, sorted by name and encoded: equal bytes are equal arguments
/// (`rabbit_binding.erl`, `sort_args`). Clones share them, and none at all cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingArguments(Arc<[u8]>);

impl BindingArguments {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The arguments, to be read in place.
    pub fn as_table(&self) -> Table<'_> {
        // What we encoded ourselves passes; the walk is only paid by who asks for a binding's arguments.
        Table::new(&self.0).unwrap_or_default()
    }

    /// The arguments, decoded.
    pub fn to_table(&self) -> FieldTable {
        self.as_table().decode()
    }
}

impl From<&FieldTable> for BindingArguments {
    fn from(arguments: &FieldTable) -> Self {
        if arguments.is_empty() {
            return Self::default();
        }
        let mut fields: Vec<_> = arguments.iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        let sorted: FieldTable = fields
            .into_iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut encoded = Vec::new();
        sorted.encode_fields(&mut encoded);
        Self(encoded.into())
    }
}

/// Whether two values are the same to RabbitMQ once their outer types are dropped: 1 as a short is 1 as a
/// long, text is the same whether it is `S` or `x`, but 1 is neither 1.0 nor "1". What arrays and tables
/// hold is compared with its types. Floats are compared by their bits, as Erlang's `=:=` does.
///
/// A timestamp counts as a number. (RabbitMQ multiplies the message's by 1000 before it compares, in
/// `mc_amqpl.erl` `routing_value`, so that a timestamp never matches itself there.)
pub(super) fn is_same(wanted: &Value, given: ValueRef<'_>) -> bool {
    match (wanted, given) {
        (
            Value::LongStr(wanted) | Value::Binary(wanted),
            ValueRef::LongStr(given) | ValueRef::Binary(given),
        ) => **wanted == *given,
        (Value::Bool(wanted), ValueRef::Bool(given)) => *wanted == given,
        (
            Value::Decimal { scale, value },
            ValueRef::Decimal {
                scale: given_scale,
                value: given_value,
            },
        ) => *scale == given_scale && *value == given_value,
        (Value::Array(_), ValueRef::Array(_)) | (Value::Table(_), ValueRef::Table(_)) => {
            *wanted == given.to_value()
        }
        (Value::Void, ValueRef::Void) => true,
        (Value::F32(_) | Value::F64(_), ValueRef::F32(_) | ValueRef::F64(_)) => {
            float_bits(wanted) == given_float_bits(given)
        }
        _ => match (integer(wanted), given_integer(given)) {
            (Some(wanted), Some(given)) => wanted == given,
            _ => false,
        },
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp(seconds) => Some(i128::from(*seconds)),
        other => other.as_i64().map(i128::from),
    }
}

fn given_integer(value: ValueRef<'_>) -> Option<i128> {
    match value {
        ValueRef::Timestamp(seconds) => Some(i128::from(seconds)),
        other => other.as_i64().map(i128::from),
    }
}

fn float_bits(value: &Value) -> Option<u64> {
    match value {
        Value::F32(float) => Some(f64::from(*float).to_bits()),
        Value::F64(float) => Some(float.to_bits()),
        _ => None,
    }
}

fn given_float_bits(value: ValueRef<'_>) -> Option<u64> {
    match value {
        ValueRef::F32(float) => Some(f64::from(float).to_bits()),
        ValueRef::F64(float) => Some(float.to_bits()),
        _ => None,
    }
}

/// A value as Erlang's `~tp` prints it, which is what stands in RabbitMQ's reply texts. Long terms are not
/// broken into lines.
pub(super) fn erlang_term(value: &Value) -> String {
    let mut term = String::new();
    write_term(&mut term, value);
    term
}

fn write_term(term: &mut String, value: &Value) {
    match value {
        Value::Bool(flag) => push(term, flag),
        Value::I8(_) | Value::U8(_) | Value::I16(_) | Value::U16(_) => push_integer(term, value),
        Value::I32(_) | Value::U32(_) | Value::I64(_) => push_integer(term, value),
        Value::Timestamp(_) => push_integer(term, value),
        // The shortest digits that read back as the same number, with a point: Erlang does the same.
        Value::F32(float) => push(term, format_args!("{:?}", f64::from(*float))),
        Value::F64(float) => push(term, format_args!("{float:?}")),
        Value::Decimal { scale, value } => push(term, format_args!("{{{scale},{value}}}")),
        Value::LongStr(bytes) | Value::Binary(bytes) => write_binary(term, bytes),
        Value::Array(values) => {
            term.push('[');
            for (place, value) in values.iter().enumerate() {
                push(
                    term,
                    format_args!("{}{{{},", comma(place), value.type_name()),
                );
                write_term(term, value);
                term.push('}');
            }
            term.push(']');
        }
        Value::Table(table) => {
            term.push('[');
            for (place, (name, value)) in table.iter().enumerate() {
                push(term, format_args!("{}{{", comma(place)));
                write_binary(term, name.as_bytes());
                push(term, format_args!(",{},", value.type_name()));
                write_term(term, value);
                term.push('}');
            }
            term.push(']');
        }
        Value::Void => term.push_str("undefined"),
    }
}

fn push(term: &mut String, shown: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(term, "{shown}");
}

fn push_integer(term: &mut String, value: &Value) {
    if let Some(number) = integer(value) {
        push(term, number);
    }
}

fn comma(place: usize) -> &'static str {
    if place == 0 { "" } else { "," }
}

fn write_binary(term: &mut String, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.is_empty() && text.chars().all(is_printable));
    let Some(text) = text else {
        term.push_str("<<");
        for (place, byte) in bytes.iter().enumerate() {
            push(term, format_args!("{}{byte}", comma(place)));
        }
        term.push_str(">>");
        return;
    };
    term.push_str("<<\"");
    for character in text.chars() {
        match character {
            '"' => term.push_str("\\\""),
            '\\' => term.push_str("\\\\"),
            '\n' => term.push_str("\\n"),
            '\r' => term.push_str("\\r"),
            '\t' => term.push_str("\\t"),
            other => term.push(other),
        }
    }
    term.push('"');
    if !text.is_ascii() {
        term.push_str("/utf8");
    }
    term.push_str(">>");
}

fn is_printable(character: char) -> bool {
    !character.is_control() || matches!(character, '\n' | '\r' | '\t')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn same(wanted: Value, given: Value) -> bool {
        let mut encoded = Vec::new();
        FieldTable::from_iter([("k", given)]).encode_fields(&mut encoded);
        let table = Table::new(&encoded).unwrap();
        is_same(&wanted, table.get("k").unwrap())
    }

    #[test]
    fn values_are_compared_without_their_wire_type() {
        assert!(same(Value::I8(1), Value::I64(1)));
        assert!(same(Value::U32(7), Value::Timestamp(7)));
        assert!(same("a".into(), Value::Binary("a".into())));
        assert!(same(Value::F32(0.5), Value::F64(0.5)));
        assert!(same(Value::Bool(true), Value::Bool(true)));
        let decimal = |value| Value::Decimal { scale: 2, value };
        assert!(same(decimal(5), decimal(5)));

        assert!(!same(Value::I32(1), Value::F64(1.0)));
        assert!(!same(Value::I32(1), "1".into()));
        assert!(!same(Value::I32(1), Value::Bool(true)));
        assert!(!same(Value::F32(0.1), Value::F64(0.1)));
        assert!(!same(Value::I64(-1), Value::Timestamp(u64::MAX)));
        assert!(!same(decimal(5), decimal(6)));
        assert!(!same("a".into(), "b".into()));
        assert!(!same("undefined".into(), Value::Void));
    }

    #[test]
    fn what_arrays_and_tables_hold_is_compared_with_its_types() {
        let array = |value: Value| Value::Array(vec![value]);
        let table = |value: Value| Value::Table(FieldTable::from_iter([("n", value)]));
        assert!(same(array(1i32.into()), array(1i32.into())));
        assert!(!same(array(1i32.into()), array(1i64.into())));
        assert!(same(table(1i32.into()), table(1i32.into())));
        assert!(!same(table(1i32.into()), table(2i32.into())));
        assert!(!same(table(1i32.into()), array(1i32.into())));
    }

    #[test]
    fn arguments_come_back_sorted_by_name() {
        let arguments = FieldTable::from_iter([("b", Value::I32(1)), ("a", "x".into())]);
        let canonical = BindingArguments::from(&arguments);
        let names: Vec<String> = canonical
            .to_table()
            .iter()
            .map(|(name, _)| name.to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert!(!canonical.is_empty());
        assert!(BindingArguments::from(&FieldTable::new()).is_empty());
    }

    #[test]
    fn values_are_printed_as_erlang_prints_them() {
        let check = |value: Value, term: &str| assert_eq!(erlang_term(&value), term);
        check("all".into(), "<<\"all\">>");
        check("".into(), "<<>>");
        check("a\"b\\\n".into(), "<<\"a\\\"b\\\\\\n\">>");
        check("é".into(), "<<\"é\"/utf8>>");
        check(Value::Binary(vec![0, 255].into()), "<<0,255>>");
        check(Value::I32(-1), "-1");
        check(Value::Timestamp(5), "5");
        check(Value::Bool(true), "true");
        check(Value::F64(1.0), "1.0");
        check(Value::Void, "undefined");
        check(Value::Decimal { scale: 1, value: 5 }, "{1,5}");
        check(
            Value::Array(vec![1i32.into(), "a".into()]),
            "[{signedint,1},{longstr,<<\"a\">>}]",
        );
        check(
            FieldTable::from_iter([("k", Value::I64(1)), ("l", Value::Void)]).into(),
            "[{<<\"k\">>,long,1},{<<\"l\">>,void,undefined}]",
        );
    }
}
