//! An A/B test: each visitor sees one of two variants, always the same, and what they lead to is
//! counted on all nodes together.
//!
//! `GET /` shows the page and remembers the variant in a cookie, `POST /buy` counts a success for it,
//! `GET /results` tells the counts. The share of the visitors that see B is the key `ab:share` of the
//! bucket `default`, in per cent (50 where there is none): `redis-cli set ab:share 10` changes it on
//! every node, with nothing to deploy.

use atoll_guest::{Request, Response, handler, kv, random};
use serde::Serialize;

const COOKIE: &str = "variant";
const A: &str = "a";
const B: &str = "b";

#[derive(Serialize)]
struct Count {
    variant: &'static str,
    shown: i64,
    bought: i64,
}

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let bucket = kv::open("default")?;
    let last = request.path_segments().last().unwrap_or_default();
    match (request.method(), last.as_ref()) {
        ("POST", "buy") => buy(&bucket, &request),
        ("GET", "results") => Ok(Response::json_of(&[count(&bucket, A)?, count(&bucket, B)?])),
        ("GET", _) => show(&bucket, &request),
        _ => Ok(Response::not_found()),
    }
}

fn show(bucket: &kv::Bucket, request: &Request) -> Result<Response, kv::Error> {
    let known = variant(request);
    let variant = match known {
        Some(variant) => variant,
        None => draw(bucket)?,
    };
    let page = match variant {
        B => "<button>Buy now, ships today</button>",
        _ => "<button>Buy</button>",
    };
    // The answer depends on who asks: nobody may keep it for another.
    let response = Response::html(page).header("cache-control", "private, no-store");
    if known.is_some() {
        return Ok(response);
    }
    bucket.increment(&format!("ab:shown:{variant}"), 1)?;
    let cookie = format!("{COOKIE}={variant}; Path=/; Max-Age=2592000; SameSite=Lax");
    Ok(response.header("set-cookie", cookie))
}

fn buy(bucket: &kv::Bucket, request: &Request) -> Result<Response, kv::Error> {
    // Who was never shown a variant says nothing about them.
    if let Some(variant) = variant(request) {
        bucket.increment(&format!("ab:bought:{variant}"), 1)?;
    }
    Ok(Response::new(204))
}

/// The variant that this visitor sees already.
fn variant(request: &Request) -> Option<&'static str> {
    match request.cookie(COOKIE)? {
        "a" => Some(A),
        "b" => Some(B),
        _ => None,
    }
}

fn draw(bucket: &kv::Bucket) -> Result<&'static str, kv::Error> {
    let share = bucket.get_text("ab:share")?.and_then(|text| text.parse::<u64>().ok());
    Ok(if random::number() % 100 < share.unwrap_or(50) { B } else { A })
}

fn count(bucket: &kv::Bucket, variant: &'static str) -> Result<Count, kv::Error> {
    let number = |what: &str| -> Result<i64, kv::Error> {
        let text = bucket.get_text(&format!("ab:{what}:{variant}"))?;
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    };
    Ok(Count { variant, shown: number("shown")?, bought: number("bought")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    fn visit(node: &Node) -> Response {
        node.run(handle, Request::new("GET", "/"))
    }

    #[test]
    fn the_share_in_the_store_decides_and_is_kept_in_the_cookie() {
        let node = Node::start();
        node.bucket("default").set("ab:share", "100").expect("it can be written");
        let first = visit(&node);
        let cookie = first.header_value("set-cookie").expect("a cookie");
        assert!(cookie.starts_with(b"variant=b;"));
        node.bucket("default").set("ab:share", "0").expect("it can be written");
        let again = Request::new("GET", "/").with_header("cookie", "variant=b");
        let again = node.run(handle, again);
        assert_eq!(again.body_text(), first.body_text(), "a visitor keeps the variant");
        assert_eq!(again.header_value("set-cookie"), None);
        assert!(visit(&node).header_value("set-cookie").expect("one").starts_with(b"variant=a;"));
    }

    #[test]
    fn about_half_of_the_visitors_see_each_without_a_share() {
        let node = Node::start();
        let seen = (0..400).filter(|_| visit(&node).body_text().contains("today")).count();
        assert!((160..=240).contains(&seen), "{seen} of 400");
    }

    #[test]
    fn results_count_visitors_and_what_they_did() {
        let node = Node::start();
        node.bucket("default").set("ab:share", "100").expect("it can be written");
        visit(&node);
        visit(&node);
        node.run(handle, Request::new("POST", "/buy").with_header("cookie", "variant=b"));
        node.run(handle, Request::new("POST", "/buy"));
        let results = node.run(handle, Request::new("GET", "/results"));
        let want = r#"[{"variant":"a","shown":0,"bought":0},{"variant":"b","shown":2,"bought":1}]"#;
        assert_eq!(results.body_text(), want);
    }
}
