//! Values of the catalogue.
//!
//! In: a definition. Out: the bytes of its row, and the way back with every damage found. Where rows are
//! kept is not known here.
//!
//! A value is one byte for the version (1), a CRC-32 of key and payload (four bytes, little end first), and
//! the payload: a compact JSON object without the names that the key holds. Arguments are the base64 of
//! their encoding on the wire, so that no type is lost.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::key::{self, Kind};
use super::{Binding, Definition, Exchange, GlobalParameter, Parameter, Policy, Queue, Vhost};
use crate::auth::{HashingAlgorithm, PasswordHash, Permission, TopicPermission, User, UserLimits};
use crate::model::QueueId;
use crate::protocol::FieldTable;
use crate::store::StoreError;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Bytes that one row's value may have. RabbitMQ's definitions are far below; sled is happiest below 4 KiB.
pub(super) const ROW_BYTES_MAX: usize = 512 * 1024;

/// The same with version and checksum.
pub(super) const SEALED_BYTES_MAX: usize = HEADER_BYTES + ROW_BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct VhostValue<'a> {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    description: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    tags: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_queue_type: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Json>,
}

#[derive(Serialize, Deserialize)]
struct UserValue<'a> {
    password_hash: Cow<'a, str>,
    hashing_algorithm: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    tags: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_connections: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_channels: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct PermissionValue<'a> {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    configure: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    write: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    read: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct ExchangeValue<'a> {
    r#type: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_false")]
    durable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    auto_delete: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    internal: bool,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    arguments: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct QueueValue<'a> {
    id: u64,
    r#type: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_false")]
    durable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    auto_delete: bool,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    arguments: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct BindingValue<'a> {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    arguments: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct PolicyValue<'a> {
    pattern: Cow<'a, str>,
    apply_to: Cow<'a, str>,
    priority: i64,
    definition: Map<String, Json>,
}

#[derive(Serialize, Deserialize)]
struct ParameterValue {
    value: Json,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The key and the value of a definition's row.
pub(super) fn encode(definition: &Definition) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    let key = key::encode(&definition.key())?;
    let payload = match definition {
        Definition::Vhost(vhost) => serde_json::to_vec(&VhostValue {
            description: (&*vhost.description).into(),
            tags: (&*vhost.tags).into(),
            default_queue_type: vhost.default_queue_type.as_deref().map(Cow::from),
            metadata: vhost.metadata.clone(),
        }),
        Definition::User(user) => serde_json::to_vec(&UserValue {
            password_hash: user.password.to_base64().into(),
            hashing_algorithm: user.password.algorithm().name().into(),
            tags: (&*user.tags).into(),
            max_connections: user.limits.max_connections,
            max_channels: user.limits.max_channels,
        }),
        Definition::Permission(permission) => serde_json::to_vec(&PermissionValue {
            configure: (&*permission.configure).into(),
            write: (&*permission.write).into(),
            read: (&*permission.read).into(),
        }),
        Definition::TopicPermission(permission) => serde_json::to_vec(&PermissionValue {
            configure: Cow::from(""),
            write: (&*permission.write).into(),
            read: (&*permission.read).into(),
        }),
        Definition::Exchange(exchange) => serde_json::to_vec(&ExchangeValue {
            r#type: (&*exchange.kind).into(),
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: arguments_text(&exchange.arguments).into(),
        }),
        Definition::Queue(queue) => serde_json::to_vec(&QueueValue {
            id: queue.id.0,
            r#type: (&*queue.kind).into(),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            arguments: arguments_text(&queue.arguments).into(),
        }),
        Definition::Binding(binding) => serde_json::to_vec(&BindingValue {
            arguments: arguments_text(&binding.arguments).into(),
        }),
        Definition::Policy(policy) => serde_json::to_vec(&PolicyValue {
            pattern: (&*policy.pattern).into(),
            apply_to: (&*policy.apply_to).into(),
            priority: policy.priority,
            definition: policy.definition.clone(),
        }),
        Definition::Parameter(parameter) => serde_json::to_vec(&ParameterValue {
            value: parameter.value.clone(),
        }),
        Definition::GlobalParameter(parameter) => serde_json::to_vec(&ParameterValue {
            value: parameter.value.clone(),
        }),
    };
    let payload = payload.map_err(|error| StoreError::Stopped {
        reason: format!("a definition could not be encoded: {error}"),
    })?;
    if payload.len() > ROW_BYTES_MAX {
        return Err(StoreError::TooLarge {
            what: "a definition",
            bytes: payload.len(),
            bytes_max: ROW_BYTES_MAX,
        });
    }
    let value = seal(&key, &payload);
    Ok((key, value))
}

/// Version, checksum and payload in one.
pub(super) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + payload.len());
    value.push(VERSION);
    value.extend_from_slice(&checksum(key, payload).to_le_bytes());
    value.extend_from_slice(payload);
    value
}

