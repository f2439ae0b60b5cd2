//! What a request with an unsafe method makes invalid (RFC 9111 section 4.4), and the groups that its
//! response names (RFC 9875).

use super::key;
use http::{HeaderMap, Method, StatusCode, header};

/// Whether a method may change what its target is (RFC 9110 section 9.2.1). Unknown ones may.
pub fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Whether the response to an unsafe request says that something may have changed: 2xx or 3xx.
pub fn is_success(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// The other URLs that are made invalid, as keys without a scheme: those that Location and
/// Content-Location name, where they are of the same origin as `host` (4.4).
///
/// `path` is the target's, for relative references.
pub fn targets(host: &str, path: &str, response: &HeaderMap) -> Vec<String> {
    let fields = [header::LOCATION, header::CONTENT_LOCATION];
    let values =
        fields.iter().filter_map(|name| std::str::from_utf8(response.get(name)?.as_bytes()).ok());
    values.filter_map(|reference| resolve(host, path, reference.trim())).collect()
}

/// A reference as `host/path?query`, if it is of this origin.
pub(super) fn resolve(host: &str, path: &str, reference: &str) -> Option<String> {
    let reference = &*key::escaped(reference.split('#').next().unwrap_or_default());
    let lowered = reference.to_ascii_lowercase();
    if lowered.starts_with("http://") || lowered.starts_with("https://") {
        let url = key::Url::parse(reference)?;
        return (url.host == key::host_of(host)).then(|| url.key());
    }
    if let Some(rest) = reference.strip_prefix("//") {
        let url = key::Url::parse(&format!("http://{rest}"))?;
        return (url.host == key::host_of(host)).then(|| url.key());
    }
    // Any other scheme is another origin.
    let first = reference.split(['/', '?']).next().unwrap_or_default();
    if first.contains(':') {
        return None;
    }
    let joined = match reference.as_bytes().first() {
        None => return None,
        Some(b'/') => reference.to_owned(),
        Some(b'?') => format!("{path}{reference}"),
        Some(_) => {
            let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
            format!("{folder}{reference}")
        }
    };
    let (path, query) = match joined.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (joined.as_str(), None),
    };
    Some(
        key::Url {
            host: key::host_of(host),
            path: without_dots(path),
            query: query.map(str::to_owned),
        }
        .key(),
    )
}

/// Removes `.` and `..` segments (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.pop();
                }
                if is_last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn rfc_9110_section_9_2_1_what_is_not_known_to_be_safe_is_not() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "get"] {
            assert!(is_unsafe(&Method::from_bytes(method.as_bytes()).expect("a method")));
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert!(!is_unsafe(&method));
        }
    }

    #[test]
    fn section_4_4_only_a_success_changes_something() {
        for (status, want) in [(200, true), (204, true), (303, true), (404, false), (500, false)] {
            assert_eq!(is_success(StatusCode::from_u16(status).expect("a status")), want);
        }
    }

    #[track_caller]
    fn check(name: &'static str, value: &str, want: Option<&str>) {
        let mut headers = HeaderMap::new();
        let value_of = HeaderValue::from_str(value).expect("a value");
        headers.insert(HeaderName::from_static(name), value_of);
        let found = targets("Example.com:80", "/a/b", &headers);
        assert_eq!(found.first().map(String::as_str), want, "{value}");
    }

    #[test]
    fn section_4_4_location_and_content_location_of_the_same_origin() {
        for name in ["location", "content-location"] {
            check(name, "/c/d?e=f", Some("example.com/c/d?e=f"));
            check(name, "c", Some("example.com/a/c"));
            check(name, "../c/./d", Some("example.com/c/d"));
            check(name, "http://EXAMPLE.com/c#f", Some("example.com/c"));
            check(name, "//example.com:80/c", Some("example.com/c"));
            check(name, "http://example.com", Some("example.com/"));
            check(name, "/utf\u{e9}", Some("example.com/utf%C3%A9"));
        }
    }

    #[test]
    fn section_4_4_nothing_of_another_origin() {
        for value in [
            "http://other.com/c",
            "http://example.com:81/c",
            "//other.com/c",
            "mailto:a@example.com",
            "javascript:x",
            "http://user@other.com/",
            "#f",
            "",
        ] {
            check("location", value, None);
        }
    }
}
