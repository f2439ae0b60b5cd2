//! The smallest handler: says hello to whoever `?name=` says.

use atoll_guest::{Request, Response, handler};

#[handler]
fn handle(request: Request) -> Response {
    let name = request.query("name").unwrap_or_else(|| "world".to_owned());
    Response::text(format!("Hello, {name}!\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_by_name() {
        assert_eq!(handle(Request::new("GET", "/?name=Ada")).body_text(), "Hello, Ada!\n");
        assert_eq!(handle(Request::new("GET", "/")).body_text(), "Hello, world!\n");
    }
}
