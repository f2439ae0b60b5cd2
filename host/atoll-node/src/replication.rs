//! Replication as the doors see it: what it looks like, who holds what, which peers to dial.
//!
//! A board between two sides that never meet. The transport publishes here and listens for wishes;
//! the doors read, wait and wish. Nothing here touches a socket or decides what is replicated.

mod cluster;
pub(crate) mod endpoint;
pub(crate) mod figures;
pub(crate) mod forget;
pub(crate) mod peers;
pub(crate) mod progress;

use arc_swap::ArcSwap;
use atoll_core::limits::{CHANNEL_BYTES_MAX, MESSAGE_BYTES_MAX};
use atoll_core::messages::Messages;
use atoll_core::permission::{Circumstances, Permission, Refusal, StaleReads};
use atoll_core::replica::status::{Readiness, Role, Status};
use bytes::Bytes;
use endpoint::Endpoint;
use peers::{Peers, PeersError};
use progress::Progress;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tracing::info;
use uuid::Uuid;

/// What replication is told at start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Whether this node takes writes. Fixed for the life of the process.
    pub(crate) role: Role,
    /// Whether it answers while it is cut off from the majority.
    pub(crate) stale_reads: StaleReads,
    /// Whom to dial first.
    pub(crate) peers: Vec<Endpoint>,
}

/// The board itself. One for each node, for as long as the node lives.
pub(crate) struct Replication {
    role: Role,
    stale_reads: Mutex<StaleReads>,
    status: ArcSwap<Status>,
    permission: AtomicU8,
    peers: Peers,
    progress: Progress,
    messages: Arc<Messages>,
    outlet: OnceLock<Outlet>,
    forgetter: OnceLock<Forgetter>,
}

/// Takes a message, as channel and payload, on its way to the other nodes. Must not block.
pub(crate) type Outlet = Box<dyn Fn(&Bytes, &Bytes) + Send + Sync>;

/// Tells the transport that a process will not come back. Returns whether it takes that in.
pub(crate) type Forgetter = Box<dyn Fn(Uuid) -> bool + Send + Sync>;

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication").field("role", &self.role).finish_non_exhaustive()
    }
}

/// A message was not published. Nobody got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    /// The channel's name is over `CHANNEL_BYTES_MAX`.
    #[error("a channel of {len} bytes exceeds the maximum of {CHANNEL_BYTES_MAX} bytes")]
    Channel { len: usize },
    /// Other nodes would not take what this one writes.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The message is over `MESSAGE_BYTES_MAX`.
    #[error("a message of {len} bytes exceeds the maximum of {MESSAGE_BYTES_MAX} bytes")]
    Message { len: usize },
}

/// Which node this is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its stable name.
    pub(crate) name: String,
    /// The process.
    pub(crate) origin: Uuid,
}

impl Replication {
    /// The board of a node that has met nobody yet.
    pub(crate) fn new(identity: Identity, settings: Settings) -> Result<Replication, PeersError> {
        // Until the transport says how it stands, a node with peers has nothing of theirs.
        let readiness = match settings.peers.is_empty() {
            true => Readiness::Ready,
            false => Readiness::Joining,
        };
        let status = Status {
            name: identity.name.clone(),
            origin: identity.origin,
            role: settings.role,
            readiness,
            ..Status::default()
        };
        let replication = Replication {
            peers: Peers::new(settings.peers)?,
            role: settings.role,
            stale_reads: Mutex::new(settings.stale_reads),
            status: ArcSwap::from_pointee(status),
            permission: AtomicU8::new(0),
            progress: Progress::new(identity.name),
            messages: Arc::default(),
            outlet: OnceLock::new(),
            forgetter: OnceLock::new(),
        };
        replication.judge();
        Ok(replication)
    }

    /// Whether this node takes writes at all.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Whether this node answers while it is cut off from the majority.
    pub(crate) fn stale_reads(&self) -> StaleReads {
        *self.stale_reads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that while the node runs.
    pub(crate) fn set_stale_reads(&self, stale_reads: StaleReads) {
        *self.stale_reads.lock().unwrap_or_else(PoisonError::into_inner) = stale_reads;
        self.judge();
    }

    /// What replication looked like when the transport last said so.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.load_full()
    }

    /// Replaces what [`Replication::status`] gives. For the transport, about ten times a second and
    /// whenever readiness changes.
    pub(crate) fn publish_status(&self, status: Status) {
        self.status.store(Arc::new(status));
        self.judge();
    }

