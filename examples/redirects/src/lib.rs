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
