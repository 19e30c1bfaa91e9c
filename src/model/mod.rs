//! The vocabulary of the house: what a session asks of the broker, what the broker hands back.
//!
//! In: nothing; out: plain data. These types do no input or output, hold no lock (a [`ChannelWindow`]
//! is counters beside a list that is locked for the length of a push; an [`Outlet`] is a trait that others implement) and ask no clock. Only `protocol`
//! is known here.

mod command;
mod deaths;
mod delivery;
pub mod equivalence;
mod error;
mod executor;
mod id;
mod kind;
mod message;
mod policy;
mod resource;
mod time;
mod traffic;
mod window;

pub use command::{
    Command, Got, QueueCounts, Reply, Settlement, SettlementOutcome, StagedPublish, Unsettled,
};
pub use deaths::{Death, DeathReason, Deaths, FirstDeath};
pub use delivery::{Delivery, InboxEvent, Outlet, RedeliveryCounts};
pub use error::{Exception, Refusal, Scope};
pub use executor::{Body, Completion, Execution, Executor, Publish, PublishOutcome, Routing};
pub use id::{
    ChannelNumber, ConfirmSequence, ConnectionId, ConsumerId, DeliveryTag, Name, NumberMap,
    Position, QueueId,
};
pub use kind::QueueKind;
pub use message::{Message, SharedMessage};
pub use policy::AppliedPolicy;
pub use resource::resource;
pub use time::{Now, WallMs};
pub use traffic::{
    ChannelInfo, ConnectionInfo, ConnectionProgress, ConnectionState, Handed, Traffic,
};
pub use window::ChannelWindow;
