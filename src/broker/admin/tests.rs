//! Requests of operators against a broker on a folder of its own, and what a restart keeps of them.

#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};

use super::*;
use crate::auth::{PasswordHash, Permission, TopicPermission, UserLimits};
use crate::broker::VhostLimits;
use crate::broker::policies::{NewPolicy, PolicyKind};
use crate::broker::tests::Node;
use crate::model::Command;
use crate::queue::QueueKind;
use crate::store::definitions::Definitions;

fn user(name: &str, tags: &[&str]) -> NewUser {
    NewUser {
        name: name.into(),
        password: PasswordHash::none(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        limits: None,
    }
}

fn permission(user: &str, vhost: &str, configure: &str) -> Permission {
    Permission {
        user: user.into(),
        vhost: vhost.into(),
        configure: configure.to_owned(),
        write: ".*".to_owned(),
        read: ".*".to_owned(),
    }
}

fn topic(user: &str, vhost: &str) -> TopicPermission {
    TopicPermission {
        user: user.into(),
        vhost: vhost.into(),
        exchange: "amq.topic".into(),
        write: "^a".to_owned(),
        read: ".*".to_owned(),
    }
}

fn vhost(name: &str) -> VhostChange {
    VhostChange {
        name: name.to_owned(),
        ..VhostChange::default()
    }
}

fn policy(vhost: &str, name: &str, definition: Json) -> NewPolicy {
    NewPolicy {
        vhost: vhost.into(),
        name: name.into(),
        pattern: ".*".into(),
        apply_to: None,
        priority: None,
        definition,
    }
}

/// Done and synced.
fn done<T>(receipt: Result<Receipt<T>, AdminError>) -> T {
    receipt.unwrap().wait().unwrap()
}

fn declare(name: &str) -> Command {
    Command::DeclareQueue {
        name: name.to_owned(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: crate::protocol::FieldTable::new(),
    }
}

fn refused<T>(receipt: Result<Receipt<T>, AdminError>) -> String {
    match receipt {
        Ok(_) => panic!("not refused"),
        Err(error) => error.to_string(),
    }
}

/// Everything that the catalogue has, which is everything that a restart finds.
fn stored(node: &Node) -> Definitions {
    node.broker.definitions().unwrap()
}

#[test]
fn users_are_made_changed_and_deleted_with_their_permissions() {
    let node = Node::start();
    let broker = &node.broker;
    assert_eq!(
        done(broker.put_user(user("u", &["management"]))),
        Put::Created
    );
    assert_eq!(
        done(broker.put_permission(permission("u", "/", ".*"))),
        Put::Created
    );
    assert_eq!(
        done(broker.put_permission(permission("u", "/", "^a"))),
        Put::Updated
    );
    assert_eq!(
        done(broker.put_topic_permission(topic("u", "/"))),
        Put::Created
    );
    assert_eq!(
        done(broker.put_user_limit("u", "max-channels", &json!(7))),
        Put::Created
    );
    assert_eq!(done(broker.put_user(user("u", &[]))), Put::Updated);
    let node = node.restart();
    let broker = &node.broker;
    let found = broker.directory().user("u").unwrap();
    assert_eq!((found.tags.len(), found.limits.max_channels), (0, Some(7)));
    let found = broker.directory().permission("u", "/").unwrap();
    assert_eq!(found.configure, "^a");
    assert_eq!(broker.directory().topic_permissions(), [topic("u", "/")]);
    done(broker.delete_user("u"));
    assert_eq!(refused(broker.delete_user("u")), "no user 'u'");
    assert_eq!(broker.directory().permission("u", "/"), None);
    let left = stored(&node);
    assert_eq!(
        (
            left.users.len(),
            left.permissions.len(),
            left.topic_permissions.len()
        ),
        (1, 1, 0)
    );
}

#[test]
fn protected_users_stay() {
    let node = Node::start();
    let broker = &node.broker;
    done(broker.put_user(user("u", &["protected"])));
    done(broker.put_user(user("v", &[])));
    let text = "Protected users cannot be modified via the HTTP API";
    assert_eq!(refused(broker.put_user(user("u", &[]))), text);
    assert_eq!(refused(broker.delete_user("u")), text);
    let names: Vec<Name> = ["u", "v", "nobody"].map(Name::from).into();
    assert_eq!(done(broker.delete_users(&names)), 1);
    assert!(broker.directory().user("u").is_some());
}

#[test]
fn wrong_requests_are_refused_and_change_nothing() {
    let node = Node::start();
    let broker = &node.broker;
    let before = stored(&node);
    let many = vec!["t"; crate::auth::TAGS_MAX + 1];
    assert_eq!(
        refused(broker.put_user(user("u", &many))),
        "{too_many_tags,32}"
    );
    assert_eq!(
        refused(broker.put_permission(permission("u", "/", ""))),
        "no user 'u'"
    );
    assert_eq!(
        refused(broker.put_permission(permission("guest", "v", ""))),
        "no virtual host 'v'"
    );
    assert_eq!(
        refused(broker.put_permission(permission("guest", "/", "(a"))),
        "configure pattern '(a' of user 'guest' in vhost '/': not a regular expression: unclosed group"
    );
    assert_eq!(
        refused(broker.delete_permission("v", "guest")),
        "no permission of user 'guest' in vhost 'v'"
    );
    assert_eq!(
        refused(broker.put_user_limit("guest", "max-queues", &json!(1))),
        "Unrecognised terms [{<<\"max-queues\">>,1}] in user-limits"
    );
    assert_eq!(
        refused(broker.put_user_limit("guest", "max-channels", &json!("1"))),
        "max-channels should be a number, actually was <<\"1\">>"
    );
    assert_eq!(
        refused(broker.put_vhost_limit("/", "max-queues", &json!("1"))),
        "Validation failed\n\nmax-queues should be a number, actually was <<\"1\">>\n"
    );
    let wrong = VhostChange {
        default_queue_type: Some("stack".to_owned()),
        ..vhost("v")
    };
    assert_eq!(
        refused(broker.put_vhost(wrong, None)),
        "stack is not a valid queue type"
    );
    assert_eq!(
        refused(broker.put_parameter("/", "shovel", "s", json!({}))),
        "Validation failed\n\ncomponent shovel not found\n"
    );
    assert_eq!(
        refused(broker.put_parameter("/", "policy", "p", json!({}))),
        "policies may not be set using this method"
    );
    assert_eq!(
        refused(broker.delete_parameter("/", "shovel", "s")),
        "Parameter does not exist"
    );
    assert_eq!(
        refused(broker.put_policy(
            PolicyKind::User,
            policy("/", "p", json!({"max-length": -1}))
        )),
        "Validation failed\n\n-1 is not a valid maximum length\n"
    );
    assert_eq!(
        refused(broker.delete_policy(PolicyKind::Operator, "/", "p")),
        "Parameter does not exist"
    );
    assert_eq!(stored(&node), before);
}

#[test]
fn limits_are_kept_enforced_and_lifted() {
    let node = Node::start();
    assert_eq!(
        done(node.broker.put_vhost_limit("/", "max-queues", &json!(1))),
        Put::Created
    );
    done(
        node.broker
            .put_vhost_limit("/", "max-connections", &json!(-1)),
    );
    let node = node.restart();
    let broker = &node.broker;
    let limits = broker.vhost("/").unwrap().limits();
    let expected = VhostLimits {
        connections_max: None,
        queues_max: Some(1),
    };
    assert_eq!(limits, expected);
    let set = json!({"max-queues": 1, "max-connections": -1});
    assert_eq!(json!(broker.vhost_limits(None)[0].1), set);
    let mut client = node.connect();
    client.declare("a", |_| {});
    let refusal = client.try_run(1, declare("b")).unwrap_err();
    assert_eq!(
        refusal.text,
        "cannot declare queue 'b': queue limit in vhost '/' (1) is reached"
    );
    done(broker.delete_vhost_limit("/", "max-queues"));
    done(broker.delete_vhost_limit("/", "max-queues"));
    client.run(1, declare("b"));
}

#[test]
fn users_limits_hold_for_connections_that_are_open() {
    let node = Node::start();
    let mut client = node.connect();
    done(
        node.broker
            .put_user_limit("guest", "max-channels", &json!(2)),
    );
    client.run(2, Command::OpenChannel);
    let refusal = client.try_run(3, Command::OpenChannel).unwrap_err();
    assert_eq!(
        refusal.text,
        "number of channels opened for user 'guest' has reached the maximum allowed user limit of 2"
    );
    done(node.broker.delete_user_limit("guest", "max-channels"));
    client.run(3, Command::OpenChannel);
}

#[test]
fn of_many_that_open_at_once_no_more_get_in_than_may() {
    let node = Node::start();
    let limits = UserLimits {
        max_connections: Some(5),
        max_channels: None,
    };
    let mut guest = user("guest", &[]);
    guest.password = PasswordHash::create(crate::auth::HashingAlgorithm::Sha256, b"guest").unwrap();
    guest.limits = Some(limits);
    done(node.broker.put_user(guest));
    let registry = node.broker.registry();
    let limits = crate::broker::registry::OpenLimits {
        of_vhost: Some(7),
        of_user: Some(5),
    };
    let opened = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (registry, opened) = (&registry, &opened);
            scope.spawn(move || {
                for number in 0..100 {
                    let id = crate::model::ConnectionId(1000 + thread * 100 + number);
                    let (guest, slash) = (Name::from("guest"), Name::from("/"));
                    if registry.open(id, &guest, &slash, limits).is_ok() {
                        opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(opened.into_inner(), 5);
}

#[test]
fn virtual_hosts_are_made_changed_and_kept() {
    let node = Node::start();
    let broker = &node.broker;
    let guest = Name::from("guest");
    let new = VhostChange {
        description: Some("for tests".to_owned()),
        tags: Some(vec!["a".to_owned()]),
        default_queue_type: Some("quorum".to_owned()),
        tracing: Some(true),
        ..vhost("v")
    };
    assert_eq!(done(broker.put_vhost(new, Some(&guest))), Put::Created);
    let again = VhostChange {
        tracing: Some(false),
        default_queue_type: Some("undefined".to_owned()),
        ..vhost("v")
    };
    assert_eq!(done(broker.put_vhost(again, Some(&guest))), Put::Updated);
    let node = node.restart();
    let made = node.broker.vhost("v").unwrap();
    let row = made.metadata();
    assert_eq!((row.description.as_str(), row.tags.len()), ("for tests", 1));
    assert_eq!(row.metadata.get("tracing"), None);
    assert_eq!(made.default_queue_kind(), Some(QueueKind::Quorum));
    assert_eq!(made.exchanges.len(), 6);
    let granted = node.broker.directory().permission("guest", "v").unwrap();
    assert_eq!(granted, permission("guest", "v", ".*"));
    let names: Vec<_> = node
        .broker
        .vhosts()
        .iter()
        .map(|v| v.name.clone())
        .collect();
    assert_eq!(
        names.iter().map(|name| &**name).collect::<Vec<_>>(),
        ["/", "v"]
    );
}

#[test]
fn a_protected_host_is_not_deleted() {
    let node = Node::start();
    done(node.broker.put_vhost(vhost("v"), None));
    done(node.broker.set_deletion_protection("v", true));
    let node = node.restart();
    assert_eq!(
        refused(node.broker.delete_vhost("v")),
        "Refusing to delete virtual host 'v' because it is protected from deletion"
    );
    done(node.broker.set_deletion_protection("v", false));
    done(node.broker.delete_vhost("v"));
    assert!(node.broker.vhost("v").is_none());
}

#[test]
fn a_deleted_host_takes_everything_with_it() {
    let node = Node::start();
    let mut client = node.connect();
    client.declare("q", |flags| flags.durable = true);
    client.declare("transient", |_| {});
    client.declare_exchange("x", true, false);
    client.bind("q", "x");
    client.publish("x", "");
    let broker = &node.broker;
    done(broker.put_policy(PolicyKind::User, policy("/", "p", json!({"max-length": 9}))));
    done(broker.put_policy(
        PolicyKind::Operator,
        policy("/", "o", json!({"max-length": 9})),
    ));
    done(broker.put_vhost_limit("/", "max-queues", &json!(100)));
    done(broker.put_topic_permission(topic("guest", "/")));
    let gone = broker.vhost("/").unwrap();
    done(broker.delete_vhost("/"));
    assert_eq!(broker.queue_count(), 0);
    assert_eq!(broker.parameters(None, None), []);
    assert_eq!(broker.directory().permissions(), []);
    // Whoever has it open still can neither declare anything nor find what was there.
    let refusal = client.try_run(1, declare("late")).unwrap_err();
    assert_eq!(
        refusal.text,
        "configure access to queue 'late' in vhost '/' refused for user 'guest'"
    );
    assert_eq!(gone.check_there().unwrap_err().text, "vhost / not found");
    assert_eq!((gone.queues.len(), gone.exchanges.len()), (0, 0));
    let left = stored(&node);
    assert_eq!(
        (
            left.vhosts.len(),
            left.queues.len(),
            left.exchanges.len(),
            left.bindings.len()
        ),
        (0, 0, 0, 0)
    );
    assert_eq!((left.policies.len(), left.parameters.len()), (0, 0));
    drop(client);
    done(node.broker.put_vhost(vhost("/"), Some(&"guest".into())));
    let node = node.restart();
    assert_eq!(node.broker.queue_count(), 0);
    let mut client = node.connect();
    client.declare("q", |flags| flags.durable = true);
    let again = node.broker.vhost("/").unwrap().queue_handle("q").unwrap();
    assert_eq!(again.counts().unwrap().messages_ready, 0);
}

#[test]
fn parameters_of_the_node() {
    let node = Node::start();
    assert_eq!(node.broker.cluster_name(), None);
    assert_eq!(done(node.broker.set_cluster_name("ours")), Put::Created);
    done(
        node.broker
            .put_global_parameter("mqtt_port_to_vhost_mapping", json!({"1": "/"})),
    );
    assert_eq!(
        refused(node.broker.put_global_parameter("cluster_name", json!(1))),
        "1 is not a name of a cluster"
    );
    let node = node.restart();
    assert_eq!(node.broker.cluster_name().as_deref(), Some("ours"));
    assert_eq!(node.broker.global_parameters().len(), 2);
    done(node.broker.delete_global_parameter("cluster_name"));
    assert_eq!(node.broker.cluster_name(), None);
    assert_eq!(
        refused(node.broker.delete_global_parameter("cluster_name")),
        "Parameter does not exist"
    );
}

#[test]
fn an_operator_policy_is_a_parameter_too() {
    let node = Node::start();
    let broker = &node.broker;
    let value = json!({"pattern": ".*", "definition": {"max-length": 1}, "priority": 2, "apply-to": "queues"});
    assert_eq!(
        done(broker.put_parameter("/", "operator_policy", "o", value.clone())),
        Put::Created
    );
    let found = broker.policy(PolicyKind::Operator, "/", "o").unwrap();
    assert_eq!((found.priority, found.apply_to.as_str()), (2, "queues"));
    let parameters = broker.parameters(Some("operator_policy"), Some("/"));
    assert_eq!(parameters[0].value, value);
    done(broker.delete_parameter("/", "operator_policy", "o"));
    assert_eq!(broker.policies(PolicyKind::Operator, None), []);
    assert_eq!(broker.parameters(None, None), []);
}

/// A document that uses every section.
const DOCUMENT: &str = r#"{
    "users": [{"name": "u", "password_hash": "", "tags": ["management"], "limits": {"max-channels": 3}}],
    "vhosts": [{"name": "v", "metadata": {"description": "d", "default_queue_type": "classic"}}],
    "permissions": [{"user": "u", "vhost": "v", "configure": ".*", "write": ".*", "read": ".*"}],
    "topic_permissions": [{"user": "u", "vhost": "v", "exchange": "amq.topic", "write": "a", "read": "b"}],
    "parameters": [
        {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 50}},
        {"vhost": "v", "component": "operator_policy", "name": "o",
         "value": {"pattern": "", "definition": {"max-length": 2}, "priority": 0}}
    ],
    "global_parameters": [{"name": "cluster_name", "value": "c"}],
    "policies": [{"vhost": "v", "name": "p", "pattern": "^q", "definition": {"max-length": 5}, "priority": 1}],
    "queues": [
        {"vhost": "v", "name": "q", "durable": true, "auto_delete": false, "arguments": {}},
        {"vhost": "v", "name": "qq", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}},
        {"vhost": "v", "name": "t", "durable": false, "auto_delete": false, "arguments": {}}
    ],
    "exchanges": [{"vhost": "v", "name": "x", "type": "topic", "durable": true, "auto_delete": false, "arguments": {}}],
    "bindings": [
        {"vhost": "v", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "a.#", "arguments": {}},
        {"vhost": "v", "source": "x", "destination": "t", "destination_type": "queue", "routing_key": "b", "arguments": {}}
    ]
}"#;

#[test]
fn definitions_are_imported_into_a_running_broker_and_survive() {
    let node = Node::start();
    let report = done(node.broker.import_definitions(DOCUMENT.as_bytes(), None));
    assert_eq!((report.changed, report.unchanged), (14, 0), "{report}");
    assert_eq!(report.warnings, [] as [String; 0]);
    let check = |node: &Node, queues: usize, bindings: usize| {
        let vhost = node.broker.vhost("v").unwrap();
        assert_eq!(vhost.queues.len(), queues);
        let bound = vhost.exchange_cell("x").unwrap();
        assert_eq!(bound.read(|exchange| exchange.bindings().len()), bindings);
        assert_eq!(vhost.limits().queues_max, Some(50));
        assert_eq!(vhost.queue_handle("qq").unwrap().kind(), QueueKind::Quorum);
        let applied = vhost.queue_handle("q").unwrap().policy().unwrap();
        assert_eq!(json!(applied.definition), json!({"max-length": 2}));
        assert_eq!(node.broker.cluster_name().as_deref(), Some("c"));
        let user = node.broker.directory().user("u").unwrap();
        assert_eq!(user.limits.max_channels, Some(3));
    };
    check(&node, 3, 2);
    // All of it again: nothing changes but what does not survive a restart, which is there.
    let again = done(node.broker.import_definitions(DOCUMENT.as_bytes(), None));
    assert_eq!((again.changed, again.conflicts.len()), (0, 0), "{again}");
    let node = node.restart();
    check(&node, 2, 1);
}

#[test]
fn a_document_of_one_host_goes_where_it_is_told() {
    let node = Node::start();
    let json =
        br#"{"queues": [{"name": "q", "durable": true, "auto_delete": false, "arguments": {}}],
        "policies": [{"name": "p", "pattern": "q", "definition": {"expires": 5000}}]}"#;
    done(node.broker.import_definitions(json, Some("/")));
    let queue = node.broker.vhost("/").unwrap().queue_handle("q").unwrap();
    assert_eq!(queue.policy().unwrap().policy.as_deref(), Some("p"));
    assert!(refused(node.broker.import_definitions(json, None)).contains(".vhost"));
}

#[test]
fn a_wrong_document_changes_nothing() {
    let node = Node::start();
    let before = stored(&node);
    let wrong = br#"{"users": [{"name": "u", "password_hash": "", "tags": []}],
        "policies": [{"vhost": "/", "name": "p", "pattern": "q", "definition": {"max-length": -5}}]}"#;
    assert_eq!(
        refused(node.broker.import_definitions(wrong, None)),
        "Validation failed\n\n-5 is not a valid maximum length\n"
    );
    assert!(refused(node.broker.import_definitions(b"{", None)).starts_with("not JSON"));
    assert_eq!(stored(&node), before);
    assert!(node.broker.directory().user("u").is_none());
}

#[test]
fn a_change_that_is_not_stored_is_told() {
    let node = Node::start();
    node.broker.close().unwrap();
    let receipt = node.broker.put_user(user("u", &[])).unwrap();
    assert!(matches!(receipt.wait(), Err(AdminError::NotStored(_))));
}
