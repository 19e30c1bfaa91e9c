//! The haremq program: the command line, carried out.
//!
//! In: arguments and environment. Out: a running broker or the answer to one question, and an exit
//! code. What the words mean stands in `haremq::cli`, what the broker does everywhere else.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use haremq::broker::StartError;
use haremq::cli::logging::LogHandle;
use haremq::cli::{self, Exit, Failure, Invocation, Serve};
use haremq::config::{Loaded, Settings, Sources};
use haremq::server::{self, ServerError};
use haremq::store::definitions::{ImportError, offline_import};
use haremq::store::probe::check_store;

/// Gives memory back to the system when connections and messages have gone; the system's allocator keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = cli::parse(std::env::args_os(), std::env::vars_os()).and_then(carry_out);
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

fn carry_out(invocation: Invocation) -> Result<Exit, Failure> {
    let done = match invocation {
        Invocation::Doctor(examination) => return cli::doctor::run(&examination, &mut print),
        Invocation::Serve(serve) => run(*serve),
        Invocation::CheckConfig(loaded) => check_config(&loaded),
        Invocation::ImportDefinitions { file, data_dir } => import(&file, &data_dir),
        Invocation::CheckStore { data_dir } => check_store(&data_dir)
            .map_err(|error| Failure::new(Exit::of_store_error(&error), error.to_string())),
        Invocation::Ping { address, timeout } => cli::ping::run(address, timeout),
        Invocation::Perf(perf) => cli::run_perf(*perf),
        Invocation::Print(text) => print(&text),
    };
    done.map(|()| Exit::Ok)
}

/// Starts the broker and serves until it is told to stop.
fn run(serve: Serve) -> Result<(), Failure> {
    let Serve {
        settings,
        warnings,
        sources,
    } = serve;
    let log = cli::logging::start(&settings)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let reload = move |settings: &mut Settings| reload(&sources, &log, settings);
    server::run(settings, Box::new(reload))
        .map_err(|error| Failure::new(server_exit(&error), error.to_string()))
}

/// SIGHUP: reads the settings again, says what became of each that differs, and keeps the old ones when
/// the new ones are wrong.
fn reload(sources: &Sources, log: &LogHandle, settings: &mut Settings) -> bool {
    let loaded = match sources.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!(
                "the settings stay as they are, because they cannot be read again: {error}"
            );
            return false;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let changes = settings.reload_from(&loaded.settings);
    if changes.is_empty() {
        tracing::info!("settings read again: nothing changed");
    }
    for change in changes {
        tracing::info!(setting = change.name, "setting changed: {}", change.outcome);
    }
    if let Err(failure) = log.reload(settings) {
        tracing::error!("{failure}");
    }
    true
}

fn import(file: &Path, data_dir: &Path) -> Result<(), Failure> {
    let report = offline_import(file, data_dir)
        .map_err(|error| Failure::new(import_exit(&error), error.to_string()))?;
    print(&format!("{report}\n"))
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

fn import_exit(error: &ImportError) -> Exit {
    match error {
        ImportError::File { .. } => Exit::NoInput,
        ImportError::NotJson { .. } | ImportError::Invalid { .. } => Exit::Data,
        ImportError::Store(error) => Exit::of_store_error(error),
    }
}

fn server_exit(error: &ServerError) -> Exit {
    match error {
        ServerError::Listen(listen) => Exit::of_listen_error(&listen.error),
        ServerError::Store(error) | ServerError::Start(StartError::Store(error)) => {
            Exit::of_store_error(error)
        }
        ServerError::Start(StartError::Import { error, .. }) => import_exit(error),
        ServerError::Start(StartError::Password(_) | StartError::Thread(_))
        | ServerError::System { .. } => Exit::Software,
    }
}
