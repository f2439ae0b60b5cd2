//! What a guest reaches: the store as far as it was granted, the clock, its log.

mod list;
mod purge;

use super::fetch::{Client, GuestFetcher};
use super::figures::ReleaseFigures;
use super::logs::HandlerLog;
use super::watch::{Told, Watchers};
use crate::cache::purges::Purges;
use crate::node::Node;
use crate::secrets::Secrets;
use crate::trace::Trace;
use atoll_core::clock::Now;
use atoll_core::entry::{Attributes, Deadline};
use atoll_core::grant::purge::PurgeGrant;
use atoll_core::grant::{Grant, HttpGrant, KvGrant};
use atoll_core::key::{BucketName, KeyError, check_key};
use atoll_core::manifest::HandlerRecord;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError, Written};
use atoll_core::store::view::View;
use atoll_wasm::host::purge::{Purge, Purging};
use atoll_wasm::host::{
    Condition, Entry, Fetcher, Host, Increment, KvError, Level, List, Listing, Logger,
    NoRandomness, SecretError, Set, Usage,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tracing::{debug, error, info, trace, warn};

/// Who a guest is and what it may do.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The handler's name.
    pub(crate) name: String,
    version: u64,
    /// Where its last lines are kept.
    kept: Arc<HandlerLog>,
    /// The keys that it may use. What is not among them is denied.
    kv: Vec<KvGrant>,
    /// The hosts that it may send requests to.
    http: Vec<HttpGrant>,
    /// The names of the secrets that it may read.
    secrets: Vec<String>,
    /// What it may take back from the caches.
    purge: Vec<PurgeGrant>,
    config: BTreeMap<String, String>,
    /// What its calls are counted by.
    figures: ReleaseFigures,
}

impl Identity {
    pub(super) fn new(
        record: &HandlerRecord,
        grants: Vec<Grant>,
        kept: Arc<HandlerLog>,
        figures: ReleaseFigures,
    ) -> Identity {
        let (mut kv, mut http) = (Vec::new(), Vec::new());
        let (mut secrets, mut purge) = (Vec::new(), Vec::new());
        for grant in grants {
            match grant {
                Grant::Kv(grant) => kv.push(grant),
                Grant::Http(grant) => http.push(grant),
                Grant::Secret(name) => secrets.push(name),
                Grant::Purge(grant) => purge.push(grant),
            }
        }
        let (name, config) = (record.name.clone(), record.config.clone());
        let version = record.version;
        Identity { name, version, kept, kv, http, secrets, purge, config, figures }
    }

    /// What its calls are counted by.
    pub(super) fn figures(&self) -> &ReleaseFigures {
        &self.figures
    }

    /// The last lines that the handler has logged.
    pub(crate) fn kept_log(&self) -> &Arc<HandlerLog> {
        &self.kept
    }

    /// Adds what the node says of the handler to its log, but not to the node's.
    pub(super) fn remark(&self, level: Level, text: &str) {
        self.kept.write(self.version, level, text);
    }

    /// Whether it may use any key at all.
    pub(super) fn reaches_store(&self) -> bool {
        !self.kv.is_empty()
    }

    /// Whether it may take anything back from the caches.
    pub(super) fn may_purge(&self) -> bool {
        !self.purge.is_empty()
    }

    /// The hosts that it may send requests to.
    pub(super) fn hosts(&self) -> &[HttpGrant] {
        &self.http
    }
}

impl Logger for Identity {
    fn log(&self, level: Level, text: &str) {
        self.kept.write(self.version, level, text);
        // Not as `message`, which is printed as it is: with its line breaks it could forge lines.
        let handler = self.name.as_str();
        match level {
            Level::Trace => trace!(handler, text, "handler says"),
            Level::Debug => debug!(handler, text, "handler says"),
            Level::Info => info!(handler, text, "handler says"),
            Level::Warn => warn!(handler, text, "handler says"),
            Level::Error => error!(handler, text, "handler says"),
        }
    }
}

/// What the guests of all handlers reach, each as far as it may.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) node: Arc<Node>,
    /// Sends what guests ask of others.
    pub(super) client: Arc<Client>,
    pub(super) secrets: Secrets,
    pub(super) purges: Arc<Purges>,
    pub(super) watchers: Watchers,
}

