//! Arguments of queues: which values are refused, and in which words.

use haremq::protocol::{Value, queue};

use crate::support::{Node, short, table};

fn refuse(arguments: &[(&str, Value)], text: &str) {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare("q", arguments);
    client.expect_channel_close(406, &format!("PRECONDITION_FAILED - {text}"), (50, 10));
}

fn refuse_value(argument: &str, value: impl Into<Value>, reason: &str) {
    let text = format!("invalid arg '{argument}' for queue 'q' in vhost '/': {reason}");
    refuse(&[(argument, value.into())], &text);
}

fn accept(arguments: &[(&str, Value)]) {
    Node::start().client().declare("q", arguments);
}

#[test]
fn message_ttl_is_0_or_more() {
    accept(&[("x-message-ttl", 0.into())]);
    refuse_value("x-message-ttl", -1, "{value_negative,-1}");
    refuse_value("x-message-ttl", "1", "\"expected integer, got longstr\"");
}

#[test]
fn expires_is_more_than_0() {
    accept(&[("x-expires", 1.into())]);
    refuse_value("x-expires", 0, "{value_zero,0}");
    refuse_value("x-expires", -5, "{value_negative,-5}");
    refuse_value("x-expires", "1", "\"expected integer, got longstr\"");
}

#[test]
fn max_length_is_0_or_more() {
    accept(&[("x-max-length", 0.into())]);
    refuse_value("x-max-length", -5, "{value_negative,-5}");
    refuse_value("x-max-length", "5", "\"expected integer, got longstr\"");
}

#[test]
fn max_length_bytes_is_0_or_more() {
    accept(&[("x-max-length-bytes", 0.into())]);
    refuse_value("x-max-length-bytes", -5, "{value_negative,-5}");
}

#[test]
fn integers_of_every_width_are_integers() {
    for value in [
        Value::I8(1),
        Value::U8(1),
        Value::I16(1),
        Value::U16(1),
        Value::I32(1),
        Value::U32(1),
        Value::I64(1),
    ] {
        accept(&[("x-max-length", value)]);
    }
}

#[test]
fn overflow_is_one_of_three() {
    for overflow in ["drop-head", "reject-publish", "reject-publish-dlx"] {
        accept(&[("x-overflow", overflow.into())]);
    }
    refuse_value("x-overflow", "explode", "invalid_overflow");
    refuse_value("x-overflow", 1, "{unacceptable_type,signedint}");
}

#[test]
fn dead_letter_exchange_is_a_text() {
    accept(&[("x-dead-letter-exchange", "nowhere".into())]);
    // rabbit_channel looks at it before rabbit_amqqueue does, and has words of its own.
    refuse(
        &[("x-dead-letter-exchange", 7.into())],
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
    );
}

#[test]
fn dead_letter_routing_key_needs_an_exchange() {
    refuse_value(
        "x-dead-letter-routing-key",
        "k",
        "routing_key_but_no_dlx_defined",
    );
}

#[test]
fn max_priority_is_0_to_255() {
    accept(&[("x-max-priority", 255.into())]);
    refuse_value("x-max-priority", 256, "{max_value_exceeded,256}");
    refuse_value("x-max-priority", -1, "{value_negative,-1}");
}

#[test]
fn single_active_consumer_is_a_bool() {
    accept(&[("x-single-active-consumer", true.into())]);
    refuse_value(
        "x-single-active-consumer",
        "true",
        "{unacceptable_type,longstr}",
    );
}

#[test]
fn queue_version_is_2() {
    accept(&[("x-queue-version", 2.into())]);
    refuse_value("x-queue-version", 1, "\"unsupported queue version '1'\"");
}

#[test]
fn queue_mode_is_accepted_and_means_nothing() {
    accept(&[("x-queue-mode", "lazy".into())]);
}

#[test]
fn queue_leader_locator_is_one_of_the_known() {
    accept(&[("x-queue-leader-locator", "client-local".into())]);
    accept(&[("x-queue-leader-locator", "balanced".into())]);
    refuse_value(
        "x-queue-leader-locator",
        "elsewhere",
        "invalid_queue_locator_arg",
    );
}

#[test]
fn queue_type_is_known() {
    accept(&[("x-queue-type", "classic".into())]);
    accept(&[("x-queue-type", "quorum".into())]);
    accept(&[("x-queue-type", "".into())]);
    refuse_value("x-queue-type", "foo", "\"unsupported queue type 'foo'\"");
}

#[test]
fn an_argument_that_no_type_knows_is_accepted() {
    accept(&[("x-mine", "anything".into()), ("mine", 1.into())]);
}

