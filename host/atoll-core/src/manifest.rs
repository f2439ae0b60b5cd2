//! What is known of a deployed handler: its record, its grants, its limits.
//!
//! Records live in the bucket `_sys`, so that a deployment is a few ordinary writes, which reach every
//! node: `handler/NAME` is what is live, `version/NAME/N` what was, `blob/SHA256` a component, and
//! `state/NAME/NODE` what a node says of it.

pub mod canary;
pub mod watch;

use crate::grant::{Grant, GrantError};
use crate::limits::{
    CONFIG_COUNT_MAX, CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, HANDLER_NAME_BYTES_MAX,
    ROUTE_COUNT_MAX,
};
use crate::route::{Pattern, PatternError};
use canary::Canary;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use watch::{Watch, WatchError};

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
    /// Settings that its guests can read.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// The world that the component was made for, as WIT names it. Found out when it is deployed.
    #[serde(default)]
    pub world: String,
    /// What one request may use.
    pub limits: HandlerLimits,
    /// Whether instances are used again; each request has one of its own otherwise.
    #[serde(default)]
    pub reuse: Option<HandlerReuse>,
    /// Whether its answers are cached as they allow.
    #[serde(default)]
    pub cache: bool,
    /// Whether what one node has cached of them all nodes use.
    #[serde(default)]
    pub replicate: bool,
    /// Whether requests of a filter that fails go on without it, and past the cache.
    #[serde(default)]
    pub pass_on_failure: bool,
    /// When it was deployed, ms since the epoch.
    pub deployed_ms: u64,
    /// The version that this one brings back, if it is a rollback.
    #[serde(default)]
    pub restores: Option<u64>,
    /// The changes of the store that it is told of, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// The version that gets a share of the requests, if one is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// What a node says of a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerState {
    /// The version that it looked at last.
    pub version: u64,
    /// The component of that version, and when it was deployed: two nodes may have given one number
    /// at the same time, and after a removal they begin anew. Empty where an older node says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// In ms since the epoch.
    #[serde(default)]
    pub deployed_ms: u64,
    /// Why that version is not live there; the one before still is.
    pub error: Option<String>,
    /// Where its API listens, for whoever asks each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
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

/// How long instances of a handler are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerReuse {
    /// Requests that one instance answers at most.
    pub requests: u32,
    /// How long an instance waits for its next request, in ms.
    pub idle_ms: u32,
    /// Requests that one instance works on at once; 1 is one after the other.
    #[serde(default = "one_at_once", skip_serializing_if = "is_one_at_once")]
    pub at_once: u32,
}

fn one_at_once() -> u32 {
    1
}

fn is_one_at_once(at_once: &u32) -> bool {
    *at_once == 1
}

impl HandlerReuse {
    /// The wait where nobody says another, in ms.
    pub const IDLE_MS_DEFAULT: u32 = 10_000;

    fn check(&self) -> Result<(), ManifestError> {
        check_ranges([
            ("reuse", u64::from(self.requests), 1, 1_000_000),
            ("reuse_idle_ms", u64::from(self.idle_ms), 1, 3_600_000),
            ("reuse_at_once", u64::from(self.at_once), 1, 64),
        ])
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
    /// What it watches does not parse, or may not be read.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Too many routes or grants, or none.
    #[error(
        "a handler has 1 to {ROUTE_COUNT_MAX} routes and at most as many grants; only one that \
         watches keys can do without routes"
    )]
    Count,
    /// A filter with routes, or one whose instances are to be used again.
    #[error(
        "a filter has no routes of its own, no --cache and no --reuse: name it in a route of \
         atoll.toml, filter = \"NAME\""
    )]
    Filter,
    /// Answers are to be shared that are not cached.
    #[error("--replicate is for handlers whose answers are cached; give --cache as well")]
    Replicate,
    /// A setting has no name, or the settings are too many or too long.
    #[error(
        "the setting {0:?} is refused: a handler has at most {CONFIG_COUNT_MAX}, each with a name \
         of 1 to {CONFIG_KEY_BYTES_MAX} bytes and a value of at most {CONFIG_VALUE_BYTES_MAX}"
    )]
    Config(String),
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
    /// The version on trial is of another handler, or has a trial of its own.
    #[error("the canary of a handler is another version of it, without a canary")]
    Canary,
    /// The stored bytes are no record.
    #[error("the stored record does not decode")]
    Decode,
}

/// The world of those that have no routes of their own.
pub const FILTER_WORLD: &str = "atoll:edge/filter";

