//! Filters: hooks around the HTTP cache of a route.
//!
//! ```
//! use atoll_guest::Response;
//! use atoll_guest::filter::{Filter, RequestHead, ResponseHead, filter};
//!
//! struct Edge;
//!
//! #[filter]
//! impl Filter for Edge {
//!     fn on_request(request: &mut RequestHead) -> Option<Response> {
//!         request.remove_header("cookie");
//!         None
//!     }
//!
//!     fn on_response(_: &RequestHead, response: &mut ResponseHead) {
//!         if response.status() == 404 {
//!             response.fresh_for_s(60);
//!         }
//!     }
//! }
//! ```
//!
//! Hooks may use [`kv`](crate::kv), [`secret`](crate::secret), [`config`](crate::config),
//! [`clock`](crate::clock), [`random`](crate::random) and [`log`](crate::log), as far as granted; they
//! wait for nobody, so neither `fetch` nor `cache` is among them.
//!
//! ```
//! use atoll_guest::filter::{Filter, RequestHead, filter};
//! use atoll_guest::{Response, secret, testing};
//!
//! /// Lets only those through who know the password.
//! struct Door;
//!
//! #[filter]
//! impl Filter for Door {
//!     fn on_request(request: &mut RequestHead) -> Option<Response> {
//!         let password = secret::text("door").ok().flatten();
//!         let is_known = password.is_some() && request.header("x-password") == password.as_deref();
//!         (!is_known).then(|| Response::text("who are you?\n").status(401))
//!     }
//! }
//!
//! let _node = testing::Node::start().with_secret("door", Some(b"sesame"));
//! let mut request = RequestHead::new("GET", "/");
//! request.set_header("x-password", "open");
//! assert_eq!(Door::on_request(&mut request).map(|answer| answer.status_code()), Some(401));
//! request.set_header("x-password", "sesame");
//! assert!(Door::on_request(&mut request).is_none());
//! ```
//!
//! Only the hooks that are written down are called. Each call may have a fresh instance: what one is
//! to know of another goes into header fields.

pub use atoll_guest_macros::filter;

use crate::Response;
use crate::filter_bindings::exports::atoll::edge::route_filter as raw;

/// The hooks. All of one request are of one version of the filter.
pub trait Filter {
    /// A request has come. What is changed in it is what the cache and the upstream see; a response
    /// is the answer, past the cache.
    fn on_request(request: &mut RequestHead) -> Option<Response> {
        let _ = request;
        None
    }

    /// What tells responses apart beside host, path and query. A purge of a URL takes all of them.
    fn cache_key(request: &RequestHead) -> Vec<String> {
        let _ = request;
        Vec::new()
    }

    /// The upstream has answered, and the response is about to be stored. With 304 it is about one
    /// that is stored, whose fields are replaced by these.
    fn on_response(request: &RequestHead, response: &mut ResponseHead) {
        let _ = (request, response);
    }

    /// A client is answered, from the cache or not: what is changed here is for it alone.
    fn on_deliver(request: &RequestHead, response: &mut ResponseHead) {
        let _ = (request, response);
    }
}

/// Header fields, in their order.
#[derive(Debug)]
struct Fields {
    lines: Vec<(String, Vec<u8>)>,
    is_changed: bool,
}

impl Fields {
    fn new(lines: Vec<(String, Vec<u8>)>) -> Fields {
        Fields { lines, is_changed: false }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let line = self.lines.iter().find(|line| line.0.eq_ignore_ascii_case(name))?;
        str::from_utf8(&line.1).ok()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn remove(&mut self, name: &str) {
        let before = self.lines.len();
        self.lines.retain(|line| !line.0.eq_ignore_ascii_case(name));
        self.is_changed |= before != self.lines.len();
    }

    fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.lines.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self.is_changed = true;
    }
}

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    raw: raw::RequestHead,
    fields: Fields,
    upstream: Option<String>,
    is_changed: bool,
}

