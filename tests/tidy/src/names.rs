//! Rules about the names of files and folders.

use crate::Complaint;
use crate::tree::SourceFile;

/// Names that say nothing about what the file holds.
const EMPTY_NAMES: [&str; 10] =
    ["utils", "util", "common", "helpers", "helper", "types", "manager", "misc", "shared", "stuff"];

/// A file is named by the noun that it holds; a module is `foo.rs` beside `foo/`, never
/// `foo/mod.rs`.
pub fn telling_names(file: &SourceFile) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if file.name() == "mod.rs" {
        complaints.push(Complaint::about(&file.path, "call it `foo.rs` beside `foo/`"));
    }
    for part in file.path.split('/') {
        // A WIT file is named after its interface, and `types` is what WASI calls the shared one.
        if part.ends_with(".wit") {
            continue;
        }
        let stem = part.split('.').next().unwrap_or(part);
        if EMPTY_NAMES.contains(&stem) {
            let what = format!("`{stem}` does not say what it holds");
            complaints.push(Complaint::about(&file.path, what));
        }
    }
    complaints
}

/// Guests are built from source: a binary in the tree cannot be read by anybody.
pub fn no_built_guests(file: &SourceFile) -> Vec<Complaint> {
    let built = [".wasm", ".cwasm"].iter().any(|ending| file.path.ends_with(ending));
    if !built {
        return Vec::new();
    }
    vec![Complaint::about(&file.path, "a built guest: commit its source instead")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_lines, assert_none, tree};

    #[test]
    fn names_tell_what_files_hold() {
        let complaints: Vec<Complaint> = tree::files().iter().flat_map(telling_names).collect();
        assert_none(&complaints);
    }

    #[test]
    fn no_built_guest_is_in_the_tree() {
        let complaints: Vec<Complaint> = tree::files().iter().flat_map(no_built_guests).collect();
        assert_none(&complaints);
    }

    #[track_caller]
    fn check(path: &str, complaints: usize) {
        let file = SourceFile::new(path, "");
        let found: Vec<Complaint> =
            telling_names(&file).into_iter().chain(no_built_guests(&file)).collect();
        assert_lines(&found, &vec![0; complaints]);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        check("host/a/src/store.rs", 0);
        check("host/a/src/typesetting.rs", 0);
        check("wit/types.wit", 0);
        check("wit/helpers/kv.wit", 1);
        check("host/a/src/store/mod.rs", 1);
        check("host/a/src/utils.rs", 1);
        check("tests/common/start.rs", 1);
        check("host/a/src/helpers/types.rs", 2);
    }

    #[test]
    fn built_guests_are_found() {
        check("examples/hello/src/lib.rs", 0);
        check("tests/e2e/loop.wat", 0);
        check("tests/e2e/hello.wasm", 1);
        check("cache/hello.cwasm", 1);
    }
}
