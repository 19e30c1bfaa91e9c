//! Answers: the JSON of a success, and errors in RabbitMQ's form.
//!
//! In: values, refusals of the broker. Out: responses. Which request they answer is not known here. Statuses and texts are
//! those of `rabbit_web_dispatch_access_control` and `rabbit_mgmt_util`.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::model::Refusal;
use crate::protocol::ReplyCode;

/// What a handler gives: a response, or an error that becomes one.
pub type Answer = Result<Response, ApiError>;

/// The challenge to whoever sends no credentials.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An error as the API tells it: `{"error":CODE,"reason":TEXT}`, both always strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    /// `None` for the empty body of a request without credentials.
    body: Option<(Cow<'static, str>, String)>,
}

impl ApiError {
    /// An error with any status.
    pub fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            status,
            body: Some((error.into(), reason.into())),
        }
    }

    /// 400 `bad_request`.
    pub fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 404 for an object or a route that is not there. Clients compare this body as a whole.
    pub fn object_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404 `not_found` with a reason of its own.
    pub fn not_found(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 401 for a user who may not do this.
    pub fn not_authorised(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// 401 for wrong credentials.
    pub fn wrong_credentials() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorized", "Not_Authorized")
    }

    /// 401 for a request without credentials: an empty body, and the challenge.
    pub fn no_credentials() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            body: None,
        }
    }

    /// 412.
    pub fn precondition_failed(reason: impl Into<String>) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            reason,
        )
    }

    /// 500, for what only the broker can cause. It is logged here, once.
    pub fn internal(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        tracing::error!(target: "haremq::http", %reason, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_server_error",
            reason,
        )
    }

    /// A refused command of a declaring or deleting call (`rabbit_mgmt_util:direct_request/6`).
    pub fn of_command(refusal: Refusal) -> Self {
        match refusal.code {
            ReplyCode::NotFound => Self::not_found(refusal.text),
            ReplyCode::AccessRefused | ReplyCode::NotAllowed => {
                Self::not_authorised("Access refused.")
            }
            ReplyCode::InternalError if !is_denied_feature(&refusal) => {
                Self::internal(refusal.text)
            }
            _ => Self::bad_request(refusal.text),
        }
    }

    /// A refused command of a call that publishes or gets (`rabbit_mgmt_util:with_channel/5`): with the reply code's name.
    pub fn of_channel(refusal: Refusal) -> Self {
        let text = format!("{} - {}", refusal.code.name(), refusal.text);
        match refusal.code {
            ReplyCode::NotFound => Self::not_found(text),
            ReplyCode::AccessRefused => Self::not_authorised(text),
            ReplyCode::InternalError => Self::internal(refusal.text),
            code => Self::bad_request(format!("{} {text}", code.code())),
        }
    }
}

/// Features that were switched off are refused with the same code as defects.
fn is_denied_feature(refusal: &Refusal) -> bool {
    refusal.text.starts_with("Feature `")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Some((error, reason)) = self.body else {
            return (self.status, [(header::WWW_AUTHENTICATE, CHALLENGE)]).into_response();
        };
        let body = json!({"error": error, "reason": reason}).to_string();
        (self.status, [(header::CONTENT_TYPE, JSON)], body).into_response()
    }
}

/// 200 with a value.
pub fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(json_bytes(StatusCode::OK, bytes)),
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

/// JSON that is written already.
pub fn json_bytes(status: StatusCode, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// 201 for a new object, 204 for one that was there; without a body.
pub fn put(is_new: bool) -> Answer {
    Ok(if is_new {
        StatusCode::CREATED.into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

/// 204.
pub fn no_content() -> Answer {
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_refused_as_direct_requests_are() {
        for (refusal, expected) in [
            (
                Refusal::not_found("no queue 'q' in vhost '/'"),
                ApiError::not_found("no queue 'q' in vhost '/'"),
            ),
            (
                Refusal::access_refused("configure access to queue 'q' in vhost '/' refused"),
                ApiError::not_authorised("Access refused."),
            ),
            (
                Refusal::precondition_failed("queue 'q' in vhost '/' not empty"),
                ApiError::bad_request("queue 'q' in vhost '/' not empty"),
            ),
            (
                Refusal::internal_error("Feature `x` is deprecated."),
                ApiError::bad_request("Feature `x` is deprecated."),
            ),
        ] {
            assert_eq!(ApiError::of_command(refusal), expected);
        }
        assert_eq!(
            ApiError::of_command(Refusal::internal_error("disk")).status,
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }

    #[test]
    fn a_channels_refusal_names_its_code() {
        for (refusal, expected) in [
            (
                Refusal::not_found("no queue 'q' in vhost '/'"),
                ApiError::not_found("NOT_FOUND - no queue 'q' in vhost '/'"),
            ),
            (
                Refusal::precondition_failed("x"),
                ApiError::bad_request("406 PRECONDITION_FAILED - x"),
            ),
        ] {
            assert_eq!(ApiError::of_channel(refusal), expected);
        }
    }
}
