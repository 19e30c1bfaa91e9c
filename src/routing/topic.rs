//! The topic exchange: a trie of words, in which `*` stands for one word and `#` for any number of them.
//!
//! In: binding keys; out: the destinations whose pattern the routing key fits. Words are what stands
//! between dots: `a..b` has three of them, the middle one empty; the empty key has none, so that it fits
//! `#` and the empty binding key but not `*`
//! (`rabbit_db_topic_exchange.erl`, `split_topic_key_binary`).
//!
//! ```text
//! bindings  a.b  a.*  #.b        root ── a ── b
//!                                 │      └─── *
//!                                 └── # ── b
//! ```
//!
//! The cost of a match is bounded by (nodes) × (words of the key). Only a `#` can reach a node
//! with different rests of the key, and only a `#` below another one can do so again and again: such a
//! node is tried once, with the longest rest, for it then tries all shorter ones too.

use std::collections::{HashMap, HashSet};

use super::Destination;
use super::destinations::DestinationSet;
use crate::model::Refusal;

/// `#` words that one binding key may have (`rabbit_exchange_type_topic.erl`, `MAX_HASH_WILDCARDS`).
const HASH_WILDCARDS_MAX: usize = 2;

/// Checks a binding key.
///
/// # Errors
/// 406 if it has more than two `#` words.
pub(super) fn check_key(binding_key: &str) -> Result<(), Refusal> {
    let hashes = binding_key.split('.').filter(|word| *word == "#").count();
    if hashes <= HASH_WILDCARDS_MAX {
        return Ok(());
    }
    Err(Refusal::precondition_failed(format!(
        "Topic binding key '{binding_key}' uses {hashes} '#' wildcards, at most {HASH_WILDCARDS_MAX} are allowed"
    )))
}

/// A node's place in the list of nodes.
type NodeId = u32;

/// The root's place; it is never given back.
const ROOT: NodeId = 0;

/// The trie of all binding keys.
#[derive(Debug)]
pub(super) struct TopicIndex {
    nodes: Vec<Node>,
    /// Places of nodes that were given back.
    free: Vec<NodeId>,
}

/// What the words from the root to here lead to.
#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<[u8]>, NodeId>,
    star: Option<NodeId>,
    hash: Option<NodeId>,
    /// Where the bindings lead whose key ends here.
    destinations: DestinationSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.words.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
            && self.destinations.is_empty()
    }

    fn child(&self, word: &[u8]) -> Option<NodeId> {
        match word {
            b"*" => self.star,
            b"#" => self.hash,
            _ => self.words.get(word).copied(),
        }
    }

    fn set_child(&mut self, word: &[u8], child: Option<NodeId>) {
        match (word, child) {
            (b"*", _) => self.star = child,
            (b"#", _) => self.hash = child,
            (_, Some(child)) => {
                self.words.insert(word.into(), child);
            }
            (_, None) => {
                self.words.remove(word);
            }
        }
    }
}

impl Default for TopicIndex {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            free: Vec::new(),
        }
    }
}

impl TopicIndex {
    pub(super) fn insert(&mut self, binding_key: &str, destination: &Destination) {
        let key = Key(binding_key.as_bytes());
        let mut node = ROOT;
        let mut rest = key.start();
        while let Some((word, next)) = key.word(rest) {
            node = match self.node(node).child(word) {
                Some(child) => child,
                None => self.add_child(node, word),
            };
            rest = next;
        }
        self.nodes[node as usize].destinations.insert(destination);
    }

    pub(super) fn remove(&mut self, binding_key: &str, destination: &Destination) {
        let key = Key(binding_key.as_bytes());
        let mut path = Vec::new();
        let mut node = ROOT;
        let mut rest = key.start();
        while let Some((word, next)) = key.word(rest) {
            let Some(child) = self.node(node).child(word) else {
                return;
            };
            path.push((node, word));
            node = child;
            rest = next;
        }
        self.nodes[node as usize].destinations.remove(destination);
        for (parent, word) in path.into_iter().rev() {
            if !self.node(node).is_empty() {
                return;
            }
            self.nodes[parent as usize].set_child(word, None);
            // What the node has allocated goes with it.
            self.nodes[node as usize] = Node::default();
            self.free.push(node);
            node = parent;
        }
    }

    pub(super) fn matches(&self, routing_key: &[u8], found: &mut Vec<Destination>) {
        self.walk(routing_key, found);
    }

