//! A store in memory, as simple as can be: what the handlers of these tests are granted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use atoll_wasm::host::purge::{Purge, PurgeError, Purging};
use atoll_wasm::host::{
    Condition, Entry, FetchBody, FetchError, Fetcher, Fetching, Host, Increment, KeyPage, KvError,
    Level, List, Listing, Logger, NoRandomness, SecretError, Set, Usage,
};
use bytes::Bytes;

/// The time of these tests, in milliseconds since 1970.
const NOW_MS: u64 = 1_800_000_000_000;

/// The bucket `default`, and the log; a clone is another handle on the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    tags: BTreeMap<String, Vec<String>>,
    writes: u64,
    lines: Vec<(Level, String)>,
    usages: Vec<Usage>,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        let state = self.state();
        Some(String::from_utf8_lossy(&state.entries.get(key)?.value).into_owned())
    }

    pub(crate) fn put(&self, key: &str, value: &'static str) {
        self.state().write(key, Bytes::from_static(value.as_bytes()), None);
    }

    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.state().lines.clone()
    }

    /// What the calls have used that were given this, each told once.
    pub(crate) fn usages(&self) -> Vec<Usage> {
        self.state().usages.clone()
    }
}

impl State {
    fn write(&mut self, key: &str, value: Bytes, expires_at_ms: Option<u64>) -> String {
        self.writes += 1;
        let version = self.writes.to_string();
        let entry = Entry { value, version: version.clone(), expires_at_ms };
        self.entries.insert(key.to_owned(), entry);
        version
    }
}

impl Host for Memory {
    type Bucket = ();

    fn open(&mut self, name: &str) -> Result<(), KvError> {
        match name {
            "default" => Ok(()),
            _ => Err(KvError::Denied(format!("kv:{name}"))),
        }
    }

    fn get(&mut self, _bucket: &(), key: &str) -> Result<Option<Bytes>, KvError> {
        Ok(self.state().entries.get(key).map(|entry| entry.value.clone()))
    }

    fn get_entry(&mut self, _bucket: &(), key: &str) -> Result<Option<Entry>, KvError> {
        Ok(self.state().entries.get(key).cloned())
    }

    fn exists(&mut self, _bucket: &(), key: &str) -> Result<bool, KvError> {
        Ok(self.state().entries.contains_key(key))
    }

    fn set(&mut self, _bucket: &(), key: &str, set: Set) -> Result<String, KvError> {
        let mut state = self.state();
        let version = state.entries.get(key).map(|entry| entry.version.clone());
        let holds = match set.condition {
            Condition::Always => true,
            Condition::IfAbsent => version.is_none(),
            Condition::IfPresent => version.is_some(),
            Condition::IfVersion(wanted) => version == Some(wanted),
        };
        match (key, holds) {
            ("", _) => Err(KvError::Invalid("an empty key".to_owned())),
            (_, false) => Err(KvError::ConditionFailed),
            (_, true) => {
                state.tags.remove(key);
                Ok(state.write(key, set.value, set.ttl_ms.map(|ttl_ms| NOW_MS + ttl_ms)))
            }
        }
    }

    fn set_tagged(
        &mut self,
        bucket: &(),
        key: &str,
        (set, tags): (Set, Vec<String>),
    ) -> Result<String, KvError> {
        let is_tag =
            |tag: &String| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic());
        if tags.len() > 8 || !tags.iter().all(is_tag) {
            return Err(KvError::Invalid("these are no tags".to_owned()));
        }
        let version = self.set(bucket, key, set)?;
        let tags = tags.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        self.state().tags.insert(key.to_owned(), tags);
        Ok(version)
    }

    fn tags(&mut self, bucket: &(), key: &str) -> Result<Option<Vec<String>>, KvError> {
        let is_there = self.exists(bucket, key)?;
        Ok(is_there.then(|| self.state().tags.get(key).cloned().unwrap_or_default()))
    }

    fn delete(&mut self, _bucket: &(), key: &str) -> Result<bool, KvError> {
        Ok(self.state().entries.remove(key).is_some())
    }

    fn increment(&mut self, _bucket: &(), key: &str, by: Increment) -> Result<i64, KvError> {
        let mut state = self.state();
        let (value, expires_at_ms) = match state.entries.get(key) {
            Some(entry) => {
                let text = String::from_utf8_lossy(&entry.value);
                (text.parse::<i64>().map_err(|_| KvError::WrongType)?, entry.expires_at_ms)
            }
            None => (0, by.ttl_ms.map(|ttl_ms| NOW_MS + ttl_ms)),
        };
        let value = value + by.delta;
        state.write(key, value.to_string().into(), expires_at_ms);
        Ok(value)
    }

    /// Two keys a page whatever the guest asked, so that short lists have several pages.
    fn list(&mut self, _bucket: &(), list: List) -> Result<Box<dyn Listing>, KvError> {
        let after = list.cursor.map_or(Bound::Included(list.prefix.clone()), Bound::Excluded);
        let state = self.state();
        let with_prefix = state
            .entries
            .range((after, Bound::Unbounded))
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(&list.prefix));
        let keys: Vec<String> = with_prefix.take(list.limit.min(2)).collect();
        Ok(Box::new(Some(KeyPage { cursor: keys.last().cloned(), keys })))
    }

    fn purge(&mut self, _purge: Purge) -> Purging {
        let denied = PurgeError::Denied("nothing is granted".to_owned());
        Box::pin(std::future::ready(Err(denied)))
    }

    fn fetcher(&self) -> Arc<dyn Fetcher> {
        Arc::new(self.clone())
    }

    fn logger(&self) -> Arc<dyn Logger> {
        Arc::new(self.clone())
    }

    fn config(&mut self, _key: &str) -> Option<String> {
        None
    }

    fn settings(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn secret(&mut self, _name: &str) -> Result<Option<Vec<u8>>, SecretError> {
        Ok(None)
    }

    fn now_ms(&mut self) -> u64 {
        NOW_MS
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        bytes.fill(7);
        Ok(())
    }

    fn used(&mut self, usage: Usage) {
        self.state().usages.push(usage);
    }
}

impl Logger for Memory {
    fn log(&self, level: Level, message: &str) {
        self.state().lines.push((level, message.to_owned()));
    }
}

impl Fetcher for Memory {
    fn fetch(&self, _request: http::Request<FetchBody>) -> Fetching {
        Box::pin(std::future::ready(Err(FetchError::Denied("no host is granted".to_owned()))))
    }
}
