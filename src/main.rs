//! The haremq program: the command line, carried out.
//!
//! In: arguments and environment. Out: a running broker or the answer to one question, and an exit
//! code. What the words mean stands in `haremq::cli`, what the broker does everywhere else.

use std::io::Write;
use std::process::ExitCode;

use haremq::cli::{self, Exit, Failure, Invocation};
use haremq::config::Loaded;

fn main() -> ExitCode {
    let outcome = cli::parse(std::env::args_os(), std::env::vars_os()).and_then(carry_out);
    match outcome {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => failure.report(),
    }
}

fn carry_out(invocation: Invocation) -> Result<(), Failure> {
    match invocation {
        Invocation::Serve(serve) => {
            let _log = cli::logging::start(&serve.settings)?;
            for warning in &serve.warnings {
                tracing::warn!("{warning}");
            }
            Err(Failure::new(
                Exit::Unavailable,
                "this build reads its settings and has no broker yet",
            ))
        }
        Invocation::CheckConfig(loaded) => check_config(&loaded),
        Invocation::ImportDefinitions { .. } => Err(Failure::new(
            Exit::Unavailable,
            "this build cannot import definitions yet",
        )),
        Invocation::Ping { address, timeout } => cli::ping::run(address, timeout),
        Invocation::Print(text) => print(&text),
    }
}

fn check_config(loaded: &Loaded) -> Result<(), Failure> {
    for warning in &loaded.warnings {
        eprintln!("haremq: {warning}");
    }
    print(&loaded.settings.render())
}

/// Prints to standard output. A reader that has gone away (`haremq --help | head -1`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Io,
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
