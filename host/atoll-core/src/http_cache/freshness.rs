//! How long a response is fresh and how old it is (RFC 9111 sections 4.2 and 5.1).

use super::control::ResponseControl;
use super::date;
use super::directive::{self, Seconds};
use http::{HeaderMap, StatusCode, header};

/// Longest lifetime by heuristic, in ms: a day. The RFC sets none; what nobody promised ends soon.
pub const HEURISTIC_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// The part of the time since the last change that counts as fresh, as RFC 9111 suggests: a tenth.
const HEURISTIC_DIVISOR: u64 = 10;

/// When a request was sent upstream and when the head of its response had come, in ms since the
/// Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// `request_time` of RFC 9111 section 4.2.3.
    pub requested_ms: u64,
    /// `response_time` of the same.
    pub responded_ms: u64,
}

/// What a lifetime was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A lifetime that the operator has set for the route.
    Route,
    /// s-maxage.
    SMaxage,
    /// max-age.
    MaxAge,
    /// Expires.
    Expires,
    /// A tenth of the time since Last-Modified.
    Heuristic,
    /// Nothing: stale from the start.
    Nothing,
}

/// How long a response is fresh, from when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// In ms.
    pub lifetime_ms: u64,
    /// Where it comes from.
    pub source: Source,
}

/// Whether the status may be given a lifetime that the upstream did not (RFC 9110 section 15.1).
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    // 206 is one as well, but the heuristic is for whole responses here.
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Reads the lifetime that a response has for a shared cache (RFC 9111 section 4.2.1).
///
/// `may_guess` allows the heuristic of 4.2.2.
pub fn lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    control: &ResponseControl,
    exchanged: Exchanged,
    may_guess: bool,
) -> Lifetime {
    let seconds = |seconds: Seconds, source| {
        // An invalid number is a stale response (4.2.1).
        Lifetime { lifetime_ms: seconds.given().unwrap_or(0) * 1_000, source }
    };
    if control.s_maxage.is_present() {
        return seconds(control.s_maxage, Source::SMaxage);
    }
    if control.max_age.is_present() {
        return seconds(control.max_age, Source::MaxAge);
    }
    let date_s = date_s(headers, exchanged);
    if headers.contains_key(header::EXPIRES) {
        let lifetime_s = expires_s(headers, exchanged).map(|at| at.saturating_sub(date_s));
        let lifetime_ms = lifetime_s.unwrap_or(0).min(directive::SECONDS_MAX) * 1_000;
        return Lifetime { lifetime_ms, source: Source::Expires };
    }
    let may_guess = may_guess && (control.public || is_heuristically_cacheable(status));
    match modified_s(headers, exchanged).filter(|_| may_guess) {
        Some(modified_s) => {
            let unchanged_ms = date_s.saturating_sub(modified_s) * 1_000;
            let lifetime_ms = (unchanged_ms / HEURISTIC_DIVISOR).min(HEURISTIC_MS_MAX);
            Lifetime { lifetime_ms, source: Source::Heuristic }
        }
        None => Lifetime { lifetime_ms: 0, source: Source::Nothing },
    }
}

/// How old a response already was when it came, in ms (`corrected_initial_age`, section 4.2.3).
pub fn initial_age_ms(headers: &HeaderMap, exchanged: Exchanged) -> u64 {
    let date_ms = date_s(headers, exchanged) * 1_000;
    // A date has whole seconds: what it has lost to that is not age.
    let apparent_age_ms = (exchanged.responded_ms / 1_000 * 1_000).saturating_sub(date_ms);
    let delay_ms = exchanged.responded_ms.saturating_sub(exchanged.requested_ms);
    let corrected_age_ms = age_s(headers) * 1_000 + delay_ms;
    apparent_age_ms.max(corrected_age_ms).min(directive::SECONDS_MAX * 1_000)
}

/// The value of Age: the first member of what should be no list, and 0 where it is no number
/// (section 5.1).
pub fn age_s(headers: &HeaderMap) -> u64 {
    let first = headers.get(header::AGE).map(|line| line.as_bytes());
    let member = first.and_then(|line| line.split(|&byte| byte == b',').next());
    member.and_then(|member| directive::number(member.trim_ascii())).unwrap_or(0)
}

/// The value of Date, and the time of arrival where there is none that can be read (RFC 9110
/// section 6.6.1).
pub fn date_s(headers: &HeaderMap, exchanged: Exchanged) -> u64 {
    let now_s = exchanged.responded_ms / 1_000;
    let text = headers.get(header::DATE).map(|line| line.as_bytes());
    text.and_then(|text| date::parse(text, now_s)).unwrap_or(now_s)
}

/// The value of Expires; `None` is a time in the past (section 5.3).
fn expires_s(headers: &HeaderMap, exchanged: Exchanged) -> Option<u64> {
    // Of several the first counts (4.2.1).
    let text = headers.get(header::EXPIRES)?;
    date::parse(text.as_bytes(), exchanged.responded_ms / 1_000)
}

/// The value of Last-Modified, if it can be read.
pub fn modified_s(headers: &HeaderMap, exchanged: Exchanged) -> Option<u64> {
    let text = headers.get(header::LAST_MODIFIED)?;
    date::parse(text.as_bytes(), exchanged.responded_ms / 1_000)
}

#[cfg(test)]
mod tests;
