//! The keys of the store that a response was made from: it is stale once one of them is written.
//!
//! A response names them in `Atoll-Keys`. A write counts from the moment at which this node learns of
//! it, wherever it was made, and covers every response whose fetch began before, as a purge does
//! ([`super::purge`]). So those whose fetch is still under way when a write comes, and which say only
//! at its end what they were made from, are covered as well: every write is remembered for a while.
//!
//! Keys are known by their hashes here. Two that share one cost a validation, no more.

use crate::key::{BucketName, check_key};
use crate::limits::{CACHE_KEY_COUNT_MAX, CACHE_KEY_INDEX_COUNT_MAX, CACHE_KEY_WRITE_COUNT_MAX};
use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_64;

/// The field: a list of strings or tokens, each `bucket/key`, with the key's escapes (`%`) as in a
/// path of the API. It is for this cache, and goes no further.
pub const ATOLL_KEYS: HeaderName = HeaderName::from_static("atoll-keys");

/// A key of the store, as a response names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// Where it is.
    pub bucket: BucketName,
    /// 1 to `KEY_BYTES_MAX` bytes.
    pub key: Vec<u8>,
}

/// The field does not say what the response was made from, or names more than may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeys;

/// Reads the field; none where it is not there.
pub fn of(headers: &HeaderMap) -> Result<Vec<KeyName>, BadKeys> {
    if !headers.contains_key(ATOLL_KEYS) {
        return Ok(Vec::new());
    }
    let lines: Vec<&[u8]> =
        headers.get_all(ATOLL_KEYS).iter().map(|line| line.as_bytes()).collect();
    let list = Parser::new(&lines.join(&b", "[..])).parse::<List>().map_err(|_| BadKeys)?;
    // With one of the node's own at most: the record of the handler that has answered.
    if list.len() > CACHE_KEY_COUNT_MAX + 1 {
        return Err(BadKeys);
    }
    let names: Vec<KeyName> = list.iter().map(name).collect::<Result<_, _>>()?;
    let count = names.iter().filter(|name| !name.bucket.is_internal()).count();
    if count <= CACHE_KEY_COUNT_MAX { Ok(names) } else { Err(BadKeys) }
}

fn name(entry: &ListEntry) -> Result<KeyName, BadKeys> {
    let ListEntry::Item(item) = entry else { return Err(BadKeys) };
    let text = match &item.bare_item {
        BareItem::String(text) => text.as_str(),
        BareItem::Token(token) => token.as_str(),
        _ => return Err(BadKeys),
    };
    let (bucket, key) = text.split_once('/').ok_or(BadKeys)?;
    let bucket = BucketName::new(bucket).map_err(|_| BadKeys)?;
    let key = decode(key.as_bytes()).ok_or(BadKeys)?;
    check_key(&key).map_err(|_| BadKeys)?;
    Ok(KeyName { bucket, key })
}

/// Undoes percent escapes, once.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(out)
}

/// What a key is known by.
pub fn hash_of(bucket: &str, key: &[u8]) -> u64 {
    let mut text = Vec::with_capacity(bucket.len() + 1 + key.len());
    text.extend_from_slice(bucket.as_bytes());
    text.push(0);
    text.extend_from_slice(key);
    xxh3_64(&text)
}

/// What all keys of a bucket together are known by: for flushes.
pub fn hash_of_bucket(bucket: &str) -> u64 {
    xxh3_64(bucket.as_bytes())
}

/// What a response with these fields is known by, its buckets among it. None where the field is bad:
/// such a response is not stored.
pub fn hashes(headers: &HeaderMap) -> Box<[u64]> {
    let mut hashes = Vec::new();
    for KeyName { bucket, key } in of(headers).unwrap_or_default() {
        hashes.push(hash_of(bucket.as_str(), &key));
        hashes.push(hash_of_bucket(bucket.as_str()));
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes.into()
}

/// Hashes are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed here");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type ByHash = BuildHasherDefault<AsItIs>;

/// Which keys stored responses were made from, and when they were written. Times are microseconds of
/// one clock of the node that never goes back.
#[derive(Debug)]
pub struct KeyIndex {
    /// Keys that responses were stored with, and that have not been written since.
    named: HashSet<u64, ByHash>,
    /// When keys were written that responses had been stored with.
    written: HashMap<u64, u64, ByHash>,
    /// Responses with keys whose fetch began up to here are stale: what became of their keys is no
    /// longer known.
    floor_us: u64,
    /// The latest writes of all keys, in two halves, the older of which goes when the newer is full.
    recent: HashMap<u64, u64, ByHash>,
    before: HashMap<u64, u64, ByHash>,
    /// Since when `recent`, and since when both of them hold every write.
    recent_since_us: u64,
    since_us: u64,
}

/// Whether a write concerns anything that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerns {
    /// Nothing.
    Nobody,
    /// Responses that are stored, perhaps.
    Stored,
}

