//! The broker as the outside sees it: plain values, taken without holding anything up.
//!
//! In: names, handles, the ranges of the past that somebody asks for. Out: values with their rates. A list gives handles; each row is then
//! looked at by itself, under its own lock for a few loads at most, so that no lock is held over a list and rows of one list may
//! be of slightly different moments. How the values are written is not known here.

mod connections;
mod consumers;
mod node;
mod queues;
mod totals;

pub use connections::{ChannelSnapshot, ConnectionSnapshot};
pub use consumers::ConsumerReport;
pub use node::{NodeReport, ObjectTotals, Overview};
pub use queues::QueueReport;
pub use totals::{ExchangeStatsRow, VhostReport};
