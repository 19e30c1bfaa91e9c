//! Exchanges: which there are, their flags, declaring and deleting, the default one.

use haremq::protocol::{basic, exchange, queue};

use crate::support::{Client, Node, short};

fn delete(client: &mut Client, name: &str, if_unused: bool) {
    client.send(exchange::Delete {
        exchange: short(name),
        if_unused,
        no_wait: false,
    });
}

#[test]
fn the_predeclared_exchanges_are_there() {
    let node = Node::start();
    let mut client = node.client();
    for name in [
        "amq.direct",
        "amq.fanout",
        "amq.topic",
        "amq.headers",
        "amq.match",
        "amq.rabbitmq.trace",
    ] {
        client.expect_exchange(name);
    }
}

#[test]
fn a_predeclared_exchange_may_be_declared_as_it_is() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("amq.direct", "direct", &[]);
    client.declare_exchange("amq.match", "headers", &[]);
}

#[test]
fn the_default_exchange_reaches_every_queue_by_its_name() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("a queue", &[]);
    client.publish("", "a queue", "x");
    let message = client.expect_get("a queue", "x");
    assert_eq!(message.exchange, "");
}

#[test]
fn the_default_exchange_cannot_be_declared() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare_exchange("", "direct", &[]);
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    client.expect_channel_close(403, text, (40, 10));
}

#[test]
fn the_default_exchange_cannot_be_deleted() {
    let node = Node::start();
    let mut client = node.client();
    delete(&mut client, "", false);
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    client.expect_channel_close(403, text, (40, 20));
}

#[test]
fn nothing_can_be_bound_to_the_default_exchange() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.try_bind("q", "", "key", &[]);
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    client.expect_channel_close(403, text, (50, 20));
}

#[test]
fn nothing_can_be_unbound_from_the_default_exchange() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Unbind {
        queue: short("q"),
        routing_key: short("q"),
        ..queue::Unbind::default()
    });
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    client.expect_channel_close(403, text, (50, 50));
}

#[test]
fn the_default_exchange_cannot_be_bound_to_an_exchange() {
    let node = Node::start();
    let mut client = node.client();
    client.send(exchange::Bind {
        destination: short(""),
        source: short("amq.direct"),
        ..exchange::Bind::default()
    });
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    client.expect_channel_close(403, text, (40, 30));
}

#[test]
fn a_system_exchange_cannot_be_deleted() {
    let node = Node::start();
    let mut client = node.client();
    delete(&mut client, "amq.direct", false);
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    client.expect_channel_close(403, text, (40, 20));
}

#[test]
fn a_name_that_begins_with_amq_is_reserved() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare_exchange("amq.mine", "direct", &[]);
    let text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'";
    client.expect_channel_close(403, text, (40, 10));
}

#[test]
fn an_unknown_type_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare_exchange("x", "telepathy", &[]);
    let text = "PRECONDITION_FAILED - unknown exchange type 'telepathy'";
    client.expect_channel_close(406, text, (40, 10));
}

#[test]
fn declaring_twice_alike_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "topic", &[]);
    client.declare_exchange("x", "topic", &[]);
}

#[test]
fn another_type_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[]);
    client.try_declare_exchange("x", "fanout", &[]);
    let text = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': \
                received 'fanout' but current is 'direct'";
    client.expect_channel_close(406, text, (40, 10));
}

fn refuse_other_flag(declare: exchange::Declare<'_>, flag: &str, received: &str, current: &str) {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[]);
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("direct"),
        ..declare
    });
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg '{flag}' for exchange 'x' in vhost '/': \
         received '{received}' but current is '{current}'"
    );
    client.expect_channel_close(406, &text, (40, 10));
}

#[test]
fn another_durable_flag_is_406() {
    refuse_other_flag(exchange::Declare::default(), "durable", "false", "true");
}

#[test]
fn another_auto_delete_flag_is_406() {
    let declare = exchange::Declare {
        durable: true,
        auto_delete: true,
        ..exchange::Declare::default()
    };
    refuse_other_flag(declare, "auto_delete", "true", "false");
}

