//! What may be stored, row by row.

use super::super::headers;
use super::*;

const NOW_MS: u64 = 1_795_824_000_000;
const AT_ONCE: Exchanged = Exchanged { requested_ms: NOW_MS, responded_ms: NOW_MS };
const FRESH: (&str, &str) = ("cache-control", "max-age=3600");

type Fields<'a> = &'a [(&'static str, &'static str)];

fn judged(
    method: Method,
    request: Fields<'_>,
    status: u16,
    response: Fields<'_>,
    rules: &Rules,
) -> Result<Storable, Refusal> {
    let (request, response) = (headers(request), headers(response));
    let status = StatusCode::from_u16(status).expect("a status");
    let asked = Asked { method: &method, headers: &request };
    judge(asked, Answered { status, headers: &response }, AT_ONCE, rules)
}

#[track_caller]
fn check(request: Fields<'_>, status: u16, response: Fields<'_>, want: Option<Refusal>) {
    let found = judged(Method::GET, request, status, response, &Rules::default());
    assert_eq!(found.err(), want, "{request:?} {status} {response:?}");
}

#[test]
fn section_3_any_final_status_with_explicit_freshness_is_stored() {
    for status in [
        200, 201, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 403, 404, 410, 451, 499, 500,
        502, 503, 504, 599, 999,
    ] {
        check(&[], status, &[FRESH], None);
        let expires = [("expires", "Sat, 28 Nov 2026 01:00:00 GMT")];
        check(&[], status, &expires, None);
        check(&[], status, &[("cache-control", "s-maxage=1")], None);
    }
    for status in [100, 103, 304] {
        check(&[], status, &[FRESH], Some(Refusal::Status));
    }
}

#[test]
fn rfc_9110_section_15_5_17_a_416_is_about_a_range_and_is_not_stored() {
    for control in ["max-age=3600", "public, s-maxage=60", "must-understand, max-age=60"] {
        let range = [("range", "bytes=999-")];
        check(&range, 416, &[("cache-control", control)], Some(Refusal::Range));
        check(&[], 416, &[("cache-control", control)], Some(Refusal::Range));
    }
    check(&[], 416, &[("expires", "Sat, 28 Nov 2026 01:00:00 GMT")], Some(Refusal::Range));
}

#[test]
fn section_3_without_explicit_freshness_the_status_or_public_has_to_allow_it() {
    let etag = ("etag", "\"a\"");
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        check(&[], status, &[etag], None);
    }
    for status in [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599] {
        check(&[], status, &[etag], Some(Refusal::Unsaid));
        check(&[], status, &[etag, ("cache-control", "public")], None);
    }
}

#[test]
fn section_3_only_responses_to_get_are_stored() {
    for method in ["POST", "PUT", "HEAD", "DELETE", "OPTIONS", "M-SEARCH"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let found = judged(method, &[], 200, &[FRESH], &Rules::default());
        assert_eq!(found.err(), Some(Refusal::Method));
    }
}

#[test]
fn section_3_no_store_and_private_forbid_it_in_any_case_and_company() {
    for value in [
        "no-store",
        "No-StOrE",
        "max-age=10000, no-store",
        "no-store, public, s-maxage=10",
        "no-store=\"x\"",
    ] {
        check(&[], 200, &[("cache-control", value)], Some(Refusal::NoStore));
    }
    for value in ["private, max-age=3600", "max-age=3600, PRIVATE", "public, private, s-maxage=1"] {
        check(&[], 200, &[("cache-control", value)], Some(Refusal::Private));
    }
    check(&[], 200, &[("cache-control", "private=\"a\", max-age=3600")], None);
    check(&[], 200, &[FRESH, ("cache-control", "no-store")], Some(Refusal::NoStore));
}

#[test]
fn section_5_2_1_5_a_request_with_no_store_leaves_nothing_behind() {
    check(&[("cache-control", "no-store")], 200, &[FRESH], Some(Refusal::Asked));
}

#[test]
fn section_5_2_2_3_must_understand_takes_the_place_of_no_store_for_known_statuses() {
    let both = ("cache-control", "must-understand, no-store, max-age=3600");
    check(&[], 200, &[both], None);
    check(&[], 404, &[both], None);
    check(&[], 299, &[both], Some(Refusal::Status));
    check(&[], 599, &[("cache-control", "must-understand, max-age=9")], Some(Refusal::Status));
}

