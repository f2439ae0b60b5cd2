//! Which responses may be stored, and what is kept to decide on their reuse (RFC 9111 section 3).

use super::control::{RequestControl, ResponseControl};
use super::directive::Scope;
use super::freshness::{self, Exchanged, Lifetime, Source};
use super::vary::Vary;
use super::{invalidation, key, keys, targeted};
use http::{HeaderMap, Method, StatusCode, header};

/// What is done with Set-Cookie in a response that could be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// The response is not stored: a cookie is mostly for one person.
    #[default]
    Refuse,
    /// Stored without the field, and passed on without it.
    Remove,
    /// Stored as it is, as RFC 9111 section 7.3 allows: the upstream is trusted to know.
    Store,
}

/// What the operator has said for a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether the heuristic of RFC 9111 section 4.2.2 may be used.
    pub may_guess: bool,
    /// What becomes of Set-Cookie.
    pub set_cookie: SetCookie,
    /// The lifetime of responses that give none, in ms. Never longer than the upstream allows.
    pub lifetime_ms: Option<u64>,
    /// `stale-while-revalidate` for responses that do not say, in ms.
    pub while_revalidate_ms: Option<u64>,
    /// `stale-if-error` for responses that do not say, in ms.
    pub if_error_ms: Option<u64>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            may_guess: true,
            set_cookie: SetCookie::Refuse,
            lifetime_ms: None,
            while_revalidate_ms: None,
            if_error_ms: None,
        }
    }
}

/// The request whose response is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its fields.
    pub headers: &'a HeaderMap,
}

/// The head of the response.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its final status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: &'a HeaderMap,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Only responses to GET are stored.
    Method,
    /// The client asked for no-store.
    Asked,
    /// no-store.
    NoStore,
    /// private, for all of it.
    Private,
    /// The request had credentials, and nothing says that the response is for others (3.5).
    Authorization,
    /// A status that cannot be stored, or whose rules are not known and have to be.
    Status,
    /// 416, which answers one range alone, and no request without it.
    Range,
    /// Nothing says that it may be stored, and the status alone does not.
    Unsaid,
    /// Vary: *, so that no request would match.
    VaryStar,
    /// Set-Cookie, where the route does not allow it.
    SetCookie,
    /// Atoll-Keys does not say which keys it was made from.
    Keys,
    /// It could never be used: stale from the start, and nothing to validate it with.
    Useless,
}

impl Refusal {
    /// One word for it, for Cache-Status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Method => "method",
            Refusal::Asked => "request-no-store",
            Refusal::NoStore => "no-store",
            Refusal::Private => "private",
            Refusal::Authorization => "authorization",
            Refusal::Status => "status",
            Refusal::Range => "range",
            Refusal::Unsaid => "nothing-allows-it",
            Refusal::VaryStar => "vary-star",
            Refusal::SetCookie => "set-cookie",
            Refusal::Keys => "bad-atoll-keys",
            Refusal::Useless => "stale-without-validator",
        }
    }
}

/// What is kept of a stored response to decide on its reuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// When it came, in ms since the Unix epoch.
    pub responded_ms: u64,
    /// How old it was then, in ms.
    pub initial_age_ms: u64,
    /// How long it is fresh, from when it was made.
    pub lifetime: Lifetime,
    /// No use without asking upstream, fresh or not (no-cache).
    pub always_validate: bool,
    /// No use without asking upstream once stale (must-revalidate, proxy-revalidate).
    pub never_stale: bool,
    /// May be used stale while the upstream cannot be reached (4.2.4): neither the above nor
    /// s-maxage, which implies it.
    pub stale_if_disconnected: bool,
    /// How long after it is stale it may be used while it is validated, in ms.
    pub while_revalidate_ms: u64,
    /// How long after it is stale it may be used where the upstream fails, in ms.
    pub if_error_ms: u64,
    /// It has an ETag or a Last-Modified to ask with.
    pub has_validator: bool,
}

