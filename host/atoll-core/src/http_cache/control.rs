//! The directives of Cache-Control that a shared cache acts on (RFC 9111 section 5.2, RFC 5861).

use super::directive::{self, Argument, Scope, Seconds};
use http::{HeaderMap, header};

/// What a response says about its being stored and reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseControl {
    /// 5.2.2.1.
    pub max_age: Seconds,
    /// 5.2.2.2: once stale, never without asking.
    pub must_revalidate: bool,
    /// 5.2.2.3: only for who knows the status code; `no_store` is then for those who do not.
    pub must_understand: bool,
    /// 5.2.2.4.
    pub no_cache: Scope,
    /// 5.2.2.5.
    pub no_store: bool,
    /// 5.2.2.6.
    pub no_transform: bool,
    /// 5.2.2.7.
    pub private: Scope,
    /// 5.2.2.8: `must_revalidate` for shared caches.
    pub proxy_revalidate: bool,
    /// 5.2.2.9.
    pub public: bool,
    /// 5.2.2.10: `max_age` for shared caches, and `proxy_revalidate` with it.
    pub s_maxage: Seconds,
    /// RFC 5861 section 3.
    pub stale_while_revalidate: Seconds,
    /// RFC 5861 section 4.
    pub stale_if_error: Seconds,
}

impl ResponseControl {
    /// Reads the field Cache-Control, all lines of it.
    pub fn of(headers: &HeaderMap) -> ResponseControl {
        let mut control = ResponseControl::default();
        let lines = headers.get_all(header::CACHE_CONTROL).iter().map(|line| line.as_bytes());
        directive::each(lines, |name, argument| control.meet(name, argument));
        control
    }

    /// Takes in one directive. Unknown ones are ignored (5.2.3).
    pub(super) fn meet(&mut self, name: &str, argument: &Argument<'_>) {
        match name {
            "max-age" => self.max_age.meet(argument),
            "s-maxage" => self.s_maxage.meet(argument),
            "stale-while-revalidate" => self.stale_while_revalidate.meet(argument),
            "stale-if-error" => self.stale_if_error.meet(argument),
            "no-cache" => self.no_cache.meet(argument),
            "private" => self.private.meet(argument),
            // An argument that they do not take changes nothing: the restrictive reading stands.
            "no-store" => self.no_store = true,
            "no-transform" => self.no_transform = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            // The permissive ones have to be well formed.
            "must-understand" => self.must_understand |= *argument == Argument::None,
            "public" => self.public |= *argument == Argument::None,
            _ => {}
        }
    }
}

/// What a client asks of a cache. Advice, every one of them (RFC 9111 section 5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// 5.2.1.1: nothing older, in seconds.
    pub max_age_s: Option<u64>,
    /// 5.2.1.2: stale is fine, by so many seconds; `u64::MAX` by any number.
    pub max_stale_s: Option<u64>,
    /// 5.2.1.3: nothing that is stale within so many seconds.
    pub min_fresh_s: Option<u64>,
    /// 5.2.1.4, and `Pragma: no-cache` where there is no Cache-Control (5.4).
    pub no_cache: bool,
    /// 5.2.1.5.
    pub no_store: bool,
    /// 5.2.1.7.
    pub only_if_cached: bool,
    /// RFC 5861 section 4, in seconds.
    pub stale_if_error_s: Option<u64>,
}