#[test]
fn a_quorum_argument_on_a_classic_queue_is_406() {
    for (argument, value) in [
        ("x-delivery-limit", Value::from(5)),
        ("x-quorum-initial-group-size", 3.into()),
        ("x-dead-letter-strategy", "at-most-once".into()),
    ] {
        refuse(
            &[(argument, value)],
            &format!(
                "invalid arg '{argument}' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
            ),
        );
    }
}

#[test]
fn a_stream_argument_on_a_classic_queue_is_406() {
    refuse(
        &[("x-max-age", "1D".into())],
        "invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_classic_queue",
    );
}

#[test]
fn a_queue_master_locator_is_541() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare("q", &[("x-queue-master-locator", "min-masters".into())]);
    let received = client.next();
    let haremq::protocol::Method::ConnectionClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(close.reply_code, 541);
    assert!(
        close
            .reply_text
            .to_string()
            .starts_with("INTERNAL_ERROR - Feature `queue_master_locator` is deprecated.\n")
    );
}

fn refuse_redeclare(
    current: &[(&str, Value)],
    received: &[(&str, Value)],
    argument: &str,
    difference: &str,
) {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", current);
    client.try_declare("q", received);
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/': {difference}"
    );
    client.expect_channel_close(406, &text, (50, 10));
}

#[test]
fn redeclaring_alike_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    let arguments = [
        ("x-max-length", Value::from(10)),
        ("x-overflow", "reject-publish".into()),
    ];
    client.declare("q", &arguments);
    client.declare("q", &arguments);
}

#[test]
fn redeclaring_with_another_durable_flag_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Declare {
        queue: short("q"),
        ..queue::Declare::default()
    });
    let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
                received 'false' but current is 'true'";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn redeclaring_with_another_auto_delete_flag_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Declare {
        queue: short("q"),
        durable: true,
        auto_delete: true,
        ..queue::Declare::default()
    });
    let text = "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'q' in vhost '/': \
                received 'true' but current is 'false'";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn redeclaring_compares_durable_before_auto_delete_before_arguments() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-max-length", 1.into())]);
    client.send(queue::Declare {
        queue: short("q"),
        auto_delete: true,
        arguments: table(&[]).as_table(),
        ..queue::Declare::default()
    });
    let text = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
                received 'false' but current is 'true'";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn redeclaring_with_another_value_shows_both() {
    refuse_redeclare(
        &[("x-max-length", 10.into())],
        &[("x-max-length", 20.into())],
        "x-max-length",
        "received '20' but current is '10'",
    );
    refuse_redeclare(
        &[("x-overflow", "drop-head".into())],
        &[("x-overflow", "reject-publish".into())],
        "x-overflow",
        "received 'reject-publish' but current is 'drop-head'",
    );
}

#[test]
fn redeclaring_without_an_argument_shows_value_and_type() {
    refuse_redeclare(
        &[("x-max-length", 10.into())],
        &[],
        "x-max-length",
        "received none but current is the value '10' of type 'signedint'",
    );
    refuse_redeclare(
        &[("x-max-length", Value::I64(10))],
        &[],
        "x-max-length",
        "received none but current is the value '10' of type 'long'",
    );
}

#[test]
fn redeclaring_with_a_new_argument_shows_value_and_type() {
    refuse_redeclare(
        &[],
        &[("x-dead-letter-exchange", "dlx".into())],
        "x-dead-letter-exchange",
        "received the value 'dlx' of type 'longstr' but current is none",
    );
    refuse_redeclare(
        &[],
        &[("x-single-active-consumer", true.into())],
        "x-single-active-consumer",
        "received the value 'true' of type 'bool' but current is none",
    );
}

#[test]
fn redeclaring_with_another_width_of_integer_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-max-length", Value::I32(10))]);
    client.declare("q", &[("x-max-length", Value::I64(10))]);
    client.declare("q", &[("x-max-length", Value::U8(10))]);
}

#[test]
fn redeclaring_with_the_default_type_written_out_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare("q", &[("x-queue-type", "classic".into())]);
    client.declare("r", &[("x-queue-type", "classic".into())]);
    client.declare("r", &[]);
}

#[test]
fn redeclaring_as_another_type_is_406() {
    refuse_redeclare(
        &[],
        &[("x-queue-type", "quorum".into())],
        "x-queue-type",
        "received 'quorum' but current is 'classic'",
    );
}

#[test]
fn redeclaring_does_not_compare_arguments_that_the_type_does_not_know() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[("x-mine", 1.into())]);
    client.declare("q", &[("x-mine", 2.into())]);
    client.declare("q", &[]);
}
