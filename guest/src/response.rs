//! What the handler answers: [`Response`], and [`IntoResponse`] for what can become one.

use std::fmt::Display;

use crate::bindings::atoll::edge::types;
use crate::log;

/// An HTTP response, whole. Methods take and return it, so that they chain:
///
/// ```
/// use atoll_guest::Response;
///
/// let response = Response::json(r#"{"ok":true}"#).status(201).header("cache-control", "no-store");
/// assert_eq!(response.status_code(), 201);
/// ```
#[derive(Debug)]
pub struct Response {
    raw: types::Response,
}

impl Response {
    /// Makes an answer with no body. `status` is 200 to 599.
    pub fn new(status: u16) -> Response {
        Response { raw: types::Response { status, headers: Vec::new(), body: Vec::new() } }
    }

    /// Answers 200 with text.
    pub fn text(body: impl Into<String>) -> Response {
        Response::new(200).header("content-type", "text/plain; charset=utf-8").body(body.into())
    }

    /// Answers 200 with a page.
    pub fn html(body: impl Into<String>) -> Response {
        Response::new(200).header("content-type", "text/html; charset=utf-8").body(body.into())
    }

    /// Answers 200 with text that is JSON already.
    pub fn json(body: impl Into<String>) -> Response {
        Response::new(200).header("content-type", "application/json").body(body.into())
    }

    /// Answers 200 with a value as JSON. One that has no form in JSON is logged, and answered with
    /// a 500.
    #[cfg(feature = "json")]
    pub fn json_of<T: serde::Serialize + ?Sized>(value: &T) -> Response {
        serde_json::to_string(value).map(Response::json).into_response()
    }

    /// Answers 200 with a value as MessagePack, its fields by name; otherwise as
    /// [`Response::json_of`].
    #[cfg(feature = "msgpack")]
    pub fn msgpack_of<T: serde::Serialize + ?Sized>(value: &T) -> Response {
        let bytes = rmp_serde::to_vec_named(value).map(Response::bytes);
        bytes.into_response().header("content-type", "application/msgpack")
    }

    /// Answers 200 with bytes.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Response {
        Response::new(200).header("content-type", "application/octet-stream").body(body)
    }

    /// Answers 302 and sends the client to `location`.
    pub fn redirect(location: &str) -> Response {
        Response::new(302).header("location", location)
    }

    /// Answers 404 with a line of text.
    pub fn not_found() -> Response {
        Response::text("not found\n").status(404)
    }

    /// Sets the status, 200 to 599.
    #[must_use]
    pub fn status(mut self, status: u16) -> Response {
        self.raw.status = status;
        self
    }

    /// Sets a header field, in place of any of this name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Response {
        self.raw.headers.retain(|field| !field.0.eq_ignore_ascii_case(name));
        self.append_header(name, value)
    }

    /// Adds a header field beside those of this name, for those that may be sent several times,
    /// such as `set-cookie`.
    #[must_use]
    pub fn append_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Response {
        self.raw.headers.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.raw.body = body.into();
        self
    }

    /// Returns the status, for unit tests.
    pub fn status_code(&self) -> u16 {
        self.raw.status
    }

    /// Returns all header fields, in the order of being set; names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Returns the first header field of this name, for unit tests.
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        let field = self.raw.headers.iter().find(|field| field.0.eq_ignore_ascii_case(name))?;
        Some(&field.1)
    }

    /// Returns the body, for unit tests.
    pub fn body_bytes(&self) -> &[u8] {
        &self.raw.body
    }

    /// Returns the body as text, for unit tests. Panics unless it is UTF-8.
    #[track_caller]
    pub fn body_text(&self) -> &str {
        str::from_utf8(&self.raw.body).expect("the body is text")
    }

    pub(crate) fn into_raw(self) -> types::Response {
        self.raw
    }
}

/// What a handler may return.
pub trait IntoResponse {
    /// Makes the answer.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

/// An error is written to the handler's log; the client gets a 500 that does not tell it.
impl<T: IntoResponse, E: Display> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) => {
                log::error(error.to_string());
                Response::text("internal error\n").status(500)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_header_replaces_it_and_appending_does_not() {
        let response = Response::text("body {}")
            .header("Content-Type", "text/css")
            .append_header("set-cookie", "a=1")
            .append_header("set-cookie", "b=2");
        let names: Vec<_> = response.raw.headers.iter().map(|field| field.0.as_str()).collect();
        assert_eq!(names, ["content-type", "set-cookie", "set-cookie"]);
        assert_eq!(response.header_value("content-type"), Some(b"text/css".as_slice()));
    }

    #[test]
    fn text_says_that_it_is_text() {
        let response = "hello".into_response();
        assert_eq!(response.status_code(), 200);
        assert_eq!(
            response.header_value("content-type"),
            Some(b"text/plain; charset=utf-8".as_slice())
        );
        assert_eq!(response.body_bytes(), b"hello");
    }
}
