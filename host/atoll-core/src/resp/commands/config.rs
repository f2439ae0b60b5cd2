//! CONFIG: what clients and frameworks ask of a Redis, answered with what is true here.

use super::super::server::{Facts, Limits, Settings};
use crate::entry::counter::parse_integer;
use crate::limits::{REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use crate::permission::StaleReads;
use crate::replica::status::Role;
use crate::resp::fault::{Fault, excerpt};
use crate::resp::glob::{self, Letters};
use crate::resp::session::{Call, DATABASE_COUNT};

/// A parameter: its name and its value as text.
type Parameter = (&'static str, String);

/// Every parameter that CONFIG GET knows, by name.
fn parameters(
    settings: Settings,
    replication: Replication,
    (memory_bytes_max, facts): (usize, &Facts),
) -> Vec<Parameter> {
    let disk = facts.disk.as_ref();
    let fixed = |name, value: &str| (name, value.to_owned());
    let yes = |is_so| if is_so { "yes" } else { "no" };
    let (is_replica, stale) = (replication.role == Role::Replica, replication.stale_reads.as_str());
    vec![
        // KeyDB's word for a node that takes writes although it follows others.
        fixed("active-replica", yes(!is_replica)),
        fixed("appendfsync", disk.map_or("everysec", |disk| disk.fsync)),
        fixed("appendonly", if disk.is_some() { "yes" } else { "no" }),
        ("client-query-buffer-limit", REQUEST_BYTES_MAX.to_string()),
        ("databases", DATABASE_COUNT.to_string()),
        fixed("latency-monitor-threshold", "0"),
        ("maxclients", settings.limits.clients_max.to_string()),
        ("maxmemory", memory_bytes_max.to_string()),
        fixed("maxmemory-policy", "noeviction"),
        fixed("multi-master", "yes"),
        fixed("notify-keyspace-events", ""),
        ("proto-max-bulk-len", VALUE_BYTES_MAX.to_string()),
        fixed("replica-read-only", yes(is_replica)),
        fixed("replica-serve-stale-data", stale),
        fixed("requirepass", ""),
        fixed("save", ""),
        fixed("slave-read-only", yes(is_replica)),
        fixed("slave-serve-stale-data", stale),
        fixed("slowlog-log-slower-than", "-1"),
        fixed("slowlog-max-len", "0"),
        ("timeout", settings.limits.idle_s_max.to_string()),
    ]
}

/// What replication was told.
#[derive(Clone, Copy)]
struct Replication {
    role: Role,
    stale_reads: StaleReads,
}

impl Replication {
    fn of(call: &Call<'_>) -> Replication {
        let cluster = call.around.server.cluster();
        Replication { role: cluster.status().role, stale_reads: cluster.stale_reads() }
    }
}

fn all(call: &Call<'_>) -> Vec<Parameter> {
    let (server, replication) = (call.around.server, Replication::of(call));
    let memory_bytes_max = call.around.store.memory_bytes_max();
    parameters(server.settings(), replication, (memory_bytes_max, &server.facts()))
}

pub(crate) fn get(call: &mut Call<'_>) -> Result<(), Fault> {
    let mut parameters = all(call);
    let patterns = call.arguments.from(2);
    parameters.retain(|(name, _)| {
        let name = name.as_bytes();
        patterns
            .clone()
            .any(|pattern| pattern.len() <= 64 && glob::matches(pattern, name, Letters::AnyCase))
    });
    call.output.map(parameters.len());
    for (name, value) in parameters {
        call.output.bulk(name.as_bytes());
        call.output.bulk(value.as_bytes());
    }
    Ok(())
}

pub(crate) fn set(call: &mut Call<'_>) -> Result<(), Fault> {
    let parameters = all(call);
    let limits = call.around.server.settings().limits;
    let mut wanted = Wanted { limits, stale_reads: None, memory_bytes_max: None };
    if !call.len().is_multiple_of(2) {
        return Err(Fault::Arity("config|set".to_owned()));
    }
    for index in (2..call.len()).step_by(2) {
        let name = call.argument(index).to_ascii_lowercase();
        let known = parameters.iter().find(|(known, _)| known.as_bytes() == name);
        let Some((name, value)) = known else {
            let name = excerpt(call.argument(index), 128);
            let words = format!("Unknown option or number of arguments for CONFIG SET - '{name}'");
            return Err(Fault::other(words));
        };
        change(&mut wanted, (name, value), call.argument(index + 1)).map_err(|why| {
            let words = "CONFIG SET failed (possibly related to argument";
            Fault::other(format!("{words} '{name}') - {why}"))
        })?;
    }
    call.around.server.set_limits(wanted.limits);
    if let Some(bytes_max) = wanted.memory_bytes_max {
        call.around.store.set_memory_bytes_max(bytes_max);
    }
    if let Some(stale_reads) = wanted.stale_reads {
        call.around.server.cluster().set_stale_reads(stale_reads);
    }
    call.output.ok();
    Ok(())
}

/// What CONFIG SET changes, all at once.
struct Wanted {
    limits: Limits,
    stale_reads: Option<StaleReads>,
    memory_bytes_max: Option<usize>,
}

/// Bytes as Redis' configuration has them: a number and, at will, a unit.
fn memory_bytes(text: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: usize = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    // A sign would be read, too.
    let number = digits.bytes().all(|digit| digit.is_ascii_digit()).then_some(digits)?;
    number.parse::<usize>().ok()?.checked_mul(unit)
}

/// Changes the parameter of this name to `text`, or says why not.
fn change(
    wanted: &mut Wanted,
    (name, value): (&str, &str),
    text: &[u8],
) -> Result<(), &'static str> {
    let number = || {
        let number = parse_integer(text).ok_or("argument couldn't be parsed into an integer")?;
        u32::try_from(number).map_err(|_| "argument must be between 0 and 4294967295 inclusive")
    };
    match name {
        "timeout" => wanted.limits.idle_s_max = number()?,
        "maxclients" => match number()? {
            0 => return Err("argument must be between 1 and 4294967295 inclusive"),
            count => wanted.limits.clients_max = count,
        },
        "maxmemory" => match memory_bytes(text) {
            // Redis' word for as much as there is.
            Some(0) => return Err("this node does not run without a limit"),
            Some(bytes_max) => wanted.memory_bytes_max = Some(bytes_max),
            None => return Err("argument must be a memory value"),
        },
        "replica-serve-stale-data" | "slave-serve-stale-data" => {
            let words = "argument must be 'yes' or 'no'";
            wanted.stale_reads = match text.to_ascii_lowercase().as_slice() {
                b"yes" => Some(StaleReads::Served),
                b"no" => Some(StaleReads::Refused),
                _ => return Err(words),
            };
        }
        // What is already so can be asked for; frameworks do, at start.
        _ if value.as_bytes() == text && name != "requirepass" => {}
        _ => return Err("can't set immutable config"),
    }
    Ok(())
}

pub(crate) fn resetstat(call: &mut Call<'_>) -> Result<(), Fault> {
    call.around.server.tallies().iter().for_each(|tally| tally.reset());
    call.output.ok();
    Ok(())
}
