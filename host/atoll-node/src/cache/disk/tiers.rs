//! Memory in front of the disk: what memory lacks is looked for there, and what is stored is kept
//! there too. Nothing comes from the disk that a purge or an invalidation has taken.

use super::reader::OnDisk;
use super::worker::{Put, What};
use super::{Disk, hash_of};
use crate::cache::body::StoredBody;
use crate::cache::stored::Stored;
use crate::cache::{Cache, Found, Slot, Varies};
use atoll_core::http_cache::purge::Strength;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::time::Duration;

/// How often the use of what is in memory is told to the disk tier, which then keeps it.
const TELL_EVERY: Duration = Duration::from_secs(30);

impl Cache {
    /// Whether the disk may have something under a key of memory's.
    pub(in crate::cache) fn disk_may_have(&self, slot_key: &[u8]) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.may_have(hash_of(slot_key)))
    }

    /// Looks on the disk for a response to a request with these fields. It is in memory from then on,
    /// as far as there is room.
    pub(crate) async fn find_on_disk(self: &Arc<Self>, key: &str, request: &HeaderMap) -> Found {
        let Some(disk) = &self.disk else { return Found::Miss };
        let first = self.take_up(disk, key.as_bytes()).await;
        let varies = match first {
            None => return Found::Miss,
            Some(Slot::Varies(varies)) => varies,
            Some(Slot::Stored(stored)) => return self.as_found(stored, Found::Miss),
            Some(Slot::Pass { .. } | Slot::Coded(_)) => return Found::Miss,
        };
        let variant = varies.key(key, request);
        for slot_key in [&variant, &varies.key_without_vary(key)] {
            if let Some(Slot::Stored(stored)) = self.take_up(disk, slot_key).await
                && let found @ Found::Stored(..) = self.as_found(stored, Found::VaryMiss)
            {
                return found;
            }
        }
        self.no_variant(&varies, &variant)
    }

    fn as_found(&self, stored: Arc<Stored>, otherwise: Found) -> Found {
        if self.examine(&stored, self.generation()) == Some(Strength::Hard) {
            return otherwise;
        }
        let purged = stored.purged();
        Found::Stored(stored, purged)
    }

    /// What is in memory under `slot_key`, once what the disk has is.
    async fn take_up(self: &Arc<Self>, disk: &Arc<Disk>, slot_key: &[u8]) -> Option<Slot> {
        let hash = hash_of(slot_key);
        let _turn = disk.turn(hash).await;
        if let Some(slot) = self.slots.get(slot_key)
            && !slot.is_over(self.now_us())
        {
            return Some(slot);
        }
        if !disk.may_have(hash) {
            return None;
        }
        let (cache, disk, slot_key) = (Arc::clone(self), Arc::clone(disk), slot_key.to_vec());
        let taken = tokio::task::spawn_blocking(move || {
            let slot = cache.slot_on_disk(&disk, hash, &slot_key)?;
            cache.slots.remove_if(&slot_key[..], |slot| slot.is_over(cache.now_us()));
            // What was stored meanwhile is newer.
            let inserted = cache.slots.get_or_insert_with(&slot_key.into_boxed_slice(), || {
                Ok::<_, std::convert::Infallible>(slot)
            });
            inserted.ok()
        });
        taken.await.ok().flatten()
    }

    /// What the disk has and nothing has taken back.
    fn slot_on_disk(&self, disk: &Disk, hash: u128, slot_key: &[u8]) -> Option<Slot> {
        match disk.read(hash, slot_key)? {
            OnDisk::Varies { names, number } => {
                let names: Result<Box<[HeaderName]>, _> =
                    names.iter().map(|name| HeaderName::try_from(name.as_str())).collect();
                Some(Slot::Varies(Arc::new(Varies::new(names.ok()?, number, true))))
            }
            OnDisk::Response(stored) => {
                let stored = Arc::new(*stored);
                let generation = self.generation();
                if self.examine(&stored, generation) == Some(Strength::Hard)
                    || self.is_invalidated(&stored.key, stored.fetched_us)
                {
                    disk.remove(hash);
                    return None;
                }
                stored.note_place(hash);
                Some(Slot::Stored(stored))
            }
        }
    }

    /// What lies on the disk under a key, for people who ask. Waits for the disk.
    pub(in crate::cache) fn peek_on_disk(&self, slot_key: &[u8]) -> Option<Slot> {
        let disk = self.disk.as_ref()?;
        let hash = hash_of(slot_key);
        disk.may_have(hash).then(|| self.slot_on_disk(disk, hash, slot_key)).flatten()
    }

    /// Keeps a response on the disk as well, behind the answer.
    pub(in crate::cache) fn keep_on_disk(
        self: &Arc<Self>,
        slot_key: &[u8],
        stored: &Arc<Stored>,
        valid_us: u64,
    ) {
        let Some(disk) = &self.disk else { return };
        let hash = hash_of(slot_key);
        stored.note_place(hash);
        let (cache, checked) = (Arc::clone(self), Arc::clone(stored));
        let is_valid = Box::new(move || {
            cache.purged(&checked) != Some(Strength::Hard)
                && !cache.is_invalidated(&checked.key, valid_us)
        });
        let what = What::Response(Arc::clone(stored));
        self.put_on_disk(disk, Put { hash, slot_key: slot_key.into(), what, is_valid });
    }

    /// Keeps what tells the responses of a key apart.
    pub(in crate::cache) fn keep_varies_on_disk(
        self: &Arc<Self>,
        key: &str,
        varies: &Varies,
        valid_us: u64,
    ) {
        let Some(disk) = &self.disk else { return };
        let hash = hash_of(key.as_bytes());
        let names = varies.names.iter().map(|name| name.as_str().to_owned()).collect();
        let what = What::Varies { names, number: varies.number, fetched_us: valid_us };
        let (cache, own) = (Arc::clone(self), key.to_owned());
        let is_valid = Box::new(move || !cache.is_invalidated(&own, valid_us));
        self.put_on_disk(disk, Put { hash, slot_key: key.as_bytes().into(), what, is_valid });
    }

    fn put_on_disk(&self, disk: &Disk, put: Put) {
        let hash = put.hash;
        let body = match &put.what {
            What::Response(stored) => match &stored.body {
                StoredBody::Disk(body) => Some(Arc::clone(body)),
                _ => None,
            },
            What::Varies { .. } => None,
        };
        if disk.put_later(put) || body.as_ref().is_some_and(|body| disk.has_body(hash, body)) {
            // In the second case an older head stays beside the same body, and is validated the sooner.
            return;
        }
        // What lies there is older than what was to be put: it must not come back.
        disk.remove(hash);
        if let Some(body) = body {
            body.drop_out();
        }
    }

    /// Tells the disk tier now and then that what is served from memory is in use.
    pub(crate) fn note_hit(&self, stored: &Stored, now_ms: u64) {
        if let Some(disk) = &self.disk
            && let Some(hash) = stored.place_in_use(now_ms, TELL_EVERY.as_millis() as u64)
        {
            disk.note_use(hash);
            // What tells variants apart is in use with each of them.
            let first = hash_of(stored.key.as_bytes());
            if first != hash {
                disk.note_use(first);
            }
        }
    }

    /// Whether the body of what is in memory has gone from the disk.
    pub(in crate::cache) fn has_lost_body(stored: &Stored) -> bool {
        matches!(&stored.body, StoredBody::Disk(body) if body.is_gone())
    }

    /// Whether what the disk has under this key was asked for later than `fetched_us`.
    pub(in crate::cache) fn disk_has_newer(&self, slot_key: &[u8], fetched_us: u64) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.has_newer(hash_of(slot_key), fetched_us))
    }
}

impl Slot {
    /// Whether it says nothing any more.
    fn is_over(&self, now_us: u64) -> bool {
        match self {
            Slot::Pass { until_us } => *until_us <= now_us,
            Slot::Stored(stored) => Cache::has_lost_body(stored),
            Slot::Varies(_) | Slot::Coded(_) => false,
        }
    }
}
