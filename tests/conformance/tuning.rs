//! What is negotiated, heartbeats, and frames that break the rules.

use haremq::protocol::{FRAME_END, Method, basic, channel, connection, frame, queue};

use crate::support::{Client, Node, short};

fn logged_in(node: &Node) -> Client {
    let mut client = node.socket();
    client.begin();
    client.login("guest", "guest");
    client
}

fn refuse_tune(channel_max: u16, frame_max: u32, text: &str) {
    let node = Node::start();
    let mut client = logged_in(&node);
    client.expect_tune();
    client.tune_ok(channel_max, frame_max, 0);
    // RabbitMQ names connection.tune as the method at fault, not tune-ok.
    client.expect_connection_close(530, &format!("NOT_ALLOWED - {text}"), (10, 30));
}

fn with_heartbeat(node: &Node, heartbeat_s: u16) -> Client {
    let mut client = logged_in(node);
    client.expect_tune();
    client.tune_ok(2047, 131_072, heartbeat_s);
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
    client
}

fn raw_frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind];
    octets.extend_from_slice(&channel.to_be_bytes());
    octets.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    octets.extend_from_slice(payload);
    octets.push(FRAME_END);
    octets
}

#[test]
fn the_offer_is_2047_channels_131072_octets_60_seconds() {
    let node = Node::start();
    let mut client = logged_in(&node);
    client.expect(connection::Tune {
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: 60,
    });
}

#[test]
fn a_frame_max_below_8192_is_530() {
    refuse_tune(
        0x7ff,
        4096,
        "negotiated frame_max = 4096 is lower than the minimum allowed value (8192)",
    );
}

#[test]
fn a_frame_max_above_the_offer_is_530() {
    refuse_tune(
        2047,
        131_073,
        "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
    );
}

#[test]
fn no_frame_max_is_530() {
    refuse_tune(
        2047,
        0,
        "negotiated frame_max = 0 is higher than the maximum allowed value (131072)",
    );
}

#[test]
fn a_channel_max_above_the_offer_is_530() {
    refuse_tune(
        2048,
        131_072,
        "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
    );
}

#[test]
fn no_channel_max_is_530() {
    refuse_tune(
        0,
        131_072,
        "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
    );
}

#[test]
fn a_frame_max_of_8192_splits_bodies() {
    let node = Node::start();
    let mut client = logged_in(&node);
    client.expect_tune();
    client.tune_ok(2047, 8192, 0);
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
    client.open_channel(1);
    client.set_frame_max(8192);
    client.declare("q", &[]);
    let body = "x".repeat(20_000);
    client.publish("", "q", &body);
    client.receive_octets();
    client.send(basic::Get {
        queue: short("q"),
        no_ack: true,
    });
    let octets = client.octets_received();
    let mut lengths = Vec::new();
    let mut at = 0;
    while let Some((frame, taken)) = frame::parse(&octets[at..], 1 << 20).unwrap() {
        if frame.kind == haremq::protocol::FrameKind::Body {
            lengths.push(frame.payload.len());
        }
        at += taken;
    }
    assert_eq!(lengths, [8184, 8184, 3632]);
}

#[test]
fn opening_one_channel_too_many_is_530() {
    let node = Node::start();
    let mut client = logged_in(&node);
    client.expect_tune();
    client.tune_ok(2, 131_072, 0);
    client.send(connection::Open {
        virtual_host: short("/"),
    });
    client.expect(connection::OpenOk);
    client.open_channel(1);
    client.open_channel(2);
    client.on(3).send(channel::Open);
    let text =
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)";
    client.expect_connection_close(530, text, (0, 0));
}

#[test]
fn the_server_sends_heartbeats_when_it_has_nothing_else_to_send() {
    let node = Node::start();
    let mut client = with_heartbeat(&node, 10);
    node.advance(4_999);
    client.expect_nothing();
    node.advance(6_000);
    assert!(client.next().is_heartbeat());
}

#[test]
fn a_peer_that_is_silent_for_more_than_two_intervals_is_hung_up_on() {
    let node = Node::start();
    let mut client = with_heartbeat(&node, 10);
    node.advance(19_000);
    assert!(client.ended().is_none());
    node.advance(21_000);
    assert!(client.ended().is_some());
    while let Some(received) = client.receive() {
        assert!(received.is_heartbeat(), "{}", received.describe());
    }
}

#[test]
fn any_octets_count_as_a_sign_of_life() {
    let node = Node::start();
    let mut client = with_heartbeat(&node, 10);
    for _ in 0..20 {
        node.advance(9_000);
        // A piece of a frame is enough.
        client.send_octets(&raw_frame(8, 0, b"")[..3]);
        node.advance(9_000);
        client.send_octets(&raw_frame(8, 0, b"")[3..]);
        assert!(client.ended().is_none());
    }
}

