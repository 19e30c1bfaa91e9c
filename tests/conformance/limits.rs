//! Limits of connections, channels, queues and exchanges.

use haremq::auth::UserLimits;
use haremq::protocol::{channel, connection};

use crate::support::{Client, Node, short};

/// A vhost `small` with room for one connection and one queue, and guest in it.
const SMALL: &str = r#"{
    "vhosts": [{"name": "small"}],
    "users": [],
    "permissions": [
        {"user": "guest", "vhost": "small", "configure": ".*", "write": ".*", "read": ".*"}
    ],
    "parameters": [
        {"vhost": "small", "component": "vhost-limits", "name": "limits",
         "value": {"max-connections": 1, "max-queues": 1}}
    ]
}"#;

fn open(node: &Node, user: &str, password: &str, vhost: &str) -> Client {
    let mut client = node.socket();
    client.begin();
    client.login(user, password);
    client.tune();
    client.send(connection::Open {
        virtual_host: short(vhost),
    });
    client
}

#[test]
fn connections_of_the_node() {
    let node = Node::start_with(|settings| settings.limits.connections_max = Some(1));
    let _first = node.connect();
    let text = "NOT_ALLOWED - connection refused: node connection limit (1) is reached";
    open(&node, "guest", "guest", "/").expect_connection_close(530, text, (10, 40));
}

#[test]
fn connections_of_a_user() {
    let node = Node::start();
    node.put_user("u", "p", &[]);
    let limits = UserLimits {
        max_connections: Some(1),
        max_channels: None,
    };
    node.put_user_with("u", "p", &[], limits);
    let first = node.connect_as("u", "p", "/");
    let text =
        "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached";
    open(&node, "u", "p", "/").expect_connection_close(530, text, (10, 40));
    first.close();
    node.connect_as("u", "p", "/");
}

#[test]
fn channels_of_a_user() {
    let node = Node::start();
    node.put_user("u", "p", &[]);
    let limits = UserLimits {
        max_connections: None,
        max_channels: Some(2),
    };
    node.put_user_with("u", "p", &[], limits);
    let mut first = node.client_as("u", "p", "/");
    let mut second = node.client_as("u", "p", "/");
    second.on(2).send(channel::Open);
    let text = "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of 2";
    second.expect_connection_close(530, text, (0, 0));
    first.open_channel(2);
}

#[test]
fn connections_of_a_vhost() {
    let node = Node::start_with_definitions(SMALL);
    let first = node.connect_as("guest", "guest", "small");
    let text = "NOT_ALLOWED - access to vhost 'small' refused for user 'guest': connection limit (1) is reached";
    open(&node, "guest", "guest", "small").expect_connection_close(530, text, (10, 40));
    first.close();
    node.connect_as("guest", "guest", "small");
}

#[test]
fn queues_of_a_vhost() {
    let node = Node::start_with_definitions(SMALL);
    let mut client = node.client_as("guest", "guest", "small");
    client.declare("a", &[]);
    client.declare("a", &[]);
    client.try_declare("b", &[]);
    let text = "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in vhost 'small' (1) is reached";
    client.expect_channel_close(406, text, (50, 10));
    client.open_channel(1);
    client.delete("a");
    client.declare("b", &[]);
}

#[test]
fn queues_of_the_node() {
    let node = Node::start_with(|settings| settings.limits.queues_max = Some(1));
    let mut client = node.client();
    client.declare("a", &[]);
    client.try_declare("b", &[]);
    let text =
        "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in cluster (1) is reached";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn exchanges_of_the_node() {
    let node = Node::start_with(|settings| settings.limits.exchanges_max = Some(8));
    let mut client = node.client();
    client.declare_exchange("a", "direct", &[]);
    client.try_declare_exchange("b", "direct", &[]);
    let text = "PRECONDITION_FAILED - cannot declare exchange 'b' in vhost '/': exchange limit of 8 is reached";
    client.expect_channel_close(406, text, (40, 10));
}

#[test]
fn vhosts_are_worlds_of_their_own() {
    let node = Node::start_with_definitions(SMALL);
    let mut here = node.client();
    let mut there = node.client_as("guest", "guest", "small");
    here.declare("q", &[]);
    there.declare("q", &[]);
    here.publish("", "q", "here");
    there.expect_get_empty("q");
    here.expect_contents("q", &["here"]);
}

#[test]
fn a_changed_limit_holds_for_what_comes_next() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("a", &[]);
    node.reconfigure(|settings| settings.limits.queues_max = Some(1));
    client.declare("a", &[]);
    client.try_declare("b", &[]);
    let text =
        "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in cluster (1) is reached";
    client.expect_channel_close(406, text, (50, 10));
}
