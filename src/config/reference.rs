//! The example file and the reference page, written from the table of settings.
//!
//! In: the table. Out: the texts of `config/haremq.toml` and `docs/configuration.md`. Both are
//! committed; a test compares them, and `HAREMQ_BLESS=1 cargo test --lib config::reference` writes
//! them anew.

use std::fmt::Write;

use super::define::{Effect, Setting};
use super::table::SECTIONS;

/// The widest line of the example file.
const COLUMNS_MAX: usize = 100;

/// The text of `config/haremq.toml`: every setting, commented out, with its default.
#[must_use]
pub fn example_file() -> String {
    let mut text = comment(
        "Every setting of HareMQ, with its default, its unit and the reason. Written from the table in \
         src/config/table.rs: change it there, then run HAREMQ_BLESS=1 cargo test --lib config::reference. \
         A line that is commented out shows its default. Stronger than this file are the environment \
         (HAREMQ_ and the key in capitals, with _ for each dot) and, above all, flags. Use it with \
         haremq serve --config FILE; check it with --check-config.",
    );
    for section in SECTIONS {
        text.push('\n');
        text.push_str(&comment(section.about));
        if !section.name.is_empty() {
            let _ = writeln!(text, "[{}]", section.name);
        }
        for setting in section.settings {
            text.push('\n');
            text.push_str(&comment(setting.meaning));
            text.push_str(&comment(&format!("Allowed: {}.", (setting.allowed)())));
            text.push_str(&comment(&format!(
                "Unit: {}. {}.",
                setting.unit,
                effect(setting)
            )));
            text.push_str(&comment(&format!("Why: {}", setting.reason)));
            let _ = writeln!(text, "# {} = {}", setting.name, setting.default);
        }
    }
    text
}

/// The text of `docs/configuration.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut text = include_str!("reference_preface.md").to_owned();
    for section in SECTIONS {
        let title = match section.name {
            "" => "Top of the file".to_owned(),
            name => format!("`[{name}]`"),
        };
        let _ = writeln!(text, "\n## {title}\n\n{}", section.about);
        for setting in section.settings {
            let _ = writeln!(text, "\n### `{}`\n\n{}\n", setting.key, setting.meaning);
            let _ = writeln!(text, "- Default: `{}`. {}", setting.default, setting.reason);
            let _ = writeln!(text, "- Allowed: {}", (setting.allowed)());
            let _ = writeln!(text, "- Unit: {}", setting.unit);
            let _ = writeln!(text, "- Environment: `{}`", setting.variable());
            if !setting.rabbitmq.is_empty() {
                let _ = writeln!(text, "- RabbitMQ's name: `{}`", setting.rabbitmq);
            }
            let _ = writeln!(text, "- {}", effect(setting));
        }
    }
    text
}

fn effect(setting: &Setting) -> &'static str {
    match setting.effect {
        Effect::Live => "A change takes effect at SIGHUP",
        Effect::Restart => "A change takes effect at the next start",
        Effect::FirstBoot => "Read with a new data folder only",
    }
}

/// Comment lines of at most [`COLUMNS_MAX`] characters.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split_whitespace() {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push_str(&line);
            lines.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Settings, Sources};

    /// Compares a committed file with what the table gives, or writes it.
    fn check_fresh(file: &str, expected: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        if std::env::var_os("HAREMQ_BLESS").is_some() {
            std::fs::write(&path, expected).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == expected,
            "{file} is stale: run HAREMQ_BLESS=1 cargo test --lib config::reference"
        );
    }

    #[test]
    fn the_example_file_is_fresh() {
        check_fresh("config/haremq.toml", &example_file());
    }

    #[test]
    fn the_reference_page_is_fresh() {
        check_fresh("docs/configuration.md", &reference_page());
    }

    #[test]
    fn the_example_file_without_its_comment_signs_gives_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("haremq.toml");
        let uncommented: String = example_file()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if is_assignment(rest) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&path, &uncommented).unwrap();
        let loaded = Sources::new(Some(path), Vec::new(), Vec::new())
            .load()
            .unwrap();
        let mut settings = loaded.settings;
        assert!(!settings.listen.amqp.defaulted);
        settings.listen.amqp.defaulted = true;
        settings.listen.http.defaulted = true;
        settings.listen.metrics.defaulted = true;
        assert_eq!(settings, Settings::defaults());
    }

    fn is_assignment(line: &str) -> bool {
        line.split_once(" = ").is_some_and(|(name, _)| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
        })
    }

    #[test]
    fn every_setting_says_what_it_is_and_why() {
        for setting in SECTIONS.iter().flat_map(|section| section.settings) {
            for text in [setting.meaning, setting.reason] {
                assert!(text.ends_with('.'), "{}: {text}", setting.key);
            }
            assert!(!setting.unit.is_empty(), "{}", setting.key);
        }
    }
}
