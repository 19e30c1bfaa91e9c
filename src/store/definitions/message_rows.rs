//! The catalogue's rows about messages: where those of a queue lie, and what is settled.
//!
//! In: rows as plain bytes, from the message store. Out: sealed rows for the catalogue, and the way back. What the bytes
//! mean is not known here.
//!
//! | row | key |
//! |---|---|
//! | a segment | 11, u64 queue, u8 lane, u32 number, u32 version |
//! | a queue's state | 12, u64 queue |
//!
//! Numbers are big end first, so that the rows of a queue stand together. The payload of a value is one byte, the number
//! of further parts, and then the bytes. What does not fit into one row goes on in further parts, whose keys have the
//! part's number (u8, from 1) at the end. Keys of a kind are equally long, so a part never has the key of another row,
//! and stands behind its first.

use std::collections::BTreeMap;

use super::catalogue::Catalogue;
use super::key::{self, Kind};
use super::recovery::DamagedRow;
use super::row::{self, ROW_BYTES_MAX};
use super::rows::RowWrite;
use crate::store::StoreError;

/// Bytes of a value in one row; one more byte says how many rows follow.
const PART_BYTES_MAX: usize = ROW_BYTES_MAX - 1;

/// Parts behind the first.
const FURTHER_PARTS_MAX: usize = u8::MAX as usize;

/// Bytes of a value.
const VALUE_BYTES_MAX: usize = (FURTHER_PARTS_MAX + 1) * PART_BYTES_MAX;

/// Bytes of the key of each kind.
const fn key_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Segment => 1 + 8 + 1 + 4 + 4,
        _ => 1 + 8,
    }
}

/// All rows about messages, and those that could not be read.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct MessageRows {
    /// Key and value, in the order of the keys.
    pub(in crate::store) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// What was damaged, and is left out.
    pub(in crate::store) damaged: Vec<DamagedRow>,
}

/// Whether all writes can be made.
///
/// # Errors
/// A value that is too large, a key that is none of a message's row.
pub(super) fn check(writes: &[RowWrite]) -> Result<(), StoreError> {
    for write in writes {
        let (key, bytes) = match write {
            RowWrite::Put { key, value } => (key, value.len()),
            RowWrite::Delete { key } => (key, 0),
        };
        if kind_of(key).is_none() {
            return Err(StoreError::Stopped {
                reason: format!("{} is not about messages", key::describe(key)),
            });
        }
        if bytes > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge {
                what: "a message's row",
                bytes,
                bytes_max: VALUE_BYTES_MAX,
            });
        }
    }
    Ok(())
}

/// Adds writes to a batch, which were checked. Of several for one key the last counts.
///
/// # Errors
/// The catalogue cannot be read.
pub(super) fn put(
    catalogue: &Catalogue,
    writes: Vec<RowWrite>,
    batch: &mut sled::Batch,
) -> Result<(), StoreError> {
    let last: BTreeMap<_, _> = writes
        .into_iter()
        .map(|write| match write {
            RowWrite::Put { key, value } => (key, Some(value)),
            RowWrite::Delete { key } => (key, None),
        })
        .collect();
    for (key, value) in last {
        let further_before = match catalogue.get(&key)? {
            Some(before) => further_parts(&key, &before),
            None => 0,
        };
        let further = match value {
            None => {
                batch.remove(key.as_slice());
                0
            }
            Some(value) => put_parts(&key, &value, batch),
        };
        for number in further + 1..=further_before {
            batch.remove(part_key(&key, number));
        }
    }
    Ok(())
}

/// Seals a value in as many rows as it needs; gives the number of those behind the first.
fn put_parts(key: &[u8], value: &[u8], batch: &mut sled::Batch) -> usize {
    let further = value.len().saturating_sub(1) / PART_BYTES_MAX;
    for number in 0..=further {
        let start = number * PART_BYTES_MAX;
        let end = value.len().min(start + PART_BYTES_MAX);
        let mut payload = vec![(further - number) as u8];
        payload.extend_from_slice(&value[start..end]);
        let key = part_key(key, number);
        let sealed = row::seal(&key, &payload);
        batch.insert(key, sealed);
    }
    further
}

