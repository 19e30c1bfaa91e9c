//! Name patterns: RabbitMQ's unanchored PCRE patterns on an engine that cannot be made to run for ever.
//!
//! In: the text of a pattern. Out: a compiled matcher, or a reason that says which part is not understood.
//! It does not know what is matched.
//!
//! The engine has no back-tracking, so look-around, back-references, atomic groups and the like do not
//! exist; a pattern with one of them is refused when it is set, not when it is used.

use regex::bytes::{Regex, RegexBuilder};

/// Bytes of a pattern's text (`MAX_PATTERN_LENGTH` of RabbitMQ's `rabbit_re.erl`).
pub const PATTERN_BYTES_MAX: usize = 1024;

/// Bytes that a compiled pattern may take, so that `(a{1000}){1000}` is refused and not built.
pub const PATTERN_PROGRAM_BYTES_MAX: usize = 256 * 1024;

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than [`PATTERN_BYTES_MAX`].
    #[error("the pattern has {bytes} bytes, at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It compiles to more than [`PATTERN_PROGRAM_BYTES_MAX`].
    #[error(
        "the pattern is too large once compiled (more than {PATTERN_PROGRAM_BYTES_MAX} bytes): use smaller repetitions"
    )]
    TooLarge,
    /// Something that only back-tracking engines know.
    #[error("{feature} is not supported in patterns; write the pattern without it")]
    Unsupported {
        /// What it is, in words.
        feature: &'static str,
    },
    /// No regular expression.
    #[error("not a regular expression: {reason}")]
    Syntax {
        /// The engine's reason, on one line.
        reason: String,
    },
}

/// A compiled pattern. The empty pattern matches the empty name alone.
#[derive(Clone, Debug)]
pub struct NamePattern {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Everything,
    EmptyNameAlone,
    Expression(Regex),
}

impl NamePattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong.
    pub fn compile(text: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        Self::compile_expanded(text)
    }

    /// Compiles a text into which variables were filled; the limit on bytes held for the text without them.
    pub(super) fn compile_expanded(text: &str) -> Result<Self, PatternError> {
        let kind = match text {
            // The two patterns that nearly every user has need no engine.
            "" | "^$" => Kind::EmptyNameAlone,
            ".*" | "^.*" | ".*$" => Kind::Everything,
            _ => Kind::Expression(compile(text)?),
        };
        Ok(Self { kind })
    }

    /// Whether `name` contains a match.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.kind {
            Kind::Everything => true,
            Kind::EmptyNameAlone => name.is_empty(),
            Kind::Expression(regex) => regex.is_match(name),
        }
    }
}

/// Writes `text` so that it stands for itself inside a pattern.
pub(super) fn escape(text: &str) -> String {
    regex::escape(text)
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    if let Some(feature) = unsupported_feature(text) {
        return Err(PatternError::Unsupported { feature });
    }
    RegexBuilder::new(text)
        .size_limit(PATTERN_PROGRAM_BYTES_MAX)
        .dfa_size_limit(PATTERN_PROGRAM_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            error => PatternError::Syntax {
                reason: last_line(&error.to_string()),
            },
        })
}

/// The engine's error draws the pattern on several lines; its last line is the reason.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// Names the first construct in `text`, outside of character classes, that only PCRE has. Asked before the
/// engine is, because a few of them (`a++`, `(?R)`) mean something else there.
fn unsupported_feature(text: &str) -> Option<&'static str> {
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut taken = character.len_utf8();
        match character {
            '\\' => {
                let escaped = rest[1..].chars().next();
                match escaped {
                    Some('1'..='9' | 'g' | 'k') => return Some("a back-reference"),
                    Some('G' | 'K' | 'Z' | 'R' | 'X' | 'C' | 'Q' | 'E') => {
                        return Some("this PCRE escape");
                    }
                    _ => {}
                }
                taken += escaped.map_or(0, char::len_utf8);
            }
            '[' => taken = class_bytes(rest),
            _ => {
                let found = PCRE_ONLY
                    .iter()
                    .find(|(opening, _)| rest.starts_with(opening));
                if let Some((_, feature)) = found {
                    return Some(feature);
                }
            }
        }
        rest = &rest[taken..];
    }
    None
}

