//! URLs that are stored under another key than their own, as their route ignores or sorts parameters:
//! who purges or asks for one names it as clients do.

use super::Cache;
use atoll_core::http_cache::key::QueryRules;
use atoll_core::http_cache::purge::Scope;
use atoll_core::route::{Pattern, Target};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

/// What of queries counts, by route.
#[derive(Debug, Default)]
pub(super) struct Spellings(RwLock<Vec<Spelling>>);

/// The rules of one route that are not plain.
#[derive(Clone, Debug)]
pub(crate) struct Spelling {
    pub(crate) pattern: Pattern,
    pub(crate) rules: QueryRules,
    /// Whether a filter may send requests for other URLs here.
    pub(crate) is_for_all: bool,
}

impl Spelling {
    fn is_for(&self, key: &str) -> bool {
        let place = key.split('?').next().unwrap_or(key);
        let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        if self.is_for_all || host.is_empty() {
            return self.is_for_all || self.pattern.matches_path(path);
        }
        // As routes see it: without a port and without the dot that may end a name.
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        self.pattern.matches(Target { method: "GET", host, path })
    }
}

impl Cache {
    /// From now on these are the rules of the routes. Purges that are known already count by them too.
    pub(crate) fn set_spellings(&self, spellings: Vec<Spelling>) {
        *self.spellings.0.write().unwrap_or_else(PoisonError::into_inner) = spellings;
        let mut ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        ledger.repeat_urls(|key| self.other_keys(key));
        // Under the lock: whoever sees the new number finds what was added.
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The keys under which the routes of this node store what is asked for by `key`, other than that.
    pub(crate) fn other_keys(&self, key: &str) -> Vec<String> {
        if !key.contains('?') {
            return Vec::new();
        }
        let spellings = self.spellings.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_routes = spellings.iter().filter(|spelling| spelling.is_for(key));
        let mut keys: Vec<String> =
            of_routes.map(|spelling| spelling.rules.key_of(key)).filter(|own| own != key).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// The scopes of the same purge for those keys.
    pub(crate) fn other_scopes(&self, scope: &Scope) -> Vec<Scope> {
        let Scope::Url(key) = scope else { return Vec::new() };
        self.other_keys(key).into_iter().map(|key| Scope::Url(key.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_core::http_cache::purge::{Strength, Subject};

    fn spelling(pattern: &str) -> Spelling {
        let rules = QueryRules { ignore: vec!["utm_*".to_owned()], sort: true };
        Spelling { pattern: pattern.parse().expect("a pattern"), rules, is_for_all: false }
    }

    #[test]
    fn a_url_is_purged_where_its_route_stores_it_whenever_the_route_becomes_known() {
        let cache = Cache::new(1 << 20);
        let is_in_force = |key: &str, at_us| {
            let host_bytes = key.find('/').expect("a path");
            cache.is_in_force(Subject { key, host_bytes, tags: &[] }, at_us)
        };
        let purge = |key: &str| cache.purge(&Scope::Url(key.into()), Strength::Hard);
        let before_us = cache.now_us();
        purge("a.test:8080/q?b=2&a=1&utm_x=3");
        assert!(is_in_force("a.test:8080/q?a=1&b=2", before_us));
        cache.set_spellings(vec![spelling("GET a.test/q"), spelling("/other")]);
        assert!(!is_in_force("a.test:8080/q?a=1&b=2", before_us));
        purge("/q?utm_x");
        assert!(!is_in_force("a.test/q", before_us) && is_in_force("b.test/", before_us));
        purge("b.test/q?utm_x");
        assert!(is_in_force("b.test/q?", before_us), "no route of that host says so");
        let after_us = cache.now_us() + 1_000_000;
        assert!(is_in_force("a.test:8080/q?a=1&b=2", after_us));
    }
}