/// A response that may be stored.
#[derive(Clone, Debug)]
pub struct Storable {
    /// What is kept.
    pub meta: Meta,
    /// Its directives, which say what fields are left out.
    pub control: ResponseControl,
    /// Which requests it answers.
    pub vary: Vary,
}

/// Decides whether the response to a request may be stored (RFC 9111 section 3).
pub fn judge(
    asked: Asked<'_>,
    answered: Answered<'_>,
    exchanged: Exchanged,
    rules: &Rules,
) -> Result<Storable, Refusal> {
    if *asked.method != Method::GET {
        return Err(Refusal::Method);
    }
    if RequestControl::of(asked.headers).no_store {
        return Err(Refusal::Asked);
    }
    let (control, is_targeted) = targeted::control_of(answered.headers);
    let status = answered.status;
    is_allowed(asked, status, &control)?;
    if rules.set_cookie == SetCookie::Refuse && answered.headers.contains_key(header::SET_COOKIE) {
        return Err(Refusal::SetCookie);
    }
    let vary = Vary::of(answered.headers);
    if vary == Vary::Star {
        return Err(Refusal::VaryStar);
    }
    if keys::of(answered.headers).is_err() {
        return Err(Refusal::Keys);
    }
    let meta = describe(answered, &control, is_targeted, (exchanged, rules));
    let has_expires = !is_targeted && answered.headers.contains_key(header::EXPIRES);
    let is_said = control.public
        || control.max_age.is_present()
        || control.s_maxage.is_present()
        || has_expires
        || freshness::is_heuristically_cacheable(status);
    if !is_said {
        return Err(Refusal::Unsaid);
    }
    let is_useful = meta.has_validator
        || meta.lifetime.lifetime_ms > meta.initial_age_ms
        || meta.while_revalidate_ms > 0
        || meta.if_error_ms > 0;
    if !is_useful {
        return Err(Refusal::Useless);
    }
    Ok(Storable { meta, control, vary })
}

/// Decides whether the response to POST may be stored for later requests with GET: it has to say how
/// long it is fresh, and that it is what its target is (RFC 9110 section 9.3.3). `url` is the target.
pub fn judge_post(
    (asked, url): (Asked<'_>, &key::Url),
    answered: Answered<'_>,
    exchanged: Exchanged,
    rules: &Rules,
) -> Result<Storable, Refusal> {
    let mut lines = answered.headers.get_all(header::CONTENT_LOCATION).iter();
    let line = lines.next().filter(|_| lines.next().is_none());
    let named = line
        .and_then(|line| line.to_str().ok())
        .and_then(|line| invalidation::resolve(&url.host, &url.path, line.trim()));
    let is_its_target = named.is_some_and(|named| named == url.key());
    if *asked.method != Method::POST || answered.status != StatusCode::OK || !is_its_target {
        return Err(Refusal::Method);
    }
    // Nothing that the upstream has not said makes it fresh.
    let rules = Rules { may_guess: false, lifetime_ms: None, ..rules.clone() };
    let asked = Asked { method: &Method::GET, headers: asked.headers };
    let storable = judge(asked, answered, exchanged, &rules)?;
    match storable.meta.lifetime.source {
        Source::Nothing => Err(Refusal::Unsaid),
        _ => Ok(storable),
    }
}

/// What becomes of a stored response that a 304 or a response to HEAD is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It is brought up to date.
    TakenOver,
    /// It stays as it is: what was answered is for this request alone.
    Left,
    /// It is stored no longer: the upstream has taken back that it may be.
    Ended,
}

