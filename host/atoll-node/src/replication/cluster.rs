//! Replication as the commands of the RESP port see it.

use super::Replication;
use super::endpoint::{Endpoint, EndpointError};
use super::peers::{Dial, DialState};
use atoll_core::messages::Messages;
use atoll_core::permission::StaleReads;
use atoll_core::replica::status::Status;
use atoll_core::resp::cluster::{Cluster, Peer, PeerChange};
use bytes::Bytes;
use std::sync::Arc;

impl Cluster for Replication {
    fn status(&self) -> Arc<Status> {
        self.status()
    }

    fn peers(&self) -> Vec<Peer> {
        let peers = self.peers().all();
        let dials = peers
            .iter()
            .flat_map(|peer| peer.dials.iter().map(|dial| (&peer.endpoint, dial)))
            .filter(|(_, dial)| dial.state != DialState::Itself);
        dials.map(|(endpoint, dial)| peer(endpoint, dial)).collect()
    }

    fn change_peers(&self, change: PeerChange<'_>) -> Result<(), String> {
        match change {
            PeerChange::Clear => {
                self.clear_peers();
                Ok(())
            }
            PeerChange::Add { host, port } => {
                let endpoint = endpoint(host, port).map_err(|error| error.to_string())?;
                self.add_peer(endpoint).map_err(|error| error.to_string())
            }
            PeerChange::Remove { host, port } => {
                let endpoint = endpoint(host, port).map_err(|error| error.to_string())?;
                self.remove_peer(&endpoint).map_err(|error| error.to_string())
            }
        }
    }

    fn holder_count(&self, seq: u64) -> usize {
        self.progress().holder_count(seq)
    }

    fn messages(&self) -> &Arc<Messages> {
        self.messages()
    }

    fn check_message(&self, channel: &[u8], payload: &[u8]) -> Result<(), String> {
        self.check_message(channel, payload).map_err(|error| error.to_string())
    }

    fn tell_others(&self, channel: &Bytes, payload: &Bytes) {
        self.tell_others(channel, payload);
    }

    fn stale_reads(&self) -> StaleReads {
        self.stale_reads()
    }

    fn set_stale_reads(&self, stale_reads: StaleReads) {
        self.set_stale_reads(stale_reads);
    }
}

/// REPLICAOF takes a host and a port apart; the host may be `dns:NAME`.
fn endpoint(host: &str, port: u16) -> Result<Endpoint, EndpointError> {
    match host.strip_prefix("dns:") {
        Some(_) => format!("{host}:{port}").parse(),
        None => Endpoint::new(host, port),
    }
}

fn peer(endpoint: &Endpoint, dial: &Dial) -> Peer {
    // Behind a name each address is a peer of its own.
    let target = dial.target.parse().unwrap_or_else(|_| endpoint.clone());
    let shown = if endpoint.reaches_all() { &target } else { endpoint };
    Peer {
        host: shown.host().to_owned(),
        port: shown.port(),
        node: dial.node.clone(),
        is_up: dial.is_up(),
        since_ms: dial.since_ms,
    }
}