/// The payload of a row whose checksum is right.
///
/// # Errors
/// What is damaged, in words.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], String> {
    let (header, payload) = value
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| format!("only {} bytes long", value.len()))?;
    let [version, sum @ ..] = *header;
    if u32::from_le_bytes(sum) != checksum(key, payload) {
        return Err("its checksum is wrong".to_owned());
    }
    if version != VERSION {
        return Err(format!("its version is {version}, not {VERSION}"));
    }
    Ok(payload)
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// The definition in a row.
///
/// # Errors
/// What is damaged, in words; the row is then to be left out and reported.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Definition, String> {
    let payload = unseal(key, value)?;
    let (kind, parts) = key::decode(key).ok_or("its key is unknown")?;
    let names = parts
        .iter()
        .map(|part| key::name(part).unwrap_or_else(|| "".into()))
        .collect::<Vec<_>>();
    let name = |index: usize| names.get(index).cloned().ok_or("its key is too short");
    Ok(match kind {
        Kind::State | Kind::Segment | Kind::QueueState => {
            return Err("its key is unknown".to_owned());
        }
        Kind::Vhost => {
            let value: VhostValue<'_> = parse(payload)?;
            Definition::Vhost(Vhost {
                name: name(0)?,
                description: value.description.into_owned(),
                tags: value.tags.into_owned(),
                default_queue_type: value.default_queue_type.map(Cow::into_owned),
                metadata: value.metadata,
            })
        }
        Kind::User => {
            let value: UserValue<'_> = parse(payload)?;
            let algorithm = HashingAlgorithm::from_name(&value.hashing_algorithm)
                .ok_or("its hashing algorithm is unknown")?;
            Definition::User(User {
                name: name(0)?,
                password: PasswordHash::from_base64(algorithm, &value.password_hash)
                    .map_err(|error| error.to_string())?,
                tags: value.tags.into_owned(),
                limits: UserLimits {
                    max_connections: value.max_connections,
                    max_channels: value.max_channels,
                },
            })
        }
        Kind::Permission => {
            let value: PermissionValue<'_> = parse(payload)?;
            Definition::Permission(Permission {
                vhost: name(0)?,
                user: name(1)?,
                configure: value.configure.into_owned(),
                write: value.write.into_owned(),
                read: value.read.into_owned(),
            })
        }
        Kind::TopicPermission => {
            let value: PermissionValue<'_> = parse(payload)?;
            Definition::TopicPermission(TopicPermission {
                vhost: name(0)?,
                user: name(1)?,
                exchange: name(2)?,
                write: value.write.into_owned(),
                read: value.read.into_owned(),
            })
        }
        Kind::Exchange => {
            let value: ExchangeValue<'_> = parse(payload)?;
            Definition::Exchange(Exchange {
                vhost: name(0)?,
                name: name(1)?,
                kind: value.r#type.into_owned(),
                durable: value.durable,
                auto_delete: value.auto_delete,
                internal: value.internal,
                arguments: arguments(&value.arguments)?,
            })
        }
        Kind::Queue => {
            let value: QueueValue<'_> = parse(payload)?;
            Definition::Queue(Queue {
                id: QueueId(value.id),
                vhost: name(0)?,
                name: name(1)?,
                kind: value.r#type.into_owned(),
                durable: value.durable,
                auto_delete: value.auto_delete,
                arguments: arguments(&value.arguments)?,
            })
        }
        Kind::Binding => {
            let value: BindingValue<'_> = parse(payload)?;
            let binding = Binding {
                vhost: name(0)?,
                source: name(1)?,
                destination_kind: parts
                    .get(2)
                    .and_then(|part| key::destination_kind(part))
                    .ok_or("its kind of destination is unknown")?,
                destination: name(3)?,
                routing_key: name(4)?,
                arguments: arguments(&value.arguments)?,
            };
            let digest = parts.get(5).ok_or("its key is too short")?;
            if !key::is_digest_of(&binding, digest) {
                return Err("its arguments are not those of its key".to_owned());
            }
            Definition::Binding(binding)
        }
        Kind::Policy => {
            let value: PolicyValue<'_> = parse(payload)?;
            Definition::Policy(Policy {
                vhost: name(0)?,
                name: name(1)?,
                pattern: value.pattern.into_owned(),
                apply_to: value.apply_to.into_owned(),
                priority: value.priority,
                definition: value.definition,
            })
        }
        Kind::Parameter => Definition::Parameter(Parameter {
            vhost: name(0)?,
            component: name(1)?,
            name: name(2)?,
            value: parse::<ParameterValue>(payload)?.value,
        }),
        Kind::GlobalParameter => Definition::GlobalParameter(GlobalParameter {
            name: name(0)?,
            value: parse::<ParameterValue>(payload)?.value,
        }),
    })
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

/// Arguments as text that keeps every type.
pub(super) fn arguments_text(arguments: &FieldTable) -> String {
    let mut encoded = Vec::new();
    arguments.encode_fields(&mut encoded);
    STANDARD.encode(encoded)
}