#[test]
fn section_3_5_credentials_need_a_word_that_the_response_is_for_others() {
    let credentials = [("authorization", "Basic x")];
    check(&credentials, 200, &[FRESH], Some(Refusal::Authorization));
    for value in ["max-age=1, public", "max-age=1, must-revalidate", "s-maxage=1"] {
        check(&credentials, 200, &[("cache-control", value)], None);
    }
    for value in ["max-age=1, proxy-revalidate", "max-age=1, s-maxage=x"] {
        check(&credentials, 200, &[("cache-control", value)], Some(Refusal::Authorization));
    }
}

#[test]
fn section_3_5_what_is_for_one_request_alone_is_not_taken_over_into_what_is_stored() {
    let check = |request: Fields<'_>, updated: Fields<'_>, want: Update| {
        let (request, headers) = (headers(request), headers(updated));
        let found = judge_update(&request, Answered { status: StatusCode::OK, headers: &headers });
        assert_eq!(found, want, "{request:?} {updated:?}");
    };
    let credentials = [("authorization", "Basic x")];
    check(&[], &[FRESH], Update::TakenOver);
    check(&[], &[], Update::TakenOver);
    check(&credentials, &[FRESH], Update::Left);
    check(&credentials, &[("cache-control", "public, max-age=9")], Update::TakenOver);
    check(&credentials, &[("cache-control", "private, max-age=9")], Update::Left);
    check(&[("cache-control", "no-store")], &[FRESH], Update::Left);
    for value in ["private, max-age=9", "no-store"] {
        check(&[], &[("cache-control", value)], Update::Ended);
    }
    check(&[], &[FRESH, ("vary", "*")], Update::Ended);
    check(&[], &[("cache-control", "private=\"x\", max-age=9")], Update::TakenOver);
}

#[test]
fn section_4_1_vary_with_a_star_is_not_kept() {
    check(&[], 200, &[FRESH, ("vary", "*")], Some(Refusal::VaryStar));
    check(&[], 200, &[FRESH, ("vary", "accept")], None);
}

#[test]
fn section_7_3_set_cookie_is_as_the_route_says() {
    let response = [FRESH, ("set-cookie", "a=b")];
    check(&[("cookie", "a=b")], 200, &[FRESH], None);
    check(&[], 200, &response, Some(Refusal::SetCookie));
    for set_cookie in [SetCookie::Remove, SetCookie::Store] {
        let rules = Rules { set_cookie, ..Rules::default() };
        assert!(judged(Method::GET, &[], 200, &response, &rules).is_ok());
    }
}

#[test]
fn what_could_never_be_used_takes_no_room() {
    check(&[], 200, &[], Some(Refusal::Useless));
    check(&[], 200, &[("cache-control", "max-age=0")], Some(Refusal::Useless));
    check(&[], 200, &[FRESH, ("age", "3600")], Some(Refusal::Useless));
    check(&[], 200, &[("cache-control", "max-age=0, stale-if-error=5")], None);
    check(&[], 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], None);
    check(&[], 200, &[("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT")], None);
}

#[test]
fn section_5_2_2_what_is_kept_of_the_directives() {
    let meta = |value| {
        let judged = judged(
            Method::GET,
            &[],
            200,
            &[("cache-control", value), ("etag", "\"\"")],
            &Rules {
                while_revalidate_ms: Some(7_000),
                if_error_ms: Some(8_000),
                ..Rules::default()
            },
        );
        let meta = judged.expect("storable").meta;
        let flags = (meta.always_validate, meta.never_stale, meta.stale_if_disconnected);
        (flags, meta.while_revalidate_ms, meta.if_error_ms)
    };
    let ours = ((false, false, true), 7_000, 8_000);
    let never = ((false, true, false), 0, 0);
    assert_eq!(meta("max-age=1"), ours);
    assert_eq!(meta("max-age=1, stale-while-revalidate=1"), ((false, false, true), 1_000, 8_000));
    assert_eq!(meta("max-age=1, stale-if-error=x"), ((false, false, true), 7_000, 0));
    assert_eq!(meta("max-age=1, must-revalidate, stale-if-error=9"), never);
    assert_eq!(meta("max-age=1, proxy-revalidate, stale-while-revalidate=9"), never);
    assert_eq!(meta("max-age=1, no-cache, stale-if-error=9"), ((true, true, false), 0, 0));
    assert_eq!(meta("max-age=1, no-cache=\"a\""), ours);
    // s-maxage forbids stale use as proxy-revalidate does, but for what is allowed beside it.
    assert_eq!(meta("s-maxage=1"), ((false, false, false), 0, 0));
    assert_eq!(meta("s-maxage=1, stale-while-revalidate=9"), ((false, false, false), 9_000, 0));
}

