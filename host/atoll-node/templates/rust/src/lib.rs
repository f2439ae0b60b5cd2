//! Counts the visits of each page, on every node together.

use atoll_guest::{Request, Response, handler, kv, log};
use serde::Serialize;

#[derive(Serialize)]
struct Visits<'a> {
    page: &'a str,
    visits: i64,
}

#[handler]
fn handle(request: Request) -> Result<Response, kv::Error> {
    let page = request.path();
    let visits = kv::open("default")?.increment(&format!("visits:{page}"), 1)?;
    log::info(format!("visit {visits} of {page}"));
    Ok(Response::json_of(&Visits { page, visits }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_guest::testing::Node;

    #[test]
    fn each_page_has_a_counter_of_its_own() {
        let node = Node::start();
        let body = |path| node.run(handle, Request::new("GET", path)).body_text().to_owned();
        assert_eq!(body("/a"), r#"{"page":"/a","visits":1}"#);
        assert_eq!(body("/a"), r#"{"page":"/a","visits":2}"#);
        assert_eq!(body("/b"), r#"{"page":"/b","visits":1}"#);
        assert_eq!(node.log()[0], "info visit 1 of /a");
    }
}
