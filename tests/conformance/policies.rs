//! Policies and operator policies: they hold at once, for what is there and for what is declared later.

use std::io::ErrorKind;
use std::sync::Arc;

use haremq::broker::admin::Put;
use haremq::broker::policies::{NewPolicy, PolicyKind};
use haremq::protocol::{Properties, Value, tx};
use haremq::store::disk::{FaultyDisk, RealDisk, faulty::Operation};
use serde_json::{Value as Json, json};

use crate::support::{Client, Node};

/// Sets a policy for names that match `pattern`, in `/`.
fn set(node: &Node, kind: PolicyKind, name: &str, pattern: &str, priority: i64, definition: Json) {
    let new = NewPolicy {
        vhost: "/".into(),
        name: name.into(),
        pattern: pattern.into(),
        apply_to: None,
        priority: Some(priority.into()),
        definition,
    };
    node.broker().put_policy(kind, new).unwrap().wait().unwrap();
    settle(node);
}

/// Waits until what is to be dropped was read, if it is on the disk.
fn settle(node: &Node) {
    node.broker().settle().unwrap();
}

/// Ready messages.
fn ready(node: &Node, client: &mut Client, queue: &str) -> u32 {
    settle(node);
    client.counts(queue).0
}

fn set_user(node: &Node, pattern: &str, definition: Json) {
    set(node, PolicyKind::User, "p", pattern, 0, definition);
}

fn clear(node: &Node, name: &str) {
    settle(node);
    let broker = node.broker();
    let deleted = broker.delete_policy(PolicyKind::User, "/", name);
    deleted.unwrap().wait().unwrap();
}

fn persistent() -> Properties {
    Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    }
}

fn quorum() -> (&'static str, Value) {
    ("x-queue-type", "quorum".into())
}

fn fill(client: &mut Client, queue: &str, bodies: &[&str]) {
    for body in bodies {
        client.publish("", queue, body);
    }
}

/// Policy, operator policy, effective definition.
fn shown(node: &Node, queue: &str) -> Json {
    let handle = node.broker().vhost("/").unwrap().queue_handle(queue);
    let applied = handle.unwrap().policy().unwrap_or_default();
    json!([
        applied.policy.as_deref(),
        applied.operator_policy.as_deref(),
        applied.definition,
    ])
}

#[test]
fn a_policy_holds_at_once_and_ends_at_once() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare("other", &[]);
    fill(&mut client, "q", &["a", "b", "c"]);
    fill(&mut client, "other", &["a", "b", "c"]);
    set_user(&node, "^q$", json!({"max-length": 2}));
    assert_eq!(ready(&node, &mut client, "q"), 2);
    fill(&mut client, "q", &["d"]);
    clear(&node, "p");
    fill(&mut client, "q", &["e"]);
    client.expect_contents("q", &["c", "d", "e"]);
    assert_eq!(ready(&node, &mut client, "other"), 3);
    assert_eq!(shown(&node, "q"), json!([null, null, {}]));
}

#[test]
fn a_queue_that_is_declared_later_has_its_policy() {
    let node = Node::start();
    set_user(&node, "^q", json!({"max-length": 1}));
    let mut client = node.client();
    client.declare("q", &[]);
    fill(&mut client, "q", &["a", "b"]);
    client.expect_contents("q", &["b"]);
    assert_eq!(shown(&node, "q"), json!(["p", null, {"max-length": 1}]));
}

#[test]
fn one_policy_holds_that_of_the_highest_priority() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let kind = PolicyKind::User;
    set(
        &node,
        kind,
        "low",
        ".*",
        1,
        json!({"max-length": 1, "expires": 60_000}),
    );
    set(&node, kind, "high", "q", 2, json!({"max-length": 3}));
    fill(&mut client, "q", &["a", "b", "c", "d"]);
    assert_eq!(ready(&node, &mut client, "q"), 3);
    assert_eq!(shown(&node, "q"), json!(["high", null, {"max-length": 3}]));
    clear(&node, "high");
    client.expect_contents("q", &["d"]);
    let definition = json!({"max-length": 1, "expires": 60_000});
    assert_eq!(shown(&node, "q"), json!(["low", null, definition]));
}

