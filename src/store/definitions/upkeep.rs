//! What is looked at and tidied up in a data folder that no broker uses.
//!
//! In: a data folder. Out: whether the exports in it can be read; a catalogue without the rows that cannot. When this is to be done, and
//! who is told, is not known here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::catalogue::{Catalogue, FOLDER};
use super::json::Document;
use super::rows::RowWrite;
use super::{exporter, key, message_rows, row};
use crate::store::StoreError;

/// sled's cache while rows are removed, in bytes.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// An export of the definitions, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Export {
    /// The file.
    pub(in crate::store) path: PathBuf,
    /// How many definitions it has, or why it is of no use; `None` if there is no such file.
    pub(in crate::store) definitions: Option<Result<usize, String>>,
}

/// The exports of a data folder, the newest first.
pub(in crate::store) fn exports(data_dir: &Path) -> Vec<Export> {
    let files = exporter::files(data_dir).into_iter();
    files
        .map(|path| Export {
            definitions: read(&path),
            path,
        })
        .collect()
}

fn read(path: &Path) -> Option<Result<usize, String>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    if exporter::counters(path).is_none() {
        return Some(Err("its first line cannot be read".to_owned()));
    }
    let document = Document::parse(&text, None).map_err(|error| error.to_string());
    Some(document.map(|document| document.into_definitions().into_list().len()))
}

/// Removes the rows of a closed catalogue that cannot be read. Gives their number.
///
/// # Errors
/// The catalogue cannot be opened or written.
pub(in crate::store) fn forget_damaged_rows(data_dir: &Path) -> Result<usize, StoreError> {
    let catalogue = Catalogue::open(&data_dir.join(FOLDER), CACHE_BYTES)?;
    let mut batch = sled::Batch::default();
    let mut removed = 0;
    for kind in key::Kind::DEFINITIONS {
        catalogue.scan(&key::prefix(kind, &[]), |key, value| {
            if row::decode(key, value).is_err() {
                batch.remove(key);
                removed += 1;
            }
            Ok::<_, StoreError>(())
        })?;
    }
    let damaged = message_rows::read(&catalogue)?.damaged;
    removed += damaged.len();
    let writes = damaged
        .into_iter()
        .map(|row| RowWrite::Delete { key: row.key });
    message_rows::put(&catalogue, writes.collect(), &mut batch)?;
    if removed > 0 {
        catalogue.commit(batch)?;
    }
    Ok(removed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_cannot_be_read_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FOLDER);
        let sound = |key: Vec<u8>| (key.clone(), row::seal(&key, b"\0sound"));
        let state = |queue: u64| [&[12][..], &queue.to_be_bytes()].concat();
        {
            let catalogue = Catalogue::open(&path, CACHE_BYTES).unwrap();
            let mut batch = sled::Batch::default();
            batch.insert(key::prefix(key::Kind::Vhost, &[b"v"]), &b"damaged"[..]);
            batch.insert(state(1), &b"damaged"[..]);
            let (key, value) = sound(state(2));
            batch.insert(key, value);
            catalogue.commit(batch).unwrap();
        }
        assert_eq!(forget_damaged_rows(dir.path()).unwrap(), 2);
        assert_eq!(forget_damaged_rows(dir.path()).unwrap(), 0);
        let catalogue = Catalogue::open(&path, CACHE_BYTES).unwrap();
        let mut keys = Vec::new();
        catalogue
            .scan(&[], |key, _| {
                keys.push(key.to_vec());
                Ok::<_, StoreError>(())
            })
            .unwrap();
        assert_eq!(keys, [state(2)]);
    }

    #[test]
    fn an_export_is_there_or_not_or_of_no_use() {
        let dir = tempfile::tempdir().unwrap();
        let [newest, before] = exporter::files(dir.path());
        fs::write(&newest, "{\"haremq_catalogue\":").unwrap();
        let exports = exports(dir.path());
        assert_eq!(exports[0].path, newest);
        assert!(matches!(exports[0].definitions, Some(Err(_))));
        assert_eq!(exports[1].path, before);
        assert_eq!(exports[1].definitions, None);
    }
}
