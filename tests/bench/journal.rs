//! What the journal alone costs: CPU a message and messages a second, for sizes and numbers of queues.
//!
//!     cargo bench --bench journal -- [FOLDER]
//!
//! In: a folder on the disk to be measured (default: the system's folder for temporary files). Out: a table. Each row appends
//! persistent messages in batches of 1000 and waits for each batch to be synced, as publishers with a window of that size do;
//! the last two columns are one message a sync. Settlements follow their messages, and files are recycled.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use haremq::model::{Message, Position, QueueId, WallMs};
use haremq::protocol::{Properties, PropertyFacts};
use haremq::store::disk::{Disk, RealDisk};
use haremq::store::journal::{BodyCrc, Journal, JournalOptions, Lsn, replay};
use haremq::store::record::{Run, Target};
use rustix::time::{ClockId, clock_gettime};

const BATCH: u64 = 1000;
const ROW_TIME: Duration = Duration::from_millis(1500);

fn main() {
    let folder = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    println!(
        "{:>8} {:>7} {:>10} {:>10} {:>10} {:>12} {:>10}",
        "bytes", "queues", "us CPU", "msgs/s", "MB/s", "us CPU at 1", "us at 1"
    );
    for bytes in [16, 256, 1024, 4096, 16_384, 65_536] {
        for queues in [1, 10, 100, 1000] {
            if queues > 1 && bytes != 1024 {
                continue;
            }
            row(&folder, bytes, queues);
        }
    }
}

fn row(folder: &std::path::Path, bytes: usize, queues: u64) {
    let folder = tempfile::tempdir_in(folder).expect("a folder to write to");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let recovered =
        replay(&disk, folder.path(), Lsn(0), None, &mut |_, _, _, _| {}).expect("an empty folder");
    let journal = Journal::start(disk, folder.path(), recovered, JournalOptions::default())
        .expect("a journal");
    let message = message(bytes);
    let mut next = 0;
    let batched = measure(&journal, &message, queues, BATCH, &mut next);
    let single = measure(&journal, &message, queues, 1, &mut next);
    println!(
        "{bytes:>8} {queues:>7} {:>10.2} {:>10.0} {:>10.0} {:>12.1} {:>10.1}",
        batched.cpu_us,
        batched.rate,
        batched.rate * bytes as f64 / 1e6,
        single.cpu_us,
        1e6 / single.rate
    );
    journal.close().expect("the last sync");
}

struct Figures {
    cpu_us: f64,
    rate: f64,
}

/// Batches of `batch` messages until the time is over.
fn measure(
    journal: &Arc<Journal>,
    message: &Message,
    queues: u64,
    batch: u64,
    next: &mut u64,
) -> Figures {
    let (began, cpu_began) = (Instant::now(), cpu());
    let first = *next;
    while began.elapsed() < ROW_TIME {
        let start = *next;
        let mut end = Lsn(0);
        for number in start..start + batch {
            let target = Target {
                queue: QueueId(number % queues + 1),
                position: Position(number / queues + 1),
                deadline_ms: WallMs::MAX,
                is_transient: false,
            };
            let crc = BodyCrc::of(message);
            let mut appender = journal.append();
            appender.message(message, crc, &[target]);
            end = appender.end();
        }
        let (done, synced) = mpsc::channel();
        journal.when_synced(
            end,
            Box::new(move |result| {
                let _ = done.send(result);
            }),
        );
        synced.recv().expect("an answer").expect("a sync");
        settle(journal, message, queues, start, batch);
        *next += batch;
        for file in journal.sealed() {
            journal.recycle(file.generation).expect("a file to reuse");
        }
    }
    let messages = (*next - first) as f64;
    Figures {
        cpu_us: (cpu() - cpu_began).as_secs_f64() * 1e6 / messages,
        rate: messages / began.elapsed().as_secs_f64(),
    }
}

/// Each queue settles what it got of the batch.
fn settle(journal: &Journal, message: &Message, queues: u64, start: u64, batch: u64) {
    for queue in 0..queues.min(batch) {
        let number = start + queue;
        let count = (batch - queue).div_ceil(queues);
        let run = Run {
            first: Position(number / queues + 1),
            count: count as u32,
            body_bytes: message.body_bytes() as u32 * count as u32,
        };
        journal
            .append()
            .settled(QueueId(number % queues + 1), &[run]);
    }
}

fn message(bytes: usize) -> Message {
    let properties = Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let encoded = properties.to_encoded();
    let facts = PropertyFacts::of(&encoded).expect("sound properties");
    // No two neighbours alike, so that nothing on the way can take it for zeros.
    let body: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
    Message::copied("".into(), b"queue", &encoded, facts, &body)
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
