//! Routes through small worlds that are drawn by hand, and through random ones beside a plain model.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::protocol::{FieldTable, Value};
use crate::routing::fixtures::{binding, definition, exchange, queue};
use crate::routing::{Binding, ExchangeKind, RouteCache};

/// A virtual host in one thread.
#[derive(Default)]
struct World {
    exchanges: BTreeMap<String, Rc<RefCell<Exchange>>>,
    queues: BTreeMap<String, QueueId>,
    declarations: Epoch,
}

impl ExchangeHandle for Rc<RefCell<Exchange>> {
    fn read<R>(&self, look: impl FnOnce(&Exchange) -> R) -> R {
        look(&self.borrow())
    }
}

impl Topology for World {
    type Handle = Rc<RefCell<Exchange>>;

    fn exchange(&self, name: &str) -> Option<Self::Handle> {
        assert!(!name.is_empty(), "the default exchange is never looked up");
        self.exchanges.get(name).cloned()
    }

    fn queue(&self, name: &[u8]) -> Option<QueueId> {
        self.queues.get(std::str::from_utf8(name).ok()?).copied()
    }

    fn declarations(&self) -> &Epoch {
        &self.declarations
    }
}

impl World {
    fn of(exchanges: &[(&str, ExchangeKind)]) -> Self {
        let mut world = Self::default();
        for (name, kind) in exchanges {
            world.declare(exchange(name, *kind));
        }
        world
    }

    fn declare(&mut self, exchange: Exchange) {
        let name = exchange.name().to_string();
        self.exchanges.insert(name, Rc::new(RefCell::new(exchange)));
        self.declarations.advance();
    }

    fn delete(&mut self, name: &str) {
        if let Some(exchange) = self.exchanges.remove(name) {
            exchange.borrow_mut().retire();
        }
        for exchange in self.exchanges.values() {
            exchange.borrow_mut().remove_destination(&to(name));
        }
    }

    fn bind(&self, source: &str, destination: &Destination, key: &str) {
        let mut source = self.exchanges[source].borrow_mut();
        source.bind(binding(destination, key)).unwrap();
    }

    fn unbind(&self, source: &str, destination: &Destination, key: &str) {
        let mut source = self.exchanges[source].borrow_mut();
        source.unbind(&binding(destination, key));
    }

    fn set_alternate(&self, name: &str, alternate: &str) {
        let mut exchange = self.exchanges[name].borrow_mut();
        exchange.set_policy_alternate(Some(alternate.into()));
    }

    fn routes(&self, start: &str, keys: &[&str]) -> Vec<u64> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let mut router = Router::default();
        let route = router.route(self, &self.exchanges[start], &keys, None);
        route.queues.iter().map(|queue| queue.0).collect()
    }

    fn is_cacheable(&self, start: &str, keys: &[&[u8]]) -> bool {
        Router::default()
            .route(self, &self.exchanges[start], keys, None)
            .cacheable
    }
}

fn to(exchange: &str) -> Destination {
    Destination::Exchange(exchange.into())
}

use ExchangeKind::{Direct, Fanout, Headers, Topic};

#[test]
fn keys_of_cc_and_bcc_are_routed_with_the_first_and_each_queue_is_found_once() {
    let world = World::of(&[("x", Direct)]);
    world.bind("x", &queue(2), "a");
    world.bind("x", &queue(1), "b");
    world.bind("x", &queue(2), "b");
    assert_eq!(world.routes("x", &["a"]), [2]);
    assert_eq!(world.routes("x", &["c", "b", "a"]), [1, 2]);
    assert!(world.routes("x", &["c"]).is_empty());
}

#[test]
fn bindings_between_exchanges_are_followed_and_cycles_end() {
    let world = World::of(&[("x", Topic), ("y", Direct), ("z", Fanout)]);
    world.bind("x", &to("y"), "a.#");
    world.bind("y", &to("z"), "a.b");
    world.bind("z", &to("x"), "");
    world.bind("z", &to("z"), "");
    world.bind("z", &queue(1), "");
    world.bind("y", &queue(2), "a.c");
    world.bind("x", &queue(3), "*.*");
    assert_eq!(world.routes("x", &["a.b"]), [1, 3]);
    assert_eq!(world.routes("x", &["a.c"]), [2, 3]);
    assert_eq!(world.routes("z", &["other"]), [1]);
    assert_eq!(world.routes("z", &["a.c"]), [1, 2, 3]);
}

#[test]
fn an_alternate_exchange_gets_what_found_nothing_and_nothing_else() {
    let mut world = World::of(&[("x", Direct), ("ae", Fanout)]);
    world.bind("x", &queue(1), "a");
    world.bind("ae", &queue(2), "");
    world.set_alternate("x", "ae");
    assert_eq!(world.routes("x", &["a"]), [1]);
    assert_eq!(world.routes("x", &["b"]), [2]);
    assert_eq!(world.routes("x", &["b", "a"]), [1], "CC found something");
    assert_eq!(world.routes("x", &["b", "c"]), [2]);
    world.delete("ae");
    assert!(
        world.routes("x", &["b"]).is_empty(),
        "a missing one is ignored"
    );
}

