//! The dead letters of a queue that have not left it yet, in the order in which they died.
//!
//! In: messages with the reason, blocks of those that were read from the log. Out: the next one to hand on, or what must be
//! read before. A letter leaves only from the front, and it stays here until whoever hands it on has written it elsewhere: so
//! letters of one queue arrive in the order in which they died, wherever each of them is kept. Letters that only the log has are
//! runs of positions; behind one of these whatever the log has too is left to it. Routing is not known here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::loading::LoadedBlock;
use super::range::{Span, reach};
use crate::model::{DeathReason, Name, Position, SharedMessage};
use crate::store::record::Run;

/// Room that a drained list may keep.
const ROOM_KEPT: usize = 16;

/// Where the dead letters of a queue go.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    /// The dead-letter exchange, which may not exist.
    pub exchange: Name,
    /// The routing key that replaces the message's own.
    pub routing_key: Option<Name>,
}

/// A message that left a queue by another door than settlement, and where it goes.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its number among the letters of its queue: see `letter_left`.
    pub number: u64,
    /// The message, not yet marked: see [`super::dead_letters::with_death`].
    pub message: SharedMessage,
    /// Why it left.
    pub reason: DeathReason,
    /// Where it goes.
    pub address: Arc<Address>,
    /// Set if the queue keeps the message until it hears how this one fared: the caller says so with
    /// `settle_dead_letter`.
    pub retained: Option<Position>,
    /// Set if the log of the queue has the message: it ends there when the letter has left.
    pub source: Option<Position>,
}

/// What whoever hands letters on finds.
#[derive(Clone, Debug)]
pub enum NextLetter {
    /// Nothing is to be done: there is none, or another one hands them on.
    Nothing,
    /// This one is next; it is there until it has left.
    Now(DeadLetter),
    /// It must be read first, or the journal has too much to write: one who may wait hands on this one and those behind it. Told
    /// once, until all have left.
    Later,
}

/// What letters that died alike have in common.
#[derive(Clone, Debug)]
pub(super) struct Death {
    pub reason: DeathReason,
    pub address: Arc<Address>,
    /// The queue keeps the message until the letter has arrived.
    pub is_retained: bool,
}

impl PartialEq for Death {
    fn eq(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.is_retained == other.is_retained
            && Arc::ptr_eq(&self.address, &other.address)
    }
}

/// A message that dies.
#[derive(Debug)]
pub(super) struct Dying {
    /// `None` if only the log has it.
    pub message: Option<SharedMessage>,
    /// Its place, if it had one.
    pub position: Option<Position>,
    pub body_bytes: u32,
    pub is_logged: bool,
}

#[derive(Debug)]
enum Waiting {
    Hot {
        message: SharedMessage,
        /// Its place in the queue, if it had one.
        position: Option<Position>,
        is_logged: bool,
        death: Death,
    },
    Cold(Run, Death),
}

impl Waiting {
    /// What it takes of memory that nobody else counts.
    fn hot_bytes(&self) -> u64 {
        match self {
            Self::Hot { message, death, .. } if !death.is_retained => message.cost_bytes() as u64,
            _ => 0,
        }
    }

    fn is_retained(&self) -> bool {
        let (Self::Hot { death, .. } | Self::Cold(_, death)) = self;
        death.is_retained
    }

    /// The logged positions that it is, as a run.
    fn logged(&self) -> Option<Run> {
        match self {
            Self::Hot {
                message,
                position: Some(position),
                is_logged: true,
                ..
            } => Some(run(*position, message.body_bytes() as u32)),
            Self::Hot { .. } => None,
            Self::Cold(run, _) => Some(*run),
        }
    }
}

/// The letters of one queue.
#[derive(Debug, Default)]
pub struct Letters {
    waiting: VecDeque<Waiting>,
    /// The number of the first one.
    first: u64,
    hot_bytes: u64,
    /// The last address that was used: letters that go to the same one share it.
    address: Option<Arc<Address>>,
    /// Somebody who may wait hands them on.
    is_deferred: bool,
}

