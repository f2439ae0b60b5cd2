//! What the code that `#[handler]` writes calls. Not for people.

use crate::bindings::atoll::edge::types;
use crate::{IntoResponse, Request, log};

/// Runs the handler on one request.
pub fn answer<R: IntoResponse>(
    handle: impl FnOnce(Request) -> R,
    request: types::Request,
) -> types::Response {
    // Without this a panic would reach the node as a bare `unreachable`: nobody could say where it
    // was.
    std::panic::set_hook(Box::new(|panic| log::error(panic.to_string())));
    handle(Request::from_raw(request)).into_response().into_raw()
}
