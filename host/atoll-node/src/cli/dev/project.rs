//! `handler.toml`: how the handler in a folder is built and deployed.

use crate::cli::new::Language;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The file that makes a folder a project.
const FILE: &str = "handler.toml";

/// A folder with a handler in it.
#[derive(Debug)]
pub(super) struct Project {
    /// Where it lies.
    pub(super) folder: PathBuf,
    /// Name of the handler.
    pub(super) name: String,
    /// What it is written in, where that is one that we know the tools of.
    pub(super) language: Option<Language>,
    /// A command for `sh`, run in the folder.
    pub(super) build: String,
    component: String,
    watch: Vec<String>,
    /// Flags of `atoll deploy`.
    pub(super) deploy: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    language: Option<Language>,
    build: String,
    component: String,
    watch: Vec<String>,
    deploy: Vec<String>,
}

impl Project {
    /// Reads and checks the folder's file.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Project> {
        let path = folder.join(FILE);
        if !path.is_file() {
            let folder = folder.display();
            bail!("{folder} has no {FILE}; `atoll new NAME` makes a project with one");
        }
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Project::parse(folder, &text).with_context(|| path.display().to_string())
    }

    fn parse(folder: &Path, text: &str) -> anyhow::Result<Project> {
        let Text { name, language, build, component, watch, deploy } = toml::from_str(text)?;
        if watch.is_empty() {
            bail!("watch names no file or folder, so that no change would be seen");
        }
        let folder = folder.to_owned();
        Ok(Project { folder, name, language, build, component, watch, deploy })
    }

    /// The file that the build makes.
    pub(super) fn component(&self) -> PathBuf {
        self.folder.join(&self.component)
    }

    /// The files and folders whose change asks for another build.
    pub(super) fn watched(&self) -> impl Iterator<Item = PathBuf> {
        let names = self.watch.iter().map(String::as_str);
        names.chain([FILE]).map(|name| self.folder.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, want: &str) {
        let error = Project::parse(Path::new("shop"), text).expect_err("should be refused");
        assert!(format!("{error:#}").contains(want), "{error:#}");
    }

    const GOOD: &str = "name = \"shop\"\nbuild = \"make\"\ncomponent = \"shop.wasm\"\n\
                        watch = [\"src\"]\ndeploy = [\"--route\", \"/*\"]\n";

    #[test]
    fn a_project_says_what_is_watched_and_what_is_made() {
        let project = Project::parse(Path::new("shop"), GOOD).expect("it is whole");
        assert_eq!(project.component(), Path::new("shop/shop.wasm"));
        let watched: Vec<PathBuf> = project.watched().collect();
        assert_eq!(watched, [Path::new("shop/src"), Path::new("shop/handler.toml")]);
    }

    #[test]
    fn what_is_mistyped_is_named() {
        check_error(&GOOD.replace("build", "built"), "built");
        check_error(&format!("{GOOD}language = \"cobol\"\n"), "cobol");
        check_error(&GOOD.replace("[\"src\"]", "[]"), "watch names no file");
    }
}
