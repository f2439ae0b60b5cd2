//! Filters: guests whose functions are called around the cache of a route.
//!
//! A request keeps the version of the filter that it began with, for all of its hooks. What an earlier
//! version had a part in is stale once a later one has been asked for. Where a hook fails, the request
//! ends with an error of its own, or goes on without it and past the cache, as the record says: what
//! the filter would have kept out of the cache must not get in.

use super::fetch::Asked;
use super::latest::{self, Version};
use super::shield::is_of_a_node;
use super::{Proxy, Route};
use crate::handlers::Handlers;
use crate::handlers::deployed::{Deployed, Standing};
use crate::handlers::guest::GuestHost;
use crate::handlers::watch::Told;
use crate::listen::PeerAddress;
use crate::problem::Problem;
use crate::trace::attribute::{self, text};
use crate::trace::span::{Kind, Span};
use crate::trace::{self, Trace};
use crate::upstream::{ResponseBody, UpstreamError};
use atoll_core::http::edits::may_change;
use atoll_core::http_cache::keys::ATOLL_KEYS;
use atoll_core::http_cache::targeted::TARGETS;
use atoll_core::manifest::HandlerRecord;
use atoll_wasm::component::Component;
use atoll_wasm::component::filter::{
    Fields, Filter, RequestChange, RequestHead, RequestStep, ResponseChange, ResponseHead, Storing,
};
use atoll_wasm::error::CallError;
use atoll_wasm::host;
use atoll_wasm::limits::Limits;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use std::sync::Arc;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// What stands between the parts of a key: no URL has it.
pub(crate) const PART: char = '\u{1}';

/// A response that is not stored, whatever it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotStored;

/// A filter at work on one request.
#[derive(Clone, Debug)]
pub(super) struct Filtered {
    handlers: Arc<Handlers>,
    deployed: Arc<Deployed>,
    authority: Option<Authority>,
    client: Option<String>,
    /// What has led to the request, if that was a watcher's call.
    cause: Option<Told>,
    /// Where hooks are told of, in a request that is traced.
    trace: Option<Arc<Trace>>,
    /// Which of the route's other upstreams is asked.
    pub(super) upstream: Option<Box<str>>,
    /// What tells its responses apart beside the URL; each begins with [`PART`].
    pub(super) key_parts: String,
    /// Whether the cache is left out.
    pub(super) bypasses: bool,
    /// The request before it was changed, for another node that fetches for this one.
    came: Option<(Uri, HeaderMap)>,
}

/// Why a hook did not do its part.
struct Failed {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

/// The head of a request, for hooks that come later.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Proxy {
    /// Answers a request of a route with a filter.
    pub(super) async fn serve_filtered(
        self: &Arc<Self>,
        (route, name): (&Arc<Route>, &str),
        request: Request,
        authority: Option<&Authority>,
    ) -> Result<Response, Problem> {
        let release = self.handlers.get(name);
        let deployed = release.map(|release| Arc::clone(release.choose()));
        let is_filter =
            |deployed: &Arc<Deployed>| matches!(*deployed.component, Component::Filter(_));
        let Some(deployed) = deployed.filter(is_filter) else {
            let detail = format!(
                "the filter {name} of this route is not there; deploy it: atoll deploy \
                 COMPONENT.wasm --name {name}"
            );
            return Err(Problem::busy("filter-missing", detail, 1));
        };
        let (mut parts, body) = request.into_parts();
        let mut filtered = Filtered {
            handlers: Arc::clone(&self.handlers),
            authority: authority.cloned(),
            client: client_of(&parts),
            cause: self.handlers.cause(&parts.headers),
            trace: trace::of(&parts.extensions).cloned(),
            upstream: None,
            key_parts: String::new(),
            // A version on trial has no part in what others get.
            bypasses: deployed.standing == Standing::Canary
                || self.latest(&self.filter_versions, &deployed.record, || ()).is_none(),
            deployed,
            came: route.is_shielded().then(|| (parts.uri.clone(), parts.headers.clone())),
        };
        if let Some(answer) = filtered.on_request(route, &mut parts).await? {
            return Ok(answer);
        }
        if route.cache.is_some() && !filtered.bypasses {
            filtered.ask_for_key(&parts).await?;
        }
        // The node that asks delivers.
        let delivers = filtered.deployed.hooks.on_deliver && !is_of_a_node(&parts);
        let head = delivers.then(|| Head::of(&parts));
        let filtered = Arc::new(filtered);
        parts.extensions.insert(Arc::clone(&filtered));
        let request = Request::from_parts(parts, body);
        let answer = self.serve_unfiltered(route, request, authority).await?;
        match head {
            Some(head) => filtered.on_deliver(&head, answer).await,
            None => Ok(answer),
        }
    }
}

