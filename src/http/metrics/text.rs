//! Prometheus' text format, version 0.0.4, as RabbitMQ writes it.
//!
//! In: families, labels, values. Out: text. What is measured is not known here.

use std::fmt::Write as _;

/// The media type of what is written.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

/// A label with its value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Text that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    prefix: &'static str,
}

impl Writer {
    /// Names get `prefix` before them.
    pub(super) fn new(prefix: &'static str) -> Self {
        Self {
            text: String::with_capacity(64 * 1024),
            prefix,
        }
    }

    /// Puts another prefix before the names from now on.
    pub(super) fn set_prefix(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let prefix = self.prefix;
        let kind = kind.as_str();
        // Writing to a string does not fail.
        let _ = writeln!(
            self.text,
            "# TYPE {prefix}{name} {kind}\n# HELP {prefix}{name} {help}"
        );
    }

    /// A sample of the family that was begun last.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Into<Value>) {
        self.text.push_str(self.prefix);
        self.text.push_str(name);
        if !labels.is_empty() {
            for (index, (label, value)) in labels.iter().enumerate() {
                self.text.push(if index == 0 { '{' } else { ',' });
                self.text.push_str(label);
                self.text.push_str("=\"");
                self.escaped(value);
                self.text.push('"');
            }
            self.text.push('}');
        }
        let _ = match value.into() {
            Value::Whole(value) => writeln!(self.text, " {value}"),
            Value::Real(value) => writeln!(self.text, " {value}"),
        };
    }

    /// A family of one sample without labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Into<Value>) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// What was written.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn escaped(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                letter => self.text.push(letter),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_as_prometheus_reads_it() {
        let mut writer = Writer::new("rabbitmq_");
        writer.family("queue_messages", Kind::Gauge, "Messages");
        let labels = [("vhost", "/"), ("queue", "a\"b\\c\nd")];
        writer.sample("queue_messages", &labels, 7_u64);
        writer.single("up", Kind::Untyped, "Is it", true);
        writer.single("share", Kind::Gauge, "How much", 0.25);
        assert_eq!(
            writer.into_text(),
            "# TYPE rabbitmq_queue_messages gauge\n\
             # HELP rabbitmq_queue_messages Messages\n\
             rabbitmq_queue_messages{vhost=\"/\",queue=\"a\\\"b\\\\c\\nd\"} 7\n\
             # TYPE rabbitmq_up untyped\n\
             # HELP rabbitmq_up Is it\n\
             rabbitmq_up 1\n\
             # TYPE rabbitmq_share gauge\n\
             # HELP rabbitmq_share How much\n\
             rabbitmq_share 0.25\n"
        );
    }
}
