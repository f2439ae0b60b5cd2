//! CLIENT: what a connection says about itself, and what it may know of others.

use crate::entry::counter::parse_integer;
use crate::limits::CLIENT_NAME_BYTES_MAX;
use crate::resp::client::{Client, Mode};
use crate::resp::fault::{Fault, excerpt};
use crate::resp::session::{Call, Replies};
use std::collections::HashSet;
use std::sync::Arc;

/// Checks a name that a client gave: printable ASCII without spaces. `what` starts the error.
pub(super) fn checked_name(name: &[u8], what: &str) -> Result<String, Fault> {
    let printable = name.iter().all(u8::is_ascii_graphic);
    if !printable {
        let words = format!("{what} cannot contain spaces, newlines or special characters.");
        return Err(Fault::other(words));
    }
    if name.len() > CLIENT_NAME_BYTES_MAX {
        return Err(Fault::other(format!(
            "{what} have at most {CLIENT_NAME_BYTES_MAX} characters."
        )));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

pub(crate) fn setname(call: &mut Call<'_>) -> Result<(), Fault> {
    let name = checked_name(call.argument(2), "Client names")?;
    call.session.client.labels().name = name;
    call.output.ok();
    Ok(())
}

pub(crate) fn getname(call: &mut Call<'_>) -> Result<(), Fault> {
    let name = call.session.client.labels().name.clone();
    if name.is_empty() {
        call.output.null()
    } else {
        call.output.bulk(name.as_bytes())
    }
    Ok(())
}

pub(crate) fn setinfo(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.is(2, "lib-name") {
        let value = checked_name(call.argument(3), "lib-name")?;
        call.session.client.labels().library = value;
    } else if call.is(2, "lib-ver") {
        let value = checked_name(call.argument(3), "lib-ver")?;
        call.session.client.labels().library_version = value;
    } else {
        let option = excerpt(call.argument(2), 128);
        return Err(Fault::other(format!("Unrecognized option '{option}'")));
    }
    call.output.ok();
    Ok(())
}

pub(crate) fn id(call: &mut Call<'_>) -> Result<(), Fault> {
    let id = i64::try_from(call.session.client.id()).unwrap_or(i64::MAX);
    call.output.integer(id);
    Ok(())
}

pub(crate) fn info(call: &mut Call<'_>) -> Result<(), Fault> {
    let line = call.session.client.describe(call.now_ms()) + "\n";
    call.output.text(&line);
    Ok(())
}

/// A type of connections, as CLIENT LIST and CLIENT KILL name it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    PubSub,
    /// Links have a port of their own, so no client is one.
    Link,
}

impl Kind {
    fn includes(self, client: &Client) -> bool {
        let is_listening = client.mode() == Mode::Subscribed;
        match self {
            Kind::Normal => !is_listening,
            Kind::PubSub => is_listening,
            Kind::Link => false,
        }
    }
}

fn kind(kind: &[u8]) -> Result<Kind, Fault> {
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"pubsub" => Ok(Kind::PubSub),
        b"replica" | b"slave" | b"master" => Ok(Kind::Link),
        _ => Err(Fault::other(format!("Unknown client type '{}'", excerpt(kind, 128)))),
    }
}

/// An id as a client writes it: a positive number.
fn client_id(text: &[u8]) -> Option<u64> {
    parse_integer(text).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0)
}

pub(crate) fn list(call: &mut Call<'_>) -> Result<(), Fault> {
    let mut clients = call.around.server.clients();
    if call.len() > 2 {
        if call.len() == 4 && call.is(2, "type") {
            let kind = kind(call.argument(3))?;
            clients.retain(|client| kind.includes(client));
        } else if call.len() > 3 && call.is(2, "id") {
            let ids = call.arguments.from(3).map(client_id).collect::<Option<HashSet<u64>>>();
            let ids = ids.ok_or(Fault::other("Invalid client ID"))?;
            clients.retain(|client| ids.contains(&client.id()));
        } else {
            return Err(Fault::Syntax);
        }
    }
    let now_ms = call.now_ms();
    let mut text = String::new();
    for client in clients {
        text += &client.describe(now_ms);
        text.push('\n');
    }
    call.output.text(&text);
    Ok(())
}

