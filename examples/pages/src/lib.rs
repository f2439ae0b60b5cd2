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

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    #[test]
    fn a_page_is_there_once_its_key_is() {
        // All that it needs: `--grant kv:default/page:=r`.
        let node = Node::start().with_grants(&["kv:default/page:=r"]);
        let about = || node.run(handle, Request::new("GET", "/about"));
        assert_eq!(about().status_code(), 404);
        node.bucket("default").set("page:/about", "<h1>About</h1>").expect("it can be written");
        assert_eq!(about().body_text(), "<h1>About</h1>");
        assert_eq!(about().header_value("content-type"), Some(&b"text/html; charset=utf-8"[..]));
    }
}
