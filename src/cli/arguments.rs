//! The grammar of the command line.
//!
//! In: arguments and environment. Out: an [`Invocation`] with all that is needed to carry it out, its
//! settings loaded and checked.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use super::exit::{Exit, Failure};
use super::perf::{Perf, PerfCommand};
use crate::config::{ConfigError, Flag, Loaded, Settings, Sources};

/// How long `haremq ping` waits unless told otherwise. Docker's health checks run each 30 s.
const PING_TIMEOUT_MS: u64 = 3000;

const DOCTOR_HELP: &str = "\
Look what is damaged in the data folder of a broker that does not run: every definition, every message that
waits. Nothing in the folder is changed (the lock file aside), unless --repair is given and there is damage.

The report has one fact a line, and last what to do. A line that begins with `loss` tells what the next start
would lose, `damage` what is damaged without a loss, `remark` what a crash leaves and needs no repair.

Exit codes: 0 the folder is sound, or was repaired; 65 it is damaged; 69 it is in use; 66 it is missing or
cannot be read; 73 and 74 it, its copy or a temporary file cannot be written.

Run it as the user who runs haremq. A copy of the definitions is made among the temporary files (TMPDIR).";

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run the broker.
    Serve(Box<Serve>),
    /// Print the settings that the broker would use.
    CheckConfig(Box<Loaded>),
    /// Read a definitions file into the data folder of a broker that does not run.
    ImportDefinitions {
        /// The file, in RabbitMQ's JSON form.
        file: PathBuf,
        /// The broker's data folder.
        data_dir: PathBuf,
    },
    /// Look what is damaged in the data folder of a broker that does not run, and repair it.
    Doctor(Examination),
    /// Ask a broker whether it speaks AMQP.
    Ping {
        /// Where it listens.
        address: SocketAddr,
        /// How long to wait for its answer.
        timeout: Duration,
    },
    /// Put load on a broker and measure.
    Perf(Box<Perf>),
    /// Open the definitions of a data folder and say whether that went well. A starting broker runs this in a
    /// child, so that a damaged folder cannot take it along.
    CheckStore {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// Print a text on standard output: help, or the version.
    Print(String),
}

/// What is to be examined, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The broker's data folder.
    pub data_dir: PathBuf,
    /// Repair what is damaged.
    pub repair: bool,
    /// Report as JSON.
    pub json: bool,
}

/// All that the broker needs to run.
#[derive(Debug)]
pub struct Serve {
    /// What it uses.
    pub settings: Settings,
    /// What was written and has no effect; to be logged once the log is there.
    pub warnings: Vec<String>,
    /// Where settings are written, to read them again at SIGHUP.
    pub sources: Sources,
}

/// An AMQP 0-9-1 message broker. Without a command it runs the broker.
#[derive(Debug, Parser)]
#[command(
    name = "haremq",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker: haremq serve --data-dir /var/lib/haremq --amqp 0.0.0.0:5672
    Serve(ServeArguments),
    /// Work on definitions: haremq definitions import FILE --data-dir DIR
    #[command(subcommand, arg_required_else_help = true)]
    Definitions(Definitions),
    /// Look what is damaged in a data folder, and repair it: haremq doctor --data-dir DIR [--repair]
    #[command(long_about = DOCTOR_HELP)]
    Doctor(DoctorArguments),
    /// Ask whether a broker answers: haremq ping --amqp 127.0.0.1:5672
    Ping(PingArguments),
    /// Put load on a broker and measure: haremq perf throughput --uri amqp://guest:guest@127.0.0.1:5672
    #[command(subcommand, arg_required_else_help = true)]
    Perf(PerfCommand),
    /// Print the version.
    Version,
    /// The broker's own check of a data folder before it opens it.
    #[command(hide = true)]
    CheckStore {
        /// The data folder.
        data_dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// The configuration file (TOML); config/haremq.toml lists every setting.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of everything that survives a restart [default: ./haremq-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where AMQP is served. The help's brackets would be links in a comment.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help = "Where AMQP is served; repeatable [default: 127.0.0.1:5672, [::1]:5672]"
    )]
    amqp: Vec<String>,
    /// Where HTTP is served.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help = "Where the HTTP API is served, or none; repeatable [default: 127.0.0.1:15672, [::1]:15672]"
    )]
    http: Vec<String>,
    /// Where Prometheus scrapes.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        help = "Where metrics are served, or none; repeatable [default: 127.0.0.1:15692, [::1]:15692]"
    )]
    metrics: Vec<String>,
    /// A definitions file in RabbitMQ's JSON form, imported at every start.
    #[arg(long, value_name = "FILE")]
    load_definitions: Option<String>,
    /// The least severe event that is logged: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// The form of a log line: text or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Print the settings that would be used, and end.
    #[arg(long)]
    check_config: bool,
}

