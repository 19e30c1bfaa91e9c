//! A record as it lies in the journal and in segments: the same bytes in both, so that moving one is a copy.
//!
//! In: messages and what becomes of them. Out: bytes with checksums, and the way back with every damage found. Which file a
//! record is in, and what it means to a queue, is not known here.
//!
//! Little end first; a record begins at a multiple of 8 and is filled up with zeros to one.
//!
//! ```text
//!  0 u32 magic "HQr1"      12 u32 body bytes           28 u32 CRC-32 of bytes 0..28 and the meta
//!  4 u8  kind, u8 flags    16 u64 at: where it lies    32 meta
//!  6 u16 0                 24 u32 CRC-32 of the body      body
//!  8 u32 meta bytes
//! ```
//!
//! `at` is the record's own place: the Lsn in the journal, the segment's stamp and the offset in a segment. A stale record of
//! a file's former life therefore never passes for one of its present. Head and body have checksums of their own: a
//! damaged body still tells whose it was.
//!
//! Metas:
//! - `Message`: u32 number of targets, then for each: u64 queue, u64 position, u64 deadline (low 56 bits in
//!   milliseconds since 1970, all ones for none) and flags (top 8 bits: 1 = for room only, void after a restart). Then exchange
//!   (u8 length), routing key (u8), properties (u32), deaths (u32; see `deaths_codec`), each behind its length. With flag
//!   `BLOB` then u64 blob and u32 bytes: the body is in a file of its own, the body's CRC is that file's.
//! - `Settled`: u64 queue, then runs of u64 first position, u32 count, u32 bytes of the bodies.
//! - `Purged`: u64 queue, u32 lanes, for each u64 last position; then runs that survive, as in `Settled`.
//! - `Requeued`: u64 queue, then for each: u64 position, u32 acquired, u32 failed.
//! - `Definitions`: nothing; the body is the definition store's own.

use std::ops::Range;

use bytes::Bytes;

use super::deaths_codec;
use super::numbers::{self, u32_at, u64_at};
use crate::model::{Deaths, Message, Name, Position, QueueId, WallMs};
use crate::protocol::PropertyFacts;

const MAGIC: u32 = u32::from_le_bytes(*b"HQr1");

/// Bytes of a record's fixed head.
pub const HEAD_BYTES: usize = 32;

/// Records begin at multiples of this.
pub const ALIGN: usize = 8;

/// Bodies from this size on lie in files of their own.
pub const BLOB_BYTES_MIN: usize = 1024 * 1024 + 1;

/// The largest meta that is believed: a message for a hundred thousand queues, with headers of 16 MiB.
const META_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// The largest body that is believed.
const BODY_BYTES_MAX: u32 = 600 * 1024 * 1024;

const DEADLINE_MASK: u64 = (1 << 56) - 1;
const TARGET_BYTES: usize = 24;
const RUN_BYTES: usize = 16;

/// Set in the flags of a record whose body is in a file of its own.
const FLAG_BLOB: u8 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message and the queues that it went to.
    Message,
    /// Positions of a queue that are done.
    Settled,
    /// Everything in a queue up to a position is done, with exceptions.
    Purged,
    /// How often messages of a quorum queue were handed out.
    Requeued,
    /// Changes of definitions.
    Definitions,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Settled => 2,
            Self::Purged => 3,
            Self::Requeued => 4,
            Self::Definitions => 5,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Message,
            2 => Self::Settled,
            3 => Self::Purged,
            4 => Self::Requeued,
            5 => Self::Definitions,
            _ => return None,
        })
    }
}

/// One queue that a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The queue.
    pub queue: QueueId,
    /// The message's place there.
    pub position: Position,
    /// When it expires there, in milliseconds since 1970; [`WallMs::MAX`] for never.
    pub deadline_ms: WallMs,
    /// It was written to save memory, and is void after a restart.
    pub is_transient: bool,
}

/// Positions in a row, and the bytes of their bodies, so that what remains in a queue is known to the byte after a
/// restart although nobody reads what was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first position.
    pub first: Position,
    /// How many there are; those of one lane.
    pub count: u32,
    /// Bytes of all their bodies together.
    pub body_bytes: u32,
}

