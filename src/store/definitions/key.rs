//! Keys of the catalogue.
//!
//! In: what names a definition. Out: bytes, and the way back. What the value holds is not known here.
//!
//! A key is one byte for the kind, then each part of the name behind its length in 16 bits, big end first;
//! names may hold any bytes. Everything of one virtual host has its name as the first part, so that it can be
//! found by prefix. A binding's last part is a digest of its arguments, empty when it has none.

use sha2::{Digest, Sha256};

use super::{Binding, DefinitionKey, DestinationKind};
use crate::model::Name;
use crate::protocol::FieldTable;
use crate::store::StoreError;

/// Bytes that each part of a key may have.
pub(super) const NAME_BYTES_MAX: usize = 1024;

/// Bytes of the digest of a binding's arguments.
const DIGEST_BYTES: usize = 16;

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    State = 0,
    Vhost = 1,
    User = 2,
    Permission = 3,
    TopicPermission = 4,
    Exchange = 5,
    Queue = 6,
    Binding = 7,
    Policy = 8,
    Parameter = 9,
    GlobalParameter = 10,
    /// Not a definition: see `message_rows.rs`, as the next.
    Segment = 11,
    QueueState = 12,
}

impl Kind {
    /// Those that begin with a virtual host's name.
    pub(super) const IN_VHOST: [Self; 7] = [
        Self::Permission,
        Self::TopicPermission,
        Self::Exchange,
        Self::Queue,
        Self::Binding,
        Self::Policy,
        Self::Parameter,
    ];

    /// The kinds of definitions, in the order of their keys.
    pub(super) const DEFINITIONS: [Self; 10] = [
        Self::Vhost,
        Self::User,
        Self::Permission,
        Self::TopicPermission,
        Self::Exchange,
        Self::Queue,
        Self::Binding,
        Self::Policy,
        Self::Parameter,
        Self::GlobalParameter,
    ];

    /// The kinds of what is noted of messages.
    pub(super) const MESSAGES: [Self; 2] = [Self::Segment, Self::QueueState];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::DEFINITIONS
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Vhost => "vhost",
            Self::User => "user",
            Self::Permission => "permission",
            Self::TopicPermission => "topic permission",
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::Policy => "policy",
            Self::Parameter => "parameter",
            Self::GlobalParameter => "global parameter",
            Self::Segment => "segment of queue",
            Self::QueueState => "state of queue",
        }
    }
}

/// The key of a definition.
pub(super) fn encode(key: &DefinitionKey) -> Result<Vec<u8>, StoreError> {
    let digest;
    let (kind, parts): (Kind, &[&[u8]]) = match key {
        DefinitionKey::Vhost { name } => (Kind::Vhost, &[name.as_bytes()]),
        DefinitionKey::User { name } => (Kind::User, &[name.as_bytes()]),
        DefinitionKey::Permission { vhost, user } => {
            (Kind::Permission, &[vhost.as_bytes(), user.as_bytes()])
        }
        DefinitionKey::TopicPermission {
            vhost,
            user,
            exchange,
        } => (
            Kind::TopicPermission,
            &[vhost.as_bytes(), user.as_bytes(), exchange.as_bytes()],
        ),
        DefinitionKey::Exchange { vhost, name } => {
            (Kind::Exchange, &[vhost.as_bytes(), name.as_bytes()])
        }
        DefinitionKey::Queue { vhost, name } => (Kind::Queue, &[vhost.as_bytes(), name.as_bytes()]),
        DefinitionKey::Binding(binding) => {
            digest = arguments_digest(&binding.arguments);
            (
                Kind::Binding,
                &[
                    binding.vhost.as_bytes(),
                    binding.source.as_bytes(),
                    binding.destination_kind.name().as_bytes(),
                    binding.destination.as_bytes(),
                    binding.routing_key.as_bytes(),
                    &digest,
                ],
            )
        }
        DefinitionKey::Policy { vhost, name } => {
            (Kind::Policy, &[vhost.as_bytes(), name.as_bytes()])
        }
        DefinitionKey::Parameter {
            vhost,
            component,
            name,
        } => (
            Kind::Parameter,
            &[vhost.as_bytes(), component.as_bytes(), name.as_bytes()],
        ),
        DefinitionKey::GlobalParameter { name } => (Kind::GlobalParameter, &[name.as_bytes()]),
    };
    let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
    if longest > NAME_BYTES_MAX {
        return Err(StoreError::TooLarge {
            what: "a name",
            bytes: longest,
            bytes_max: NAME_BYTES_MAX,
        });
    }
    Ok(prefix(kind, parts))
}

/// A key, or the beginning of those whose first parts are these. No part is longer than
/// [`NAME_BYTES_MAX`].
pub(super) fn prefix(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind as u8];
    for part in parts {
        key.extend_from_slice(&(part.len() as u16).to_be_bytes());
        key.extend_from_slice(part);
    }
    key
}

