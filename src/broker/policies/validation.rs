//! Whether a policy can be set.
//!
//! In: a policy as JSON, as a client of the API sends it. Out: the policy, or RabbitMQ's reasons, all of them. Source:
//! `rabbit_policy:validate/5`, `rabbit_parameter_validation:proplist/3`, `rabbit_runtime_parameters:format_error/1`.

use serde_json::{Map, Value as Json};

use super::keys;
use super::terms::{pairs, term};
use crate::auth::{NamePattern, PATTERN_BYTES_MAX, PatternError};
use crate::model::Name;
use crate::store::definitions::Policy;

/// What RabbitMQ makes of reasons: a heading, and each on a line of its own.
pub fn validation_failed(reasons: &[String]) -> String {
    let mut text = String::from("Validation failed\n\n");
    for reason in reasons {
        text.push_str(reason);
        text.push('\n');
    }
    text
}

/// A policy as it is asked for: values of any type, of which some may be missing.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPolicy {
    /// The virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// The pattern.
    pub pattern: Json,
    /// `apply-to`; `all` if missing.
    pub apply_to: Option<Json>,
    /// The priority; 0 if missing.
    pub priority: Option<Json>,
    /// The definition.
    pub definition: Json,
}

impl NewPolicy {
    /// From the value of a parameter of the component `policy` or `operator_policy`.
    ///
    /// # Errors
    /// The text of a failed validation, for what belongs to no policy, and for what is missing.
    pub fn from_value(vhost: Name, name: Name, value: &Json) -> Result<Self, String> {
        let Json::Object(fields) = value else {
            let reason = format!("{name} not a list {}", term(value));
            return Err(validation_failed(&[reason]));
        };
        let known = ["priority", "pattern", "apply-to", "definition"];
        let mut reasons = Vec::new();
        let unknown: Vec<_> = fields
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .collect();
        if !unknown.is_empty() {
            reasons.push(format!("Unrecognised terms {} in {name}", pairs(unknown)));
        }
        for key in ["definition", "pattern", "priority"] {
            if !fields.contains_key(key) {
                reasons.push(format!("Key \"{key}\" not found in {name}"));
            }
        }
        if !reasons.is_empty() {
            return Err(validation_failed(&reasons));
        }
        let field = |key: &str| fields.get(key).cloned();
        Ok(Self {
            vhost,
            name,
            pattern: field("pattern").unwrap_or_default(),
            apply_to: field("apply-to"),
            priority: field("priority"),
            definition: field("definition").unwrap_or_default(),
        })
    }

    /// Checks it.
    ///
    /// # Errors
    /// The text of a failed validation: `Validation failed`, an empty line, and the reasons.
    pub fn validated(self, is_operator: bool) -> Result<Policy, String> {
        let mut reasons = Vec::new();
        let mut note = |reason: Result<(), String>| reasons.extend(reason.err());
        let definition = definition(&self.name, self.definition, is_operator);
        note(definition.as_ref().map(drop).map_err(Clone::clone));
        let apply_to = apply_to(self.apply_to.as_ref());
        note(apply_to.as_ref().map(drop).map_err(Clone::clone));
        note(check_pattern(&self.pattern));
        let priority = priority(self.priority.as_ref());
        note(priority.as_ref().map(drop).map_err(Clone::clone));
        match (definition, apply_to, priority) {
            (Ok(definition), Ok(apply_to), Ok(priority)) if reasons.is_empty() => Ok(Policy {
                vhost: self.vhost,
                name: self.name,
                pattern: self.pattern.as_str().unwrap_or_default().to_owned(),
                apply_to,
                priority,
                definition,
            }),
            _ => Err(validation_failed(&reasons)),
        }
    }
}

fn definition(
    name: &str,
    definition: Json,
    is_operator: bool,
) -> Result<Map<String, Json>, String> {
    match definition {
        Json::Object(definition) => {
            keys::check(&definition, is_operator)?;
            Ok(definition)
        }
        Json::Array(items) if items.is_empty() => Err("no policy provided".to_owned()),
        Json::Array(items) => Err(format!(
            "definition must be a dictionary: {}",
            term(&Json::Array(items))
        )),
        other => Err(format!(
            "parse error while reading policy {name}: {}. Validator: {}policy_validator.",
            term(&other),
            if is_operator { "operator_" } else { "" }
        )),
    }
}