    /// Matches and tells in how many steps.
    fn walk(&self, routing_key: &[u8], found: &mut Vec<Destination>) -> usize {
        let key = Key(routing_key);
        let mut walk = Walk {
            index: self,
            key,
            tried: HashSet::new(),
            found,
            steps: 0,
        };
        walk.reach(ROOT, key.start(), 0);
        walk.steps
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    fn add_child(&mut self, parent: NodeId, word: &[u8]) -> NodeId {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            // A node takes far more than a byte, so memory ends long before the numbers do.
            (self.nodes.len() - 1) as NodeId
        });
        self.nodes[parent as usize].set_child(word, Some(child));
        child
    }
}

/// A key as a list of words. A rest is named by the offset of its first word; behind the last word it is
/// the key's length + 1.
#[derive(Clone, Copy)]
struct Key<'a>(&'a [u8]);

impl<'a> Key<'a> {
    fn start(self) -> usize {
        if self.0.is_empty() { 1 } else { 0 }
    }

    /// The first word of the rest and what follows it.
    fn word(self, rest: usize) -> Option<(&'a [u8], usize)> {
        let bytes = self.0.get(rest..)?;
        let word = bytes.split(|byte| *byte == b'.').next()?;
        Some((word, rest + word.len() + 1))
    }
}

/// One match on its way through the trie.
struct Walk<'w> {
    index: &'w TopicIndex,
    key: Key<'w>,
    /// The `#` nodes below another `#` that were tried.
    tried: HashSet<NodeId>,
    found: &'w mut Vec<Destination>,
    /// Pairs of a node and a rest that were tried, which the tests hold against the bound.
    steps: usize,
}

