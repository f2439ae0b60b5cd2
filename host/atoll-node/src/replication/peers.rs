//! The peers that this node was told to link with, and what became of dialling each.

use super::endpoint::{Endpoint, Reach};
use atoll_core::permission::Links;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most peers that a node dials.
pub(crate) const PEER_COUNT_MAX: usize = 256;
/// Most addresses behind one name that are dialled.
pub(crate) const TARGET_COUNT_MAX: usize = 256;

/// The list, and how it stands.
#[derive(Debug)]
pub(crate) struct Peers {
    peers: Mutex<Vec<Peer>>,
    /// What the transport watches. Sent under the lock, so that it never goes back.
    list: watch::Sender<Arc<[Endpoint]>>,
}

/// One configured peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// As configured.
    pub(crate) endpoint: Endpoint,
    /// One for each address that is dialled: one, unless the endpoint reaches all of a name.
    pub(crate) dials: Vec<Dial>,
}

/// What became of dialling one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    /// What is dialled: an address, or the endpoint itself while no address is known.
    pub(crate) target: String,
    /// How it stands.
    pub(crate) state: DialState,
    /// The node that answered last, if one did.
    pub(crate) node: Option<String>,
    /// Since when it stands so, in ms since the epoch; 0 before the first attempt.
    pub(crate) since_ms: u64,
}

/// How an attempt to link stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DialState {
    /// Under way, or about to be.
    #[default]
    Connecting,
    /// A link with the node there is up, whichever side dialled it.
    Up,
    /// This very node is there; it is left alone.
    Itself,
    /// One of both sides declined the other. Worded for a person.
    Refused(String),
    /// Nobody answered, or not in our language. Worded for a person.
    Failed(String),
}

impl DialState {
    /// The word for it, as in `/v1/cluster`.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            DialState::Connecting => "connecting",
            DialState::Up => "up",
            DialState::Itself => "itself",
            DialState::Refused(_) => "refused",
            DialState::Failed(_) => "failed",
        }
    }

    /// Why there is no link, where that is known.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            DialState::Refused(reason) | DialState::Failed(reason) => Some(reason),
            DialState::Connecting | DialState::Up | DialState::Itself => None,
        }
    }
}

/// What the transport says of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct DialNote {
    /// What is dialled; the endpoint's own text where it reaches one node.
    pub(crate) target: String,
    /// How it stands.
    pub(crate) state: DialState,
    /// The node that answered, where it said its name.
    pub(crate) node: Option<String>,
    /// The time, in ms since the epoch.
    pub(crate) now_ms: u64,
}

/// Why the list of peers was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeersError {
    /// There are as many as there may be.
    #[error("this node already has {PEER_COUNT_MAX} peers, which is the maximum")]
    Full,
    /// It is not on the list.
    #[error("{0} is none of this node's peers")]
    Unknown(Endpoint),
}

impl Peers {
    /// A list that begins with `endpoints`; one that is named twice counts once.
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Result<Peers, PeersError> {
        let peers = Peers { peers: Mutex::default(), list: watch::Sender::new(Arc::from([])) };
        for endpoint in endpoints {
            peers.add(endpoint)?;
        }
        Ok(peers)
    }

