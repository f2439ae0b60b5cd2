//! Reuse, row by row. A response came at time 0 with age 0 and is fresh for 10 s.

use super::super::freshness::{Lifetime, Source};
use super::*;

const META: Meta = Meta {
    responded_ms: 0,
    initial_age_ms: 0,
    lifetime: Lifetime { lifetime_ms: 10_000, source: Source::MaxAge },
    always_validate: false,
    never_stale: false,
    stale_if_disconnected: true,
    while_revalidate_ms: 0,
    if_error_ms: 0,
    has_validator: true,
};
const NOTHING: RequestControl = RequestControl {
    max_age_s: None,
    max_stale_s: None,
    min_fresh_s: None,
    no_cache: false,
    no_store: false,
    only_if_cached: false,
    stale_if_error_s: None,
};

#[track_caller]
fn check(meta: &Meta, asked: RequestControl, now_ms: u64, want: Reuse) {
    assert_eq!(reuse(meta, &asked, Purged::No, now_ms), want, "{meta:?} {asked:?} at {now_ms}");
}

#[test]
fn section_4_2_fresh_while_the_lifetime_is_longer_than_the_age() {
    check(&META, NOTHING, 0, Reuse::Fresh);
    check(&META, NOTHING, 9_999, Reuse::Fresh);
    check(&META, NOTHING, 10_000, Reuse::Validate);
    let aged = Meta { initial_age_ms: 9_000, ..META };
    check(&aged, NOTHING, 999, Reuse::Fresh);
    check(&aged, NOTHING, 1_000, Reuse::Validate);
}

#[test]
fn section_4_2_3_age_counts_on_from_what_it_was() {
    let aged = Meta { initial_age_ms: 30_500, responded_ms: 1_000_000, ..META };
    assert_eq!(age_s(&aged, 1_002_499), 32);
    assert_eq!(age_s(&aged, 1_002_500), 33);
    assert_eq!(age_s(&aged, 0), 30, "a clock that went back makes nothing younger");
    assert_eq!(age_s(&aged, u64::MAX / 2), SECONDS_MAX);
    assert_eq!(remaining_ms(&META, 4_000), 6_000);
    assert_eq!(remaining_ms(&META, 14_000), -4_000);
}

#[test]
fn section_5_2_1_requests_may_ask_for_less_age_more_freshness_or_the_upstream() {
    let max_age = |seconds| RequestControl { max_age_s: Some(seconds), ..NOTHING };
    check(&META, max_age(0), 0, Reuse::Validate);
    check(&META, max_age(5), 5_000, Reuse::Fresh);
    check(&META, max_age(5), 5_001, Reuse::Validate);
    let min_fresh = |seconds| RequestControl { min_fresh_s: Some(seconds), ..NOTHING };
    check(&META, min_fresh(4), 6_000, Reuse::Fresh);
    check(&META, min_fresh(4), 6_001, Reuse::Validate);
    check(&META, min_fresh(u64::MAX), 0, Reuse::Validate);
    check(&META, RequestControl { no_cache: true, ..NOTHING }, 0, Reuse::Validate);
}

#[test]
fn section_5_2_1_2_max_stale_is_honoured_where_the_upstream_does_not_forbid_it() {
    let asked = RequestControl { max_stale_s: Some(5), ..NOTHING };
    check(&META, asked, 15_000, Reuse::Accepted);
    check(&META, asked, 15_001, Reuse::Validate);
    let any = RequestControl { max_stale_s: Some(u64::MAX), ..NOTHING };
    check(&META, any, 1_000_000_000, Reuse::Accepted);
    check(&META, RequestControl { max_age_s: Some(12), ..any }, 13_000, Reuse::Validate);
    let revalidate = Meta { never_stale: true, stale_if_disconnected: false, ..META };
    check(&revalidate, any, 10_001, Reuse::Validate);
    let s_maxage = Meta { stale_if_disconnected: false, ..META };
    check(&s_maxage, any, 10_001, Reuse::Validate);
}