/// Reads all rows about messages.
///
/// # Errors
/// The catalogue cannot be read. Damaged rows are told beside the others.
pub(super) fn read(catalogue: &Catalogue) -> Result<MessageRows, StoreError> {
    let mut found = MessageRows::default();
    for kind in Kind::MESSAGES {
        // The row whose further parts come next, and how many they are.
        let mut open: Option<(Vec<u8>, Vec<u8>, u8)> = None;
        let mut rows = MessageRows::default();
        catalogue.scan(&[kind as u8], |key, value| {
            let is_first = key.len() == key_bytes(kind);
            let part = row::unseal(key, value).and_then(|payload| {
                payload
                    .split_first()
                    .ok_or_else(|| "it is empty".to_owned())
            });
            match (part, &mut open) {
                (part, _) if is_first => {
                    finish(&mut rows, &mut open);
                    match part {
                        Ok((0, value)) => rows.rows.push((key.to_vec(), value.to_vec())),
                        Ok((further, value)) => {
                            open = Some((key.to_vec(), value.to_vec(), *further));
                        }
                        Err(reason) => rows.damaged.push(damage(key, reason)),
                    }
                }
                (Ok((further, value)), Some((_, gathered, left)))
                    if left.checked_sub(1) == Some(*further) =>
                {
                    gathered.extend_from_slice(value);
                    *left = *further;
                }
                // A part that is damaged is missed when its row is finished; one that nobody asks for is left from a
                // row that is gone.
                _ => {}
            }
            Ok::<_, StoreError>(())
        })?;
        finish(&mut rows, &mut open);
        found.rows.append(&mut rows.rows);
        found.damaged.append(&mut rows.damaged);
    }
    for row in &found.damaged {
        tracing::error!("a damaged row: {row}");
    }
    Ok(found)
}

fn finish(found: &mut MessageRows, open: &mut Option<(Vec<u8>, Vec<u8>, u8)>) {
    match open.take() {
        Some((key, value, 0)) => found.rows.push((key, value)),
        Some((key, _, left)) => found
            .damaged
            .push(damage(&key, format!("{left} of its parts are missing"))),
        None => {}
    }
}

fn damage(key: &[u8], reason: String) -> DamagedRow {
    DamagedRow {
        key: key.to_vec(),
        what: key::describe(key),
        reason,
        is_restored: false,
    }
}

/// Whether a key is one of a message's row.
fn kind_of(key: &[u8]) -> Option<Kind> {
    Kind::MESSAGES
        .into_iter()
        .find(|kind| key.first() == Some(&(*kind as u8)) && key.len() == key_bytes(*kind))
}

fn part_key(key: &[u8], number: usize) -> Vec<u8> {
    let mut key = key.to_vec();
    if number > 0 {
        key.push(number as u8);
    }
    key
}

