//! What survives a restart: the data folder, and in it the definitions and the messages of durable queues.
//!
//! In: changes of definitions, messages and what becomes of them, from the broker. Out: completions once they are synced,
//! and at start everything that was. It does not know what a definition means to a client.
//!
//! The data folder (`docs/storage.md` tells users):
//!
//! ```text
//! haremq.lock      held by the process that uses the folder
//! haremq-format    one line, the number of the format: 2
//! journal/         what was changed or published last, in order (see `journal`)
//! meta/            the catalogue of definitions, a sled 0.34 database (see `definitions`)
//! meta.json        the same in RabbitMQ's definitions format, from which a damaged catalogue is rebuilt
//! meta.json.prev   the export before that one
//! meta.damaged-T/  a catalogue that could not be opened at time T (milliseconds since 1970), set aside
//! ```

mod deaths_codec;
pub mod definitions;
pub mod disk;
mod error;
mod folder;
pub mod journal;
mod open;
pub mod probe;
pub mod quarantine;
pub mod record;

pub use definitions::{RowStore, RowWrite};
pub use error::StoreError;
pub use folder::{DataFolder, FORMAT_VERSION};
pub use open::{Options, Store};
