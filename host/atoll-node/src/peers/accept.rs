//! Connections that other nodes open: strangers within bounds, then links.

use super::handshake;
use super::introduction::{Purpose, Ticket};
use super::lane::End;
use super::limits::{
    ACCEPT_PAUSE, ACCEPTED_COUNT_MAX, KEEPALIVE, STRANGER_COUNT_MAX, STRANGER_COUNT_MAX_EACH,
};
use super::link::{self, Link};
use super::meeting::{MeetError, Met};
use super::switchboard::Switchboard;
use atoll_core::replica::{Connected, Dialler};
use atoll_core::wire::frame::Farewell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Those who have connected and have yet to prove who they are.
#[derive(Debug, Default)]
struct Strangers {
    /// By address.
    counts: RefCell<HashMap<IpAddr, usize>>,
}

/// A stranger's place, given up when it is dropped.
#[derive(Debug)]
struct StrangerPlace {
    strangers: Rc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    /// A place for one more from `address`, if there is one.
    fn admit(self: &Rc<Strangers>, address: IpAddr) -> Option<StrangerPlace> {
        let mut counts = self.counts.borrow_mut();
        if counts.values().sum::<usize>() >= STRANGER_COUNT_MAX {
            return None;
        }
        let count = counts.entry(address).or_default();
        if *count >= STRANGER_COUNT_MAX_EACH {
            return None;
        }
        *count += 1;
        Some(StrangerPlace { strangers: Rc::clone(self), address })
    }
}

impl Drop for StrangerPlace {
    fn drop(&mut self) {
        let mut counts = self.strangers.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Accepts until `stop`; then waits until the links have ended. The machine ends them.
pub(super) async fn accept(
    switchboard: Rc<Switchboard>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tokio::task::JoinError> {
    let strangers = Rc::new(Strangers::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                ended?;
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = strangers.admit(address.ip().to_canonical());
        let Some(place) = place.filter(|_| connections.len() < ACCEPTED_COUNT_MAX) else {
            let who = address.ip().to_string();
            switchboard.hub.complaints.say(&who, "too many connections that prove nothing");
            continue;
        };
        connections.spawn_local(serve(Rc::clone(&switchboard), (stream, address), place));
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        ended?;
    }
    Ok(())
}

async fn serve(
    switchboard: Rc<Switchboard>,
    (stream, address): (TcpStream, SocketAddr),
    place: StrangerPlace,
) {
    if let Err(error) = prepare(&stream) {
        debug!(%address, %error, "connection lost before it was served");
        return;
    }
    let who = address.ip().to_canonical().to_string();
    let complaints = &switchboard.hub.complaints;
    let met = match switchboard.meeting.accept(stream).await {
        Ok(met) => met,
        Err(error) => return complaints.say(&who, &error.to_string()),
    };
    let name = met.peer.name.clone();
    match met.peer.purpose {
        Purpose::Bulk(ticket) => {
            drop(place);
            attach(&switchboard, met, ticket).await;
        }
        Purpose::Link => match run(&switchboard, met, (address, place)).await {
            Ok(
                End::Heard(Farewell::Refused(reason) | Farewell::Later(reason))
                | End::Told(Farewell::Refused(reason) | Farewell::Later(reason)),
            ) => complaints.say(&format!("{name} at {who}"), &reason),
            // Said where the link ended, or nothing worth saying.
            Ok(_) => {}
            Err(error) => complaints.say(&who, &error.to_string()),
        },
    }
}

/// Sets what every connection between nodes has.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    // Without it acknowledgements wait for one another.
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Hands a second connection to the link that it belongs to.
async fn attach(switchboard: &Switchboard, met: Met, ticket: Ticket) {
    let mut messages = met.messages;
    handshake::open_up(&mut messages);
    let Some(link) = switchboard.claim(ticket, met.peer.origin) else {
        let reason = "the link that this connection belongs to is gone".to_owned();
        // Whoever dialled it will see that, too.
        let _ = handshake::say(&mut messages, Farewell::Later(reason)).await;
        return;
    };
    // The link may be gone meanwhile: then so is this.
    let _ = link.send(messages);
}

async fn run(
    switchboard: &Switchboard,
    mut met: Met,
    (address, place): (SocketAddr, StrangerPlace),
) -> Result<End, MeetError> {
    let hub = &switchboard.hub;
    let ticket = Ticket::draw().map_err(|error| MeetError::Failed(error.to_string()))?;
    let mut second = switchboard.expect(ticket, met.peer.origin);
    let (hello, _) = met.greet(&hub.hello(), ticket).await?;
    drop(place);
    let reads_zstd = met.peer.reads_zstd;
    let connected =
        |link| Connected { link, hello, dialler: Dialler::Them, address: address.to_string() };
    let outlets = hub.connect(connected, reads_zstd);
    let link = Link { outlets, address, live: met.messages };
    Ok(link::run(hub, link, second.taken(), || ()).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stranger_cannot_take_every_place() {
        let strangers = Rc::new(Strangers::default());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let admit = |last, count| -> Vec<StrangerPlace> {
            (0..count).filter_map(|_| strangers.admit(address(last))).collect()
        };
        let first = admit(1, 1_000);
        assert_eq!(first.len(), STRANGER_COUNT_MAX_EACH);
        let others: Vec<_> = (2..=100).flat_map(|last| admit(last, 1)).collect();
        assert_eq!(first.len() + others.len(), STRANGER_COUNT_MAX);
        drop(first);
        assert_eq!(admit(1, 1).len(), 1, "a place is free again");
        drop(others);
        assert!(strangers.counts.borrow().is_empty());
    }
}
