//! Which compiler can build for Wasm on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{TARGET, command};

/// Where Debian's package `rustc-web` puts its compiler.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Five seconds where the network is good.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// What builds the handlers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one that builds everything else: it has the target.
    Default,
    /// Debian's `rustc-web`, which builds `std` from the sources in `rust-web-src`.
    Debian {
        /// Where the default toolchain keeps `wasm-component-ld`.
        linker_folder: PathBuf,
    },
}

/// Finds a way to build, and adds the target to the default toolchain if that is all that is
/// missing.
pub(crate) fn find() -> anyhow::Result<Toolchain> {
    if has_target()? {
        return Ok(Toolchain::Default);
    }
    let rustup = add_target();
    if rustup.is_ok() && has_target()? {
        return Ok(Toolchain::Default);
    }
    if debian_has_sources() {
        return Ok(Toolchain::Debian { linker_folder: linker_folder()? });
    }
    let reason = rustup.err().map_or_else(String::new, |error| format!(" ({error:#})"));
    bail!(
        "the Rust target {TARGET} is missing{reason}: run `rustup target add {TARGET}`, or on \
         Debian `apt-get install --no-install-recommends rustc-web rust-web-src`"
    )
}

fn has_target() -> anyhow::Result<bool> {
    let folder = ask("rustc", &["--print", "target-libdir", "--target", TARGET])?;
    let Ok(files) = fs::read_dir(folder) else { return Ok(false) };
    Ok(files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

fn add_target() -> anyhow::Result<()> {
    let mut rustup = command::program("rustup");
    rustup.args(["target", "add", TARGET]);
    let status = command::run(&mut rustup, RUSTUP_LIMIT).context("rustup")?;
    if !status.success() {
        bail!("rustup could not add it");
    }
    Ok(())
}

fn debian_has_sources() -> bool {
    let Ok(sysroot) = ask(DEBIAN_RUSTC, &["--print", "sysroot"]) else { return false };
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
}

fn linker_folder() -> anyhow::Result<PathBuf> {
    let sysroot = ask("rustc", &["--print", "sysroot"])?;
    let version = ask("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say for which machine it is")?;
    Ok(Path::new(&sysroot).join("lib/rustlib").join(host).join("bin"))
}

fn ask(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command: Command = command::program(program);
    let Output { status, stdout, .. } =
        command.args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} {} failed: {status}", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_linker_has_the_linker() {
        let folder = linker_folder().unwrap();
        assert!(folder.join("wasm-component-ld").is_file(), "{}", folder.display());
    }
}
