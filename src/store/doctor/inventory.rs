//! Which files lie in a data folder. In: the folder; out: their numbers and sizes. What is in them is not looked at here.

use std::path::{Path, PathBuf};

use super::report::{Finding, Quantity, Report, Severity};
use crate::store::StoreError;
use crate::store::definitions::{self, Export};
use crate::store::disk::{Access, Disk};

/// Takes note of the files.
///
/// # Errors
/// A folder cannot be read.
pub(super) fn take(
    report: &mut Report,
    disk: &dyn Disk,
    data_dir: &Path,
) -> Result<(), StoreError> {
    let (used, spare) = list(disk, &data_dir.join("journal"))?
        .into_iter()
        .partition::<Vec<_>, _>(|path| !name(path).starts_with("spare-"));
    report.journal.used = quantity(disk, &used);
    report.journal.spare = quantity(disk, &spare);
    for folder in list(disk, &data_dir.join("queues"))? {
        let segments = quantity(disk, &list(disk, &folder)?);
        report.segments.files += segments.files;
        report.segments.bytes += segments.bytes;
    }
    report.blobs = quantity(disk, &list(disk, &data_dir.join("blobs"))?);
    report.quarantine = quantity(disk, &list(disk, &data_dir.join("quarantine"))?);
    let aside = format!("{}.damaged-", definitions::FOLDER);
    report.damaged_catalogues = list(disk, data_dir)?
        .iter()
        .map(|path| name(path))
        .filter(|name| name.starts_with(&aside))
        .collect();
    for Export { path, definitions } in definitions::exports(data_dir) {
        if let Some(Err(reason)) = &definitions {
            let reason = format!(
                "it cannot be read ({reason}); a damaged catalogue could not be rebuilt from it"
            );
            let finding = Finding::new(Severity::Damage, "export-unreadable", reason);
            report.find(finding.in_file(data_dir, &path));
        }
        report.exports.push(super::ExportReport {
            file: name(&path),
            definitions: definitions.and_then(Result::ok),
        });
    }
    if report.format.is_none() {
        report.find(Finding::new(
            Severity::Remark,
            "format-missing",
            "the file haremq-format is missing; a start writes it anew",
        ));
    }
    Ok(())
}

fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    disk.list(folder).map_err(StoreError::io("read", folder))
}

/// What can be opened of these files.
fn quantity(disk: &dyn Disk, files: &[PathBuf]) -> Quantity {
    let mut quantity = Quantity::default();
    let files = files
        .iter()
        .filter_map(|path| disk.open(path, Access::Read).ok());
    for bytes in files.filter_map(|file| file.len().ok()) {
        quantity.files += 1;
        quantity.bytes += bytes;
    }
    quantity
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
