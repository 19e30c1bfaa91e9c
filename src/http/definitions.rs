//! Definitions: all of them, or those of one virtual host, as one document out and in.
//!
//! The document is written to the client as it is made. Its tag is a digest of its bytes, so that whoever has it is told so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::body::Frame;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::State;
use super::answer::{Answer, ApiError};
use super::caller::{Administrator, Caller};
use super::input::{Params, read_body};
use super::{change, multipart};
use crate::broker::Broker;
use crate::broker::admin::AdminError;
use crate::model::Name;
use crate::routing::ExchangeDefinition;
use crate::store::definitions::{
    Binding, Definitions, DestinationKind, Exchange, ExportHeader, Queue, export,
};

/// Bytes of a document that are handed to the connection at once, and how many such pieces may wait.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_MAX: usize = 4;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/definitions", get(all).post(import))
        .route("/api/all-configuration", get(all).post(import))
        .route(
            "/api/definitions/{vhost}",
            get(of_vhost).post(import_into_vhost),
        )
}

async fn all(Administrator(caller): Administrator, params: Params, headers: HeaderMap) -> Answer {
    reply(&caller, None, &params, &headers).await
}

async fn of_vhost(
    Administrator(caller): Administrator,
    Path(vhost): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    reply(&caller, Some(Arc::clone(&vhost.name)), &params, &headers).await
}

async fn reply(
    caller: &Caller,
    vhost: Option<Name>,
    params: &Params,
    headers: &HeaderMap,
) -> Answer {
    let settings = caller.state.settings();
    let header = ExportHeader {
        version: settings.version.clone(),
        product_name: settings.product.clone(),
        cluster_name: caller.state.cluster_name().to_string(),
    };
    let broker = Arc::clone(caller.broker());
    let gathered = tokio::task::spawn_blocking(move || {
        let definitions = gather(&broker)?;
        let mut digest = Digester(Sha256::new());
        export(&mut digest, &definitions, vhost.as_deref(), &header)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let tag = URL_SAFE_NO_PAD.encode(digest.0.finalize());
        Ok::<_, ApiError>((definitions, vhost, header, format!("\"{tag}\"")))
    });
    let (definitions, vhost, export_header, tag) = gathered
        .await
        .map_err(|error| ApiError::internal(error.to_string()))??;
    let tag_value =
        HeaderValue::from_str(&tag).map_err(|error| ApiError::internal(error.to_string()))?;
    if is_known(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag_value)]).into_response());
    }
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces {
            piece: Vec::with_capacity(PIECE_BYTES),
            sender,
        };
        // A client that has gone ends the export.
        let _ = export(&mut out, &definitions, vhost.as_deref(), &export_header)
            .and_then(|()| io::Write::flush(&mut out));
    });
    let mut response = Response::new(Body::new(Pieced(receiver)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, tag_value);
    if let Some(name) = params.get("download") {
        headers.insert(header::CONTENT_DISPOSITION, disposition(name));
    }
    Ok(response)
}

/// Whether the client says that it has what has this tag.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let Some(known) = headers.get(header::IF_NONE_MATCH) else {
        return false;
    };
    known.to_str().is_ok_and(|known| {
        known
            .split(',')
            .map(|known| known.trim().trim_start_matches("W/"))
            .any(|known| known == tag || known == "*")
    })
}