/// One request's view of the node. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub(crate) struct GuestHost {
    common: Arc<Common>,
    identity: Arc<Identity>,
    traces: Arc<Traces>,
    /// In a watcher's call, and in what it leads to, what the watcher was told.
    told: Option<Told>,
    /// That of the request, where there is one.
    trace: Option<Arc<Trace>>,
    /// Where it is noted what the call has used, where somebody is told.
    usage: Option<Arc<OnceLock<Usage>>>,
}

/// What a guest leaves behind, for whoever answers in its name.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    has_written: AtomicBool,
}

impl Traces {
    /// Whether the guest has written anything.
    pub(crate) fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }
}

/// A bucket that a guest has opened.
#[derive(Clone, Debug)]
pub(crate) struct GuestBucket {
    bucket: Arc<Bucket>,
}

/// What a guest is about to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
}

impl GuestHost {
    pub(super) fn new(common: Arc<Common>, identity: Arc<Identity>) -> GuestHost {
        let (told, trace, usage) = (None, None, None);
        GuestHost { common, identity, traces: Arc::default(), told, trace, usage }
    }

    /// The same for a request of this trace.
    pub(crate) fn traced(self, trace: Arc<Trace>) -> GuestHost {
        let usage = trace.recorder().map(|_| Arc::default());
        GuestHost { trace: Some(trace), usage, ..self }
    }

    /// Where it is noted what the call has used, if that is told in a trace.
    pub(crate) fn usage(&self) -> Option<Arc<OnceLock<Usage>>> {
        self.usage.clone()
    }

    /// The same for a watcher's call.
    pub(super) fn told(self, told: Told) -> GuestHost {
        self.caused_by(Some(told))
    }

    /// The same for a request that a watcher's call has led to, if one has.
    pub(crate) fn caused_by(self, told: Option<Told>) -> GuestHost {
        GuestHost { told, ..self }
    }

    fn node(&self) -> &Arc<Node> {
        &self.common.node
    }

    /// What the guest leaves behind, to be looked at after its end.
    pub(crate) fn traces(&self) -> Arc<Traces> {
        Arc::clone(&self.traces)
    }

    /// Checks the key, the grant for it and the state of the node.
    fn check(&self, bucket: &GuestBucket, key: &str, purpose: Purpose) -> Result<(), KvError> {
        check_key(key.as_bytes()).map_err(|error| match error {
            KeyError::Empty => KvError::Invalid(error.to_string()),
            KeyError::TooLong { .. } => KvError::TooLarge(error.to_string()),
        })?;
        let permission = self.node().permission();
        let (access, permitted) = match purpose {
            Purpose::Read => ("r", permission.read()),
            Purpose::Write => ("w", permission.write()),
        };
        if self.is_granted(bucket.bucket.name(), key.as_bytes(), purpose) {
            if purpose == Purpose::Write {
                self.traces.has_written.store(true, Ordering::Relaxed);
            }
            return permitted.map_err(|refusal| KvError::Unavailable(refusal.to_string()));
        }
        Err(denied(&format!("kv:{}/{key}={access}", bucket.bucket.name())))
    }

    fn is_granted(&self, bucket: &BucketName, key: &[u8], purpose: Purpose) -> bool {
        self.identity.kv.iter().any(|grant| {
            let allowed = match purpose {
                Purpose::Read => grant.access.reads(),
                Purpose::Write => grant.access.writes(),
            };
            allowed && grant.bucket == *bucket && key.starts_with(grant.prefix.as_bytes())
        })
    }

