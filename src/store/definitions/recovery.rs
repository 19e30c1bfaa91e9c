//! Opening a catalogue that may be damaged.
//!
//! In: a data folder. Out: an open catalogue, and what had to be done for it. The journal comes after
//! that, in `replay.rs`. The table of cases stands in the module above.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::{Catalogue, Counter, Counters, FOLDER};
use super::json::Document;
use super::{Definitions, exporter, row};
use crate::store::StoreError;
use crate::store::clock::wall_ms;
use crate::store::probe::Probe;

/// sled's cache while a catalogue is only checked, in bytes.
const CHECK_CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Queue ids that may have been given out since what a lost catalogue is made anew from.
pub(super) const QUEUE_ID_MARGIN: u64 = 1 << 20;

/// Why a catalogue could not be used; the module above has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Its folder is missing, and there is an export.
    CatalogueGone,
    /// It cannot be opened or read.
    CatalogueDamaged,
    /// It has fewer commits than the export: a file was cut off, or an old copy put back.
    CatalogueShort,
    /// It was never written to, and there is an export.
    CatalogueEmpty,
}

impl Case {
    /// The name of the case.
    pub fn label(self) -> &'static str {
        match self {
            Self::CatalogueGone => "catalogue-gone",
            Self::CatalogueDamaged => "catalogue-damaged",
            Self::CatalogueShort => "catalogue-short",
            Self::CatalogueEmpty => "catalogue-empty",
        }
    }
}

/// What was damaged when the store was opened, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Which case it was.
    pub case: Case,
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
        write!(
            f,
            "{}: the definitions were damaged ({})",
            self.case.label(),
            self.reason
        )?;
        if let Some(path) = &self.set_aside {
            write!(f, ", they were set aside as {}", path.display())?;
        }
        match &self.rebuilt_from {
            Some(path) => write!(
                f,
                ", and {} definitions were taken from {}; changes since then come from the journal as far as it has them",
                self.definitions,
                path.display()
            ),
            None => write!(
                f,
                ", and since no export was ever made only those are there that the journal has"
            ),
        }
    }
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRow {
    /// Its key.
    pub key: Vec<u8>,
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

/// An open catalogue, its counters, and what had to be done for it.
type Opened = (Catalogue, Counters, Option<RecoveryReport>);

/// Opens the catalogue of a data folder, rebuilt if need be.
pub(super) fn open(
    data_dir: &Path,
    cache_bytes_max: u64,
    probe: &Probe,
) -> Result<Opened, StoreError> {
    let path = data_dir.join(FOLDER);
    let exports = exporter::files(data_dir);
    if !path.exists() {
        if exports.iter().any(|export| export.exists()) {
            let reason = format!("{} is missing", path.display());
            return rebuild(data_dir, cache_bytes_max, Case::CatalogueGone, reason);
        }
        let catalogue = Catalogue::open(&path, cache_bytes_max)?;
        return Ok((catalogue, Counters::default(), None));
    }
    if let Some(reason) = probe.find_damage(data_dir) {
        return rebuild(data_dir, cache_bytes_max, Case::CatalogueDamaged, reason);
    }
    let opened = Catalogue::open(&path, cache_bytes_max).and_then(|catalogue| {
        let counters = catalogue.counters()?;
        Ok((catalogue, counters))
    });
    let (catalogue, counters) = match opened {
        Ok(opened) => opened,
        Err(StoreError::Damaged { reason, .. }) => {
            return rebuild(data_dir, cache_bytes_max, Case::CatalogueDamaged, reason);
        }
        Err(other) => return Err(other),
    };
    let sequence = counters.sequence;
    let exported = exports
        .iter()
        .filter_map(|export| exporter::counters(export))
        .map(|exported| exported.sequence)
        .max();
    match exported {
        Some(exported) if exported > sequence => {
            drop(catalogue);
            let reason =
                format!("it ends at change {sequence}, but change {exported} was exported");
            rebuild(data_dir, cache_bytes_max, Case::CatalogueShort, reason)
        }
        // A catalogue that was never written to beside exports of one that was: sled opens some garbage as an
        // empty database.
        None if sequence == 0 && exports.iter().any(|export| export.exists()) => {
            drop(catalogue);
            let reason = "it is empty, but definitions were exported".to_owned();
            rebuild(data_dir, cache_bytes_max, Case::CatalogueEmpty, reason)
        }
        _ => Ok((catalogue, counters, None)),
    }
}

/// Sets the catalogue aside and makes a new one from the newest export that can be read. It has the place in the journal
/// at which the export was made, and no checkpoint: what lay in the rows about messages is found from the beginning.
fn rebuild(
    data_dir: &Path,
    cache_bytes_max: u64,
    case: Case,
    reason: String,
) -> Result<Opened, StoreError> {
    let path = data_dir.join(FOLDER);
    let (source, definitions) = read_exports(data_dir, &path, &reason)?;
    let set_aside = path
        .exists()
        .then(|| data_dir.join(format!("{FOLDER}.damaged-{}", wall_ms())));
    if let Some(aside) = &set_aside {
        fs::rename(&path, aside).map_err(StoreError::io("set aside", &path))?;
    }
    let catalogue = Catalogue::open(&path, cache_bytes_max)?;
    let exported = source
        .as_deref()
        .and_then(exporter::counters)
        .unwrap_or_default();
    let highest_id = definitions.queues.iter().map(|queue| queue.id.0).max();
    let queue_id_limit = exported
        .queue_id_limit
        .max(highest_id.unwrap_or(0))
        .saturating_add(QUEUE_ID_MARGIN);
    let counters = Counters {
        sequence: exported.sequence + 1,
        queue_id_limit,
        definitions_lsn: exported.definitions_lsn,
        ..Counters::default()
    };
    let list = definitions.into_list();
    let report = RecoveryReport {
        case,
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
    let stored = [
        Counter::Sequence.row(counters.sequence),
        Counter::QueueIdLimit.row(counters.queue_id_limit),
        Counter::DefinitionsLsn.row(counters.definitions_lsn.0),
    ];
    for (key, value) in stored {
        batch.insert(key, value);
    }
    catalogue.commit(batch)?;
    tracing::error!("{report}");
    Ok((catalogue, counters, Some(report)))
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

/// Opens the catalogue of a data folder and reads every row, without judging what is in the rows.
pub(in crate::store) fn check_catalogue(data_dir: &Path) -> Result<(), StoreError> {
    let catalogue = Catalogue::open(&data_dir.join(FOLDER), CHECK_CACHE_BYTES)?;
    catalogue.counters()?;
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