impl Run {
    /// Adds a position to the last of `runs` if it follows it, else as a run of its own.
    pub fn push(runs: &mut Vec<Self>, position: Position, body_bytes: u32) {
        if let Some(run) = runs.last_mut()
            && run.first.0.checked_add(u64::from(run.count)) == Some(position.0)
            && run.first.lane() == position.lane()
            && let Some(count) = run.count.checked_add(1)
            && let Some(bytes) = run.body_bytes.checked_add(body_bytes)
        {
            (run.count, run.body_bytes) = (count, bytes);
            return;
        }
        runs.push(Self {
            first: position,
            count: 1,
            body_bytes,
        });
    }
}

/// A body in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// The file's number.
    pub blob: u64,
    /// Bytes of the body.
    pub bytes: u32,
    /// Its CRC-32.
    pub crc: u32,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// They end before the record does.
    #[error("cut off")]
    Cut,
    /// No record begins here.
    #[error("no record")]
    NoRecord,
    /// The record belongs to another place or to a former life of the file.
    #[error("of another place")]
    Elsewhere,
    /// The head's checksum is wrong.
    #[error("checksum of the head")]
    Head,
    /// The body's checksum is wrong.
    #[error("checksum of the body")]
    Body,
    /// Checksums are right and the content makes no sense: a defect, or a later program wrote it.
    #[error("content that makes no sense")]
    Content,
}

/// A record's fixed head, checked against its meta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the record says.
    pub kind: Kind,
    /// Where it lies.
    pub at: u64,
    meta_bytes: u32,
    body_bytes: u32,
    body_crc: u32,
    /// Its own checksum, to be chained.
    pub crc: u32,
    has_blob: bool,
}

impl Head {
    /// Bytes from this record's begin to the next one's.
    pub fn record_bytes(&self) -> usize {
        (HEAD_BYTES + self.meta_bytes as usize + self.body_bytes as usize).next_multiple_of(ALIGN)
    }

    /// Where the meta lies in the record.
    pub fn meta(&self) -> Range<usize> {
        HEAD_BYTES..HEAD_BYTES + self.meta_bytes as usize
    }

    /// Where the body lies in the record; empty if it is in a file of its own.
    pub fn body(&self) -> Range<usize> {
        let start = self.meta().end;
        start..start + self.body_bytes as usize
    }

    /// Bytes that must be there to check the head with [`Head::parse`]; asks the first 32 bytes.
    ///
    /// # Errors
    /// No record begins here, or its lengths cannot be believed.
    pub fn bytes_to_check(bytes: &[u8]) -> Result<usize, Damage> {
        let fixed: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(Damage::Cut)?;
        if u32_at(fixed, 0) != MAGIC {
            return Err(Damage::NoRecord);
        }
        let (meta_bytes, body_bytes) = (u32_at(fixed, 8), u32_at(fixed, 12));
        if meta_bytes > META_BYTES_MAX || body_bytes > BODY_BYTES_MAX {
            return Err(Damage::Head);
        }
        Ok(HEAD_BYTES + meta_bytes as usize)
    }

    /// Reads and checks head and meta at the begin of `bytes`; `at` is where they should lie.
    ///
    /// # Errors
    /// See [`Damage`]; the body is not looked at.
    pub fn parse(bytes: &[u8], at: u64) -> Result<Self, Damage> {
        let checked_bytes = Self::bytes_to_check(bytes)?;
        let checked = bytes.get(..checked_bytes).ok_or(Damage::Cut)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&checked[..28]);
        hasher.update(&checked[HEAD_BYTES..]);
        let crc = u32_at(checked, 28);
        if hasher.finalize() != crc {
            return Err(Damage::Head);
        }
        if u64_at(checked, 16) != at {
            return Err(Damage::Elsewhere);
        }
        Ok(Self {
            kind: Kind::of(checked[4]).ok_or(Damage::Content)?,
            at,
            meta_bytes: u32_at(checked, 8),
            body_bytes: u32_at(checked, 12),
            body_crc: u32_at(checked, 24),
            crc,
            has_blob: checked[5] & FLAG_BLOB != 0,
        })
    }

    /// Checks the body of the record that begins with `record`. A body in a file of its own is not looked at.
    ///
    /// # Errors
    /// [`Damage::Cut`] or [`Damage::Body`].
    pub fn check_body(&self, record: &[u8]) -> Result<(), Damage> {
        let body = record.get(self.body()).ok_or(Damage::Cut)?;
        if !self.has_blob && crc32fast::hash(body) != self.body_crc {
            return Err(Damage::Body);
        }
        Ok(())
    }
}

