//! A run from its first connection to its last: the phases, when each ends, and the figures.
//!
//! In: traffic or churn, and how long. Out: a report. How messages flow is not known here; what each figure means stands
//! in docs/perf.md.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::churner::{Churner, Thing};
use super::consumer::ConsumerDone;
use super::crew::{Crew, Event, Job, Phase, Totals, ended_early};
use super::figures::{Amount, Figures, histogram};
use super::meter::{Meter, Progress, Reading};
use super::publisher::{PublisherDone, Stamping};
use super::traffic::{Jobs, Traffic};
use super::uri::Uri;
use super::verify::Verdict;
use crate::cli::{Exit, Failure};

/// How often a run looks whether it is over, when that depends on messages.
const LOOK_MS: u64 = 2;

/// How often it looks when it depends on time alone, so that looking costs next to nothing.
const LOOK_SELDOM_MS: u64 = 20;

/// How long connections may take to end in order.
const END_SECONDS_MAX: u64 = 60;

/// How long a run goes on, and who watches.
#[derive(Clone, Debug)]
pub struct Course {
    /// The measured time, if limited.
    pub time: Option<Duration>,
    /// Load before measuring begins.
    pub warmup: Duration,
    /// A queue from which nothing has come for so long has nothing more to give.
    pub drain: Duration,
    /// Threads of this program; 0 is half of the machine's cores.
    pub threads: usize,
    /// The process id of the broker.
    pub pid: Option<u32>,
    /// Where progress goes.
    pub progress: Progress,
}

impl Course {
    fn threads(&self) -> usize {
        if self.threads > 0 {
            return self.threads;
        }
        // The broker needs the other half.
        std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
    }
}

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// `throughput`, `latency` or `churn`.
    pub mode: &'static str,
    /// Host and port of the broker.
    pub broker: String,
    /// Figures.
    pub figures: Figures,
    /// The verdict, if there was one to give.
    pub verdict: Option<Verdict>,
}

impl Report {
    /// The report for programs.
    pub fn json(&self) -> Value {
        let mut object = self.figures.json();
        object.insert("mode".to_owned(), json!(self.mode));
        object.insert("broker".to_owned(), json!(self.broker));
        if let Some(verdict) = &self.verdict {
            object.insert("verify".to_owned(), verdict.json());
        }
        Value::Object(object)
    }

    /// The report for people.
    pub fn table(&self) -> String {
        let mut table = self.figures.table();
        if let Some(verdict) = &self.verdict {
            let good = if verdict.is_good() { "good" } else { "BAD" };
            table += &format!("{:<26}{good:>12}: {}\n", "verification", verdict.words());
        }
        table
    }

    /// Fails if the verdict is bad.
    ///
    /// # Errors
    /// [`Exit::Data`] with the first examples.
    pub fn judge(&self) -> Result<(), Failure> {
        match &self.verdict {
            Some(verdict) if !verdict.is_good() => {
                let mut message = format!("verification failed: {}", verdict.words());
                if let Some(example) = verdict.examples.first() {
                    message += &format!(" ({example})");
                }
                Err(Failure::new(Exit::Data, message))
            }
            _ => Ok(()),
        }
    }
}

/// Runs traffic, in mode `throughput`, or `latency` when messages carry times.
///
/// # Errors
/// The broker refuses something or goes away, or its process does.
pub async fn traffic(traffic: &Traffic, course: &Course) -> Result<Report, Failure> {
    let meter = Meter::new(course.pid, course.progress)?;
    traffic.declare().await?;
    let outcome = measure_traffic(traffic, course, meter).await;
    match outcome {
        Ok(report) => {
            traffic.delete().await?;
            Ok(report)
        }
        Err(failure) => {
            // The first failure is the one to tell.
            let _ = traffic.delete().await;
            Err(failure)
        }
    }
}

async fn measure_traffic(
    traffic: &Traffic,
    course: &Course,
    meter: Meter,
) -> Result<Report, Failure> {
    let run = getrandom::u32()
        .map_err(|error| Failure::new(Exit::Software, format!("no random number: {error}")))?;
    let mut jobs = traffic.jobs(run);
    let crew = Crew::start(std::mem::take(&mut jobs.jobs), course.threads())?;
    let mut flow = Flow {
        traffic,
        course,
        crew,
        meter,
        publishers: Vec::new(),
        consumers: Vec::new(),
    };
    flow.crew.all_ready().await?;
    let (from, to) = flow.load().await?;
    flow.end().await?;
    Ok(flow.report(&jobs, &from, &to))
}

