//! Channels: opening, closing, errors that end them, flow.

use haremq::protocol::{Method, Properties, basic, channel, frame, queue};

use crate::support::{Node, short};

#[test]
fn a_channel_opened_twice_is_504() {
    let node = Node::start();
    let mut client = node.client();
    client.send(channel::Open);
    let text = "CHANNEL_ERROR - second 'channel.open' seen";
    client.expect_connection_close(504, text, (20, 10));
}

#[test]
fn a_method_on_a_channel_that_is_not_open_is_504() {
    let node = Node::start();
    let mut client = node.client();
    client.on(2).send(queue::Declare::default());
    let text = "CHANNEL_ERROR - expected 'channel.open'";
    client.expect_connection_close(504, text, (50, 10));
}

#[test]
fn a_publish_on_a_closed_channel_is_504() {
    let node = Node::start();
    let mut client = node.client();
    client.close_channel();
    client.publish("", "q", "x");
    let received = client.next();
    let Method::ConnectionClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(close.reply_code, 504);
    assert_eq!(
        close.reply_text.to_string(),
        "CHANNEL_ERROR - expected 'channel.open'"
    );
}

#[test]
fn a_closed_channel_can_be_opened_again() {
    let node = Node::start();
    let mut client = node.client();
    client.close_channel();
    client.open_channel(1);
    client.declare("q", &[]);
}

#[test]
fn a_soft_error_ends_its_channel_alone() {
    let node = Node::start();
    let mut client = node.client();
    client.open_channel(2);
    client.on(1).try_find("nowhere");
    client.expect_channel_close(404, "NOT_FOUND - no queue 'nowhere' in vhost '/'", (50, 10));
    client.on(2).declare("q", &[]);
}

#[test]
fn frames_for_a_channel_that_the_server_closed_are_ignored_until_close_ok() {
    let node = Node::start();
    let mut client = node.client();
    client.try_find("nowhere");
    assert!(matches!(client.next().method(), Method::ChannelClose(_)));
    client.publish("", "q", "x");
    client.try_declare("q", &[]);
    client.ack(77);
    client.expect_nothing();
    client.send(channel::CloseOk);
    client.open_channel(1);
    client.expect_no_queue("q");
}

#[test]
fn a_channel_close_that_crosses_ours_is_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.try_find("nowhere");
    assert!(matches!(client.next().method(), Method::ChannelClose(_)));
    client.send(channel::Close::default());
    client.expect(channel::CloseOk);
}

#[test]
fn an_error_of_a_publish_comes_later_and_drops_what_follows() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let mut octets = Vec::new();
    for exchange in ["nowhere", ""] {
        let method = Method::BasicPublish(basic::Publish {
            exchange: short(exchange),
            routing_key: short("q"),
            ..basic::Publish::default()
        });
        frame::write_method(&mut octets, 1, &method);
        frame::write_content(&mut octets, 1, &[0, 0], b"x", 131_072);
    }
    client.send_octets(&octets);
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (60, 40));
    client.open_channel(1);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn content_of_two_channels_may_interleave() {
    let node = Node::start();
    let mut client = node.client();
    client.open_channel(2);
    client.declare("q", &[]);
    let properties = Properties::default().to_encoded();
    let method = Method::BasicPublish(basic::Publish {
        routing_key: short("q"),
        ..basic::Publish::default()
    });
    let mut octets = Vec::new();
    for number in [1, 2] {
        frame::write_method(&mut octets, number, &method);
    }
    for number in [1, 2] {
        frame::write_content_header(&mut octets, number, 4, &properties);
    }
    for (number, piece) in [(1, "a1"), (2, "b1"), (2, "b2"), (1, "a2")] {
        frame::write_body(&mut octets, number, piece.as_bytes(), 131_072);
    }
    client.send_octets(&octets);
    client.expect_contents("q", &["b1b2", "a1a2"]);
}

#[test]
fn an_empty_body_has_no_body_frame() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "");
    client.expect_contents("q", &[""]);
}

#[test]
fn flow_active_true_is_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.send(channel::Flow { active: true });
    client.expect(channel::FlowOk { active: true });
}

#[test]
fn flow_active_false_is_540() {
    let node = Node::start();
    let mut client = node.client();
    client.send(channel::Flow { active: false });
    let text = "NOT_IMPLEMENTED - active=false";
    client.expect_connection_close(540, text, (20, 20));
}

#[test]
fn closing_a_channel_removes_its_consumers_and_returns_what_is_unsettled() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "a");
    client.open_channel(2);
    client.consume("q", "c");
    client.expect_delivery("a");
    client.close_channel();
    assert_eq!(client.on(1).counts("q"), (1, 0));
    assert!(client.expect_get("q", "a").redelivered);
}

#[test]
fn delivery_tags_count_from_1_on_each_channel() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.open_channel(2);
    for number in [1, 2] {
        for tag in [1, 2] {
            client.on(number).publish("", "q", "x");
            assert_eq!(client.get("q").delivery_tag, tag);
        }
    }
}
