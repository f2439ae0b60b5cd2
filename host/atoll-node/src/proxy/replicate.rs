//! Routes whose responses are shared: what one node has fetched, all of them use.
//!
//! A node that has nothing, or something stale, looks among what others have written before it asks
//! the upstream. What makes a response invalid here is told to all nodes once any route shares.

use super::fetch::Asked;
use super::outgoing::{self, Parcel};
use super::{Proxy, Route};
use crate::cache::replicated::Taken;
use crate::cache::replicated::record::Maker;
use crate::cache::stored::{Stored, url_of};
use crate::cache::{Found, ms_of};
use crate::handlers::deployed::Release;
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::http_cache::reuse::{self, Purged, Reuse};
use atoll_core::http_cache::sharing::place_of;
use atoll_core::http_cache::vary::Vary;
use atoll_core::replica::vector::Vector;
use std::sync::Arc;
use tracing::warn;

impl Proxy {
    /// What was found, or what another node has fetched where that is better.
    pub(super) fn or_shared(&self, route: &Route, asked: &Asked, found: Found) -> Found {
        // What this node would take for another one, that one takes itself.
        let is_replicated = route.cache.as_ref().is_some_and(|cache| cache.replicated.is_some());
        if !is_replicated || asked.is_for_a_node() {
            return found;
        }
        let now_ms = ms_of(self.cache.now_us());
        let own = match &found {
            Found::Miss | Found::VaryMiss => None,
            Found::Stored(stored, purged) => {
                let is_enough = stored.span.is_none()
                    && reuse::reuse(&stored.meta, &asked.control, *purged, now_ms) == Reuse::Fresh;
                if is_enough {
                    return found;
                }
                Some(stored)
            }
            Found::OnDisk | Found::Pass => return found,
        };
        let own = own.map(|stored| &**stored);
        let maker = Maker { route: route.hash, version: asked.version(route) };
        match self.shared.take((maker, &asked.key), &asked.parts.headers, own) {
            Taken::Nothing => found,
            Taken::Outdated => {
                route.records.shared.outdated.inc();
                found
            }
            Taken::Unlike => {
                route.records.shared.unlike.inc();
                found
            }
            Taken::Stored(stored, vary) => {
                // In this order: see there.
                let is_current = self.is_of_the_latest(route, asked);
                if !is_current || !self.cache.store_taken(&stored, &vary, &asked.parts.headers) {
                    return found;
                }
                route.records.shared.taken.inc();
                Found::Stored(stored, Purged::No)
            }
        }
    }

    /// What this node includes, for a fetch of a route that shares what comes of it.
    pub(super) fn marks_for(&self, route: &Route) -> Option<Box<Vector>> {
        let is_replicated = route.cache.as_ref().is_some_and(|cache| cache.replicated.is_some());
        is_replicated.then(|| Box::new(self.shared.marks()))
    }

    /// Shares what was stored with the other nodes.
    pub(super) fn share(
        &self,
        (route, asked): (&Route, &Asked),
        (stored, vary): (&Arc<Stored>, &Vary),
        marks: Option<&Vector>,
    ) {
        let settings = route.cache.as_ref().and_then(|cache| cache.replicated);
        let (Some(settings), Some(marks)) = (settings, marks) else { return };
        let taken = self.outgoing.take(Parcel {
            maker: Maker { route: route.hash, version: asked.version(route) },
            body_bytes_max: settings.body_bytes_max,
            marks: marks.clone(),
            stored: Arc::clone(stored),
            vary: vary.clone(),
            request: asked.parts.headers.clone(),
            figures: route.records.shared.clone(),
        });
        if taken == outgoing::Taken::Run {
            self.fetches.spawn(Arc::clone(&self.outgoing).run());
        }
    }

    /// Makes all that is stored under `key` invalid, on every node where any route shares.
    pub(super) fn invalidate(&self, key: &str) {
        self.cache.invalidate(key);
        if self.shares() {
            self.purge_everywhere(&Scope::Place(place_of(url_of(key))));
        } else {
            self.shared.purges().note_untold();
        }
    }

    /// Whether any route or handler of this node shares its responses.
    pub(super) fn shares(&self) -> bool {
        // A handler's route is made for its first request here, which others may have had before.
        let shares = |release: &Arc<Release>| release.record.replicate;
        self.shared.is_used() || self.handlers.list().iter().any(shares)
    }

    /// The same for what is in a group of a host (RFC 9875).
    pub(super) fn invalidate_group(&self, host: &str, group: &str) {
        let scope = Scope::Group(format!("{host} {group}").into());
        if self.shares() {
            self.purge_everywhere(&scope);
        } else {
            self.shared.purges().note_untold();
            self.cache.purge(&scope, Strength::Hard);
        }
    }

    fn purge_everywhere(&self, scope: &Scope) {
        if let Err(refusal) = self.node.permission().write() {
            self.shared.purges().purge_here(scope, Strength::Hard);
            warn!(%refusal, "what a write made invalid is invalid on this node alone");
        } else if let Err(error) = self.shared.purges().purge(scope, Strength::Hard) {
            warn!(%error, "what a write made invalid is invalid on this node alone");
        }
    }
}
