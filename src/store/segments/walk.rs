//! From record to record through a segment. In: a window on the file; out: its records and its damages, one after the other.

use std::io;

use super::window::Window;
use crate::model::Position;
use crate::store::queue_log::SegmentId;
use crate::store::record::{ALIGN, Damage, HEAD_BYTES, Head, Kind, MessageMeta, Target};

/// What the next place of a file holds.
#[derive(Debug)]
pub enum Step<'w> {
    /// A record, whose body was not checked.
    Record {
        /// Where it begins.
        offset: u64,
        /// Its head.
        head: Head,
        /// Its meta.
        meta: MessageMeta<'w>,
        /// The queue's place for it.
        target: Target,
        /// All of it.
        bytes: &'w [u8],
    },
    /// No sound record: the walk goes on behind it.
    Damaged {
        /// Where the damage begins.
        offset: u64,
        /// Where the next sound record begins, or the end.
        end: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// The end.
    End,
}

/// A walk through the records of a segment.
#[derive(Debug)]
pub struct Walk<'a> {
    window: Window<'a>,
    id: SegmentId,
    offset: u64,
}

impl<'a> Walk<'a> {
    /// Begins at `offset`, where a record must begin; ends at the window's end.
    pub fn new(window: Window<'a>, id: SegmentId, offset: u64) -> Self {
        Self { window, id, offset }
    }

    /// Where the next step looks.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on at `offset`, where a record must begin.
    pub fn jump(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next record or damage.
    ///
    /// # Errors
    /// The system's; the walk has not moved.
    pub fn step(&mut self) -> io::Result<Step<'_>> {
        let offset = self.offset;
        if offset >= self.window.end() {
            return Ok(Step::End);
        }
        let damage = match self.head(offset)? {
            Ok((head, _)) => {
                let end = offset + head.record_bytes() as u64;
                if end <= self.window.end() {
                    return self.record(offset, head);
                }
                Damage::Cut
            }
            Err(damage) => damage,
        };
        let end = self.resync(offset)?;
        self.offset = end;
        Ok(Step::Damaged {
            offset,
            end,
            damage,
        })
    }

    fn record(&mut self, offset: u64, head: Head) -> io::Result<Step<'_>> {
        let end = offset + head.record_bytes() as u64;
        self.offset = end;
        let damaged = |damage| {
            Ok(Step::Damaged {
                offset,
                end,
                damage,
            })
        };
        let Some(bytes) = self.window.get(offset, head.record_bytes())? else {
            return damaged(Damage::Cut);
        };
        if head.kind != Kind::Message {
            return damaged(Damage::Content);
        }
        let Ok(meta) = MessageMeta::parse(&head, &bytes[head.meta()]) else {
            return damaged(Damage::Content);
        };
        match meta.targets().next() {
            Some(target) if is_of(self.id, target.position) && target.queue == self.id.queue => {
                Ok(Step::Record {
                    offset,
                    head,
                    meta,
                    target,
                    bytes,
                })
            }
            _ => damaged(Damage::Content),
        }
    }

    /// The head at `offset` with the length of head and meta, or what is wrong with it.
    fn head(&mut self, offset: u64) -> io::Result<Result<(Head, usize), Damage>> {
        let Some(fixed) = self.window.get(offset, HEAD_BYTES)? else {
            return Ok(Err(Damage::Cut));
        };
        let bytes = match Head::bytes_to_check(fixed) {
            Ok(bytes) => bytes,
            Err(damage) => return Ok(Err(damage)),
        };
        let Some(checked) = self.window.get(offset, bytes)? else {
            return Ok(Err(Damage::Cut));
        };
        let at = self.id.stamp().wrapping_add(offset);
        Ok(Head::parse(checked, at).map(|head| (head, bytes)))
    }

    /// The next place behind a damage where a sound head lies, or the end. A head has its own place in it, so none is
    /// found by chance.
    fn resync(&mut self, damaged: u64) -> io::Result<u64> {
        let mut offset = damaged + ALIGN as u64;
        while offset < self.window.end() {
            if let Ok((head, _)) = self.head(offset)?
                && offset + head.record_bytes() as u64 <= self.window.end()
            {
                return Ok(offset);
            }
            offset += ALIGN as u64;
        }
        Ok(self.window.end())
    }
}

/// Whether a position can be in the segment.
fn is_of(id: SegmentId, position: Position) -> bool {
    position.lane() == id.lane
}