    /// The parts of `wanted` that may be read: prefixes in order, none the start of another.
    fn readable<'p>(
        &'p self,
        bucket: &BucketName,
        wanted: &'p str,
    ) -> Result<Vec<&'p str>, KvError> {
        let grants = self.identity.kv.iter();
        let readable = grants.filter(|grant| grant.access.reads() && grant.bucket == *bucket);
        let mut prefixes: Vec<&str> = readable.map(|grant| grant.prefix.as_str()).collect();
        if prefixes.iter().any(|granted| wanted.starts_with(granted)) {
            return Ok(vec![wanted]);
        }
        prefixes.retain(|granted| granted.starts_with(wanted));
        prefixes.sort_unstable();
        // The start of others sorts before them.
        prefixes.dedup_by(|later, kept| later.starts_with(*kept));
        if prefixes.is_empty() {
            return Err(denied(&format!("kv:{bucket}/{wanted}=r")));
        }
        Ok(prefixes)
    }

    /// Writes, once everything else was checked.
    fn write<'v, R>(
        &self,
        bucket: &GuestBucket,
        key: &str,
        decide: impl FnOnce(Option<View<'_>>) -> (Edit<'v>, R),
    ) -> Result<Written<R>, KvError> {
        let store = self.node().store();
        let write = || {
            let written = store.write(&bucket.bucket, key.as_bytes(), self.node().now(), decide);
            written.map_err(refusal)
        };
        match &self.told {
            None => write(),
            Some(told) => {
                let about = (bucket.bucket.name(), key.as_bytes());
                self.common.watchers.write(told, about, write)
            }
        }
    }

    /// Writes a version, if it may and its condition holds.
    fn write_version(
        &self,
        bucket: &GuestBucket,
        key: &str,
        (set, attributes): (Set, Option<Arc<Attributes>>),
    ) -> Result<String, KvError> {
        self.check(bucket, key, Purpose::Write)?;
        if set.condition != Condition::Always {
            // Whether it holds says something about what is there.
            self.check(bucket, key, Purpose::Read)?;
        }
        let now = self.node().now();
        let Set { value, ttl_ms, condition } = set;
        let written = self.write(bucket, key, |view| {
            let holds = match &condition {
                Condition::Always => true,
                Condition::IfAbsent => view.is_none(),
                Condition::IfPresent => view.is_some(),
                Condition::IfVersion(version) => {
                    view.is_some_and(|view| view.version().to_string() == *version)
                }
            };
            match holds {
                true => {
                    let (value, deadline) = (NewValue::Shared(value), deadline(now, ttl_ms));
                    (Edit::Set { value, deadline, attributes }, ())
                }
                false => (Edit::Keep, ()),
            }
        });
        let stamp = written?.stamp.ok_or(KvError::ConditionFailed)?;
        Ok(stamp.to_string())
    }

    fn read<R>(
        &self,
        bucket: &GuestBucket,
        key: &str,
        look: impl FnOnce(Option<View<'_>>) -> R,
    ) -> Result<R, KvError> {
        self.check(bucket, key, Purpose::Read)?;
        Ok(self.node().store().read(&bucket.bucket, key.as_bytes(), self.node().now(), look))
    }
}

impl Host for GuestHost {
    type Bucket = GuestBucket;

    fn open(&mut self, name: &str) -> Result<GuestBucket, KvError> {
        let parsed = BucketName::new(name).map_err(|error| KvError::Invalid(error.to_string()))?;
        if parsed.is_internal() {
            return Err(KvError::Denied(format!("{parsed} is a bucket of the node's own")));
        }
        if !self.identity.kv.iter().any(|grant| grant.bucket == parsed) {
            return Err(denied(&format!("kv:{parsed}=r")));
        }
        let bucket = self.node().store().open_bucket(&parsed);
        let bucket = bucket.map_err(|error| KvError::Unavailable(error.to_string()))?;
        Ok(GuestBucket { bucket })
    }

    fn get(&mut self, bucket: &GuestBucket, key: &str) -> Result<Option<Bytes>, KvError> {
        self.read(bucket, key, |view| view.map(|view| view.value().to_bytes()))
    }

    fn get_entry(&mut self, bucket: &GuestBucket, key: &str) -> Result<Option<Entry>, KvError> {
        self.read(bucket, key, |view| {
            view.map(|view| Entry {
                value: view.value().to_bytes(),
                version: view.version().to_string(),
                expires_at_ms: view.deadline().millis(),
            })
        })
    }

    fn exists(&mut self, bucket: &GuestBucket, key: &str) -> Result<bool, KvError> {
        self.read(bucket, key, |view| view.is_some())
    }

    fn set(&mut self, bucket: &GuestBucket, key: &str, set: Set) -> Result<String, KvError> {
        self.write_version(bucket, key, (set, None))
    }

    fn set_tagged(
        &mut self,
        bucket: &GuestBucket,
        key: &str,
        (set, tags): (Set, Vec<String>),
    ) -> Result<String, KvError> {
        let tags = Attributes::check_tags(tags.iter().map(String::as_str));
        let tags = tags.map_err(|error| KvError::Invalid(error.to_string()))?;
        let attributes = Attributes { tags, ..Attributes::default() };
        self.write_version(bucket, key, (set, Some(Arc::new(attributes))))
    }