impl Filtered {
    /// The filter and its version.
    pub(super) fn version(&self) -> (&str, Version) {
        (&self.deployed.record.name, latest::version_of(&self.deployed.record))
    }

    /// Lets the filter look at a request. Some is its answer.
    async fn on_request(
        &mut self,
        route: &Route,
        parts: &mut Parts,
    ) -> Result<Option<Response>, Problem> {
        if !self.deployed.hooks.on_request {
            return Ok(None);
        }
        let head = Head::of(parts);
        let fields = fields_of(&head.headers);
        let step = self
            .call("on-request", async |filter, host, limits| {
                filter.on_request(host, self.lend(&head, &fields), limits).await
            })
            .await;
        let changed = match step {
            Ok(RequestStep::Pass) => Ok(()),
            Ok(RequestStep::Answer(answer)) => return respond(answer).map(Some),
            Ok(RequestStep::Change(change)) => self.change_request(route, parts, change),
            Err(failed) => Err(failed),
        };
        if let Err(failed) = changed {
            self.note_failure(failed)?;
        }
        Ok(None)
    }

    fn change_request(
        &mut self,
        route: &Route,
        parts: &mut Parts,
        change: RequestChange,
    ) -> Result<(), Failed> {
        let RequestChange { path, query, headers, upstream } = change;
        if let Some(name) = upstream {
            if !route.others.iter().any(|(other, _)| **other == *name) {
                return Err(self.bad(format!("the route has no upstream that is called {name:?}")));
            }
            self.key_parts.push(PART);
            self.key_parts.push_str("upstream=");
            push_part(&mut self.key_parts, &name);
            self.upstream = Some(name.into());
        }
        if path != parts.uri.path() || query.as_deref() != parts.uri.query() {
            let target = match &query {
                Some(query) => format!("{path}?{query}"),
                None => path.clone(),
            };
            let fits = path.starts_with('/') && !path.contains(['?', '#']) && !target.contains('#');
            let target = target.parse::<PathAndQuery>().ok().filter(|_| fits);
            let mut uri = parts.uri.clone().into_parts();
            let Some(target) = target else {
                return Err(self.bad("the path or the query that it gave is none".to_owned()));
            };
            uri.path_and_query = Some(target);
            parts.uri = Uri::from_parts(uri)
                .map_err(|_| self.bad("the path or the query that it gave is none".to_owned()))?;
        }
        replace_fields(&mut parts.headers, headers);
        Ok(())
    }

    async fn ask_for_key(&mut self, parts: &Parts) -> Result<(), Problem> {
        if !self.deployed.hooks.cache_key {
            return Ok(());
        }
        let head = Head::of(parts);
        let fields = fields_of(&head.headers);
        let found = self
            .call("cache-key", async |filter, host, limits| {
                filter.cache_key(host, self.lend(&head, &fields), limits).await
            })
            .await;
        match found {
            Ok(found) => {
                for part in found {
                    self.key_parts.push(PART);
                    push_part(&mut self.key_parts, &part);
                }
                Ok(())
            }
            Err(failed) => self.note_failure(failed),
        }
    }

    /// Lets the filter change a response before it is stored.
    pub(super) async fn on_response(
        &self,
        asked: (&Method, &Uri, &HeaderMap),
        response: &mut http::Response<ResponseBody>,
    ) -> Result<(), UpstreamError> {
        if self.deployed.hooks.on_response {
            let (method, uri, headers) = asked;
            let head = Head { method: method.clone(), uri: uri.clone(), headers: headers.clone() };
            let (fields, answered) = (fields_of(&head.headers), fields_of(response.headers()));
            let answer = ResponseHead { status: response.status().as_u16(), headers: &answered };
            let change = self
                .call("on-response", async |filter, host, limits| {
                    filter.on_response(host, (self.lend(&head, &fields), answer), limits).await
                })
                .await;
            match change {
                Ok(None) => {}
                Ok(Some(change)) => change_response(response, change),
                Err(failed) if self.deployed.record.pass_on_failure => {
                    tracing::debug!(code = failed.code, "a response goes on without its filter");
                    response.extensions_mut().insert(NotStored);
                }
                Err(failed) => return Err(UpstreamError::Filter(failed.status, failed.code)),
            }
        }
        self.name_record(response);
        Ok(())
    }

