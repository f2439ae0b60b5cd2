//! What requests see of the handlers at one moment.

use super::deploy::DeployError;
use super::deployed::Release;
use super::guest::GuestHost;
use atoll_core::limits::HANDLER_COUNT_MAX;
use atoll_core::route::{Pattern, RouteTable};
use atoll_wasm::component::Component;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Never changed, only replaced.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) by_name: BTreeMap<String, Arc<Release>>,
    pub(super) routes: RouteTable<Arc<Release>>,
}

impl Live {
    /// Refuses what another handler stands in the way of.
    pub(super) fn check_room(&self, name: &str, patterns: &[Pattern]) -> Result<(), DeployError> {
        if !self.by_name.contains_key(name) && self.by_name.len() >= HANDLER_COUNT_MAX {
            return Err(DeployError::TooMany);
        }
        for other in self.by_name.values().filter(|other| other.record.name != name) {
            let taken = patterns
                .iter()
                .find(|pattern| other.live.patterns.iter().any(|p| p.conflicts_with(pattern)));
            if let Some(route) = taken {
                let (name, other) = (name.to_owned(), other.record.name.clone());
                return Err(DeployError::RouteTaken { route: route.clone(), name, other });
            }
        }
        Ok(())
    }

    /// The component of this digest, if a handler runs it or did before.
    pub(super) fn component(&self, digest: &str) -> Option<Arc<Component<GuestHost>>> {
        let versions = || self.by_name.values().flat_map(|release| release.versions());
        let running = versions().find(|version| version.record.digest == digest);
        let running = running.map(|version| Arc::clone(&version.component));
        running.or_else(|| {
            let before = versions().filter_map(|version| version.before.as_ref());
            let (_, component) = before.into_iter().find(|(before, _)| before == digest)?;
            Some(Arc::clone(component))
        })
    }

    pub(super) fn with(&self, release: Release) -> Live {
        let mut by_name = self.by_name.clone();
        by_name.insert(release.record.name.clone(), Arc::new(release));
        Live::of(by_name)
    }

    pub(super) fn without(&self, name: &str) -> Live {
        let mut by_name = self.by_name.clone();
        by_name.remove(name);
        Live::of(by_name)
    }

    fn of(by_name: BTreeMap<String, Arc<Release>>) -> Live {
        let routes = by_name.values().flat_map(|release| {
            release.live.patterns.iter().map(|pattern| (pattern.clone(), Arc::clone(release)))
        });
        Live { routes: RouteTable::new(routes.collect()), by_name }
    }
}
