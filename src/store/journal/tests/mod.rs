//! The journal on disks that fail and lose power. What the tests share is here.

mod crashes;
mod damage;
mod full;
mod relaxed;
mod running;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::model::{Message, Position, WallMs};
use crate::protocol::PropertyFacts;
use crate::store::disk::SimDisk;
use crate::store::record::{Content, Run, Target};

/// Longer than anything here takes, to fail instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

fn data() -> &'static Path {
    Path::new("/data")
}

fn sim() -> SimDisk {
    SimDisk::with_folder(data())
}

fn options() -> JournalOptions {
    JournalOptions {
        file_bytes: 64 * 1024,
        settle_delay: Duration::from_secs(3600),
        full_retry: Duration::from_millis(1),
        reserve_bytes: 0,
        ..JournalOptions::default()
    }
}

fn message(body: &[u8]) -> Message {
    let facts = PropertyFacts::of(&[0, 0]).unwrap();
    Message::copied("ex".into(), b"key", &[0, 0], facts, body)
}

fn target(queue: u64, position: u64) -> Target {
    Target {
        queue: QueueId(queue),
        position: Position(position),
        deadline_ms: WallMs::MAX,
        is_transient: false,
    }
}

/// What a replay handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    lsn: Lsn,
    record_bytes: u32,
    /// What the record says, and of messages the target and the body.
    what: String,
}

fn replay_from(disk: &SimDisk, from: Lsn, clean_end: Option<Lsn>) -> (Recovered, Vec<Seen>) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut seen = Vec::new();
    let recovered = super::replay(
        &disk,
        data(),
        from,
        clean_end,
        &mut |lsn, record_bytes, content, body| {
            let what = match content {
                Content::Message(meta) => {
                    let targets: Vec<_> = meta
                        .targets()
                        .map(|target| (target.queue.0, target.position.0))
                        .collect();
                    format!("{targets:?} {}", String::from_utf8_lossy(body))
                }
                Content::Definitions => format!("definitions {}", String::from_utf8_lossy(body)),
                other => format!("{other:?}"),
            };
            seen.push(Seen {
                lsn,
                record_bytes,
                what,
            });
        },
    );
    (recovered.unwrap(), seen)
}

fn replay_all(disk: &SimDisk) -> (Recovered, Vec<Seen>) {
    replay_from(disk, Lsn(0), None)
}

fn open(disk: &SimDisk) -> Arc<Journal> {
    open_with(disk, options())
}

fn open_with(disk: &SimDisk, options: JournalOptions) -> Arc<Journal> {
    let (recovered, _) = replay_all(disk);
    Journal::start(Arc::new(disk.clone()), data(), recovered, options).unwrap()
}

/// Appends one message in a hold of its own, for queue 1.
fn append(journal: &Journal, position: u64, body: &[u8]) -> Appended {
    let message = message(body);
    let crc = BodyCrc::of(&message);
    journal
        .append()
        .message(&message, crc, &[target(1, position)])
}

/// Appends a message and waits for its sync.
fn confirmed(journal: &Journal, position: u64, body: &[u8]) -> Appended {
    let appended = append(journal, position, body);
    journal.flush().unwrap();
    appended
}

/// What [`Journal::when_synced`] tells.
fn told(journal: &Journal, lsn: Lsn) -> Receiver<Result<(), StoreError>> {
    let (sender, receiver) = channel();
    journal.when_synced(
        lsn,
        Box::new(move |outcome| {
            let _ = sender.send(outcome);
        }),
    );
    receiver
}
