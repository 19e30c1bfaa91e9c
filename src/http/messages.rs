//! Single messages: publish one, get some.
//!
//! Both go the way of a client of AMQP with its permissions; `rabbit_mgmt_wm_exchange_publish` and
//! `rabbit_mgmt_wm_queue_get` are the models. Gets by this way are for looking, not for consuming.

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::State;
use super::answer::{self, Answer, ApiError};
use super::caller::Caller;
use super::input::Input;
use super::names;
use crate::broker::Published;
use crate::model::{Got, SettlementOutcome};
use crate::protocol::{Properties, ShortString};
use crate::store::definitions::json::{arguments_from_json, arguments_to_json};

/// How long a publish waits for its confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of payloads in one answer, after which no further message is got.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a message costs an answer beside its payload.
const MESSAGE_BYTES: usize = 1024;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/exchanges/{vhost}/{exchange}/publish", post(publish))
        .route("/api/queues/{vhost}/{queue}/get", post(get))
}

async fn publish(
    caller: Caller,
    Path((vhost, exchange)): Path<(String, String)>,
    input: Input,
) -> Answer {
    let vhost = caller.vhost_to_change(&vhost)?;
    let exchange = names::exchange(exchange);
    if !exchange.is_empty() && vhost.exchange_cell(&exchange).is_none() {
        return Err(ApiError::not_found("exchange_not_found"));
    }
    input.require(&["routing_key", "properties", "payload", "payload_encoding"])?;
    let routing_key = input.text("routing_key")?.unwrap_or_default();
    let payload = match input.get("payload") {
        Some(Value::String(payload)) => payload,
        _ => return Err(ApiError::bad_request("payload_not_string")),
    };
    let payload = match input.text("payload_encoding")?.unwrap_or_default() {
        "string" => payload.clone().into_bytes(),
        "base64" => STANDARD
            .decode(payload.trim())
            .map_err(|_| ApiError::bad_request("{not_base64,payload}"))?,
        other => {
            return Err(ApiError::bad_request(format!(
                "{{unsupported_encoding,{other}}}"
            )));
        }
    };
    if routing_key.len() > 255 {
        return Err(ApiError::bad_request(
            "the routing key has more than 255 bytes",
        ));
    }
    let properties = properties_from_json(input.get("properties").unwrap_or(&Value::Null))?;
    if let Some(reason) = caller.broker().alarms().reason() {
        return Err(ApiError::bad_request(format!(
            "publishers are blocked: {reason}"
        )));
    }
    let published = caller
        .direct(&vhost)?
        .publish(
            &exchange,
            routing_key,
            &properties.to_encoded(),
            &payload,
            CONFIRM_TIMEOUT,
        )
        .await
        .map_err(ApiError::of_channel)?;
    match published {
        Some(Published::Routed) => answer::json(&json!({"routed": true})),
        Some(Published::Unroutable) => answer::json(&json!({"routed": false})),
        Some(Published::Rejected) => Err(ApiError::bad_request(
            "rejected Unable to publish message. Check queue limits.",
        )),
        None => Err(ApiError::bad_request("confirm_timeout")),
    }
}

/// The properties of a message, from JSON.
fn properties_from_json(json: &Value) -> Result<Properties, ApiError> {
    let empty = Map::new();
    let fields = match json {
        Value::Object(fields) => fields,
        Value::Array(list) if list.is_empty() => &empty,
        _ => return Err(ApiError::bad_request("{not_object,properties}")),
    };
    let text = |name: &str| -> Result<Option<ShortString>, ApiError> {
        match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => ShortString::new(text.clone().into_bytes())
                .map(Some)
                .map_err(|_| ApiError::bad_request(format!("{{longer_than_255_bytes,{name}}}"))),
            Some(_) => Err(ApiError::bad_request(format!("{{not_string,{name}}}"))),
        }
    };
    let number = |name: &str| -> Result<Option<u64>, ApiError> {
        match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| ApiError::bad_request(format!("{{not_int,{name}}}"))),
        }
    };
    let octet = |name: &str| -> Result<Option<u8>, ApiError> {
        number(name)?
            .map(|number| {
                u8::try_from(number)
                    .map_err(|_| ApiError::bad_request(format!("{{above_255,{name}}}")))
            })
            .transpose()
    };
    let headers = match fields.get("headers") {
        None | Some(Value::Null) => None,
        Some(headers) => Some(
            arguments_from_json(headers, "headers")
                .map_err(|error| ApiError::bad_request(error.to_string()))?,
        ),
    };
    Ok(Properties {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: number("timestamp")?,
        type_: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    })
}

/// The properties that are set.
fn properties_to_json(properties: &Properties) -> Value {
    let mut fields = Map::new();
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message_id", &properties.message_id),
        ("type", &properties.type_),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
        ("cluster_id", &properties.cluster_id),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.as_str_lossy().into());
        }
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.into());
        }
    }
    if let Some(headers) = &properties.headers {
        fields.insert("headers".to_owned(), arguments_to_json(headers));
    }
    Value::Object(fields)
}

/// What becomes of messages that were got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckMode {
    Ack,
    Settle(SettlementOutcome),
}

