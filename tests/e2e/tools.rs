//! Programs that the tests need and users have.

use std::process::{Command, Output};

/// The output of a program that must be there and must succeed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = output(program, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {stdout}{stderr}");
    stdout
}

/// The output of a program that must be there, however it ends.
#[track_caller]
pub(crate) fn output(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} cannot be run ({error}); on Debian: apt-get install {}", package(program))
    })
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn package(program: &str) -> &str {
    match program {
        "redis-cli" | "redis-benchmark" => "redis-tools",
        "python3" => "python3-venv",
        "npm" | "node" => "nodejs npm",
        "cc" => "gcc",
        "clang" | "wasm-ld" => "clang lld wasi-libc libclang-rt-dev-wasm32",
        other => other,
    }
}
