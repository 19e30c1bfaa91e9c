//! The connections of a run at work: threads with a runtime each, the phases they go through, and what they tell.
//!
//! In: jobs. Out: events and counters. A thread runs its share of the connections alone, so that they share no lock and
//! wake no other thread. What a job does and when the phases change is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::churner::{ChurnDone, Churner};
use super::consumer::{Consumer, ConsumerDone};
use super::error::ClientError;
use super::pacer::Clock;
use super::process::raise_open_files_limit;
use super::publisher::{Publisher, PublisherDone};
use crate::cli::{Exit, Failure};

/// Connections that log in at the same time: fewer than a listener's usual queue of 128.
const CONNECTING_MAX: usize = 64;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connections log in and consumers subscribe.
    Prepare,
    /// Load.
    Run {
        /// When it began, by the run's clock.
        start_ns: u64,
        /// From when on durations count: behind the warm-up.
        measured_from_ns: u64,
    },
    /// Publishers end, consumers go on.
    Drain,
    /// All end.
    Finish,
}

/// What a job counts while it works; read by others at any time.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages written to the socket, or operations of a churn.
    pub sent: AtomicU64,
    /// Messages that were acked.
    pub confirmed: AtomicU64,
    /// Messages that were nacked.
    pub refused: AtomicU64,
    /// Mandatory messages that came back.
    pub returned: AtomicU64,
    /// Messages delivered.
    pub received: AtomicU64,
}

/// Sums of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// See [`Counters`].
    pub sent: u64,
    /// See [`Counters`].
    pub confirmed: u64,
    /// See [`Counters`].
    pub refused: u64,
    /// See [`Counters`].
    pub returned: u64,
    /// See [`Counters`].
    pub received: u64,
}

impl Totals {
    fn add(&mut self, counters: &Counters) {
        self.sent += counters.sent.load(Ordering::Relaxed);
        self.confirmed += counters.confirmed.load(Ordering::Relaxed);
        self.refused += counters.refused.load(Ordering::Relaxed);
        self.returned += counters.returned.load(Ordering::Relaxed);
        self.received += counters.received.load(Ordering::Relaxed);
    }

    /// What was added since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            confirmed: self.confirmed - earlier.confirmed,
            refused: self.refused - earlier.refused,
            returned: self.returned - earlier.returned,
            received: self.received - earlier.received,
        }
    }
}

/// Adds to a counter that has no other writer.
#[inline]
pub fn count(counter: &AtomicU64, things: u64) {
    counter.store(counter.load(Ordering::Relaxed) + things, Ordering::Relaxed);
}

/// What a job may know of the run.
#[derive(Clone, Debug)]
pub struct Context {
    /// The run's clock.
    pub clock: Clock,
    /// Where the run is.
    pub phase: watch::Receiver<Phase>,
    /// What the job counts.
    pub counters: Arc<Counters>,
    /// What all jobs count.
    all: Arc<[Arc<Counters>]>,
    connecting: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
}

