//! `atoll:edge/kv` over a [`Host`].

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::bindings::atoll::edge::kv;
use crate::host::{Condition, Host, Increment, KvError, List, Set};
use crate::instance::Guest;
use crate::limits::{GET_MANY_BYTES_MAX, HANDLES_MAX, KEYS_DEFAULT, KEYS_MAX};

/// The buckets that a guest has opened. A place is used again once its bucket was dropped.
#[derive(Debug)]
pub(crate) struct Buckets<B> {
    places: Vec<Option<B>>,
}

/// What a guest holds: the number of a place in [`Buckets`].
type Handle = Resource<kv::Bucket>;
type Answer<T> = wasmtime::Result<Result<T, kv::Error>>;

impl<B> Buckets<B> {
    pub(crate) fn new() -> Buckets<B> {
        Buckets { places: Vec::new() }
    }

    /// Keeps a bucket, or says no: the bound keeps the search for a free place short too.
    fn insert(&mut self, bucket: B) -> Result<u32, KvError> {
        let place = match self.places.iter().position(Option::is_none) {
            Some(place) => place,
            None if self.places.len() < HANDLES_MAX => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => return Err(KvError::Unavailable(format!("{HANDLES_MAX} buckets are open"))),
        };
        self.places[place] = Some(bucket);
        Ok(u32::try_from(place).expect("HANDLES_MAX fits in 32 bits"))
    }

    fn remove(&mut self, handle: &Handle) {
        if let Some(place) = self.places.get_mut(handle.rep() as usize) {
            *place = None;
        }
    }
}

/// The component model lets a guest use only handles that it was given and still holds, so a
/// missing one is our bug.
fn bucket<'a, B>(buckets: &'a Buckets<B>, handle: &Handle) -> wasmtime::Result<&'a B> {
    let place = buckets.places.get(handle.rep() as usize).and_then(Option::as_ref);
    place.ok_or_else(|| wasmtime::Error::msg("a handle of no bucket"))
}

impl<H: Host> kv::Host for Guest<H> {}

impl<H: Host> kv::HostBucket for Guest<H> {
    fn open(&mut self, name: String) -> Answer<Handle> {
        let opened = self.host.open(&name).and_then(|bucket| self.buckets.insert(bucket));
        answer(opened.map(Resource::new_own))
    }

    fn get(&mut self, handle: Handle, key: String) -> Answer<Option<Vec<u8>>> {
        let bucket = bucket(&self.buckets, &handle)?;
        answer(self.host.get(bucket, &key).map(|value| value.map(Vec::from)))
    }

    fn get_entry(&mut self, handle: Handle, key: String) -> Answer<Option<kv::Entry>> {
        let bucket = bucket(&self.buckets, &handle)?;
        let entry = self.host.get_entry(bucket, &key);
        answer(entry.map(|entry| {
            entry.map(|entry| kv::Entry {
                value: entry.value.into(),
                version: entry.version,
                expires_at_ms: entry.expires_at_ms,
            })
        }))
    }

    fn get_many(&mut self, handle: Handle, keys: Vec<String>) -> Answer<Vec<Option<Vec<u8>>>> {
        let bucket = bucket(&self.buckets, &handle)?;
        answer(get_many(&mut self.host, bucket, &keys))
    }

    fn exists(&mut self, handle: Handle, key: String) -> Answer<bool> {
        let bucket = bucket(&self.buckets, &handle)?;
        answer(self.host.exists(bucket, &key))
    }

    fn set(&mut self, handle: Handle, key: String, value: Vec<u8>) -> Answer<()> {
        let bucket = bucket(&self.buckets, &handle)?;
        let set = Set { value: value.into(), ttl_ms: None, condition: Condition::Always };
        answer(self.host.set(bucket, &key, set).map(drop))
    }

    fn set_with(
        &mut self,
        handle: Handle,
        key: String,
        value: Vec<u8>,
        options: kv::SetOptions,
    ) -> Answer<String> {
        let bucket = bucket(&self.buckets, &handle)?;
        let condition = match options.condition {
            kv::Condition::Always => Condition::Always,
            kv::Condition::IfAbsent => Condition::IfAbsent,
            kv::Condition::IfPresent => Condition::IfPresent,
            kv::Condition::IfVersion(version) => Condition::IfVersion(version),
        };
        answer(lifetime(options.ttl_ms).and_then(|ttl_ms| {
            self.host.set(bucket, &key, Set { value: value.into(), ttl_ms, condition })
        }))
    }

    fn set_many(
        &mut self,
        handle: Handle,
        entries: Vec<(String, Vec<u8>)>,
        ttl_ms: Option<u64>,
    ) -> Answer<()> {
        let bucket = bucket(&self.buckets, &handle)?;
        answer(set_many(&mut self.host, bucket, Batch { entries, ttl_ms }))
    }

    fn delete(&mut self, handle: Handle, key: String) -> Answer<bool> {
        let bucket = bucket(&self.buckets, &handle)?;
        answer(self.host.delete(bucket, &key))
    }

    fn increment(
        &mut self,
        handle: Handle,
        key: String,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> Answer<i64> {
        let bucket = bucket(&self.buckets, &handle)?;
        answer(
            lifetime(ttl_ms)
                .and_then(|ttl_ms| self.host.increment(bucket, &key, Increment { delta, ttl_ms })),
        )
    }

    fn list_keys(&mut self, handle: Handle, options: kv::ListOptions) -> Answer<kv::KeyPage> {
        let bucket = bucket(&self.buckets, &handle)?;
        let limit = options.limit.map_or(KEYS_DEFAULT, |limit| (limit as usize).clamp(1, KEYS_MAX));
        let list = List { prefix: options.prefix, limit, cursor: options.cursor };
        let page = self.host.list(bucket, list);
        answer(page.map(|page| kv::KeyPage { keys: page.keys, cursor: page.cursor }))
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        self.buckets.remove(&handle);
        Ok(())
    }
}

/// The arguments of `set-many`.
struct Batch {
    entries: Vec<(String, Vec<u8>)>,
    ttl_ms: Option<u64>,
}

fn get_many<H: Host>(
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

fn set_many<H: Host>(host: &mut H, bucket: &H::Bucket, batch: Batch) -> Result<(), KvError> {
    check_count(batch.entries.len())?;
    let ttl_ms = lifetime(batch.ttl_ms)?;
    for (key, value) in batch.entries {
        let set = Set { value: value.into(), ttl_ms, condition: Condition::Always };
        host.set(bucket, &key, set)?;
    }
    Ok(())
}

fn check_count(count: usize) -> Result<(), KvError> {
    if count > KEYS_MAX {
        return Err(KvError::TooLarge(format!(
            "{count} keys in one call; at most {KEYS_MAX} are allowed"
        )));
    }
    Ok(())
}

fn lifetime(ttl_ms: Option<u64>) -> Result<Option<u64>, KvError> {
    if ttl_ms == Some(0) {
        return Err(KvError::Invalid("a lifetime is at least 1 ms".to_owned()));
    }
    Ok(ttl_ms)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_their_number_is_bounded() {
        let mut buckets = Buckets::new();
        for place in 0..HANDLES_MAX {
            assert_eq!(buckets.insert(place), Ok(u32::try_from(place).unwrap()));
        }
        assert!(matches!(buckets.insert(0), Err(KvError::Unavailable(_))));
        buckets.remove(&Resource::new_own(7));
        assert_eq!(buckets.insert(7), Ok(7));
        assert_eq!(bucket(&buckets, &Resource::new_own(9)).unwrap(), &9);
    }
}
