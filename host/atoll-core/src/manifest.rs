//! What is known of a deployed handler: its record, its grants, its limits.
//!
//! Records live in the bucket `_sys` under `handler/NAME`, components under `blob/SHA256`, so that
//! a deployment is an ordinary write.

use crate::key::BucketName;
use crate::limits::{HANDLER_NAME_BYTES_MAX, PATTERN_BYTES_MAX, ROUTE_COUNT_MAX};
use crate::route::{Pattern, PatternError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A handler as it was deployed. Encoded as a MessagePack map, so that fields can be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerRecord {
    /// 1 to 64 of `a-z 0-9 -`.
    pub name: String,
    /// Counts up with every deployment of this name.
    pub version: u64,
    /// SHA-256 of the component, in lower-case hexadecimal.
    pub digest: String,
    /// Bytes in the component.
    pub component_bytes: u64,
    /// Route patterns, as text.
    pub routes: Vec<String>,
    /// Grants, as text. What is not granted is denied.
    pub grants: Vec<String>,
    /// What one request may use.
    pub limits: HandlerLimits,
    /// When it was deployed, ms since the epoch.
    pub deployed_ms: u64,
}

/// What one request of a handler may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandlerLimits {
    /// CPU time in ms.
    pub cpu_ms: u32,
    /// Wall time in ms, waits included.
    pub wall_ms: u32,
    /// Linear memory in bytes.
    pub memory_bytes: u64,
    /// Response body in bytes.
    pub response_bytes: u64,
    /// Requests of the handler at once.
    pub concurrency: u32,
}

impl Default for HandlerLimits {
    fn default() -> HandlerLimits {
        HandlerLimits {
            cpu_ms: 100,
            wall_ms: 10_000,
            memory_bytes: 64 << 20,
            response_bytes: 16 << 20,
            concurrency: 256,
        }
    }
}

/// Why a record is refused. Nothing was deployed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The name is not one.
    #[error("{0:?} is no handler name: write 1 to {HANDLER_NAME_BYTES_MAX} of a-z, 0-9 and -")]
    Name(String),
    /// A route does not parse.
    #[error(transparent)]
    Route(#[from] PatternError),
    /// A grant does not parse.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Too many routes or grants, or none.
    #[error("a handler has 1 to {ROUTE_COUNT_MAX} routes and at most as many grants")]
    Count,
    /// A limit is outside its range.
    #[error("{field} is {value}; it is at least {min} and at most {max}")]
    Limit {
        /// Its name in the record.
        field: &'static str,
        /// As given.
        value: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// The stored bytes are no record.
    #[error("the stored record does not decode")]
    Decode,
}

impl HandlerRecord {
    /// Checks every field; returns the parsed routes and grants.
    pub fn check(&self) -> Result<(Vec<Pattern>, Vec<Grant>), ManifestError> {
        check_name(&self.name)?;
        let counts_fit = (1..=ROUTE_COUNT_MAX).contains(&self.routes.len())
            && self.grants.len() <= ROUTE_COUNT_MAX;
        if !counts_fit {
            return Err(ManifestError::Count);
        }
        self.limits.check()?;
        let routes = self.routes.iter().map(|text| text.parse());
        let grants = self.grants.iter().map(|text| text.parse());
        Ok((
            routes.collect::<Result<_, PatternError>>()?,
            grants.collect::<Result<_, GrantError>>()?,
        ))
    }

    /// The record as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a record of text and numbers always encodes")
    }

    /// A record from its stored bytes; checked.
    pub fn decode(bytes: &[u8]) -> Result<HandlerRecord, ManifestError> {
        let record: HandlerRecord =
            rmp_serde::from_slice(bytes).map_err(|_| ManifestError::Decode)?;
        record.check()?;
        Ok(record)
    }

    /// The key of the record in `_sys`.
    pub fn key(name: &str) -> String {
        format!("handler/{name}")
    }

    /// The key of the component in `_sys`.
    pub fn blob_key(digest: &str) -> String {
        format!("blob/{digest}")
    }
}

/// Checks that `name` can name a handler.
pub fn check_name(name: &str) -> Result<(), ManifestError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=HANDLER_NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('-');
    if fits && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(ManifestError::Name(name.to_owned()))
    }
}

