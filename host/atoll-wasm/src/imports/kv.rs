//! `atoll:edge/kv` over a [`Host`].

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::bindings::atoll::edge::kv;
use crate::host::{Condition, Host, Increment, KeyPage, KvError, Level, List, Set};
use crate::instance::Guest;
use crate::limits::{GET_MANY_BYTES_MAX, HANDLES_MAX, KEYS_DEFAULT, KEYS_MAX};

/// What a guest holds: the number of a place among its buckets.
type Handle = Resource<kv::Bucket>;
type Answer<T, E = kv::Error> = wasmtime::Result<Result<T, E>>;

impl<H: Host> kv::Host for Guest<H> {}

impl<H: Host> kv::HostBucket for Guest<H> {
    fn open(&mut self, name: String) -> Answer<Handle> {
        let answer = open(self, &name).map(Resource::new_own);
        self.tell_kv(answer)
    }

    fn get(&mut self, handle: Handle, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = self.host.get(bucket, &key).map(|value| value.map(Vec::from));
        self.tell_kv(answer)
    }

    fn get_entry(&mut self, handle: Handle, key: String) -> Answer<Option<kv::Entry>> {
        let bucket = self.buckets.get(handle.rep())?;
        let entry = self.host.get_entry(bucket, &key);
        let answer = entry.map(|entry| {
            entry.map(|entry| kv::Entry {
                value: entry.value.into(),
                version: entry.version,
                expires_at_ms: entry.expires_at_ms,
            })
        });
        self.tell_kv(answer)
    }

    fn get_many(&mut self, handle: Handle, keys: Vec<String>) -> Answer<Vec<Option<Vec<u8>>>> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = get_many(&mut self.host, bucket, &keys);
        self.tell_kv(answer)
    }

    fn exists(&mut self, handle: Handle, key: String) -> Answer<bool> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = self.host.exists(bucket, &key);
        self.tell_kv(answer)
    }

    fn set(&mut self, handle: Handle, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = self.buckets.get(handle.rep())?;
        let set = Set { value: value.into(), ttl_ms: None, condition: Condition::Always };
        let answer = self.host.set(bucket, &key, set).map(drop);
        self.tell_kv(answer)
    }

    fn set_with(
        &mut self,
        handle: Handle,
        key: String,
        value: Vec<u8>,
        options: kv::SetOptions,
    ) -> Answer<String> {
        let bucket = self.buckets.get(handle.rep())?;
        let set = set_of(value, options);
        let answer = set.and_then(|set| self.host.set(bucket, &key, set));
        self.tell_kv(answer)
    }

    fn set_tagged(
        &mut self,
        handle: Handle,
        key: String,
        value: Vec<u8>,
        options: kv::SetOptions,
        tags: Vec<String>,
    ) -> Answer<String> {
        let bucket = self.buckets.get(handle.rep())?;
        let set = set_of(value, options);
        let answer = set.and_then(|set| self.host.set_tagged(bucket, &key, (set, tags)));
        self.tell_kv(answer)
    }

    fn get_tags(&mut self, handle: Handle, key: String) -> Answer<Option<Vec<String>>> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = self.host.tags(bucket, &key);
        self.tell_kv(answer)
    }

    fn set_many(
        &mut self,
        handle: Handle,
        entries: Vec<(String, Vec<u8>)>,
        ttl_ms: Option<u64>,
    ) -> Answer<()> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = set_many(&mut self.host, bucket, Batch { entries, ttl_ms });
        self.tell_kv(answer)
    }

    fn delete(&mut self, handle: Handle, key: String) -> Answer<bool> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = self.host.delete(bucket, &key);
        self.tell_kv(answer)
    }

    fn increment(
        &mut self,
        handle: Handle,
        key: String,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> Answer<i64> {
        let bucket = self.buckets.get(handle.rep())?;
        let answer = lifetime(ttl_ms)
            .and_then(|ttl_ms| self.host.increment(bucket, &key, Increment { delta, ttl_ms }));
        self.tell_kv(answer)
    }

    async fn list_keys(&mut self, handle: Handle, options: kv::ListOptions) -> Answer<kv::KeyPage> {
        let limit = options.limit.map_or(KEYS_DEFAULT, |limit| (limit as usize).clamp(1, KEYS_MAX));
        let list = List { prefix: options.prefix, limit, cursor: options.cursor };
        let page = page(self, handle.rep(), list).await?;
        let answer = page.map(|page| kv::KeyPage { keys: page.keys, cursor: page.cursor });
        self.tell_kv(answer)
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.buckets.remove(handle.rep());
        Ok(())
    }
}

