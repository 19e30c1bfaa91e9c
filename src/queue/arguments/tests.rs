//! Every argument with the text of its refusal, and what declared again means.

use super::super::settings::{CONSUMER_TIMEOUT_MS_DEFAULT, EffectiveSettings};
use super::*;
use crate::protocol::ReplyCode;
use crate::protocol::ShortString;

fn table(fields: &[(&'static str, Value)]) -> FieldTable {
    fields
        .iter()
        .map(|(name, value)| (ShortString::from_static(name), value.clone()))
        .collect()
}

fn parse(fields: &[(&'static str, Value)]) -> Result<QueueSettings, Refusal> {
    QueueSettings::parse("q", "/", QueueKind::Classic, &table(fields))
}

/// Checks the text of the refusal after `invalid arg '…' for queue 'q' in vhost '/'`.
fn check(kind: &str, argument: &'static str, value: Value, expected: Option<&str>) {
    let result = parse(&[
        ("x-queue-type", Value::from(kind)),
        (argument, value.clone()),
    ]);
    let expected =
        expected.map(|rest| format!("invalid arg '{argument}' for queue 'q' in vhost '/'{rest}"));
    let text = result.err().map(|refusal| {
        assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
        refusal.text
    });
    assert_eq!(text, expected, "{kind} {argument} {value:?}");
}

#[test]
fn every_argument_is_checked_with_the_term_that_erlang_prints() {
    let text = |text: &str| Value::from(text);
    let int = Value::I32;
    let rows: &[(&str, &'static str, Value, Option<&str>)] = &[
        ("classic", "x-message-ttl", int(0), None),
        (
            "classic",
            "x-message-ttl",
            int(-1),
            Some(": {value_negative,-1}"),
        ),
        (
            "classic",
            "x-message-ttl",
            Value::I64(315_360_000_000),
            None,
        ),
        (
            "classic",
            "x-message-ttl",
            Value::I64(315_360_000_001),
            Some(": {value_too_large,315360000001}"),
        ),
        (
            "classic",
            "x-message-ttl",
            text("1"),
            Some(": \"expected integer, got longstr\""),
        ),
        ("classic", "x-expires", int(1), None),
        ("classic", "x-expires", int(0), Some(": {value_zero,0}")),
        (
            "classic",
            "x-expires",
            int(-5),
            Some(": {value_negative,-5}"),
        ),
        (
            "classic",
            "x-expires",
            Value::F64(1.0),
            Some(": \"expected integer, got double\""),
        ),
        ("classic", "x-max-length", int(0), None),
        (
            "classic",
            "x-max-length",
            int(-5),
            Some(": {value_negative,-5}"),
        ),
        (
            "classic",
            "x-max-length",
            Value::Timestamp(5),
            Some(": \"expected integer, got timestamp\""),
        ),
        (
            "classic",
            "x-max-length-bytes",
            int(-1),
            Some(": {value_negative,-1}"),
        ),
        ("classic", "x-max-priority", int(255), None),
        (
            "classic",
            "x-max-priority",
            int(256),
            Some(": {max_value_exceeded,256}"),
        ),
        (
            "classic",
            "x-max-priority",
            int(-1),
            Some(": {value_negative,-1}"),
        ),
        ("classic", "x-overflow", text("reject-publish-dlx"), None),
        (
            "classic",
            "x-overflow",
            text("explode"),
            Some(": invalid_overflow"),
        ),
        (
            "classic",
            "x-overflow",
            int(1),
            Some(": {unacceptable_type,signedint}"),
        ),
        ("classic", "x-dead-letter-exchange", text(""), None),
        (
            "classic",
            "x-dead-letter-routing-key",
            text("k"),
            Some(": routing_key_but_no_dlx_defined"),
        ),
        (
            "classic",
            "x-dead-letter-routing-key",
            int(1),
            Some(": {unacceptable_type,signedint}"),
        ),
        (
            "classic",
            "x-single-active-consumer",
            Value::Bool(true),
            None,
        ),
        (
            "classic",
            "x-single-active-consumer",
            text("true"),
            Some(": {unacceptable_type,longstr}"),
        ),
        ("classic", "x-queue-version", int(2), None),
        (
            "classic",
            "x-queue-version",
            int(1),
            Some(": \"unsupported queue version '1'\""),
        ),
        ("classic", "x-queue-mode", text("whatever"), None),
        ("classic", "x-queue-leader-locator", text("balanced"), None),
        (
            "classic",
            "x-queue-leader-locator",
            text("moon"),
            Some(": invalid_queue_locator_arg"),
        ),
        ("classic", "x-my-own", int(1), None),
        (
            "classic",
            "x-delivery-limit",
            int(1),
            Some(" of queue type rabbit_classic_queue"),
        ),
        (
            "classic",
            "x-max-age",
            text("1D"),
            Some(" of queue type rabbit_classic_queue"),
        ),
        (
            "classic",
            "x-consumer-timeout",
            int(-1),
            Some(" of queue type rabbit_classic_queue"),
        ),
        (
            "quorum",
            "x-max-priority",
            int(5),
            Some(" of queue type rabbit_quorum_queue"),
        ),
        (
            "quorum",
            "x-queue-mode",
            text("lazy"),
            Some(" of queue type rabbit_quorum_queue"),
        ),
        (
            "quorum",
            "x-queue-version",
            int(2),
            Some(" of queue type rabbit_quorum_queue"),
        ),
        (
            "quorum",
            "x-queue-master-locator",
            text("x"),
            Some(" of queue type rabbit_quorum_queue"),
        ),
        ("quorum", "x-delivery-limit", int(-1), None),
        (
            "quorum",
            "x-consumer-timeout",
            int(-1),
            Some(": {value_negative,-1}"),
        ),
        (
            "quorum",
            "x-consumer-disconnected-timeout",
            int(-1),
            Some(": {value_negative,-1}"),
        ),
        (
            "quorum",
            "x-quorum-initial-group-size",
            int(0),
            Some(": {value_zero,0}"),
        ),
        ("quorum", "x-quorum-initial-group-size", int(3), None),
        (
            "quorum",
            "x-max-in-memory-length",
            int(-1),
            Some(": {value_negative,-1}"),
        ),
        ("quorum", "x-max-in-memory-bytes", int(1), None),
        (
            "quorum",
            "x-dead-letter-strategy",
            text("at-least-once"),
            None,
        ),
        (
            "quorum",
            "x-dead-letter-strategy",
            text("maybe"),
            Some(": invalid_dlx_strategy"),
        ),
        ("quorum", "x-delayed-retry-type", text("all"), None),
    ];
    for (kind, argument, value, expected) in rows {
        check(kind, argument, value.clone(), *expected);
    }
}

#[test]
fn an_unknown_queue_type_is_refused_and_an_empty_one_is_the_default() {
    for (value, expected) in [
        (Value::from("foo"), "\"unsupported queue type 'foo'\""),
        (Value::from("stream"), "\"unsupported queue type 'stream'\""),
        (Value::I32(1), "{unacceptable_type,signedint}"),
    ] {
        assert_eq!(
            parse(&[("x-queue-type", value)]).unwrap_err().text,
            format!("invalid arg 'x-queue-type' for queue 'q' in vhost '/': {expected}")
        );
    }
    for text in ["", "undefined", "classic"] {
        let settings = parse(&[("x-queue-type", Value::from(text))]).unwrap();
        assert_eq!(settings.kind, QueueKind::Classic);
    }
}

#[test]
fn a_dead_letter_exchange_that_is_no_text_is_refused_first() {
    let refusal = parse(&[
        ("x-dead-letter-exchange", Value::I32(1)),
        ("x-expires", Value::I32(0)),
    ]);
    assert_eq!(
        refusal.unwrap_err().text,
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
    );
}

#[test]
fn the_master_locator_ends_the_connection() {
    let refusal = parse(&[("x-queue-master-locator", Value::from("random"))]).unwrap_err();
    assert_eq!(refusal.code, ReplyCode::InternalError);
    assert!(refusal.text.starts_with(
        "Feature `queue_master_locator` is deprecated.\nBy default, this feature is not permitted anymore.\n"
    ));
}

#[test]
fn quorum_flags_are_refused_in_order() {
    let check = |durable, exclusive, auto_delete| {
        check_quorum_flags("q", "/", durable, exclusive, auto_delete)
            .err()
            .map(|refusal| refusal.text)
    };
    let text = |flag| {
        Some(format!(
            "invalid property '{flag}' for queue 'q' in vhost '/'"
        ))
    };
    assert_eq!(check(true, false, false), None);
    assert_eq!(check(false, true, true), text("auto-delete"));
    assert_eq!(check(false, true, false), text("exclusive-owner"));
    assert_eq!(check(false, false, false), text("non-durable"));
    assert_eq!(
        check_server_named(QueueKind::Quorum).unwrap_err().text,
        "Cannot declare a server-named queue for type rabbit_quorum_queue"
    );
}

#[test]
fn declared_again_the_exclusive_owner_is_compared_first() {
    let ten = table(&[("x-max-length", Value::I32(10)), ("x-mine", Value::I32(1))]);
    let other = table(&[("x-max-length", Value::I64(10)), ("x-mine", Value::I32(2))]);
    let current = Declared {
        durable: true,
        exclusive_owner: None,
        auto_delete: false,
        arguments: &ten,
    };
    let check = |asked| check_equivalence("q", "/", QueueKind::Classic, current, asked);
    assert_eq!(
        check(Declared {
            arguments: &other,
            ..current
        }),
        Ok(())
    );
    let refusal = check(Declared {
        durable: false,
        exclusive_owner: Some(ConnectionId(1)),
        ..current
    });
    assert_eq!(
        refusal.unwrap_err(),
        Refusal::resource_locked(
            "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
        )
    );
    let refusal = check(Declared {
        auto_delete: true,
        ..current
    })
    .unwrap_err();
    assert_eq!(
        refusal.text,
        "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"
    );
}

#[test]
fn a_missing_type_is_written_down_as_the_default_or_as_what_the_flags_allow() {
    let kind = |durable, default_kind| {
        let table = with_queue_type(FieldTable::new(), default_kind, durable, false, false);
        table
            .get("x-queue-type")
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(kind(true, QueueKind::Classic), "classic");
    assert_eq!(kind(true, QueueKind::Quorum), "quorum");
    assert_eq!(kind(false, QueueKind::Quorum), "classic");
}

#[test]
fn arguments_and_policies_are_merged_by_rules_of_their_own() {
    let settings = parse(&[
        ("x-message-ttl", Value::I32(100)),
        ("x-max-length", Value::I32(10)),
        ("x-overflow", Value::from("reject-publish")),
    ]);
    let policy = PolicySettings {
        message_ttl_ms: Some(50),
        max_length: Some(20),
        overflow: Some(Overflow::DropHead),
        dead_letter_exchange: Some("dlx".into()),
        delivery_limit: Some(3),
        ..PolicySettings::default()
    };
    let merged = EffectiveSettings::new(&settings.unwrap(), &policy);
    assert_eq!(merged.message_ttl_ms, Some(50));
    assert_eq!(merged.max_length, 10);
    assert_eq!(merged.overflow, Overflow::RejectPublish);
    assert_eq!(merged.dead_letter_exchange.as_deref(), Some("dlx"));
    assert_eq!(merged.delivery_limit, None);

    let quorum = [
        ("x-queue-type", Value::from("quorum")),
        ("x-overflow", Value::from("reject-publish-dlx")),
        ("x-delivery-limit", Value::I32(-1)),
    ];
    let settings = parse(&quorum).unwrap();
    let alone = EffectiveSettings::new(&settings, &PolicySettings::default());
    assert_eq!(alone.overflow, Overflow::DropHead);
    assert_eq!(alone.delivery_limit, None);
    assert_eq!(alone.consumer_timeout_ms, Some(CONSUMER_TIMEOUT_MS_DEFAULT));
    let merged = EffectiveSettings::new(&settings, &policy);
    assert_eq!(merged.delivery_limit, Some(3));
}

#[test]
fn consume_arguments_are_checked() {
    let parse = |kind, fields: &[(&'static str, Value)]| {
        ConsumeArguments::parse("q", "/", kind, &table(fields)).map_err(|refusal| refusal.text)
    };
    let priority = parse(QueueKind::Classic, &[("x-priority", Value::I8(-3))]);
    assert_eq!(priority.unwrap().priority, -3);
    assert_eq!(
        parse(QueueKind::Classic, &[("x-priority", Value::from("high"))]).unwrap_err(),
        "invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""
    );
    let timeout = [("x-consumer-timeout", Value::I32(10))];
    assert_eq!(
        parse(QueueKind::Quorum, &timeout).unwrap().timeout_ms,
        Some(10)
    );
    assert_eq!(
        parse(QueueKind::Classic, &timeout).unwrap_err(),
        "invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
    );
    assert!(
        parse(
            QueueKind::Classic,
            &[("x-stream-offset", Value::from("first"))]
        )
        .is_err()
    );
    assert!(parse(QueueKind::Classic, &[("x-other", Value::from("first"))]).is_ok());
}
