//! Requests of its own: one, several at once, or as many as it can.

use std::time::Duration;

use atoll_guest::{Request, Response, cache, fetch, kv};

/// Asks the URL in the query, with the method and the time-out that it says, and passes on what came.
pub(crate) fn one(request: &Request) -> Response {
    let url = request.query("url").unwrap_or_default();
    let method = request.query("method").unwrap_or_else(|| "GET".to_owned());
    let outgoing = fetch::Outgoing::new(&method, &url).header("x-note", "from a handler");
    let outgoing = match request.query("ms").and_then(|ms| ms.parse().ok()) {
        Some(ms) => outgoing.timeout(Duration::from_millis(ms)),
        None => outgoing,
    };
    match outgoing.body(request.body()).send() {
        Ok(answer) => answer.into_response(),
        Err(error) => Response::text(format!("{error}\n")).status(502),
    }
}

/// Asks the URL in the query until it may not any more.
pub(crate) fn many(request: &Request) -> Response {
    let url = request.query("url").unwrap_or_default();
    for sent in 0.. {
        if let Err(error) = fetch::get(&url).send() {
            return Response::text(format!("{sent}, then {error}\n"));
        }
    }
    Response::text("no end\n")
}

/// Asks all URLs of the query at once, each `times`; a line for each answer.
pub(crate) fn together(request: &Request) -> Response {
    let urls = request.query_pairs().filter(|(name, _)| name == "url").map(|(_, url)| url);
    let times = request.query("times").and_then(|times| times.parse().ok()).unwrap_or(1);
    let urls: Vec<String> = urls.flat_map(|url| vec![url; times]).collect();
    let answers = fetch::all(urls.iter().map(|url| fetch::get(url)));
    let lines = answers.into_iter().map(|answer| match answer {
        Ok(answer) if answer.body().len() > 99 => format!("{} bytes\n", answer.body().len()),
        Ok(answer) => format!("{}\n", String::from_utf8_lossy(answer.body())),
        Err(error) => format!("{error}\n"),
    });
    Response::text(lines.collect::<String>())
}

/// Fills a key with what the URL in the query answers; a panic in its place if that fails.
pub(crate) fn fill(request: &Request) -> Response {
    let url = request.query("url").unwrap_or_default();
    let filled = cache::get_or_fill("default", "filled", Duration::from_secs(60), || {
        let answer = fetch::get(&url).send().unwrap_or_else(|error| panic!("{error}"));
        assert!(answer.is_success(), "{}", answer.status());
        Ok::<_, kv::Error>(answer.body().to_vec())
    });
    match filled {
        Ok(value) => Response::bytes(value),
        Err(error) => Response::text(format!("{error}\n")).status(500),
    }
}

/// Waits for itself.
pub(crate) fn fill_within_a_fill() -> Response {
    let fill = || Ok::<_, kv::Error>(Vec::new());
    let minute = Duration::from_secs(60);
    let filled = cache::get_or_fill("default", "fills", minute, || {
        cache::get_or_fill("default", "fills", minute, fill)
    });
    match filled {
        Ok(_) => Response::text("filled\n"),
        Err(error) => Response::text(format!("{error}\n")),
    }
}
