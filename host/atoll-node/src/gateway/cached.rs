//! Handlers whose answers are cached.

use super::{Gateway, handle};
use crate::handlers::deployed::Deployed;
use crate::listen::host;
use crate::problem::Problem;
use crate::proxy::guest::{Answering, Backend};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::uri::Authority;
use std::sync::{Arc, Weak};

/// One version of a handler, for the cache.
#[derive(Debug)]
struct Guest {
    gateway: Weak<Gateway>,
    deployed: Arc<Deployed>,
}

impl Backend for Guest {
    fn answer(&self, request: Request) -> Answering {
        let (gateway, deployed) = (self.gateway.upgrade(), Arc::clone(&self.deployed));
        Box::pin(async move {
            let answer = match gateway {
                Some(gateway) => answer(&gateway, &deployed, request).await,
                None => {
                    let detail = "the node is about to stop";
                    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail))
                }
            };
            answer.into_response()
        })
    }
}

async fn answer(
    gateway: &Gateway,
    deployed: &Arc<Deployed>,
    request: Request,
) -> Result<Response, Problem> {
    let authority = host::asked_for(&request)?;
    handle(gateway, deployed, (request, authority), None).await
}

/// Answers with what the handler has answered before, as far as that allows it, or lets it answer.
pub(super) async fn handle_cached(
    gateway: &Arc<Gateway>,
    deployed: &Arc<Deployed>,
    (request, authority): (Request, Option<Authority>),
) -> Result<Response, Problem> {
    let backend = || -> Arc<dyn Backend> {
        let deployed = Arc::clone(deployed);
        Arc::new(Guest { gateway: Arc::downgrade(gateway), deployed })
    };
    match gateway.proxy.route_to_guest(&deployed.record, backend) {
        Some(route) => gateway.proxy.serve(&route, request, authority.as_ref()).await,
        None => handle(gateway, deployed, (request, authority), Some(&gateway.held)).await,
    }
}
