//! Rows of the catalogue that others keep in it: those of segments and of the queues' messages.
//!
//! In: keys and values, which are not understood here. Out: word that they are durable.

use crate::store::StoreError;
use crate::store::journal::Lsn;

/// A change of a row. The key begins with the row's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowWrite {
    /// The row has this value from now on.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// The row goes.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl RowWrite {
    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

/// Where rows are kept.
pub trait RowStore: Send + Sync {
    /// Makes all of `writes` durable or none, the later of two of one key, along with the definitions before `checkpoint` and
    /// with `checkpoint` itself, where replay begins from now on. A lower one than before counts as the one before. Blocking.
    ///
    /// # Errors
    /// The catalogue's; nothing is written.
    fn commit(&self, writes: Vec<RowWrite>, checkpoint: Lsn) -> Result<(), StoreError>;
}