fn apply_to(apply_to: Option<&Json>) -> Result<String, String> {
    const KNOWN: [&str; 6] = [
        "all",
        "exchanges",
        "queues",
        "classic_queues",
        "quorum_queues",
        "streams",
    ];
    let shown = match apply_to {
        None => return Ok("all".to_owned()),
        Some(Json::String(text)) if KNOWN.contains(&text.as_str()) => return Ok(text.clone()),
        Some(Json::String(text)) => text.clone(),
        Some(other) => term(other),
    };
    // RabbitMQ's text has two spaces there.
    Err(format!(
        "apply-to '{shown}' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', \
         'exchanges', or 'all'"
    ))
}

fn check_pattern(pattern: &Json) -> Result<(), String> {
    let Json::String(text) = pattern else {
        return Err(format!(
            "pattern should be a binary but was {}",
            term(pattern)
        ));
    };
    match NamePattern::compile(text) {
        Ok(_) => Ok(()),
        Err(PatternError::TooLong { .. }) => {
            Err(format!("pattern must not exceed {PATTERN_BYTES_MAX} bytes"))
        }
        Err(reason) => Err(format!(
            "pattern should be regular expression but is invalid: {reason}"
        )),
    }
}

/// Any number will do; what is behind a point is cut off, since nobody means it.
fn priority(priority: Option<&Json>) -> Result<i64, String> {
    match priority {
        None => Ok(0),
        Some(Json::Number(number)) => Ok(number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number as i64))
            .unwrap_or(i64::MAX)),
        Some(other) => Err(format!(
            "priority should be a number, actually was {}",
            term(other)
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(definition: Json) -> NewPolicy {
        NewPolicy {
            vhost: "/".into(),
            name: "p".into(),
            pattern: json!("^q"),
            apply_to: None,
            priority: None,
            definition,
        }
    }

    #[test]
    fn what_is_missing_has_a_default() {
        let policy = policy(json!({"max-length": 1})).validated(false).unwrap();
        assert_eq!((policy.priority, policy.apply_to.as_str()), (0, "all"));
        assert_eq!(policy.pattern, "^q");
    }

    #[test]
    fn all_reasons_are_told_the_definitions_first() {
        let wrong = NewPolicy {
            pattern: json!("(q"),
            apply_to: Some(json!("some")),
            priority: Some(json!("1")),
            ..policy(json!({"max-length": -1}))
        };
        assert_eq!(
            wrong.validated(false).unwrap_err(),
            "Validation failed\n\n-1 is not a valid maximum length\n\
             apply-to 'some' unrecognised; should be one of: 'queues', 'classic_queues',  'quorum_queues', 'streams', \
             'exchanges', or 'all'\n\
             pattern should be regular expression but is invalid: not a regular expression: unclosed group\n\
             priority should be a number, actually was <<\"1\">>\n"
        );
    }

    #[test]
    fn definitions_are_objects_with_something_in_them() {
        for (definition, reason) in [
            (json!([]), "no policy provided"),
            (json!({}), "no policy provided"),
            (json!([1]), "definition must be a dictionary: [1]"),
            (
                json!("x"),
                "parse error while reading policy p: <<\"x\">>. Validator: policy_validator.",
            ),
        ] {
            assert_eq!(
                policy(definition).validated(false).unwrap_err(),
                format!("Validation failed\n\n{reason}\n")
            );
        }
    }

    #[test]
    fn a_parameter_that_is_no_policy_is_refused() {
        let refused =
            |value: Json| NewPolicy::from_value("/".into(), "p".into(), &value).unwrap_err();
        assert_eq!(
            refused(json!({"pattern": "x", "more": 1})),
            "Validation failed\n\nUnrecognised terms [{<<\"more\">>,1}] in p\n\
             Key \"definition\" not found in p\nKey \"priority\" not found in p\n"
        );
        assert_eq!(refused(json!(1)), "Validation failed\n\np not a list 1\n");
        let value = json!({"pattern": "x", "definition": {"expires": 1}, "priority": 2});
        let read = NewPolicy::from_value("/".into(), "p".into(), &value).unwrap();
        assert_eq!(read.validated(true).unwrap().priority, 2);
    }

    #[test]
    fn patterns_are_texts_of_bounded_length() {
        let with = |pattern: Json| {
            let wrong = NewPolicy {
                pattern,
                ..policy(json!({"expires": 1}))
            };
            wrong.validated(false).unwrap_err()
        };
        assert_eq!(
            with(json!(5)),
            "Validation failed\n\npattern should be a binary but was 5\n"
        );
        assert_eq!(
            with(json!("x".repeat(1025))),
            "Validation failed\n\npattern must not exceed 1024 bytes\n"
        );
    }
}
