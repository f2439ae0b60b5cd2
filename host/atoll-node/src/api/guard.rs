//! Who may ask: the token, and what a browser is kept from doing in another site's name.
//!
//! With a token nothing else matters: a browser does not know it. Without one the API trusts
//! whoever can reach its address, and a web page that a developer happens to open can. So, without
//! a token:
//!
//! - The host that was asked for must be one that no stranger can point at this machine: an IP
//!   address, a name without a dot (`localhost` too), one below `localhost` or `internal`, or the
//!   node's own name. That ends DNS rebinding.
//! - A request that a browser makes for a page of another site (`Sec-Fetch-Site`, `Origin`) is
//!   refused, whatever its method. A link that a person follows is not. curl, Redis clients and
//!   libraries send neither header.
//!
//! Stored values are never run: they are served with `nosniff` and in a sandbox without scripts.

use crate::config::Secret;
use crate::listen::host;
use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The rule that requests are held against.
#[derive(Debug)]
pub(super) struct Guard {
    /// A digest, so that a comparison takes the same time for every length.
    token: Option<[u8; 32]>,
    node_name: String,
}

impl Guard {
    pub(super) fn new(token: Option<&Secret>, node_name: &str) -> Guard {
        let token = token.map(|token| digest(token.reveal().as_bytes()));
        Guard { token, node_name: node_name.to_ascii_lowercase() }
    }

    fn admit(&self, request: &Request) -> Result<(), Problem> {
        match &self.token {
            Some(token) => check_token(token, request.headers()),
            None => {
                let host = host::asked_for(request)?;
                self.check_host(host.as_ref())?;
                check_site(request, host.as_ref())
            }
        }
    }

    fn check_host(&self, host: Option<&Authority>) -> Result<(), Problem> {
        // Browsers always send one.
        let Some(host) = host else { return Ok(()) };
        let name = host.host().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let is_address = name.parse::<IpAddr>().is_ok()
            || name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'))
                .is_some_and(|name| name.parse::<Ipv6Addr>().is_ok());
        let is_ours = !name.contains('.')
            || name.ends_with(".localhost")
            || name.ends_with(".internal")
            || name == self.node_name;
        if is_address || is_ours {
            return Ok(());
        }
        let detail = "without a token this API answers to IP addresses, localhost, names without a \
                      dot or below .internal, and the node's own name (--name); set \
                      ATOLL_API_TOKEN to use it by any name";
        Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", detail))
    }
}

/// Refuses what may not pass, before anything of a body is read.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    match guard.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Adds the headers that keep a browser from running what it is handed.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'"));
    response
}

fn check_token(token: &[u8; 32], headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |challenge: &'static str, detail: &'static str| {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| {
        let value = value.as_bytes();
        let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
    });
    let Some(given) = given else {
        let detail = "this API asks for a token: send Authorization: Bearer TOKEN";
        return Err(refused("Bearer realm=\"atoll\"", detail));
    };
    if bool::from(digest(given).ct_eq(token)) {
        return Ok(());
    }
    let challenge = "Bearer realm=\"atoll\", error=\"invalid_token\"";
    Err(refused(challenge, "the token is not the one that this node was given"))
}

