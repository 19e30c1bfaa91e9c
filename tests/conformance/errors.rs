//! The form of errors, and the order in which things are checked.

use haremq::protocol::{Method, Properties, basic, queue};

use crate::support::{Node, headers, short, table};

#[test]
fn a_text_is_cut_at_255_octets() {
    let node = Node::start();
    let mut client = node.client();
    let name = "x".repeat(250);
    client.try_find(&name);
    let received = client.next();
    let Method::ChannelClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(close.reply_code, 404);
    let text = close.reply_text.to_string();
    assert!(text.len() <= 255);
    assert!(text.starts_with("NOT_FOUND - no queue 'xxx"), "{text}");
}

#[test]
fn a_text_that_is_cut_stays_text() {
    let node = Node::start();
    let mut client = node.client();
    client.try_find(&"é".repeat(125));
    let received = client.next();
    let Method::ChannelClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert!(close.reply_text.to_str().is_ok());
}

#[test]
fn the_vhost_is_named() {
    let node = Node::start_with_definitions(
        r#"{"vhosts": [{"name": "other"}], "permissions": [
            {"user": "guest", "vhost": "other", "configure": ".*", "write": ".*", "read": ".*"}
        ]}"#,
    );
    let mut client = node.client_as("guest", "guest", "other");
    client.try_find("q");
    let text = "NOT_FOUND - no queue 'q' in vhost 'other'";
    client.expect_channel_close(404, text, (50, 10));
}

#[test]
fn a_declare_is_checked_for_its_arguments_only_if_it_makes_something() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Declare {
        queue: short("q"),
        durable: true,
        arguments: table(&[("x-max-length", (-1).into())]).as_table(),
        ..queue::Declare::default()
    });
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': \
                received the value '-1' of type 'signedint' but current is none";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn the_size_of_a_body_is_checked_before_its_exchange() {
    let node = Node::start_with(|settings| settings.limits.message_bytes_max = 1);
    let mut client = node.client();
    client.publish("nowhere", "k", "two");
    let text = "PRECONDITION_FAILED - message size 3 is larger than configured max size 1";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn the_exchange_is_checked_before_the_properties() {
    let node = Node::start();
    let mut client = node.client();
    let properties = Properties {
        expiration: Some("x".into()),
        ..Properties::default()
    };
    client.publish_with("nowhere", "k", &properties, "m");
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (60, 40));
}

#[test]
fn the_reply_consumer_is_checked_before_the_expiration() {
    let node = Node::start();
    let mut client = node.client();
    let properties = Properties {
        expiration: Some("x".into()),
        reply_to: Some("amq.rabbitmq.reply-to".into()),
        ..Properties::default()
    };
    client.publish_with("", "k", &properties, "m");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn cc_is_checked_before_the_user_id() {
    let node = Node::start();
    let mut client = node.client();
    let properties = Properties {
        user_id: Some("somebody".into()),
        ..headers(&[("CC", 1.into())])
    };
    client.publish_with("", "k", &properties, "m");
    let text =
        "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",signedint}";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn a_bcc_that_is_no_array_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.publish_with("", "k", &headers(&[("BCC", "b".into())]), "m");
    let text =
        "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"BCC\",longstr}";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn an_unroutable_publish_is_checked_all_the_same() {
    let node = Node::start();
    let mut client = node.client();
    let properties = Properties {
        user_id: Some("somebody".into()),
        ..Properties::default()
    };
    client.publish_with("", "nowhere", &properties, "m");
    let text = "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn a_publish_is_checked_the_second_time_too() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "fine");
    let properties = Properties {
        expiration: Some("x".into()),
        ..Properties::default()
    };
    client.publish_with("", "q", &properties, "m");
    let text = "PRECONDITION_FAILED - invalid expiration 'x': no_integer";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn a_missing_exchange_of_a_binding_is_told_before_a_missing_queue() {
    let node = Node::start();
    let mut client = node.client();
    client.try_bind("no queue", "no exchange", "k", &[]);
    let received = client.next();
    let Method::ChannelClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(
        close.reply_text.to_string(),
        "NOT_FOUND - no exchange 'no exchange' in vhost '/'"
    );
}

#[test]
fn an_exception_on_one_channel_does_not_disturb_a_consumer_on_another() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    client.open_channel(2);
    client.send(basic::Ack {
        delivery_tag: 9,
        multiple: false,
    });
    let text = "PRECONDITION_FAILED - unknown delivery tag 9";
    client.expect_channel_close(406, text, (60, 80));
    client.on(1).publish("", "q", "m");
    client.expect_deliveries(&["m"]);
}

#[test]
fn line_ends_in_names_are_dropped_everywhere() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("a\r\nx", "fanout", &[]);
    client.expect_exchange("ax");
    client.declare("q", &[]);
    client.bind("q\n", "a\nx", "");
    client.publish("ax", "", "m");
    client.try_find("q\r");
    assert_eq!(client.expect_declared("q"), (1, 0));
    client.unbind("\nq", "ax\r", "");
    assert_eq!(client.delete("q\n"), 1);
    client.send(haremq::protocol::exchange::Delete {
        exchange: short("a\rx"),
        ..Default::default()
    });
    client.expect(haremq::protocol::exchange::DeleteOk);
    client.expect_no_exchange("ax");
}
