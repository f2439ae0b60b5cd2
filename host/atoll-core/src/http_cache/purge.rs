//! Purges: what was taken back, and whether that covers a stored response.
//!
//! A purge takes effect on a node at the moment at which that node learns of it, and covers every
//! response whose fetch began before. So it needs no agreement of clocks, and a response that was on
//! its way at that moment is covered too. Times are microseconds of one clock of the node that never
//! goes back.

use super::key::{Url, host_of};
use super::sharing::place_of;
use crate::limits::{PURGE_RECORD_COUNT_MAX, PURGE_SCOPE_BYTES_MAX};
use std::collections::BTreeMap;

/// Which responses a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of them.
    All,
    /// All of a host, in lower case and without a default port.
    Host(Box<str>),
    /// All whose key, `host/path?query`, begins so; one that begins with `/` is for every host.
    Prefix(Box<str>),
    /// One key, with all its variants; one that begins with `/` is for every host.
    Url(Box<str>),
    /// All that have this tag.
    Tag(Box<str>),
    /// All of a host that are in this group: the host, a space and the group (RFC 9875).
    Group(Box<str>),
    /// All whose URL falls into this place ([`place_of`]): what a write through the cache has made
    /// invalid on every node.
    Place(Box<str>),
}

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// They are stale, and may be used while they are validated.
    Soft,
    /// They are gone.
    Hard,
}

/// Why text names no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a purge names at most {PURGE_SCOPE_BYTES_MAX} bytes, and at least one")]
pub struct ScopeError;

/// Why a person's or a handler's words name no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No URL.
    #[error("{0:?} is no URL: write http://HOST/PATH, or /PATH for every host")]
    Url(String),
    /// Too long, or empty.
    #[error("{word} {name:?}: {error}")]
    Name {
        /// What was to be purged: `tag`, `host`.
        word: &'static str,
        /// As it was given.
        name: String,
        /// What is wrong with it.
        error: ScopeError,
    },
}

/// What a stored response is known by.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `host/path?query`.
    pub key: &'a str,
    /// Length of the host in it.
    pub host_bytes: usize,
    /// Its tags, sorted.
    pub tags: &'a [Box<str>],
}

impl Subject<'_> {
    fn path(&self) -> &str {
        &self.key[self.host_bytes.min(self.key.len())..]
    }

    /// Whether a purge of this prefix covers it.
    pub fn begins_with(&self, prefix: &str) -> bool {
        let text = if prefix.starts_with('/') { self.path() } else { self.key };
        text.starts_with(prefix)
    }

    /// Every scope that covers it, but for prefixes.
    pub fn scopes(&self) -> Vec<Scope> {
        let (host, path) = (&self.key[..self.key.len() - self.path().len()], self.path());
        let mut scopes = vec![
            Scope::All,
            Scope::Host(host.into()),
            Scope::Url(self.key.into()),
            Scope::Place(place_of(self.key)),
        ];
        scopes.extend((!path.is_empty()).then(|| Scope::Url(path.into())));
        for tag in self.tags {
            scopes.push(Scope::Tag(tag.clone()));
            scopes.push(Scope::Group(format!("{host} {tag}").into()));
        }
        scopes
    }
}

/// What has been purged, as far as this node knows.
#[derive(Debug, Default)]
pub struct Ledger {
    all: Times,
    hosts: BTreeMap<Box<str>, Times>,
    prefixes: BTreeMap<Box<str>, Times>,
    urls: BTreeMap<Box<str>, Times>,
    tags: BTreeMap<Box<str>, Times>,
    groups: BTreeMap<Box<str>, Times>,
    places: BTreeMap<Box<str>, Times>,
}

/// The latest purge of each strength, in microseconds; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    soft_us: u64,
    hard_us: u64,
}

impl Times {
    fn meet(&mut self, strength: Strength, at_us: u64) {
        let time = match strength {
            Strength::Soft => &mut self.soft_us,
            Strength::Hard => &mut self.hard_us,
        };
        *time = at_us.max(*time);
    }

    fn merge(&mut self, other: Option<&Times>) {
        if let Some(other) = other {
            self.soft_us = self.soft_us.max(other.soft_us);
            self.hard_us = self.hard_us.max(other.hard_us);
        }
    }
}

