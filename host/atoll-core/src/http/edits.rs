//! Changes that a route makes to the messages that go through it: fields, cookies, paths.

use crate::http_cache::key::escaped;
use crate::http_cache::validation::CONDITIONS;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

/// Fields that no route changes: they frame a message, concern one connection, or tell a node that a
/// request has come back to it.
const UNTOUCHABLE: [HeaderName; 13] = [
    header::AGE,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("cdn-loop"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether a route may change this field.
pub fn may_change(name: &HeaderName) -> bool {
    !UNTOUCHABLE.contains(name)
}

/// What is done to the fields of a message: first `remove`, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Fields that go, all of their lines.
    pub remove: Vec<HeaderName>,
    /// Fields that have this one line afterwards.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Lines that are added to those there are, where none says the same.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl FieldEdits {
    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Does all of it. Done twice, as by two nodes that a request goes through, it is the same.
    pub fn apply(&self, headers: &mut HeaderMap) {
        self.replace(headers, |_| true);
        for (name, value) in &self.add {
            if !headers.get_all(name).iter().any(|line| line == value) {
                headers.append(name.clone(), value.clone());
            }
        }
    }

    /// Does once more what may be done twice to a request that a cache has changed since. The
    /// conditions and the range are the cache's own by now.
    pub fn apply_again(&self, headers: &mut HeaderMap) {
        let is_of_the_cache =
            |name: &HeaderName| CONDITIONS.contains(name) || *name == header::RANGE;
        self.replace(headers, |name| !is_of_the_cache(name));
    }

    fn replace(&self, headers: &mut HeaderMap, concerns: impl Fn(&HeaderName) -> bool) {
        for name in self.remove.iter().filter(|name| concerns(name)) {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().filter(|(name, _)| concerns(name)) {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Does it to the head of a response.
    ///
    /// A 304 changes fields of a stored response that has been through this already: a line is added
    /// only where the 304 brings others of its field, which replace those that are stored.
    pub fn apply_to_response(&self, status: StatusCode, headers: &mut HeaderMap) {
        if status != StatusCode::NOT_MODIFIED {
            return self.apply(headers);
        }
        let brought: Vec<_> =
            self.add.iter().filter(|(name, _)| headers.contains_key(name)).cloned().collect();
        self.replace(headers, |_| true);
        for (name, value) in brought {
            headers.append(name, value);
        }
    }
}

/// Names of cookies; one that ends in `*` is a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieNames(pub Vec<String>);

impl CookieNames {
    fn names(&self, name: &[u8]) -> bool {
        self.0.iter().any(|rule| match rule.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix.as_bytes()),
            None => name == rule.as_bytes(),
        })
    }

    /// Takes these cookies out of a request. One without any of them stays as it is, byte for byte.
    pub fn drop_from(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() || !headers.contains_key(header::COOKIE) {
            return;
        }
        let mut kept = Vec::new();
        let mut has_dropped = false;
        for line in headers.get_all(header::COOKIE) {
            for pair in line.as_bytes().split(|&byte| byte == b';').map(<[u8]>::trim_ascii) {
                let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
                let is_dropped = self.names(name.trim_ascii());
                has_dropped |= is_dropped;
                if !is_dropped && !pair.is_empty() {
                    kept.push(pair.to_vec());
                }
            }
        }
        if !has_dropped {
            return;
        }
        headers.remove(header::COOKIE);
        // Made of bytes that were in a value before: it is one again.
        if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
            && !kept.is_empty()
        {
            headers.insert(header::COOKIE, value);
        }
    }
}

/// What path an upstream is asked for in place of the one that the client wrote. The query stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PathRewrite {
    /// The same.
    #[default]
    None,
    /// `/shop` goes from the front, and `/v2` comes there; either may be empty. What does not begin
    /// with the first goes on as it is, with the second before it.
    Prefix {
        /// Without a slash at its end.
        strip: Box<str>,
        /// Likewise.
        add: Box<str>,
    },
    /// Always this one.
    Whole(Box<str>),
}

impl PathRewrite {
    /// The path for the upstream; `None` where it is the client's.
    fn path(&self, path: &str) -> Option<String> {
        match self {
            PathRewrite::None => None,
            PathRewrite::Whole(whole) => Some(whole.to_string()),
            PathRewrite::Prefix { strip, add } => {
                // Cached routes have what is not ASCII escaped.
                let rest = path.strip_prefix(&**strip);
                let rest = rest.or_else(|| path.strip_prefix(&*escaped(strip)));
                let rest = rest.filter(|rest| starts_anew(rest));
                let rest = rest.unwrap_or(path);
                let slash = if rest.starts_with('/') { "" } else { "/" };
                Some(format!("{add}{slash}{rest}"))
            }
        }
    }

    /// Changes the target of a request. One that has no path, such as `*`, stays as it is.
    pub fn apply(&self, uri: &mut Uri) {
        let Some(path) = self.path(uri.path()) else { return };
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let Ok(target) = target.parse::<PathAndQuery>() else { return };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(target);
        if uri.path().starts_with('/')
            && let Ok(changed) = Uri::from_parts(parts)
        {
            *uri = changed;
        }
    }

    /// The key, `host/path?query`, under which clients find what the upstream knows by `key`;
    /// `None` where it is the same, or cannot be told.
    pub fn public_key(&self, key: &str) -> Option<String> {
        let PathRewrite::Prefix { strip, add } = self else { return None };
        let (host, path) = key.split_at(key.find('/')?);
        let rest = path.strip_prefix(&**add).filter(|rest| starts_anew(rest))?;
        // The root of a host is never without its slash.
        let slash = if strip.is_empty() && !rest.starts_with('/') { "/" } else { "" };
        Some(format!("{host}{strip}{slash}{rest}"))
    }

    /// What a client's paths have in front that the upstream does not see.
    pub fn stripped(&self) -> Option<&str> {
        match self {
            PathRewrite::Prefix { strip, .. } if !strip.is_empty() => Some(strip),
            _ => None,
        }
    }
}

/// Whether what is left behind a prefix begins with a segment: `/shopping` does not begin with
/// `/shop`.
fn starts_anew(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['/', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        fields.iter().map(pair).for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    #[track_caller]
    fn check_cookies(drop: &[&str], cookies: &[&'static str], want: Option<&str>) {
        let fields: Vec<_> = cookies.iter().map(|line| ("cookie", *line)).collect();
        let mut headers = headers(&fields);
        CookieNames(drop.iter().map(|name| (*name).to_owned()).collect()).drop_from(&mut headers);
        let found = headers.get(header::COOKIE).map(|value| value.to_str().expect("text"));
        assert_eq!(found, want, "{cookies:?}");
        assert!(headers.get_all(header::COOKIE).iter().count() <= cookies.len());
    }

    #[test]
    fn named_cookies_go_and_others_stay() {
        check_cookies(&["a"], &["a=1; b=2"], Some("b=2"));
        check_cookies(&["a"], &["a=1", "b=2; c"], Some("b=2; c"));
        check_cookies(&["_ga*", "x"], &["_ga=1; _gat=2; x ; y=_ga"], Some("y=_ga"));
        check_cookies(&["*"], &["a=1; b=2"], None);
        check_cookies(&["a"], &["a=1;"], None);
        check_cookies(&["a"], &["A=1;b=2"], Some("A=1;b=2"));
        check_cookies(&["ab"], &["a=ab"], Some("a=ab"));
        check_cookies(&[], &["a=1"], Some("a=1"));
    }

    #[test]
    fn fields_go_then_are_set_then_added() {
        let edits = FieldEdits {
            remove: vec![header::SERVER, HeaderName::from_static("x-a")],
            set: vec![pair("x-a", "1"), pair("x-b", "2")],
            add: vec![pair("x-b", "3"), pair("link", "c")],
        };
        let before = [("server", "s"), ("x-a", "0"), ("x-b", "0"), ("x-b", "1"), ("link", "d")];
        let mut found = headers(&before);
        edits.apply(&mut found);
        let want = [("x-a", "1"), ("x-b", "2"), ("x-b", "3"), ("link", "d"), ("link", "c")];
        assert_eq!(found, headers(&want));
        edits.apply(&mut found);
        assert_eq!(found, headers(&want), "a second node changes nothing more");
    }

    #[test]
    fn what_a_cache_asks_with_is_left_to_it() {
        let remove = vec![header::IF_NONE_MATCH, header::RANGE, header::VIA];
        let edits = FieldEdits { remove, ..FieldEdits::default() };
        let mut found = headers(&[("if-none-match", "a"), ("range", "bytes=1-"), ("via", "b")]);
        edits.apply_again(&mut found);
        assert_eq!(found, headers(&[("if-none-match", "a"), ("range", "bytes=1-")]));
        edits.apply(&mut found);
        assert!(found.is_empty(), "a client's do go");
    }

    #[test]
    fn a_304_is_given_what_replaces_stored_fields_and_no_more() {
        let edits = FieldEdits { add: vec![pair("link", "c")], ..FieldEdits::default() };
        let mut found = headers(&[("etag", "a")]);
        edits.apply_to_response(StatusCode::NOT_MODIFIED, &mut found);
        assert_eq!(found, headers(&[("etag", "a")]), "what is stored has it");
        let mut found = headers(&[("link", "d")]);
        edits.apply_to_response(StatusCode::NOT_MODIFIED, &mut found);
        assert_eq!(found, headers(&[("link", "d"), ("link", "c")]));
    }

    fn prefix(strip: &str, add: &str) -> PathRewrite {
        PathRewrite::Prefix { strip: strip.into(), add: add.into() }
    }

    #[track_caller]
    fn check_path(rewrite: &PathRewrite, before: &str, want: &str) {
        let mut uri: Uri = before.parse().expect("a target");
        rewrite.apply(&mut uri);
        assert_eq!(uri.to_string(), want);
    }

    #[test]
    fn paths_are_rewritten_by_segments_and_keep_their_query() {
        check_path(&PathRewrite::None, "/a?b", "/a?b");
        check_path(&prefix("/shop", ""), "/shop/a%20b?c=/shop", "/a%20b?c=/shop");
        check_path(&prefix("/shop", ""), "/shop", "/");
        check_path(&prefix("/shop", ""), "/shop?a", "/?a");
        check_path(&prefix("/shop", ""), "/shopping/a", "/shopping/a");
        check_path(&prefix("/shop", "/v2"), "/shop/a", "/v2/a");
        check_path(&prefix("", "/v2"), "/a", "/v2/a");
        check_path(&prefix("/shop", "/v2"), "http://example.com/shop/a", "http://example.com/v2/a");
        check_path(&prefix("/shop", ""), "/shop//a", "//a");
        check_path(&prefix("/sh\u{f6}p", ""), "/sh\u{f6}p/a", "/a");
        check_path(&prefix("/sh\u{f6}p", ""), "/sh%C3%B6p/a", "/a");
        check_path(&prefix("", "/v2"), "*", "*");
        check_path(&PathRewrite::Whole("/index.html".into()), "/a/b?c", "/index.html?c");
    }

    #[test]
    fn what_the_upstream_names_is_found_again_under_the_clients_name() {
        let check = |rewrite: &PathRewrite, key: &str, want: Option<&str>| {
            assert_eq!(rewrite.public_key(key).as_deref(), want, "{key}");
        };
        check(&prefix("/shop", "/v2"), "example.com/v2/a?b", Some("example.com/shop/a?b"));
        check(&prefix("/shop", "/v2"), "example.com/v3/a", None);
        check(&prefix("/shop", ""), "example.com/a", Some("example.com/shop/a"));
        check(&prefix("", "/v2"), "example.com/v2?a", Some("example.com/?a"));
        check(&PathRewrite::None, "example.com/a", None);
    }

    #[test]
    fn what_frames_a_message_is_not_for_routes() {
        for name in ["host", "content-length", "transfer-encoding", "connection", "cdn-loop"] {
            assert!(!may_change(&HeaderName::from_static(name)), "{name}");
        }
        assert!(may_change(&header::CACHE_CONTROL));
    }
}
