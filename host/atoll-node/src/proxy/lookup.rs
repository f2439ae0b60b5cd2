//! A request of a route that is cached: a look into the cache, and what follows from it.

use super::answer::CodedAs;
use super::fetch::{Asked, ERROR, Job};
use super::filters::Filtered;
use super::forward::bypass;
use super::post::Posted;
use super::records::From;
use super::settings::CacheSettings;
use super::shield::{FetchedUs, tell_age};
use super::{Proxy, Route, answer, parts};
use crate::cache::flight::{self, Landing, Role};
use crate::cache::limits::COLLAPSE_WAIT;
use crate::cache::stored::{Stored, may_be_coded};
use crate::cache::{Found, ms_of};
use crate::listen::interim::Interim;
use crate::problem::Problem;
use atoll_core::http_cache::coding::Coding;
use atoll_core::http_cache::control::{RequestControl, ResponseControl};
use atoll_core::http_cache::report::{Forward, Report};
use atoll_core::http_cache::reuse::{self, Failure, Purged, Reuse};
use atoll_core::http_cache::vary::{Vary, selecting_key};
use atoll_core::http_cache::{invalidation, key, precondition, tags, validation};
use axum::extract::Request;
use axum::response::Response;
use http::uri::Authority;
use http::{Method, StatusCode, header};
use http_body::Body as _;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How often a request that waited for another's fetch tries anew before it goes by itself.
const TRY_COUNT_MAX: usize = 4;

/// What is to be done after a look.
enum Next {
    Answer(Response),
    /// Ask the disk.
    LookOnDisk,
    /// Ask upstream.
    Fetch(Errand),
    /// The same, side by side with others.
    Alone(Forward),
}

/// What a request goes upstream for.
#[derive(Clone, Debug)]
struct Errand {
    forward: Forward,
    /// What is stored, to ask about.
    stored: Option<Arc<Stored>>,
    /// The beginning of it, to ask for the rest.
    part: Option<Arc<Stored>>,
    /// When what was found was fetched, in microseconds; 0 for nothing.
    seen_us: u64,
}

impl Errand {
    fn new(forward: Forward) -> Errand {
        Errand { forward, stored: None, part: None, seen_us: 0 }
    }
}

impl Proxy {
    /// Answers a request of a route with a cache.
    pub(super) async fn serve_cached(
        self: &Arc<Self>,
        route: &Arc<Route>,
        settings: &CacheSettings,
        request: Request,
        authority: Option<&Authority>,
    ) -> Result<Response, Problem> {
        let upstream = |answer| route.records.sent(answer, From::Upstream);
        if invalidation::is_unsafe(request.method()) {
            let answer = self.write_through(route, settings, request, authority).await;
            return answer.map(upstream);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let why = bypass(Forward::Method, None);
            return self.pass_on(route, request, authority, why).await.map(upstream);
        }
        let headers = request.headers();
        let filtered = request.extensions().get::<Arc<Filtered>>();
        let is_special = filtered.is_some_and(|filtered| filtered.bypasses)
            || !request.body().is_end_stream()
            || headers.contains_key(header::UPGRADE)
            || precondition::is_for_the_upstream(headers);
        if is_special {
            let why = bypass(Forward::Bypass, None);
            return self.pass_on(route, request, authority, why).await.map(upstream);
        }
        let came_us = self.cache.now_us();
        let asked = self.ask(settings, request, authority);
        let asked_us = asked.is_for_the_purpose(route).then_some(came_us);
        let answer = self.answer(route, &asked).await;
        let Some(asked_us) = asked_us else { return answer };
        answer.map(|mut answer| {
            let fetched = answer.extensions_mut().remove::<FetchedUs>();
            tell_age(answer.headers_mut(), fetched.as_ref(), asked_us);
            answer
        })
    }

    /// Answers from what is stored, or from what is fetched.
    async fn answer(
        self: &Arc<Self>,
        route: &Arc<Route>,
        asked: &Asked,
    ) -> Result<Response, Problem> {
        let upstream = |answer| route.records.sent(answer, From::Upstream);
        let next = match self.look_once(route, asked) {
            Next::LookOnDisk => self.look_on_disk(route, asked).await,
            next => next,
        };
        match next {
            Next::Answer(answer) => Ok(route.records.sent(answer, From::Cache)),
            next => {
                let answer = self.go_on(route, asked, next).await.map(upstream);
                if let Some(interim) = asked.parts.extensions.get::<Interim>() {
                    interim.sent().await;
                }
                answer
            }
        }
    }