#[test]
fn a_heartbeat_of_0_disables_both_ways() {
    let node = Node::start();
    let mut client = with_heartbeat(&node, 0);
    node.advance(3_600_000);
    client.expect_nothing();
    assert!(client.ended().is_none());
}

#[test]
fn a_frame_above_frame_max_is_501() {
    let node = Node::start();
    let mut client = node.client();
    let mut octets = Vec::new();
    let method = Method::BasicPublish(basic::Publish::default());
    frame::write_method(&mut octets, 1, &method);
    frame::write_content_header(&mut octets, 1, 200_000, &[0, 0]);
    client.send_octets(&octets);
    client.send_octets(&raw_frame(3, 1, &vec![0; 131_073]));
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}";
    client.expect_connection_close_unanswered(501, text, (0, 0));
}

#[test]
fn eight_octets_above_frame_max_are_forgiven() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.set_frame_max(131_072 + 8);
    client.publish("", "q", &"x".repeat(131_072));
    assert_eq!(client.counts("q"), (1, 0));
}

#[test]
fn a_bad_end_octet_is_501() {
    let node = Node::start();
    let mut client = node.client();
    let mut octets = raw_frame(8, 0, b"");
    *octets.last_mut().unwrap() = 0;
    client.send_octets(&octets);
    let text = "FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,0}";
    client.expect_connection_close_unanswered(501, text, (0, 0));
}

#[test]
fn an_unknown_frame_type_is_501() {
    let node = Node::start();
    let mut client = node.client();
    client.send_octets(&raw_frame(5, 1, b"abc"));
    let text = "FRAME_ERROR - type 5, all octets = <<\"abc\">>: unknown_frame";
    client.expect_connection_close_unanswered(501, text, (0, 0));
}

#[test]
fn a_heartbeat_on_a_channel_is_505() {
    let node = Node::start();
    let mut client = node.client();
    client.send_octets(&raw_frame(8, 1, b""));
    let text = "UNEXPECTED_FRAME - type 8, all octets = <<>>";
    client.expect_connection_close(505, text, (0, 0));
}

#[test]
fn a_header_without_a_method_is_505() {
    let node = Node::start();
    let mut client = node.client();
    let mut octets = Vec::new();
    frame::write_content_header(&mut octets, 1, 3, &[0, 0]);
    client.send_octets(&octets);
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    client.expect_connection_close(505, text, (0, 0));
}

#[test]
fn a_body_without_a_method_is_505() {
    let node = Node::start();
    let mut client = node.client();
    client.send_octets(&raw_frame(3, 1, b"abc"));
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    client.expect_connection_close(505, text, (0, 0));
}

#[test]
fn a_method_instead_of_a_header_is_505() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Publish::default());
    client.send(queue::Declare::default());
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    client.expect_connection_close(505, text, (60, 40));
}

#[test]
fn a_method_instead_of_a_body_is_505() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Publish::default());
    let mut octets = Vec::new();
    frame::write_content_header(&mut octets, 1, 3, &[0, 0]);
    client.send_octets(&octets);
    client.send(queue::Declare::default());
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    client.expect_connection_close(505, text, (60, 40));
}

#[test]
fn a_header_of_another_class_is_505() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Publish::default());
    let mut payload = vec![0, 50, 0, 0];
    payload.extend_from_slice(&0_u64.to_be_bytes());
    payload.extend_from_slice(&[0, 0]);
    client.send_octets(&raw_frame(2, 1, &payload));
    let text =
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead";
    client.expect_connection_close(505, text, (60, 40));
}

#[test]
fn a_content_frame_on_channel_0_is_505() {
    let node = Node::start();
    let mut client = node.client();
    client.send_octets(&raw_frame(3, 0, b"abc"));
    let text = "UNEXPECTED_FRAME - type 3, all octets = <<\"abc\">>";
    client.expect_connection_close(505, text, (0, 0));
}

#[test]
fn an_unknown_method_is_503() {
    let node = Node::start();
    let mut client = node.client();
    client.send_octets(&raw_frame(1, 1, &[0, 90, 0, 77]));
    let text = "COMMAND_INVALID - unimplemented method";
    client.expect_connection_close(503, text, (90, 77));
}

#[test]
fn a_method_with_too_few_octets_is_501() {
    let node = Node::start();
    let mut client = node.client();
    client.send_octets(&raw_frame(1, 1, &[0, 60, 0, 80, 1, 2]));
    let text = "FRAME_ERROR - cannot decode <<1,2>>";
    client.expect_connection_close(501, text, (60, 80));
}

#[test]
fn a_method_that_the_server_sends_is_503() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::BindOk);
    let text = "COMMAND_INVALID - unimplemented method";
    client.expect_connection_close(503, text, (50, 21));
}
