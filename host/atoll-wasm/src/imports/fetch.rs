//! `atoll:edge/fetch`: whole requests of a guest, whole answers.
//!
//! Leaves by the same way as those of `wasi:http`: grants, counts and log lines are its.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;

use crate::bindings::atoll::edge::fetch::{self, Incoming, Outgoing};
use crate::host::{FetchBody, FetchError, Host};
use crate::instance::Guest;
use crate::limits::{
    FETCH_BYTES_MAX, FETCH_MANY_BYTES_MAX, FETCHES_MAX, HEADER_BYTES_MAX, HEADERS_MAX,
};
use crate::response::DROPPED;

type Answer = Result<Incoming, fetch::Error>;

impl<H: Host> fetch::Host for Guest<H> {
    async fn send(&mut self, request: Outgoing) -> wasmtime::Result<Answer> {
        Ok(begin(self, request, Room::of(FETCH_BYTES_MAX)).await)
    }

    async fn send_many(&mut self, requests: Vec<Outgoing>) -> wasmtime::Result<Vec<Answer>> {
        if requests.len() > FETCHES_MAX as usize {
            let refused = || Err(fetch::Error::TooMany(format!("more than {FETCHES_MAX} at once")));
            return Ok(requests.iter().map(|_| refused()).collect());
        }
        let room = Room::of(FETCH_MANY_BYTES_MAX);
        let mut exchanges = Vec::with_capacity(requests.len());
        for request in requests {
            exchanges.push(begin(self, request, room.clone()));
        }
        Ok(join_all(exchanges).await)
    }
}

/// What the bodies of some answers may still take together, in bytes.
#[derive(Clone)]
struct Room {
    left: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Room {
    fn of(bytes_max: usize) -> Room {
        Room { left: Arc::new(AtomicUsize::new(bytes_max)), bytes_max }
    }

    /// Takes that much, if it is there.
    fn take(&self, bytes: usize) -> Result<(), fetch::Error> {
        let less = |left: usize| left.checked_sub(bytes);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => {
                let text = format!("the bodies together have more than {} bytes", self.bytes_max);
                Err(fetch::Error::TooLarge(text))
            }
        }
    }
}

/// Begins an exchange, which goes on by itself.
fn begin<H: Host>(
    guest: &mut Guest<H>,
    request: Outgoing,
    room: Room,
) -> impl Future<Output = Answer> + Send + 'static {
    let wait = request.timeout_ms.map(|ms| Duration::from_millis(u64::from(ms.max(1))));
    let exchange = checked(request).map(|request| guest.outbound().exchange("fetch", request));
    async move {
        let exchange = exchange.map_err(fetch::Error::Invalid)?;
        let whole = async {
            let (head, body) = exchange.await.map_err(tell)?.into_parts();
            let body = collected(body, &room).await?;
            Ok(Incoming { status: head.status.as_u16(), headers: listed(&head.headers), body })
        };
        match wait {
            None => whole.await,
            Some(wait) => timeout(wait, whole).await.unwrap_or(Err(fetch::Error::TimedOut)),
        }
    }
}

/// Makes the request that is sent, or says what has no sense.
fn checked(request: Outgoing) -> Result<Request<FetchBody>, String> {
    let Outgoing { method, url, headers, body, .. } = request;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| "the method is none")?;
    let uri: Uri = url.parse().map_err(|error| format!("the URL is none: {error}"))?;
    if uri.scheme().is_none() || uri.host().is_none() {
        return Err("the URL is not absolute: write http://HOST/PATH or https://HOST/PATH".into());
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("the URL's scheme is neither http nor https".into());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("the URL has a name and a password: send them in authorization".into());
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(format!(
            "at most {HEADERS_MAX} header fields of {HEADER_BYTES_MAX} bytes together are sent"
        ));
    }
    let mut fields = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "the name of a header field is none".to_owned())?;
        if name == http::header::HOST {
            return Err("the header field host comes from the URL".to_owned());
        }
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| format!("the header field {name} has a control character in its value"))?;
        if !is_dropped(&name) {
            fields.append(name, value);
        }
    }
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    Ok(request)
}

fn is_dropped(name: &HeaderName) -> bool {
    DROPPED.contains(&name.as_str())
}

fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let fields = headers.iter().filter(|(name, _)| !is_dropped(name));
    fields.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

async fn collected(mut body: FetchBody, room: &Room) -> Result<Vec<u8>, fetch::Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers are of no use to who reads whole messages.
        let Ok(data) = frame.map_err(tell)?.into_data() else { continue };
        if bytes.len() + data.len() > FETCH_BYTES_MAX {
            let text = format!("the answer's body has more than {FETCH_BYTES_MAX} bytes");
            return Err(fetch::Error::TooLarge(text));
        }
        room.take(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

fn tell(error: FetchError) -> fetch::Error {
    match error {
        FetchError::Denied(text) => fetch::Error::Denied(text),
        FetchError::NotFound(text) => fetch::Error::HostNotFound(text),
        FetchError::Refused(text) => fetch::Error::ConnectionRefused(text),
        FetchError::Tls(text) => fetch::Error::Tls(text),
        FetchError::TimedOut => fetch::Error::TimedOut,
        FetchError::Broken(text) => fetch::Error::Broken(text),
        FetchError::TooMany => fetch::Error::TooMany(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(method: &str, url: &str, headers: &[(&str, &str)]) -> Outgoing {
        let field = |field: &(&str, &str)| (field.0.to_owned(), field.1.as_bytes().to_vec());
        Outgoing {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(field).collect(),
            body: Vec::new(),
            timeout_ms: None,
        }
    }

    #[track_caller]
    fn check_refused(request: Outgoing, want: &str) {
        let error = checked(request).expect_err("should be refused");
        assert!(error.contains(want), "{error}");
    }

    #[test]
    fn a_request_that_has_no_sense_is_refused_in_words() {
        let url = "http://a.example/";
        check_refused(outgoing("G T", url, &[]), "the method");
        check_refused(outgoing("GET", "http://a b/", &[]), "the URL is none");
        check_refused(outgoing("GET", "/path", &[]), "not absolute");
        check_refused(outgoing("GET", "ftp://a.example/", &[]), "neither http nor https");
        check_refused(outgoing("GET", "http://u:p@a.example/", &[]), "a name and a password");
        check_refused(outgoing("GET", url, &[("x y", "")]), "the name of a header field");
        check_refused(outgoing("GET", url, &[("x", "a\r\ny: b")]), "control character");
        check_refused(outgoing("GET", url, &[("Host", "b.example")]), "comes from the URL");
        check_refused(outgoing("GET", url, &vec![("x", ""); HEADERS_MAX + 1]), "at most");
    }

    #[test]
    fn fields_of_the_connection_stay_here() {
        let fields = [("Connection", "x"), ("Transfer-Encoding", "chunked"), ("X-Note", "1")];
        let request = checked(outgoing("POST", "https://a.example:8443/b?c", &fields));
        let request = request.expect("it has sense");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()["x-note"], "1");
        assert_eq!(request.uri(), "https://a.example:8443/b?c");
    }
}
