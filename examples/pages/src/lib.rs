//! A site from the store: the key `page:/about` of the bucket `default` is what `/about` answers.
//!
//! A page is published by writing its key through any door of the node, and is on every node a
//! moment later: `atoll kv set page:/about --file about.html`.

use atoll_guest::{Request, Response, handler, kv};

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let page = kv::open("default")?.get(&format!("page:{}", request.path()))?;
    Ok(match page {
        Some(html) => Response::bytes(html).header("content-type", "text/html; charset=utf-8"),
        None => Response::not_found(),
    })
}