/// Which connections CLIENT KILL closes: those that meet every condition.
struct Victims<'c> {
    id: Option<u64>,
    address: Option<&'c [u8]>,
    local_address: Option<&'c [u8]>,
    kind: Option<Kind>,
    spare_self: bool,
}

impl<'c> Victims<'c> {
    fn parse(call: &Call<'c>) -> Result<Victims<'c>, Fault> {
        let mut victims =
            Victims { id: None, address: None, local_address: None, kind: None, spare_self: true };
        let mut at = 2;
        while at < call.len() {
            if at + 1 >= call.len() {
                return Err(Fault::Syntax);
            }
            let value = call.argument(at + 1);
            match call.argument(at).to_ascii_lowercase().as_slice() {
                b"id" => {
                    let words = "client-id should be greater than 0";
                    victims.id = Some(client_id(value).ok_or(Fault::other(words))?);
                }
                b"type" => victims.kind = Some(kind(value)?),
                b"addr" => victims.address = Some(value),
                b"laddr" => victims.local_address = Some(value),
                b"user" if value == b"default" => {}
                b"user" => {
                    let user = excerpt(value, 128);
                    return Err(Fault::other(format!("No such user '{user}'")));
                }
                b"skipme" if call.is(at + 1, "yes") => victims.spare_self = true,
                b"skipme" if call.is(at + 1, "no") => victims.spare_self = false,
                _ => return Err(Fault::Syntax),
            }
            at += 2;
        }
        Ok(victims)
    }

    fn include(&self, client: &Client) -> bool {
        self.id.is_none_or(|id| id == client.id())
            && self.address.is_none_or(|address| address == client.address().as_bytes())
            && self.local_address.is_none_or(|local| local == client.local_address().as_bytes())
            && self.kind.is_none_or(|kind| kind.includes(client))
    }
}

pub(crate) fn kill(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.len() == 3 {
        let address = call.argument(2);
        let victims = Victims {
            id: None,
            address: Some(address),
            local_address: None,
            kind: None,
            spare_self: false,
        };
        if close_all(call, &victims) == 0 {
            return Err(Fault::other("No such client"));
        }
        call.output.ok();
        return Ok(());
    }
    let victims = Victims::parse(call)?;
    let count = close_all(call, &victims);
    call.output.count(count);
    Ok(())
}

fn close_all(call: &mut Call<'_>, victims: &Victims<'_>) -> usize {
    let mut clients: Vec<Arc<Client>> = call.around.server.clients();
    let own_id = call.session.client.id();
    clients
        .retain(|client| victims.include(client) && !(victims.spare_self && client.id() == own_id));
    for client in &clients {
        if client.id() == own_id {
            // The reply still goes out.
            call.session.close();
        } else {
            call.around.server.close_client(client.id());
        }
    }
    clients.len()
}

/// NO-EVICT and NO-TOUCH: nothing here evicts clients or counts touches, so both settings hold.
pub(crate) fn on_off(call: &mut Call<'_>) -> Result<(), Fault> {
    if !call.is(2, "on") && !call.is(2, "off") {
        return Err(Fault::Syntax);
    }
    call.output.ok();
    Ok(())
}

pub(crate) fn reply(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.is(2, "on") {
        call.session.replies = Replies::All;
        call.output.ok();
    } else if call.is(2, "off") {
        call.session.replies = Replies::None;
    } else if call.is(2, "skip") {
        if call.session.replies != Replies::None {
            call.session.replies = Replies::SkipNext;
        }
    } else {
        return Err(Fault::Syntax);
    }
    Ok(())
}
