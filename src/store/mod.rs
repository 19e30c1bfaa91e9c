//! What survives a restart: the data folder, and in it the definitions and the messages of durable queues.
//!
//! In: changes of definitions, messages and what becomes of them, from the broker. Out: completions once they are synced,
//! messages that are asked for, and at start everything that was. It does not know what a definition means to a client,
//! nor who consumes.
//!
//! The way of a message: its bytes are a [`record`], which goes into the [`journal`]; its queue's [`queue_log`] knows where it
//! lies; what is not settled in time moves to [`segments`] in a `checkpoint`; [`messages`] is all of it together, and reads
//! back. [`definitions`] is the catalogue in sled, [`disk`] the files underneath, [`quarantine`] the place for what is damaged.
//! `docs/storage.md` shows the folder and tells users.

mod checkpoint;
mod clock;
mod deaths_codec;
pub mod definitions;
pub mod disk;
pub mod doctor;
mod error;
mod folder;
pub mod journal;
pub mod messages;
mod numbers;
mod open;
pub mod probe;
pub mod quarantine;
pub mod queue_log;
pub mod record;
pub mod segments;

pub use definitions::{RowStore, RowWrite};
pub use error::StoreError;
pub use folder::{DataFolder, FORMAT_VERSION};
pub use open::{Options, Store};
