//! `wasi:keyvalue` over a [`Host`], in both texts that are in use.
//!
//! They share the store, the buckets and the grants; what differs is at the end. Errors of the
//! standard are poor in words: what was denied is a line of the handler's log as well.

use bytes::Bytes;
use wasmtime::component::Resource;

use crate::bindings::standard::wasi;
use crate::host::{Condition, Host, Increment, KeyPage, KvError, Level, List, Set};
use crate::imports::kv;
use crate::instance::Guest;
use crate::limits::{CURSORS_MAX, KEYS_MAX};
use crate::places::Places;

use wasi::keyvalue0_2_0_draft as draft;
use wasi::keyvalue0_2_0_draft2 as draft2;

/// Every interface of both texts.
pub(super) const NAMES: [&str; 6] = [
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
];

/// What `wasi:keyvalue` keeps for one instance, beside its buckets.
#[derive(Debug)]
pub(crate) struct KeyValue<B> {
    swaps: Places<Swap<B>>,
    /// The cursors of the first text are numbers: places in this list.
    cursors: Vec<String>,
}

impl<B> KeyValue<B> {
    pub(crate) fn new() -> KeyValue<B> {
        KeyValue { swaps: Places::new(), cursors: Vec::new() }
    }

    /// Another call begins, which has listed nothing yet.
    pub(crate) fn begin(&mut self) {
        self.cursors.clear();
    }

    /// It is another call's turn, of several that share the instance.
    pub(crate) fn exchange_cursors(&mut self, cursors: &mut Vec<String>) {
        std::mem::swap(&mut self.cursors, cursors);
    }
}

/// A compare-and-swap in preparation.
#[derive(Debug)]
struct Swap<B> {
    bucket: B,
    key: String,
    /// What must still hold.
    unchanged: Condition,
}

type Answer<T, E> = wasmtime::Result<Result<T, E>>;

impl<H: Host> Guest<H> {
    /// Turns an error of the store into one of the standard's, and logs what a grant would have
    /// allowed.
    fn tell<E: From<KvError>>(&mut self, error: KvError) -> E {
        if let KvError::Denied(what) = &error {
            self.log().write(Level::Warn, &format!("wasi:keyvalue: {what}"));
        }
        E::from(error)
    }

    fn answer<T, E: From<KvError>>(&mut self, result: Result<T, KvError>) -> Answer<T, E> {
        Ok(result.map_err(|error| self.tell(error)))
    }

    fn delete_many(
        &mut self,
        bucket: u32,
        keys: &[String],
    ) -> wasmtime::Result<Result<(), KvError>> {
        let bucket = self.buckets.get(bucket)?;
        Ok(kv::check_count(keys.len())
            .and_then(|()| keys.iter().try_for_each(|key| self.host.delete(bucket, key).map(drop))))
    }

    async fn page(&mut self, bucket: u32, cursor: Option<String>) -> Answer<KeyPage, KvError> {
        kv::page(self, bucket, List { prefix: String::new(), limit: KEYS_MAX, cursor }).await
    }

    /// Reads what a swap compares with.
    fn compared(
        &mut self,
        bucket: &H::Bucket,
        key: &str,
    ) -> Result<(Condition, Option<Bytes>), KvError> {
        Ok(match self.host.get_entry(bucket, key)? {
            Some(entry) => (Condition::IfVersion(entry.version), Some(entry.value)),
            None => (Condition::IfAbsent, None),
        })
    }

    fn prepare(
        &mut self,
        bucket: H::Bucket,
        key: String,
    ) -> Result<Resource<draft2::atomics::Cas>, KvError> {
        let (unchanged, _) = self.compared(&bucket, &key)?;
        let swap = Swap { bucket, key, unchanged };
        let taken = |_| KvError::Unavailable("too many swaps are prepared at once".to_owned());
        self.keyvalue.swaps.insert(swap).map_err(taken).map(Resource::new_own)
    }
}

