//! The rows of a queue in the catalogue: bytes and what they say.
//!
//! In: segments and lanes; keys and values that may be damaged in ways that a checksum does not show (a later program wrote
//! them). Out: keys and values, and the way back. When a row is written is not known here.
//!
//! A segment's key is 11, u64 queue, u8 lane, u32 number, u32 version; a queue's is 12, u64 queue; big end first, so that
//! rows of a queue lie together. Values, with the little end first:
//!
//! ```text
//! segment  u8 format 1, u8 flags (1 dead, 2 sealed, 4 may expire); a dead one ends here
//!          u64 first place in the lane, u64 bytes of the file, u64 bytes of live bodies, varint messages
//!          settled set (see there)
//!          varint blobs, for each: varint offset of its message, u64 number
//!          varint counts, for each: varint offset, varint times handed out, varint times in vain
//! queue    u8 format 1, u64 as of
//!          for each lane: u8 lane, u64 next place, u64 delivered through, u64 moved through,
//!          u64 bytes of live bodies in segments, u32 next number of a segment
//! ```

use std::collections::BTreeMap;

use super::lane::{Counts, Lane, Segments};
use super::segment::{SPAN_MAX, Segment};
use super::settled_set::SettledSet;
use super::types::SegmentId;
use crate::model::{Position, QueueId};
use crate::store::journal::Lsn;
use crate::store::numbers::{Reader, put_u64, put_varint};

/// The first byte of a segment's key in the catalogue.
pub const KEY_KIND_SEGMENT: u8 = 11;

/// The first byte of the key of a queue's own row.
pub const KEY_KIND_QUEUE: u8 = 12;

const FORMAT: u8 = 1;

const DEAD: u8 = 1;
const SEALED: u8 = 1 << 1;
const MAY_EXPIRE: u8 = 1 << 2;

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Segment(SegmentId),
    Queue(QueueId),
}

/// The queue that a row is of, by the row's key; none if it is not one of a queue's log.
pub fn queue_of_key(key: &[u8]) -> Option<QueueId> {
    match parse_key(key)? {
        Key::Segment(id) => Some(id.queue),
        Key::Queue(queue) => Some(queue),
    }
}

/// The segment that a row is of, by the row's key; none if it is not a segment's.
pub fn segment_of_key(key: &[u8]) -> Option<SegmentId> {
    match parse_key(key)? {
        Key::Segment(id) => Some(id),
        Key::Queue(_) => None,
    }
}

pub(super) fn segment_key(id: SegmentId) -> Vec<u8> {
    let mut key = vec![KEY_KIND_SEGMENT];
    key.extend_from_slice(&id.queue.0.to_be_bytes());
    key.push(id.lane);
    key.extend_from_slice(&id.number.to_be_bytes());
    key.extend_from_slice(&id.version.to_be_bytes());
    key
}

pub(super) fn queue_key(queue: QueueId) -> Vec<u8> {
    let mut key = vec![KEY_KIND_QUEUE];
    key.extend_from_slice(&queue.0.to_be_bytes());
    key
}

pub(super) fn parse_key(key: &[u8]) -> Option<Key> {
    let (kind, rest) = key.split_first()?;
    let (queue, rest) = rest.split_first_chunk()?;
    let queue = QueueId(u64::from_be_bytes(*queue));
    match *kind {
        KEY_KIND_QUEUE => rest.is_empty().then_some(Key::Queue(queue)),
        KEY_KIND_SEGMENT => {
            let (lane, rest) = rest.split_first()?;
            let (number, rest) = rest.split_first_chunk()?;
            let version: &[u8; 4] = rest.try_into().ok()?;
            Some(Key::Segment(SegmentId {
                queue,
                lane: *lane,
                number: u32::from_be_bytes(*number),
                version: u32::from_be_bytes(*version),
                is_transient: false,
            }))
        }
        _ => None,
    }
}

/// The value of a segment that is dead.
pub(super) fn dead_value() -> Vec<u8> {
    vec![FORMAT, DEAD]
}