/// Decides what becomes of a stored response that was asked about with these fields. `updated` is what
/// it would be with the newer fields: that has to be a response to this request that may be stored
/// (sections 3, 3.2 and 3.5).
pub fn judge_update(asked: &HeaderMap, updated: Answered<'_>) -> Update {
    if RequestControl::of(asked).no_store {
        return Update::Left;
    }
    let (control, _) = targeted::control_of(updated.headers);
    let asked = Asked { method: &Method::GET, headers: asked };
    let is_for_others = is_allowed(asked, updated.status, &control).is_ok()
        && Vary::of(updated.headers) != Vary::Star
        && keys::of(updated.headers).is_ok();
    match is_for_others {
        true => Update::TakenOver,
        // It says nothing of what others get.
        false if asked.headers.contains_key(header::AUTHORIZATION) => Update::Left,
        false => Update::Ended,
    }
}

/// What the directives, the status and the credentials forbid.
fn is_allowed(
    asked: Asked<'_>,
    status: StatusCode,
    control: &ResponseControl,
) -> Result<(), Refusal> {
    // 304 is about a stored response, never one itself; 1xx is not final.
    if status.is_informational() || status == StatusCode::NOT_MODIFIED {
        return Err(Refusal::Status);
    }
    // RFC 9110 section 15.5.17: it is about the Range, of which the key knows nothing. A 206 says what
    // part it is; this says nothing of what the whole would be.
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Err(Refusal::Range);
    }
    if control.must_understand && !is_understood(status) {
        return Err(Refusal::Status);
    }
    // With must-understand, no-store is for those who do not understand the status (5.2.2.3).
    if control.no_store && !control.must_understand {
        return Err(Refusal::NoStore);
    }
    if control.private == Scope::Whole {
        return Err(Refusal::Private);
    }
    let is_for_others =
        control.must_revalidate || control.public || control.s_maxage.given().is_some();
    if asked.headers.contains_key(header::AUTHORIZATION) && !is_for_others {
        return Err(Refusal::Authorization);
    }
    Ok(())
}

/// Whether the rules that come with a status for caches are known here: those of RFC 9110 section
/// 15, but for 206 and 304, which have their own.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

/// What is kept of a response for its reuse.
///
/// A response that came as 304 or by HEAD is described by the updated fields and the times of the
/// new exchange.
pub fn describe(
    answered: Answered<'_>,
    control: &ResponseControl,
    is_targeted: bool,
    (exchanged, rules): (Exchanged, &Rules),
) -> Meta {
    let (status, headers) = (answered.status, answered.headers);
    let lifetime = if is_targeted {
        // Expires is overruled together with Cache-Control.
        let mut others = headers.clone();
        others.remove(header::EXPIRES);
        freshness::lifetime(status, &others, control, exchanged, rules.may_guess)
    } else {
        freshness::lifetime(status, headers, control, exchanged, rules.may_guess)
    };
    let lifetime = match (lifetime.source, rules.lifetime_ms) {
        (Source::Nothing | Source::Heuristic, Some(lifetime_ms))
            if freshness::is_heuristically_cacheable(status) || control.public =>
        {
            Lifetime { lifetime_ms, source: Source::Route }
        }
        _ => lifetime,
    };
    let always_validate = control.no_cache == Scope::Whole;
    let never_stale = always_validate || control.must_revalidate || control.proxy_revalidate;
    let grace = |said: super::directive::Seconds, ours: Option<u64>| match said.given() {
        _ if never_stale => 0,
        Some(seconds) => seconds * 1_000,
        // s-maxage forbids what is not explicitly allowed beside it.
        None if control.s_maxage.is_present() || said.is_present() => 0,
        None => ours.unwrap_or(0),
    };
    Meta {
        responded_ms: exchanged.responded_ms,
        initial_age_ms: freshness::initial_age_ms(headers, exchanged),
        lifetime,
        always_validate,
        never_stale,
        stale_if_disconnected: !never_stale && !control.s_maxage.is_present(),
        while_revalidate_ms: grace(control.stale_while_revalidate, rules.while_revalidate_ms),
        if_error_ms: grace(control.stale_if_error, rules.if_error_ms),
        has_validator: headers.contains_key(header::ETAG)
            || freshness::modified_s(headers, exchanged).is_some(),
    }
}

#[cfg(test)]
mod tests;
