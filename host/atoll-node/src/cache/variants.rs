//! Responses of one URL that request fields tell apart, and which of those cannot be shared.
//!
//! What may not be stored marks its own variant: the others stay. A response without Vary beside
//! others with it lies under a key of its own, and is chosen last (RFC 9111 section 4.1).

use super::disk::hash_of;
use super::limits::PASS;
use super::stored::Stored;
use super::{Cache, Found, Slot, Varies};
use atoll_core::http_cache::vary::Vary;
use http::{HeaderMap, HeaderName};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most variants of a URL that are marked. What is forgotten costs a wait for who asks for the same.
const MARK_COUNT: usize = 64;
/// What they take at most, in bytes.
pub(super) const MARKS_BYTES: usize = MARK_COUNT * size_of::<Mark>();
/// Behind the prefix of all variants: the response without Vary. Values that select begin otherwise.
const WITHOUT_VARY: u8 = 2;

/// Variants whose last response could not be shared.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<Vec<Mark>>);

/// The hash of a variant's key, and until when it is marked, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    hash: u64,
    until_us: u64,
}

impl Marks {
    fn set(&self, hash: u64, until_us: u64) {
        let mut marks = self.lock();
        if marks.is_empty() {
            marks.resize(MARK_COUNT, Mark::default());
        }
        if let Some(mark) = marks.get_mut(place(hash)) {
            *mark = Mark { hash, until_us };
        }
    }

    fn is_set(&self, hash: u64, now_us: u64) -> bool {
        let marks = self.lock();
        marks.get(place(hash)).is_some_and(|mark| mark.hash == hash && mark.until_us > now_us)
    }

    /// Whether any is.
    pub(super) fn any(&self, now_us: u64) -> bool {
        self.lock().iter().any(|mark| mark.until_us > now_us)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Mark>> {
        // Marks are replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(hash: u64) -> usize {
    (hash % MARK_COUNT as u64) as usize
}

impl Varies {
    /// `is_kept` on the disk, where there is one.
    pub(super) fn new(names: Box<[HeaderName]>, number: u64, is_kept: bool) -> Varies {
        Varies { names, number, marks: Marks::default(), is_kept: AtomicBool::new(is_kept) }
    }

    /// The key of the response without Vary.
    pub(super) fn key_without_vary(&self, key: &str) -> Box<[u8]> {
        let mut slot_key = self.prefix(key);
        slot_key.push(WITHOUT_VARY);
        slot_key.into()
    }
}

impl Cache {
    /// Looks for a response to a request with these fields among several.
    pub(super) fn find_variant(&self, varies: &Varies, key: &str, request: &HeaderMap) -> Found {
        let variant = varies.key(key, request);
        for slot_key in [&variant, &varies.key_without_vary(key)] {
            let found = match self.slots.get(&slot_key[..]) {
                Some(Slot::Stored(stored)) => self.unpurged(slot_key, stored, Found::VaryMiss),
                _ => self.absent(slot_key, Found::VaryMiss),
            };
            if !matches!(found, Found::VaryMiss) {
                return found;
            }
        }
        self.no_variant(varies, &variant)
    }

    /// What is said of a variant of which nothing is stored.
    pub(super) fn no_variant(&self, varies: &Varies, variant: &[u8]) -> Found {
        match varies.marks.is_set(self.hash.of(variant), self.now_us()) {
            true => Found::Pass,
            false => Found::VaryMiss,
        }
    }

    /// What tells the responses of a key apart by these fields, on the disk as well.
    pub(super) fn varies_by(
        self: &Arc<Self>,
        key: &str,
        names: &[HeaderName],
        valid_us: u64,
    ) -> Arc<Varies> {
        let varies = match self.slots.peek(key.as_bytes()) {
            Some(Slot::Varies(varies)) if *varies.names == *names => varies,
            _ => self.begin_to_vary(key, names),
        };
        if !varies.is_kept.swap(true, Ordering::Relaxed) {
            self.keep_varies_on_disk(key, &varies, valid_us);
        }
        varies
    }

    fn begin_to_vary(&self, key: &str, names: &[HeaderName]) -> Arc<Varies> {
        let number = self.variant_count.fetch_add(1, Ordering::Relaxed);
        let varies = Arc::new(Varies::new(names.into(), number, false));
        self.slots.insert(key.as_bytes().into(), Slot::Varies(Arc::clone(&varies)));
        varies
    }

    /// Puts a response without Vary into memory, in the place of what the request has found before.
    /// Returns its key; `None` where what is there is newer.
    pub(super) fn put_without_vary(
        &self,
        stored: &Arc<Stored>,
        request: &HeaderMap,
    ) -> Option<Box<[u8]>> {
        let varies = match self.slots.peek(stored.key.as_bytes()) {
            Some(Slot::Varies(varies)) => Some(varies),
            _ => None,
        };
        let slot_key = match &varies {
            Some(varies) => varies.key_without_vary(&stored.key),
            None => stored.key.as_bytes().into(),
        };
        if self.disk_has_newer(&slot_key, stored.fetched_us) {
            return None;
        }
        self.slots.insert(slot_key.clone(), Slot::Stored(Arc::clone(stored)));
        if let Some(varies) = varies {
            let variant = varies.key(&stored.key, request);
            self.slots.remove(&variant[..]);
            if let Some(disk) = &self.disk {
                disk.remove(hash_of(&variant));
            }
        }
        Some(slot_key)
    }

    /// Marks that the response to such a request, which names these fields, cannot be shared, unless
    /// one is stored.
    pub(crate) fn mark_pass(&self, key: &str, vary: &Vary, request: &HeaderMap) {
        let until_us = self.now_us() + PASS.as_micros() as u64;
        let varies = match (self.slots.peek(key.as_bytes()), vary) {
            (Some(Slot::Stored(_)), _) => return,
            (Some(Slot::Varies(varies)), _) => varies,
            (_, Vary::Fields(names)) if !names.is_empty() => self.begin_to_vary(key, names),
            _ => {
                self.slots.insert(key.as_bytes().into(), Slot::Pass { until_us });
                return;
            }
        };
        varies.marks.set(self.hash.of(&varies.key(key, request)), until_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_end_and_do_not_grow() {
        let marks = Marks::default();
        assert!(!marks.is_set(7, 0) && !marks.any(0));
        marks.set(7, 10);
        assert!(marks.is_set(7, 9) && marks.any(9));
        assert!(!marks.is_set(7, 10) && !marks.any(10));
        for hash in 0..10_000 {
            marks.set(hash, 10);
            assert!(marks.is_set(hash, 9));
        }
        assert_eq!(marks.lock().capacity(), MARK_COUNT);
        assert!(!marks.is_set(7, 9), "others have taken its place");
    }
}
