//! What is stored under a URL, in memory and on the disk: for people who ask, not for requests.

use super::stored::{Stored, url_of};
use super::{Cache, Slot};
use crate::proxy::filters::PART;
use atoll_core::http_cache::purge::Strength;
use std::collections::HashMap;
use std::sync::Arc;

/// Most responses of a URL that are read from the disk to be shown.
const READ_COUNT_MAX: usize = 1_000;

/// A response that is stored, and what a purge has made of it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) stored: Arc<Stored>,
    pub(crate) purged: Option<Strength>,
    /// Whether it is in memory, or its head at least.
    pub(crate) in_memory: bool,
    /// Whether it is on the disk.
    pub(crate) on_disk: bool,
    /// A key that it was made from was written since.
    pub(crate) is_outdated: bool,
}

impl Cache {
    /// All that is stored under `key`, a URL, with what a purge has made of it, and whether requests
    /// for it pass. Looks at the whole cache, and waits for the disk.
    pub(crate) fn inspect(&self, key: &str) -> (Vec<Kept>, bool) {
        let now_us = self.now_us();
        let first = self.slots.peek(key.as_bytes());
        let passes = match first {
            Some(Slot::Pass { until_us }) => until_us > now_us,
            Some(Slot::Varies(varies)) => varies.marks.any(now_us),
            _ => false,
        };
        let mut numbers = HashMap::new();
        let mut found = Vec::new();
        let in_memory: HashMap<Box<[u8]>, Arc<Stored>> = self
            .slots
            .iter()
            .filter_map(|(slot_key, slot)| match slot {
                Slot::Stored(stored) if url_of(&stored.key) == key => Some((slot_key, stored)),
                _ => None,
            })
            .collect();
        for (slot_key, stored) in &in_memory {
            if self.is_current(slot_key, &mut numbers) {
                found.push(self.kept(Arc::clone(stored), true));
            }
        }
        for slot_key in self.keys_on_disk(key) {
            if in_memory.contains_key(&slot_key[..]) || !self.is_current(&slot_key, &mut numbers) {
                continue;
            }
            if let Some(Slot::Stored(stored)) = self.peek_on_disk(&slot_key) {
                found.push(self.kept(stored, false));
            }
        }
        // The same order each time.
        found.sort_by_cached_key(|kept| {
            let stored = &kept.stored;
            (stored.key.clone(), std::cmp::Reverse(stored.fetched_us), stored.body_bytes)
        });
        (found, passes)
    }

    fn kept(&self, stored: Arc<Stored>, in_memory: bool) -> Kept {
        let purged = self.purged(&stored);
        let on_disk = self.disk.as_ref().is_some_and(|disk| stored.is_on(disk));
        let is_outdated = self.keys.outdate(&stored);
        Kept { stored, purged, in_memory, on_disk, is_outdated }
    }

    /// Whether what lies under a key can be found: a variant is forgotten with the number that its
    /// key holds. `numbers` are those that are known already.
    fn is_current(&self, slot_key: &[u8], numbers: &mut HashMap<Vec<u8>, Option<Vec<u8>>>) -> bool {
        let Some(name_bytes) = slot_key.iter().position(|&byte| byte == 0) else { return true };
        let name = &slot_key[..name_bytes];
        let prefix = numbers.entry(name.to_vec()).or_insert_with(|| {
            let slot = self.slots.peek(name).or_else(|| self.peek_on_disk(name));
            match (slot, std::str::from_utf8(name)) {
                (Some(Slot::Varies(varies)), Ok(name)) => Some(varies.prefix(name)),
                _ => None,
            }
        });
        prefix.as_ref().is_some_and(|prefix| slot_key.starts_with(prefix))
    }

    /// The keys of what lies on the disk for a URL.
    fn keys_on_disk(&self, url: &str) -> Vec<Vec<u8>> {
        let Some(disk) = &self.disk else { return Vec::new() };
        let hashes = disk.hashes_of_url(url).into_iter().take(READ_COUNT_MAX);
        let keys = hashes.filter_map(|hash| disk.key_of(hash));
        keys.filter(|key| {
            let rest = key.strip_prefix(url.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == 0 || is_part(byte)))
        })
        .collect()
    }
}

fn is_part(byte: u8) -> bool {
    char::from(byte) == PART
}
