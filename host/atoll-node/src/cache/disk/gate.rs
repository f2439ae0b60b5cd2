//! When a restarted node serves what lies on its disk, and what others have shared: once it knows the
//! purges that it has missed.
//!
//! They come with what the other nodes have written meanwhile. A node that cannot reach them waits for
//! a while and serves then, as it would have if it had been cut off without a restart.

use super::Disk;
use super::limits::CATCH_UP_WAIT;
use crate::cache::purges::Purges;
use crate::node::{Node, Unready};
use crate::replication::peers::DialState;
use atoll_core::replica::status::{LinkState, MemberStatus, Readiness};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For how many looks in a row nothing may be missing: the status is published now and then.
const LOOK_COUNT: u32 = 4;

/// Waits until the purges of others are known, and lets the disk be served then, and what they have
/// shared.
pub(crate) async fn open(
    purges: Arc<Purges>,
    disk: Option<Arc<Disk>>,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        is_caught_up = caught_up(purges.node()) => {
            if !is_caught_up {
                let wait_s = CATCH_UP_WAIT.as_secs();
                warn!(wait_s, "peers are not reached; serving what is kept without their purges");
            }
        }
    }
    // All that has come lies in the store by now.
    purges.look_through();
    purges.end_missing();
    if let Some(disk) = disk {
        disk.serve();
    }
}

async fn caught_up(node: &Node) -> bool {
    let deadline = Instant::now() + CATCH_UP_WAIT;
    let mut looks = 0;
    while looks < LOOK_COUNT {
        if Instant::now() >= deadline {
            return false;
        }
        match lack(node) {
            Lack::Nobody => return true,
            Lack::Nothing => looks += 1,
            Lack::Something => looks = 0,
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

/// What is missing of what other nodes have written.
enum Lack {
    /// There are no others.
    Nobody,
    Nothing,
    Something,
}

fn lack(node: &Node) -> Lack {
    let dials = node.replication().peers().all();
    let status = node.replication().status();
    let others: Vec<&MemberStatus> =
        status.members.iter().filter(|member| member.name != node.name()).collect();
    if dials.is_empty() && others.is_empty() {
        return Lack::Nobody;
    }
    let is_loading = matches!(node.unreadiness(), Some(Unready::Loading | Unready::Joining));
    let is_dialling = dials.iter().any(|peer| {
        let waits = |state: &DialState| !matches!(state, DialState::Up | DialState::Itself);
        peer.dials.is_empty() || peer.dials.iter().any(|dial| waits(&dial.state))
    });
    // A name stands for several processes where a node was restarted: one of them is there now.
    let is_known = |name: &str| {
        others
            .iter()
            .filter(|member| member.name == name)
            .any(|member| member.readiness != Readiness::Joining && member.seq >= member.own_seq)
    };
    let lags = status.links.is_empty() || others.iter().any(|member| !is_known(&member.name));
    let receives = status.links.iter().any(|link| link.state != LinkState::Streaming);
    if is_loading || is_dialling || lags || receives { Lack::Something } else { Lack::Nothing }
}
