//! How a server is reached: over TCP or TLS, and with which version of HTTP.

use super::Address;
use super::connections::Connections;
use super::limits::PARKED_WAIT;
use crate::https;
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower::Service;
use tracing::debug;

/// A connection over which nothing has been said yet.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
type Https = HttpsConnector<HttpConnector>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The way to one server.
#[derive(Debug)]
pub(super) struct Dialler {
    uri: Uri,
    /// Speaks HTTP/1.1 over it.
    http1: Https,
    /// Lets the server choose. `None` where it is not to speak HTTP/2.
    any: Option<Https>,
    /// For TCP and for TLS.
    wait: Duration,
}

impl Dialler {
    /// Offers HTTP/2 over TLS where `offers_http2` says so.
    pub(super) fn new(
        address: &Address,
        (tls, wait): (ClientConfig, Duration),
        offers_http2: bool,
    ) -> anyhow::Result<Dialler> {
        let builder = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let http1 = builder().enable_http1().wrap_connector(https::tcp(wait));
        let offers_http2 = offers_http2 && address.scheme == Scheme::HTTPS;
        let any =
            offers_http2.then(|| builder().enable_all_versions().wrap_connector(https::tcp(wait)));
        let uri = Uri::builder()
            .scheme(address.scheme.clone())
            .authority(address.authority.clone())
            .path_and_query("/")
            .build()?;
        Ok(Dialler { uri, http1, any, wait })
    }

    pub(super) fn offers_http2(&self) -> bool {
        self.any.is_some()
    }

    /// Connects, and leaves the version of HTTP to the server.
    pub(super) async fn dial_any(&self) -> Result<Stream, BoxError> {
        self.dial(self.any.as_ref().unwrap_or(&self.http1).clone()).await
    }

    pub(super) async fn dial_http1(&self) -> Result<Stream, BoxError> {
        self.dial(self.http1.clone()).await
    }

    async fn dial(&self, mut connector: Https) -> Result<Stream, BoxError> {
        std::future::poll_fn(|context| connector.poll_ready(context)).await?;
        // TCP has a limit of its own, and TLS gets as much again.
        match timeout(self.wait * 2, connector.call(self.uri.clone())).await {
            Ok(dialled) => dialled,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// Whether the server has chosen HTTP/2.
pub(super) fn is_http2(stream: &Stream) -> bool {
    match stream {
        MaybeHttpsStream::Http(_) => false,
        MaybeHttpsStream::Https(stream) => {
            stream.inner().get_ref().1.alpn_protocol() == Some(b"h2")
        }
    }
}

/// A connection that was made to learn what a server speaks, and over which it speaks HTTP/1.1.
pub(super) struct Parked {
    stream: Stream,
    since: Instant,
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parked").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Parked {
    pub(super) fn new(stream: Stream) -> Parked {
        Parked { stream, since: Instant::now() }
    }

    /// Hyper's client takes it for new and so would not try again if it had ended meanwhile.
    pub(super) fn into_fresh(self) -> Option<Stream> {
        (self.since.elapsed() < PARKED_WAIT).then_some(self.stream)
    }
}

/// Connects for hyper's client, which speaks HTTP/1.1 over what it gets.
#[derive(Clone, Debug)]
pub(super) struct Http1Connector(pub(super) Arc<Connections>);

impl Service<Uri> for Http1Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connections = Arc::clone(&self.0);
        Box::pin(async move {
            let stream = connections.stream_for_http1().await;
            stream.inspect_err(|error| debug!(error = &**error, "no connection"))
        })
    }
}
