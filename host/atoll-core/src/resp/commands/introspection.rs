//! COMMAND and HELP: what this server can do, as clients ask for it.

use crate::resp::command::{self, COMMAND_COUNT, COMMANDS, Command, Flag};
use crate::resp::fault::{Fault, excerpt};
use crate::resp::glob::{self, Letters};
use crate::resp::output::Output;
use crate::resp::session::Call;

const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about commands.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "LIST [FILTERBY PATTERN <pattern>]",
    "    Return a list of all commands in this server.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn command(call: &mut Call<'_>) -> Result<(), Fault> {
    if call.len() == 1 {
        call.output.array(COMMAND_COUNT);
        COMMANDS.iter().for_each(|command| describe(call.output, Some(command)));
        return Ok(());
    }
    match call.argument(1).to_ascii_lowercase().as_slice() {
        b"count" if call.len() == 2 => call.output.count(COMMAND_COUNT),
        b"info" => info(call),
        b"docs" => docs(call),
        b"list" => list(call)?,
        b"getkeys" if call.len() > 2 => getkeys(call)?,
        b"help" if call.len() == 2 => {
            call.output.array(HELP.len());
            HELP.iter().for_each(|line| call.output.simple(line));
        }
        name @ (b"count" | b"getkeys" | b"help") => {
            return Err(Fault::Arity(format!("command|{}", excerpt(name, 128))));
        }
        _ => {
            let name = excerpt(call.argument(1), 128);
            return Err(Fault::other(format!("unknown subcommand '{name}'. Try COMMAND HELP.")));
        }
    }
    Ok(())
}

/// The commands that were named from argument 2 on, or all.
fn chosen(call: &Call<'_>) -> Vec<Option<&'static Command>> {
    if call.len() == 2 {
        return COMMANDS.iter().map(Some).collect();
    }
    call.arguments.from(2).map(command::find).collect()
}

fn info(call: &mut Call<'_>) {
    let commands = chosen(call);
    call.output.array(commands.len());
    commands.into_iter().for_each(|command| describe(call.output, command));
}

/// The ten parts of COMMAND INFO.
fn describe(output: &mut Output, command: Option<&Command>) {
    let Some(command) = command else { return output.null() };
    output.array(10);
    output.bulk(command.name.as_bytes());
    output.integer(i64::from(command.arity.0));
    output.set(command.flags.len());
    command.flags.iter().for_each(|flag| output.simple(flag.name()));
    output.integer(i64::from(command.keys.first));
    output.integer(i64::from(command.keys.last));
    output.integer(i64::from(command.keys.step));
    let categories = categories(command);
    output.set(categories.len());
    categories.iter().for_each(|category| output.simple(category));
    // Tips, key specifications, subcommands.
    output.set(0);
    output.set(0);
    output.array(0);
}

fn categories(command: &Command) -> Vec<&'static str> {
    let mut categories = Vec::new();
    let mut when = |flag, category| {
        if command.flags.contains(&flag) {
            categories.push(category);
        }
    };
    when(Flag::Readonly, "@read");
    when(Flag::Write, "@write");
    when(Flag::Admin, "@admin");
    when(Flag::Fast, "@fast");
    match command.group {
        "string" => categories.push("@string"),
        "generic" => categories.push("@keyspace"),
        "connection" => categories.push("@connection"),
        _ => {}
    }
    if !command.flags.contains(&Flag::Fast) {
        categories.push("@slow");
    }
    categories
}

fn docs(call: &mut Call<'_>) {
    let commands: Vec<_> = chosen(call).into_iter().flatten().collect();
    let output = &mut *call.output;
    output.map(commands.len());
    for command in commands {
        output.bulk(command.name.as_bytes());
        let parts = if command.subcommands.is_empty() { 3 } else { 4 };
        document(output, parts, (command.summary, command.since, command.group));
        if parts == 4 {
            output.bulk(b"subcommands");
            output.map(command.subcommands.len());
            for subcommand in command.subcommands {
                output.bulk(format!("{}|{}", command.name, subcommand.name).as_bytes());
                document(output, 3, (subcommand.summary, command.since, command.group));
            }
        }
    }
}

fn document(output: &mut Output, parts: usize, (summary, since, group): (&str, &str, &str)) {
    output.map(parts);
    for (name, value) in [("summary", summary), ("since", since), ("group", group)] {
        output.bulk(name.as_bytes());
        output.bulk(value.as_bytes());
    }
}

fn list(call: &mut Call<'_>) -> Result<(), Fault> {
    let wanted: Vec<_> = match call.len() {
        2 => COMMANDS.iter().collect(),
        5 if call.is(2, "filterby") => filtered(call)?,
        _ => return Err(Fault::Syntax),
    };
    call.output.array(wanted.len());
    wanted.iter().for_each(|command| call.output.bulk(command.name.as_bytes()));
    Ok(())
}

fn filtered(call: &Call<'_>) -> Result<Vec<&'static Command>, Fault> {
    let value = call.argument(4);
    let mut commands: Vec<_> = COMMANDS.iter().collect();
    match call.argument(3).to_ascii_lowercase().as_slice() {
        b"pattern" => commands.retain(|command| {
            value.len() <= 64 && glob::matches(value, command.name.as_bytes(), Letters::AnyCase)
        }),
        b"aclcat" => commands.retain(|command| {
            categories(command).iter().any(|category| category.as_bytes()[1..].eq(value))
        }),
        // There are no modules.
        b"module" => commands.clear(),
        _ => return Err(Fault::Syntax),
    }
    Ok(commands)
}

fn getkeys(call: &mut Call<'_>) -> Result<(), Fault> {
    let command = command::find(call.argument(2));
    let command = command.ok_or(Fault::other("Invalid command specified"))?;
    let count = call.len() - 2;
    if !command.arity.accepts(count) {
        let words = "Invalid number of arguments specified for command";
        return Err(Fault::other(words));
    }
    let keys = command.keys;
    let first = usize::from(keys.first.unsigned_abs());
    if first == 0 {
        return Err(Fault::other("The command has no key arguments"));
    }
    let from_end = usize::from(keys.last.unsigned_abs());
    let last = if keys.last < 0 { count - from_end } else { from_end };
    let indices = (first..=last).step_by(usize::from(keys.step.unsigned_abs().max(1)));
    call.output.array(indices.clone().count());
    indices.for_each(|index| call.output.bulk(call.argument(2 + index)));
    Ok(())
}

/// HELP of a command with subcommands.
pub(crate) fn help(call: &mut Call<'_>) -> Result<(), Fault> {
    let command = command::find(call.argument(0)).ok_or(Fault::Syntax)?;
    let name = command.name.to_ascii_uppercase();
    call.output.array(1 + 2 * command.subcommands.len());
    let first = format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    call.output.simple(&first);
    for subcommand in command.subcommands {
        call.output.simple(&subcommand.name.to_ascii_uppercase());
        call.output.simple(&format!("    {}", subcommand.summary));
    }
    Ok(())
}