#[derive(Debug, Subcommand)]
enum Definitions {
    /// Read a definitions file into the data folder of a broker that does not run.
    Import {
        /// The file, in RabbitMQ's JSON form.
        file: PathBuf,
        /// The broker's data folder [default: ./haremq-data].
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
        /// The configuration file that names the data folder.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct DoctorArguments {
    /// The broker's data folder [default: ./haremq-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The configuration file that names the data folder.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Copy the folder to DIR.copy-MS beside it, then set aside what is damaged and settle messages that cannot be read.
    #[arg(long)]
    repair: bool,
    /// Report as one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PingArguments {
    /// Where the broker listens [default: its first AMQP address].
    #[arg(long, value_name = "ADDR:PORT")]
    amqp: Option<SocketAddr>,
    /// The configuration file that names the broker's addresses.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to wait for the answer, in ms.
    #[arg(long, value_name = "MS", default_value_t = PING_TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
}

/// Understands a command line. The first argument is the program's name.
///
/// # Errors
/// [`Exit::Usage`] for a command line that is wrong, [`Exit::Config`] for settings that are, and
/// [`Exit::NoInput`] or [`Exit::NoPermission`] for a configuration file that cannot be read.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Failure> {
    let command_line = match CommandLine::try_parse_from(arguments) {
        Ok(command_line) => command_line,
        Err(error) => return usage(&error),
    };
    let environment = environment.into_iter().collect();
    match command_line.command {
        None => serve(command_line.serve, environment),
        Some(Command::Serve(arguments)) => serve(arguments, environment),
        Some(Command::Definitions(Definitions::Import {
            file,
            data_dir,
            config,
        })) => {
            let flags = data_dir.map(|dir| Flag::one("--data-dir", "data_dir", dir));
            let sources = Sources::new(config, environment, flags.into_iter().collect());
            let data_dir = load(&sources)?.settings.data_dir;
            Ok(Invocation::ImportDefinitions { file, data_dir })
        }
        Some(Command::Doctor(arguments)) => {
            let flag = |dir| Flag::one("--data-dir", "data_dir", dir);
            let flags = arguments.data_dir.map(flag);
            let sources = Sources::new(arguments.config, environment, flags.into_iter().collect());
            Ok(Invocation::Doctor(Examination {
                data_dir: load(&sources)?.settings.data_dir,
                repair: arguments.repair,
                json: arguments.json,
            }))
        }
        Some(Command::Ping(arguments)) => ping(&arguments, environment),
        Some(Command::Perf(perf)) => Ok(Invocation::Perf(Box::new(perf.checked()?))),
        Some(Command::Version) => Ok(Invocation::Print(version())),
        Some(Command::CheckStore { data_dir }) => Ok(Invocation::CheckStore { data_dir }),
    }
}

/// The line that `haremq version` prints.
fn version() -> String {
    format!("haremq {}\n", env!("CARGO_PKG_VERSION"))
}

fn usage(error: &clap::Error) -> Result<Invocation, Failure> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Invocation::Print(text)),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Failure::new(
            Exit::Usage,
            "a command is missing; see haremq --help",
        )),
        _ => {
            let first_paragraph = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<_> = first_paragraph.split_whitespace().collect();
            let problem = words.join(" ");
            let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
            Err(Failure::new(
                Exit::Usage,
                format!("{problem}; see haremq --help"),
            ))
        }
    }
}

fn serve(
    arguments: ServeArguments,
    environment: Vec<(OsString, OsString)>,
) -> Result<Invocation, Failure> {
    let single = [
        ("--data-dir", "data_dir", arguments.data_dir),
        (
            "--load-definitions",
            "load_definitions",
            arguments.load_definitions,
        ),
        ("--log-level", "log.level", arguments.log_level),
        ("--log-format", "log.format", arguments.log_format),
    ];
    let repeated = [
        ("--amqp", "listen.amqp", arguments.amqp),
        ("--http", "listen.http", arguments.http),
        ("--metrics", "listen.metrics", arguments.metrics),
    ];
    let single = single
        .into_iter()
        .filter_map(|(name, key, value)| value.map(|value| Flag::one(name, key, value)));
    let repeated = repeated
        .into_iter()
        .filter(|(_, _, values)| !values.is_empty())
        .map(|(name, key, values)| Flag::list(name, key, values));
    let sources = Sources::new(
        arguments.config,
        environment,
        single.chain(repeated).collect(),
    );
    let loaded = load(&sources)?;
    if arguments.check_config {
        return Ok(Invocation::CheckConfig(Box::new(loaded)));
    }
    Ok(Invocation::Serve(Box::new(Serve {
        settings: loaded.settings,
        warnings: loaded.warnings,
        sources,
    })))
}

fn load(sources: &Sources) -> Result<Loaded, Failure> {
    sources.load().map_err(|error| {
        let exit = match &error {
            ConfigError::Unreadable { error, .. } => Exit::of_file_error(error),
            ConfigError::Problems(_) => Exit::Config,
        };
        Failure::new(exit, error.to_string())
    })
}

