//! Bindings of queues and exchanges, direct and fanout routing, CC and BCC.

use haremq::protocol::{exchange, queue};

use crate::support::{Node, headers, short, texts};

#[test]
fn direct_routes_by_the_exact_key() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.direct", "key");
    for key in ["key", "Key", "key.", ""] {
        client.publish("amq.direct", key, key);
    }
    client.expect_contents("q", &["key"]);
}

#[test]
fn fanout_ignores_the_key() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("a", &[]);
    client.declare("b", &[]);
    client.bind("a", "amq.fanout", "x");
    client.bind("b", "amq.fanout", "");
    client.publish("amq.fanout", "y", "m");
    client.expect_contents("a", &["m"]);
    client.expect_contents("b", &["m"]);
}

#[test]
fn a_queue_gets_one_copy_however_many_bindings_match() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.topic", "a.#");
    client.bind("q", "amq.topic", "#.b");
    client.bind("q", "amq.topic", "a.b");
    client.publish("amq.topic", "a.b", "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn the_same_binding_twice_is_one_binding() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.direct", "k");
    client.bind("q", "amq.direct", "k");
    client.unbind("q", "amq.direct", "k");
    client.publish("amq.direct", "k", "m");
    client.expect_get_empty("q");
}

#[test]
fn bindings_that_differ_in_arguments_are_two() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.direct", "k");
    client.bind_with("q", "amq.direct", "k", &[("mine", 1.into())]);
    client.unbind("q", "amq.direct", "k");
    client.publish("amq.direct", "k", "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn binding_a_missing_queue_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.try_bind("nowhere", "amq.direct", "k", &[]);
    let text = "NOT_FOUND - no queue 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (50, 20));
}

#[test]
fn binding_to_a_missing_exchange_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.try_bind("q", "nowhere", "k", &[]);
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (50, 20));
}

#[test]
fn unbinding_a_binding_that_is_not_there_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.unbind("q", "amq.direct", "k");
}

#[test]
fn unbinding_missing_queues_and_exchanges_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.unbind("nowhere", "amq.direct", "k");
    client.unbind("q", "nowhere", "k");
}

#[test]
fn unbinding_missing_exchanges_from_each_other_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.send(exchange::Unbind {
        destination: short("nowhere"),
        source: short("amq.direct"),
        ..exchange::Unbind::default()
    });
    client.expect(exchange::UnbindOk);
}

#[test]
fn an_empty_queue_name_means_the_last_one_declared() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("", "amq.direct", "k");
    client.publish("amq.direct", "k", "m");
    client.expect_contents("", &["m"]);
}

#[test]
fn an_empty_queue_name_and_key_mean_its_name_as_the_key() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("", "amq.direct", "");
    client.publish("amq.direct", "q", "m");
    client.publish("amq.direct", "", "no");
    client.expect_contents("q", &["m"]);
}

#[test]
fn an_empty_queue_name_without_a_declare_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.try_bind("", "amq.direct", "k", &[]);
    let text = "NOT_FOUND - no previously declared queue";
    client.expect_channel_close(404, text, (50, 20));
}

#[test]
fn the_last_declared_queue_is_a_matter_of_the_channel() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.open_channel(2);
    client.send(queue::Purge::default());
    let text = "NOT_FOUND - no previously declared queue";
    client.expect_channel_close(404, text, (50, 30));
}

#[test]
fn exchange_bindings_route_through() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "direct", &[]);
    client.declare_exchange("y", "topic", &[]);
    client.bind_exchange("y", "x", "a.b");
    client.bind("q", "y", "a.*");
    client.publish("x", "a.b", "m");
    client.publish("x", "a.c", "no");
    client.expect_contents("q", &["m"]);
}

#[test]
fn a_cycle_of_exchange_bindings_gives_one_copy() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    for name in ["x", "y"] {
        client.declare_exchange(name, "fanout", &[]);
        client.bind("q", name, "");
    }
    client.bind_exchange("y", "x", "");
    client.bind_exchange("x", "y", "");
    client.publish("x", "", "m");
    client.expect_contents("q", &["m"]);
}

#[test]
fn binding_a_missing_exchange_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.send(exchange::Bind {
        destination: short("nowhere"),
        source: short("amq.direct"),
        ..exchange::Bind::default()
    });
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    client.expect_channel_close(404, text, (40, 30));
}

#[test]
fn exchange_unbind_stops_the_route() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.bind("q", "x", "");
    client.bind_exchange("x", "amq.fanout", "");
    client.publish("amq.fanout", "", "before");
    client.send(exchange::Unbind {
        destination: short("x"),
        source: short("amq.fanout"),
        ..exchange::Unbind::default()
    });
    client.expect(exchange::UnbindOk);
    client.publish("amq.fanout", "", "after");
    client.expect_contents("q", &["before"]);
}

#[test]
fn cc_and_bcc_add_keys() {
    let node = Node::start();
    let mut client = node.client();
    for name in ["a", "b", "c", "d"] {
        client.declare(name, &[]);
    }
    let properties = headers(&[("CC", texts(&["b", "c"])), ("BCC", texts(&["d"]))]);
    client.publish_with("", "a", &properties, "m");
    for name in ["a", "b", "c", "d"] {
        client.expect_contents(name, &["m"]);
    }
}

#[test]
fn bcc_is_removed_and_cc_stays() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("a", &[]);
    let properties = headers(&[("CC", texts(&["b"])), ("BCC", texts(&["c"]))]);
    client.publish_with("", "a", &properties, "m");
    let message = client.expect_get("a", "m");
    assert_eq!(message.header("CC"), Some(&texts(&["b"])));
    assert_eq!(message.header("BCC"), None);
}

#[test]
fn cc_to_the_same_queue_gives_one_copy() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("a", &[]);
    let properties = headers(&[("CC", texts(&["a", "a"])), ("BCC", texts(&["a"]))]);
    client.publish_with("", "a", &properties, "m");
    client.expect_contents("a", &["m"]);
}

#[test]
fn a_cc_that_is_no_array_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.publish_with("", "a", &headers(&[("CC", "b".into())]), "m");
    let text =
        "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}";
    client.expect_channel_close(406, text, (60, 40));
}

#[test]
fn mandatory_is_satisfied_by_cc() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("b", &[]);
    let properties = headers(&[("CC", texts(&["b"]))]);
    let method = haremq::protocol::basic::Publish {
        routing_key: short("nowhere"),
        mandatory: true,
        ..Default::default()
    };
    client.send_content(method, &properties, b"m");
    client.expect_nothing();
    client.expect_contents("b", &["m"]);
}

#[test]
fn deleting_a_queue_removes_its_bindings() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.fanout", "");
    client.delete("q");
    client.declare("q", &[]);
    client.publish("amq.fanout", "", "m");
    client.expect_get_empty("q");
}

#[test]
fn a_new_binding_is_used_by_the_next_publish() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("amq.direct", "k", "before");
    client.bind("q", "amq.direct", "k");
    client.publish("amq.direct", "k", "after");
    client.unbind("q", "amq.direct", "k");
    client.publish("amq.direct", "k", "later");
    client.expect_contents("q", &["after"]);
}
