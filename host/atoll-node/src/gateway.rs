//! The gateway door: public HTTP, routed to handlers and upstreams. All paths are the user's.

mod cached;
mod exchange;
mod held;
mod request_log;
mod run_span;
mod server_span;
mod streaming;
mod trace;

use crate::handlers::Handlers;
use crate::handlers::deployed::{Deployed, Standing};
use crate::handlers::guest::GuestHost;
use crate::listen::{self, host, linger};
use crate::node::Node;
use crate::problem::Problem;
use crate::proxy::{Proxy, Routed};
use crate::trace::Trace;
use crate::trace::attribute::{self, text};
use crate::trace::tracer::Tracer;
use crate::upload::Uploads;
use atoll_core::http_cache::keys::ATOLL_KEYS;
use atoll_core::route::Target;
use atoll_wasm::component::{self, Component, Handler};
use atoll_wasm::error::CallError;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use exchange::Exchange;
use held::Held;
use http::header::CONTENT_LENGTH;
use http::uri::Authority;
use http::{Method, StatusCode};
use http_body::Body as _;
use request_log::RequestLog;
use run_span::Run;
use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use tower::service_fn;

/// What requests share.
#[derive(Debug)]
struct Gateway {
    handlers: Arc<Handlers>,
    proxy: Arc<Proxy>,
    /// Not the API's: no stranger shuts out who runs the node.
    uploads: Uploads,
    /// What clients have not read yet.
    held: Held,
    log: Option<RequestLog>,
    tracer: Option<Tracer>,
}

/// Who is told of requests.
#[derive(Debug)]
pub(crate) struct Telling<'t> {
    /// Where the log of requests is.
    pub(crate) request_log: Option<&'t Path>,
    /// Takes the spans of those that are traced.
    pub(crate) tracer: Option<Tracer>,
}

/// The gateway: whatever comes is matched against the deployed handlers and the routes to upstreams.
///
/// # Errors
///
/// The log cannot be opened.
pub(crate) fn service(
    node: &Node,
    handlers: Arc<Handlers>,
    proxy: Arc<Proxy>,
    telling: Telling<'_>,
) -> anyhow::Result<impl listen::Door + use<>> {
    let uploads = Uploads::new(node.store().memory_bytes_max());
    let held = Held::new(node.store().memory_bytes_max());
    let Telling { request_log, tracer } = telling;
    let log = request_log.map(|target| RequestLog::open(node, target)).transpose()?;
    let gateway = Arc::new(Gateway { handlers, proxy, uploads, held, log, tracer });
    // Without a router: it has one route, and each layer of one copies what a request is made of.
    Ok(service_fn(move |request: Request| {
        let gateway = Arc::clone(&gateway);
        async move {
            let method = request.method().clone();
            let answer = linger::linger(request, |request| dispatch(gateway, request)).await;
            Ok(without_body(&method, answer))
        }
    }))
}

/// The answer as its method has it: to HEAD the length is that of what GET would bring.
fn without_body(method: &Method, mut answer: Response) -> Response {
    if method == Method::HEAD {
        // What has no body has no length (RFC 9110, 8.6).
        let has_length = !matches!(answer.status().as_u16(), 204 | 304);
        if let Some(bytes) = answer.body().size_hint().exact().filter(|_| has_length) {
            answer.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| bytes.into());
        }
        *answer.body_mut() = Body::empty();
    }
    answer
}

async fn dispatch(gateway: Arc<Gateway>, mut request: Request) -> Response {
    if gateway.log.is_none() && gateway.tracer.is_none() {
        return answer(&gateway, request).await.into_response();
    }
    let span = gateway.tracer.as_ref().and_then(|it| server_span::begin(it, &mut request));
    let began = gateway.log.as_ref().map(|log| log.began(&mut request));
    let mut response = answer(&gateway, request).await.into_response();
    if let Some(span) = span {
        response = span.answered(response);
    }
    match began {
        Some(began) => began.answered(response),
        None => response,
    }
}

