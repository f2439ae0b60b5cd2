//! Routes that are kept as replicated records: written through the API of any node, live on all.
//!
//! A record is a key `route/NAME` of `_sys`, whose value is what `[[route]]` in the file would say, as
//! JSON. Routes of the node's own file go before records that take the same requests.

use super::{Proxy, Route, Routed};
use crate::config::routes;
use crate::node::Node;
use crate::proxy::settings::RouteSettings;
use crate::system::System;
use atoll_core::http_cache::purge::{Scope, Strength};
use atoll_core::limits::ROUTE_RECORD_COUNT_MAX;
use atoll_core::manifest::check_name;
use atoll_core::route::{Pattern, RouteTable};
use atoll_core::store::edit::{NewValue, WriteError};
use atoll_core::store::view::View;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

const PREFIX: &str = "route/";
/// Why no node fetches for this one, nor this one for others.
const NO_GATEWAY: &str = "shield is of no use where other nodes cannot reach this one's gateway, which \
    is off or at every address; say with --gateway-advertise HOST:PORT where they do";
/// Longest pause between two looks at the records: the store tells of their changes.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// Why a record was not written. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("{0}")]
    Bad(String),
    #[error(
        "route {name} ({pattern}) takes the same requests as {other}; choose another path, or remove that"
    )]
    Taken { name: String, pattern: Pattern, other: String },
    #[error("there are {ROUTE_RECORD_COUNT_MAX} routes already, which is the maximum")]
    TooMany,
    #[error(transparent)]
    Store(#[from] WriteError),
}

/// A record, and what this node makes of it.
#[derive(Clone, Debug)]
pub(crate) struct RouteRecord {
    pub(crate) name: String,
    /// JSON.
    pub(crate) text: Bytes,
    /// Why it is not live here.
    pub(crate) error: Option<String>,
}

/// The records and what was made of them.
#[derive(Debug)]
pub(super) struct Records {
    system: System,
    live: Mutex<BTreeMap<String, Live>>,
}

/// A record that was looked at.
#[derive(Debug)]
struct Live {
    version: String,
    text: Bytes,
    made: Result<Arc<Routed>, String>,
    /// Ends its health checks.
    _checks: Option<DropGuard>,
}

