//! Headers exchanges.

use haremq::protocol::{FieldTable, Value};

use crate::support::{Node, headers};

/// Whether a binding with these arguments lets a message with these headers through.
fn matches(arguments: &[(&str, Value)], fields: &[(&str, Value)]) -> bool {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind_with("q", "amq.headers", "", arguments);
    client.publish_with("amq.headers", "", &headers(fields), "m");
    client.counts("q").0 == 1
}

fn x_match(mode: &str) -> (&'static str, Value) {
    ("x-match", mode.into())
}

#[test]
fn all_wants_every_field() {
    let wants = [x_match("all"), ("a", 1.into()), ("b", "x".into())];
    assert!(matches(&wants, &[("b", "x".into()), ("a", 1.into())]));
    assert!(matches(
        &wants,
        &[("a", 1.into()), ("b", "x".into()), ("c", 0.into())]
    ));
    assert!(!matches(&wants, &[("a", 1.into())]));
    assert!(!matches(&wants, &[("a", 1.into()), ("b", "y".into())]));
}

#[test]
fn all_is_the_default() {
    let wants = [("a", 1.into()), ("b", 2.into())];
    assert!(!matches(&wants, &[("a", 1.into())]));
    assert!(matches(&wants, &wants));
}

#[test]
fn any_wants_one_field() {
    let wants = [x_match("any"), ("a", 1.into()), ("b", 2.into())];
    assert!(matches(&wants, &[("b", 2.into())]));
    assert!(!matches(&wants, &[("b", 1.into()), ("a", 2.into())]));
}

#[test]
fn no_fields_match_all_and_never_any() {
    assert!(matches(&[x_match("all")], &[]));
    assert!(matches(&[], &[("a", 1.into())]));
    assert!(!matches(&[x_match("any")], &[("a", 1.into())]));
}

#[test]
fn a_message_without_headers_matches_all_of_nothing() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.headers", "");
    client.publish("amq.headers", "", "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn a_void_value_tests_presence() {
    let wants = [("a", Value::Void)];
    assert!(matches(&wants, &[("a", 7.into())]));
    assert!(matches(&wants, &[("a", "x".into())]));
    assert!(!matches(&wants, &[("b", 7.into())]));
}

#[test]
fn integers_are_equal_whatever_their_width() {
    assert!(matches(&[("a", Value::I32(5))], &[("a", Value::I64(5))]));
    assert!(matches(&[("a", Value::I8(5))], &[("a", Value::U16(5))]));
}

#[test]
fn numbers_floats_and_texts_are_not_equal() {
    assert!(!matches(&[("a", 1.into())], &[("a", Value::F64(1.0))]));
    assert!(!matches(&[("a", 1.into())], &[("a", "1".into())]));
}

#[test]
fn x_fields_are_skipped() {
    assert!(matches(
        &[("x-mine", 1.into()), ("a", 1.into())],
        &[("a", 1.into())]
    ));
    assert!(!matches(
        &[x_match("any"), ("x-mine", 1.into())],
        &[("x-mine", 1.into())]
    ));
}

#[test]
fn all_with_x_counts_x_fields() {
    let wants = [x_match("all-with-x"), ("x-mine", 1.into())];
    assert!(matches(&wants, &[("x-mine", 1.into())]));
    assert!(!matches(&wants, &[("a", 1.into())]));
}

#[test]
fn any_with_x_counts_x_fields() {
    let wants = [x_match("any-with-x"), ("x-mine", 1.into()), ("a", 1.into())];
    assert!(matches(&wants, &[("x-mine", 1.into())]));
    assert!(!matches(&wants, &[("b", 1.into())]));
}

#[test]
fn tables_and_arrays_compare_by_value() {
    let inner: FieldTable = [("k", Value::from(1))].into_iter().collect();
    let wants = [
        ("t", Value::Table(inner.clone())),
        ("l", Value::Array(vec![1.into()])),
    ];
    assert!(matches(&wants, &wants));
    let other = [
        ("t", Value::Table(inner)),
        ("l", Value::Array(vec![2.into()])),
    ];
    assert!(!matches(&wants, &other));
}

#[test]
fn another_x_match_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.try_bind("q", "amq.headers", "", &[x_match("some")]);
    let text = "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; \
                expected all, any, all-with-x, or any-with-x";
    client.expect_channel_close(406, text, (50, 20));
}

#[test]
fn an_x_match_that_is_no_text_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.try_bind("q", "amq.headers", "", &[("x-match", 1.into())]);
    let text =
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr";
    client.expect_channel_close(406, text, (50, 20));
}

#[test]
fn amq_match_is_a_headers_exchange_too() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind_with("q", "amq.match", "", &[("a", 1.into())]);
    client.publish_with("amq.match", "", &headers(&[("a", 1.into())]), "m");
    client.expect_contents("q", &["m"]);
}
