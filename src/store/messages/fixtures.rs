//! A message store for the tests of others: in memory, with a catalogue that keeps nothing.

use std::path::Path;
use std::sync::Arc;

use super::{MessageOptions, MessageRecovery, MessageStore};
use crate::store::disk::{Disk, SimDisk};
use crate::store::journal::{Journal, JournalOptions, Lsn, replay};
use crate::store::{RowStore, RowWrite, StoreError};

struct NoRows;

impl RowStore for NoRows {
    fn commit(&self, _: Vec<RowWrite>, _: Lsn) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A new, empty store.
pub(crate) fn in_memory() -> Arc<MessageStore> {
    let folder = Path::new("/data");
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::with_folder(folder));
    let recovered = replay(&disk, folder, Lsn(0), None, &mut |_, _, _, _| {}).unwrap();
    let messages = MessageRecovery::new(Arc::clone(&disk), folder, Vec::new(), Lsn(0)).unwrap();
    let journal = Journal::start(disk, folder, recovered, JournalOptions::default()).unwrap();
    let options = MessageOptions {
        has_thread: false,
        ..MessageOptions::default()
    };
    messages.finish(journal, Arc::new(NoRows), options).unwrap()
}
