//! Counts the requests for each name: `/counter/apples` answers `apples: 1`, then `apples: 2`.
//!
//! The counters are the keys `counter:NAME` of the bucket `default`: what counts here can be read
//! with `redis-cli get counter:apples`. Increments made on several nodes at once all count.

use atoll_guest::{Request, Response, handler, kv};

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let Some(name) = request.path_segments().last().filter(|name| !name.is_empty()) else {
        return Ok(Response::text("which counter? try /counter/apples\n").status(400));
    };
    let count = kv::open("default")?.increment(&format!("counter:{name}"), 1)?;
    Ok(Response::text(format!("{name}: {count}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    #[test]
    fn each_name_has_a_counter_of_its_own() {
        let node = Node::start();
        for (path, want) in
            [("/counter/a", "a: 1\n"), ("/counter/a", "a: 2\n"), ("/counter/b", "b: 1\n")]
        {
            assert_eq!(node.run(handle, Request::new("GET", path)).body_text(), want);
        }
        assert_eq!(node.bucket("default").get_text("counter:a"), Ok(Some("2".to_owned())));
    }

    #[test]
    fn a_request_without_a_name_counts_nothing() {
        let node = Node::start();
        assert_eq!(node.run(handle, Request::new("GET", "/counter/")).status_code(), 400);
        assert_eq!(node.bucket("default").keys("").count(), 0);
    }
}
