//! The second step: from what was written to what is used.
//!
//! In: the places where settings are written ([`Sources`]). Out: [`Settings`], complete and typed, or
//! every problem at once. Strongest first: flags, `HAREMQ_*`, the variables of RabbitMQ's container
//! image, the file, the defaults.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::kind::Kind;
use super::table::Settings;
use super::written::{FILE_VARIABLE, Flag, Origin, Problem, Written, settings, value_from_literal};

/// Where settings are written. Kept by a running broker, which reads them again at SIGHUP.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<Flag>,
}

impl fmt::Debug for Sources {
    /// Leaves out the environment and the flags, which may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Settings, ready to use.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the broker uses.
    pub settings: Settings,
    /// What was written and has no effect, one line each.
    pub warnings: Vec<String>,
}

/// Why there are no settings to use.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// What was written cannot be used; at least one problem.
    Problems(Vec<Problem>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(
                    f,
                    "cannot read the configuration file {}: {error}",
                    path.display()
                )
            }
            Self::Problems(problems) => {
                for (number, problem) in problems.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "\n" };
                    write!(f, "{separator}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Sources {
    /// Settings come from `file` (or the file that `HAREMQ_CONFIG` names, or none), from
    /// `environment` and from `flags`.
    #[must_use]
    pub fn new(
        file: Option<PathBuf>,
        environment: Vec<(OsString, OsString)>,
        flags: Vec<Flag>,
    ) -> Self {
        let named = || {
            environment
                .iter()
                .find(|(name, value)| name == FILE_VARIABLE && !value.is_empty())
                .map(|(_, value)| PathBuf::from(value))
        };
        Self {
            file: file.or_else(named),
            environment,
            flags,
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, or with everything that cannot be used.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut written = Written::default();
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
                path: path.clone(),
                error,
            })?;
            written.hear_file(path, &text);
        }
        written.hear_environment(&self.environment);
        written.hear_flags(&self.flags);
        resolve(written)
    }
}

impl Settings {
    /// The settings of a broker to which nobody said anything.
    ///
    /// # Panics
    /// Never: a test proves that every default of the table is one that its setting takes.
    #[must_use]
    #[allow(
        clippy::expect_used,
        reason = "the table is ours, and a test reads all of it"
    )]
    pub fn defaults() -> Self {
        resolve(Written::default())
            .expect("the table of settings has usable defaults")
            .settings
    }

    /// The settings as a TOML file, secrets hidden.
    #[must_use]
    pub fn render(&self) -> String {
        let mut rows = Vec::new();
        self.rows(&mut rows);
        let mut text = String::new();
        let mut section = "";
        for (key, value) in rows {
            let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
            if parent != section {
                section = parent;
                text.push_str(&format!("\n[{section}]\n"));
            }
            text.push_str(&format!("{name} = {value}\n"));
        }
        text
    }

    /// Fills in what follows from other settings.
    fn complete(&mut self) {
        if self.node.cluster_name == "<nodename>" {
            self.node.cluster_name.clone_from(&self.node.name);
        }
    }
}

/// Settings that are being read, and what is wrong with them.
pub(super) struct Reading<'a> {
    written: &'a Written,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    /// The value of a setting as it is used, or a new problem.
    pub(super) fn value<K: Kind>(&mut self, key: &'static str, kind: &K) -> Option<K::Used> {
        let default;
        let (value, origin) = match self.written.get(key) {
            Some((value, origin)) => (value, origin.clone()),
            None => {
                let setting = settings().find(|setting| setting.key == key)?;
                default = value_from_literal(setting.default);
                (&default, Origin::Default)
            }
        };
        match kind.parse(value) {
            Ok(used) => Some(used),
            Err(misfit) => {
                let hint = misfit
                    .hint
                    .map_or_else(String::new, |hint| format!(" ({hint})"));
                let text = format!(
                    "`{key}` is {}{hint}; allowed: {}",
                    kind.describe(value),
                    kind.allowed()
                );
                self.problems.push(Problem { origin, text });
                None
            }
        }
    }
}

/// Makes settings of what was written.
fn resolve(mut written: Written) -> Result<Loaded, ConfigError> {
    let mut problems = std::mem::take(&mut written.problems);
    let mut reading = Reading {
        written: &written,
        problems: Vec::new(),
    };
    let settings = Settings::read(&mut reading);
    problems.append(&mut reading.problems);
    match settings {
        Some(mut settings) if problems.is_empty() => {
            settings.complete();
            let defaulted = |key| written.get(key).is_none();
            settings.listen.amqp.defaulted = defaulted("listen.amqp");
            settings.listen.http.defaulted = defaulted("listen.http");
            settings.listen.metrics.defaulted = defaulted("listen.metrics");
            Ok(Loaded {
                settings,
                warnings: written.warnings,
            })
        }
        _ => Err(ConfigError::Problems(problems)),
    }
}

#[cfg(test)]
#[path = "used_tests.rs"]
mod tests;
