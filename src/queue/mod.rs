//! Queues: what they are, who consumes from them, and the way of a message out of them.
//!
//! In: messages, settlements, consumers and `now`. Out: deliveries in the inboxes of connections, and
//! [`Effects`] for the broker. Known here: `model`, and of `store` the record, the journal's input and the
//! index of a queue's log. Not known: exchanges, users, sockets, files.
//!
//! In reading order:
//! - [`kind`], [`arguments`], [`settings`]: what a queue was asked to be, and what holds for it.
//! - [`state`]: the state machine. Its parts: `entry` (a message in a queue), `ready` with `lane`, `range` and `returns`, `unsettled`,
//!   [`consumers`], `quorum`, [`counters`]. What it does with them: [`placing`] (in), `giving` (out), `leaving` (the other doors), `limits`, `expiry`,
//!   and [`loading`], the way of a backlog between memory and the log, within the node's [`budget`].
//! - [`effects`]: what it asks its caller to do after unlocking; [`dead_letters`]: what happens to a
//!   message on its way to another exchange.
//! - [`inbox`]: the bounded way to a consumer's connection.
//! - [`handle`]: a queue behind its lock, as the broker holds it; `guarded`: what the lock guards; [`Burst`]: several queues under
//!   their locks at once.
//!
//! Locks: a queue's, then an inbox's or a window's. None of them waits for anything else.

pub mod arguments;
pub mod budget;
mod burst;
mod capacity;
pub mod consumers;
pub mod counters;
pub mod dead_letters;
mod death_tally;
pub mod effects;
mod entry;
mod expiry;
mod giving;
mod guarded;
pub mod handle;
pub mod inbox;
mod interval;
pub mod kind;
mod lane;
mod leaving;
mod limits;
pub mod loading;
pub mod placing;
mod quorum;
mod range;
mod ready;
mod returns;
pub mod settings;
pub mod state;
mod unsettled;

pub use arguments::{ConsumeArguments, Declared};
pub use budget::{HotBudget, HotLimits};
pub use burst::{Burst, Placed};
pub use consumers::{ConsumerActivity, ConsumerSnapshot, NewConsumer};
pub use counters::Counters;
pub use death_tally::{DeathStrategy, DeathTally};
pub use effects::{DeadLetter, DeletionReason, Effects, Purge};
pub use entry::Deadline;
pub use giving::{AskedGet, GetOutcome};
pub use handle::{Gone, Keeping, QueueDeclaration, QueueError, QueueHandle};
pub use inbox::Inbox;
pub use interval::Interval;
pub use kind::QueueKind;
pub use loading::{Load, LoadedBlock, LoadedMessage, Recovered, RecoveredLane};
pub use placing::{Keep, Offer, Placement};
pub use settings::{
    DeadLetterStrategy, EffectiveSettings, Overflow, PolicySettings, QueuePolicy, QueueSettings,
};
pub use state::{QueueSnapshot, QueueState};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
