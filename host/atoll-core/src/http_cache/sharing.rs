//! Responses that one node has fetched and all use: how long they are kept for others, how old they
//! are there, and what they share with one another.
//!
//! Clocks of nodes differ by a little. A response is never taken for younger than its own Date says,
//! nor than it was when it was written.

use super::directive;
use super::freshness::{self, Exchanged};
use super::reuse;
use super::storing::Meta;
use http::HeaderMap;
use xxhash_rust::xxh3::xxh3_64;

/// Longest time for which a response is kept for other nodes, in ms: six days. A record of a purge is
/// kept for a week, so none that a response has to be compared with has gone before it.
pub const KEPT_MS_MAX: u64 = 6 * 24 * 3_600 * 1_000;
/// Places that URLs fall into. Those of one place are made invalid together: one costs the others a
/// fetch, and any number of URLs costs so many records at most.
pub const PLACE_COUNT: u64 = 4_096;

/// When a response that is stored at `now_ms` is of no more use to other nodes, in ms since the Unix
/// epoch: at the end of the time for which it may be used fresh or stale.
///
/// `None` where no node may use it without asking upstream, now or ever.
pub fn kept_until_ms(meta: &Meta, now_ms: u64) -> Option<u64> {
    let grace_ms = meta.while_revalidate_ms.max(meta.if_error_ms);
    let left_ms = meta.lifetime.lifetime_ms.saturating_add(grace_ms);
    let left_ms = left_ms.saturating_sub(reuse::age_ms(meta, now_ms));
    let is_of_use = !meta.always_validate && left_ms > 0;
    is_of_use.then(|| now_ms + left_ms.min(KEPT_MS_MAX))
}

/// When a response was written by the node that has fetched it, and when another one takes it.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// By the clock of the node that wrote it, in ms since the Unix epoch.
    pub written_ms: u64,
    /// By the clock of the node that takes it, in the same.
    pub now_ms: u64,
    /// How far the clock of the node that wrote it is known to be ahead, in ms; 0 where it is not.
    pub ahead_ms: u64,
}

/// What a node that takes a response from another one keeps of it: the age is that of the moment at
/// which it takes it (RFC 9111 section 4.2.3, where the time on the way is the time in the store).
pub fn taken(meta: &Meta, headers: &HeaderMap, passed: Passed) -> Meta {
    let Passed { written_ms, now_ms, ahead_ms } = passed;
    let resident_ms = now_ms.saturating_add(ahead_ms).saturating_sub(written_ms);
    let corrected_ms = reuse::age_ms(meta, written_ms).saturating_add(resident_ms);
    let exchanged = Exchanged { requested_ms: now_ms, responded_ms: now_ms };
    let date_ms = freshness::date_s(headers, exchanged) * 1_000;
    // A date has whole seconds: what it has lost to that is not age.
    let apparent_ms = (now_ms / 1_000 * 1_000).saturating_sub(date_ms);
    let age_ms = corrected_ms.max(apparent_ms).min(directive::SECONDS_MAX * 1_000);
    Meta { responded_ms: now_ms, initial_age_ms: age_ms, ..meta.clone() }
}

/// The place of a URL, `host/path?query`, the same on every node: what a write through the cache makes
/// invalid everywhere.
pub fn place_of(url: &str) -> Box<str> {
    format!("{:03x}", xxh3_64(url.as_bytes()) % PLACE_COUNT).into()
}

#[cfg(test)]
mod tests {
    use super::super::freshness::{Lifetime, Source};
    use super::super::headers;
    use super::*;

    /// 2026-11-22 00:00:00 UTC.
    const NOW_MS: u64 = 1_795_305_600_000;

    fn meta(lifetime_s: u64, grace_s: u64, age_s: u64) -> Meta {
        Meta {
            responded_ms: NOW_MS,
            initial_age_ms: age_s * 1_000,
            lifetime: Lifetime { lifetime_ms: lifetime_s * 1_000, source: Source::MaxAge },
            always_validate: false,
            never_stale: false,
            stale_if_disconnected: true,
            while_revalidate_ms: grace_s * 1_000,
            if_error_ms: 0,
            has_validator: true,
        }
    }

    #[test]
    fn a_response_is_kept_for_others_as_long_as_it_may_be_used_and_not_for_ever() {
        let check = |meta: &Meta, now_ms: u64, want_s: Option<u64>| {
            let found = kept_until_ms(meta, now_ms).map(|until_ms| (until_ms - now_ms) / 1_000);
            assert_eq!(found, want_s);
        };
        check(&meta(60, 0, 0), NOW_MS, Some(60));
        check(&meta(60, 30, 10), NOW_MS + 5_000, Some(75));
        check(&meta(60, 0, 60), NOW_MS, None);
        check(&meta(0, 0, 0), NOW_MS, None);
        check(&meta(365 * 24 * 3_600, 0, 0), NOW_MS, Some(KEPT_MS_MAX / 1_000));
        check(&Meta { always_validate: true, ..meta(60, 0, 0) }, NOW_MS, None);
    }

    #[track_caller]
    fn check_age(passed: Passed, date: &str, want_ms: u64) {
        // 10 s old when it came, and written a second later.
        let fields = headers(&[("date", date)]);
        let found = taken(&meta(60, 0, 10), &fields, passed);
        assert_eq!((found.initial_age_ms, found.responded_ms), (want_ms, passed.now_ms));
        assert_eq!(found.lifetime.lifetime_ms, 60_000, "the lifetime is from when it was made");
    }

    #[test]
    fn age_goes_on_from_node_to_node_and_no_slow_clock_makes_a_response_younger() {
        let written_ms = NOW_MS + 1_000;
        let at = |now_ms| Passed { written_ms, now_ms, ahead_ms: 0 };
        let date = "Sat, 21 Nov 2026 23:59:50 GMT";
        check_age(at(written_ms), date, 11_000);
        check_age(at(written_ms + 20_000), date, 31_000);
        // A clock that is behind: no younger than when it was written.
        check_age(at(written_ms - 1_500), date, 11_000);
        check_age(Passed { ahead_ms: 1_500, ..at(written_ms) }, date, 12_500);
        // One that is ahead of the upstream's: no younger than its date.
        check_age(at(written_ms), "Sat, 21 Nov 2026 23:59:00 GMT", 61_000);
        check_age(at(written_ms), "not a date", 11_000);
    }

    #[test]
    fn places_are_the_same_on_every_node_and_few() {
        assert_eq!(&*place_of("example.com/a"), &*place_of("example.com/a"));
        let places: std::collections::HashSet<_> =
            (0..50_000).map(|number| place_of(&format!("example.com/{number}"))).collect();
        assert_eq!(places.len() as u64, PLACE_COUNT);
        assert!(places.iter().all(|place| place.len() == 3));
    }
}