/// The kind and the parts of a key, or `None` if it is not one of a definition.
pub(super) fn decode(key: &[u8]) -> Option<(Kind, Vec<&[u8]>)> {
    let (kind, mut rest) = key.split_first()?;
    let kind = Kind::from_byte(*kind)?;
    let mut parts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (part, after) = after.split_at_checked(length)?;
        parts.push(part);
        rest = after;
    }
    rest.is_empty().then_some((kind, parts))
}

/// The name of a definition in words, for reports.
pub(super) fn describe(key: &[u8]) -> String {
    match decode(key) {
        Some((kind, parts)) => {
            let shown = match kind {
                Kind::Binding => &parts[..parts.len().min(5)],
                _ => &parts[..],
            };
            let names: Vec<_> = shown
                .iter()
                .map(|part| format!("'{}'", String::from_utf8_lossy(part)))
                .collect();
            format!("{} {}", kind.name(), names.join(" "))
        }
        None => describe_message_row(key)
            .unwrap_or_else(|| format!("a row with an unknown key of {} bytes", key.len())),
    }
}

/// Rows of messages have the queue's number behind the kind.
fn describe_message_row(key: &[u8]) -> Option<String> {
    let (kind, rest) = key.split_first()?;
    let kind = Kind::MESSAGES
        .into_iter()
        .find(|known| *known as u8 == *kind)?;
    let queue = u64::from_be_bytes(*rest.first_chunk()?);
    Some(format!("{} {queue}", kind.name()))
}

/// A part as a name.
pub(super) fn name(part: &[u8]) -> Option<Name> {
    std::str::from_utf8(part).ok().map(Name::from)
}

/// A part as a kind of destination.
pub(super) fn destination_kind(part: &[u8]) -> Option<DestinationKind> {
    [DestinationKind::Queue, DestinationKind::Exchange]
        .into_iter()
        .find(|kind| kind.name().as_bytes() == part)
}

/// Whether a binding's arguments are those of its key.
pub(super) fn is_digest_of(binding: &Binding, digest: &[u8]) -> bool {
    arguments_digest(&binding.arguments) == digest
}

fn arguments_digest(arguments: &FieldTable) -> Vec<u8> {
    if arguments.is_empty() {
        return Vec::new();
    }
    let mut fields: Vec<_> = arguments.iter().collect();
    fields.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    let mut encoded = Vec::new();
    for (field, value) in fields {
        encoded.extend_from_slice(field.as_bytes());
        encoded.push(0);
        value.encode(&mut encoded);
    }
    Sha256::digest(&encoded)[..DIGEST_BYTES].to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Value;

    fn binding(arguments: &[(&str, Value)]) -> Binding {
        Binding {
            vhost: "/".into(),
            source: "x".into(),
            destination: "q\0é".into(),
            destination_kind: DestinationKind::Queue,
            routing_key: "a.#".into(),
            arguments: arguments.iter().cloned().collect(),
        }
    }

    #[test]
    fn golden_bytes_of_keys() {
        let queue = DefinitionKey::Queue {
            vhost: "/".into(),
            name: "q1".into(),
        };
        assert_eq!(encode(&queue).unwrap(), b"\x06\0\x01/\0\x02q1");
        let binding = DefinitionKey::Binding(binding(&[]));
        assert_eq!(
            encode(&binding).unwrap(),
            b"\x07\0\x01/\0\x01x\0\x05queue\0\x04q\0\xc3\xa9\0\x03a.#\0\0"
        );
        assert_eq!(describe(&encode(&queue).unwrap()), "queue '/' 'q1'");
    }

    #[test]
    fn names_with_any_bytes_come_back_whole() {
        let key = encode(&DefinitionKey::Binding(binding(&[]))).unwrap();
        let (kind, parts) = decode(&key).unwrap();
        assert_eq!(kind, Kind::Binding);
        assert_eq!(parts[3], "q\0é".as_bytes());
        assert!(decode(&key[..key.len() - 1]).is_none());
        assert!(decode(b"").is_none());
        assert!(decode(b"\x63\0\0").is_none());
    }

    #[test]
    fn the_order_of_a_bindings_arguments_does_not_matter_and_their_types_do() {
        let key = |arguments: &[(&str, Value)]| {
            encode(&DefinitionKey::Binding(binding(arguments))).unwrap()
        };
        let one = key(&[("a", 1.into()), ("b", "2".into())]);
        assert_eq!(one, key(&[("b", "2".into()), ("a", 1.into())]));
        assert_ne!(one, key(&[("a", 1_i64.into()), ("b", "2".into())]));
        assert_ne!(one, key(&[]));
    }

    #[test]
    fn a_name_above_the_limit_is_refused() {
        let key = |bytes| DefinitionKey::User {
            name: "u".repeat(bytes).into(),
        };
        assert!(encode(&key(NAME_BYTES_MAX)).is_ok());
        assert!(matches!(
            encode(&key(NAME_BYTES_MAX + 1)),
            Err(StoreError::TooLarge { bytes: 1025, .. })
        ));
    }
}