/// Traffic that flows.
struct Flow<'a> {
    traffic: &'a Traffic,
    course: &'a Course,
    crew: Crew,
    meter: Meter,
    publishers: Vec<PublisherDone>,
    consumers: Vec<ConsumerDone>,
}

impl Flow<'_> {
    /// Runs the load and gives the readings at both ends of what is measured.
    async fn load(&mut self) -> Result<(Reading, Reading), Failure> {
        let start_ns = self.crew.clock.now_ns();
        let began = Instant::now();
        let mut from = self.meter.begin(&self.crew)?;
        self.crew.enter(Phase::Run {
            start_ns,
            measured_from_ns: start_ns + self.course.warmup.as_nanos() as u64,
        });
        let mut is_warm = self.course.warmup.is_zero();
        let look_ms = match self.traffic.messages {
            Some(_) => LOOK_MS,
            None => LOOK_SELDOM_MS,
        };
        let mut look = ticker(Duration::from_millis(look_ms));
        let mut second = ticker(Duration::from_secs(1));
        second.reset();
        let mut received = Received::new(&self.crew);
        loop {
            tokio::select! {
                event = self.crew.event() => self.note(event)?,
                _ = second.tick() => self.tick()?,
                _ = look.tick() => {}
                _ = tokio::signal::ctrl_c() => break,
            }
            let passed = began.elapsed();
            if !is_warm && passed >= self.course.warmup {
                is_warm = true;
                from = self.meter.read(&self.crew)?;
            }
            let end = self.course.time.map(|time| time + self.course.warmup);
            if end.is_some_and(|end| passed >= end) || self.is_done(&mut received) {
                break;
            }
        }
        let to = self.meter.read(&self.crew)?;
        Ok((from, to))
    }

    /// Whether all messages have gone their way, when their number is limited.
    fn is_done(&self, received: &mut Received) -> bool {
        if self.publishers.len() < self.traffic.publishers {
            return false;
        }
        if self.traffic.consumers == 0 {
            return self.traffic.publishers > 0;
        }
        let expected = match self.traffic.publishers {
            0 => self.traffic.messages.unwrap_or(u64::MAX),
            _ => self.expected(),
        };
        received.is_over(&self.crew, expected, self.course.drain)
    }

    /// Deliveries that are to come in all.
    fn expected(&self) -> u64 {
        let totals = self.crew.totals();
        (totals.sent - totals.refused) * self.traffic.copies()
    }

    fn note(&mut self, event: Option<Event>) -> Result<(), Failure> {
        match event {
            Some(Event::Publisher(done)) => self.publishers.push(*done),
            Some(Event::Consumer(done)) => self.consumers.push(*done),
            Some(Event::Failed(error)) => return Err(error.into()),
            Some(Event::Ready | Event::Churner(_)) => {}
            None => return Err(ended_early()),
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let (publishers, window) = (self.traffic.publishers, self.traffic.window);
        let consumers = self.traffic.consumers;
        self.meter.tick(&self.crew, |totals, seconds| {
            let rate = |things: u64| things as f64 / seconds;
            let mut words = Vec::new();
            if publishers > 0 {
                words.push(format!("published {:>8.0}/s", rate(totals.sent)));
            }
            if publishers > 0 && window > 0 {
                words.push(format!("confirmed {:>8.0}/s", rate(totals.confirmed)));
            }
            if consumers > 0 {
                words.push(format!("consumed {:>8.0}/s", rate(totals.received)));
            }
            words.join("  ")
        })
    }

    /// Lets publishers end and, where all deliveries matter, consumers take the rest; then ends all.
    async fn end(&mut self) -> Result<(), Failure> {
        self.crew.enter(Phase::Drain);
        while self.publishers.len() < self.traffic.publishers {
            self.next_end().await?;
        }
        if self.traffic.stamping != Stamping::None && self.traffic.publishers > 0 {
            let expected = self.expected();
            let mut received = Received::new(&self.crew);
            let mut look = ticker(Duration::from_millis(LOOK_MS));
            while self.traffic.consumers > 0
                && !received.is_over(&self.crew, expected, self.course.drain)
            {
                tokio::select! {
                    event = self.crew.event() => self.note(event)?,
                    _ = look.tick() => {}
                }
            }
        }
        self.crew.enter(Phase::Finish);
        while self.consumers.len() < self.traffic.consumers {
            self.next_end().await?;
        }
        Ok(())
    }

    async fn next_end(&mut self) -> Result<(), Failure> {
        let event = timeout(Duration::from_secs(END_SECONDS_MAX), self.crew.event()).await;
        self.note(event.map_err(|_| stuck())?)
    }

    fn report(self, jobs: &Jobs, from: &Reading, to: &Reading) -> Report {
        let (totals, seconds) = to.since(from);
        let mut figures = Figures::default();
        figures.note("elapsed_seconds", "measured", Amount::Real(seconds, 2), "s");
        figures.note(
            "published",
            "published",
            Amount::Count(totals.sent),
            "messages",
        );
        rate(
            &mut figures,
            "avg_pub_rate",
            totals.sent,
            seconds,
            self.traffic.publishers,
        );
        if self.traffic.window > 0 {
            let confirmed = Amount::Count(totals.confirmed);
            figures.note("confirmed", "confirmed", confirmed, "messages");
            let confirmed = totals.confirmed;
            rate(
                &mut figures,
                "avg_confirm_rate",
                confirmed,
                seconds,
                self.traffic.publishers,
            );
            figures.note(
                "nacked",
                "refused by nack",
                Amount::Count(totals.refused),
                "messages",
            );
        }
        if self.traffic.mandatory {
            figures.note(
                "returned",
                "returned",
                Amount::Count(totals.returned),
                "messages",
            );
        }
        figures.note(
            "consumed",
            "consumed",
            Amount::Count(totals.received),
            "messages",
        );
        rate(
            &mut figures,
            "avg_consume_rate",
            totals.received,
            seconds,
            self.traffic.consumers,
        );
        let used = self.meter.used(from, to);
        figures.usage(&used, totals.sent.max(totals.received), "message", seconds);
        let mut mode = "throughput";
        if self.traffic.stamping == Stamping::Time {
            mode = "latency";
            let consumers = self.consumers.iter().map(|done| &done.latency_ns);
            figures.histogram("latency", "latency", &sum(consumers));
            let confirms = self.publishers.iter().map(|done| &done.confirm_ns);
            figures.histogram("confirm_latency", "confirm", &sum(confirms));
            let lags = self.publishers.iter().map(|done| &done.lag_ns);
            let lag = sum(lags);
            for (name, quantile) in [("median", 0.5), ("p99", 0.99), ("max", 1.0)] {
                let ms = lag.value_at_quantile(quantile) as f64 / 1e6;
                let key = format!("send_lag_{name}_ms");
                let label = format!("client sends late {name}");
                figures.note(&key, &label, Amount::Real(ms, 4), "ms");
            }
        }
        let verdict = self
            .traffic
            .verifies
            .then(|| self.traffic.verdict(jobs, &self.publishers, self.consumers));
        Report {
            mode,
            broker: self.traffic.uri.to_string(),
            figures,
            verdict,
        }
    }
}