fn ping(
    arguments: &PingArguments,
    environment: Vec<(OsString, OsString)>,
) -> Result<Invocation, Failure> {
    let address = match arguments.amqp {
        Some(address) => address,
        None => {
            let sources = Sources::new(arguments.config.clone(), environment, Vec::new());
            let listeners = load(&sources)?.settings.listen.amqp.addresses;
            listeners.first().copied().ok_or_else(|| {
                Failure::new(
                    Exit::Config,
                    "listen.amqp names no address; use --amqp ADDR:PORT",
                )
            })?
        }
    };
    Ok(Invocation::Ping {
        address: reachable(address),
        timeout: Duration::from_millis(arguments.timeout_ms),
    })
}

/// The address by which this machine reaches its own listener on `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(line: &str, environment: &[(&str, &str)]) -> Result<Invocation, Failure> {
        let arguments = line.split_whitespace().map(OsString::from);
        let environment = environment
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        parse(arguments, environment)
    }

    fn served(line: &str) -> Settings {
        match parsed(line, &[]) {
            Ok(Invocation::Serve(serve)) => serve.settings,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn failed(line: &str) -> Failure {
        parsed(line, &[]).unwrap_err()
    }

    #[test]
    fn haremq_alone_serves_with_the_defaults() {
        assert_eq!(served("haremq"), Settings::defaults());
        assert_eq!(served("haremq serve"), Settings::defaults());
    }

    #[test]
    fn flags_of_serve_become_settings_with_and_without_the_word() {
        for line in [
            "haremq serve --data-dir d --amqp 127.0.0.1:1 --amqp [::1]:2 --http none --log-format json",
            "haremq --data-dir d --amqp 127.0.0.1:1 --amqp [::1]:2 --http none --log-format json",
        ] {
            let settings = served(line);
            assert_eq!(settings.data_dir, PathBuf::from("d"));
            assert_eq!(settings.listen.amqp.addresses.len(), 2);
            assert!(settings.listen.http.addresses.is_empty());
            assert_eq!(settings.log.format.as_str(), "json");
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_line_and_64() {
        for line in [
            "haremq fly",
            "haremq serve --colour brown",
            "haremq definitions",
        ] {
            let failure = failed(line);
            assert_eq!(failure.exit, Exit::Usage, "{line}");
            assert!(!failure.message.contains('\n'), "{failure}");
            assert!(failure.message.ends_with("see haremq --help"), "{failure}");
        }
        assert_eq!(
            failed("haremq fly").to_string(),
            "haremq: unrecognized subcommand 'fly'; see haremq --help"
        );
    }

    #[test]
    fn wrong_settings_are_78_and_a_missing_file_66() {
        assert_eq!(failed("haremq --log-level loud").exit, Exit::Config);
        assert_eq!(
            failed("haremq --config /nowhere/x.toml").exit,
            Exit::NoInput
        );
        assert_eq!(failed("haremq --check-config --amqp x").exit, Exit::Config);
    }

    #[test]
    fn check_config_prints_settings() {
        let invocation = parsed("haremq serve --check-config", &[]).unwrap();
        assert!(matches!(invocation, Invocation::CheckConfig(_)));
    }

    #[test]
    fn an_import_finds_the_data_folder_like_the_broker() {
        let environment = [("HAREMQ_DATA_DIR", "there")];
        for (line, expected) in [
            ("haremq definitions import f.json", "there"),
            ("haremq definitions import f.json --data-dir here", "here"),
        ] {
            match parsed(line, &environment).unwrap() {
                Invocation::ImportDefinitions { file, data_dir } => {
                    assert_eq!(file, PathBuf::from("f.json"));
                    assert_eq!(data_dir, PathBuf::from(expected));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_doctor_finds_the_data_folder_like_the_broker() {
        let environment = [("HAREMQ_DATA_DIR", "there")];
        let cases = [
            ("haremq doctor", ("there", false, false)),
            (
                "haremq doctor --data-dir here --repair",
                ("here", true, false),
            ),
            (
                "haremq doctor --json --data-dir here",
                ("here", false, true),
            ),
        ];
        for (line, (data_dir, repair, json)) in cases {
            match parsed(line, &environment).unwrap() {
                Invocation::Doctor(examination) => assert_eq!(
                    examination,
                    Examination {
                        data_dir: PathBuf::from(data_dir),
                        repair,
                        json
                    }
                ),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_ping_goes_to_loopback_where_the_broker_listens_everywhere() {
        let environment = [("HAREMQ_LISTEN_AMQP", "0.0.0.0:5673,[::]:5673")];
        match parsed("haremq ping", &environment).unwrap() {
            Invocation::Ping { address, timeout } => {
                assert_eq!(address.to_string(), "127.0.0.1:5673");
                assert_eq!(timeout, Duration::from_secs(3));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn help_and_version_are_printed() {
        for line in [
            "haremq --help",
            "haremq --version",
            "haremq version",
            "haremq serve --help",
            "haremq doctor --help",
        ] {
            assert!(
                matches!(parsed(line, &[]), Ok(Invocation::Print(_))),
                "{line}"
            );
        }
        match parsed("haremq --help", &[]).unwrap() {
            Invocation::Print(text) => assert!(text.lines().count() <= 40, "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
