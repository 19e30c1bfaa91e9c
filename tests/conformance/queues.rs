//! Queues: names, flags, deleting, purging.

use haremq::protocol::{Method, basic, queue};

use crate::support::{Client, Node, short};

const LOCKED: &str = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. \
    It could be originally declared on another connection or the exclusive property value does not match \
    that of the original declaration.";

fn declare_exclusive(client: &mut Client, name: &str) {
    client.send(queue::Declare {
        queue: short(name),
        exclusive: true,
        ..queue::Declare::default()
    });
    client.expect_declared(name);
}

fn declare_auto_delete(client: &mut Client, name: &str) {
    client.send(queue::Declare {
        queue: short(name),
        durable: true,
        auto_delete: true,
        ..queue::Declare::default()
    });
    client.expect_declared(name);
}

fn delete(client: &mut Client, name: &str, if_unused: bool, if_empty: bool) {
    client.send(queue::Delete {
        queue: short(name),
        if_unused,
        if_empty,
        no_wait: false,
    });
}

#[test]
fn declare_ok_counts_ready_messages_and_consumers() {
    let node = Node::start();
    let mut client = node.client();
    assert_eq!(client.declare("q", &[]), (0, 0));
    client.publish("", "q", "a");
    client.publish("", "q", "b");
    client.get("q");
    assert_eq!(client.declare("q", &[]), (1, 0));
    client.consume("q", "c");
    client.expect_delivery("b");
    assert_eq!(client.declare("q", &[]), (0, 1));
}

#[test]
fn a_server_named_queue_is_amq_gen_and_22_characters() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        exclusive: true,
        ..queue::Declare::default()
    });
    let received = client.next();
    let Method::QueueDeclareOk(ok) = received.method() else {
        panic!("{}", received.describe());
    };
    let name = ok.queue.to_string();
    let random = name.strip_prefix("amq.gen-").unwrap();
    assert_eq!(random.len(), 22);
    assert!(
        random
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
    );
    client.publish("", &name, "m");
    client.expect_contents("", &["m"]);
}

#[test]
fn a_server_named_queue_may_be_declared_again_by_its_name() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        exclusive: true,
        ..queue::Declare::default()
    });
    let received = client.next();
    let Method::QueueDeclareOk(ok) = received.method() else {
        panic!("{}", received.describe());
    };
    let name = ok.queue.to_string();
    declare_exclusive(&mut client, &name);
}

#[test]
fn a_name_that_begins_with_amq_is_reserved() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare("amq.mine", &[]);
    let text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
    client.expect_channel_close(403, text, (50, 10));
}

#[test]
fn passive_declare_of_a_reserved_name_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.expect_no_queue("amq.mine");
}

#[test]
fn a_name_may_have_255_octets_of_any_kind() {
    let node = Node::start();
    let mut client = node.client();
    let name = "é".repeat(127);
    client.declare(&name, &[]);
    client.declare("spaces and / signs ' \"", &[]);
    client.publish("", &name, "m");
    client.expect_contents(&name, &["m"]);
}

#[test]
fn line_ends_in_a_name_are_dropped() {
    let node = Node::start();
    let mut client = node.client();
    client.try_declare("a\r\nb", &[]);
    client.expect_declared("ab");
}

#[test]
fn passive_declare_ignores_flags_and_arguments() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Declare {
        queue: short("q"),
        passive: true,
        auto_delete: true,
        arguments: crate::support::table(&[("x-max-length", (-1).into())]).as_table(),
        ..queue::Declare::default()
    });
    client.expect_declared("q");
}

#[test]
fn no_wait_declare_is_not_answered() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        queue: short("q"),
        durable: true,
        no_wait: true,
        ..queue::Declare::default()
    });
    client.expect_nothing();
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn a_transient_shared_queue_is_541_where_it_is_denied() {
    let node = Node::start_with(|settings| {
        settings.deprecated_features.transient_nonexcl_queues = false;
    });
    let mut client = node.client();
    client.send(queue::Declare {
        queue: short("q"),
        ..queue::Declare::default()
    });
    let received = client.next();
    let Method::ConnectionClose(close) = received.method() else {
        panic!("{}", received.describe());
    };
    assert_eq!(
        (close.reply_code, close.class_id, close.method_id),
        (541, 50, 10)
    );
    assert!(close.reply_text.to_string().starts_with(
        "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\n\
         By default, this feature is not permitted anymore.\n"
    ));
}

#[test]
fn a_transient_exclusive_queue_is_always_allowed() {
    let node = Node::start_with(|settings| {
        settings.deprecated_features.transient_nonexcl_queues = false;
    });
    declare_exclusive(&mut node.client(), "q");
}

