//! A fetch that may be stored: it goes on by itself, so that no client's end is another's.

use super::filters::NotStored;
use super::shield::FetchedUs;
use super::{Proxy, Route, Source, guest, parts};
use crate::cache::fill::{Fill, Head};
use crate::cache::flight::{Landing, Lead, Renewed};
use crate::cache::ms_of;
use crate::cache::stored::{Ingredients, Stored};
use crate::listen::interim::Interim;
use crate::problem::Problem;
use crate::upstream::{ResponseBody, UpstreamError};
use atoll_core::http_cache::control::RequestControl;
use atoll_core::http_cache::freshness::{self, Exchanged};
use atoll_core::http_cache::partial::Span;
use atoll_core::http_cache::purge::Subject;
use atoll_core::http_cache::report::{Forward, Report};
use atoll_core::http_cache::reuse::{self, Failure};
use atoll_core::http_cache::storing::{
    self, Answered, Refusal, Rules, SetCookie, Storable, Update,
};
use atoll_core::http_cache::vary::{Vary, selecting_key};
use atoll_core::http_cache::{fields, keys, tags, targeted, validation};
use atoll_core::replica::vector::Vector;
use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Body as _;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::oneshot;

/// The code of a failure that was an answer: 500, 502, 503 or 504.
pub(super) const ERROR: &str = "upstream-error";

/// Fields by which clients could make an upstream answer for another URL, method or host than the
/// key has. They are not passed on where the answer may be stored.
const UNKEYED: [HeaderName; 9] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request of a route that is cached.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) host_bytes: usize,
    pub(super) control: RequestControl,
    pub(super) is_conditional: bool,
    pub(super) authority: Option<Authority>,
    /// As the client sent it.
    pub(super) parts: Parts,
}

impl Asked {
    /// A copy for a fetch of what may be stored: one with GET, whatever the client asks with.
    pub(super) fn for_fetch(&self) -> Asked {
        let mut parts = self.parts.clone();
        parts.method = Method::GET;
        Asked {
            key: self.key.clone(),
            host_bytes: self.host_bytes,
            control: self.control,
            is_conditional: self.is_conditional,
            authority: self.authority.clone(),
            parts,
        }
    }
}

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) asked: Asked,
    /// What is stored, to ask about.
    pub(super) stored: Option<Arc<Stored>>,
    /// The beginning, where only that is stored: the rest is asked for.
    pub(super) part: Option<Arc<Stored>>,
    /// Whether the client's own conditions go with it: nobody else gets the response.
    pub(super) keeps_conditions: bool,
    /// Takes the response where it is for nobody else.
    pub(super) own: Option<oneshot::Sender<Response>>,
}

/// A response to a fetch.
pub(super) struct Fetched {
    pub(super) response: http::Response<ResponseBody>,
    pub(super) exchanged: Exchanged,
    /// When another node began to fetch it, in microseconds; `None` where this one did.
    pub(super) shielded_us: Option<u64>,
}

impl Proxy {
    /// Begins to fetch.
    pub(super) fn begin(self: &Arc<Self>, route: &Arc<Route>, job: Job, lead: Lead) {
        let (proxy, route) = (Arc::clone(self), Arc::clone(route));
        self.fetches.spawn(async move { proxy.run(&route, job, lead).await });
    }

