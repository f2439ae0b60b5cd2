//! Lifetimes and ages, row by row. The time is 2026-11-28 00:00:00.

use super::super::headers;
use super::*;

const NOW_MS: u64 = 1_795_824_000_000;
const NOW: &str = "Sat, 28 Nov 2026 00:00:00 GMT";
const IN_AN_HOUR: &str = "Sat, 28 Nov 2026 01:00:00 GMT";
const YESTERDAY: &str = "Fri, 27 Nov 2026 00:00:00 GMT";
const A_HUNDRED_DAYS_AGO: &str = "Thu, 20 Aug 2026 00:00:00 GMT";
const AT_ONCE: Exchanged = Exchanged { requested_ms: NOW_MS, responded_ms: NOW_MS };

#[track_caller]
fn check(status: u16, fields: &[(&str, &str)], want_s: u64, source: Source) {
    let headers = headers(fields);
    let control = ResponseControl::of(&headers);
    let status = StatusCode::from_u16(status).expect("a status");
    let found = lifetime(status, &headers, &control, AT_ONCE, true);
    assert_eq!(found, Lifetime { lifetime_ms: want_s * 1_000, source }, "{status} {fields:?}");
}

#[test]
fn section_4_2_1_s_maxage_before_max_age_before_expires() {
    let expires = ("expires", IN_AN_HOUR);
    check(200, &[("cache-control", "max-age=5, s-maxage=7"), expires], 7, Source::SMaxage);
    check(200, &[("cache-control", "s-maxage=1, max-age=3600"), expires], 1, Source::SMaxage);
    check(200, &[("cache-control", "max-age=5"), expires], 5, Source::MaxAge);
    check(200, &[("cache-control", "max-age=0"), expires], 0, Source::MaxAge);
    check(200, &[("date", NOW), expires], 3_600, Source::Expires);
    check(200, &[], 0, Source::Nothing);
}

#[test]
fn section_4_2_1_what_cannot_be_read_is_stale() {
    let expires = ("expires", IN_AN_HOUR);
    check(200, &[("cache-control", "max-age=a3600"), expires], 0, Source::MaxAge);
    check(200, &[("cache-control", "s-maxage=x, max-age=5")], 0, Source::SMaxage);
    check(200, &[("expires", "0"), ("date", NOW)], 0, Source::Expires);
    check(200, &[("expires", "0"), ("last-modified", YESTERDAY)], 0, Source::Expires);
}

#[test]
fn section_4_2_1_expires_counts_from_date_and_the_first_of_several_counts() {
    let late = "Sat, 28 Nov 2026 00:06:40 GMT";
    check(200, &[("expires", "Sat, 28 Nov 2026 00:05:00 GMT"), ("date", late)], 0, Source::Expires);
    check(200, &[("expires", IN_AN_HOUR), ("date", late)], 3_200, Source::Expires);
    check(200, &[("expires", IN_AN_HOUR), ("date", "foo")], 3_600, Source::Expires);
    check(200, &[("expires", NOW), ("date", NOW)], 0, Source::Expires);
    check(200, &[("expires", YESTERDAY), ("expires", IN_AN_HOUR)], 0, Source::Expires);
}

#[test]
fn section_4_2_2_a_tenth_of_the_time_since_the_last_change_and_a_day_at_most() {
    let modified = ("last-modified", YESTERDAY);
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        check(status, &[modified, ("date", NOW)], 8_640, Source::Heuristic);
    }
    for status in [201, 202, 302, 307, 403, 500, 502, 503, 504, 599] {
        check(status, &[modified, ("date", NOW)], 0, Source::Nothing);
    }
    let public = ("cache-control", "public");
    check(599, &[modified, public], 8_640, Source::Heuristic);
    check(200, &[("last-modified", A_HUNDRED_DAYS_AGO)], 86_400, Source::Heuristic);
    check(200, &[("last-modified", IN_AN_HOUR)], 0, Source::Heuristic);
    check(200, &[("last-modified", "x")], 0, Source::Nothing);
}

#[test]
fn section_4_2_2_no_guess_where_it_is_switched_off() {
    let headers = headers(&[("last-modified", YESTERDAY)]);
    let control = ResponseControl::of(&headers);
    let found = lifetime(StatusCode::OK, &headers, &control, AT_ONCE, false);
    assert_eq!(found, Lifetime { lifetime_ms: 0, source: Source::Nothing });
}

#[track_caller]
fn check_age(fields: &[(&str, &str)], exchanged: Exchanged, want_ms: u64) {
    assert_eq!(initial_age_ms(&headers(fields), exchanged), want_ms, "{fields:?}");
}

#[test]
fn section_4_2_3_the_larger_of_both_ages() {
    let slow = Exchanged { requested_ms: NOW_MS - 2_500, responded_ms: NOW_MS };
    check_age(&[("date", NOW)], AT_ONCE, 0);
    check_age(&[("date", NOW), ("age", "30")], AT_ONCE, 30_000);
    check_age(&[("date", NOW), ("age", "30")], slow, 32_500);
    check_age(&[("date", "Fri, 27 Nov 2026 23:59:00 GMT"), ("age", "30")], AT_ONCE, 60_000);
    check_age(&[("date", "Fri, 27 Nov 2026 23:59:00 GMT"), ("age", "90")], AT_ONCE, 90_000);
    check_age(&[("date", IN_AN_HOUR)], AT_ONCE, 0);
    check_age(&[], slow, 2_500);
    check_age(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")], AT_ONCE, 1_011_712_223_000);
    let late = Exchanged { requested_ms: NOW_MS + 900, responded_ms: NOW_MS + 900 };
    check_age(&[("date", NOW)], late, 0);
}

#[test]
fn section_5_1_of_several_ages_the_first_counts_and_none_that_is_no_number() {
    let cases: [(&[(&str, &str)], u64); 9] = [
        (&[("age", "7200")], 7_200),
        (&[("age", "7200, 0")], 7_200),
        (&[("age", "0, 7200")], 0),
        (&[("age", "7200"), ("age", "0")], 7_200),
        (&[("age", "abc")], 0),
        (&[("age", "-7200")], 0),
        (&[("age", "7200.0")], 0),
        (&[("age", "")], 0),
        (&[("age", "99999999999999999999")], directive::SECONDS_MAX),
    ];
    for (fields, want) in cases {
        assert_eq!(age_s(&headers(fields)), want, "{fields:?}");
    }
}
