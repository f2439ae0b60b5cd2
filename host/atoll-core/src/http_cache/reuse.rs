//! Whether a stored response answers a request, fresh, stale or not without asking upstream
//! (RFC 9111 sections 4, 4.2.4 and 5.2.1; RFC 5861).

use super::control::RequestControl;
use super::directive::SECONDS_MAX;
use super::storing::Meta;

/// What may be done with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Answer with it.
    Fresh,
    /// Stale, and the client has said that it does not mind (max-stale).
    Accepted,
    /// Stale: answer with it and ask upstream meanwhile (stale-while-revalidate).
    WhileRevalidate,
    /// Ask upstream first.
    Validate,
}

/// How an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be reached, or did not answer.
    Disconnected,
    /// It answered 500, 502, 503 or 504.
    Error,
}

/// How much a purge has taken from a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Nothing.
    No,
    /// A soft purge: it is stale from now on, and may be used while it is validated.
    Softly,
    /// A key that it was made from was written: it is stale from now on, and may be used only where
    /// a response of its age could be used stale.
    Outdated,
}

/// The age of a stored response, in ms (RFC 9111 section 4.2.3).
pub fn age_ms(meta: &Meta, now_ms: u64) -> u64 {
    meta.initial_age_ms + now_ms.saturating_sub(meta.responded_ms)
}

/// The value of Age for a stored response, in seconds, with the bound of section 1.2.2.
pub fn age_s(meta: &Meta, now_ms: u64) -> u64 {
    (age_ms(meta, now_ms) / 1_000).min(SECONDS_MAX)
}

/// How long it still is fresh, in ms; negative once it is stale.
pub fn remaining_ms(meta: &Meta, now_ms: u64) -> i64 {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    signed(meta.lifetime.lifetime_ms) - signed(age_ms(meta, now_ms))
}

/// Decides what may be done with a stored response whose Vary matches.
pub fn reuse(meta: &Meta, asked: &RequestControl, purged: Purged, now_ms: u64) -> Reuse {
    if meta.always_validate || asked.no_cache {
        return Reuse::Validate;
    }
    let age_ms = age_ms(meta, now_ms);
    let older_than = |seconds: Option<u64>| {
        seconds.is_some_and(|seconds| age_ms > seconds.saturating_mul(1_000))
    };
    // max-age=0 asks for something that has just been made, which nothing stored is.
    if older_than(asked.max_age_s) || asked.max_age_s == Some(0) {
        return Reuse::Validate;
    }
    let lifetime_ms = if purged == Purged::No { meta.lifetime.lifetime_ms } else { 0 };
    if lifetime_ms > age_ms {
        let wanted_ms = asked.min_fresh_s.unwrap_or(0).saturating_mul(1_000);
        let is_enough = lifetime_ms - age_ms >= wanted_ms;
        return if is_enough { Reuse::Fresh } else { Reuse::Validate };
    }
    if asked.min_fresh_s.is_some() {
        return Reuse::Validate;
    }
    let stale_ms = age_ms - lifetime_ms;
    // A soft purge is the operator's word that it may be used while it is validated.
    if purged == Purged::Softly {
        return if meta.never_stale { Reuse::Validate } else { Reuse::WhileRevalidate };
    }
    // must-revalidate and what implies it are stronger than what a client asks for (5.2.2.2).
    if meta.stale_if_disconnected
        && asked.max_stale_s.is_some_and(|seconds| stale_ms <= seconds.saturating_mul(1_000))
    {
        return Reuse::Accepted;
    }
    if !meta.never_stale && stale_ms < meta.while_revalidate_ms {
        return Reuse::WhileRevalidate;
    }
    Reuse::Validate
}

/// Whether a response that was to be validated may be used after all, because the upstream failed
/// (RFC 9111 section 4.2.4, RFC 5861 section 4).
pub fn stands_in(meta: &Meta, asked: &RequestControl, failure: Failure, now_ms: u64) -> bool {
    if meta.never_stale || asked.no_cache || asked.max_age_s == Some(0) {
        return false;
    }
    let age_ms = age_ms(meta, now_ms);
    let stale_ms = age_ms.saturating_sub(meta.lifetime.lifetime_ms);
    let allowed_ms = match asked.stale_if_error_s {
        // What the client allows counts only where the upstream does not forbid it.
        Some(seconds) if meta.stale_if_disconnected => {
            meta.if_error_ms.max(seconds.saturating_mul(1_000))
        }
        _ => meta.if_error_ms,
    };
    match failure {
        Failure::Error => stale_ms < allowed_ms,
        Failure::Disconnected => meta.stale_if_disconnected || stale_ms < allowed_ms,
    }
}

#[cfg(test)]
mod tests;
