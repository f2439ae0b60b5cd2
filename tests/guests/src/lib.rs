//! Builds the example handlers, and those of the tests, from source.
//!
//! A step of its own rather than a build script of the node, so that who only builds the node needs
//! no Wasm target.

mod command;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};

use toolchain::Toolchain;

/// The target that handlers are built for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// A first build with Debian's compiler takes five minutes on two busy processors, as it builds
/// `std` too.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// The built handlers.
#[derive(Debug, Clone)]
pub struct Guests {
    folder: PathBuf,
    names: Vec<String>,
}

impl Guests {
    /// Returns the path of a component by the name of its crate. Panics if there is no such crate:
    /// the names are those of the folders in `examples/`, `hostile`, `hostile-filter`,
    /// `service`, `standard` and `watcher`.
    #[track_caller]
    pub fn path(&self, name: &str) -> PathBuf {
        assert!(
            self.names.iter().any(|known| known == name),
            "no handler is called {name}: {:?}",
            self.names
        );
        self.folder.join(format!("{}.wasm", name.replace('-', "_")))
    }

    /// Returns the names of all handlers, in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The component with a section that nothing runs, so that its digest is another. `note` is short: a
/// hundred bytes at most.
pub fn with_note(component: &[u8], note: &str) -> Vec<u8> {
    let section = format!("\u{4}note{note}");
    let len = u8::try_from(section.len()).expect("it is short");
    assert!(len < 0x80, "one byte of LEB128");
    [component, &[0, len], section.as_bytes()].concat()
}

/// Builds all handlers, once in a process; cargo sees to it that a second process has little to do.
///
/// Adds the target with rustup if it is missing. The error says what to install if nothing on this
/// machine can build it.
pub fn build() -> anyhow::Result<Guests> {
    static BUILT: OnceLock<Result<Guests, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_now().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_now() -> anyhow::Result<Guests> {
    let root = workspace_root()?;
    let names = names(&root)?;
    let mut cargo = command::cargo();
    // Cargo finds `.cargo/config.toml`, which names the linker, from the current folder upward.
    cargo.current_dir(&root).args(["build", "--profile", "guest", "--target", TARGET]);
    for name in &names {
        cargo.args(["--package", name]);
    }
    if let Toolchain::Debian { linker_folder } = toolchain::find()? {
        use_debian(&mut cargo, &linker_folder)?;
    }
    let status =
        command::run(&mut cargo, BUILD_LIMIT).context("cannot run cargo for the handlers")?;
    if !status.success() {
        bail!("cargo could not build the handlers: {status}");
    }
    let target_folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |set| root.join(set));
    Ok(Guests { folder: target_folder.join(TARGET).join("guest"), names })
}

/// Debian's compiler has no `std` for our target but its sources, and no component linker: that is
/// rustup's.
fn use_debian(cargo: &mut Command, linker_folder: &Path) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(linker_folder.to_owned()).chain(std::env::split_paths(&path));
    cargo
        .env("PATH", std::env::join_paths(folders).context("PATH cannot be extended")?)
        .env("RUSTC", toolchain::DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .arg("-Zbuild-std=std,panic_abort");
    Ok(())
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).context("this crate is not in tests/guests")?;
    Ok(root.to_owned())
}

fn names(root: &Path) -> anyhow::Result<Vec<String>> {
    let examples = root.join("examples");
    let mut names =
        ["hostile", "hostile-filter", "service", "standard", "watcher"].map(str::to_owned).to_vec();
    for entry in
        fs::read_dir(&examples).with_context(|| format!("cannot read {}", examples.display()))?
    {
        let folder = entry.context("cannot read the examples")?.path();
        if folder.join("Cargo.toml").is_file()
            && let Some(name) = folder.file_name().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
