//! `wasi:http/outgoing-handler`: the guest's own requests, sent by the node as far as granted.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::host::{FetchError, Fetcher, Level};
use crate::limits::FETCHES_MAX;
use crate::log::Log;

type Exchange = Result<(http::Response<WasiBody>, Io), Error>;
/// What goes on beside an exchange: nothing here, the node's client sees to it.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Passes each request on to the node, and logs what a grant would have allowed.
pub(crate) struct Outbound {
    fetcher: Arc<dyn Fetcher>,
    log: Arc<Log>,
    fetches_left: u32,
}

impl Outbound {
    pub(crate) fn new(fetcher: Arc<dyn Fetcher>, log: Arc<Log>) -> Outbound {
        Outbound { fetcher, log, fetches_left: FETCHES_MAX }
    }

    /// Another call begins, which has sent nothing yet.
    pub(crate) fn begin(&mut self) {
        self.fetches_left = FETCHES_MAX;
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Io,
    ) -> Box<dyn Future<Output = Exchange> + Send> {
        let Some(left) = self.fetches_left.checked_sub(1) else {
            let said = format!("wasi:http: more than {FETCHES_MAX} requests in one call");
            self.log.write(Level::Warn, &said);
            return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
        };
        self.fetches_left = left;
        let request = request.map(|body| body.map_err(broken).boxed_unsync());
        let (fetching, log) = (self.fetcher.fetch(request), Arc::clone(&self.log));
        Box::new(async move {
            let answer = match options.and_then(until_first_byte) {
                None => fetching.await,
                Some(wait) => timeout(wait, fetching).await.unwrap_or(Err(FetchError::TimedOut)),
            };
            let answer = answer.map_err(|error| {
                log.write(Level::Warn, &format!("wasi:http: {error}"));
                tell(error)
            })?;
            let answer = answer.map(|body| body.map_err(tell).boxed_unsync());
            let nothing: Io = Box::new(std::future::ready(Ok(())));
            Ok((answer, nothing))
        })
    }
}

fn until_first_byte(options: RequestOptions) -> Option<Duration> {
    match (options.connect_timeout, options.first_byte_timeout) {
        (Some(connect), Some(first_byte)) => Some(connect.saturating_add(first_byte)),
        (connect, first_byte) => connect.or(first_byte),
    }
}

fn broken(error: Error) -> FetchError {
    FetchError::Broken(error.to_string())
}

/// What the guest is told: the standard's words.
fn tell(error: FetchError) -> Error {
    match error {
        FetchError::Denied(_) => Error::HttpRequestDenied,
        FetchError::NotFound(_) => Error::DestinationNotFound,
        FetchError::Refused(_) => Error::ConnectionRefused,
        FetchError::Tls(_) => Error::TlsProtocolError,
        FetchError::TimedOut => Error::HttpResponseTimeout,
        FetchError::Broken(_) => Error::HttpProtocolError,
        FetchError::TooMany => Error::ConnectionLimitReached,
    }
}