/// The name under which a browser keeps the document, without what could end the header's quotes.
fn disposition(name: &str) -> HeaderValue {
    let kept: String = name
        .chars()
        .filter(|it| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_' | '@' | ' '))
        .collect();
    HeaderValue::from_str(&format!("attachment; filename=\"{kept}\""))
        .unwrap_or(HeaderValue::from_static("attachment"))
}

/// What is stored, and what lives until the next start: transient queues and exchanges, and what is bound to them.
fn gather(broker: &Broker) -> Result<Definitions, ApiError> {
    let mut all = broker.definitions().map_err(ApiError::from)?;
    for vhost in broker.vhosts() {
        let mut transient = std::collections::HashSet::new();
        let mut hidden = std::collections::HashSet::new();
        for handle in vhost.queue_handles() {
            let declaration = handle.declaration();
            if declaration.exclusive_owner.is_some() {
                hidden.insert(Arc::clone(handle.name()));
            } else if !declaration.durable {
                transient.insert((DestinationKind::Queue, Arc::clone(handle.name())));
                all.queues.push(Queue {
                    id: handle.id(),
                    vhost: Arc::clone(&vhost.name),
                    name: Arc::clone(handle.name()),
                    kind: handle.kind().as_str().to_owned(),
                    durable: false,
                    auto_delete: declaration.auto_delete,
                    arguments: declaration.arguments.clone(),
                });
            }
        }
        let cells = vhost.exchange_cells();
        for cell in &cells {
            let definition = cell.read(|exchange| exchange.definition().clone());
            if !definition.durable {
                let name = Arc::clone(&definition.name);
                transient.insert((DestinationKind::Exchange, name));
                all.exchanges.push(exchange(&vhost.name, definition));
            }
        }
        if transient.is_empty() {
            continue;
        }
        for row in cells
            .iter()
            .flat_map(|cell| broker.bindings_from(&vhost, cell))
        {
            let source = (DestinationKind::Exchange, Arc::clone(&row.source));
            let destination = (row.destination_kind, Arc::clone(&row.destination));
            let is_hidden =
                destination.0 == DestinationKind::Queue && hidden.contains(&destination.1);
            if !is_hidden && (transient.contains(&source) || transient.contains(&destination)) {
                all.bindings.push(Binding {
                    vhost: row.vhost,
                    source: row.source,
                    destination: row.destination,
                    destination_kind: row.destination_kind,
                    routing_key: row.routing_key,
                    arguments: row.arguments,
                });
            }
        }
    }
    Ok(all)
}

fn exchange(vhost: &Name, definition: ExchangeDefinition) -> Exchange {
    Exchange {
        vhost: Arc::clone(vhost),
        name: definition.name,
        kind: definition.kind.as_str().to_owned(),
        durable: definition.durable,
        auto_delete: definition.auto_delete,
        internal: definition.internal,
        arguments: definition.arguments,
    }
}

async fn import(Administrator(caller): Administrator, request: Request) -> Answer {
    import_document(&caller, None, request).await
}

async fn import_into_vhost(
    Administrator(caller): Administrator,
    Path(vhost): Path<String>,
    request: Request,
) -> Answer {
    let vhost = caller.vhost_to_see(&vhost)?;
    import_document(&caller, Some(Arc::clone(&vhost.name)), request).await
}

async fn import_document(caller: &Caller, vhost: Option<Name>, request: Request) -> Answer {
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("application/json")
        .to_owned();
    let is_json = kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    let boundary = multipart::boundary(&kind);
    if !is_json && boundary.is_none() {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send application/json or multipart/form-data with a part named file",
        ));
    }
    let body = read_body(request, &caller.state).await?;
    let (document, redirect) = match boundary {
        None => (body, None),
        Some(boundary) => {
            let mut document = None;
            let mut redirect = None;
            for part in multipart::parts(&body, &boundary)? {
                match part.name.as_str() {
                    "file" => document = Some(body.slice_ref(part.content)),
                    "redirect" => {
                        redirect = Some(String::from_utf8_lossy(part.content).into_owned());
                    }
                    _ => {}
                }
            }
            let missing = || ApiError::bad_request("there is no part named file");
            (document.ok_or_else(missing)?, redirect)
        }
    };
    let document = if document.trim_ascii().is_empty() {
        Bytes::from_static(b"{}")
    } else {
        document
    };
    let report = change::make(caller, move |broker| {
        let imported = broker.import_definitions(&document, vhost.as_deref());
        imported.map_err(|error| match error {
            AdminError::Invalid { reason } if reason.starts_with("not JSON") => {
                AdminError::Invalid {
                    reason: format!("failed_to_parse_json: {reason}"),
                }
            }
            other => other,
        })
    })
    .await?;
    tracing::info!(target: "haremq::http", user = %caller.user.name, "definitions imported: {report}");
    // Only to this server itself.
    let place = redirect.filter(|place| place.starts_with('/') && !place.starts_with("//"));
    Ok(
        match place.and_then(|place| HeaderValue::from_str(&place).ok()) {
            Some(place) => (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        },
    )
}

struct Digester(Sha256);

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands what is written to the connection, and waits while that has enough.
struct Pieces {
    piece: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.sender
            .blocking_send(piece.into())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.send()
    }
}

/// A body that is being written.
struct Pieced(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieced {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_its_quotes() {
        for (name, expected) in [
            ("defs_2026.json", "attachment; filename=\"defs_2026.json\""),
            ("a\"\r\nx: y", "attachment; filename=\"ax y\""),
        ] {
            assert_eq!(disposition(name), expected);
        }
    }
}
