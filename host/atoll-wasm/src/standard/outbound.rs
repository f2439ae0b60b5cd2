//! The guest's own requests, sent by the node as far as granted: those of `wasi:http/outgoing-handler`,
//! and those of `atoll:edge/fetch`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::host::{FetchBody, FetchError, Fetcher, Level};
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

    /// Begins an exchange, if the call may have another. `interface` is what the log calls it.
    pub(crate) fn exchange(
        &mut self,
        interface: &'static str,
        request: http::Request<FetchBody>,
    ) -> impl Future<Output = Result<http::Response<FetchBody>, FetchError>> + Send + 'static {
        let log = Arc::clone(&self.log);
        let fetching = match self.fetches_left.checked_sub(1) {
            Some(left) => {
                self.fetches_left = left;
                Some(self.fetcher.fetch(request))
            }
            None => None,
        };
        async move {
            let Some(fetching) = fetching else {
                let said = format!("{interface}: more than {FETCHES_MAX} requests in one call");
                log.write(Level::Warn, &said);
                return Err(FetchError::TooMany);
            };
            let answer = fetching.await;
            if let Err(error) = &answer {
                log.write(Level::Warn, &format!("{interface}: {error}"));
            }
            answer
        }
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut outbound = formatter.debug_struct("Outbound");
        outbound.field("fetches_left", &self.fetches_left).finish_non_exhaustive()
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Io,
    ) -> Box<dyn Future<Output = Exchange> + Send> {
        let request = request.map(|body| body.map_err(broken).boxed_unsync());
        let exchange = self.exchange("wasi:http", request);
        Box::new(async move {
            let answer = match options.and_then(until_first_byte) {
                None => exchange.await,
                Some(wait) => timeout(wait, exchange).await.unwrap_or(Err(FetchError::TimedOut)),
            };
            let answer = answer.map_err(tell)?;
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
