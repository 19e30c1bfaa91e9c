//! The headers CC and BCC: further routing keys of a message, an extension of RabbitMQ's
//! (sender-selected distribution, `rabbit_basic.erl` `header_routes`).
//!
//! In: the encoded headers; out: the keys, borrowed. That BCC leaves the message before it is delivered
//! is not known here.

use crate::model::Refusal;
use crate::protocol::{Table, ValueRef};

/// The headers that hold routing keys, in the order in which they are used.
const ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];

/// Appends the keys of CC and then those of BCC. What is not a long string in them is passed over.
///
/// # Errors
/// 406 if one of the two headers is not an array.
pub fn extra_routing_keys<'a>(headers: Table<'a>, keys: &mut Vec<&'a [u8]>) -> Result<(), Refusal> {
    for name in ROUTING_HEADERS {
        match headers.get(name) {
            None => {}
            Some(ValueRef::Array(values)) => {
                keys.extend(values.iter().filter_map(|value| match value {
                    ValueRef::LongStr(key) => Some(key),
                    _ => None,
                }))
            }
            Some(other) => {
                return Err(Refusal::precondition_failed(format!(
                    "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                    other.to_value().type_name()
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::{FieldTable, Value};

    fn check(fields: &[(&str, Value)], expected: Result<&[&[u8]], &str>) {
        let headers = fields.iter().cloned().collect::<FieldTable>().to_encoded();
        let mut keys: Vec<&[u8]> = vec![b"first"];
        let outcome = extra_routing_keys(headers.as_table(), &mut keys);
        match expected {
            Ok(expected) => {
                outcome.unwrap();
                assert_eq!(keys[0], b"first");
                assert_eq!(&keys[1..], expected);
            }
            Err(text) => assert_eq!(outcome, Err(Refusal::precondition_failed(text))),
        }
    }

    fn array(keys: &[&str]) -> Value {
        Value::Array(keys.iter().copied().map(Value::from).collect())
    }

    #[test]
    fn keys_of_cc_come_before_those_of_bcc() {
        check(&[], Ok(&[]));
        check(
            &[
                ("BCC", array(&["c"])),
                ("x", 1i32.into()),
                ("CC", array(&["a", "b"])),
            ],
            Ok(&[b"a", b"b", b"c"]),
        );
    }

    #[test]
    fn other_values_in_the_array_are_passed_over() {
        let mixed = Value::Array(vec![1i32.into(), "a".into(), Value::Binary("b".into())]);
        check(&[("CC", mixed)], Ok(&[b"a"]));
    }

    #[test]
    fn another_type_is_refused_with_the_text_of_rabbitmq() {
        check(
            &[("CC", "a".into())],
            Err("invalid message: {unacceptable_type_in_header,\"CC\",longstr}"),
        );
        check(
            &[("CC", array(&["a"])), ("BCC", FieldTable::new().into())],
            Err("invalid message: {unacceptable_type_in_header,\"BCC\",table}"),
        );
    }
}
