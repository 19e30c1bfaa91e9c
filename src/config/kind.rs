//! What a setting may look like: parsing, describing and printing of one value.
//!
//! In: a [`Value`] as the file, the environment or a flag wrote it. Out: the used type, or a
//! [`Misfit`]. Which setting the value belongs to, and where it was written, is not known here.

mod amount;
mod network;
mod text;

use std::marker::PhantomData;

pub use amount::{integer, size, threshold};
pub use network::{NodeName, addresses};
pub use text::{FilePath, Hidden, Pattern, ShortText, ShortTexts};

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A quoted text of the file.
    Text(String),
    /// A whole number of the file.
    Integer(i64),
    /// A number of the file with a point.
    Float(f64),
    /// `true` or `false` in the file.
    Boolean(bool),
    /// A list, of the file or of a repeated flag.
    List(Vec<Value>),
    /// What the environment or a flag says: its type is whatever the setting wants.
    Bare(String),
    /// Something that no setting takes: a date, a table, a number beyond 64 bits.
    Foreign(&'static str),
}

impl Value {
    /// The value in the words of an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text(text) => format!("the text \"{text}\""),
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Boolean(truth) => format!("{truth}"),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::describe).collect();
                format!("the list [{}]", items.join(", "))
            }
            Self::Bare(text) => format!("\"{text}\""),
            Self::Foreign(what) => (*what).to_owned(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Bare(text) => Some(text),
            _ => None,
        }
    }

    fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Bare(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A list as it is; a bare text is split at its commas, and `none` is the empty list.
    fn list(&self) -> Option<Vec<Value>> {
        match self {
            Self::List(items) => Some(items.clone()),
            Self::Bare(text) if text.trim() == "none" => Some(Vec::new()),
            Self::Bare(text) => Some(
                text.split(',')
                    .map(|item| Self::Bare(item.trim().to_owned()))
                    .collect(),
            ),
            _ => None,
        }
    }
}

/// A value that its setting does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misfit {
    /// What to write instead, where the description of what is allowed does not say it.
    pub hint: Option<&'static str>,
}

const MISFIT: Misfit = Misfit { hint: None };

/// One kind of value.
pub trait Kind {
    /// The type that the program uses.
    type Used;

    /// What is allowed, to follow "allowed: ".
    fn allowed(&self) -> String;

    /// Parses a written value.
    ///
    /// # Errors
    /// [`Misfit`] where [`Kind::allowed`] does not describe the value.
    fn parse(&self, value: &Value) -> Result<Self::Used, Misfit>;

    /// The written value in the words of an error message.
    fn describe(&self, value: &Value) -> String {
        value.describe()
    }

    /// The used value as a TOML literal, which [`Kind::parse`] takes back. Secrets are hidden.
    fn render(&self, used: &Self::Used) -> String;
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn rendered_list<T>(items: &[T], render: impl Fn(&T) -> String) -> String {
    let items: Vec<_> = items.iter().map(render).collect();
    format!("[{}]", items.join(", "))
}

/// `true` or `false`.
pub struct Boolean;

impl Kind for Boolean {
    type Used = bool;

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn parse(&self, value: &Value) -> Result<bool, Misfit> {
        match value {
            Value::Boolean(truth) => Ok(*truth),
            Value::Bare(text) => text.trim().parse().map_err(|_| MISFIT),
            _ => Err(MISFIT),
        }
    }

    fn render(&self, used: &bool) -> String {
        used.to_string()
    }
}

/// A type with a fixed set of spellings.
pub trait Spelled: Copy + 'static {
    /// Every member.
    fn all() -> &'static [Self];
    /// The spelling of one.
    fn spelling(self) -> &'static str;
}

fn spellings<T: Spelled>() -> String {
    let all: Vec<_> = T::all()
        .iter()
        .map(|member| format!("\"{}\"", member.spelling()))
        .collect();
    all.join(", ")
}

fn spelled_from_value<T: Spelled>(value: &Value) -> Result<T, Misfit> {
    let text = value.text().ok_or(MISFIT)?.trim();
    T::all()
        .iter()
        .copied()
        .find(|member| member.spelling().eq_ignore_ascii_case(text))
        .ok_or(MISFIT)
}

/// One of a fixed set of words.
pub struct Choice<T>(PhantomData<T>);

/// One member of `T`.
pub fn choice<T: Spelled>() -> Choice<T> {
    Choice(PhantomData)
}

impl<T: Spelled> Kind for Choice<T> {
    type Used = T;

    fn allowed(&self) -> String {
        format!("one of {}", spellings::<T>())
    }

    fn parse(&self, value: &Value) -> Result<T, Misfit> {
        spelled_from_value(value)
    }

    fn render(&self, used: &T) -> String {
        quoted(used.spelling())
    }
}

/// At least one of a fixed set of words, in an order that matters.
pub struct Choices<T>(PhantomData<T>);

/// A list of members of `T` that is not empty.
pub fn choices<T: Spelled>() -> Choices<T> {
    Choices(PhantomData)
}

impl<T: Spelled> Kind for Choices<T> {
    type Used = Vec<T>;

    fn allowed(&self) -> String {
        format!("a list of at least one of {}", spellings::<T>())
    }

    fn parse(&self, value: &Value) -> Result<Vec<T>, Misfit> {
        let items = value.list().ok_or(MISFIT)?;
        if items.is_empty() {
            return Err(MISFIT);
        }
        items.iter().map(spelled_from_value).collect()
    }

    fn render(&self, used: &Vec<T>) -> String {
        rendered_list(used, |member| quoted(member.spelling()))
    }
}

/// A value that a word switches off.
pub struct Unless<K> {
    word: &'static str,
    kind: K,
}

/// `word` for nothing, else what `kind` takes.
pub fn unless<K: Kind>(word: &'static str, kind: K) -> Unless<K> {
    Unless { word, kind }
}

impl<K: Kind> Kind for Unless<K> {
    type Used = Option<K::Used>;

    fn allowed(&self) -> String {
        format!("\"{}\", or {}", self.word, self.kind.allowed())
    }

    fn parse(&self, value: &Value) -> Result<Self::Used, Misfit> {
        if value.text().map(str::trim) == Some(self.word) {
            return Ok(None);
        }
        self.kind.parse(value).map(Some)
    }

    fn render(&self, used: &Self::Used) -> String {
        used.as_ref()
            .map_or_else(|| quoted(self.word), |used| self.kind.render(used))
    }
}

/// How many threads carry the connections.
pub struct Threads;

impl Threads {
    const MAX: u64 = 1024;
}

impl Kind for Threads {
    type Used = usize;

    fn allowed(&self) -> String {
        format!(
            "\"auto\" (one a core), or a whole number from 1 to {}",
            Self::MAX
        )
    }

    fn parse(&self, value: &Value) -> Result<usize, Misfit> {
        if value.text().map(str::trim) == Some("auto") {
            return Ok(std::thread::available_parallelism().map_or(1, usize::from));
        }
        integer(1, Self::MAX).parse(value)
    }

    fn render(&self, used: &usize) -> String {
        used.to_string()
    }
}
