//! Keys and bucket names: what may name a value.

use crate::limits::{BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX};
use std::fmt;

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No bytes at all.
    #[error("a key has at least one byte")]
    Empty,
    /// Over [`KEY_BYTES_MAX`].
    #[error("a key of {len} bytes exceeds {KEY_BYTES_MAX}")]
    TooLong {
        /// Bytes that were given.
        len: usize,
    },
}

/// Checks that `key` has 1 to [`KEY_BYTES_MAX`] bytes; any byte may occur in it.
pub fn check_key(key: &[u8]) -> Result<(), KeyError> {
    match key.len() {
        0 => Err(KeyError::Empty),
        len if len > KEY_BYTES_MAX => Err(KeyError::TooLong { len }),
        _ => Ok(()),
    }
}

/// The name of a bucket: 1 to 64 of `a-z A-Z 0-9 . _ -`, not starting with `.` or `-`.
///
/// `default` is database 0 of the RESP port, `1` to `15` are the others. Names that start with
/// `_` belong to the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketName(Box<str>);

/// Why text is no bucket name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a bucket name has 1 to {BUCKET_NAME_BYTES_MAX} characters of a-z A-Z 0-9 . _ - and starts with a letter, a digit or _"
)]
pub struct BucketNameError;

impl BucketName {
    /// Returns the name, checked.
    pub fn new(name: &str) -> Result<BucketName, BucketNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let first = name.bytes().next().ok_or(BucketNameError)?;
        let fits = name.len() <= BUCKET_NAME_BYTES_MAX;
        if fits && name.bytes().all(allowed) && !matches!(first, b'.' | b'-') {
            Ok(BucketName(name.into()))
        } else {
            Err(BucketNameError)
        }
    }

    /// The bucket behind `SELECT database`; 0 is `default`.
    pub fn of_database(database: u8) -> BucketName {
        match database {
            0 => BucketName("default".into()),
            n => BucketName(n.to_string().into()),
        }
    }

    /// The database behind `SELECT`, if this is the name of one.
    pub fn database(&self) -> Option<u8> {
        match self.0.as_bytes() {
            b"default" => Some(0),
            [digit @ b'1'..=b'9'] => Some(digit - b'0'),
            [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
            _ => None,
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the bucket belongs to the node itself and is closed to clients.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with('_')
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_to_1024_bytes_of_any_kind() {
        assert_eq!(check_key(b""), Err(KeyError::Empty));
        assert_eq!(check_key(b"\0\xff"), Ok(()));
        assert_eq!(check_key(&[7; KEY_BYTES_MAX]), Ok(()));
        let len = KEY_BYTES_MAX + 1;
        assert_eq!(check_key(&vec![7; len]), Err(KeyError::TooLong { len }));
    }

    #[test]
    fn a_bucket_name_is_safe_in_a_path_and_a_log() {
        for good in ["default", "15", "_sys", "a.b-c_d", &"x".repeat(64)] {
            assert!(BucketName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "-a", "a/b", "a b", "ä", "a:b", &"x".repeat(65)] {
            assert!(BucketName::new(bad).is_err(), "{bad}");
        }
        assert!(BucketName::new("_sys").is_ok_and(|name| name.is_internal()));
        assert_eq!(BucketName::of_database(0).as_str(), "default");
        assert_eq!(BucketName::of_database(15).as_str(), "15");
        for database in 0..16 {
            assert_eq!(BucketName::of_database(database).database(), Some(database));
        }
        for other in ["0", "16", "01", "x", "_sys"] {
            assert_eq!(BucketName::new(other).ok().and_then(|name| name.database()), None);
        }
    }
}