impl Walk<'_> {
    /// The words so far have led to `node`; `rest` is left, `hashes` of them were `#`.
    ///
    /// The depth of this recursion is that of the trie, at most the 256 words of a 255-byte binding key.
    fn reach(&mut self, node: NodeId, rest: usize, hashes: usize) {
        if self.key.word(rest).is_none() {
            self.found
                .extend_from_slice(self.index.node(node).destinations.as_slice());
        }
        self.descend(node, rest, hashes);
    }

    /// `node` is a `#`: it may take any number of words from `rest` on.
    ///
    /// Rests are tried from the longest to the shortest, in every node: the first time a node is reached
    /// is the one that covers all others.
    fn reach_hash(&mut self, node: NodeId, rest: usize, hashes: usize) {
        if hashes > 1 && !self.tried.insert(node) {
            return;
        }
        self.found
            .extend_from_slice(self.index.node(node).destinations.as_slice());
        let mut rest = rest;
        loop {
            self.descend(node, rest, hashes);
            match self.key.word(rest) {
                Some((_, next)) => rest = next,
                None => return,
            }
        }
    }

    fn descend(&mut self, node: NodeId, rest: usize, hashes: usize) {
        self.steps += 1;
        let node = self.index.node(node);
        if let Some((word, next)) = self.key.word(rest) {
            if let Some(child) = node.words.get(word) {
                self.reach(*child, next, hashes);
            }
            if let Some(child) = node.star {
                self.reach(child, next, hashes);
            }
        }
        if let Some(child) = node.hash {
            self.reach_hash(child, rest, hashes + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::QueueId;

    /// What the wildcards mean, in the plainest way.
    fn fits(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern.split_first(), words.split_first()) {
            (None, _) => words.is_empty(),
            (Some((&"#", others)), None) => fits(others, words),
            (Some((&"#", others)), Some((_, rest))) => fits(others, words) || fits(pattern, rest),
            (Some((&"*", others)), Some((_, rest))) => fits(others, rest),
            (Some((literal, others)), Some((word, rest))) => literal == word && fits(others, rest),
            (Some(_), None) => false,
        }
    }

    fn words(key: &str) -> Vec<&str> {
        if key.is_empty() {
            Vec::new()
        } else {
            key.split('.').collect()
        }
    }

    fn queue(number: usize) -> Destination {
        Destination::Queue(QueueId(number as u64))
    }

    fn found(index: &TopicIndex, key: &str) -> BTreeSet<Destination> {
        let mut found = Vec::new();
        index.matches(key.as_bytes(), &mut found);
        found.into_iter().collect()
    }

    fn check(binding_key: &str, fitting: &[&str], others: &[&str]) {
        let mut index = TopicIndex::default();
        index.insert(binding_key, &queue(1));
        for key in fitting {
            assert!(!found(&index, key).is_empty(), "{binding_key:?} {key:?}");
        }
        for key in others {
            assert!(found(&index, key).is_empty(), "{binding_key:?} {key:?}");
        }
    }

    #[test]
    fn words_and_wildcards_mean_what_the_specification_says() {
        check("a.b", &["a.b"], &["a", "a.b.c", "", "a.", ".a.b"]);
        check("a.*", &["a.b", "a.", "a.*", "a.#"], &["a", "a.b.c"]);
        check("*", &["a", "*"], &["", "a.b", "."]);
        check("#", &["", "a", "a.b", ".", "#"], &[]);
        check("a.#", &["a", "a.b", "a.b.c", "a."], &["", "b", "ab"]);
        check("#.b", &["b", "a.b", "b.b", ".b"], &["", "b.a"]);
        check("#.*", &["a", "a.b", "."], &[""]);
        check("*.#", &["a", "a.b"], &[""]);
        check("", &[""], &["a", "."]);
        check("a..b", &["a..b"], &["a.b", "a.x.b"]);
        check("a.*.b", &["a..b", "a.x.b"], &["a.b"]);
        check(".", &["."], &["", "..", "a."]);
        check("#.a.#", &["a", "x.a.y", "a.a.a"], &["", "x.y"]);
        check("#.#", &["", "a", "a.b"], &[]);
        check("a*", &["a*"], &["ab", "a"]);
    }

    #[test]
    fn a_third_hash_is_refused_with_the_text_of_rabbitmq() {
        assert_eq!(check_key("#.a.#"), Ok(()));
        assert_eq!(check_key("a#.#b.##.#"), Ok(()));
        assert_eq!(
            check_key("#.#.#"),
            Err(Refusal::precondition_failed(
                "Topic binding key '#.#.#' uses 3 '#' wildcards, at most 2 are allowed"
            ))
        );
    }

    #[test]
    fn nodes_without_bindings_are_given_back_and_used_again() {
        let mut index = TopicIndex::default();
        index.insert("a.b.c", &queue(1));
        index.insert("a.*.#", &queue(2));
        let nodes = index.nodes.len();
        index.remove("a.b", &queue(1));
        index.remove("a.b.c.d", &queue(1));
        index.remove("a.b.c", &queue(1));
        assert_eq!(found(&index, "a.b.c"), [queue(2)].into());
        index.remove("a.*.#", &queue(2));
        assert!(index.nodes[ROOT as usize].is_empty());
        assert_eq!(index.free.len(), nodes - 1);
        index.insert("x.y.z", &queue(3));
        assert_eq!(index.nodes.len(), nodes);
        assert_eq!(found(&index, "x.y.z"), [queue(3)].into());
        assert!(found(&index, "a.b.c").is_empty());
    }

    #[test]
    fn a_match_takes_no_more_steps_than_nodes_times_words() {
        let mut index = TopicIndex::default();
        for depth in 0..60 {
            let middle = vec!["a"; depth].join(".");
            index.insert(&format!("#.{middle}.#.b"), &queue(depth));
            index.insert(
                &format!("#.{}.#.c", vec!["*"; depth].join(".")),
                &queue(depth),
            );
        }
        let key = vec!["a"; 128].join(".");
        let mut found = Vec::new();
        let steps = index.walk(key.as_bytes(), &mut found);
        assert!(found.is_empty());
        // Each node is tried at most once with each rest of the key.
        assert!(steps <= index.nodes.len() * 129, "{steps} steps");
    }

    #[test]
    fn the_deepest_key_does_not_exhaust_the_stack() {
        let dots = ".".repeat(255);
        let mut index = TopicIndex::default();
        index.insert(&dots, &queue(1));
        index.insert(&"*.".repeat(127), &queue(2));
        assert_eq!(found(&index, &dots), [queue(1)].into());
        // A CC key is a long string.
        assert!(found(&index, &".".repeat(100_000)).is_empty());
    }

    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "", "c"]), 0..7)
            .prop_map(|words| words.join("."))
    }

    fn pattern() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!["a", "b", "", "*", "#", "#", "*"]),
            0..7,
        )
        .prop_map(|words| words.join("."))
        .prop_filter("at most two #", |key| check_key(key).is_ok())
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_a_plain_matcher_finds(
            patterns in prop::collection::vec(pattern(), 0..25),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            keys in prop::collection::vec(key(), 1..15),
        ) {
            let mut index = TopicIndex::default();
            for (number, pattern) in patterns.iter().enumerate() {
                index.insert(pattern, &queue(number));
            }
            let mut present: BTreeSet<usize> = (0..patterns.len()).collect();
            for removal in removed {
                if !patterns.is_empty() {
                    let number = removal.index(patterns.len());
                    index.remove(&patterns[number], &queue(number));
                    present.remove(&number);
                }
            }
            for key in &keys {
                let expected: BTreeSet<Destination> = present
                    .iter()
                    .filter(|number| fits(&words(&patterns[**number]), &words(key)))
                    .map(|number| queue(*number))
                    .collect();
                prop_assert_eq!(found(&index, key), expected, "key {:?}", key);
            }
        }
    }
}