async fn answer(gateway: &Arc<Gateway>, request: Request) -> Result<Response, Problem> {
    let authority = host::asked_for(&request)?;
    let target = Target {
        method: request.method().as_str(),
        host: authority.as_ref().map_or("", host::name),
        path: request.uri().path(),
    };
    let handler = gateway.handlers.find(target);
    let route = gateway.proxy.find(target).filter(|routed| {
        // The more specific one; the handler of two that are equal.
        let taken = handler.as_ref().and_then(|deployed| deployed.pattern(target));
        taken.is_none_or(|taken| routed.pattern.specificity(taken) == Ordering::Less)
    });
    if gateway.tracer.is_some() {
        note_route(&request, target, (route.as_deref(), handler.as_deref()));
    }
    match (route, handler) {
        (Some(routed), _) => gateway.proxy.serve(&routed.route, request, authority.as_ref()).await,
        // A version on trial answers for itself: what it says is not what others get.
        (None, Some(deployed)) if deployed.record.cache && deployed.standing == Standing::Live => {
            cached::handle_cached(gateway, &deployed, (request, authority)).await
        }
        (None, Some(deployed)) => {
            let held = Some(&gateway.held);
            let mut answer = handle(gateway, &deployed, (request, authority), held).await?;
            // For a cache, and here is none.
            answer.headers_mut().remove(ATOLL_KEYS);
            Ok(answer)
        }
        (None, None) => Err(no_route(&request)),
    }
}

/// Tells the span of a request which route it has taken.
fn note_route(
    request: &Request,
    target: Target<'_>,
    (route, handler): (Option<&Routed>, Option<&Deployed>),
) {
    let trace = request.extensions().get::<Arc<Trace>>();
    let Some(recorder) = trace.and_then(|trace| trace.recorder()) else { return };
    let pattern = match (route, handler) {
        (Some(routed), _) => Some(&routed.pattern),
        (None, Some(deployed)) => deployed.pattern(target),
        (None, None) => None,
    };
    recorder.note(pattern.map(|pattern| (attribute::ROUTE, text(pattern.to_string()))));
    if let (None, Some(deployed)) = (route, handler) {
        recorder.note(deployed.attributes());
    }
}

/// Lets a guest answer. Whatever it does ends this request and nothing else. An answer that a cache
/// does not take in is `held`.
async fn handle(
    gateway: &Gateway,
    deployed: &Arc<Deployed>,
    (mut request, authority): (Request, Option<Authority>),
    held: Option<&Held>,
) -> Result<Response, Problem> {
    let cause = gateway.handlers.take_cause(request.headers_mut());
    let trace = trace::of(&mut request, gateway.tracer.as_ref());
    let run = Run::begin(deployed, trace);
    run.trace().put(request.headers_mut());
    let host = gateway.handlers.host(deployed).traced(Arc::clone(run.trace())).caused_by(cause);
    match &*deployed.component {
        Component::Edge(handler) => {
            // The body first: a client that is slow to send it keeps no other from the handler.
            let exchange = exchange::read(request, authority, &gateway.uploads).await?;
            let mut answer = whole(gateway, (deployed, handler, host), &exchange, run).await?;
            if let Some(held) = held {
                answer.body = held.place(&deployed.record.name, answer.body)?;
            }
            exchange::respond(answer)
        }
        // It has no routes.
        Component::Watcher(_) => Err(no_route(&request)),
        Component::Proxy(proxy) => {
            let request = streaming::request(request, authority)?;
            stream(gateway, (deployed, proxy, host), request, run).await
        }
        // It has no route by which a request could come here.
        Component::Filter(_) => Err(no_route(&request)),
    }
}