    fn tags(&mut self, bucket: &GuestBucket, key: &str) -> Result<Option<Vec<String>>, KvError> {
        self.read(bucket, key, |view| {
            let attributes = view?.attributes();
            let tags = attributes.map_or(&[][..], |attributes| &attributes.tags);
            Some(tags.iter().map(|tag| String::from(&**tag)).collect())
        })
    }

    fn delete(&mut self, bucket: &GuestBucket, key: &str) -> Result<bool, KvError> {
        self.check(bucket, key, Purpose::Write)?;
        let may_know = self.is_granted(bucket.bucket.name(), key.as_bytes(), Purpose::Read);
        let written = self.write(bucket, key, |view| (Edit::Delete, may_know && view.is_some()))?;
        Ok(written.answer)
    }

    fn increment(
        &mut self,
        bucket: &GuestBucket,
        key: &str,
        by: Increment,
    ) -> Result<i64, KvError> {
        self.check(bucket, key, Purpose::Write)?;
        // The sum tells what was there.
        self.check(bucket, key, Purpose::Read)?;
        let now = self.node().now();
        let written = self.write(bucket, key, |view| {
            let Some(before) = view.map_or(Some(0), |view| view.value().as_integer()) else {
                return (Edit::Keep, Err(KvError::WrongType));
            };
            match before.checked_add(by.delta) {
                None => (Edit::Keep, Err(KvError::Invalid("the sum leaves 64 bits".to_owned()))),
                Some(sum) => {
                    let deadline = deadline(now, by.ttl_ms);
                    (Edit::Add { delta: by.delta, deadline }, Ok(sum))
                }
            }
        });
        written?.answer
    }

    fn list(&mut self, bucket: &GuestBucket, list: List) -> Result<Box<dyn Listing>, KvError> {
        Ok(Box::new(self.begin_list(bucket, &list)?))
    }

    fn purge(&mut self, purge: Purge) -> Purging {
        self.begin_purge(&purge)
    }

    fn fetcher(&self) -> Arc<dyn Fetcher> {
        let (client, identity) = (Arc::clone(&self.common.client), Arc::clone(&self.identity));
        let cause = self.told.and_then(|told| self.common.watchers.field(told));
        Arc::new(GuestFetcher { client, identity, trace: self.trace.clone(), cause })
    }

    fn logger(&self) -> Arc<dyn Logger> {
        Arc::clone(&self.identity) as Arc<dyn Logger>
    }

    fn config(&mut self, key: &str) -> Option<String> {
        self.identity.config.get(key).cloned()
    }

    fn settings(&mut self) -> Vec<(String, String)> {
        let settings = self.identity.config.iter();
        settings.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn secret(&mut self, name: &str) -> Result<Option<Vec<u8>>, SecretError> {
        if !self.identity.secrets.iter().any(|granted| granted == name) {
            // What it may not read may not even be known to be there.
            let grant = format!("secret:{name}");
            return Err(SecretError::Denied(format!(
                "{grant} is not granted; deploy the handler with --grant {grant}"
            )));
        }
        let secret = self.common.secrets.reveal(name);
        secret.map_err(|error| SecretError::Unavailable(error.to_string()))
    }

    fn now_ms(&mut self) -> u64 {
        self.node().now().millis()
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(bytes).map_err(|error| {
            error!(%error, "the system gives no random numbers");
            NoRandomness
        })
    }

    fn used(&mut self, usage: Usage) {
        self.identity.figures.note_usage(usage);
        if let Some(cell) = &self.usage {
            // Of a request that was given to a second instance, what the first has used.
            let _ = cell.set(usage);
        }
    }
}

fn deadline(now: Now, ttl_ms: Option<u64>) -> Deadline {
    let at = |ttl_ms| Deadline::at_millis(now.millis().saturating_add(ttl_ms));
    ttl_ms.map_or(Deadline::NEVER, at)
}

/// What a grant would have allowed.
fn denied(grant: &str) -> KvError {
    KvError::Denied(format!("{grant} is not granted; deploy the handler with --grant {grant}"))
}

fn refusal(error: WriteError) -> KvError {
    match error {
        WriteError::Full { .. } => KvError::Full,
        WriteError::TooLarge { .. } => KvError::TooLarge(error.to_string()),
        WriteError::Obstacle(_) => KvError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
