//! What is to be read to have the next live messages of a lane.

use super::QueueLog;
use super::lane::Lane;
use super::segment::{Range, Segment};
use super::types::{JournalEntry, Piece, Plan, Span};
use crate::model::Position;

/// The next live messages of a lane, by where they lie. Places in the lane; ends are not included.
enum Next<'a> {
    Journal(JournalEntry),
    Segment(&'a Segment, Range, bool),
}

impl Next<'_> {
    fn start(&self) -> u64 {
        match self {
            Self::Journal(entry) => entry.position.sequence(),
            Self::Segment(_, range, _) => range.0,
        }
    }
}

impl QueueLog {
    /// What is to be read of the live messages from `first` to `last`, positions of one lane, to have about `bytes_max` bytes
    /// of them: at least one message, if one is live. Without a piece nothing is live there, and the plan goes through to
    /// `last`. Sizes in segments are those of the file's average message.
    pub fn plan(&self, first: Position, last: Position, bytes_max: u64) -> Plan {
        let mut plan = Plan {
            first,
            through: last,
            bytes_max,
            pieces: Vec::new(),
        };
        let Some(lane) = self.lane(first.lane()) else {
            return plan;
        };
        let end = match last.lane() == first.lane() {
            true => last.sequence() + 1,
            false => Position::SEQUENCE_MAX + 1,
        };
        let mut entries = lane
            .entries
            .from_sequence(lane.lane, first.sequence())
            .peekable();
        let (mut from, mut bytes) = (first.sequence(), 0_u64);
        // The pieces of persistent and of transient segments to which more can be added.
        let mut open = [None, None];
        loop {
            let mut sources = [
                entries.peek().copied().map(Next::Journal),
                next_in_segments(lane, from, false),
                next_in_segments(lane, from, true),
            ]
            .into_iter()
            .flatten();
            let Some(mut next) = sources.next() else {
                return plan;
            };
            let mut other_start = end;
            for other in sources {
                if other.start() < next.start() {
                    other_start = other_start.min(next.start());
                    next = other;
                } else {
                    other_start = other_start.min(other.start());
                }
            }
            if next.start() >= end {
                return plan;
            }
            let room = bytes_max.saturating_sub(bytes);
            match next {
                Next::Journal(entry) => {
                    let body_bytes = if entry.has_blob { entry.body_bytes } else { 0 };
                    let needed = u64::from(entry.record_bytes) + u64::from(body_bytes);
                    if needed > room && !plan.pieces.is_empty() {
                        plan.through = Position::new(lane.lane, entry.position.sequence() - 1);
                        return plan;
                    }
                    bytes = bytes.saturating_add(needed);
                    from = entry.position.sequence() + 1;
                    plan.pieces.push(Piece::Journal(entry));
                    entries.next();
                }
                Next::Segment(segment, range, is_transient) => {
                    let each = segment.message_bytes();
                    let wanted = match plan.pieces.is_empty() {
                        true => (room / each).max(1),
                        false => room / each,
                    };
                    if wanted == 0 {
                        plan.through = Position::new(lane.lane, range.0 - 1);
                        return plan;
                    }
                    let available = range.1.min(other_start) - range.0;
                    let count = wanted.min(available);
                    bytes = bytes.saturating_add(each.saturating_mul(count));
                    from = range.0 + count;
                    let span = Span {
                        first: Position::new(lane.lane, range.0),
                        last: Position::new(lane.lane, from - 1),
                    };
                    let id = segment.id(self.owner(lane.lane, is_transient));
                    add_span(
                        &mut plan.pieces,
                        &mut open[usize::from(is_transient)],
                        || Piece::Segment {
                            id,
                            bytes: segment.bytes,
                            live: Vec::new(),
                        },
                        span,
                    );
                }
            }
        }
    }
}

fn next_in_segments(lane: &Lane, from: u64, is_transient: bool) -> Option<Next<'_>> {
    let series = lane.segments.as_deref()?.series(is_transient);
    let (segment, range) = series.next_live(from)?;
    Some(Next::Segment(segment, range, is_transient))
}

/// Adds a span to the open piece if that is of the same segment, else to a new piece.
fn add_span(
    pieces: &mut Vec<Piece>,
    open: &mut Option<usize>,
    new: impl FnOnce() -> Piece,
    span: Span,
) {
    let mut piece = new();
    let same = open
        .and_then(|at| pieces.get_mut(at))
        .filter(|before| match (&**before, &piece) {
            (Piece::Segment { id, .. }, Piece::Segment { id: new, .. }) => id == new,
            _ => false,
        });
    if let Some(Piece::Segment { live, .. }) = same {
        match live.last_mut() {
            Some(before) if before.last.next() == span.first => before.last = span.last,
            _ => live.push(span),
        }
        return;
    }
    if let Piece::Segment { live, .. } = &mut piece {
        live.push(span);
    }
    *open = Some(pieces.len());
    pieces.push(piece);
}