    async fn run(&self, route: &Route, mut job: Job, lead: Lead) {
        let mut marks = self.marks_for(route);
        let is_current = self.is_of_the_latest(route, &job.asked);
        let mut about = job.stored.clone().filter(|stored| stored.meta.has_validator && is_current);
        // A purge that came since it was found, and before this fetch began, takes it as well.
        job.part = job.part.filter(|part| self.cache.holds(part));
        let mut fetched = loop {
            let fetched = match self.exchange(route, &job, about.as_deref()).await {
                Ok(fetched) => fetched,
                Err((status, code)) => return lead.land(Landing::Failed(status, code)),
            };
            match (fetched.response.status(), job.part.take()) {
                (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, Some(part)) => {
                    match parts::completed(&part, fetched) {
                        Some(whole) => {
                            // Some of it was fetched before.
                            marks = None;
                            break whole;
                        }
                        // It does not fit: once more, for all of it.
                        None => continue,
                    }
                }
                (StatusCode::NOT_MODIFIED, _) => {}
                _ => break fetched,
            }
            // Not about what we have, or not asked for: once more, for all of it.
            let Some(stored) = about.take() else { break fetched };
            if validation::is_about(&stored.headers, fetched.response.headers()) {
                // Another node may have asked about it before this one fetched it.
                let shielded_us = fetched.shielded_us.map(|us| us.max(stored.fetched_us));
                let began_us = shielded_us.unwrap_or(lead.began_us());
                // As old as what was taken: nobody here knows when that was fetched.
                let is_taken = stored.is_taken && began_us == stored.fetched_us;
                let renewed =
                    self.validated(route, &job, (&stored, is_taken), (&fetched, began_us));
                if renewed.is_for_all {
                    let vary = Vary::of(&renewed.stored.headers);
                    let marks = marks.as_deref().filter(|_| shielded_us.is_none());
                    self.share((route, &job.asked), (&renewed.stored, &vary), marks);
                }
                return lead.land(Landing::Validated(Arc::new(renewed)));
            }
        };
        if fetched.shielded_us.is_some() {
            // The node that has fetched it shares it, and knows what it included.
            marks = None;
        }
        if !is_current {
            // It is for those who began with that version.
            fetched.response.extensions_mut().insert(NotStored);
        }
        let status = fetched.response.status();
        let now_ms = fetched.exchanged.responded_ms;
        let stands_in = job.stored.as_ref().is_some_and(|stored| {
            is_failure(status)
                && reuse::stands_in(&stored.meta, &job.asked.control, Failure::Error, now_ms)
        });
        if stands_in {
            return lead.land(Landing::Failed(status, ERROR));
        }
        self.land_whole(route, job, (fetched, marks), lead).await;
    }

    /// Stores what was fetched for all that wait for it, or hands it to the one who has asked.
    async fn land_whole(
        &self,
        route: &Route,
        mut job: Job,
        (fetched, marks): (Fetched, Option<Box<Vector>>),
        lead: Lead,
    ) {
        let own = job.own.take();
        let status = fetched.response.status();
        let is_kept_out = fetched.response.extensions().get::<NotStored>().is_some();
        let ends_stored = validation::ends_stored(&job.asked.parts.headers, status);
        let ended = job.stored.take().filter(|_| ends_stored);
        match self.open(route, &job.asked, (fetched, lead.began_us()), marks) {
            Ok(opened) => {
                if self.drive(route, &job.asked, opened, lead).await {
                    self.end(route, &job.asked, ended);
                }
            }
            Err((mut response, refusal)) => {
                // What a filter keeps out of the cache is for no other node's either.
                if !is_kept_out {
                    response.extensions_mut().insert(FetchedUs(lead.began_us()));
                }
                self.end(route, &job.asked, ended);
                if status.as_u16() < 500 && refusal.is_some_and(is_of_the_response) {
                    self.cache.mark_pass(&job.asked.key);
                }
                if let Some(own) = own {
                    // A client that has gone wants it no more.
                    let _ = own.send(*response);
                }
                lead.land(Landing::Private);
            }
        }
    }

    /// Ends what was stored, where something has superseded it that is not stored itself.
    fn end(&self, route: &Route, asked: &Asked, stored: Option<Arc<Stored>>) {
        let Some(stored) = stored else { return };
        if route.cache.as_ref().is_some_and(|cache| cache.replicated.is_some()) {
            // The other nodes have it as well.
            self.invalidate(&asked.key);
        } else {
            self.cache.end(&stored, &asked.parts.headers);
        }
    }