/// The meta of a message.
#[derive(Clone, Copy, Debug)]
pub struct MessageMeta<'a> {
    targets: &'a [u8],
    exchange: &'a str,
    routing_key: &'a [u8],
    properties: &'a [u8],
    deaths: &'a [u8],
    /// The file that has the body, if it is not in the record.
    pub blob: Option<BlobRef>,
    body_crc: u32,
}

impl<'a> MessageMeta<'a> {
    /// Reads the meta of a record whose head was checked.
    ///
    /// # Errors
    /// [`Damage::Content`].
    pub fn parse(head: &Head, meta: &'a [u8]) -> Result<Self, Damage> {
        let mut reader = Reader(numbers::Reader::new(meta));
        let targets = reader.u32()? as usize;
        let targets = reader.take(targets.checked_mul(TARGET_BYTES).ok_or(Damage::Content)?)?;
        let exchange_bytes = usize::from(reader.u8()?);
        let exchange = std::str::from_utf8(reader.take(exchange_bytes)?);
        let routing_key_bytes = usize::from(reader.u8()?);
        let routing_key = reader.take(routing_key_bytes)?;
        let properties_bytes = reader.u32()? as usize;
        let properties = reader.take(properties_bytes)?;
        let deaths_bytes = reader.u32()? as usize;
        let deaths = reader.take(deaths_bytes)?;
        let blob = match head.has_blob {
            true => Some(BlobRef {
                blob: reader.u64()?,
                bytes: reader.u32()?,
                crc: head.body_crc,
            }),
            false => None,
        };
        Ok(Self {
            targets,
            exchange: exchange.map_err(|_| Damage::Content)?,
            routing_key,
            properties,
            deaths,
            blob,
            body_crc: head.body_crc,
        })
    }

    /// The queues that it went to.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = Target> + use<'a> {
        self.targets.chunks_exact(TARGET_BYTES).map(|bytes| {
            let packed = u64_at(bytes, 16);
            let deadline_ms = packed & DEADLINE_MASK;
            Target {
                queue: QueueId(u64_at(bytes, 0)),
                position: Position(u64_at(bytes, 8)),
                deadline_ms: if deadline_ms == DEADLINE_MASK {
                    WallMs::MAX
                } else {
                    deadline_ms
                },
                is_transient: packed >> 56 != 0,
            }
        })
    }

    /// The message, with `body`, which the caller has read and checked.
    ///
    /// # Errors
    /// [`Damage::Content`].
    pub fn message(&self, body: Bytes) -> Result<Message, Damage> {
        if self.blob.is_none() {
            return self.copied_message(&body);
        }
        let facts = PropertyFacts::of(self.properties).map_err(|_| Damage::Content)?;
        let exchange = Name::from(self.exchange);
        self.with_deaths(Message::with_body(
            exchange,
            self.routing_key,
            self.properties,
            facts,
            body,
        ))
    }

    /// The message, with the body that is in the record, which the caller has checked.
    ///
    /// # Errors
    /// [`Damage::Content`].
    pub fn copied_message(&self, body: &[u8]) -> Result<Message, Damage> {
        let facts = PropertyFacts::of(self.properties).map_err(|_| Damage::Content)?;
        let exchange = Name::from(self.exchange);
        self.with_deaths(Message::copied(
            exchange,
            self.routing_key,
            self.properties,
            facts,
            body,
        ))
    }

    fn with_deaths(&self, message: Message) -> Result<Message, Damage> {
        if self.deaths.is_empty() {
            return Ok(message);
        }
        let deaths: Deaths = deaths_codec::decode(self.deaths).ok_or(Damage::Content)?;
        Ok(message.with_deaths(deaths.into()))
    }

    /// Appends the record of the same message for one of its queues, to lie at `at`. `body` is the record's body as it
    /// was read, empty if it is in a file of its own; `blob` names that file.
    pub fn rewrite(
        &self,
        out: &mut Vec<u8>,
        at: u64,
        target: Target,
        blob: Option<BlobRef>,
        body: &[u8],
    ) {
        let start = begin(out, Kind::Message, at);
        put_targets(out, &[target]);
        put_head_of_message(
            out,
            self.exchange,
            self.routing_key,
            self.properties,
            self.deaths,
        );
        put_blob(out, blob);
        let crc = blob.map_or(self.body_crc, |blob| blob.crc);
        end(out, start, body, crc, blob.is_some());
    }
}

