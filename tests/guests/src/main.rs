//! `cargo guests`: builds the example handlers and says where they are.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs;
use std::process::ExitCode;

use anyhow::Context;

fn main() -> ExitCode {
    match print_guests() {
        Ok(()) => ExitCode::SUCCESS,
        // One line whatever the environment says of backtraces: it says what to install.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_guests() -> anyhow::Result<()> {
    let guests = atoll_guests::build()?;
    for name in guests.names() {
        let path = guests.path(name);
        let bytes = fs::metadata(&path).with_context(|| format!("{name} was not built"))?.len();
        println!("{bytes:>8} bytes  {}", path.display());
    }
    Ok(())
}
