//! The gateway door: public HTTP, routed to handlers and upstreams. All paths are the user's.

mod exchange;

use crate::handlers::{Deployed, Handlers};
use crate::listen::{host, linger};
use crate::node::Node;
use crate::problem::Problem;
use crate::proxy::Proxy;
use crate::upload::Uploads;
use atoll_core::route::Target;
use atoll_wasm::error::CallError;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn;
use axum::response::Response;
use http::StatusCode;
use http::uri::Authority;
use std::cmp::Ordering;
use std::sync::Arc;
use tracing::{debug, warn};

/// What requests share.
#[derive(Debug)]
struct Gateway {
    handlers: Arc<Handlers>,
    proxy: Arc<Proxy>,
    /// Not the API's: no stranger shuts out who runs the node.
    uploads: Uploads,
}

/// The gateway's one route: whatever comes is matched against the deployed handlers and the routes
/// to upstreams.
pub(crate) fn router(node: &Node, handlers: Arc<Handlers>, proxy: Arc<Proxy>) -> Router {
    let uploads = Uploads::new(node.store().memory_bytes_max());
    let gateway = Arc::new(Gateway { handlers, proxy, uploads });
    Router::new().fallback(dispatch).layer(from_fn(linger::linger)).with_state(gateway)
}

async fn dispatch(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let authority = host::asked_for(&request)?;
    let target = Target {
        method: request.method().as_str(),
        host: authority.as_ref().map_or("", host::name),
        path: request.uri().path(),
    };
    let handler = gateway.handlers.find(target);
    let route = gateway.proxy.find(target).filter(|(pattern, _)| {
        // The more specific one; the handler of two that are equal.
        let taken = handler.as_ref().and_then(|deployed| deployed.pattern(target));
        taken.is_none_or(|taken| pattern.specificity(taken) == Ordering::Less)
    });
    match (route, handler) {
        (Some((_, route)), _) => {
            let route = Arc::clone(route);
            gateway.proxy.serve(&route, request, authority.as_ref()).await
        }
        (None, Some(deployed)) => handle(&gateway, &deployed, (request, authority)).await,
        (None, None) => Err(no_route(&request)),
    }
}

/// Lets a guest answer. Whatever it does ends this request and nothing else.
async fn handle(
    gateway: &Gateway,
    deployed: &Deployed,
    (request, authority): (Request, Option<Authority>),
) -> Result<Response, Problem> {
    let (name, handlers) = (&deployed.record.name, &gateway.handlers);
    // The body first: a client that is slow to send it keeps no other from the handler.
    let exchange = exchange::read(request, authority, &gateway.uploads).await?;
    let Ok(_place) = deployed.places.try_acquire() else {
        let detail = format!("handler {name} already answers as many requests at once as it may");
        return Err(Problem::busy("handler-busy", detail, 1));
    };
    let headers = exchange.headers();
    let host = handlers.host(deployed);
    let traces = host.traces();
    let answer = deployed.handler.call(host, exchange.lend(&headers), &deployed.limits).await;
    handlers.ended(deployed, &answer);
    match answer {
        Ok(answer) => {
            handlers.settle(&traces).await?;
            exchange::respond(answer)
        }
        Err(error) => {
            match error {
                CallError::Busy(_) => debug!(handler = name, %error, "handler turned away"),
                _ => warn!(handler = name, kind = error.kind(), %error, "handler failed"),
            }
            Err(failure(name, &error))
        }
    }
}

fn no_route(request: &Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    let detail = format!(
        "no route takes {method} {path}; give a handler one with atoll deploy --route '{path}', or \
         an upstream one in atoll.toml"
    );
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
        CallError::Busy(_) => {
            return Problem::busy("handler-busy", format!("handler {name}: {error}"), 1);
        }
    };
    Problem::new(status, code, format!("handler {name}: {error}"))
}

#[cfg(test)]
mod tests;
