//! The export beside the catalogue, from which a damaged catalogue is rebuilt.
//!
//! In: the catalogue, a wake-up after each commit. Out: `meta.json`, a while after the last change. A
//! definition that changes during an export may be in it or not; what was committed before is.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::Definition;
use super::catalogue::{Catalogue, Counters};
use super::json::{ExportStyle, Section, Source, write};
use super::key::{self, Kind};
use super::row;
use super::writer::Shared;
use crate::store::StoreError;
use crate::store::folder::write_atomically;
use crate::store::journal::Lsn;

/// The export's file in the data folder.
pub(super) const FILE: &str = "meta.json";

/// The export before that.
pub(super) const FILE_BEFORE: &str = "meta.json.prev";

/// Bytes of an export's first line that are looked at.
const FIRST_LINE_BYTES_MAX: u64 = 4096;

/// An export of many definitions pauses this many times as long as it took, so that it never takes more than
/// a small part of a processor.
const PAUSE_FACTOR: u32 = 20;

/// Runs until the sender of wake-ups is gone.
pub(super) fn run(shared: &Arc<Shared>, data_dir: &Path, debounce: Duration, wake: &Receiver<()>) {
    let mut pause = debounce;
    while wake.recv().is_ok() {
        let until = Instant::now() + pause;
        // Wake-ups during the pause are answered by the export at its end.
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match wake.recv_timeout(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        let started = Instant::now();
        if let Err(error) = export(shared, data_dir) {
            tracing::warn!(%error, "the definitions could not be exported; a damaged catalogue would be rebuilt from the export before");
        }
        pause = debounce.max(started.elapsed() * PAUSE_FACTOR);
    }
}

/// Writes the export now.
pub(super) fn export(shared: &Shared, data_dir: &Path) -> Result<(), StoreError> {
    // As they were synced, and read before the rows, so that no counter claims more than the rows have, nor more than will
    // be in the catalogue after a power cut.
    let counters = *shared.synced.lock();
    let style = ExportStyle::Catalogue {
        sequence: counters.sequence,
        queue_id_limit: counters.queue_id_limit,
        definitions_lsn: counters.definitions_lsn.0,
    };
    let catalogue = &shared.catalogue;
    let path = data_dir.join(FILE);
    let before = data_dir.join(FILE_BEFORE);
    match fs::rename(&path, &before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("rename", &path)(error));
        }
        _ => {}
    }
    write_atomically(&path, |file| {
        write(file, &Rows { catalogue }, style)?;
        file.flush()
    })
}

/// The counters of an export; it has no others than these three. `None` if there is no such file or its first line
/// cannot be read.
pub(super) fn counters(path: &Path) -> Option<Counters> {
    let mut line = String::new();
    io::BufReader::new(fs::File::open(path).ok()?)
        .take(FIRST_LINE_BYTES_MAX)
        .read_line(&mut line)
        .ok()?;
    let line = line.trim_end().trim_end_matches(',');
    let header: Json = serde_json::from_str(&format!("{line}}}")).ok()?;
    let counters = header.get("haremq_catalogue")?;
    Some(Counters {
        sequence: counters.get("sequence")?.as_u64()?,
        queue_id_limit: counters.get("queue_id_limit")?.as_u64()?,
        // Exports of before there was a journal have none.
        definitions_lsn: Lsn(counters.get("lsn").and_then(Json::as_u64).unwrap_or(0)),
        ..Counters::default()
    })
}

/// The exports of a data folder, the newest first.
pub(super) fn files(data_dir: &Path) -> [PathBuf; 2] {
    [data_dir.join(FILE), data_dir.join(FILE_BEFORE)]
}

struct Rows<'a> {
    catalogue: &'a Catalogue,
}

impl Source for Rows<'_> {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(&Definition) -> io::Result<()>,
    ) -> io::Result<()> {
        let kind = match section {
            Section::Users => Kind::User,
            Section::Vhosts => Kind::Vhost,
            Section::Permissions => Kind::Permission,
            Section::TopicPermissions => Kind::TopicPermission,
            Section::Parameters => Kind::Parameter,
            Section::GlobalParameters => Kind::GlobalParameter,
            Section::Policies => Kind::Policy,
            Section::Queues => Kind::Queue,
            Section::Exchanges => Kind::Exchange,
            Section::Bindings => Kind::Binding,
        };
        self.catalogue
            .scan(&key::prefix(kind, &[]), |key, value| {
                match row::decode(key, value) {
                    Ok(definition) => visit(&definition).map_err(Failure::Export),
                    // Damaged rows are reported when definitions are loaded.
                    Err(_) => Ok(()),
                }
            })
            .map_err(|failure| match failure {
                Failure::Export(error) => error,
                Failure::Store(error) => io::Error::other(error),
            })
    }
}

enum Failure {
    Export(io::Error),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
