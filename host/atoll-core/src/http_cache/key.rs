//! The name under which responses are stored: host, path and query of the request (RFC 9111
//! section 2). The method is not part of it: only responses to GET are stored.

use std::borrow::Cow;
use std::fmt::Write as _;

/// A URL in parts. The scheme is left out: the gateway serves one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Lower case, without a default port; empty for any host.
    pub host: String,
    /// Starts with `/`.
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
}

impl Url {
    /// Reads `http://host/path?query`; the scheme may be left out, and the host with it.
    pub fn parse(text: &str) -> Option<Url> {
        let text = text.split('#').next().unwrap_or_default();
        let rest = ["http://", "https://"].iter().find_map(|scheme| {
            let head = text.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
        });
        let rest = rest.unwrap_or(text);
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii()) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, after) = rest.split_at(end);
        let after = &*escaped(after);
        if host.contains('@') || !host.is_ascii() || (host.is_empty() && !after.starts_with('/')) {
            return None;
        }
        let (path, query) = match after.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (after, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Some(Url { host: host_of(host), path: path.to_owned(), query })
    }

    /// `host/path?query`.
    pub fn key(&self) -> String {
        match &self.query {
            Some(query) => format!("{}{}?{query}", self.host, self.path),
            None => format!("{}{}", self.host, self.path),
        }
    }
}

/// A host in lower case and without a default port.
pub fn host_of(authority: &str) -> String {
    without_port(authority).to_ascii_lowercase()
}

/// Whether this is how [`host_of`] writes it.
pub fn is_host_of(authority: &str) -> bool {
    without_port(authority).len() == authority.len()
        && !authority.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn without_port(authority: &str) -> &str {
    let host = authority.strip_suffix(":80").or(authority.strip_suffix(":443"));
    host.unwrap_or(authority)
}

/// A path or a query with what is not ASCII in it escaped, as RFC 3986 section 2.5 has it: one form
/// for what clients send as it is, and for what they escape.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}

/// What of a request's query counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRules {
    /// Names of parameters that do not count; one that ends in `*` is a prefix.
    pub ignore: Vec<String>,
    /// Whether the order of parameters does not count.
    pub sort: bool,
}

impl QueryRules {
    /// Whether all of a query counts as it is.
    pub fn is_plain(&self) -> bool {
        self.ignore.is_empty() && !self.sort
    }

    /// The key under which these rules store what is asked for by `key`.
    pub fn key_of(&self, key: &str) -> String {
        let (place, query) = match key.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (key, None),
        };
        let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let mut out = String::with_capacity(key.len());
        self.write_key(host, path, query, &mut out);
        out
    }

    /// Appends the key of a request to `out`.
    pub fn write_key(&self, host: &str, path: &str, query: Option<&str>, out: &mut String) {
        let start = out.len();
        out.push_str(without_port(host));
        out[start..].make_ascii_lowercase();
        out.push_str(path);
        let Some(query) = query else { return };
        // Where `;` stands, upstreams disagree on what the parameters are: one could hide in another.
        if self.is_plain() || query.contains(';') {
            out.push('?');
            out.push_str(query);
            return;
        }
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| !self.ignores(pair)).collect();
        if self.sort {
            // Stable: several values of one name keep their order.
            pairs.sort_by_key(|pair| pair.split('=').next().unwrap_or_default());
        }
        if !pairs.is_empty() {
            out.push('?');
            out.push_str(&pairs.join("&"));
        }
    }

    fn ignores(&self, pair: &str) -> bool {
        let name = pair.split('=').next().unwrap_or_default();
        self.ignore.iter().any(|rule| match rule.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == rule,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_2_host_path_and_query_make_the_key() {
        let check = |rules: &QueryRules, query: Option<&str>, want: &str| {
            let mut key = String::new();
            rules.write_key("Example.COM:80", "/A", query, &mut key);
            assert_eq!(key, want, "{query:?}");
        };
        let plain = QueryRules::default();
        check(&plain, None, "example.com/A");
        check(&plain, Some("b=1&a=2"), "example.com/A?b=1&a=2");
        check(&plain, Some(""), "example.com/A?");
        let rules = QueryRules { ignore: vec!["utm_*".to_owned(), "x".to_owned()], sort: true };
        check(&rules, Some("b=1&utm_source=q&a=2&x=1&xy=2&b=0"), "example.com/A?a=2&b=1&b=0&xy=2");
        check(&rules, Some("utm_x&x"), "example.com/A");
        let mut key = String::new();
        plain.write_key("B.test:443", "/", None, &mut key);
        assert_eq!(key, "b.test/");
        assert_eq!(rules.key_of("a.test/b?b=1&utm_x=3&a=2"), "a.test/b?a=2&b=1");
        assert_eq!(rules.key_of("/b?x"), "/b");
    }

    #[test]
    fn a_parameter_that_is_ignored_hides_none_that_an_upstream_may_see() {
        let rules = QueryRules { ignore: vec!["utm_*".to_owned()], sort: true };
        for key in ["a/?x=1&utm_s=1;x=2", "a/?b=1;a=2&a=1"] {
            assert_eq!(rules.key_of(key), key);
        }
    }

    #[test]
    fn a_host_has_one_form() {
        for (authority, want) in [("A.test", "a.test"), ("a.test:80", "a.test"), ("a:81", "a:81")] {
            assert_eq!(host_of(authority), want);
            assert_eq!(is_host_of(authority), authority == want, "{authority}");
        }
    }

    #[test]
    fn urls_are_read_with_and_without_scheme_and_host() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(Url::parse(text).map(|url| url.key()).as_deref(), want, "{text}");
        };
        check("http://Example.com:80/a?b#c", Some("example.com/a?b"));
        check("HTTPS://example.com:443", Some("example.com/"));
        check("example.com:8080/a", Some("example.com:8080/a"));
        check("/a?b", Some("/a?b"));
        check("http://host/utf\u{e9}?\u{e9}", Some("host/utf%C3%A9?%C3%A9"));
        check("http://host/utf%C3%A9", Some("host/utf%C3%A9"));
        check("http://h\u{e9}/", None);
        check("", None);
        check("?a", None);
        check("http://user@host/", None);
        check("http://host/a b", None);
    }
}
