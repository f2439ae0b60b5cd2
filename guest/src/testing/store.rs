//! Buckets in memory that behave as a node's do.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::bindings::atoll::edge::kv::{Condition, Entry, Error, KeyPage, ListOptions};

// The bounds of a node.
const KEY_BYTES_MAX: usize = 1_024;
const VALUE_BYTES_MAX: usize = 64 << 20;
const GET_MANY_BYTES_MAX: usize = 64 << 20;
const BUCKET_NAME_BYTES_MAX: usize = 64;
const KEYS_MAX: usize = 1_000;
const KEYS_DEFAULT: usize = 100;
const TAG_COUNT_MAX: usize = 8;
const TAG_BYTES_MAX: usize = 256;

/// All buckets, by name.
#[derive(Debug, Default)]
pub(super) struct Store {
    buckets: BTreeMap<String, BTreeMap<String, Kept>>,
    writes: u64,
}

/// What a key holds.
#[derive(Debug)]
struct Kept {
    entry: Entry,
    tags: Vec<String>,
}

/// A write.
pub(super) struct Change<'a> {
    pub(super) value: &'a [u8],
    pub(super) ttl_ms: Option<u64>,
    pub(super) condition: &'a Condition,
    pub(super) tags: &'a [String],
}

impl<'a> Change<'a> {
    /// One that is always made.
    pub(super) fn set(value: &'a [u8], ttl_ms: Option<u64>) -> Change<'a> {
        Change { value, ttl_ms, condition: &Condition::Always, tags: &[] }
    }

    pub(super) fn is_conditional(&self) -> bool {
        !matches!(self.condition, Condition::Always)
    }
}

impl Store {
    pub(super) fn get(&self, bucket: &str, key: &str, now_ms: u64) -> Option<Entry> {
        Some(self.kept(bucket, key, now_ms)?.entry.clone())
    }

    pub(super) fn tags(&self, bucket: &str, key: &str, now_ms: u64) -> Option<Vec<String>> {
        Some(self.kept(bucket, key, now_ms)?.tags.clone())
    }

    /// Ends all that have this tag.
    pub(super) fn purge(&mut self, tag: &str) {
        for entries in self.buckets.values_mut() {
            entries.retain(|_, kept| !kept.tags.iter().any(|kept| kept == tag));
        }
    }

    fn kept(&self, bucket: &str, key: &str, now_ms: u64) -> Option<&Kept> {
        let kept = self.buckets.get(bucket)?.get(key)?;
        is_alive(&kept.entry, now_ms).then_some(kept)
    }

    /// Writes and returns the version.
    pub(super) fn set(
        &mut self,
        bucket: &str,
        key: &str,
        now_ms: u64,
        change: Change<'_>,
    ) -> Result<String, Error> {
        check_lifetime(change.ttl_ms)?;
        let tags = checked_tags(change.tags)?;
        let len = change.value.len();
        if len > VALUE_BYTES_MAX {
            return Err(Error::TooLarge(format!(
                "a value of {len} bytes exceeds the maximum of {VALUE_BYTES_MAX} bytes"
            )));
        }
        let present = self.get(bucket, key, now_ms);
        let holds = match change.condition {
            Condition::Always => true,
            Condition::IfAbsent => present.is_none(),
            Condition::IfPresent => present.is_some(),
            Condition::IfVersion(version) => present.is_some_and(|entry| entry.version == *version),
        };
        if !holds {
            return Err(Error::ConditionFailed);
        }
        let expires_at_ms = end_ms(now_ms, change.ttl_ms);
        Ok(self.write(bucket, key, (change.value.to_vec(), tags), expires_at_ms))
    }

    pub(super) fn delete(&mut self, bucket: &str, key: &str, now_ms: u64) -> bool {
        let removed = self.buckets.get_mut(bucket).and_then(|entries| entries.remove(key));
        removed.is_some_and(|kept| is_alive(&kept.entry, now_ms))
    }

    /// Adds; the lifetime is for a counter that this creates.
    pub(super) fn increment(
        &mut self,
        bucket: &str,
        key: &str,
        now_ms: u64,
        (delta, ttl_ms): (i64, Option<u64>),
    ) -> Result<i64, Error> {
        let (before, expires_at_ms) = match self.get(bucket, key, now_ms) {
            Some(entry) => (integer(&entry.value).ok_or(Error::WrongType)?, entry.expires_at_ms),
            None => (0, end_ms(now_ms, ttl_ms)),
        };
        let leaves = || Error::Invalid("the sum leaves 64 bits".to_owned());
        let sum = before.checked_add(delta).ok_or_else(leaves)?;
        let tags = self.tags(bucket, key, now_ms).unwrap_or_default();
        self.write(bucket, key, (sum.to_string().into_bytes(), tags), expires_at_ms);
        Ok(sum)
    }

