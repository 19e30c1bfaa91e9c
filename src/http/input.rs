//! What comes in with a request: the body, as lenient as RabbitMQ takes it, and the query string.
//!
//! In: bytes. Out: fields of a JSON object, texts of the query. Which fields a call wants is the caller's business.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};

use super::State;
use super::answer::ApiError;
use crate::protocol::FieldTable;
use crate::store::definitions::json::arguments_from_json;

/// How long the next piece of a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole body of a request.
///
/// # Errors
/// 400 when it is larger than allowed, or ends too early, or comes too slowly.
pub async fn read_body(request: Request, state: &State) -> Result<Bytes, ApiError> {
    let bytes_max = state.settings().max_body_bytes;
    let too_large = || ApiError::bad_request("Exceeded HTTP request body size limit");
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let mut body: Body = request.into_body();
    let mut whole = Vec::new();
    loop {
        let frame = tokio::time::timeout(BODY_TIMEOUT, body.frame())
            .await
            .map_err(|_| ApiError::bad_request("the request body did not arrive in time"))?;
        match frame {
            None => return Ok(whole.into()),
            Some(Err(error)) => {
                return Err(ApiError::bad_request(format!(
                    "the request body cannot be read: {error}"
                )));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    if (whole.len() + data.len()) as u64 > bytes_max {
                        return Err(too_large());
                    }
                    whole.extend_from_slice(&data);
                }
            }
        }
    }
}

/// The fields of a JSON object. Unknown ones are ignored; an empty body, `null` and `undefined` are an object without any.
#[derive(Clone, Debug, Default)]
pub struct Input(Map<String, Value>);

impl FromRequest<State> for Input {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &State) -> Result<Self, ApiError> {
        Self::parse(&read_body(request, state).await?)
    }
}

impl Input {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 `not_json`.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let text = body.trim_ascii();
        if text.is_empty() || text == b"undefined" {
            return Ok(Self::default());
        }
        match serde_json::from_slice(text) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(Value::Null) => Ok(Self::default()),
            Ok(Value::String(_)) => Err(ApiError::bad_request(
                "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?",
            )),
            Ok(_) | Err(_) => Err(ApiError::bad_request("not_json")),
        }
    }

    /// Checks that fields are there.
    ///
    /// # Errors
    /// 400 with all that are missing, as `[{key_missing,read}]`.
    pub fn require(&self, names: &[&str]) -> Result<(), ApiError> {
        let missing: Vec<String> = names
            .iter()
            .filter(|name| self.get(name).is_none())
            .map(|name| format!("{{key_missing,{name}}}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ApiError::bad_request(format!("[{}]", missing.join(","))))
    }

    /// A field that is there and not null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(ApiError::bad_request(format!(
                "{{not_string,{name},{other}}}"
            ))),
        }
    }

    /// A truth, which may be written as a text.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(*truth)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(other) => Err(ApiError::bad_request(format!(
                "{{not_boolean,{name},{other}}}"
            ))),
        }
    }

    /// A whole number, which may be written as a text.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::bad_request(format!("{{not_int,{name},{value}}}"))),
        }
    }

    /// The field `arguments` as a table of AMQP.
    ///
    /// # Errors
    /// 400 for what has no counterpart there.
    pub fn arguments(&self) -> Result<FieldTable, ApiError> {
        match self.get("arguments") {
            None => Ok(FieldTable::new()),
            Some(arguments) => arguments_from_json(arguments, "arguments")
                .map_err(|error| ApiError::bad_request(error.to_string())),
        }
    }
}

/// The query string; of a key that comes twice the first holds.
#[derive(Clone, Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl FromRequestParts<State> for Params {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &State,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Params {
    /// Reads a query string.
    pub fn parse(query: &str) -> Self {
        let mut params = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            params
                .entry(name.into_owned())
                .or_insert_with(|| value.into_owned());
        }
        Self(params)
    }

    /// A parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a parameter is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_say_nothing_are_empty_objects() {
        for body in ["", " \n", "null", "undefined", "{}"] {
            assert!(
                Input::parse(body.as_bytes()).unwrap().0.is_empty(),
                "{body}"
            );
        }
        for body in ["[]", "1", "{", "\"{}\""] {
            assert!(Input::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn truths_and_numbers_may_be_texts() {
        let input =
            Input::parse(br#"{"a":"true","b":false,"c":"12","d":-3,"e":1.5,"f":"x","g":null}"#)
                .unwrap();
        assert_eq!(input.boolean("a"), Ok(Some(true)));
        assert_eq!(input.boolean("b"), Ok(Some(false)));
        assert_eq!(input.integer("c"), Ok(Some(12)));
        assert_eq!(input.integer("d"), Ok(Some(-3)));
        assert_eq!(input.boolean("g"), Ok(None));
        assert_eq!(input.integer("h"), Ok(None));
        for name in ["e", "f"] {
            assert!(input.integer(name).is_err());
            assert!(input.boolean(name).is_err());
        }
        assert_eq!(
            input.require(&["a", "g", "h"]),
            Err(ApiError::bad_request("[{key_missing,g},{key_missing,h}]"))
        );
    }

    #[test]
    fn a_query_is_decoded() {
        let params = Params::parse("a=1&b=x+y%2F&a=2&c");
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.get("b"), Some("x y/"));
        assert_eq!(params.get("c"), Some(""));
        assert_eq!(params.get("d"), None);
    }
}