#[test]
fn alternate_exchanges_form_chains_and_their_loops_are_cut() {
    let world = World::of(&[("x", Direct), ("y", Direct), ("z", Direct)]);
    world.set_alternate("x", "y");
    world.set_alternate("y", "z");
    world.set_alternate("z", "x");
    world.bind("z", &queue(1), "k");
    assert_eq!(world.routes("x", &["k"]), [1]);
    assert!(world.routes("x", &["other"]).is_empty());
    world.set_alternate("x", "x");
    assert!(world.routes("x", &["k"]).is_empty());
    world.set_alternate("x", "");
    assert!(world.routes("x", &["k"]).is_empty());
}

#[test]
fn the_alternate_exchange_of_a_bound_exchange_counts_and_finding_an_exchange_is_finding_something()
{
    let world = World::of(&[
        ("x", Fanout),
        ("y", Direct),
        ("of-x", Fanout),
        ("of-y", Fanout),
    ]);
    world.bind("x", &to("y"), "");
    world.bind("of-x", &queue(1), "");
    world.bind("of-y", &queue(2), "");
    world.set_alternate("x", "of-x");
    assert!(world.routes("x", &["k"]).is_empty());
    world.set_alternate("y", "of-y");
    assert_eq!(world.routes("x", &["k"]), [2]);
}

#[test]
fn headers_are_looked_at_on_the_whole_way() {
    let world = World::of(&[("x", Fanout), ("h", Headers)]);
    world.bind("x", &to("h"), "");
    let arguments = FieldTable::from_iter([("n", Value::I32(1))]);
    world.exchanges["h"]
        .borrow_mut()
        .bind(Binding::new(queue(1), "", &arguments))
        .unwrap();
    let headers = FieldTable::from_iter([("n", Value::I64(1))]).to_encoded();
    let mut router = Router::default();
    let start = &world.exchanges["x"];
    let route = router.route(&world, start, &[b"k"], Some(headers.as_table()));
    assert_eq!(route.queues, [QueueId(1)]);
    assert!(!route.cacheable);
    assert!(router.route(&world, start, &[b"k"], None).queues.is_empty());
}

#[test]
fn the_default_exchange_finds_queues_by_name() {
    let mut world = World::default();
    world.queues.insert("b".into(), QueueId(1));
    world.queues.insert("a".into(), QueueId(2));
    let mut router = Router::default();
    let mut check = |keys: &[&[u8]], queues: &[u64], cacheable| {
        let route = router.route_default(&world, keys);
        let found: Vec<u64> = route.queues.iter().map(|queue| queue.0).collect();
        assert_eq!(found, queues);
        assert_eq!(route.cacheable, cacheable);
        assert!(route.visited.is_empty());
    };
    check(&[b"a"], &[2], true);
    check(&[b"a", b"b", b"a"], &[1, 2], false);
    check(&[b"c"], &[], false);
    check(&[b"\xff"], &[], false);
}

#[test]
fn what_rests_on_more_than_exchange_and_key_is_not_cacheable() {
    let world = World::of(&[("x", Direct), ("h", Headers)]);
    assert!(world.is_cacheable("x", &[b"a"]));
    assert!(!world.is_cacheable("x", &[b"a", b"b"]));
    assert!(!world.is_cacheable("h", &[b"a"]));
    world.bind("x", &to("h"), "a");
    assert!(!world.is_cacheable("x", &[b"a"]));
    assert!(world.is_cacheable("x", &[b"b"]));
}

#[test]
fn a_route_over_very_many_exchanges_is_found_but_not_cacheable() {
    let mut world = World::of(&[("x", Fanout)]);
    for number in 0..CACHEABLE_VISITS_MAX as u64 {
        assert!(world.is_cacheable("x", &[b"k"]));
        let name = format!("x{number}");
        world.declare(exchange(&name, Fanout));
        world.bind("x", &to(&name), "");
        world.bind(&name, &queue(number), "");
    }
    assert!(!world.is_cacheable("x", &[b"k"]));
    assert_eq!(world.routes("x", &["k"]).len(), CACHEABLE_VISITS_MAX);
}

#[test]
fn an_exchange_deleted_after_it_was_looked_up_finds_nothing_to_remember() {
    let mut world = World::of(&[("x", Direct), ("ae", Fanout)]);
    world.set_alternate("x", "ae");
    world.bind("ae", &queue(1), "");
    let start = world.exchanges["x"].clone();
    world.delete("x");
    let mut router = Router::default();
    let route = router.route(&world, &start, &[b"k"], None);
    assert!(route.queues.is_empty());
    assert!(!route.cacheable);
}

