//! Upstreams: the servers behind a route, the connections to them and what is done when one fails.
//!
//! Knows nothing about caching. A request goes to the address with the fewest others under way;
//! one that fails again and again is left alone for a while.

mod body;
mod connections;
mod dial;
mod exchange;
pub(crate) mod health;
mod interim;
pub(crate) mod limits;
mod rewind;
mod server;

use crate::https;
use crate::trace::span::{Kind, Span};
use crate::trace::{self, attribute};
use anyhow::Context;
use axum::body::Body;
pub(crate) use body::ResponseBody;
use body::{Progress, Sending, Watched};
use health::Checks;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use interim::Hints;
use limits::{EJECTED, FAILURES_IN_A_ROW_MAX, REFUSED_COUNT_MAX};
use rewind::Rewind;
use server::{Place, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How long each step of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Until a connection stands.
    pub(crate) connect: Duration,
    /// From when the request has a connection, or the last byte of it was taken, to the head of the
    /// response.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the response.
    pub(crate) between_bytes: Duration,
}

/// Where requests of a route go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// At least one.
    pub(crate) addresses: Vec<Address>,
    pub(crate) times: Times,
    /// Whether the upstream is told its own name as Host, or the one that the client asked for.
    pub(crate) own_host: bool,
    /// `None` where failures of requests are all that is known.
    pub(crate) checks: Option<Checks>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("no connection to the upstream could be made")]
    Connect,
    #[error("the upstream's certificate is not one that this node accepts; its log says why")]
    Certificate,
    #[error("the upstream ended the connection before it answered")]
    Closed,
    /// It has done nothing of it, so that any method may be sent again.
    #[error("the upstream did not take the request")]
    Refused,
    #[error("the upstream did not answer in time")]
    Late,
    #[error("the upstream's answer is not HTTP as it should be")]
    Broken,
    #[error("the filter of the route failed at the upstream's response; atoll logs says more")]
    Filter(StatusCode, &'static str),
    #[error("the body of the request did not come in time")]
    BodyLate,
    #[error("the body of the request is not HTTP as it should be, or ended too early")]
    BodyBroken,
}

impl UpstreamError {
    /// The status and the code of the problem that a client is told of.
    pub(crate) fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            UpstreamError::Connect => (StatusCode::BAD_GATEWAY, "upstream-unreachable"),
            UpstreamError::Certificate => (StatusCode::BAD_GATEWAY, "upstream-certificate"),
            UpstreamError::Closed => (StatusCode::BAD_GATEWAY, "upstream-closed"),
            UpstreamError::Refused => (StatusCode::BAD_GATEWAY, "upstream-refused"),
            UpstreamError::Late => (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout"),
            UpstreamError::Broken => (StatusCode::BAD_GATEWAY, "upstream-bad-response"),
            UpstreamError::Filter(status, code) => (*status, code),
            UpstreamError::BodyLate => (StatusCode::REQUEST_TIMEOUT, "body-timeout"),
            UpstreamError::BodyBroken => (StatusCode::BAD_REQUEST, "bad-body"),
        }
    }
}

/// The upstream of a route.
#[derive(Debug)]
pub(crate) struct Upstream {
    servers: Vec<Arc<Server>>,
    next: AtomicUsize,
    started: Instant,
    settings: Settings,
}

impl std::str::FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Address> {
        let wanted = "an upstream is http://HOST:PORT or https://HOST, without a path";
        let uri: Uri = text.parse().ok().with_context(|| format!("{text:?}: {wanted}"))?;
        let parts = uri.into_parts();
        let is_bare = parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/");
        let scheme = parts.scheme.filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        let authority = parts.authority.filter(|name| !name.as_str().contains('@'));
        match (scheme, authority) {
            (Some(scheme), Some(authority)) if is_bare => Ok(Address { scheme, authority }),
            _ => anyhow::bail!("{text:?}: {wanted}"),
        }
    }
}

