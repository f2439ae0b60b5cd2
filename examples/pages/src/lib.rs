//! A site from the store: the key `page:/about` of the bucket `default` is what `/about` answers.
//!
//! A page is published by writing its key through any door of the node, and is on every node a
//! moment later: `atoll kv set page:/about --file about.html`. Deployed with `--cache`, a page is
//! made once, and again when its key is written.

use atoll_guest::{Request, Response, handler, kv};

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let key = format!("page:{}", request.path());
    let page = match kv::open("default")?.get(&key)? {
        Some(html) => Response::bytes(html).header("content-type", "text/html; charset=utf-8"),
        None => Response::not_found(),
    };
    // For the node's cache alone: what browsers keep, no write could take back.
    let page = page.header("cache-control", "max-age=0, s-maxage=3600");
    Ok(page.made_from("default", &key))
}