/// Appends a message for `targets`, to lie at `at`. With `blob` its body is not part of it. Gives the head's checksum.
pub fn put_message(
    out: &mut Vec<u8>,
    at: u64,
    message: &Message,
    targets: &[Target],
    blob: Option<BlobRef>,
) -> u32 {
    let body_crc = blob.map_or_else(|| crc32fast::hash(message.body()), |blob| blob.crc);
    put_prepared_message(out, at, message, body_crc, targets, blob)
}

/// As [`put_message`], with the body's checksum made before: it is most of the work, and this may be done under a lock.
pub fn put_prepared_message(
    out: &mut Vec<u8>,
    at: u64,
    message: &Message,
    body_crc: u32,
    targets: &[Target],
    blob: Option<BlobRef>,
) -> u32 {
    let start = begin(out, Kind::Message, at);
    put_targets(out, targets);
    let deaths = message
        .deaths()
        .map(|deaths| deaths_codec::encode(deaths))
        .unwrap_or_default();
    put_head_of_message(
        out,
        message.exchange(),
        message.routing_key(),
        message.properties(),
        &deaths,
    );
    put_blob(out, blob);
    let body = match blob {
        Some(_) => &[],
        None => message.body(),
    };
    end(out, start, body, body_crc, blob.is_some())
}

/// Appends that positions of a queue are done.
pub fn put_settled(out: &mut Vec<u8>, at: u64, queue: QueueId, runs: &[Run]) -> u32 {
    let start = begin(out, Kind::Settled, at);
    out.extend_from_slice(&queue.0.to_le_bytes());
    put_runs(out, runs);
    end(out, start, &[], 0, false)
}

/// Appends that everything in a queue is done up to the `last` position of each lane, but for `survivors`.
pub fn put_purged(
    out: &mut Vec<u8>,
    at: u64,
    queue: QueueId,
    last: &[Position],
    survivors: &[Run],
) -> u32 {
    let start = begin(out, Kind::Purged, at);
    out.extend_from_slice(&queue.0.to_le_bytes());
    out.extend_from_slice(&(last.len() as u32).to_le_bytes());
    for position in last {
        out.extend_from_slice(&position.0.to_le_bytes());
    }
    put_runs(out, survivors);
    end(out, start, &[], 0, false)
}

/// Appends how often messages were handed out, and how often in vain.
pub fn put_requeued(
    out: &mut Vec<u8>,
    at: u64,
    queue: QueueId,
    counts: &[(Position, u32, u32)],
) -> u32 {
    let start = begin(out, Kind::Requeued, at);
    out.extend_from_slice(&queue.0.to_le_bytes());
    for (position, acquired, failed) in counts {
        out.extend_from_slice(&position.0.to_le_bytes());
        out.extend_from_slice(&acquired.to_le_bytes());
        out.extend_from_slice(&failed.to_le_bytes());
    }
    end(out, start, &[], 0, false)
}

/// Appends changes of definitions in the definition store's own form.
pub fn put_definitions(out: &mut Vec<u8>, at: u64, changes: &[u8]) -> u32 {
    let start = begin(out, Kind::Definitions, at);
    end(out, start, changes, crc32fast::hash(changes), false)
}

/// A record's meta, understood.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// See [`Kind::Message`].
    Message(MessageMeta<'a>),
    /// See [`Kind::Settled`].
    Settled {
        /// The queue.
        queue: QueueId,
        /// What is done in it.
        runs: Vec<Run>,
    },
    /// See [`Kind::Purged`].
    Purged {
        /// The queue.
        queue: QueueId,
        /// The last position of each lane that it had.
        last: Vec<Position>,
        /// What is not done.
        survivors: Vec<Run>,
    },
    /// See [`Kind::Requeued`].
    Requeued {
        /// The queue.
        queue: QueueId,
        /// Position, times handed out, times in vain.
        counts: Vec<(Position, u32, u32)>,
    },
    /// See [`Kind::Definitions`]; the changes are the body.
    Definitions,
}

