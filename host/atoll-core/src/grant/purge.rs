//! The grants to take back what caches hold: everything, a host, what begins with a URL, a tag.

use crate::http_cache::key::{Url, host_of};
use crate::http_cache::purge::Scope;
use std::fmt;

/// What may be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PurgeGrant {
    /// `purge`: whatever there is.
    All,
    /// `purge:host=HOST`: a host and each of its URLs; with a leading dot, those of all names below.
    Host(Box<str>),
    /// `purge:prefix=HOST/PATH`: URLs that begin so; one that begins with `/` is for every host.
    Prefix(Box<str>),
    /// `purge:tag=TAG`: a tag; with `*` at its end, all tags that begin so.
    Tag(Box<str>),
}

impl PurgeGrant {
    /// Reads what stands after `purge`.
    pub(super) fn parse(rest: &str) -> Option<PurgeGrant> {
        if rest.is_empty() {
            return Some(PurgeGrant::All);
        }
        let (word, name) = rest.strip_prefix(':')?.split_once('=')?;
        let is_text = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        match word {
            _ if !is_text => None,
            "host" => parse_host(name),
            "prefix" => Some(PurgeGrant::Prefix(Url::parse(name)?.key().into())),
            "tag" => Some(PurgeGrant::Tag(name.into())),
            _ => None,
        }
    }

    /// Whether a purge of this scope is allowed.
    pub fn allows(&self, scope: &Scope) -> bool {
        match (self, scope) {
            (PurgeGrant::All, _) => true,
            (PurgeGrant::Host(granted), Scope::Host(host)) => is_of(granted, host),
            (PurgeGrant::Host(granted), Scope::Url(key) | Scope::Prefix(key)) => {
                is_of(granted, host_and_path(key).0)
            }
            (PurgeGrant::Prefix(granted), Scope::Url(key) | Scope::Prefix(key)) => {
                let text = if granted.starts_with('/') { host_and_path(key).1 } else { key };
                text.starts_with(&**granted)
            }
            (PurgeGrant::Tag(granted), Scope::Tag(tag)) => match granted.strip_suffix('*') {
                Some(start) => tag.starts_with(start),
                None => tag == granted,
            },
            _ => false,
        }
    }

    /// The least grant that allows a purge of this scope.
    pub fn least_for(scope: &Scope) -> PurgeGrant {
        match scope {
            // Of a group no handler speaks.
            Scope::All | Scope::Group(_) => PurgeGrant::All,
            Scope::Host(host) => PurgeGrant::Host(host.clone()),
            Scope::Url(key) | Scope::Prefix(key) => PurgeGrant::Prefix(key.clone()),
            Scope::Tag(tag) => PurgeGrant::Tag(tag.clone()),
        }
    }
}

fn parse_host(text: &str) -> Option<PurgeGrant> {
    let host = match text.strip_prefix('*') {
        Some(below) => below.strip_prefix('.').filter(|name| !name.is_empty()).map(|_| below),
        None => Some(text).filter(|name| !name.starts_with('.')),
    }?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    host.bytes().all(allowed).then(|| PurgeGrant::Host(host_of(host).into()))
}

/// Whether a host is what was granted. Both are in lower case and without a default port.
fn is_of(granted: &str, host: &str) -> bool {
    match granted.starts_with('.') {
        true => host.len() > granted.len() && host.ends_with(granted),
        false => host == granted,
    }
}

/// `host/path?query` in two; the host is empty where the path is one of every host.
fn host_and_path(key: &str) -> (&str, &str) {
    key.split_at(key.find('/').unwrap_or(key.len()))
}

impl fmt::Display for PurgeGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PurgeGrant::All => f.write_str("purge"),
            PurgeGrant::Host(host) => {
                let star = if host.starts_with('.') { "*" } else { "" };
                write!(f, "purge:host={star}{host}")
            }
            PurgeGrant::Prefix(prefix) => write!(f, "purge:prefix={prefix}"),
            PurgeGrant::Tag(tag) => write!(f, "purge:tag={tag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Grant;

    #[track_caller]
    fn check(grant: &str, (word, name): (&str, &str), want: bool) {
        let Ok(Grant::Purge(granted)) = grant.parse() else { panic!("{grant} is a grant") };
        let scope = Scope::named(word, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(granted.allows(&scope), want, "{grant}: {word} {name}");
        assert!(PurgeGrant::least_for(&scope).allows(&scope), "{word} {name}");
    }

    #[test]
    fn a_host_is_granted_with_all_its_urls_and_nothing_of_another() {
        check("purge:host=a.example", ("host", "A.example:443"), true);
        check("purge:host=a.example", ("url", "https://a.example/x?y"), true);
        check("purge:host=a.example", ("prefix", "http://a.example"), true);
        check("purge:host=a.example", ("prefix", "a.example.evil.example/"), false);
        check("purge:host=a.example", ("host", "b.a.example"), false);
        check("purge:host=*.a.example", ("host", "b.a.example"), true);
        check("purge:host=*.a.example", ("host", "a.example"), false);
        check("purge:host=*.a.example", ("url", "http://nota.example/"), false);
        check("purge:host=a.example:8080", ("url", "http://a.example:8080/"), true);
        check("purge:host=a.example", ("url", "http://a.example:8080/"), false);
        check("purge:host=a.example", ("url", "/x"), false);
        check("purge:host=a.example", ("tag", "a.example"), false);
        check("purge:host=a.example", ("all", ""), false);
    }

    #[test]
    fn a_prefix_is_granted_for_one_host_or_for_every() {
        check("purge:prefix=a.example/news/", ("url", "http://a.example/news/1?x"), true);
        check("purge:prefix=a.example/news/", ("prefix", "http://a.example/news/2026/"), true);
        check("purge:prefix=a.example/news/", ("prefix", "http://a.example/news"), false);
        check("purge:prefix=a.example/news/", ("url", "/news/1"), false);
        check("purge:prefix=/news/", ("url", "/news/1"), true);
        check("purge:prefix=/news/", ("url", "http://b.example/news/1"), true);
        check("purge:prefix=/news/", ("host", "b.example"), false);
    }

    #[test]
    fn a_tag_is_granted_by_its_name_or_its_start() {
        check("purge:tag=news", ("tag", "news"), true);
        check("purge:tag=news", ("tag", "news-1"), false);
        check("purge:tag=news-*", ("tag", "news-1"), true);
        check("purge:tag=news-*", ("tag", "sport-1"), false);
        check("purge", ("tag", "anything"), true);
        check("purge", ("all", ""), true);
    }

    #[test]
    fn a_grant_reads_back_and_what_is_none_is_refused() {
        for text in [
            "purge",
            "purge:host=a.example",
            "purge:host=*.a.example",
            "purge:prefix=a.example/b?c",
            "purge:prefix=/b",
            "purge:tag=a*",
        ] {
            let grant: Grant = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(grant.to_string(), text);
        }
        for text in [
            "purge:",
            "purge:all",
            "purge:host=",
            "purge:host=*",
            "purge:host=.a",
            "purge:host=a/b",
            "purge:prefix=a@b/",
            "purge:tag=",
            "purge:tag=a b",
            "purge:group=a",
            "purged",
        ] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }
}