const PCRE_ONLY: [(&str, &str); 14] = [
    ("(?=", "look-ahead"),
    ("(?!", "negative look-ahead"),
    ("(?<=", "look-behind"),
    ("(?<!", "negative look-behind"),
    ("(?>", "an atomic group"),
    ("(?|", "a branch reset"),
    ("(?(", "a condition"),
    ("(?R", "recursion"),
    ("(?#", "a comment"),
    ("(?&", "recursion"),
    ("(*", "a PCRE verb"),
    ("++", "a possessive quantifier"),
    ("*+", "a possessive quantifier"),
    ("?+", "a possessive quantifier"),
];

/// Bytes of the character class that `text` begins with, or of all of it when the class does not end.
fn class_bytes(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    characters.next_if(|(_, character)| *character == '^');
    // A bracket in the first place stands for itself.
    characters.next_if(|(_, character)| *character == ']');
    while let Some((at, character)) = characters.next() {
        match character {
            ']' => return at + 1,
            '\\' => {
                characters.next();
            }
            // A named class such as `[:alpha:]`.
            '[' if text[at..].starts_with("[:") => {
                characters.by_ref().find(|(_, end)| *end == ']');
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_unanchored_and_the_empty_one_matches_the_empty_name_alone() {
        for (pattern, name, matches) in [
            ("", "", true),
            ("", "q", false),
            ("^$", "q", false),
            (".*", "", true),
            (".*", "q", true),
            ("q", "a queue q1", true),
            ("^q", "aq", false),
            ("^(a|b)$", "b", true),
            ("^(a|b)$", "ba", false),
            ("^amq\\.", "amq.default", true),
            ("orders\\/\\d+", "orders/17", true),
            ("^é+$", "éé", true),
            ("^[*+]$", "+", true),
            ("^[]*+]$", "]", true),
            ("^[[:alpha:]*+\\]]+$", "a*+]", true),
            ("^a\\++$", "a++", true),
        ] {
            let compiled = NamePattern::compile(pattern).unwrap();
            assert_eq!(
                compiled.matches(name.as_bytes()),
                matches,
                "{pattern} on {name}"
            );
        }
    }

    #[test]
    fn names_need_not_be_utf8() {
        assert!(NamePattern::compile(".*").unwrap().matches(b"\xff"));
        assert!(NamePattern::compile("a").unwrap().matches(b"\xffa"));
    }

    #[test]
    fn constructs_of_back_tracking_engines_are_refused_by_name() {
        for (pattern, feature) in [
            ("^(?!amq)", "negative look-ahead"),
            ("^(?=q)", "look-ahead"),
            ("(?<=a)b", "look-behind"),
            ("(?<!a)b", "negative look-behind"),
            ("(a)\\1", "a back-reference"),
            ("(?>a)b", "an atomic group"),
            ("q\\Z", "this PCRE escape"),
            ("(?R)", "recursion"),
            ("a++", "a possessive quantifier"),
            ("[b]*+", "a possessive quantifier"),
        ] {
            assert_eq!(
                NamePattern::compile(pattern).unwrap_err(),
                PatternError::Unsupported { feature },
                "{pattern}"
            );
        }
        assert_eq!(
            NamePattern::compile("^(?!amq)").unwrap_err().to_string(),
            "negative look-ahead is not supported in patterns; write the pattern without it"
        );
    }

    #[test]
    fn bad_syntax_is_refused_on_one_line() {
        let PatternError::Syntax { reason } = NamePattern::compile("(q").unwrap_err() else {
            panic!("expected a syntax error");
        };
        assert_eq!(reason, "unclosed group");
    }

    #[test]
    fn long_and_exploding_patterns_are_refused() {
        let longest = "q".repeat(PATTERN_BYTES_MAX);
        assert!(NamePattern::compile(&longest).is_ok());
        assert!(matches!(
            NamePattern::compile(&format!("{longest}q")),
            Err(PatternError::TooLong { bytes: 1025 })
        ));
        assert_eq!(
            NamePattern::compile("(a{1000}){1000}").unwrap_err(),
            PatternError::TooLarge
        );
    }
}
