//! The journal: one sequence of records for the node.
//!
//! In: records. Out: their places. What they mean to a queue is not known here.

/// A place in the journal, in bytes since its begin. Grows for ever, has no gaps between files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);
