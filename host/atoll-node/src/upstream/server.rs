//! One address of an upstream: how it has been doing, and how a request gets there.

use super::body::{FromUpstream, Watched};
use super::connections::{Connections, Seat};
use super::dial::{Dialler, Http1Connector, refused_certificate};
use super::interim::Hints;
use super::limits::{HEADER_BYTES_MAX, HEADER_COUNT_MAX, IDLE_COUNT_MAX, IDLE_WAIT};
use super::{Address, Settings, UpstreamError, exchange};
use atoll_core::http::framing;
use http::{Request, Response, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// One address and how it has been doing.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) under_way: AtomicUsize,
    pub(super) failures_in_a_row: AtomicU32,
    /// In ms since the upstream was made.
    pub(super) ejected_until_ms: AtomicU64,
    /// What the health checks say.
    pub(super) is_down: AtomicBool,
    /// Over HTTP/2.
    connections: Arc<Connections>,
    /// Over HTTP/1.1.
    client: Client<Http1Connector, Watched>,
    /// For each part of a request's body.
    taking_wait: Duration,
}

impl Server {
    /// Opens no connection yet.
    pub(super) fn new(
        address: &Address,
        settings: &Settings,
        tls: ClientConfig,
    ) -> anyhow::Result<Server> {
        let times = settings.times;
        // HTTP/2 has one name for the server and the host: it cannot be told another.
        let dialler = Dialler::new(address, (tls, times.connect), settings.own_host)?;
        let connections = Connections::new(dialler);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_WAIT)
            .pool_max_idle_per_host(IDLE_COUNT_MAX)
            .http1_max_headers(HEADER_COUNT_MAX)
            .http1_max_buf_size(HEADER_BYTES_MAX)
            .set_host(false)
            .build(Http1Connector(Arc::clone(&connections)));
        Ok(Server {
            address: address.clone(),
            under_way: AtomicUsize::new(0),
            failures_in_a_row: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            connections,
            client,
            taking_wait: times.connect + times.first_byte,
        })
    }

    /// Sends a request and waits for the head of the response. `seat` is where it goes over HTTP/2.
    pub(super) async fn send(
        &self,
        mut request: Request<Watched>,
        hints: &Hints,
        seat: &mut Option<Arc<Seat>>,
    ) -> Result<Response<FromUpstream>, UpstreamError> {
        let progress = request.body().progress();
        // Only HTTP/1.1 has upgrades.
        if !request.headers().contains_key(header::UPGRADE) {
            *seat = self.connections.seat().await?;
        }
        if let Some(seat) = seat {
            progress.note_connected();
            let seat = Arc::clone(seat);
            let response = exchange::exchange(seat, request, hints, self.taking_wait).await;
            return with_one_length(response?.map(FromUpstream::of_http2));
        }
        hints.listen(&mut request);
        let mut captured = capture_connection(&mut request);
        let connected = async {
            drop(captured.wait_for_connection_metadata().await);
            progress.note_connected();
            std::future::pending().await
        };
        let response = tokio::select! {
            response = self.client.request(request) => response,
            () = connected => return Err(UpstreamError::Broken),
        };
        let response = response.map_err(|error| kind(&error))?;
        with_one_length(response.map(FromUpstream::Http1))
    }
}

/// The response where it is clear where it ends.
fn with_one_length(
    mut response: Response<FromUpstream>,
) -> Result<Response<FromUpstream>, UpstreamError> {
    match framing::settle_length(response.headers_mut()) {
        Ok(()) => Ok(response),
        Err(framing::Unclear) => Err(UpstreamError::Broken),
    }
}

fn kind(error: &hyper_util::client::legacy::Error) -> UpstreamError {
    if error.is_connect() {
        return match refused_certificate(error) {
            Some(_) => UpstreamError::Certificate,
            None => UpstreamError::Connect,
        };
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<hyper::Error>()
            && (cause.is_parse() || cause.is_user())
        {
            return UpstreamError::Broken;
        }
        source = cause.source();
    }
    UpstreamError::Closed
}

/// A request that is under way at a server, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Server>);

impl Place {
    pub(super) fn take(server: &Arc<Server>) -> Place {
        server.under_way.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(server))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
