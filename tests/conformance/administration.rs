//! What operators do to clients: connections that are closed, hosts and users that go, limits that change, definitions that come.

use haremq::broker::admin::VhostChange;
use haremq::protocol::{Properties, connection, queue};
use serde_json::json;

use crate::support::{Node, short};

fn make_vhost(node: &Node, name: &str) {
    let change = VhostChange {
        name: name.to_owned(),
        ..VhostChange::default()
    };
    let guest = "guest".into();
    let made = node.broker().put_vhost(change, Some(&guest));
    made.unwrap().wait().unwrap();
}

#[test]
fn a_connection_that_is_closed_is_told_why() {
    let node = Node::start();
    let mut client = node.client();
    let mut other = node.client();
    let name = "127.0.0.1:50000 -> 127.0.0.1:5672";
    // Both clients come from there.
    node.broker().close_connection(name, None).unwrap();
    let text = "CONNECTION_FORCED - Closed via management plugin";
    client.expect_connection_close(320, text, (0, 0));
    other.expect_connection_close(320, text, (0, 0));
    let gone = node.broker().close_connection("somebody", None);
    assert_eq!(gone.unwrap_err().to_string(), "no connection 'somebody'");
}

#[test]
fn connections_of_a_user_are_closed_with_a_reason() {
    let node = Node::start();
    node.put_user("u", "p", &[]);
    let mut client = node.client_as("u", "p", "/");
    let mut guest = node.client();
    let closed = node
        .broker()
        .close_connections_of_user("u", Some("maintenance"));
    assert_eq!(closed, 1);
    client.expect_connection_close(320, "CONNECTION_FORCED - maintenance", (0, 0));
    guest.declare("q", &[]);
}

#[test]
fn a_deleted_user_goes() {
    let node = Node::start();
    node.put_user("u", "p", &[]);
    let mut client = node.client_as("u", "p", "/");
    node.broker().delete_user("u").unwrap().wait().unwrap();
    client.expect_connection_close(320, "CONNECTION_FORCED - user 'u' is deleted", (0, 0));
}

#[test]
fn a_deleted_host_closes_its_connections_and_its_queues_are_gone_when_it_is_made_again() {
    let node = Node::start();
    make_vhost(&node, "v");
    let mut inside = node.client_as("guest", "guest", "v");
    let mut outside = node.client();
    for client in [&mut inside, &mut outside] {
        client.declare("q", &[]);
        let persistent = Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        };
        client.publish_with("", "q", &persistent, "a");
        client.counts("q");
    }
    node.broker().delete_vhost("v").unwrap().wait().unwrap();
    inside.expect_connection_close(320, "CONNECTION_FORCED - vhost 'v' is deleted", (0, 0));
    outside.expect_contents("q", &["a"]);
    let mut late = node.socket();
    late.begin();
    late.login("guest", "guest");
    late.tune();
    late.send(connection::Open {
        virtual_host: short("v"),
    });
    late.expect_connection_close(530, "NOT_ALLOWED - vhost v not found", (10, 40));
    make_vhost(&node, "v");
    let mut again = node.client_as("guest", "guest", "v");
    again.declare("q", &[]);
    again.expect_get_empty("q");
}

#[test]
fn a_host_says_which_type_queues_have_that_name_none() {
    let node = Node::start();
    let change = VhostChange {
        name: "/".to_owned(),
        default_queue_type: Some("quorum".to_owned()),
        ..VhostChange::default()
    };
    node.broker()
        .put_vhost(change, None)
        .unwrap()
        .wait()
        .unwrap();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Declare {
        queue: short("q"),
        durable: true,
        arguments: crate::support::table(&[("x-queue-type", "classic".into())]).as_table(),
        ..queue::Declare::default()
    });
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'classic' but current is 'quorum'";
    client.expect_channel_close(406, text, (50, 10));
}

#[test]
fn a_limit_of_connections_holds_from_now_on() {
    let node = Node::start();
    let first = node.connect();
    let limit = node
        .broker()
        .put_vhost_limit("/", "max-connections", &json!(1));
    limit.unwrap().wait().unwrap();
    let mut second = node.socket();
    second.begin();
    second.login("guest", "guest");
    second.tune();
    second.send(connection::Open {
        virtual_host: short("/"),
    });
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached";
    second.expect_connection_close(530, text, (10, 40));
    first.close();
    node.connect();
}

#[test]
fn what_was_imported_into_a_running_node_is_as_if_it_had_been_declared() {
    let mut node = Node::start();
    let json = br#"{
        "queues": [{"vhost": "/", "name": "q", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 1}}],
        "exchanges": [{"vhost": "/", "name": "x", "type": "direct", "durable": true, "auto_delete": false, "arguments": {}}],
        "bindings": [{"vhost": "/", "source": "x", "destination": "q", "destination_type": "queue",
                      "routing_key": "k", "arguments": {}}]
    }"#;
    for _ in 0..2 {
        let imported = node.broker().import_definitions(json, None);
        imported.unwrap().wait().unwrap();
        let mut client = node.client();
        client.declare("q", &[("x-max-length", 1.into())]);
        client.declare_exchange("x", "direct", &[]);
        client.publish("x", "k", "a");
        client.publish("x", "k", "b");
        client.expect_contents("q", &["b"]);
        drop(client);
        node.restart();
    }
}
