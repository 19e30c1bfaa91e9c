//! The definitions: virtual hosts, users, permissions, durable exchanges, queues and bindings, policies and
//! parameters.
//!
//! In: [`Change`]s, each with a completion; rows about messages. Out: the completion, once the change is synced; at start
//! [`Definitions`], and what was damaged. What a definition does is not known here, nor what a message's row says.
//!
//! # On disk
//!
//! A change is a record of the journal (`changes.rs`), and is answered when that is synced. `meta/` is its materialised form: a
//! sled database with one tree, `definitions`, one row a definition (keys in `key.rs`, values in `row.rs`), rows about
//! messages (`message_rows.rs`), and counters beside them: how many commits were made, below which number queue ids may be in
//! use, below which Lsn the journal's definitions are in the rows, from which Lsn on the journal is replayed, and after a clean
//! stop where the journal ended. `meta.json` is an export of the definitions in RabbitMQ's format, made anew a second after
//! a commit that changed some; its first line holds the first three counters. `meta.json.prev` is the export before it.
//!
//! # Writing
//!
//! `intake.rs` appends a change to the journal and hands it to the one thread that writes the catalogue (`writer.rs`), which
//! makes what has gathered in a second one commit, never before the journal counts it as safe. A checkpoint of messages is
//! such a commit, too: its rows, and all changes below it. No file of the journal is used again before that.
//!
//! # Opening
//!
//! First the catalogue is opened (`recovery.rs`), then the journal is replayed on top of it (`replay.rs`): every record from the
//! catalogue's Lsn on, or the export's. A change may be made twice, because those behind it are made again, too.
//!
//! | label | case | what is done |
//! |---|---|---|
//! | | nothing there | an empty catalogue is made |
//! | | sound, and as far as the journal | opened |
//! | `catalogue-behind` | the journal has changes that the catalogue lacks, as after every kill | they are made |
//! | `catalogue-ahead` | the journal ends before the catalogue does: it lost changes | kept, reported |
//! | `catalogue-damaged` | a child process cannot open or read it, or sled's error or panic here | set aside, rebuilt from `meta.json` and the journal |
//! | `catalogue-short` | fewer commits than `meta.json` has (a cut-off file that sled opens in silence) | the same |
//! | `catalogue-empty` | never written to, `meta.json` there | the same |
//! | `catalogue-gone` | `meta/` missing, `meta.json` there | rebuilt from it and the journal |
//! | `catalogue-lost` | neither catalogue nor export, and a journal | what it has, reported |
//! | | to be rebuilt, `meta.json` unreadable | `meta.json.prev` is used |
//! | | to be rebuilt, neither file ever made | an empty catalogue and what the journal has, reported |
//! | | to be rebuilt, both unreadable | refused: [`StoreError::Damaged`](super::StoreError::Damaged) |
//! | | a row with a wrong checksum | a definition is taken from `meta.json`, else left out; reported |
//! | `record-damaged` | a record of the journal that makes no sense | its changes are left out, reported |
//! | | a record of the journal with a wrong checksum | the journal's own case |
//! | `format-1` | a folder without a journal | gets one, and this program's format number |
//! | | a newer format | refused: [`StoreError::NewerFormat`](super::StoreError::NewerFormat) |

mod batch;
mod catalogue;
mod changes;
mod exporter;
mod ids;
mod intake;
pub mod json;
mod key;
mod message_rows;
mod records;
mod recovery;
mod replay;
mod row;
mod rows;
mod store;
mod upkeep;
mod writer;

pub(super) use catalogue::FOLDER;
pub(super) use recovery::check_catalogue;
pub(super) use replay::DefinitionRecovery;
pub(super) use upkeep::{Export, exports, forget_damaged_rows};

pub use json::{
    Document, ExportHeader, ImportError, ImportPlan, ImportReport, export, import, offline_import,
};
pub use records::{
    Binding, Change, Definition, DefinitionKey, Definitions, DestinationKind, Exchange,
    GlobalParameter, Parameter, Policy, Queue, Vhost, VhostLimits,
};
pub use recovery::{Case, DamagedRow, RecoveryReport};
pub use replay::Finding;
pub use rows::{RowStore, RowWrite};
pub use store::{DefinitionStore, Loaded, Options};
