//! Whom this node is told to link with, and which of them it is itself.
//!
//! People give the same list to all nodes, and a name may stand for all of them: what turns out to
//! be this very node is nobody whom the machine should wait to meet.

use super::switchboard::Switchboard;
use crate::replication::endpoint::Endpoint;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

/// One node to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The configured peer that it stands for, or is one address of.
    pub(super) endpoint: Endpoint,
    /// The address; `None` where the endpoint has to be looked up for each attempt.
    pub(super) address: Option<SocketAddr>,
    /// How it is shown.
    pub(super) text: String,
}

/// Who was found at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Nobody yet, or another node.
    Another,
    /// This node.
    Oneself,
}

/// The configured peers, each with its targets.
#[derive(Debug)]
pub(super) struct Roster {
    switchboard: Rc<Switchboard>,
    peers: RefCell<BTreeMap<Endpoint, BTreeMap<String, Whom>>>,
    /// What the machine was told last.
    told: RefCell<Option<BTreeSet<String>>>,
}

impl Roster {
    pub(super) fn new(switchboard: Rc<Switchboard>) -> Roster {
        Roster { switchboard, peers: RefCell::default(), told: RefCell::default() }
    }

    /// The configured peers are now these.
    pub(super) fn set(&self, endpoints: &[Endpoint]) {
        let mut peers = self.peers.borrow_mut();
        peers.retain(|endpoint, _| endpoints.contains(endpoint));
        for endpoint in endpoints {
            peers.entry(endpoint.clone()).or_default();
        }
        drop(peers);
        self.announce();
    }

    /// A name now stands for these targets.
    pub(super) fn set_targets(&self, endpoint: &Endpoint, targets: &[String]) {
        if let Some(known) = self.peers.borrow_mut().get_mut(endpoint) {
            known.retain(|target, _| targets.contains(target));
            for target in targets {
                known.entry(target.clone()).or_insert(Whom::Another);
            }
        }
        self.announce();
    }

    /// This is who was found at a target.
    pub(super) fn mark(&self, target: &Target, whom: Whom) {
        if let Some(known) = self.peers.borrow_mut().get_mut(&target.endpoint) {
            known.insert(target.text.clone(), whom);
        }
        self.announce();
    }

    fn announce(&self) {
        let others = others(&self.peers.borrow());
        let before = self.told.replace(Some(others.clone()));
        if before.as_ref() != Some(&others) {
            self.switchboard.hub.set_endpoints(others);
        }
    }
}

/// The peers that are not just this node itself.
fn others(peers: &BTreeMap<Endpoint, BTreeMap<String, Whom>>) -> BTreeSet<String> {
    let is_oneself = |targets: &BTreeMap<String, Whom>| {
        !targets.is_empty() && targets.values().all(|whom| *whom == Whom::Oneself)
    };
    let others = peers.iter().filter(|(_, targets)| !is_oneself(targets));
    others.map(|(endpoint, _)| endpoint.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(targets: &[Whom], is_another: bool) {
        let endpoint: Endpoint = "dns:app:1".parse().expect("an endpoint");
        let targets = targets.iter().enumerate().map(|(n, whom)| (n.to_string(), *whom)).collect();
        let peers = BTreeMap::from([(endpoint, targets)]);
        let want = if is_another { vec!["dns:app:1".to_owned()] } else { Vec::new() };
        assert_eq!(others(&peers).into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn who_is_only_itself_is_nobody_to_wait_for() {
        check(&[], true);
        check(&[Whom::Another], true);
        check(&[Whom::Oneself], false);
        check(&[Whom::Oneself, Whom::Another], true);
        check(&[Whom::Oneself, Whom::Oneself], false);
    }
}