    /// Names the filter's record among the keys that the response was made from.
    fn name_record(&self, response: &mut http::Response<ResponseBody>) {
        let key = format!("\"_sys/{}\"", HandlerRecord::key(&self.deployed.record.name));
        super::keys::add_own(response, HeaderValue::try_from(key).ok());
    }

    async fn on_deliver(&self, head: &Head, mut answer: Response) -> Result<Response, Problem> {
        let delivered = {
            let (fields, answered) = (fields_of(&head.headers), fields_of(answer.headers()));
            let response = ResponseHead { status: answer.status().as_u16(), headers: &answered };
            self.call("on-deliver", async |filter, host, limits| {
                filter.on_deliver(host, (self.lend(head, &fields), response), limits).await
            })
            .await
        };
        match delivered {
            Ok(None) => {}
            Ok(Some(headers)) => replace_fields(answer.headers_mut(), headers),
            Err(_) if self.deployed.record.pass_on_failure => {}
            Err(failed) => return Err(failed.into()),
        }
        Ok(answer)
    }

    /// Calls the hook of this name, within the filter's limits.
    async fn call<T>(
        &self,
        name: &'static str,
        hook: impl AsyncFnOnce(&Filter<GuestHost>, GuestHost, &Limits) -> Result<T, CallError>,
    ) -> Result<T, Failed> {
        let Component::Filter(filter) = &*self.deployed.component else {
            return Err(self.bad("it is no filter".to_owned()));
        };
        let mut span = self.begin_span(name);
        let answer = match self.deployed.places.try_acquire() {
            Ok(_place) => {
                let host = self.handlers.host(&self.deployed).caused_by(self.cause);
                let host = match span.as_ref().map(Span::trace) {
                    Some(trace) => host.traced(Arc::clone(trace)),
                    None => host,
                };
                let answer = hook(filter, host, &self.deployed.limits).await;
                self.handlers.ended(&self.deployed, answer.as_ref().map(|_| ()));
                answer
            }
            Err(_) => Err(CallError::Busy("it already runs as often as it may")),
        };
        if let (Some(span), Err(error)) = (&mut span, &answer) {
            span.fail(error.kind(), error.to_string());
        }
        answer.map_err(|error| Failed::of(&self.deployed.record.name, &error))
    }

    fn begin_span(&self, hook: &'static str) -> Option<Span> {
        let name = || format!("filter {} {hook}", self.deployed.record.name);
        let mut span = self.trace.as_ref()?.begin(Kind::Internal, name)?;
        span.set(attribute::FILTER_HOOK, text(hook));
        span.extend(self.deployed.attributes());
        Some(span)
    }

    fn lend<'a>(&'a self, head: &'a Head, headers: &'a [(&'a str, &'a [u8])]) -> RequestHead<'a> {
        RequestHead {
            method: head.method.as_str(),
            scheme: head.uri.scheme_str().unwrap_or("http"),
            path: head.uri.path(),
            query: head.uri.query(),
            authority: self.authority.as_ref().map(Authority::as_str),
            headers,
            client_address: self.client.as_deref(),
        }
    }

    /// Ends the request, or sends it past the cache.
    fn note_failure(&mut self, failed: Failed) -> Result<(), Problem> {
        if !self.deployed.record.pass_on_failure {
            return Err(failed.into());
        }
        self.bypasses = true;
        Ok(())
    }

    fn bad(&self, detail: String) -> Failed {
        let error = CallError::BadResponse(detail);
        self.handlers.ended(&self.deployed, Err(&error));
        Failed::of(&self.deployed.record.name, &error)
    }
}

impl Head {
    fn of(parts: &Parts) -> Head {
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        Head { method, uri, headers: parts.headers.clone() }
    }
}

impl Failed {
    fn of(name: &str, error: &CallError) -> Failed {
        let (status, code) = match error {
            CallError::Trap { .. } => (StatusCode::BAD_GATEWAY, "filter-trap"),
            CallError::CpuLimit { .. } => (StatusCode::GATEWAY_TIMEOUT, "filter-cpu-limit"),
            CallError::WallLimit { .. } => (StatusCode::GATEWAY_TIMEOUT, "filter-wall-limit"),
            CallError::MemoryLimit { .. } => (StatusCode::BAD_GATEWAY, "filter-memory-limit"),
            CallError::ResponseLimit { .. } => (StatusCode::BAD_GATEWAY, "filter-response-limit"),
            CallError::BadResponse(_)
            | CallError::Answered(_)
            | CallError::InstanceLost
            | CallError::NoAnswer => (StatusCode::BAD_GATEWAY, "filter-bad-answer"),
            CallError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "filter-busy"),
        };
        Failed { status, code, detail: format!("filter {name}: {error}") }
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Problem {
        match failed.status {
            StatusCode::SERVICE_UNAVAILABLE => Problem::busy(failed.code, failed.detail, 1),
            status => Problem::new(status, failed.code, failed.detail),
        }
    }
}

