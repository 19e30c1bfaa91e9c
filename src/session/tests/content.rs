//! Publishes, from whole bursts to single octets.

use super::support::{Client, publish, publish_method, raw_frame, short};
use crate::model::{Refusal, Routing};
use crate::protocol::{FieldTable, Method, Properties, ReplyCode, basic, channel, frame};
use crate::session::SessionSettings;

#[test]
fn a_whole_publish_is_borrowed_from_the_input() {
    let mut client = Client::with_channel();
    client.send_bytes(&publish(1, "ex", "key", false, b"body"));
    client.expect_nothing();
    let seen = &client.executor.published[0];
    assert_eq!(
        (seen.exchange.as_str(), seen.routing_key.as_str()),
        ("ex", "key")
    );
    assert_eq!(seen.body, b"body");
    assert!(seen.was_borrowed);
    assert_eq!(client.executor.flushes, 6, "every burst is flushed");
}

#[test]
fn frames_may_come_in_any_pieces() {
    for size in 1..40 {
        let mut client = Client::with_channel();
        let mut bytes = publish(1, "ex", "key", false, b"first");
        bytes.extend(publish(1, "ex", "key", false, b""));
        bytes.extend(publish_method(1, "", "q", false));
        frame::write_content(&mut bytes, 1, &[0, 0], b"in several frames", 14);
        for piece in bytes.chunks(size) {
            client.send_bytes(piece);
        }
        let bodies: Vec<&[u8]> = client.executor.published.iter().map(|s| &*s.body).collect();
        assert_eq!(bodies, [&b"first"[..], b"", b"in several frames"]);
        assert!(!client.executor.published[2].was_borrowed);
        client.expect_nothing();
    }
}

#[test]
fn contents_of_channels_may_mix() {
    let mut client = Client::with_channel();
    client.open_channel(2);
    let mut bytes = publish_method(1, "", "one", false);
    bytes.extend(publish_method(2, "", "two", false));
    frame::write_content_header(&mut bytes, 1, 4, &[0, 0]);
    frame::write_content_header(&mut bytes, 2, 4, &[0, 0]);
    frame::write_body(&mut bytes, 1, b"1", 0);
    frame::write_body(&mut bytes, 2, b"2222", 0);
    frame::write_body(&mut bytes, 1, b"111", 0);
    client.send_bytes(&bytes);
    let seen: Vec<_> = client
        .executor
        .published
        .iter()
        .map(|seen| (seen.channel, &*seen.body, seen.was_borrowed))
        .collect();
    assert_eq!(seen, [(2, &b"2222"[..], true), (1, b"1111", false)]);
}

#[test]
fn empty_body_frames_are_no_end() {
    let mut client = Client::with_channel();
    let mut bytes = publish_method(1, "", "q", false);
    frame::write_content_header(&mut bytes, 1, 2, &[0, 0]);
    bytes.extend(raw_frame(3, 1, b""));
    bytes.extend(raw_frame(3, 1, b"a"));
    bytes.extend(raw_frame(3, 1, b""));
    bytes.extend(raw_frame(3, 1, b"b"));
    client.send_bytes(&bytes);
    assert_eq!(client.executor.published[0].body, b"ab");
}

#[track_caller]
fn check_bad_content(bytes: &[u8], code: ReplyCode, text: &str) {
    let mut client = Client::with_channel();
    client.send_bytes(&[publish_method(1, "", "q", false), bytes.to_vec()].concat());
    assert_eq!(client.expect_connection_close(code, text), (60, 40));
    assert!(client.executor.published.is_empty());
}

