//! Arguments and properties as somebody types them: JSON, or `name=value,name=value`.
//!
//! In: a text. Out: a field table or message properties. Which names a broker knows is not known here.

use serde_json::Value as Json;

use crate::protocol::{FieldTable, Properties, ShortString, Value};

/// The table that a JSON object or a list of `name=value` stands for.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn table(text: &str) -> Result<FieldTable, String> {
    if text.trim_start().starts_with('{') {
        return match serde_json::from_str(text) {
            Ok(Json::Object(fields)) => fields_of(&fields),
            Ok(_) => Err("it is not a JSON object".to_owned()),
            Err(error) => Err(format!("it is not JSON: {error}")),
        };
    }
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("'{pair}' is not name=value"))?;
            Ok((short(name)?, plain(value)))
        })
        .collect()
}

/// The properties that a JSON object stands for, by the names of the specification.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn properties(text: &str) -> Result<Properties, String> {
    let json: Json =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Json::Object(fields) = json else {
        return Err("it is not a JSON object".to_owned());
    };
    let mut properties = Properties::default();
    for (name, value) in &fields {
        let text = || match value {
            Json::String(text) => short(text).map(Some),
            Json::Number(number) => short(&number.to_string()).map(Some),
            _ => Err(format!("{name} is not a text")),
        };
        let octet = || {
            let number = value.as_u64().and_then(|number| u8::try_from(number).ok());
            number
                .map(Some)
                .ok_or_else(|| format!("{name} is not a number up to 255"))
        };
        match &**name {
            "content_type" => properties.content_type = text()?,
            "content_encoding" => properties.content_encoding = text()?,
            "headers" => match value {
                Json::Object(fields) => properties.headers = Some(fields_of(fields)?),
                _ => return Err("headers is not an object".to_owned()),
            },
            "delivery_mode" => properties.delivery_mode = octet()?,
            "priority" => properties.priority = octet()?,
            "correlation_id" => properties.correlation_id = text()?,
            "reply_to" => properties.reply_to = text()?,
            "expiration" => properties.expiration = text()?,
            "message_id" => properties.message_id = text()?,
            "timestamp" => {
                let seconds = value.as_u64();
                properties.timestamp = Some(seconds.ok_or("timestamp is not in seconds")?);
            }
            "type" => properties.type_ = text()?,
            "user_id" => properties.user_id = text()?,
            "app_id" => properties.app_id = text()?,
            _ => return Err(format!("there is no property {name}")),
        }
    }
    Ok(properties)
}

fn fields_of(fields: &serde_json::Map<String, Json>) -> Result<FieldTable, String> {
    let fields = fields.iter();
    fields
        .map(|(name, value)| Ok((short(name)?, of_json(value)?)))
        .collect()
}

fn of_json(json: &Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Void,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => integer(value),
            (None, Some(value)) => Value::F64(value),
            (None, None) => return Err(format!("{number} is too large")),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(of_json).collect();
            values?.into()
        }
        Json::Object(fields) => fields_of(fields)?.into(),
    })
}

/// The value of a `name=value`: a number or a truth value where it reads like one, or else a text.
fn plain(text: &str) -> Value {
    match (text.parse(), text.parse()) {
        (Ok(number), _) => integer(number),
        (_, Ok(truth)) => Value::Bool(truth),
        _ => text.into(),
    }
}

fn integer(value: i64) -> Value {
    i32::try_from(value).map_or(Value::I64(value), Value::I32)
}

fn short(text: &str) -> Result<ShortString, String> {
    ShortString::new(text.as_bytes().to_vec())
        .map_err(|_| format!("'{text}' is longer than 255 octets"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_give_the_same_table() {
        let json = table(r#"{"x-max-length": 10, "x-overflow": "drop-head", "x": true}"#).unwrap();
        let mut pairs: Vec<_> = table("x-max-length=10,x-overflow=drop-head,x=true")
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(json.get("x-max-length"), Some(&Value::I32(10)));
        for (name, value) in pairs.drain(..) {
            assert_eq!(json.get(&name.as_str_lossy()), Some(&value));
        }
        let large = table(r#"{"a": 5000000000, "b": [1, null, {"c": 0.5}]}"#).unwrap();
        assert_eq!(large.get("a"), Some(&Value::I64(5_000_000_000)));
        assert_eq!(large.get("b").unwrap().as_array().unwrap().len(), 3);
    }

    #[test]
    fn wrong_texts_are_refused_in_words() {
        for text in ["{", "{} x", "a", "{\"a\": 1", &"x".repeat(300)] {
            assert!(table(text).is_err(), "{text}");
        }
        for text in [
            "1",
            "x",
            r#"{"colour": 1}"#,
            r#"{"priority": 256}"#,
            r#"{"headers": 1}"#,
        ] {
            assert!(properties(text).is_err(), "{text}");
        }
    }

    #[test]
    fn properties_have_the_names_of_the_specification() {
        let read = properties(
            r#"{"content_type": "text/plain", "priority": 3, "expiration": 1000, "headers": {"a": 1}}"#,
        )
        .unwrap();
        assert_eq!(read.content_type.unwrap(), "text/plain");
        assert_eq!(read.priority, Some(3));
        assert_eq!(read.expiration.unwrap(), "1000");
        assert_eq!(read.headers.unwrap().get("a"), Some(&Value::I32(1)));
    }
}
