//! Which changes of the store a handler is told of, and where.

use crate::grant::Grant;
use crate::key::BucketName;
use crate::limits::{KEY_BYTES_MAX, ROUTE_COUNT_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a handler watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Each `BUCKET` or `BUCKET/PREFIX`, 1 to `ROUTE_COUNT_MAX` of them.
    pub keys: Vec<String>,
    /// On which nodes it is told of a change.
    pub on: WatchOn,
}

/// On which nodes a handler is told of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchOn {
    /// On the one that the change was made on.
    #[default]
    One,
    /// On each that it reaches.
    Every,
}

/// Keys of a bucket that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedKeys {
    bucket: BucketName,
    prefix: String,
}

/// Why a watch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Not text for keys.
    #[error("{0:?} is nothing to watch: write BUCKET or BUCKET/PREFIX, e.g. default/user:")]
    Keys(String),
    /// Too many, or none.
    #[error("a handler watches 1 to {ROUTE_COUNT_MAX} prefixes")]
    Count,
    /// It would learn of keys that it may not read.
    #[error("watching {0} needs a grant to read it: --grant kv:{0}=r")]
    NotGranted(String),
}

impl Watch {
    /// The keys, if each of them may be read with these grants.
    pub fn check(&self, grants: &[Grant]) -> Result<Vec<WatchedKeys>, WatchError> {
        if !(1..=ROUTE_COUNT_MAX).contains(&self.keys.len()) {
            return Err(WatchError::Count);
        }
        let parse = |text: &String| {
            let keys: WatchedKeys = text.parse()?;
            let covers = |grant: &Grant| match grant {
                Grant::Kv(grant) => {
                    grant.access.reads()
                        && grant.bucket == keys.bucket
                        && keys.prefix.starts_with(&grant.prefix)
                }
                Grant::Http(_) | Grant::Secret(_) | Grant::Purge(_) => false,
            };
            match grants.iter().any(covers) {
                true => Ok(keys),
                false => Err(WatchError::NotGranted(keys.to_string())),
            }
        };
        self.keys.iter().map(parse).collect()
    }
}

impl WatchedKeys {
    /// Whether a key is one of them.
    pub fn contains(&self, bucket: &BucketName, key: &[u8]) -> bool {
        self.bucket == *bucket && key.starts_with(self.prefix.as_bytes())
    }
}

impl FromStr for WatchedKeys {
    type Err = WatchError;

    fn from_str(text: &str) -> Result<WatchedKeys, WatchError> {
        let refused = || WatchError::Keys(text.chars().take(128).collect());
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let bucket = BucketName::new(bucket).ok().filter(|bucket| !bucket.is_internal());
        let bucket = bucket.filter(|_| prefix.len() <= KEY_BYTES_MAX).ok_or_else(refused)?;
        Ok(WatchedKeys { bucket, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for WatchedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{}{slash}{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[&str], grants: &[&str], want: Result<(), &str>) {
        let grants: Vec<Grant> = grants.iter().map(|text| text.parse().expect("one")).collect();
        let keys = keys.iter().map(|text| (*text).to_owned()).collect();
        let checked = Watch { keys, on: WatchOn::One }.check(&grants);
        match (checked, want) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{error}"),
            (got, want) => panic!("{got:?} in the place of {want:?}"),
        }
    }

    #[test]
    fn what_is_watched_may_be_read() {
        check(&["default/user:"], &["kv:default=rw"], Ok(()));
        check(&["default/user:"], &["kv:default/user=r"], Ok(()));
        check(&["default"], &["kv:default/user:=r"], Err("--grant kv:default=r"));
        check(&["default/user:"], &["kv:default=w"], Err("needs a grant to read it"));
        check(&["default"], &["kv:other=rw", "secret:a"], Err("needs a grant to read it"));
        check(&["_sys/secret/"], &["kv:default=rw"], Err("write BUCKET or BUCKET/PREFIX"));
        check(&[], &["kv:default=rw"], Err("1 to 32 prefixes"));
    }

    #[test]
    fn keys_are_told_by_bucket_and_prefix() {
        let keys: WatchedKeys = "default/user:".parse().expect("keys");
        let contains = |bucket: &str, key: &[u8]| {
            keys.contains(&BucketName::new(bucket).expect("a bucket"), key)
        };
        assert!(contains("default", b"user:1") && contains("default", b"user:"));
        assert!(!contains("default", b"use") && !contains("other", b"user:1"));
    }
}
