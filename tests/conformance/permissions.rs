//! Permissions on names and topics.

use haremq::protocol::{Properties, basic, exchange, queue};

use crate::support::{Client, Node, short};

/// The user `u` with these permissions; guest has made a queue `q`, an exchange `x` and a topic exchange `t`.
fn permitted(node: &Node, configure: &str, write: &str, read: &str) -> Client {
    let mut guest = node.client();
    guest.declare("q", &[]);
    guest.declare_exchange("x", "direct", &[]);
    guest.declare_exchange("t", "topic", &[]);
    node.put_user("u", "p", &[]);
    node.permit("u", configure, write, read);
    node.client_as("u", "p", "/")
}

fn refused(client: &mut Client, operation: &str, resource: &str, at: (u16, u16)) {
    let text = format!(
        "ACCESS_REFUSED - {operation} access to {resource} in vhost '/' refused for user 'u'"
    );
    client.expect_channel_close(403, &text, at);
}

#[test]
fn declaring_a_queue_needs_configure() {
    let node = Node::start();
    let mut client = permitted(&node, "^$", ".*", ".*");
    client.try_declare("mine", &[]);
    refused(&mut client, "configure", "queue 'mine'", (50, 10));
}

#[test]
fn declaring_a_queue_with_dead_letters_needs_read_on_it_and_write_on_the_exchange() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^$", ".*");
    client.try_declare("mine", &[("x-dead-letter-exchange", "x".into())]);
    refused(&mut client, "write", "exchange 'x'", (50, 10));
    node.permit("u", ".*", ".*", "^$");
    client.open_channel(1);
    client.try_declare("mine", &[("x-dead-letter-exchange", "x".into())]);
    refused(&mut client, "read", "queue 'mine'", (50, 10));
}

#[test]
fn deleting_a_queue_needs_configure() {
    let node = Node::start();
    let mut client = permitted(&node, "^$", ".*", ".*");
    client.send(queue::Delete {
        queue: short("q"),
        ..queue::Delete::default()
    });
    refused(&mut client, "configure", "queue 'q'", (50, 40));
}

#[test]
fn declaring_an_exchange_needs_configure() {
    let node = Node::start();
    let mut client = permitted(&node, "^$", ".*", ".*");
    client.try_declare_exchange("mine", "direct", &[]);
    refused(&mut client, "configure", "exchange 'mine'", (40, 10));
}

#[test]
fn declaring_an_exchange_with_an_alternate_needs_read_on_it_and_write_on_the_alternate() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^$", ".*");
    client.try_declare_exchange("mine", "direct", &[("alternate-exchange", "x".into())]);
    refused(&mut client, "write", "exchange 'x'", (40, 10));
    node.permit("u", ".*", ".*", "^$");
    client.open_channel(1);
    client.try_declare_exchange("mine", "direct", &[("alternate-exchange", "x".into())]);
    refused(&mut client, "read", "exchange 'mine'", (40, 10));
}

#[test]
fn deleting_an_exchange_needs_configure() {
    let node = Node::start();
    let mut client = permitted(&node, "^$", ".*", ".*");
    client.send(exchange::Delete {
        exchange: short("x"),
        ..exchange::Delete::default()
    });
    refused(&mut client, "configure", "exchange 'x'", (40, 20));
}

#[test]
fn passive_declare_needs_any_permission() {
    let node = Node::start();
    let mut client = permitted(&node, "^$", "^$", "^q$");
    client.counts("q");
    node.permit("u", "^$", "^x$", "^$");
    client.expect_exchange("x");
    node.permit("u", "^$", "^$", "^$");
    client.try_find("q");
    let received = client.next();
    let haremq::protocol::Method::ChannelClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(close.reply_code, 403);
}

#[test]
fn binding_a_queue_needs_write_on_it_and_read_on_the_exchange() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^$", ".*");
    client.try_bind("q", "x", "k", &[]);
    refused(&mut client, "write", "queue 'q'", (50, 20));
    node.permit("u", ".*", ".*", "^$");
    client.open_channel(1);
    client.try_bind("q", "x", "k", &[]);
    refused(&mut client, "read", "exchange 'x'", (50, 20));
}

#[test]
fn unbinding_a_queue_needs_write_on_it() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^$", ".*");
    client.send(queue::Unbind {
        queue: short("q"),
        exchange: short("x"),
        ..queue::Unbind::default()
    });
    refused(&mut client, "write", "queue 'q'", (50, 50));
}

#[test]
fn binding_an_exchange_needs_write_on_the_destination_and_read_on_the_source() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^$", ".*");
    let bind = exchange::Bind {
        destination: short("x"),
        source: short("t"),
        ..exchange::Bind::default()
    };
    client.send(bind);
    refused(&mut client, "write", "exchange 'x'", (40, 30));
    node.permit("u", ".*", ".*", "^$");
    client.open_channel(1);
    client.send(bind);
    refused(&mut client, "read", "exchange 't'", (40, 30));
}

#[test]
fn publishing_needs_write() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^$", ".*");
    client.publish("x", "k", "m");
    refused(&mut client, "write", "exchange 'x'", (60, 40));
}

#[test]
fn the_default_exchange_is_called_amq_default() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", "^q$", ".*");
    client.publish("", "q", "m");
    refused(&mut client, "write", "exchange 'amq.default'", (60, 40));
    node.permit("u", ".*", "^amq\\.default$", ".*");
    client.open_channel(1);
    client.publish("", "q", "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn consuming_getting_and_purging_need_read() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", "^$");
    client.send(basic::Consume {
        queue: short("q"),
        ..basic::Consume::default()
    });
    refused(&mut client, "read", "queue 'q'", (60, 20));
    client.open_channel(1);
    client.send(basic::Get {
        queue: short("q"),
        no_ack: true,
    });
    refused(&mut client, "read", "queue 'q'", (60, 70));
    client.open_channel(1);
    client.send(queue::Purge {
        queue: short("q"),
        no_wait: false,
    });
    refused(&mut client, "read", "queue 'q'", (50, 30));
}

