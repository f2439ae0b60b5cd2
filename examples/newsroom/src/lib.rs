//! Articles that caches keep for a day, and that are taken back on every node when one is published.
//!
//! `GET …/NAME` reads and `PUT …/NAME` publishes an article, the key `article:NAME` of the bucket
//! `default`. `POST …/purge` takes back what its lines name: `tag sport`, `url /news/today`, `prefix
//! https://example.com/news/`, `host example.com`, `all`; with `?soft` it is stale rather than gone.
//! Deploy it with `--cache --grant kv:default/article:=rw --grant purge:tag=article-*`, and `--grant
//! purge` for the rest. It lets everybody publish: put it behind something that asks who they are.

use atoll_guest::cache::{Purge, PurgeError};
use atoll_guest::{Request, Response, handler, kv};

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let name = request.path_segments().last().unwrap_or_default();
    match (request.method(), name.as_ref()) {
        ("POST", "purge") => Ok(purge(&request)),
        ("PUT", name) => publish(name, request.body()),
        _ => read(&name),
    }
}

fn read(name: &str) -> Result<Response, kv::Error> {
    let article = kv::open("default")?.get(&format!("article:{name}"))?;
    let answer = article.map_or_else(Response::not_found, Response::bytes);
    // For the node's cache alone: what browsers keep, no purge could take back. That there is no such
    // article is kept as well.
    let answer = answer.header("cache-control", "max-age=0, s-maxage=86400");
    Ok(answer.header("cache-tag", format!("article-{name}")))
}

fn publish(name: &str, text: &[u8]) -> Result<Response, kv::Error> {
    kv::open("default")?.set(&format!("article:{name}"), text)?;
    // After the write: who asks in between reads the new article.
    Ok(done(Purge::new().tag(format!("article-{name}")).send()))
}

fn purge(request: &Request) -> Response {
    let lines = String::from_utf8_lossy(request.body()).into_owned();
    let named = lines.lines().fold(Purge::new(), |purge, line| {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("tag", tag) => purge.tag(tag),
            ("url", url) => purge.url(url),
            ("prefix", prefix) => purge.prefix(prefix),
            ("host", host) => purge.host(host),
            ("all", _) => purge.all(),
            _ => purge,
        }
    });
    let is_soft = request.query("soft").is_some();
    done(if is_soft { named.soft() } else { named }.send())
}

fn done(purged: Result<(), PurgeError>) -> Response {
    match purged {
        Ok(()) => Response::new(204),
        Err(error @ PurgeError::Denied(_)) => Response::text(format!("{error}\n")).status(403),
        Err(error) => Response::text(format!("{error}\n")).status(503),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    fn put(node: &Node, text: &str) -> Response {
        node.run(handle, Request::new("PUT", "/news/today").with_body(text))
    }

    #[test]
    fn what_is_published_is_read_and_taken_back_from_caches() {
        let node = Node::start().with_grants(&["kv:default/article:=rw", "purge:tag=article-*"]);
        let read = || node.run(handle, Request::new("GET", "/news/today"));
        assert_eq!(read().status_code(), 404);
        assert_eq!(put(&node, "it rains").status_code(), 204);
        assert_eq!(read().body_text(), "it rains");
        assert_eq!(read().header_value("cache-tag"), Some(&b"article-today"[..]));
        assert_eq!(node.purged(), ["hard tag article-today"]);
    }

    #[test]
    fn who_may_not_purge_is_told_what_is_missing() {
        let node = Node::start().with_grants(&["kv:default/article:=rw", "purge:tag=other"]);
        let denied = put(&node, "it rains");
        assert_eq!(denied.status_code(), 403);
        let want = "purge: denied: purge:tag=article-today is not granted";
        assert!(denied.body_text().starts_with(want), "{}", denied.body_text());
    }

    #[test]
    fn editors_name_what_they_like() {
        let node = Node::start().with_grants(&["purge"]);
        let lines = "tag a\nurl /b\nprefix http://c.example/\nhost d.example\nall";
        let request = Request::new("POST", "/news/purge?soft").with_body(lines);
        assert_eq!(node.run(handle, request).status_code(), 204);
        assert_eq!(
            node.purged(),
            [
                "soft tag a",
                "soft url /b",
                "soft prefix http://c.example/",
                "soft host d.example",
                "soft all"
            ]
        );
    }
}
