//! A plain model of exchanges and queues beside the real broker: the same random operations for both, and after each of
//! them the same replies, returns, confirms, deliveries, flags and counts; at the end the same messages in the same order.
//!
//! `HAREMQ_MODEL_SEED` (random) and `HAREMQ_MODEL_SECONDS` (5) say from where and for how long. Seeds are printed at the
//! start; a failure prints the seed of its run and the fewest operations found that still fail.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[allow(dead_code)]
#[path = "../conformance/support/mod.rs"]
mod support;

mod driver;
mod endings;
mod generator;
mod operations;
mod plain;
mod random;
mod rotation;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use driver::{Driver, Seen};
use generator::{CLIENTS, Generator};
use operations::{Act, Operation};
use plain::{AllTold, Plain, Told};
use random::Random;

/// Operations of a run, before its end.
const OPERATIONS: usize = 600;

/// Time to look for a shorter failing run.
const SHRINK_TIME: Duration = Duration::from_secs(60);

/// A broker and a model that did the same so far.
struct Pair {
    driver: Driver,
    plain: Plain,
    /// Deliveries that were the same.
    deliveries: usize,
}

impl Pair {
    fn new() -> Self {
        let driver = Driver::new(CLIENTS + 1);
        let plain = Plain::new(CLIENTS + 1, driver.now_ms());
        Self {
            driver,
            plain,
            deliveries: 0,
        }
    }

    /// Does `operation` on both sides.
    ///
    /// # Errors
    /// What is different afterwards.
    fn step(&mut self, operation: &Operation) -> Result<(), String> {
        let Seen {
            told,
            deliveries,
            tags,
            breach,
        } = self.driver.perform(operation);
        self.plain.world.observed = deliveries;
        self.plain.apply(operation);
        self.deliveries += tags.len();
        for (client, channel, tag) in tags {
            self.plain.delivered(client, channel, tag);
        }
        if let Some(breach) = breach {
            return Err(breach);
        }
        if let Some(mismatch) = self.plain.world.mismatch.take() {
            return Err(mismatch);
        }
        let expected = std::mem::take(&mut self.plain.told);
        compare(&expected, &told)?;
        for (consumer, deliveries) in &self.plain.world.observed {
            if let Some((tag, text)) = deliveries.front() {
                return Err(format!("{consumer:?} must not get {text} (tag {tag})"));
            }
        }
        Ok(())
    }

    /// Ends all clients, then drains every queue with a fresh one.
    fn finish(&mut self) -> Result<(), String> {
        for client in 0..CLIENTS {
            let channels: Vec<u16> = self.plain.clients[client]
                .channels
                .keys()
                .copied()
                .collect();
            for channel in channels {
                self.step(&act(client, channel, Act::CloseChannel))?;
            }
            self.step(&Operation::Disconnect { client })?;
        }
        let client = CLIENTS;
        self.step(&Operation::Connect { client })?;
        let names: Vec<String> = self
            .plain
            .queues
            .iter()
            .map(|queue| queue.name.clone())
            .collect();
        for name in names {
            self.step(&act(client, 1, Act::FindQueue { name: name.clone() }))?;
            let drain = Act::Consume {
                queue: name.clone(),
                tag: format!("drain {name}"),
                no_ack: true,
                exclusive: false,
                priority: 0,
            };
            self.step(&act(client, 1, drain))?;
            if self
                .plain
                .queue(&name)
                .is_some_and(|queue| !queue.ready.is_empty())
            {
                return Err(format!("the model keeps messages in {name}"));
            }
            self.step(&act(client, 1, Act::FindQueue { name }))?;
        }
        self.step(&Operation::Disconnect { client })
    }
}

fn act(client: usize, channel: u16, act: Act) -> Operation {
    Operation::Do {
        client,
        channel,
        act,
    }
}

fn compare(expected: &AllTold, told: &AllTold) -> Result<(), String> {
    let nothing = Told::default();
    let everybody: std::collections::BTreeSet<_> = expected.keys().chain(told.keys()).collect();
    for key in everybody {
        let (model, broker) = (
            expected.get(key).unwrap_or(&nothing),
            told.get(key).unwrap_or(&nothing),
        );
        let same_replies = model.replies.len() == broker.replies.len()
            && model
                .replies
                .iter()
                .zip(&broker.replies)
                .all(|(model, broker)| match model.strip_suffix('*') {
                    Some(start) => broker.starts_with(start),
                    None => model == broker,
                });
        if !same_replies
            || model.cancelled != broker.cancelled
            || model.confirmed != broker.confirmed
        {
            return Err(format!(
                "client {} channel {} was told\n  {broker:?}\ninstead of\n  {model:?}",
                key.0, key.1
            ));
        }
    }
    Ok(())
}

/// Runs what a seed gives; gives the number of deliveries. On failure: what is different, and the operations up to then.
fn run(seed: u64) -> Result<usize, (String, Vec<Operation>)> {
    let mut pair = Pair::new();
    let mut generator = Generator::new(Random::new(seed));
    let mut done = Vec::new();
    for _ in 0..OPERATIONS {
        let operation = generator.next(&pair.plain);
        done.push(operation.clone());
        if let Err(difference) = pair.step(&operation) {
            return Err((difference, done));
        }
    }
    match pair.finish() {
        Ok(()) => Ok(pair.deliveries),
        Err(difference) => Err((difference, done)),
    }
}

/// Runs a list of operations; a run ends where it would leave the choice to the broker.
fn replay(operations: &[Operation]) -> Result<(), String> {
    let mut pair = Pair::new();
    for operation in operations {
        if pair.plain.leaves_choice(operation) {
            return Ok(());
        }
        pair.step(operation)?;
    }
    pair.finish()
}

/// Takes operations away for as long as the rest still fails.
fn shrink(mut operations: Vec<Operation>, mut difference: String) -> (Vec<Operation>, String) {
    let until = Instant::now() + SHRINK_TIME;
    let mut piece = operations.len().div_ceil(2);
    while piece > 0 && Instant::now() < until {
        let mut at = 0;
        let mut found = false;
        while at < operations.len() && Instant::now() < until {
            let mut shorter = operations.clone();
            shorter.drain(at..(at + piece).min(operations.len()));
            match replay(&shorter) {
                Err(other) => {
                    (operations, difference) = (shorter, other);
                    found = true;
                }
                Ok(()) => at += piece,
            }
        }
        piece = if piece == 1 && found { 1 } else { piece / 2 };
    }
    (operations, difference)
}

/// Prints a failing run, cut down.
fn fail(seed: u64, difference: String, operations: Vec<Operation>) -> ! {
    let count = operations.len();
    println!("HAREMQ_MODEL_SEED={seed} fails after {count} operations:\n{difference}");
    let (operations, difference) = shrink(operations, difference);
    for operation in &operations {
        println!("  {}", operation.describe());
    }
    panic!("HAREMQ_MODEL_SEED={seed}: {difference}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn broker_and_model_agree() {
    let asked = number("HAREMQ_MODEL_SEED");
    let seconds = number("HAREMQ_MODEL_SECONDS").unwrap_or(5);
    let first = asked.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        since.as_micros() as u64
    });
    let until = Instant::now() + Duration::from_secs(seconds);
    println!("HAREMQ_MODEL_SEED={first} and the following");
    let mut seed = first;
    let mut deliveries = 0;
    while seed == first || Instant::now() < until {
        match run(seed) {
            Ok(more) => deliveries += more,
            Err((difference, operations)) => fail(seed, difference, operations),
        }
        seed += 1;
    }
    println!("{} runs with {deliveries} deliveries agree", seed - first);
}
