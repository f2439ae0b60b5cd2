//! The node's replicated key-value store, as far as the handler was granted it.
//!
//! Every call is answered from the memory of the node that runs the handler; writes reach the other
//! nodes a moment later and the last write of a key wins. Conditions are therefore decided on this
//! node only; increments on several nodes all count. A key is 1 to 1,024 bytes of text.

#[cfg(any(feature = "json", feature = "msgpack"))]
mod codec;
mod error;
pub(crate) mod options;

#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
#[cfg(any(feature = "json", feature = "msgpack"))]
pub use codec::{Codec, Typed};
pub use error::Error;
pub use options::SetOptions;

use std::collections::VecDeque;
use std::time::Duration;

use crate::bindings::atoll::edge::kv;
use crate::node;

/// Opens a bucket, such as `default`. Fails with [`Error::Denied`] unless the handler was granted
/// it.
pub fn open(name: &str) -> Result<Bucket, Error> {
    Ok(Bucket { raw: node::Bucket::open(name)? })
}

/// An opened bucket. It does not outlive the request.
#[derive(Debug)]
pub struct Bucket {
    raw: node::Bucket,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Names this write: equal on every node, changed by every write. Fit for
    /// [`SetOptions::if_version`].
    pub version: String,
    /// When it ends, in milliseconds since 1970; `None`: when it is deleted.
    pub expires_at_ms: Option<u64>,
}

impl Bucket {
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn of_test(raw: node::Bucket) -> Bucket {
        Bucket { raw }
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.raw.get(key)?)
    }

    /// Returns the value of a key as text. Fails with [`Error::Invalid`] if it is not UTF-8.
    pub fn get_text(&self, key: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.raw.get(key)? else { return Ok(None) };
        match String::from_utf8(value) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::Invalid("the value is not UTF-8".to_owned())),
        }
    }

    /// Returns the value with its version and its end.
    pub fn get_entry(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.raw.get_entry(key)?.map(|entry| Entry {
            value: entry.value,
            version: entry.version,
            expires_at_ms: entry.expires_at_ms,
        }))
    }

    /// Returns the values of at most 1,000 keys, in the order of `keys`. Not a snapshot.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        Ok(self.raw.get_many(keys)?)
    }

    /// Returns whether the key holds something.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.raw.exists(key)?)
    }

    /// Writes a value that lives until it is deleted.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        Ok(self.raw.set(key, value.as_ref())?)
    }

    /// Writes a value under a condition or with a lifetime; returns the version that it got.
    ///
    /// Fails with [`Error::ConditionFailed`] if the condition did not hold.
    pub fn set_with(
        &self,
        key: &str,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<String, Error> {
        let (options, tags) = options.into_raw();
        if tags.is_empty() {
            return Ok(self.raw.set_with(key, value.as_ref(), &options)?);
        }
        Ok(self.raw.set_tagged(key, value.as_ref(), &options, &tags)?)
    }

    /// Returns the tags of the value of a key, `None` where it holds nothing.
    pub fn tags(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        Ok(self.raw.get_tags(key)?)
    }

    /// Writes at most 1,000 entries that live until they are deleted.
    ///
    /// Not a transaction: after an error those before the one that failed are written.
    pub fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Error> {
        Ok(self.raw.set_many(entries, None)?)
    }

    /// Writes at most 1,000 entries that all live for `ttl`; otherwise as [`Bucket::set_many`].
    pub fn set_many_within(
        &self,
        entries: &[(String, Vec<u8>)],
        ttl: Duration,
    ) -> Result<(), Error> {
        Ok(self.raw.set_many(entries, Some(options::whole_ms(ttl)))?)
    }

    /// Deletes a key; returns whether it held something.
    pub fn delete(&self, key: &str) -> Result<bool, Error> {
        Ok(self.raw.delete(key)?)
    }

    /// Adds to a counter and returns its new value on this node; a key that holds nothing counts as
    /// 0.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        Ok(self.raw.increment(key, delta, None)?)
    }

    /// Adds to a counter that, if this call creates it, lives for `ttl`.
    ///
    /// One that exists keeps its end, so that a window of a rate limit is not prolonged by each
    /// request.
    pub fn increment_within(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64, Error> {
        Ok(self.raw.increment(key, delta, Some(options::whole_ms(ttl)))?)
    }

    /// Returns the keys that begin with `prefix`, in no promised order, asking the node for 1,000
    /// at a time.
    pub fn keys<'a>(&'a self, prefix: &'a str) -> Keys<'a> {
        Keys { bucket: self, prefix, page: VecDeque::new(), next: Next::Start }
    }
}

/// The keys of a bucket with a prefix: see [`Bucket::keys`].
#[derive(Debug)]
pub struct Keys<'a> {
    bucket: &'a Bucket,
    prefix: &'a str,
    page: VecDeque<String>,
    next: Next,
}

/// Where the next page begins.
#[derive(Debug)]
enum Next {
    Start,
    After(String),
    End,
}

impl Keys<'_> {
    fn fetch(&mut self, cursor: Option<String>) -> Result<(), Error> {
        let prefix = self.prefix.to_owned();
        let page =
            self.bucket.raw.list_keys(&kv::ListOptions { prefix, limit: Some(1_000), cursor })?;
        self.next = page.cursor.map_or(Next::End, Next::After);
        self.page = page.keys.into();
        Ok(())
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Some(Ok(key));
            }
            // An error ends the iteration: `next` is `End` unless the page arrives.
            let fetched = match std::mem::replace(&mut self.next, Next::End) {
                Next::Start => self.fetch(None),
                Next::After(cursor) => self.fetch(Some(cursor)),
                Next::End => return None,
            };
            if let Err(error) = fetched {
                return Some(Err(error));
            }
        }
    }
}
