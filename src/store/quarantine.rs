//! What was found damaged, set aside to be looked at.
//!
//! In: pieces of files that failed a check. Out: a copy of each in `quarantine/` of the data folder, and a line in
//! `quarantine/report.jsonl` that says what it was. What became of the message, or how to mend it, is not known here.
//!
//! Nothing here fails its caller, who has worse to deal with: what cannot be kept is logged. A piece that is there already, with the
//! same place and content, is not kept or reported again, so a damage that is found at each start is reported once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::clock::wall_ms;
use super::disk::{Access, Disk};
use crate::model::{Position, QueueId};

/// Copies beyond this are not made, only reported; counted since the start.
const COPIED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Lines beyond this are not written; counted since the start.
const PIECES_MAX: u64 = 100_000;

/// Where a damaged piece was.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The file.
    pub file: &'a Path,
    /// Its begin there, in bytes.
    pub offset: u64,
    /// The queue that it belongs to, if that can be read.
    pub queue: Option<QueueId>,
    /// The place in the queue, if that can be read.
    pub position: Option<Position>,
    /// What is wrong.
    pub reason: &'a str,
}

/// The folder of damaged pieces.
#[derive(Debug)]
pub struct Quarantine {
    disk: Arc<dyn Disk>,
    data_folder: PathBuf,
    folder: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pieces: u64,
    copied_bytes: u64,
}

/// A line of the report.
#[derive(Serialize)]
struct Line<'a> {
    time_ms: u64,
    file: &'a str,
    offset: u64,
    bytes: u64,
    queue: Option<u64>,
    lane: Option<u8>,
    sequence: Option<u64>,
    reason: &'a str,
    copy: Option<&'a str>,
}

impl Quarantine {
    /// The folder in the data folder `data_folder`. It is made when there is something to keep.
    pub fn new(disk: Arc<dyn Disk>, data_folder: &Path) -> Self {
        Self {
            disk,
            data_folder: data_folder.to_owned(),
            folder: data_folder.join("quarantine"),
            kept: Mutex::default(),
        }
    }

    /// Keeps a copy of a piece and reports it.
    pub fn keep(&self, piece: &Piece<'_>, content: &[u8]) {
        if let Err(error) = self.try_keep(piece, content) {
            tracing::warn!(file = %piece.file.display(), offset = piece.offset, reason = piece.reason, %error,
                "a damaged piece cannot be set aside");
        }
    }

    /// Pieces that were reported since the start.
    pub fn pieces(&self) -> u64 {
        self.kept.lock().pieces
    }

    /// Moves a whole file here, under its own name.
    pub fn move_file(&self, file: &Path, reason: &str) {
        let piece = Piece {
            file,
            offset: 0,
            queue: None,
            position: None,
            reason,
        };
        let moved = self.make_folder().and_then(|()| {
            let name = format!("{}.{}", self.name_of(file), wall_ms());
            self.disk.rename(file, &self.folder.join(&name))?;
            let bytes = self
                .disk
                .open(&self.folder.join(&name), Access::Read)?
                .len()?;
            self.report(&piece, bytes, Some(&name))
        });
        if let Err(error) = moved {
            tracing::warn!(file = %file.display(), reason, %error, "a damaged file cannot be set aside");
        }
    }

    fn try_keep(&self, piece: &Piece<'_>, content: &[u8]) -> io::Result<()> {
        self.make_folder()?;
        let queue = piece.queue.map_or(0, |queue| queue.0);
        let position = piece.position.map_or(0, |position| position.0);
        let name = format!(
            "{}-{:x}-{queue:x}-{position:x}.piece",
            self.name_of(piece.file),
            piece.offset
        );
        let path = self.folder.join(&name);
        if self.has(&path, content) {
            return Ok(());
        }
        {
            let mut kept = self.kept.lock();
            let copied_bytes = kept.copied_bytes.saturating_add(content.len() as u64);
            if copied_bytes > COPIED_BYTES_MAX {
                drop(kept);
                return self.report(piece, content.len() as u64, None);
            }
            kept.copied_bytes = copied_bytes;
        }
        let copy = self.disk.open(&path, Access::Create)?;
        copy.set_len(0)?;
        copy.write_all_at(content, 0)?;
        copy.sync_data()?;
        self.report(piece, content.len() as u64, Some(&name))
    }

