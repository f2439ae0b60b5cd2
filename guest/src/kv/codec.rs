//! Values of a type of one's own in the store: [`Typed`].

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Bucket, Error, SetOptions};

/// How often [`Typed::update`] begins again because another write came between.
const UPDATE_TRIES_MAX: u32 = 16;

/// How values become bytes.
pub trait Codec {
    /// What error messages call it.
    const NAME: &'static str;
    /// Makes the bytes of a value.
    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String>;
    /// Makes the value of bytes.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String>;
}

/// JSON: text that people and other programs read through any door of the node.
#[cfg(feature = "json")]
#[derive(Debug)]
pub struct Json;

#[cfg(feature = "json")]
impl Codec for Json {
    const NAME: &'static str = "JSON";

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
        serde_json::to_vec(value).map_err(|error| error.to_string())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// MessagePack, with the fields of structs by name: smaller and faster than JSON, and as forgiving
/// when a field is added.
#[cfg(feature = "msgpack")]
#[derive(Debug)]
pub struct MessagePack;

#[cfg(feature = "msgpack")]
impl Codec for MessagePack {
    const NAME: &'static str = "MessagePack";

    fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
        rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// A bucket whose values are of one type: see [`Bucket::json`] and [`Bucket::msgpack`].
///
/// ```
/// use atoll_guest::kv::{self, SetOptions};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize, Default, PartialEq, Debug)]
/// struct Cart {
///     items: Vec<String>,
/// }
///
/// # let node = atoll_guest::testing::Node::start();
/// let bucket = kv::open("default")?;
/// let carts = bucket.json::<Cart>();
/// let hour = SetOptions::new().ttl(Duration::from_secs(3_600));
/// carts.update("cart:ada", hour, |cart| {
///     let mut cart = cart.unwrap_or_default();
///     cart.items.push("apples".to_owned());
///     cart
/// })?;
/// assert_eq!(bucket.get_text("cart:ada")?.as_deref(), Some(r#"{"items":["apples"]}"#));
/// # Ok::<(), kv::Error>(())
/// ```
#[derive(Debug)]
pub struct Typed<'a, T, C> {
    bucket: &'a Bucket,
    shape: PhantomData<fn() -> (T, C)>,
}

impl Bucket {
    /// Returns this bucket with values that are written as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: Serialize + DeserializeOwned>(&self) -> Typed<'_, T, Json> {
        Typed { bucket: self, shape: PhantomData }
    }

    /// Returns this bucket with values that are written as MessagePack.
    #[cfg(feature = "msgpack")]
    pub fn msgpack<T: Serialize + DeserializeOwned>(&self) -> Typed<'_, T, MessagePack> {
        Typed { bucket: self, shape: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned, C: Codec> Typed<'_, T, C> {
    /// Returns the value of a key. Fails with [`Error::Invalid`] if what is there is of another
    /// shape.
    pub fn get(&self, key: &str) -> Result<Option<T>, Error> {
        self.bucket.get(key)?.map(|bytes| decode::<T, C>(key, &bytes)).transpose()
    }

    /// Returns the values of at most 1,000 keys, in the order of `keys`; otherwise as
    /// [`Typed::get`].
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<T>>, Error> {
        let values = self.bucket.get_many(keys)?;
        let read = |(key, value): (&String, Option<Vec<u8>>)| {
            value.map(|bytes| decode::<T, C>(key, &bytes)).transpose()
        };
        keys.iter().zip(values).map(read).collect()
    }

    /// Writes a value that lives until it is deleted.
    pub fn set(&self, key: &str, value: &T) -> Result<(), Error> {
        self.bucket.set(key, encode::<T, C>(key, value)?)
    }

    /// Writes a value under a condition or with a lifetime; returns the version that it got.
    pub fn set_with(&self, key: &str, value: &T, options: SetOptions) -> Result<String, Error> {
        self.bucket.set_with(key, encode::<T, C>(key, value)?, options)
    }

    /// Changes a value and returns the new one: `change` gets what is there, and is called again if
    /// another write came between on this node.
    ///
    /// A write on another node at the same time is not seen: of the two the later one wins. What must
    /// count everywhere belongs into a counter ([`Bucket::increment`]). A condition in `options` is
    /// replaced; a lifetime begins anew. Fails with [`Error::Unavailable`] after 16 tries.
    pub fn update(
        &self,
        key: &str,
        options: SetOptions,
        change: impl Fn(Option<T>) -> T,
    ) -> Result<T, Error> {
        for _ in 0..UPDATE_TRIES_MAX {
            let entry = self.bucket.get_entry(key)?;
            let (before, condition) = match entry {
                None => (None, options.clone().if_absent()),
                Some(entry) => {
                    let before = decode::<T, C>(key, &entry.value)?;
                    (Some(before), options.clone().if_version(entry.version))
                }
            };
            let after = change(before);
            match self.set_with(key, &after, condition) {
                Ok(_) => return Ok(after),
                Err(Error::ConditionFailed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unavailable(format!("{key} was changed by others {UPDATE_TRIES_MAX} times")))
    }
}

fn encode<T: Serialize, C: Codec>(key: &str, value: &T) -> Result<Vec<u8>, Error> {
    let refuse = |error| Error::Invalid(format!("no {} for {key}: {error}", C::NAME));
    C::encode(value).map_err(refuse)
}

fn decode<T: DeserializeOwned, C: Codec>(key: &str, bytes: &[u8]) -> Result<T, Error> {
    let refuse = |error| Error::Invalid(format!("{key} is no such {}: {error}", C::NAME));
    C::decode(bytes).map_err(refuse)
}

#[cfg(all(test, feature = "json", feature = "msgpack"))]
mod tests {
    use super::*;
    use crate::kv;
    use crate::testing::Node;
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Visit {
        page: String,
        count: u64,
    }

    #[test]
    fn both_forms_give_back_what_they_took_and_name_what_they_cannot_read() {
        let _node = Node::start();
        let bucket = kv::open("default").unwrap();
        let visit = Visit { page: "/ä".to_owned(), count: u64::MAX };
        bucket.json().set("j", &visit).unwrap();
        bucket.msgpack().set("m", &visit).unwrap();
        assert_eq!(bucket.json::<Visit>().get("j"), Ok(Some(visit.clone())));
        assert_eq!(bucket.msgpack::<Visit>().get("m"), Ok(Some(visit)));
        assert_eq!(bucket.json::<Visit>().get("none"), Ok(None));
        let Err(Error::Invalid(text)) = bucket.json::<Visit>().get("m") else { panic!("no JSON") };
        assert!(text.starts_with("m is no such JSON: "), "{text}");
    }

    #[test]
    fn an_update_loses_no_write_that_comes_between() {
        let node = Node::start();
        let bucket = kv::open("default").unwrap();
        let numbers = bucket.json::<u64>();
        let between = std::cell::Cell::new(3);
        let minute = SetOptions::new().ttl(Duration::from_secs(60));
        let sum = numbers.update("n", minute.clone(), |before| {
            if between.get() > 0 {
                between.set(between.get() - 1);
                node.bucket("default").increment("n", 10).unwrap();
            }
            before.unwrap_or(0) + 1
        });
        assert_eq!(sum, Ok(31));
        node.advance(Duration::from_secs(60));
        assert_eq!(numbers.get("n"), Ok(None), "the lifetime is that of the options");
        let never_still = numbers.update("n", minute, |_| {
            node.bucket("default").increment("n", 1).unwrap();
            0
        });
        assert!(matches!(never_still, Err(Error::Unavailable(_))));
    }
}
