//! CONFIG: what clients and frameworks ask of a Redis, answered with what is true here.

use super::super::server::{Limits, Settings};
use crate::entry::counter::parse_integer;
use crate::limits::{REQUEST_BYTES_MAX, VALUE_BYTES_MAX};
use crate::resp::fault::{Fault, excerpt};
use crate::resp::glob::{self, Letters};
use crate::resp::session::{Call, DATABASE_COUNT};

/// A parameter: its name and its value as text.
type Parameter = (&'static str, String);

/// Every parameter that CONFIG GET knows, by name.
fn parameters(settings: Settings, memory_bytes_max: usize) -> Vec<Parameter> {
    let fixed = |name, value: &str| (name, value.to_owned());
    vec![
        fixed("appendfsync", "everysec"),
        fixed("appendonly", "no"),
        ("client-query-buffer-limit", REQUEST_BYTES_MAX.to_string()),
        ("databases", DATABASE_COUNT.to_string()),
        fixed("latency-monitor-threshold", "0"),
        ("maxclients", settings.limits.clients_max.to_string()),
        ("maxmemory", memory_bytes_max.to_string()),
        fixed("maxmemory-policy", "noeviction"),
        fixed("notify-keyspace-events", ""),
        ("proto-max-bulk-len", VALUE_BYTES_MAX.to_string()),
        fixed("replica-read-only", "yes"),
        fixed("requirepass", ""),
        fixed("save", ""),
        fixed("slave-read-only", "yes"),
        fixed("slowlog-log-slower-than", "-1"),
        fixed("slowlog-max-len", "0"),
        ("timeout", settings.limits.idle_s_max.to_string()),
    ]
}

fn all(call: &Call<'_>) -> Vec<Parameter> {
    parameters(call.around.server.settings(), call.around.store.memory_bytes_max())
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
    let mut limits = call.around.server.settings().limits;
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
        change(&mut limits, (name, value), call.argument(index + 1)).map_err(|why| {
            let words = "CONFIG SET failed (possibly related to argument";
            Fault::other(format!("{words} '{name}') - {why}"))
        })?;
    }
    call.around.server.set_limits(limits);
    call.output.ok();
    Ok(())
}

/// Changes the limit of this name to `wanted`, or says why not.
fn change(
    limits: &mut Limits,
    (name, value): (&str, &str),
    wanted: &[u8],
) -> Result<(), &'static str> {
    let number = || {
        let number = parse_integer(wanted).ok_or("argument couldn't be parsed into an integer")?;
        u32::try_from(number).map_err(|_| "argument must be between 0 and 4294967295 inclusive")
    };
    match name {
        "timeout" => limits.idle_s_max = number()?,
        "maxclients" => match number()? {
            0 => return Err("argument must be between 1 and 4294967295 inclusive"),
            count => limits.clients_max = count,
        },
        // What is already so can be asked for; frameworks do, at start.
        _ if value.as_bytes() == wanted && name != "requirepass" => {}
        _ => return Err("can't set immutable config"),
    }
    Ok(())
}

pub(crate) fn resetstat(call: &mut Call<'_>) -> Result<(), Fault> {
    call.around.server.tallies().iter().for_each(|tally| tally.reset());
    call.output.ok();
    Ok(())
}