impl Upstream {
    /// Opens no connection yet.
    pub(crate) fn new(settings: Settings) -> anyhow::Result<Upstream> {
        let needs_tls = settings.addresses.iter().any(|a| a.scheme == Scheme::HTTPS);
        let tls = match needs_tls {
            true => https::trusting_the_system()
                .context("the system has no certificates of authorities to check upstreams with")?,
            false => https::trusting_nobody(),
        };
        let servers = settings.addresses.iter();
        let servers = servers
            .map(|address| Ok(Arc::new(Server::new(address, &settings, tls.clone())?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Upstream { servers, next: AtomicUsize::new(0), started: Instant::now(), settings })
    }

    /// Whether one of its addresses goes by such a name.
    pub(crate) fn is_named(&self, is_it: impl Fn(&str) -> bool) -> bool {
        self.servers.iter().any(|server| is_it(server.address.authority.as_str()))
    }

    /// Sends a request, whose URI is the client's, and waits for the head of the response.
    ///
    /// It is sent once more, to another address where there is one, if no connection could be made
    /// or if its method is idempotent and the connection ended first: it had been kept and was about
    /// to be closed. It is sent a few times more if a server says that it has not looked at it. Of a
    /// body only so much may have gone as was kept.
    pub(crate) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let (parts, body) = request.into_parts();
        let body = (!body.is_end_stream()).then(|| Rewind::new(body));
        let whole = || body.as_ref().map_or_else(|| Some(Body::empty()), Rewind::whole);
        let mut server = self.choose(None);
        // Nothing has gone yet, so there is one.
        let mut sent = whole().unwrap_or_default();
        let mut resent_count = 0;
        loop {
            let request = Request::from_parts(parts.clone(), sent);
            let error = match self.attempt(&server, request, resent_count).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let again = match error {
                UpstreamError::Connect | UpstreamError::Certificate => {
                    resent_count == 0 && self.servers.len() > 1
                }
                UpstreamError::Refused => resent_count < REFUSED_COUNT_MAX,
                UpstreamError::Closed => resent_count == 0 && parts.method.is_idempotent(),
                _ => false,
            };
            sent = match again.then(&whole).flatten() {
                Some(whole) => whole,
                None => return Err(error),
            };
            resent_count += 1;
            debug!(upstream = %server.address.authority, %error, "request is sent once more");
            server = self.choose(Some(&server));
        }
    }

    /// The address with the fewest requests under way that is not left alone.
    fn choose(&self, but: Option<&Arc<Server>>) -> Arc<Server> {
        let now_ms = self.now_ms();
        let count = self.servers.len();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..count).map(|at| &self.servers[(start.wrapping_add(at)) % count]);
        let best = in_turn.min_by_key(|server| {
            let is_ejected = server.ejected_until_ms.load(Ordering::Relaxed) > now_ms;
            let is_the_other = but.is_some_and(|but| Arc::ptr_eq(but, server));
            let is_down = server.is_down.load(Ordering::Relaxed);
            (is_down, is_the_other, is_ejected, server.under_way.load(Ordering::Relaxed))
        });
        Arc::clone(best.expect("settings have an address"))
    }

    async fn attempt(
        &self,
        server: &Arc<Server>,
        mut request: Request<Body>,
        resent_count: u32,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let place = Place::take(server);
        let path = request.uri().path_and_query().cloned();
        let mut target = http::uri::Parts::default();
        target.scheme = Some(server.address.scheme.clone());
        target.authority = Some(server.address.authority.clone());
        target.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(target).map_err(|_| UpstreamError::Broken)?;
        *request.version_mut() = Version::HTTP_11;
        if self.settings.own_host || !request.headers().contains_key(header::HOST) {
            let name = HeaderValue::from_str(server.address.authority.as_str());
            request.headers_mut().insert(header::HOST, name.map_err(|_| UpstreamError::Broken)?);
        }
        let mut span = begin_span(&mut request, resent_count);
        let progress = Arc::new(Progress::new());
        let hints = Hints::of(&mut request);
        let request = request.map(|body| hints.hold(Watched::new(body, Arc::clone(&progress))));
        let mut seat = None;
        let response = tokio::select! {
            response = server.send(request, &hints, &mut seat) => response,
            () = progress.overdue(self.settings.times) => Err(UpstreamError::Late),
        };
        let response = response.map_err(|error| match (progress.sending(), error) {
            (Sending::Broken, _) => UpstreamError::BodyBroken,
            (Sending::Waited, UpstreamError::Late) => UpstreamError::BodyLate,
            (_, error) => error,
        });
        if let (Err(UpstreamError::Late), Some(seat)) = (&response, seat) {
            seat.retire();
        }
        self.note(server, response.as_ref().err());
        if let Some(span) = &mut span {
            match &response {
                Ok(response) => span.answered(response.status()),
                Err(error) => span.fail(error.answer().1, error.to_string()),
            }
        }
        let held = (place, span.map(Box::new));
        let between_bytes = self.settings.times.between_bytes;
        response.map(|response| response.map(|body| ResponseBody::new(body, held, between_bytes)))
    }

    /// Takes note of how a server did.
    fn note(&self, server: &Server, error: Option<&UpstreamError>) {
        if matches!(error, Some(UpstreamError::BodyLate | UpstreamError::BodyBroken)) {
            // No client can have a server left alone.
            return;
        }
        let Some(error) = error else {
            server.failures_in_a_row.store(0, Ordering::Relaxed);
            return;
        };
        let failures = server.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if failures.is_multiple_of(FAILURES_IN_A_ROW_MAX) && self.servers.len() > 1 {
            let until_ms = self.now_ms() + EJECTED.as_millis() as u64;
            server.ejected_until_ms.store(until_ms, Ordering::Relaxed);
            warn!(upstream = %server.address.authority, failures, %error, "upstream left alone");
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Begins the span of a request, where it is traced, and tells the upstream of its trace.
fn begin_span(request: &mut Request<Body>, resent_count: u32) -> Option<Span> {
    let trace = Arc::clone(trace::of(request.extensions())?);
    let name = || attribute::method_name(request.method()).to_owned();
    let mut span = trace.begin(Kind::Client, name);
    if let Some(span) = &mut span {
        span.extend(attribute::of_outgoing(request.method(), request.uri()));
        if resent_count > 0 {
            span.set(attribute::RESEND_COUNT, attribute::number(resent_count));
        }
    }
    span.as_ref().map_or(&trace, Span::trace).put(request.headers_mut());
    span
}
