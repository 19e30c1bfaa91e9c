//! The catalogue of definitions: virtual hosts, users, permissions, durable exchanges, queues and bindings,
//! policies and parameters.
//!
//! In: [`Change`]s, each with a completion. Out: the completion, once the change is synced; at start
//! [`Definitions`], and a [`RecoveryReport`] if something was damaged. What a definition does is not known
//! here.
//!
//! # On disk
//!
//! `meta/` is a sled database with one tree, `definitions`, one row a definition (keys in `key.rs`, values in
//! `row.rs`), and two counters beside them: how many commits were made, and below which number queue ids may
//! be in use. `meta.json` is an export of the same in RabbitMQ's definitions format, made anew a second
//! after a change; its first line holds both counters. `meta.json.prev` is the export before it.
//!
//! # Writing
//!
//! One thread writes. It takes all changes that have gathered while the last commit was synced and makes
//! them one atomic batch, so that many declares share one sync; then it calls their completions. A change is
//! there after a power cut if its completion said so.
//!
//! # Opening
//!
//! | case | what is done |
//! |---|---|
//! | nothing there | an empty catalogue is made |
//! | sound | opened |
//! | a child process cannot open or read it, or sled's error or panic here | set aside, rebuilt from `meta.json` |
//! | fewer commits than `meta.json` has (a cut-off file that sled opens in silence) | the same |
//! | `meta/` missing, `meta.json` there | rebuilt from it |
//! | to be rebuilt, `meta.json` unreadable | `meta.json.prev` is used |
//! | to be rebuilt, neither file ever made | an empty catalogue, reported |
//! | to be rebuilt, both unreadable | refused: [`StoreError::Damaged`](super::StoreError::Damaged) |
//! | a row with a wrong checksum | taken from `meta.json`, else left out; reported |

mod catalogue;
mod exporter;
pub mod json;
mod key;
mod records;
mod recovery;
mod row;
mod rows;
mod store;
mod writer;

pub(super) use recovery::check_catalogue;

pub use json::{
    Document, ExportHeader, ImportError, ImportPlan, ImportReport, export, import, offline_import,
};
pub use records::{
    Binding, Change, Definition, DefinitionKey, Definitions, DestinationKind, Exchange,
    GlobalParameter, Parameter, Policy, Queue, Vhost, VhostLimits,
};
pub use recovery::{DamagedRow, RecoveryReport};
pub use rows::{RowStore, RowWrite};
pub use store::{DefinitionStore, Loaded, Options};
