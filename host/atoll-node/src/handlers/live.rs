//! What requests see of the handlers at one moment.

use super::guest::GuestHost;
use super::{DeployError, Deployed};
use atoll_core::limits::HANDLER_COUNT_MAX;
use atoll_core::route::{Pattern, RouteTable};
use atoll_wasm::component::Component;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Never changed, only replaced.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) by_name: BTreeMap<String, Arc<Deployed>>,
    pub(super) routes: RouteTable<Arc<Deployed>>,
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
                .find(|pattern| other.patterns.iter().any(|p| p.conflicts_with(pattern)));
            if let Some(route) = taken {
                let (name, other) = (name.to_owned(), other.record.name.clone());
                return Err(DeployError::RouteTaken { route: route.clone(), name, other });
            }
        }
        Ok(())
    }

    /// The component of this digest, if a handler runs it or did before.
    pub(super) fn component(&self, digest: &str) -> Option<Arc<Component<GuestHost>>> {
        self.by_name.values().find_map(|deployed| {
            let before = deployed.before.as_ref().filter(|(before, _)| before == digest);
            let now = (deployed.record.digest == digest).then_some(&deployed.component);
            now.or(before.map(|(_, component)| component)).cloned()
        })
    }

    pub(super) fn with(&self, deployed: Arc<Deployed>) -> Live {
        let mut by_name = self.by_name.clone();
        by_name.insert(deployed.record.name.clone(), deployed);
        Live::of(by_name)
    }

    pub(super) fn without(&self, name: &str) -> Live {
        let mut by_name = self.by_name.clone();
        by_name.remove(name);
        Live::of(by_name)
    }

    fn of(by_name: BTreeMap<String, Arc<Deployed>>) -> Live {
        let routes = by_name.values().flat_map(|deployed| {
            deployed.patterns.iter().map(|pattern| (pattern.clone(), Arc::clone(deployed)))
        });
        Live { routes: RouteTable::new(routes.collect()), by_name }
    }
}