impl HandlerLimits {
    fn check(&self) -> Result<(), ManifestError> {
        let ranges = [
            ("cpu_ms", u64::from(self.cpu_ms), 1, 60_000),
            ("wall_ms", u64::from(self.wall_ms), 1, 600_000),
            ("memory_bytes", self.memory_bytes, 64 << 10, 128 << 20),
            ("response_bytes", self.response_bytes, 1, 64 << 20),
            ("concurrency", u64::from(self.concurrency), 1, 10_000),
        ];
        for (field, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(ManifestError::Limit { field, value, min, max });
            }
        }
        Ok(())
    }
}

/// Something that a handler may do: `kv:BUCKET[/PREFIX]=r|w|rw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The bucket.
    pub bucket: BucketName,
    /// Keys start with it; empty for all.
    pub prefix: String,
    /// What may be done there.
    pub access: Access,
}

/// Reading, writing, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Get, list, watch.
    Read,
    /// Set and delete.
    Write,
    /// All of it.
    ReadWrite,
}

/// Why text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no grant: write kv:BUCKET=rw or kv:BUCKET/PREFIX=r (r, w or rw)")]
pub struct GrantError(pub String);

impl Access {
    /// Whether reading is part of it.
    pub fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether writing is part of it.
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Grant, GrantError> {
        let parse = || {
            let rest = text.strip_prefix("kv:").filter(|rest| rest.len() <= PATTERN_BYTES_MAX)?;
            let (scope, access) = rest.rsplit_once('=')?;
            let (bucket, prefix) = scope.split_once('/').unwrap_or((scope, ""));
            let bucket = BucketName::new(bucket).ok().filter(|bucket| !bucket.is_internal())?;
            let access = match access {
                "r" => Access::Read,
                "w" => Access::Write,
                "rw" => Access::ReadWrite,
                _ => return None,
            };
            Some(Grant { bucket, prefix: prefix.to_owned(), access })
        };
        parse().ok_or_else(|| GrantError(text.to_owned()))
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "r",
            Access::Write => "w",
            Access::ReadWrite => "rw",
        };
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "kv:{}{slash}{}={access}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> HandlerRecord {
        HandlerRecord {
            name: "counter".into(),
            version: 3,
            digest: "00".repeat(32),
            component_bytes: 21_000,
            routes: vec!["/counter/*".into()],
            grants: vec!["kv:default=rw".into(), "kv:default/cfg/=r".into()],
            limits: HandlerLimits::default(),
            deployed_ms: 1,
        }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(HandlerRecord::decode(&record().encode()), Ok(record()));
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut HandlerRecord), want: &str) {
        let mut record = record();
        change(&mut record);
        let error = record.check().expect_err("should be refused").to_string();
        assert!(error.contains(want), "{error:?} should contain {want:?}");
        assert!(HandlerRecord::decode(&record.encode()).is_err(), "nor is it read from a peer");
    }

    #[test]
    fn a_wrong_record_is_refused_with_what_to_write() {
        check_refused(|r| r.name = "Counter".into(), "a-z, 0-9 and -");
        check_refused(|r| r.name = String::new(), "a-z, 0-9 and -");
        check_refused(|r| r.routes.clear(), "1 to 32 routes");
        check_refused(|r| r.routes = vec!["x".into()], "write e.g. /counter/*");
        check_refused(|r| r.grants = vec!["kv:_sys=rw".into()], "write kv:BUCKET=rw");
        check_refused(|r| r.grants = vec!["fs:/=rw".into()], "write kv:BUCKET=rw");
        check_refused(|r| r.limits.memory_bytes = 1 << 40, "memory_bytes is");
        check_refused(|r| r.limits.cpu_ms = 0, "at least 1");
    }

    #[test]
    fn a_grant_reads_back() {
        for text in ["kv:default=rw", "kv:a/b/=r", "kv:1=w", "kv:a/x=y=r"] {
            let grant: Grant = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(grant.to_string(), text);
        }
        let grant: Grant = "kv:a/b/=r".parse().expect("a grant");
        assert!(grant.access.reads() && !grant.access.writes());
        assert_eq!(grant.prefix, "b/");
    }

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HandlerRecord::decode(&bytes);
        }
    }
}
