//! Running other programs: without what cargo left in the environment, and not for ever.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// What may pass to a cargo inside of cargo: where things are and how to fetch them. The rest of
/// `CARGO_*` describes the crate whose test or program this is.
const CARGO_VARIABLES_KEPT: [&str; 9] = [
    "CARGO_BUILD_JOBS",
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TARGET_DIR",
    "CARGO_TERM_",
];

/// Flags and wrappers that are meant for the build that this one is inside of.
const OTHERS_REMOVED: [&str; 7] = [
    "CLIPPY_ARGS",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

/// Returns the cargo that runs us, or the one on the path, with a clean environment.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clean(&mut cargo);
    cargo
}

/// Returns a program with the same clean environment.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    clean(&mut command);
    command
}

/// Runs to the end or, past the limit, kills: the error is then [`io::ErrorKind::TimedOut`].
pub(crate) fn run(command: &mut Command, limit: Duration) -> io::Result<ExitStatus> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            let message = format!("still running after {} s; killed", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        thread::sleep(POLL);
    }
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_removed) {
            command.env_remove(name);
        }
    }
}

fn is_removed(name: &str) -> bool {
    let kept = CARGO_VARIABLES_KEPT.iter().any(|kept| name.starts_with(kept));
    OTHERS_REMOVED.contains(&name) || (name.starts_with("CARGO_") && !kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_another_build_is_removed() {
        for name in ["CARGO_PKG_NAME", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET"]
        {
            assert!(is_removed(name), "{name}");
        }
        for name in
            ["PATH", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"]
        {
            assert!(!is_removed(name), "{name}");
        }
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let started = Instant::now();
        let error = run(Command::new("sleep").arg("60"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
