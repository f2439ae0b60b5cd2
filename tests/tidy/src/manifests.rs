//! Rules about the manifests: where versions are said, what the core may use, who uses what.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::Complaint;
use crate::tree::SourceFile;

/// All that `atoll-core` may depend on. None of them does I/O, reads a clock or starts a task.
///
/// Adding one is a change of architecture: argue for it in the commit that changes this list.
const CORE_DEPENDENCIES: [&str; 16] = [
    "bytes",
    "foldhash",
    "hashbrown",
    "http",
    "itoa",
    "memchr",
    "rmp-serde",
    "serde",
    "serde_bytes",
    "sfv",
    "slab",
    "smallvec",
    "thin-vec",
    "thiserror",
    "uuid",
    "xxhash-rust",
];

const CORE_MANIFEST: &str = "host/atoll-core/Cargo.toml";

/// The fuzz targets are a workspace of their own, because they need a nightly compiler.
const FOREIGN_WORKSPACE: &str = "tests/fuzz/";

/// A manifest and where it lies.
#[derive(Debug)]
pub struct Manifest {
    path: String,
    table: Table,
}

/// One line of a `[dependencies]` table of any kind.
#[derive(Debug)]
struct Dependency<'a> {
    kind: String,
    name: &'a str,
    value: &'a Value,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// A complaint, if it is not TOML.
    pub fn parse(file: &SourceFile) -> Result<Self, Complaint> {
        let table = file.text.parse::<Table>();
        match table {
            Ok(table) => Ok(Self { path: file.path.clone(), table }),
            Err(error) => Err(Complaint::about(&file.path, error.to_string())),
        }
    }

    /// The dependencies for building, running and testing, on every platform.
    fn dependencies(&self) -> Vec<Dependency<'_>> {
        let mut found = Vec::new();
        collect_dependencies(&self.table, "", &mut found);
        let targets = self.table.get("target").and_then(Value::as_table);
        for (target, value) in targets.into_iter().flatten() {
            if let Some(table) = value.as_table() {
                collect_dependencies(table, &format!("target.{target}."), &mut found);
            }
        }
        found
    }
}

fn collect_dependencies<'a>(table: &'a Table, prefix: &str, found: &mut Vec<Dependency<'a>>) {
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in table.get(kind).and_then(Value::as_table).into_iter().flatten() {
            found.push(Dependency { kind: format!("{prefix}{kind}"), name, value });
        }
    }
}

/// True for the manifests of the workspace's members.
pub fn is_member(file: &SourceFile) -> bool {
    file.path.ends_with("/Cargo.toml") && !file.path.starts_with(FOREIGN_WORKSPACE)
}

/// The list of what the core depends on is closed.
pub fn core_list_is_closed(members: &[Manifest]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for manifest in members.iter().filter(|manifest| manifest.path == CORE_MANIFEST) {
        let dependencies = manifest.dependencies();
        let normal =
            dependencies.iter().filter(|d| d.kind == "dependencies").map(|d| d.name).collect();
        let want = BTreeSet::from(CORE_DEPENDENCIES);
        for name in want.symmetric_difference(&normal) {
            let what = format!("`{name}` is in the manifest or in the closed list, not in both");
            complaints.push(Complaint::about(CORE_MANIFEST, what));
        }
        let other = |d: &&Dependency<'_>| d.kind != "dependencies" && d.kind != "dev-dependencies";
        for dependency in dependencies.iter().filter(other) {
            let what = format!("the core has no `{}`", dependency.kind);
            complaints.push(Complaint::about(CORE_MANIFEST, what));
        }
    }
    complaints
}

/// A dependency's version is said once, in the root; a member only asks for it.
pub fn versions_are_in_the_root(members: &[Manifest]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for manifest in members {
        for dependency in manifest.dependencies() {
            let inherits = dependency.value.get("workspace").and_then(Value::as_bool) == Some(true);
            if !inherits {
                let what = format!("write `{}.workspace = true`", dependency.name);
                complaints.push(Complaint::about(&manifest.path, what));
            }
        }
    }
    complaints
}

/// What the root names is used by a member.
pub fn nothing_is_named_in_vain(root: &Manifest, members: &[Manifest]) -> Vec<Complaint> {
    let used: BTreeSet<&str> =
        members.iter().flat_map(Manifest::dependencies).map(|d| d.name).collect();
    let named = root.table.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let named = named.and_then(Value::as_table).into_iter().flatten();
    named
        .filter(|(name, _)| !used.contains(name.as_str()))
        .map(|(name, _)| Complaint::about(&root.path, format!("no member uses `{name}`")))
        .collect()
}

