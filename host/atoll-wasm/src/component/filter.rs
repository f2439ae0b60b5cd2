//! A filter: a component whose functions are called around the cache of a route.

use std::fmt;

use wasmtime::Store;

use super::Base;
use crate::bindings::filter::exports::atoll::edge::route_filter as raw;
use crate::bindings::filter::{Filter as Exports, FilterPre};
use crate::error::{CallError, quote};
use crate::host::{Host, Response};
use crate::instance::{self, Guest};
use crate::limits::{FILTER_TAGS_MAX, FILTER_TEXT_BYTES_MAX, Limits};
use crate::response;

/// A filter of the world `atoll:edge/filter`.
pub struct Filter<H: Host> {
    pub(super) base: Base<H>,
    pub(super) pre: FilterPre<Guest<H>>,
}

/// The hooks that a filter has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each hook is there or not")]
pub struct Hooks {
    /// Called with each request.
    pub on_request: bool,
    /// Called with each request that the cache is asked about.
    pub cache_key: bool,
    /// Called with each response of an upstream.
    pub on_response: bool,
    /// Called with each answer to a client.
    pub on_deliver: bool,
}

/// A request's head, lent to the guest.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// As sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Begins with `/`; not decoded, no query.
    pub path: &'a str,
    /// What stood after `?`, not decoded.
    pub query: Option<&'a str>,
    /// Host and perhaps port that the client asked for.
    pub authority: Option<&'a str>,
    /// Names in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// IP address of the client.
    pub client_address: Option<&'a str>,
}

/// A response's head, lent to the guest.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The final status.
    pub status: u16,
    /// Names in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Fields that can go out as they are.
pub type Fields = Vec<(String, Vec<u8>)>;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestStep {
    /// It goes on as it is.
    Pass,
    /// It goes on so.
    Change(RequestChange),
    /// It is answered at once.
    Answer(Response),
}

/// How a request goes on. Path and query are not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestChange {
    /// As the guest wrote it.
    pub path: String,
    /// Likewise.
    pub query: Option<String>,
    /// All fields, but for those that frame the message.
    pub headers: Fields,
    /// Name of one of the route's upstreams.
    pub upstream: Option<String>,
}

/// How a response goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseChange {
    /// All fields, but for those that frame the message.
    pub headers: Fields,
    /// Whether it is stored.
    pub storing: Storing,
    /// Tags that are fit for a field: visible ASCII with no comma.
    pub tags: Vec<String>,
}

/// Whether a response is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storing {
    /// As its fields say.
    AsHeadersSay,
    /// It is not.
    Never,
    /// For so long, in seconds.
    FreshFor {
        /// Until then it is fresh.
        ttl_s: u32,
        /// So long it may be used afterwards, while it is validated.
        stale_while_revalidate_s: u32,
        /// And so long where the upstream fails.
        stale_if_error_s: u32,
    },
}

impl<H: Host> Filter<H> {
    /// Asks which hooks there are.
    pub async fn wanted(&self, host: H, limits: &Limits) -> Result<Hooks, CallError> {
        let hooks = self
            .call(host, limits, async |exports, store| {
                exports.atoll_edge_route_filter().call_wanted(store).await
            })
            .await?;
        Ok(Hooks {
            on_request: hooks.contains(raw::Hooks::ON_REQUEST),
            cache_key: hooks.contains(raw::Hooks::CACHE_KEY),
            on_response: hooks.contains(raw::Hooks::ON_RESPONSE),
            on_deliver: hooks.contains(raw::Hooks::ON_DELIVER),
        })
    }

    /// A request has come.
    pub async fn on_request(
        &self,
        host: H,
        request: RequestHead<'_>,
        limits: &Limits,
    ) -> Result<RequestStep, CallError> {
        let step = self
            .call(host, limits, async |exports, store| {
                let hooks = exports.atoll_edge_route_filter();
                hooks.call_on_request(store, &request_of(&request)).await
            })
            .await?;
        match step {
            raw::RequestStep::Pass => Ok(RequestStep::Pass),
            raw::RequestStep::Change(change) => Ok(RequestStep::Change(RequestChange {
                path: bounded(change.path)?,
                query: change.query.map(bounded).transpose()?,
                headers: response::check_headers(change.headers)?,
                upstream: change.upstream.map(bounded).transpose()?,
            })),
            raw::RequestStep::Answer(answer) => {
                let (status, body) = (answer.status, answer.body.into());
                let answer = response::check(status, answer.headers, body, limits)?;
                Ok(RequestStep::Answer(answer))
            }
        }
    }