    /// Changes whenever a peer was added or removed. For the transport.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<[Endpoint]>> {
        self.list.subscribe()
    }

    /// All peers, in the order in which they were added.
    pub(crate) fn all(&self) -> Vec<Peer> {
        self.lock().clone()
    }

    /// How many nodes should be linked and how many are.
    ///
    /// A name that is yet to be looked up stands for one.
    pub(crate) fn links(&self) -> Links {
        let peers = self.lock();
        let dials = || peers.iter().flat_map(|peer| &peer.dials);
        Links {
            configured: dials().filter(|dial| dial.state != DialState::Itself).count(),
            up: dials().filter(|dial| dial.is_up()).count(),
        }
    }

    pub(super) fn add(&self, endpoint: Endpoint) -> Result<(), PeersError> {
        let mut peers = self.lock();
        if peers.iter().any(|peer| peer.endpoint == endpoint) {
            return Ok(());
        }
        if peers.len() >= PEER_COUNT_MAX {
            return Err(PeersError::Full);
        }
        let dials = vec![Dial::first(&endpoint)];
        peers.push(Peer { endpoint, dials });
        self.announce(&peers);
        Ok(())
    }

    pub(super) fn remove(&self, endpoint: &Endpoint) -> Result<(), PeersError> {
        let mut peers = self.lock();
        let at = peers.iter().position(|peer| peer.endpoint == *endpoint);
        peers.remove(at.ok_or_else(|| PeersError::Unknown(endpoint.clone()))?);
        self.announce(&peers);
        Ok(())
    }

    pub(super) fn clear(&self) {
        let mut peers = self.lock();
        if !peers.is_empty() {
            peers.clear();
            self.announce(&peers);
        }
    }

    /// A note about a peer that was removed meanwhile, or about an address that its name has lost,
    /// is late and changes nothing.
    pub(super) fn note(&self, endpoint: &Endpoint, note: DialNote) {
        let mut peers = self.lock();
        let Some(peer) = peers.iter_mut().find(|peer| peer.endpoint == *endpoint) else { return };
        let dial = match peer.endpoint.reach() {
            Reach::One => peer.dials.first_mut(),
            Reach::All => peer.dials.iter_mut().find(|dial| dial.target == note.target),
        };
        if let Some(dial) = dial {
            dial.take(note);
        }
    }

    pub(super) fn keep_targets(&self, endpoint: &Endpoint, targets: &[String]) {
        let mut peers = self.lock();
        let Some(peer) = peers.iter_mut().find(|peer| peer.endpoint == *endpoint) else { return };
        let mut before = std::mem::take(&mut peer.dials);
        for target in targets.iter().take(TARGET_COUNT_MAX) {
            let known = before.iter().position(|dial| dial.target == *target);
            let dial = match known {
                Some(at) => before.swap_remove(at),
                None => Dial { target: target.clone(), ..Dial::first(endpoint) },
            };
            peer.dials.push(dial);
        }
        if peer.dials.is_empty() {
            peer.dials.push(Dial::first(endpoint));
        }
    }

    fn announce(&self, peers: &[Peer]) {
        self.list.send_replace(peers.iter().map(|peer| peer.endpoint.clone()).collect());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Peer>> {
        // Each change is one insertion, removal or replacement: a panic leaves nothing half done.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dial {
    fn first(endpoint: &Endpoint) -> Dial {
        let target = endpoint.to_string();
        Dial { target, state: DialState::Connecting, node: None, since_ms: 0 }
    }

    /// Whether there is a link with the node there.
    pub(crate) fn is_up(&self) -> bool {
        self.state == DialState::Up
    }

    fn take(&mut self, note: DialNote) {
        // The reason may be worded anew without anything having happened.
        if self.since_ms == 0 || self.state.as_str() != note.state.as_str() {
            self.since_ms = note.now_ms;
        }
        self.target = note.target;
        self.state = note.state;
        self.node = note.node.or(self.node.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    fn note(target: &str, state: DialState, now_ms: u64) -> DialNote {
        DialNote { target: target.to_owned(), state, node: None, now_ms }
    }

    /// Each dial as `target state since`.
    fn shown(peers: &Peers) -> Vec<String> {
        let text =
            |dial: &Dial| format!("{} {} {}", dial.target, dial.state.as_str(), dial.since_ms);
        peers.all().iter().flat_map(|peer| &peer.dials).map(text).collect()
    }

    #[test]
    fn peers_are_kept_in_order_and_once() {
        let peers =
            Peers::new(vec![endpoint("b:1"), endpoint("a:1"), endpoint("B:1")]).expect("fits");
        let mut list = peers.watch();
        assert_eq!(**list.borrow_and_update(), [endpoint("b:1"), endpoint("a:1")]);
        peers.add(endpoint("a:1")).expect("it is there");
        assert!(!list.has_changed().expect("it lives"), "nothing was added");
        peers.remove(&endpoint("b:1")).expect("it is there");
        assert_eq!(**list.borrow_and_update(), [endpoint("a:1")]);
        let error = peers.remove(&endpoint("b:1")).expect_err("it is gone");
        assert_eq!(error.to_string(), "b:1 is none of this node's peers");
        peers.clear();
        assert!(list.borrow_and_update().is_empty());
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let peers = Peers::new(Vec::new()).expect("none");
        for port in 1..=PEER_COUNT_MAX {
            peers.add(endpoint(&format!("h:{port}"))).expect("there is room");
        }
        assert_eq!(peers.add(endpoint("one:1")), Err(PeersError::Full));
        assert_eq!(peers.add(endpoint("h:1")), Ok(()));
    }

    #[test]
    fn a_dial_says_since_when_it_stands_so() {
        let peers = Peers::new(vec![endpoint("a:1")]).expect("fits");
        assert_eq!(shown(&peers), ["a:1 connecting 0"]);
        let failed = || DialState::Failed("connection refused".to_owned());
        peers.note(&endpoint("a:1"), note("10.0.0.1:1", failed(), 10));
        peers.note(&endpoint("a:1"), note("10.0.0.1:1", failed(), 20));
        assert_eq!(shown(&peers), ["10.0.0.1:1 failed 10"]);
        assert_eq!(peers.links(), Links { configured: 1, up: 0 });
        let named =
            DialNote { node: Some("lisbon".into()), ..note("10.0.0.1:1", DialState::Up, 30) };
        peers.note(&endpoint("a:1"), named);
        assert_eq!(shown(&peers), ["10.0.0.1:1 up 30"]);
        assert_eq!(peers.links(), Links { configured: 1, up: 1 });
        peers.note(&endpoint("a:1"), note("10.0.0.1:1", failed(), 40));
        assert_eq!(peers.all()[0].dials[0].node.as_deref(), Some("lisbon"), "the last one known");
        assert_eq!(peers.all()[0].dials[0].state.reason(), Some("connection refused"));
    }

    #[test]
    fn a_late_note_about_a_removed_peer_changes_nothing() {
        let peers = Peers::new(vec![endpoint("a:1")]).expect("fits");
        peers.note(&endpoint("b:1"), note("b:1", DialState::Up, 10));
        assert_eq!(peers.links(), Links { configured: 1, up: 0 });
    }

    #[test]
    fn a_name_stands_for_each_of_its_addresses_but_ours() {
        let name = endpoint("dns:app:1");
        let peers = Peers::new(vec![name.clone()]).expect("fits");
        assert_eq!(peers.links(), Links { configured: 1, up: 0 });
        let targets =
            |addresses: &[&str]| addresses.iter().map(|a| a.to_string()).collect::<Vec<_>>();
        peers.keep_targets(&name, &targets(&["1:1", "2:1", "3:1"]));
        peers.note(&name, note("1:1", DialState::Itself, 10));
        peers.note(&name, note("2:1", DialState::Up, 10));
        assert_eq!(peers.links(), Links { configured: 2, up: 1 });
        peers.keep_targets(&name, &targets(&["4:1", "2:1"]));
        assert_eq!(shown(&peers), ["4:1 connecting 0", "2:1 up 10"]);
        peers.note(&name, note("3:1", DialState::Up, 20));
        assert_eq!(peers.links(), Links { configured: 2, up: 1 }, "3:1 is gone");
        peers.keep_targets(&name, &[]);
        assert_eq!(shown(&peers), ["dns:app:1 connecting 0"]);
        let error = DialState::Failed("no such name".into());
        peers.note(&name, note("dns:app:1", error, 30));
        assert_eq!(shown(&peers), ["dns:app:1 failed 30"]);
    }
}
