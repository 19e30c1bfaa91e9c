//! What reading and checkpoints have in common. It does nothing by itself.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::BlobHolders;
use super::options::MessageOptions;
use super::owners::Owners;
use super::report::Counters;
use crate::model::{Position, QueueId};
use crate::store::RowStore;
use crate::store::journal::Journal;
use crate::store::quarantine::{Piece, Quarantine};
use crate::store::queue_log::{DirtyQueues, Removal};
use crate::store::segments::{OpenSegment, SegmentFiles};

/// The parts of the message store.
pub(in crate::store) struct Shared {
    pub(in crate::store) data_folder: PathBuf,
    pub(in crate::store) journal: Arc<Journal>,
    pub(in crate::store) rows: Arc<dyn RowStore>,
    pub(in crate::store) files: SegmentFiles,
    pub(in crate::store) owners: Owners,
    pub(in crate::store) dirty: Arc<DirtyQueues>,
    pub(in crate::store) blobs: BlobHolders,
    pub(in crate::store) quarantine: Quarantine,
    pub(in crate::store) counters: Counters,
    pub(in crate::store) options: MessageOptions,
    /// What deleted queues left behind, for the checkpointer.
    pub(in crate::store) removals: Mutex<Vec<(QueueId, Removal)>>,
}

impl Shared {
    /// Sets a damaged part of a segment aside.
    pub(in crate::store) fn quarantine_segment(
        &self,
        segment: &OpenSegment,
        range: Range<u64>,
        position: Option<Position>,
        reason: &str,
    ) {
        let piece = Piece {
            file: &self.files.path(segment.id),
            offset: range.start,
            queue: Some(segment.id.queue),
            position,
            reason,
        };
        let content = self.files.bytes_of(&*segment.file, range);
        self.quarantine.keep(&piece, &content);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStore")
            .field("data_folder", &self.data_folder)
            .field("owners", &self.owners)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
