//! Changes of definitions as the body of a journal record.
//!
//! In: changes. Out: bytes, and the way back with every length checked. Which record they are in, and when they are
//! made, is not known here.
//!
//! One byte for the version (1), then the changes, each one byte for what it is and, numbers little end first:
//!
//! | byte | change | what follows |
//! |---|---|---|
//! | 1 | put | u16 bytes of the key, key, u32 bytes of the value, value: the row as the catalogue has it, sealed |
//! | 2 | delete | u16 bytes of the key, key |
//! | 3 | delete a virtual host and everything in it | u16 bytes of its name, name |
//! | 4 | delete a user and its permissions | u16 bytes of its name, name |
//! | 5 | raise the limit of queue ids | u64 the limit |

use super::key;
use super::row::{self, SEALED_BYTES_MAX};
use super::{Change, DefinitionKey};
use crate::store::StoreError;

const VERSION: u8 = 1;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_VHOST: u8 = 3;
const DELETE_USER: u8 = 4;
const RAISE_QUEUE_IDS: u8 = 5;

/// Bytes that the changes of one call may have together: a record of the journal holds all of them.
pub(super) const CHANGES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A change of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowChange<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        key: &'a [u8],
    },
    /// Everything in a virtual host, and the host itself.
    DeleteVhost {
        name: &'a [u8],
    },
    /// A user and its permissions.
    DeleteUser {
        name: &'a [u8],
    },
    /// Queue ids below this may be in use.
    RaiseQueueIds {
        limit: u64,
    },
}

/// Encoded changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) bytes: Vec<u8>,
    /// How many they are.
    pub(super) count: usize,
}

impl Changes {
    /// Encodes changes; no bytes at all for none.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for a name or a definition above its limit, or for all of them together.
    pub(super) fn encode(changes: &[Change]) -> Result<Self, StoreError> {
        Self::encode_within(changes, CHANGES_BYTES_MAX)
    }

    fn encode_within(changes: &[Change], bytes_max: usize) -> Result<Self, StoreError> {
        let mut encoded = Self::default();
        for change in changes {
            match change {
                Change::Put(definition) => {
                    let (key, value) = row::encode(definition)?;
                    encoded.push(RowChange::Put {
                        key: &key,
                        value: &value,
                    });
                }
                Change::Delete(name) => {
                    let key = key::encode(name)?;
                    encoded.push(match name {
                        DefinitionKey::Vhost { name } => RowChange::DeleteVhost {
                            name: name.as_bytes(),
                        },
                        DefinitionKey::User { name } => RowChange::DeleteUser {
                            name: name.as_bytes(),
                        },
                        _ => RowChange::Delete { key: &key },
                    });
                }
            }
            if encoded.bytes.len() > bytes_max {
                return Err(StoreError::TooLarge {
                    what: "a change of definitions",
                    bytes: encoded.bytes.len(),
                    bytes_max,
                });
            }
        }
        Ok(encoded)
    }

    /// The change that raises the limit of queue ids.
    pub(super) fn raise_queue_ids(limit: u64) -> Self {
        let mut encoded = Self::default();
        encoded.push(RowChange::RaiseQueueIds { limit });
        encoded
    }

    fn push(&mut self, change: RowChange<'_>) {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
        }
        self.count += 1;
        let out = &mut self.bytes;
        match change {
            RowChange::Put { key, value } => {
                out.push(PUT);
                put_short(out, key);
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            }
            RowChange::Delete { key } => {
                out.push(DELETE);
                put_short(out, key);
            }
            RowChange::DeleteVhost { name } => {
                out.push(DELETE_VHOST);
                put_short(out, name);
            }
            RowChange::DeleteUser { name } => {
                out.push(DELETE_USER);
                put_short(out, name);
            }
            RowChange::RaiseQueueIds { limit } => {
                out.push(RAISE_QUEUE_IDS);
                out.extend_from_slice(&limit.to_le_bytes());
            }
        }
    }
}

/// Keys and names are far shorter than 64 KiB: each part of a key has a limit.
fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The changes in a record's body. All of them are checked before the first is given.
///
/// # Errors
/// What makes no sense, in words; then none of them is to be made.
pub(super) fn decode(body: &[u8]) -> Result<impl Iterator<Item = RowChange<'_>>, String> {
    let (version, changes) = body.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(format!("its version is {version}, not {VERSION}"));
    }
    let mut rest = changes;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        take(&mut rest).ok_or_else(|| format!("change {number} makes no sense"))?;
    }
    let mut rest = changes;
    Ok(std::iter::from_fn(move || take(&mut rest)))
}

/// Takes one change off the front.
fn take<'a>(rest: &mut &'a [u8]) -> Option<RowChange<'a>> {
    let kind = *rest.split_off_first()?;
    Some(match kind {
        PUT => {
            let key = take_key(rest)?;
            let bytes = u32::from_le_bytes(*take_array(rest)?) as usize;
            if bytes > SEALED_BYTES_MAX {
                return None;
            }
            let value = rest.split_off(..bytes)?;
            RowChange::Put { key, value }
        }
        DELETE => RowChange::Delete {
            key: take_key(rest)?,
        },
        DELETE_VHOST => RowChange::DeleteVhost {
            name: take_name(rest)?,
        },
        DELETE_USER => RowChange::DeleteUser {
            name: take_name(rest)?,
        },
        RAISE_QUEUE_IDS => RowChange::RaiseQueueIds {
            limit: u64::from_le_bytes(*take_array(rest)?),
        },
        _ => return None,
    })
}

