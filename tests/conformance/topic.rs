//! Topic exchanges.

use crate::support::Node;

/// Which of the keys a binding lets through.
fn matching(binding_key: &str, keys: &[&str]) -> Vec<String> {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.topic", binding_key);
    for key in keys {
        client.publish("amq.topic", key, key);
    }
    let (ready, _) = client.counts("q");
    (0..ready)
        .map(|_| client.get("q").text().to_owned())
        .collect()
}

const KEYS: [&str; 10] = [
    "", "a", "b", "a.b", "a.c", "a.b.c", "a..b", ".", "a.", "b.a",
];

#[test]
fn a_star_is_exactly_one_word() {
    assert_eq!(matching("a.*", &KEYS), ["a.b", "a.c", "a."]);
}

#[test]
fn a_hash_is_any_number_of_words() {
    assert_eq!(
        matching("a.#", &KEYS),
        ["a", "a.b", "a.c", "a.b.c", "a..b", "a."]
    );
    assert_eq!(matching("#", &KEYS), KEYS);
}

#[test]
fn a_hash_in_the_middle() {
    assert_eq!(
        matching("a.#.b", &["a.b", "a.x.b", "a.x.y.b", "a.x", "b"]),
        ["a.b", "a.x.b", "a.x.y.b"]
    );
}

#[test]
fn an_empty_word_is_a_word() {
    assert_eq!(matching("a.*.b", &KEYS), ["a..b"]);
}

#[test]
fn an_empty_binding_key_matches_the_empty_key_only() {
    assert_eq!(matching("", &KEYS), [""]);
}

#[test]
fn a_star_alone_is_one_word_that_may_be_empty_only_between_dots() {
    assert_eq!(matching("*", &["a", "a.b", "bb"]), ["a", "bb"]);
}

#[test]
fn a_hash_and_a_star() {
    assert_eq!(
        matching("#.*", &["a", "a.b", "a.b.c"]),
        ["a", "a.b", "a.b.c"]
    );
    assert_eq!(
        matching("*.#", &["a", "a.b", "a.b.c"]),
        ["a", "a.b", "a.b.c"]
    );
}

#[test]
fn words_are_compared_whole() {
    assert_eq!(matching("ab.*", &["a.b", "ab.c", "abc.d"]), ["ab.c"]);
    assert_eq!(matching("a*.b", &["a*.b", "ax.b"]), ["a*.b"]);
}

#[test]
fn two_hashes_are_allowed_and_three_are_406() {
    let node = Node::start();
    let mut client = node.client();
    client.declare("q", &[]);
    client.bind("q", "amq.topic", "#.a.#");
    client.try_bind("q", "amq.topic", "#.#.#", &[]);
    let text = "PRECONDITION_FAILED - Topic binding key '#.#.#' uses 3 '#' wildcards, at most 2 are allowed";
    client.expect_channel_close(406, text, (50, 20));
}