/// Of a handler that takes and gives whole messages.
async fn whole(
    gateway: &Gateway,
    (deployed, handler, host): (&Deployed, &Handler<GuestHost>, GuestHost),
    exchange: &Exchange,
    mut run: Run,
) -> Result<atoll_wasm::host::Response, Problem> {
    let (name, handlers) = (&deployed.record.name, &gateway.handlers);
    let Ok(_place) = deployed.places.try_acquire() else { return Err(busy(name)) };
    let headers = exchange.headers();
    let (traces, usage) = (host.traces(), host.usage());
    let (request, limits) = (exchange.lend(&headers), &deployed.limits);
    run.starts();
    let answer = match &deployed.pool {
        Some(pool) => handler.call_reusing(pool, host, request, limits).await,
        None => handler.call(host, request, limits).await,
    };
    handlers.ended(deployed, answer.as_ref().map(|_| ()));
    run.ended(usage.as_deref(), answer.as_ref().map(|_| ()));
    let answer = answer.map_err(|error| failure(name, &error))?;
    handlers.settle(&traces).await?;
    Ok(answer)
}

/// Of a handler whose messages are streams. Its place is taken until it has ended, which may be
/// after its answer.
async fn stream(
    gateway: &Gateway,
    (deployed, proxy, host): (&Arc<Deployed>, &component::Proxy<GuestHost>, GuestHost),
    request: Request,
    run: Run,
) -> Result<Response, Problem> {
    let (name, handlers) = (&deployed.record.name, &gateway.handlers);
    let Ok(place) = Arc::clone(&deployed.places).try_acquire_owned() else {
        return Err(busy(name));
    };
    let (traces, usage) = (host.traces(), host.usage());
    let told = (Arc::clone(handlers), Arc::clone(deployed));
    let ended = move |end: Result<(), &CallError>| {
        told.0.ended(&told.1, end);
        run.ended(usage.as_deref(), end);
        drop(place);
    };
    let (limits, pool) = (&deployed.limits, deployed.pool.as_ref());
    let answer = proxy.serve(host, request, limits, pool, ended).await;
    let answer = answer.map_err(|error| failure(name, &error))?;
    // What it writes from here on is not waited for: the answer is on its way.
    handlers.settle(&traces).await?;
    Ok(answer.map(Body::new))
}

fn busy(name: &str) -> Problem {
    let detail = format!("handler {name} already answers as many requests at once as it may");
    Problem::busy("handler-busy", detail, 1)
}

fn no_route(request: &Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    let detail = if path.starts_with('/') {
        format!(
            "no route takes {method} {path}; give a handler one with atoll deploy --route '{path}', \
             or an upstream one in atoll.toml"
        )
    } else {
        // `OPTIONS *` is about the node itself, and CONNECT names no path.
        format!("no route takes {method} {path}: routes take requests that have a path")
    };
    Problem::new(StatusCode::NOT_FOUND, "no-route", detail)
}

/// What the caller is told of a guest that did not answer.
fn failure(name: &str, error: &CallError) -> Problem {
    let (status, code) = match error {
        CallError::Trap { .. } => (StatusCode::BAD_GATEWAY, "handler-trap"),
        CallError::CpuLimit { .. } => (StatusCode::GATEWAY_TIMEOUT, "handler-cpu-limit"),
        CallError::WallLimit { .. } => (StatusCode::GATEWAY_TIMEOUT, "handler-wall-limit"),
        CallError::MemoryLimit { .. } => (StatusCode::BAD_GATEWAY, "handler-memory-limit"),
        CallError::ResponseLimit { .. } => (StatusCode::BAD_GATEWAY, "handler-response-limit"),
        CallError::BadResponse(_) => (StatusCode::BAD_GATEWAY, "handler-bad-response"),
        CallError::Answered(_) => (StatusCode::BAD_GATEWAY, "handler-error"),
        CallError::NoAnswer => (StatusCode::INTERNAL_SERVER_ERROR, "handler-no-answer"),
        CallError::InstanceLost => (StatusCode::BAD_GATEWAY, "handler-instance-lost"),
        CallError::Busy(_) => {
            return Problem::busy("handler-busy", format!("handler {name}: {error}"), 1);
        }
    };
    Problem::new(status, code, format!("handler {name}: {error}"))
}

#[cfg(test)]
mod tests;
