//! Texts: names, paths, passwords, patterns.
//!
//! In: a written value. Out: a text that its purpose can bear. Whether the user, the file or the
//! vhost of that name exists is not known here.

use std::path::PathBuf;

use super::{Kind, MISFIT, Misfit, Value, quoted, rendered_list};
use crate::config::value::Secret;

/// A path of the file system.
pub struct FilePath;

impl Kind for FilePath {
    type Used = PathBuf;

    fn allowed(&self) -> String {
        "a path".to_owned()
    }

    fn parse(&self, value: &Value) -> Result<PathBuf, Misfit> {
        match value.text() {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => Err(MISFIT),
        }
    }

    fn render(&self, used: &PathBuf) -> String {
        quoted(&used.display().to_string())
    }
}

/// A text of 1 to 255 bytes: what fits into a short string of the protocol.
pub struct ShortText;

impl Kind for ShortText {
    type Used = String;

    fn allowed(&self) -> String {
        "a text of 1 to 255 bytes".to_owned()
    }

    fn parse(&self, value: &Value) -> Result<String, Misfit> {
        match value.text() {
            Some(text) if (1..=255).contains(&text.len()) => Ok(text.to_owned()),
            _ => Err(MISFIT),
        }
    }

    fn render(&self, used: &String) -> String {
        quoted(used)
    }
}

/// A list of texts, which may be empty.
pub struct ShortTexts;

impl Kind for ShortTexts {
    type Used = Vec<String>;

    fn allowed(&self) -> String {
        "a list of texts of 1 to 255 bytes (in the environment: separated by commas, or none)"
            .to_owned()
    }

    fn parse(&self, value: &Value) -> Result<Vec<String>, Misfit> {
        let items = value.list().ok_or(MISFIT)?;
        items.iter().map(|item| ShortText.parse(item)).collect()
    }

    fn render(&self, used: &Vec<String>) -> String {
        rendered_list(used, |text| quoted(text))
    }
}

/// A text that is never shown.
pub struct Hidden;

impl Kind for Hidden {
    type Used = Secret;

    fn allowed(&self) -> String {
        "a text that is not empty".to_owned()
    }

    fn parse(&self, value: &Value) -> Result<Secret, Misfit> {
        match value.text() {
            Some(text) if !text.is_empty() => Ok(Secret::new(text)),
            _ => Err(MISFIT),
        }
    }

    fn describe(&self, _value: &Value) -> String {
        "of another type".to_owned()
    }

    fn render(&self, _used: &Secret) -> String {
        quoted("********")
    }
}

/// A regular expression of a permission.
pub struct Pattern;

impl Kind for Pattern {
    type Used = String;

    fn allowed(&self) -> String {
        "a regular expression; \"\" matches no name".to_owned()
    }

    fn parse(&self, value: &Value) -> Result<String, Misfit> {
        let pattern = value.text().ok_or(MISFIT)?;
        regex::Regex::new(pattern).map_err(|_| Misfit {
            hint: Some("it is not a regular expression that this broker can compile"),
        })?;
        Ok(pattern.to_owned())
    }

    fn render(&self, used: &String) -> String {
        quoted(used)
    }
}
