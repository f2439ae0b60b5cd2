//! The SDK for Rust and the interfaces in WIT, as they go into a new project.
//!
//! They are the sources of this repository, so that `atoll new` needs neither it nor a registry that
//! has them. Only the manifests differ: what the workspace says for all its crates is written out.

use super::File;
use anyhow::{Context, bail};
use toml::{Table, Value};

macro_rules! texts {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../../", $folder, "/", $path)))),*]
    };
}

const WORKSPACE: &str = include_str!("../../../../../Cargo.toml");

const WIT: &[(&str, &str)] = texts!("wit":
    "cache.wit", "clock.wit", "config.wit", "fetch.wit", "filter.wit", "handler.wit", "kv.wit", "log.wit",
    "random.wit", "secrets.wit", "types.wit",
);

const GUEST: &[(&str, &str)] = texts!("guest":
    "Cargo.toml",
    "src/allocator.rs",
    "src/bindings.rs",
    "src/cache.rs",
    "src/cache/purge.rs",
    "src/clock.rs",
    "src/config.rs",
    "src/export.rs",
    "src/fetch.rs",
    "src/fetch/error.rs",
    "src/filter.rs",
    "src/filter_bindings.rs",
    "src/kv.rs",
    "src/kv/codec.rs",
    "src/kv/error.rs",
    "src/kv/options.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/made_from.rs",
    "src/node.rs",
    "src/percent.rs",
    "src/random.rs",
    "src/request.rs",
    "src/response.rs",
    "src/secret.rs",
    "src/testing.rs",
    "src/testing/calls.rs",
    "src/testing/grants.rs",
    "src/testing/purges.rs",
    "src/testing/store.rs",
    "src/testing/tests.rs",
    "src/testing/upstreams.rs",
);

const MACROS: &[(&str, &str)] = texts!("guest/macros": "Cargo.toml", "src/filter.rs", "src/lib.rs");

/// The crates `atoll-guest` and `atoll-guest-macros`, and what they are made from, below `sdk`.
pub(super) fn files() -> anyhow::Result<Vec<File>> {
    let mut files = interfaces("sdk/wit");
    for (folder, texts) in [("sdk/atoll-guest", GUEST), ("sdk/atoll-guest-macros", MACROS)] {
        for (path, text) in texts {
            let text = match *path {
                "Cargo.toml" => standing_alone(text).with_context(|| folder.to_owned())?,
                _ => (*text).to_owned(),
            };
            files.push(File::new(format!("{folder}/{path}"), text));
        }
    }
    Ok(files)
}

/// The interfaces of `atoll:edge`, below a folder.
pub(super) fn interfaces(folder: &str) -> Vec<File> {
    WIT.iter().map(|(path, text)| File::new(format!("{folder}/{path}"), *text)).collect()
}

/// A manifest that takes nothing from a workspace.
fn standing_alone(manifest: &str) -> anyhow::Result<String> {
    let workspace: Table = WORKSPACE.parse().context("the workspace's manifest")?;
    let workspace = workspace.get("workspace").context("it has no [workspace]")?;
    let mut manifest: Table = manifest.parse()?;
    // Its tests are this repository's, and so are the lints.
    manifest.remove("dev-dependencies");
    manifest.remove("lints");
    let library = manifest.entry("lib").or_insert_with(|| Value::Table(Table::new()));
    for tests in ["test", "doctest"] {
        table(library)?.insert(tests.to_owned(), Value::Boolean(false));
    }
    inherit(manifest.get_mut("package"), workspace.get("package"))?;
    let versions = workspace.get("dependencies");
    inherit(manifest.get_mut("dependencies"), versions)?;
    if let Some(targets) = manifest.get_mut("target") {
        for (_, target) in table(targets)?.iter_mut() {
            inherit(table(target)?.get_mut("dependencies"), versions)?;
        }
    }
    Ok(toml::to_string(&manifest)?)
}

/// Writes out each `X.workspace = true`.
fn inherit(entries: Option<&mut Value>, workspace: Option<&Value>) -> anyhow::Result<()> {
    let Some(entries) = entries else { return Ok(()) };
    for (name, entry) in table(entries)?.iter_mut() {
        let Some(said) = entry.as_table().filter(|said| said.contains_key("workspace")) else {
            continue;
        };
        let Some(inherited) = workspace.and_then(|workspace| workspace.get(name)) else {
            bail!("the workspace says nothing of {name}");
        };
        let inherited = match inherited {
            Value::Table(inherited) => inherited.clone(),
            Value::String(version) if said.len() > 1 => {
                Table::from_iter([("version".to_owned(), Value::String(version.clone()))])
            }
            value => {
                *entry = value.clone();
                continue;
            }
        };
        let mut whole = inherited;
        whole.extend(said.clone().into_iter().filter(|(key, _)| key != "workspace"));
        if let Some(path) = whole.get_mut("path") {
            // The folders of the crates lie beside one another here.
            *path = Value::String(format!("../{name}"));
        }
        *entry = Value::Table(whole);
    }
    Ok(())
}

fn table(value: &mut Value) -> anyhow::Result<&mut Table> {
    value.as_table_mut().context("the manifest has a value where a table belongs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Every file below a folder of the repository, by its path there.
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the folder is there") {
            let entry = entry.expect("it can be read");
            let path = format!("{prefix}{}", entry.file_name().display());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{path}/"), found);
            } else {
                found.insert(path);
            }
        }
    }

    #[track_caller]
    fn check_whole(folder: &str, prefix: &str, texts: &[(&str, &str)]) {
        let mut there = BTreeSet::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder), prefix, &mut there);
        let texts = texts.iter().filter(|(path, _)| path.starts_with(prefix));
        let here: BTreeSet<String> = texts.map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(here, there, "what goes into a project and what is in {folder}");
    }

    #[test]
    fn nothing_of_the_sdk_is_forgotten() {
        check_whole("guest/src", "src/", GUEST);
        check_whole("guest/macros/src", "src/", MACROS);
        check_whole("wit", "", WIT);
    }

    #[test]
    fn the_manifests_need_no_workspace() {
        for file in files().expect("the sources are whole") {
            if file.path.ends_with("Cargo.toml") {
                let is_alone = !file.text.contains("workspace") && file.text.contains("[package]");
                assert!(is_alone, "{}:\n{}", file.path, file.text);
            }
        }
    }
}