/// The way back of [`arguments_text`].
pub(super) fn arguments(text: &str) -> Result<FieldTable, String> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| format!("its arguments are no base64: {error}"))?;
    FieldTable::decode(&bytes).map_err(|error| format!("its arguments are damaged: {error:?}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::Value;
    use crate::store::definitions::DestinationKind;

    /// One definition of every kind, with every field filled.
    pub(in crate::store::definitions) fn samples() -> Vec<Definition> {
        let arguments: FieldTable = [
            ("x-max-length", Value::I32(10)),
            ("x-expires", Value::I64(1 << 40)),
            (
                "x-odd",
                Value::Decimal {
                    scale: 2,
                    value: 314,
                },
            ),
            ("x-time", Value::Timestamp(7)),
            ("x-list", Value::Array(vec![Value::Void, Value::Bool(true)])),
        ]
        .into_iter()
        .collect();
        let metadata = serde_json::json!({"protected_from_deletion": true});
        vec![
            Vhost {
                name: "v".into(),
                description: "d".to_owned(),
                tags: vec!["production".to_owned()],
                default_queue_type: Some("quorum".to_owned()),
                metadata: metadata.as_object().unwrap().clone(),
            }
            .into(),
            User {
                name: "ü".into(),
                password: PasswordHash::create(HashingAlgorithm::Sha512, b"pw").unwrap(),
                tags: vec!["administrator".to_owned()],
                limits: UserLimits {
                    max_connections: Some(5),
                    max_channels: Some(-1),
                },
            }
            .into(),
            Permission {
                user: "ü".into(),
                vhost: "v".into(),
                configure: String::new(),
                write: ".*".to_owned(),
                read: "^q".to_owned(),
            }
            .into(),
            TopicPermission {
                user: "ü".into(),
                vhost: "v".into(),
                exchange: "t".into(),
                write: "^{username}".to_owned(),
                read: String::new(),
            }
            .into(),
            Exchange {
                vhost: "v".into(),
                name: "t".into(),
                kind: "topic".to_owned(),
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: [("alternate-exchange", "ae")].into_iter().collect(),
            }
            .into(),
            Queue {
                id: QueueId(17),
                vhost: "v".into(),
                name: "q".into(),
                kind: "classic".to_owned(),
                durable: true,
                auto_delete: true,
                arguments: arguments.clone(),
            }
            .into(),
            Binding {
                vhost: "v".into(),
                source: "t".into(),
                destination: "q".into(),
                destination_kind: DestinationKind::Queue,
                routing_key: "a.#".into(),
                arguments,
            }
            .into(),
            Policy {
                vhost: "v".into(),
                name: "p".into(),
                pattern: "^q".to_owned(),
                apply_to: "queues".to_owned(),
                priority: -3,
                definition: serde_json::json!({"max-length": 5})
                    .as_object()
                    .unwrap()
                    .clone(),
            }
            .into(),
            Parameter {
                vhost: "v".into(),
                component: "vhost-limits".into(),
                name: "limits".into(),
                value: serde_json::json!({"max-queues": 100}),
            }
            .into(),
            GlobalParameter {
                name: "cluster_name".into(),
                value: "hare".into(),
            }
            .into(),
        ]
    }

    #[test]
    fn every_kind_comes_back_as_it_went() {
        for sample in samples() {
            let (key, value) = encode(&sample).unwrap();
            assert_eq!(decode(&key, &value), Ok(sample));
        }
    }

    #[test]
    fn golden_bytes_of_a_row() {
        let queue = Queue {
            id: QueueId(5),
            vhost: "/".into(),
            name: "q".into(),
            kind: "classic".to_owned(),
            durable: true,
            auto_delete: false,
            arguments: FieldTable::new(),
        };
        let (_, value) = encode(&queue.into()).unwrap();
        assert_eq!(value[0], 1);
        assert_eq!(
            &value[HEADER_BYTES..],
            br#"{"id":5,"type":"classic","durable":true}"#
        );
        assert_eq!(
            u32::from_le_bytes(value[1..5].try_into().unwrap()),
            crc32fast::hash(b"\x06\0\x01/\0\x01q{\"id\":5,\"type\":\"classic\",\"durable\":true}")
        );
    }

    #[test]
    fn any_flipped_bit_is_found_in_key_and_value() {
        for sample in samples() {
            let (key, value) = encode(&sample).unwrap();
            for at in 0..value.len() {
                let mut flipped = value.clone();
                flipped[at] ^= 1 << (at % 8);
                assert!(decode(&key, &flipped).is_err(), "value byte {at}");
            }
            for at in 0..key.len() {
                let mut flipped = key.clone();
                flipped[at] ^= 1 << (at % 8);
                assert!(decode(&flipped, &value).is_err(), "key byte {at}");
            }
            assert!(decode(&key, &value[..3]).is_err());
        }
    }

    #[test]
    fn a_definition_above_the_limit_is_refused() {
        let parameter = |bytes: usize| GlobalParameter {
            name: "g".into(),
            value: "v".repeat(bytes).into(),
        };
        // The payload is {"value":"…"}, twelve bytes and the text.
        assert!(encode(&parameter(ROW_BYTES_MAX - 12).into()).is_ok());
        assert!(matches!(
            encode(&parameter(ROW_BYTES_MAX - 11).into()),
            Err(StoreError::TooLarge { .. })
        ));
    }
}
