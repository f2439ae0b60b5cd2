//! Names that a response gives itself, by which it can be purged: Surrogate-Key, Cache-Tag and the
//! Cache-Groups of RFC 9875, in one index.

use crate::limits::{CACHE_TAG_BYTES_MAX, CACHE_TAG_COUNT_MAX};
use http::{HeaderMap, HeaderName};
use sfv::{List, ListEntry, Parser};

/// Separated by spaces.
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Separated by commas.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// A list of strings, each a group of its origin (RFC 9875 section 2).
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// Groups that the response to an unsafe request makes invalid (RFC 9875 section 3).
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The tags of a response, sorted and distinct. Those that are too long, and those behind the
/// largest number, are left out.
pub fn of(headers: &HeaderMap) -> Box<[Box<str>]> {
    let mut tags = Vec::new();
    let mut add = |tag: &str| {
        let fits = !tag.is_empty() && tag.len() <= CACHE_TAG_BYTES_MAX;
        if fits && tags.len() < CACHE_TAG_COUNT_MAX {
            tags.push(Box::from(tag));
        }
    };
    let lines = |name| headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines(SURROGATE_KEY).flat_map(str::split_whitespace).for_each(&mut add);
    lines(CACHE_TAG).flat_map(|line| line.split(',')).map(str::trim).for_each(&mut add);
    strings(headers, &CACHE_GROUPS).iter().for_each(|group| add(group));
    tags.sort_unstable();
    tags.dedup();
    tags.into()
}

/// The groups that a response to an unsafe request makes invalid, within its origin.
pub fn invalidated(headers: &HeaderMap) -> Vec<String> {
    strings(headers, &CACHE_GROUP_INVALIDATION)
}

/// A field that is a list of strings; none where it is not one (RFC 9875 section 2).
fn strings(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    if !headers.contains_key(name) {
        return Vec::new();
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let Ok(list) = Parser::new(&lines.join(&b", "[..])).parse::<List>() else { return Vec::new() };
    let strings: Option<Vec<String>> = list
        .iter()
        .map(|entry| match entry {
            ListEntry::Item(item) => item.bare_item.as_string().map(|text| text.as_str().into()),
            ListEntry::InnerList(_) => None,
        })
        .collect();
    let mut strings = strings.unwrap_or_default();
    strings.truncate(CACHE_TAG_COUNT_MAX);
    strings
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;
    use http::HeaderValue;

    #[test]
    fn three_fields_fill_one_index() {
        let found = of(&headers(&[
            ("surrogate-key", "b  a"),
            ("surrogate-key", "c"),
            ("cache-tag", "d, a,, e f"),
            ("cache-groups", "\"g\", \"h, i\""),
        ]));
        assert_eq!(*found, ["a", "b", "c", "d", "e f", "g", "h, i"].map(Box::from));
    }

    #[test]
    fn rfc_9875_section_2_what_is_no_list_of_strings_names_no_group() {
        for bad in ["scripts", "\"a\", 1", "(\"a\")", "\"a", ""] {
            assert!(of(&headers(&[("cache-groups", bad)])).is_empty(), "{bad}");
        }
        let found = invalidated(&headers(&[("cache-group-invalidation", "\"a\";x, \"b\"")]));
        assert_eq!(found, ["a", "b"]);
    }

    #[test]
    fn tags_that_are_too_long_or_too_many_are_left_out() {
        let mut headers = HeaderMap::new();
        let long = "x".repeat(CACHE_TAG_BYTES_MAX + 1);
        headers.insert(SURROGATE_KEY, HeaderValue::from_str(&long).expect("a value"));
        assert!(of(&headers).is_empty());
        let many: Vec<String> = (0..CACHE_TAG_COUNT_MAX + 9).map(|tag| tag.to_string()).collect();
        headers.insert(SURROGATE_KEY, HeaderValue::from_str(&many.join(" ")).expect("a value"));
        assert_eq!(of(&headers).len(), CACHE_TAG_COUNT_MAX);
    }
}