impl Letters {
    /// Whether all have left.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of memory that messages take here.
    pub(super) fn hot_bytes(&self) -> u64 {
        self.hot_bytes
    }

    /// The address of letters for this exchange.
    pub(super) fn address(&mut self, exchange: &Name, routing_key: Option<&Name>) -> Arc<Address> {
        if let Some(known) = &self.address
            && known.exchange == *exchange
            && known.routing_key.as_ref() == routing_key
        {
            return Arc::clone(known);
        }
        let address = Arc::new(Address {
            exchange: Arc::clone(exchange),
            routing_key: routing_key.cloned(),
        });
        self.address = Some(Arc::clone(&address));
        address
    }

    /// A message dies. Gives it back if it is left to the log.
    pub(super) fn push(&mut self, dying: Dying, death: Death) -> Option<SharedMessage> {
        let is_behind_cold = matches!(self.waiting.back(), Some(Waiting::Cold(..)));
        match (dying.message, dying.position) {
            (Some(message), position) if !(dying.is_logged && is_behind_cold) => {
                let letter = Waiting::Hot {
                    message,
                    position,
                    is_logged: dying.is_logged,
                    death,
                };
                self.hot_bytes += letter.hot_bytes();
                self.waiting.push_back(letter);
                None
            }
            (message, Some(position)) => {
                push_cold(&mut self.waiting, run(position, dying.body_bytes), death);
                message
            }
            // Every message that only the log has has its place there.
            (message, None) => message,
        }
    }

    /// What is next for someone who may not wait. `is_congested` if the journal has too much to write: then messages that the log
    /// has are left to it, and given back in `left`.
    pub(super) fn next(&mut self, is_congested: bool, left: &mut Vec<SharedMessage>) -> NextLetter {
        if self.waiting.is_empty() || self.is_deferred {
            return NextLetter::Nothing;
        }
        let next = self.next_deferred(is_congested, left);
        self.is_deferred = matches!(next, NextLetter::Later);
        next
    }

    /// What is next for the one who hands them on because others may not wait. [`NextLetter::Nothing`] ends that.
    pub(super) fn next_deferred(
        &mut self,
        is_congested: bool,
        left: &mut Vec<SharedMessage>,
    ) -> NextLetter {
        if is_congested {
            self.shed(left);
        }
        match self.waiting.front() {
            None => {
                self.is_deferred = false;
                NextLetter::Nothing
            }
            Some(Waiting::Hot {
                message,
                position,
                is_logged,
                death,
            }) if !is_congested => NextLetter::Now(DeadLetter {
                number: self.first,
                message: Arc::clone(message),
                reason: death.reason,
                address: Arc::clone(&death.address),
                retained: position.filter(|_| death.is_retained),
                source: position.filter(|_| *is_logged && !death.is_retained),
            }),
            Some(_) => NextLetter::Later,
        }
    }

    /// Whether the letter of that number is still the next one.
    pub(super) fn is_next(&self, number: u64) -> bool {
        self.first == number && matches!(self.waiting.front(), Some(Waiting::Hot { .. }))
    }

    /// The letter of that number leaves. Gives the place that it had in the log, with the bytes of its body, if it ends there.
    pub(super) fn left(&mut self, number: u64) -> Option<(Position, u32)> {
        if !self.is_next(number) {
            return None;
        }
        let letter = self.waiting.pop_front()?;
        self.first += 1;
        self.hot_bytes -= letter.hot_bytes();
        if self.waiting.is_empty() && self.waiting.capacity() > ROOM_KEPT {
            self.waiting = VecDeque::new();
        }
        let run = letter.logged().filter(|_| !letter.is_retained())?;
        Some((run.first, run.body_bytes))
    }

    /// What must be read for the next letters, if they are only in the log: runs that ascend and lie near each other at once.
    pub(super) fn to_load(&self) -> Option<Span> {
        let mut runs = self.waiting.iter().map_while(|waiting| match waiting {
            Waiting::Cold(run, _) => Some((run.first, last_of(run))),
            Waiting::Hot { .. } => None,
        });
        let (first, last) = runs.next()?;
        Some(reach(first, last, runs))
    }

