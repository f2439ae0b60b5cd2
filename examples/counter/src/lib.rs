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
