//! Names in paths: the default exchange, and the keys under which bindings stand.
//!
//! In: segments of a path, bindings. Out: names, segments. `rabbit_mgmt_format:pack_binding_props/2` is the model.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::protocol::FieldTable;
use crate::routing::BindingArguments;

/// What a segment may hold as it is (RFC 3986, section 2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What the key of a binding may hold as it is: without the tilde, which separates its parts.
const KEY: &AsciiSet = &SEGMENT.add(b'~').remove(b' ');

/// Bytes of the digest that tells bindings apart by their arguments.
const DIGEST_BYTES: usize = 9;

/// `amq.default` and the empty segment are the default exchange.
pub fn exchange(segment: String) -> String {
    if segment == "amq.default" {
        return String::new();
    }
    segment
}

/// The name of a binding among those with the same ends. It is the same after a restart; Terraform keeps it.
pub fn properties_key(routing_key: &str, arguments: &FieldTable) -> String {
    let key = utf8_percent_encode(routing_key, KEY)
        .to_string()
        .replace(' ', "+");
    if arguments.is_empty() {
        return if key.is_empty() { "~".to_owned() } else { key };
    }
    // Brought into the order in which equal arguments are equal bytes.
    let mut encoded = Vec::new();
    BindingArguments::from(arguments)
        .to_table()
        .encode_fields(&mut encoded);
    let digest = Sha256::digest(&encoded);
    format!("{key}~{}", URL_SAFE_NO_PAD.encode(&digest[..DIGEST_BYTES]))
}

/// The place of a binding, relative to the list that it was posted to.
pub fn binding_location(destination: &str, properties_key: &str) -> String {
    format!(
        "{}/{}",
        utf8_percent_encode(destination, SEGMENT),
        utf8_percent_encode(properties_key, SEGMENT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Value;

    #[test]
    fn keys_and_places_of_bindings_are_those_of_rabbitmq() {
        let none = FieldTable::new();
        for (routing_key, expected) in [
            ("", "~"),
            ("a b/c~d", "a+b%2Fc%7Ed"),
            ("order.#", "order.%23"),
            ("a_b-c.d", "a_b-c.d"),
            ("ü+", "%C3%BC%2B"),
        ] {
            assert_eq!(properties_key(routing_key, &none), expected);
        }
        assert_eq!(
            binding_location("q.idle", "a+b%2Fc%7Ed"),
            "q.idle/a%2Bb%252Fc%257Ed"
        );
    }

    #[test]
    fn arguments_make_a_digest_that_does_not_hang_on_their_order() {
        let arguments = |pairs: &[(&str, i64)]| -> FieldTable {
            pairs
                .iter()
                .map(|(name, value)| (*name, Value::I64(*value)))
                .collect()
        };
        let key = properties_key("order.#", &arguments(&[("a", 1), ("b", 2)]));
        assert_eq!(
            key,
            properties_key("order.#", &arguments(&[("b", 2), ("a", 1)]))
        );
        assert_ne!(key, properties_key("order.#", &arguments(&[("a", 1)])));
        let (routing_key, digest) = key.split_once('~').unwrap_or_default();
        assert_eq!((routing_key, digest.len()), ("order.%23", 12));
        assert!(!digest.contains('~'));
    }
}
