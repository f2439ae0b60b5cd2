//! Images of another server, with the header fields that they should have had.
//!
//! `--config origin=https://img.example.com --grant http:img.example.com`. The type is told by the
//! image's first bytes, whatever the server calls it; what is no image is refused, so that nobody's
//! page is served under this name. A name with a digest in it (`logo.3f8a9c1d.png`) never changes and
//! may be kept for a year, others for an hour.

use atoll_guest::{Request, Response, config, fetch, handler, log};

/// Fields of the server's answer that go on as they are.
const KEPT: [&str; 2] = ["etag", "last-modified"];

#[handler]
fn handle(request: Request) -> Response {
    if !matches!(request.method(), "GET" | "HEAD") {
        return Response::new(405).header("allow", "GET, HEAD");
    }
    let Some(origin) = config::get("origin") else {
        log::error("deploy with --config origin=https://HOST");
        return Response::text("no origin\n").status(500);
    };
    let url = format!("{}{}", origin.trim_end_matches('/'), request.path());
    let conditional = request.header("if-none-match");
    let outgoing = conditional
        .into_iter()
        .fold(fetch::get(&url), |outgoing, etags| outgoing.header("if-none-match", etags));
    match outgoing.send() {
        Ok(answer) => image(request.path(), answer),
        Err(error) => {
            log::warn(error.to_string());
            Response::text("the origin cannot be reached\n").status(502)
        }
    }
}

fn image(path: &str, answer: fetch::Incoming) -> Response {
    let response = match answer.status() {
        304 => Response::new(304),
        200 => match kind(answer.body()) {
            Some(kind) => Response::new(200).header("content-type", kind).body(answer.body()),
            None => return Response::text("no image\n").status(415),
        },
        404 | 410 => return Response::not_found().header("cache-control", "public, max-age=60"),
        other => return Response::text(format!("the origin answers {other}\n")).status(502),
    };
    let kept = KEPT.iter().filter_map(|name| Some((*name, answer.header(name)?)));
    let response = kept.fold(response, |response, (name, value)| response.header(name, value));
    let lifetime = match never_changes(path) {
        true => "public, max-age=31536000, immutable",
        false => "public, max-age=3600, stale-while-revalidate=86400",
    };
    response
        .header("cache-control", lifetime)
        .header("x-content-type-options", "nosniff")
        .header("cross-origin-resource-policy", "cross-origin")
        .header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
}

/// The media type, by the first bytes.
fn kind(body: &[u8]) -> Option<&'static str> {
    let is_svg = || body.starts_with(b"<svg") || body.starts_with(b"<?xml");
    match body {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f', ..] => Some("image/avif"),
        _ if is_svg() => Some("image/svg+xml"),
        _ => None,
    }
}

/// Whether the name has a digest before its ending: at least eight hexadecimal digits.
fn never_changes(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut parts = name.rsplit('.').skip(1);
    parts
        .next()
        .is_some_and(|part| part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    const PNG: &[u8] = &[0x89, b'P', b'N', b'G', 0x0d, 0x0a];

    /// Asks for a path where the server has `body` under every name.
    fn ask(path: &str, body: &'static [u8]) -> Response {
        let node = Node::start()
            .with_grants(&["http:img.example"])
            .with_config("origin", "https://img.example/")
            .with_upstream("https://img.example", move |request| {
                let answer = fetch::Incoming::new(200).with_header("etag", "\"1\"");
                let answer = answer.with_header("set-cookie", "tracker=1");
                match request.header_value("if-none-match") {
                    Some("\"1\"") => fetch::Incoming::new(304).with_header("etag", "\"1\""),
                    _ => answer.with_header("content-type", "text/html").with_body(body),
                }
            });
        node.run(handle, Request::new("GET", path))
    }

    #[track_caller]
    fn check(path: &str, name: &str, want: &str) {
        let response = ask(path, PNG);
        assert_eq!(response.header_value(name), Some(want.as_bytes()));
    }

    #[test]
    fn an_image_gets_its_type_by_its_bytes_and_a_lifetime_by_its_name() {
        check("/logo.png", "content-type", "image/png");
        check("/logo.png", "etag", "\"1\"");
        let hour = "public, max-age=3600, stale-while-revalidate=86400";
        check("/logo.png", "cache-control", hour);
        check("/a/logo.deadbeef01.png", "cache-control", "public, max-age=31536000, immutable");
        check("/deadbeef01/logo.png", "cache-control", hour);
        assert_eq!(ask("/logo.png", PNG).header_value("set-cookie"), None);
    }

    #[test]
    fn what_is_no_image_is_refused_whatever_it_is_called() {
        assert_eq!(ask("/logo.png", b"<script>alert(1)</script>").status_code(), 415);
    }

    #[test]
    fn an_origin_that_is_not_granted_is_a_502_with_a_line_in_the_log() {
        let node = Node::start().with_config("origin", "https://other.example");
        assert_eq!(node.run(handle, Request::new("GET", "/a.png")).status_code(), 502);
        assert!(node.log()[0].contains("http:other.example is not granted"), "{:?}", node.log());
    }
}