#[test]
fn what_does_not_belong_into_a_content_ends_the_connection() {
    let mut header = Vec::new();
    frame::write_content_header(&mut header, 1, 2, &[0, 0]);
    let method = publish_method(1, "", "q", false);
    let code = ReplyCode::UnexpectedFrame;
    let no_header = "UNEXPECTED_FRAME - expected content header for class 60, \
                     got non content header frame instead";
    check_bad_content(&method, code, no_header);
    check_bad_content(&raw_frame(3, 1, b"x"), code, no_header);
    let weight = [0, 60, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check_bad_content(&raw_frame(2, 1, &weight), code, no_header);
    let class = [0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check_bad_content(
        &raw_frame(2, 1, &class),
        code,
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
    );
    let no_body = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    check_bad_content(&[header.clone(), method].concat(), code, no_body);
    check_bad_content(&[header.clone(), header.clone()].concat(), code, no_body);
    check_bad_content(
        &[header, raw_frame(3, 1, b"xyz")].concat(),
        ReplyCode::FrameError,
        "FRAME_ERROR - content body frame exceeds remaining content size",
    );
    check_bad_content(
        &raw_frame(2, 1, &[0, 60]),
        ReplyCode::FrameError,
        "FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame",
    );
    let properties = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 9];
    check_bad_content(
        &raw_frame(2, 1, &properties),
        ReplyCode::SyntaxError,
        "SYNTAX_ERROR - malformed content properties: cannot decode",
    );
}

#[test]
fn a_body_above_the_limit_closes_the_channel_and_is_swallowed() {
    let mut client = Client::with_channel_and(SessionSettings {
        message_bytes_max: 3,
        ..SessionSettings::default()
    });
    client.send_bytes(&publish(1, "", "q", false, b"123"));
    assert_eq!(client.executor.published.len(), 1);
    client.send_bytes(&publish(1, "", "q", false, b"1234"));
    client.expect_channel_close(
        1,
        ReplyCode::PreconditionFailed,
        "PRECONDITION_FAILED - message size 4 is larger than configured max size 3",
    );
    assert_eq!(client.executor.published.len(), 1);
    client.send(1, channel::CloseOk);
    client.open_channel(1);
}

#[test]
fn a_body_above_512_mebibytes_is_a_frame_error() {
    let mut bytes = Vec::new();
    frame::write_content_header(&mut bytes, 1, 536_870_913, &[0, 0]);
    check_bad_content(
        &bytes,
        ReplyCode::FrameError,
        "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912",
    );
}

#[test]
fn immediate_is_not_implemented() {
    let mut client = Client::with_channel();
    client.send(
        1,
        basic::Publish {
            immediate: true,
            ..basic::Publish::default()
        },
    );
    let at_fault = client.expect_connection_close(
        ReplyCode::NotImplemented,
        "NOT_IMPLEMENTED - immediate=true",
    );
    assert_eq!(at_fault, (60, 40));
}

#[test]
fn a_mandatory_publish_without_a_queue_comes_back() {
    let mut client = Client::with_channel();
    let unroutable = || Ok(Routing::Unroutable);
    client.executor.publish_answers = [unroutable(), unroutable()].into();
    client.send_bytes(&publish(1, "ex", "key", false, b"dropped"));
    client.expect_nothing();
    let mut headers = FieldTable::new();
    headers.insert("BCC", "secret");
    headers.insert("kept", 1);
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    let mut bytes = publish_method(1, "ex", "key", true);
    frame::write_content(&mut bytes, 1, &properties.to_encoded(), b"body", 10);
    client.send_bytes(&bytes);
    client.expect(
        1,
        basic::Return {
            reply_code: 312,
            reply_text: short("NO_ROUTE"),
            exchange: short("ex"),
            routing_key: short("key"),
        },
    );
    let (properties, body) = client.expect_content();
    assert_eq!(body, b"body");
    let headers = properties.headers.unwrap();
    assert!(headers.contains("kept") && !headers.contains("BCC"));
}

#[test]
fn a_refused_publish_closes_the_channel_and_the_rest_is_dropped() {
    let mut client = Client::with_channel();
    let refusal = Refusal::not_found("no exchange 'ex' in vhost '/'");
    client.executor.publish_answers.push_back(Err(refusal));
    let one = publish(1, "ex", "key", false, b"x");
    client.send_bytes(&[one.clone(), one].concat());
    client.expect_channel_close(
        1,
        ReplyCode::NotFound,
        "NOT_FOUND - no exchange 'ex' in vhost '/'",
    );
    client.expect_nothing();
    assert_eq!(client.executor.published.len(), 1);
    let method = Method::ChannelCloseOk(channel::CloseOk);
    client.send(1, method);
    assert_eq!(client.session.channel_count(), 0);
}
