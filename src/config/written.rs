//! The first step: what the file, the environment and the flags say.
//!
//! In: the text of a TOML file, environment variables, flags. Out: [`Written`]: for each key that
//! somebody wrote, the value and the place, the strongest last; and the problems of whatever could not
//! be understood. Whether a value fits its setting is the second step's question (`used.rs`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::define::Setting;
use super::kind::Value;
use super::table::SECTIONS;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the table of settings.
    Default,
    /// In a file; line and column count from 1, the column in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// In a flag of this name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Something that was written and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// What, and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// A setting that a flag of the command line gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    name: &'static str,
    key: &'static str,
    value: Value,
}

impl Flag {
    /// The flag `name` (like `--data-dir`) gives the setting `key` this value.
    #[must_use]
    pub fn one(name: &'static str, key: &'static str, value: impl Into<String>) -> Self {
        let value = Value::Bare(value.into());
        Self { name, key, value }
    }

    /// A flag that may be repeated gives the setting `key` a list. Given once it may hold the whole
    /// list, like a variable: separated by commas, or `none`.
    #[must_use]
    pub fn list(name: &'static str, key: &'static str, values: Vec<String>) -> Self {
        let mut values: Vec<_> = values.into_iter().map(Value::Bare).collect();
        let value = match values.pop() {
            Some(only) if values.is_empty() => only,
            last => Value::List(values.into_iter().chain(last).collect()),
        };
        Self { name, key, value }
    }
}

/// What was written, key by key: the strongest voice only.
#[derive(Debug, Default)]
pub(super) struct Written {
    entries: BTreeMap<&'static str, (Value, Origin)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// RabbitMQ's variables that are honoured, weaker than `HAREMQ_*` and stronger than the file:
/// those of its container image.
const RABBITMQ_VARIABLES: [(&str, &str); 3] = [
    ("RABBITMQ_DEFAULT_USER", "first_boot.default_user"),
    ("RABBITMQ_DEFAULT_PASS", "first_boot.default_pass"),
    ("RABBITMQ_DEFAULT_VHOST", "first_boot.default_vhost"),
];

/// RabbitMQ's variables that people set and that mean nothing here, with what to use.
const RABBITMQ_VARIABLES_UNREAD: [(&str, &str); 6] = [
    ("RABBITMQ_CONFIG_FILE", "HAREMQ_CONFIG"),
    ("RABBITMQ_DEFAULT_PASS_FILE", "RABBITMQ_DEFAULT_PASS"),
    ("RABBITMQ_DEFAULT_USER_FILE", "RABBITMQ_DEFAULT_USER"),
    ("RABBITMQ_MNESIA_BASE", "HAREMQ_DATA_DIR"),
    ("RABBITMQ_NODENAME", "HAREMQ_NODE_NAME"),
    ("RABBITMQ_NODE_PORT", "HAREMQ_LISTEN_AMQP"),
];

/// The variable that names the configuration file, where no flag does.
pub(super) const FILE_VARIABLE: &str = "HAREMQ_CONFIG";

impl Written {
    /// The value of a key, and where it was written.
    pub(super) fn get(&self, key: &str) -> Option<&(Value, Origin)> {
        self.entries.get(key)
    }

    /// Hears the text of a file.
    pub(super) fn hear_file(&mut self, path: &Path, text: &str) {
        let place = Place { path, text };
        match DeTable::parse(text) {
            Ok(table) => self.hear_table(&place, "", table.get_ref()),
            Err(error) => self.problems.push(Problem {
                origin: place.origin(error.span().map_or(0, |span| span.start)),
                text: error.message().trim().replace('\n', "; "),
            }),
        }
    }

