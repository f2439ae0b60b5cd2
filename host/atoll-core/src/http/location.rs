//! References in responses to what an upstream knows by another path than clients do: Location and
//! Content-Location.

use super::edits::PathRewrite;

/// Whose name an authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// That by which the client has asked.
    Client,
    /// The upstream's own, which clients may not reach.
    Upstream,
    /// Somebody else's.
    Other,
}

impl PathRewrite {
    /// The value of Location or Content-Location as the client needs it, for a request with the path
    /// `asked`; `None` where it is right as it is.
    ///
    /// References that begin with a path, and those to the client's own name for the host or to the
    /// upstream's, are changed: the path that the upstream knows becomes the client's, and a name that
    /// is the upstream's goes, so that what is left is relative to where the client has asked. Relative
    /// paths are right already, and what lies outside of what is added to paths is none of a client's.
    pub fn public_reference(
        &self,
        value: &str,
        asked: &str,
        whose: impl FnOnce(&str) -> Named,
    ) -> Option<String> {
        let (origin, path) = split(value)?;
        let named = origin.map(|origin| whose(authority_of(origin)));
        if named == Some(Named::Other) {
            return None;
        }
        let path = self.public_path(path, asked)?;
        let found = match (origin, named) {
            // Two slashes at the front would name a host.
            (None, _) | (_, Some(Named::Upstream)) if path.starts_with("//") => return None,
            (Some(origin), Some(Named::Client)) => format!("{origin}{path}"),
            _ => path,
        };
        (found != value).then_some(found)
    }

    /// What the client knows by a path of the upstream's, with what follows it.
    fn public_path(&self, path: &str, asked: &str) -> Option<String> {
        let (strip, add) = match self {
            PathRewrite::None => ("", ""),
            PathRewrite::Prefix { strip, add } => (&**strip, &**add),
            PathRewrite::Whole(_) => return None,
        };
        let rest = path.strip_prefix(add).filter(|rest| starts_anew(rest))?;
        // A client that has not said the prefix does not get it.
        let strip = if asked.strip_prefix(strip).is_some_and(starts_anew) { strip } else { "" };
        let slash = if strip.is_empty() && !rest.starts_with('/') { "/" } else { "" };
        Some(format!("{strip}{slash}{rest}"))
    }
}

/// Whether what is left behind a prefix begins with a segment, or with nothing more of the path.
fn starts_anew(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['/', '?', '#'])
}

/// The scheme and the authority, where there are any, and the path with what follows. `None` for a
/// relative path and for what is no reference to HTTP.
fn split(value: &str) -> Option<(Option<&str>, &str)> {
    let scheme_bytes = ["http:", "https:"].iter().find_map(|scheme| {
        let start = value.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(scheme.len())
    });
    let rest = &value[scheme_bytes.unwrap_or(0)..];
    if let Some(from_name) = rest.strip_prefix("//") {
        let name_bytes = from_name.find(['/', '?', '#']).unwrap_or(from_name.len());
        let at = value.len() - from_name.len() + name_bytes;
        return (name_bytes > 0).then(|| (Some(&value[..at]), &value[at..]));
    }
    let is_path = scheme_bytes.is_none() && value.starts_with('/');
    is_path.then_some((None, value))
}

fn authority_of(origin: &str) -> &str {
    origin.split_once("//").map_or("", |(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(strip: &str, add: &str) -> PathRewrite {
        PathRewrite::Prefix { strip: strip.into(), add: add.into() }
    }

    #[track_caller]
    fn check(rewrite: &PathRewrite, value: &str, want: Option<&str>) {
        let whose = |name: &str| match name {
            "example.com" => Named::Client,
            "10.0.0.1:8000" => Named::Upstream,
            _ => Named::Other,
        };
        let found = rewrite.public_reference(value, "/shop/cart", whose);
        assert_eq!(found.as_deref(), want, "{value}");
    }

    #[test]
    fn what_the_upstream_calls_its_own_becomes_what_the_client_has_asked_for() {
        let shop = prefix("/shop", "/v2");
        check(&shop, "/v2/a?b=/v2#c", Some("/shop/a?b=/v2#c"));
        check(&shop, "/v2", Some("/shop"));
        check(&shop, "/v2?a", Some("/shop?a"));
        check(&shop, "http://example.com/v2/a", Some("http://example.com/shop/a"));
        check(&shop, "HTTPS://example.com/v2/", Some("HTTPS://example.com/shop/"));
        check(&shop, "//example.com/v2/a", Some("//example.com/shop/a"));
        check(&shop, "http://10.0.0.1:8000/v2/a", Some("/shop/a"));
        check(&prefix("/shop", ""), "/login?next=/", Some("/shop/login?next=/"));
        check(&prefix("/shop", ""), "http://example.com", Some("http://example.com/shop"));
        check(&prefix("/shop", ""), "http://example.com?a", Some("http://example.com/shop?a"));
        check(&prefix("", "/v2"), "/v2", Some("/"));
        check(&prefix("", "/v2"), "/v2#a", Some("/#a"));
        check(&PathRewrite::None, "http://10.0.0.1:8000/a", Some("/a"));
        check(&PathRewrite::None, "http://10.0.0.1:8000", Some("/"));
    }

    #[test]
    fn what_is_right_or_none_of_ours_stays() {
        let shop = prefix("/shop", "/v2");
        for value in [
            "/other/a",
            "/v20",
            "a/b",
            "../a",
            "?a",
            "#a",
            "",
            "http://other.com/v2/a",
            "http://example.com.evil.com/v2",
            "http://example.com@evil.com/v2",
            "mailto:a@example.com",
            "http:/v2/a",
            "http:///v2/a",
            "é/v2",
        ] {
            check(&shop, value, None);
        }
        check(&PathRewrite::None, "/a", None);
        check(&PathRewrite::None, "http://example.com/a", None);
        check(&PathRewrite::Whole("/index".into()), "/index", None);
        // What would name a host without its scheme.
        check(&PathRewrite::None, "http://10.0.0.1:8000//evil.com/a", None);
        check(&prefix("", "/v2"), "/v2//evil.com", None);
    }

    #[test]
    fn a_client_that_has_not_said_the_prefix_does_not_get_it() {
        let shop = prefix("/shop", "");
        let whose = |_: &str| Named::Other;
        assert_eq!(shop.public_reference("/a", "/other", whose), None);
        assert_eq!(shop.public_reference("/a", "/shopping", whose), None);
        assert_eq!(shop.public_reference("/a", "/shop", whose).as_deref(), Some("/shop/a"));
    }
}
