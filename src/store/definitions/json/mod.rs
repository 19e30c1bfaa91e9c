//! RabbitMQ's definitions format.
//!
//! In: a JSON document, what exists already. Out: an ordered plan of changes, or one error that names the
//! place in the document; and the document of what exists. How changes are made is the caller's business:
//! [`import`] makes them in a store that no broker uses, a running broker executes the plan itself.
//!
//! Format and order of import: RabbitMQ's `rabbit_definitions.erl`, `rabbit_mgmt_wm_definitions.erl` and
//! <https://www.rabbitmq.com/docs/definitions>.

mod arguments;
mod document;
mod export;
mod fields;
mod plan;

use std::fmt;
use std::path::{Path, PathBuf};

pub use arguments::{arguments_from_json, arguments_to_json};
pub use document::Document;
pub use export::{ExportHeader, export};
pub(super) use export::{ExportStyle, Section, Source, write};
pub use plan::ImportPlan;

use super::{Change, Definition, DefinitionStore};
use crate::store::{Options, Store, StoreError};

/// Bytes of a definitions file that are read.
pub const DOCUMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why definitions could not be imported. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The text is not JSON.
    #[error("not JSON: {reason}")]
    NotJson {
        /// The parser's reason, with line and column.
        reason: String,
    },
    /// A value is missing, of the wrong type, or out of place.
    #[error("{path}: {reason}")]
    Invalid {
        /// The place, such as `users[3].password_hash`.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportReport {
    /// Definitions added or replaced.
    pub changed: usize,
    /// Definitions that were there already.
    pub unchanged: usize,
    /// Queues and exchanges that exist with other properties and were left as they are, as RabbitMQ does.
    pub conflicts: Vec<String>,
    /// What was left out or looked odd.
    pub warnings: Vec<String>,
    /// What does not survive a restart and therefore is not stored: only a running broker can declare it.
    pub transient: Vec<Definition>,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} definitions imported, {} were there already",
            self.changed, self.unchanged
        )?;
        if !self.transient.is_empty() {
            write!(
                f,
                "\n{} transient queues, exchanges and bindings were not stored",
                self.transient.len()
            )?;
        }
        for conflict in &self.conflicts {
            write!(f, "\nkept as it is: {conflict}")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// Imports a document into a store whose definitions no broker has loaded yet: all of it in one commit, or
/// nothing. With `vhost`, the document is one of a single virtual host and goes there.
///
/// # Errors
/// [`ImportError`]; the store is unchanged.
pub fn import(
    store: &DefinitionStore,
    json: &[u8],
    vhost: Option<&str>,
) -> Result<ImportReport, ImportError> {
    let document = Document::parse(json, vhost)?;
    let existing = store.load()?.definitions;
    let plan = document.plan(&existing, &mut || store.wait_for_queue_id())?;
    let (stored, transient) = plan.split_transient();
    let report = ImportReport {
        changed: stored.len(),
        unchanged: plan.unchanged,
        conflicts: plan.conflicts,
        warnings: plan.warnings,
        transient,
    };
    store.apply_and_wait(stored)?;
    Ok(report)
}

/// `haremq definitions import FILE --data-dir DIR`: imports into a data folder that no broker uses.
///
/// # Errors
/// [`ImportError`]; among them [`StoreError::FolderInUse`] when a broker runs on the folder.
pub fn offline_import(file: &Path, data_dir: &Path) -> Result<ImportReport, ImportError> {
    let json = read_document(file)?;
    // A bad document must not leave a new data folder behind.
    Document::parse(&json, None)?;
    let store = Store::open(data_dir, Options::default())?;
    let report = import(&store.definitions, &json, None)?;
    store.close()?;
    Ok(report)
}

/// Reads a definitions file.
///
/// # Errors
/// [`ImportError::File`], also when it is larger than [`DOCUMENT_BYTES_MAX`].
pub fn read_document(file: &Path) -> Result<Vec<u8>, ImportError> {
    let failed = |reason: String| ImportError::File {
        path: file.to_owned(),
        reason,
    };
    let length = std::fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if length > DOCUMENT_BYTES_MAX {
        return Err(failed(format!(
            "it has {length} bytes, at most {DOCUMENT_BYTES_MAX} are read"
        )));
    }
    std::fs::read(file).map_err(|error| failed(error.to_string()))
}

impl ImportPlan {
    /// Separates what is stored from what only a running broker can hold: exchanges and queues that are not
    /// durable, and the bindings that touch one.
    pub fn split_transient(&self) -> (Vec<Change>, Vec<Definition>) {
        let mut transient_names = std::collections::HashSet::new();
        for change in &self.changes {
            match change {
                Change::Put(Definition::Exchange(exchange)) if !exchange.durable => {
                    transient_names.insert(("exchange", &exchange.vhost, &exchange.name));
                }
                Change::Put(Definition::Queue(queue)) if !queue.durable => {
                    transient_names.insert(("queue", &queue.vhost, &queue.name));
                }
                _ => {}
            }
        }
        let (mut stored, mut transient) = (Vec::new(), Vec::new());
        for change in &self.changes {
            match change {
                Change::Put(definition) if is_transient(definition, &transient_names) => {
                    transient.push(definition.clone());
                }
                _ => stored.push(change.clone()),
            }
        }
        (stored, transient)
    }
}

fn is_transient(
    definition: &Definition,
    names: &std::collections::HashSet<(&str, &crate::model::Name, &crate::model::Name)>,
) -> bool {
    match definition {
        Definition::Exchange(exchange) => !exchange.durable,
        Definition::Queue(queue) => !queue.durable,
        Definition::Binding(binding) => {
            names.contains(&("exchange", &binding.vhost, &binding.source))
                || names.contains(&(
                    binding.destination_kind.name(),
                    &binding.vhost,
                    &binding.destination,
                ))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
