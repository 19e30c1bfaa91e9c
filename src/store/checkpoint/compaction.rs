//! Writes mostly settled segments anew. In: queues whose segments have changed; out: smaller files under the next version.

use std::mem;

use super::syncing::Unsynced;
use super::{Checkpointer, Failure};
use crate::model::QueueId;
use crate::store::messages::Counters;
use crate::store::queue_log::{self, Compaction, SegmentId};
use crate::store::segments::{self, Compacted};

/// Segments that are written anew before other work is looked at again.
const SEGMENTS_AT_ONCE: usize = 8;

impl Checkpointer {
    /// Commits what has changed, then writes a few segments anew and removes their old files.
    pub(super) fn tidy(&mut self) -> Result<(), Failure> {
        self.commit(&[], self.checkpoint)?;
        let mut left = SEGMENTS_AT_ONCE;
        while left > 0 {
            let Some(queue) = self.to_compact.pop_first() else {
                break;
            };
            let candidates = self
                .shared
                .owners
                .with_log(queue, |log| log.compaction_candidates(left));
            let candidates = candidates.unwrap_or_default();
            if candidates.len() == left {
                self.to_compact.insert(queue);
            }
            left -= candidates.len();
            for candidate in candidates {
                self.compact(queue, &candidate)?;
            }
        }
        if left < SEGMENTS_AT_ONCE {
            self.commit(&[], self.checkpoint)?;
        }
        Ok(())
    }

    /// Whether segments may wait to be written anew.
    pub(super) fn has_more(&self) -> bool {
        !self.to_compact.is_empty()
    }

    fn compact(&mut self, queue: QueueId, candidate: &Compaction) -> Result<(), Failure> {
        let old = candidate.segment.id;
        if self.uncompactable.contains(&old) {
            return Ok(());
        }
        let new = SegmentId {
            version: old.version + 1,
            ..old
        };
        // The name of an attempt that was given up is taken again.
        self.leftovers.retain(|id| *id != new);
        let mut unsynced = Unsynced::default();
        unsynced.begin(new, 0);
        let written = self.rewrite(candidate, new, &mut unsynced);
        let written = written.and_then(|written| {
            self.sync(&mut unsynced)?;
            Ok(written)
        });
        let done = match written {
            Ok(Some((bytes, messages))) => queue_log::Compacted {
                old,
                version: new.version,
                bytes,
                messages,
            },
            Ok(None) => {
                self.leftovers.extend(unsynced.take_back(&self.shared));
                self.uncompactable.insert(old);
                return Ok(());
            }
            Err(failure) => {
                self.leftovers.extend(unsynced.take_back(&self.shared));
                return Err(failure);
            }
        };
        let is_taken = self
            .shared
            .owners
            .with_log(queue, |log| log.compacted(done));
        if is_taken == Some(true) {
            Counters::add(&self.shared.counters.compactions, 1);
        } else {
            self.leftovers.extend(unsynced.take_back(&self.shared));
        }
        Ok(())
    }

    /// The new file's length and number of records; `None` if the old one cannot be read.
    fn rewrite(
        &mut self,
        candidate: &Compaction,
        new: SegmentId,
        unsynced: &mut Unsynced,
    ) -> Result<Option<(u64, u32)>, Failure> {
        let files = &self.shared.files;
        let info = &candidate.segment;
        let Ok(old) = files.open(info.id, info.bytes, || Some(info.is_sealed)) else {
            return Ok(None);
        };
        let path = files.path(new);
        let buffer = mem::take(&mut self.write_buffer);
        let compacted = segments::compact(
            files,
            &old,
            &candidate.live,
            new,
            info.is_sealed,
            &mut self.read_buffer,
            buffer,
        )
        .map_err(Failure::io("write", &path))?;
        let Compacted::Written { written, messages } = compacted else {
            return Ok(None);
        };
        self.write_buffer = written.buffer;
        unsynced.wrote(written.file, Some(files.queue_folder(new.queue)));
        Ok(Some((written.bytes, messages)))
    }
}