/// The functions that differ in nothing but the names of their types.
macro_rules! alike {
    ($text:ident, pair: $pair:ty, $make_pair:path, cursor: $cursor:ty, $read:ident, $make:ident) => {
        impl From<KvError> for $text::store::Error {
            fn from(error: KvError) -> Self {
                match error {
                    KvError::NoSuchBucket => Self::NoSuchStore,
                    KvError::Denied(_) => Self::AccessDenied,
                    other => Self::Other(other.to_string()),
                }
            }
        }

        impl<H: Host> $text::store::Host for Guest<H> {
            fn open(
                &mut self,
                identifier: String,
            ) -> Answer<Resource<$text::store::Bucket>, $text::store::Error> {
                // What other hosts call their only store.
                let name = if identifier.is_empty() { "default" } else { &identifier };
                let opened = kv::open(self, name).map(Resource::new_own);
                self.answer(opened)
            }
        }

        impl<H: Host> $text::batch::Host for Guest<H> {
            fn get_many(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                keys: Vec<String>,
            ) -> Answer<Vec<$pair>, $text::store::Error> {
                let bucket = self.buckets.get(bucket.rep())?;
                let values = kv::get_many(&mut self.host, bucket, &keys);
                let pairs =
                    values.map(|values| keys.into_iter().zip(values).map($make_pair).collect());
                self.answer(pairs)
            }

            fn set_many(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                entries: Vec<(String, Vec<u8>)>,
            ) -> Answer<(), $text::store::Error> {
                let bucket = self.buckets.get(bucket.rep())?;
                let batch = kv::Batch { entries, ttl_ms: None };
                let set = kv::set_many(&mut self.host, bucket, batch);
                self.answer(set)
            }

            fn delete_many(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                keys: Vec<String>,
            ) -> Answer<(), $text::store::Error> {
                let deleted = Guest::delete_many(self, bucket.rep(), &keys)?;
                self.answer(deleted)
            }
        }

        impl<H: Host> $text::store::HostBucket for Guest<H> {
            fn get(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                key: String,
            ) -> Answer<Option<Vec<u8>>, $text::store::Error> {
                let value = self.host.get(self.buckets.get(bucket.rep())?, &key);
                self.answer(value.map(|value| value.map(Vec::from)))
            }

            fn set(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                key: String,
                value: Vec<u8>,
            ) -> Answer<(), $text::store::Error> {
                let bucket = self.buckets.get(bucket.rep())?;
                let set = Set { value: value.into(), ttl_ms: None, condition: Condition::Always };
                let set = self.host.set(bucket, &key, set).map(drop);
                self.answer(set)
            }

            fn delete(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                key: String,
            ) -> Answer<(), $text::store::Error> {
                let deleted = self.host.delete(self.buckets.get(bucket.rep())?, &key).map(drop);
                self.answer(deleted)
            }

            fn exists(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                key: String,
            ) -> Answer<bool, $text::store::Error> {
                let exists = self.host.exists(self.buckets.get(bucket.rep())?, &key);
                self.answer(exists)
            }

            async fn list_keys(
                &mut self,
                bucket: Resource<$text::store::Bucket>,
                cursor: Option<$cursor>,
            ) -> Answer<$text::store::KeyResponse, $text::store::Error> {
                let page = match self.$read(cursor) {
                    Ok(cursor) => self.page(bucket.rep(), cursor).await?,
                    Err(error) => Err(error),
                };
                let page = page.and_then(|KeyPage { keys, cursor }| {
                    let cursor = self.$make(cursor)?;
                    Ok($text::store::KeyResponse { keys, cursor })
                });
                self.answer(page)
            }

            fn drop(&mut self, bucket: Resource<$text::store::Bucket>) -> wasmtime::Result<()> {
                self.buckets.remove(bucket.rep());
                Ok(())
            }
        }
    };
}

alike!(
    draft,
    pair: Option<(String, Vec<u8>)>, pair_if_there,
    cursor: u64, read_number, make_number
);
alike!(
    draft2,
    pair: (String, Option<Vec<u8>>), std::convert::identity,
    cursor: String, read_text, make_text
);

fn pair_if_there((key, value): (String, Option<Vec<u8>>)) -> Option<(String, Vec<u8>)> {
    value.map(|value| (key, value))
}

impl<H: Host> Guest<H> {
    fn read_number(&mut self, cursor: Option<u64>) -> Result<Option<String>, KvError> {
        let Some(number) = cursor else { return Ok(None) };
        let cursors = &self.keyvalue.cursors;
        let known = usize::try_from(number).ok().and_then(|place| cursors.get(place));
        let unknown = || KvError::Invalid("the cursor is not of this request".to_owned());
        known.cloned().map(Some).ok_or_else(unknown)
    }

