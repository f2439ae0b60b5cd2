//! `atoll new`: a small project that builds as it stands.

mod sdk;
mod templates;

use super::output::print;
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  atoll new shop                           a handler in Rust, in the folder shop
  atoll new shop --lang python
  atoll dev shop                           then: build it, run it, deploy it on every change

The project needs nothing of this repository: what a handler imports lies in it, for Rust as the
crate atoll-guest, for the other languages as wit/.")]
pub(super) struct NewArgs {
    /// Folder to make; its last part is the handler's name, of a-z, 0-9 and -
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// Language of the handler
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
}

/// What a handler is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    Rust,
    Js,
    Python,
    C,
}

/// A file of a project: where it lies below its folder, and what is in it.
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: impl Into<String>, text: impl Into<String>) -> File {
        File { path: path.into(), text: text.into() }
    }
}

/// Writes the project and says what to do with it.
pub(super) fn new(args: &NewArgs) -> anyhow::Result<()> {
    let name = args.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(name)?;
    let folder = args.folder.display();
    if fs::read_dir(&args.folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{folder} is there and not empty; choose another name, or empty it");
    }
    for file in files(args.lang, name)? {
        write(&args.folder, &file)?;
    }
    print(format!("made {folder}\n\nTry:\n  atoll dev {folder}\n"))
}

fn files(language: Language, name: &str) -> anyhow::Result<Vec<File>> {
    let mut files = templates::files(language, name);
    match language {
        Language::Rust => files.extend(sdk::files()?),
        Language::Js | Language::Python | Language::C => files.extend(sdk::interfaces("wit")),
    }
    Ok(files)
}

/// A name that is good for a handler, a crate and a package alike.
fn check_name(name: &str) -> anyhow::Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    // Those would name two crates of one project.
    let is_taken = ["atoll-guest", "atoll-guest-macros"].contains(&name);
    if starts_well && name.len() <= 64 && name.bytes().all(allowed) && !is_taken {
        return Ok(());
    }
    bail!("{name:?} is no name for a handler: write 1 to 64 of a-z, 0-9 and -, a letter first")
}

fn write(folder: &Path, file: &File) -> anyhow::Result<()> {
    let path = folder.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(&path, &file.text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_good_for_a_crate_and_a_handler() {
        for good in ["a", "shop", "shop-2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "Shop", "2shop", "-a", "a_b", "a/b", "ä", "atoll-guest", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_language_has_a_project_with_a_readme_and_a_name_of_its_own() {
        for language in Language::value_variants() {
            let files = files(*language, "shop").expect("the templates are whole");
            let text = |path: &str| {
                let file = files.iter().find(|file| file.path == path);
                file.unwrap_or_else(|| panic!("{language:?} has no {path}")).text.as_str()
            };
            assert!(text("README.md").starts_with("# shop\n"));
            let three_commands = text("README.md").split("```").nth(1).expect("a block");
            assert_eq!(three_commands.trim().lines().count(), 4, "sh and three commands");
            assert!(text("handler.toml").contains("name = \"shop\""));
            assert!(files.iter().all(|file| !file.text.contains("\"NAME\"")));
            assert!(files.iter().any(|file| file.path.ends_with("wit/kv.wit")));
        }
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let shop = folder.path().join("shop");
        let args = NewArgs { folder: shop.clone(), lang: Language::Js };
        new(&args).expect("it is made");
        assert!(shop.join("handler.js").is_file() && shop.join(".gitignore").is_file());
        fs::write(shop.join("handler.js"), "mine").expect("it can be written");
        let error = new(&args).expect_err("it is not empty").to_string();
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(fs::read_to_string(shop.join("handler.js")).expect("it is there"), "mine");
    }
}