impl KeyIndex {
    /// One that knows of no writes yet: responses with keys are stale from the start until
    /// [`KeyIndex::begin`].
    pub fn new() -> KeyIndex {
        KeyIndex {
            named: HashSet::default(),
            written: HashMap::default(),
            floor_us: u64::MAX,
            recent: HashMap::default(),
            before: HashMap::default(),
            recent_since_us: u64::MAX,
            since_us: u64::MAX,
        }
    }

    /// From `now_us` on every write is noted. What came before is not known: called again whenever
    /// writes may have been missed.
    pub fn begin(&mut self, now_us: u64) {
        *self = KeyIndex {
            floor_us: now_us,
            recent_since_us: now_us,
            since_us: now_us,
            ..KeyIndex::new()
        };
    }

    /// Takes note of a write that this node has learned of at `now_us`.
    pub fn note(&mut self, hash: u64, now_us: u64) -> Concerns {
        if self.recent.len() >= CACHE_KEY_WRITE_COUNT_MAX {
            self.before = std::mem::take(&mut self.recent);
            self.since_us = self.recent_since_us;
            self.recent_since_us = now_us;
        }
        self.recent.insert(hash, now_us);
        if !self.named.remove(&hash) {
            return Concerns::Nobody;
        }
        self.written.insert(hash, now_us);
        Concerns::Stored
    }

    /// Takes note of a response that is about to be stored, whose fetch began at `fetched_us`, and
    /// that is compared with [`KeyIndex::covers`] before and after.
    pub fn admit(&mut self, hashes: &[u64], fetched_us: u64, now_us: u64) {
        if self.named.len() + self.written.len() + hashes.len() > CACHE_KEY_INDEX_COUNT_MAX {
            // Rather than forget: all that is stored with keys is asked about once more.
            (self.named, self.written) = Default::default();
            self.floor_us = now_us;
        }
        if self.since_us == u64::MAX {
            return;
        }
        for hash in hashes {
            let written_us = match (self.recent.get(hash), self.before.get(hash)) {
                (Some(at_us), _) | (None, Some(at_us)) => *at_us,
                (None, None) => 0,
            };
            if fetched_us <= self.since_us {
                // It may have been written before the oldest write that is remembered.
                self.mark(*hash, written_us.max(fetched_us));
            } else if written_us >= fetched_us {
                self.mark(*hash, written_us);
            } else {
                self.named.insert(*hash);
            }
        }
    }

    fn mark(&mut self, hash: u64, at_us: u64) {
        let written_us = self.written.entry(hash).or_default();
        *written_us = at_us.max(*written_us);
    }

    /// Whether one of these was written, as far as is known, since a fetch began at `fetched_us`
    /// whose response names them.
    pub fn is_written(&self, hashes: &[u64], fetched_us: u64) -> bool {
        hashes.iter().any(|hash| self.written.get(hash).is_some_and(|at_us| *at_us >= fetched_us))
    }

