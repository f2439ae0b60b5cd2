//! Seeing that a project has changed: by looking, several times a second.
//!
//! A look at some dozens of files costs less than a millisecond, works on every file system, and
//! sees what editors do when they save by renaming.

use super::build::Builder;
use super::project::Project;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, Metadata};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Files that are looked at; what lies beyond is not seen to change.
const FILE_COUNT_MAX: usize = 10_000;
/// Folders within folders.
const DEPTH_MAX: usize = 32;
/// Where tools put what they make.
const SKIPPED: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// What the files of a project look like: names, sizes and times of their last change.
pub(super) fn fingerprint(project: &Project) -> u64 {
    let made = project.component();
    let mut look = Look { hasher: DefaultHasher::new(), files_left: FILE_COUNT_MAX, made: &made };
    for path in project.watched() {
        look.at(&path, 0);
    }
    look.hasher.finish()
}

/// Waits until it looks otherwise and has settled. `false`: the session is over.
pub(super) fn wait_for_change(project: &Project, seen: u64, builder: &Builder) -> bool {
    let is_stopped = builder.is_stopped();
    let mut last = seen;
    while !is_stopped.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_PAUSE);
        let now = fingerprint(project);
        // An editor, or git, writes several files: two looks must agree.
        if now != seen && now == last {
            return true;
        }
        last = now;
    }
    false
}

struct Look<'p> {
    hasher: DefaultHasher,
    files_left: usize,
    /// What the build writes: another build would follow from it.
    made: &'p Path,
}

impl Look<'_> {
    fn at(&mut self, path: &Path, depth: usize) {
        // What is gone is seen by its absence.
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_dir() {
            return self.into(path, depth);
        }
        if self.files_left > 0 && !self.is_made(path) {
            self.files_left -= 1;
            self.file(path, &metadata);
        }
    }

    fn is_made(&self, path: &Path) -> bool {
        let is_same = || fs::canonicalize(path).ok() == fs::canonicalize(self.made).ok();
        path.file_name() == self.made.file_name() && is_same()
    }

    fn into(&mut self, folder: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        if depth == DEPTH_MAX {
            return;
        }
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !name.starts_with('.') && !SKIPPED.contains(&name) {
                self.at(&path, depth + 1);
            }
        }
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) {
        path.hash(&mut self.hasher);
        metadata.len().hash(&mut self.hasher);
        metadata.modified().ok().hash(&mut self.hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_build_makes_is_no_change_and_what_it_is_made_from_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("it is written");
        };
        let text = "name = \"shop\"\nbuild = \"make\"\ncomponent = \"./made/../shop.wasm\"\n\
                    watch = [\".\"]\ndeploy = []\n";
        write("handler.toml", text);
        fs::create_dir(folder.path().join("made")).expect("a folder");
        let project = Project::read(folder.path()).expect("a project");
        let seen = fingerprint(&project);
        write("shop.wasm", "made");
        assert_eq!(fingerprint(&project), seen);
        write("shop.wasm", "made again");
        assert_eq!(fingerprint(&project), seen);
        write("shop.rs", "source");
        assert_ne!(fingerprint(&project), seen);
    }
}
