//! The data directory: whose it is, which format it has, where things lie in it.
//!
//! ```text
//! LOCK      held while a process uses the directory; its number, for people
//! FORMAT    "atoll-data 1": what the rest is
//! store/    the engine's files
//! ```

use anyhow::{Context, bail, ensure};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "LOCK";
const FORMAT: &str = "FORMAT";
const STORE: &str = "store";
/// The only format so far.
const FORMAT_LINE: &str = "atoll-data 1";

/// A data directory that nobody else uses for as long as this lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Unlocked when this is dropped, and by a death.
    lock: File,
}

/// Whether there is anything in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing of ours yet.
    New,
    /// Data of an earlier process.
    Data,
}

impl Directory {
    /// Takes the directory for this process. It is created where it is not there, readable by its
    /// owner alone.
    pub(crate) fn claim(path: &Path) -> anyhow::Result<(Directory, Content)> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create the data directory {shown}"))?;
        let lock = lock(path)?;
        let content = check_format(path)?;
        Ok((Directory { path: path.to_owned(), lock }, content))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine keeps its files.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // To close it would not do: a program that is just being started may have it as well, for a
        // moment. Where it fails, it is unlocked once that moment is over.
        let _ = self.lock.unlock();
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let file = path.join(LOCK);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .with_context(|| format!("cannot open {}", file.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // It may be between locking the file and writing its number.
            let _ = lock.read_to_string(&mut holder);
            let holder = holder.trim();
            let who = if holder.is_empty() { "another process" } else { holder };
            bail!(
                "{} is in use by process {who}; stop that one, or name another directory with --data",
                path.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", file.display()));
        }
    }
    // It is there for people; a disk that is full is told of elsewhere.
    let _ = write_process_id(&mut lock);
    Ok(lock)
}

fn write_process_id(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// Checks that the directory is ours and of a format that is known; makes it so where it is empty.
fn check_format(path: &Path) -> anyhow::Result<Content> {
    let (file, shown) = (path.join(FORMAT), path.display());
    match fs::read_to_string(&file) {
        Ok(text) if text.trim() == FORMAT_LINE => return Ok(Content::Data),
        Ok(text) => {
            let found: String = text.trim().chars().take(40).collect();
            bail!(
                "{shown} has the format {found:?}, and this version of atoll ({}) knows \
                 {FORMAT_LINE:?} only; start the version that wrote it, or name another directory \
                 with --data",
                env!("CARGO_PKG_VERSION")
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
    let others: Vec<String> = fs::read_dir(path)
        .with_context(|| format!("cannot read {shown}"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name != LOCK && name != "FORMAT.new")
        .collect();
    ensure!(
        !others.iter().any(|name| name == STORE),
        "{shown} has data but no file {FORMAT}: a copy that is not whole; copy all of it, restore a \
         backup, or name another directory with --data"
    );
    ensure!(
        others.is_empty() || others == ["lost+found"],
        "{shown} holds files that are not atoll's ({}); name an empty directory with --data",
        others[0]
    );
    write_format(path).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Content::New)
}

/// Writes the format as one step that is there after a crash or is not.
fn write_format(path: &Path) -> io::Result<()> {
    let new = path.join("FORMAT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{FORMAT_LINE}")?;
    file.sync_all()?;
    fs::rename(&new, path.join(FORMAT))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[track_caller]
    fn check_refused(path: &Path, want: &str) {
        let error = Directory::claim(path).expect_err("should be refused");
        let text = format!("{error:#}");
        assert!(text.contains(want), "{text:?} should contain {want:?}");
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_and_is_known_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        let (claimed, content) = Directory::claim(&path).expect("it is new");
        assert_eq!(content, Content::New);
        let mode = fs::metadata(claimed.path()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(claimed);
        let (_, content) = Directory::claim(&path).expect("nobody uses it");
        assert_eq!(content, Content::Data);
    }

    #[test]
    fn a_directory_in_use_is_refused_with_the_process_that_uses_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Directory::claim(folder.path()).expect("it is empty");
        check_refused(folder.path(), &format!("in use by process {};", std::process::id()));
        drop(first);
        Directory::claim(folder.path()).expect("it is free again");
    }

    /// Between fork and exec a child has all that is open here.
    #[test]
    fn a_directory_is_free_again_although_a_program_is_just_being_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let (first, _) = Directory::claim(folder.path()).expect("it is empty");
        let child = first.lock.try_clone().expect("a second one");
        drop(first);
        Directory::claim(folder.path()).expect("it is free again");
        drop(child);
    }

    #[test]
    fn what_is_not_ours_or_of_another_version_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("notes.txt"), "mine").expect("a file");
        check_refused(folder.path(), "holds files that are not atoll's (notes.txt)");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FORMAT), "atoll-data 2\n").expect("a file");
        check_refused(folder.path(), "start the version that wrote it");
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(STORE)).expect("a folder");
        check_refused(folder.path(), "has data but no file FORMAT");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        check_refused(&file, "cannot create the data directory");
    }
}