#[test]
fn another_internal_flag_is_406() {
    let declare = exchange::Declare {
        durable: true,
        internal: true,
        ..exchange::Declare::default()
    };
    refuse_other_flag(declare, "internal", "true", "false");
}

#[test]
fn another_alternate_exchange_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[("alternate-exchange", "a".into())]);
    client.try_declare_exchange("x", "direct", &[("alternate-exchange", "b".into())]);
    let text = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': \
                received 'b' but current is 'a'";
    client.expect_channel_close(406, text, (40, 10));
}

#[test]
fn other_arguments_are_not_compared() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[("x-mine", 1.into())]);
    client.declare_exchange("x", "direct", &[("x-mine", 2.into())]);
    client.declare_exchange("x", "direct", &[]);
}

#[test]
fn passive_declare_of_a_missing_exchange_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.expect_no_exchange("x");
}

#[test]
fn passive_declare_ignores_type_and_flags() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[]);
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("nonsense"),
        passive: true,
        auto_delete: true,
        ..exchange::Declare::default()
    });
    client.expect(exchange::DeclareOk);
}

#[test]
fn no_wait_declare_is_not_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("direct"),
        no_wait: true,
        ..exchange::Declare::default()
    });
    client.expect_nothing();
    client.expect_exchange("x");
}

#[test]
fn deleting_a_missing_exchange_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    delete(&mut client, "nowhere", false);
    client.expect(exchange::DeleteOk);
}

#[test]
fn deleting_removes_the_exchange_and_its_bindings() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.bind("q", "x", "");
    delete(&mut client, "x", false);
    client.expect(exchange::DeleteOk);
    client.expect_no_exchange("x");
    client.declare_exchange("x", "fanout", &[]);
    client.publish("x", "", "x");
    client.expect_get_empty("q");
}

#[test]
fn delete_if_unused_is_406_while_bindings_start_from_it() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "fanout", &[]);
    client.bind("q", "x", "");
    delete(&mut client, "x", true);
    let text = "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use";
    client.expect_channel_close(406, text, (40, 20));
}

#[test]
fn delete_if_unused_does_not_count_bindings_that_end_at_it() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "fanout", &[]);
    client.bind_exchange("x", "amq.fanout", "");
    delete(&mut client, "x", true);
    client.expect(exchange::DeleteOk);
}

#[test]
fn publishing_to_a_missing_exchange_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.publish("x", "", "x");
    let text = "NOT_FOUND - no exchange 'x' in vhost '/'";
    client.expect_channel_close(404, text, (60, 40));
}

#[test]
fn publishing_to_an_internal_exchange_is_403() {
    let node = Node::start();
    let mut client = node.client();
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("fanout"),
        internal: true,
        ..exchange::Declare::default()
    });
    client.expect(exchange::DeclareOk);
    client.publish("x", "", "x");
    let text = "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'";
    client.expect_channel_close(403, text, (60, 40));
}

#[test]
fn an_internal_exchange_receives_from_other_exchanges() {
    let node = Node::start();
    let mut client = node.client();
    client.send(exchange::Declare {
        exchange: short("x"),
        type_: short("fanout"),
        internal: true,
        ..exchange::Declare::default()
    });
    client.expect(exchange::DeclareOk);
    client.declare("q", &[]);
    client.bind("q", "x", "");
    client.bind_exchange("x", "amq.fanout", "");
    client.publish("amq.fanout", "", "x");
    client.expect_contents("q", &["x"]);
}

fn declare_auto_delete(client: &mut Client, name: &str) {
    client.send(exchange::Declare {
        exchange: short(name),
        type_: short("fanout"),
        durable: true,
        auto_delete: true,
        ..exchange::Declare::default()
    });
    client.expect(exchange::DeclareOk);
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("a", &[]);
    client.declare("b", &[]);
    declare_auto_delete(&mut client, "x");
    client.expect_exchange("x");
    client.bind("a", "x", "");
    client.bind("b", "x", "");
    client.unbind("a", "x", "");
    client.expect_exchange("x");
    client.unbind("b", "x", "");
    client.expect_no_exchange("x");
}

#[test]
fn an_auto_delete_exchange_goes_when_the_last_bound_queue_is_deleted() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    declare_auto_delete(&mut client, "x");
    client.bind("q", "x", "");
    client.delete("q");
    client.expect_no_exchange("x");
}

