//! The files of the source tree, read once.
//!
//! A plain walk rather than `git ls-files`: it works in an unpacked archive and in a checkout that
//! git refuses to read because another user owns it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A file of the tree. What is not UTF-8 is read with replacement characters.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Relative to the root, with `/` between the parts.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// A file that a test makes up.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file of the tree except git's own and what `.gitignore` names, sorted by path.
///
/// # Panics
/// If a folder or a file cannot be read.
pub fn files() -> &'static [SourceFile] {
    static FILES: LazyLock<Vec<SourceFile>> = LazyLock::new(|| {
        let root = root();
        let gitignore = fs::read_to_string(root.join(".gitignore")).expect("the tree has one");
        let mut files = Vec::new();
        walk(&root, "", &ignored_paths(&gitignore), &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    });
    &FILES
}

/// The paths that a `.gitignore` of plain rooted lines (`/target`) names, without the slash.
fn ignored_paths(gitignore: &str) -> Vec<&str> {
    gitignore.lines().filter_map(|line| line.strip_prefix('/')).collect()
}

fn walk(folder: &Path, prefix: &str, ignored: &[&str], files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree is readable") {
        let entry = entry.expect("a folder of the tree is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if name == ".git" || ignored.contains(&path.as_str()) {
            continue;
        }
        let kind = entry.file_type().expect("an entry of the tree has a type");
        if kind.is_dir() {
            walk(&entry.path(), &path, ignored, files);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).expect("a file of the tree is readable");
            files.push(SourceFile { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_finds_sources_and_skips_what_git_ignores() {
        let has = |path: &str| files().iter().any(|file| file.path == path);
        assert!(has("tests/tidy/src/tree.rs"));
        assert!(has(".cargo/config.toml"));
        let stray = files()
            .iter()
            .find(|file| file.path.starts_with("target/") || file.path.starts_with(".git/"));
        assert!(stray.is_none(), "{stray:?}");
    }

    #[test]
    fn gitignore_holds_rooted_lines_only_so_that_the_walk_understands_it() {
        let gitignore = fs::read_to_string(root().join(".gitignore")).unwrap();
        for line in gitignore.lines() {
            let plain = line.starts_with('/') && !line.contains(['*', '?', '[', '!']);
            assert!(plain && !line.ends_with('/'), "write `/path`, without patterns: {line:?}");
        }
    }
}