impl HandlerRecord {
    /// Checks every field; returns the parsed routes and grants.
    pub fn check(&self) -> Result<(Vec<Pattern>, Vec<Grant>), ManifestError> {
        check_name(&self.name)?;
        let is_filter = self.world == FILTER_WORLD;
        if is_filter && (!self.routes.is_empty() || self.cache || self.reuse.is_some()) {
            return Err(ManifestError::Filter);
        }
        if self.replicate && !self.cache {
            return Err(ManifestError::Replicate);
        }
        // Which world it is of is found out once it is compiled.
        let has_enough =
            !self.routes.is_empty() || self.watch.is_some() || is_filter || self.world.is_empty();
        let counts_fit = has_enough
            && self.routes.len() <= ROUTE_COUNT_MAX
            && self.grants.len() <= ROUTE_COUNT_MAX;
        if !counts_fit {
            return Err(ManifestError::Count);
        }
        self.limits.check()?;
        self.reuse.iter().try_for_each(HandlerReuse::check)?;
        self.check_config()?;
        self.check_canary()?;
        let routes = self.routes.iter().map(|text| text.parse());
        let grants = self.grants.iter().map(|text| text.parse());
        let routes = routes.collect::<Result<_, PatternError>>()?;
        let grants = grants.collect::<Result<Vec<Grant>, GrantError>>()?;
        self.watch.iter().try_for_each(|watch| watch.check(&grants).map(drop))?;
        Ok((routes, grants))
    }

    fn check_canary(&self) -> Result<(), ManifestError> {
        let Some(Canary { record, .. }) = &self.canary else { return Ok(()) };
        // Not one within another: what is stored is not trusted to end.
        if record.canary.is_some() || record.name != self.name || record.routes != self.routes {
            return Err(ManifestError::Canary);
        }
        record.check().map(drop)
    }

    /// The live version alone.
    pub fn without_canary(&self) -> HandlerRecord {
        HandlerRecord { canary: None, ..self.clone() }
    }

    /// What is new in it: the live version, or its canary.
    pub fn newest(&self) -> &HandlerRecord {
        match &self.canary {
            Some(canary) if canary.record.version > self.version => &canary.record,
            _ => self,
        }
    }

    /// The highest number in it: that of the live version, or of its canary.
    pub fn newest_version(&self) -> u64 {
        self.newest().version
    }

    /// Whether the live version or its canary is the component of this digest.
    pub fn has_digest(&self, digest: &str) -> bool {
        let canary = self.canary.iter().map(|canary| &canary.record.digest);
        canary.chain([&self.digest]).any(|had| had == digest)
    }

    fn check_config(&self) -> Result<(), ManifestError> {
        let fits = |(key, value): &(&String, &String)| {
            (1..=CONFIG_KEY_BYTES_MAX).contains(&key.len()) && value.len() <= CONFIG_VALUE_BYTES_MAX
        };
        let mut settings = self.config.iter();
        let refused =
            settings.clone().nth(CONFIG_COUNT_MAX).or_else(|| settings.find(|s| !fits(s)));
        refused.map_or(Ok(()), |(key, _)| Err(ManifestError::Config(key.clone())))
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

    /// The start of the keys of all records.
    pub const PREFIX: &str = "handler/";
    /// The start of the keys of all kept versions.
    pub const VERSION_PREFIX: &str = "version/";
    /// The start of the keys of all components; the digest follows.
    pub const BLOB_PREFIX: &str = "blob/";
    /// The start of the keys of what nodes say of handlers.
    pub const STATE_PREFIX: &str = "state/";

    /// The key of this version in `_sys`. Versions sort as numbers.
    pub fn version_key(&self) -> String {
        format!("{}{:020}", HandlerRecord::versions_of(&self.name), self.version)
    }

    /// The start of the keys of a handler's versions.
    pub fn versions_of(name: &str) -> String {
        format!("{}{name}/", HandlerRecord::VERSION_PREFIX)
    }

    /// The start of the keys of what nodes say of a handler; the node's name follows.
    pub fn states_of(name: &str) -> String {
        format!("{}{name}/", HandlerRecord::STATE_PREFIX)
    }

    /// The version whose content this one has.
    pub fn content_version(&self) -> u64 {
        self.restores.unwrap_or(self.version)
    }

    /// Whether an instance made for the one may answer for the other: only routes and number differ.
    pub fn runs_like(&self, other: &HandlerRecord) -> bool {
        self.digest == other.digest
            && self.grants == other.grants
            && self.config == other.config
            && self.limits == other.limits
            && self.reuse == other.reuse
    }

    /// The key of the component in `_sys`.
    pub fn blob_key(digest: &str) -> String {
        format!("{}{digest}", HandlerRecord::BLOB_PREFIX)
    }
}

impl HandlerState {
    /// What is said of a record whose newest version was looked at.
    pub fn of(record: &HandlerRecord, error: Option<String>, api: Option<String>) -> HandlerState {
        let HandlerRecord { version, digest, deployed_ms, .. } = record.newest();
        let (version, deployed_ms) = (*version, *deployed_ms);
        HandlerState { version, digest: digest.clone(), deployed_ms, error, api }
    }

    /// The state as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a state of text and numbers always encodes")
    }

