//! Requests that guests send: to the hosts that their handler was granted, and to no other.
//!
//! One client for the node, so that connections are used again whichever guest asks. It follows no
//! redirects, keeps no cookies and knows no proxies: what leaves is what the guest wrote.

use super::guest::Identity;
use super::watch::carried::CAUSE;
use crate::https;
use crate::trace::Trace;
use crate::trace::attribute;
use crate::trace::span::{Kind, Span};
use atoll_wasm::host::{FetchBody, FetchError, Fetcher, Fetching};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::warn;

/// Requests of all guests that are under way at once.
const EXCHANGES_MAX: usize = 1_000;
/// How long the machine at the other end may take to accept a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How long a connection waits for the next request, and how many of one host do.
const IDLE_WAIT: Duration = Duration::from_secs(30);
const IDLE_COUNT_MAX: usize = 16;

type Https = legacy::Client<HttpsConnector<HttpConnector>, FetchBody>;

/// What sends requests, for all guests of a node.
#[derive(Debug)]
pub(crate) struct Client {
    /// Made for the first request: reading the machine's certificates takes milliseconds.
    https: OnceLock<Https>,
    places: Arc<Semaphore>,
}

/// The client as the guests of one handler may use it.
#[derive(Debug)]
pub(super) struct GuestFetcher {
    pub(super) client: Arc<Client>,
    pub(super) identity: Arc<Identity>,
    /// What its requests are part of.
    pub(super) trace: Option<Arc<Trace>>,
    /// In what a watcher's call leads to: by which nodes know that.
    pub(super) cause: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new() -> Client {
        Client { https: OnceLock::new(), places: Arc::new(Semaphore::new(EXCHANGES_MAX)) }
    }

    fn https(&self) -> Https {
        self.https.get_or_init(connect).clone()
    }
}

fn connect() -> Https {
    let tcp = https::tcp(CONNECT_WAIT);
    let tls = https::trusting_the_system().unwrap_or_else(|error| {
        warn!(%error, "this machine trusts no certificates; requests of handlers by https will fail");
        https::trusting_nobody()
    });
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = connector.https_or_http().enable_http1().enable_http2().wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_WAIT)
        .pool_max_idle_per_host(IDLE_COUNT_MAX)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(connector)
}

impl GuestFetcher {
    fn begin_span(&self, request: &Request<FetchBody>) -> Option<Span> {
        let method = request.method();
        let name = || attribute::method_name(method).to_owned();
        let mut span = self.trace.as_ref()?.begin(Kind::Client, name)?;
        span.extend(attribute::of_outgoing(method, request.uri()));
        Some(span)
    }
}

impl Fetcher for GuestFetcher {
    fn fetch(&self, mut request: Request<FetchBody>) -> Fetching {
        if let Err(error) = check(&request, &self.identity) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let Ok(place) = Arc::clone(&self.client.places).try_acquire_owned() else {
            return Box::pin(std::future::ready(Err(FetchError::TooMany)));
        };
        // Only the node says so.
        request.headers_mut().remove(&CAUSE);
        if let Some(cause) = &self.cause {
            request.headers_mut().insert(CAUSE, cause.clone());
        }
        let mut span = self.begin_span(&request);
        if let Some(trace) = span.as_ref().map(Span::trace).or(self.trace.as_ref()) {
            trace.put_if_absent(request.headers_mut());
        }
        let sent = self.client.https().request(request);
        Box::pin(async move {
            let answer = sent.await.map_err(explain);
            if let Some(span) = &mut span {
                match &answer {
                    Ok(answer) => span.answered(answer.status()),
                    Err(error) => span.fail(kind(error), error.to_string()),
                }
            }
            let answer: Response<_> = answer?;
            // The place is kept until the last piece of the body has come, and the span goes on.
            let held = (place, span);
            Ok(answer.map(move |body| {
                let body = body.map_err(move |error| {
                    let _held = &held;
                    FetchError::Broken(error.to_string())
                });
                body.boxed_unsync()
            }))
        })
    }
}

/// The word for it in traces.
fn kind(error: &FetchError) -> &'static str {
    match error {
        FetchError::Denied(_) => "denied",
        FetchError::NotFound(_) => "not-found",
        FetchError::Refused(_) => "refused",
        FetchError::Tls(_) => "tls",
        FetchError::TimedOut => "timeout",
        FetchError::Broken(_) => "broken",
        FetchError::TooMany => "too-many",
    }
}

/// Refuses what was not granted, and what is more than a request.
fn check(request: &Request<FetchBody>, identity: &Identity) -> Result<(), FetchError> {
    let broken = |what: &str| Err(FetchError::Broken(what.to_owned()));
    if request.method() == Method::CONNECT {
        return broken("a tunnel is no request");
    }
    let uri: &Uri = request.uri();
    let default_port = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => 80,
        Some(scheme) if *scheme == Scheme::HTTPS => 443,
        _ => return broken("the scheme is neither http nor https"),
    };
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@'))
    else {
        return broken("the request names no host");
    };
    let (host, port) = (authority.host(), authority.port_u16().unwrap_or(default_port));
    if identity.hosts().iter().any(|grant| grant.allows(host, port, default_port)) {
        return Ok(());
    }
    let port = if port == default_port { String::new() } else { format!(":{port}") };
    Err(FetchError::Denied(format!(
        "http:{host}{port} is not granted; deploy the handler with --grant http:{host}{port}"
    )))
}

/// Finds the words for why there is no answer.
fn explain(error: legacy::Error) -> FetchError {
    let mut said = error.to_string();
    let mut source = error.source();
    let mut is_tls = false;
    let mut io = None;
    while let Some(cause) = source {
        said = cause.to_string();
        is_tls |= cause.is::<rustls::Error>();
        if let Some(found) = cause.downcast_ref::<std::io::Error>() {
            io = Some(found.kind());
            is_tls |= found.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        }
        source = cause.source();
    }
    match io {
        _ if is_tls => FetchError::Tls(said),
        Some(std::io::ErrorKind::TimedOut) => FetchError::TimedOut,
        _ if !error.is_connect() => FetchError::Broken(said),
        Some(std::io::ErrorKind::ConnectionRefused) => FetchError::Refused(said),
        _ if said.contains("lookup") || said.contains("Name or service") => {
            FetchError::NotFound(said)
        }
        _ => FetchError::Refused(said),
    }
}
