//! A request in the form that a standard handler sees: a head, and a body that comes as it is read.

use super::exchange::of_the_connection;
use crate::problem::Problem;
use crate::upload;
use axum::extract::Request;
use http::uri::{Authority, Scheme};
use http::{Extensions, Uri};

/// The request with an absolute target and without what concerns its connection. Its body has to
/// come at the pace of any upload, and may be of any length: nobody holds the whole of it.
pub(super) fn request(request: Request, authority: Option<Authority>) -> Result<Request, Problem> {
    let (mut parts, body) = request.into_parts();
    let body = upload::paced(&parts.headers, body)?;
    for name in of_the_connection(&parts.headers) {
        parts.headers.remove(name);
    }
    let mut target = parts.uri.into_parts();
    target.scheme = target.scheme.or(Some(Scheme::HTTP));
    // HTTP/1.0 lets a client leave the host out; the standard has no request without one.
    let nameless = || Authority::from_static("localhost");
    target.authority = authority.or(target.authority).or_else(|| Some(nameless()));
    target.path_and_query = target.path_and_query.or_else(|| "/".parse().ok());
    // They are of this node's own stages, and would be copied with the head.
    parts.extensions = Extensions::new();
    parts.uri = Uri::from_parts(target)
        .map_err(|_| Problem::bad_request("bad-target", "the target of the request is no path"))?;
    Ok(Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[tokio::test]
    async fn the_target_becomes_absolute_and_the_connection_stays_behind() {
        let sent = Request::builder()
            .uri("/a?b=c")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("transfer-encoding", "chunked")
            .header("x-stays", "2")
            .body(Body::from("body"))
            .expect("a request");
        let authority = Authority::from_static("example.com:8080");
        let seen = request(sent, Some(authority)).expect("it is fine");
        assert_eq!(seen.uri(), "http://example.com:8080/a?b=c");
        assert_eq!(seen.headers().len(), 1);
        let body = axum::body::to_bytes(seen.into_body(), 10).await.expect("it comes");
        assert_eq!(body, "body");
    }
}