impl Context {
    /// Whether the phase is that one or a later one.
    pub fn is_ending(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Drain | Phase::Finish)
    }

    /// Whether all is to end.
    pub fn is_finishing(&self) -> bool {
        *self.phase.borrow() == Phase::Finish
    }

    /// Runs the opening of a connection when it is its turn.
    pub async fn in_turn<T>(&self, opening: impl Future<Output = T>) -> T {
        // The semaphore is never closed, so there is always a turn.
        let _turn = self.connecting.acquire().await;
        opening.await
    }

    /// Says that the job could begin, and waits until it may: start and measured-from, or `None` if it ends before.
    pub async fn ready(&mut self) -> Option<(u64, u64)> {
        let _ = self.events.send(Event::Ready);
        let phase = self.phase.wait_for(|phase| *phase != Phase::Prepare).await;
        match phase.as_deref() {
            Ok(Phase::Run {
                start_ns,
                measured_from_ns,
            }) => Some((*start_ns, *measured_from_ns)),
            _ => None,
        }
    }

    /// Messages that all publishers have sent and no consumer has received yet, if each is to come so many times.
    pub fn ahead(&self, copies: u64) -> u64 {
        let mut totals = Totals::default();
        self.all.iter().for_each(|counters| totals.add(counters));
        totals.sent.saturating_sub(totals.received / copies.max(1))
    }

    /// Waits until the phase changes.
    pub async fn phase_changed(&mut self) {
        // A run that is gone has nothing more to tell; the job ends with its thread.
        if self.phase.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a job tells the run.
#[derive(Debug)]
pub enum Event {
    /// It could begin.
    Ready,
    /// A publisher has ended.
    Publisher(Box<PublisherDone>),
    /// A consumer has ended.
    Consumer(Box<ConsumerDone>),
    /// A client of a churn has ended.
    Churner(Box<ChurnDone>),
    /// A job cannot go on.
    Failed(ClientError),
}

/// The work of one connection.
#[derive(Debug)]
pub enum Job {
    /// Publishes.
    Publisher(Box<Publisher>),
    /// Consumes.
    Consumer(Box<Consumer>),
    /// Opens and closes things.
    Churner(Box<Churner>),
}

impl Job {
    async fn run(self, context: Context) -> Event {
        let done = match self {
            Self::Publisher(job) => Box::pin(job.run(context)).await.map(Event::Publisher),
            Self::Consumer(job) => Box::pin(job.run(context)).await.map(Event::Consumer),
            Self::Churner(job) => Box::pin(job.run(context)).await.map(Event::Churner),
        };
        done.unwrap_or_else(Event::Failed)
    }
}

/// Jobs at work.
#[derive(Debug)]
pub struct Crew {
    /// The run's clock.
    pub clock: Clock,
    phase: watch::Sender<Phase>,
    events: mpsc::UnboundedReceiver<Event>,
    counters: Arc<[Arc<Counters>]>,
}

impl Crew {
    /// Starts the jobs on so many threads, which end with them.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(jobs: Vec<Job>, threads: usize) -> Result<Self, Failure> {
        raise_open_files_limit();
        let clock = Clock::start();
        let (phase, phase_receiver) = watch::channel(Phase::Prepare);
        let (events_sender, events) = mpsc::unbounded_channel();
        let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
        let counters: Arc<[_]> = jobs.iter().map(|_| Arc::new(Counters::default())).collect();
        let threads = threads.clamp(1, jobs.len().max(1));
        let mut shares: Vec<Vec<(Job, Context)>> = (0..threads).map(|_| Vec::new()).collect();
        for (index, (job, one)) in jobs.into_iter().zip(counters.iter()).enumerate() {
            let context = Context {
                clock,
                phase: phase_receiver.clone(),
                counters: one.clone(),
                all: counters.clone(),
                connecting: connecting.clone(),
                events: events_sender.clone(),
            };
            shares[index % threads].push((job, context));
        }
        for share in shares {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(no_thread)?;
            thread::Builder::new()
                .name("perf".to_owned())
                .spawn(move || runtime.block_on(work(share)))
                .map_err(no_thread)?;
        }
        Ok(Self {
            clock,
            phase,
            events,
            counters,
        })
    }

    /// The next event; `None` when all jobs have ended.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Waits until all jobs can begin.
    ///
    /// # Errors
    /// One of them cannot.
    pub async fn all_ready(&mut self) -> Result<(), Failure> {
        let mut waiting = self.counters.len();
        while waiting > 0 {
            match self.event().await {
                Some(Event::Ready) => waiting -= 1,
                Some(Event::Failed(error)) => return Err(error.into()),
                _ => return Err(ended_early()),
            }
        }
        Ok(())
    }

    /// Goes to the next phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// What all have counted until now.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters
            .iter()
            .for_each(|counters| totals.add(counters));
        totals
    }
}

/// The failure of a run whose connections ended before they were told to.
pub fn ended_early() -> Failure {
    Failure::new(Exit::Software, "a connection ended before the run did")
}

async fn work(share: Vec<(Job, Context)>) {
    let mut tasks = JoinSet::new();
    for (job, context) in share {
        let events = context.events.clone();
        tasks.spawn(async move {
            let event = job.run(context).await;
            // Nobody listens any more when the run has failed elsewhere.
            let _ = events.send(event);
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn no_thread(error: std::io::Error) -> Failure {
    Failure::new(
        Exit::Software,
        format!("the system has no thread to give: {error}"),
    )
}