    /// What tells the responses to requests like this one apart, beside the URL.
    pub async fn cache_key(
        &self,
        host: H,
        request: RequestHead<'_>,
        limits: &Limits,
    ) -> Result<Vec<String>, CallError> {
        let parts = self
            .call(host, limits, async |exports, store| {
                let hooks = exports.atoll_edge_route_filter();
                hooks.call_cache_key(store, &request_of(&request)).await
            })
            .await?;
        let bytes: usize = parts.iter().map(|part| part.len() + 1).sum();
        if bytes > FILTER_TEXT_BYTES_MAX {
            return Err(CallError::BadResponse(format!(
                "a cache key of {bytes} bytes; at most {FILTER_TEXT_BYTES_MAX} are allowed"
            )));
        }
        Ok(parts)
    }

    /// An upstream has answered.
    pub async fn on_response(
        &self,
        host: H,
        (request, answer): (RequestHead<'_>, ResponseHead<'_>),
        limits: &Limits,
    ) -> Result<Option<ResponseChange>, CallError> {
        let step = self
            .call(host, limits, async |exports, store| {
                let hooks = exports.atoll_edge_route_filter();
                let (request, answer) = (&request_of(&request), response_of(&answer));
                hooks.call_on_response(store, request, &answer).await
            })
            .await?;
        let raw::ResponseStep::Change(change) = step else { return Ok(None) };
        let storing = match change.storing {
            raw::Storing::AsHeadersSay => Storing::AsHeadersSay,
            raw::Storing::Never => Storing::Never,
            raw::Storing::FreshFor(fresh) => Storing::FreshFor {
                ttl_s: fresh.ttl_s,
                stale_while_revalidate_s: fresh.stale_while_revalidate_s,
                stale_if_error_s: fresh.stale_if_error_s,
            },
        };
        let (headers, tags) = (response::check_headers(change.headers)?, check_tags(change.tags)?);
        Ok(Some(ResponseChange { headers, storing, tags }))
    }

    /// A client is answered.
    pub async fn on_deliver(
        &self,
        host: H,
        (request, answer): (RequestHead<'_>, ResponseHead<'_>),
        limits: &Limits,
    ) -> Result<Option<Fields>, CallError> {
        let headers = self
            .call(host, limits, async |exports, store| {
                let hooks = exports.atoll_edge_route_filter();
                let (request, answer) = (&request_of(&request), response_of(&answer));
                hooks.call_on_deliver(store, request, &answer).await
            })
            .await?;
        headers.map(response::check_headers).transpose()
    }

    /// Calls one hook, in an instance of its own.
    async fn call<T>(
        &self,
        host: H,
        limits: &Limits,
        hook: impl AsyncFnOnce(&Exports, &mut Store<Guest<H>>) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let (limits, _running) = self.base.enter(limits)?;
        let mut instance = self.base.instance(host, &limits);
        let store = &mut instance.store;
        let called = instance::within(&limits, async {
            let exports = self.pre.instantiate_async(&mut *store).await?;
            hook(&exports, &mut *store).await
        });
        let answer = called.await?;
        answer.map_err(|error| instance::explain(&error, store.data(), &limits))
    }
}

// Copies: what `bindgen!` makes of these records does not borrow.
fn request_of(request: &RequestHead<'_>) -> raw::RequestHead {
    raw::RequestHead {
        method: request.method.to_owned(),
        scheme: request.scheme.to_owned(),
        path: request.path.to_owned(),
        query: request.query.map(str::to_owned),
        authority: request.authority.map(str::to_owned),
        headers: fields_of(request.headers),
        client_address: request.client_address.map(str::to_owned),
    }
}

fn response_of(response: &ResponseHead<'_>) -> raw::ResponseHead {
    raw::ResponseHead { status: response.status, headers: fields_of(response.headers) }
}

fn fields_of(fields: &[(&str, &[u8])]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
}

fn bounded(text: String) -> Result<String, CallError> {
    if text.len() > FILTER_TEXT_BYTES_MAX {
        let len = text.len();
        return Err(CallError::BadResponse(format!(
            "a path, query or name of {len} bytes; at most {FILTER_TEXT_BYTES_MAX} are allowed"
        )));
    }
    Ok(text)
}

fn check_tags(tags: Vec<String>) -> Result<Vec<String>, CallError> {
    let fits = |tag: &&String| {
        !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    if tags.len() > FILTER_TAGS_MAX {
        let count = tags.len();
        return Err(CallError::BadResponse(format!(
            "{count} tags; at most {FILTER_TAGS_MAX} are allowed"
        )));
    }
    match tags.iter().find(|tag| !fits(tag)) {
        Some(bad) => Err(CallError::BadResponse(format!(
            "`{}` is no tag: visible ASCII without commas",
            quote(bad)
        ))),
        None => Ok(tags),
    }
}

impl<H: Host> fmt::Debug for Filter<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut filter = formatter.debug_struct("Filter");
        filter.field("imports", &self.base.imports).finish_non_exhaustive()
    }
}