impl RequestHead {
    /// Makes one, for unit tests: `target` is a path, perhaps with `?` and a query.
    pub fn new(method: &str, target: &str) -> RequestHead {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        RequestHead::from_raw(raw::RequestHead {
            method: method.to_owned(),
            scheme: "http".to_owned(),
            path: path.to_owned(),
            query,
            authority: None,
            headers: Vec::new(),
            client_address: None,
        })
    }

    fn from_raw(mut raw: raw::RequestHead) -> RequestHead {
        let fields = Fields::new(std::mem::take(&mut raw.headers));
        RequestHead { raw, fields, upstream: None, is_changed: false }
    }

    /// Returns the method as sent.
    pub fn method(&self) -> &str {
        &self.raw.method
    }

    /// Returns `http` or `https`.
    pub fn scheme(&self) -> &str {
        &self.raw.scheme
    }

    /// Returns the path as sent, not decoded.
    pub fn path(&self) -> &str {
        &self.raw.path
    }

    /// Returns what stood after `?`, not decoded.
    pub fn query_string(&self) -> Option<&str> {
        self.raw.query.as_deref()
    }

    /// Returns the host, perhaps with a port, that the client asked for.
    pub fn authority(&self) -> Option<&str> {
        self.raw.authority.as_deref()
    }

    /// Returns the IP address of the client as far as the node can tell.
    pub fn client_address(&self) -> Option<&str> {
        self.raw.client_address.as_deref()
    }

    /// Returns the first field of this name, in any case, unless its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// Returns all fields in their order; names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter()
    }

    /// Asks for another path.
    pub fn set_path(&mut self, path: impl Into<String>) {
        self.raw.path = path.into();
        self.is_changed = true;
    }

    /// Asks with another query, or none.
    pub fn set_query(&mut self, query: Option<String>) {
        self.raw.query = query;
        self.is_changed = true;
    }

    /// Sets a field, in place of any of this name.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.fields.remove(name);
        self.fields.add(name, value);
    }

    /// Removes all fields of this name.
    pub fn remove_header(&mut self, name: &str) {
        self.fields.remove(name);
    }

    /// Asks one of the route's `upstreams` in place of its `upstream`. Their answers are kept apart.
    pub fn use_upstream(&mut self, name: impl Into<String>) {
        self.upstream = Some(name.into());
        self.is_changed = true;
    }

    /// Returns which of the route's `upstreams` is asked.
    pub fn upstream(&self) -> Option<&str> {
        self.upstream.as_deref()
    }

    fn into_step(self) -> raw::RequestStep {
        if !self.is_changed && !self.fields.is_changed {
            return raw::RequestStep::Pass;
        }
        raw::RequestStep::Change(raw::RequestChange {
            path: self.raw.path,
            query: self.raw.query,
            headers: self.fields.lines,
            upstream: self.upstream,
        })
    }
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    status: u16,
    fields: Fields,
    storing: raw::Storing,
    tags: Vec<String>,
    is_changed: bool,
}

impl ResponseHead {
    /// Makes one, for unit tests.
    pub fn new(status: u16) -> ResponseHead {
        ResponseHead::from_raw(raw::ResponseHead { status, headers: Vec::new() })
    }

    fn from_raw(raw: raw::ResponseHead) -> ResponseHead {
        ResponseHead {
            status: raw.status,
            fields: Fields::new(raw.headers),
            storing: raw::Storing::AsHeadersSay,
            tags: Vec::new(),
            is_changed: false,
        }
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the first field of this name, in any case, unless its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// Returns all fields in their order; names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter()
    }

