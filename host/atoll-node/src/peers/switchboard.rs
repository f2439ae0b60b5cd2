//! What everything that opens, accepts and runs links shares.

use super::channel::Stream;
use super::handshake::Messages;
use super::hub::Hub;
use super::introduction::Ticket;
use super::meeting::Meeting;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The shared things, on the one thread of all links.
#[derive(Debug)]
pub(super) struct Switchboard {
    pub(super) hub: Hub,
    pub(super) meeting: Meeting,
    /// Links that wait for their second connection.
    waiting: RefCell<BTreeMap<Ticket, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// The process that was given the ticket.
    origin: Uuid,
    link: oneshot::Sender<Messages<Stream>>,
}

/// A place for a second connection, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'s> {
    switchboard: &'s Switchboard,
    ticket: Ticket,
    connection: oneshot::Receiver<Messages<Stream>>,
}

impl Switchboard {
    pub(super) fn new(hub: Hub, meeting: Meeting) -> Switchboard {
        Switchboard { hub, meeting, waiting: RefCell::default() }
    }

    /// Expects a second connection, with this ticket, of the process named.
    pub(super) fn expect(&self, ticket: Ticket, origin: Uuid) -> Place<'_> {
        let (link, connection) = oneshot::channel();
        self.waiting.borrow_mut().insert(ticket, Waiting { origin, link });
        Place { switchboard: self, ticket, connection }
    }

    /// Who waits for a second connection of `origin` with this ticket.
    pub(super) fn claim(
        &self,
        ticket: Ticket,
        origin: Uuid,
    ) -> Option<oneshot::Sender<Messages<Stream>>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.get(&ticket).is_none_or(|waiting| waiting.origin != origin) {
            return None;
        }
        waiting.remove(&ticket).map(|waiting| waiting.link)
    }
}

impl Place<'_> {
    /// The connection, once it has come.
    pub(super) async fn taken(&mut self) -> Result<Messages<Stream>, String> {
        let lost = |_| "it was lost before it was handed over".to_owned();
        (&mut self.connection).await.map_err(lost)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.switchboard.waiting.borrow_mut().remove(&self.ticket);
    }
}