    /// What clients may do now. One relaxed load: ask for it with each request.
    #[inline]
    pub(crate) fn permission(&self) -> Permission {
        Permission::from_byte(self.permission.load(Relaxed))
    }

    /// The configured peers and what became of them. Change them through [`Replication`].
    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Who holds what, and who waits for it.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Adds a peer to dial. One that is there already stays as it is.
    pub(crate) fn add_peer(&self, endpoint: Endpoint) -> Result<(), PeersError> {
        self.peers.add(endpoint.clone())?;
        info!(peer = %endpoint, "peer added");
        self.judge();
        Ok(())
    }

    /// Forgets a peer; links to it end.
    pub(crate) fn remove_peer(&self, endpoint: &Endpoint) -> Result<(), PeersError> {
        self.peers.remove(endpoint)?;
        info!(peer = %endpoint, "peer removed");
        self.judge();
        Ok(())
    }

    /// Forgets all peers.
    pub(crate) fn clear_peers(&self) {
        self.peers.clear();
        info!("all peers removed");
        self.judge();
    }

    /// Notes what became of dialling `endpoint`. For the transport.
    pub(crate) fn note_dial(&self, endpoint: &Endpoint, note: peers::DialNote) {
        self.peers.note(endpoint, note);
        self.judge();
    }

    /// Notes that a `dns:` endpoint now means exactly these targets. For the transport.
    pub(crate) fn note_targets(&self, endpoint: &Endpoint, targets: &[String]) {
        self.peers.keep_targets(endpoint, targets);
        self.judge();
    }

    /// Who listens to messages on this node.
    pub(crate) fn messages(&self) -> &Arc<Messages> {
        &self.messages
    }

    /// Sets where published messages go on their way to other nodes. The first call counts.
    pub(crate) fn set_outlet(&self, outlet: Outlet) {
        // A second transport would be a bug of ours that costs messages, not the process.
        let _ = self.outlet.set(outlet);
    }

    /// Sets who takes in that a process will not come back. The first call counts.
    pub(crate) fn set_forgetter(&self, forgetter: Forgetter) {
        // As with the outlet.
        let _ = self.forgetter.set(forgetter);
    }

    /// Whether a client of this node may publish a message.
    pub(crate) fn check_message(&self, channel: &[u8], payload: &[u8]) -> Result<(), PublishError> {
        if channel.len() > CHANNEL_BYTES_MAX {
            return Err(PublishError::Channel { len: channel.len() });
        }
        if payload.len() > MESSAGE_BYTES_MAX {
            return Err(PublishError::Message { len: payload.len() });
        }
        match self.permission().write() {
            // A message is never stale, and those of a replica stay on it.
            Ok(()) | Err(Refusal::NoQuorum | Refusal::ReadOnly) => Ok(()),
            Err(refusal @ (Refusal::Skewed | Refusal::Superseded)) => Err(refusal.into()),
        }
    }

    /// Sends a message of a client of this node to the others, where it arrives as this node's
    /// stream gets there.
    ///
    /// A replica originates nothing: its messages stay on it, as those of a Redis replica do.
    pub(crate) fn tell_others(&self, channel: &Bytes, payload: &Bytes) {
        if self.permission().write() == Err(Refusal::ReadOnly) {
            return;
        }
        if let Some(outlet) = self.outlet.get() {
            outlet(channel, payload);
        }
    }

    /// Hands a message of another node to those who listen here. For the transport, which calls it
    /// once for each message.
    pub(crate) fn deliver(&self, channel: &[u8], payload: &[u8]) -> usize {
        if self.messages.counts().listeners == 0 {
            return 0;
        }
        // Copied: what came in a batch would keep all of it for as long as one listener is slow.
        self.messages.deliver(&Bytes::copy_from_slice(channel), &Bytes::copy_from_slice(payload))
    }

    /// Decides anew what clients may do.
    fn judge(&self) {
        // Held until the end, so that the latest decision is the one that stays.
        let stale_reads = self.stale_reads.lock().unwrap_or_else(PoisonError::into_inner);
        let circumstances = Circumstances {
            role: self.role,
            readiness: self.status.load().readiness,
            stale_reads: *stale_reads,
            links: self.peers.links(),
        };
        self.permission.store(Permission::of(circumstances).as_byte(), Relaxed);
    }
}

#[cfg(test)]
mod tests;
