//! The smallest handler: says hello to whoever `?name=` says.

use atoll_guest::{Request, Response, handler};

#[handler]
fn handle(request: Request) -> Response {
    let name = request.query("name").unwrap_or_else(|| "world".to_owned());
    Response::text(format!("Hello, {name}!\n"))
}
