//! The server under the API: accepts connections, bounds how many there are and how slow they may be.
//!
//! In: a listener, the router. Out: each request to [`super::envelope::handle`], with its peer. Resources are not known here.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};

use super::caller::Peer;
use super::{State, envelope};

/// How long nothing is accepted after an error such as too many open files.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Bytes of a request's head, and of what a connection buffers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a client may take nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves HTTP on a listener until the task is dropped.
pub async fn serve(listener: TcpListener, state: State, router: Router) -> Infallible {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(target: "haremq::http", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(state.places()).try_acquire_owned() else {
            tracing::warn!(target: "haremq::http", %peer, "refused: http.connections_max is reached");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (state, router) = (state.clone(), router.clone());
        tokio::spawn(async move {
            connection(stream, Peer(peer), state, router).await;
            drop(place);
        });
    }
}

/// The places of `connections_max` connections.
pub fn places(connections_max: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(connections_max as usize))
}

async fn connection(stream: TcpStream, peer: Peer, state: State, router: Router) {
    let header_timeout = state.settings().header_timeout;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (state, router) = (state.clone(), router.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            Ok::<_, Infallible>(envelope::handle(request, router, state.settings()).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Impatient::new(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(target: "haremq::http", peer = %peer.0, %error, "a connection ended");
    }
}

/// A stream that gives up when the peer takes nothing for [`WRITE_TIMEOUT`].
struct Impatient {
    stream: TcpStream,
    stalled: Pin<Box<Sleep>>,
    is_stalled: bool,
}

impl Impatient {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            stalled: Box::pin(tokio::time::sleep(WRITE_TIMEOUT)),
            is_stalled: false,
        }
    }

    fn judged<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.is_stalled = false;
            return progress;
        }
        if !self.is_stalled {
            self.is_stalled = true;
            self.stalled.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        match self.stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judged(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.judged(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