/// Adds a rate; one by which brokers are compared, where somebody does it.
fn rate(figures: &mut Figures, key: &str, things: u64, seconds: f64, doers: usize) {
    let amount = Amount::Real(things as f64 / seconds, 0);
    if doers > 0 {
        figures.measure(key, "", amount, "a second");
    } else {
        figures.note(key, "", amount, "a second");
    }
}

fn sum<'a>(parts: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut sum = histogram();
    for part in parts {
        // A histogram that grows takes another of the same precision.
        sum += part;
    }
    sum
}

/// Whether deliveries still come.
struct Received {
    count: u64,
    since: Instant,
}

impl Received {
    fn new(crew: &Crew) -> Self {
        Self {
            count: crew.totals().received,
            since: Instant::now(),
        }
    }

    /// Whether all that is expected has come, or nothing has for a while.
    fn is_over(&mut self, crew: &Crew, expected: u64, patience: Duration) -> bool {
        let count = crew.totals().received;
        if count != self.count {
            self.count = count;
            self.since = Instant::now();
        }
        count >= expected || self.since.elapsed() >= patience
    }
}

fn stuck() -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("connections did not end within {END_SECONDS_MAX} s: does the broker read?"),
    )
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticker
}

/// What comes and goes, and how often.
#[derive(Clone, Debug)]
pub struct Churn {
    /// The broker.
    pub uri: Uri,
    /// What comes and goes.
    pub thing: Thing,
    /// Clients that do it at the same time.
    pub clients: usize,
    /// How many times all of them together, if limited.
    pub times: Option<u64>,
    /// What the queues' names begin with.
    pub queue: String,
    /// Whether queues are durable.
    pub durable: bool,
}