#[test]
fn a_missing_name_is_403_where_there_is_no_permission() {
    let node = Node::start();
    let mut client = permitted(&node, "^$", "^$", "^$");
    client.publish("nowhere", "k", "m");
    refused(&mut client, "write", "exchange 'nowhere'", (60, 40));
    client.open_channel(1);
    client.send(basic::Get {
        queue: short("nowhere"),
        no_ack: true,
    });
    refused(&mut client, "read", "queue 'nowhere'", (60, 70));
}

#[test]
fn patterns_are_not_anchored() {
    let node = Node::start();
    let mut client = permitted(&node, "mine", ".*", ".*");
    client.declare("this is mine too", &[]);
    client.try_declare("yours", &[]);
    refused(&mut client, "configure", "queue 'yours'", (50, 10));
}

#[test]
fn an_empty_pattern_allows_nothing() {
    let node = Node::start();
    let mut client = permitted(&node, "", "", "");
    client.try_declare("mine", &[]);
    refused(&mut client, "configure", "queue 'mine'", (50, 10));
}

#[test]
fn a_server_named_queue_needs_configure_on_its_name() {
    let node = Node::start();
    let mut client = permitted(&node, "^amq\\.gen-", "^$", "^$");
    client.send(queue::Declare {
        exclusive: true,
        ..queue::Declare::default()
    });
    assert!(matches!(
        client.next().method(),
        haremq::protocol::Method::QueueDeclareOk(_)
    ));
}

#[test]
fn a_revoked_permission_bites_at_the_next_publish() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    client.publish("x", "k", "m");
    client.expect_nothing();
    node.permit("u", ".*", "^$", ".*");
    client.publish("x", "k", "m");
    refused(&mut client, "write", "exchange 'x'", (60, 40));
}

fn topic_refused(client: &mut Client, operation: &str, topic: &str, at: (u16, u16)) {
    let text = format!(
        "ACCESS_REFUSED - {operation} access to topic '{topic}' in exchange 't' in vhost '/' refused for user 'u'"
    );
    client.expect_channel_close(403, &text, at);
}

#[test]
fn publishing_to_a_topic_needs_write_on_it() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.permit_topic("u", "t", "^mine\\.", ".*");
    client.publish("t", "mine.a", "m");
    client.expect_nothing();
    client.publish("t", "yours.a", "m");
    topic_refused(&mut client, "write", "yours.a", (60, 40));
}

#[test]
fn binding_with_a_topic_needs_read_on_it() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.permit_topic("u", "t", ".*", "^mine\\.");
    client.bind("q", "t", "mine.#");
    client.try_bind("q", "t", "#", &[]);
    topic_refused(&mut client, "read", "#", (50, 20));
}

#[test]
fn every_topic_is_allowed_where_no_topic_permission_is_set() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.permit_topic("u", "other", "^$", "^$");
    client.publish("t", "anything", "m");
    client.bind("q", "t", "anything");
}

#[test]
fn topic_permissions_know_the_user_and_the_vhost() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.permit_topic("u", "t", "^{username}\\.{vhost}$", ".*");
    client.publish("t", "u./", "m");
    client.expect_nothing();
    client.publish("t", "guest./", "m");
    topic_refused(&mut client, "write", "guest./", (60, 40));
}

#[test]
fn topic_permissions_hold_for_topic_exchanges_only() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.permit_topic("u", "x", "^$", "^$");
    client.publish("x", "k", "m");
    client.bind("q", "x", "k");
}

#[test]
fn topic_permissions_hold_for_cc_too() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.permit_topic("u", "t", "^mine$", ".*");
    let properties = Properties {
        headers: Some(crate::support::field_table(&[(
            "CC",
            crate::support::texts(&["yours"]),
        )])),
        ..Properties::default()
    };
    client.publish_with("t", "mine", &properties, "m");
    topic_refused(&mut client, "write", "yours", (60, 40));
}

#[test]
fn unbinding_with_a_topic_needs_read_on_it() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    node.client().bind("q", "t", "yours");
    node.permit_topic("u", "t", ".*", "^mine$");
    client.send(queue::Unbind {
        queue: short("q"),
        exchange: short("t"),
        routing_key: short("yours"),
        ..queue::Unbind::default()
    });
    topic_refused(&mut client, "read", "yours", (50, 50));
}

#[test]
fn a_permission_is_checked_before_a_lock() {
    let node = Node::start();
    let mut owner = node.client();
    owner.send(queue::Declare {
        queue: short("mine"),
        exclusive: true,
        ..queue::Declare::default()
    });
    owner.expect_declared("mine");
    let mut client = permitted(&node, "^$", ".*", ".*");
    client.send(queue::Delete {
        queue: short("mine"),
        ..queue::Delete::default()
    });
    refused(&mut client, "configure", "queue 'mine'", (50, 40));
}

#[test]
fn dead_letters_need_no_permission_when_they_go() {
    let node = Node::start();
    let mut client = permitted(&node, ".*", ".*", ".*");
    client.declare("dead", &[]);
    client.bind("dead", "x", "k");
    client.declare(
        "mine",
        &[
            ("x-dead-letter-exchange", "x".into()),
            ("x-dead-letter-routing-key", "k".into()),
        ],
    );
    client.publish("", "mine", "m");
    node.permit("u", "^$", "^$", ".*");
    let tag = client.get("mine").delivery_tag;
    client.reject(tag, false);
    client.expect_contents("dead", &["m"]);
}
