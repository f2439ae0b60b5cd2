//! Rules that a tool knows already: formatting and lints, by running cargo.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// What cargo sets for the test that it runs. A nested cargo would take it for settings of its own,
/// and build scripts that watch one of these would rebuild half of the dependencies.
const DISTURBING: [&str; 8] = [
    "CARGO_BIN_",
    "CARGO_CFG_",
    "CARGO_CRATE_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_",
    "CARGO_TARGET_TMPDIR",
];

/// Runs cargo in `folder`.
///
/// It uses the target folder of the workspace that it is run in, which is free while tests run.
///
/// # Errors
/// All that cargo printed, if it did not end well.
pub fn cargo(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if DISTURBING.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    let output = command.output().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "`cargo {}` failed ({}):\n{}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tree;

    const FORMAT: [&str; 3] = ["fmt", "--all", "--check"];
    const LINT: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];

    /// The fuzz targets are a workspace of their own, which rots unseen if nobody compiles it.
    const LINT_FUZZ: [&str; 6] =
        ["clippy", "--no-default-features", "--all-targets", "--", "-D", "warnings"];

    #[track_caller]
    fn check(folder: &Path, arguments: &[&str]) {
        if let Err(output) = cargo(folder, arguments) {
            panic!("{output}");
        }
    }

    #[test]
    fn the_code_is_formatted() {
        check(&tree::root(), &FORMAT);
        check(&tree::root().join("tests/fuzz"), &FORMAT);
    }

    #[test]
    fn clippy_has_nothing_to_say() {
        check(&tree::root(), &LINT);
    }

    #[test]
    fn the_fuzz_targets_still_compile() {
        check(&tree::root().join("tests/fuzz"), &LINT_FUZZ);
    }

    /// A package of one file, outside the workspace.
    fn package_of(source: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "[package]\nname = \"sample\"\nedition = \"2024\"\n\
                        [lib]\npath = \"lib.rs\"\n[workspace]\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        fs::write(folder.path().join("lib.rs"), source).unwrap();
        folder
    }

    #[test]
    fn tidy_code_passes_both_tools() {
        let package = package_of("pub fn half(x: u32) -> u32 {\n    x / 2\n}\n");
        check(package.path(), &FORMAT);
        check(package.path(), &LINT);
    }

    #[test]
    fn code_that_is_not_formatted_is_found() {
        let package = package_of("pub fn half(x:u32)->u32{x/2}\n");
        let output = cargo(package.path(), &FORMAT).unwrap_err();
        assert!(output.contains("lib.rs"), "{output}");
    }

    #[test]
    fn code_that_clippy_warns_about_is_found() {
        let package = package_of("pub fn same(x: u32) -> bool {\n    x == x\n}\n");
        let output = cargo(package.path(), &LINT).unwrap_err();
        assert!(output.contains("eq_op"), "{output}");
    }
}