    fn make_number(&mut self, cursor: Option<String>) -> Result<Option<u64>, KvError> {
        let Some(cursor) = cursor else { return Ok(None) };
        let cursors = &mut self.keyvalue.cursors;
        if cursors.len() == CURSORS_MAX {
            return Err(KvError::Unavailable(format!("{CURSORS_MAX} pages were listed")));
        }
        cursors.push(cursor);
        Ok(Some(cursors.len() as u64 - 1))
    }

    fn read_text(&mut self, cursor: Option<String>) -> Result<Option<String>, KvError> {
        Ok(cursor)
    }

    fn make_text(&mut self, cursor: Option<String>) -> Result<Option<String>, KvError> {
        Ok(cursor)
    }
}

impl<H: Host> draft::atomics::Host for Guest<H> {
    fn increment(
        &mut self,
        bucket: Resource<draft::store::Bucket>,
        key: String,
        delta: u64,
    ) -> Answer<u64, draft::store::Error> {
        let bucket = self.buckets.get(bucket.rep())?;
        let too_large = || KvError::Invalid("the delta leaves 63 bits".to_owned());
        let sum = i64::try_from(delta)
            .map_err(|_| too_large())
            .and_then(|delta| self.host.increment(bucket, &key, Increment { delta, ttl_ms: None }));
        let negative = |_| KvError::Invalid("the counter is negative".to_owned());
        let sum = sum.and_then(|sum| u64::try_from(sum).map_err(negative));
        self.answer(sum)
    }
}

impl<H: Host> draft2::atomics::Host for Guest<H> {
    fn increment(
        &mut self,
        bucket: Resource<draft2::store::Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64, draft2::store::Error> {
        let bucket = self.buckets.get(bucket.rep())?;
        let sum = self.host.increment(bucket, &key, Increment { delta, ttl_ms: None });
        self.answer(sum)
    }

    fn swap(
        &mut self,
        cas: Resource<draft2::atomics::Cas>,
        value: Vec<u8>,
    ) -> Answer<(), draft2::atomics::CasError> {
        use draft2::atomics::CasError;
        let missing = || wasmtime::Error::msg("a handle of no swap");
        let Swap { bucket, key, unchanged } =
            self.keyvalue.swaps.remove(cas.rep()).ok_or_else(missing)?;
        let set = Set { value: value.into(), ttl_ms: None, condition: unchanged };
        let error = match self.host.set(&bucket, &key, set) {
            Ok(_) => return Ok(Ok(())),
            // Who lost is given another try, against what is there now.
            Err(KvError::ConditionFailed) => match self.prepare(bucket, key) {
                Ok(next) => return Ok(Err(CasError::CasFailed(next))),
                Err(error) => error,
            },
            Err(error) => error,
        };
        Ok(Err(CasError::StoreError(self.tell(error))))
    }
}

impl<H: Host> draft2::atomics::HostCas for Guest<H> {
    fn new(
        &mut self,
        bucket: Resource<draft2::store::Bucket>,
        key: String,
    ) -> Answer<Resource<draft2::atomics::Cas>, draft2::store::Error> {
        let bucket = self.buckets.get(bucket.rep())?.clone();
        let prepared = self.prepare(bucket, key);
        self.answer(prepared)
    }

    /// Looks again: what is returned here is what must still hold when it is swapped.
    fn current(
        &mut self,
        cas: Resource<draft2::atomics::Cas>,
    ) -> Answer<Option<Vec<u8>>, draft2::store::Error> {
        let swap = self.keyvalue.swaps.get(cas.rep())?;
        let (bucket, key) = (swap.bucket.clone(), swap.key.clone());
        let compared = self.compared(&bucket, &key).map(|(unchanged, value)| {
            self.keyvalue.swaps.get_mut(cas.rep()).map(|swap| swap.unchanged = unchanged)?;
            Ok(value.map(Vec::from))
        });
        match compared {
            Ok(value) => value.map(Ok),
            Err(error) => Ok(Err(self.tell(error))),
        }
    }

    fn drop(&mut self, cas: Resource<draft2::atomics::Cas>) -> wasmtime::Result<()> {
        self.keyvalue.swaps.remove(cas.rep());
        Ok(())
    }
}
