//! A filter around the cache of a route: who asks for what, where it comes from, and how long it is
//! kept.
//!
//! Requests of tools that scan for weaknesses are answered at once, by a table in the store that
//! anyone can edit (`redis-cli set blocked:/wp-admin 1`). Those with the cookie `beta` go to the upstream
//! `beta` and have pages of their own. Pages that are not found are kept for a minute, pages of a shop
//! have the tag `shop`, and whatever sets a cookie is not kept.

use atoll_guest::filter::{Filter, RequestHead, ResponseHead, filter};
use atoll_guest::{Response, kv};

struct Edge;

#[filter]
impl Filter for Edge {
    fn on_request(request: &mut RequestHead) -> Option<Response> {
        let key = format!("blocked:{}", request.path());
        let is_blocked = kv::open("default").and_then(|bucket| bucket.exists(&key));
        if is_blocked.unwrap_or_default() {
            return Some(Response::text("not here\n").status(403));
        }
        let is_beta = request.header("cookie").is_some_and(|cookie| cookie.contains("beta=1"));
        if is_beta {
            request.use_upstream("beta");
        }
        // No page depends on any other cookie.
        request.remove_header("cookie");
        None
    }

    fn cache_key(request: &RequestHead) -> Vec<String> {
        let is_mobile = request.header("user-agent").is_some_and(|agent| agent.contains("Mobile"));
        if is_mobile { vec!["mobile".to_owned()] } else { Vec::new() }
    }

    fn on_response(request: &RequestHead, response: &mut ResponseHead) {
        if response.header("set-cookie").is_some() {
            response.never_store();
        } else if response.status() == 404 {
            response.fresh_for_s(60);
        }
        if request.path().starts_with("/shop/") {
            response.tag("shop");
        }
        response.remove_header("server");
    }

    fn on_deliver(request: &RequestHead, response: &mut ResponseHead) {
        if let Some(id) = request.header("x-request-id") {
            response.set_header("x-request-id", id);
        }
    }
}
