//! The files of the cache: whose they are, written whole or not at all, the oldest removed first.

use std::fs::{self, DirBuilder, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::CodeCacheError;

pub(super) const SUFFIX: &str = "code";
const UNFINISHED: &str = "unfinished";
/// Older than this, what is unfinished was left by a process that died over it.
const UNFINISHED_AGE: Duration = Duration::from_secs(3_600);

pub(super) fn failed(path: &Path, reason: io::Error) -> CodeCacheError {
    CodeCacheError::Io { path: path.display().to_string(), reason }
}

/// Makes the directory if need be, sees to it that nobody else can put files there, and removes what
/// earlier processes left unfinished.
pub(super) fn claim(directory: &Path) -> Result<(), CodeCacheError> {
    let refused = |error| failed(directory, error);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
    let about = fs::metadata(directory).map_err(refused)?;
    if !is_ours(&about) || about.mode() & 0o022 != 0 {
        let path = directory.display().to_string();
        return Err(CodeCacheError::Exposed { path, mode: 0o700 });
    }
    for (path, about) in list(directory, UNFINISHED).map_err(refused)? {
        let age = about.modified().ok().and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > UNFINISHED_AGE) {
            // Another process may have been faster.
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

pub(super) fn is_ours(about: &Metadata) -> bool {
    about.uid() == rustix::process::geteuid().as_raw()
}

/// Returns the whole file, `None` if it is not there.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    // Asked before it is opened: opening a pipe would wait for whoever writes to it.
    let about = match fs::symlink_metadata(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        about => about?,
    };
    if !about.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if about.len() > bytes_max {
        return Err(io::Error::other("it is larger than the whole cache may be"));
    }
    let file = match File::open(path) {
        Err(error) if is_missing(&error) => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Notes that a file was used. If that fails, it is taken for older than it is.
pub(super) fn touch(path: &Path) {
    let now = FileTimes::new().set_modified(SystemTime::now());
    let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_times(now));
}

/// Writes a file, in the place of the one that may be there.
pub(super) fn replace(directory: &Path, path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let unfinished = write(directory, parts)?;
    fs::rename(&unfinished, path).inspect_err(|_| discard(&unfinished))
}

/// Writes a file unless there is one.
pub(super) fn create(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = write(directory, &[bytes])?;
    let linked = match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    discard(&unfinished);
    linked
}

/// Writes a new file that only this user can read; returns its path.
fn write(directory: &Path, parts: &[&[u8]]) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!("{}-{count}.{UNFINISHED}", std::process::id()));
    // A process that died over it may have had our number.
    discard(&path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.inspect_err(|_| discard(&path))?;
    Ok(path)
}

/// It goes if it can; else it does when the cache is opened in an hour or later.
fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Removes what was used longest ago until the rest fits; `newest` stays.
pub(super) fn make_room(directory: &Path, bytes_max: u64, newest: &Path) -> io::Result<()> {
    let mut files = list(directory, SUFFIX)?;
    let mut sum: u64 = files.iter().map(|(_, about)| about.len()).sum();
    files.sort_by_key(|(_, about)| about.modified().ok());
    for (path, about) in files.iter().filter(|(path, _)| path != newest) {
        if sum <= bytes_max {
            break;
        }
        fs::remove_file(path)?;
        sum -= about.len();
    }
    Ok(())
}

fn list(directory: &Path, suffix: &str) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != suffix) {
            continue;
        }
        // One that is gone meanwhile needs no room.
        if let Ok(about) = entry.metadata() {
            files.push((path, about));
        }
    }
    Ok(files)
}