/// Each member obeys the workspace's lints and shares its version, edition and licence.
pub fn members_inherit(members: &[Manifest]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let inherited: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("lints", ["workspace"].as_slice()),
        ("package", ["version", "edition", "rust-version", "license", "publish"].as_slice()),
    ]);
    for manifest in members {
        for (section, keys) in &inherited {
            for key in *keys {
                let value = manifest.table.get(*section).and_then(|table| table.get(*key));
                let inherits = value.is_some_and(|value| {
                    value.as_bool() == Some(true) && *key == "workspace"
                        || value.get("workspace").and_then(Value::as_bool) == Some(true)
                });
                if !inherits {
                    let what = format!("[{section}] must take `{key}` from the workspace");
                    complaints.push(Complaint::about(&manifest.path, what));
                }
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_none, tree};

    #[track_caller]
    fn parse(file: &SourceFile) -> Manifest {
        Manifest::parse(file).unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    fn root() -> Manifest {
        parse(tree::files().iter().find(|file| file.path == "Cargo.toml").unwrap())
    }

    fn members() -> Vec<Manifest> {
        let members: Vec<Manifest> =
            tree::files().iter().filter(|file| is_member(file)).map(parse).collect();
        assert!(members.iter().any(|manifest| manifest.path == CORE_MANIFEST));
        members
    }

    fn made_up(path: &str, text: &str) -> Vec<Manifest> {
        vec![parse(&SourceFile::new(path, text))]
    }

    #[track_caller]
    fn check(complaints: &[Complaint], want: &[&str]) {
        assert_eq!(complaints.len(), want.len(), "{complaints:?}");
        for (complaint, words) in complaints.iter().zip(want) {
            assert!(complaint.what.contains(words), "{complaint} does not say {words:?}");
        }
    }

    #[test]
    fn the_list_of_the_core_is_closed() {
        assert_none(&core_list_is_closed(&members()));
    }

    #[test]
    fn a_change_of_the_cores_list_is_found() {
        let mut listed = String::from("[dependencies]\n");
        for name in CORE_DEPENDENCIES {
            listed.push_str(&format!("{name}.workspace = true\n"));
        }
        let more =
            |text: &str| core_list_is_closed(&made_up(CORE_MANIFEST, &(listed.clone() + text)));
        check(&more(""), &[]);
        check(&more("[dev-dependencies]\nproptest.workspace = true\n"), &[]);
        check(&more("tokio.workspace = true\n"), &["`tokio`"]);
        check(&more("[build-dependencies]\ncc.workspace = true\n"), &["no `build-dep"]);
        check(
            &more("[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n"),
            &["no `target.cfg(unix)"],
        );
        let shorter = listed.replace("slab.workspace = true\n", "");
        check(&core_list_is_closed(&made_up(CORE_MANIFEST, &shorter)), &["`slab`"]);
    }

    #[test]
    fn versions_are_said_in_the_root_only() {
        assert_none(&versions_are_in_the_root(&members()));
    }

    #[test]
    fn a_version_in_a_member_is_found() {
        let own =
            "[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc.path = \"x\"\n";
        check(&versions_are_in_the_root(&made_up("a/Cargo.toml", own)), &["`b.w", "`c.w"]);
        let target = "[target.'cfg(unix)'.dependencies]\nd = \"1\"\n";
        check(&versions_are_in_the_root(&made_up("a/Cargo.toml", target)), &["`d.w"]);
    }

    #[test]
    fn no_dependency_is_named_in_vain() {
        assert_none(&nothing_is_named_in_vain(&root(), &members()));
    }

    #[test]
    fn a_dependency_that_nobody_uses_is_found() {
        let root = parse(&SourceFile::new(
            "Cargo.toml",
            "[workspace.dependencies]\na = \"1\"\nb = \"1\"\n",
        ));
        let members = made_up("a/Cargo.toml", "[dependencies]\na.workspace = true\n");
        check(&nothing_is_named_in_vain(&root, &members), &["no member uses `b`"]);
    }

    #[test]
    fn members_take_lints_and_facts_from_the_workspace() {
        assert_none(&members_inherit(&members()));
    }

    #[test]
    fn a_member_with_facts_of_its_own_is_found() {
        let text = "[package]\nversion.workspace = true\nedition = \"2021\"\nrust-version.workspace = true\n\
                    license.workspace = true\npublish.workspace = true\n";
        check(&members_inherit(&made_up("a/Cargo.toml", text)), &["[lints]", "`edition`"]);
    }

    #[test]
    fn a_manifest_that_is_not_toml_is_a_complaint() {
        assert!(Manifest::parse(&SourceFile::new("Cargo.toml", "[workspace")).is_err());
    }
}
