//! Why a stored response may be used or not, in words for people.

use super::freshness::Source;
use super::purge::Strength;
use super::reuse::{age_s, remaining_ms};
use super::storing::Meta;

/// The same for a response of which a key was written that it was made from.
pub fn outdated(meta: &Meta, now_ms: u64) -> String {
    let age_s = age_s(meta, now_ms);
    format!("stale: it is {age_s} s old, and a key that it was made from was written since")
}

/// Says what would become of a plain request for it now.
pub fn explain(meta: &Meta, purged: Option<Strength>, now_ms: u64) -> String {
    let age_s = age_s(meta, now_ms);
    let source = match meta.lifetime.source {
        Source::Route => "the route's ttl_s",
        Source::SMaxage => "s-maxage",
        Source::MaxAge => "max-age",
        Source::Expires => "Expires",
        Source::Heuristic => "a tenth of the time since Last-Modified",
        Source::Nothing => "nothing",
    };
    let lifetime_s = meta.lifetime.lifetime_ms / 1_000;
    let remaining_s = remaining_ms(meta, now_ms).div_euclid(1_000);
    let times = format!("it is {age_s} s old and has a lifetime of {lifetime_s} s from {source}");
    match purged {
        Some(Strength::Hard) => return format!("purged: {times}, and will not be used again"),
        Some(Strength::Soft) => {
            return format!("stale by a soft purge: {times}, and is used while it is validated");
        }
        None => {}
    }
    if meta.always_validate {
        return format!("validated before each use, because of no-cache: {times}");
    }
    if remaining_s >= 0 && meta.lifetime.lifetime_ms > age_s * 1_000 {
        return format!("fresh: {times}");
    }
    let stale_s = age_s.saturating_sub(lifetime_s);
    let mut text = format!("stale for {stale_s} s: {times}");
    if meta.never_stale {
        text.push_str(
            "; it is validated first, because must-revalidate or proxy-revalidate says so",
        );
        return text;
    }
    let while_s = meta.while_revalidate_ms / 1_000;
    if stale_s < while_s {
        text.push_str(&format!(
            "; it is used while it is validated, for {} s more",
            while_s - stale_s
        ));
    } else {
        text.push_str("; it is validated first");
    }
    let error_s = meta.if_error_ms / 1_000;
    if stale_s < error_s {
        text.push_str(&format!(", and stands in for errors for {} s more", error_s - stale_s));
    } else if meta.stale_if_disconnected {
        text.push_str(", and stands in while the upstream cannot be reached");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::freshness::Lifetime;
    use super::*;

    const META: Meta = Meta {
        responded_ms: 0,
        initial_age_ms: 0,
        lifetime: Lifetime { lifetime_ms: 10_000, source: Source::MaxAge },
        always_validate: false,
        never_stale: false,
        stale_if_disconnected: true,
        while_revalidate_ms: 5_000,
        if_error_ms: 0,
        has_validator: true,
    };

    #[test]
    fn the_words_are_those_of_the_decision() {
        let check = |meta: &Meta, purged, now_ms, want: &str| {
            let found = explain(meta, purged, now_ms);
            assert!(found.starts_with(want), "{found}");
        };
        check(&META, None, 4_000, "fresh: it is 4 s old and has a lifetime of 10 s from max-age");
        check(&META, None, 12_000, "stale for 2 s: ");
        let text = explain(&META, None, 12_000);
        assert!(
            text.contains("while it is validated, for 3 s more, and stands in while"),
            "{text}"
        );
        check(&META, Some(Strength::Hard), 0, "purged: ");
        check(&META, Some(Strength::Soft), 0, "stale by a soft purge: ");
        check(&Meta { always_validate: true, ..META }, None, 0, "validated before each use");
        let text = explain(&Meta { never_stale: true, ..META }, None, 20_000);
        assert!(text.ends_with("says so"), "{text}");
    }
}