    fn ask(
        &self,
        settings: &CacheSettings,
        request: Request,
        authority: Option<&Authority>,
    ) -> Asked {
        let (parts, _) = request.into_parts();
        let mut key = key_of(settings, &parts.uri, authority);
        if let Some(filtered) = parts.extensions.get::<Arc<Filtered>>() {
            key.push_str(&filtered.key_parts);
        }
        let control = if settings.follows_clients {
            RequestControl::of(&parts.headers)
        } else {
            RequestControl::default()
        };
        let is_conditional =
            validation::CONDITIONS.iter().any(|name| parts.headers.contains_key(name));
        Asked {
            host_bytes: key.find('/').unwrap_or(0),
            key,
            control,
            is_conditional,
            authority: authority.cloned(),
            parts,
        }
    }

    /// What follows from a look, and from further ones where that came to nothing.
    async fn go_on(
        self: &Arc<Self>,
        route: &Arc<Route>,
        asked: &Asked,
        first: Next,
    ) -> Result<Response, Problem> {
        let mut next = first;
        for _ in 0..TRY_COUNT_MAX {
            let is_told = matches!(next, Next::Answer(_) | Next::LookOnDisk);
            if asked.control.only_if_cached && !is_told {
                let detail = "nothing is stored that the request allows, and it allows no more";
                return Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "only-if-cached", detail));
            }
            let answer = match next {
                Next::Answer(answer) => return Ok(answer),
                Next::LookOnDisk => {
                    next = self.look_on_disk(route, asked).await;
                    continue;
                }
                Next::Fetch(errand) if asked.parts.method == Method::HEAD => {
                    return self.pass_head(route, asked, errand.forward, errand.stored).await;
                }
                Next::Alone(forward) if asked.parts.method == Method::HEAD => {
                    return self.pass_head(route, asked, forward, None).await;
                }
                Next::Fetch(errand) => self.fetch(route, asked, errand).await,
                Next::Alone(forward) => return self.fetch_alone(route, asked, forward).await,
            };
            if let Some(answer) = answer {
                return answer;
            }
            next = self.look_once(route, asked);
        }
        self.fetch_alone(route, asked, Forward::UriMiss).await
    }

    fn look_once(self: &Arc<Self>, route: &Arc<Route>, asked: &Asked) -> Next {
        let found = self.cache.find(&asked.key, &asked.parts.headers);
        self.decide(route, asked, found)
    }

    async fn look_on_disk(self: &Arc<Self>, route: &Arc<Route>, asked: &Asked) -> Next {
        let found = self.cache.find_on_disk(&asked.key, &asked.parts.headers).await;
        self.decide(route, asked, found)
    }

    /// What is to be done with what was found.
    fn decide(self: &Arc<Self>, route: &Arc<Route>, asked: &Asked, found: Found) -> Next {
        let found = self.or_shared(route, asked, found);
        let now_ms = ms_of(self.cache.now_us());
        let (stored, purged) = match found {
            Found::Stored(stored, purged) => (stored, purged),
            Found::OnDisk => return Next::LookOnDisk,
            Found::VaryMiss => return Next::Fetch(Errand::new(Forward::VaryMiss)),
            Found::Miss => return Next::Fetch(Errand::new(Forward::UriMiss)),
            Found::Pass => return Next::Alone(Forward::UriMiss),
        };
        let seen_us = stored.fetched_us;
        if stored.is_taken && asked.is_for_a_node() {
            // Nobody here can say when its fetch began, and the one that asks knows why it did not
            // take the same: what is fetched now is for all.
            let stored = Some(stored);
            return Next::Fetch(Errand { stored, seen_us, ..Errand::new(Forward::Stale) });
        }
        if !answer::can_answer(&stored, asked) {
            let is_part = purged == Purged::No && parts::lacks_the_rest(&stored, asked);
            let part = is_part.then_some(stored);
            return Next::Fetch(Errand { part, seen_us, ..Errand::new(Forward::Partial) });
        }
        self.cache.note_hit(&stored, now_ms);
        let detail = stored.begins_use().then_some("replicated");
        let report = Report { hit: true, detail, ..Report::default() };
        let reused = reuse::reuse(&stored.meta, &asked.control, purged, now_ms);
        match reused {
            Reuse::Fresh => route.records.hits.inc(),
            Reuse::Accepted | Reuse::WhileRevalidate => route.records.stale.inc(),
            Reuse::Validate => {
                let is_fresh =
                    purged == Purged::No && reuse::remaining_ms(&stored.meta, now_ms) > 0;
                let forward = if is_fresh { Forward::Request } else { Forward::Stale };
                let stored = Some(stored);
                return Next::Fetch(Errand { stored, seen_us, ..Errand::new(forward) });
            }
        };
        let coded = self.coded(route, asked, &stored);
        let answer = answer::from_stored(&stored, asked, now_ms, (report, coded));
        if reused == Reuse::WhileRevalidate {
            self.revalidate_behind(route, asked, stored);
        }
        Next::Answer(answer)
    }

    /// What of a stored body is sent: with a coding where the client accepts one and it is there.
    /// `None` where the route or the response has none of that.
    fn coded(&self, route: &Route, asked: &Asked, stored: &Stored) -> Option<CodedAs> {
        // A node codes for its own clients.
        if !is_compressed(route, stored) || asked.is_for_a_node() {
            return None;
        }
        let headers = &asked.parts.headers;
        // A part is one of the body as it is.
        let wants_itself =
            headers.contains_key(header::RANGE) || ResponseControl::of(headers).no_transform;
        let preferred = Coding::preferred(headers).filter(|_| !wants_itself);
        let coded = preferred.and_then(|coding| {
            let variant = self.cache.variant_of(&asked.key, headers);
            Some(CodedAs::Coding(coding, self.cache.coded(stored, coding, &variant)?))
        });
        Some(coded.unwrap_or(CodedAs::Itself))
    }

    /// Asks upstream about what was just used, unless somebody does already.
    fn revalidate_behind(self: &Arc<Self>, route: &Arc<Route>, asked: &Asked, stored: Arc<Stored>) {
        let flight = self.flight_of(asked);
        if self.cache.is_under_way(&flight) {
            return;
        }
        let target = (&*asked.key, &asked.parts.headers);
        let role = self.cache.join(target, flight, stored.fetched_us, |_| true);
        if let Role::Leader(lead) = role {
            let job = Job {
                asked: asked.for_fetch(),
                stored: Some(stored),
                part: None,
                keeps_conditions: false,
                own: None,
            };
            self.begin(route, job, lead);
        }
    }

    /// The name of the fetch that this request begins or joins.
    fn flight_of(&self, asked: &Asked) -> Vec<u8> {
        let mut flight = asked.key.as_bytes().to_vec();
        flight.push(0);
        flight.extend_from_slice(&self.cache.variant_of(&asked.key, &asked.parts.headers));
        if super::fetch::is_single_range(&asked.parts.headers) {
            for name in [header::RANGE, header::IF_RANGE] {
                flight.push(2);
                flight.extend(
                    asked.parts.headers.get(name).iter().flat_map(|value| value.as_bytes()),
                );
            }
        }
        flight
    }

    /// Fetches, or waits for who does. `None` is to look again.
    async fn fetch(
        self: &Arc<Self>,
        route: &Arc<Route>,
        asked: &Asked,
        errand: Errand,
    ) -> Option<Result<Response, Problem>> {
        let Errand { forward, stored, part, seen_us } = errand;
        // What is for one person's credentials is mostly for nobody else.
        if asked.parts.headers.contains_key(header::AUTHORIZATION) && stored.is_none() {
            return Some(self.fetch_alone(route, asked, forward).await);
        }
        let target = (&*asked.key, &asked.parts.headers);
        let may_follow = |landing: &Landing| self.may_follow(asked, landing);
        let role = self.cache.join(target, self.flight_of(asked), seen_us, may_follow);
        let (landing, own) = match role {
            Role::Late => return None,
            Role::Leader(lead) => {
                let landing = lead.subscribe();
                let (sender, own) = oneshot::channel();
                let job = Job {
                    asked: asked.for_fetch(),
                    stored: stored.clone(),
                    part,
                    keeps_conditions: false,
                    own: Some(sender),
                };
                self.begin(route, job, lead);
                (flight::landing(landing).await, Some(own))
            }
            Role::Follower(waiting) => {
                match timeout(COLLAPSE_WAIT, flight::landing(waiting)).await {
                    Ok(landing) => (landing, None),
                    Err(_) => return Some(self.fetch_alone(route, asked, forward).await),
                }
            }
        };
        let landing = landing?;
        self.conclude(route, asked, Landed { landing, own, forward, stored }).await
    }

    /// Whether a request that comes when a fetch has brought a head already may have what that is of:
    /// what it would get if that were stored, without asking upstream.
    fn may_follow(&self, asked: &Asked, landing: &Landing) -> bool {
        let meta = match landing {
            Landing::Filling(fill) => &fill.head.meta,
            Landing::Validated(renewed) => &renewed.stored.meta,
            Landing::Private | Landing::Failed(..) => return true,
        };
        let now_ms = ms_of(self.cache.now_us());
        reuse::reuse(meta, &asked.control, Purged::No, now_ms) != Reuse::Validate
    }

    /// Fetches whatever others do.
    async fn fetch_alone(
        self: &Arc<Self>,
        route: &Arc<Route>,
        asked: &Asked,
        forward: Forward,
    ) -> Result<Response, Problem> {
        let lead = self.cache.fetch_alone();
        let landing = lead.subscribe();
        let (sender, own) = oneshot::channel();
        let job = Job {
            asked: asked.for_fetch(),
            stored: None,
            part: None,
            keeps_conditions: true,
            own: Some(sender),
        };
        self.begin(route, job, lead);
        let Some(landing) = flight::landing(landing).await else { return Err(lost()) };
        let landed = Landed { landing, own: Some(own), forward, stored: None };
        self.conclude(route, asked, landed).await.unwrap_or_else(|| Err(lost()))
    }

    /// Answers with what came of a fetch. `None` where that is not for this request.
    async fn conclude(
        &self,
        route: &Route,
        asked: &Asked,
        landed: Landed,
    ) -> Option<Result<Response, Problem>> {
        let now_ms = ms_of(self.cache.now_us());
        let Landed { landing, own, forward, stored } = landed;
        let is_leader = own.is_some();
        let report = Report { forward: Some(forward), collapsed: !is_leader, ..Report::default() };
        let count = |own: &prometheus_client::metrics::counter::Counter| {
            if is_leader {
                own.inc()
            } else {
                route.records.collapsed.inc()
            };
        };
        match landing {
            Landing::Filling(fill) => {
                if let Vary::Fields(names) = &fill.head.vary
                    && !is_leader
                    && selecting_key(names, &asked.parts.headers) != fill.head.selecting
                {
                    return None;
                }
                // It began before a write that this request may know of.
                if !is_leader && self.cache.is_written(&fill.head.keys, fill.head.fetched_us) {
                    return None;
                }
                count(&route.records.misses);
                let report = Report { stored: true, ..report };
                let report = match fill.head.is_shielded {
                    true => Report { detail: Some("shield"), ..report },
                    false => report,
                };
                let varies = !asked.is_for_a_node()
                    && route.cache.as_ref().is_some_and(|settings| settings.compresses)
                    && may_be_coded(fill.head.status, &fill.head.headers);
                answer::from_fill(&fill, asked, now_ms, (report, varies)).map(Ok)
            }
            Landing::Validated(renewed) => {
                let (stored, is_for_all) = (&renewed.stored, renewed.is_for_all);
                if !is_leader && !is_for_all {
                    return None;
                }
                count(&route.records.revalidated);
                let report = Report { forward_status: Some(304), stored: is_for_all, ..report };
                let coded = if is_for_all { self.coded(route, asked, stored) } else { None };
                let mut answer = answer::from_stored(stored, asked, now_ms, (report, coded));
                if is_leader {
                    answer::add_own(answer.headers_mut(), &renewed.own_fields);
                }
                if !is_for_all {
                    // Nor for a node that would store it.
                    answer.extensions_mut().remove::<FetchedUs>();
                }
                Some(Ok(answer))
            }
            Landing::Private => {
                let response = own?.await.ok()?;
                route.records.misses.inc();
                Some(Ok(response))
            }
            Landing::Failed(status, code) => {
                Some(stand_in(route, asked, (stored, report), (status, code), now_ms))
            }
        }
    }

    /// Passes a request on that may change something, and takes back what that makes invalid
    /// (RFC 9111 section 4.4, RFC 9875).
    async fn write_through(
        &self,
        route: &Route,
        settings: &CacheSettings,
        request: Request,
        authority: Option<&Authority>,
    ) -> Result<Response, Problem> {
        let target = key_of(settings, request.uri(), authority);
        let path = request.uri().path().to_owned();
        let why = bypass(Forward::Method, None);
        let host = authority.map_or("", Authority::as_str);
        // One with parts of its own in its key would be found by others.
        let has_parts = request
            .extensions()
            .get::<Arc<Filtered>>()
            .is_some_and(|filtered| filtered.bypasses || !filtered.key_parts.is_empty());
        let posted = (request.method() == Method::POST && !has_parts).then(|| Posted {
            key: target.clone(),
            url: key::Url {
                host: key::host_of(host),
                path: path.clone(),
                query: request.uri().query().map(str::to_owned),
            },
            headers: request.headers().clone(),
            requested_us: self.cache.now_us(),
        });
        let response = self.pass_on(route, request, authority, why).await?;
        if invalidation::is_success(response.status()) {
            self.invalidate(&target);
            let others = invalidation::targets(host, &path, response.headers());
            for other in others.into_iter().flat_map(|other| route.public_keys(other)) {
                self.invalidate(&other);
            }
            for group in tags::invalidated(response.headers()) {
                self.invalidate_group(&key::host_of(host), &group);
            }
            // What all nodes are told of takes the response as well.
            if let Some(posted) = posted.filter(|_| !self.shares()) {
                return Ok(self.keep_posted(route, settings, posted, response));
            }
        }
        Ok(response)
    }
}