fn take_array<'a, const BYTES: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; BYTES]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(array)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let bytes = usize::from(u16::from_le_bytes(*take_array(rest)?));
    rest.split_off(..bytes)
}

/// The key of a definition; no other row may be changed by a record.
fn take_key<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    take_short(rest).filter(|key| key::decode(key).is_some())
}

fn take_name<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    take_short(rest).filter(|name| name.len() <= key::NAME_BYTES_MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::tests::samples;
    use super::*;
    use crate::store::definitions::Vhost;

    fn all_kinds() -> Vec<Change> {
        let mut changes: Vec<_> = samples().into_iter().map(Change::Put).collect();
        let keys = samples();
        changes.extend(keys.iter().map(|sample| Change::Delete(sample.key())));
        changes
    }

    #[test]
    fn golden_bytes_of_changes() {
        let delete = Change::Delete(DefinitionKey::Policy {
            vhost: "/".into(),
            name: "p".into(),
        });
        let user = Change::Delete(DefinitionKey::User { name: "u".into() });
        let vhost = Change::Delete(DefinitionKey::Vhost { name: "v".into() });
        assert_eq!(
            Changes::encode(&[delete, user, vhost]).unwrap().bytes,
            b"\x01\x02\x07\0\x08\0\x01/\0\x01p\x04\x01\0u\x03\x01\0v"
        );
        let put = Changes::encode(&[Vhost::new("v").into()]).unwrap();
        assert_eq!(&put.bytes[..12], b"\x01\x01\x04\0\x01\0\x01v\x07\0\0\0");
        assert_eq!(
            Changes::raise_queue_ids(258).bytes,
            b"\x01\x05\x02\x01\0\0\0\0\0\0"
        );
        assert_eq!(Changes::encode(&[]).unwrap().bytes, b"");
    }

    #[test]
    fn changes_of_every_kind_come_back_as_they_went() {
        let changes = all_kinds();
        let encoded = Changes::encode(&changes).unwrap();
        assert_eq!(encoded.count, changes.len());
        let decoded: Vec<_> = decode(&encoded.bytes).unwrap().collect();
        assert_eq!(decoded.len(), changes.len());
        for (change, decoded) in changes.iter().zip(decoded) {
            match (change, decoded) {
                (Change::Put(definition), RowChange::Put { key, value }) => {
                    assert_eq!(row::decode(key, value).as_ref(), Ok(definition));
                }
                (
                    Change::Delete(DefinitionKey::Vhost { name }),
                    RowChange::DeleteVhost { name: decoded },
                )
                | (
                    Change::Delete(DefinitionKey::User { name }),
                    RowChange::DeleteUser { name: decoded },
                ) => assert_eq!(name.as_bytes(), decoded),
                (Change::Delete(name), RowChange::Delete { key }) => {
                    assert_eq!(key::encode(name).unwrap(), key);
                }
                other => panic!("{other:?}"),
            }
        }
        let raised = Changes::raise_queue_ids(7);
        assert_eq!(
            decode(&raised.bytes).unwrap().collect::<Vec<_>>(),
            [RowChange::RaiseQueueIds { limit: 7 }]
        );
    }

    #[test]
    fn what_is_cut_off_is_refused_as_a_whole() {
        let changes = all_kinds();
        let encoded = Changes::encode(&changes).unwrap().bytes;
        let mut whole = 0;
        for end in 0..encoded.len() {
            // Between two changes a record may end, and nothing tells that there were more: the record's checksum does.
            whole += usize::from(decode(&encoded[..end]).is_ok());
        }
        assert_eq!(whole, changes.len());
    }

    #[test]
    fn other_rows_than_definitions_and_lengths_beyond_the_limits_are_refused() {
        let refused = |bytes: &[u8]| assert!(decode(bytes).is_err(), "{bytes:?}");
        refused(b"");
        refused(b"\x02");
        refused(b"\x01\x06");
        // The counters' rows, and a segment's.
        refused(b"\x01\x02\x0b\0\0\0\x08sequence");
        refused(b"\x01\x02\x09\0\x0c\0\0\0\0\0\0\0\x01");
        let mut long = b"\x01\x03\x01\x04".to_vec();
        long.resize(4 + 1025, b'v');
        refused(&long);
        let mut large = b"\x01\x01\x04\0\x01\0\x01v".to_vec();
        large.extend_from_slice(&(SEALED_BYTES_MAX as u32 + 1).to_le_bytes());
        large.resize(large.len() + SEALED_BYTES_MAX + 1, 0);
        refused(&large);
    }

    #[test]
    fn changes_that_are_too_large_together_are_refused() {
        let changes = all_kinds();
        let bytes = Changes::encode(&changes).unwrap().bytes.len();
        assert!(Changes::encode_within(&changes, bytes).is_ok());
        assert_eq!(
            Changes::encode_within(&changes, bytes - 1).unwrap_err(),
            StoreError::TooLarge {
                what: "a change of definitions",
                bytes,
                bytes_max: bytes - 1,
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_understood(mut bytes: Vec<u8>, with_version: bool) {
            if with_version {
                bytes.insert(0, VERSION);
            }
            if let Ok(changes) = decode(&bytes) {
                prop_assert!(changes.count() <= bytes.len());
            }
        }
    }
}
