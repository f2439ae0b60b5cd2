//! The conversation itself: PING, HELLO, AUTH, SELECT, QUIT, RESET.

use super::client::checked_name;
use crate::entry::counter::parse_integer;
use crate::resp::fault::{Fault, excerpt};
use crate::resp::output::Protocol;
use crate::resp::request::Trust;
use crate::resp::server::Password;
use crate::resp::session::{Call, DATABASE_COUNT};

/// What HELLO and INFO call the version of Redis whose behaviour is ours: clients ask it for what
/// they may use, and some refuse to cache before 7.4.
pub(super) const REDIS_VERSION: &str = "7.4.0";

/// The only user there is.
const USER: &[u8] = b"default";

pub(crate) fn ping(call: &mut Call<'_>) -> Result<(), Fault> {
    match call.len() {
        // It must not be taken for a message.
        1 | 2 if call.session.listens_only() => {
            let text = call.arguments.from(1).next().unwrap_or_default();
            call.output.array(2);
            call.output.bulk(b"pong");
            call.output.bulk(text);
        }
        1 => call.output.simple("PONG"),
        2 => call.output.bulk(call.argument(1)),
        _ => return Err(Fault::Arity("ping".to_owned())),
    }
    Ok(())
}

pub(crate) fn echo(call: &mut Call<'_>) -> Result<(), Fault> {
    match call.arguments.shared(1) {
        Some(bytes) => call.output.bulk_shared(bytes),
        None => call.output.bulk(call.argument(1)),
    }
    Ok(())
}

pub(crate) fn quit(call: &mut Call<'_>) -> Result<(), Fault> {
    call.session.close();
    call.output.ok();
    Ok(())
}

pub(crate) fn reset(call: &mut Call<'_>) -> Result<(), Fault> {
    call.session.reset(call.around.server);
    call.output.simple("RESET");
    Ok(())
}

pub(crate) fn select(call: &mut Call<'_>) -> Result<(), Fault> {
    call.session.set_database(database(call.argument(1))?);
    call.output.ok();
    Ok(())
}

/// The number of a database, from a client's words.
pub(in crate::resp) fn database(words: &[u8]) -> Result<u8, Fault> {
    let number = parse_integer(words).ok_or(Fault::NotInteger)?;
    if i32::try_from(number).is_err() {
        let words =
            format!("value is out of range, value must between {} and {}", i32::MIN, i32::MAX);
        return Err(Fault::other(words));
    }
    let database = u8::try_from(number).ok().filter(|&database| database < DATABASE_COUNT);
    database.ok_or(Fault::Database)
}

pub(crate) fn auth(call: &mut Call<'_>) -> Result<(), Fault> {
    let (user, password) = match call.len() {
        2 => (USER, call.argument(1)),
        3 => (call.argument(1), call.argument(2)),
        _ => return Err(Fault::Syntax),
    };
    if call.len() == 2 && call.around.server.settings().password == Password::NotAsked {
        return Err(Fault::other(
            "AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ));
    }
    authenticate(call, (user, password))?;
    call.output.ok();
    Ok(())
}

fn authenticate(call: &mut Call<'_>, (user, password): (&[u8], &[u8])) -> Result<(), Fault> {
    let server = call.around.server;
    let right = match server.settings().password {
        Password::NotAsked => true,
        Password::Asked => server.is_password(password),
    };
    if user != USER || !right {
        return Err(Fault::Password);
    }
    call.session.trust = Trust::Client;
    Ok(())
}

/// What HELLO asked for.
#[derive(Default)]
struct Hello<'c> {
    protocol: Option<Protocol>,
    credentials: Option<(&'c [u8], &'c [u8])>,
    name: Option<&'c [u8]>,
}

impl<'c> Hello<'c> {
    fn parse(call: &Call<'c>) -> Result<Hello<'c>, Fault> {
        let mut hello = Hello::default();
        if call.len() > 1 {
            hello.protocol = match parse_integer(call.argument(1)) {
                Some(2) => Some(Protocol::Resp2),
                Some(3) => Some(Protocol::Resp3),
                Some(_) => return Err(Fault::Protocol),
                None => {
                    let words = "Protocol version is not an integer or out of range";
                    return Err(Fault::other(words));
                }
            };
        }
        let mut at = 2;
        while at < call.len() {
            let more = call.len() - 1 - at;
            if call.is(at, "auth") && more >= 2 {
                hello.credentials = Some((call.argument(at + 1), call.argument(at + 2)));
                at += 3;
            } else if call.is(at, "setname") && more >= 1 {
                hello.name = Some(call.argument(at + 1));
                at += 2;
            } else {
                let option = excerpt(call.argument(at), 128);
                return Err(Fault::other(format!("Syntax error in HELLO option '{option}'")));
            }
        }
        Ok(hello)
    }
}

pub(crate) fn hello(call: &mut Call<'_>) -> Result<(), Fault> {
    let hello = Hello::parse(call)?;
    let name = hello.name.map(|name| checked_name(name, "Client names")).transpose()?;
    if let Some(credentials) = hello.credentials {
        authenticate(call, credentials)?;
    }
    if call.session.trust == Trust::Stranger {
        return Err(Fault::Hello);
    }
    if let Some(name) = name {
        call.session.client.labels().name = name;
    }
    if let Some(protocol) = hello.protocol {
        call.session.set_protocol(protocol);
        call.output.set_protocol(protocol);
    }
    greet(call);
    Ok(())
}

/// The seven pairs of HELLO; clients of some languages count them.
fn greet(call: &mut Call<'_>) {
    let protocol = if call.session.protocol == Protocol::Resp3 { 3 } else { 2 };
    let id = i64::try_from(call.session.client.id()).unwrap_or(i64::MAX);
    let role = call.around.server.cluster().status().role.as_str();
    let output = &mut *call.output;
    output.map(7);
    output.bulk(b"server");
    output.bulk(b"redis");
    output.bulk(b"version");
    output.bulk(REDIS_VERSION.as_bytes());
    output.bulk(b"proto");
    output.integer(protocol);
    output.bulk(b"id");
    output.integer(id);
    output.bulk(b"mode");
    output.bulk(b"standalone");
    output.bulk(b"role");
    output.bulk(role.as_bytes());
    output.bulk(b"modules");
    output.array(0);
}