    /// A page of the keys that may be read. The cursor is the last key of a page, in hexadecimal so
    /// that nobody takes it for one.
    pub(super) fn list(
        &self,
        bucket: &str,
        now_ms: u64,
        options: &ListOptions,
        may_read: impl Fn(&str) -> bool,
    ) -> Result<KeyPage, Error> {
        let limit = options.limit.map_or(KEYS_DEFAULT, |limit| (limit as usize).clamp(1, KEYS_MAX));
        let after = match &options.cursor {
            None => Bound::Included(options.prefix.clone()),
            Some(cursor) => Bound::Excluded(from_cursor(cursor)?),
        };
        let Some(entries) = self.buckets.get(bucket) else { return Ok(page(Vec::new(), false)) };
        let with_prefix = entries
            .range((after, Bound::Unbounded))
            .skip_while(|(key, _)| key.as_str() < options.prefix.as_str())
            .take_while(|(key, _)| key.starts_with(&options.prefix));
        let mut keys: Vec<String> = with_prefix
            .filter(|(key, kept)| is_alive(&kept.entry, now_ms) && may_read(key))
            .map(|(key, _)| key.clone())
            .take(limit + 1)
            .collect();
        let has_more = keys.len() > limit;
        keys.truncate(limit);
        Ok(page(keys, has_more))
    }

    fn write(
        &mut self,
        bucket: &str,
        key: &str,
        (value, tags): (Vec<u8>, Vec<String>),
        expires_at_ms: Option<u64>,
    ) -> String {
        self.writes += 1;
        let version = format!("{:016x}", self.writes);
        let entry = Entry { value, version: version.clone(), expires_at_ms };
        let kept = Kept { entry, tags };
        self.buckets.entry(bucket.to_owned()).or_default().insert(key.to_owned(), kept);
        version
    }
}

fn is_alive(entry: &Entry, now_ms: u64) -> bool {
    entry.expires_at_ms.is_none_or(|end_ms| end_ms > now_ms)
}

fn end_ms(now_ms: u64, ttl_ms: Option<u64>) -> Option<u64> {
    ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms))
}

/// Reads a number as a node does: as it would be written, with no sign or zero too many.
fn integer(value: &[u8]) -> Option<i64> {
    let text = str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn page(keys: Vec<String>, has_more: bool) -> KeyPage {
    let hex = |key: &String| key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    KeyPage { cursor: keys.last().filter(|_| has_more).map(hex), keys }
}

fn from_cursor(cursor: &str) -> Result<String, Error> {
    let foreign = || Error::Invalid("the cursor is not one of this node's".to_owned());
    if !cursor.len().is_multiple_of(2) || !cursor.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(foreign());
    }
    let digits = (0..cursor.len()).step_by(2).map(|at| &cursor[at..at + 2]);
    let bytes = digits.map(|digits| u8::from_str_radix(digits, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(|_| foreign())?;
    String::from_utf8(bytes).map_err(|_| foreign())
}

pub(super) fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::Invalid("a key has at least one byte".to_owned())),
        len if len > KEY_BYTES_MAX => {
            Err(Error::TooLarge(format!("a key of {len} bytes exceeds {KEY_BYTES_MAX}")))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_bucket(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts_well = !name.starts_with(['.', '-']) && !name.is_empty();
    match starts_well && name.len() <= BUCKET_NAME_BYTES_MAX && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(Error::Invalid(format!(
            "a bucket name has 1 to {BUCKET_NAME_BYTES_MAX} characters of a-z A-Z 0-9 . _ - and \
             starts with a letter, a digit or _"
        ))),
    }
}

/// Those that are there twice are kept once.
fn checked_tags(tags: &[String]) -> Result<Vec<String>, Error> {
    let fits = |tag: &String| {
        (1..=TAG_BYTES_MAX).contains(&tag.len())
            && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    let mut checked: Vec<String> = Vec::new();
    for tag in tags {
        if !checked.contains(tag) {
            checked.push(tag.clone());
        }
    }
    match checked.len() <= TAG_COUNT_MAX && checked.iter().all(fits) {
        true => Ok(checked),
        false => Err(Error::Invalid(format!(
            "a value has at most {TAG_COUNT_MAX} tags, each of 1 to {TAG_BYTES_MAX} visible ASCII \
             characters without commas"
        ))),
    }
}

pub(super) fn check_lifetime(ttl_ms: Option<u64>) -> Result<(), Error> {
    match ttl_ms {
        Some(0) => Err(Error::Invalid("a lifetime is at least 1 ms".to_owned())),
        _ => Ok(()),
    }
}

pub(super) fn check_count(count: usize) -> Result<(), Error> {
    match count > KEYS_MAX {
        true => Err(Error::TooLarge(format!(
            "{count} keys in one call; at most {KEYS_MAX} are allowed"
        ))),
        false => Ok(()),
    }
}

pub(super) fn check_sum(bytes: usize) -> Result<(), Error> {
    match bytes > GET_MANY_BYTES_MAX {
        true => {
            Err(Error::TooLarge(format!("the values have more than {GET_MANY_BYTES_MAX} bytes")))
        }
        false => Ok(()),
    }
}