    /// A state from its stored bytes.
    pub fn decode(bytes: &[u8]) -> Result<HandlerState, ManifestError> {
        rmp_serde::from_slice(bytes).map_err(|_| ManifestError::Decode)
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
        check_ranges([
            ("cpu_ms", u64::from(self.cpu_ms), 1, 60_000),
            ("wall_ms", u64::from(self.wall_ms), 1, 600_000),
            ("memory_bytes", self.memory_bytes, 64 << 10, 128 << 20),
            ("response_bytes", self.response_bytes, 1, 64 << 20),
            ("concurrency", u64::from(self.concurrency), 1, 10_000),
        ])
    }
}

/// Checks numbers, each with its name, its least and its largest value.
fn check_ranges<const N: usize>(
    ranges: [(&'static str, u64, u64, u64); N],
) -> Result<(), ManifestError> {
    for (field, value, min, max) in ranges {
        if !(min..=max).contains(&value) {
            return Err(ManifestError::Limit { field, value, min, max });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::watch::WatchOn;
    use super::*;
    use proptest::prelude::*;

    fn record() -> HandlerRecord {
        HandlerRecord {
            name: "counter".into(),
            version: 3,
            digest: "00".repeat(32),
            component_bytes: 21_000,
            routes: vec!["/counter/*".into()],
            grants: vec!["kv:default=rw".into(), "http:api.example.com".into()],
            config: BTreeMap::from([("greeting".into(), "hello".into())]),
            world: "atoll:edge/handler".into(),
            limits: HandlerLimits::default(),
            reuse: Some(HandlerReuse { requests: 100, idle_ms: 1_000, at_once: 1 }),
            cache: true,
            replicate: true,
            pass_on_failure: false,
            deployed_ms: 1,
            restores: None,
            watch: Some(Watch { keys: vec!["default/a:".into()], on: WatchOn::Every }),
            canary: None,
        }
    }

    fn with_canary(record: HandlerRecord) -> HandlerRecord {
        let share = "5%".parse().expect("a share");
        let trial = HandlerRecord { version: record.version + 1, ..record.clone() };
        HandlerRecord { canary: Some(Canary { share, record: Box::new(trial) }), ..record }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(HandlerRecord::decode(&record().encode()), Ok(record()));
        let tried = with_canary(record());
        assert_eq!(HandlerRecord::decode(&tried.encode()), Ok(tried.clone()));
        assert_eq!((tried.newest_version(), tried.without_canary()), (4, record()));
        let state = HandlerState::of(&tried, Some("why".into()), None);
        assert_eq!(state.version, 4);
        assert_eq!(HandlerState::decode(&state.encode()), Ok(state));
        assert!(record().version_key() < HandlerRecord { version: 10, ..record() }.version_key());
    }

    #[test]
    fn a_record_of_before_requests_shared_instances_reads_as_it_did() {
        let names_it =
            |record: &HandlerRecord| record.encode().windows(7).any(|window| window == b"at_once");
        let several = HandlerReuse { requests: 100, idle_ms: 1_000, at_once: 16 };
        let shared = HandlerRecord { reuse: Some(several), ..record() };
        assert_eq!(HandlerRecord::decode(&shared.encode()), Ok(shared.clone()));
        assert!(names_it(&shared) && !names_it(&record()), "older nodes read what lacks it");
        assert!(!shared.runs_like(&record()), "its instances are others");
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
        check_refused(|r| (r.routes.clear(), r.watch = None).1, "1 to 32 routes");
        check_refused(|r| r.grants.clear(), "needs a grant to read it");
        check_refused(|r| r.world = FILTER_WORLD.into(), "filter = \"NAME\"");
        check_refused(|r| r.cache = false, "give --cache as well");
        check_refused(|r| r.routes = vec!["x".into()], "write e.g. /counter/*");
        check_refused(|r| r.grants = vec!["kv:_sys=rw".into()], "write kv:BUCKET=rw");
        check_refused(|r| r.grants = vec!["fs:/=rw".into()], "write kv:BUCKET=rw");
        check_refused(|r| drop(r.config.insert(String::new(), "x".into())), "1 to 128 bytes");
        check_refused(|r| drop(r.config.insert("x".into(), "x".repeat(5_000))), "at most 4096");
        check_refused(
            |r| r.config.extend((0..64).map(|n| (n.to_string(), String::new()))),
            "at most 64",
        );
        check_refused(|r| r.limits.memory_bytes = 1 << 40, "memory_bytes is");
        check_refused(|r| r.limits.cpu_ms = 0, "at least 1");
        let reuse = |requests, idle_ms, at_once| Some(HandlerReuse { requests, idle_ms, at_once });
        check_refused(|r| r.reuse = reuse(0, 1, 1), "reuse is 0");
        check_refused(|r| r.reuse = reuse(1, 0, 1), "reuse_idle_ms");
        check_refused(|r| r.reuse = reuse(1, 1, 65), "reuse_at_once");
        check_refused(|r| *r = with_canary(with_canary(r.clone())), "without a canary");
        check_refused(
            |r| {
                *r = with_canary(r.clone());
                r.name = "other".into();
            },
            "another version of it",
        );
    }

    proptest! {
        #[test]
        fn bytes_from_outside_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = HandlerRecord::decode(&bytes);
        }
    }
}
