//! Follows the list of configured peers: dials those that are new, lets go of those that are not on
//! it any more, looks names up again.

use super::dial::Dialling;
use super::limits::{LOOKUP_INTERVAL, LOOKUP_WAIT};
use super::roster::{Roster, Target};
use super::switchboard::Switchboard;
use crate::replication::endpoint::{Endpoint, Reach};
use crate::replication::peers::{DialNote, DialState, TARGET_COUNT_MAX};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::lookup_host;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

/// Who keeps peers dialled.
#[derive(Clone)]
struct Supervisor {
    switchboard: Rc<Switchboard>,
    roster: Rc<Roster>,
    settled: CancellationToken,
}

/// Dials whom the board names until `settled`; then waits until the links have ended.
pub(super) async fn supervise(
    switchboard: Rc<Switchboard>,
    settled: CancellationToken,
) -> Result<(), JoinError> {
    let board = Rc::clone(&switchboard);
    let mut list = board.hub.node.replication().peers().watch();
    let roster = Rc::new(Roster::new(Rc::clone(&switchboard)));
    let supervisor = Supervisor { switchboard, roster, settled: settled.clone() };
    let mut dialled: BTreeMap<Endpoint, CancellationToken> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let endpoints = list.borrow_and_update().clone();
        supervisor.roster.set(&endpoints);
        dialled.retain(|endpoint, dropped| {
            let stays = endpoints.contains(endpoint);
            if !stays {
                dropped.cancel();
            }
            stays
        });
        for endpoint in endpoints.iter() {
            if !dialled.contains_key(endpoint) {
                let dropped = CancellationToken::new();
                tasks.spawn_local(supervisor.clone().follow(endpoint.clone(), dropped.clone()));
                dialled.insert(endpoint.clone(), dropped);
            }
        }
        tokio::select! {
            () = settled.cancelled() => break,
            changed = list.changed() => if changed.is_err() { break },
            Some(ended) = tasks.join_next() => ended?,
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

impl Supervisor {
    async fn follow(self, endpoint: Endpoint, dropped: CancellationToken) {
        match endpoint.reach() {
            Reach::One => {
                let text = endpoint.to_string();
                self.dialling(Target { endpoint, address: None, text }, dropped).run().await;
            }
            Reach::All => self.follow_name(endpoint, dropped).await,
        }
    }

    /// Dials every address behind a name. One that the name loses is dialled no more; a link with
    /// it may live on, as names also lose those that are merely busy.
    async fn follow_name(self, endpoint: Endpoint, dropped: CancellationToken) {
        let mut lookups = interval(LOOKUP_INTERVAL);
        let mut dialled: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = dropped.cancelled() => break,
                () = self.settled.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    // Ours to notice: it ends the supervisor, too.
                    ended.unwrap_or_else(|error: JoinError| std::panic::resume_unwind(error.into_panic()));
                    continue;
                }
                _ = lookups.tick() => {}
            }
            let addresses = match self.look_up(&endpoint).await {
                Ok(addresses) => addresses,
                Err(reason) => {
                    // What was known stays: a name server that is down must not cut links.
                    if dialled.is_empty() {
                        self.note_unknown(&endpoint, reason);
                    }
                    continue;
                }
            };
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            self.switchboard.hub.node.replication().note_targets(&endpoint, &texts);
            self.roster.set_targets(&endpoint, &texts);
            dialled.retain(|address, lost| {
                let stays = addresses.contains(address);
                if !stays {
                    lost.cancel();
                }
                stays
            });
            for address in addresses {
                dialled.entry(address).or_insert_with(|| {
                    let lost = self.settled.child_token();
                    let (endpoint, text) = (endpoint.clone(), address.to_string());
                    let target = Target { endpoint, address: Some(address), text };
                    let dialling = Dialling {
                        settled: lost.clone(),
                        ..self.dialling(target, dropped.clone())
                    };
                    tasks.spawn_local(dialling.run());
                    lost
                });
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap_or_else(|error: JoinError| std::panic::resume_unwind(error.into_panic()));
        }
    }

    fn dialling(&self, target: Target, dropped: CancellationToken) -> Dialling {
        Dialling {
            switchboard: Rc::clone(&self.switchboard),
            roster: Rc::clone(&self.roster),
            target,
            dropped,
            settled: self.settled.clone(),
        }
    }

    async fn look_up(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = (endpoint.host(), endpoint.port());
        let found = match timeout(LOOKUP_WAIT, lookup_host((host, port))).await {
            Ok(found) => found.map_err(|error| format!("the name {host} is not known: {error}"))?,
            Err(_) => {
                let waited_s = LOOKUP_WAIT.as_secs();
                return Err(format!("the name {host} was not resolved within {waited_s} s"));
            }
        };
        let mut addresses: Vec<SocketAddr> = found.collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(TARGET_COUNT_MAX);
        Ok(addresses)
    }

    fn note_unknown(&self, endpoint: &Endpoint, reason: String) {
        let hub = &self.switchboard.hub;
        let target = endpoint.to_string();
        hub.complaints.say(&target, &reason);
        let now_ms = hub.node.now().millis();
        let note = DialNote { target, state: DialState::Failed(reason), node: None, now_ms };
        hub.node.replication().note_dial(endpoint, note);
    }
}
