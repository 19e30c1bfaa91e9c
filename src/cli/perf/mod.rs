//! `haremq perf`: load on any AMQP 0-9-1 broker, and what it costs that broker.
//!
//! In: a checked command line. Out: progress, a table or a JSON object, and a [`Failure`] when the broker refuses, goes away
//! or, where that is checked, loses something. It is a client like any other: it knows the protocol and the command line,
//! and nothing of the broker in this program. docs/perf.md explains the method and each figure.
//!
//! In reading order:
//! - [`arguments`]: options, checked; [`uri`] and [`fields`] read the texts among them.
//! - [`mod@run`]: a run from beginning to end; [`compare`]: runs on two brokers.
//! - [`traffic`]: who publishes and consumes what; [`crew`]: the threads; [`meter`] and [`process`]: readings.
//! - [`publisher`], [`consumer`], [`churner`]: the work of one connection.
//! - [`client`]: the protocol; [`batch`]: encoded messages; [`confirms`], [`pacer`], [`stamp`]: what these need.
//! - [`verify`]: what became of each message; [`figures`]: what was measured.

mod arguments;
mod batch;
mod churner;
mod client;
mod compare;
mod confirms;
mod consumer;
mod crew;
mod error;
mod fields;
mod figures;
mod meter;
mod pacer;
mod process;
mod publisher;
mod run;
mod stamp;
#[cfg(test)]
mod tests;
mod traffic;
mod uri;
mod verify;

use std::io::Write;

use tokio::runtime::Builder;

pub use arguments::{Perf, PerfCommand};

use arguments::Load;
use compare::Comparison;
use meter::{Meter, Progress};
use run::{Course, Report};

use super::exit::{Exit, Failure};

/// Runs the load and prints what it shows.
///
/// # Errors
/// [`Exit::Unavailable`] when the broker cannot be reached or goes away, [`Exit::NoPermission`] when it refuses the login,
/// [`Exit::Data`] when it lacks what is named or a verification fails, [`Exit::NoInput`] when there is no such process.
pub fn run(perf: Perf) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Software, format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(carry_out(perf));
    // Connections that hang must not keep the program from ending.
    runtime.shutdown_background();
    outcome
}

async fn carry_out(perf: Perf) -> Result<(), Failure> {
    match perf {
        Perf::One { one, is_json } => {
            let report = put(&one.0, &one.1).await?;
            if is_json {
                print(&format!("{}\n", report.json()))?;
            } else {
                print(&report.table())?;
            }
            report.judge()
        }
        Perf::Two {
            a,
            b,
            rounds,
            progress,
            is_json,
        } => {
            let comparison = Box::pin(compare_both(&a, &b, rounds, progress)).await?;
            if is_json {
                print(&format!("{}\n", comparison.json()))
            } else {
                print(&comparison.table())
            }
        }
    }
}

async fn put(load: &Load, course: &Course) -> Result<Report, Failure> {
    match load {
        Load::Traffic(traffic) => Box::pin(run::traffic(traffic, course)).await,
        Load::Churn(churn) => Box::pin(run::churn(churn, course)).await,
    }
}

/// A and B in turn; every other round B goes first, so that neither always meets the warmer machine.
async fn compare_both(
    a: &(Load, Course),
    b: &(Load, Course),
    rounds: u16,
    progress: Progress,
) -> Result<Comparison, Failure> {
    let told = Meter::new(None, progress)?;
    let mut comparison = Comparison::default();
    for round in 1..=rounds {
        let (report_a, report_b) = if round % 2 == 1 {
            let report_a = judged("A", a).await?;
            (report_a, judged("B", b).await?)
        } else {
            let report_b = judged("B", b).await?;
            (judged("A", a).await?, report_b)
        };
        comparison.rounds.push((report_a, report_b));
        told.print(&format!("round {round} of {rounds}"));
    }
    Ok(comparison)
}

async fn judged(name: &str, (load, course): &(Load, Course)) -> Result<Report, Failure> {
    let outcome = put(load, course).await;
    let outcome = outcome.and_then(|report| report.judge().map(|()| report));
    outcome.map_err(|failure| {
        Failure::new(failure.exit, format!("broker {name}: {}", failure.message))
    })
}

/// Prints to standard output. A reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Io,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
