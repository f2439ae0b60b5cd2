//! The seal on compiled code: an HMAC with a key of the directory's own.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::files::{self, failed};
use super::{CodeCacheError, Subject};

const FILE: &str = "KEY";
const KEY_BYTES: usize = 32;
/// What every file begins with: another format has another.
const MAGIC: &[u8; 16] = b"atoll code 1\n\0\0\0";
const SEAL_BYTES: usize = 32;

/// What files are sealed with.
pub(super) struct Key([u8; KEY_BYTES]);

impl Key {
    /// Reads the key of a directory, or draws one.
    pub(super) fn open(directory: &Path) -> Result<Key, CodeCacheError> {
        let path = directory.join(FILE);
        match read(&path)? {
            Some(key) => Ok(key),
            None => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key)
                    .map_err(|error| failed(&path, io::Error::other(error)))?;
                // Two processes that share the directory may do this at once: the first key stays.
                files::create(directory, &path, &key).map_err(|error| failed(&path, error))?;
                read(&path)?.ok_or_else(|| {
                    failed(&path, io::Error::other("it is no key of 32 bytes; remove it"))
                })
            }
        }
    }

    /// Returns what stands before the code in its file.
    pub(super) fn seal(&self, subject: &Subject, code: &[u8]) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&self.mac(subject, code).finalize().into_bytes());
        head
    }

    /// Returns the code in a file, if this key has sealed it for this subject.
    pub(super) fn unseal(&self, subject: &Subject, mut file: Vec<u8>) -> Option<Vec<u8>> {
        let (seal, code) = file.strip_prefix(MAGIC)?.split_at_checked(SEAL_BYTES)?;
        // Compares in a time that does not depend on where they differ.
        self.mac(subject, code).verify_slice(seal).ok()?;
        file.drain(..MAGIC.len() + SEAL_BYTES);
        Some(file)
    }

    fn mac(&self, subject: &Subject, code: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in [&MAGIC[..], &subject.engine, &subject.component, code] {
            mac.update(part);
        }
        mac
    }
}

/// `None` if it is not there, or is none: then a crash has cut it short, and it is removed.
fn read(path: &Path) -> Result<Option<Key>, CodeCacheError> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
    };
    let about = file.metadata().map_err(|error| failed(path, error))?;
    if !files::is_ours(&about) || about.mode() & 0o077 != 0 {
        return Err(CodeCacheError::Exposed { path: path.display().to_string(), mode: 0o600 });
    }
    let mut key = [0; KEY_BYTES];
    let is_whole = about.len() == KEY_BYTES as u64 && file.read_exact(&mut key).is_ok();
    if !is_whole {
        fs::remove_file(path).map_err(|error| failed(path, error))?;
    }
    Ok(is_whole.then_some(Key(key)))
}
