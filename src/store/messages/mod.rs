//! The messages of durable queues on the disk: where they are read, and what a start finds of them.
//!
//! In: plans of what to read, from the loaders; rows of the catalogue and records of the journal, at a start. Out: blocks of
//! messages; the log of each queue as it was. Which message a queue hands to whom is not known here, and nothing here decides
//! whether a message lives: a queue's own log does, under that queue's lock.
//!
//! Duties of whoever uses a log (all under the queue's lock): register the queue before anything is appended for it; change the
//! log before the journal when a message ends (`settle`, `purge`, `requeued`, then the record), so that no checkpoint that sees
//! the record's file sealed misses the change.

mod adoption;
mod blobs;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod fixtures;
mod inspection;
mod options;
mod owners;
mod reading;
mod recovery;
mod report;
mod shared;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use options::MessageOptions;
pub use owners::LogOwner;
pub use reading::{ReadBlock, ReadMessage};
pub use recovery::{MessageRecovery, Row};
pub use report::{Finding, FindingKind, MessageStats};
pub use store::MessageStore;

pub(in crate::store) use blobs::BlobHolders;
pub(in crate::store) use report::Counters;
pub(in crate::store) use shared::Shared;
