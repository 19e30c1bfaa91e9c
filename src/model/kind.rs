//! The kinds of queue. What each kind knows and does is the queue's business.

/// The kinds of queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueKind {
    /// `classic`
    #[default]
    Classic,
    /// `quorum`
    Quorum,
}

impl QueueKind {
    /// All kinds, in the order of [`QueueKind::index`].
    pub const ALL: [Self; 2] = [Self::Classic, Self::Quorum];

    /// The kind's place in a table with one row a kind.
    pub const fn index(self) -> usize {
        self as usize
    }
}
