//! What patterns mean.

use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn check(text: &str, request: &str, want: bool) {
    let (method, rest) = request.split_once(' ').expect("METHOD HOST/PATH");
    let (host, path) = rest.split_at(rest.find('/').expect("a path"));
    assert_eq!(pattern(text).matches(Target { method, host, path }), want, "{text} on {request}");
}

#[test]
fn a_trailing_star_takes_the_rest_and_nothing_too() {
    check("/counter/*", "GET h/counter", true);
    check("/counter/*", "GET h/counter/", true);
    check("/counter/*", "GET h/counter/a/b", true);
    check("/counter/*", "GET h/counters", false);
    check("/counter/*", "GET h/", false);
    check("/*", "GET h/", true);
    check("/*", "GET h/a/b", true);
}

#[test]
fn an_exact_path_takes_itself_alone() {
    check("/a", "GET h/a", true);
    check("/a", "GET h/a/", false);
    check("/a/", "GET h/a/", true);
    check("/", "GET h/", true);
    check("/", "GET h/a", false);
    check("/a", "GET h/A", false);
    check("/a%20b", "GET h/a%20b", true);
}

#[test]
fn a_star_inside_takes_one_segment() {
    check("/users/*/posts", "GET h/users/7/posts", true);
    check("/users/*/posts", "GET h/users//posts", false);
    check("/users/*/posts", "GET h/users/7/8/posts", false);
}

#[test]
fn hosts_and_methods_narrow_a_route() {
    check("example.com/*", "GET EXAMPLE.com/x", true);
    check("example.com/*", "GET www.example.com/x", false);
    check("*.example.com/*", "GET www.example.com/x", true);
    check("*.example.com/*", "GET example.com/x", false);
    check("*.example.com/*", "GET .example.com/x", false);
    check("GET,HEAD /x", "HEAD h/x", true);
    check("GET,HEAD /x", "POST h/x", false);
}

#[track_caller]
fn check_refused(text: &str, want: &str) {
    let error = text.parse::<Pattern>().expect_err(text);
    assert!(error.reason.contains(want), "{text:?}: {error}");
}

#[test]
fn a_mistake_is_named() {
    check_refused("", "no path");
    check_refused("counter", "no path");
    check_refused("/a*", "whole segment");
    check_refused("/a?b", "visible");
    check_refused("/ä", "visible");
    check_refused("get /a", "upper case");
    check_refused("GET, /a", "upper case");
    check_refused("*example.com/", "a host is");
    check_refused(&format!("/{}", "a".repeat(PATTERN_BYTES_MAX)), "too long");
}

#[test]
fn the_more_specific_route_is_asked_first_whatever_the_order_of_deployment() {
    let mut texts = vec![
        "/*",
        "/api/*",
        "/api",
        "/api/users/*",
        "/api/*/posts",
        "/api/users/me",
        "GET /api/users/me",
        "example.com/*",
        "*.example.com/*",
        "*.b.example.com/*",
    ];
    for _ in 0..texts.len() {
        texts.rotate_left(1);
        let table = RouteTable::new(texts.iter().map(|text| (pattern(text), *text)).collect());
        let find = |method, host, path| table.find(Target { method, host, path }).copied();
        assert_eq!(find("GET", "h", "/api/users/me"), Some("GET /api/users/me"));
        assert_eq!(find("PUT", "h", "/api/users/me"), Some("/api/users/me"));
        assert_eq!(find("GET", "h", "/api/users/x"), Some("/api/users/*"));
        assert_eq!(find("GET", "h", "/api/x/posts"), Some("/api/*/posts"));
        assert_eq!(find("GET", "h", "/api/x"), Some("/api/*"));
        assert_eq!(find("GET", "h", "/api"), Some("/api"), "an exact path before the rest of it");
        assert_eq!(find("GET", "h", "/"), Some("/*"));
        assert_eq!(find("GET", "example.com", "/api/x"), Some("example.com/*"));
        assert_eq!(find("GET", "a.b.example.com", "/"), Some("*.b.example.com/*"));
        assert_eq!(find("GET", "a.example.com", "/"), Some("*.example.com/*"));
    }
}

#[test]
fn only_routes_that_cannot_be_told_apart_conflict() {
    let check = |a: &str, b: &str, want| {
        assert_eq!(pattern(a).conflicts_with(&pattern(b)), want, "{a} and {b}");
        assert_eq!(pattern(b).conflicts_with(&pattern(a)), want, "{b} and {a}");
    };
    check("/a/*", "/a/*", true);
    check("GET,PUT /a", "PUT /a", true);
    check("GET /a", "PUT /a", false);
    check("GET /a", "/a", false);
    check("/a", "/a/*", false);
    check("a.com/x", "b.com/x", false);
    check("A.com/x", "a.com/x", true);
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_and_a_pattern_reads_back(text in "[A-Z, ]{0,6}[a-z.*]{0,8}[/a-z*]{0,12}") {
        if let Ok(parsed) = text.parse::<Pattern>() {
            prop_assert_eq!(parsed.to_string().parse::<Pattern>(), Ok(parsed));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), path in any::<String>()) {
        if let Ok(parsed) = text.parse::<Pattern>() {
            parsed.matches(Target { method: "GET", host: &path, path: &path });
        }
    }
}

#[test]
fn a_host_with_a_port_is_not_written_anew_as_it_would_never_match() {
    for fine in ["/x", "example.com/x", "*.example.com/x", "[::1]/x", "GET 127.0.0.1/x"] {
        let pattern: Pattern = fine.parse().expect(fine);
        assert_eq!(pattern.check_new(), Ok(()), "{fine}");
    }
    for wrong in ["example.com:8080/x", ":8080/x", "*.example.com:80/x", "[::1]:80/x", "::1/x"] {
        let pattern: Pattern = wrong.parse().expect("it was taken before");
        let error = pattern.check_new().expect_err(wrong).to_string();
        assert!(error.contains(wrong) && error.contains("without a port"), "{error}");
    }
}