impl Scope {
    /// The word and the name that a record of a purge has.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Scope::All => ("all", ""),
            Scope::Host(name) => ("host", name),
            Scope::Prefix(name) => ("prefix", name),
            Scope::Url(name) => ("url", name),
            Scope::Tag(name) => ("tag", name),
            Scope::Group(name) => ("group", name),
            Scope::Place(name) => ("place", name),
        }
    }

    /// The scope that somebody names: `url` and `prefix` with a URL in any form, `host` in any case,
    /// `tag`. Any other word is `all`.
    pub fn named(word: &str, name: &str) -> Result<Scope, NameError> {
        let url = || {
            let parsed = Url::parse(name).ok_or_else(|| NameError::Url(name.to_owned()))?;
            Ok(parsed.key())
        };
        let (word, text) = match word {
            "url" => ("url", url()?),
            "prefix" => ("prefix", url()?),
            "host" => ("host", host_of(name)),
            "tag" => ("tag", name.to_owned()),
            _ => return Ok(Scope::All),
        };
        let scope = Scope::of(word, &text).unwrap_or(Err(ScopeError));
        scope.map_err(|error| NameError::Name { word, name: name.to_owned(), error })
    }

    /// The scope behind a word and a name. `None` for a word that is not known.
    pub fn of(word: &str, name: &str) -> Option<Result<Scope, ScopeError>> {
        let scope: fn(Box<str>) -> Scope = match word {
            "all" => return Some(Ok(Scope::All)),
            "host" => Scope::Host,
            "prefix" => Scope::Prefix,
            "url" => Scope::Url,
            "tag" => Scope::Tag,
            "group" => Scope::Group,
            "place" => Scope::Place,
            _ => return None,
        };
        let fits = (1..=PURGE_SCOPE_BYTES_MAX).contains(&name.len());
        Some(if fits { Ok(scope(name.into())) } else { Err(ScopeError) })
    }
}

impl Ledger {
    /// Takes note of a purge of which this node has learned at `at_us`.
    ///
    /// A ledger that is full forgets the single purges and purges everything instead.
    pub fn record(&mut self, scope: &Scope, strength: Strength, at_us: u64) {
        let (map, name) = match scope {
            Scope::All => return self.all.meet(strength, at_us),
            Scope::Host(name) => (&mut self.hosts, name),
            Scope::Prefix(name) => (&mut self.prefixes, name),
            Scope::Url(name) => (&mut self.urls, name),
            Scope::Tag(name) => (&mut self.tags, name),
            Scope::Group(name) => (&mut self.groups, name),
            Scope::Place(name) => (&mut self.places, name),
        };
        map.entry(name.clone()).or_default().meet(strength, at_us);
        if self.len() > PURGE_RECORD_COUNT_MAX {
            *self = Ledger { all: self.all, ..Ledger::default() };
            self.all.meet(Strength::Hard, at_us);
        }
    }

    /// Purges of URLs count for the further keys that `others` gives for each, as if they had been
    /// named at the same time.
    pub fn repeat_urls(&mut self, others: impl Fn(&str) -> Vec<String>) {
        let known: Vec<(String, Times)> = self
            .urls
            .iter()
            .flat_map(|(key, times)| others(key).into_iter().map(|other| (other, *times)))
            .collect();
        for (key, times) in known {
            let scope = Scope::Url(key.into());
            for (strength, at_us) in
                [(Strength::Soft, times.soft_us), (Strength::Hard, times.hard_us)]
            {
                if at_us > 0 {
                    self.record(&scope, strength, at_us);
                }
            }
        }
    }

    /// Number of single purges.
    pub fn len(&self) -> usize {
        self.hosts.len()
            + self.prefixes.len()
            + self.urls.len()
            + self.tags.len()
            + self.groups.len()
            + self.places.len()
    }

