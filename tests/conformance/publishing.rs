//! What a publish must be, and what is kept of it.

use haremq::protocol::{FieldTable, Method, Properties, Value, basic, frame};

use crate::support::{Node, field_table, headers, short};

fn refuse(properties: &Properties, text: &str) {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", properties, "m");
    client.expect_channel_close(406, &format!("PRECONDITION_FAILED - {text}"), (60, 40));
}

fn expiring(expiration: &str) -> Properties {
    Properties {
        expiration: Some(expiration.into()),
        ..Properties::default()
    }
}

fn from_user(user_id: &str) -> Properties {
    Properties {
        user_id: Some(user_id.into()),
        ..Properties::default()
    }
}

#[test]
fn an_expiration_that_is_no_number_is_406() {
    refuse(&expiring("x"), "invalid expiration 'x': no_integer");
    refuse(&expiring(""), "invalid expiration '': no_integer");
}

#[test]
fn an_expiration_with_a_rest_is_406() {
    refuse(
        &expiring("1.5"),
        "invalid expiration '1.5': {leftover_string,\".5\"}",
    );
}

#[test]
fn a_negative_expiration_is_406() {
    refuse(
        &expiring("-1"),
        "invalid expiration '-1': {value_negative,-1}",
    );
}

#[test]
fn another_users_id_is_406() {
    refuse(
        &from_user("a"),
        "user_id property set to 'a' but authenticated user was 'guest'",
    );
}

#[test]
fn the_users_own_id_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish_with("", "q", &from_user("guest"), "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn an_impersonator_may_use_another_users_id_and_an_administrator_may_not() {
    let node = Node::start();
    node.put_user("i", "p", &["impersonator"]);
    let mut client = node.client_as("i", "p", "/");
    client.declare("q", &[]);
    client.publish_with("", "q", &from_user("a"), "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn a_body_above_the_limit_is_406() {
    let node = Node::start_with(|settings| settings.limits.message_bytes_max = 100);
    let mut client = node.client();
    client.publish("", "q", &"x".repeat(101));
    let text = "PRECONDITION_FAILED - message size 101 is larger than configured max size 100";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn a_body_at_the_limit_is_fine() {
    let node = Node::start_with(|settings| settings.limits.message_bytes_max = 100);
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", &"x".repeat(100));
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn a_header_that_announces_more_than_512_mib_is_501() {
    let node = Node::start();
    let mut client = node.client();
    let mut octets = Vec::new();
    let method = Method::BasicPublish(basic::Publish::default());
    frame::write_method(&mut octets, 1, &method);
    frame::write_content_header(&mut octets, 1, 600 * 1024 * 1024, &[0, 0]);
    client.send_octets(&octets);
    let received = client.next();
    let Method::ConnectionClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(close.reply_code, 501);
}

#[test]
fn all_properties_come_back_as_they_were() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let properties = Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("utf-8".into()),
        headers: Some(field_table(&[("a", 1.into())])),
        delivery_mode: Some(2),
        priority: Some(7),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        expiration: Some("60000".into()),
        message_id: Some("m".into()),
        timestamp: Some(1_700_000_000),
        type_: Some("t".into()),
        user_id: Some("guest".into()),
        app_id: Some("a".into()),
        cluster_id: Some("k".into()),
    };
    client.publish_with("", "q", &properties, "m");
    assert_eq!(client.get_properties("q"), properties);
}

#[test]
fn headers_of_every_type_come_back_as_they_were() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let inner: FieldTable = [("k", Value::from("v"))].into_iter().collect();
    let properties = headers(&[
        ("t", Value::Bool(true)),
        ("b", Value::I8(-8)),
        ("B", Value::U8(200)),
        ("s", Value::I16(-300)),
        ("u", Value::U16(60_000)),
        ("I", Value::I32(-70_000)),
        ("i", Value::U32(4_000_000_000)),
        ("l", Value::I64(i64::MIN)),
        ("f", Value::F32(1.5)),
        ("d", Value::F64(-2.5)),
        (
            "D",
            Value::Decimal {
                scale: 2,
                value: 314,
            },
        ),
        ("S", "text".into()),
        ("x", Value::Binary(vec![0, 255].into())),
        ("A", Value::Array(vec![1.into(), "two".into()])),
        ("T", Value::Timestamp(1_700_000_000)),
        ("F", Value::Table(inner)),
        ("V", Value::Void),
    ]);
    client.publish_with("", "q", &properties, "m");
    assert_eq!(client.get_properties("q"), properties);
}

#[test]
fn a_body_of_many_frames_comes_back_whole() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let body: String = (0..100_000).map(|n| format!("{n};")).collect();
    client.publish("", "q", &body);
    client.expect_contents("q", &[&body]);
}

#[test]
fn a_table_that_cannot_be_read_is_refused_with_a_hard_error() {
    let node = Node::start();
    let mut client = node.client();
    let mut octets = Vec::new();
    let method = Method::BasicPublish(basic::Publish {
        routing_key: short("q"),
        ..basic::Publish::default()
    });
    frame::write_method(&mut octets, 1, &method);
    // The headers' flag, and a table that announces more than there is.
    frame::write_content_header(&mut octets, 1, 0, &[0x20, 0, 0, 0, 1, 0, 3]);
    client.send_octets(&octets);
    let received = client.next();
    let Method::ConnectionClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert!(close.reply_code >= 500);
}
