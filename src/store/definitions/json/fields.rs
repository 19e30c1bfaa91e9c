//! Reading the fields of one object of a document, with the object's place for errors.
//!
//! In: a JSON object and its place. Out: typed values, or [`ImportError::Invalid`]. What the fields mean is
//! not known here.

use serde_json::{Map, Value as Json};

use super::super::row;
use super::{ImportError, arguments_from_json};
use crate::model::Name;
use crate::protocol::FieldTable;

/// Arguments with every type kept, in the files that this program writes for itself.
pub(super) const TYPED_ARGUMENTS: &str = "haremq_arguments";

/// An object and its place, such as `users[3]`.
pub(super) struct Fields<'a> {
    path: String,
    object: &'a Map<String, Json>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: String, json: &'a Json) -> Result<Self, ImportError> {
        match json.as_object() {
            Some(object) => Ok(Self { path, object }),
            None => Err(ImportError::Invalid {
                path,
                reason: "expected an object".to_owned(),
            }),
        }
    }

    pub(super) fn error(&self, field: &str, reason: impl Into<String>) -> ImportError {
        ImportError::Invalid {
            path: format!("{}.{field}", self.path),
            reason: reason.into(),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The value of a field; null counts as missing.
    pub(super) fn get(&self, field: &str) -> Option<&'a Json> {
        self.object.get(field).filter(|json| !json.is_null())
    }

    pub(super) fn required(&self, field: &str) -> Result<&'a Json, ImportError> {
        self.get(field).ok_or_else(|| self.error(field, "missing"))
    }

    pub(super) fn text_if_any(&self, field: &str) -> Result<Option<&'a str>, ImportError> {
        self.get(field)
            .map(|json| {
                json.as_str()
                    .ok_or_else(|| self.error(field, "expected a string"))
            })
            .transpose()
    }

    pub(super) fn text(&self, field: &str) -> Result<&'a str, ImportError> {
        self.required(field)?;
        Ok(self.text_if_any(field)?.unwrap_or_default())
    }

    pub(super) fn name(&self, field: &str) -> Result<Name, ImportError> {
        self.text(field).map(Name::from)
    }

    /// A name that protocol methods can carry.
    pub(super) fn short_name(&self, field: &str) -> Result<Name, ImportError> {
        const BYTES_MAX: usize = 255;
        let name = self.name(field)?;
        if name.len() > BYTES_MAX {
            return Err(self.error(field, "at most 255 bytes are allowed"));
        }
        Ok(name)
    }

    /// A flag; old brokers also wrote the words.
    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool, ImportError> {
        match self.get(field) {
            None => Ok(default),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(Json::String(text)) if text == "true" => Ok(true),
            Some(Json::String(text)) if text == "false" => Ok(false),
            Some(_) => Err(self.error(field, "expected true or false")),
        }
    }

    pub(super) fn integer(&self, field: &str) -> Result<Option<i64>, ImportError> {
        self.get(field)
            .map(|json| {
                json.as_i64()
                    .ok_or_else(|| self.error(field, "expected an integer"))
            })
            .transpose()
    }

    /// An object inside; a missing one and an empty list, as Erlang writes an empty object, are `None`.
    pub(super) fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ImportError> {
        match self.get(field) {
            None => Ok(None),
            Some(Json::Array(list)) if list.is_empty() => Ok(None),
            Some(json) => Fields::new(format!("{}.{field}", self.path), json).map(Some),
        }
    }

    pub(super) fn map(&self) -> &'a Map<String, Json> {
        self.object
    }

    /// Tags: a list of strings, or one string with commas.
    pub(super) fn tags(&self, field: &str) -> Result<Option<Vec<String>>, ImportError> {
        let tag = |text: &str| Some(text.trim().to_owned()).filter(|tag| !tag.is_empty());
        match self.get(field) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.split(',').filter_map(tag).collect())),
            Some(Json::Array(list)) => {
                let mut tags = Vec::new();
                for (at, json) in list.iter().enumerate() {
                    let text = json.as_str().ok_or_else(|| {
                        self.error(&format!("{field}[{at}]"), "expected a string")
                    })?;
                    tags.extend(tag(text));
                }
                Ok(Some(tags))
            }
            Some(_) => Err(self.error(field, "expected a list of strings")),
        }
    }

    pub(super) fn arguments(&self) -> Result<FieldTable, ImportError> {
        const FIELD: &str = "arguments";
        if let Some(typed) = self.text_if_any(TYPED_ARGUMENTS)? {
            return row::arguments(typed).map_err(|reason| self.error(TYPED_ARGUMENTS, reason));
        }
        match self.get(FIELD) {
            None => Ok(FieldTable::new()),
            Some(json) => arguments_from_json(json, &format!("{}.{FIELD}", self.path)),
        }
    }
}