    fn has(&self, path: &Path, content: &[u8]) -> bool {
        let read = || -> io::Result<Vec<u8>> {
            let file = self.disk.open(path, Access::Read)?;
            if file.len()? != content.len() as u64 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = vec![0; content.len()];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        read().is_ok_and(|bytes| bytes == content)
    }

    fn report(&self, piece: &Piece<'_>, bytes: u64, copy: Option<&str>) -> io::Result<()> {
        // Held while the line is written, so that lines do not overwrite each other.
        let mut kept = self.kept.lock();
        kept.pieces += 1;
        if kept.pieces > PIECES_MAX {
            return Ok(());
        }
        let file = piece.file.strip_prefix(&self.data_folder);
        let line = Line {
            time_ms: wall_ms(),
            file: &file.unwrap_or(piece.file).to_string_lossy(),
            offset: piece.offset,
            bytes,
            queue: piece.queue.map(|queue| queue.0),
            lane: piece.position.map(Position::lane),
            sequence: piece.position.map(Position::sequence),
            reason: piece.reason,
            copy,
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        let path = self.folder.join("report.jsonl");
        let report = self.disk.open(&path, Access::Create)?;
        report.write_all_at(&line, report.len()?)?;
        report.sync_data()?;
        self.disk.sync_folder(&self.folder)
    }

    fn make_folder(&self) -> io::Result<()> {
        self.disk.make_folder(&self.folder)?;
        self.disk.sync_folder(&self.data_folder)
    }

    /// A name for copies: the path in the data folder, without folders.
    fn name_of(&self, file: &Path) -> String {
        let inside = file.strip_prefix(&self.data_folder).unwrap_or(file);
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        parts.join("-")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::disk::{FaultyDisk, SimDisk, faulty::Operation};

    fn piece(offset: u64) -> Piece<'static> {
        Piece {
            file: Path::new("/data/journal/wal-0000000001"),
            offset,
            queue: Some(QueueId(7)),
            position: Some(Position::new(4, 9)),
            reason: "checksum of the body",
        }
    }

    #[test]
    fn pieces_are_copied_and_reported_once() {
        let disk = SimDisk::with_folder(Path::new("/data"));
        let quarantine = Quarantine::new(Arc::new(disk.clone()), Path::new("/data"));
        quarantine.keep(&piece(4096), b"bytes");
        quarantine.keep(&piece(4096), b"bytes");
        quarantine.keep(&piece(8192), b"other");
        assert_eq!(quarantine.pieces(), 2);
        let disk = disk.lose_unsynced();
        let copy =
            Path::new("/data/quarantine/journal-wal-0000000001-1000-7-400000000000009.piece");
        assert_eq!(disk.content(copy).unwrap(), b"bytes");
        let report = disk.content(Path::new("/data/quarantine/report.jsonl"));
        let report = String::from_utf8(report.unwrap()).unwrap();
        let lines: Vec<serde_json::Value> = report
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["file"], "journal/wal-0000000001");
        assert_eq!(lines[0]["offset"], 4096);
        assert_eq!(lines[0]["bytes"], 5);
        assert_eq!(lines[0]["queue"], 7);
        assert_eq!(
            (&lines[0]["lane"], &lines[0]["sequence"]),
            (&4.into(), &9.into())
        );
        assert_eq!(lines[1]["offset"], 8192);
    }

    #[test]
    fn a_file_is_moved_as_a_whole() {
        let disk = SimDisk::with_folder(Path::new("/data"));
        let quarantine = Quarantine::new(Arc::new(disk.clone()), Path::new("/data"));
        let file = Path::new("/data/bad");
        disk.open(file, Access::Create).unwrap();
        quarantine.move_file(file, "no header");
        assert!(disk.content(file).is_none());
        assert_eq!(disk.paths().len(), 2);
        assert_eq!(quarantine.pieces(), 1);
    }

    #[test]
    fn a_disk_that_fails_does_not_fail_the_caller() {
        let sim = SimDisk::with_folder(Path::new("/data"));
        let disk = FaultyDisk::new(Arc::new(sim));
        disk.fail_for_ever(Operation::Write, 0, io::ErrorKind::StorageFull);
        let quarantine = Quarantine::new(Arc::new(disk), Path::new("/data"));
        quarantine.keep(&piece(0), b"bytes");
        assert_eq!(quarantine.pieces(), 0);
    }
}
