//! HTTP listeners: connections in, requests to what answers them, within bounds.
//!
//! Knows nothing about paths. `axum::serve` has no time-out for headers and no bound on
//! connections.

pub(crate) mod files;
pub(crate) mod host;
mod http2;
pub(crate) mod interim;
pub(crate) mod linger;
mod opening;
mod stall;

use anyhow::Context;
use axum::body::Body;
use files::WithFiles;
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use interim::WithInterim;
use opening::Version;
use stall::WriteStall;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};
use tracing::{debug, warn};

/// Most HTTP connections that one listener holds; a further one waits in the kernel's queue.
const CONNECTION_COUNT_MAX: usize = 16_384;
/// Longest wait for the head of a request, and so longest idle time of a kept connection over HTTP/1;
/// over HTTP/2 the time between two pings.
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

/// What answers the requests of a listener.
pub(crate) trait Door:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Door for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Serves `door` until `shutdown`, then lets requests in flight end.
pub(crate) async fn serve(listener: TcpListener, door: impl Door, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
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
        let connection = serve_connection(stream, peer, door.clone(), shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, error, "connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// One connection's life. Once `shutdown` is there, requests in flight end and no other begins.
async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    door: impl Door,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Without it small answers wait for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "no delay could not be set");
    }
    let version = tokio::select! {
        version = opening::version(&stream, OPENING_WAIT) => version?,
        () = shutdown.cancelled() => return Ok(()),
    };
    match version {
        Version::Http1 => serve_http1(stream, peer, door, shutdown).await,
        Version::Http2 => {
            let door = door.map_request(move |mut request: Request<Body>| {
                request.extensions_mut().insert(PeerAddress(peer));
                request
            });
            http2::serve(WriteStall::new(stream, WRITE_WAIT), door, shutdown).await
        }
    }
}

async fn serve_http1(
    stream: TcpStream,
    peer: SocketAddr,
    door: impl Door,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = WithFiles::new(stream);
    let files = stream.files();
    let stream = WithInterim::new(WriteStall::new(stream, WRITE_WAIT));
    let interim = stream.interim();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        if request.version() == hyper::Version::HTTP_11 {
            request.extensions_mut().insert(interim.clone());
            request.extensions_mut().insert(files.clone());
        }
        let is_small = head_bytes(&request) <= HEADER_BYTES_MAX;
        let answer = is_small.then(|| door.clone().oneshot(request.map(Body::new)));
        async {
            match answer {
                Some(answer) => answer.await,
                None => Ok(too_large()),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_COUNT_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return Ok(ended?),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// Length of a request's head. Hyper's own bound is for what waits in its buffer, which may grow to
/// twice that in one read.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter();
    target + fields.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}

fn too_large() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
