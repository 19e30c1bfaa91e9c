//! Opening a catalogue that may be damaged.
//!
//! In: a data folder. Out: an open catalogue, and what had to be done for it. The table of cases stands in
//! the module above.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::catalogue::{Catalogue, Counter, FOLDER};
use super::json::Document;
use super::{Definitions, exporter, row};
use crate::store::StoreError;
use crate::store::probe::Probe;

/// sled's cache while a catalogue is only checked, in bytes.
const CHECK_CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Queue ids that may have been given out since the export that a catalogue is rebuilt from.
const QUEUE_ID_MARGIN: u64 = 1 << 20;

/// What was damaged when the store was opened, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Why the catalogue could not be used.
    pub reason: String,
    /// Where it was set aside.
    pub set_aside: Option<PathBuf>,
    /// The export that the definitions were taken from; `None` if none was ever made.
    pub rebuilt_from: Option<PathBuf>,
    /// Definitions in it.
    pub definitions: usize,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the definitions were damaged ({})", self.reason)?;
        if let Some(path) = &self.set_aside {
            write!(f, ", they were set aside as {}", path.display())?;
        }
        match &self.rebuilt_from {
            Some(path) => write!(
                f,
                ", and {} definitions were taken from {}; changes of the last second before the damage may be missing",
                self.definitions,
                path.display()
            ),
            None => write!(
                f,
                ", and since no export was ever made the definitions start empty"
            ),
        }
    }
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    /// What it defined, as far as its key tells.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it could be taken from the export.
    pub is_restored: bool,
}

impl fmt::Display for DamagedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.is_restored {
            "it was taken from the export"
        } else {
            "it is left out"
        };
        write!(f, "{}: {}; {outcome}", self.what, self.reason)
    }
}

/// Opens the catalogue of a data folder, rebuilt if need be.
pub(super) fn open(
    data_dir: &Path,
    cache_bytes_max: u64,
    probe: &Probe,
) -> Result<(Catalogue, Option<RecoveryReport>), StoreError> {
    let path = data_dir.join(FOLDER);
    let exports = exporter::files(data_dir);
    if !path.exists() {
        if exports.iter().any(|export| export.exists()) {
            let reason = format!("{} is missing", path.display());
            return rebuild(data_dir, cache_bytes_max, reason);
        }
        return Ok((Catalogue::open(&path, cache_bytes_max)?, None));
    }
    if let Some(reason) = probe.find_damage(data_dir) {
        return rebuild(data_dir, cache_bytes_max, reason);
    }
    let opened = Catalogue::open(&path, cache_bytes_max).and_then(|catalogue| {
        let sequence = catalogue.counter(Counter::Sequence)?;
        Ok((catalogue, sequence))
    });
    let (catalogue, sequence) = match opened {
        Ok(opened) => opened,
        Err(StoreError::Damaged { reason, .. }) => {
            return rebuild(data_dir, cache_bytes_max, reason);
        }
        Err(other) => return Err(other),
    };
    let exported = exports
        .iter()
        .filter_map(|export| exporter::counters(export))
        .map(|(sequence, _)| sequence)
        .max();
    match exported {
        Some(exported) if exported > sequence => {
            drop(catalogue);
            let reason =
                format!("it ends at change {sequence}, but change {exported} was exported");
            rebuild(data_dir, cache_bytes_max, reason)
        }
        // A catalogue that was never written to beside exports of one that was: sled opens some garbage as an
        // empty database.
        None if sequence == 0 && exports.iter().any(|export| export.exists()) => {
            drop(catalogue);
            let reason = "it is empty, but definitions were exported".to_owned();
            rebuild(data_dir, cache_bytes_max, reason)
        }
        _ => Ok((catalogue, None)),
    }
}

/// Sets the catalogue aside and makes a new one from the newest export that can be read.
fn rebuild(
    data_dir: &Path,
    cache_bytes_max: u64,
    reason: String,
) -> Result<(Catalogue, Option<RecoveryReport>), StoreError> {
    let path = data_dir.join(FOLDER);
    let (source, definitions) = read_exports(data_dir, &path, &reason)?;
    let set_aside = path
        .exists()
        .then(|| data_dir.join(format!("{FOLDER}.damaged-{}", wall_ms())));
    if let Some(aside) = &set_aside {
        fs::rename(&path, aside).map_err(StoreError::io("set aside", &path))?;
    }
    let catalogue = Catalogue::open(&path, cache_bytes_max)?;
    let (sequence, queue_id_limit) = source
        .as_deref()
        .and_then(exporter::counters)
        .unwrap_or((0, 0));
    let highest_id = definitions.queues.iter().map(|queue| queue.id.0).max();
    let queue_id_limit = queue_id_limit.max(highest_id.unwrap_or(0)) + QUEUE_ID_MARGIN;
    let list = definitions.into_list();
    let report = RecoveryReport {
        reason,
        set_aside,
        rebuilt_from: source,
        definitions: list.len(),
    };
    let mut batch = sled::Batch::default();
    for definition in &list {
        let (key, value) = row::encode(definition)?;
        batch.insert(key, value);
    }
    let counters = [
        Counter::Sequence.row(sequence + 1),
        Counter::QueueIdLimit.row(queue_id_limit),
    ];
    for (key, value) in counters {
        batch.insert(key, value);
    }
    catalogue.commit(batch)?;
    tracing::error!("{report}");
    Ok((catalogue, Some(report)))
}

/// The newest export that can be read, or nothing if there never was one.
fn read_exports(
    data_dir: &Path,
    catalogue: &Path,
    reason: &str,
) -> Result<(Option<PathBuf>, Definitions), StoreError> {
    let mut failures = Vec::new();
    for path in exporter::files(data_dir) {
        match fs::read(&path) {
            Ok(text) => match Document::parse(&text, None) {
                Ok(document) => return Ok((Some(path), document.into_definitions())),
                Err(error) => failures.push(format!("{}: {error}", path.display())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    if failures.is_empty() {
        return Ok((None, Definitions::default()));
    }
    Err(StoreError::Damaged {
        path: catalogue.to_owned(),
        reason: format!("{reason}; {}", failures.join("; ")),
    })
}

fn wall_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

/// Opens the catalogue of a data folder and reads every row, without judging what is in the rows.
pub(in crate::store) fn check_catalogue(data_dir: &Path) -> Result<(), StoreError> {
    let catalogue = Catalogue::open(&data_dir.join(FOLDER), CHECK_CACHE_BYTES)?;
    catalogue.counter(Counter::Sequence)?;
    catalogue.scan(&[], |_, _| Ok(()))
}

/// The definitions of the newest readable export as rows, to restore single ones from.
pub(super) fn exported_rows(data_dir: &Path) -> std::collections::HashMap<Vec<u8>, Vec<u8>> {
    let definitions = read_exports(data_dir, data_dir, "").map(|(_, definitions)| definitions);
    definitions
        .unwrap_or_default()
        .into_list()
        .iter()
        .filter_map(|definition| row::encode(definition).ok())
        .collect()
}
