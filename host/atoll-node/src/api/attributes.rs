//! What travels with a value over HTTP: Content-Type, Atoll-Meta and Cache-Tag, in and out.

use crate::problem::Problem;
use atoll_core::entry::{Attributes, TagsError};
use atoll_core::limits::{CONTENT_TYPE_BYTES_MAX, META_BYTES_MAX};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::de::IgnoredAny;
use std::sync::Arc;

/// A JSON document of the writer's.
pub(super) const META: HeaderName = HeaderName::from_static("atoll-meta");
/// Surrogate keys, separated by commas.
pub(super) const TAGS: HeaderName = HeaderName::from_static("cache-tag");

/// Attributes as they are given, before they are checked.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    pub(super) content_type: Option<&'a str>,
    pub(super) meta: Option<&'a str>,
    pub(super) tags: Vec<&'a str>,
}

impl Given<'_> {
    /// Checks them. `None` where none is given.
    pub(super) fn check(self) -> Result<Option<Arc<Attributes>>, Problem> {
        let mut attributes = Attributes::default();
        if let Some(text) = self.content_type {
            attributes.content_type = Some(check_content_type(text)?);
        }
        if let Some(text) = self.meta {
            attributes.meta = Some(check_meta(text)?);
        }
        attributes.tags = Attributes::check_tags(self.tags).map_err(bad_tags)?;
        Ok((!attributes.is_empty()).then(|| Arc::new(attributes)))
    }
}

/// The attributes that a request's headers give to its value.
pub(super) fn of_headers(headers: &HeaderMap) -> Result<Option<Arc<Attributes>>, Problem> {
    let mut tags = Vec::new();
    for line in headers.get_all(TAGS) {
        let line = line.to_str().map_err(|_| bad_tags(TagsError))?;
        tags.extend(line.split(',').map(str::trim).filter(|tag| !tag.is_empty()));
    }
    let content_type = single(headers, &header::CONTENT_TYPE)?;
    Given { content_type, meta: single(headers, &META)?, tags }.check()
}

/// Adds the headers that tell of a value's attributes.
pub(super) fn into_headers(attributes: Option<&Attributes>, headers: &mut HeaderMap) {
    // Another door may have stored text that HTTP cannot carry: it is left out.
    let mut add = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    if let Some(meta) = attributes.and_then(|attributes| attributes.meta.as_deref()) {
        add(META, meta);
    }
    let tags = attributes.map(|attributes| attributes.tags.join(", ")).unwrap_or_default();
    if !tags.is_empty() {
        add(TAGS, &tags);
    }
    add(header::CONTENT_TYPE, "application/octet-stream");
    if let Some(stored) = attributes.and_then(|attributes| attributes.content_type.as_deref()) {
        add(header::CONTENT_TYPE, stored);
    }
}

/// The text of a header that may stand once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let text = std::str::from_utf8(line.as_bytes());
    match (text, lines.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => {
            let detail = format!("the header {name} is one line of UTF-8");
            Err(Problem::bad_request("bad-header", detail))
        }
    }
}

fn check_content_type(text: &str) -> Result<Box<str>, Problem> {
    let text = text.trim();
    let fits = (1..=CONTENT_TYPE_BYTES_MAX).contains(&text.len());
    if fits && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(text.into());
    }
    let detail = format!("a content type has 1 to {CONTENT_TYPE_BYTES_MAX} ASCII characters");
    Err(Problem::bad_request("bad-content-type", detail))
}

fn check_meta(text: &str) -> Result<Box<str>, Problem> {
    let text = text.trim();
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    // It has to fit in a header again.
    if is_json && text.len() <= META_BYTES_MAX && HeaderValue::from_str(text).is_ok() {
        return Ok(text.into());
    }
    let detail = format!("metadata is one line of JSON of at most {META_BYTES_MAX} bytes");
    Err(Problem::bad_request("bad-meta", detail))
}

fn bad_tags(error: TagsError) -> Problem {
    Problem::bad_request("bad-tags", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    #[track_caller]
    fn check(given: &[(&str, &str)], want: &[(&str, &str)]) {
        let attributes = of_headers(&headers(given)).expect("should be accepted");
        let mut got = HeaderMap::new();
        into_headers(attributes.as_deref(), &mut got);
        assert_eq!(got, headers(want));
    }

    #[test]
    fn what_is_given_comes_back() {
        check(&[], &[("content-type", "application/octet-stream")]);
        check(&[("content-type", "text/plain; a=b")], &[("content-type", "text/plain; a=b")]);
        check(
            &[("atoll-meta", r#" {"a":[1,"ü"]} "#), ("cache-tag", "a, b,,a"), ("cache-tag", "c")],
            &[
                ("content-type", "application/octet-stream"),
                ("atoll-meta", r#"{"a":[1,"ü"]}"#),
                ("cache-tag", "a, b, c"),
            ],
        );
        let eight = "1,2,3,4,5,6,7,8";
        check(
            &[("cache-tag", eight)],
            &[
                ("content-type", "application/octet-stream"),
                ("cache-tag", "1, 2, 3, 4, 5, 6, 7, 8"),
            ],
        );
    }

    #[track_caller]
    fn check_refused(given: &[(&str, &str)], want: &str) {
        let problem = of_headers(&headers(given)).expect_err("should be refused");
        assert_eq!(problem.code(), want);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check_refused(&[("content-type", "")], "bad-content-type");
        check_refused(&[("content-type", &"a".repeat(257))], "bad-content-type");
        check_refused(&[("content-type", "text/ü")], "bad-content-type");
        check_refused(&[("content-type", "a/b"), ("content-type", "a/b")], "bad-header");
        check_refused(&[("atoll-meta", "{")], "bad-meta");
        check_refused(&[("atoll-meta", "")], "bad-meta");
        check_refused(&[("atoll-meta", &format!("\"{}\"", "a".repeat(2_047)))], "bad-meta");
        check_refused(&[("cache-tag", "1,2,3,4,5,6,7,8,9")], "bad-tags");
        check_refused(&[("cache-tag", "a b")], "bad-tags");
        check_refused(&[("cache-tag", &"a".repeat(257))], "bad-tags");
    }

    #[test]
    fn text_that_http_cannot_carry_is_left_out() {
        let attributes = Attributes {
            content_type: Some("a\nb".into()),
            meta: Some("\r\n".into()),
            tags: ["\0".into()].into(),
        };
        let mut got = HeaderMap::new();
        into_headers(Some(&attributes), &mut got);
        assert_eq!(got, headers(&[("content-type", "application/octet-stream")]));
    }
}