    /// Whether nothing has been purged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.all.soft_us == 0 && self.all.hard_us == 0
    }

    /// What covers a response whose fetch began at `fetched_us`. A purge of the same microsecond
    /// does.
    pub fn covers(&self, subject: Subject<'_>, fetched_us: u64) -> Option<Strength> {
        let (host, path) = subject.key.split_at(subject.host_bytes.min(subject.key.len()));
        let mut times = self.all;
        times.merge(self.hosts.get(host));
        times.merge(self.urls.get(subject.key));
        if !self.places.is_empty() {
            times.merge(self.places.get(&place_of(subject.key)));
        }
        if !path.is_empty() {
            times.merge(self.urls.get(path));
        }
        for tag in subject.tags {
            times.merge(self.tags.get(tag));
            if !self.groups.is_empty() {
                times.merge(self.groups.get(format!("{host} {tag}").as_str()));
            }
        }
        for (prefix, of_prefix) in &self.prefixes {
            if subject.begins_with(prefix) {
                times.merge(Some(of_prefix));
            }
        }
        if times.hard_us >= fetched_us && times.hard_us > 0 {
            Some(Strength::Hard)
        } else if times.soft_us >= fetched_us && times.soft_us > 0 {
            Some(Strength::Soft)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "example.com/a/b?c";

    fn covers(ledger: &Ledger, fetched_us: u64) -> Option<Strength> {
        let tags = ["news".into(), "sport".into()];
        ledger.covers(Subject { key: KEY, host_bytes: 11, tags: &tags }, fetched_us)
    }

    #[track_caller]
    fn check(word: &str, name: &str, want: bool) {
        let scope = Scope::of(word, name).expect("a word").expect("a name");
        assert_eq!(scope.parts(), (word, if word == "all" { "" } else { name }));
        let mut ledger = Ledger::default();
        ledger.record(&scope, Strength::Hard, 100);
        let found = covers(&ledger, 100);
        assert_eq!(found, want.then_some(Strength::Hard), "{word} {name}");
        assert_eq!(covers(&ledger, 101), None, "{word} {name}: fetched after it");
    }

    #[test]
    fn each_scope_covers_what_it_names_and_nothing_else() {
        check("all", "", true);
        check("host", "example.com", true);
        check("host", "example.co", false);
        check("url", KEY, true);
        check("url", "/a/b?c", true);
        check("url", "example.com/a/b", false);
        check("prefix", "example.com/a/", true);
        check("prefix", "example.com", true);
        check("prefix", "/a", true);
        check("prefix", "/b", false);
        check("tag", "news", true);
        check("tag", "new", false);
        check("group", "example.com news", true);
        check("group", "other.com news", false);
        check("place", &place_of(KEY), true);
        check("place", &place_of("example.com/other"), false);
    }

    #[test]
    fn the_scopes_of_a_response_are_those_that_cover_it() {
        let tags = ["news".into()];
        let subject = Subject { key: KEY, host_bytes: 11, tags: &tags };
        let scopes = subject.scopes();
        assert_eq!(scopes.len(), 7);
        for scope in scopes {
            let mut ledger = Ledger::default();
            ledger.record(&scope, Strength::Hard, 100);
            assert_eq!(ledger.covers(subject, 100), Some(Strength::Hard), "{scope:?}");
        }
        for (prefix, want) in [("/a/", true), ("example.com/", true), ("/b", false), ("a", false)] {
            assert_eq!(subject.begins_with(prefix), want, "{prefix}");
        }
    }

    #[test]
    fn a_hard_purge_stays_hard_behind_a_soft_one_and_both_have_their_times() {
        let tag = Scope::Tag("news".into());
        let mut ledger = Ledger::default();
        ledger.record(&tag, Strength::Hard, 100);
        ledger.record(&tag, Strength::Soft, 200);
        ledger.record(&tag, Strength::Soft, 150);
        assert_eq!(covers(&ledger, 50), Some(Strength::Hard));
        assert_eq!(covers(&ledger, 150), Some(Strength::Soft));
        assert_eq!(covers(&ledger, 201), None);
    }

    #[test]
    fn a_purge_counts_for_further_keys_since_it_was_made() {
        let mut ledger = Ledger::default();
        ledger.record(&Scope::Url("example.com/a/b?x&c".into()), Strength::Soft, 100);
        assert_eq!(covers(&ledger, 100), None);
        ledger.repeat_urls(|key| vec![key.replace("x&", "")]);
        assert_eq!(covers(&ledger, 100), Some(Strength::Soft));
        assert_eq!(covers(&ledger, 101), None);
    }

    #[test]
    fn nothing_is_covered_where_nothing_was_purged() {
        assert_eq!(covers(&Ledger::default(), 0), None);
        assert!(Ledger::default().is_empty());
        assert_eq!(Scope::of("tag", ""), Some(Err(ScopeError)));
        assert_eq!(Scope::of("tags", "a"), None);
    }

    #[test]
    fn a_full_ledger_purges_everything_rather_than_forget() {
        let mut ledger = Ledger::default();
        for at in 0..=PURGE_RECORD_COUNT_MAX {
            ledger.record(&Scope::Tag(at.to_string().into()), Strength::Hard, at as u64 + 1);
        }
        assert!(ledger.len() <= PURGE_RECORD_COUNT_MAX);
        assert_eq!(covers(&ledger, PURGE_RECORD_COUNT_MAX as u64), Some(Strength::Hard));
    }
}
