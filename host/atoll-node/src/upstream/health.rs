//! Health checks: each address of an upstream is asked again and again, and passed by while its
//! answers are not good.

use super::Upstream;
use super::body::{Progress, Watched};
use super::connections::Seat;
use super::interim::Hints;
use super::server::Server;
use axum::body::Body;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Checks in a row that have to fail before an address is passed by: one may be bad luck.
const FAILURES_IN_A_ROW: u32 = 2;
/// Most bytes that are read of an answer, so that its connection can be used again.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What an upstream is asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    /// A status of 200 to 399 for it is good.
    pub(crate) path: PathAndQuery,
    /// Time from one check to the next; an answer that takes longer is none.
    pub(crate) interval: Duration,
}

impl Upstream {
    /// The number of addresses that there are, and the checks that are wanted.
    pub(crate) fn checks(&self) -> Option<(usize, &Checks)> {
        Some((self.servers.len(), self.settings.checks.as_ref()?))
    }

    /// The name of an address, for people.
    pub(crate) fn name_of(&self, index: usize) -> String {
        self.servers[index].address.authority.to_string()
    }

    /// Checks the address with this index until `shutdown`. `is_up` shows what comes of it.
    pub(crate) async fn watch(&self, index: usize, is_up: Gauge, shutdown: CancellationToken) {
        let (Some(checks), server) = (&self.settings.checks, &self.servers[index]) else { return };
        let mut ticks = interval(checks.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let mut seat = None;
            let is_good = timeout(checks.interval, is_good(server, checks, &mut seat)).await;
            if let (Err(_), Some(seat)) = (&is_good, seat) {
                seat.retire();
            }
            failures = if is_good.unwrap_or(false) { 0 } else { failures + 1 };
            let is_down = failures >= FAILURES_IN_A_ROW;
            if failures == 0 {
                server.ejected_until_ms.store(0, Ordering::Relaxed);
            }
            if is_down || failures == 0 {
                is_up.set(i64::from(!is_down));
                note(server, is_down);
            }
        }
    }
}

async fn is_good(server: &Server, checks: &Checks, seat: &mut Option<Arc<Seat>>) -> bool {
    let address = &server.address;
    let mut target = http::uri::Parts::default();
    target.scheme = Some(address.scheme.clone());
    target.authority = Some(address.authority.clone());
    target.path_and_query = Some(checks.path.clone());
    let host = HeaderValue::from_str(address.authority.as_str());
    let (Ok(uri), Ok(host)) = (Uri::from_parts(target), host) else { return false };
    let mut request = Request::new(Watched::new(Body::empty(), Arc::new(Progress::new())));
    *request.uri_mut() = uri;
    request.headers_mut().insert(header::HOST, host);
    let agent = HeaderValue::from_static("atoll health check");
    request.headers_mut().insert(header::USER_AGENT, agent);
    let response = server.send(request, &Hints::default(), seat).await;
    let Ok(response) = response else { return false };
    let status = response.status();
    // Of what is longer nothing more is read, and the connection is not used again.
    drop(Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await);
    status.is_success() || status.is_redirection()
}

fn note(server: &Server, is_down: bool) {
    let was_down = server.is_down.swap(is_down, Ordering::Relaxed);
    let upstream = &server.address.authority;
    match (was_down, is_down) {
        (false, true) => warn!(%upstream, "upstream fails its health checks"),
        (true, false) => info!(%upstream, "upstream is healthy again"),
        _ => {}
    }
}