fn change_response(response: &mut http::Response<ResponseBody>, change: ResponseChange) {
    let ResponseChange { headers, storing, tags } = change;
    replace_fields(response.headers_mut(), headers);
    match storing {
        Storing::AsHeadersSay => {}
        Storing::Never => {
            response.extensions_mut().insert(NotStored);
        }
        Storing::FreshFor { ttl_s, stale_while_revalidate_s, stale_if_error_s } => {
            let control = format!(
                "max-age={ttl_s}, stale-while-revalidate={stale_while_revalidate_s}, \
                 stale-if-error={stale_if_error_s}"
            );
            if let Ok(control) = HeaderValue::try_from(control) {
                let [own, _] = TARGETS;
                response.headers_mut().insert(own, control);
            }
        }
    }
    for tag in tags {
        // They are checked: visible and without commas.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            response.headers_mut().append(CACHE_TAG, tag);
        }
    }
}

impl Asked {
    /// The request as it was before a filter changed it, where one may have.
    pub(super) fn as_it_came(&self) -> Option<Asked> {
        let filtered = self.parts.extensions.get::<Arc<Filtered>>()?;
        let (uri, headers) = filtered.came.clone()?;
        let mut came = self.for_fetch();
        (came.parts.uri, came.parts.headers) = (uri, headers);
        Some(came)
    }
}

/// Whose request it is: another node has told it behind all others.
fn client_of(parts: &Parts) -> Option<String> {
    let chain = parts.headers.get_all(FORWARDED_FOR).iter().next_back();
    let told = chain.and_then(|chain| chain.to_str().ok()?.rsplit(',').next());
    match told.filter(|_| is_of_a_node(parts)) {
        Some(client) => Some(client.trim().to_owned()),
        None => parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip().to_string()),
    }
}

/// The fields that a filter sees and may change.
fn fields_of(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let fields = headers.iter().filter(|(name, _)| may_change(name));
    fields.map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Puts a filter's fields in the place of those that it has seen.
fn replace_fields(headers: &mut HeaderMap, fields: Fields) {
    let kept: HeaderMap = headers
        .iter()
        .filter(|(name, _)| !may_change(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut replaced = HeaderMap::with_capacity(kept.len() + fields.len());
    for (name, value) in &kept {
        replaced.append(name, value.clone());
    }
    for (name, value) in fields {
        // They are checked.
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            continue;
        };
        if may_change(&name) {
            replaced.append(name, value);
        }
    }
    *headers = replaced;
}

/// Appends text that has no character which stands between parts.
fn push_part(key: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() || character == '%' {
            key.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            key.push(character);
        }
    }
}

/// The answer that a filter has given itself.
fn respond(answer: host::Response) -> Result<Response, Problem> {
    let broken =
        || Problem::new(StatusCode::BAD_GATEWAY, "filter-bad-answer", "the answer is not HTTP");
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(|_| broken())?;
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).map_err(|_| broken())?;
        let value = HeaderValue::try_from(value).map_err(|_| broken())?;
        response.headers_mut().append(name, value);
    }
    response.headers_mut().remove(ATOLL_KEYS);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_cannot_be_taken_for_others() {
        let part = |text: &str| {
            let mut key = String::new();
            push_part(&mut key, text);
            key
        };
        assert_eq!(part("a b/é"), "a b/é");
        assert_eq!(part("a\u{1}b\0c%01"), "a%01b%00c%2501");
    }

    #[test]
    fn what_frames_a_message_is_neither_seen_nor_replaced() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-length", "3"), ("x-a", "1"), ("age", "9"), ("x-a", "2")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(fields_of(&headers), [("x-a", &b"1"[..]), ("x-a", b"2")]);
        let given = [("x-b", "3"), ("content-length", "9"), ("age", "0")];
        let given = given.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        replace_fields(&mut headers, given.into());
        assert_eq!(headers.len(), 3);
        assert_eq!(
            (&headers["content-length"], &headers["age"]),
            (&"3".parse().unwrap(), &"9".parse().unwrap())
        );
        assert_eq!(headers["x-b"], "3");
    }
}