fn set_of(value: Vec<u8>, options: kv::SetOptions) -> Result<Set, KvError> {
    let condition = match options.condition {
        kv::Condition::Always => Condition::Always,
        kv::Condition::IfAbsent => Condition::IfAbsent,
        kv::Condition::IfPresent => Condition::IfPresent,
        kv::Condition::IfVersion(version) => Condition::IfVersion(version),
    };
    Ok(Set { value: value.into(), ttl_ms: lifetime(options.ttl_ms)?, condition })
}

/// Opens a bucket and gives it a place.
pub(crate) fn open<H: Host>(guest: &mut Guest<H>, name: &str) -> Result<u32, KvError> {
    let bucket = guest.host.open(name)?;
    let taken = || KvError::Unavailable(format!("{HANDLES_MAX} buckets are open"));
    guest.buckets.insert(bucket).map_err(|_| taken())
}

/// Lists a page. A walk over many keys takes as long as a guest that computes, and is treated like one:
/// between its steps others run, and the guest's limits are looked at.
pub(crate) async fn page<H: Host>(
    guest: &mut Guest<H>,
    bucket: u32,
    list: List,
) -> Answer<KeyPage, KvError> {
    let mut listing = match guest.host.list(guest.buckets.get(bucket)?, list) {
        Ok(listing) => listing,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        if let Some(page) = listing.step() {
            return Ok(Ok(page));
        }
        guest.pause().await?;
    }
}

/// The arguments of `set-many`.
pub(crate) struct Batch {
    pub(crate) entries: Vec<(String, Vec<u8>)>,
    pub(crate) ttl_ms: Option<u64>,
}

pub(crate) fn get_many<H: Host>(
    host: &mut H,
    bucket: &H::Bucket,
    keys: &[String],
) -> Result<Vec<Option<Vec<u8>>>, KvError> {
    check_count(keys.len())?;
    let mut bytes = 0;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let value: Option<Bytes> = host.get(bucket, key)?;
        bytes += value.as_ref().map_or(0, Bytes::len);
        if bytes > GET_MANY_BYTES_MAX {
            return Err(KvError::TooLarge(format!(
                "the values have more than {GET_MANY_BYTES_MAX} bytes"
            )));
        }
        values.push(value.map(Vec::from));
    }
    Ok(values)
}

pub(crate) fn set_many<H: Host>(
    host: &mut H,
    bucket: &H::Bucket,
    batch: Batch,
) -> Result<(), KvError> {
    check_count(batch.entries.len())?;
    let ttl_ms = lifetime(batch.ttl_ms)?;
    for (key, value) in batch.entries {
        let set = Set { value: value.into(), ttl_ms, condition: Condition::Always };
        host.set(bucket, &key, set)?;
    }
    Ok(())
}

pub(crate) fn check_count(count: usize) -> Result<(), KvError> {
    if count > KEYS_MAX {
        return Err(KvError::TooLarge(format!(
            "{count} keys in one call; at most {KEYS_MAX} are allowed"
        )));
    }
    Ok(())
}

pub(super) fn lifetime(ttl_ms: Option<u64>) -> Result<Option<u64>, KvError> {
    if ttl_ms == Some(0) {
        return Err(KvError::Invalid("a lifetime is at least 1 ms".to_owned()));
    }
    Ok(ttl_ms)
}

impl<H: Host> Guest<H> {
    /// What the guest is told. What was not granted is a line of its log as well.
    pub(super) fn tell_kv<T>(&mut self, result: Result<T, KvError>) -> Answer<T> {
        if let Err(KvError::Denied(what)) = &result {
            self.log().write(Level::Warn, &format!("kv: {what}"));
        }
        answer(result)
    }
}

fn answer<T>(result: Result<T, KvError>) -> Answer<T> {
    Ok(result.map_err(|error| match error {
        KvError::NoSuchBucket => kv::Error::NoSuchBucket,
        KvError::Denied(detail) => kv::Error::Denied(detail),
        KvError::WrongType => kv::Error::WrongType,
        KvError::TooLarge(detail) => kv::Error::TooLarge(detail),
        KvError::Full => kv::Error::Full,
        KvError::ConditionFailed => kv::Error::ConditionFailed,
        KvError::Invalid(detail) => kv::Error::Invalid(detail),
        KvError::Unavailable(detail) => kv::Error::Unavailable(detail),
        KvError::Other(detail) => kv::Error::Other(detail),
    }))
}
