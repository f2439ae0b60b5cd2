//! The command line: what a person types, and the one line that answers a mistake.

mod client;
mod handlers;
mod kv;
mod output;
mod serve;
mod status;

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
    /// Read, write, list and watch keys
    Kv(kv::KvArgs),
    /// Put a handler live on a node, or a new version of one
    Deploy(handlers::DeployArgs),
    /// List the handlers of a node
    Handlers(handlers::HandlersArgs),
    /// Take a handler away
    Remove(handlers::RemoveArgs),
    /// Show what a node is and holds
    Status(status::StatusArgs),
}

/// Runs the command that was typed. Errors are one line on stderr that says what to do.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => serve::serve(*args),
        Command::Kv(args) => kv::kv(&args),
        Command::Deploy(args) => handlers::deploy(&args),
        Command::Handlers(args) => handlers::list(&args),
        Command::Remove(args) => handlers::remove(&args),
        Command::Status(args) => status::status(&args),
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