/// Runs a churn.
///
/// # Errors
/// The broker refuses something or goes away, or its process does.
pub async fn churn(churn: &Churn, course: &Course) -> Result<Report, Failure> {
    let mut meter = Meter::new(course.pid, course.progress)?;
    let jobs = (0..churn.clients).map(|client| {
        let times = churn.times.map(|times| {
            let clients = churn.clients as u64;
            times / clients + u64::from((client as u64) < times % clients)
        });
        Job::Churner(Box::new(Churner {
            uri: churn.uri.clone(),
            thing: churn.thing,
            queue: format!("{}-{client}", churn.queue),
            durable: churn.durable,
            times,
        }))
    });
    let mut crew = Crew::start(jobs.collect(), course.threads())?;
    crew.all_ready().await?;
    let start_ns = crew.clock.now_ns();
    let mut from = meter.begin(&crew)?;
    crew.enter(Phase::Run {
        start_ns,
        measured_from_ns: start_ns + course.warmup.as_nanos() as u64,
    });
    let warm = tokio::time::sleep(course.warmup);
    let end = tokio::time::sleep(course.time.unwrap_or(Duration::MAX / 4) + course.warmup);
    tokio::pin!(warm, end);
    let mut is_warm = course.warmup.is_zero();
    let mut second = ticker(Duration::from_secs(1));
    second.reset();
    let mut took_ns = histogram();
    let mut ended = 0;
    let singular = churn.thing.singular();
    let words = |totals: &Totals, seconds: f64| {
        format!("{singular}s {:>8.0}/s", totals.sent as f64 / seconds)
    };
    while ended < churn.clients {
        tokio::select! {
            event = crew.event() => match event {
                Some(Event::Churner(done)) => {
                    took_ns += &done.took_ns;
                    ended += 1;
                }
                Some(Event::Failed(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Err(ended_early()),
            },
            _ = second.tick() => meter.tick(&crew, words)?,
            () = &mut warm, if !is_warm => {
                is_warm = true;
                from = meter.read(&crew)?;
            }
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    let to = meter.read(&crew)?;
    crew.enter(Phase::Drain);
    while ended < churn.clients {
        let event = timeout(Duration::from_secs(END_SECONDS_MAX), crew.event()).await;
        match event.map_err(|_| stuck())? {
            Some(Event::Churner(done)) => {
                took_ns += &done.took_ns;
                ended += 1;
            }
            Some(Event::Failed(error)) => return Err(error.into()),
            Some(_) => {}
            None => return Err(ended_early()),
        }
    }
    let (totals, seconds) = to.since(&from);
    let mut figures = Figures::default();
    figures.note("elapsed_seconds", "measured", Amount::Real(seconds, 2), "s");
    let label = format!("{singular}s");
    figures.note(
        "operations",
        &label,
        Amount::Count(totals.sent),
        "opened and closed",
    );
    rate(
        &mut figures,
        "avg_rate",
        totals.sent,
        seconds,
        churn.clients,
    );
    figures.usage(&meter.used(&from, &to), totals.sent, singular, seconds);
    figures.histogram("operation", "open and close", &took_ns);
    Ok(Report {
        mode: "churn",
        broker: churn.uri.to_string(),
        figures,
        verdict: None,
    })
}
