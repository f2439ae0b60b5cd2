//! REPLICAOF, ROLE and WAIT: whom this node is linked with, and who holds what it wrote.

pub(super) mod section;

use crate::entry::counter::parse_integer;
use crate::replica::status::{LinkState, LinkStatus, Role, Status};
use crate::resp::cluster::{Peer, PeerChange};
use crate::resp::fault::Fault;
use crate::resp::output::Output;
use crate::resp::session::{Call, Wait};

/// REPLICAOF and SLAVEOF: `host port` adds a peer, as with KeyDB's several masters; `REMOVE host
/// port` takes one away; `NO ONE` takes all.
pub(crate) fn replicaof(call: &mut Call<'_>) -> Result<(), Fault> {
    let cluster = call.around.server.cluster();
    let change = match call.len() {
        3 if call.is(1, "no") && call.is(2, "one") => {
            if cluster.status().role == Role::Replica {
                return Err(Fault::other(
                    "this node was started as a replica and stays one; start it with --role master \
                     to make it take writes, or use REPLICAOF REMOVE to take a peer away",
                ));
            }
            PeerChange::Clear
        }
        3 => {
            let (host, port) = place(call, 1)?;
            PeerChange::Add { host, port }
        }
        4 if call.is(1, "remove") => {
            let (host, port) = place(call, 2)?;
            PeerChange::Remove { host, port }
        }
        _ => return Err(Fault::Syntax),
    };
    cluster.change_peers(change).map_err(Fault::Other)?;
    call.output.ok();
    Ok(())
}

/// The host at `index` and the port after it.
fn place<'c>(call: &Call<'c>, index: usize) -> Result<(&'c str, u16), Fault> {
    let host = std::str::from_utf8(call.argument(index)).map_err(|_| Fault::Syntax)?;
    let port = parse_integer(call.argument(index + 1)).and_then(|port| u16::try_from(port).ok());
    let port = port.filter(|port| *port > 0).ok_or(Fault::other("Invalid master port"))?;
    Ok((host, port))
}

/// WAIT: holds the reply back until so many other nodes have what this one wrote.
///
/// What is waited for is all that the node has written so far, which is the connection's own last
/// write at least.
pub(crate) fn wait(call: &mut Call<'_>) -> Result<(), Fault> {
    let count = call.integer(1)?;
    let timeout_ms = parse_integer(call.argument(2))
        .ok_or(Fault::other("timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| Fault::other("timeout is negative"))?;
    let cluster = call.around.server.cluster();
    if cluster.status().role == Role::Replica {
        return Err(Fault::other("WAIT cannot be used with replica instances."));
    }
    let seq = call.around.store.written_seq();
    let holders = cluster.holder_count(seq);
    // None and fewer are always there.
    let count = usize::try_from(count).unwrap_or(0);
    if holders >= count {
        call.output.count(holders);
    } else {
        call.session.hold_for(Wait { seq, count, timeout_ms });
    }
    Ok(())
}

/// The durable copies that WAITAOF counts are those of Redis' own log.
pub(crate) fn waitaof(_: &mut Call<'_>) -> Result<(), Fault> {
    Err(Fault::other("WAITAOF is not supported; use WAIT for copies on other nodes"))
}

/// ROLE: a node that takes writes is a master to every client, whoever it is linked with.
pub(crate) fn role(call: &mut Call<'_>) -> Result<(), Fault> {
    let cluster = call.around.server.cluster();
    let status = cluster.status();
    match status.role {
        Role::Master => {
            call.output.array(3);
            call.output.bulk(b"master");
            call.output.count(call.around.store.seq() as usize);
            call.output.array(status.links.len());
            for link in &status.links {
                let (host, port) = address(link);
                call.output.array(3);
                call.output.bulk(host.as_bytes());
                bulk_number(call.output, u64::from(port));
                bulk_number(call.output, held_seq(&status, link));
            }
        }
        Role::Replica => {
            let peers = cluster.peers();
            let peer = peers.iter().find(|peer| peer.is_up).or(peers.first());
            let peer = peer.cloned().unwrap_or_default();
            let link = link_with(&status, &peer);
            let state = match link.map(|link| link.state) {
                Some(LinkState::Receiving) => "sync",
                Some(LinkState::Streaming | LinkState::Sending | LinkState::Full) => "connected",
                None if peer.since_ms == 0 => "connect",
                None => "connecting",
            };
            call.output.array(5);
            call.output.bulk(b"slave");
            call.output.bulk(peer.host.as_bytes());
            call.output.integer(i64::from(peer.port));
            call.output.bulk(state.as_bytes());
            call.output.integer(link.map_or(-1, |link| received_seq(&status, link) as i64));
        }
    }
    Ok(())
}

fn bulk_number(output: &mut Output, number: u64) {
    output.bulk(itoa::Buffer::new().format(number).as_bytes());
}

/// The link with `peer`, where there is one.
fn link_with<'s>(status: &'s Status, peer: &Peer) -> Option<&'s LinkStatus> {
    let node = peer.node.as_ref().filter(|_| peer.is_up)?;
    status.links.iter().find(|link| link.name == *node)
}

/// The other end of a link as clients want it; what is no address is the host.
fn address(link: &LinkStatus) -> (&str, u16) {
    let whole = (link.address.as_str(), 0);
    let Some((host, port)) = link.address.rsplit_once(':') else { return whole };
    let Ok(port) = port.parse() else { return whole };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

/// Up to which op of this process the node at the other end has all.
fn held_seq(status: &Status, link: &LinkStatus) -> u64 {
    let member = status.members.iter().find(|member| member.origin == link.origin);
    member.map_or(0, |member| member.holds_seq)
}

/// Up to which op of the process at the other end this node has all.
fn received_seq(status: &Status, link: &LinkStatus) -> u64 {
    let member = status.members.iter().find(|member| member.origin == link.origin);
    member.map_or(0, |member| member.seq)
}
