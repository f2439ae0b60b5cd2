//! The calls of the SDK, answered by the node of this thread: what wit-bindgen makes of `wit/`, by
//! hand.

use super::store::{self, Change};
use super::{LOG_LINE_BYTES_MAX, State, with_node};
use crate::bindings::atoll::edge::kv::{Entry, Error, KeyPage, ListOptions, SetOptions};

/// A bucket, opened by the handler or by the test.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    /// What the test opened needs no grant.
    is_the_tests: bool,
}

/// What is about to be done with a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
}

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Bucket, Error> {
        store::check_bucket(name)?;
        with_node(|node| node.grants.check_open(name))?;
        Ok(Bucket { name: name.to_owned(), is_the_tests: false })
    }

    pub(super) fn for_test(name: &str) -> Bucket {
        Bucket { name: name.to_owned(), is_the_tests: true }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get_entry(key)?.map(|entry| entry.value))
    }

    pub(crate) fn get_entry(&self, key: &str) -> Result<Option<Entry>, Error> {
        with_node(|node| {
            self.check(node, key, Purpose::Read)?;
            Ok(node.store.get(&self.name, key, node.now_ms))
        })
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        store::check_count(keys.len())?;
        let mut bytes = 0;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            let value = self.get(key)?;
            bytes += value.as_ref().map_or(0, Vec::len);
            store::check_sum(bytes)?;
            values.push(value);
        }
        Ok(values)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.get_entry(key)?.is_some())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.write(key, Change::set(value, None)).map(drop)
    }

    pub(crate) fn set_with(
        &self,
        key: &str,
        value: &[u8],
        options: &SetOptions,
    ) -> Result<String, Error> {
        let condition = &options.condition;
        self.write(key, Change { value, ttl_ms: options.ttl_ms, condition, tags: &[] })
    }

    pub(crate) fn set_tagged(
        &self,
        key: &str,
        value: &[u8],
        options: &SetOptions,
        tags: &[String],
    ) -> Result<String, Error> {
        let condition = &options.condition;
        self.write(key, Change { value, ttl_ms: options.ttl_ms, condition, tags })
    }

    pub(crate) fn get_tags(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        with_node(|node| {
            self.check(node, key, Purpose::Read)?;
            Ok(node.store.tags(&self.name, key, node.now_ms))
        })
    }

    pub(crate) fn set_many(
        &self,
        entries: &[(String, Vec<u8>)],
        ttl_ms: Option<u64>,
    ) -> Result<(), Error> {
        store::check_count(entries.len())?;
        entries
            .iter()
            .try_for_each(|(key, value)| self.write(key, Change::set(value, ttl_ms)).map(drop))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<bool, Error> {
        with_node(|node| {
            self.check(node, key, Purpose::Write)?;
            let was_there = node.store.delete(&self.name, key, node.now_ms);
            // Who may not read the key is not told whether there was one.
            Ok(was_there && self.check(node, key, Purpose::Read).is_ok())
        })
    }

    pub(crate) fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> Result<i64, Error> {
        with_node(|node| {
            self.check(node, key, Purpose::Write)?;
            self.check(node, key, Purpose::Read)?;
            store::check_lifetime(ttl_ms)?;
            node.store.increment(&self.name, key, node.now_ms, (delta, ttl_ms))
        })
    }

    pub(crate) fn list_keys(&self, options: &ListOptions) -> Result<KeyPage, Error> {
        with_node(|node| {
            let may_read = |key: &str| self.is_the_tests || node.grants.reads(&self.name, key);
            if !self.is_the_tests {
                node.grants.check_list(&self.name, &options.prefix)?;
            }
            node.store.list(&self.name, node.now_ms, options, may_read)
        })
    }

    fn write(&self, key: &str, change: Change<'_>) -> Result<String, Error> {
        with_node(|node| {
            self.check(node, key, Purpose::Write)?;
            if change.is_conditional() {
                // Whether it holds says something about what is there.
                self.check(node, key, Purpose::Read)?;
            }
            node.store.set(&self.name, key, node.now_ms, change)
        })
    }

    fn check(&self, node: &State, key: &str, purpose: Purpose) -> Result<(), Error> {
        store::check_key(key)?;
        match purpose {
            _ if self.is_the_tests => Ok(()),
            Purpose::Read => node.grants.check_read(&self.name, key),
            Purpose::Write => node.grants.check_write(&self.name, key),
        }
    }
}

