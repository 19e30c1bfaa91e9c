//! The headers exchange: a message goes where a binding's arguments fit its headers.
//!
//! In: binding arguments, compiled once into conditions; out: for the encoded headers of a message the
//! destinations whose conditions hold. Routing keys mean nothing here. Bindings with the same arguments
//! are tried once for all their destinations. The rules are those of `rabbit_exchange_type_headers.erl`.

use std::collections::HashMap;

use super::arguments::{erlang_term, is_same};
use super::destinations::DestinationSet;
use super::{BindingArguments, Destination};
use crate::model::Refusal;
use crate::protocol::{FieldName, FieldTable, Table, Value, ValueRef};

/// The argument that says how many of the others must fit. It is never one of them itself.
const MATCH_ARGUMENT: &str = "x-match";

/// Checks the arguments of a binding.
///
/// # Errors
/// 406 if `x-match` is something else than one of its four words.
pub(super) fn check_arguments(arguments: &FieldTable) -> Result<(), Refusal> {
    match arguments.get(MATCH_ARGUMENT) {
        None => Ok(()),
        Some(value @ Value::LongStr(word)) => match Mode::parse(word) {
            Some(_) => Ok(()),
            None => Err(Refusal::precondition_failed(format!(
                "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                erlang_term(value)
            ))),
        },
        Some(value) => Err(Refusal::precondition_failed(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            value.type_name(),
            erlang_term(value)
        ))),
    }
}

/// The bindings of a headers exchange, by their arguments.
#[derive(Debug, Default)]
pub(super) struct HeadersIndex {
    groups: Vec<Group>,
    /// Places in the list of groups.
    places: HashMap<BindingArguments, usize>,
}

/// All destinations with the same arguments.
#[derive(Debug)]
struct Group {
    arguments: BindingArguments,
    matcher: Matcher,
    destinations: DestinationSet,
}

impl HeadersIndex {
    pub(super) fn insert(&mut self, arguments: &BindingArguments, destination: &Destination) {
        let place = match self.places.get(arguments) {
            Some(place) => *place,
            None => {
                self.places.insert(arguments.clone(), self.groups.len());
                self.groups.push(Group {
                    arguments: arguments.clone(),
                    matcher: Matcher::compile(&arguments.to_table()),
                    destinations: DestinationSet::default(),
                });
                self.groups.len() - 1
            }
        };
        self.groups[place].destinations.insert(destination);
    }

    pub(super) fn remove(&mut self, arguments: &BindingArguments, destination: &Destination) {
        let Some(place) = self.places.get(arguments).copied() else {
            return;
        };
        let group = &mut self.groups[place];
        group.destinations.remove(destination);
        if !group.destinations.is_empty() {
            return;
        }
        self.places.remove(arguments);
        self.groups.swap_remove(place);
        if let Some(moved) = self.groups.get(place) {
            self.places.insert(moved.arguments.clone(), place);
        }
    }

    pub(super) fn matches(&self, headers: Option<Table<'_>>, found: &mut Vec<Destination>) {
        if self.groups.is_empty() {
            return;
        }
        let headers = SortedHeaders::new(headers.unwrap_or_default());
        for group in &self.groups {
            if group.matcher.fits(&headers) {
                found.extend_from_slice(group.destinations.as_slice());
            }
        }
    }
}

/// How many conditions must hold, and which headers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    any: bool,
    with_x: bool,
}

impl Mode {
    fn parse(word: &[u8]) -> Option<Self> {
        let (any, with_x) = match word {
            b"all" => (false, false),
            b"any" => (true, false),
            b"all-with-x" => (false, true),
            b"any-with-x" => (true, true),
            _ => return None,
        };
        Some(Self { any, with_x })
    }
}

/// The arguments of a binding, ready to be held against headers.
#[derive(Debug)]
struct Matcher {
    any: bool,
    conditions: Vec<Condition>,
}

/// One header that must be there; [`Value::Void`] leaves open with which value.
#[derive(Debug)]
struct Condition {
    name: FieldName,
    wanted: Value,
}

impl Matcher {
    fn compile(arguments: &FieldTable) -> Self {
        let mode = match arguments.get(MATCH_ARGUMENT) {
            Some(Value::LongStr(word)) => Mode::parse(word),
            _ => None,
        }
        .unwrap_or(Mode {
            any: false,
            with_x: false,
        });
        let conditions = arguments
            .iter()
            .filter(|(name, _)| {
                **name != MATCH_ARGUMENT && (mode.with_x || !name.as_bytes().starts_with(b"x-"))
            })
            .map(|(name, wanted)| Condition {
                name: name.clone(),
                wanted: wanted.clone(),
            })
            .collect();
        Self {
            any: mode.any,
            conditions,
        }
    }

