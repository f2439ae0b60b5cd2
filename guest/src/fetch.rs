//! Requests to other hosts, as far as the handler was granted them: `--grant http:HOST[:PORT]`.
//!
//! ```
//! use atoll_guest::{Request, Response, fetch, handler};
//! use std::time::Duration;
//!
//! #[handler]
//! fn handle(request: Request) -> Result<Response, fetch::Error> {
//!     let url = format!("https://api.example.com{}", request.path());
//!     let answer = fetch::get(&url).header("accept", "application/json");
//!     Ok(answer.timeout(Duration::from_secs(2)).send()?.into_response())
//! }
//!
//! let node = atoll_guest::testing::Node::start()
//!     .with_grants(&["http:api.example.com"])
//!     .with_upstream("https://api.example.com", |request| {
//!         fetch::Incoming::new(200).with_body(format!("you asked for {}", request.url()))
//!     });
//! let response = node.run(handle, Request::new("GET", "/a"));
//! assert_eq!(response.body_text(), "you asked for https://api.example.com/a");
//! ```
//!
//! The node sends what the handler wrote and nothing else: it follows no redirects, keeps no cookies
//! and knows no proxies. A call of the handler may send 64 requests, one after the other or at once
//! ([`all`]); the body of an answer has at most 8 MiB. Waiting costs no processor time, but counts for the time that the
//! handler may take.

mod error;

pub use error::Error;

use std::time::Duration;

use crate::Response;
use crate::bindings::atoll::edge::fetch as raw;
use crate::node;

/// Begins a `GET` of an absolute URL.
pub fn get(url: &str) -> Outgoing {
    Outgoing::new("GET", url)
}

/// Sends several requests at once and waits for all answers, which come in the order of the requests.
/// That takes as long as the slowest of them.
///
/// Each counts as one of the 64 that a call of the handler may send; their bodies together have at
/// most 32 MiB.
///
/// ```
/// use atoll_guest::{Request, Response, fetch, handler};
///
/// #[handler]
/// fn handle(_request: Request) -> Response {
///     let urls = ["https://a.example.com/", "https://b.example.com/"];
///     let answers = fetch::all(urls.map(fetch::get));
///     let there = answers.iter().flatten().filter(|answer| answer.is_success()).count();
///     Response::text(format!("{there} of {} are there\n", urls.len()))
/// }
///
/// let node = atoll_guest::testing::Node::start()
///     .with_grants(&["http:*.example.com"])
///     .with_upstream("https://a.example.com", |_| fetch::Incoming::new(200))
///     .with_upstream("https://b.example.com", |_| fetch::Incoming::new(503));
/// let response = node.run(handle, Request::new("GET", "/"));
/// assert_eq!(response.body_text(), "1 of 2 are there\n");
/// ```
pub fn all(requests: impl IntoIterator<Item = Outgoing>) -> Vec<Result<Incoming, Error>> {
    let raw: Vec<raw::Outgoing> = requests.into_iter().map(|request| request.raw).collect();
    let answers = node::fetch::send_many(&raw).into_iter();
    answers.map(|answer| Ok(Incoming { raw: answer? })).collect()
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    raw: raw::Outgoing,
}

impl Outgoing {
    /// Makes a request. `url` is absolute: `https://api.example.com/v1/items?page=2`.
    pub fn new(method: &str, url: &str) -> Outgoing {
        Outgoing {
            raw: raw::Outgoing {
                method: method.to_owned(),
                url: url.to_owned(),
                headers: Vec::new(),
                body: Vec::new(),
                timeout_ms: None,
            },
        }
    }

    /// Adds a header field. `host` comes from the URL and is refused.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Outgoing {
        self.raw.headers.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Outgoing {
        self.raw.body = body.into();
        self
    }

    /// Waits no longer than this for the whole answer; without it as long as the handler may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Outgoing {
        self.raw.timeout_ms = Some(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1));
        self
    }

    /// Sends the request and waits for the whole answer. An answer with any status is no error.
    pub fn send(&self) -> Result<Incoming, Error> {
        Ok(Incoming { raw: node::fetch::send(&self.raw)? })
    }

    /// Returns the method, for unit tests.
    pub fn method(&self) -> &str {
        &self.raw.method
    }

    /// Returns the URL, for unit tests.
    pub fn url(&self) -> &str {
        &self.raw.url
    }

    /// Returns the first header field of this name, for unit tests.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        first(&self.raw.headers, name)
    }

    /// Returns the body, for unit tests.
    pub fn body_bytes(&self) -> &[u8] {
        &self.raw.body
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn of_raw(raw: raw::Outgoing) -> Outgoing {
        Outgoing { raw }
    }
}

/// What another host has answered.
#[derive(Debug, Clone)]
pub struct Incoming {
    raw: raw::Incoming,
}

impl Incoming {
    /// Makes an answer, for unit tests.
    pub fn new(status: u16) -> Incoming {
        Incoming { raw: raw::Incoming { status, headers: Vec::new(), body: Vec::new() } }
    }

    /// Adds a header field, for unit tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Incoming {
        self.raw.headers.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body, for unit tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Incoming {
        self.raw.body = body.into();
        self
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.raw.status
    }

    /// Tells whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.raw.status)
    }

    /// Returns the first header field of this name, in any case, unless its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.raw.headers, name)
    }

    /// Returns all header fields; names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.raw.body
    }

    /// Reads the body as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        let broken = |error: serde_json::Error| Error::Broken(format!("no such JSON: {error}"));
        serde_json::from_slice(&self.raw.body).map_err(broken)
    }

    /// Passes the answer on as the handler's own, with all its header fields.
    pub fn into_response(self) -> Response {
        let response = Response::new(self.raw.status).body(self.raw.body);
        let fields = self.raw.headers.into_iter();
        fields.fold(response, |response, (name, value)| response.append_header(&name, value))
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn into_raw(self) -> raw::Incoming {
        self.raw
    }
}

fn first<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let value = &headers.iter().find(|field| field.0.eq_ignore_ascii_case(name))?.1;
    str::from_utf8(value).ok()
}
