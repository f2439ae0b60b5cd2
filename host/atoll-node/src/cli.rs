//! The command line: what a person types, and the one line that answers a mistake.

mod backup;
mod cache;
mod client;
mod cluster;
mod dev;
mod handlers;
mod kv;
mod new;
mod output;
mod paint;
mod purge;
mod secret;
mod serve;
mod status;
mod upstream;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// An active-active edge cache that is programmed with WebAssembly.
///
/// `atoll serve` runs a node; every other command talks to one.
#[derive(Debug, Parser)]
#[command(name = "atoll", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(Box<serve::ServeArgs>),
    /// Write a small project for a handler
    New(new::NewArgs),
    /// Build a handler, run it, and again on every change
    Dev(dev::DevArgs),
    /// Read, write, list and watch keys
    Kv(kv::KvArgs),
    /// Put a handler live on a node, or a new version of one
    Deploy(handlers::DeployArgs),
    /// List the handlers of a node
    Handlers(handlers::HandlersArgs),
    /// Show what a handler logs
    Logs(handlers::logs::LogsArgs),
    /// Change the requests that a handler answers
    Route(handlers::route::RouteArgs),
    /// Give a handler's canary all requests
    Promote(handlers::canary::PromoteArgs),
    /// Bring an earlier version of a handler back
    Rollback(handlers::RollbackArgs),
    /// Take a handler away
    Remove(handlers::RemoveArgs),
    /// Set, list and remove secrets that handlers may read
    Secret(secret::SecretArgs),
    /// Write, list and remove routes to upstreams that hold on every node
    Upstream(upstream::UpstreamArgs),
    /// Take cached responses back, on every node
    Purge(purge::PurgeArgs),
    /// Show what the HTTP cache holds
    Cache(cache::CacheArgs),
    /// Write all keys of a running node to a file
    Backup(backup::BackupArgs),
    /// Bring the keys of a backup back, into a running node or an empty data directory
    Restore(backup::RestoreArgs),
    /// Show what a node is and holds, and how it stands with the others
    Status(status::StatusArgs),
    /// Let go of a node that will not come back
    Cluster(cluster::ClusterArgs),
}

/// Runs the command that was typed. Errors are one line on stderr that says what to do.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_answer(&error) => error.exit(),
        Err(error) => {
            eprintln!("atoll: {}", one_line(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    let result = match cli.command {
        Command::Serve(args) => serve::serve(*args),
        Command::New(args) => new::new(&args),
        Command::Dev(args) => dev::dev(&args),
        Command::Kv(args) => kv::kv(&args),
        Command::Deploy(args) => handlers::deploy(&args),
        Command::Handlers(args) => handlers::list(&args),
        Command::Logs(args) => handlers::logs::logs(&args),
        Command::Route(args) => handlers::route::route(&args),
        Command::Promote(args) => handlers::canary::promote(&args),
        Command::Rollback(args) => handlers::roll_back(&args),
        Command::Remove(args) => handlers::remove(&args),
        Command::Secret(args) => secret::secret(&args),
        Command::Upstream(args) => upstream::upstream(&args),
        Command::Purge(args) => purge::purge(&args),
        Command::Cache(args) => cache::cache(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Status(args) => status::status(&args),
        Command::Cluster(args) => cluster::cluster(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough.
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether what was typed asks for help or the version, so that the whole text is wanted.
fn is_answer(error: &clap::Error) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand)
}

/// clap's message as one line: what is wrong, what was probably meant, and where the rest stands.
fn one_line(message: &str) -> String {
    let mut line = String::new();
    let mut command = "atoll";
    for part in message.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(usage) = part.strip_prefix("Usage: ") {
            // The command's own words come before its options.
            let end = usage.find(['[', '<', '-']).unwrap_or(usage.len());
            command = usage[..end].trim();
            break;
        }
        if part.starts_with("For more information") {
            break;
        }
        let part = part.strip_prefix("error: ").or(part.strip_prefix("tip: ")).unwrap_or(part);
        if !line.is_empty() {
            line += if line.ends_with(':') { " " } else { "; " };
        }
        line += part;
    }
    format!("{line}; see: {command} --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], want: &str) {
        let typed = std::iter::once("atoll").chain(arguments.iter().copied());
        let error = Cli::try_parse_from(typed).expect_err("should be refused");
        assert_eq!(one_line(&error.to_string()), want);
    }

    #[test]
    fn a_mistyped_command_line_is_answered_with_one_line() {
        check(
            &["serve", "--memory-mx", "1"],
            "unexpected argument '--memory-mx' found; a similar argument exists: '--memory-max'; \
             see: atoll serve --help",
        );
        check(
            &["statu"],
            "unrecognized subcommand 'statu'; a similar subcommand exists: 'status'; \
             see: atoll --help",
        );
        check(
            &["serve", "--clients-max", "many"],
            "invalid value 'many' for '--clients-max <COUNT>': invalid digit found in string; \
             see: atoll --help",
        );
        check(
            &["deploy", "--route", "/a"],
            "the following required arguments were not provided: <COMPONENT.wasm>; \
             see: atoll deploy --help",
        );
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
