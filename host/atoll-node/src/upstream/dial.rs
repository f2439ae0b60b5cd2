//! How a server is reached: over TCP or TLS, and with which version of HTTP.

use super::Address;
use super::connections::Connections;
use super::limits::{COMPLAINT_AGAIN, PARKED_WAIT};
use crate::https;
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower::Service;
use tracing::{debug, warn};

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
    /// When it was last said that its certificate is not accepted.
    complained: Mutex<Option<Instant>>,
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
        Ok(Dialler { uri, http1, any, wait, complained: Mutex::default() })
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
            Ok(dialled) => dialled.inspect_err(|error| self.complain(&**error)),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

impl Dialler {
    /// Says why the server is not believed, now and then: nobody can mend that but who reads it.
    fn complain(&self, error: &(dyn std::error::Error + 'static)) {
        let Some(reason) = refused_certificate(error) else { return };
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_AGAIN) {
            *complained = Some(Instant::now());
            let upstream = self.uri.authority().map_or("", |authority| authority.as_str());
            warn!(upstream, %reason, "the upstream's certificate is not accepted");
        }
    }
}

/// Why there is no connection, where that is the server's certificate.
pub(super) fn refused_certificate<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let reason = error.downcast_ref::<rustls::Error>();
        if let Some(rustls::Error::InvalidCertificate(_)) = reason {
            return reason;
        }
        // What an I/O error holds is not its source.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match held {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    None
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
