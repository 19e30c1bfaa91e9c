//! JSON values as RabbitMQ prints them in its reasons: as Erlang terms (`~tp`).
//!
//! In: values. Out: texts on one line; Erlang breaks those that are longer than 80 characters.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

/// A value as a term.
pub fn term(value: &Json) -> String {
    let mut out = String::new();
    put(&mut out, value);
    out
}

/// The fields of an object as a list of pairs.
pub fn pairs<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Json)>) -> String {
    let pairs: Vec<String> = fields
        .into_iter()
        .map(|(key, value)| format!("{{{},{}}}", binary(key), term(value)))
        .collect();
    format!("[{}]", pairs.join(","))
}

/// A text as a binary.
pub fn binary(text: &str) -> String {
    let mut out = String::from("<<\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
    if !text.is_ascii() {
        out.push_str("/utf8");
    }
    out.push_str(">>");
    out
}

fn put(out: &mut String, value: &Json) {
    match value {
        Json::String(text) => out.push_str(&binary(text)),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                put(out, item);
            }
            out.push(']');
        }
        Json::Object(fields) => put_map(out, fields),
        // Numbers, booleans and null look the same in both languages.
        plain => {
            // Writing to a string never fails.
            let _ = write!(out, "{plain}");
        }
    }
}

fn put_map(out: &mut String, fields: &Map<String, Json>) {
    out.push_str("#{");
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&binary(key));
        out.push_str(" => ");
        put(out, value);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_look_as_in_erlang() {
        for (value, expected) in [
            (json!(-5), "-5"),
            (json!(1.5), "1.5"),
            (json!(true), "true"),
            (json!(null), "null"),
            (json!("lazyx"), "<<\"lazyx\">>"),
            (json!("a\"b"), "<<\"a\\\"b\">>"),
            (json!("é"), "<<\"é\"/utf8>>"),
            (json!([1, "a"]), "[1,<<\"a\">>]"),
            (
                json!({"a": {"b": []}}),
                "#{<<\"a\">> => #{<<\"b\">> => []}}",
            ),
        ] {
            assert_eq!(term(&value), expected);
        }
        let fields = json!({"foo": "bar", "x": 1});
        let pairs = fields.as_object().map(pairs);
        assert_eq!(
            pairs.as_deref(),
            Some("[{<<\"foo\">>,<<\"bar\">>},{<<\"x\">>,1}]")
        );
    }
}
