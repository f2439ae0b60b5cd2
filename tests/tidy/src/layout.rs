//! Rules about what lies at the top level.

use std::collections::BTreeSet;

use crate::Complaint;
use crate::tree::SourceFile;

/// All that a newcomer sees first.
const VISIBLE: [&str; 16] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "examples",
    "fly.toml",
    "guest",
    "host",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
    "wit",
];

/// What may lie there with a dot in front.
const HIDDEN: [&str; 4] = [".cargo", ".ci", ".dockerignore", ".gitignore"];

/// The visible top level is exactly what was agreed.
pub fn top_level(files: &[SourceFile]) -> Vec<Complaint> {
    let found: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.split('/').next()).collect();
    let mut complaints = Vec::new();
    for name in &found {
        if !VISIBLE.contains(name) && !HIDDEN.contains(name) {
            complaints.push(Complaint::about(*name, "does not belong at the top level"));
        }
    }
    for name in VISIBLE.iter().filter(|name| !found.contains(*name)) {
        complaints.push(Complaint::about(*name, "is missing at the top level"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_none, tree};

    #[test]
    fn the_top_level_is_what_was_agreed() {
        assert_none(&top_level(tree::files()));
    }

    #[test]
    fn strays_and_gaps_at_the_top_level_are_found() {
        let path_of =
            |name: &str| if name.contains('.') { name.into() } else { format!("{name}/x") };
        let mut files: Vec<SourceFile> =
            VISIBLE.iter().map(|name| SourceFile::new(&path_of(name), "")).collect();
        assert_none(&top_level(&files));
        files.push(SourceFile::new("notes.txt", ""));
        files.push(SourceFile::new(".ci/run", ""));
        files.retain(|file| file.path != "README.md");
        let found = top_level(&files);
        let found: Vec<&str> = found.iter().map(|complaint| complaint.path.as_str()).collect();
        assert_eq!(found, ["notes.txt", "README.md"]);
    }
}
