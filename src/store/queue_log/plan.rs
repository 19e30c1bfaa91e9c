//! What is to be read to have the next live messages of a lane.
//!
//! In: a range of positions and a number of bytes. Out: places in the journal and in segments. How they are read, and what
//! happens to them meanwhile, is not known here.

use super::QueueLog;
use super::lane::Lane;
use super::segment::{Range, Segment};
use super::types::{JournalEntry, Piece, Plan, SegmentId, Span};
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

    fn len(&self) -> u64 {
        match self {
            Self::Journal(_) => 1,
            Self::Segment(_, range, _) => range.1 - range.0,
        }
    }

    /// Bytes to be read for each, at least 1.
    fn message_bytes(&self) -> u64 {
        match self {
            Self::Journal(entry) => {
                let body_bytes = if entry.has_blob { entry.body_bytes } else { 0 };
                (u64::from(entry.record_bytes) + u64::from(body_bytes)).max(1)
            }
            Self::Segment(segment, ..) => segment.message_bytes(),
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
        let entries = lane.entries.starting_at(lane.lane, first.sequence());
        let mut entries = entries
            .take_while(|entry| entry.position.sequence() < end)
            .peekable();
        let (mut from, mut bytes) = (first.sequence(), 0_u64);
        // The pieces of persistent and of transient segments to which more can be added.
        let mut open = [None, None];
        loop {
            let sources = [
                entries.peek().copied().map(Next::Journal),
                next_in_segments(lane, (from, end), false),
                next_in_segments(lane, (from, end), true),
            ];
            let Some(next) = sources.into_iter().flatten().min_by_key(Next::start) else {
                return plan;
            };
            let room = match plan.pieces.is_empty() {
                true => bytes_max.max(next.message_bytes()),
                false => bytes_max.saturating_sub(bytes),
            };
            let count = next.len().min(room / next.message_bytes());
            if count == 0 {
                plan.through = Position::new(lane.lane, next.start() - 1);
                return plan;
            }
            bytes = bytes.saturating_add(count.saturating_mul(next.message_bytes()));
            from = next.start() + count;
            match next {
                Next::Journal(entry) => {
                    plan.pieces.push(Piece::Journal(entry));
                    entries.next();
                }
                Next::Segment(segment, range, is_transient) => {
                    let span = Span {
                        first: Position::new(lane.lane, range.0),
                        last: Position::new(lane.lane, from - 1),
                    };
                    let id = segment.id(self.owner(lane.lane, is_transient));
                    let open = &mut open[usize::from(is_transient)];
                    add_span(&mut plan.pieces, open, (id, segment.bytes), span);
                }
            }
        }
    }
}

fn next_in_segments(lane: &Lane, range: Range, is_transient: bool) -> Option<Next<'_>> {
    let series = lane.segments.as_deref()?.series(is_transient);
    let (segment, live) = series.next_live(range.0)?;
    let live = (live.0, live.1.min(range.1));
    (live.0 < live.1).then_some(Next::Segment(segment, live, is_transient))
}

/// Adds a span to the open piece if that is of the same segment, else as a new piece.
fn add_span(
    pieces: &mut Vec<Piece>,
    open: &mut Option<usize>,
    (id, bytes): (SegmentId, u64),
    span: Span,
) {
    if let Some(Piece::Segment {
        id: open_id, live, ..
    }) = open.and_then(|at| pieces.get_mut(at))
        && *open_id == id
    {
        live.push(span);
        return;
    }
    *open = Some(pieces.len());
    pieces.push(Piece::Segment {
        id,
        bytes,
        live: vec![span],
    });
}
