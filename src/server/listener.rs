//! Listening sockets: binds them, accepts connections, backs off when the machine runs out of something.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use parking_lot::RwLock;
use socket2::{Domain, Protocol, Socket, Type};
use std::sync::Arc;
use tokio::net::TcpListener;

use super::connection::{ConnectionShared, serve};
use crate::config::Listeners;

/// How long nothing is accepted after an error such as too many open files.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// An address on which nothing can listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {error}; {}", advice(error))]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What would have listened.
    pub what: &'static str,
    /// The operating system's reason.
    pub error: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another address"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose another",
        _ => "choose another address",
    }
}

/// Binds every address. A `::1` that nobody asked for and the machine does not have is passed over.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind_all(
    what: &'static str,
    listeners: &Listeners,
    backlog: u32,
) -> Result<Vec<StdListener>, ListenError> {
    let mut bound = Vec::new();
    for address in &listeners.addresses {
        match bind(*address, backlog) {
            Ok(listener) => bound.push(listener),
            Err(error) if listeners.defaulted && address.is_ipv6() && is_missing(&error) => {
                tracing::info!(target: "haremq::server", %address, what, "not listening: {error}");
            }
            Err(error) => {
                return Err(ListenError {
                    address: *address,
                    what,
                    error,
                });
            }
        }
    }
    Ok(bound)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts AMQP connections until the task is dropped.
pub async fn accept(listener: TcpListener, shared: Arc<RwLock<ConnectionShared>>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it a lone frame waits for the peer's delayed acknowledgement.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(target: "haremq::connection", %peer, %error, "no TCP_NODELAY");
                }
                let shared = shared.read().clone();
                tokio::spawn(serve(stream, peer, shared));
            }
            Err(error) => {
                tracing::warn!(target: "haremq::server", %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}