/// What came of a fetch, for one request.
struct Landed {
    landing: Landing,
    /// The response, where it is for this request alone.
    own: Option<oneshot::Receiver<Response>>,
    forward: Forward,
    stored: Option<Arc<Stored>>,
}

fn is_compressed(route: &Route, stored: &Stored) -> bool {
    stored.may_be_coded && route.cache.as_ref().is_some_and(|settings| settings.compresses)
}

fn key_of(settings: &CacheSettings, uri: &http::Uri, authority: Option<&Authority>) -> String {
    let host = authority.map_or("", Authority::as_str);
    let mut key = String::with_capacity(host.len() + uri.path().len() + 32);
    settings.query.write_key(host, uri.path(), uri.query(), &mut key);
    key
}

/// Answers with what is stored where the upstream failed, if that may be (RFC 9111 section 4.2.4).
pub(super) fn stand_in(
    route: &Route,
    asked: &Asked,
    (stored, report): (Option<Arc<Stored>>, Report),
    (status, code): (StatusCode, &'static str),
    now_ms: u64,
) -> Result<Response, Problem> {
    let failure = if code == ERROR { Failure::Error } else { Failure::Disconnected };
    let detail = "the upstream gave no answer, and nothing is stored that may stand in";
    route.records.failed.inc();
    if code.starts_with("filter-") {
        // Nothing stands in for what the filter would have said.
        let detail =
            "the filter of this route failed at the upstream's response; atoll logs says more";
        return Err(Problem::new(status, code, detail));
    }
    let Some(stored) = stored else { return Err(Problem::new(status, code, detail)) };
    if !reuse::stands_in(&stored.meta, &asked.control, failure, now_ms) {
        // RFC 9111 section 5.2.2.2: 504 where what is stored must not be used.
        let status = match failure {
            Failure::Error => status,
            Failure::Disconnected => StatusCode::GATEWAY_TIMEOUT,
        };
        return Err(Problem::new(status, code, detail));
    }
    route.records.stale.inc();
    let report = Report { forward_status: Some(status.as_u16()), ..report };
    let report = if failure == Failure::Disconnected {
        Report { forward_status: None, detail: Some(code), ..report }
    } else {
        report
    };
    let coded = is_compressed(route, &stored).then_some(CodedAs::Itself);
    Ok(answer::from_stored(&stored, asked, now_ms, (report, coded)))
}

fn lost() -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "fetch-lost", "the fetch ended without an answer")
}