#[test]
fn an_exclusive_queue_is_locked_for_others() {
    let node = Node::start();
    let mut owner = node.client();
    declare_exclusive(&mut owner, "q");
    let mut other = node.client();
    other.try_find("q");
    other.expect_channel_close(405, LOCKED, (50, 10));
    other.open_channel(1);
    other.send(basic::Consume {
        queue: short("q"),
        ..basic::Consume::default()
    });
    other.expect_channel_close(405, LOCKED, (60, 20));
    other.open_channel(1);
    other.send(basic::Get {
        queue: short("q"),
        no_ack: true,
    });
    other.expect_channel_close(405, LOCKED, (60, 70));
    other.open_channel(1);
    other.send(queue::Purge {
        queue: short("q"),
        no_wait: false,
    });
    other.expect_channel_close(405, LOCKED, (50, 30));
    other.open_channel(1);
    delete(&mut other, "q", false, false);
    other.expect_channel_close(405, LOCKED, (50, 40));
    other.open_channel(1);
    other.try_bind("q", "amq.direct", "k", &[]);
    other.expect_channel_close(405, LOCKED, (50, 20));
    other.open_channel(1);
    other.send(queue::Unbind {
        queue: short("q"),
        exchange: short("amq.direct"),
        ..queue::Unbind::default()
    });
    other.expect_channel_close(405, LOCKED, (50, 50));
}

#[test]
fn anyone_may_publish_to_an_exclusive_queue() {
    let node = Node::start();
    let mut owner = node.client();
    declare_exclusive(&mut owner, "q");
    node.client().publish("", "q", "m");
    owner.expect_contents("q", &["m"]);
}

#[test]
fn the_exclusive_flag_alone_is_405() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.send(queue::Declare {
        queue: short("q"),
        durable: true,
        exclusive: true,
        ..queue::Declare::default()
    });
    client.expect_channel_close(405, LOCKED, (50, 10));
}

#[test]
fn an_exclusive_queue_counts_as_not_durable_whatever_was_asked() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Declare {
        queue: short("q"),
        durable: true,
        exclusive: true,
        ..queue::Declare::default()
    });
    client.expect_declared("q");
    declare_exclusive(&mut client, "q");
}

#[test]
fn an_auto_delete_queue_stays_until_it_had_a_consumer() {
    let node = Node::start();
    let mut client = node.client();
    declare_auto_delete(&mut client, "q");
    node.advance(3_600_000);
    assert_eq!(client.counts("q"), (0, 0));
}

#[test]
fn an_auto_delete_queue_goes_with_the_last_cancel() {
    let node = Node::start();
    let mut client = node.client();
    declare_auto_delete(&mut client, "q");
    client.consume("q", "a");
    client.consume("q", "b");
    client.cancel("a");
    assert_eq!(client.counts("q"), (0, 1));
    client.cancel("b");
    client.expect_no_queue("q");
}

#[test]
fn an_auto_delete_queue_goes_with_the_consumers_channel() {
    let node = Node::start();
    let mut client = node.client();
    declare_auto_delete(&mut client, "q");
    client.consume("q", "a");
    client.close_channel();
    client.open_channel(1);
    client.expect_no_queue("q");
}

#[test]
fn an_auto_delete_queue_goes_with_the_consumers_connection() {
    let node = Node::start();
    let mut client = node.client();
    declare_auto_delete(&mut client, "q");
    client.consume("q", "a");
    client.hang_up();
    node.client().expect_no_queue("q");
}

#[test]
fn deleting_a_missing_queue_counts_0() {
    let node = Node::start();
    assert_eq!(node.client().delete("nowhere"), 0);
}

#[test]
fn deleting_a_queue_counts_its_ready_messages() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    client.get("q");
    assert_eq!(client.delete("q"), 2);
    client.expect_no_queue("q");
}

#[test]
fn settling_after_the_queue_is_gone_is_fine() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "a");
    let tag = client.get("q").delivery_tag;
    client.delete("q");
    client.ack(tag);
    client.expect_nothing();
}

#[test]
fn delete_if_unused_is_406_while_there_are_consumers() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.consume("q", "c");
    delete(&mut client, "q", true, false);
    let text = "PRECONDITION_FAILED - queue 'q' in vhost '/' in use";
    client.expect_channel_close(406, text, (50, 40));
}

#[test]
fn delete_if_empty_is_406_while_there_are_messages() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.publish("", "q", "m");
    delete(&mut client, "q", false, true);
    let text = "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty";
    client.expect_channel_close(406, text, (50, 40));
}

#[test]
fn purge_counts_and_removes_ready_messages_only() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    for body in ["a", "b", "c"] {
        client.publish("", "q", body);
    }
    let tag = client.get("q").delivery_tag;
    client.send(queue::Purge {
        queue: short("q"),
        no_wait: false,
    });
    client.expect(queue::PurgeOk { message_count: 2 });
    client.nack(tag, true);
    client.expect_contents("q", &["a"]);
}

#[test]
fn purging_a_missing_queue_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.send(queue::Purge {
        queue: short("q"),
        no_wait: false,
    });
    client.expect_channel_close(404, "NOT_FOUND - no queue 'q' in vhost '/'", (50, 30));
}

#[test]
fn consuming_from_a_missing_queue_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Consume {
        queue: short("q"),
        ..basic::Consume::default()
    });
    client.expect_channel_close(404, "NOT_FOUND - no queue 'q' in vhost '/'", (60, 20));
}

#[test]
fn getting_from_a_missing_queue_is_404() {
    let node = Node::start();
    let mut client = node.client();
    client.send(basic::Get {
        queue: short("q"),
        no_ack: true,
    });
    client.expect_channel_close(404, "NOT_FOUND - no queue 'q' in vhost '/'", (60, 70));
}