    /// Whether a response whose fetch began at `fetched_us` is stale. A write of the same microsecond
    /// counts.
    pub fn covers(&self, hashes: &[u64], fetched_us: u64) -> bool {
        let is_unknown = !hashes.is_empty() && fetched_us <= self.floor_us;
        is_unknown || self.is_written(hashes, fetched_us)
    }
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        KeyIndex::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::headers;
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], want: Option<&[(&str, &str)]>) {
        let fields: Vec<_> = lines.iter().map(|line| ("atoll-keys", *line)).collect();
        let found = of(&headers(&fields)).ok().map(|names| {
            let pair = |name: KeyName| {
                (name.bucket.to_string(), String::from_utf8(name.key).expect("text"))
            };
            names.into_iter().map(pair).collect::<Vec<_>>()
        });
        let want = want.map(|pairs| {
            pairs.iter().map(|(bucket, key)| ((*bucket).into(), (*key).into())).collect::<Vec<_>>()
        });
        assert_eq!(found, want, "{lines:?}");
    }

    #[test]
    fn keys_are_named_as_strings_or_tokens_with_escapes_as_in_a_path() {
        check(&[], Some(&[]));
        check(&["\"default/news:1\""], Some(&[("default", "news:1")]));
        check(&["default/a/b, s/c%20d"], Some(&[("default", "a/b"), ("s", "c d")]));
        check(&["\"_sys/handler/a\"", "a/b"], Some(&[("_sys", "handler/a"), ("a", "b")]));
        check(&["\"1/a\"", "\"x/%C3%A9;p\";q=1"], Some(&[("1", "a"), ("x", "é;p")]));
    }

    #[test]
    fn what_does_not_say_what_a_page_is_made_of_is_refused() {
        for bad in ["a", "\"a\"", "a/", "\"/a\"", "1", "(a/b)", "a/b,", "a/%zz", "a/%4", "a/%+1"] {
            check(&[bad], None);
        }
        check(&["a/b c"], None);
        check(&[&"x".repeat(65), "/a"], None);
        check(&[&format!("a/{}", "k".repeat(1_025))], None);
        let many = vec!["a/b"; CACHE_KEY_COUNT_MAX + 1].join(", ");
        check(&[&many], None);
    }

    const PAGE: &[u64] = &[1, 2];

    fn begun() -> KeyIndex {
        let mut index = KeyIndex::new();
        assert!(index.covers(PAGE, 5), "nothing is known yet");
        index.begin(10);
        index
    }

    #[test]
    fn a_write_after_the_fetch_began_makes_a_response_stale_whenever_it_is_stored() {
        let mut index = begun();
        index.admit(PAGE, 20, 25);
        assert!(!index.covers(PAGE, 20));
        assert_eq!(index.note(3, 30), Concerns::Nobody);
        assert!(!index.covers(PAGE, 20), "another key");
        assert_eq!(index.note(2, 30), Concerns::Stored);
        assert!(index.covers(PAGE, 20) && index.covers(PAGE, 30) && !index.covers(PAGE, 31));
        assert!(!index.covers(&[1], 20), "one without that key");
        // One whose fetch began before that write, and that comes only now.
        index.admit(&[2, 4], 29, 40);
        assert!(index.covers(&[2, 4], 29));
        index.admit(&[2, 4], 31, 40);
        assert!(!index.covers(&[2, 4], 31));
        assert_eq!(index.note(2, 50), Concerns::Stored, "the newer one names it again");
        assert!(index.covers(&[2, 4], 31));
    }

    #[test]
    fn a_write_before_the_fetch_began_is_in_what_was_fetched() {
        let mut index = begun();
        index.note(1, 20);
        index.admit(PAGE, 21, 30);
        assert!(!index.covers(PAGE, 21));
        index.admit(PAGE, 20, 30);
        assert!(index.covers(PAGE, 20), "the same microsecond counts");
    }

    #[test]
    fn what_is_not_known_counts_as_written() {
        let mut index = begun();
        index.admit(PAGE, 10, 12);
        assert!(index.covers(PAGE, 10), "fetched before anything was noted");
        index.admit(PAGE, 14, 14);
        index.note(1, 19);
        for hash in 0..2 * CACHE_KEY_WRITE_COUNT_MAX as u64 + 2 {
            index.note(100 + hash, 20 + hash);
        }
        index.admit(PAGE, 15, 1 << 40);
        assert!(index.covers(&[1], 18), "an older fetch does not make a newer response fresh");
        assert!(index.covers(PAGE, 15), "so many writes since that some are forgotten");
        index.admit(PAGE, 1 << 40, 1 << 41);
        assert!(!index.covers(PAGE, 1 << 40));
        index.begin(1 << 42);
        assert!(index.covers(PAGE, 1 << 40), "writes may have been missed");
        assert!(!index.covers(&[], 0), "without keys nothing of this matters");
    }

    #[test]
    fn too_many_keys_cost_validations_and_no_memory() {
        let mut index = begun();
        for hash in 0..CACHE_KEY_INDEX_COUNT_MAX as u64 + 10 {
            index.admit(&[hash], 20 + hash, 20 + hash);
        }
        assert!(index.named.len() + index.written.len() <= CACHE_KEY_INDEX_COUNT_MAX);
        assert!(index.covers(&[1], 21), "forgotten, so stale");
        assert!(!index.covers(&[7], 1 << 40));
    }

    proptest::proptest! {
        /// Against a model that remembers every write for ever: never less is stale.
        #[test]
        fn no_write_is_ever_missed(steps in proptest::collection::vec((0_u64..6, 0_u64..9, 1_u64..4), 1..80)) {
            let (mut index, mut now) = (begun(), 10);
            let mut writes: Vec<(u64, u64)> = Vec::new();
            let mut stored: Vec<([u64; 2], u64)> = Vec::new();
            for (key, ago, step) in steps {
                now += step;
                if key < 3 {
                    index.note(key, now);
                    writes.push((key, now));
                } else {
                    let page = [key - 3, (key - 2) % 3];
                    let fetched = now.saturating_sub(ago).max(11);
                    index.admit(&page, fetched, now);
                    stored.push((page, fetched));
                }
                for (page, fetched) in &stored {
                    let is_written =
                        writes.iter().any(|(key, at)| page.contains(key) && at >= fetched);
                    proptest::prop_assert!(!is_written || index.covers(page, *fetched));
                }
            }
        }
    }
}