/// How many parts follow a row; a damaged one may have had any number.
fn further_parts(key: &[u8], value: &[u8]) -> usize {
    match row::unseal(key, value).map(<[u8]>::first) {
        Ok(further) => further.map_or(0, |further| usize::from(*further)),
        Err(_) => FURTHER_PARTS_MAX,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn segment(queue: u64, number: u32) -> Vec<u8> {
        let mut key = vec![Kind::Segment as u8];
        key.extend_from_slice(&queue.to_be_bytes());
        key.push(4);
        key.extend_from_slice(&number.to_be_bytes());
        key.extend_from_slice(&1_u32.to_be_bytes());
        key
    }

    fn state(queue: u64) -> Vec<u8> {
        let mut key = vec![Kind::QueueState as u8];
        key.extend_from_slice(&queue.to_be_bytes());
        key
    }

    fn write(catalogue: &Catalogue, writes: Vec<RowWrite>) {
        let mut batch = sled::Batch::default();
        put(catalogue, writes, &mut batch).unwrap();
        catalogue.commit(batch).unwrap();
    }

    fn put_of(key: Vec<u8>, value: Vec<u8>) -> RowWrite {
        RowWrite::Put { key, value }
    }

    fn open(dir: &tempfile::TempDir) -> Catalogue {
        Catalogue::open(&dir.path().join("meta"), 1 << 20).unwrap()
    }

    #[test]
    fn rows_of_any_size_come_back_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = open(&dir);
        let noise = |bytes: usize| (0..bytes).map(|at| (at / 7) as u8).collect::<Vec<_>>();
        let sizes = [
            0,
            1,
            PART_BYTES_MAX,
            PART_BYTES_MAX + 1,
            3 * PART_BYTES_MAX,
            7,
        ];
        for bytes in sizes {
            let others = [(segment(7, 1), noise(5)), (state(7), noise(6))];
            let row = (segment(7, 2), noise(bytes));
            let mut writes: Vec<_> = others
                .iter()
                .cloned()
                .map(|(key, value)| put_of(key, value))
                .collect();
            writes.push(put_of(row.0.clone(), row.1.clone()));
            write(&catalogue, writes);
            let found = read(&catalogue).unwrap();
            assert_eq!(found.damaged, []);
            let [first, last] = others;
            assert_eq!(found.rows, [first, row, last], "{bytes} bytes");
        }
        write(
            &catalogue,
            vec![
                put_of(segment(7, 2), noise(PART_BYTES_MAX * 2)),
                RowWrite::Delete { key: segment(7, 1) },
                RowWrite::Delete { key: state(7) },
            ],
        );
        write(&catalogue, vec![RowWrite::Delete { key: segment(7, 2) }]);
        let mut rows = 0;
        let count = |_: &[u8], _: &[u8]| {
            rows += 1;
            Ok::<_, StoreError>(())
        };
        catalogue.scan(&[], count).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn of_two_writes_of_a_row_the_last_counts() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = open(&dir);
        write(
            &catalogue,
            vec![
                put_of(state(1), vec![1; PART_BYTES_MAX + 1]),
                put_of(state(1), b"b".to_vec()),
                put_of(state(2), b"c".to_vec()),
                RowWrite::Delete { key: state(2) },
            ],
        );
        let found = read(&catalogue).unwrap();
        assert_eq!(found.rows, [(state(1), b"b".to_vec())]);
        assert_eq!(found.damaged, []);
    }

    #[test]
    fn a_damaged_row_is_told_with_its_queue_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = open(&dir);
        let large = vec![3; 2 * PART_BYTES_MAX + 1];
        write(
            &catalogue,
            vec![
                put_of(segment(1, 1), b"a".to_vec()),
                put_of(segment(1, 2), large.clone()),
                put_of(segment(2, 1), large),
                put_of(segment(3, 1), b"b".to_vec()),
            ],
        );
        let mut batch = sled::Batch::default();
        batch.insert(segment(1, 1), &b"\x01damaged"[..]);
        batch.insert(part_key(&segment(1, 2), 1), &b"\x01damaged"[..]);
        batch.remove(part_key(&segment(2, 1), 2));
        catalogue.commit(batch).unwrap();
        let found = read(&catalogue).unwrap();
        assert_eq!(found.rows, [(segment(3, 1), b"b".to_vec())]);
        let damaged: Vec<_> = found.damaged.iter().map(ToString::to_string).collect();
        assert_eq!(
            damaged,
            [
                "segment of queue 1: its checksum is wrong; it is left out",
                "segment of queue 1: 2 of its parts are missing; it is left out",
                "segment of queue 2: 1 of its parts are missing; it is left out",
            ]
        );
        // Written anew they are sound, whatever lay there.
        write(&catalogue, vec![put_of(segment(1, 1), b"a".to_vec())]);
        assert_eq!(read(&catalogue).unwrap().rows.len(), 2);
    }

    #[test]
    fn other_rows_than_those_of_messages_cannot_be_written() {
        let vhost = key::prefix(Kind::Vhost, &[b"v"]);
        let long = [state(1), vec![1]].concat();
        for key in [vhost, long, vec![], vec![Kind::QueueState as u8]] {
            for write in [put_of(key.clone(), vec![]), RowWrite::Delete { key }] {
                let checked = check(&[put_of(state(1), vec![]), write]);
                assert!(matches!(checked, Err(StoreError::Stopped { .. })));
            }
        }
        assert_eq!(check(&[put_of(state(1), vec![0; VALUE_BYTES_MAX])]), Ok(()));
        assert!(matches!(
            check(&[put_of(state(1), vec![0; VALUE_BYTES_MAX + 1])]),
            Err(StoreError::TooLarge { .. })
        ));
    }
}