#[test]
fn section_5_2_2_4_no_cache_is_never_used_without_asking() {
    let no_cache = Meta { always_validate: true, never_stale: true, ..META };
    check(&no_cache, NOTHING, 0, Reuse::Validate);
    assert!(!stands_in(&no_cache, &NOTHING, Failure::Disconnected, 0));
}

#[test]
fn rfc_5861_section_3_stale_for_as_long_as_it_says_while_it_is_validated() {
    let meta = Meta { while_revalidate_ms: 5_000, ..META };
    check(&meta, NOTHING, 10_000, Reuse::WhileRevalidate);
    check(&meta, NOTHING, 14_999, Reuse::WhileRevalidate);
    check(&meta, NOTHING, 15_000, Reuse::Validate);
    check(&meta, RequestControl { min_fresh_s: Some(0), ..NOTHING }, 12_000, Reuse::Validate);
    check(&Meta { never_stale: true, ..meta }, NOTHING, 12_000, Reuse::Validate);
}

#[test]
fn a_soft_purge_makes_it_stale_and_leaves_it_in_use_while_it_is_validated() {
    let soft = |meta: &Meta, asked| reuse(meta, asked, Purged::Softly, 0);
    assert_eq!(soft(&META, &NOTHING), Reuse::WhileRevalidate);
    let revalidate = Meta { never_stale: true, ..META };
    assert_eq!(soft(&revalidate, &NOTHING), Reuse::Validate);
    assert_eq!(soft(&META, &RequestControl { no_cache: true, ..NOTHING }), Reuse::Validate);
}

#[track_caller]
fn check_failure(meta: &Meta, asked: RequestControl, now_ms: u64, want: (bool, bool)) {
    let found = (
        stands_in(meta, &asked, Failure::Disconnected, now_ms),
        stands_in(meta, &asked, Failure::Error, now_ms),
    );
    assert_eq!(found, want, "{meta:?} {asked:?} at {now_ms}");
}

#[test]
fn section_4_2_4_stale_while_disconnected_unless_it_is_forbidden() {
    check_failure(&META, NOTHING, 1_000_000, (true, false));
    check_failure(&Meta { never_stale: true, ..META }, NOTHING, 11_000, (false, false));
    check_failure(&Meta { stale_if_disconnected: false, ..META }, NOTHING, 11_000, (false, false));
    check_failure(&META, RequestControl { no_cache: true, ..NOTHING }, 0, (false, false));
    check_failure(&META, RequestControl { max_age_s: Some(0), ..NOTHING }, 0, (false, false));
}

#[test]
fn rfc_5861_section_4_stale_if_error_bounds_the_use_behind_an_error() {
    let meta = Meta { if_error_ms: 5_000, stale_if_disconnected: false, ..META };
    check_failure(&meta, NOTHING, 14_999, (true, true));
    check_failure(&meta, NOTHING, 15_000, (false, false));
    let asked = RequestControl { stale_if_error_s: Some(60), ..NOTHING };
    check_failure(&META, asked, 30_000, (true, true));
    check_failure(&meta, asked, 30_000, (false, false));
    let forbidden = Meta { never_stale: true, ..meta };
    check_failure(&forbidden, asked, 11_000, (false, false));
}

#[test]
fn what_was_made_from_a_key_that_was_written_is_validated_unless_its_age_may_be_used_stale() {
    let outdated = |meta: &Meta, asked, now_ms| reuse(meta, asked, Purged::Outdated, now_ms);
    assert_eq!(outdated(&META, &NOTHING, 1_000), Reuse::Validate, "although it is fresh");
    let meta = Meta { while_revalidate_ms: 5_000, ..META };
    assert_eq!(outdated(&meta, &NOTHING, 4_999), Reuse::WhileRevalidate);
    assert_eq!(outdated(&meta, &NOTHING, 5_000), Reuse::Validate);
    let forbidden = Meta { never_stale: true, ..meta };
    assert_eq!(outdated(&forbidden, &NOTHING, 0), Reuse::Validate);
}
