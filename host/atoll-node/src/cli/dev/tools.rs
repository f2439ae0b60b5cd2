//! The tools that a language needs, looked for before anything begins: one line says what to install.

use crate::cli::new::Language;
use anyhow::bail;
use std::path::Path;
use std::process::{Command, Stdio};

/// The target that handlers in Rust are built for.
const TARGET: &str = "wasm32-unknown-unknown";

/// Says what is missing on this machine. A language that we do not know is not looked at.
pub(super) fn check(language: Option<Language>) -> anyhow::Result<()> {
    match language {
        Some(Language::Rust) => {
            need("cargo", "install Rust with rustup (https://rustup.rs)")?;
            need_rust_target()
        }
        Some(Language::Js) => {
            let install =
                "install Node.js 20 or later with npm (Debian: apt-get install nodejs npm)";
            need("node", install)?;
            need("npm", install)
        }
        Some(Language::Python) => {
            need("python3", "install Python 3.10 or later (Debian: apt-get install python3)")?;
            if succeeds("python3", &["-c", "import ensurepip, venv"]) {
                return Ok(());
            }
            bail!("Python's venv is missing: on Debian, apt-get install python3-venv")
        }
        Some(Language::C) => {
            need("make", "install make (Debian: apt-get install make)")?;
            need("wit-bindgen", "install it with: cargo install wit-bindgen-cli --version 0.61.0")?;
            need_c_compiler()
        }
        None => Ok(()),
    }
}

fn need(program: &str, remedy: &str) -> anyhow::Result<()> {
    if succeeds(program, &["--version"]) {
        return Ok(());
    }
    bail!("{program} is missing: {remedy}")
}

fn need_rust_target() -> anyhow::Result<()> {
    let asked = ["--print", "target-libdir", "--target", TARGET];
    let folder = Command::new("rustc").args(asked).stderr(Stdio::null()).output();
    let folder = folder.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let has_std = folder.is_ok_and(|folder| {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    });
    if has_std {
        return Ok(());
    }
    bail!("the Rust target {TARGET} is missing: rustup target add {TARGET}")
}

/// A wasi-sdk, or a distribution's clang with a libc for WASI.
fn need_c_compiler() -> anyhow::Result<()> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH") {
        let compiler = Path::new(&sdk).join("bin/clang");
        if compiler.is_file() {
            return Ok(());
        }
        bail!("WASI_SDK_PATH has no bin/clang: let it name an unpacked wasi-sdk");
    }
    let install = "set WASI_SDK_PATH to a wasi-sdk, or on Debian: apt-get install clang lld wasi-libc \
                   libclang-rt-dev-wasm32";
    need("clang", install)?;
    need("wasm-ld", install)
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let error = need("no-such-program", "install it").expect_err("it is not there");
        assert_eq!(error.to_string(), "no-such-program is missing: install it");
        assert!(check(None).is_ok());
    }
}