    /// Sends a request and waits for the head of the response.
    async fn exchange(
        &self,
        route: &Route,
        job: &Job,
        about: Option<&Stored>,
    ) -> Result<Fetched, (StatusCode, &'static str)> {
        let head = self.upstream_head(route, &job.asked, (about, job.part.as_deref()));
        let mut parts = head.map_err(|problem| (problem.status(), problem.code()))?;
        if job.keeps_conditions {
            for name in &validation::CONDITIONS {
                if let Some(condition) = job.asked.parts.headers.get(name) {
                    parts.headers.insert(name, condition.clone());
                }
            }
        }
        if job.own.is_none() {
            // The client has been answered: interim responses would come behind that.
            parts.extensions.remove::<Interim>();
        }
        if !job.keeps_conditions
            && let Some(fetched) = self.exchange_with_owner(route, job, about, &parts).await
        {
            return Ok(fetched);
        }
        let requested_ms = ms_of(self.cache.now_us());
        route.records.upstream_requests.inc();
        let request = http::Request::from_parts(parts, Body::empty());
        let response = route.send(request).await;
        let response = response.map_err(|error: UpstreamError| error.answer())?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpstreamError::Broken.answer());
        }
        let responded_ms = ms_of(self.cache.now_us());
        let exchanged = Exchanged { requested_ms, responded_ms };
        Ok(Fetched { response, exchanged, shielded_us: None })
    }

    /// Asks the node that fetches for all, where that is another one. `None` is to ask the upstream.
    async fn exchange_with_owner(
        &self,
        route: &Route,
        job: &Job,
        about: Option<&Stored>,
        parts: &Parts,
    ) -> Option<Fetched> {
        let asked = &job.asked;
        let is_asked = route.is_shielded() && !asked.is_for_a_node();
        let shield = self.shield.get().filter(|_| is_asked)?;
        let owner = shield.owner(&asked.key)?;
        let parts = match asked.as_it_came() {
            None => parts.clone(),
            Some(came) => self.upstream_head(route, &came, (about, None)).ok()?,
        };
        let requested_us = self.cache.now_us();
        let purpose = asked.purpose(route);
        let (mut response, ago_us) = shield.ask(&owner, (parts, purpose)).await?;
        let fetched_us = requested_us.saturating_sub(ago_us);
        let mut tags = tags::of(response.headers());
        if let Some(stored) = about.filter(|_| response.status() == StatusCode::NOT_MODIFIED) {
            tags = tags.iter().chain(&stored.tags).cloned().collect();
        }
        let subject = Subject { key: &asked.key, host_bytes: asked.host_bytes, tags: &tags };
        let keys = match about.filter(|_| response.status() == StatusCode::NOT_MODIFIED) {
            Some(stored) => stored.keys.clone(),
            None => keys::hashes(response.headers()),
        };
        if !self.cache.is_in_force(subject, fetched_us) || self.cache.is_written(&keys, fetched_us)
        {
            // It does not know yet of a purge or a write that this node knows.
            shield.figures.outdated.inc();
            return None;
        }
        let requested_ms = ms_of(requested_us);
        let responded_ms = ms_of(self.cache.now_us());
        fields::remove_of_the_connection(response.headers_mut());
        let exchanged = Exchanged { requested_ms, responded_ms };
        Some(Fetched { response, exchanged, shielded_us: Some(fetched_us) })
    }

    /// The head of a request whose response may be stored.
    pub(super) fn upstream_head(
        &self,
        route: &Route,
        asked: &Asked,
        (about, part): (Option<&Stored>, Option<&Stored>),
    ) -> Result<Parts, Problem> {
        let mut parts = asked.parts.clone();
        match route.source {
            Source::Upstream(_) => self.prepare(&mut parts, asked.authority.as_ref())?,
            Source::Guest(_) => guest::prepare(&mut parts),
        }
        let headers = &mut parts.headers;
        for name in UNKEYED.iter().chain(&validation::CONDITIONS) {
            headers.remove(name);
        }
        match (about, part) {
            (Some(stored), _) => {
                validation::ask_about(&stored.headers, headers);
                headers.remove(header::RANGE);
            }
            (None, Some(part)) => parts::ask_for_rest(part, headers),
            // To HEAD a Range means nothing.
            (None, None)
                if asked.parts.method == Method::GET && is_single_range(&asked.parts.headers) =>
            {
                if let Some(condition) = asked.parts.headers.get(header::IF_RANGE) {
                    headers.insert(header::IF_RANGE, condition.clone());
                }
            }
            // The whole is answered, and serves everybody (RFC 9110 section 14.2).
            (None, None) => {
                headers.remove(header::RANGE);
            }
        }
        Ok(parts)
    }

    /// Opens what may be stored for readers. What may not is handed back as a response.
    #[allow(clippy::type_complexity, reason = "a response or what it opens")]
    fn open(
        &self,
        route: &Route,
        asked: &Asked,
        (fetched, fetched_us): (Fetched, u64),
        marks: Option<Box<Vector>>,
    ) -> Result<(Arc<Fill>, ResponseBody), (Box<Response>, Option<Refusal>)> {
        let Fetched { response, exchanged, shielded_us } = fetched;
        let settings = route.cache.as_ref();
        let refuse = |response, refusal: Option<Refusal>| {
            let detail = refusal.map(Refusal::as_str);
            let report = Report { forward: Some(Forward::UriMiss), detail, ..Report::default() };
            let response = super::forward::stream(response, Some(report));
            Err((Box::new(response), refusal))
        };
        let Some(settings) = settings else { return refuse(response, None) };
        if response.extensions().get::<NotStored>().is_some() {
            return refuse(response, None);
        }
        let status = response.status();
        let asking = storing::Asked { method: &asked.parts.method, headers: &asked.parts.headers };
        let answered = Answered { status, headers: response.headers() };
        let storable = match storing::judge(asking, answered, exchanged, &settings.rules) {
            Ok(storable) => storable,
            Err(refusal) => return refuse(response, Some(refusal)),
        };
        let span = Span::of(response.headers());
        let length = response.body().size_hint().exact();
        let fits = length.is_none_or(|length| length <= settings.object_bytes_max);
        let is_known_part = status != StatusCode::PARTIAL_CONTENT
            || span.is_some_and(|span| length.is_none_or(|length| length == span.length()));
        let varies_by_client = matches!(
            &storable.vary, Vary::Fields(names) if names.contains(&FORWARDED_FOR)
        );
        if !fits || !is_known_part || varies_by_client {
            return refuse(response, None);
        }
        let (parts, body) = response.into_parts();
        let mut head = head(
            &asked.parts.headers,
            (status, parts.headers),
            storable,
            (exchanged, &settings.rules),
        );
        let fetched_us = shielded_us.unwrap_or(fetched_us);
        self.end_with_keys(&head.headers, &mut head.meta);
        // From here on, so that those who follow are told of a write as well.
        self.cache.admit_keys(&head.keys, fetched_us);
        let span = span.filter(|_| status == StatusCode::PARTIAL_CONTENT);
        let is_shielded = shielded_us.is_some();
        let head = Head { span, length, fetched_us, is_shielded, marks, ..head };
        Ok((Fill::new(head, self.cache.fills()), body))
    }

    /// What is stored is right: its fields and its times are brought up to date (RFC 9111 sections
    /// 3.2 and 4.3.4).
    fn validated(
        &self,
        route: &Route,
        job: &Job,
        (stored, is_taken): (&Stored, bool),
        (fetched, began_us): (&Fetched, u64),
    ) -> Renewed {
        let newer = (fetched.response.headers(), fetched.exchanged);
        let request = &job.asked.parts.headers;
        let (renewed, update) = self.renewed(route, stored, (request, newer), began_us);
        let own_fields = own_fields_of_304(route, newer.0, &renewed.headers);
        let renewed = Arc::new(renewed.taken(is_taken));
        let update = match fetched.response.extensions().get::<NotStored>() {
            Some(_) => Update::Ended,
            None => update,
        };
        match update {
            Update::TakenOver => {
                let vary = Vary::of(&renewed.headers);
                self.cache.store(&renewed, &vary, request);
            }
            Update::Left => {}
            Update::Ended => self.invalidate(&job.asked.key),
        }
        Renewed { stored: renewed, is_for_all: update == Update::TakenOver, own_fields }
    }

    /// What is stored, with the fields of a newer response to a request with these fields, and what
    /// that makes of it.
    fn renewed(
        &self,
        route: &Route,
        stored: &Stored,
        (request, (newer, exchanged)): (&HeaderMap, (&HeaderMap, Exchanged)),
        fetched_us: u64,
    ) -> (Stored, Update) {
        let mut headers = stored.headers.clone();
        let mut update = newer.clone();
        let age = update.remove(header::AGE);
        fields::update(&mut headers, &update);
        let answered = Answered { status: stored.status, headers: &headers };
        let update = storing::judge_update(request, answered);
        let default = Rules::default();
        let rules = route.cache.as_ref().map_or(&default, |settings| &settings.rules);
        if rules.set_cookie != SetCookie::Store {
            headers.remove(header::SET_COOKIE);
        }
        let (control, is_targeted) = targeted::control_of(&headers);
        // Age counts, and is not kept.
        if let Some(age) = age {
            headers.insert(header::AGE, age);
        }
        let answered = Answered { status: stored.status, headers: &headers };
        let mut meta = storing::describe(answered, &control, is_targeted, (exchanged, rules));
        self.end_with_keys(&headers, &mut meta);
        fields::remove_not_stored(&mut headers, &control);
        let renewed = Stored::new(Ingredients {
            key: stored.key.clone(),
            host_bytes: stored.host_bytes,
            status: stored.status,
            headers,
            meta,
            exchanged,
            body: stored.body.clone(),
            span: stored.span,
            fetched_us,
        });
        (renewed, update)
    }

    /// Brings what is stored up to date with a response to HEAD, or takes it for out of date.
    pub(super) fn note_head(
        &self,
        route: &Route,
        asked: &Asked,
        stored: &Stored,
        (head, began_us): (&HeaderMap, u64),
    ) {
        let mut newer = head.clone();
        newer.remove(atoll_core::http_cache::report::CACHE_STATUS);
        let request = &asked.parts.headers;
        let now_ms = ms_of(self.cache.now_us());
        let exchanged = Exchanged { requested_ms: ms_of(began_us), responded_ms: now_ms };
        let newer = (request, (&newer, exchanged));
        let (renewed, update) = self.renewed(route, stored, newer, began_us);
        match update {
            Update::Left => {}
            // It came with 200: another status is not what it describes.
            Update::TakenOver
                if [StatusCode::OK, StatusCode::PARTIAL_CONTENT].contains(&stored.status)
                    && validation::describes(&stored.headers, newer.1.0) =>
            {
                let vary = Vary::of(&renewed.headers);
                self.cache.store(&Arc::new(renewed), &vary, request);
            }
            Update::TakenOver | Update::Ended => self.invalidate(&asked.key),
        }
    }
}

