//! An exchange as a whole: declaring, binding, unbinding, and what a large number of bindings costs.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;
use crate::routing::fixtures::{binding, definition, exchange, queue};

fn with_alternate(value: impl Into<Value>) -> ExchangeDefinition {
    let mut declared = definition("foo", ExchangeKind::Direct);
    declared.arguments.insert(ALTERNATE_EXCHANGE, value);
    declared
}

fn found(exchange: &Exchange, key: &str) -> Vec<Destination> {
    let mut found = Vec::new();
    exchange.matches(&[key.as_bytes()], None, &mut found);
    found.sort_unstable();
    found
}

#[test]
fn types_have_the_names_that_clients_use() {
    for name in ["direct", "fanout", "topic", "headers"] {
        assert_eq!(ExchangeKind::parse(name).unwrap().as_str(), name);
    }
    for name in ["x", "", "Direct"] {
        assert_eq!(
            ExchangeKind::parse(name),
            Err(Refusal::precondition_failed(format!(
                "unknown exchange type '{name}'"
            )))
        );
    }
}

#[test]
fn an_alternate_exchange_is_a_long_string() {
    let plain = definition("foo", ExchangeKind::Direct);
    assert_eq!(alternate_exchange_argument(&plain, "/"), Ok(None));
    assert_eq!(
        alternate_exchange_argument(&with_alternate("ae"), "/"),
        Ok(Some("ae".into()))
    );
    assert_eq!(
        alternate_exchange_argument(&with_alternate(5), "/"),
        Err(Refusal::precondition_failed(
            "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'foo' in vhost '/'"
        ))
    );
}

#[test]
fn redeclaring_compares_type_and_flags_in_order_and_then_the_alternate_exchange() {
    let existing = definition("foo", ExchangeKind::Direct);
    let check = |requested: &ExchangeDefinition, text: &str| {
        assert_eq!(
            check_equivalence(&existing, requested, "/"),
            Err(Refusal::precondition_failed(text))
        );
    };
    let mut requested = with_alternate("ae");
    check(
        &requested,
        "inequivalent arg 'alternate-exchange' for exchange 'foo' in vhost '/': \
         received the value 'ae' of type 'longstr' but current is none",
    );
    requested.internal = true;
    check(
        &requested,
        "inequivalent arg 'internal' for exchange 'foo' in vhost '/': received 'true' but current is 'false'",
    );
    requested.auto_delete = true;
    check(
        &requested,
        "inequivalent arg 'auto_delete' for exchange 'foo' in vhost '/': received 'true' but current is 'false'",
    );
    requested.durable = false;
    check(
        &requested,
        "inequivalent arg 'durable' for exchange 'foo' in vhost '/': received 'false' but current is 'true'",
    );
    requested.kind = ExchangeKind::Fanout;
    check(
        &requested,
        "inequivalent arg 'type' for exchange 'foo' in vhost '/': received 'fanout' but current is 'direct'",
    );
}

#[test]
fn redeclaring_compares_alternate_exchanges_by_value_and_nothing_else_of_the_arguments() {
    let existing = with_alternate("ae");
    let mut same = with_alternate(Value::Binary("ae".into()));
    same.arguments.insert("x-other", 1);
    assert_eq!(check_equivalence(&existing, &same, "/"), Ok(()));
    assert_eq!(
        check_equivalence(&existing, &with_alternate("other"), "/"),
        Err(Refusal::precondition_failed(
            "inequivalent arg 'alternate-exchange' for exchange 'foo' in vhost '/': \
             received 'other' but current is 'ae'"
        ))
    );
    assert_eq!(
        check_equivalence(&existing, &definition("foo", ExchangeKind::Direct), "/"),
        Err(Refusal::precondition_failed(
            "inequivalent arg 'alternate-exchange' for exchange 'foo' in vhost '/': \
             received none but current is the value 'ae' of type 'longstr'"
        ))
    );
}

#[test]
fn the_argument_beats_the_policy() {
    let mut exchange = Exchange::new(with_alternate("argument"));
    exchange.set_policy_alternate(Some("policy".into()));
    assert_eq!(exchange.alternate().map(|name| &**name), Some("argument"));

    let mut exchange = Exchange::new(definition("foo", ExchangeKind::Direct));
    assert_eq!(exchange.alternate(), None);
    exchange.set_policy_alternate(Some("policy".into()));
    assert_eq!(exchange.alternate().map(|name| &**name), Some("policy"));
}

#[test]
fn the_epoch_moves_with_what_changes_routes_and_with_nothing_else() {
    let mut exchange = exchange("x", ExchangeKind::Topic);
    let mut last = exchange.epoch().current();
    let mut moved = |exchange: &Exchange| {
        let before = std::mem::replace(&mut last, exchange.epoch().current());
        before != last
    };
    assert!(exchange.bind(binding(&queue(1), "a")).unwrap());
    assert!(moved(&exchange));
    assert!(!exchange.bind(binding(&queue(1), "a")).unwrap());
    assert!(exchange.bind(binding(&queue(1), "#.#.#")).is_err());
    exchange.unbind(&binding(&queue(1), "b"));
    exchange.remove_destination(&queue(2));
    exchange.set_policy_alternate(None);
    assert!(!moved(&exchange));
    exchange.unbind(&binding(&queue(1), "a"));
    assert!(moved(&exchange));
    exchange.bind(binding(&queue(1), "a")).unwrap();
    assert!(moved(&exchange));
    exchange.remove_destination(&queue(1));
    assert!(moved(&exchange));
    exchange.set_policy_alternate(Some("ae".into()));
    assert!(moved(&exchange));
    exchange.retire();
    assert!(moved(&exchange), "even without a binding");
    assert!(exchange.is_retired());
}

