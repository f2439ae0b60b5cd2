//! Compiled code on disk, so that a restart does not compile again what it had compiled before.
//!
//! Loading compiled code runs it: whoever can put a file here would own the node. So each file is
//! sealed with a key that only the node's user can read. The seal covers the component's digest and
//! the engine's settings as well, and it is checked over the very bytes in memory that are then
//! loaded: a file that is mapped could be changed after the check.
//!
//! Everything here may be lost: what is missing, damaged or of another engine is compiled again.

mod files;
mod seal;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use seal::Key;

/// A directory with compiled code.
pub struct CodeCache {
    directory: PathBuf,
    bytes_max: u64,
    key: Key,
    /// Held while room is made: two at once would both remove more than they have to.
    turn: Mutex<()>,
}

/// Why there is no cache. Nothing was changed but what could be created.
#[derive(Debug, thiserror::Error)]
pub enum CodeCacheError {
    /// The directory or the key cannot be read or made.
    #[error("cannot use {path}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// The system's words.
        #[source]
        reason: io::Error,
    },
    /// Somebody else could put code there.
    #[error("{path} can be changed or read by others; give it to this user alone (chmod {mode:o})")]
    Exposed {
        /// The file or directory.
        path: String,
        /// The mode that it should have.
        mode: u32,
    },
}

/// Where a component's code came from.
#[derive(Debug)]
pub enum Origin {
    /// From the cache.
    Loaded,
    /// It was compiled now.
    Compiled {
        /// Why a file that was there was not used.
        refused: Option<Refused>,
        /// Whether it is in the cache from now on; `Ok(false)` if it is larger than that may be.
        kept: io::Result<bool>,
    },
}

/// Why a file was not used. It is replaced by what is compiled in its place.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The seal is not this node's, or not for this content.
    #[error("its seal is broken: it was changed, damaged, or made by another node")]
    Seal,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It was sealed by this node and the engine does not take it.
    #[error("the engine does not take it: {0}")]
    Engine(String),
}

/// What one file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    /// SHA-256 of the component.
    component: [u8; 32],
    /// SHA-256 of the engine's version, settings and processor.
    engine: [u8; 32],
}

impl Subject {
    pub(crate) fn new(engine: &wasmtime::Engine, wasm: &[u8]) -> Subject {
        let mut settings = Digester(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        Subject { component: Sha256::digest(wasm).into(), engine: settings.0.finalize().into() }
    }

    fn file_name(&self) -> String {
        format!("{}-{}.{}", hex(&self.component), hex(&self.engine[..8]), files::SUFFIX)
    }
}

impl CodeCache {
    /// Opens a directory, which is made where it is not there.
    ///
    /// The files in it take at most `bytes_max` together; what was used longest ago goes first.
    pub fn open(directory: &Path, bytes_max: u64) -> Result<CodeCache, CodeCacheError> {
        files::claim(directory)?;
        let key = Key::open(directory)?;
        Ok(CodeCache { directory: directory.to_owned(), bytes_max, key, turn: Mutex::new(()) })
    }

    /// Returns the code that is kept for a subject. `Ok(None)` if there is none. What it returns was
    /// sealed by whoever holds the key.
    pub(crate) fn find(&self, subject: &Subject) -> Result<Option<Vec<u8>>, Refused> {
        let path = self.path(subject);
        let Some(file) = files::read(&path, self.bytes_max)? else { return Ok(None) };
        let code = self.key.unseal(subject, file).ok_or(Refused::Seal)?;
        files::touch(&path);
        Ok(Some(code))
    }

    /// Keeps code; returns whether it is not too large for that.
    pub(crate) fn keep(&self, subject: &Subject, code: &[u8]) -> io::Result<bool> {
        let head = self.key.seal(subject, code);
        let len = head.len() as u64 + code.len() as u64;
        if len > self.bytes_max {
            return Ok(false);
        }
        let path = self.path(subject);
        // Not synced: a file that a crash leaves half written has a broken seal.
        files::replace(&self.directory, &path, &[&head, code])?;
        // A panic under it has left nothing half done: files are removed one by one.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        files::make_room(&self.directory, self.bytes_max, &path)?;
        Ok(true)
    }

    fn path(&self, subject: &Subject) -> PathBuf {
        self.directory.join(subject.file_name())
    }
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cache = formatter.debug_struct("CodeCache");
        cache.field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Feeds whatever can be hashed to SHA-256: the standard's hasher has 64 bits, and nobody promises
/// that they stay the same.
struct Digester(Sha256);

impl Hasher for Digester {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes([
            digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
        ])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