/// The head of a response for its readers, in the form in which it is stored.
pub(super) fn head(
    asked: &HeaderMap,
    (status, mut headers): (StatusCode, HeaderMap),
    storable: Storable,
    (exchanged, rules): (Exchanged, &Rules),
) -> Head {
    let mut own_fields = fields::of_who_asked(&headers, &storable.control);
    fields::remove_not_stored(&mut headers, &storable.control);
    if rules.set_cookie == SetCookie::Remove {
        headers.remove(header::SET_COOKIE);
        own_fields.remove(header::SET_COOKIE);
    }
    if !headers.contains_key(header::DATE) {
        // RFC 9110 section 6.6.1: the time of arrival, before another is put in its place.
        let date_s = freshness::date_s(&headers, exchanged);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(date_s));
        if let Ok(date) = HeaderValue::try_from(date) {
            headers.insert(header::DATE, date);
        }
    }
    let selecting = match &storable.vary {
        Vary::Fields(names) => selecting_key(names, asked),
        Vary::Star => Vec::new(),
    };
    Head {
        status,
        keys: keys::hashes(&headers),
        headers,
        own_fields,
        meta: storable.meta,
        exchanged,
        span: None,
        length: None,
        vary: storable.vary,
        selecting,
        // Known to whoever has fetched it.
        fetched_us: 0,
        is_shielded: false,
        marks: None,
    }
}

/// What of a 304 is for the one alone who has asked. Set-Cookie is, where the route does not have it
/// stored or removed.
fn own_fields_of_304(route: &Route, newer: &HeaderMap, renewed: &HeaderMap) -> HeaderMap {
    let mut own_fields = fields::of_who_asked(newer, &targeted::control_of(renewed).0);
    own_fields.remove(header::SET_COOKIE);
    let set_cookie = route.cache.as_ref().map(|settings| settings.rules.set_cookie);
    if set_cookie == Some(SetCookie::Refuse) {
        for cookie in newer.get_all(header::SET_COOKIE) {
            own_fields.append(header::SET_COOKIE, cookie.clone());
        }
    }
    own_fields
}

/// Whether one range is asked for, and no more.
pub(super) fn is_single_range(headers: &HeaderMap) -> bool {
    headers.get(header::RANGE).is_some_and(|range| !range.as_bytes().contains(&b','))
}

/// Whether the next response is likely to be refused for the same reason.
fn is_of_the_response(refusal: Refusal) -> bool {
    !matches!(refusal, Refusal::Asked | Refusal::Authorization | Refusal::Method | Refusal::Range)
}

/// The statuses for which RFC 5861 section 4 lets something stale stand in.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