/// `atoll:edge/cache`. A test has one request at a time, so that nobody ever waits.
pub(crate) mod cache {
    pub(crate) use crate::testing::purges::purge;

    use super::{Bucket, Change, Error, store};

    pub(crate) enum Found {
        Value(Vec<u8>),
        Missing(Filling),
    }

    pub(crate) struct Filling {
        bucket: Bucket,
        key: String,
    }

    pub(crate) fn get_or_fill(bucket: &str, key: &str) -> Result<Found, Error> {
        let bucket = Bucket::open(bucket)?;
        Ok(match bucket.get(key)? {
            Some(value) => Found::Value(value),
            None => Found::Missing(Filling { bucket, key: key.to_owned() }),
        })
    }

    impl Filling {
        pub(crate) fn finish(
            this: Filling,
            value: &[u8],
            ttl_ms: Option<u64>,
        ) -> Result<(), Error> {
            store::check_lifetime(ttl_ms)?;
            this.bucket.write(&this.key, Change::set(value, ttl_ms)).map(drop)
        }
    }
}

/// `atoll:edge/clock`.
pub(crate) mod clock {
    pub(crate) fn now_ms() -> u64 {
        super::with_node(|node| node.now_ms)
    }
}

/// `atoll:edge/config`.
pub(crate) mod config {
    pub(crate) fn get(key: &str) -> Option<String> {
        super::with_node(|node| node.config.get(key).cloned())
    }
}

/// `atoll:edge/secrets`.
pub(crate) mod secrets {
    pub(crate) use crate::bindings::atoll::edge::secrets::Error;

    pub(crate) fn get(name: &str) -> Result<Option<Vec<u8>>, Error> {
        super::with_node(|node| match node.secrets.get(name) {
            Some(secret) => Ok(secret.clone()),
            None => {
                let detail = format!(
                    "secret:{name} is not granted; deploy the handler with --grant secret:{name}"
                );
                Err(Error::Denied(detail))
            }
        })
    }
}

/// `atoll:edge/fetch`.
pub(crate) mod fetch {
    pub(crate) use crate::testing::upstreams::{send, send_many};
}

/// `atoll:edge/log`.
pub(crate) mod log {
    pub(crate) use crate::bindings::atoll::edge::log::Level;

    pub(crate) fn log(level: Level, message: &str) {
        let level = match level {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let end = message.floor_char_boundary(super::LOG_LINE_BYTES_MAX);
        super::with_node(|node| {
            if node.lines_left > 0 {
                node.lines_left -= 1;
                node.lines.push(format!("{level} {}", &message[..end]));
            }
        });
    }
}

/// `atoll:edge/random`. Drawn from a seed, so that a test that passes passes again.
pub(crate) mod random {
    /// Bytes of one call, as on a node.
    const BYTES_MAX: u32 = 65_536;

    pub(crate) fn bytes(len: u32) -> Vec<u8> {
        assert!(len <= BYTES_MAX, "at most {BYTES_MAX} random bytes are given at once, not {len}");
        let words = std::iter::repeat_with(|| number().to_le_bytes());
        words.flatten().take(len as usize).collect()
    }

    /// SplitMix64: every number of 64 bits comes once before one comes again.
    pub(crate) fn number() -> u64 {
        super::with_node(|node| {
            node.random = node.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (node.random ^ (node.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }
}