/// The value of a segment, with those of the lane's counts that are of its messages.
pub(super) fn segment_value(segment: &Segment, counts: &BTreeMap<u64, Counts>) -> Vec<u8> {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let mut value = vec![
        FORMAT,
        flag(segment.is_sealed, SEALED) | flag(segment.may_expire, MAY_EXPIRE),
    ];
    put_u64(&mut value, segment.first);
    put_u64(&mut value, segment.bytes);
    put_u64(&mut value, segment.live_body_bytes);
    put_varint(&mut value, segment.messages.into());
    segment.settled.encode(&mut value);
    put_varint(&mut value, segment.blobs.len() as u64);
    for (place, blob) in &segment.blobs {
        put_varint(&mut value, place - segment.first);
        put_u64(&mut value, *blob);
    }
    let counts = counts.range(segment.first..segment.end());
    let counts: Vec<_> = counts
        .filter(|(place, _)| segment.is_live(**place))
        .collect();
    put_varint(&mut value, counts.len() as u64);
    for (place, (acquired, failed)) in counts {
        put_varint(&mut value, place - segment.first);
        put_varint(&mut value, (*acquired).into());
        put_varint(&mut value, (*failed).into());
    }
    value
}

/// What the row of a segment says.
#[derive(Debug)]
pub(super) enum SegmentRow {
    Dead,
    /// The segment, and the counts of its messages by place.
    Live(Segment, Vec<(u64, Counts)>),
}

/// Reads a segment's value; none if it makes no sense.
pub(super) fn parse_segment(id: SegmentId, value: &[u8]) -> Option<SegmentRow> {
    let mut reader = Reader::new(value);
    if reader.u8()? != FORMAT {
        return None;
    }
    let flags = reader.u8()?;
    if flags & DEAD != 0 {
        return Some(SegmentRow::Dead);
    }
    let mut segment = Segment::new(id, reader.u64()?);
    segment.is_changed = false;
    segment.has_row = true;
    segment.is_sealed = flags & SEALED != 0;
    segment.may_expire = flags & MAY_EXPIRE != 0;
    segment.bytes = reader.u64()?;
    segment.live_body_bytes = reader.u64()?;
    segment.messages = reader.varint_u32()?;
    segment.settled = SettledSet::decode(&mut reader, SPAN_MAX as u32)?;
    let span = u64::from(segment.settled.span());
    if span == 0 || segment.first == 0 || segment.first > Position::SEQUENCE_MAX + 1 - span {
        return None;
    }
    let first = segment.first;
    let place = |offset: u64| (offset < span).then(|| first + offset);
    for _ in 0..reader.varint()? {
        let place = place(reader.varint()?)?;
        segment.blobs.insert(place, reader.u64()?);
    }
    let mut counts = Vec::new();
    for _ in 0..reader.varint()? {
        let place = place(reader.varint()?)?;
        counts.push((place, (reader.varint_u32()?, reader.varint_u32()?)));
    }
    reader
        .is_empty()
        .then_some(SegmentRow::Live(segment, counts))
}

/// The value of a queue's own row.
pub(super) fn queue_value(as_of: Lsn, lanes: &[Lane]) -> Vec<u8> {
    let mut value = vec![FORMAT];
    put_u64(&mut value, as_of.0);
    for lane in lanes {
        value.push(lane.lane);
        let segments = lane.segments.as_deref();
        let number = |number: fn(&Segments) -> u64| segments.map_or(0, number);
        put_u64(
            &mut value,
            lane.next.max(number(|segments| segments.row_next)),
        );
        put_u64(&mut value, lane.delivered_through);
        put_u64(&mut value, number(|segments| segments.moved_through));
        put_u64(&mut value, number(|segments| segments.body_bytes));
        let next_number = number(|segments| segments.next_number.into());
        value.extend_from_slice(&(next_number as u32).to_le_bytes());
    }
    value
}

/// What a queue's own row says of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneRow {
    pub(super) lane: u8,
    pub(super) next: u64,
    pub(super) delivered_through: u64,
    pub(super) moved_through: u64,
    pub(super) body_bytes: u64,
    pub(super) next_number: u32,
}

/// Reads the value of a queue's own row; none if it makes no sense.
pub(super) fn parse_queue(value: &[u8]) -> Option<(Lsn, Vec<LaneRow>)> {
    let mut reader = Reader::new(value);
    if reader.u8()? != FORMAT {
        return None;
    }
    let as_of = Lsn(reader.u64()?);
    let mut lanes: Vec<LaneRow> = Vec::new();
    while !reader.is_empty() {
        let lane = LaneRow {
            lane: reader.u8()?,
            next: reader.place()?,
            delivered_through: reader.place()?,
            moved_through: reader.place()?,
            body_bytes: reader.u64()?,
            next_number: reader.u32()?,
        };
        if lanes.last().is_some_and(|before| before.lane >= lane.lane) {
            return None;
        }
        lanes.push(lane);
    }
    Some((as_of, lanes))
}

impl Reader<'_> {
    /// A place in a lane, or the one behind the last.
    fn place(&mut self) -> Option<u64> {
        self.u64()
            .filter(|place| *place <= Position::SEQUENCE_MAX + 1)
    }
}
