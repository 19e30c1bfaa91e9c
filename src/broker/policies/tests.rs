//! Which policy holds, and what two say together.

use serde_json::json;

use super::*;

fn policy(name: &str, pattern: &str, apply_to: &str, priority: i64, definition: Json) -> Policy {
    Policy {
        vhost: "/".into(),
        name: name.into(),
        pattern: pattern.to_owned(),
        apply_to: apply_to.to_owned(),
        priority,
        definition: definition.as_object().cloned().unwrap_or_default(),
    }
}

/// `user/operator`, `-` for none.
fn names(set: &PolicySet, object: Object<'_>) -> String {
    let found = set.find(object);
    let applied = found.applied.clone().unwrap_or_default();
    let shown = |name: &Option<Name>| name.clone().unwrap_or_else(|| "-".into());
    format!(
        "{}/{}",
        shown(&applied.policy),
        shown(&applied.operator_policy)
    )
}

#[test]
fn the_highest_priority_wins_and_then_the_first_name() {
    let limit = json!({"max-length": 1});
    let set = PolicySet::new(
        [
            policy("low", "^q", "queues", 1, limit.clone()),
            policy("b", "^q", "queues", 2, limit.clone()),
            policy("a", "^q", "queues", 2, limit.clone()),
            policy("other", "^other", "all", 9, limit.clone()),
        ],
        [policy("op", "1$", "queues", -1, limit)],
    );
    let queue = |name| Object::Queue(QueueKind::Classic, name);
    assert_eq!(names(&set, queue("q")), "a/-");
    assert_eq!(names(&set, queue("q1")), "a/op");
    assert_eq!(names(&set, queue("x1")), "-/op");
    assert_eq!(names(&set, queue("x")), "-/-");
    assert_eq!(names(&set, queue("another")), "-/-");
    assert_eq!(names(&set, Object::Exchange("other")), "other/-");
    let order: Vec<_> = set.policies(PolicyKind::User).map(|p| &*p.name).collect();
    assert_eq!(order, ["other", "a", "b", "low"]);
}

#[test]
fn a_policy_applies_to_what_it_says() {
    for (apply_to, expected) in [
        ("all", [true, true, true]),
        ("queues", [true, true, false]),
        ("classic_queues", [true, false, false]),
        ("quorum_queues", [false, true, false]),
        ("streams", [false, false, false]),
        ("exchanges", [false, false, true]),
    ] {
        let set = PolicySet::new([policy("p", "", apply_to, 0, json!({"expires": 1}))], []);
        let objects = [
            Object::Queue(QueueKind::Classic, "q"),
            Object::Queue(QueueKind::Quorum, "q"),
            Object::Exchange("x"),
        ];
        let applies = objects.map(|object| set.find(object).applied.is_some());
        assert_eq!(applies, expected, "{apply_to}");
    }
}

#[test]
fn a_key_of_quorum_queues_keeps_the_whole_policy_from_classic_ones() {
    let both = json!({"delivery-limit": 3, "max-length": 1});
    let set = PolicySet::new([policy("p", ".*", "queues", 0, both)], []);
    assert_eq!(names(&set, Object::Queue(QueueKind::Classic, "q")), "-/-");
    assert_eq!(names(&set, Object::Queue(QueueKind::Quorum, "q")), "p/-");
}

#[test]
fn a_pattern_that_is_not_understood_applies_to_nothing() {
    let set = PolicySet::new([policy("p", "^(?!q)", "all", 0, json!({"expires": 1}))], []);
    assert_eq!(names(&set, Object::Exchange("x")), "-/-");
}

#[test]
fn a_definition_becomes_settings_and_nonsense_in_it_nothing() {
    let user = json!({
        "message-ttl": 10, "max-length": 7, "max-length-bytes": "x", "overflow": "reject-publish",
        "dead-letter-exchange": "dlx", "sync": "interval", "unknown": 1,
    });
    let operator = json!({"message-ttl": 5, "expires": -1});
    let set = PolicySet::new(
        [policy("u", ".*", "all", 0, user)],
        [policy("o", ".*", "all", 0, operator)],
    );
    let found = set.find(Object::Queue(QueueKind::Classic, "q"));
    assert_eq!(
        found.settings,
        PolicySettings {
            message_ttl_ms: Some(5),
            max_length: Some(7),
            overflow: Some(Overflow::RejectPublish),
            dead_letter_exchange: Some("dlx".into()),
            sync: Some(SyncDemand::Interval),
            ..PolicySettings::default()
        }
    );
    let again = set.find(Object::Queue(QueueKind::Classic, "another"));
    assert!(
        Arc::ptr_eq(&found, &again),
        "queues share what holds for them"
    );
}

#[test]
fn an_operator_policy_is_the_same_after_it_was_stored() {
    let one = policy("p", "^q", "queues", 7, json!({"expires": 1}));
    assert_eq!(
        from_value(&"/".into(), &"p".into(), &to_value(&one)),
        Some(one)
    );
    assert_eq!(from_value(&"/".into(), &"p".into(), &json!({})), None);
}
