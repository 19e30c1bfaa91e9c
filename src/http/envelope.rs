//! What holds for every request and response, whatever the resource: paths, methods, headers, compression.
//!
//! In: a request as it came, the router. Out: the response as it goes. A trailing slash is taken off, OPTIONS is answered
//! without a look at credentials, errors that the router makes get RabbitMQ's bodies, and what a browser must know is added.

use std::convert::Infallible;
use std::io::Write as _;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::HttpSettings;
use super::answer::ApiError;

/// Bodies below this gain nothing.
const COMPRESSED_BYTES_MIN: u64 = 1024;
/// Bodies above this are compressed on a thread of their own.
const COMPRESSED_INLINE_BYTES_MAX: usize = 256 * 1024;

const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; object-src 'none'; frame-ancestors 'self'; base-uri 'self'",
        ),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::X_FRAME_OPTIONS,
        HeaderValue::from_static("SAMEORIGIN"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
];

/// Answers one request.
pub async fn handle(mut request: Request, router: Router, settings: &HttpSettings) -> Response {
    normalise(&mut request);
    let asked = Asked::of(&request);
    let response = match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(infallible) => match infallible {},
    };
    let mut response = with_router_errors(response, &asked);
    if asked.is_options {
        response = options(response, &asked, settings);
    } else if asked.takes_gzip {
        response = compressed(response).await;
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.entry(name).or_insert(value);
    }
    headers.insert(
        header::VARY,
        HeaderValue::from_static("accept, accept-encoding, origin"),
    );
    allow_origin(headers, &asked, settings);
    response
}

/// What of a request is still asked when it is answered.
struct Asked {
    is_options: bool,
    takes_gzip: bool,
    origin: Option<HeaderValue>,
    request_headers: Option<HeaderValue>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let headers = request.headers();
        let accepted = headers
            .get(header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        Self {
            is_options: request.method() == Method::OPTIONS,
            takes_gzip: takes_gzip(accepted),
            origin: headers.get(header::ORIGIN).cloned(),
            request_headers: headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        }
    }
}

fn takes_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let is_refused = parts.any(|part| {
            part.strip_prefix("q=")
                .and_then(|weight| weight.parse::<f32>().ok())
                .is_some_and(|weight| weight <= 0.0)
        });
        is_gzip && !is_refused
    })
}

/// A trailing slash names the same resource: `/api/queues/` is `/api/queues`. Celery's flower asks so.
fn normalise(request: &mut Request) {
    let uri = request.uri();
    let path = uri.path();
    let Some(shorter) = path.strip_suffix('/').filter(|path| !path.is_empty()) else {
        return;
    };
    let text = match uri.query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    if let Ok(path) = PathAndQuery::try_from(text)
        && let Ok(uri) = Uri::builder().path_and_query(path).build()
    {
        *request.uri_mut() = uri;
    }
}

/// What the router refuses by itself: a method that a resource does not have, a path that is no text.
fn with_router_errors(response: Response, asked: &Asked) -> Response {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let error = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED if !asked.is_options => ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method Not Allowed",
        ),
        StatusCode::BAD_REQUEST if !is_json => {
            ApiError::bad_request("the path or the query is not valid UTF-8")
        }
        _ => return response,
    };
    let mut answer = error.into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        answer.headers_mut().insert(header::ALLOW, allow.clone());
    }
    answer
}

/// OPTIONS reaches no handler: the router says which methods there are.
fn options(response: Response, asked: &Asked, settings: &HttpSettings) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let methods = response
        .headers()
        .get(header::ALLOW)
        .and_then(|allow| allow.to_str().ok())
        .unwrap_or_default();
    let methods = format!("{methods},OPTIONS").replace(',', ", ");
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    let Ok(methods) = HeaderValue::from_str(&methods) else {
        return answer;
    };
    headers.insert(header::ALLOW, methods.clone());
    if allowed_origin(asked, settings).is_some() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from(settings.cors_max_age_s),
        );
        if let Some(asked) = &asked.request_headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
    }
    answer
}

/// The origin that may read the answer, `*` for any (`rabbit_mgmt_cors`).
fn allowed_origin(asked: &Asked, settings: &HttpSettings) -> Option<HeaderValue> {
    let origin = asked.origin.as_ref()?;
    let text = origin.to_str().ok()?;
    if text == "null" || text == "*" {
        return None;
    }
    let origins = &settings.cors_allow_origins;
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    origins
        .iter()
        .any(|allowed| allowed == text)
        .then(|| origin.clone())
}

fn allow_origin(headers: &mut HeaderMap, asked: &Asked, settings: &HttpSettings) {
    let Some(origin) = allowed_origin(asked, settings) else {
        return;
    };
    if origin != "*" {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("location, etag"),
    );
}

/// Compresses a body that is there as a whole; one that is being made goes as it is.
async fn compressed(response: Response) -> Response {
    let is_worth_it = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|bytes| bytes >= COMPRESSED_BYTES_MIN);
    if !is_worth_it || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(whole) = body.collect().await else {
        return ApiError::internal("a response could not be compressed").into_response();
    };
    let whole = whole.to_bytes();
    let gzipped = if whole.len() <= COMPRESSED_INLINE_BYTES_MAX {
        gzip(&whole)
    } else {
        let whole = whole.clone();
        tokio::task::spawn_blocking(move || gzip(&whole))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
    };
    let Ok(gzipped) = gzipped else {
        return Response::from_parts(head, Body::from(whole));
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(head, Body::from(gzipped))
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The answer to a path that nothing stands at.
///
/// # Errors
/// Always 404.
pub async fn no_route() -> Result<Infallible, ApiError> {
    Err(ApiError::object_not_found())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_slash_is_taken_off() {
        for (before, after) in [
            ("/api/queues/", "/api/queues"),
            ("/api/queues/?page=1", "/api/queues?page=1"),
            ("/api/queues//", "/api/queues/"),
            ("/api/queues", "/api/queues"),
            ("/", "/"),
            ("http://host:1/api/", "/api"),
        ] {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = before.parse().unwrap();
            normalise(&mut request);
            assert_eq!(request.uri().to_string(), after, "{before}");
        }
    }

    #[test]
    fn gzip_is_used_when_it_is_asked_for() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accepted), expected, "{accepted}");
        }
    }
}