#[test]
fn a_remembered_route_ends_when_a_missing_exchange_on_its_way_is_declared() {
    let mut world = World::of(&[("x", Direct)]);
    world.set_alternate("x", "ae");
    let mut router = Router::default();
    let mut cache = RouteCache::default();
    let route = router.route(&world, &world.exchanges["x"], &[b"k"], None);
    assert!(route.cacheable);
    cache.insert(b"x", b"k", route.visited, ());
    assert!(cache.get(b"x", b"k").is_some());
    world.declare(exchange("ae", Fanout));
    assert!(cache.get(b"x", b"k").is_none());
}

#[test]
fn an_unrelated_queue_exchange_or_binding_leaves_a_remembered_route_alone() {
    let mut world = World::of(&[("x", Direct), ("y", Direct), ("z", Direct)]);
    world.bind("x", &to("y"), "k");
    world.bind("y", &queue(1), "k");
    let mut router = Router::default();
    let mut cache = RouteCache::default();
    let route = router.route(&world, &world.exchanges["x"], &[b"k"], None);
    cache.insert(b"x", b"k", route.visited, ());
    world.queues.insert("other".into(), QueueId(9));
    world.bind("z", &queue(9), "k");
    world.declare(exchange("new", Topic));
    world.delete("z");
    assert!(cache.get(b"x", b"k").is_some());
    world.bind("y", &queue(9), "other");
    assert!(cache.get(b"x", b"k").is_none(), "one that is on the way");
}