impl Records {
    pub(super) fn open(node: &Arc<Node>) -> anyhow::Result<Records> {
        Ok(Records { system: System::open(Arc::clone(node))?, live: Mutex::default() })
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<String, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All records, by name, each with what changes whenever it is written.
    fn read(&self) -> BTreeMap<String, (String, Bytes)> {
        let look = |view: View<'_>| (view.version().to_string(), view.value().to_bytes());
        self.system.list(PREFIX, look).into_iter().take(ROUTE_RECORD_COUNT_MAX).collect()
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

impl Proxy {
    /// Writes a route; it is live here when this returns. Returns whether it is new.
    pub(crate) fn put_route(&self, name: &str, text: &[u8]) -> Result<bool, RouteError> {
        check_name(name).map_err(|error| RouteError::Bad(error.to_string()))?;
        let settings =
            routes::of_json(text).map_err(|error| RouteError::Bad(format!("{error:#}")))?;
        if settings.is_shielded() && self.own_gateway.is_none() {
            return Err(RouteError::Bad(NO_GATEWAY.to_owned()));
        }
        let records = self.route_records.read();
        let is_new = !records.contains_key(name);
        if is_new && records.len() >= ROUTE_RECORD_COUNT_MAX {
            return Err(RouteError::TooMany);
        }
        self.refresh_routes();
        if let Some(other) = self.conflict(name, &settings.pattern) {
            let (name, pattern) = (name.to_owned(), settings.pattern);
            return Err(RouteError::Taken { name, pattern, other });
        }
        self.route_records.system.put(&key(name), NewValue::Copy(text))?;
        self.refresh_routes();
        Ok(is_new)
    }

    /// Takes a route away, on every node. Returns whether there was one.
    pub(crate) fn remove_route(&self, name: &str) -> Result<bool, WriteError> {
        let was_there = self.route_records.read().contains_key(name);
        self.route_records.system.delete(&key(name))?;
        self.refresh_routes();
        Ok(was_there)
    }

    /// The records, by name.
    pub(crate) fn route_records(&self) -> Vec<RouteRecord> {
        self.refresh_routes();
        let live = self.route_records.live();
        let records = live.iter().map(|(name, live)| RouteRecord {
            name: name.clone(),
            text: live.text.clone(),
            error: live.made.as_ref().err().cloned(),
        });
        records.collect()
    }

    /// Makes live what other nodes have written, until `shutdown`.
    pub(crate) async fn follow_routes(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changed = self.node.system_changed();
        loop {
            // Seen before the look: what comes after it wakes the wait below.
            changed.borrow_and_update();
            self.refresh_routes();
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_PAUSE) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Who takes the same requests.
    fn conflict(&self, name: &str, pattern: &Pattern) -> Option<String> {
        let of_file =
            self.fixed_routes.iter().find(|routed| routed.pattern.conflicts_with(pattern));
        if let Some(routed) = of_file {
            return Some(format!("route {} of this node's atoll.toml", routed.pattern));
        }
        let live = self.route_records.live();
        let others = live.iter().filter(|(other, _)| *other != name);
        let taken = others.filter_map(|(other, live)| Some((other, live.made.as_ref().ok()?)));
        let mut taken = taken.filter(|(_, routed)| routed.pattern.conflicts_with(pattern));
        if let Some((other, routed)) = taken.next() {
            return Some(format!("route {other} ({})", routed.pattern));
        }
        let handlers = self.handlers.list();
        let handler = handlers.iter().find(|release| release.live.conflicts_with(pattern))?;
        Some(format!("handler {}", handler.record.name))
    }

    /// Looks at the records, and swaps the table where one has changed.
    fn refresh_routes(&self) {
        let there = self.route_records.read();
        let mut live = self.route_records.live();
        let is_same = live.len() == there.len()
            && there.iter().all(|(name, (version, _))| {
                live.get(name).is_some_and(|live| live.version == *version)
            });
        if is_same {
            return;
        }
        let mut changed: Vec<Pattern> = Vec::new();
        let mut before = std::mem::take(&mut *live);
        for (name, (version, text)) in there {
            let old = before.remove(&name);
            let next = match old {
                Some(old) if old.version == version && old.made.is_ok() => old,
                old => {
                    changed.extend(old.and_then(|old| Some(old.made.ok()?.pattern.clone())));
                    let next = self.make_live(&name, version, text);
                    changed.extend(next.made.iter().map(|routed| routed.pattern.clone()));
                    next
                }
            };
            // Of two that take the same requests, the first by name is live, on every node.
            let taken = next.made.as_ref().ok().and_then(|routed| {
                let is_taken = |live: &Live| {
                    live.made
                        .as_ref()
                        .is_ok_and(|other| other.pattern.conflicts_with(&routed.pattern))
                };
                let other = live.iter().find(|(_, live)| is_taken(live))?;
                Some(format!("route {} takes the same requests", other.0))
            });
            let next = match taken {
                Some(error) => Live { made: Err(error), _checks: None, ..next },
                None => next,
            };
            if let Err(error) = &next.made {
                warn!(route = name, %error, "a route is not live here");
            }
            live.insert(name, next);
        }
        let gone = before.into_values().filter_map(|old| Some(old.made.ok()?.pattern.clone()));
        changed.extend(gone);
        let of_records = live.values().filter_map(|live| live.made.as_ref().ok());
        let all = self.fixed_routes.iter().chain(of_records);
        // First: what these store can be purged from then on.
        self.cache.set_spellings(super::spellings(all.clone()));
        let table = all.map(|routed| (routed.pattern.clone(), Arc::clone(routed))).collect();
        self.routes.store(Arc::new(RouteTable::new(table)));
        drop(live);
        for pattern in changed {
            // What others have answered there is not this route's answer.
            self.cache.purge(&scope_of(&pattern), Strength::Hard);
            info!(%pattern, "a route has changed");
        }
    }

    fn make_live(&self, name: &str, version: String, text: Bytes) -> Live {
        let made = routes::of_json(&text).map_err(|error| format!("{error:#}"));
        let made = made.and_then(|settings: RouteSettings| {
            let taken =
                self.fixed_routes.iter().find(|r| r.pattern.conflicts_with(&settings.pattern));
            if let Some(taken) = taken {
                return Err(format!(
                    "route {} of atoll.toml takes the same requests",
                    taken.pattern
                ));
            }
            let pattern = settings.pattern.clone();
            if settings.is_replicated() {
                self.shared.begin();
            }
            if settings.is_shielded() && !self.begin_shield().map_err(|e| format!("{e:#}"))? {
                // It fetches for itself alone.
                warn!(route = name, NO_GATEWAY);
            }
            let route =
                Route::new(&settings, &self.figures).map_err(|error| format!("{error:#}"))?;
            Ok(Arc::new(Routed { pattern, route: Arc::new(route) }))
        });
        let checks = made.as_ref().ok().map(|routed| {
            let token = CancellationToken::new();
            self.watch_route(routed, &self.fetches, &token);
            token.drop_guard()
        });
        if made.is_ok() {
            info!(route = name, "a route is live");
        }
        Live { version, text, made, _checks: checks }
    }
}

/// What responses a pattern may have had a part in: at least those, and all that begin alike.
fn scope_of(pattern: &Pattern) -> Scope {
    let text = pattern.to_string();
    let place = text.rsplit(' ').next().unwrap_or(&text);
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let path = path.split('*').next().unwrap_or(path).trim_end_matches('/');
    let host = if host.starts_with('*') { "" } else { host };
    match Scope::of("prefix", &format!("{host}{path}")) {
        Some(Ok(scope)) => scope,
        _ => Scope::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_changes_takes_back_what_lies_below_it() {
        let check = |pattern: &str, want: Scope| {
            assert_eq!(scope_of(&pattern.parse().expect("a pattern")), want, "{pattern}");
        };
        check("/*", Scope::All);
        check("/shop/*", Scope::Prefix("/shop".into()));
        check("GET,HEAD example.com/a/*/b", Scope::Prefix("example.com/a".into()));
        check("*.example.com/a", Scope::Prefix("/a".into()));
        check("example.com/*", Scope::Prefix("example.com".into()));
    }
}
