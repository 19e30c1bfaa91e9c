//! The log: form and levels, from the settings.
//!
//! In: [`Settings`]. Out: an installed subscriber of `tracing` that writes to standard error, and a
//! [`LogHandle`] that changes its levels while the broker runs. Which events there are is not known
//! here, only under which target each part of the house logs: the path of its module, and
//! `haremq::connection` for what concerns one connection.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::exit::{Exit, Failure};
use crate::config::{LogFormat, LogLevel, Settings};

/// Changes the levels of a running log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    levels: reload::Handle<Targets, Registry>,
}

impl LogHandle {
    /// Takes the levels over from `settings`. The form of a line stays as it was.
    ///
    /// # Errors
    /// [`Exit::Software`] if the log is gone.
    pub fn reload(&self, settings: &Settings) -> Result<(), Failure> {
        self.levels.reload(targets(settings)).map_err(|error| {
            Failure::new(
                Exit::Software,
                format!("cannot change the log's levels: {error}"),
            )
        })
    }
}

/// Installs the log of this process.
///
/// # Errors
/// [`Exit::Software`] if there is one already.
pub fn start(settings: &Settings) -> Result<LogHandle, Failure> {
    let (levels, handle) = reload::Layer::new(targets(settings));
    let lines = fmt::layer()
        .with_writer(|| OneLine(io::stderr()))
        .with_ansi(false);
    let lines: Box<dyn Layer<_> + Send + Sync> = match settings.log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(levels)
        .with(lines)
        .try_init()
        .map_err(|error| Failure::new(Exit::Software, format!("cannot start the log: {error}")))?;
    Ok(LogHandle { levels: handle })
}

/// Writes each event as one line. The texts of events hold names and keys as clients sent them, and a line break
/// in one of those must not look like an event of ours.
struct OneLine<W>(W);

impl<W: io::Write> io::Write for OneLine<W> {
    /// Takes one event, as the formatter hands it over: whole, with a line break at its end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        if line.chars().any(char::is_control) {
            let mut escaped = String::with_capacity(line.len() + 16);
            for letter in line.chars() {
                if letter.is_control() {
                    escaped.extend(letter.escape_default());
                } else {
                    escaped.push(letter);
                }
            }
            escaped.push('\n');
            self.0.write_all(escaped.as_bytes())?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The level of each target; the longest target that begins an event's path counts.
fn targets(settings: &Settings) -> Targets {
    let levels = &settings.log_levels;
    let parts: [(Option<LogLevel>, &[&str]); 8] = [
        (
            levels.connection,
            &["haremq::connection", "haremq::server", "haremq::session"],
        ),
        (levels.channel, &["haremq::session::channel"]),
        (levels.broker, &["haremq::broker"]),
        (levels.routing, &["haremq::routing"]),
        (levels.queue, &["haremq::queue"]),
        (levels.auth, &["haremq::auth"]),
        (levels.store, &["haremq::store", "sled"]),
        (levels.http, &["haremq::http"]),
    ];
    let mut targets = Targets::new()
        .with_default(filter(settings.log.level))
        // What sled tells below warnings is of use only to who asks for the store's level.
        .with_target("sled", filter(settings.log.level).min(LevelFilter::WARN))
        // The session's path covers its channels, which have a level of their own.
        .with_target("haremq::session::channel", filter(settings.log.level));
    for (level, paths) in parts {
        let Some(level) = level else { continue };
        for path in paths {
            targets = targets.with_target(*path, filter(level));
        }
    }
    targets
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn an_event_stays_one_line_whatever_its_text_holds() {
        let mut written = Vec::new();
        let events = ["plain \u{e9}\n", "two\nlines\r\u{1b}\u{9b}\n", "open"];
        for event in events {
            io::Write::write_all(&mut OneLine(&mut written), event.as_bytes()).unwrap();
        }
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "plain \u{e9}\ntwo\\nlines\\r\\u{1b}\\u{9b}\nopen"
        );
    }

    #[test]
    fn sled_is_quiet_unless_the_store_is_asked_for() {
        let mut settings = Settings::defaults();
        settings.log.level = LogLevel::Debug;
        assert!(!targets(&settings).would_enable("sled::db", &Level::INFO));
        settings.log_levels.store = Some(LogLevel::Debug);
        assert!(targets(&settings).would_enable("sled::db", &Level::DEBUG));
        settings.log_levels.store = None;
        settings.log.level = LogLevel::Off;
        assert!(!targets(&settings).would_enable("sled::db", &Level::ERROR));
    }

    #[test]
    fn a_part_has_its_own_level_and_the_others_the_common_one() {
        let mut settings = Settings::defaults();
        settings.log.level = LogLevel::Warn;
        settings.log_levels.connection = Some(LogLevel::Debug);
        settings.log_levels.queue = Some(LogLevel::Off);
        let targets = targets(&settings);
        let logs = |target: &str, level: Level| targets.would_enable(target, &level);
        assert!(logs("haremq::session::connection", Level::DEBUG));
        assert!(logs("haremq::server", Level::DEBUG));
        assert!(logs("haremq::connection", Level::DEBUG));
        assert!(!logs("haremq::session::channel", Level::INFO));
        assert!(!logs("haremq::queue::state", Level::ERROR));
        assert!(logs("haremq::broker", Level::WARN));
        assert!(!logs("haremq::broker", Level::INFO));
    }
}
