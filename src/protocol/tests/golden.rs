//! Octets written by hand from the specification, so that a mistake made twice is still found.

use crate::protocol::{
    FieldTable, Method, Properties, ReplyCode, ShortStr, Table, basic, channel, connection, frame,
    queue,
};

fn check(method: impl Into<Method<'static>>, channel: u16, expected: &[u8]) {
    let method = method.into();
    let mut out = Vec::new();
    frame::write_method(&mut out, channel, &method);
    assert_eq!(out, expected, "{}", method.name());
    let (frame, consumed) = frame::parse(&out, 4096).unwrap().unwrap();
    assert_eq!((frame.channel, consumed), (channel, expected.len()));
    assert_eq!(Method::parse(frame.payload), Ok(method));
}

fn short(text: &'static str) -> ShortStr<'static> {
    ShortStr::new(text).unwrap()
}

#[test]
fn method_frames() {
    check(
        connection::Tune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        },
        0,
        b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1e\x07\xff\0\x02\0\0\0\x3c\xce",
    );
    check(
        connection::Open {
            virtual_host: short("/"),
        },
        0,
        b"\x01\0\0\0\0\0\x08\0\x0a\0\x28\x01/\0\0\xce",
    );
    check(channel::Open, 7, b"\x01\0\x07\0\0\0\x05\0\x14\0\x0a\0\xce");
    check(
        channel::OpenOk,
        7,
        b"\x01\0\x07\0\0\0\x08\0\x14\0\x0b\0\0\0\0\xce",
    );
    check(
        channel::Close {
            reply_code: ReplyCode::NotFound.code(),
            reply_text: short("NOT_FOUND"),
            class_id: 50,
            method_id: 10,
        },
        1,
        b"\x01\0\x01\0\0\0\x14\0\x14\0\x28\x01\x94\x09NOT_FOUND\0\x32\0\x0a\xce",
    );
    check(
        basic::Publish {
            exchange: short("amq.topic"),
            routing_key: short("a.b"),
            mandatory: true,
            immediate: false,
        },
        1,
        b"\x01\0\x01\0\0\0\x15\0\x3c\0\x28\0\0\x09amq.topic\x03a.b\x01\xce",
    );
    check(
        basic::Deliver {
            consumer_tag: short("ct"),
            delivery_tag: 258,
            redelivered: true,
            exchange: short(""),
            routing_key: short("q"),
        },
        1,
        b"\x01\0\x01\0\0\0\x13\0\x3c\0\x3c\x02ct\0\0\0\0\0\0\x01\x02\x01\0\x01q\xce",
    );
    check(
        basic::Nack {
            delivery_tag: 3,
            multiple: false,
            requeue: true,
        },
        1,
        b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x78\0\0\0\0\0\0\0\x03\x02\xce",
    );
    check(
        queue::Declare {
            queue: short("q"),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: true,
            no_wait: true,
            arguments: Table::from_walked(b"\x05x-maxI\0\0\0\x0a"),
        },
        1,
        b"\x01\0\x01\0\0\0\x18\0\x32\0\x0a\0\0\x01q\x1a\0\0\0\x0b\x05x-maxI\0\0\0\x0a\xce",
    );
}

#[test]
fn content_frames() {
    let properties = Properties {
        content_type: Some("text/plain".into()),
        headers: Some(FieldTable::from_iter([("k", "v")])),
        delivery_mode: Some(2),
        timestamp: Some(1),
        ..Properties::default()
    };
    let encoded = properties.to_encoded();
    assert_eq!(
        encoded,
        b"\xb0\x40\x0atext/plain\0\0\0\x08\x01kS\0\0\0\x01v\x02\0\0\0\0\0\0\0\x01"
    );
    let mut out = Vec::new();
    frame::write_content(&mut out, 1, &encoded, b"hello", 8192);
    let mut expected = b"\x02\0\x01\0\0\0\x2e\0\x3c\0\0\0\0\0\0\0\0\0\x05".to_vec();
    expected.extend_from_slice(&encoded);
    expected.extend_from_slice(b"\xce\x03\0\x01\0\0\0\x05hello\xce");
    assert_eq!(out, expected);
}

#[test]
fn heartbeat_frame() {
    let mut out = Vec::new();
    frame::write_heartbeat(&mut out);
    assert_eq!(out, b"\x08\0\0\0\0\0\0\xce");
}

#[test]
fn reply_codes() {
    let closing_the_channel = [311, 312, 313, 403, 404, 405, 406];
    for code in ReplyCode::ALL {
        assert_eq!(ReplyCode::from_code(code.code()), Some(code));
        let is_soft = code == ReplyCode::Success || closing_the_channel.contains(&code.code());
        assert_eq!(code.is_hard(), !is_soft, "{}", code.name());
    }
    assert_eq!(ReplyCode::from_code(503), Some(ReplyCode::CommandInvalid));
    assert_eq!(ReplyCode::CommandInvalid.name(), "COMMAND_INVALID");
    assert_eq!(ReplyCode::PreconditionFailed.name(), "PRECONDITION_FAILED");
    assert_eq!(ReplyCode::from_code(999), None);
}
