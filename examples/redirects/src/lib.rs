//! Redirects by a table in the store: the key `redirect:/old` of the bucket `default` holds where
//! `/old` has gone.
//!
//! The table is changed with any door of the node (`redis-cli set redirect:/docs
//! https://docs.example.com/`) and holds on every node a moment later, with nothing to deploy. The
//! query of the request is passed on.

use atoll_guest::{Request, Response, handler, kv};

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let table = kv::open("default")?;
    let Some(target) = table.get_text(&format!("redirect:{}", request.path()))? else {
        return Ok(Response::not_found());
    };
    let location = match request.query_string() {
        Some(query) if !target.contains('?') => format!("{target}?{query}"),
        _ => target,
    };
    // Kept for a minute only, so that a change of the table is soon seen by those who have been
    // here.
    Ok(Response::redirect(&location).header("cache-control", "public, max-age=60"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    #[track_caller]
    fn check(target: &str, request: &str, want: &str) {
        let node = Node::start().with_grants(&["kv:default/redirect:=r"]);
        node.bucket("default").set("redirect:/old", target).expect("it can be written");
        let response = node.run(handle, Request::new("GET", request));
        assert_eq!(response.header_value("location"), Some(want.as_bytes()));
    }

    #[test]
    fn the_query_is_passed_on_unless_the_target_has_one() {
        check("https://a.example/new", "/old", "https://a.example/new");
        check("https://a.example/new", "/old?page=2", "https://a.example/new?page=2");
        check("https://a.example/?id=1", "/old?page=2", "https://a.example/?id=1");
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        assert_eq!(Node::start().run(handle, Request::new("GET", "/new")).status_code(), 404);
    }
}