    fn hear_table(&mut self, place: &Place<'_>, parent: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = match parent {
                "" => name.get_ref().to_string(),
                parent => format!("{parent}.{}", name.get_ref()),
            };
            let problem = match (find(&key), value.get_ref()) {
                (Some(setting), _) => {
                    let origin = place.origin(value.span().start);
                    self.entries
                        .insert(setting.key, (value_from_toml(value), origin));
                    continue;
                }
                (None, DeValue::Table(inner)) if is_section(&key) => {
                    self.hear_table(place, &key, inner);
                    continue;
                }
                (None, _) if is_section(&key) => {
                    format!(
                        "`{key}` is a section, not a setting: write [{key}] and its settings below"
                    )
                }
                (None, _) => unknown_key(&key),
            };
            self.problems.push(Problem {
                origin: place.origin(name.span().start),
                text: problem,
            });
        }
    }

    /// Hears the environment. An empty variable counts as one that is not set.
    pub(super) fn hear_environment(&mut self, environment: &[(OsString, OsString)]) {
        let text = |name: &str| {
            environment
                .iter()
                .find(|(variable, value)| variable == name && !value.is_empty())
                .map(|(_, value)| value.to_str().map(str::to_owned))
        };
        let settings = || settings().map(|setting| (setting.variable(), setting.key));
        let rabbitmq = RABBITMQ_VARIABLES
            .iter()
            .map(|(name, key)| ((*name).to_owned(), *key));
        for (name, key) in rabbitmq.chain(settings()) {
            match text(&name) {
                Some(Some(value)) => {
                    let entry = (Value::Bare(value), Origin::Environment(name));
                    self.entries.insert(key, entry);
                }
                Some(None) => self.problems.push(Problem {
                    origin: Origin::Environment(name),
                    text: "its value is not UTF-8".to_owned(),
                }),
                None => {}
            }
        }
        for (name, instead) in RABBITMQ_VARIABLES_UNREAD {
            if text(name).is_some() {
                self.warnings.push(format!(
                    "environment variable {name} is not read: use {instead}"
                ));
            }
        }
        let known: Vec<_> = settings().map(|(name, _)| name).collect();
        for (name, _) in environment {
            let Some(name) = name.to_str() else { continue };
            if name.starts_with("HAREMQ_")
                && name != FILE_VARIABLE
                && !known.iter().any(|known| known == name)
                && !is_service_link(name)
            {
                let nearest = nearest(name, known.iter().map(String::as_str));
                let guess =
                    nearest.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.warnings
                    .push(format!("environment variable {name} is no setting{guess}"));
            }
        }
    }

    /// Hears the flags.
    pub(super) fn hear_flags(&mut self, flags: &[Flag]) {
        for flag in flags {
            self.entries
                .insert(flag.key, (flag.value.clone(), Origin::Flag(flag.name)));
        }
    }
}

/// A file and its text, to turn offsets into lines.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Every setting, in the order of the file.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

/// Whether settings stand below `key`: a section, or the first part of a section's name.
fn is_section(key: &str) -> bool {
    SECTIONS.iter().any(|section| {
        section
            .name
            .strip_prefix(key)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The text for a key that no setting has, with the likely one.
fn unknown_key(key: &str) -> String {
    if let Some(setting) = settings().find(|setting| setting.rabbitmq == key) {
        return format!(
            "`{key}` is RabbitMQ's name; here it is `{}`, {}",
            setting.key,
            (setting.allowed)()
        );
    }
    let name = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
    let wanted = key.rsplit('.').next().unwrap_or(key);
    let in_wrong_section = settings()
        .find(|setting| name(setting.key) == wanted)
        .map(|setting| setting.key);
    match in_wrong_section.or_else(|| nearest(key, settings().map(|setting| setting.key))) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; docs/configuration.md lists every key"),
    }
}

/// Kubernetes puts the addresses of a service named `haremq` into the environment of its pods.
fn is_service_link(name: &str) -> bool {
    name == "HAREMQ_PORT" || name.starts_with("HAREMQ_PORT_") || name.starts_with("HAREMQ_SERVICE_")
}

/// The candidate that fewest edits separate from `wanted`, if they are few for its length.
fn nearest<'a>(wanted: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let edits_max = (wanted.len() / 6).clamp(1, 4);
    candidates
        .map(|candidate| (edits(wanted, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance of two texts, in bytes.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left_byte) in left.bytes().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, right_byte) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(left_byte != right_byte);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// A TOML value without its place.
fn value_from_toml(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Foreign("a number that is too large"), Value::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or(Value::Foreign("a number that is none"), Value::Float),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Array(items) => Value::List(items.iter().map(value_from_toml).collect()),
        DeValue::Datetime(_) => Value::Foreign("a date"),
        DeValue::Table(_) => Value::Foreign("a table"),
    }
}

/// The value of a TOML literal of the table of settings.
pub(super) fn value_from_literal(literal: &str) -> Value {
    DeValue::parse(literal).map_or(Value::Foreign("no TOML"), |value| value_from_toml(&value))
}