#[test]
fn a_route_gives_a_lifetime_only_to_responses_that_have_none() {
    let rules = Rules { lifetime_ms: Some(60_000), ..Rules::default() };
    let lifetime = |status, response: Fields<'_>| {
        judged(Method::GET, &[], status, response, &rules).map(|judged| judged.meta.lifetime)
    };
    let ours = Ok(Lifetime { lifetime_ms: 60_000, source: Source::Route });
    assert_eq!(lifetime(200, &[]), ours);
    assert_eq!(lifetime(404, &[("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT")]), ours);
    assert_eq!(lifetime(500, &[]), Err(Refusal::Unsaid));
    assert_eq!(lifetime(200, &[("cache-control", "max-age=0")]), Err(Refusal::Useless));
    assert_eq!(lifetime(200, &[("expires", "0")]), Err(Refusal::Useless));
    assert_eq!(lifetime(200, &[("cache-control", "no-store")]), Err(Refusal::NoStore));
}

#[test]
fn rfc_9213_section_2_2_a_targeted_field_overrules_cache_control_and_expires() {
    let cdn = |value| ("cdn-cache-control", value);
    check(&[], 200, &[cdn("max-age=9"), ("cache-control", "no-store")], None);
    check(&[], 200, &[cdn("max-age=9"), ("expires", "0")], None);
    check(&[], 200, &[cdn("no-store"), FRESH], Some(Refusal::NoStore));
    check(&[], 200, &[cdn("private"), FRESH], Some(Refusal::Private));
    check(
        &[],
        200,
        &[cdn("foo"), ("expires", "Sat, 28 Nov 2026 01:00:00 GMT")],
        Some(Refusal::Useless),
    );
    check(&[], 200, &[cdn("max-age=\"9\""), ("cache-control", "no-store")], Some(Refusal::NoStore));
}

#[test]
fn rfc_9110_section_9_3_3_post_is_stored_for_get_where_it_says_so_and_how_long() {
    let check = |method: Method, status: u16, response: Fields<'_>, want: Option<Refusal>| {
        let (request, response) = (headers(&[]), headers(response));
        let status = StatusCode::from_u16(status).expect("a status");
        let url = key::Url::parse("http://a/dir/page?q=1").expect("a URL");
        let asked = (Asked { method: &method, headers: &request }, &url);
        let answered = Answered { status, headers: &response };
        let found = judge_post(asked, answered, AT_ONCE, &Rules::default());
        assert_eq!(found.err(), want, "{response:?}");
    };
    for target in ["/dir/page?q=1", "page?q=1", "http://A:80/dir/page?q=1", "//a/dir/page?q=1"] {
        check(Method::POST, 200, &[FRESH, ("content-location", target)], None);
    }
    let refused = Some(Refusal::Method);
    for other in ["/dir/page", "/dir/page?q=2", "http://b/dir/page?q=1", ""] {
        check(Method::POST, 200, &[FRESH, ("content-location", other)], refused);
    }
    let here = ("content-location", "/dir/page?q=1");
    check(Method::POST, 200, &[FRESH], refused);
    check(Method::POST, 200, &[FRESH, here, here], refused);
    check(Method::POST, 201, &[FRESH, here], refused);
    check(Method::PUT, 200, &[FRESH, here], refused);
    let modified = ("last-modified", "Fri, 27 Nov 2026 00:00:00 GMT");
    check(Method::POST, 200, &[modified, here], Some(Refusal::Unsaid));
    check(Method::POST, 200, &[("cache-control", "no-store"), here], Some(Refusal::NoStore));
}
