//! HTTP listeners: connections in, requests to a router, within bounds.
//!
//! Knows nothing about paths. `axum::serve` has no time-out for headers and no bound on
//! connections.

pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod interim;
pub(crate) mod linger;
mod opening;
mod stall;

use anyhow::Context;
use axum::Router;
use files::WithFiles;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use interim::WithInterim;
use opening::Opening;
use stall::WriteStall;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tracing::{debug, warn};

/// Most HTTP connections that one listener holds; a further one waits in the kernel's queue.
const CONNECTION_COUNT_MAX: usize = 16_384;
/// Longest wait for the head of a request, and so longest idle time of a kept connection.
const HEADER_WAIT: Duration = Duration::from_secs(30);
/// Longest wait for the bytes that tell HTTP/1 from HTTP/2, at the start of a connection.
const OPENING_WAIT: Duration = Duration::from_secs(30);
/// Longest time in which a client may take nothing of its answer.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// Longest head of a request in bytes; a longer one gets 431.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request.
const HEADER_COUNT_MAX: usize = 128;
/// Most requests at once on one HTTP/2 connection.
const STREAM_COUNT_MAX: u32 = 128;
/// Pause after a failed accept: it fails again at once while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is on the other end of a request's connection; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// The addresses of the doors that were bound, with the ports that the system chose where 0 was
/// asked for. `None` is a door that stays shut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) api: Option<SocketAddr>,
    pub(crate) resp: Option<SocketAddr>,
    pub(crate) peers: Option<SocketAddr>,
}

/// Binds `address`. `flag` names it in the error.
pub(crate) fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let listen = || -> std::io::Result<std::net::TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(4_096)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().with_context(|| {
        format!("cannot listen on {address}; choose another with {flag} HOST:PORT, or {flag} off")
    })
}

/// Serves `router` until `shutdown`, then lets requests in flight end.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    let graceful = GracefulShutdown::new();
    let tasks = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore stays open"),
        };
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let connection = connection(stream, peer, router.clone());
        let connection = graceful.watch(connection);
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, error, "connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    graceful.shutdown().await;
    tasks.wait().await;
}

/// One connection's life, as a future that can be told to finish.
fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<
    Error = Box<dyn std::error::Error + Send + Sync>,
> {
    // Without it small answers wait for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "no delay could not be set");
    }
    let stream = WithFiles::new(stream);
    let files = stream.files();
    let stream = WriteStall::new(Opening::new(stream, OPENING_WAIT), WRITE_WAIT);
    let stream = WithInterim::new(stream);
    let interim = stream.interim();
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        if request.version() == hyper::Version::HTTP_11 {
            request.extensions_mut().insert(interim.clone());
            request.extensions_mut().insert(files.clone());
        }
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_COUNT_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .keep_alive_interval(Some(HEADER_WAIT))
        .max_header_list_size(HEADER_BYTES_MAX as u32);
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
        .into_owned()
}
