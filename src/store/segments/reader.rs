//! Single positions out of a segment. In: spans of positions; out: their records, in order, and which are not there.

use std::io;
use std::ops::Range;

use super::files::OpenSegment;
use super::walk::{Step, Walk};
use super::window::Window;
use crate::model::Position;
use crate::store::queue_log::Span;
use crate::store::record::{Damage, Head, MessageMeta, Target};

/// What a read met.
#[derive(Debug)]
pub enum Item<'w> {
    /// A record that was asked for; head and body were checked.
    Record {
        /// Where it begins.
        offset: u64,
        /// Its head.
        head: Head,
        /// Its meta.
        meta: MessageMeta<'w>,
        /// The queue's place for it.
        target: Target,
        /// Its body; empty if it is in a file of its own.
        body: &'w [u8],
    },
    /// Bytes that are no sound record.
    Damaged {
        /// Where they lie.
        range: Range<u64>,
        /// Whose they are, if the head is sound.
        position: Option<Position>,
        /// What is wrong.
        damage: Damage,
    },
    /// A position that was asked for and is not there: its record is damaged or was cut off.
    Missing(Position),
}

/// Visits the records of `live`, which grow, until `visit` says no. A position of `live` that is
/// not met is given as missing.
///
/// # Errors
/// The system's.
pub fn read_spans(
    segment: &OpenSegment,
    live: &[Span],
    bytes_hint: u64,
    buffer: &mut Vec<u8>,
    visit: &mut dyn FnMut(Item<'_>) -> bool,
) -> io::Result<()> {
    let Some(span) = live.first() else {
        return Ok(());
    };
    let window = Window::new(&*segment.file, segment.records_end, buffer).with_block(bytes_hint);
    let mut walk = Walk::new(window, segment.id, segment.offset_before(span.first));
    let mut asked = Asked::new(live);
    while let Some(next) = asked.next() {
        let ahead = segment.offset_before(next);
        if ahead > walk.offset() {
            walk.jump(ahead);
        }
        let goes_on = match walk.step()? {
            Step::Record {
                offset,
                head,
                meta,
                target,
                bytes,
            } => {
                let position = target.position;
                if position < next {
                    continue;
                }
                while let Some(missing) = asked.next().filter(|next| *next < position) {
                    asked.take(missing);
                    if !visit(Item::Missing(missing)) {
                        return Ok(());
                    }
                }
                if asked.next() != Some(position) {
                    continue;
                }
                asked.take(position);
                visit(match head.check_body(bytes) {
                    Ok(()) => Item::Record {
                        offset,
                        head,
                        meta,
                        target,
                        body: &bytes[head.body()],
                    },
                    Err(damage) => Item::Damaged {
                        range: offset..offset + bytes.len() as u64,
                        position: Some(position),
                        damage,
                    },
                })
            }
            Step::Damaged {
                offset,
                end,
                damage,
            } => visit(Item::Damaged {
                range: offset..end,
                position: None,
                damage,
            }),
            Step::End => {
                asked.take(next);
                visit(Item::Missing(next))
            }
        };
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

/// The positions that were asked for and not met yet.
struct Asked<'s> {
    spans: &'s [Span],
    /// The next of the first span.
    next: Position,
}

impl<'s> Asked<'s> {
    fn new(spans: &'s [Span]) -> Self {
        let next = spans.first().map_or(Position::default(), |span| span.first);
        let mut asked = Self { spans, next };
        asked.skip_empty();
        asked
    }

    fn next(&self) -> Option<Position> {
        (!self.spans.is_empty()).then_some(self.next)
    }

    /// `position`, which is the next one, is done.
    fn take(&mut self, position: Position) {
        if self.next() == Some(position) {
            self.next = position.next();
            self.skip_empty();
        }
    }

    fn skip_empty(&mut self) {
        while let Some(span) = self.spans.first()
            && self.next > span.last
        {
            self.spans = &self.spans[1..];
            if let Some(span) = self.spans.first() {
                self.next = span.first;
            }
        }
    }
}
