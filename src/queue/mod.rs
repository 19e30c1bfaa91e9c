//! Queues: what they are, who consumes from them, and the way of a message out of them.
//!
//! In: messages, settlements, consumers and `now`. Out: deliveries in the inboxes of connections, and
//! [`Effects`] for the broker. Known here: `model` alone. Not known: exchanges, users, sockets, files.
//!
//! In reading order:
//! - [`kind`], [`arguments`], [`settings`]: what a queue was asked to be, and what holds for it.
//! - [`state`]: the state machine, with `ready`, `unsettled`, [`consumers`], `limits`, `expiry` and
//!   `quorum` for its parts, and what it counted in [`counters`].
//! - [`effects`]: what it asks its caller to do after unlocking; [`dead_letters`]: what happens to a
//!   message on its way to another exchange.
//! - [`inbox`]: the bounded way to a consumer's connection.
//! - [`handle`]: a queue behind its lock, as the broker holds it.
//!
//! Locks: a queue's, then an inbox's or a window's. None of them waits for anything else.

pub mod arguments;
pub mod consumers;
pub mod counters;
pub mod dead_letters;
pub mod effects;
mod expiry;
pub mod handle;
pub mod inbox;
pub mod kind;
mod limits;
mod quorum;
mod ready;
pub mod settings;
pub mod state;
mod unsettled;

pub use arguments::{ConsumeArguments, Declared};
pub use consumers::{ConsumerActivity, ConsumerSnapshot, NewConsumer};
pub use counters::Counters;
pub use effects::{DeadLetter, DeletionReason, Effects};
pub use handle::{Gone, QueueDeclaration, QueueError, QueueHandle};
pub use inbox::Inbox;
pub use kind::QueueKind;
pub use settings::{
    DeadLetterStrategy, EffectiveSettings, Overflow, PolicySettings, QueueSettings,
};
pub use state::{Published, QueueSnapshot, QueueState};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