#[test]
fn auto_delete_comes_with_the_last_binding_and_never_before_the_first() {
    let mut declared = definition("x", ExchangeKind::Direct);
    declared.auto_delete = true;
    let mut exchange = Exchange::new(declared);
    assert!(!exchange.unbind(&binding(&queue(1), "a")).auto_delete);
    assert!(!exchange.remove_destination(&queue(1)).auto_delete);
    exchange.bind(binding(&queue(1), "a")).unwrap();
    exchange.bind(binding(&queue(1), "b")).unwrap();
    exchange.bind(binding(&queue(2), "a")).unwrap();
    assert!(!exchange.unbind(&binding(&queue(2), "a")).auto_delete);
    let unbound = exchange.remove_destination(&queue(1));
    assert!(unbound.auto_delete);
    assert_eq!(unbound.removed.len(), 2);
    exchange.bind(binding(&queue(1), "a")).unwrap();
    assert_eq!(exchange.retire().len(), 1);
    assert!(found(&exchange, "a").is_empty());
}

#[test]
fn bindings_that_differ_in_their_arguments_alone_are_two() {
    let plain = binding(&queue(1), "a");
    let arguments = FieldTable::from_iter([("n", Value::I32(1))]);
    let other = Binding::new(queue(1), "a", &arguments);
    for kind in [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
    ] {
        let mut exchange = exchange("x", kind);
        assert!(exchange.bind(plain.clone()).unwrap());
        assert!(exchange.bind(other.clone()).unwrap());
        assert_eq!(exchange.bindings().len(), 2);
        assert_eq!(found(&exchange, "a"), [queue(1)]);
        exchange.unbind(&plain);
        assert_eq!(found(&exchange, "a"), [queue(1)]);
        exchange.unbind(&other);
        assert_eq!(found(&exchange, "a"), []);
    }
}

#[test]
fn a_binding_key_has_at_most_255_bytes() {
    let exchange = exchange("x", ExchangeKind::Direct);
    let check = |bytes| exchange.check_binding(&"k".repeat(bytes), &FieldTable::new());
    assert_eq!(check(BINDING_KEY_BYTES_MAX), Ok(()));
    assert_eq!(
        check(BINDING_KEY_BYTES_MAX + 1),
        Err(Refusal::precondition_failed(
            "binding key has 256 bytes, at most 255 are allowed"
        ))
    );
}

fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// The CPU time of binding and unbinding 1000 keys in an exchange that has `others`.
fn cost_of_change(kind: ExchangeKind, others: &[Binding], changes: &[Binding]) -> Duration {
    let mut exchange = exchange("x", kind);
    for other in others {
        exchange.bind(other.clone()).unwrap();
    }
    let start = cpu_time();
    for change in changes {
        assert!(exchange.bind(change.clone()).unwrap());
    }
    for change in changes {
        assert_eq!(exchange.unbind(change).removed.len(), 1);
    }
    let cost = cpu_time() - start;
    assert_eq!(exchange.bindings().len(), others.len());
    cost
}

#[test]
fn the_cost_of_a_bind_does_not_grow_with_the_number_of_bindings() {
    let one_queue = |count: u64, word: &'static str| -> Vec<Binding> {
        (0..count)
            .map(|n| binding(&queue(1), &format!("{word}.{n}.a.*")))
            .collect()
    };
    let many_queues = |first: u64, count: u64| -> Vec<Binding> {
        (first..first + count)
            .map(|n| binding(&queue(n), "key"))
            .collect()
    };
    let cases = [
        (one_queue(100_000, "old"), one_queue(1000, "new")),
        (many_queues(0, 100_000), many_queues(200_000, 1000)),
    ];
    for (others, changes) in &cases {
        for kind in [
            ExchangeKind::Direct,
            ExchangeKind::Fanout,
            ExchangeKind::Topic,
        ] {
            let few = cost_of_change(kind, &others[..1000], changes);
            let many = cost_of_change(kind, others, changes);
            // A cost in proportion to the number would be a hundredfold; a table that grows just now,
            // colder caches and a deeper tree are allowed for.
            assert!(many < few * 25, "{kind:?}: {few:?} grew to {many:?}");
        }
    }
}

#[test]
fn removing_a_queue_takes_the_time_of_its_own_bindings() {
    let mut exchange = exchange("x", ExchangeKind::Topic);
    for number in 0..100_000 {
        let key = format!("a.{}.b", number / 2);
        exchange.bind(binding(&queue(number), &key)).unwrap();
    }
    let start = cpu_time();
    for number in 0..1000 {
        assert_eq!(exchange.remove_destination(&queue(number)).removed.len(), 1);
    }
    let few = cpu_time() - start;
    assert_eq!(exchange.bindings().len(), 99_000);
    let start = cpu_time();
    exchange.retire();
    let all = cpu_time() - start;
    // A thousand removals that each looked at every binding would cost far more than one look at all.
    assert!(few < all * 10, "{few:?} for 1 %, {all:?} for all");
}