    /// Sets a field, in place of any of this name.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.fields.remove(name);
        self.fields.add(name, value);
    }

    /// Adds a field beside those of this name.
    pub fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.fields.add(name, value);
    }

    /// Removes all fields of this name.
    pub fn remove_header(&mut self, name: &str) {
        self.fields.remove(name);
    }

    /// Keeps it out of the cache. For `on_response`.
    pub fn never_store(&mut self) {
        self.storing = raw::Storing::Never;
        self.is_changed = true;
    }

    /// Makes it fresh for so many seconds, whatever its fields say. For `on_response`.
    pub fn fresh_for_s(&mut self, ttl_s: u32) {
        self.fresh_for_s_and_stale(ttl_s, 0, 0);
    }

    /// The same, and lets it be used afterwards: for so many seconds while it is validated, and for
    /// so many where the upstream fails.
    pub fn fresh_for_s_and_stale(&mut self, ttl_s: u32, while_s: u32, if_error_s: u32) {
        self.storing = raw::Storing::FreshFor(raw::Freshness {
            ttl_s,
            stale_while_revalidate_s: while_s,
            stale_if_error_s: if_error_s,
        });
        self.is_changed = true;
    }

    /// Gives it a name by which it can be purged. For `on_response`.
    pub fn tag(&mut self, tag: impl Into<String>) {
        self.tags.push(tag.into());
        self.is_changed = true;
    }

    fn into_step(self) -> raw::ResponseStep {
        if !self.is_changed && !self.fields.is_changed {
            return raw::ResponseStep::Pass;
        }
        raw::ResponseStep::Change(raw::ResponseChange {
            headers: self.fields.lines,
            storing: self.storing,
            tags: self.tags,
        })
    }
}

/// What the code that `#[filter]` writes calls. Not for people.
#[doc(hidden)]
pub mod export {
    use super::{Filter, RequestHead, ResponseHead, raw};
    use crate::log;

    fn begin() {
        std::panic::set_hook(Box::new(|panic| log::error(panic.to_string())));
    }

    pub fn on_request<F: Filter>(request: raw::RequestHead) -> raw::RequestStep {
        begin();
        let mut request = RequestHead::from_raw(request);
        match F::on_request(&mut request) {
            Some(answer) => raw::RequestStep::Answer(answer.into_raw()),
            None => request.into_step(),
        }
    }

    pub fn cache_key<F: Filter>(request: raw::RequestHead) -> Vec<String> {
        begin();
        F::cache_key(&RequestHead::from_raw(request))
    }

    pub fn on_response<F: Filter>(
        request: raw::RequestHead,
        response: raw::ResponseHead,
    ) -> raw::ResponseStep {
        begin();
        let mut response = ResponseHead::from_raw(response);
        F::on_response(&RequestHead::from_raw(request), &mut response);
        response.into_step()
    }

    pub fn on_deliver<F: Filter>(
        request: raw::RequestHead,
        response: raw::ResponseHead,
    ) -> Option<Vec<(String, Vec<u8>)>> {
        begin();
        let mut response = ResponseHead::from_raw(response);
        F::on_deliver(&RequestHead::from_raw(request), &mut response);
        response.fields.is_changed.then_some(response.fields.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_is_not_sent_back() {
        let request = RequestHead::new("GET", "/a?b");
        assert!(matches!(request.into_step(), raw::RequestStep::Pass));
        let mut request = RequestHead::new("GET", "/a?b");
        request.remove_header("cookie");
        assert!(matches!(request.into_step(), raw::RequestStep::Pass), "there was none");
        let mut request = RequestHead::new("GET", "/a?b");
        request.set_header("X-A", "1");
        let raw::RequestStep::Change(change) = request.into_step() else { panic!("changed") };
        assert_eq!((change.path.as_str(), change.query.as_deref()), ("/a", Some("b")));
        assert_eq!(change.headers, [("x-a".to_owned(), b"1".to_vec())]);
        assert!(matches!(ResponseHead::new(200).into_step(), raw::ResponseStep::Pass));
        let mut response = ResponseHead::new(200);
        response.tag("red");
        assert!(matches!(response.into_step(), raw::ResponseStep::Change(_)));
    }
}
