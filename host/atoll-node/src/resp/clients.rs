//! Who is connected, and how to reach them: CLIENT LIST, CLIENT KILL, the drain at the end.

use atoll_core::resp::client::{Client, Mode};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Everyone who is connected, by id.
#[derive(Debug, Default)]
pub(super) struct Clients {
    latest_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Peer>>>,
}

/// One connected client, and the handle on its connection's task.
#[derive(Debug)]
pub(super) struct Peer {
    client: Arc<Client>,
    stop: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stop {
    /// It should not.
    No,
    /// The node stops: once the current batch is answered.
    Drain,
    /// CLIENT KILL, or silence: at once.
    Kill,
}

impl Clients {
    /// How many are connected.
    pub(super) fn count(&self) -> u64 {
        self.connected().len() as u64
    }

    /// How many wait for other nodes to hold what they wrote.
    pub(super) fn waiting_count(&self) -> u64 {
        let connected = self.connected();
        connected.values().filter(|peer| peer.client.mode() == Mode::Waiting).count() as u64
    }

    /// An id that was never used.
    pub(super) fn next_id(&self) -> u64 {
        self.latest_id.fetch_add(1, Relaxed) + 1
    }

    /// Adds a connection.
    pub(super) fn enter(&self, client: Arc<Client>) -> Arc<Peer> {
        let id = client.id();
        let peer =
            Arc::new(Peer { client, stop: AtomicU8::new(Stop::No as u8), waker: Mutex::new(None) });
        self.connected().insert(id, Arc::clone(&peer));
        peer
    }

    /// Removes a connection that has ended.
    pub(super) fn leave(&self, id: u64) {
        self.connected().remove(&id);
    }

    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.connected().values().map(|peer| Arc::clone(&peer.client)).collect()
    }

    /// Ends one connection.
    pub(super) fn kill(&self, id: u64) {
        let peer = self.connected().get(&id).cloned();
        if let Some(peer) = peer {
            peer.stop(Stop::Kill);
        }
    }

    /// Asks all connections to end after their current batch.
    pub(super) fn drain(&self) {
        let peers: Vec<_> = self.connected().values().cloned().collect();
        peers.iter().for_each(|peer| peer.stop(Stop::Drain));
    }

    /// Ends the connections that have sent nothing since `before_ms`, and have no reason for it.
    pub(super) fn kill_idle(&self, before_ms: u64) {
        let peers: Vec<_> = self.connected().values().cloned().collect();
        let is_idle =
            |client: &Client| client.mode() == Mode::Normal && client.active_ms() < before_ms;
        for peer in peers.iter().filter(|peer| is_idle(&peer.client)) {
            peer.stop(Stop::Kill);
        }
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Peer>>> {
        // Insertions and removals only: a panic leaves nothing half done.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// The client, as others see it.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether the connection should end.
    pub(super) fn stopping(&self) -> Stop {
        match self.stop.load(Relaxed) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Kill,
        }
    }

    /// Notes whom to wake when the connection should end. Ask [`Peer::stopping`] after it.
    pub(super) fn park(&self, waker: &Waker) {
        let mut parked = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *parked {
            Some(parked) if parked.will_wake(waker) => {}
            parked => *parked = Some(waker.clone()),
        }
    }

    fn stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Relaxed);
        // The lock orders this after a `park` that did not see the flag, so that one is woken.
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
