//! Brings messages back from the disk: blocks that queues asked for, and dead letters that lie in the log alone.
//!
//! In: jobs, from whoever carried out a queue's effects. Out: the messages in their queues, and what that caused, carried
//! out. A few threads read, so that no task of the runtime waits for the disk; the blocks of one queue stay in order, because
//! they all go to the same thread. What a queue does with its messages is not known here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::courier::Courier;
use super::{Broker, letters};
use crate::model::{Now, QueueId};
use crate::queue::{Load, QueueHandle};
use crate::store::messages::ReadBlock;

/// Threads that read blocks.
const BLOCK_THREADS: usize = 2;

/// How often a read is planned anew because a file was moved under it, before it counts as failed.
const PLANS_MAX: usize = 100;

/// How long a plan waits whose record is still on its way to the file.
const PLAN_PAUSE: Duration = Duration::from_millis(1);

/// How long a read is put off that the disk refused.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// Work that waited longer than this is done at the time at which its turn comes, not at that at which it was asked for.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Something to read.
#[derive(Debug)]
enum Job {
    Block(Load),
    /// The dead letters of a queue, the next ones first. At most one such job a queue is on its way.
    Letters(QueueId),
}

/// When something was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The time of the burst that asked.
    now: Now,
    at: Instant,
}

impl Asked {
    fn at(now: Now) -> Self {
        let at = Instant::now();
        Self { now, at }
    }

    /// The time for what is done about it. One who waited long does not act in the past: a time to live would have run out.
    fn now(self) -> Now {
        let waited = self.at.elapsed();
        if waited < STALE_AFTER {
            self.now
        } else {
            self.now.after(waited)
        }
    }
}

impl Job {
    fn queue(&self) -> QueueId {
        match self {
            Self::Block(load) => load.queue,
            Self::Letters(queue) => *queue,
        }
    }
}

/// The way to the threads that read.
#[derive(Debug, Default)]
pub(super) struct Loader {
    /// Those that read blocks, then the one that hands on letters: it waits for the journal, and nobody who reads may wait for that.
    threads: OnceLock<Vec<Sender<(Job, Asked)>>>,
    /// Jobs handed in and not done.
    pending: Arc<AtomicUsize>,
}

impl Loader {
    /// Starts the threads; they end when the broker is dropped.
    ///
    /// # Errors
    /// The system's, when it has no thread left.
    pub(super) fn start(broker: &Arc<Broker>) -> std::io::Result<()> {
        let mut threads = Vec::with_capacity(BLOCK_THREADS + 1);
        for number in 0..=BLOCK_THREADS {
            let (sender, jobs) = mpsc::channel();
            let broker = Arc::downgrade(broker);
            let name = if number < BLOCK_THREADS {
                "loader"
            } else {
                "letters"
            };
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&broker, &jobs))?;
            threads.push(sender);
        }
        // A broker is started once.
        let _ = broker.loader.threads.set(threads);
        Ok(())
    }

    /// Has a block read for a queue.
    pub(super) fn load(&self, load: Load, now: Now) {
        self.send(Job::Block(load), Asked::at(now));
    }

    /// Has the dead letters of a queue handed on, for whom the caller was told to.
    pub(super) fn forward_letters(&self, queue: QueueId, now: Now) {
        self.send(Job::Letters(queue), Asked::at(now));
    }

    /// Jobs that are not done.
    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    fn send(&self, job: Job, asked: Asked) {
        let Some(threads) = self.threads.get() else {
            return;
        };
        let thread = match &job {
            Job::Block(load) => &threads[load.queue.0 as usize % BLOCK_THREADS],
            Job::Letters(_) => &threads[BLOCK_THREADS],
        };
        self.pending.fetch_add(1, Ordering::AcqRel);
        if thread.send((job, asked)).is_err() {
            self.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn run(broker: &Weak<Broker>, jobs: &Receiver<(Job, Asked)>) {
    let mut courier = Courier::default();
    while let Ok((job, asked)) = jobs.recv() {
        let is_letters = matches!(job, Job::Letters(_));
        let broker = loop {
            let Some(broker) = broker.upgrade() else {
                return;
            };
            // Letters are written again: none is handed on while the journal has too much to write. It waits for nobody.
            if !(is_letters && letters::is_congested(&broker)) {
                break broker;
            }
            drop(broker);
            std::thread::sleep(PLAN_PAUSE);
        };
        let now = asked.now();
        let turn = AssertUnwindSafe(|| {
            match &job {
                Job::Block(load) => load_block(&broker, load, &mut courier, now),
                Job::Letters(queue) => load_letters(&broker, *queue, &mut courier, asked),
            }
            courier.carry_out(&broker, now);
        });
        // A defect stops the reading of one queue, not of the node's.
        if catch_unwind(turn).is_err() {
            tracing::error!(
                target: "haremq::queue",
                queue = %job.queue(),
                "a defect of the broker: messages could not be read back"
            );
            courier = Courier::default();
            match job {
                Job::Block(load) => {
                    let failed = ReadBlock {
                        failed: true,
                        ..ReadBlock::default()
                    };
                    if let Some(queue) = broker.queue(load.queue) {
                        // The queue asks again later; one deleted meanwhile wants nothing.
                        let _ = queue.handle_loaded(&load, failed, now, &mut courier.effects);
                    }
                }
                Job::Letters(queue) => {
                    std::thread::sleep(FAILURE_PAUSE);
                    broker.loader.send(Job::Letters(queue), asked);
                }
            }
        }
        broker.loader.pending.fetch_sub(1, Ordering::AcqRel);
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
    count_reads(broker, &queue, &block);
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

/// Reads the next letters of a queue, if they are only in the log, and hands them on; comes back for more.
fn load_letters(broker: &Broker, id: QueueId, courier: &mut Courier, asked: Asked) {
    let now = asked.now();
    let Some(queue) = broker.queue_or_departing(id) else {
        return;
    };
    if let Some(load) = queue.letters_to_load() {
        let Some(block) = read(broker, &queue, &load) else {
            return;
        };
        if block.failed {
            // The disk may be better later.
            std::thread::sleep(FAILURE_PAUSE);
        }
        count_reads(broker, &queue, &block);
        // Nothing waits for a queue that is gone with its letters.
        let _ = queue.handle_letters_loaded(&load, block, now, &mut courier.effects);
    }
    if courier.forward_letters(broker, &queue, now) {
        broker.loader.send(Job::Letters(id), asked);
    }
}

fn count_reads(broker: &Broker, queue: &QueueHandle, block: &ReadBlock) {
    let read = block.messages.len() as u64;
    if let Some(vhost) = broker.vhost(queue.vhost()) {
        vhost.stats.totals.disk_reads.add(read);
    }
    broker.stats.totals.disk_reads.add(read);
}