impl AckMode {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(match text {
            "ack_requeue_false" => Self::Ack,
            // RabbitMQ's channel ends with these unsettled, which requeues them; a nack does not count as a failed delivery.
            "ack_requeue_true" => Self::Settle(SettlementOutcome::RequeuedByNack),
            "reject_requeue_true" => Self::Settle(SettlementOutcome::RequeuedByReject),
            "reject_requeue_false" => Self::Settle(SettlementOutcome::Rejected),
            _ => {
                return Err(ApiError::bad_request(
                    "Unsupported ackmode. Please use ack_requeue_true, ack_requeue_false, \
                     reject_requeue_true or reject_requeue_false.",
                ));
            }
        })
    }
}

async fn get(caller: Caller, Path((vhost, queue)): Path<(String, String)>, input: Input) -> Answer {
    let vhost = caller.vhost_to_change(&vhost)?;
    if vhost.queue_handle(&queue).is_none() {
        return Err(ApiError::object_not_found());
    }
    input.require(&["ackmode", "count", "encoding"])?;
    let mode = AckMode::parse(input.text("ackmode")?.unwrap_or_default())?;
    let count = input.integer("count")?.unwrap_or_default();
    let is_base64 = match input.text("encoding")?.unwrap_or_default() {
        "auto" => false,
        "base64" => true,
        _ => {
            return Err(ApiError::bad_request(
                "Unsupported encoding. Please use auto or base64.",
            ));
        }
    };
    let truncate = input
        .integer("truncate")?
        .map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(0));
    let mut direct = caller.direct(&vhost)?;
    let mut items = Vec::new();
    let mut held = Vec::new();
    let mut bytes = 0;
    while (items.len() as i64) < count && bytes < ANSWER_BYTES_MAX {
        let got = direct
            .get(&queue, mode == AckMode::Ack)
            .await
            .map_err(ApiError::of_channel)?;
        let Some(got) = got else { break };
        bytes += got.message.body_bytes().min(truncate) + MESSAGE_BYTES;
        items.push(shown(&got, is_base64, truncate));
        // Settled later: a message that comes back at once would be got again.
        held.push(got);
    }
    if let AckMode::Settle(outcome) = mode {
        for got in &held {
            direct.settle(got, outcome);
        }
        direct.flush();
    }
    answer::json(&items)
}

fn shown(got: &Got, is_base64: bool, truncate: usize) -> Value {
    let message = &got.message;
    let mut properties = message.facts().view(message.properties()).decode();
    if let Some(counts) = got.counts {
        counts.mark(properties.headers.get_or_insert_default());
    }
    let (payload, encoding) = payload(message.body(), is_base64, truncate);
    json!({
        "payload_bytes": message.body_bytes(),
        "redelivered": got.redelivered,
        "exchange": &**message.exchange(),
        "routing_key": String::from_utf8_lossy(message.routing_key()),
        "message_count": got.messages_ready,
        "properties": properties_to_json(&properties),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

/// Text stays text, also when it is cut; everything else is base64.
fn payload(body: &[u8], is_base64: bool, truncate: usize) -> (String, &'static str) {
    let end = body.len().min(truncate);
    if !is_base64 && let Ok(text) = std::str::from_utf8(body) {
        let whole = (0..=end).rev().find(|at| text.is_char_boundary(*at));
        return (text[..whole.unwrap_or(0)].to_owned(), "string");
    }
    (STANDARD.encode(&body[..end]), "base64")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_went() {
        let json = json!({
            "content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 2, "priority": 3,
            "correlation_id": "c", "reply_to": "r", "expiration": "1000", "message_id": "m",
            "timestamp": 1_600_000_000, "type": "t", "user_id": "guest", "app_id": "a", "cluster_id": "x",
            "headers": {"n": 1, "s": "x", "t": {"b": true}},
        });
        assert_eq!(
            properties_to_json(&properties_from_json(&json).unwrap()),
            json
        );
        for empty in [
            json!({}),
            json!([]),
            json!({"unknown": 1, "priority": null}),
        ] {
            assert_eq!(properties_from_json(&empty).unwrap(), Properties::default());
        }
    }

    #[test]
    fn wrong_properties_are_named() {
        for (json, reason) in [
            (json!({"priority": "3"}), "{not_int,priority}"),
            (json!({"priority": 256}), "{above_255,priority}"),
            (json!({"type": 1}), "{not_string,type}"),
            (json!("x"), "{not_object,properties}"),
            (
                json!({"headers": {"a": null}}),
                "headers.a: null is not allowed",
            ),
            (
                json!({"app_id": "x".repeat(256)}),
                "{longer_than_255_bytes,app_id}",
            ),
        ] {
            assert_eq!(
                properties_from_json(&json),
                Err(ApiError::bad_request(reason))
            );
        }
    }

    #[test]
    fn payloads_are_text_where_they_can_be() {
        for (body, is_base64, truncate, expected) in [
            ("äb".as_bytes(), false, usize::MAX, ("äb", "string")),
            ("äb".as_bytes(), false, 1, ("", "string")),
            ("äb".as_bytes(), false, 2, ("ä", "string")),
            (b"ab", true, usize::MAX, ("YWI=", "base64")),
            (b"\xff\xfb", false, usize::MAX, ("//s=", "base64")),
            (b"\xffab", false, 1, ("/w==", "base64")),
            (b"", false, 0, ("", "string")),
        ] {
            let (text, encoding) = payload(body, is_base64, truncate);
            assert_eq!((text.as_str(), encoding), expected);
        }
    }
}
