//! The host that a request asks for, as every HTTP door understands it.

use crate::problem::Problem;
use axum::extract::Request;
use http::uri::Authority;
use http::{Version, header};

/// The host that was asked for, by the request line or the header (RFC 9112 section 3.2). `None`
/// where the protocol allows a request to name none.
pub(crate) fn asked_for(request: &Request) -> Result<Option<Authority>, Problem> {
    let bad = |detail: &'static str| Err(Problem::bad_request("bad-host", detail));
    let mut lines = request.headers().get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return bad("the header Host is given twice");
    }
    let authority = match (request.uri().authority(), line) {
        (Some(authority), _) => authority.clone(),
        (None, Some(line)) => match Authority::try_from(line.as_bytes()) {
            Ok(authority) => authority,
            Err(_) => return bad("the header Host holds no host"),
        },
        (None, None) if request.version() == Version::HTTP_10 => return Ok(None),
        (None, None) => return bad("HTTP/1.1 asks for the header Host"),
    };
    // RFC 9110 section 4.2.4: what stands before @ only ever misleads.
    if authority.as_str().contains('@') {
        return bad("a host is asked for without a user");
    }
    Ok(Some(authority))
}

/// The name or address in `authority`, without a port and without the dot that may end a name.
pub(crate) fn name(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[track_caller]
    fn check(target: &str, hosts: &[&str], want: Result<Option<&str>, &str>) {
        let builder = Request::builder().uri(target);
        let builder = hosts.iter().fold(builder, |builder, host| builder.header("host", *host));
        let got = asked_for(&builder.body(Body::empty()).expect("a request"));
        let got = got.as_ref().map(|host| host.as_ref().map(name)).map_err(Problem::code);
        assert_eq!(got, want, "{target} {hosts:?}");
    }

    #[test]
    fn the_host_is_what_stands_between_user_and_port() {
        for host in ["example.com", "example.com:80", "example.com.", "example.com.:80"] {
            check("/", &[host], Ok(Some("example.com")));
            check(&format!("http://{host}/"), &["other"], Ok(Some("example.com")));
        }
        check("/", &["[::1]:8080"], Ok(Some("[::1]")));
    }

    #[test]
    fn a_request_that_names_no_host_or_two_or_a_user_is_refused() {
        let bad = Err("bad-host");
        check("/", &[], bad);
        check("/", &["a", "a"], bad);
        check("http://a/", &["a", "b"], bad);
        check("/", &["a b"], bad);
        check("/", &["user@a"], bad);
        check("http://user:password@a/", &[], bad);
    }
}
