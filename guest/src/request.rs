//! What the handler is asked: [`Request`].

use std::borrow::Cow;
use std::str::Utf8Error;

use crate::bindings::atoll::edge::types;
use crate::percent;

/// An HTTP request, whole.
#[derive(Debug)]
pub struct Request {
    raw: types::Request,
}

impl Request {
    /// Makes a request, for unit tests: `target` is a path, perhaps with `?` and a query.
    pub fn new(method: &str, target: &str) -> Request {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Request {
            raw: types::Request {
                method: method.to_owned(),
                scheme: "http".to_owned(),
                path: path.to_owned(),
                query,
                authority: None,
                headers: Vec::new(),
                body: Vec::new(),
                client_address: None,
            },
        }
    }

    /// Adds a header field, for unit tests.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.raw.headers.push((name.to_ascii_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body, for unit tests.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.raw.body = body.into();
        self
    }

    /// Returns the method as sent, by custom in capitals: `GET`.
    pub fn method(&self) -> &str {
        &self.raw.method
    }

    /// Returns `http` or `https`, as the client spoke it as far as the node can tell.
    pub fn scheme(&self) -> &str {
        &self.raw.scheme
    }

    /// Returns the path as sent: it begins with `/` and is not decoded.
    pub fn path(&self) -> &str {
        &self.raw.path
    }

    /// Returns the parts of the path between its slashes, decoded: `/a/b%20c` has `a` and `b c`.
    pub fn path_segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.raw.path.split('/').skip(1).map(percent::decode)
    }

    /// Returns the host, perhaps with a port, that the client asked for.
    pub fn authority(&self) -> Option<&str> {
        self.raw.authority.as_deref()
    }

    /// Returns what stood after `?`, not decoded.
    pub fn query_string(&self) -> Option<&str> {
        self.raw.query.as_deref()
    }

    /// Returns the names and values of the query in their order, decoded.
    pub fn query_pairs(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.raw.query.as_deref().unwrap_or_default();
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent::decode_query(name), percent::decode_query(value))
        })
    }

    /// Returns the first value of this name in the query, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        self.query_pairs().find(|pair| pair.0 == name).map(|pair| pair.1)
    }

    /// Returns the first header field of this name, in any case, unless its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers().find(|field| field.0.eq_ignore_ascii_case(name))?.1;
        str::from_utf8(value).ok()
    }

    /// Returns all header fields in the order of arrival; names are in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.raw.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.raw.body
    }

    /// Returns the body as text. Fails unless it is UTF-8.
    pub fn body_text(&self) -> Result<&str, Utf8Error> {
        str::from_utf8(&self.raw.body)
    }

    /// Reads the body as JSON, whatever its `content-type` says. The error is fit for a 400.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Malformed> {
        serde_json::from_slice(&self.raw.body).map_err(|error| Malformed(error.to_string()))
    }

    /// Reads the body as MessagePack; otherwise as [`Request::json`].
    #[cfg(feature = "msgpack")]
    pub fn msgpack<T: serde::de::DeserializeOwned>(&self) -> Result<T, Malformed> {
        rmp_serde::from_slice(&self.raw.body).map_err(|error| Malformed(error.to_string()))
    }

    /// Returns the value of a cookie, as it was sent. Of several of this name, the first.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let fields = self.headers().filter(|field| field.0 == "cookie");
        let texts = fields.filter_map(|(_, value)| str::from_utf8(value).ok());
        let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            Some((name, value.trim_matches('"')))
        });
        pairs.find(|pair| pair.0 == name).map(|pair| pair.1)
    }

    /// Returns the body without copying it.
    pub fn into_body(self) -> Vec<u8> {
        self.raw.body
    }

    /// Returns the IP address of the client as far as the node can tell.
    pub fn client_address(&self) -> Option<&str> {
        self.raw.client_address.as_deref()
    }

    /// Sets the address of the client, for unit tests.
    #[must_use]
    pub fn with_client_address(mut self, address: &str) -> Request {
        self.raw.client_address = Some(address.to_owned());
        self
    }

    pub(crate) fn from_raw(raw: types::Request) -> Request {
        Request { raw }
    }
}

/// The body is not what the handler reads it as. Its text says where, and may be shown to the client.
#[cfg(any(feature = "json", feature = "msgpack"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

#[cfg(any(feature = "json", feature = "msgpack"))]
impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the body is malformed: {}", self.0)
    }
}

#[cfg(any(feature = "json", feature = "msgpack"))]
impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_query(target: &str, name: &str, want: Option<&str>) {
        assert_eq!(Request::new("GET", target).query(name).as_deref(), want);
    }

    #[test]
    fn the_query_is_split_before_it_is_decoded() {
        check_query("/?a=1&b=2", "b", Some("2"));
        check_query("/?a=1%262&b=2", "a", Some("1&2"));
        check_query("/?name=J%C3%B6rg+M", "name", Some("Jörg M"));
        check_query("/?flag&x=", "flag", Some(""));
        check_query("/?a=1&a=2", "a", Some("1"));
        check_query("/?", "a", None);
        check_query("/", "a", None);
    }

    #[test]
    fn segments_are_decoded_and_slashes_in_them_survive() {
        let request = Request::new("GET", "/counter/a%2Fb%20c?x=1");
        assert_eq!(request.path_segments().collect::<Vec<_>>(), ["counter", "a/b c"]);
    }

    #[test]
    fn header_names_have_no_case() {
        let request = Request::new("GET", "/").with_header("Accept", "text/html");
        assert_eq!(request.header("ACCEPT"), Some("text/html"));
        assert_eq!(request.header("accept-language"), None);
    }

    #[track_caller]
    fn check_cookie(cookies: &[&str], name: &str, want: Option<&str>) {
        let request = Request::new("GET", "/");
        let request = cookies.iter().fold(request, |request, c| request.with_header("Cookie", c));
        assert_eq!(request.cookie(name), want);
    }

    #[test]
    fn a_cookie_is_found_in_any_field_and_by_its_whole_name() {
        check_cookie(&["a=1; sid=x=y"], "sid", Some("x=y"));
        check_cookie(&["a=1", "sid=\"q\""], "sid", Some("q"));
        check_cookie(&["xsid=1; sidx=2;;"], "sid", None);
        check_cookie(&[], "sid", None);
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_body_that_is_no_json_says_where() {
        let request = Request::new("PUT", "/").with_body(r#"{"a":}"#);
        let error = request.json::<std::collections::BTreeMap<String, u8>>().unwrap_err();
        assert!(error.to_string().contains("line 1 column 6"), "{error}");
    }

    #[test]
    fn a_body_that_is_not_text_is_said_to_be_so() {
        assert_eq!(Request::new("PUT", "/").with_body("é").body_text(), Ok("é"));
        assert!(Request::new("PUT", "/").with_body([0xff]).body_text().is_err());
    }
}