#[test]
fn an_operator_sets_ceilings() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    set_user(
        &node,
        ".*",
        json!({"max-length": 10, "message-ttl": 50, "overflow": "drop-head"}),
    );
    let operators = json!({"max-length": 1, "message-ttl": 100, "overflow": "reject-publish"});
    set(&node, PolicyKind::Operator, "op", "q", 0, operators);
    assert_eq!(
        shown(&node, "q"),
        json!(["p", "op", {"max-length": 1, "message-ttl": 50, "overflow": "reject-publish"}])
    );
    client.confirm();
    client.publish("", "q", "a");
    client.expect_ack(1, false);
    client.publish("", "q", "b");
    client.expect_nack(2);
    node.advance(50);
    client.expect_get_empty("q");
}

#[test]
fn of_limits_the_smaller_counts_and_a_dead_letter_exchange_is_the_arguments() {
    let node = Node::start();
    set_user(
        &node,
        "^q",
        json!({"max-length": 1, "dead-letter-exchange": "", "dead-letter-routing-key": "policys"}),
    );
    let mut client = node.client();
    for queue in ["policys", "arguments"] {
        client.declare(queue, &[]);
    }
    let own = [
        ("x-max-length", 2.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "arguments".into()),
    ];
    client.declare("q1", &own);
    client.declare("q2", &[]);
    fill(&mut client, "q1", &["a", "b"]);
    fill(&mut client, "q2", &["c", "d"]);
    client.expect_contents("q1", &["b"]);
    client.expect_contents("q2", &["d"]);
    client.expect_contents("arguments", &["a"]);
    client.expect_contents("policys", &["c"]);
}

#[test]
fn a_policy_for_quorum_queues_leaves_classic_ones_alone() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("classic", &[]);
    client.declare("quorum", &[quorum()]);
    set_user(&node, ".*", json!({"delivery-limit": 1, "max-length": 5}));
    assert_eq!(shown(&node, "classic"), json!([null, null, {}]));
    client.publish("", "quorum", "a");
    for _ in 0..2 {
        let tag = client.get("quorum").delivery_tag;
        client.reject(tag, true);
    }
    client.expect_get_empty("quorum");
}

#[test]
fn an_alternate_exchange_of_a_policy_takes_what_finds_nothing_even_on_remembered_routes() {
    let node = Node::start();
    let mut client = node.client();
    client.declare_exchange("x", "direct", &[]);
    client.declare_exchange("unrouted", "fanout", &[]);
    client.declare("q", &[]);
    client.bind("q", "unrouted", "");
    client.publish_mandatory("x", "key", "a");
    client.expect_return("x", "key", "a");
    set_user(&node, "^x$", json!({"alternate-exchange": "unrouted"}));
    client.publish_mandatory("x", "key", "b");
    client.publish_mandatory("x", "key", "c");
    clear(&node, "p");
    client.publish_mandatory("x", "key", "d");
    client.expect_return("x", "key", "d");
    client.expect_contents("q", &["b", "c"]);
    let cell = node
        .broker()
        .vhost("/")
        .unwrap()
        .exchange_cell("x")
        .unwrap();
    assert_eq!(cell.policy(), None);
}

#[test]
fn an_alternate_exchange_of_the_arguments_comes_first() {
    let node = Node::start();
    set_user(&node, "^x$", json!({"alternate-exchange": "policys"}));
    let mut client = node.client();
    for name in ["policys", "arguments"] {
        client.declare_exchange(name, "fanout", &[]);
        client.declare(name, &[]);
        client.bind(name, name, "");
    }
    client.declare_exchange("x", "direct", &[("alternate-exchange", "arguments".into())]);
    client.publish("x", "key", "a");
    client.expect_contents("arguments", &["a"]);
    client.expect_contents("policys", &[]);
}

#[test]
fn a_queue_that_nobody_uses_goes_by_policy() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    set_user(&node, "^q$", json!({"expires": 60_000}));
    node.advance(59_000);
    node.broker().vhost("/").unwrap().queue_handle("q").unwrap();
    node.advance(2000);
    client.expect_no_queue("q");
}

#[test]
fn a_limit_far_below_what_waits_is_met_in_bounded_steps() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    let bodies: Vec<String> = (0..3500).map(|number| number.to_string()).collect();
    for body in &bodies {
        client.publish("", "q", body);
    }
    set_user(&node, "^q$", json!({"max-length": 2}));
    node.advance(0);
    settle(&node);
    client.expect_contents("q", &["3498", "3499"]);
}