/// What happens in a random world.
#[derive(Clone, Debug)]
enum Step {
    Declare(usize, ExchangeKind, Option<usize>),
    Delete(usize),
    Bind(usize, Destination, &'static str),
    Unbind(usize, Destination, &'static str),
    SetPolicy(usize, Option<usize>),
    DeclareQueue(usize),
    DeleteQueue(usize),
}

const EXCHANGES: [&str; 5] = ["v", "w", "x", "y", "z"];
const KEYS: [&str; 4] = ["a", "a.b", "b", ""];
const PATTERNS: [&str; 6] = ["a", "a.b", "*", "#", "a.#", ""];

fn step() -> impl Strategy<Value = Step> {
    let place = || 0..EXCHANGES.len();
    let maybe = || prop::option::of(0..EXCHANGES.len());
    let kind = prop::sample::select(vec![Direct, Fanout, Topic]);
    let destination = || {
        prop_oneof![
            (0u64..4).prop_map(queue),
            prop::sample::select(EXCHANGES.to_vec()).prop_map(to),
        ]
    };
    let pattern = || prop::sample::select(PATTERNS.to_vec());
    prop_oneof![
        3 => (place(), kind, maybe()).prop_map(|(place, kind, alternate)| Step::Declare(place, kind, alternate)),
        1 => place().prop_map(Step::Delete),
        8 => (place(), destination(), pattern()).prop_map(|(place, to, key)| Step::Bind(place, to, key)),
        3 => (place(), destination(), pattern()).prop_map(|(place, to, key)| Step::Unbind(place, to, key)),
        1 => (place(), maybe()).prop_map(|(place, alternate)| Step::SetPolicy(place, alternate)),
        1 => (0..KEYS.len()).prop_map(Step::DeclareQueue),
        1 => (0..KEYS.len()).prop_map(Step::DeleteQueue),
    ]
}

/// The same world as plain lists.
#[derive(Default)]
struct Model {
    exchanges: BTreeMap<&'static str, ModelExchange>,
}

struct ModelExchange {
    kind: ExchangeKind,
    argument: Option<&'static str>,
    policy: Option<&'static str>,
    bindings: BTreeSet<(Destination, &'static str)>,
}

impl Model {
    fn routes(&self, start: &str, key: &str) -> Vec<QueueId> {
        let mut queues = BTreeSet::new();
        let mut reached = vec![start.to_owned()];
        let mut place = 0;
        while let Some(name) = reached.get(place).cloned() {
            place += 1;
            let Some(exchange) = self.exchanges.get(&*name) else {
                continue;
            };
            let mut next: Vec<Destination> = exchange
                .bindings
                .iter()
                .filter(|(_, pattern)| fits(exchange.kind, pattern, key))
                .map(|(destination, _)| destination.clone())
                .collect();
            if next.is_empty() {
                next.extend(exchange.argument.or(exchange.policy).map(to));
            }
            for destination in next {
                match destination {
                    Destination::Queue(queue) => {
                        queues.insert(queue);
                    }
                    Destination::Exchange(name) => {
                        if !reached.contains(&name.to_string()) {
                            reached.push(name.to_string());
                        }
                    }
                }
            }
        }
        queues.into_iter().collect()
    }
}

/// The patterns and keys above, case by case.
fn fits(kind: ExchangeKind, pattern: &str, key: &str) -> bool {
    match (kind, pattern) {
        (Fanout, _) | (Topic, "#") => true,
        (Topic, "*") => matches!(key, "a" | "b"),
        (Topic, "a.#") => matches!(key, "a" | "a.b"),
        _ => pattern == key,
    }
}

/// Applies a step to both worlds.
fn apply(step: &Step, world: &mut World, model: &mut Model, next_queue: &mut u64) {
    let exists = |world: &World, place: usize| world.exchanges.contains_key(EXCHANGES[place]);
    match step {
        Step::Declare(place, kind, alternate) if !exists(world, *place) => {
            let name = EXCHANGES[*place];
            let argument = alternate.map(|place| EXCHANGES[place]);
            let mut declared = definition(name, *kind);
            if let Some(alternate) = argument {
                declared.arguments.insert("alternate-exchange", alternate);
            }
            world.declare(Exchange::new(declared));
            let exchange = ModelExchange {
                kind: *kind,
                argument,
                policy: None,
                bindings: BTreeSet::new(),
            };
            model.exchanges.insert(name, exchange);
        }
        Step::Delete(place) => {
            let name = EXCHANGES[*place];
            world.delete(name);
            model.exchanges.remove(name);
            for exchange in model.exchanges.values_mut() {
                exchange.bindings.retain(|(end, _)| *end != to(name));
            }
        }
        Step::Bind(place, destination, key) if exists(world, *place) => {
            if let Destination::Exchange(name) = destination
                && !world.exchanges.contains_key(&**name)
            {
                return;
            }
            let name = EXCHANGES[*place];
            world.bind(name, destination, key);
            let source = model.exchanges.get_mut(name).unwrap();
            source.bindings.insert((destination.clone(), key));
        }
        Step::Unbind(place, destination, key) if exists(world, *place) => {
            let name = EXCHANGES[*place];
            world.unbind(name, destination, key);
            let source = model.exchanges.get_mut(name).unwrap();
            source.bindings.remove(&(destination.clone(), *key));
        }
        Step::SetPolicy(place, alternate) if exists(world, *place) => {
            let name = EXCHANGES[*place];
            let policy = alternate.map(|place| EXCHANGES[place]);
            let mut exchange = world.exchanges[name].borrow_mut();
            exchange.set_policy_alternate(policy.map(Name::from));
            model.exchanges.get_mut(name).unwrap().policy = policy;
        }
        Step::DeclareQueue(place) => {
            *next_queue += 1;
            let id = QueueId(*next_queue);
            world.queues.entry(KEYS[*place].to_owned()).or_insert(id);
        }
        Step::DeleteQueue(place) => {
            world.queues.remove(KEYS[*place]);
        }
        _ => {}
    }
}

/// Routes as a channel does: from the cache if it can.
fn cached_route(
    world: &World,
    cache: &mut RouteCache<Vec<QueueId>>,
    router: &mut Router,
    exchange: &str,
    key: &str,
) -> Vec<QueueId> {
    let (name, key) = (exchange.as_bytes(), key.as_bytes());
    if let Some(queues) = cache.get(name, key) {
        let queues = queues.clone();
        let all_there = |queue| world.queues.values().any(|there| there == queue);
        if !exchange.is_empty() || queues.iter().all(all_there) {
            return queues;
        }
        cache.forget(name, key);
    }
    let route = if exchange.is_empty() {
        router.route_default(world, &[key])
    } else {
        router.route(world, &world.exchanges[exchange], &[key], None)
    };
    if route.cacheable {
        cache.insert(name, key, route.visited, route.queues.to_vec());
    }
    route.queues.to_vec()
}

proptest! {
    #[test]
    fn routes_cached_and_uncached_are_those_of_a_plain_model(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (mut world, mut model) = (World::default(), Model::default());
        let (mut cache, mut router) = (RouteCache::default(), Router::default());
        let mut next_queue = 100;
        for step in &steps {
            apply(step, &mut world, &mut model, &mut next_queue);
            for key in KEYS {
                for name in EXCHANGES {
                    let Some(start) = world.exchanges.get(name) else { continue };
                    let expected = model.routes(name, key);
                    let route = router.route(&world, start, &[key.as_bytes()], None);
                    prop_assert_eq!(route.queues, &expected, "{} {:?}", name, key);
                    let cached = cached_route(&world, &mut cache, &mut router, name, key);
                    prop_assert_eq!(cached, expected, "cached {} {:?}", name, key);
                }
                let cached = cached_route(&world, &mut cache, &mut router, "", key);
                let expected: Vec<QueueId> = world.queues.get(key).copied().into_iter().collect();
                prop_assert_eq!(cached, expected, "default exchange {:?}", key);
            }
        }
    }
}
