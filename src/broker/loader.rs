//! Brings messages back from the disk: blocks that queues asked for, and dead letters that lie in the log alone.
//!
//! In: jobs, from whoever carried out a queue's effects. Out: the messages in their queues, and what that caused, carried
//! out. A few threads read, so that no task of the runtime waits for the disk; the jobs of one queue stay in order, because
//! they all go to the same thread. What a queue does with its messages is not known here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::Broker;
use super::courier::Courier;
use crate::model::{Now, Position, QueueId, SharedMessage};
use crate::queue::{DeadLetter, Load, QueueHandle};
use crate::store::messages::ReadBlock;

/// Threads that read.
const THREADS: usize = 2;

/// How often a read is planned anew because a file was moved under it, before it counts as failed.
const PLANS_MAX: usize = 100;

/// Bytes that may wait to be written to the journal while messages are read.
const JOURNAL_BACKLOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a plan waits whose record is still on its way to the file.
const PLAN_PAUSE: Duration = Duration::from_millis(1);

/// How long a read is put off that the disk refused.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// Something to read.
#[derive(Debug)]
enum Job {
    Block(Load),
    Letter(DeadLetter),
}

/// The way to the threads that read.
#[derive(Debug, Default)]
pub(super) struct Loader {
    threads: OnceLock<Vec<Sender<(Job, Now)>>>,
    /// Jobs handed in and not done.
    pending: Arc<AtomicUsize>,
}

impl Loader {
    /// Starts the threads; they end when the broker is dropped.
    ///
    /// # Errors
    /// The system's, when it has no thread left.
    pub(super) fn start(broker: &Arc<Broker>) -> std::io::Result<()> {
        let mut threads = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let (sender, jobs) = mpsc::channel();
            let broker = Arc::downgrade(broker);
            std::thread::Builder::new()
                .name("loader".to_owned())
                .spawn(move || run(&broker, &jobs))?;
            threads.push(sender);
        }
        // A broker is started once.
        let _ = broker.loader.threads.set(threads);
        Ok(())
    }

    /// Has a block read for a queue.
    pub(super) fn load(&self, load: Load, now: Now) {
        self.send(load.queue, Job::Block(load), now);
    }

    /// Has a dead letter read, and published after that.
    pub(super) fn load_letter(&self, letter: DeadLetter, now: Now) {
        self.send(letter.queue, Job::Letter(letter), now);
    }

    /// Jobs that are not done.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    fn send(&self, queue: QueueId, job: Job, now: Now) {
        let Some(threads) = self.threads.get() else {
            return;
        };
        self.pending.fetch_add(1, Ordering::AcqRel);
        if threads[queue.0 as usize % threads.len()]
            .send((job, now))
            .is_err()
        {
            self.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn run(broker: &Weak<Broker>, jobs: &Receiver<(Job, Now)>) {
    let mut courier = Courier::default();
    while let Ok((job, now)) = jobs.recv() {
        let Some(broker) = broker.upgrade() else {
            return;
        };
        wait_for_journal(&broker);
        let load = match &job {
            Job::Block(load) => Some(*load),
            Job::Letter(_) => None,
        };
        let turn = AssertUnwindSafe(|| {
            match job {
                Job::Block(load) => load_block(&broker, &load, &mut courier, now),
                Job::Letter(letter) => load_letter(&broker, letter, &mut courier, now),
            }
            courier.carry_out(&broker, now);
        });
        // A defect stops the reading of one queue, not of the node's.
        if catch_unwind(turn).is_err() {
            tracing::error!(
                target: "haremq::queue",
                "a defect of the broker: messages could not be read back"
            );
            courier = Courier::default();
            if let Some(load) = load
                && let Some(queue) = broker.queue(load.queue)
            {
                let failed = ReadBlock {
                    failed: true,
                    ..ReadBlock::default()
                };
                // The queue asks again later; one deleted meanwhile wants nothing.
                let _ = queue.handle_loaded(&load, failed, now, &mut courier.effects);
            }
        }
        broker.loader.pending.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is read may be written again, as dead letters: nothing is read while the journal has too much to write. The threads that
/// write never wait for this one.
fn wait_for_journal(broker: &Broker) {
    let journal = broker.messages.journal();
    while journal.failure().is_none() && journal.backlog_bytes() >= JOURNAL_BACKLOG_BYTES_MAX {
        std::thread::sleep(PLAN_PAUSE);
    }
}

fn load_block(broker: &Broker, load: &Load, courier: &mut Courier, now: Now) {
    let Some(queue) = broker.queue(load.queue) else {
        return;
    };
    let Some(block) = read(broker, &queue, load) else {
        return;
    };
    if block.failed {
        // The disk may be better later; the queue asks again at once.
        std::thread::sleep(FAILURE_PAUSE);
    }
    let read = block.messages.len() as u64;
    if let Some(vhost) = broker.vhost(queue.vhost()) {
        vhost.stats.totals.disk_reads.add(read);
    }
    broker.stats.totals.disk_reads.add(read);
    // A queue deleted meanwhile wants nothing.
    let _ = queue.handle_loaded(load, block, now, &mut courier.effects);
}

/// Reads a block, planned anew as long as files move under it. `None` if the queue is gone.
fn read(broker: &Broker, queue: &QueueHandle, load: &Load) -> Option<ReadBlock> {
    for _ in 0..PLANS_MAX {
        let plan = queue.plan(load).ok()?;
        let block = broker.messages.read(load.queue, &plan);
        let is_final = !block.retry || !block.messages.is_empty() || !block.damaged.is_empty();
        if is_final {
            return Some(block);
        }
        std::thread::sleep(PLAN_PAUSE);
    }
    Some(ReadBlock {
        failed: true,
        ..ReadBlock::default()
    })
}

fn load_letter(broker: &Broker, mut letter: DeadLetter, courier: &mut Courier, now: Now) {
    let Some(queue) = broker.queue(letter.queue) else {
        return;
    };
    let Some(position) = letter.source.or(letter.retained) else {
        return;
    };
    letter.message = read_one(broker, &queue, position);
    if letter.message.is_some() {
        courier.publish_dead_letter(broker, letter, now);
    } else {
        // What is damaged was set aside and reported by the store.
        courier.drop_letter(broker, &letter, now);
    }
}

fn read_one(broker: &Broker, queue: &QueueHandle, position: Position) -> Option<SharedMessage> {
    let load = Load {
        queue: queue.id(),
        first: position,
        last: position,
        bytes_max: 1,
    };
    let block = read(broker, queue, &load)?;
    let found = block.messages.into_iter().next()?;
    Some(found.message)
}