impl<'a> Content<'a> {
    /// Understands the meta of a record whose head was checked.
    ///
    /// # Errors
    /// [`Damage::Content`].
    pub fn parse(head: &Head, meta: &'a [u8]) -> Result<Self, Damage> {
        let mut reader = Reader(numbers::Reader::new(meta));
        Ok(match head.kind {
            Kind::Message => Self::Message(MessageMeta::parse(head, meta)?),
            Kind::Settled => Self::Settled {
                queue: QueueId(reader.u64()?),
                runs: reader.runs()?,
            },
            Kind::Purged => {
                let queue = QueueId(reader.u64()?);
                let lanes = reader.u32()?;
                if lanes > 256 {
                    return Err(Damage::Content);
                }
                let last = (0..lanes)
                    .map(|_| reader.u64().map(Position))
                    .collect::<Result<_, _>>()?;
                let survivors = reader.runs()?;
                Self::Purged {
                    queue,
                    last,
                    survivors,
                }
            }
            Kind::Requeued => {
                let queue = QueueId(reader.u64()?);
                let mut counts = Vec::with_capacity(reader.0.rest().len() / RUN_BYTES);
                while !reader.0.is_empty() {
                    counts.push((Position(reader.u64()?), reader.u32()?, reader.u32()?));
                }
                Self::Requeued { queue, counts }
            }
            Kind::Definitions => Self::Definitions,
        })
    }
}

fn begin(out: &mut Vec<u8>, kind: Kind, at: u64) -> usize {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[kind.code(), 0, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    start
}

fn end(out: &mut Vec<u8>, start: usize, body: &[u8], body_crc: u32, has_blob: bool) -> u32 {
    let meta_bytes = (out.len() - start - HEAD_BYTES) as u32;
    let head = &mut out[start..];
    head[5] = if has_blob { FLAG_BLOB } else { 0 };
    head[8..12].copy_from_slice(&meta_bytes.to_le_bytes());
    head[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[24..28].copy_from_slice(&body_crc.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[..28]);
    hasher.update(&head[HEAD_BYTES..]);
    let crc = hasher.finalize();
    head[28..32].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    let padded = start + (out.len() - start).next_multiple_of(ALIGN);
    out.resize(padded, 0);
    crc
}

fn put_targets(out: &mut Vec<u8>, targets: &[Target]) {
    out.extend_from_slice(&(targets.len() as u32).to_le_bytes());
    for target in targets {
        out.extend_from_slice(&target.queue.0.to_le_bytes());
        out.extend_from_slice(&target.position.0.to_le_bytes());
        let packed = target.deadline_ms.min(DEADLINE_MASK) | u64::from(target.is_transient) << 56;
        out.extend_from_slice(&packed.to_le_bytes());
    }
}

fn put_head_of_message(
    out: &mut Vec<u8>,
    exchange: &str,
    routing_key: &[u8],
    properties: &[u8],
    deaths: &[u8],
) {
    // Both are short strings of the protocol, at most 255 bytes long.
    out.push(exchange.len() as u8);
    out.extend_from_slice(exchange.as_bytes());
    out.push(routing_key.len() as u8);
    out.extend_from_slice(routing_key);
    out.extend_from_slice(&(properties.len() as u32).to_le_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(&(deaths.len() as u32).to_le_bytes());
    out.extend_from_slice(deaths);
}

fn put_blob(out: &mut Vec<u8>, blob: Option<BlobRef>) {
    if let Some(blob) = blob {
        out.extend_from_slice(&blob.blob.to_le_bytes());
        out.extend_from_slice(&blob.bytes.to_le_bytes());
    }
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run]) {
    for run in runs {
        out.extend_from_slice(&run.first.0.to_le_bytes());
        out.extend_from_slice(&run.count.to_le_bytes());
        out.extend_from_slice(&run.body_bytes.to_le_bytes());
    }
}

/// Takes numbers off the front of a meta; what makes no sense is damage.
struct Reader<'a>(numbers::Reader<'a>);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Damage> {
        self.0.take(bytes).ok_or(Damage::Content)
    }

    fn u8(&mut self) -> Result<u8, Damage> {
        self.0.u8().ok_or(Damage::Content)
    }

    fn u32(&mut self) -> Result<u32, Damage> {
        self.0.u32().ok_or(Damage::Content)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.0.u64().ok_or(Damage::Content)
    }

    fn runs(&mut self) -> Result<Vec<Run>, Damage> {
        let rest = self.0.take(self.0.rest().len()).unwrap_or_default();
        if !rest.len().is_multiple_of(RUN_BYTES) {
            return Err(Damage::Content);
        }
        let runs = rest.chunks_exact(RUN_BYTES);
        Ok(runs
            .map(|run| Run {
                first: Position(u64_at(run, 0)),
                count: u32_at(run, 8),
                body_bytes: u32_at(run, 12),
            })
            .collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
