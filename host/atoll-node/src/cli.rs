//! The command line: what a person types, and the one line that answers a mistake.

mod serve;

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
}

/// Runs the command that was typed. Errors are one line on stderr that says what to do.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => serve::serve(*args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll: {error:#}");
            ExitCode::FAILURE
        }
    }
}
