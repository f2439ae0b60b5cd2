//! In front of an API: answers for ten seconds from the store, and with the last good answer while the
//! API fails, is slow or cannot be reached, for up to a day.
//!
//! `--config origin=https://api.example.com --grant http:api.example.com --grant kv:default=rw`. The
//! answers are the keys `api:TARGET` of the bucket `default`, in MessagePack; what one node has
//! fetched, all can answer with. Only `GET`, and nothing that is meant for one client: requests with
//! `authorization` or `cookie` go through and are not kept, nor is what says `private` or `no-store`.

use std::time::Duration;

use atoll_guest::kv::{self, SetOptions};
use atoll_guest::{Request, Response, clock, config, fetch, handler, log};
use serde::{Deserialize, Serialize};

const FRESH_MS: u64 = 10_000;
const KEPT: Duration = Duration::from_secs(86_400);
/// How long the API may take before the last answer is better than none.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an API that has failed is left in peace.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Kept {
    fetched_ms: u64,
    content_type: String,
    body: Vec<u8>,
}

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    if request.method() != "GET" {
        return Ok(Response::new(405).header("allow", "GET"));
    }
    let target = match request.query_string() {
        Some(query) => format!("{}?{query}", request.path()),
        None => request.path().to_owned(),
    };
    if request.header("authorization").is_some() || request.header("cookie").is_some() {
        return Ok(pass(&request, &target));
    }
    let bucket = kv::open("default")?;
    let key = format!("api:{target}");
    let answers = bucket.msgpack::<Kept>();
    let kept = answers.get(&key)?;
    if let Some(kept) = kept.as_ref().filter(|kept| age_ms(kept) < FRESH_MS) {
        return Ok(show(kept, "hit"));
    }
    // Where there is something to show, an API that has just failed is not asked again by everyone.
    if let Some(kept) = &kept
        && bucket.exists("api-pause")?
    {
        return Ok(show(kept, "stale"));
    }
    match ask(&target) {
        Ok(answer) if answer.is_success() && may_be_kept(&answer) => {
            let content_type = answer.header("content-type").unwrap_or_default().to_owned();
            let body = answer.body().to_vec();
            let kept = Kept { fetched_ms: clock::now_ms(), content_type, body };
            answers.set_with(&key, &kept, SetOptions::new().ttl(KEPT))?;
            Ok(show(&kept, "fetched"))
        }
        Ok(answer) if answer.status() < 500 => Ok(answer.into_response()),
        failed => {
            let why = failed.map_or_else(|error| error.to_string(), |a| a.status().to_string());
            log::warn(format!("{target}: {why}"));
            bucket.set_with("api-pause", "", SetOptions::new().ttl(PAUSE))?;
            Ok(match &kept {
                Some(kept) => show(kept, "stale"),
                None => Response::text("the API does not answer\n").status(502),
            })
        }
    }
}

fn ask(target: &str) -> Result<fetch::Incoming, fetch::Error> {
    fetch::get(&url(target)).timeout(PATIENCE).send()
}

fn url(target: &str) -> String {
    let origin = config::get("origin").unwrap_or_default();
    format!("{}{target}", origin.trim_end_matches('/'))
}

/// For one client alone: nothing is kept, and nothing of the store shown.
fn pass(request: &Request, target: &str) -> Response {
    let fields = request.headers().filter(|(name, _)| *name != "host");
    let outgoing = fields
        .fold(fetch::get(&url(target)), |outgoing, (name, value)| outgoing.header(name, value));
    match outgoing.send() {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            log::warn(error.to_string());
            Response::text("the API does not answer\n").status(502)
        }
    }
}

fn may_be_kept(answer: &fetch::Incoming) -> bool {
    let control = answer.header("cache-control").unwrap_or_default().to_ascii_lowercase();
    answer.header("set-cookie").is_none()
        && !control.contains("private")
        && !control.contains("no-store")
}

fn age_ms(kept: &Kept) -> u64 {
    clock::now_ms().saturating_sub(kept.fetched_ms)
}

fn show(kept: &Kept, how: &str) -> Response {
    Response::new(200)
        .header("content-type", &kept.content_type)
        .header("age", (age_ms(kept) / 1_000).to_string())
        .header("x-answered", how)
        .body(kept.body.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;
    use std::cell::Cell;
    use std::rc::Rc;

    /// An API that counts what it is asked, and answers with a status that the test sets.
    struct Api {
        node: Node,
        status: Rc<Cell<u16>>,
        asked: Rc<Cell<u32>>,
    }

    impl Api {
        fn start() -> Api {
            let (status, asked) = (Rc::new(Cell::new(200)), Rc::new(Cell::new(0)));
            let (answers, counts) = (Rc::clone(&status), Rc::clone(&asked));
            let node = Node::start()
                .with_grants(&["kv:default=rw", "http:api.example"])
                .with_config("origin", "https://api.example")
                .with_upstream("https://api.example", move |request| {
                    counts.set(counts.get() + 1);
                    let answer = fetch::Incoming::new(answers.get());
                    let answer = answer.with_body(format!("{} {}", request.url(), counts.get()));
                    match request.url().contains("private") {
                        true => answer.with_header("cache-control", "private"),
                        false => answer.with_header("content-type", "text/plain"),
                    }
                });
            Api { node, status, asked }
        }

        #[track_caller]
        fn check(&self, how: &str, asked: u32) {
            let response = self.node.run(handle, Request::new("GET", "/a?b"));
            assert_eq!(response.status_code(), 200, "{}", response.body_text());
            assert_eq!(response.header_value("x-answered"), Some(how.as_bytes()));
            assert!(response.body_text().starts_with("https://api.example/a?b "));
            assert_eq!(self.asked.get(), asked);
        }
    }

    #[test]
    fn the_last_good_answer_is_shown_while_the_api_fails() {
        let api = Api::start();
        api.check("fetched", 1);
        api.check("hit", 1);
        api.node.advance(Duration::from_millis(FRESH_MS));
        api.status.set(503);
        api.check("stale", 2);
        api.check("stale", 2);
        api.node.advance(PAUSE);
        api.check("stale", 3);
        api.node.advance(PAUSE);
        api.status.set(200);
        api.check("fetched", 4);
        assert_eq!(api.node.log(), ["warn /a?b: 503", "warn /a?b: 503"]);
    }

    #[test]
    fn after_a_day_nothing_is_left_to_show() {
        let api = Api::start();
        api.check("fetched", 1);
        api.status.set(500);
        api.node.advance(KEPT);
        let response = api.node.run(handle, Request::new("GET", "/a?b"));
        assert_eq!(response.status_code(), 502);
    }

    #[test]
    fn what_is_for_one_client_is_not_kept() {
        let api = Api::start();
        let get = |request| api.node.run(handle, request).status_code();
        assert_eq!(get(Request::new("GET", "/private")), 200);
        assert_eq!(get(Request::new("GET", "/x").with_header("cookie", "sid=1")), 200);
        assert_eq!(api.node.bucket("default").keys("").count(), 0);
        api.status.set(404);
        assert_eq!(get(Request::new("GET", "/none")), 404, "that is the API's answer");
    }
}