#[test]
fn auto_delete_goes_down_a_chain() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    for name in ["x", "y", "z"] {
        declare_auto_delete(&mut client, name);
    }
    client.bind_exchange("y", "x", "");
    client.bind_exchange("z", "y", "");
    client.bind("q", "z", "");
    client.delete("q");
    for name in ["z", "y", "x"] {
        client.expect_no_exchange(name);
    }
}

#[test]
fn an_auto_delete_exchange_does_not_go_with_a_binding_that_ends_at_it() {
    let node = Node::start();
    let mut client = node.client();
    declare_auto_delete(&mut client, "x");
    client.bind_exchange("x", "amq.fanout", "");
    client.send(exchange::Unbind {
        destination: short("x"),
        source: short("amq.fanout"),
        ..exchange::Unbind::default()
    });
    client.expect(exchange::UnbindOk);
    client.expect_exchange("x");
}

#[test]
fn an_alternate_exchange_gets_what_nothing_else_takes() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("bound", &[]);
    client.declare("rest", &[]);
    client.declare_exchange("ae", "fanout", &[]);
    client.declare_exchange("x", "direct", &[("alternate-exchange", "ae".into())]);
    client.bind("bound", "x", "key");
    client.bind("rest", "ae", "");
    client.publish("x", "key", "a");
    client.publish("x", "other", "b");
    client.expect_contents("bound", &["a"]);
    client.expect_contents("rest", &["b"]);
}

#[test]
fn mandatory_is_satisfied_by_an_alternate_exchange() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("rest", &[]);
    client.declare_exchange("ae", "fanout", &[]);
    client.declare_exchange("x", "direct", &[("alternate-exchange", "ae".into())]);
    client.bind("rest", "ae", "");
    client.publish_mandatory("x", "other", "b");
    client.expect_nothing();
    client.expect_contents("rest", &["b"]);
}

#[test]
fn a_missing_alternate_exchange_is_ignored() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[("alternate-exchange", "gone".into())]);
    client.publish_mandatory("x", "k", "b");
    client.expect_return("x", "k", "b");
}

#[test]
fn a_loop_of_alternate_exchanges_ends() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[("alternate-exchange", "y".into())]);
    client.declare_exchange("y", "direct", &[("alternate-exchange", "x".into())]);
    client.publish_mandatory("x", "k", "b");
    client.expect_return("x", "k", "b");
}

#[test]
fn a_delivery_keeps_the_exchange_and_key_of_the_publish() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("y", "fanout", &[]);
    client.bind_exchange("y", "amq.topic", "a.#");
    client.bind("q", "y", "");
    client.publish("amq.topic", "a.b", "x");
    let message = client.expect_get("q", "x");
    assert_eq!(
        (message.exchange.as_str(), message.routing_key.as_str()),
        ("amq.topic", "a.b")
    );
}

#[test]
fn a_publish_with_immediate_is_540() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Publish {
        immediate: true,
        ..basic::Publish::default()
    });
    let text = "NOT_IMPLEMENTED - immediate=true";
    client.expect_connection_close(540, text, (60, 40));
}

#[test]
fn an_alternate_exchange_that_is_no_text_is_406() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare_exchange("x", "direct", &[("alternate-exchange", 1.into())]);
    let text = "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'";
    client.expect_channel_close(406, text, (40, 10));
}

#[test]
fn the_trace_exchange_is_internal() {
    let node = Node::start();
    let mut client = node.client();
    client.publish("amq.rabbitmq.trace", "publish.x", "m");
    let text =
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'";
    client.expect_channel_close(403, text, (60, 40));
}

#[test]
fn an_alternate_exchange_is_asked_when_cc_finds_nothing_either() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("rest", &[]);
    client.declare_exchange("ae", "fanout", &[]);
    client.declare_exchange("x", "direct", &[("alternate-exchange", "ae".into())]);
    client.bind("rest", "ae", "");
    let properties = crate::support::headers(&[("CC", crate::support::texts(&["b", "c"]))]);
    client.publish_with("x", "a", &properties, "m");
    client.expect_contents("rest", &["m"]);
}