    /// What was read. Those that are not among the messages do not come any more: they are given back,
    /// each with whether it was to be kept until it arrived.
    pub(super) fn handle_loaded(&mut self, block: LoadedBlock) -> Vec<(Position, bool)> {
        let through = block.through;
        let mut messages = block.messages.into_iter().peekable();
        let mut front = Vec::new();
        let mut lost = Vec::new();
        let mut wanted = block.first;
        while let Some(Waiting::Cold(run, _)) = self.waiting.front() {
            let (first, last) = (run.first, last_of(run));
            if first < wanted || first > through {
                break;
            }
            let Some(Waiting::Cold(mut rest, death)) = self.waiting.pop_front() else {
                break;
            };
            wanted = first;
            while wanted <= last.min(through) {
                while messages.next_if(|next| next.position < wanted).is_some() {}
                match messages.next_if(|next| next.position == wanted) {
                    Some(loaded) => {
                        let bytes = loaded.message.body_bytes() as u32;
                        rest.body_bytes = rest.body_bytes.saturating_sub(bytes);
                        front.push(Waiting::Hot {
                            message: loaded.message,
                            position: Some(wanted),
                            is_logged: true,
                            death: death.clone(),
                        });
                    }
                    None => lost.push((wanted, death.is_retained)),
                }
                wanted = wanted.next();
            }
            if wanted <= last {
                rest.count = (last.0 - wanted.0 + 1) as u32;
                rest.first = wanted;
                front.push(Waiting::Cold(rest, death));
                break;
            }
        }
        for letter in front.into_iter().rev() {
            self.hot_bytes += letter.hot_bytes();
            self.waiting.push_front(letter);
        }
        lost
    }

    /// Leaves to the log what it has; the messages are added to `shed`.
    pub(super) fn shed(&mut self, shed: &mut Vec<SharedMessage>) {
        let is_hot = |waiting: &Waiting| {
            matches!(
                waiting,
                Waiting::Hot {
                    is_logged: true,
                    ..
                }
            )
        };
        if !self.waiting.iter().any(is_hot) {
            return;
        }
        let mut kept = VecDeque::new();
        for waiting in std::mem::take(&mut self.waiting) {
            self.hot_bytes -= waiting.hot_bytes();
            match (waiting.logged(), waiting) {
                (Some(run), Waiting::Hot { message, death, .. }) => {
                    push_cold(&mut kept, run, death);
                    shed.push(message);
                }
                (_, waiting) => {
                    self.hot_bytes += waiting.hot_bytes();
                    match waiting {
                        Waiting::Cold(run, death) => push_cold(&mut kept, run, death),
                        hot @ Waiting::Hot { .. } => kept.push_back(hot),
                    }
                }
            }
        }
        self.waiting = kept;
    }

    /// The logged messages that end when their letters have left: a purge of the log spares them.
    pub(super) fn logged(&self) -> impl Iterator<Item = Run> + '_ {
        let ending = self.waiting.iter().filter(|waiting| !waiting.is_retained());
        ending.filter_map(Waiting::logged)
    }

    /// The queue keeps nothing any more for letters that have not arrived: those that have not left do not leave.
    pub(super) fn drop_retained(&mut self) {
        self.waiting.retain(|waiting| !waiting.is_retained());
        // Whoever looks at the first one now must not take another one for it.
        self.first += 1;
    }
}

fn run(position: Position, body_bytes: u32) -> Run {
    Run {
        first: position,
        count: 1,
        body_bytes,
    }
}

fn last_of(run: &Run) -> Position {
    Position(run.first.0 + u64::from(run.count) - 1)
}

/// Adds a run at the end, joined to the last one if it continues it.
fn push_cold(waiting: &mut VecDeque<Waiting>, run: Run, death: Death) {
    if let Some(Waiting::Cold(last, known)) = waiting.back_mut()
        && *known == death
        && last.try_join(&run)
    {
        return;
    }
    waiting.push_back(Waiting::Cold(run, death));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