#[test]
fn a_restart_keeps_policies_and_their_effect() {
    let mut node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.declare_exchange("x", "direct", &[]);
    set_user(
        &node,
        "^[qx]$",
        json!({"max-length": 5, "alternate-exchange": "amq.fanout"}),
    );
    let operators = json!({"max-length": 2});
    set(
        &node,
        PolicyKind::Operator,
        "op",
        "^q$",
        3,
        operators.clone(),
    );
    let kinds = [PolicyKind::User, PolicyKind::Operator];
    let before = kinds.map(|kind| node.broker().policies(kind, None));
    let as_shown = shown(&node, "q");
    drop(client);
    node.restart();
    assert_eq!(kinds.map(|kind| node.broker().policies(kind, None)), before);
    assert_eq!(shown(&node, "q"), as_shown);
    let mut client = node.client();
    fill(&mut client, "q", &["a", "b", "c"]);
    assert_eq!(ready(&node, &mut client, "q"), 2);
    client.bind("q", "amq.fanout", "");
    client.publish("x", "nowhere", "d");
    client.expect_contents("q", &["c", "d"]);
}

#[test]
fn setting_a_policy_again_replaces_it() {
    let node = Node::start();
    let put = |limit: i64| {
        let new = NewPolicy {
            vhost: "/".into(),
            name: "p".into(),
            pattern: ".*".into(),
            apply_to: Some("queues".into()),
            priority: None,
            definition: json!({"max-length": limit}),
        };
        let receipt = node.broker().put_policy(PolicyKind::User, new);
        receipt.unwrap().wait().unwrap()
    };
    assert_eq!([put(1), put(2)], [Put::Created, Put::Updated]);
    let policies = node.broker().policies(PolicyKind::User, Some("/"));
    assert_eq!(policies.len(), 1);
    let mut client = node.client();
    client.declare("q", &[]);
    assert_eq!(shown(&node, "q"), json!(["p", null, {"max-length": 2}]));
}

/// A node whose disk syncs nothing any more, and `relaxed`, a queue whose confirms do not wait for that.
fn unsynced() -> (Node, Client) {
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let node = Node::start_on(Arc::new(disk.clone()));
    set_user(&node, "^relaxed", json!({"sync": "never"}));
    let mut client = node.client();
    for queue in ["relaxed", "strict"] {
        client.declare(queue, &[]);
        client.bind(queue, "amq.fanout", "");
    }
    disk.fail_for_ever(Operation::Sync, 0, ErrorKind::Other);
    (node, client)
}

#[test]
fn a_relaxed_queue_confirms_without_a_sync_and_another_does_not() {
    let (node, mut client) = unsynced();
    client.confirm();
    for number in 1..=3 {
        client.publish_with("", "relaxed", &persistent(), "a");
        client.expect_ack(number, false);
    }
    client.publish_with("", "strict", &persistent(), "b");
    client.expect_nack(4);
    let relaxed = node.broker().vhost("/").unwrap().queue_handle("relaxed");
    assert_eq!(
        node.broker().queue_sync(&relaxed.unwrap()).as_str(),
        "never"
    );
}

#[test]
fn a_message_for_both_waits_for_the_strict_one() {
    let (_node, mut client) = unsynced();
    client.confirm();
    client.publish_with("amq.fanout", "", &persistent(), "a");
    client.expect_nack(1);
}

#[test]
fn a_transaction_of_a_relaxed_queue_waits_for_no_sync() {
    let (_node, mut client) = unsynced();
    client.transact();
    client.publish_with("", "relaxed", &persistent(), "a");
    client.send(tx::Commit);
    client.expect(tx::CommitOk);
    client.publish_with("", "strict", &persistent(), "a");
    client.send(tx::Commit);
    let text = client.next();
    assert!(text.describe().contains("541"), "{}", text.describe());
}

#[test]
fn a_strict_queue_of_a_relaxed_node_is_synced_before_its_confirm() {
    let mut node = Node::start_with(|settings| settings.store.sync = haremq::config::Sync::Never);
    let mut client = node.client();
    client.declare("q", &[]);
    client.confirm();
    let synced = |node: &Node| node.broker().messages().journal().stats().syncs;
    let before = synced(&node);
    client.publish_with("", "q", &persistent(), "a");
    client.expect_ack(1, false);
    assert_eq!(synced(&node), before);
    set_user(&node, "^q$", json!({"sync": "always"}));
    let before = synced(&node);
    client.publish_with("", "q", &persistent(), "b");
    client.expect_ack(2, false);
    assert_eq!(synced(&node), before + 1);
    drop(client);
    node.restart();
    node.client().expect_contents("q", &["a", "b"]);
}