    fn fits(&self, headers: &SortedHeaders<'_>) -> bool {
        let mut conditions = self.conditions.iter();
        if self.any {
            conditions.any(|condition| condition.holds(headers))
        } else {
            conditions.all(|condition| condition.holds(headers))
        }
    }
}

impl Condition {
    fn holds(&self, headers: &SortedHeaders<'_>) -> bool {
        match (&self.wanted, headers.get(self.name.as_bytes())) {
            (_, None) => false,
            (Value::Void, Some(_)) => true,
            (wanted, Some(given)) => is_same(wanted, given),
        }
    }
}

/// The headers of one message, borrowed and sorted by name, because every group looks for some of them.
struct SortedHeaders<'a>(Vec<(&'a [u8], ValueRef<'a>)>);

impl<'a> SortedHeaders<'a> {
    fn new(headers: Table<'a>) -> Self {
        let mut sorted: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value))
            .collect();
        sorted.sort_by_key(|(name, _)| *name);
        Self(sorted)
    }

    /// The last value of that name, which is the one that RabbitMQ's map of the headers keeps.
    fn get(&self, name: &[u8]) -> Option<ValueRef<'a>> {
        let behind = self.0.partition_point(|(present, _)| *present <= name);
        let (present, value) = self.0.get(behind.checked_sub(1)?)?;
        (*present == name).then_some(*value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::slice;

    use proptest::prelude::*;

    use super::*;
    use crate::model::QueueId;

    fn table(fields: &[(&str, Value)]) -> FieldTable {
        fields.iter().cloned().collect()
    }

    fn found(index: &HeadersIndex, headers: &FieldTable) -> Vec<Destination> {
        let mut found = Vec::new();
        index.matches(Some(headers.to_encoded().as_table()), &mut found);
        found
    }

    fn check(arguments: &[(&str, Value)], headers: &[(&str, Value)], expected: bool) {
        let mut index = HeadersIndex::default();
        let arguments = table(arguments);
        check_arguments(&arguments).unwrap();
        index.insert(
            &BindingArguments::from(&arguments),
            &Destination::Queue(QueueId(1)),
        );
        let found = found(&index, &table(headers));
        assert_eq!(!found.is_empty(), expected, "{arguments:?} on {headers:?}");
    }

    fn mode(word: &'static str) -> (&'static str, Value) {
        ("x-match", word.into())
    }

    #[test]
    fn all_wants_every_header_and_any_wants_one() {
        let (a, b) = (("a", Value::I32(1)), ("b", Value::from("two")));
        for all in [vec![], vec![mode("all")]] {
            let arguments = [all, vec![a.clone(), b.clone()]].concat();
            check(&arguments, &[a.clone(), b.clone()], true);
            check(
                &arguments,
                &[b.clone(), a.clone(), ("c", Value::Void)],
                true,
            );
            check(&arguments, slice::from_ref(&a), false);
            check(&arguments, &[], false);
        }
        let arguments = [mode("any"), a.clone(), b.clone()];
        check(&arguments, slice::from_ref(&a), true);
        check(&arguments, &[("a", Value::I32(2)), b.clone()], true);
        check(&arguments, &[("a", Value::I32(2))], false);
        check(&arguments, &[], false);
    }

    #[test]
    fn no_conditions_match_always_or_never() {
        check(&[], &[], true);
        check(&[mode("all")], &[("a", Value::Void)], true);
        check(&[("x-a", Value::Void)], &[], true);
        check(&[mode("any")], &[], false);
        check(
            &[mode("any"), ("x-a", Value::Void)],
            &[("x-a", Value::Void)],
            false,
        );
    }

    #[test]
    fn x_headers_count_only_with_x_and_x_match_never() {
        let x = ("x-a", Value::I32(1));
        check(
            &[x.clone(), ("a", Value::Void)],
            &[("a", 1i32.into())],
            true,
        );
        check(&[mode("all-with-x"), x.clone()], &[], false);
        check(&[mode("all-with-x"), x.clone()], slice::from_ref(&x), true);
        check(&[mode("any-with-x"), x.clone()], &[x], true);
        check(&[mode("any-with-x")], &[mode("any-with-x")], false);
        check(&[mode("all-with-x")], &[], true);
    }

    #[test]
    fn a_void_argument_asks_for_presence_and_nothing_else_matches_a_void_header() {
        check(&[("a", Value::Void)], &[("a", "x".into())], true);
        check(&[("a", Value::Void)], &[("a", Value::Void)], true);
        check(&[("a", Value::Void)], &[("b", Value::Void)], false);
        check(&[("a", "x".into())], &[("a", Value::Void)], false);
    }

    #[test]
    fn the_last_of_several_headers_of_one_name_counts() {
        let headers = [
            ("a", Value::I32(1)),
            ("b", Value::Void),
            ("a", Value::I32(2)),
        ];
        check(&[("a", Value::I32(2))], &headers, true);
        check(&[("a", Value::I32(1))], &headers, false);
    }

    #[test]
    fn a_message_without_headers_has_no_header() {
        let mut index = HeadersIndex::default();
        let (all, any) = (table(&[]), table(&[mode("any")]));
        index.insert(
            &BindingArguments::from(&all),
            &Destination::Queue(QueueId(1)),
        );
        index.insert(
            &BindingArguments::from(&any),
            &Destination::Queue(QueueId(2)),
        );
        let mut found = Vec::new();
        index.matches(None, &mut found);
        assert_eq!(found, [Destination::Queue(QueueId(1))]);
    }

    #[test]
    fn a_wrong_x_match_is_refused_with_the_texts_of_rabbitmq() {
        let refused = |value: Value, text: &str| {
            let refusal = check_arguments(&table(&[("x-match", value)])).unwrap_err();
            assert_eq!(refusal, Refusal::precondition_failed(text));
        };
        refused(
            "most".into(),
            "Invalid x-match field value <<\"most\">>; expected all, any, all-with-x, or any-with-x",
        );
        refused(
            Value::I32(1),
            "Invalid x-match field type signedint (value 1); expected longstr",
        );
        refused(
            Value::Void,
            "Invalid x-match field type void (value undefined); expected longstr",
        );
    }

    /// The rules again, as a reader of RabbitMQ's code would say them.
    fn fits(arguments: &FieldTable, headers: &FieldTable) -> bool {
        let word = arguments.get("x-match").and_then(Value::as_str);
        let with_x = matches!(word, Some("all-with-x" | "any-with-x"));
        let any = matches!(word, Some("any" | "any-with-x"));
        let results: Vec<bool> = arguments
            .iter()
            .filter(|(name, _)| {
                let name = name.to_string();
                name != "x-match" && (with_x || !name.starts_with("x-"))
            })
            .map(|(name, wanted)| {
                let given = headers.iter().filter(|(header, _)| *header == name).last();
                match (wanted, given) {
                    (_, None) => false,
                    (Value::Void, Some(_)) => true,
                    (Value::LongStr(wanted), Some((_, Value::LongStr(given)))) => wanted == given,
                    (wanted, Some((_, given))) => {
                        wanted.as_i64().is_some() && wanted.as_i64() == given.as_i64()
                    }
                }
            })
            .collect();
        if any {
            results.contains(&true)
        } else {
            !results.contains(&false)
        }
    }

    fn fields() -> impl Strategy<Value = FieldTable> {
        let name = prop::sample::select(vec!["a", "b", "c", "x-a", "x-"]);
        let value = prop_oneof![
            (0i32..3).prop_map(Value::I32),
            (0i64..3).prop_map(Value::I64),
            prop::sample::select(vec!["1", "2"]).prop_map(Value::from),
            Just(Value::Void),
        ];
        prop::collection::vec((name, value), 0..5).prop_map(|fields| {
            let mut table = FieldTable::new();
            for (name, value) in fields {
                table.push(name, value);
            }
            table
        })
    }

    fn arguments() -> impl Strategy<Value = FieldTable> {
        let words = vec!["", "all", "any", "all-with-x", "any-with-x"];
        (fields(), prop::sample::select(words)).prop_map(|(mut table, word)| {
            if !word.is_empty() {
                table.push("x-match", word);
            }
            table
        })
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_plain_matcher_finds(
            bound in prop::collection::vec(arguments(), 0..12),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            messages in prop::collection::vec(fields(), 1..6),
        ) {
            let queue = |number: usize| Destination::Queue(QueueId(number as u64));
            let mut index = HeadersIndex::default();
            for (number, arguments) in bound.iter().enumerate() {
                index.insert(&BindingArguments::from(arguments), &queue(number));
            }
            let mut present: BTreeSet<usize> = (0..bound.len()).collect();
            for removal in removed {
                if !bound.is_empty() {
                    let number = removal.index(bound.len());
                    index.remove(&BindingArguments::from(&bound[number]), &queue(number));
                    present.remove(&number);
                }
            }
            for headers in &messages {
                let mut found = found(&index, headers);
                found.sort_unstable();
                let expected: Vec<Destination> = present
                    .iter()
                    .filter(|number| fits(&bound[**number], headers))
                    .map(|number| queue(*number))
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