impl RequestControl {
    /// Reads the fields Cache-Control and Pragma.
    pub fn of(headers: &HeaderMap) -> RequestControl {
        let mut control = RequestControl::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            if headers.contains_key(header::PRAGMA) {
                let lines = headers.get_all(header::PRAGMA).iter().map(|line| line.as_bytes());
                directive::each(lines, |name, _| control.no_cache |= name == "no-cache");
            }
            return control;
        }
        let lines = headers.get_all(header::CACHE_CONTROL).iter().map(|line| line.as_bytes());
        directive::each(lines, |name, argument| control.meet(name, argument));
        control
    }

    fn meet(&mut self, name: &str, argument: &Argument<'_>) {
        let seconds = || match argument {
            Argument::Text(text) => directive::number(text),
            Argument::None | Argument::Broken => None,
        };
        match name {
            // One that is no number asks for nothing that could be given: ask upstream.
            "max-age" => self.max_age_s = self.max_age_s.or(Some(seconds().unwrap_or(0))),
            "max-stale" => {
                let any = *argument == Argument::None;
                let wanted = if any { Some(u64::MAX) } else { seconds() };
                self.max_stale_s = self.max_stale_s.or(wanted);
            }
            "min-fresh" => {
                self.min_fresh_s = self.min_fresh_s.or(Some(seconds().unwrap_or(u64::MAX)));
            }
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "stale-if-error" => self.stale_if_error_s = self.stale_if_error_s.or(seconds()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(name: HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_str(line).expect("a value"));
        }
        headers
    }

    fn response(lines: &[&str]) -> ResponseControl {
        ResponseControl::of(&headers(header::CACHE_CONTROL, lines))
    }

    fn request(lines: &[&str]) -> RequestControl {
        RequestControl::of(&headers(header::CACHE_CONTROL, lines))
    }

    #[test]
    fn section_4_2_1_of_several_numbers_the_first_counts_and_a_broken_one_is_no_freshness() {
        let cases: [(&[&str], Seconds); 12] = [
            (&["max-age=1800, max-age=1"], Seconds::Given(1_800)),
            (&["max-age=1800", "max-age=1"], Seconds::Given(1_800)),
            (&["max-age=1, max-age=1800"], Seconds::Given(1)),
            (&["extension=\"max-age=3600\", max-age=1"], Seconds::Given(1)),
            (&["max-age=1, extension=\"max-age=3600\""], Seconds::Given(1)),
            (&["MaX-aGe=\"7\""], Seconds::Given(7)),
            (&["max-age =3600"], Seconds::Invalid),
            (&["max-age='3600'"], Seconds::Invalid),
            (&["max-age=3600.0"], Seconds::Invalid),
            (&["max-age=-3600, max-age=3600"], Seconds::Invalid),
            (&["max-age"], Seconds::Invalid),
            (&["s-maxage=5"], Seconds::Absent),
        ];
        for (lines, want) in cases {
            assert_eq!(response(lines).max_age, want, "{lines:?}");
        }
    }

    #[test]
    fn section_5_2_2_4_and_5_2_2_7_names_of_fields_add_up_and_no_names_are_all() {
        let a = HeaderName::from_static("a");
        let b = HeaderName::from_static("b");
        assert_eq!(response(&["no-cache=\"A\""]).no_cache, Scope::Fields(vec![a.clone()]));
        assert_eq!(response(&["private=a"]).private, Scope::Fields(vec![a.clone()]));
        let two = response(&["no-cache=\"a\"", "no-cache=\"b\""]).no_cache;
        assert_eq!(two, Scope::Fields(vec![a, b]));
        for whole in ["no-cache", "no-cache=\"\"", "no-cache=\"a b\"", "no-cache =\"a\""] {
            assert_eq!(response(&[whole]).no_cache, Scope::Whole, "{whole}");
        }
        assert_eq!(response(&["no-cache=a, no-cache, no-cache=b"]).no_cache, Scope::Whole);
    }

    #[test]
    fn section_5_2_3_unknown_directives_are_ignored_and_conflicting_ones_all_seen() {
        let control = response(&["foobar, x=\"no-store\", Public, private, no-store=1"]);
        assert!(control.public && control.no_store);
        assert_eq!(control.private, Scope::Whole);
        assert_eq!(response(&["foobar, x=\"no-store\""]), ResponseControl::default());
        assert!(!response(&["public=yes"]).public, "permission has to be clear");
    }

    #[test]
    fn section_5_2_1_requests_ask_with_or_without_numbers() {
        let asked = request(&["max-age=5, min-fresh=6, max-stale=7, stale-if-error=8"]);
        assert_eq!((asked.max_age_s, asked.min_fresh_s), (Some(5), Some(6)));
        assert_eq!((asked.max_stale_s, asked.stale_if_error_s), (Some(7), Some(8)));
        assert_eq!(request(&["max-stale"]).max_stale_s, Some(u64::MAX));
        let broken = request(&["max-age=x, min-fresh=x, max-stale=x"]);
        assert_eq!((broken.max_age_s, broken.min_fresh_s), (Some(0), Some(u64::MAX)));
        assert_eq!(broken.max_stale_s, None);
        let asked = request(&["No-Cache", "NO-STORE, only-IF-cached"]);
        assert!(asked.no_cache && asked.no_store && asked.only_if_cached);
    }

    #[test]
    fn section_5_4_pragma_counts_where_there_is_no_cache_control() {
        let mut headers = headers(header::PRAGMA, &["No-Cache"]);
        assert!(RequestControl::of(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!RequestControl::of(&headers).no_cache);
        headers.remove(header::CACHE_CONTROL);
        headers.insert(header::PRAGMA, HeaderValue::from_static("unrecognised-extension"));
        assert_eq!(RequestControl::of(&headers), RequestControl::default());
    }
}