fn check_site(request: &Request, host: Option<&Authority>) -> Result<(), Problem> {
    let headers = request.headers();
    let is = |name: &str, want: &[&str]| {
        headers.get(name).is_some_and(|value| want.iter().any(|want| value == *want))
    };
    let opened_by_a_person = request.method() == Method::GET
        && is("sec-fetch-mode", &["navigate"])
        && is("sec-fetch-dest", &["document"]);
    let other_site = headers.contains_key("sec-fetch-site")
        && !is("sec-fetch-site", &["same-origin", "none"])
        && !opened_by_a_person;
    // RFC 6454 7: scheme, host and port, or `null`. This API has no TLS of its own.
    let other_origin = headers.get(header::ORIGIN).is_some_and(|origin| {
        let own = host.map(|host| format!("http://{host}"));
        !own.is_some_and(|own| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()))
    });
    if other_site || other_origin {
        let detail = "a page of another site may not use this API; give the node a token \
                      (ATOLL_API_TOKEN) and send it if it should";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-site", detail));
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let builder = Request::builder().method(method).uri("/v1/kv/b/k");
        let builder =
            headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(Body::empty()).expect("a request")
    }

    #[track_caller]
    fn check_open(method: &str, headers: &[(&str, &str)], want: Result<(), &str>) {
        let guard = Guard::new(None, "Node-1.Example.org");
        let got = guard.admit(&request(method, headers)).map_err(|problem| problem.code());
        assert_eq!(got, want, "{headers:?}");
    }

    #[test]
    fn without_a_token_only_hosts_that_no_stranger_controls_are_answered() {
        for host in [
            "127.0.0.1:8081",
            "127.0.0.1",
            "[::1]:8081",
            "10.1.2.3",
            "localhost:8081",
            "LOCALHOST",
            "localhost.",
            "a.localhost:1",
            "atoll:8081",
            "app.internal",
            "node-1.example.org:80",
        ] {
            check_open("PUT", &[("host", host)], Ok(()));
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:8081",
            "localhost.evil.example",
            "xinternal.com",
            "127.0.0.1.nip.io",
            "node-1.example.org.evil.example",
        ] {
            check_open("GET", &[("host", host)], Err("foreign-host"));
        }
        check_open("GET", &[], Err("bad-host"));
        check_open("GET", &[("host", "a"), ("host", "a")], Err("bad-host"));
        check_open("GET", &[("host", "a b")], Err("bad-host"));
        check_open("GET", &[("host", "user@localhost")], Err("bad-host"));
    }

    #[test]
    fn without_a_token_a_page_of_another_site_is_refused() {
        let host = ("host", "127.0.0.1:8081");
        let foreign = Err("foreign-site");
        for method in ["GET", "PUT", "POST", "DELETE"] {
            check_open(method, &[host], Ok(()));
            check_open(method, &[host, ("origin", "http://127.0.0.1:8081")], Ok(()));
            check_open(method, &[host, ("sec-fetch-site", "same-origin")], Ok(()));
            check_open(method, &[host, ("sec-fetch-site", "none")], Ok(()));
            check_open(method, &[host, ("sec-fetch-site", "cross-site")], foreign);
            check_open(method, &[host, ("sec-fetch-site", "same-site")], foreign);
            check_open(method, &[host, ("origin", "http://evil.example")], foreign);
            check_open(method, &[host, ("origin", "http://127.0.0.1:8080")], foreign);
            check_open(method, &[host, ("origin", "https://127.0.0.1:8081")], foreign);
            check_open(method, &[host, ("origin", "null")], foreign);
        }
        let link = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        check_open("GET", &link, Ok(()));
        check_open("POST", &link, foreign);
        let frame = [link[0], link[1], link[2], ("sec-fetch-dest", "iframe")];
        check_open("GET", &frame, foreign);
    }

    #[track_caller]
    fn check_with_token(headers: &[(&str, &str)], want: Result<(), &str>) {
        let token = "s3cret".parse().expect("any text is a secret");
        let guard = Guard::new(Some(&token), "n");
        let got = guard.admit(&request("GET", headers)).map_err(|problem| problem.code());
        assert_eq!(got, want, "{headers:?}");
    }

    #[test]
    fn with_a_token_the_token_decides_alone() {
        check_with_token(&[("authorization", "Bearer s3cret")], Ok(()));
        check_with_token(&[("authorization", "bearer  s3cret ")], Ok(()));
        check_with_token(
            &[
                ("authorization", "Bearer s3cret"),
                ("host", "api.example"),
                ("origin", "http://app.example"),
            ],
            Ok(()),
        );
        let refused = Err("unauthorized");
        check_with_token(&[], refused);
        for value in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Basic s3cret"] {
            check_with_token(&[("authorization", value)], refused);
        }
    }
}
